//! The embedded DynamoDB, and the front door through which functions reach it.
//!
//! The front forwards every request to the emulator unchanged in meaning. It is
//! where a test watches what a function asks for, what that costs, and where it
//! makes the store slow, throttled or broken.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Response, StatusCode};
use dynoxide::Database;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::permissions::{Permissions, asked_of_the_store};

/// Where the data lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In this process only.
    Memory,
    /// In a file, made if need be.
    File(PathBuf),
}

/// What goes wrong with a request to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused for its rate; nothing happened.
    Throttled,
    /// Answered 500; nothing happened.
    InternalError,
    /// The connection is cut before the request took effect.
    CutBefore,
    /// The request takes effect, and the connection is cut before the answer.
    CutAfter,
    /// Forwarded after a pause.
    Delayed(Duration),
    /// A batch of reads is answered for its first key, and the others are left over, as where a
    /// table has more to do than it may. Where there is one key only, that is left over; and what
    /// is no batch is answered as always.
    LeftOver,
}

/// One request of a function to the store.
#[derive(Debug, Clone)]
pub struct StoreRequest {
    /// `PutItem`, `Query`, …
    pub operation: String,
    /// The request as sent.
    pub body: Value,
    /// When it reached the store.
    pub started: Instant,
    /// When the answer left; `started` until then.
    pub finished: Instant,
    /// HTTP status of the answer, 0 where the connection was cut.
    pub status: u16,
    /// Read units, tables and indexes.
    pub read_units: f64,
    /// Write units, tables and indexes; of a failed condition those of the item
    /// that stood in the way, as AWS charges and the emulator does not.
    pub write_units: f64,
}

impl StoreRequest {
    /// The table, for operations on one, and the first of a batch.
    #[must_use]
    pub fn table(&self) -> &str {
        let of_batch = || self.body["RequestItems"].as_object()?.keys().next();
        let table = self.body["TableName"].as_str();
        table
            .or_else(|| of_batch().map(String::as_str))
            .unwrap_or_default()
    }

    /// A string attribute of the item or key that the request names.
    #[must_use]
    pub fn key(&self, attribute: &str) -> &str {
        ["Key", "Item"]
            .iter()
            .find_map(|part| self.body[*part][attribute]["S"].as_str())
            .unwrap_or_default()
    }
}

type FaultRule = Box<dyn Fn(&StoreRequest) -> Option<Fault> + Send + Sync>;

/// A running store.
pub struct DynamoDb {
    front: Arc<Front>,
    url: String,
    tasks: Vec<AbortHandle>,
}

struct Front {
    permissions: Permissions,
    emulator: String,
    client: reqwest::Client,
    recorded: Mutex<Option<Vec<StoreRequest>>>,
    fault: Mutex<Option<FaultRule>>,
}

impl DynamoDb {
    /// Opens the database, makes the tables of the template and serves them to
    /// whom the permissions allow it.
    ///
    /// # Errors
    /// When the file can't be opened, or holds tables of another shape.
    pub async fn start(
        storage: &Storage,
        tables: &BTreeMap<String, Value>,
        permissions: Permissions,
    ) -> Result<Self> {
        let database = match storage {
            Storage::Memory => Database::memory()?,
            Storage::File(path) => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)
                        .with_context(|| format!("making {}", folder.display()))?;
                }
                let path = path.to_str().context("the database's path is not UTF-8")?;
                Database::new(path).with_context(|| format!("opening {path}"))?
            }
        };
        for (name, properties) in tables {
            ensure_table(&database, name, properties).with_context(|| format!("table {name}"))?;
        }

        let emulator = TcpListener::bind("127.0.0.1:0").await?;
        let front_listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", front_listener.local_addr()?);
        let front = Arc::new(Front {
            permissions,
            emulator: format!("http://{}", emulator.local_addr()?),
            client: reqwest::Client::builder().no_proxy().build()?,
            recorded: Mutex::new(None),
            fault: Mutex::new(None),
        });
        let router = Router::new()
            .fallback(forward)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&front));
        let sweeper = database.clone();
        let tasks = vec![
            tokio::spawn(dynoxide::server::serve_on(emulator, database)).abort_handle(),
            tokio::spawn(async move {
                // Ends with the stack; serving a bound listener does not fail.
                axum::serve(front_listener, router).await.unwrap_or_default();
            })
            .abort_handle(),
            tokio::spawn(sweep_expired(sweeper)).abort_handle(),
        ];
        Ok(Self { front, url, tasks })
    }

    /// The endpoint for the AWS SDK.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts recording, from nothing.
    pub fn record(&self) {
        *lock(&self.front.recorded) = Some(Vec::new());
    }

    /// What was asked since [`record`](Self::record), in order of arrival.
    #[must_use]
    pub fn recorded(&self) -> Vec<StoreRequest> {
        let mut recorded = lock(&self.front.recorded).clone().unwrap_or_default();
        recorded.sort_by_key(|request| request.started);
        recorded
    }

    /// Asks `rule` about every request from now on.
    pub fn inject(&self, rule: impl Fn(&StoreRequest) -> Option<Fault> + Send + Sync + 'static) {
        *lock(&self.front.fault) = Some(Box::new(rule));
    }

    /// Makes the store sound again.
    pub fn heal(&self) {
        *lock(&self.front.fault) = None;
    }
}

