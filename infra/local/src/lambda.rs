//! Runs functions as Lambda does: real bootstrap binaries, each instance behind
//! a Runtime API of its own and with one invocation at a time.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::cloudformation::{ACCOUNT, REGION};
use crate::logs::Logs;
use crate::template;

/// Lambda's limit on the request and on the response of an invocation.
pub const PAYLOAD_LIMIT_BYTES: usize = 6_291_456;

/// Instances of one function that run at the same time; further invocations wait.
const MAX_INSTANCES: usize = 8;

/// Why an invocation gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvokeError {
    /// The event is over [`PAYLOAD_LIMIT_BYTES`].
    TooLarge,
    /// The function answered with an error; its text.
    Function(String),
    /// The instance ended, or could not be started.
    Died(String),
    /// The function's timeout passed.
    TimedOut,
}

impl std::fmt::Display for InvokeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the event is over {PAYLOAD_LIMIT_BYTES} bytes"),
            Self::Function(error) => write!(f, "the function answered with an error: {error}"),
            Self::Died(how) => write!(f, "the instance ended: {how}"),
            Self::TimedOut => f.write_str("the function's timeout passed"),
        }
    }
}

impl std::error::Error for InvokeError {}

/// One function with its instances.
pub struct Function {
    definition: template::Function,
    binary: PathBuf,
    endpoints: Vec<(String, String)>,
    logs: Logs,
    free: Semaphore,
    idle: Mutex<Vec<Instance>>,
    killed: watch::Sender<u64>,
}

impl Function {
    /// A function of the template; its first instance starts with its first invocation.
    ///
    /// `endpoints` are environment variables that point the AWS SDK at this machine.
    #[must_use]
    pub fn new(
        definition: template::Function,
        binary: PathBuf,
        endpoints: Vec<(String, String)>,
        logs: Logs,
    ) -> Self {
        Self {
            definition,
            binary,
            endpoints,
            logs,
            free: Semaphore::new(MAX_INSTANCES),
            idle: Mutex::new(Vec::new()),
            killed: watch::Sender::new(0),
        }
    }

    /// The name of its binary.
    #[must_use]
    pub fn binary_name(&self) -> &str {
        &self.definition.binary
    }

    /// Its environment, but for where its Runtime API is.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let of_lambda = [
            ("AWS_LAMBDA_FUNCTION_NAME", self.definition.logical_id.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            (
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                self.definition.memory_mib.to_string(),
            ),
            ("AWS_LAMBDA_LOG_FORMAT", self.definition.log_format.clone()),
            ("AWS_LAMBDA_LOG_LEVEL", self.definition.log_level.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("TZ", ":UTC".to_owned()),
        ];
        let mut environment = self.definition.environment.clone();
        environment.extend(self.endpoints.iter().cloned());
        environment.extend(of_lambda.map(|(name, value)| (name.to_owned(), value)));
        environment
    }

    /// Invokes the function and waits for its answer.
    ///
    /// Once begun it runs to its end, also when nobody waits for it any more.
    ///
    /// # Errors
    /// [`InvokeError`]; whatever the cause, the next invocation finds a working instance.
    pub async fn invoke(self: &Arc<Self>, event: Bytes) -> Result<Bytes, InvokeError> {
        if event.len() > PAYLOAD_LIMIT_BYTES {
            return Err(InvokeError::TooLarge);
        }
        let function = Arc::clone(self);
        tokio::spawn(async move { function.run(event).await })
            .await
            .map_err(|error| InvokeError::Died(error.to_string()))?
    }

    async fn run(&self, event: Bytes) -> Result<Bytes, InvokeError> {
        let mut killed = self.killed.subscribe();
        let _permit = self
            .free
            .acquire()
            .await
            .map_err(|error| InvokeError::Died(error.to_string()))?;
        let mut instance = match self.idle_instance() {
            Some(instance) => instance,
            None => self
                .start()
                .await
                .map_err(|error| InvokeError::Died(format!("{error:#}")))?,
        };
        let answer = tokio::select! {
            answer = instance.invoke(event) => answer,
            _ = killed.changed() => Err(InvokeError::Died("killed on purpose".to_owned())),
        };
        if matches!(answer, Ok(_) | Err(InvokeError::Function(_))) {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(instance);
        }
        answer
    }

