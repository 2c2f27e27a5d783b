//! Requests of the gateway and our answers, the same in every function.

use std::net::{IpAddr, Ipv4Addr};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use lambda_http::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt};
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Write;

use crate::error::Error;
use crate::identity::Identity;

/// Lambda's limit on an answer, less what its wrapping takes.
const ANSWER_LIMIT_BYTES: usize = 6_291_456 - 16 * 1024;

/// The route of an event that comes by the clock, not by a request.
pub const SCHEDULE: &str = "schedule";

/// What the gateway tells about a request, beside the request itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The route of the template that it took, e.g. `GET /api/calls/{id}`, or [`SCHEDULE`].
    pub route: String,
    /// When it arrived at the gateway; an event without that stamp arrived now.
    pub received_at: Timestamp,
    /// The address that the gateway saw; no header has a part in it. `0.0.0.0` where
    /// nobody asked.
    pub source_address: IpAddr,
    /// Who is asking, by the token that the gateway's authorizer let pass; nobody
    /// on an open route.
    pub caller: Option<Identity>,
    /// The gateway's id of the request, or Lambda's of the invocation; given
    /// back in `x-request-id`.
    pub request_id: String,
}

impl Context {
    /// Reads it from a request.
    ///
    /// # Errors
    /// When the event is neither an HTTP API's nor a schedule's: nobody reaches a
    /// function like that.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let missing = |what: &str| Error::unexpected(format!("the event has no {what}"));
        let context = match request.request_context() {
            RequestContext::ApiGatewayV2(context) => context,
            _ => return Self::of_schedule(request),
        };
        Ok(Self {
            route: context.route_key.ok_or_else(|| missing("route key"))?,
            received_at: match context.time_epoch {
                0 => Timestamp::now(),
                milliseconds => Timestamp::from_millisecond(milliseconds)
                    .map_err(|error| Error::internal("reading the request's time", error))?,
            },
            source_address: context
                .http
                .source_ip
                .as_deref()
                .and_then(|address| address.parse::<IpAddr>().ok())
                .ok_or_else(|| missing("source address"))?
                .to_canonical(),
            caller: context
                .authorizer
                .and_then(|authorizer| authorizer.jwt)
                .and_then(|jwt| Identity::of_claims(|name| jwt.claims.get(name).map(String::as_str))),
            request_id: context
                .request_id
                .unwrap_or_else(|| request.lambda_context().request_id),
        })
    }

    /// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html>
    fn of_schedule(request: &Request) -> Result<Self, Error> {
        let event: ScheduledEvent = serde_json::from_slice(request.body().as_ref())
            .map_err(|error| Error::internal("reading an event that is no request", error))?;
        if event.source != "aws.events" {
            return Err(Error::unexpected("the event is of a source that we do not know"));
        }
        Ok(Self {
            route: SCHEDULE.to_owned(),
            received_at: event.time,
            source_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            caller: None,
            request_id: request.lambda_context().request_id,
        })
    }

    /// Who is asking.
    ///
    /// # Errors
    /// Where nobody is known to: the gateway let in what it should not have.
    pub fn caller(&self) -> Result<&Identity, Error> {
        self.caller.as_ref().ok_or(Error::Unauthenticated)
    }
}

#[derive(Deserialize)]
struct ScheduledEvent {
    source: String,
    time: Timestamp,
}

/// A segment of the path that the template names.
///
/// # Errors
/// When the template names no such segment.
pub fn path_parameter(request: &Request, name: &str) -> Result<String, Error> {
    request
        .path_parameters()
        .first(name)
        .map(str::to_owned)
        .ok_or_else(|| Error::unexpected(format!("the route has no parameter {name}")))
}

/// The id in the path. One that is none is the id of nothing: `missing`.
///
/// # Errors
/// `missing`, or when the template names no such segment.
pub fn path_id<T: TryFrom<String>>(request: &Request, missing: Error) -> Result<T, Error> {
    T::try_from(path_parameter(request, "id")?).map_err(|_| missing)
}

