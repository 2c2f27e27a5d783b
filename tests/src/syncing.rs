//! Sync: every call that never arrived is found, and the ledger says so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use local::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::provider::{Conversation, Fault, KEY, Provider};
use crate::support::{Answer, World, event, full_size, with_template};

pub(crate) const NOW: &str = "2026-11-21T12:00:00Z";

/// A stack that asks a provider, at [`NOW`].
pub(crate) async fn world_of(provider: &Provider) -> World {
    world_with(provider, Options::default()).await
}

pub(crate) async fn world_with(provider: &Provider, options: Options) -> World {
    let options = Options {
        api_key: Some(KEY.to_owned()),
        ..options
    };
    let world = World::with(options.parameter("ElevenLabsApiUrl", provider.url())).await;
    world.stack.clock().set(NOW.parse().unwrap());
    world
}

impl World {
    /// A run that is asked for.
    pub(crate) async fn sync_once(&self) -> Answer {
        self.request(Method::POST, "/api/sync", &[], "").await
    }

    /// Runs until nothing is left, and gives the last answer.
    pub(crate) async fn sync(&self) -> Value {
        for _ in 0..100 {
            let status = self.sync_once().await.expect(200);
            if status["more_left"] == false {
                return status;
            }
        }
        panic!("sync comes to no end")
    }

    pub(crate) async fn sync_view(&self) -> Value {
        self.get("/api/sync?from=2026-01-01").await.expect(200)
    }

    /// The row of an agent and a day.
    async fn row(&self, agent_id: &str, day: &str) -> Value {
        let view = self.sync_view().await;
        let rows = view["ledger"].as_array().unwrap();
        let is_it = |row: &&Value| row["agent_id"] == agent_id && row["day"] == day;
        rows.iter().find(is_it).cloned().unwrap_or_default()
    }
}

/// The counts of a row: provider, held, by webhook, by sync, missing, unfinished.
fn counts(row: &Value) -> [u64; 6] {
    [
        "provider",
        "held",
        "by_webhook",
        "by_sync",
        "missing",
        "unfinished",
    ]
    .map(|name| row[name].as_u64().unwrap_or_else(|| panic!("{name} of {row}")))
}

/// What sync reported last by this name.
fn metric(world: &World, name: &str) -> f64 {
    let lines = world.stack.logs().lines();
    let values = lines.iter().rev().filter_map(|line| {
        let json = &line[line.find('{')?..];
        serde_json::from_str::<Value>(json).ok()?.get(name)?.as_f64()
    });
    values
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("{name} was not reported"))
}

fn fetches(provider: &Provider) -> Vec<String> {
    let asked = provider.asked();
    let of_one = asked
        .iter()
        .filter_map(|asked| asked.path.strip_prefix("/v1/convai/conversations/"));
    of_one.map(str::to_owned).collect()
}

#[tokio::test]
async fn without_a_key_it_says_so_and_does_nothing() {
    let provider = Provider::start().await;
    let options = Options::default().parameter("ElevenLabsApiUrl", provider.url());
    let world = World::with(options).await;
    let view = world.sync_view().await;
    assert_eq!(
        view,
        json!({ "configured": false, "running": false, "last_run": null, "more_left": false, "compared_until": null,
                "sync_only_since": null, "webhooks": null, "ledger": [] })
    );
    assert_eq!(
        world.sync_once().await.error(),
        (409, "not_configured".to_owned())
    );
    world.stack.strike("SyncFunction").await.unwrap();
    assert_eq!(world.sync_view().await, view);
    assert_eq!(provider.asked().len(), 0);
    world.end().await;
}

#[tokio::test]
async fn what_never_arrived_is_taken_in_and_the_ledger_tells_of_it() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    let campaign = world.campaign("Spring").await;
    world
        .assign(
            &campaign,
            "+16125550142",
            &json!({ "from": "2026-01-01T00:00:00Z" }),
        )
        .await
        .expect(200);
    let arrived = Conversation::new("conv_arrived", "agent_1", "2026-11-21T09:00:00Z");
    provider.put(arrived.clone());
    world.deliver_ok(arrived.delivery("2026-11-21T09:02:00Z")).await;
    provider.put(Conversation::new("conv_lost", "agent_1", "2026-11-21T10:00:00Z"));
    provider.put(Conversation::new("conv_old", "agent_2", "2026-11-03T10:00:00Z"));
    provider
        .put(Conversation::new("conv_running", "agent_1", "2026-11-21T11:59:00Z").with_status("in-progress"));
    provider.put(Conversation::new(
        "conv_older_than_asked_for",
        "agent_1",
        "2026-10-01T10:00:00Z",
    ));

    let status = world.sync().await;
    let run = &status["last_run"];
    assert_eq!(run["errors"], json!([]));
    assert_eq!(run["trigger"], "request");
    assert_eq!(
        ["listed", "fetched", "stored", "updated", "unfinished", "missing"]
            .map(|name| run[name].as_u64().unwrap()),
        [4, 2, 2, 0, 1, 0]
    );
    assert_eq!(status["compared_until"], NOW);
    assert_eq!(world.calls("").await.len(), 3);

    for secret in [
        "I saw your letter.",
        "Somebody saw a letter.",
        "not for logs",
        "16125550187",
    ] {
        world.confide(secret);
    }
    let call = world.call("conv_lost").await;
    assert_eq!(call["arrived_by"], "sync");
    assert_eq!(call["customer_number"], "+16125550187");
    assert_eq!(call["attribution"]["campaign_name"], "Spring");
    assert_eq!(call["conversion"]["converted"], true);
    assert_eq!(call["summary"], "Somebody saw a letter.");
    assert_eq!(call["transcript"][1]["message"], "I saw your letter.");
    let raw = world.get("/api/calls/conv_lost/raw").await;
    assert_eq!(
        raw.json()["conversation_id"],
        "conv_lost",
        "what the provider answered"
    );
    assert_eq!(world.call("conv_arrived").await["arrived_by"], "webhook");

    let row = world.row("agent_1", "2026-11-21").await;
    assert_eq!(counts(&row), [2, 2, 1, 1, 0, 1]);
    assert_eq!(
        (&row["checkable"], &row["checked_at"]),
        (&json!(true), &json!(NOW))
    );
    assert_eq!(
        counts(&world.row("agent_2", "2026-11-03").await),
        [1, 1, 0, 1, 0, 0]
    );
    let days: Vec<Value> = world.sync_view().await["ledger"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["day"].clone())
        .collect();
    assert_eq!(days, ["2026-11-21", "2026-11-03"], "the latest first");

    // Again, when nothing is new: one page and no more; and when the call is over.
    provider.asked();
    world.stack.clock().advance(SignedDuration::from_mins(15));
    world.stack.strike("SyncFunction").await.unwrap();
    let paths: Vec<String> = provider.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/v1/convai/conversations", "/v1/workspace/webhooks"]);
    let view = world.sync_view().await;
    assert_eq!(view["last_run"]["trigger"], "schedule");
    assert_eq!(view["ledger"][0]["checked_at"], "2026-11-21T12:15:00Z");
    assert_eq!(view["ledger"][1]["checked_at"], NOW, "beyond the window");
    provider.change("conv_running", |conversation| conversation.status = "done");
    world.stack.clock().advance(SignedDuration::from_hours(5));
    world.sync().await;
    assert_eq!(
        counts(&world.row("agent_1", "2026-11-21").await),
        [3, 3, 1, 2, 0, 0]
    );
    world.end().await;
}

