//! What a request costs at the store: units and round trips are budgets.

use std::time::Duration;

use local::dynamodb::{Fault, StoreRequest};
use local::sender::SIGNATURE_HEADER;
use serde_json::json;

use crate::support::{World, event, phone_call};

fn write_units(requests: &[StoreRequest]) -> f64 {
    requests.iter().map(|request| request.write_units).sum()
}

fn read_units(requests: &[StoreRequest]) -> f64 {
    requests.iter().map(|request| request.read_units).sum()
}

/// The longest chain of requests of which each began after the one before was
/// answered. With every request held up, those sent together overlap for sure.
fn round_trips(requests: &[StoreRequest]) -> usize {
    let mut trips = 0;
    let mut answered = None;
    for request in requests {
        if answered.is_none_or(|answered| request.started >= answered) {
            trips += 1;
            answered = Some(request.finished);
        } else {
            answered = answered.max(Some(request.finished));
        }
    }
    trips
}

/// A campaign with the sample's number, and a call in the same month, so that
/// what is measured is the ordinary case.
async fn settled_world() -> World {
    let world = World::new().await;
    let campaign = world.campaign("Spring mailing").await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&campaign, "+16125550142", &ever).await.expect(200);
    world
        .deliver_ok(phone_call("conv_first", "2026-11-01T10:00:00Z", "2026-11-01T10:02:00Z").to_string())
        .await;
    world
}

#[tokio::test]
async fn a_new_phone_call_costs_at_most_nine_write_units() {
    let world = settled_world().await;
    world.stack.dynamodb().record();
    world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await;
    let requests = world.stack.dynamodb().recorded();
    eprintln!(
        "new call: {} write, {} read units",
        write_units(&requests),
        read_units(&requests)
    );
    assert!(write_units(&requests) <= 9.0, "{requests:#?}");
    assert!(write_units(&requests) >= 5.0, "the store counts");
}

#[tokio::test]
async fn a_duplicate_costs_at_most_three_write_units() {
    let world = settled_world().await;
    world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await;
    world.stack.dynamodb().record();
    assert_eq!(
        world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await,
        "duplicate"
    );
    let requests = world.stack.dynamodb().recorded();
    eprintln!(
        "duplicate: {} write, {} read units",
        write_units(&requests),
        read_units(&requests)
    );
    assert!(write_units(&requests) <= 3.0, "{requests:#?}");
}

#[tokio::test]
async fn a_refused_delivery_costs_at_most_two_write_units() {
    let world = settled_world().await;
    world.stack.dynamodb().record();
    let bad = [
        ("content-type", "application/json"),
        (SIGNATURE_HEADER, "t=1795300084,v0=00"),
    ];
    assert_eq!(
        world
            .post(&bad, event("webhook/phone_inbound_twilio.json"))
            .await
            .status,
        401
    );
    let requests = world.stack.dynamodb().recorded();
    eprintln!("refused: {} write units", write_units(&requests));
    assert!(write_units(&requests) <= 2.0, "{requests:#?}");
}

#[tokio::test]
async fn a_delivery_takes_two_sequential_round_trips() {
    let world = settled_world().await;
    let hold = Duration::from_millis(300);
    world.stack.dynamodb().inject(move |_| Some(Fault::Delayed(hold)));
    for (what, most) in [("stored", 2), ("duplicate", 2)] {
        world.stack.dynamodb().record();
        assert_eq!(
            world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await,
            what
        );
        let requests = world.stack.dynamodb().recorded();
        assert_eq!(round_trips(&requests), most, "{what}: {requests:#?}");
    }
}

#[tokio::test]
async fn a_page_of_25_calls_costs_at_most_four_read_units() {
    let world = settled_world().await;
    // Three campaigns on a page: each name is a read of its own.
    for number in ["+16125550143", "+16125550144"] {
        let campaign = world.campaign("Another").await;
        let ever = json!({ "from": "2020-01-01T00:00:00Z" });
        world.assign(&campaign, number, &ever).await.expect(200);
    }
    for index in 0..30 {
        let body = String::from_utf8(event("webhook/phone_inbound_twilio.json")).unwrap();
        let id = format!("conv_edaakjhb57yhmdwecgv6e0bfje{index:02}");
        let body = body
            .replace("conv_edaakjhb57yhmdwecgv6e0bfjemh", &id)
            .replace("+16125550142", &format!("+1612555014{}", 2 + index % 3));
        world.deliver_ok(body).await;
    }
    for path in ["/api/calls", "/api/calls?attribution=unattributed"] {
        world.stack.dynamodb().record();
        world.get(path).await.expect(200);
        let requests = world.stack.dynamodb().recorded();
        eprintln!("{path}: {} read units", read_units(&requests));
        assert!(read_units(&requests) <= 4.0, "{requests:#?}");
        assert!(requests.iter().all(|request| request.operation != "Scan"));
    }
}
