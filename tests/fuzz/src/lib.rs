//! What strangers can send us, handed to what reads it: nothing may panic, and what is
//! read has to be within its limits.
//!
//! Each function is a target for `cargo fuzz` (`.ci/fuzz`), and for the ordinary tests, which
//! hand it the seeds, and what is known to be nasty. A function that was binary only lends
//! the module that reads.

#![expect(clippy::panic, reason = "a target that is not met has to stop the fuzzer")]

use jiff::{SignedDuration, Timestamp};
use lambda_http::http::{HeaderMap, HeaderValue, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::api::calls::{CallFilterRequest, ExportRequest, SortRequest};
use shared::api::campaigns::{AssignmentRequest, ChangedCampaign, EndRequest, NewCampaign, NewContacts};
use shared::api::decisions::{AssignCall, AssignCalls, ConvertCall, ReattributeRequest, UndoRequest};
use shared::api::deliveries::{DeliveryFilterRequest, ReplayRequest};
use shared::api::erasures::ErasureRequest;
use shared::api::reports::{ReportScope, SummaryRequest, TimeseriesRequest};
use shared::api::sync::LedgerRequest;
use shared::call::Call;
use shared::contacts::Upload;
use shared::conversation::Fetched;
use shared::delivery::{Event, SigningSecrets, VerifiedDelivery};
use shared::details::Details;
use shared::error::Error;
use shared::http::read_json;
use shared::listing::ListingPage;
use shared::phone_number::{Country, PhoneNumber};
use shared::query::{Paging, Query};
use shared::store::calls::NumberFilter;
use shared::store::cursor;
use url::form_urlencoded;

#[path = "../../../functions/webhook/src/client_address.rs"]
#[allow(dead_code, missing_docs, reason = "its function uses the rest of it")]
mod client_addresses;
#[path = "../../../functions/console/src/access/seal.rs"]
#[allow(dead_code, reason = "its function uses the rest of it")]
mod seal;

use client_addresses::ClientAddresses;
use seal::{Seal, Sealed};

/// When all of this happens: 2026-11-22, noon in UTC.
const NOW: Timestamp = Timestamp::constant(1_795_348_800, 0);
const LONGEST_NUMBER: usize = 256;
const LONGEST_ID: usize = 256;
const LONGEST_COLUMN: usize = 128;

/// The headers of a request together, and so its query string:
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html>
const LARGEST_HEADER: usize = 10_240;
/// The event of one request: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const LARGEST_BODY: usize = 6 * 1024 * 1024;

/// Something that reads what strangers send.
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Reads an input; panics where that comes to what it must not.
    pub read: fn(&[u8]),
    /// The most bytes that reach it.
    pub largest: usize,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target::new("api_body", api_body, LARGEST_BODY),
    Target::new("client_address", client_address, LARGEST_HEADER),
    Target::new("contacts_csv", contacts_csv, LARGEST_BODY),
    Target::new("cookies", cookies, LARGEST_HEADER),
    Target::new("cursor", cursor, LARGEST_HEADER),
    Target::new("delivery", delivery, LARGEST_BODY),
    Target::new("phone_number", phone_number, LARGEST_BODY),
    Target::new("query_string", query_string, LARGEST_HEADER),
    Target::new("signature_header", signature_header, LARGEST_HEADER),
];

impl Target {
    const fn new(name: &'static str, read: fn(&[u8]), largest: usize) -> Self {
        Self { name, read, largest }
    }
}

fn countries() -> [Option<Country>; 2] {
    [None, "US".parse().ok()]
}

/// The header that signs a delivery: no other than the right one is believed, and that one is
/// whatever stands behind it.
pub fn signature_header(input: &[u8]) {
    let secrets = SigningSecrets::new(["wsec_fuzzing".to_owned()]);
    let (body, max_age) = (b"{}", SignedDuration::from_hours(1));
    let verify = |header: &str| VerifiedDelivery::verify(body, Some(header), &secrets, max_age, NOW);
    let text = String::from_utf8_lossy(input);
    assert!(verify(&text).is_err(), "{text:?} was taken for a signature");
}

/// A body that was signed, and what the provider's API answers, which is of the same shape.
pub fn delivery(input: &[u8]) {
    for country in countries() {
        let read = || VerifiedDelivery::kept(input, NOW).read(country);
        match read() {
            Ok(Event::Call { kind, call, .. }) => {
                assert!(kind.len() <= 64);
                expect_bounded(&call);
            }
            Ok(Event::NoCall { kind, .. }) => assert!(kind.len() <= 64),
            Err(unparsed) => assert!(!unparsed.reason.is_empty()),
        }
        assert_eq!(read(), read(), "the same bytes say the same");
        if let Ok(fetched) = Fetched::read(input, NOW, country) {
            expect_bounded(&fetched.call);
        }
    }
    let details = Details::read(input);
    assert!(details.transcript.len() <= input.len());
    if let Ok(page) = ListingPage::read(input) {
        assert!(page.entries.len() + page.unreadable <= input.len());
    }
}

/// What is kept of a call in lists has limits.
fn expect_bounded(call: &Call) {
    assert!((1..=LONGEST_ID).contains(&call.id.as_str().len()));
    let variables = &call.campaign_variables;
    let columns = [
        &call.agent_id,
        &call.agent_name,
        &call.termination_reason,
        &call.language,
        &variables.campaign_id,
        &variables.utm_campaign,
    ];
    for column in columns.into_iter().flatten() {
        assert!((1..=LONGEST_COLUMN).contains(&column.len()), "{column:?}");
    }
    for number in [&call.customer_number, &call.tracking_number]
        .into_iter()
        .flatten()
    {
        assert!((1..=LONGEST_NUMBER).contains(&number.as_str().len()), "{number}");
    }
}