#[tokio::test]
async fn days_of_the_ledger_can_be_asked_for() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    for (id, start) in [
        ("a", "2026-11-20T23:59:59Z"),
        ("b", "2026-11-21T00:00:00Z"),
        ("c", "2026-10-31T12:00:00Z"),
    ] {
        provider.put(Conversation::new(id, "agent_1", start));
    }
    world.sync().await;
    let days = async |query: &str| -> Vec<Value> {
        let view = world.get(&format!("/api/sync?{query}")).await.expect(200);
        view["ledger"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["day"].clone())
            .collect()
    };
    assert_eq!(days("").await, ["2026-11-21", "2026-11-20", "2026-10-31"]);
    assert_eq!(days("from=2026-11-20&to=2026-11-21").await, ["2026-11-20"]);
    assert_eq!(
        days("from=2026-10-01&to=2026-11-21T00:00:00Z").await,
        ["2026-11-20", "2026-10-31"]
    );
    for (query, field) in [
        ("from=2026-11-21&to=2026-11-20", "to"),
        ("from=2025-01-01&to=2026-11-20", "from"),
        ("from=yesterday", "from"),
        ("day=2026-11-21", "day"),
    ] {
        let refused = world.get(&format!("/api/sync?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert_eq!(refused.json()["error"]["field"], field, "{query}");
    }
    world.end().await;
}

#[tokio::test]
async fn webhook_and_sync_may_bring_a_call_in_either_order() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    let first = Conversation::new("conv_webhook_first", "agent_1", "2026-11-21T10:00:00Z");
    let second = Conversation::new("conv_sync_first", "agent_1", "2026-11-21T10:00:00Z");
    for conversation in [&first, &second] {
        provider.put(conversation.clone());
    }
    assert_eq!(
        world.deliver_ok(first.delivery("2026-11-21T10:02:00Z")).await,
        "stored"
    );
    world.sync().await;
    assert_eq!(
        fetches(&provider),
        ["conv_sync_first"],
        "what is here is not fetched"
    );
    assert_eq!(
        world.deliver_ok(second.delivery("2026-11-21T10:02:00Z")).await,
        "ignored",
        "older facts"
    );
    world.sync().await;
    assert_eq!(fetches(&provider), [""; 0]);
    let mut calls = Vec::new();
    for (id, arrived_by) in [("conv_webhook_first", "webhook"), ("conv_sync_first", "sync")] {
        let mut call = world.call(id).await;
        assert_eq!(call["arrived_by"], arrived_by);
        for differing in ["id", "arrived_by", "received_at", "updated_at"] {
            call.as_object_mut().unwrap().remove(differing);
        }
        call["attribution"]["at"] = Value::Null;
        call["conversion"]["at"] = Value::Null;
        calls.push(call);
    }
    assert_eq!(calls[0], calls[1], "the same call");
    assert_eq!(world.calls("").await.len(), 2);
    assert_eq!(
        counts(&world.row("agent_1", "2026-11-21").await),
        [2, 2, 1, 1, 0, 0]
    );
    world.end().await;
}

