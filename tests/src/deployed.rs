//! A call makes its way through a whole stack. `BASE_URL`, `RINGMARK_WEBHOOK_SECRET` and
//! `RINGMARK_TOKEN` (with both scopes) lead it to a deployed one; without it is a local one.

use jiff::Timestamp;
use local::sender::{self, WEBHOOK_PATH};
use local::{DEFAULT_WEBHOOK_SECRET, issuer};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{World, client_from, phone_call, request};

struct Deployed {
    url: String,
    secret: String,
    token: String,
    client: Client,
    /// Where it is a local one.
    _world: Option<World>,
}

impl Deployed {
    async fn find() -> Self {
        let setting = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("BASE_URL needs {name}"));
        if let Ok(url) = std::env::var("BASE_URL") {
            return Self {
                url: url.trim_end_matches('/').to_owned(),
                secret: setting("RINGMARK_WEBHOOK_SECRET"),
                token: setting("RINGMARK_TOKEN"),
                client: Client::new(),
                _world: None,
            };
        }
        let world = World::new().await;
        Self {
            url: world.stack.url().to_owned(),
            secret: DEFAULT_WEBHOOK_SECRET.to_owned(),
            token: world.token(&[issuer::READ, issuer::WRITE]),
            client: client_from([127, 0, 0, 1].into()),
            _world: Some(world),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let bearer = format!("Bearer {}", self.token);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let url = format!("{}{path}", self.url);
        let answer = request(&self.client, method, &url, &headers, body.to_string()).await;
        assert!([200, 201].contains(&answer.status), "{path}: {answer:?}");
        answer.json()
    }
}

#[tokio::test]
async fn a_call_is_taken_credited_found_and_decided_about() {
    let stack = Deployed::find().await;
    // One call and one campaign for ever, however often this is told.
    let at = "2026-01-02T10:00:00Z";
    let call = "conv_ringmark_smoke_test";
    let path = format!("/api/calls/{call}");
    let campaigns = stack
        .ask(Method::GET, "/api/campaigns?limit=100", json!({}))
        .await;
    let campaigns = campaigns["campaigns"].as_array().unwrap();
    let campaign = campaigns
        .iter()
        .find(|campaign| campaign["code"] == "ringmark_smoke_test");
    let campaign = match campaign {
        Some(campaign) => campaign.clone(),
        None => {
            let body = json!({ "name": "Smoke test", "code": "ringmark_smoke_test" });
            stack.ask(Method::POST, "/api/campaigns", body).await
        }
    };

    let mut body = phone_call(call, at, at);
    body["data"]["conversation_initiation_client_data"]["dynamic_variables"]["utm_campaign"] =
        json!("ringmark_smoke_test");
    let body = body.to_string();
    for _ in 0..2 {
        let (status, answer) = sender::post(
            &stack.client,
            &stack.url,
            &stack.secret,
            Timestamp::now(),
            body.clone().into(),
        )
        .await
        .unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    let unsigned = [("content-type", "application/json")];
    let webhook = format!("{}{WEBHOOK_PATH}", stack.url);
    let refused = request(&stack.client, Method::POST, &webhook, &unsigned, body).await;
    assert_eq!(refused.status, 401);

    stack
        .ask(Method::DELETE, &format!("{path}/attribution"), json!({}))
        .await;
    let read = stack.ask(Method::GET, &path, json!({})).await;
    assert_eq!(read["attribution"]["campaign_id"], campaign["id"]);
    assert_eq!(read["attribution"]["method"], "dynamic_variable");
    let order = json!({ "campaign_id": null, "call_ids": [call] });
    let assigned = stack.ask(Method::POST, "/api/assignments", order).await;
    assert_eq!(assigned["counts"]["assigned"], 1);
    let undo = format!(
        "/api/assignments/{}/undo",
        assigned["assignment_id"].as_str().unwrap()
    );
    stack.ask(Method::POST, &undo, json!({})).await;
    let read = stack.ask(Method::GET, &path, json!({})).await;
    assert_eq!(read["attribution"]["campaign_id"], campaign["id"]);

    let report = "/api/reports/summary?group_by=campaign&from=2026-01-02&to=2026-01-03";
    let report = stack.ask(Method::GET, report, json!({})).await;
    assert!(report["total"]["calls"].as_u64().unwrap() >= 1, "{report}");
    let log = stack
        .ask(
            Method::GET,
            &format!("/api/deliveries?conversation_id={call}"),
            json!({}),
        )
        .await;
    assert!(log["deliveries"].as_array().unwrap().len() >= 2, "{log}");
}
