//! The HTTP API of API Gateway: requests to payload 2.0 events, and back.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>,
//! limits: <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html>

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::authorizer::{Authorizer, Denied};
use crate::clock::Clock;
use crate::cloudformation::ACCOUNT;
use crate::lambda::{Function, InvokeError};
use crate::template::Route;

const BODY_LIMIT_BYTES: usize = 10 * 1024 * 1024;
const HEAD_LIMIT_BYTES: usize = 10_240;
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The routes of the template with the functions behind them.
pub struct Gateway {
    routes: Vec<Route>,
    functions: BTreeMap<String, Arc<Function>>,
    authorizer: Option<Authorizer>,
    clock: Clock,
}

impl Gateway {
    /// `functions` by logical id; `authorizer` stands before the routes that are not open.
    #[must_use]
    pub fn new(
        routes: Vec<Route>,
        functions: BTreeMap<String, Arc<Function>>,
        authorizer: Option<Authorizer>,
        clock: Clock,
    ) -> Self {
        Self {
            routes,
            functions,
            authorizer,
            clock,
        }
    }

    /// Serves the routes, and Lambda's own `Invoke` for raw events.
    pub fn router(self) -> Router {
        Router::new()
            .route("/2015-03-31/functions/{function}/invocations", post(invoke))
            .fallback(serve)
            .with_state(Arc::new(self))
    }

    /// The route of a request with its path parameters, the most literal path first.
    fn route(&self, method: &Method, path: &str) -> Option<(&Route, BTreeMap<String, String>)> {
        self.routes
            .iter()
            .filter(|route| route.method == method.as_str() || route.method == "ANY")
            .filter_map(|route| Some((route, path_parameters(&route.path, path)?)))
            .min_by_key(|(route, parameters)| (parameters.len(), route.method == "ANY"))
    }

    async fn answer(&self, peer: IpAddr, request: Request) -> Result<Response<Body>, GatewayError> {
        let (head, body) = request.into_parts();
        if head_bytes(&head.method, &head.uri, &head.headers) > HEAD_LIMIT_BYTES {
            return Err(GatewayError::HeadTooLarge);
        }
        let (route, parameters) = self
            .route(&head.method, head.uri.path())
            .ok_or(GatewayError::NoRoute)?;
        let function = self
            .functions
            .get(&route.function)
            .ok_or(GatewayError::Integration)?;
        let jwt = self.authorize(route, &head.headers).await?;
        let body = axum::body::to_bytes(body, BODY_LIMIT_BYTES)
            .await
            .map_err(|_| GatewayError::BodyTooLarge)?;
        let mut event = self.event(
            peer,
            &head.method,
            &head.uri,
            &head.headers,
            &body,
            route,
            &parameters,
        );
        if let Some(jwt) = jwt {
            event["requestContext"]["authorizer"] = json!({ "jwt": jwt });
        }
        let answer = tokio::time::timeout(INTEGRATION_TIMEOUT, function.invoke(event.to_string().into()))
            .await
            .map_err(|_| GatewayError::TimedOut)?
            .map_err(|error| match error {
                InvokeError::TooLarge => GatewayError::BodyTooLarge,
                InvokeError::Function(_) | InvokeError::Died(_) | InvokeError::TimedOut => {
                    GatewayError::Integration
                }
            })?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| GatewayError::Integration)?;
        answer.into_response().ok_or(GatewayError::Integration)
    }

    /// What the function is told of the caller's token; nothing on an open route.
    async fn authorize(&self, route: &Route, headers: &HeaderMap) -> Result<Option<Value>, GatewayError> {
        let Some(scopes) = &route.scopes else {
            return Ok(None);
        };
        let authorizer = self.authorizer.as_ref().ok_or(GatewayError::Integration)?;
        let authorization = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        authorizer
            .authorize(authorization, scopes, self.clock.now())
            .await
            .map(Some)
            .map_err(GatewayError::Denied)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    fn event(
        &self,
        peer: IpAddr,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
        route: &Route,
        parameters: &BTreeMap<String, String>,
    ) -> Value {
        let now = self.clock.now();
        let (headers, cookies) = event_headers(headers, peer);
        let route_key = format!("{} {}", route.method, route.path);
        let mut event = json!({
            "version": "2.0",
            "routeKey": route_key,
            "rawPath": uri.path(),
            "rawQueryString": uri.query().unwrap_or_default(),
            "headers": headers,
            "requestContext": {
                "accountId": ACCOUNT,
                "apiId": "local",
                "domainName": headers.get("host"),
                "domainPrefix": "local",
                "http": {
                    "method": method.as_str(),
                    "path": uri.path(),
                    "protocol": "HTTP/1.1",
                    "sourceIp": peer.to_string(),
                    "userAgent": headers.get("user-agent"),
                },
                "requestId": Uuid::now_v7().to_string(),
                "routeKey": route_key,
                "stage": "$default",
                "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
                "timeEpoch": now.as_millisecond(),
            },
            "isBase64Encoded": false,
        });
        if !cookies.is_empty() {
            event["cookies"] = json!(cookies);
        }
        if !parameters.is_empty() {
            event["pathParameters"] = json!(parameters);
        }
        if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
            event["queryStringParameters"] = json!(query_parameters(query));
        }
        if !body.is_empty() {
            let content_type = headers.get("content-type").map_or("", String::as_str);
            match std::str::from_utf8(body) {
                Ok(text) if is_text(content_type) => event["body"] = json!(text),
                _ => {
                    event["body"] = json!(BASE64.encode(body));
                    event["isBase64Encoded"] = json!(true);
                }
            }
        }
        event
    }
}

