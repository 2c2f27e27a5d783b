//! The functions as `sam build` leaves them, under AWS's own runtime emulator, which
//! comes with SAM: <https://github.com/aws/aws-lambda-runtime-interface-emulator>.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use local::workspace;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::provider::{Conversation, Provider};
use crate::support::{World, event, event_json, phone_call, request, template};
use crate::syncing;

/// Where SAM's own copy of the emulator is.
fn emulator() -> PathBuf {
    let packages = workspace().join("target/sam/lib");
    let found = std::fs::read_dir(&packages).unwrap().find_map(|entry| {
        let package = entry
            .unwrap()
            .path()
            .join("site-packages/samcli/local/rapid/aws-lambda-rie-x86_64");
        package.exists().then_some(package)
    });
    found.unwrap_or_else(|| panic!("no emulator in {}: run .ci/build", packages.display()))
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A built function, with the store and the secrets of a local stack.
struct Emulated {
    address: SocketAddr,
    _process: Child,
}

impl Emulated {
    async fn start(world: &World, function: &str) -> Self {
        let definition = template().functions.remove(function).unwrap();
        let (address, runtime) = (free_address().await, free_address().await);
        let bootstrap = workspace()
            .join(".aws-sam/build")
            .join(function)
            .join("bootstrap");
        assert!(bootstrap.exists(), "{}: run .ci/build", bootstrap.display());
        let process = Command::new(emulator())
            .args(["--runtime-interface-emulator-address", &address.to_string()])
            .args(["--runtime-api-address", &runtime.to_string()])
            .args(["--log-level", "error"])
            .arg(&bootstrap)
            .env_clear()
            .envs(world.stack.function(function).unwrap().environment())
            .env(
                "AWS_LAMBDA_FUNCTION_TIMEOUT",
                definition.timeout_seconds.to_string(),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let began = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "the emulator does not listen"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            address,
            _process: process,
        }
    }

    async fn invoke(&self, world: &World, event: &Value) -> Value {
        let url = format!(
            "http://{}/2015-03-31/functions/function/invocations",
            self.address
        );
        request(&world.client, Method::POST, &url, &[], event.to_string())
            .await
            .expect(200)
    }
}

#[tokio::test]
async fn every_built_function_answers_an_event_of_its_own() {
    let world = World::new().await;
    let at = "2026-11-01T10:00:00Z";
    world.deliver_ok(phone_call("conv_1", at, at).to_string()).await;
    for (function, file, expected) in [
        (
            "WebhookFunction",
            "webhook/gateway/status.json",
            "webhook endpoint is active",
        ),
        ("CallsFunction", "calls/list.json", "\"conv_1\""),
        (
            "AttributionFunction",
            "attribution/create_campaign.json",
            "\"id\":\"cmp_",
        ),
        ("SyncFunction", "sync/read.json", "\"configured\":false"),
        ("ConsoleFunction", "console/style.json", "color-scheme"),
    ] {
        let emulated = Emulated::start(&world, function).await;
        let answer = emulated.invoke(&world, &event_json(file)).await;
        let status = answer["statusCode"].as_u64().unwrap_or_default();
        assert!([200, 201].contains(&status), "{function}: {answer}");
        assert!(
            answer["body"].as_str().unwrap().contains(expected),
            "{function}: {answer}"
        );
    }
}

#[tokio::test]
async fn the_built_webhook_stores_a_signed_call() {
    let world = World::new().await;
    let body = event("webhook/phone_inbound_twilio.json");
    let mut delivery = event_json("webhook/gateway/signed.json");
    let now = world.stack.clock().now();
    delivery["headers"]["elevenlabs-signature"] = json!(world.sign(&body));
    delivery["body"] = json!(String::from_utf8(body.clone()).unwrap());
    delivery["requestContext"]["timeEpoch"] = json!(now.as_millisecond());
    let webhook = Emulated::start(&world, "WebhookFunction").await;
    for result in ["stored", "duplicate"] {
        let answer = webhook.invoke(&world, &delivery).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        let told: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(told["result"], result);
    }
    assert_eq!(world.calls("").await.len(), 1);
}

#[tokio::test]
async fn the_built_sync_is_invoked_by_the_clock() {
    let provider = Provider::start().await;
    let world = syncing::world_of(&provider).await;
    provider.put(Conversation::new("conv_lost", "agent_1", "2026-11-21T10:00:00Z"));
    let sync = Emulated::start(&world, "SyncFunction").await;
    assert_eq!(
        sync.invoke(&world, &event_json("sync/clock.json")).await,
        Value::Null
    );
    assert_eq!(world.call("conv_lost").await["arrived_by"], "sync");
}
