//! `cargo local`: the whole system on this machine.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use jiff::{SignedDuration, Timestamp};
use local::backup::Tables;
use local::doctor::{Patient, Provider, Verdict};
use local::dynamodb::Storage;
use local::load::Load;
use local::logs::Logs;
use local::{DEFAULT_WEBHOOK_SECRET, Options, Stack, bench, demo, doctor, issuer, sender, workspace};
use tokio::signal::unix::{SignalKind, signal};

const DEFAULT_URL: &str = "http://127.0.0.1:3000";

/// Runs Ringmark on this machine: the functions of template.yaml behind a
/// local gateway, with an embedded DynamoDB.
#[derive(Parser)]
#[command(
    name = "cargo local",
    bin_name = "cargo local",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Args)]
struct Run {
    /// Port on 127.0.0.1; 0 for any free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Keep data in memory only.
    #[arg(long, conflicts_with = "data")]
    memory: bool,
    /// Folder to keep data in [default: .local in the repository].
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The webhook's signing secret; given twice, the current and the previous one. Empty: not configured.
    #[arg(long = "webhook-secret", value_name = "SECRET", default_value = DEFAULT_WEBHOOK_SECRET)]
    webhook_secrets: Vec<String>,
    /// Key of the ElevenLabs API, for sync; without one sync does nothing.
    #[arg(long, env = "ELEVENLABS_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Accept deliveries without a signature.
    #[arg(long)]
    allow_unsigned: bool,
    /// A value for a parameter of template.yaml.
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = name_and_value)]
    parameters: Vec<(String, String)>,
}