#[tokio::test]
async fn a_call_in_an_older_form_is_fetched_once_for_each_time_that_the_listing_says_otherwise() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    let conversation = Conversation::new("conv_1", "agent_1", "2026-11-21T10:00:00Z");
    provider.put(conversation.clone());
    world
        .deliver_ok(conversation.delivery("2026-11-21T10:02:00Z"))
        .await;
    let kept = world.campaign("Kept").await;
    let path = "/api/calls/conv_1/attribution";
    world
        .send(Method::PUT, path, &json!({ "campaign_id": kept }))
        .await
        .expect(200);
    let worth = json!({ "converted": true, "value": { "amount": "120.00", "currency": "USD" } });
    world
        .send(Method::PUT, "/api/calls/conv_1/conversion", &worth)
        .await
        .expect(200);

    // Analysed again.
    provider.change("conv_1", |conversation| conversation.outcome = "failure");
    let status = world.sync().await;
    assert_eq!(status["last_run"]["updated"], 1);
    let call = world.call("conv_1").await;
    assert_eq!(
        (&call["outcome"], &call["arrived_by"]),
        (&json!("failure"), &json!("webhook"))
    );
    assert_eq!(
        call["attribution"]["campaign_name"], "Kept",
        "what people decided stays"
    );
    assert_eq!(call["conversion"]["value"]["amount"], "120.00");
    assert_eq!(call["history"].as_array().unwrap().len(), 2);

    // A listing that goes on to say what the conversation itself does not.
    provider.asked();
    world.stack.dynamodb().heal();
    let traces: Value = serde_json::from_slice(&event("webhook/opentelemetry.json")).unwrap();
    let id = traces["data"]["conversation_id"].as_str().unwrap();
    world.deliver_ok(traces.to_string()).await;
    let start = world.call(id).await["started_at"].as_str().unwrap().to_owned();
    world
        .stack
        .clock()
        .set(start.parse::<Timestamp>().unwrap() + SignedDuration::from_hours(1));
    provider.put(Conversation::new(id, "agent_1", &start));
    world.sync().await;
    assert_eq!(fetches(&provider), [id], "traces name no numbers");
    assert_eq!(world.call(id).await["customer_number"], "+16125550187");
    world.sync().await;
    assert_eq!(fetches(&provider), [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn what_is_fetched_once_is_not_fetched_again_for_the_same_words_of_the_listing() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    // Deleted since: the listing knows more than the conversation.
    let mut conversation = Conversation::new("conv_1", "agent_1", "2026-11-21T10:00:00Z");
    conversation.is_deleted = true;
    provider.put(conversation);
    for expected in [&["conv_1"][..], &[], &[]] {
        world.sync().await;
        assert_eq!(fetches(&provider), expected);
    }
    assert_eq!(
        world.call("conv_1").await["direction"],
        Value::Null,
        "though the listing says inbound"
    );
    world.end().await;
}

#[tokio::test]
async fn what_the_provider_keeps_no_more_takes_nothing_from_what_was_delivered() {
    for sync_is_first in [false, true] {
        let provider = Provider::start().await;
        provider.set_zero_retention("agent_zero");
        let world = world_of(&provider).await;
        for (id, agent) in [("conv_deleted", "agent_1"), ("conv_zero", "agent_zero")] {
            let whole = Conversation::new(id, agent, "2026-11-21T10:00:00Z");
            let mut remnant = whole.clone();
            remnant.is_deleted = agent == "agent_1";
            remnant.outcome = "unknown";
            provider.put(remnant);
            if sync_is_first {
                world.sync().await;
                assert_eq!(world.call(id).await["arrived_by"], "sync", "better than nothing");
            }
            world.deliver_ok(whole.delivery("2026-11-21T10:02:00Z")).await;
            provider.change(id, |conversation| conversation.duration_seconds = 0);
            world.sync().await;
            let call = world.call(id).await;
            assert_eq!(call["customer_number"], "+16125550187", "{id}");
            assert_eq!(
                (&call["outcome"], &call["duration_seconds"]),
                (&json!("success"), &json!(60))
            );
        }
        let row = world.row("agent_zero", "2026-11-21").await;
        assert_eq!((&row["checkable"], &row["held"]), (&json!(false), &json!(1)));
        assert_eq!(world.row("agent_1", "2026-11-21").await["checkable"], true);
        world.end().await;
    }
}

#[tokio::test]
async fn an_agent_with_zero_retention_is_in_the_ledger_by_what_was_delivered() {
    let provider = Provider::start().await;
    provider.set_zero_retention("agent_zero");
    let world = world_of(&provider).await;
    for id in ["conv_1", "conv_2"] {
        let conversation = Conversation::new(id, "agent_zero", "2026-11-20T10:00:00Z");
        world
            .deliver_ok(conversation.delivery("2026-11-20T10:02:00Z"))
            .await;
    }
    world.sync().await;
    let row = world.row("agent_zero", "2026-11-20").await;
    assert_eq!(counts(&row), [0, 2, 2, 0, 0, 0]);
    assert_eq!(row["checkable"], false);
    world.end().await;
}

#[tokio::test]
async fn a_conversation_that_is_gone_is_not_missing() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    let mut gone = Conversation::new("conv_gone", "agent_1", "2026-11-21T10:00:00Z");
    gone.is_gone = true;
    provider.put(gone);
    provider.put(Conversation::new("conv_there", "agent_1", "2026-11-21T10:00:00Z"));
    let status = world.sync().await;
    assert_eq!(
        (&status["last_run"]["gone"], &status["last_run"]["errors"]),
        (&json!(1), &json!([]))
    );
    assert_eq!(
        counts(&world.row("agent_1", "2026-11-21").await),
        [1, 1, 0, 1, 0, 0]
    );
    world.end().await;
}

#[tokio::test]
async fn the_edges_of_the_window_belong_to_it() {
    let provider = Provider::start().await;
    let world = world_with(&provider, Options::default().parameter("SyncFirstRunDays", "0")).await;
    world
        .stack
        .clock()
        .set("2026-11-21T12:00:00.500Z".parse().unwrap());
    for (id, start) in [
        ("conv_early", "2026-11-17T23:59:59Z"),
        ("conv_first", "2026-11-18T00:00:00Z"),
        ("conv_last", "2026-11-21T12:00:00Z"),
        ("conv_late", "2026-11-21T12:00:01Z"),
    ] {
        provider.put(Conversation::new(id, "agent_1", start));
    }
    world.sync().await;
    let calls = world.calls("order=asc").await;
    let ids: Vec<&Value> = calls.iter().map(|call| &call["id"]).collect();
    assert_eq!(ids, ["conv_first", "conv_last"]);
    world.end().await;
}

#[tokio::test]
async fn an_answer_about_another_conversation_is_not_taken_in() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    provider.put(Conversation::new("conv_1", "agent_1", "2026-11-21T10:00:00Z"));
    provider.put(Conversation::new("conv_other", "agent_2", "2026-01-01T10:00:00Z"));
    provider.inject(|asked| {
        asked
            .path
            .ends_with("conv_1")
            .then_some(Fault::About("conv_other"))
    });
    let run = world.sync().await["last_run"].clone();
    assert_eq!(run["errors"][0]["code"], "provider_unreadable");
    assert_eq!((&run["stored"], &run["missing"]), (&json!(0), &json!(1)));
    assert_eq!(world.calls("").await.len(), 0);
    world.end().await;
}

#[tokio::test]
async fn many_that_can_not_be_fetched_hold_up_no_other_and_cause_no_storm() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    for index in 0..60 {
        provider.put(Conversation::new(
            &format!("conv_{index}"),
            "agent_1",
            "2026-11-21T10:00:00Z",
        ));
    }
    for index in 0..150 {
        provider.put(Conversation::new(
            &format!("conv_old_{index}"),
            "agent_2",
            "2026-11-20T10:00:00Z",
        ));
    }
    provider.inject(|asked| {
        let is_bad = asked.path.contains("conversations/") && !asked.path.contains("old");
        is_bad.then_some(Fault::Status(500, None))
    });
    let status = world.sync().await;
    let run = &status["last_run"];
    assert_eq!((&run["stored"], &run["missing"]), (&json!(150), &json!(60)));
    assert_eq!(run["errors"].as_array().unwrap().len(), 10, "{status}");
    assert_eq!(status["compared_until"], NOW);
    let of_bad = fetches(&provider).iter().filter(|id| !id.contains("old")).count();
    assert!(of_bad < 60 * 5, "{of_bad} requests for what fails");
    assert_eq!(metric(&world, "CallsMissing"), 60.0);
    provider.heal();
    assert_eq!(world.sync().await["last_run"]["stored"], 60);
    assert_eq!(metric(&world, "CallsMissing"), 0.0);
    world.end().await;
}