/// The answers that the gateway makes itself.
#[derive(Debug, Clone, Copy)]
enum GatewayError {
    NoRoute,
    Denied(Denied),
    HeadTooLarge,
    BodyTooLarge,
    Integration,
    TimedOut,
}

impl GatewayError {
    fn into_response(self) -> Response<Body> {
        let (status, message) = match self {
            Self::NoRoute => (StatusCode::NOT_FOUND, "Not Found"),
            Self::Denied(Denied::Unauthorized) => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Denied(Denied::Forbidden) => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Request Header Fields Too Large",
            ),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"),
            Self::Integration => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
            Self::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        };
        json_response(status, &json!({ "message": message }))
    }
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn serve(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    gateway
        .answer(peer.ip().to_canonical(), request)
        .await
        .unwrap_or_else(GatewayError::into_response)
}

/// Lambda's `Invoke`: a raw event into one function, named by binary or logical id.
async fn invoke(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response<Body> {
    let Some(function) = gateway.functions.get(&name).or_else(|| {
        gateway
            .functions
            .values()
            .find(|function| function.binary_name() == name)
    }) else {
        let names: Vec<&str> = gateway
            .functions
            .values()
            .map(|function| function.binary_name())
            .collect();
        let message = format!("Function not found: {name}. There are: {}", names.join(", "));
        return json_response(StatusCode::NOT_FOUND, &json!({ "message": message }));
    };
    let Ok(event) = axum::body::to_bytes(request.into_body(), BODY_LIMIT_BYTES).await else {
        return GatewayError::BodyTooLarge.into_response();
    };
    match function.invoke(event).await {
        Ok(answer) => {
            let mut response = Response::new(Body::from(answer));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(InvokeError::TooLarge) => GatewayError::BodyTooLarge.into_response(),
        Err(error) => {
            let mut response = json_response(StatusCode::OK, &json!({ "errorMessage": error.to_string() }));
            response
                .headers_mut()
                .insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
            response
        }
    }
}

fn path_parameters(template: &str, path: &str) -> Option<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::new();
    let mut segments = path.split('/');
    for expected in template.split('/') {
        let segment = segments.next()?;
        match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(_) if segment.is_empty() => return None,
            Some(name) => {
                let value = percent_decode_str(segment).decode_utf8_lossy().into_owned();
                parameters.insert(name.to_owned(), value);
            }
            None if expected == segment => {}
            None => return None,
        }
    }
    segments.next().is_none().then_some(parameters)
}

