//! A backup of everything, restored into an empty stack, is the same system.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use local::backup::Tables;
use local::dynamodb::Fault;
use local::workspace;
use reqwest::Method;
use serde_json::{Value, json};

use crate::erasing::{NUMBER, erase_for_good, two_customers};
use crate::provider::{Conversation, Provider};
use crate::support::{World, event};
use crate::syncing::world_of;

/// A file that is not there yet.
fn new_file(name: &str) -> PathBuf {
    let folder = workspace().join("target/backups");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}-{}.gz", std::process::id()));
    if path.exists() {
        std::fs::remove_file(&path).unwrap();
    }
    path
}

fn tables_of(world: &World) -> Tables {
    Tables::of_store(world.stack.dynamodb().url()).unwrap()
}

/// The lines of a file.
fn lines(path: &PathBuf) -> Vec<String> {
    let mut text = String::new();
    let mut file = GzDecoder::new(std::fs::File::open(path).unwrap());
    file.read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Everything that the API shows.
async fn all_that_is_shown(world: &World) -> Vec<Value> {
    let mut shown = Vec::new();
    let calls = world.calls("").await;
    for call in &calls {
        let id = call["id"].as_str().unwrap();
        shown.push(world.call(id).await);
        let raw = world.get(&format!("/api/calls/{id}/raw")).await;
        shown.push(json!((raw.status == 200).then_some(raw.body)));
    }
    let campaigns = world.walk("/api/campaigns", "campaigns", "").await;
    for campaign in &campaigns {
        let path = format!("/api/campaigns/{}/contacts", campaign["id"].as_str().unwrap());
        shown.extend(world.walk(&path, "contacts", "").await);
    }
    let log = world.deliveries().await;
    for entry in &log {
        let path = format!("/api/deliveries/{}/raw", entry["id"].as_str().unwrap());
        shown.push(json!(world.get(&path).await.status));
    }
    let report = "/api/reports/summary?group_by=campaign&from=2026-11-01&to=2026-12-01";
    shown.push(world.get(report).await.expect(200));
    shown.push(world.sync_view().await);
    shown.extend(calls.into_iter().chain(campaigns).chain(log));
    shown
}

#[tokio::test]
async fn a_restored_system_is_the_one_that_was_backed_up() {
    let provider = Provider::start().await;
    provider.put(Conversation::new("conv_lost", "agent_1", "2026-11-20T10:00:00Z"));
    let world = world_of(&provider).await;
    let [mailing, radio] = two_customers(&world).await;
    let bulk = json!({ "campaign_id": radio, "call_ids": ["conv_other"] });
    let bulk = world
        .send(Method::POST, "/api/assignments", &bulk)
        .await
        .expect(200);
    let delivered = event("webhook/web_widget.json");
    world.deliver_ok(delivered.clone()).await;
    world.sync().await;
    erase_for_good(&world, NUMBER).await;

    let file = new_file("whole");
    let items = tables_of(&world).back_up(&file).await.unwrap();
    let restored = world_of(&provider).await;
    assert_eq!(tables_of(&restored).restore(&file, false).await.unwrap(), items);

    let (before, after) = (
        all_that_is_shown(&world).await,
        all_that_is_shown(&restored).await,
    );
    assert_eq!(after.len(), before.len());
    for (after, before) in after.iter().zip(&before) {
        assert_eq!(after, before);
    }
    let again = new_file("again");
    tables_of(&restored).back_up(&again).await.unwrap();
    assert_eq!(lines(&again)[1..], lines(&file)[1..], "item for item");

    // And it goes on as the other would have.
    let undo = format!(
        "/api/assignments/{}/undo",
        bulk["assignment_id"].as_str().unwrap()
    );
    let undone = restored.send(Method::POST, &undo, &json!({})).await.expect(200);
    assert_eq!(undone["counts"]["assigned"], 1);
    assert_eq!(
        restored.call("conv_other").await["attribution"]["campaign_id"],
        mailing
    );
    assert_eq!(restored.deliver_ok(delivered).await, "duplicate");
    let erased = crate::erasing::call_of("conv_a", NUMBER, 0).to_string();
    assert_eq!(
        restored.deliver_ok(erased).await,
        "ignored",
        "who was erased stays so"
    );
    for path in [file, again] {
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn nothing_is_restored_over_anything_or_from_what_is_not_whole() {
    let world = World::new().await;
    two_customers(&world).await;
    let file = new_file("good");
    tables_of(&world).back_up(&file).await.unwrap();
    let told = |result: anyhow::Result<usize>| format!("{:#}", result.unwrap_err());

    assert!(
        told(tables_of(&world).back_up(&file).await).contains("making"),
        "no file is overwritten"
    );
    assert!(told(tables_of(&world).restore(&file, false).await).contains("is not empty"));

    let empty = World::new().await;
    let bad = new_file("bad");
    let lines = lines(&file);
    let whole = std::fs::read(&file).unwrap();
    let packed = |lines: &[String]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(lines.join("\n").as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    let mut elsewhere = lines.clone();
    elsewhere[1] = elsewhere[1].replace("CallsTable", "OtherTable");
    // The checksum stands behind all that can be read.
    let mut altered = whole.clone();
    let checksum = altered.len() - 6;
    altered[checksum] ^= 1;
    let mut shorter = lines.clone();
    shorter.remove(3);
    for (bytes, words) in [
        (whole[..whole.len() / 2].to_vec(), "cut off"),
        (packed(&lines[..lines.len() - 1]), "cut off"),
        (packed(&shorter), "should have"),
        (packed(&lines[1..]), "no backup"),
        (
            packed(&["{\"ringmark_backup\":2,\"made_at\":\"2026-11-22T00:00:00Z\"}".to_owned()]),
            "version 2",
        ),
        (packed(&elsewhere), "OtherTable"),
        (altered, "corrupt"),
        (b"not gzip".to_vec(), "no backup"),
        (Vec::new(), "no backup"),
    ] {
        std::fs::write(&bad, bytes).unwrap();
        let message = told(tables_of(&empty).restore(&bad, false).await);
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(empty.calls("").await.len(), 0, "nothing was written");

    // One that broke off is gone on with.
    let written = AtomicUsize::new(0);
    empty.stack.dynamodb().inject(move |request| {
        let is_late = request.operation == "BatchWriteItem" && written.fetch_add(1, Ordering::SeqCst) > 0;
        is_late.then_some(Fault::InternalError)
    });
    assert!(tables_of(&empty).restore(&file, false).await.is_err());
    empty.stack.dynamodb().heal();
    assert!(told(tables_of(&empty).restore(&file, false).await).contains("--resume"));
    tables_of(&empty).restore(&file, true).await.unwrap();
    assert_eq!(all_that_is_shown(&empty).await, all_that_is_shown(&world).await);
    for path in [file, bad] {
        std::fs::remove_file(path).unwrap();
    }
}