#[tokio::test]
async fn one_that_can_not_be_fetched_holds_up_no_other_and_is_said_to_be_missing() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    for (id, start) in [
        ("conv_bad", "2026-11-21T10:00:00Z"),
        ("conv_good", "2026-11-21T10:00:00Z"),
        ("conv_older", "2026-11-19T10:00:00Z"),
    ] {
        provider.put(Conversation::new(id, "agent_1", start));
    }
    provider.inject(|asked| asked.path.ends_with("conv_bad").then_some(Fault::Malformed));
    let run = world.sync().await["last_run"].clone();
    assert_eq!((&run["stored"], &run["missing"]), (&json!(2), &json!(1)));
    assert_eq!(run["errors"][0]["code"], "provider_unreadable");
    assert_eq!(run["errors"][0]["conversation_id"], "conv_bad");
    assert_eq!(
        counts(&world.row("agent_1", "2026-11-21").await),
        [2, 1, 0, 1, 1, 0]
    );
    provider.heal();
    let run = world.sync().await["last_run"].clone();
    assert_eq!(
        (&run["stored"], &run["missing"], &run["errors"]),
        (&json!(1), &json!(0), &json!([]))
    );
    assert_eq!(
        counts(&world.row("agent_1", "2026-11-21").await),
        [2, 2, 0, 2, 0, 0]
    );
    world.end().await;
}

#[tokio::test]
async fn an_old_day_that_is_not_settled_is_looked_at_again_later() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    provider.put(Conversation::new("conv_1", "agent_1", "2026-11-05T10:00:00Z").with_status("processing"));
    world.sync().await;
    assert_eq!(
        counts(&world.row("agent_1", "2026-11-05").await),
        [0, 0, 0, 0, 0, 1]
    );
    provider.change("conv_1", |conversation| conversation.status = "done");
    world.sync().await;
    assert_eq!(world.row("agent_1", "2026-11-05").await["held"], 0, "not at once");
    world.stack.clock().advance(SignedDuration::from_mins(15));
    world.sync().await;
    assert_eq!(
        counts(&world.row("agent_1", "2026-11-05").await),
        [1, 1, 0, 1, 0, 0]
    );
    provider.asked();
    world.stack.clock().advance(SignedDuration::from_hours(1));
    world.sync().await;
    assert_eq!(provider.asked().len(), 2, "it is settled");
    world.end().await;
}

#[tokio::test]
async fn after_an_outage_of_days_nothing_is_left_out() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    world.sync().await;
    // Began after the last look and before the next window.
    provider.put(Conversation::new(
        "conv_between",
        "agent_1",
        "2026-11-22T10:00:00Z",
    ));
    provider.put(Conversation::new(
        "conv_recent",
        "agent_1",
        "2026-11-30T10:00:00Z",
    ));
    world.stack.clock().set("2026-12-01T12:00:00Z".parse().unwrap());
    assert_eq!(world.sync().await["last_run"]["stored"], 2);
    world.end().await;
}

#[tokio::test]
async fn a_wrong_key_is_one_clear_error_and_no_storm() {
    let provider = Provider::start().await;
    let options = Options::default().parameter("ElevenLabsApiUrl", provider.url());
    for key in ["sk_wrong", "sk with\u{7}a bell"] {
        let options = Options {
            api_key: Some(key.to_owned()),
            ..options.clone()
        };
        let world = World::with(options).await;
        provider.asked();
        let status = world.sync_once().await.expect(200);
        assert_eq!(status["more_left"], false, "asking again does not help");
        let view = world.sync_view().await;
        assert_eq!(view["configured"], true);
        let errors = view["last_run"]["errors"].as_array().unwrap();
        assert_eq!((errors.len(), &errors[0]["code"]), (1, &json!("api_key_refused")));
        assert!(
            errors[0]["message"]
                .as_str()
                .unwrap()
                .contains("ElevenLabsApiKey")
        );
        assert!(provider.asked().len() <= 1, "{key:?}");
        assert_eq!(view["compared_until"], Value::Null);

        // Mended.
        world.stack.set_secret("ElevenLabsApiKey", &[KEY]).unwrap();
        world.stack.clock().advance(SignedDuration::from_mins(2));
        assert_eq!(world.sync().await["last_run"]["errors"], json!([]));
        world.end().await;
    }
}

#[tokio::test]
async fn a_key_that_is_withdrawn_half_way_ends_the_run_at_once() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    for index in 0..50 {
        provider.put(Conversation::new(
            &format!("conv_{index}"),
            "agent_1",
            "2026-11-21T10:00:00Z",
        ));
    }
    provider.inject(|asked| {
        let is_fetch = asked.path.contains("conversations/");
        (is_fetch && asked.number > 10).then_some(Fault::Status(401, None))
    });
    let status = world.sync_once().await.expect(200);
    assert_eq!(status["last_run"]["errors"][0]["code"], "api_key_refused");
    assert!(
        provider.asked().len() <= 10 + 1 + 5,
        "those under way, and no others"
    );
    provider.heal();
    world.sync().await;
    assert_eq!(world.calls("").await.len(), 50);
    world.end().await;
}

#[tokio::test]
async fn the_provider_is_asked_no_sooner_than_it_says() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    for index in 0..20 {
        provider.put(Conversation::new(
            &format!("conv_{index}"),
            "agent_1",
            "2026-11-21T10:00:00Z",
        ));
    }
    let told = Arc::new(AtomicUsize::new(0));
    let rule = Arc::clone(&told);
    provider.inject(move |asked| {
        let is_fetch = asked.path.contains("conversations/");
        (is_fetch && rule.fetch_add(1, Ordering::Relaxed) == 5).then_some(Fault::Status(429, Some(3)))
    });
    assert_eq!(world.sync_once().await.expect(200)["last_run"]["stored"], 20);
    let fetched: Vec<Instant> = provider
        .asked()
        .iter()
        .filter(|asked| asked.path.contains("conversations/"))
        .map(|asked| asked.at)
        .collect();
    assert_eq!(fetched.len(), 21);
    let refused_at = fetched[5];
    // Those that were under way, and from then on nobody for three seconds.
    let early = fetched[6..]
        .iter()
        .filter(|at| at.duration_since(refused_at) < Duration::from_millis(2900));
    assert!(early.count() <= 4, "all of them wait");
    world.end().await;
}