fn head_bytes(method: &Method, uri: &Uri, headers: &HeaderMap) -> usize {
    let line = method.as_str().len() + uri.path_and_query().map_or(0, |target| target.as_str().len());
    let fields: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    line + fields
}

/// Lower-cased headers, repeated ones joined with commas, and the cookies.
///
/// The gateway appends the client's address to whatever the client claimed.
fn event_headers(headers: &HeaderMap, peer: IpAddr) -> (BTreeMap<String, String>, Vec<String>) {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    let mut cookies = Vec::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        if name == header::COOKIE {
            cookies.extend(value.split(';').map(|cookie| cookie.trim().to_owned()));
        } else {
            add_value(&mut joined, name.as_str(), &value);
        }
    }
    add_value(&mut joined, "x-forwarded-for", &peer.to_string());
    joined.insert("x-forwarded-proto".to_owned(), "http".to_owned());
    (joined, cookies)
}

fn add_value(values: &mut BTreeMap<String, String>, name: &str, value: &str) {
    values
        .entry(name.to_owned())
        .and_modify(|all| {
            all.push_str(", ");
            all.push_str(value);
        })
        .or_insert_with(|| value.to_owned());
}

/// A query string, or a form; repeated values joined with commas.
pub(crate) fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        add_value(&mut parameters, &decode(name), &decode(value));
    }
    parameters
}

fn is_text(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence.is_empty()
        || essence.starts_with("text/")
        || ["json", "xml", "javascript", "x-www-form-urlencoded"]
            .iter()
            .any(|kind| essence.ends_with(kind))
}

/// What a function answers, payload format 2.0.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    cookies: Vec<String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

impl Answer {
    fn into_response(self) -> Option<Response<Body>> {
        let body = match self.body {
            None => Vec::new(),
            Some(text) if self.is_base64_encoded => BASE64.decode(text).ok()?,
            Some(text) => text.into_bytes(),
        };
        let mut response = Response::builder().status(self.status_code);
        for (name, value) in self.headers {
            response = response.header(
                HeaderName::try_from(name).ok()?,
                HeaderValue::try_from(value).ok()?,
            );
        }
        for cookie in self.cookies {
            response = response.header(header::SET_COOKIE, HeaderValue::try_from(cookie).ok()?);
        }
        response.body(Body::from(body)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_literal_route_wins_and_parameters_are_decoded() {
        let route = |method: &str, path: &str| Route {
            method: method.to_owned(),
            path: path.to_owned(),
            function: String::new(),
            scopes: None,
        };
        let gateway = Gateway::new(
            vec![
                route("GET", "/api/calls/{id}"),
                route("GET", "/api/calls/export"),
                route("ANY", "/hook"),
                route("POST", "/hook"),
            ],
            BTreeMap::new(),
            None,
            Clock::default(),
        );
        let find = |method: Method, path: &str| {
            gateway
                .route(&method, path)
                .map(|(route, parameters)| (format!("{} {}", route.method, route.path), parameters))
        };
        assert_eq!(
            find(Method::GET, "/api/calls/export").unwrap().0,
            "GET /api/calls/export"
        );
        assert_eq!(find(Method::GET, "/api/calls/a%2Bb").unwrap().1["id"], "a+b");
        assert_eq!(find(Method::POST, "/hook").unwrap().0, "POST /hook");
        assert_eq!(find(Method::PUT, "/hook").unwrap().0, "ANY /hook");
        assert_eq!(find(Method::POST, "/api/calls/x"), None);
        assert_eq!(find(Method::GET, "/api/calls/"), None);
    }
}