impl Drop for DynamoDb {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Time-to-live: DynamoDB deletes by itself, the emulator on request.
async fn sweep_expired(database: Database) {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    loop {
        minute.tick().await;
        let database = database.clone();
        match tokio::task::spawn_blocking(move || database.sweep_ttl()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => eprintln!("deleting expired items: {error}"),
            Err(error) => eprintln!("deleting expired items: {error}"),
        }
    }
}

// ------------------------------------------------------------------ tables

/// What shapes a table, and what AWS does around it without a local effect.
const SHAPE: [&str; 4] = [
    "AttributeDefinitions",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "KeySchema",
];
const AROUND: [&str; 3] = [
    "PointInTimeRecoverySpecification",
    "SSESpecification",
    "TimeToLiveSpecification",
];

fn ensure_table(database: &Database, name: &str, properties: &Value) -> Result<()> {
    let properties = properties.as_object().context("no properties")?;
    for property in properties.keys() {
        ensure!(
            SHAPE.contains(&property.as_str()) || AROUND.contains(&property.as_str()),
            "property {property} is not understood here"
        );
    }
    let shape: Map<String, Value> = properties
        .iter()
        .filter(|(property, _)| SHAPE.contains(&property.as_str()))
        .map(|(property, value)| (property.clone(), value.clone()))
        .collect();

    if database.get_table_metadata(name)?.is_some() {
        let described = database.describe_table(serde_json::from_value(json!({ "TableName": name }))?)?;
        let described = serde_json::to_value(described)?;
        ensure!(
            same_shape(&shape, &described["Table"]),
            "the database holds it in another shape than the template: move the database file away, or use --memory"
        );
        return Ok(());
    }
    let mut request = shape;
    request.insert("TableName".to_owned(), json!(name));
    database.create_table(serde_json::from_value(Value::Object(request))?)?;
    if let Some(ttl) = properties.get("TimeToLiveSpecification") {
        let request = json!({ "TableName": name, "TimeToLiveSpecification": ttl });
        database.update_time_to_live(serde_json::from_value(request)?)?;
    }
    Ok(())
}

fn same_shape(wanted: &Map<String, Value>, described: &Value) -> bool {
    let indexes = |list: &Value| {
        let mut indexes: Vec<String> = list
            .as_array()
            .into_iter()
            .flatten()
            .map(|index| {
                let mut columns = index["Projection"]["NonKeyAttributes"].clone();
                if let Some(columns) = columns.as_array_mut() {
                    columns.sort_by_key(ToString::to_string);
                }
                format!("{} {} {columns}", index["IndexName"], index["KeySchema"])
            })
            .collect();
        indexes.sort();
        indexes
    };
    wanted.get("KeySchema") == Some(&described["KeySchema"])
        && indexes(wanted.get("GlobalSecondaryIndexes").unwrap_or(&Value::Null))
            == indexes(&described["GlobalSecondaryIndexes"])
}

// ------------------------------------------------------------------- front

async fn forward(State(front): State<Arc<Front>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let operation = headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.rsplit('.').next())
        .unwrap_or_default()
        .to_owned();
    let now = Instant::now();
    let mut request = StoreRequest {
        operation,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        started: now,
        finished: now,
        status: 0,
        read_units: 0.0,
        write_units: 0.0,
    };
    let asked = asked_of_the_store(&request.operation, &request.body);
    if let Err(refusal) = front.permissions.check(&headers, &asked) {
        eprintln!("{refusal}");
        return error_answer(
            StatusCode::BAD_REQUEST,
            "com.amazon.coral.service#AccessDeniedException",
            &refusal,
        );
    }
    let fault = lock(&front.fault).as_ref().and_then(|rule| rule(&request));
    let answer = match fault {
        Some(Fault::LeftOver) if request.operation == "BatchGetItem" => {
            Some(front.answer_first_of_batch(&mut request, &headers).await)
        }
        Some(Fault::Throttled) => Some(error_answer(
            StatusCode::BAD_REQUEST,
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
            "injected",
        )),
        Some(Fault::InternalError) => Some(error_answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            "com.amazonaws.dynamodb.v20120810#InternalServerError",
            "injected",
        )),
        Some(Fault::CutBefore) => None,
        Some(Fault::CutAfter) => {
            front.ask_emulator(&mut request, &headers).await;
            None
        }
        Some(Fault::Delayed(pause)) => {
            tokio::time::sleep(pause).await;
            Some(front.ask_emulator(&mut request, &headers).await)
        }
        Some(Fault::LeftOver) | None => Some(front.ask_emulator(&mut request, &headers).await),
    };
    request.finished = Instant::now();
    request.status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
    if let Some(recorded) = lock(&front.recorded).as_mut() {
        recorded.push(request);
    }
    answer.unwrap_or_else(cut_connection)
}