#[tokio::test]
async fn a_run_ends_in_time_and_the_next_one_goes_on() {
    let provider = Provider::start().await;
    let world = world_with(&provider, Options::default().parameter("SyncFirstRunDays", "0")).await;
    for index in 0..120 {
        let minutes = SignedDuration::from_mins(index);
        let start = "2026-11-21T09:00:00Z".parse::<Timestamp>().unwrap() - minutes;
        provider.put(Conversation::new(
            &format!("conv_{index:03}"),
            "agent_1",
            &start.to_string(),
        ));
    }
    provider.inject(|asked| {
        asked
            .path
            .contains("conversations/")
            .then_some(Fault::Slow(Duration::from_millis(1100)))
    });
    let began = Instant::now();
    let status = world.sync_once().await.expect(200);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(status["more_left"], true);
    assert_eq!(status["running"], false);
    assert_eq!(
        status["last_run"]["errors"],
        json!([]),
        "that the time was over is none"
    );
    let stored = status["last_run"]["stored"].as_u64().unwrap();
    assert!((20..120).contains(&stored), "{stored}");
    provider.heal();
    provider.asked();
    world.stack.clock().advance(SignedDuration::from_hours(5));
    provider.put(Conversation::new("conv_later", "agent_1", "2026-11-21T16:00:00Z"));
    let status = world.sync_once().await.expect(200);
    assert_eq!(
        fetches(&provider).len() as u64,
        120 - stored + 1,
        "nothing is fetched twice, and what came since is found at once"
    );
    assert_eq!(
        (&status["more_left"], &status["compared_until"]),
        (&json!(false), &json!("2026-11-21T17:00:00Z"))
    );
    assert_eq!(counts(&world.row("agent_1", "2026-11-21").await)[..2], [121, 121]);
    world.end().await;
}

#[tokio::test]
async fn a_run_by_the_clock_ends_before_the_function_does() {
    let provider = Provider::start().await;
    let world = world_with(&provider, with_template("soon", "Timeout: 300", "Timeout: 33")).await;
    for index in 0..100 {
        provider.put(Conversation::new(
            &format!("conv_{index}"),
            "agent_1",
            "2026-11-21T10:00:00Z",
        ));
    }
    provider.inject(|asked| {
        let is_fetch = asked.path.contains("conversations/");
        is_fetch.then_some(Fault::Slow(Duration::from_millis(500)))
    });
    let began = Instant::now();
    world.stack.strike("SyncFunction").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let view = world.sync_view().await;
    assert_eq!(
        (&view["more_left"], &view["running"]),
        (&json!(true), &json!(false))
    );
    assert!(view["last_run"]["stored"].as_u64().unwrap() > 5);
    world.end().await;
}

#[tokio::test]
async fn two_runs_at_once_do_the_work_once() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    for index in 0..40 {
        provider.put(Conversation::new(
            &format!("conv_{index}"),
            "agent_1",
            "2026-11-21T10:00:00Z",
        ));
    }
    provider.inject(|asked| {
        asked
            .path
            .contains("conversations/")
            .then_some(Fault::Slow(Duration::from_millis(100)))
    });
    let (one, other, clock) = tokio::join!(
        world.sync_once(),
        world.sync_once(),
        world.stack.strike("SyncFunction")
    );
    clock.unwrap();
    let busy = [&one, &other]
        .iter()
        .filter(|answer| answer.status == 409)
        .count();
    assert!(busy >= 1, "at most one of the three works");
    for answer in [one, other] {
        assert!(answer.status == 200 || answer.error().1 == "sync_running");
    }
    let mut view = world.sync_view().await;
    while view["running"] == true {
        view = world.sync_view().await;
    }
    assert_eq!(world.calls("").await.len(), 40);
    let fetched = fetches(&provider);
    assert_eq!(
        (fetched.len(), fetched.iter().collect::<BTreeSet<_>>().len()),
        (40, 40)
    );
    world.end().await;
}

/// The calls and the ledger, without what depends on when a run took place.
async fn end_state(world: &World) -> (Vec<Value>, Vec<Value>) {
    let mut calls = world.calls("").await;
    for call in &mut calls {
        for when in ["received_at", "updated_at"] {
            call[when] = Value::Null;
        }
        call["attribution"]["at"] = Value::Null;
        call["conversion"]["at"] = Value::Null;
    }
    for call in &mut calls {
        let raw = world
            .get(&format!("/api/calls/{}/raw", call["id"].as_str().unwrap()))
            .await;
        call["raw"] = raw.json();
    }
    let mut ledger = world.sync_view().await["ledger"].as_array().unwrap().clone();
    for row in &mut ledger {
        row["checked_at"] = Value::Null;
    }
    (calls, ledger)
}

/// A few conversations of two months, one of them delivered.
async fn a_few(provider: &Provider) -> World {
    let options = Options::default().parameter("SyncFirstRunDays", "5");
    let world = world_with(provider, options).await;
    world.stack.clock().set("2026-11-03T12:00:00Z".parse().unwrap());
    let delivered = Conversation::new("conv_delivered", "agent_1", "2026-11-03T10:00:00Z");
    world.deliver_ok(delivered.delivery("2026-11-03T10:02:00Z")).await;
    provider.put(delivered);
    for (id, agent, start) in [
        ("conv_a", "agent_1", "2026-11-03T10:00:00Z"),
        ("conv_b", "agent_2", "2026-10-31T10:00:00Z"),
        ("conv_c", "agent_2", "2026-10-29T10:00:00Z"),
    ] {
        provider.put(Conversation::new(id, agent, start));
    }
    world
}

/// After a run was killed: when its lease is over, everything comes to its end.
async fn recover(world: &World) -> (Vec<Value>, Vec<Value>) {
    world.stack.clock().advance(SignedDuration::from_secs(181));
    assert_eq!(world.sync().await["last_run"]["errors"], json!([]));
    end_state(world).await
}

