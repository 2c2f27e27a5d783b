//! The commands that measure: a load on a running stack, and how fast functions start and answer.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use local::load::Load;
use local::{DEFAULT_WEBHOOK_SECRET, bench};

use crate::support::World;

const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

fn load_on(world: &World, secret: &str) -> Load {
    Load {
        url: world.stack.url().to_owned(),
        secret: secret.to_owned(),
        calls: 30,
        concurrency: 5,
        bytes: 20_000,
    }
}

#[tokio::test]
async fn a_load_is_as_many_new_calls_as_asked_for() {
    let world = World::new().await;
    for times in 1..=2 {
        let loaded = load_on(&world, DEFAULT_WEBHOOK_SECRET).run().await.unwrap();
        assert_eq!(loaded.failures.len(), 0, "{loaded:?}");
        assert!(loaded.bytes >= 20_000);
        assert!(loaded.throughput() > 0.0);
        let longest = loaded.latencies.percentile(100);
        assert!(Duration::ZERO < longest && longest <= loaded.took, "{loaded:?}");
        assert_eq!(world.calls("limit=100").await.len(), times * 30);
    }
    assert!(world.deliveries().await[0]["bytes"].as_u64().unwrap() >= 20_000);
}

#[tokio::test]
async fn what_a_load_is_told_instead_is_counted() {
    let world = World::new().await;
    let loaded = load_on(&world, "wsec_wrong").run().await.unwrap();
    let told = "401 the signature does not match the body and the secret".to_owned();
    assert_eq!(loaded.failures, BTreeMap::from([(told, 30)]));
    assert_eq!(world.calls("").await.len(), 0);
    let mut nowhere = load_on(&world, "wsec_wrong");
    nowhere.url = "http://127.0.0.1:1".to_owned();
    let error = nowhere.run().await.unwrap_err().to_string();
    assert!(
        error.contains("127.0.0.1:1/") && error.contains("`cargo local` starts it"),
        "{error}"
    );
}

#[tokio::test]
async fn every_function_is_measured_from_its_start() {
    let measured = bench::measure("", TWO, TWO).await.unwrap();
    assert!(measured.len() >= 5);
    for subject in measured {
        for latencies in [&subject.start_up, &subject.first, &subject.warm] {
            assert!(latencies.percentile(0) > Duration::ZERO, "{subject:?}");
        }
        assert!(subject.warm_processor > Duration::ZERO, "{subject:?}");
        assert!(subject.peak_memory_bytes > 1_000_000, "{subject:?}");
    }
}

#[tokio::test]
async fn what_is_named_is_measured_alone() {
    let measured = bench::measure("sign-in", NonZeroU32::MIN, TWO).await.unwrap();
    let names: Vec<_> = measured.iter().map(|subject| subject.name).collect();
    assert_eq!(names, ["console, sign-in"]);
    let error = bench::measure("sing-in", NonZeroU32::MIN, TWO).await.unwrap_err();
    assert_eq!(error.to_string(), "nothing is named \"sing-in\"");
}

/// In a debug build 8 MB more; with the tables that zstd makes by itself it was 26 MB.
#[tokio::test]
async fn a_call_of_1_5_mb_takes_at_most_15_mb_more_of_memory_than_a_short_one() {
    let measured = bench::measure("webhook", NonZeroU32::MIN, TWO).await.unwrap();
    let peak = |name| {
        let subject = measured.iter().find(|subject| subject.name == name);
        subject.unwrap().peak_memory_bytes
    };
    let (short, long) = (peak("webhook, 8.5 KB"), peak("webhook, 1.5 MB"));
    assert!(long < short + 15_000_000, "{short} and {long} bytes");
}