impl Front {
    async fn ask_emulator(&self, request: &mut StoreRequest, headers: &HeaderMap) -> Response<Body> {
        let mut body = request.body.clone();
        if let Some(fields) = body.as_object_mut() {
            // What the request costs, and what stood in the way of a failed condition.
            fields.insert("ReturnConsumedCapacity".to_owned(), json!("INDEXES"));
            if fields.contains_key("ConditionExpression") {
                fields.insert("ReturnValuesOnConditionCheckFailure".to_owned(), json!("ALL_OLD"));
            }
        }
        let mut outgoing = self.client.post(&self.emulator).body(body.to_string());
        for name in ["x-amz-target", "content-type", "authorization", "x-amz-date"] {
            if let Some(value) = headers.get(name) {
                outgoing = outgoing.header(name, value);
            }
        }
        let answer = async {
            let answer = outgoing.send().await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
        };
        let (status, headers, bytes) = match answer.await {
            Ok(answer) => answer,
            Err(error) => {
                eprintln!("the embedded DynamoDB did not answer: {error}");
                return error_answer(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "com.amazonaws.dynamodb.v20120810#InternalServerError",
                    "no answer",
                );
            }
        };
        if let Ok(answer) = serde_json::from_slice(&bytes) {
            count_units(request, status, &answer);
        }
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = status;
        for name in ["content-type", "x-amz-crc32", "x-amzn-requestid"] {
            if let Some(value) = headers.get(name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }

    /// Answers the first key of a batch of reads that has several, and leaves the others over.
    async fn answer_first_of_batch(&self, request: &mut StoreRequest, headers: &HeaderMap) -> Response<Body> {
        let asked = request.body.clone();
        let mut left = asked["RequestItems"].clone();
        let mut answer = json!({ "Responses": {} });
        if let Some(keys) = keys_of_batch(&mut left)
            && keys.len() > 1
        {
            let first = keys.remove(0);
            if let Some(keys) = keys_of_batch(&mut request.body["RequestItems"]) {
                *keys = vec![first];
            }
            let answered = self.ask_emulator(request, headers).await;
            request.body = asked;
            match axum::body::to_bytes(answered.into_body(), usize::MAX).await {
                Ok(body) => answer = serde_json::from_slice(&body).unwrap_or_default(),
                Err(error) => eprintln!("the embedded DynamoDB broke its answer off: {error}"),
            }
        }
        answer["UnprocessedKeys"] = left;
        // Without the checksum of what the emulator answered.
        Response::new(Body::from(answer.to_string()))
    }
}

/// The keys of a batch of reads, which those of functions ask of one table.
fn keys_of_batch(tables: &mut Value) -> Option<&mut Vec<Value>> {
    let table = tables.as_object_mut()?.values_mut().next()?;
    table["Keys"].as_array_mut()
}

fn error_answer(status: StatusCode, kind: &str, message: &str) -> Response<Body> {
    let body = json!({ "__type": kind, "message": message });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
}

/// An answer that breaks off, so that the client sees its connection fail.
fn cut_connection() -> Response<Body> {
    let broken = std::io::Error::other("connection cut on purpose");
    Response::new(Body::from_stream(futures_util::stream::once(async {
        Err::<Bytes, _>(broken)
    })))
}

fn count_units(request: &mut StoreRequest, status: StatusCode, answer: &Value) {
    let total: f64 = match &answer["ConsumedCapacity"] {
        Value::Array(tables) => tables
            .iter()
            .filter_map(|table| table["CapacityUnits"].as_f64())
            .sum(),
        table => table["CapacityUnits"].as_f64().unwrap_or_default(),
    };
    match request.operation.as_str() {
        "GetItem" | "BatchGetItem" | "Query" | "Scan" | "TransactGetItems" => request.read_units = total,
        _ if status.is_success() => request.write_units = total,
        _ if is_failed_condition(answer) => {
            request.write_units = item_bytes(&answer["Item"]).div_ceil(1024).max(1) as f64;
        }
        _ => {}
    }
}

fn is_failed_condition(answer: &Value) -> bool {
    answer["__type"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("ConditionalCheckFailedException"))
}

/// The size of an item by DynamoDB's rules: names and values, three bytes and
/// one for each element around lists and maps.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
#[must_use]
pub fn item_bytes(item: &Value) -> usize {
    item.as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| name.len() + value_bytes(value))
        .sum()
}

fn value_bytes(value: &Value) -> usize {
    let Some((kind, value)) = value.as_object().and_then(|typed| typed.iter().next()) else {
        return 0;
    };
    match (kind.as_str(), value) {
        ("S", Value::String(text)) => text.len(),
        ("N", Value::String(number)) => number.len().div_ceil(2) + 1,
        ("B", Value::String(base64)) => base64.trim_end_matches('=').len() * 3 / 4,
        ("SS", Value::Array(texts)) => texts.iter().filter_map(Value::as_str).map(str::len).sum(),
        ("L", Value::Array(items)) => 3 + items.iter().map(|item| 1 + value_bytes(item)).sum::<usize>(),
        ("M", map @ Value::Object(entries)) => 3 + entries.len() + item_bytes(map),
        _ => 1,
    }
}
