//! The whole system on this machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::authorizer::Authorizer;
use crate::binaries;
use crate::clock::Clock;
use crate::cloudformation::{ACCOUNT, REGION};
use crate::dynamodb::{DynamoDb, Storage};
use crate::gateway::Gateway;
use crate::issuer::{CONSOLE, ISSUER_PATH, Issuer, SCRIPT};
use crate::lambda::Function;
use crate::logs::Logs;
use crate::permissions::Permissions;
use crate::secrets::Secrets;
use crate::sender::WEBHOOK_PATH;
use crate::template::{self, Template};

/// The signing secret that the local stack and `send` use unless told otherwise.
pub const DEFAULT_WEBHOOK_SECRET: &str = "wsec_local";
/// The secret of the template that holds the webhook's signing secret.
const WEBHOOK_SECRET: &str = "WebhookSecret";
/// The secret of the template that holds the key of the provider's API.
const API_KEY: &str = "ElevenLabsApiKey";
/// The secret of the template that holds the console's client id and secret.
const CONSOLE_CLIENT_SECRET: &str = "ConsoleClientSecret";

/// How a stack is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is to run.
    pub template: PathBuf,
    /// Where data lives.
    pub storage: Storage,
    /// Port of the gateway on 127.0.0.1; 0 for any free one.
    pub port: u16,
    /// Values for the template's parameters.
    pub parameters: BTreeMap<String, String>,
    /// Current signing secret, then the previous one; none: not configured.
    pub webhook_secrets: Vec<String>,
    /// Key of the provider's API; none: sync is not configured.
    pub api_key: Option<String>,
    /// Whether the clock invokes functions by itself, or only when it is told to.
    pub keeps_schedules: bool,
    /// Where the functions' log lines go.
    pub logs: Logs,
    /// Statements that are taken out of policies, by function and name.
    pub without_statements: Vec<(String, String)>,
}

impl Default for Options {
    /// As tests want it: in memory, on any free port, logs collected.
    fn default() -> Self {
        Self {
            template: workspace().join("template.yaml"),
            storage: Storage::Memory,
            port: 0,
            parameters: BTreeMap::new(),
            webhook_secrets: vec![DEFAULT_WEBHOOK_SECRET.to_owned()],
            api_key: None,
            keeps_schedules: false,
            logs: Logs::default(),
            without_statements: Vec::new(),
        }
    }
}

impl Options {
    /// With a value for one of the template's parameters.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A running system, stopped when dropped.
pub struct Stack {
    url: String,
    clock: Clock,
    permissions: Permissions,
    dynamodb: DynamoDb,
    secrets: Secrets,
    /// What functions ask for each secret by, by logical id.
    secret_ids: BTreeMap<String, template::Secret>,
    issuer: Arc<Issuer>,
    functions: BTreeMap<String, Arc<Function>>,
    logs: Logs,
    /// The gateway, and the schedules that are kept.
    tasks: Vec<AbortHandle>,
}

impl Stack {
    /// A system with [`Options::default`].
    ///
    /// # Errors
    /// As [`start_with`](Self::start_with).
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Builds the functions, once for each process, and starts everything.
    ///
    /// # Errors
    /// When the template is not understood, the functions do not compile, the
    /// database can't be opened or the port is taken.
    pub async fn start_with(options: Options) -> Result<Self> {
        let clock = Clock::default();
        let listener = TcpListener::bind(("127.0.0.1", options.port))
            .await
            .with_context(|| format!("listening on 127.0.0.1:{}", options.port))?;
        let url = format!("http://{}", listener.local_addr()?);
        let issuer = Arc::new(Issuer::new(&url, clock.clone())?);

        // The template's own way to another identity provider than a user pool.
        let mut parameters = BTreeMap::from([
            ("OidcIssuer".to_owned(), issuer.url()),
            ("OidcAudience".to_owned(), SCRIPT.id.to_owned()),
        ]);
        parameters.extend(options.parameters);
        let template = Template::read(&options.template, &parameters)?;
        let binaries = built_binaries().await?;
        let permissions = permissions(&template, &options.without_statements);
        let dynamodb = DynamoDb::start(&options.storage, &template.tables, permissions.clone()).await?;
        let secrets = Secrets::start(permissions.clone()).await?;
        for (id, secret) in &template.secrets {
            let values = match (id.as_str(), secret.generated_length) {
                (WEBHOOK_SECRET, _) => options.webhook_secrets.clone(),
                (API_KEY, _) => options.api_key.iter().cloned().collect(),
                (CONSOLE_CLIENT_SECRET, _) => {
                    vec![json!({ "client_id": CONSOLE.id, "client_secret": CONSOLE.secret }).to_string()]
                }
                (_, Some(length)) => vec![generated(length)],
                (_, None) => Vec::new(),
            };
            secrets.set(&secret.id, &values);
        }

        let mut functions = BTreeMap::new();
        let mut schedules = Vec::new();
        for (id, definition) in template.functions {
            let binary = binaries
                .get(&definition.binary)
                .with_context(|| format!("function {id}: no binary {}", definition.binary))?;
            let endpoints = [
                ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.url()),
                ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets.url()),
                ("AWS_ACCESS_KEY_ID", definition.logical_id.as_str()),
                ("AWS_SECRET_ACCESS_KEY", "local"),
            ];
            let endpoints = endpoints
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec();
            let rates = definition.schedules.clone();
            let function = Function::new(definition, binary.clone(), endpoints, options.logs.clone());
            let function = Arc::new(function);
            schedules.extend(rates.into_iter().map(|rate| (rate, Arc::clone(&function))));
            functions.insert(id, function);
        }

