//! What a delivery takes of the processor before it is written, beside the floor: the one HMAC
//! over its bytes that nobody can do without.
//!
//! `cargo bench -p tests` measures it, a group for each length of body. Stages are as they
//! follow each other; `all of it` is those of our own, measured as one.

#![expect(clippy::unwrap_used, reason = "what is measured is there")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use local::conversation::Conversation;
use local::sender::signature;
use local::workspace;
use sha2::Sha256;
use shared::attribution::Candidates;
use shared::call::ArrivedBy;
use shared::campaign::{CampaignId, Contact};
use shared::delivery::{Event, SigningSecrets, VerifiedDelivery};
use shared::identity::Identity;
use shared::ingest::{Arrival, new_head};
use shared::phone_number::PhoneNumber;
use shared::store::calls::Version;
use shared::store::pack_body;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

const SECRET: &str = "wsec_of_a_benchmark";
const LEVELS: [i32; 9] = [1, 3, 6, 8, 9, 10, 11, 12, 15];
/// Logarithms of how many places zstd remembers, at [`LEVEL_OF_HASH_LOGS`].
const HASH_LOGS: [u32; 4] = [15, 16, 17, 19];
/// The level of `shared::store::body`.
const LEVEL_OF_HASH_LOGS: i32 = 10;
const BYTES: [usize; 4] = [8_552, 100_000, 426_000, 1_500_000];

fn verify<'a>(body: &'a str, header: &str, secrets: &SigningSecrets, now: Timestamp) -> VerifiedDelivery<'a> {
    VerifiedDelivery::verify(
        body.as_bytes(),
        Some(header),
        secrets,
        SignedDuration::from_mins(60),
        now,
    )
    .unwrap()
}

fn arrival<'a>(delivery: &VerifiedDelivery<'a>, now: Timestamp) -> Arrival<'a> {
    let Ok(Event::Call { version_at, call, .. }) = delivery.read(None) else {
        unreachable!("the sample is a call");
    };
    Arrival {
        call: *call,
        version: Version {
            at: version_at,
            sha256: delivery.sha256(),
        },
        body: delivery.body(),
        by: ArrivedBy::Webhook,
        at: now,
        body_came_at: now,
        read_again: false,
        listed_as: None,
    }
}

/// The gateway's event that brings a body.
fn event(body: &str) -> String {
    let path = workspace().join("events/webhook/gateway/signed.json");
    let mut event: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    event["body"] = body.into();
    event.to_string()
}

/// One contact of one campaign: the rules before it are asked in vain, and it decides.
fn candidates(customer: &str, now: Timestamp) -> Candidates {
    let contact = Contact {
        campaign_id: CampaignId::new(now),
        number: PhoneNumber::parse(customer, None).unwrap(),
        from: None,
        to: None,
        by: Identity::of_claims(|_| Some("Anna")).unwrap(),
        at: now,
    };
    Candidates {
        contacts: vec![contact],
        ..Candidates::default()
    }
}

fn ingest(criterion: &mut Criterion) {
    let now = Timestamp::now();
    let secrets = SigningSecrets::new([SECRET.to_owned()]);
    let candidates = candidates("+16125550187", now);
    for bytes in BYTES {
        let body = Conversation::new(bytes).body("conv_of_a_benchmark", now);
        let header = signature(SECRET, now, body.as_bytes());
        let delivery = verify(&body, &header, &secrets, now);
        let event = event(&body);
        let mut group = criterion.benchmark_group(format!("{bytes} bytes"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("the floor: HMAC-SHA256", |bencher| {
            bencher.iter(|| {
                let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
                mac.chain_update(black_box(&body)).finalize()
            });
        });
        // Before it is ours: what the Lambda runtime makes of the gateway's event.
        group.bench_function("the event", |bencher| {
            bencher.iter(|| lambda_http::request::from_str(black_box(&event)).unwrap());
        });
        group.bench_function("verify", |bencher| {
            bencher.iter(|| verify(black_box(&body), &header, &secrets, now));
        });
        group.bench_function("read", |bencher| {
            bencher.iter(|| black_box(&delivery).read(None));
        });
        group.bench_function("attribute", |bencher| {
            let arrival = arrival(&delivery, now);
            bencher.iter(|| new_head(black_box(&arrival), None, &candidates));
        });
        group.bench_function("compress", |bencher| {
            bencher.iter(|| pack_body(black_box(body.as_bytes())).unwrap());
        });
        group.bench_function("all of it", |bencher| {
            bencher.iter(|| {
                let delivery = verify(black_box(&body), &header, &secrets, now);
                let arrival = arrival(&delivery, now);
                let head = new_head(&arrival, None, &candidates);
                (head, pack_body(arrival.body).unwrap())
            });
        });
        group.finish();
    }
}

/// What each level of compression costs and saves: the choice of `shared::store::body`. A write
/// unit is 1,024 bytes and costs as much as 26 ms of a whole processor on arm64.
fn levels(criterion: &mut Criterion) {
    for bytes in BYTES {
        let body = Conversation::new(bytes).body("conv_of_a_benchmark", Timestamp::now());
        let mut group = criterion.benchmark_group(format!("{bytes} bytes at level"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        let levels = LEVELS.map(|level| (level.to_string(), level, None));
        let hash_logs = HASH_LOGS.map(|log| {
            let name = format!("{LEVEL_OF_HASH_LOGS}, hash log {log}");
            (name, LEVEL_OF_HASH_LOGS, Some(log))
        });
        for (name, level, hash_log) in levels.into_iter().chain(hash_logs) {
            let compress = |body: &str| {
                let mut compressor = Compressor::new(level).unwrap();
                if let Some(log) = hash_log {
                    compressor.set_parameter(CParameter::HashLog(log)).unwrap();
                }
                compressor.compress(body.as_bytes()).unwrap()
            };
            eprintln!("{bytes} bytes at level {name}: {} bytes", compress(&body).len());
            group.bench_function(name, |bencher| bencher.iter(|| compress(black_box(&body))));
        }
        group.finish();
    }
}

criterion_group!(benches, ingest, levels);
criterion_main!(benches);
