//! Genuine deliveries of every kind are taken in, with the facts that they tell.

use jiff::Timestamp;
use local::Options;
use local::sender::signature;
use serde_json::{Value, json};

use crate::support::{World, event, event_json, phone_call};

/// What a call must say, by the name of the body that told it.
fn expectations() -> Vec<(&'static str, Value)> {
    vec![
        (
            "phone_inbound_twilio",
            json!({
                "id": "conv_edaakjhb57yhmdwecgv6e0bfjemh", "agent_id": "agent_bhp5n40baqpaaqspp7ft4y5m95ed",
                "agent_name": "Front desk", "channel": "phone", "direction": "inbound",
                "customer_number": "+16125550187", "tracking_number": "+16125550142",
                "started_at": "2026-11-21T22:26:40Z", "duration_seconds": 79, "outcome": "success",
                "termination_reason": "Call ended by remote party", "language": "en",
                "has_transcript": true, "arrived_by": "webhook",
            }),
        ),
        (
            "phone_outbound_twilio",
            json!({
                "direction": "outbound", "customer_number": "+16125550110", "tracking_number": "+16125550142",
            }),
        ),
        (
            "phone_inbound_sip",
            json!({
                "channel": "phone", "direction": "inbound", "customer_number": "+493055501870",
                "tracking_number": "+493055501420",
            }),
        ),
        (
            "phone_outbound_sip",
            json!({
                "direction": "outbound", "customer_number": "+493055501999", "tracking_number": "1001",
                "outcome": "failure",
            }),
        ),
        (
            "phone_inbound_exotel",
            json!({
                "channel": "phone", "customer_number": "09876543210", "tracking_number": "08044319240",
            }),
        ),
        (
            "phone_inbound_anonymous",
            json!({ "customer_number": "anonymous", "outcome": "unknown" }),
        ),
        (
            "phone_inbound_empty_number",
            json!({ "customer_number": null, "tracking_number": "+493055501420" }),
        ),
        (
            "phone_by_variables_only",
            json!({
                "channel": "phone", "direction": null, "customer_number": "+16125550171",
                "tracking_number": "+16125550142",
            }),
        ),
        (
            "web_widget",
            json!({
                "channel": "web", "direction": null, "customer_number": null, "tracking_number": null,
                "outcome": "success",
            }),
        ),
        (
            "whatsapp_inbound",
            json!({
                "channel": "whatsapp", "direction": "inbound", "customer_number": "16125550133",
                "tracking_number": null,
            }),
        ),
        (
            "sms_inbound",
            json!({
                "channel": "sms", "direction": "inbound", "customer_number": "+16125550155",
                "tracking_number": "+16125550142",
            }),
        ),
        (
            "initiation_failure_twilio",
            json!({
                "id": "conv_63jd2r81ctkgssva1k72cyn7917f", "channel": "phone", "direction": "outbound",
                "customer_number": "+441111111111", "tracking_number": "+11111111111",
                "started_at": "2025-10-08T13:54:12Z", "duration_seconds": 0, "outcome": "failure",
                "termination_reason": "busy", "has_transcript": false, "agent_name": null,
            }),
        ),
        (
            "initiation_failure_sip",
            json!({
                "direction": "outbound", "customer_number": "+493055501777",
                "tracking_number": "4930555014200", "termination_reason": "no-answer", "outcome": "failure",
            }),
        ),
        (
            "nulls_everywhere",
            json!({
                "channel": "unknown", "direction": null, "agent_name": null, "customer_number": null,
                "termination_reason": null, "language": null, "outcome": "unknown", "has_transcript": false,
            }),
        ),
        (
            "tool_calls_agent_transfer",
            json!({ "agent_id": "agent_7k2mfront5desk9q3x", "has_transcript": true }),
        ),
        ("non_latin_raw", json!({ "agent_name": "港デンタル" })),
        ("non_latin_escaped", json!({ "agent_name": "港デンタル" })),
        ("indented", json!({ "customer_number": "+16125550177" })),
        ("timestamp_as_text", json!({ "channel": "web" })),
        (
            "unknown_fields_and_values",
            json!({
                "channel": "phone", "direction": null, "outcome": "unknown",
                "customer_number": "+16125550178", "tracking_number": "+16125550142",
            }),
        ),
        ("without_transcript", json!({ "has_transcript": false })),
        (
            "opentelemetry",
            json!({
                "id": "conv_otel_01", "channel": "unknown", "started_at": "2026-11-16T04:06:40Z",
                "duration_seconds": 42, "outcome": "unknown",
            }),
        ),
        (
            "flat_conversation_ended",
            json!({
                "id": "conv_flat_01", "channel": "phone", "direction": "inbound",
                "customer_number": "+16125550188", "tracking_number": "+16125550142",
                "duration_seconds": 42, "outcome": "success",
            }),
        ),
    ]
}

