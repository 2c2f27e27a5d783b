//! The provider's objects as they stand on the wire, and what they say of a call.
//!
//! Read leniently: a field that is missing, null or of another type than
//! documented counts as absent, since refusing a genuine delivery loses the
//! call. Only the conversation's id is indispensable. Shapes after the official
//! SDK's models and <https://elevenlabs.io/docs/agents-platform/workflows/post-call-webhooks>.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::{Call, CallId, CampaignVariables, Channel, Direction, Outcome};
use crate::lenient::{Number, Text, lenient, object, read_object};
use crate::phone_number::{Country, PhoneNumber};

/// What an inspected object could not be: a call without an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoConversationId;

/// `data` of `post_call_transcription`, which is also what
/// `GET /v1/convai/conversations/{id}` answers.
#[derive(Debug, Deserialize)]
pub struct Conversation<'a> {
    #[serde(default, deserialize_with = "lenient")]
    conversation_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    agent_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    agent_name: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    status: Option<Text>,
    #[serde(default, deserialize_with = "object")]
    metadata: Option<Metadata>,
    #[serde(default, deserialize_with = "object")]
    analysis: Option<Analysis>,
    #[serde(default, deserialize_with = "object")]
    conversation_initiation_client_data: Option<ClientData>,
    #[serde(borrow, default)]
    transcript: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default, deserialize_with = "lenient")]
    start_time_unix_secs: Option<Number>,
    #[serde(default, deserialize_with = "lenient")]
    call_duration_secs: Option<Number>,
    #[serde(default, deserialize_with = "lenient")]
    termination_reason: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    main_language: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    conversation_initiation_source: Option<Text>,
    #[serde(default, deserialize_with = "object")]
    phone_call: Option<PhoneCall>,
    #[serde(default, deserialize_with = "object")]
    whatsapp: Option<Whatsapp>,
    #[serde(default, deserialize_with = "object")]
    sms: Option<Sms>,
    #[serde(default, deserialize_with = "object")]
    deletion_settings: Option<DeletionSettings>,
}

#[derive(Debug, Deserialize)]
struct DeletionSettings {
    #[serde(default, deserialize_with = "lenient")]
    deleted_logs_at_time_unix_secs: Option<Number>,
    #[serde(default, deserialize_with = "lenient")]
    deleted_transcript_at_time_unix_secs: Option<Number>,
}