#[tokio::test]
async fn killed_at_any_request_to_the_provider_it_comes_to_the_same_end() {
    let provider = Provider::start().await;
    let world = a_few(&provider).await;
    world.sync().await;
    let expected = end_state(&world).await;
    let requests = provider.asked().len();
    assert!(requests > 8, "{requests}");
    for killed_at in 0..requests {
        let world = a_few(&provider).await;
        provider.asked();
        let function = Arc::clone(world.stack.function("SyncFunction").unwrap());
        provider.inject(move |asked| {
            (asked.number == killed_at).then(|| {
                function.kill_instances();
                Fault::Silence
            })
        });
        let killed = world.sync_once().await;
        assert!(killed.status >= 500, "{killed_at}: {killed:?}");
        provider.heal();
        let view = world.sync_view().await;
        assert_eq!(
            (&view["running"], &view["last_run"]["finished_at"]),
            (&json!(true), &Value::Null)
        );
        assert_eq!(
            world.sync_once().await.error().1,
            "sync_running",
            "until the lease is over"
        );
        assert_eq!(recover(&world).await, expected, "killed at request {killed_at}");
    }
}

#[tokio::test]
async fn killed_at_any_write_it_comes_to_the_same_end() {
    let provider = Provider::start().await;
    let world = a_few(&provider).await;
    let is_write = |operation: &str| operation.starts_with("Put") || operation.starts_with("Update");
    world.stack.dynamodb().record();
    world.sync().await;
    let writes = world.stack.dynamodb().recorded();
    let writes = writes
        .iter()
        .filter(|request| is_write(&request.operation))
        .count();
    assert!(writes > 10, "{writes}");
    let expected = end_state(&world).await;
    let faults = [
        local::dynamodb::Fault::CutBefore,
        local::dynamodb::Fault::CutAfter,
    ];
    for killed_at in 0..writes {
        // In the short form each write once, before or after it took effect, in turn.
        let faults = if full_size() {
            &faults[..]
        } else {
            &faults[killed_at % 2..][..1]
        };
        for fault in faults.iter().copied() {
            let world = a_few(&provider).await;
            let function = Arc::clone(world.stack.function("SyncFunction").unwrap());
            let seen = AtomicUsize::new(0);
            world.stack.dynamodb().inject(move |request| {
                let is_it = is_write(&request.operation) && seen.fetch_add(1, Ordering::Relaxed) == killed_at;
                is_it.then(|| {
                    function.kill_instances();
                    fault
                })
            });
            world.sync_once().await;
            world.stack.dynamodb().heal();
            assert_eq!(
                recover(&world).await,
                expected,
                "killed at write {killed_at}, {fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn calls_that_come_by_sync_only_are_a_webhook_that_stopped() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    let old = Conversation::new("conv_before_us", "agent_1", "2026-11-20T10:00:00Z");
    provider.put(old);
    assert_eq!(
        world.sync().await["sync_only_since"],
        Value::Null,
        "nobody could deliver that here"
    );
    let hours_later = |hours: i64| {
        world
            .stack
            .clock()
            .set(NOW.parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours))
    };

    let delivered = Conversation::new("conv_delivered", "agent_1", "2026-11-21T13:00:00Z");
    provider.put(delivered.clone());
    // One was lost before it.
    provider.put(Conversation::new(
        "conv_lost_0",
        "agent_1",
        "2026-11-21T12:30:00Z",
    ));
    hours_later(2);
    world.deliver_ok(delivered.delivery("2026-11-21T13:02:00Z")).await;
    assert_eq!(world.sync().await["sync_only_since"], Value::Null);

    for (id, start) in [
        ("conv_lost_1", "2026-11-21T15:00:00Z"),
        ("conv_lost_2", "2026-11-21T16:00:00Z"),
    ] {
        provider.put(Conversation::new(id, "agent_1", start));
    }
    hours_later(5);
    provider.set_webhooks(json!([
        { "name": "Ringmark", "webhook_id": "wh_1", "webhook_url": "https://x.example/api/webhooks/elevenlabs",
          "is_disabled": false, "is_auto_disabled": true, "created_at_unix": 1, "auth_type": "hmac",
          "most_recent_failure_error_code": 401, "most_recent_failure_timestamp": 1_795_300_084, "usage": null },
        { "name": "Another", "webhook_id": "wh_2", "webhook_url": "https://x.example/else", "is_disabled": false,
          "is_auto_disabled": false, "created_at_unix": 1, "auth_type": "hmac" },
    ]));
    let status = world.sync().await;
    assert_eq!(
        status["sync_only_since"], "2026-11-21T15:01:00Z",
        "the end of the first one"
    );
    assert_eq!(
        status["webhooks"],
        json!([{ "webhook_id": "wh_1", "name": "Ringmark", "url": "https://x.example/api/webhooks/elevenlabs",
                 "is_disabled": true, "failed_at": "2026-11-21T22:28:04Z", "failed_with": 401 }])
    );
    // A replay is no delivery, and a day without calls is no sign of life.
    hours_later(40);
    let entry = world.deliveries().await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/deliveries/{entry}/replay");
    world
        .send(Method::POST, &path, &json!({ "dry_run": false }))
        .await
        .expect(200);
    assert_eq!(world.sync().await["sync_only_since"], "2026-11-21T15:01:00Z");
    let hours = metric(&world, "HoursBySyncOnly");
    assert!((36.9..37.1).contains(&hours), "{hours}");
    assert_eq!(metric(&world, "WebhooksDisabled"), 1.0);

    // Late, but it delivers: the call is here already, by sync.
    let late = Conversation::new("conv_lost_2", "agent_1", "2026-11-21T16:00:00Z");
    assert_eq!(
        world.deliver_ok(late.delivery("2026-11-21T16:02:00Z")).await,
        "ignored"
    );
    hours_later(41);
    assert_eq!(world.sync().await["sync_only_since"], Value::Null);
    world.end().await;
}

#[tokio::test]
async fn what_a_delivery_left_half_written_is_completed() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    world.sync().await;
    for (id, part) in [("conv_no_body", "body#"), ("conv_no_month", "months")] {
        let conversation = Conversation::new(id, "agent_1", "2026-11-21T11:00:00Z");
        provider.put(conversation.clone());
        world.stack.dynamodb().inject(move |request| {
            let is_it = request.key("part").starts_with(part) && request.operation != "GetItem";
            is_it.then_some(local::dynamodb::Fault::InternalError)
        });
        let delivered = world.deliver(conversation.delivery("2026-11-21T11:02:00Z")).await;
        assert_eq!(delivered.status, 503, "{id}");
        world.stack.dynamodb().heal();
        assert_eq!(world.call(id).await["arrived_by"], "webhook", "its head is here");
        world.stack.clock().advance(SignedDuration::from_mins(15));
        world.sync().await;
        let raw = world.get(&format!("/api/calls/{id}/raw")).await;
        assert!(String::from_utf8_lossy(&raw.body).contains(id), "{raw:?}");
        assert!(world.calls("").await.iter().any(|call| call["id"] == id));
        provider.asked();
        world.stack.clock().advance(SignedDuration::from_mins(15));
        world.sync().await;
        assert_eq!(fetches(&provider), [""; 0], "{id} is whole now");
        // The next one begins with an empty list of months.
        let key = json!({ "call_id": { "S": "calls" }, "part": { "S": "months" } });
        world
            .ask_store("DeleteItem", &json!({ "TableName": "CallsTable", "Key": key }))
            .await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_call_that_failed_is_fetched_once_though_its_delivery_says_more() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    let failure: Value = serde_json::from_slice(&event("webhook/initiation_failure_twilio.json")).unwrap();
    let id = failure["data"]["conversation_id"].as_str().unwrap();
    world.deliver_ok(failure.to_string()).await;
    let before = world.call(id).await;
    let started_at: Timestamp = before["started_at"].as_str().unwrap().parse().unwrap();
    let mut conversation = Conversation::new(
        id,
        "agent_1",
        &(started_at - SignedDuration::from_secs(20)).to_string(),
    );
    conversation.status = "failed";
    conversation.is_deleted = true;
    provider.put(conversation);
    world
        .stack
        .clock()
        .set(started_at + SignedDuration::from_hours(1));
    for expected in [&[id][..], &[], &[]] {
        world.sync().await;
        assert_eq!(fetches(&provider), expected);
        world.stack.clock().advance(SignedDuration::from_mins(15));
    }
    assert_eq!(world.call(id).await["customer_number"], before["customer_number"]);
    world.end().await;
}

#[tokio::test]
async fn where_agents_can_not_be_read_nothing_that_was_delivered_is_replaced() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    provider.inject(|asked| {
        asked
            .path
            .contains("/agents/")
            .then_some(Fault::Status(403, None))
    });
    let delivered = Conversation::new("conv_delivered", "agent_1", "2026-11-21T10:00:00Z");
    provider.put(delivered.clone());
    provider.change("conv_delivered", |conversation| conversation.outcome = "failure");
    world.deliver_ok(delivered.delivery("2026-11-21T10:02:00Z")).await;
    let late = Conversation::new("conv_late", "agent_1", "2026-11-21T10:00:00Z");
    provider.put(late.clone());
    let run = world.sync().await["last_run"].clone();
    assert_eq!(
        (&run["stored"], &run["errors"][0]["code"]),
        (&json!(1), &json!("agents_unreadable"))
    );
    assert_eq!(world.call("conv_delivered").await["outcome"], "success");
    assert_eq!(
        world.deliver_ok(late.delivery("2026-11-21T10:02:00Z")).await,
        "updated"
    );
    let row = world.row("agent_1", "2026-11-21").await;
    assert_eq!((&row["checkable"], &row["missing"]), (&json!(true), &json!(0)));
    // Asked again the next day.
    provider.asked();
    provider.heal();
    for (hours, asks) in [(1, false), (24, true)] {
        world.stack.clock().advance(SignedDuration::from_hours(hours));
        world.sync().await;
        let asked = provider.asked();
        assert_eq!(
            asked.iter().any(|asked| asked.path.contains("/agents/")),
            asks,
            "{hours}"
        );
    }
    assert_eq!(world.call("conv_delivered").await["outcome"], "failure");
    world.end().await;
}

#[tokio::test]
async fn a_run_that_lost_its_lease_leaves_the_work_to_the_other() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    for index in 0..100 {
        provider.put(Conversation::new(
            &format!("conv_{index}"),
            "agent_1",
            "2026-11-21T10:00:00Z",
        ));
    }
    provider.inject(|asked| {
        asked
            .path
            .contains("conversations/")
            .then_some(Fault::Slow(Duration::from_millis(900)))
    });
    let first = world.sync_once();
    let last_run = async || world.sync_view().await["last_run"]["started_at"].clone();
    let second = async {
        while last_run().await == Value::Null {
            tokio::task::yield_now().await;
        }
        let of_first = last_run().await;
        world.stack.clock().advance(SignedDuration::from_secs(200));
        let hurry = async {
            while last_run().await == of_first {
                tokio::task::yield_now().await;
            }
            provider.heal();
        };
        tokio::join!(world.sync_once(), hurry).0
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(
        first.error(),
        (409, "sync_running".to_owned()),
        "it learned so when it wanted to save"
    );
    let second = second.expect(200);
    assert_eq!(second["last_run"]["missing"], 0);
    assert_eq!(second["running"], false);
    assert_eq!(world.sync_view().await["last_run"], second["last_run"]);
    assert_eq!(world.calls("").await.len(), 100);
    assert_eq!(counts(&world.row("agent_1", "2026-11-21").await)[..2], [100, 100]);
    world.end().await;
}

#[tokio::test]
async fn runs_that_are_each_too_short_for_the_window_come_to_its_end_together() {
    let provider = Provider::start().await;
    let options = with_template("short", "Timeout: 300", "Timeout: 35");
    let world = world_with(&provider, options.parameter("SyncFirstRunDays", "6")).await;
    let now: Timestamp = NOW.parse().unwrap();
    for index in 0..450 {
        let start = now - SignedDuration::from_mins(1 + index * 11);
        provider.put(Conversation::new(
            &format!("conv_{index:03}"),
            "agent_1",
            &start.to_string(),
        ));
    }
    world.stack.clock().set(now);
    // What is here already is not what takes its time.
    world.sync().await;
    world.stack.clock().advance(SignedDuration::from_hours(1));
    provider.inject(|asked| {
        asked
            .path
            .ends_with("/conversations")
            .then_some(Fault::Slow(Duration::from_millis(1300)))
    });
    let mut runs = 0;
    loop {
        world.stack.strike("SyncFunction").await.unwrap();
        runs += 1;
        let view = world.sync_view().await;
        if view["more_left"] == false {
            assert_eq!(view["compared_until"], world.stack.clock().now().to_string());
            break;
        }
        assert!(runs < 10, "{view}");
        world.stack.clock().advance(SignedDuration::from_mins(15));
    }
    assert!(runs > 1, "one was too short");
    assert!(metric(&world, "HoursSinceCompared") < 0.1);
    let view = world.sync_view().await;
    let rows = view["ledger"].as_array().unwrap();
    let held: u64 = rows.iter().map(|row| row["held"].as_u64().unwrap()).sum();
    assert_eq!(held, 450);
    world.end().await;
}

#[tokio::test]
async fn a_provider_that_asks_for_a_longer_wait_than_a_run_lasts_is_told_of() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    provider.inject(|_| Some(Fault::Status(429, Some(300))));
    let began = Instant::now();
    let status = world.sync_once().await.expect(200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(status["last_run"]["errors"][0]["code"], "provider_unavailable");
    assert_eq!(provider.asked().len(), 1);
    world.stack.clock().advance(SignedDuration::from_hours(7));
    world.sync_once().await.expect(200);
    assert!(metric(&world, "HoursSinceCompared") > 6.9, "and an alarm");
    world.end().await;
}

#[tokio::test]
async fn a_store_that_fails_is_told_of_and_the_next_run_goes_on() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    provider.put(Conversation::new("conv_1", "agent_1", "2026-11-21T10:00:00Z"));
    world
        .stack
        .dynamodb()
        .inject(|request| (request.table() == "CallsTable").then_some(local::dynamodb::Fault::InternalError));
    assert_eq!(world.sync_once().await.error(), (503, "unavailable".to_owned()));
    assert!(
        world.stack.strike("SyncFunction").await.is_err(),
        "which Lambda counts as an error"
    );
    let view = world.sync_view().await;
    assert_eq!(
        (&view["running"], &view["last_run"]["errors"][0]["code"]),
        (&json!(false), &json!("store_unavailable"))
    );
    world.stack.dynamodb().heal();
    assert_eq!(world.sync().await["last_run"]["stored"], 1);
    world.end().await;
}

