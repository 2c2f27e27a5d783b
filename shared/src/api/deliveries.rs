//! Deliveries, as requests name them and answers show them.

use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::calls::CallView;
use super::decisions::first_a_rehearsal;
use super::open_window;
use crate::calendar::{Moment, Zone};
use crate::call::CallId;
use crate::error::Error;
use crate::store::deliveries::{Delivery, DeliveryFilter, DeliveryId, DeliveryResult};

// ----------------------------------------------------------------- requests

/// Which deliveries; those for which everything that is given holds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(default)]
pub struct DeliveryFilterRequest {
    /// That were received then or later; by default 90 days before `to`, or before now.
    pub from: Option<Moment>,
    /// That were received before.
    pub to: Option<Moment>,
    /// The time zone in which dates are read; UTC by default.
    pub tz: Option<Zone>,
    /// That came to this.
    pub result: Option<DeliveryResult>,
    /// That were answered so.
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// That came from this address.
    #[schemars(with = "Option<String>")]
    pub client_ip: Option<ClientAddress>,
    /// That name this conversation.
    pub conversation_id: Option<CallId>,
}

/// An address, of either family.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientAddress(IpAddr);

impl TryFrom<String> for ClientAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let address = text.parse::<IpAddr>().map_err(|_| "expected an IP address")?;
        Ok(Self(address.to_canonical()))
    }
}

impl DeliveryFilterRequest {
    /// What is asked for.
    ///
    /// # Errors
    /// Names the field that can't be what it should.
    pub fn into_filter(self) -> Result<DeliveryFilter, Error> {
        if self.status.is_some_and(|status| !(100..600).contains(&status)) {
            return Err(Error::invalid(
                "status",
                "status must be a number from 100 to 599",
            ));
        }
        let (from, to) = open_window(self.from, self.to, &self.tz.unwrap_or_default())?;
        Ok(DeliveryFilter {
            from,
            to,
            result: self.result,
            status: self.status,
            client_ip: self.client_ip.map(|ClientAddress(address)| address),
            conversation_id: self.conversation_id,
        })
    }
}

/// How a delivery is to be replayed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Only tells what would change, unless this is false.
    #[serde(default = "first_a_rehearsal")]
    pub dry_run: bool,
}

// ------------------------------------------------------------------ answers

/// That the webhook is there.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WebhookStatus {
    /// Always true.
    pub success: bool,
    /// For people.
    pub message: &'static str,
    /// Its path.
    pub endpoint: &'static str,
    /// How it takes deliveries.
    pub methods: [&'static str; 1],
    /// Of this form of answer.
    pub version: &'static str,
}

/// That a delivery was taken in.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Accepted<'a> {
    /// Always true.
    pub success: bool,
    /// What came of it.
    pub result: DeliveryResult,
    /// The conversation that it names.
    pub conversation_id: Option<&'a CallId>,
}

/// A page of the delivery log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveryPage<'a> {
    /// The deliveries, the newest first.
    pub deliveries: Vec<DeliveryView<'a>>,
    /// Where the next page goes on; null at the end.
    pub next_cursor: Option<String>,
}

/// An entry of the delivery log.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub struct DeliveryView<'a> {
    id: &'a DeliveryId,
    received_at: Timestamp,
    client_ip: IpAddr,
    status: u16,
    result: DeliveryResult,
    /// Why, in one word, where it was not simply taken in.
    reason: Option<&'a str>,
    /// The provider's name for the kind of event.
    kind: Option<&'a str>,
    conversation_id: Option<&'a CallId>,
    /// Of the body.
    bytes: u64,
    body_sha256: String,
    latency_ms: u64,
    /// Whether its body is there. That of a delivery that failed can be, too: ask for it.
    body_kept: bool,
}

impl<'a> DeliveryView<'a> {
    /// A delivery.
    #[must_use]
    pub fn new(delivery: &'a Delivery) -> Self {
        Self {
            id: &delivery.id,
            received_at: delivery.received_at,
            client_ip: delivery.client_ip,
            status: delivery.status,
            result: delivery.result,
            reason: delivery.reason.as_deref(),
            kind: delivery.kind.as_deref(),
            conversation_id: delivery.conversation_id.as_ref(),
            bytes: delivery.bytes,
            body_sha256: hex::encode(delivery.body_sha256),
            latency_ms: delivery.latency_ms,
            body_kept: delivery.has_body(),
        }
    }
}

/// What today's code makes of a delivery.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReplayView<'a> {
    /// The delivery.
    pub delivery_id: &'a DeliveryId,
    /// Whether this is only what would be.
    pub dry_run: bool,
    /// What comes of it.
    pub result: DeliveryResult,
    /// Why, in one word.
    pub reason: Option<&'a str>,
    /// The provider's name for the kind of event.
    pub kind: Option<&'a str>,
    /// The conversation that it names.
    pub conversation_id: Option<&'a CallId>,
    /// The call as it was; null where there was none.
    pub before: Option<CallView<'a>>,
    /// The call as it is, or would be.
    pub after: Option<CallView<'a>>,
}