/// Bodies that are genuine and make no call.
const WITHOUT_CALL: [&str; 4] = [
    "answering_machine_detection",
    "audio",
    "unknown_kind",
    "unredacted_transcript",
];

fn id_of(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    let id = body["data"]["conversation_id"]
        .as_str()
        .or(body["conversation_id"].as_str());
    id.unwrap().to_owned()
}

fn assert_says(call: &Value, expected: &Value, name: &str) {
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&call[field], value, "{field} of {name}");
    }
}

#[tokio::test]
async fn every_sample_body_is_stored_with_its_facts() {
    let world = World::new().await;
    for (name, expected) in expectations() {
        let body = event(&format!("webhook/{name}.json"));
        let answer = world.deliver(body.clone()).await.expect(200);
        let id = id_of(&body);
        assert_eq!(
            answer,
            json!({ "success": true, "result": "stored", "conversation_id": id }),
            "{name}"
        );
        let call = world.call(&id).await;
        assert_says(&call, &expected, name);
        let raw = world.get(&format!("/api/calls/{id}/raw")).await;
        assert_eq!(
            (raw.status, raw.body),
            (200, body),
            "{name} comes back byte for byte"
        );
    }
    assert_eq!(world.calls("limit=7").await.len(), expectations().len());
}

#[tokio::test]
async fn every_sample_file_is_told_of_above() {
    let folder = local::workspace().join("events/webhook");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut told: Vec<String> = expectations()
        .into_iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    told.extend(WITHOUT_CALL.map(str::to_owned));
    files.sort();
    told.sort();
    assert_eq!(files, told);
}