        let authorizer = template.authorizer.map(Authorizer::new).transpose()?;
        let router = Gateway::new(template.routes, functions.clone(), authorizer, clock.clone())
            .router()
            .nest(ISSUER_PATH, Arc::clone(&issuer).router())
            .layer(middleware::from_fn(keep_strangers_out))
            .into_make_service_with_connect_info::<SocketAddr>();
        let gateway = tokio::spawn(async move {
            // Ends with the stack; serving a bound listener does not fail.
            axum::serve(listener, router).await.unwrap_or_default();
        });
        let mut tasks = vec![gateway.abort_handle()];
        if options.keeps_schedules {
            for (rate, function) in schedules {
                tasks.push(tokio::spawn(keep_schedule(rate, function, clock.clone())).abort_handle());
            }
        }
        Ok(Self {
            url,
            clock,
            permissions,
            dynamodb,
            secrets,
            secret_ids: template.secrets,
            issuer,
            functions,
            logs: options.logs,
            tasks,
        })
    }

    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The clock that stamps requests.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What the functions may do, and what they did.
    #[must_use]
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// The store, to watch and to break.
    #[must_use]
    pub fn dynamodb(&self) -> &DynamoDb {
        &self.dynamodb
    }

    /// The secret store, to watch and to break.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Changes a secret by its logical id: current value, then previous; none:
    /// not configured.
    ///
    /// # Errors
    /// When the template has no such secret.
    pub fn set_secret(&self, logical_id: &str, values: &[&str]) -> Result<()> {
        let secret = self
            .secret_ids
            .get(logical_id)
            .with_context(|| format!("the template has no secret {logical_id}"))?;
        self.secrets.set(&secret.id, values);
        Ok(())
    }

    /// The issuer of the tokens that the API accepts.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// A function by its logical id.
    #[must_use]
    pub fn function(&self, id: &str) -> Option<&Arc<Function>> {
        self.functions.get(id)
    }

    /// Has the clock invoke a function now, as a schedule of its own would.
    ///
    /// # Errors
    /// When there is no such function, or the invocation fails.
    pub async fn strike(&self, id: &str) -> Result<()> {
        let function = self
            .functions
            .get(id)
            .with_context(|| format!("no function {id}"))?;
        function.invoke(scheduled_event(&self.clock)).await?;
        Ok(())
    }

    /// Kills every instance and waits until all that they wrote is in the logs.
    pub async fn read_out_logs(&self) {
        for function in self.functions.values() {
            function.kill_instances();
        }
        self.logs.read_out().await;
    }

    /// The functions' collected log lines.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.logs
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Invokes a function by the clock.
async fn keep_schedule(rate: Duration, function: Arc<Function>, clock: Clock) {
    loop {
        tokio::time::sleep(rate).await;
        if let Err(error) = function.invoke(scheduled_event(&clock)).await {
            eprintln!("{} by the clock: {error}", function.binary_name());
        }
    }
}

/// What a function gets from the clock.
///
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html>
fn scheduled_event(clock: &Clock) -> Bytes {
    let event = json!({
        "version": "0",
        "id": Uuid::new_v4().to_string(),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "region": REGION,
        "resources": [format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/local")],
        "detail": {},
    });
    Bytes::from(event.to_string())
}

/// Lets what comes by another name than this machine's, as through a tunnel, reach the
/// webhook only: everybody can sign in here with one click.
async fn keep_strangers_out(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_own = ["127.0.0.1", "localhost", "[::1]"].contains(&name);
    if is_own || request.uri().path() == WEBHOOK_PATH {
        return next.run(request).await;
    }
    let message = "from elsewhere only the webhook can be reached\n";
    (StatusCode::FORBIDDEN, message).into_response()
}

/// The policies of the template, less what is taken out of them.
fn permissions(template: &Template, without: &[(String, String)]) -> Permissions {
    let functions = template.functions.iter();
    let statements = functions.map(|(function, definition)| {
        let mut statements = definition.statements.clone();
        statements.retain(|statement| {
            let is_out = |(of, id): &(String, String)| of == function && *id == statement.id;
            !without.iter().any(is_out)
        });
        (function.clone(), statements)
    });
    Permissions::new(statements.collect())
}

/// One attempt for each process: what does not compile now will not in a moment.
async fn built_binaries() -> Result<&'static BTreeMap<String, PathBuf>> {
    static BINARIES: OnceCell<Result<BTreeMap<String, PathBuf>, String>> = OnceCell::const_new();
    BINARIES
        .get_or_init(async || {
            binaries::build(workspace())
                .await
                .map_err(|error| format!("{error:#}"))
        })
        .await
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

/// A secret of letters and digits.
fn generated(length: usize) -> String {
    let random = std::iter::repeat_with(|| Uuid::new_v4().simple().to_string());
    random
        .flat_map(String::into_bytes)
        .map(char::from)
        .take(length)
        .collect()
}

/// The root of the repository.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