    fn idle_instance(&self) -> Option<Instance> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut instance) = idle.pop() {
            if instance.is_alive() {
                return Some(instance);
            }
        }
        None
    }

    /// Starts an instance that serves nobody but whoever called this.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start(&self) -> Result<Instance> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let api = listener.local_addr()?;
        let (invocations, waiting) = mpsc::channel(1);
        let (polled, first_poll) = watch::channel(None);
        let runtime = Arc::new(Runtime {
            function: self.definition.logical_id.clone(),
            waiting: AsyncMutex::new(waiting),
            polled,
            current: Mutex::new(None),
            logs: self.logs.clone(),
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::disable())
            .with_state(runtime);
        let server = tokio::spawn(async move {
            // Ends with the instance; serving a bound listener does not fail.
            axum::serve(listener, router).await.unwrap_or_default();
        });

        let started = Instant::now();
        let mut child = Command::new(&self.binary)
            .env_clear()
            .envs(self.environment())
            .env("AWS_LAMBDA_RUNTIME_API", api.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        collect(child.stdout.take(), &self.definition.binary, &self.logs);
        collect(child.stderr.take(), &self.definition.binary, &self.logs);
        Ok(Instance {
            child,
            server,
            invocations,
            timeout: Duration::from_secs(self.definition.timeout_seconds),
            started,
            first_poll,
        })
    }

    /// How many instances work on an invocation right now.
    #[must_use]
    pub fn busy_instances(&self) -> usize {
        MAX_INSTANCES - self.free.available_permits()
    }

    /// Kills every instance there is, as when a host fails.
    pub fn kill_instances(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.killed.send_modify(|times| *times += 1);
    }
}

fn collect(stream: Option<impl AsyncRead + Unpin + Send + 'static>, function: &str, logs: &Logs) {
    let Some(stream) = stream else { return };
    let (function, logs) = (function.to_owned(), logs.clone());
    let reading = logs.reading();
    tokio::spawn(async move {
        let _reading = reading;
        let mut lines = BufReader::new(stream).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            logs.add(&function, &String::from_utf8_lossy(&line));
        }
    });
}

/// One running process of a function; it ends when this is dropped.
pub struct Instance {
    child: Child,
    server: JoinHandle<()>,
    invocations: mpsc::Sender<Invocation>,
    timeout: Duration,
    started: Instant,
    first_poll: watch::Receiver<Option<Instant>>,
}

impl Instance {
    /// How long it took from its start to its first question for an invocation; waits for that.
    ///
    /// # Errors
    /// When it ends before.
    pub async fn start_up(&mut self) -> Result<Duration> {
        tokio::select! {
            polled = self.first_poll.wait_for(Option::is_some) => {
                let polled = polled?.context("it did not ask")?;
                Ok(polled - self.started)
            }
            status = self.child.wait() => bail!("the instance ended: {}", status?),
        }
    }