#[tokio::test]
async fn events_that_touch_no_call_are_ignored_and_kept_in_the_log_but_for_audio() {
    let world = World::new().await;
    for name in WITHOUT_CALL {
        assert_eq!(
            world.deliver_ok(event(&format!("webhook/{name}.json"))).await,
            "ignored",
            "{name}"
        );
        let entry = &world.deliveries().await[0];
        assert_eq!(entry["body_kept"], name != "audio", "{name}");
        let raw = world
            .get(&format!("/api/deliveries/{}/raw", entry["id"].as_str().unwrap()))
            .await;
        match name {
            "audio" => assert_eq!(raw.error(), (404, "not_found".to_owned())),
            _ => assert_eq!(raw.body, event(&format!("webhook/{name}.json"))),
        }
    }
    assert!(world.calls("").await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_understood_is_answered_200_and_kept() {
    let world = World::new().await;
    let nested = "[".repeat(100_000);
    let with_mark = b"\xef\xbb\xbfnot json";
    let without_id = br#"{"type":"post_call_transcription","data":{"agent_id":"a"}}"#;
    let bodies: [(&[u8], &str); 9] = [
        (b"[]", "not_an_object"),
        (b"\"x\"", "not_an_object"),
        (b"null", "not_an_object"),
        (b"not json", "not_json"),
        (with_mark, "not_json"),
        (b"{}", "no_type"),
        (b"{\"type\":\"\xff\xfe\"}", "not_utf8"),
        (nested.as_bytes(), "not_json"),
        (without_id, "no_conversation_id"),
    ];
    for (body, reason) in bodies {
        let answer = world.deliver(body).await.expect(200);
        assert_eq!(
            answer,
            json!({ "success": true, "result": "unparsed", "conversation_id": null }),
            "{reason}"
        );
        let entry = &world.deliveries().await[0];
        assert_eq!(
            (&entry["reason"], &entry["result"]),
            (&json!(reason), &json!("unparsed"))
        );
        let path = format!("/api/deliveries/{}", entry["id"].as_str().unwrap());
        assert_eq!(&world.get(&path).await.expect(200), entry);
        assert_eq!(world.get(&format!("{path}/raw")).await.body, body, "{reason}");
    }
    assert!(world.calls("").await.is_empty());

    // It waits for newer code, however long that takes.
    let waiting = world.deliveries().await[0]["id"].as_str().unwrap().to_owned();
    world
        .stack
        .clock()
        .advance(jiff::SignedDuration::from_hours(24 * 400));
    let raw = world.get(&format!("/api/deliveries/{waiting}/raw")).await;
    assert_eq!(raw.body, bodies[8].0);
}

#[tokio::test]
async fn a_call_is_told_with_transcript_analysis_and_summary() {
    let world = World::new().await;
    world
        .deliver_ok(event("webhook/tool_calls_agent_transfer.json"))
        .await;
    let call = world.call("conv_transfer_01").await;
    let turns = call["transcript"].as_array().unwrap();
    assert_eq!(turns.len(), 8);
    assert_eq!(
        turns[1],
        json!({
            "role": "user", "message": "I have a question about my invoice.", "at_seconds": 4,
            "tool_calls": [], "tool_results": [],
        })
    );
    assert_eq!(turns[2]["message"], Value::Null);
    assert_eq!(turns[2]["tool_calls"][0]["tool_name"], "transfer_to_agent");
    assert_eq!(turns[6]["tool_calls"], json!([]));
    assert_eq!(turns[6]["tool_results"][0]["tool_name"], "find_invoice");
    assert_eq!(
        call["summary"],
        "The caller asked for an appointment and accepted Tuesday at nine."
    );
    assert_eq!(call["analysis"]["call_summary_title"], "Appointment");
    assert_eq!(call["transcript_omitted"], false);
    assert_eq!(call["history"], json!([]));
    assert_eq!(
        call["conversion"],
        json!({
            "converted": true, "source": "automatic", "by": null, "at": "2026-11-16T03:57:44Z", "value": null,
        })
    );

    let first = world
        .get("/api/calls/conv_transfer_01/transcript?limit=5")
        .await
        .expect(200);
    assert_eq!(first["turns"].as_array().unwrap(), &turns[..5]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = world
        .get(&format!(
            "/api/calls/conv_transfer_01/transcript?limit=5&cursor={cursor}"
        ))
        .await
        .expect(200);
    assert_eq!(rest, json!({ "turns": turns[5..], "next_cursor": null }));
}

#[tokio::test]
async fn the_same_body_as_base64_makes_the_same_call() {
    let plain = World::new().await;
    let base64 = World::new().await;
    let mut calls = Vec::new();
    for (world, name) in [(&plain, "signed"), (&base64, "signed_base64")] {
        let event = event_json(&format!("webhook/gateway/{name}.json"));
        let answer = world.invoke("webhook", &event).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        calls.push(world.call("conv_edaakjhb57yhmdwecgv6e0bfjemh").await);
        let raw = world
            .get("/api/calls/conv_edaakjhb57yhmdwecgv6e0bfjemh/raw")
            .await;
        assert_eq!(
            raw.body,
            crate::support::event("webhook/phone_inbound_twilio.json")
        );
    }
    assert_eq!(calls[0], calls[1]);
}

#[tokio::test]
async fn numbers_of_the_set_country_are_understood() {
    let world = World::with(Options::default().parameter("DefaultCountry", "IN")).await;
    world.deliver_ok(event("webhook/phone_inbound_exotel.json")).await;
    let call = world.call("conv_inbound_exotel_01").await;
    assert_eq!(call["tracking_number"], "+918044319240");
    assert_eq!(call["customer_number"], "+919876543210");
}

#[tokio::test]
async fn odd_numbers_are_kept_and_never_an_error() {
    let world = World::new().await;
    let long = "9".repeat(5000);
    let numbers = ["08044319240", "1001", "anonymous", "", " ", "+", "sip:a@b", &long];
    for (index, number) in numbers.into_iter().enumerate() {
        let id = format!("conv_{index}");
        let mut body = phone_call(&id, "2026-11-20T10:00:00Z", "2026-11-20T10:01:00Z");
        body["data"]["metadata"]["phone_call"]["agent_number"] = json!(number);
        body["data"]["metadata"]["phone_call"]["external_number"] = json!(number);
        assert_eq!(world.deliver_ok(body.to_string()).await, "stored", "{number:.20}");
        let call = world.call(&id).await;
        let kept = match number {
            "" | " " => Value::Null,
            number if number.len() > 256 => Value::Null,
            number => json!(number),
        };
        assert_eq!(call["customer_number"], kept);
        assert_eq!(call["tracking_number"], kept);
    }
    assert_eq!(world.calls("").await.len(), numbers.len());
}

#[tokio::test]
async fn the_flat_form_counts_as_of_its_signature() {
    let world = World::new().await;
    let body = event("webhook/flat_conversation_ended.json");
    let deliver = async |seconds_ago: i64, body: &[u8]| {
        let signed_at = Timestamp::from_second(Timestamp::now().as_second() - seconds_ago).unwrap();
        let signature = signature(local::DEFAULT_WEBHOOK_SECRET, signed_at, body);
        let headers = [
            ("content-type", "application/json"),
            ("elevenlabs-signature", signature.as_str()),
        ];
        world.post(&headers, body).await.expect(200)["result"].clone()
    };
    assert_eq!(deliver(100, &body).await, "stored");
    let longer = String::from_utf8(body.clone()).unwrap().replace("42", "43");
    assert_eq!(deliver(200, longer.as_bytes()).await, "ignored");
    assert_eq!(world.call("conv_flat_01").await["duration_seconds"], 42);
    assert_eq!(deliver(50, longer.as_bytes()).await, "updated");
    assert_eq!(world.call("conv_flat_01").await["duration_seconds"], 43);
    assert_eq!(deliver(60, &body).await, "duplicate");
    let before = world.call("conv_flat_01").await;
    assert_eq!(before["duration_seconds"], 43);

    // Said again later, the same facts keep their place against anything in between.
    assert_eq!(deliver(10, longer.as_bytes()).await, "duplicate");
    assert_eq!(deliver(30, &body).await, "duplicate");
    assert_eq!(
        world.call("conv_flat_01").await,
        before,
        "and the call does not change"
    );
}

#[tokio::test]
async fn unsigned_deliveries_are_taken_only_when_allowed_and_a_bad_signature_never() {
    let json = ("content-type", "application/json");
    let body = event("webhook/flat_conversation_ended.json");
    let strict = World::new().await;
    let answer = strict.post(&[json], body.clone()).await;
    assert_eq!(answer.error(), (401, "missing_signature".to_owned()));
    assert!(strict.calls("").await.is_empty());

    let mut options = Options::default().parameter("AllowUnsignedDeliveries", "true");
    let open = World::with(options.clone()).await;
    assert_eq!(
        open.post(&[json], body.clone()).await.expect(200)["result"],
        "stored"
    );
    assert_eq!(
        open.post(&[json], body.clone()).await.expect(200)["result"],
        "duplicate"
    );
    let signed = [json, ("elevenlabs-signature", "t=1,v0=00")];
    let answer = open.post(&signed, body.clone()).await;
    assert_eq!(answer.error(), (401, "invalid_signature".to_owned()));

    options.webhook_secrets.clear();
    let without_secret = World::with(options).await;
    assert_eq!(
        without_secret.post(&[json], body).await.expect(200)["result"],
        "stored"
    );
}