#[derive(Subcommand)]
enum Command {
    /// Signs provider bodies and posts them to the webhook.
    Send {
        /// Files with one raw body each.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How many seconds ago the signature was made.
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        age: i64,
        /// The secret to sign with.
        #[arg(long, default_value = DEFAULT_WEBHOOK_SECRET)]
        secret: String,
        /// Where the stack is.
        #[arg(long, default_value = DEFAULT_URL, value_parser = base_url)]
        url: String,
    },
    /// Fills a running stack with two months of made-up calls.
    Demo {
        /// The secret to sign with.
        #[arg(long, default_value = DEFAULT_WEBHOOK_SECRET)]
        secret: String,
        /// Where the stack is.
        #[arg(long, default_value = DEFAULT_URL, value_parser = base_url)]
        url: String,
    },
    /// Examines a stack from outside: what works, and what is open that should not be.
    Doctor {
        /// Where the stack is.
        #[arg(long, default_value = DEFAULT_URL, value_parser = base_url)]
        url: String,
        /// The webhook's signing secret.
        #[arg(long, env = "RINGMARK_WEBHOOK_SECRET", hide_env_values = true, default_value = DEFAULT_WEBHOOK_SECRET)]
        secret: String,
        /// A bearer token of the API, to look into the delivery log.
        #[arg(long, env = "RINGMARK_TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// A key of the provider's API, to look how the webhook is set up there.
        #[arg(long, env = "ELEVENLABS_API_KEY", hide_env_values = true)]
        api_key: Option<String>,
        /// The provider's API; a workspace with data residency has an address of its own.
        #[arg(long, default_value = "https://api.elevenlabs.io", value_parser = base_url)]
        provider_url: String,
    },
    /// Writes everything that a stack stores into a file.
    Backup {
        /// A file that is not there yet, such as `ringmark.backup.gz`.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Writes everything that is in a backup into a stack that stores nothing yet.
    Restore {
        /// A file that `backup` made.
        file: PathBuf,
        /// Goes on with a restore that broke off.
        #[arg(long)]
        resume: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Prints a bearer token for the API; it lasts for an hour, or until the stack stops.
    Token {
        /// One that can change nothing.
        #[arg(long)]
        read_only: bool,
        /// Where the stack is.
        #[arg(long, default_value = DEFAULT_URL, value_parser = base_url)]
        url: String,
    },
    /// Posts so many new calls to a running stack at a time, and prints how long the answers took.
    Load {
        /// How many calls.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        calls: u32,
        /// How many at a time.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
        concurrency: u16,
        /// The length of each body in bytes, at least.
        #[arg(long, default_value_t = 8_552, value_parser = clap::value_parser!(u32).range(..=5_500_000))]
        bytes: u32,
        /// The secret to sign with.
        #[arg(long, default_value = DEFAULT_WEBHOOK_SECRET)]
        secret: String,
        /// Where the stack is.
        #[arg(long, default_value = DEFAULT_URL, value_parser = base_url)]
        url: String,
    },
    /// Measures how fast the functions start and answer; a stack of its own, in memory.
    Bench {
        /// Only what has this in its name, e.g. `webhook`.
        #[arg(default_value = "")]
        name: String,
        /// How often each function is started.
        #[arg(long, default_value = "20")]
        starts: NonZeroU32,
        /// How often an instance is invoked after its first invocation.
        #[arg(long, default_value = "200")]
        invocations: NonZeroU32,
    },
    /// Puts one raw Lambda event into one function and prints its answer.
    Invoke {
        /// The function's name, e.g. `webhook`.
        function: String,
        /// File with the event.
        event: PathBuf,
        /// Where the stack is.
        #[arg(long, default_value = DEFAULT_URL, value_parser = base_url)]
        url: String,
    },
}

/// Which stack.
#[derive(Args)]
struct Place {
    /// Name of a stack on AWS, with the credentials and the region of the environment.
    #[arg(long, conflicts_with = "data")]
    stack: Option<String>,
    /// The name of a table of the stack, where several could be meant.
    #[arg(long = "table", value_name = "TABLE=NAME", value_parser = name_and_value, requires = "stack")]
    tables: Vec<(String, String)>,
    /// Folder of a stack on this machine that is not running [default: .local in the repository].
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

/// A URL as people type it, without its scheme and with a slash at its end.
fn base_url(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    if url.is_empty() {
        Err("expected a URL such as http://127.0.0.1:3000".to_owned())
    } else if url.contains("://") {
        Ok(url.to_owned())
    } else {
        Ok(format!("http://{url}"))
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected NAME=VALUE".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => run(cli.run).await,
        Some(Command::Send {
            files,
            age,
            secret,
            url,
        }) => send(files, age, &secret, &url).await,
        Some(Command::Demo { secret, url }) => demo::fill(&url, &secret).await,
        Some(Command::Doctor {
            url,
            secret,
            token,
            api_key,
            provider_url,
        }) => {
            let provider = api_key.map(|api_key| Provider {
                url: provider_url,
                api_key,
            });
            examine(&Patient {
                url,
                secret,
                token,
                provider,
            })
            .await
        }
        Some(Command::Backup { file, place }) => back_up(&file, place).await,
        Some(Command::Restore { file, resume, place }) => restore(&file, resume, place).await,
        Some(Command::Token { read_only, url }) => token(read_only, &url).await,
        Some(Command::Load {
            calls,
            concurrency,
            bytes,
            secret,
            url,
        }) => {
            put_under_load(&Load {
                url,
                secret,
                calls: calls as usize,
                concurrency: concurrency.into(),
                bytes: bytes as usize,
            })
            .await
        }
        Some(Command::Bench {
            name,
            starts,
            invocations,
        }) => measure(&name, starts, invocations).await,
        Some(Command::Invoke { function, event, url }) => invoke(&function, event, &url).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the one line that scripts wait for")]
async fn run(run: Run) -> Result<()> {
    let storage = if run.memory {
        Storage::Memory
    } else {
        storage_in(run.data)
    };
    ensure!(
        run.webhook_secrets.len() <= 2,
        "--webhook-secret is given at most twice: the current and the previous one"
    );
    let mut parameters: BTreeMap<_, _> = run.parameters.into_iter().collect();
    if run.allow_unsigned {
        parameters.insert("AllowUnsignedDeliveries".to_owned(), "true".to_owned());
    }
    // Both signals are taken before anything starts, so that none is missed.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    eprintln!("building the functions and starting the stack ...");
    let options = Options {
        storage,
        port: run.port,
        parameters,
        webhook_secrets: run
            .webhook_secrets
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .collect(),
        api_key: run.api_key.filter(|key| !key.is_empty()),
        keeps_schedules: true,
        logs: Logs::shown(),
        ..Options::default()
    };
    let stack = tokio::select! {
        stack = Stack::start_with(options) => stack?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    println!("ready {}", stack.url());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("stopping");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answers are this command's output")]
async fn send(files: Vec<PathBuf>, age: i64, secret: &str, url: &str) -> Result<()> {
    let client = reqwest::Client::new();
    let mut refused = 0;
    for file in &files {
        let body = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let signed_at = Timestamp::now() - SignedDuration::from_secs(age);
        let (status, answer) = sender::post(&client, url, secret, signed_at, body).await?;
        println!("{}: {status} {answer}", file.display());
        refused += usize::from(status != 200);
    }
    ensure!(refused == 0, "{refused} of {} not accepted", files.len());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the findings are this command's output")]
async fn examine(patient: &Patient) -> Result<()> {
    let findings = doctor::examine(patient).await?;
    for finding in &findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok ",
            Verdict::Unknown => "?  ",
            Verdict::Bad => "BAD",
        };
        println!("{mark} {}: {}", finding.check, finding.says);
    }
    let bad = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad)
        .count();
    ensure!(
        bad == 0,
        "{bad} of {} checks found something to mend",
        findings.len()
    );
    Ok(())
}

fn storage_in(folder: Option<PathBuf>) -> Storage {
    let folder = folder.unwrap_or_else(|| workspace().join(".local"));
    Storage::File(folder.join("dynamodb.sqlite"))
}

async fn tables_of(place: Place) -> Result<Tables> {
    match place.stack {
        Some(stack) => Tables::of_stack(&stack, place.tables.into_iter().collect()).await,
        None => Tables::of_storage(&storage_in(place.data)).await,
    }
}

async fn back_up(file: &Path, place: Place) -> Result<()> {
    let items = tables_of(place).await?.back_up(file).await?;
    eprintln!("{items} items are in {}; the secrets are not", file.display());
    Ok(())
}

async fn restore(file: &Path, resume: bool, place: Place) -> Result<()> {
    let items = tables_of(place).await?.restore(file, resume).await?;
    eprintln!(
        "{items} items of {} are restored; set the secrets by hand",
        file.display()
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the token is this command's output")]
async fn token(read_only: bool, url: &str) -> Result<()> {
    let scopes: &[&str] = if read_only {
        &[issuer::READ]
    } else {
        &[issuer::READ, issuer::WRITE]
    };
    let token = issuer::fetch_token(&reqwest::Client::new(), url, scopes).await?;
    println!("{token}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are this command's output")]
async fn put_under_load(load: &Load) -> Result<()> {
    let loaded = load.run().await?;
    let of = |percent| milliseconds(loaded.latencies.percentile(percent));
    println!(
        "{} calls of {} bytes, {} at a time: {:.0} a second",
        load.calls,
        loaded.bytes,
        load.concurrency,
        loaded.throughput()
    );
    println!(
        "p50 {}, p90 {}, p99 {}, longest {}",
        of(50),
        of(90),
        of(99),
        of(100)
    );
    for (failure, count) in &loaded.failures {
        println!("{count} times: {failure}");
    }
    let failed: usize = loaded.failures.values().sum();
    ensure!(failed == 0, "{failed} of {} not accepted", load.calls);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are this command's output")]
async fn measure(name: &str, starts: NonZeroU32, invocations: NonZeroU32) -> Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "measure what is deployed: cargo run --release --bin local -- bench"
    );
    let measured = bench::measure(name, starts, invocations).await?;
    println!(
        "| | first poll p50 | first invocation p50 | warm p50 | warm p99 | processor, warm | peak memory |"
    );
    println!("|---|---|---|---|---|---|---|");
    for measured in measured {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            measured.name,
            milliseconds(measured.start_up.percentile(50)),
            milliseconds(measured.first.percentile(50)),
            milliseconds(measured.warm.percentile(50)),
            milliseconds(measured.warm.percentile(99)),
            milliseconds(measured.warm_processor),
            megabytes(measured.peak_memory_bytes),
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 of them")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

#[expect(clippy::print_stdout, reason = "the answer is this command's output")]
async fn invoke(function: &str, event: PathBuf, url: &str) -> Result<()> {
    let event = std::fs::read(&event).with_context(|| format!("reading {}", event.display()))?;
    let url = format!("{url}/2015-03-31/functions/{function}/invocations");
    let response = reqwest::Client::new()
        .post(&url)
        .body(event)
        .send()
        .await
        .with_context(|| sender::unanswered(&url))?;
    let failed = !response.status().is_success() || response.headers().contains_key("x-amz-function-error");
    println!("{}", response.text().await?);
    ensure!(!failed, "the invocation failed");
    Ok(())
}