/// The JSON body of a request to our own API; unknown fields are refused.
///
/// # Errors
/// Names the offending field.
pub fn read_json<T: DeserializeOwned>(request: &Request) -> Result<T, Error> {
    let invalid = |message: String| Error::Invalid {
        code: "invalid_request",
        field: None,
        message,
    };
    // A type that stands for an object would also read itself from a list.
    if request.body().as_ref().trim_ascii_start().first() != Some(&b'{') {
        return Err(invalid("the body must be a JSON object".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_slice(request.body().as_ref());
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        Error::Invalid {
            code: "invalid_request",
            field: (path != "." && path != "?").then_some(path),
            message: format!("the body is not what this route takes: {}", error.inner()),
        }
    })?;
    json.end()
        .map_err(|error| invalid(format!("the body must be one JSON object: {error}")))?;
    Ok(value)
}

/// For a field that may be left out, but is not the same as null when it is:
/// `#[serde(default, deserialize_with = "given")]`.
///
/// # Errors
/// When the value is not what it should be.
pub fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// An instant in a request, RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline)]
pub struct Instant(pub Timestamp);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|_| D::Error::custom("expected an instant such as 2026-11-01T00:00:00Z"))
    }
}

// ------------------------------------------------------------------ answers

/// What every answer of ours tells a browser, unless the answer itself says
/// otherwise: to keep it nowhere, to run and frame nothing of it, to come back
/// by HTTPS.
///
/// <https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html>
pub fn add_security_headers(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "same-origin"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=63072000"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// An answer with a JSON body.
///
/// # Errors
/// When the value can't be written as JSON.
pub fn json_answer(status: StatusCode, value: &impl Serialize) -> Result<Response<Body>, Error> {
    let text =
        serde_json::to_string(value).map_err(|error| Error::internal("writing an answer as JSON", error))?;
    Ok(text_answer(status, "application/json", text))
}

/// An answer that is text.
#[must_use]
pub fn text_answer(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut answer = Response::new(Body::Text(text));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A large answer with a JSON body, as [`large_answer`].
///
/// # Errors
/// When the value can't be written as JSON, or compression fails.
pub fn large_json_answer(
    headers: &HeaderMap,
    value: &impl Serialize,
) -> Result<Option<Response<Body>>, Error> {
    let bytes =
        serde_json::to_vec(value).map_err(|error| Error::internal("writing an answer as JSON", error))?;
    large_answer(headers, "application/json", bytes)
}

/// A large answer: compressed for clients that accept it.
///
/// `None` where it would not pass the gateway in the form that this client takes.
///
/// # Errors
/// When compression fails.
pub fn large_answer(
    headers: &HeaderMap,
    content_type: &'static str,
    bytes: Vec<u8>,
) -> Result<Option<Response<Body>>, Error> {
    let mut answer = if accepts_gzip(headers) && bytes.len() > 1024 {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let bytes = encoder
            .write_all(&bytes)
            .and_then(|()| encoder.finish())
            .map_err(|error| Error::internal("compressing an answer", error))?;
        let mut answer = Response::new(Body::Binary(bytes));
        answer
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    } else {
        Response::new(match String::from_utf8(bytes) {
            Ok(text) => Body::Text(text),
            Err(error) => Body::Binary(error.into_bytes()),
        })
    };
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Ok((wrapped_bytes(answer.body()) <= ANSWER_LIMIT_BYTES).then_some(answer))
}

/// A kept body byte for byte; what is no text is not said to be JSON.
///
/// # Errors
/// Where it does not pass the gateway in the form that this client takes.
pub fn raw_answer(headers: &HeaderMap, body: Vec<u8>) -> Result<Response<Body>, Error> {
    // Text loses a byte-order mark on its way through the frame around the function.
    let content_type = match std::str::from_utf8(&body) {
        Ok(text) if !text.starts_with('\u{feff}') => "application/json",
        _ => "application/octet-stream",
    };
    large_answer(headers, content_type, body)?.ok_or_else(needs_compression)
}

/// The refusal of an answer that passes the gateway only compressed.
#[must_use]
pub fn needs_compression() -> Error {
    Error::Invalid {
        code: "compression_needed",
        field: None,
        message:
            "this answer passes the gateway only compressed: send accept-encoding: gzip, or a smaller limit"
                .to_owned(),
    }
}

/// What is said of a body that can't be shown.
pub const NO_BODY: Error = Error::NotFound {
    message: "the body is not kept, or is still on its way",
};

/// The size of a body within Lambda's JSON answer: escaped, or as base64.
fn wrapped_bytes(body: &Body) -> usize {
    match body {
        Body::Text(text) => text
            .bytes()
            .map(|byte| match byte {
                b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
                0..=0x1f => 6,
                _ => 1,
            })
            .sum(),
        other => other.as_ref().len().div_ceil(3) * 4,
    }
}

/// <https://www.rfc-editor.org/rfc/rfc9110#name-accept-encoding>
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = weight
                .trim()
                .strip_prefix("q=")
                .is_some_and(|q| q.parse() == Ok(0.0));
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        })
}