    /// The most memory that it has had so far, in bytes, as Linux tells it.
    ///
    /// # Errors
    /// When it has ended, or the system is another.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        let id = self.child.id().context("the instance has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).context("reading its memory")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        Ok(1024 * kib.context("its memory is not told")?.parse::<u64>()?)
    }

    /// How long its main thread has been on a processor so far, as Linux tells it: functions
    /// run on that one.
    ///
    /// # Errors
    /// When it has ended, or the system is another.
    pub fn processor_time(&self) -> Result<Duration> {
        let id = self.child.id().context("the instance has ended")?;
        let told = std::fs::read_to_string(format!("/proc/{id}/schedstat")).context("reading its time")?;
        let nanoseconds = told.split_whitespace().next();
        Ok(Duration::from_nanos(
            nanoseconds.context("its time is not told")?.parse()?,
        ))
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Has it work on an event and waits for its answer.
    ///
    /// # Errors
    /// When it answers with an error, ends, or takes longer than its function may; then it is of
    /// no use any more.
    pub async fn invoke(&mut self, event: Bytes) -> Result<Bytes, InvokeError> {
        let (reply, answer) = oneshot::channel();
        let invocation = Invocation {
            id: Uuid::now_v7().to_string(),
            deadline: SystemTime::now() + self.timeout,
            event,
            reply,
        };
        if self.invocations.send(invocation).await.is_err() {
            return Err(InvokeError::Died("its Runtime API is closed".to_owned()));
        }
        tokio::select! {
            biased;
            Ok(answer) = answer => answer,
            () = tokio::time::sleep(self.timeout) => Err(InvokeError::TimedOut),
            status = self.child.wait() => Err(InvokeError::Died(match status {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            })),
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Invocation {
    id: String,
    deadline: SystemTime,
    event: Bytes,
    reply: oneshot::Sender<Result<Bytes, InvokeError>>,
}

struct Current {
    id: String,
    reply: oneshot::Sender<Result<Bytes, InvokeError>>,
}

// ------------------------------------------------------------ Runtime API

struct Runtime {
    function: String,
    waiting: AsyncMutex<mpsc::Receiver<Invocation>>,
    /// When it was first asked for an invocation.
    polled: watch::Sender<Option<Instant>>,
    current: Mutex<Option<Current>>,
    logs: Logs,
}

impl Runtime {
    fn finish(&self, id: &str, answer: Result<Bytes, InvokeError>) -> StatusCode {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        match current {
            Some(current) if current.id == id => {
                // The receiver is gone when the invocation timed out; nobody waits then.
                current.reply.send(answer).unwrap_or_default();
                StatusCode::ACCEPTED
            }
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

async fn next(State(runtime): State<Arc<Runtime>>) -> Response<Body> {
    runtime.polled.send_if_modified(|polled| {
        let is_first = polled.is_none();
        polled.get_or_insert_with(Instant::now);
        is_first
    });
    let Some(invocation) = runtime.waiting.lock().await.recv().await else {
        return status_only(StatusCode::GONE);
    };
    let deadline_ms = invocation
        .deadline
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let response = Response::builder()
        .header("lambda-runtime-aws-request-id", &invocation.id)
        .header("lambda-runtime-deadline-ms", deadline_ms.to_string())
        .header(
            "lambda-runtime-invoked-function-arn",
            format!(
                "arn:aws:lambda:{REGION}:{}:function:{}",
                ACCOUNT, runtime.function
            ),
        )
        .header(
            "lambda-runtime-trace-id",
            "Root=1-00000000-000000000000000000000000;Sampled=0",
        )
        .body(Body::from(invocation.event));
    *runtime.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Current {
        id: invocation.id,
        reply: invocation.reply,
    });
    response.unwrap_or_else(|_| status_only(StatusCode::INTERNAL_SERVER_ERROR))
}

async fn response(State(runtime): State<Arc<Runtime>>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    if body.len() > PAYLOAD_LIMIT_BYTES {
        let error = format!("its response is over {PAYLOAD_LIMIT_BYTES} bytes");
        runtime.finish(&id, Err(InvokeError::Function(error)));
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    runtime.finish(&id, Ok(body))
}

async fn error(State(runtime): State<Arc<Runtime>>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    let text = String::from_utf8_lossy(&body).into_owned();
    runtime.finish(&id, Err(InvokeError::Function(text)))
}

async fn init_error(State(runtime): State<Arc<Runtime>>, body: Bytes) -> StatusCode {
    runtime.logs.add(
        &runtime.function,
        &format!("init error: {}", String::from_utf8_lossy(&body)),
    );
    StatusCode::ACCEPTED
}

fn status_only(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
