//! What every function needs to start: logging, settings, the AWS client; and
//! the frame around each request.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use lambda_http::http::{HeaderValue, Response};
use lambda_http::{Body, Request, service_fn};

use crate::error::Error;
use crate::http::{Context, SCHEDULE, add_security_headers, error_answer};
use crate::phone_number::Country;

/// A setting that is missing or not what it should be.
pub struct SettingError {
    name: &'static str,
    reason: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting {}: {}", self.name, self.reason)
    }
}

/// What a function that does not start prints.
impl fmt::Debug for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SettingError {}

/// A setting from the environment, read as its type.
///
/// # Errors
/// When it is missing or can't be read: the function then does not start.
pub fn setting<T: FromStr<Err: fmt::Display>>(name: &'static str) -> Result<T, SettingError> {
    let text = std::env::var(name).map_err(|error| SettingError {
        name,
        reason: error.to_string(),
    })?;
    text.parse().map_err(|error: T::Err| SettingError {
        name,
        reason: error.to_string(),
    })
}

/// A setting that may be left empty.
///
/// # Errors
/// As [`setting`].
pub fn optional_setting<T: FromStr<Err: fmt::Display>>(
    name: &'static str,
) -> Result<Option<T>, SettingError> {
    match std::env::var(name).as_deref() {
        Ok("") | Err(std::env::VarError::NotPresent) => Ok(None),
        _ => setting(name).map(Some),
    }
}

/// A comma-separated list, possibly empty.
///
/// # Errors
/// As [`setting`], naming the entry that can't be read.
pub fn list_setting<T: FromStr<Err: fmt::Display>>(name: &'static str) -> Result<Vec<T>, SettingError> {
    let text: String = optional_setting(name)?.unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            entry.parse().map_err(|error: T::Err| SettingError {
                name,
                reason: format!("{entry:?}: {error}"),
            })
        })
        .collect()
}

/// The country of `DEFAULT_COUNTRY`. One that does not exist is reported and
/// counts as none: national numbers then stay as received, but no call is lost.
#[must_use]
pub fn default_country() -> Option<Country> {
    optional_setting("DEFAULT_COUNTRY").unwrap_or_else(|error| {
        tracing::error!(%error, "national phone numbers will not be understood");
        None
    })
}

/// Logging as Lambda's `LoggingConfig` asks for it.
pub fn start_logging() {
    lambda_http::tracing::init_default_subscriber();
}

/// How to reach AWS, with every wait bounded: three attempts within five
/// seconds, so that a sender hears 503 while it still listens.
pub async fn aws() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(3)
                .with_initial_backoff(Duration::from_millis(50)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(1))
                .operation_attempt_timeout(Duration::from_secs(2))
                .operation_timeout(Duration::from_secs(5))
                .build(),
        )
        .load()
        .await
}

/// Serves requests until Lambda ends the instance.
///
/// A failure is logged here, once, with its whole chain; the client is told in
/// other words. Every answer carries `x-request-id` and the security headers. Where
/// the clock asked, there is no client: the invocation fails.
///
/// # Errors
/// When the Runtime API is gone.
pub async fn serve<S, H, F>(state: S, handle: H) -> Result<(), lambda_http::Error>
where
    S: Send + Sync + 'static,
    H: Fn(Arc<S>, Request, Context) -> F + Send + Sync + Copy + 'static,
    F: Future<Output = Result<Response<Body>, Error>> + Send,
{
    let state = Arc::new(state);
    lambda_http::run(service_fn(move |request: Request| {
        let state = Arc::clone(&state);
        async move {
            let context = Context::of(&request)?;
            let Context {
                route, request_id, ..
            } = context.clone();
            let answer = handle(state, request, context).await;
            if let Err(error) = &answer {
                log_failure(error, &route, &request_id);
            }
            if route == SCHEDULE {
                return Ok(answer?);
            }
            let mut answer = answer.unwrap_or_else(|error| error_answer(&error, &request_id));
            add_security_headers(answer.headers_mut());
            if let Ok(request_id) = HeaderValue::from_str(&request_id) {
                answer.headers_mut().insert("x-request-id", request_id);
            }
            Ok::<_, lambda_http::Error>(answer)
        }
    }))
    .await
}

/// Logs a failure of ours; refusals are the caller's affair and not logged.
pub fn log_failure(error: &Error, route: &str, request_id: &str) {
    match error {
        Error::Unavailable(_) | Error::Internal(_) => {
            tracing::error!(request_id, route, %error, "the request failed");
        }
        Error::Invalid { .. }
        | Error::Unauthenticated
        | Error::Forbidden { .. }
        | Error::NotFound { .. }
        | Error::Conflict { .. } => {}
    }
}