#[derive(Debug, Deserialize)]
struct PhoneCall {
    #[serde(default, deserialize_with = "lenient")]
    direction: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    agent_number: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    external_number: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct Whatsapp {
    #[serde(default, deserialize_with = "lenient")]
    direction: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    whatsapp_user_id: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct Sms {
    #[serde(default, deserialize_with = "lenient")]
    direction: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    agent_phone_number: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    sms_user_phone_number: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct Analysis {
    #[serde(default, deserialize_with = "lenient")]
    call_successful: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct ClientData {
    #[serde(default, deserialize_with = "object")]
    dynamic_variables: Option<DynamicVariables>,
}

#[derive(Debug, Default, Deserialize)]
struct DynamicVariables {
    #[serde(default, rename = "system__caller_id", deserialize_with = "lenient")]
    caller_id: Option<Text>,
    #[serde(default, rename = "system__called_number", deserialize_with = "lenient")]
    called_number: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    campaign_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    utm_campaign: Option<Text>,
}

/// A conversation that never came about.
const FAILED: &str = "failed";

/// Whether a conversation of this status changes no more on its own. Statuses that
/// we do not know count as final, so that no call is waited for in vain.
pub(crate) fn is_final(status: Option<&Text>) -> bool {
    !matches!(
        status.map(Text::as_str),
        Some("initiated" | "in-progress" | "processing")
    )
}

/// A conversation as `GET /v1/convai/conversations/{id}` answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The facts.
    pub call: Call,
    /// Whether it is over and analysed.
    pub is_final: bool,
    /// Whether it says less than a delivery of it says or said: its transcript was
    /// deleted since, it failed and names no line, or nothing is left but its name.
    pub is_remnant: bool,
}

impl Fetched {
    /// Reads a conversation that was listed as begun at an instant.
    ///
    /// # Errors
    /// Why it can't be read, in one word.
    pub fn read(body: &[u8], listed_at: Timestamp, country: Option<Country>) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(body).map_err(|_| "not_utf8")?;
        let conversation: Conversation<'_> = read_object(text).map_err(|_| "not_a_conversation")?;
        let is_final = is_final(conversation.status.as_ref());
        let is_remnant = conversation.is_remnant();
        let call = conversation.into_call(listed_at, country);
        let call = call.map_err(|NoConversationId| "no_conversation_id")?;
        Ok(Self {
            call,
            is_final,
            is_remnant,
        })
    }
}

impl Conversation<'_> {
    fn is_remnant(&self) -> bool {
        let Some(metadata) = &self.metadata else {
            return true;
        };
        let was_deleted = metadata.deletion_settings.as_ref().is_some_and(|deletion| {
            deletion.deleted_logs_at_time_unix_secs.is_some()
                || deletion.deleted_transcript_at_time_unix_secs.is_some()
        });
        let has_failed = (self.status.as_ref()).is_some_and(|status| status.as_str() == FAILED);
        let has_line = metadata.phone_call.is_some() || metadata.whatsapp.is_some() || metadata.sms.is_some();
        was_deleted || (has_failed && !has_line)
    }

    /// The facts of the call; `event_at` stands in for a missing start.
    ///
    /// # Errors
    /// When there is no usable conversation id.
    pub fn into_call(self, event_at: Timestamp, country: Option<Country>) -> Result<Call, NoConversationId> {
        let metadata = self.metadata.unwrap_or_default();
        let variables = self
            .conversation_initiation_client_data
            .and_then(|data| data.dynamic_variables)
            .unwrap_or_default();
        let source = metadata.conversation_initiation_source;
        let line = Line::find(
            metadata.phone_call,
            metadata.whatsapp,
            metadata.sms,
            source.as_ref().map_or("", Text::as_str),
            variables.caller_id,
            variables.called_number,
        );
        let number = |text: Option<Text>| PhoneNumber::parse(text?.as_str(), country);
        Ok(Call {
            id: call_id(self.conversation_id)?,
            agent_id: self.agent_id.and_then(Text::into_id),
            agent_name: self.agent_name.and_then(Text::into_column),
            channel: line.channel,
            direction: line.direction,
            customer_number: number(line.customer),
            tracking_number: number(line.ours),
            started_at: metadata
                .start_time_unix_secs
                .and_then(Number::into_instant)
                .unwrap_or(event_at),
            duration_seconds: metadata.call_duration_secs.map_or(0, Number::into_seconds),
            outcome: match self.analysis.and_then(|analysis| analysis.call_successful) {
                // What failed to come about is not analysed.
                None if self.status.is_some_and(|status| status.as_str() == FAILED) => Outcome::Failure,
                judged => outcome(judged.as_ref()),
            },
            termination_reason: metadata.termination_reason.and_then(Text::into_column),
            language: metadata.main_language.and_then(Text::into_column),
            has_transcript: self.transcript.is_some_and(has_turns),
            campaign_variables: CampaignVariables {
                campaign_id: variables.campaign_id.and_then(Text::into_id),
                utm_campaign: variables.utm_campaign.and_then(Text::into_id),
            },
        })
    }
}

/// How the customer was connected, and by which numbers.
struct Line {
    channel: Channel,
    direction: Option<Direction>,
    ours: Option<Text>,
    customer: Option<Text>,
}

impl Line {
    /// The provider describes the line in one of three places; where it does
    /// not, the way the conversation was started and the system's dynamic
    /// variables tell. Those name caller and called by who dialled.
    fn find(
        phone_call: Option<PhoneCall>,
        whatsapp: Option<Whatsapp>,
        sms: Option<Sms>,
        source: &str,
        caller: Option<Text>,
        called: Option<Text>,
    ) -> Self {
        if let Some(phone) = phone_call {
            let direction = direction(phone.direction.as_ref());
            let (caller_is, called_is) = match direction {
                Some(Direction::Outbound) => (caller, called),
                Some(Direction::Inbound) | None => (called, caller),
            };
            return Self {
                channel: Channel::Phone,
                direction,
                ours: phone.agent_number.and_then(Text::or_none).or(caller_is),
                customer: phone.external_number.and_then(Text::or_none).or(called_is),
            };
        }
        if let Some(whatsapp) = whatsapp {
            return Self {
                channel: Channel::Whatsapp,
                direction: direction(whatsapp.direction.as_ref()),
                ours: None,
                customer: whatsapp.whatsapp_user_id,
            };
        }
        if let Some(sms) = sms {
            return Self {
                channel: Channel::Sms,
                direction: direction(sms.direction.as_ref()),
                ours: sms.agent_phone_number,
                customer: sms.sms_user_phone_number,
            };
        }
        let channel = match source {
            "twilio" | "sip_trunk" | "exotel" | "genesys" | "avaya" | "audiocodes" => Channel::Phone,
            "whatsapp" => Channel::Whatsapp,
            "twilio_sms" => Channel::Sms,
            "widget" | "template_preview" => Channel::Web,
            sdk if sdk.ends_with("_sdk") => Channel::Web,
            _ if caller.is_some() && called.is_some() => Channel::Phone,
            _ => Channel::Unknown,
        };
        // Without a direction the line can't be told from the customer, except
        // that people call agents far more often than the other way round.
        let is_line = channel == Channel::Phone;
        Self {
            channel,
            direction: None,
            ours: called.filter(|_| is_line),
            customer: caller.filter(|_| is_line),
        }
    }
}

pub(crate) fn direction(text: Option<&Text>) -> Option<Direction> {
    match text?.as_str() {
        "inbound" => Some(Direction::Inbound),
        "outbound" => Some(Direction::Outbound),
        _ => None,
    }
}

pub(crate) fn outcome(text: Option<&Text>) -> Outcome {
    match text.map(Text::as_str) {
        Some("success") => Outcome::Success,
        Some("failure") => Outcome::Failure,
        _ => Outcome::Unknown,
    }
}

fn call_id(text: Option<Text>) -> Result<CallId, NoConversationId> {
    let text = text.ok_or(NoConversationId)?;
    CallId::try_from(text.0).map_err(|_| NoConversationId)
}

fn has_turns(transcript: &RawValue) -> bool {
    transcript
        .get()
        .strip_prefix('[')
        .is_some_and(|rest| !rest.trim_start().starts_with(']'))
}

/// `data` of `call_initiation_failure`: an outbound call that never began.
#[derive(Debug, Deserialize)]
pub struct InitiationFailure {
    #[serde(default, deserialize_with = "lenient")]
    conversation_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    agent_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    failure_reason: Option<Text>,
    #[serde(default, deserialize_with = "object")]
    metadata: Option<FailureMetadata>,
}

#[derive(Debug, Deserialize)]
struct FailureMetadata {
    #[serde(default, deserialize_with = "object")]
    body: Option<FailureBody>,
}

/// Twilio's status callback, or what SIP says.
#[derive(Debug, Deserialize)]
struct FailureBody {
    #[serde(default, rename = "From", deserialize_with = "lenient")]
    twilio_from: Option<Text>,
    #[serde(default, rename = "To", deserialize_with = "lenient")]
    twilio_to: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    from_number: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    to_number: Option<Text>,
}

impl InitiationFailure {
    /// The facts: an outbound phone call of no length that failed at `event_at`.
    ///
    /// # Errors
    /// When there is no usable conversation id.
    pub fn into_call(self, event_at: Timestamp, country: Option<Country>) -> Result<Call, NoConversationId> {
        let (ours, customer) = match self.metadata.and_then(|metadata| metadata.body) {
            Some(body) => (
                body.twilio_from.or(body.from_number),
                body.twilio_to.or(body.to_number),
            ),
            None => (None, None),
        };
        let number = |text: Option<Text>| PhoneNumber::parse(text?.as_str(), country);
        Ok(Call {
            id: call_id(self.conversation_id)?,
            agent_id: self.agent_id.and_then(Text::into_id),
            agent_name: None,
            channel: Channel::Phone,
            direction: Some(Direction::Outbound),
            customer_number: number(customer),
            tracking_number: number(ours),
            started_at: event_at,
            duration_seconds: 0,
            outcome: Outcome::Failure,
            termination_reason: self.failure_reason.and_then(Text::into_column),
            language: None,
            has_transcript: false,
            campaign_variables: CampaignVariables::default(),
        })
    }
}

/// `data` of `post_call_transcription_otel`: the conversation as traces.
///
/// It names no numbers; the spans tell when the call began and ended.
/// <https://opentelemetry.io/docs/specs/otlp/>
#[derive(Debug, Deserialize)]
pub struct Traces {
    #[serde(default, deserialize_with = "lenient")]
    conversation_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    agent_id: Option<Text>,
    #[serde(default, deserialize_with = "object")]
    otlp_traces: Option<OtlpTraces>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtlpTraces {
    #[serde(default, deserialize_with = "lenient")]
    resource_spans: Option<Vec<ResourceSpans>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    #[serde(default, deserialize_with = "lenient")]
    scope_spans: Option<Vec<ScopeSpans>>,
}

#[derive(Debug, Deserialize)]
struct ScopeSpans {
    #[serde(default, deserialize_with = "lenient")]
    spans: Option<Vec<Span>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    #[serde(default, deserialize_with = "lenient")]
    start_time_unix_nano: Option<Number>,
    #[serde(default, deserialize_with = "lenient")]
    end_time_unix_nano: Option<Number>,
}

impl Traces {
    /// The facts, as far as traces tell them.
    ///
    /// # Errors
    /// When there is no usable conversation id.
    pub fn into_call(self, event_at: Timestamp) -> Result<Call, NoConversationId> {
        let spans: Vec<Span> = self
            .otlp_traces
            .and_then(|traces| traces.resource_spans)
            .into_iter()
            .flatten()
            .filter_map(|resource| resource.scope_spans)
            .flatten()
            .filter_map(|scope| scope.spans)
            .flatten()
            .collect();
        let instant = |nanoseconds: &Option<Number>| Number(nanoseconds.as_ref()?.0 / 1e9).into_instant();
        let began = spans
            .iter()
            .filter_map(|span| instant(&span.start_time_unix_nano))
            .min();
        let ended = spans
            .iter()
            .filter_map(|span| instant(&span.end_time_unix_nano))
            .max();
        let duration_seconds = match (began, ended) {
            (Some(began), Some(ended)) => u32::try_from(ended.duration_since(began).as_secs()).unwrap_or(0),
            _ => 0,
        };
        Ok(Call {
            id: call_id(self.conversation_id)?,
            agent_id: self.agent_id.and_then(Text::into_id),
            agent_name: None,
            channel: Channel::Unknown,
            direction: None,
            customer_number: None,
            tracking_number: None,
            started_at: began.unwrap_or(event_at),
            duration_seconds,
            outcome: Outcome::Unknown,
            termination_reason: None,
            language: None,
            has_transcript: false,
            campaign_variables: CampaignVariables::default(),
        })
    }
}

/// The flat `conversation.ended` body of the first design, which users' own
/// webhook tools post.
#[derive(Debug, Deserialize)]
pub struct FlatConversation {
    #[serde(default, deserialize_with = "lenient")]
    conversation_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    agent_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    start_time_unix_secs: Option<Number>,
    #[serde(default, deserialize_with = "lenient")]
    call_duration_secs: Option<Number>,
    #[serde(default, deserialize_with = "lenient")]
    call_successful: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    phone_number: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    caller_phone: Option<Text>,
}

impl FlatConversation {
    /// The facts: `phone_number` is ours, `caller_phone` the customer's.
    ///
    /// # Errors
    /// When there is no usable conversation id.
    pub fn into_call(self, event_at: Timestamp, country: Option<Country>) -> Result<Call, NoConversationId> {
        let number = |text: Option<Text>| PhoneNumber::parse(text?.as_str(), country);
        let (tracking_number, customer_number) = (number(self.phone_number), number(self.caller_phone));
        let on_the_phone = tracking_number.is_some() || customer_number.is_some();
        Ok(Call {
            id: call_id(self.conversation_id)?,
            agent_id: self.agent_id.and_then(Text::into_id),
            agent_name: None,
            channel: if on_the_phone {
                Channel::Phone
            } else {
                Channel::Unknown
            },
            direction: on_the_phone.then_some(Direction::Inbound),
            customer_number,
            tracking_number,
            started_at: self
                .start_time_unix_secs
                .and_then(Number::into_instant)
                .unwrap_or(event_at),
            duration_seconds: self.call_duration_secs.map_or(0, Number::into_seconds),
            outcome: outcome(self.call_successful.as_ref()),
            termination_reason: None,
            language: None,
            has_transcript: false,
            campaign_variables: CampaignVariables::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_types_count_as_absent() {
        let json = r#"{"conversation_id":"c","agent_id":{},"metadata":{"phone_call":"none",
            "start_time_unix_secs":[],"call_duration_secs":"79","sms":7},"analysis":"x",
            "conversation_initiation_client_data":[1],"transcript":"none"}"#;
        let event_at = Timestamp::UNIX_EPOCH;
        let call = serde_json::from_str::<Conversation<'_>>(json)
            .unwrap()
            .into_call(event_at, None)
            .unwrap();
        assert_eq!(call.agent_id, None);
        assert_eq!(call.channel, Channel::Unknown);
        assert_eq!(call.started_at, event_at);
        assert_eq!(call.duration_seconds, 79);
        assert_eq!(call.outcome, Outcome::Unknown);
        assert!(!call.has_transcript);
    }
}
