//! Secrets Manager's `GetSecretValue`.
//!
//! <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::cloudformation::secret_arn;
use crate::permissions::Permissions;

/// A running secret store.
pub struct Secrets {
    shelf: Arc<Mutex<Shelf>>,
    url: String,
    task: AbortHandle,
}

struct Shelf {
    permissions: Permissions,
    /// Values by name or ARN: the current one, then the previous one.
    values: BTreeMap<String, Vec<String>>,
    /// Answered requests.
    fetches: usize,
    broken: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue {
    secret_id: String,
    version_stage: Option<String>,
}

impl Secrets {
    /// Serves an empty store to whom the permissions allow it.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(permissions: Permissions) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shelf = Arc::new(Mutex::new(Shelf {
            permissions,
            values: BTreeMap::new(),
            fetches: 0,
            broken: false,
        }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shelf));
        let task = tokio::spawn(async move {
            // Ends with the stack; serving a bound listener does not fail.
            axum::serve(listener, router).await.unwrap_or_default();
        });
        Ok(Self {
            shelf,
            url,
            task: task.abort_handle(),
        })
    }

    /// The endpoint for the AWS SDK.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stores a secret: its current value, then its previous one; none for a
    /// secret that was made without a value.
    pub fn set(&self, id: &str, values: &[impl AsRef<str>]) {
        let values = values.iter().map(|value| value.as_ref().to_owned()).collect();
        self.lock().values.insert(id.to_owned(), values);
    }

    /// Every value that it holds, of any secret.
    #[must_use]
    pub fn values(&self) -> Vec<String> {
        self.lock().values.values().flatten().cloned().collect()
    }

    /// How often a value was asked for.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.lock().fetches
    }

    /// Answers 500 from now on, or no more.
    pub fn set_broken(&self, broken: bool) {
        self.lock().broken = broken;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State(shelf): State<Arc<Mutex<Shelf>>>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    shelf.fetches += 1;
    if shelf.broken {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalServiceError");
    }
    let Ok(request) = serde_json::from_slice::<GetSecretValue>(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "InvalidRequestException");
    };
    let asked = (
        "secretsmanager:GetSecretValue".to_owned(),
        arn(&request.secret_id),
    );
    if let Err(denied) = shelf.permissions.check(&headers, &[asked]) {
        eprintln!("{denied}");
        return refusal(StatusCode::BAD_REQUEST, "AccessDeniedException");
    }
    let stage = request.version_stage.as_deref().unwrap_or("AWSCURRENT");
    let position = match stage {
        "AWSCURRENT" => 0,
        "AWSPREVIOUS" => 1,
        _ => return refusal(StatusCode::BAD_REQUEST, "InvalidParameterException"),
    };
    match shelf
        .values
        .get(&request.secret_id)
        .and_then(|values| values.get(position))
    {
        Some(value) => json_answer(
            StatusCode::OK,
            &json!({
                "ARN": request.secret_id,
                "Name": request.secret_id.rsplit(':').next(),
                "SecretString": value,
                "VersionStages": [stage],
            }),
        ),
        None => refusal(StatusCode::BAD_REQUEST, "ResourceNotFoundException"),
    }
}

/// The ARN of a secret that is asked for by its name or by its ARN; six characters
/// stand behind the name.
fn arn(id: &str) -> String {
    if id.starts_with("arn:") {
        id.to_owned()
    } else {
        format!("{}-000000", secret_arn(id))
    }
}

fn refusal(status: StatusCode, kind: &str) -> Response {
    json_answer(status, &json!({ "__type": kind, "Message": "refused" }))
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    let headers = [("content-type", "application/x-amz-json-1.1")];
    (status, headers, body.to_string()).into_response()
}
