//! Long calls are stored whole; what cannot pass is refused clearly.

use local::dynamodb::Fault;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Digest;

use crate::support::{World, phone_call};

/// A body of at least this many bytes, a little more, with so many words in each
/// turn of its transcript, which does not compress to nothing.
fn long_call(id: &str, bytes: usize, words: usize) -> Vec<u8> {
    let mut body = phone_call(id, "2026-11-20T10:00:00Z", "2026-11-20T11:30:00Z");
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut turns = Vec::new();
    let mut written = 0;
    while written < bytes {
        let words: Vec<String> = (0..words)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                format!("{random:x}")
            })
            .collect();
        let message = words.join(" ");
        written += message.len() + 52;
        turns.push(json!({ "role": "user", "message": message, "time_in_call_secs": turns.len() }));
    }
    body["data"]["transcript"] = Value::Array(turns);
    body.to_string().into_bytes()
}

#[tokio::test]
async fn transcripts_of_one_and_a_half_and_of_five_and_a_half_megabytes_are_stored_whole() {
    let world = World::new().await;
    for (id, bytes) in [("conv_long", 1_500_000), ("conv_longest", 5_500_000)] {
        let body = long_call(id, bytes, 60);
        assert!(body.len() >= bytes, "{}", body.len());
        world.stack.dynamodb().record();
        assert_eq!(world.deliver_ok(body.clone()).await, "stored");
        let chunks = world
            .stack
            .dynamodb()
            .recorded()
            .iter()
            .filter(|request| request.key("part").starts_with("body#") && request.operation == "PutItem")
            .count();
        assert!(
            chunks > 1,
            "{id} does not fit one item, but was written as {chunks}"
        );
        assert_eq!(world.deliver_ok(body.clone()).await, "duplicate");

        let raw = world.get(&format!("/api/calls/{id}/raw")).await;
        assert_eq!(raw.status, 200);
        assert!(raw.body == body, "{id} comes back byte for byte");
        let zipped = [("accept-encoding", "gzip")];
        let path = format!("/api/calls/{id}/raw");
        let zipped = world.request(Method::GET, &path, &zipped, "").await;
        assert_eq!((zipped.status, zipped.header("content-encoding")), (200, "gzip"));
        assert!(zipped.body.len() < body.len());
    }
}

#[tokio::test]
async fn a_transcript_that_does_not_pass_the_gateway_is_omitted_and_paged() {
    let world = World::new().await;
    let body = long_call("conv_longest", 5_300_000, 6);
    world.deliver_ok(body.clone()).await;
    let call = world.call("conv_longest").await;
    assert_eq!(call["transcript_omitted"], true);
    assert!(call.get("transcript").is_none());
    assert_eq!(call["summary"], "Said hello.");

    // 100 turns at a time, wherever one stands.
    let sent: Value = serde_json::from_slice(&body).unwrap();
    let sent = sent["data"]["transcript"].as_array().unwrap();
    let mut cursor = String::new();
    for page in 0..3 {
        let path = format!("/api/calls/conv_longest/transcript?limit=100{cursor}");
        let answer = world.get(&path).await.expect(200);
        let turns = answer["turns"].as_array().unwrap();
        assert_eq!(turns.len(), 100);
        for (turn, sent) in turns.iter().zip(&sent[page * 100..]) {
            assert_eq!(
                (&turn["message"], &turn["at_seconds"]),
                (&sent["message"], &sent["time_in_call_secs"])
            );
        }
        cursor = format!("&cursor={}", answer["next_cursor"].as_str().unwrap());
    }
}

#[tokio::test]
async fn a_large_body_that_was_half_written_is_completed_by_the_next_attempt() {
    let world = World::new().await;
    let body = long_call("conv_long", 1_500_000, 60);
    for broken in ["#000", "#001"] {
        world.stack.dynamodb().inject(move |request| {
            let hit = request.operation == "PutItem" && request.key("part").ends_with(broken);
            hit.then_some(Fault::InternalError)
        });
        assert_eq!(
            world.deliver(body.clone()).await.error(),
            (503, "unavailable".to_owned())
        );
        // Its facts may be here already; its body is not, and nobody is told half of it.
        for call in world.calls("").await {
            assert_eq!(call["id"], "conv_long");
            assert_eq!(world.call("conv_long").await["transcript"], json!([]));
            assert_eq!(world.get("/api/calls/conv_long/raw").await.error().0, 404);
        }
    }
    world.stack.dynamodb().heal();
    assert_eq!(world.deliver_ok(body.clone()).await, "stored");
    assert!(world.get("/api/calls/conv_long/raw").await.body == body);
    assert_eq!(world.deliver_ok(body).await, "duplicate");
}

#[tokio::test]
async fn a_chunk_that_an_earlier_attempt_left_behind_does_no_harm() {
    let world = World::new().await;
    let body = long_call("conv_long", 1_500_000, 60);
    world.deliver_ok(body.clone()).await;
    let hash = hex::encode(sha2::Sha256::digest(&body));
    let left_behind = json!({
        "TableName": "CallsTable",
        "Item": {
            "call_id": { "S": "conv_long" },
            "part": { "S": format!("body#{hash}#009") },
            "zstd": { "B": "AAAA" },
        },
    });
    world.ask_store("PutItem", &left_behind).await;
    assert!(world.get("/api/calls/conv_long/raw").await.body == body);
}

#[tokio::test]
async fn an_unparsed_body_of_several_megabytes_is_kept_whole() {
    let world = World::new().await;
    let mut body = long_call("conv_1", 3_000_000, 60);
    body.pop();
    assert_eq!(world.deliver_ok(body.clone()).await, "unparsed");
    let id = world.deliveries().await[0]["id"].as_str().unwrap().to_owned();
    let raw = world.get(&format!("/api/deliveries/{id}/raw")).await;
    assert!(raw.body == body);
}

#[tokio::test]
async fn bodies_over_the_limits_are_answered_413() {
    let world = World::new().await;
    for bytes in [6_291_456, 10 * 1024 * 1024 + 1] {
        let answer = world.deliver(vec![b'a'; bytes]).await;
        assert_eq!(
            (answer.status, answer.json()),
            (413, json!({ "message": "Request Entity Too Large" }))
        );
    }
    // Under the limit as it is, over it once its quotes are escaped in the event.
    let answer = world.deliver(vec![b'"'; 4_000_000]).await;
    assert_eq!(answer.status, 413);
    assert!(world.calls("").await.is_empty());
}
