//! The demo: everything that a newcomer may want to see, through the front door.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use local::{DEFAULT_WEBHOOK_SECRET, demo};

use crate::support::World;

#[tokio::test]
async fn the_demo_shows_something_of_everything_in_under_two_minutes() {
    let world = World::new().await;
    let began = Instant::now();
    demo::fill(world.stack.url(), DEFAULT_WEBHOOK_SECRET)
        .await
        .unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(120),
        "{:?}",
        began.elapsed()
    );

    let summary = world
        .get("/api/reports/summary?group_by=campaign&from=2020-01-01")
        .await
        .expect(200);
    assert_eq!(summary["total"]["calls"], 1512, "1,500 and 12 that never began");
    let rows = summary["rows"].as_array().unwrap();
    let counted = |key: &str| {
        rows.iter()
            .find(|row| row["key"] == key)
            .map_or(0, |row| row["calls"].as_u64().unwrap())
    };
    assert!(rows.iter().filter(|row| row["name"].is_string()).count() == 4);
    assert!(
        counted("ambiguous") > 0 && counted("unattributed") > 100,
        "{rows:#?}"
    );
    for query in [
        "outcome=success",
        "outcome=failure",
        "outcome=unknown",
        "channel=sms",
        "channel=web",
        "direction=outbound",
        "customer_number=anonymous",
    ] {
        let page = world
            .get(&format!("/api/calls?limit=1&{query}"))
            .await
            .expect(200);
        assert_eq!(page["calls"].as_array().unwrap().len(), 1, "{query}");
    }
    let methods: BTreeSet<String> = world
        .calls("limit=100&attribution=attributed")
        .await
        .iter()
        .map(|call| call["attribution"]["method"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        Vec::from_iter(&methods),
        ["contact", "dynamic_variable", "manual", "tracking_number"]
    );

    let numbers: usize = {
        let campaigns = world.get("/api/campaigns").await.expect(200);
        let campaigns = campaigns["campaigns"].as_array().unwrap().iter();
        campaigns
            .map(|campaign| campaign["numbers"].as_array().unwrap().len())
            .sum()
    };
    assert_eq!(
        numbers, 8,
        "seven numbers, one of which moved; the eighth is nobody's"
    );
    for (result, least) in [
        ("duplicate", 20),
        ("unparsed", 1),
        ("ignored", 1),
        ("refused", 12),
    ] {
        let found = world
            .walk(
                "/api/deliveries",
                "deliveries",
                &format!("result={result}&limit=100"),
            )
            .await;
        assert!(found.len() >= least, "{result}: {}", found.len());
    }
    let page = world.get("/api/calls?limit=1&outcome=success").await.expect(200);
    let call = world.call(page["calls"][0]["id"].as_str().unwrap()).await;
    assert!(call["transcript"].as_array().unwrap().len() > 3);
    assert_eq!(
        call["summary"].as_str().unwrap().matches(['{', '}']).count(),
        0,
        "no placeholder is left"
    );
}