/// A number that looks drawn, always the same for the same seed.
fn drawn(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[tokio::test]
async fn whatever_goes_wrong_every_conversation_that_is_over_is_held_once() {
    let count: u64 = if full_size() { 2350 } else { 350 };
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    let campaign = world.campaign("Spring").await;
    world
        .assign(
            &campaign,
            "+16125550142",
            &json!({ "from": "2026-01-01T00:00:00Z" }),
        )
        .await
        .expect(200);
    let other = world.campaign("Chosen by people").await;
    let now: Timestamp = NOW.parse().unwrap();
    let (mut running, mut gone) = (Vec::new(), BTreeSet::new());
    for index in 0..count {
        let id = format!("conv_{index:05}");
        // Six days, many with the same start.
        let seconds = i64::try_from(drawn(index) % (6 * 24 * 60)).unwrap() * 60;
        let start = now - SignedDuration::from_secs(seconds + 60);
        let mut conversation =
            Conversation::new(&id, &format!("agent_{:02}", index % 30), &start.to_string());
        conversation.numbers.1 = format!("+1651{:07}", drawn(index) % 10_000_000);
        match index % 10 {
            0 | 1 => {
                let made_at = (start + SignedDuration::from_mins(3)).to_string();
                assert_eq!(world.deliver_ok(conversation.delivery(&made_at)).await, "stored");
            }
            2 if index % 50 == 2 => {
                conversation.is_gone = true;
                gone.insert(id.clone());
            }
            3 => {
                conversation.status =
                    ["initiated", "in-progress", "processing"][usize::try_from(index / 10 % 3).unwrap()];
                running.push(id.clone());
            }
            _ => {}
        }
        provider.put(conversation);
    }
    let decided = "conv_00000";
    world
        .send(
            Method::PUT,
            &format!("/api/calls/{decided}/attribution"),
            &json!({ "campaign_id": other }),
        )
        .await
        .expect(200);
    provider.repeat_entries(7);
    let silences = AtomicUsize::new(0);
    provider.inject(move |asked| match drawn(asked.number as u64 * 31 + 7) % 20 {
        0 => Some(Fault::Status(429, Some(drawn(asked.number as u64) % 2))),
        1 => Some(Fault::Status(500, None)),
        2 => Some(Fault::Status(503, None)),
        3 => Some(Fault::Truncated),
        4 => Some(Fault::Malformed),
        5 if silences.fetch_add(1, Ordering::Relaxed) < 2 => Some(Fault::Silence),
        _ => None,
    });

    let mut later = now;
    let rounds = if full_size() { 40 } else { 12 };
    for round in 0..rounds {
        // Some finish hours after they started, some of them between two runs.
        if round % 2 == 1
            && let Some(id) = running.pop()
        {
            provider.change(&id, |conversation| {
                conversation.status = if round % 4 == 1 { "done" } else { "failed" }
            });
        }
        world.sync_once().await.expect(200);
        later += SignedDuration::from_mins(40);
        world.stack.clock().set(later);
    }
    for id in &running {
        provider.change(id, |conversation| conversation.status = "done");
    }
    for _ in 0..10 {
        later += SignedDuration::from_hours(10);
        world.stack.clock().set(later);
        world.sync().await;
    }

    let calls = world.calls("").await;
    let ids: BTreeSet<&str> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(
        (calls.len(), ids.len() as u64),
        (ids.len(), count - gone.len() as u64)
    );
    assert!(gone.iter().all(|id| !ids.contains(id.as_str())));
    for call in &calls {
        let id = call["id"].as_str().unwrap();
        assert!(
            call["customer_number"].as_str().unwrap().starts_with("+1651"),
            "{call}"
        );
        let expected = if id == decided {
            "Chosen by people"
        } else {
            "Spring"
        };
        assert_eq!(call["attribution"]["campaign_name"], expected, "{id}");
        let index: u64 = id[5..].parse().unwrap();
        let by = if index % 10 < 2 { "webhook" } else { "sync" };
        assert_eq!(call["arrived_by"], by, "{id}");
    }
    let view = world.sync_view().await;
    let rows = view["ledger"].as_array().unwrap();
    let sum = |name: &str| rows.iter().map(|row| row[name].as_u64().unwrap()).sum::<u64>();
    let held = count - gone.len() as u64;
    assert_eq!(
        [sum("provider"), sum("held"), sum("missing"), sum("unfinished")],
        [held, held, 0, 0]
    );
    assert_eq!(
        rows.iter()
            .map(|row| row["agent_id"].as_str().unwrap())
            .collect::<BTreeSet<_>>()
            .len(),
        30
    );
    world.end().await;
}
