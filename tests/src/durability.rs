//! What was acknowledged survives the death of the whole local system.

use std::path::Path;
use std::process::Stdio;

use local::issuer::{READ, fetch_token};
use local::sender::{WEBHOOK_PATH, signature};
use local::{DEFAULT_WEBHOOK_SECRET, workspace};
use reqwest::Method;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{client_from, event, request};

/// `cargo local` with its data below `folder`, and its URL.
async fn start(folder: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["run", "--quiet", "--bin", "local", "--", "--port", "0", "--data"])
        .arg(folder)
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let url = line.strip_prefix("ready ").unwrap().to_owned();
    (child, url)
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let folder = std::env::temp_dir().join(format!("ringmark-durability-{}", std::process::id()));
    let client = client_from([127, 0, 0, 1].into());
    let body = event("webhook/phone_inbound_twilio.json");
    let path = "/api/calls/conv_edaakjhb57yhmdwecgv6e0bfjemh/raw";

    let (mut system, url) = start(&folder).await;
    let signed = signature(DEFAULT_WEBHOOK_SECRET, jiff::Timestamp::now(), &body);
    let headers = [
        ("content-type", "application/json"),
        ("elevenlabs-signature", signed.as_str()),
    ];
    let hook = format!("{url}{WEBHOOK_PATH}");
    let answer = request(&client, Method::POST, &hook, &headers, body.clone()).await;
    assert_eq!(answer.expect(200)["result"], "stored");
    // SIGKILL: nobody gets to say goodbye. `cargo run` has become the system by then.
    system.kill().await.unwrap();

    let (mut system, url) = start(&folder).await;
    let token = fetch_token(&client, &url, &[READ]).await.unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let raw = request(&client, Method::GET, &format!("{url}{path}"), &headers, "").await;
    assert_eq!((raw.status, &raw.body), (200, &body));
    let log = request(
        &client,
        Method::GET,
        &format!("{url}/api/deliveries"),
        &headers,
        "",
    )
    .await;
    assert_eq!(log.expect(200)["deliveries"].as_array().unwrap().len(), 1);

    // And asked politely, it stops with success.
    let pid = system.id().unwrap().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    assert!(told.success());
    assert!(system.wait().await.unwrap().success());
    std::fs::remove_dir_all(&folder).unwrap();
}