/// A phone number in any way of writing: what is made of it is read as itself again.
pub fn phone_number(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for country in countries() {
        if let Some(number) = PhoneNumber::parse(&text, country) {
            assert!((1..=LONGEST_NUMBER).contains(&number.as_str().len()));
            assert_eq!(
                PhoneNumber::parse(number.as_str(), country).as_ref(),
                Some(&number)
            );
            assert!(!number.readable().is_empty());
        }
        // Fewer than four digits are refused, whatever else it says.
        let is_filter = NumberFilter::parse(&text, country).is_ok();
        assert!(!is_filter || PhoneNumber::parse(&text, country).is_some());
    }
}

/// A cursor: nobody's but ours is taken, and ours leads where it was made for.
pub fn cursor(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(position) = cursor::decode("calls", &text) {
        assert_eq!(
            cursor::encode("calls", &position),
            text,
            "there is one way to write it"
        );
    }
    let made = cursor::encode("calls", &text);
    match cursor::decode("calls", &made) {
        Ok(position) => assert_eq!(position, text),
        Err(error) => assert!(is_invalid(&error)),
    }
    assert!(cursor::decode("other calls", &made).is_err());
}

fn is_invalid(error: &Error) -> bool {
    matches!(error, Error::Invalid { .. })
}

fn expect_told<T>(read: Result<T, Error>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) if is_invalid(&error) => None,
        Err(error) => panic!("what a client sends is never our own failure: {error}"),
    }
}

/// An upload of contacts.
pub fn contacts_csv(input: &[u8]) {
    expect_told(Upload::of_csv(input));
}

/// The query string of every route that has one.
pub fn query_string(input: &[u8]) {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(input).into_owned().collect();
    let query = || Query::of_pairs(pairs.clone());
    for country in countries() {
        let calls = || expect_told(query().take::<CallFilterRequest>());
        calls().map(|request| expect_told(request.into_filter(country)));
        calls().map(|request| expect_told(ReportScope::new(request, country, NOW)));
    }
    expect_told(query().take::<DeliveryFilterRequest>()).map(|request| expect_told(request.into_filter()));
    expect_told(query().take::<SortRequest>());
    expect_told(query().take::<Paging>());
    expect_told(query().take::<ExportRequest>());
    expect_told(query().take::<SummaryRequest>());
    expect_told(query().take::<TimeseriesRequest>());
    expect_told(query().take::<LedgerRequest>());
    expect_told(query().finish());
}

/// The JSON body of every request to the API.
pub fn api_body(input: &[u8]) {
    fn read<T: DeserializeOwned>(input: &[u8]) -> Option<T> {
        let request = lambda_http::Request::new(input.into());
        expect_told(read_json(&request))
    }
    read::<AssignCall>(input);
    read::<AssignCalls>(input);
    read::<AssignmentRequest>(input);
    read::<ChangedCampaign>(input).map(|request| expect_told(request.into_change()));
    read::<ConvertCall>(input).map(|request| expect_told(request.into_converted()));
    read::<EndRequest>(input);
    read::<ErasureRequest>(input);
    read::<NewCampaign>(input);
    read::<NewContacts>(input);
    read::<ReattributeRequest>(input);
    read::<ReplayRequest>(input);
    read::<UndoRequest>(input);
}

/// What a proxy says of the client: only the addresses that it names are believed.
pub fn client_address(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else {
        return;
    };
    let gateway = [10, 0, 0, 1].into();
    for name in ["x-forwarded-for", "x-real-ip"] {
        let headers = HeaderMap::from_iter([(header::HeaderName::from_static(name), value.clone())]);
        let (Ok(proxies), Ok(named)) = ("10.0.0.0/8".parse(), name.parse()) else {
            panic!("{name} can be chosen");
        };
        let trusting = ClientAddresses::new(vec![proxies], named);
        let address = trusting.address(gateway, &headers);
        assert!(address == gateway || value.to_str().is_ok());
        let distrusting = ClientAddresses::new(Vec::new(), named);
        assert_eq!(distrusting.address(gateway, &headers), gateway);
    }
}

/// What the cookies of the console hold.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Secret {
    text: String,
}

impl Sealed for Secret {
    const NAME: &'static str = "__Host-secret";

    fn expires_at(&self) -> Timestamp {
        NOW + SignedDuration::from_hours(8)
    }
}

/// The cookies of a browser: what we did not seal is nothing, and hides nothing that we did.
pub fn cookies(input: &[u8]) {
    let seal = Seal::new(&["a key of at least thirty-two bytes".to_owned()]);
    let secret = Secret {
        text: "kept".to_owned(),
    };
    let (Ok(value), Ok(seal)) = (HeaderValue::from_bytes(input), seal) else {
        return;
    };
    let mut headers = HeaderMap::from_iter([(header::COOKIE, value)]);
    assert_eq!(seal.open::<Secret>(&headers, NOW), None);
    let Ok(set) = seal.set_cookie(&secret, NOW) else {
        panic!("a cookie can be sealed");
    };
    let pair = set
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    if let Ok(pair) = HeaderValue::from_str(pair) {
        headers.append(header::COOKIE, pair);
    }
    assert_eq!(seal.open(&headers, NOW), Some(secret));
}