/// The answer to a request that went wrong.
#[must_use]
pub fn error_answer(error: &Error, request_id: &str) -> Response<Body> {
    let told = told(error);
    error_response(told.status, told.code, &told.message, told.field, request_id)
}

/// What a client is told of an error; 5xx messages reveal nothing.
#[derive(Debug)]
pub struct Told<'a> {
    /// The status of the answer.
    pub status: StatusCode,
    /// What programs match on.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The offending field, where there is one.
    pub field: Option<&'a str>,
}

/// What a client is told of an error.
#[must_use]
pub fn told(error: &Error) -> Told<'_> {
    let (status, code, message, field) = match error {
        Error::Invalid { code, field, message } => {
            (StatusCode::BAD_REQUEST, *code, message.clone(), field.as_deref())
        }
        Error::Unauthenticated => (
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "sign in first, or send a bearer token".to_owned(),
            None,
        ),
        Error::Forbidden { code, message } => (StatusCode::FORBIDDEN, *code, (*message).to_owned(), None),
        Error::NotFound { message } => (StatusCode::NOT_FOUND, "not_found", (*message).to_owned(), None),
        Error::Conflict { code, field, message } => (StatusCode::CONFLICT, *code, message.clone(), *field),
        Error::Unavailable(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "temporarily out of service: try again".to_owned(),
            None,
        ),
        Error::Internal(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong on our side".to_owned(),
            None,
        ),
    };
    Told {
        status,
        code,
        message,
        field,
    }
}

/// The body of every error.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub struct ErrorAnswer<'a> {
    error: ErrorView<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct ErrorView<'a> {
    /// What programs match on.
    code: &'a str,
    /// For people: how to mend the request.
    message: &'a str,
    /// The offending field, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// As in `x-request-id`, and in our logs.
    request_id: &'a str,
}

/// The answer that tells of an error.
#[must_use]
pub fn error_response(
    status: StatusCode,
    code: &str,
    message: &str,
    field: Option<&str>,
    request_id: &str,
) -> Response<Body> {
    let error = ErrorView {
        code,
        message,
        field,
        request_id,
    };
    text_answer(
        status,
        "application/json",
        json!(ErrorAnswer { error }).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept_encoding: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            header::ACCEPT_ENCODING,
            HeaderValue::from_str(accept_encoding).unwrap(),
        )])
    }

    #[test]
    fn gzip_is_sent_to_those_who_accept_it() {
        for (accept, accepted) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(&headers(accept)), accepted, "{accept}");
        }
    }

    #[test]
    fn what_does_not_pass_the_gateway_is_not_sent() {
        let large = vec![b'"'; 4 * 1024 * 1024];
        let plain = large_answer(&HeaderMap::new(), "application/json", large.clone()).unwrap();
        assert!(plain.is_none(), "8 MiB once escaped");
        let zipped = large_answer(&headers("gzip"), "application/json", large).unwrap();
        assert!(zipped.is_some());
    }
}
