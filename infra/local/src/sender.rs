//! Signs and posts deliveries as the provider does.
//!
//! <https://elevenlabs.io/docs/agents-platform/workflows/post-call-webhooks>

use anyhow::{Context, Result};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

/// The path of the webhook.
pub const WEBHOOK_PATH: &str = "/api/webhooks/elevenlabs";
/// The name of the signature's header.
pub const SIGNATURE_HEADER: &str = "elevenlabs-signature";

/// The signature's header for a body: `t=<unix seconds>,v0=<hex>`.
///
/// # Panics
/// Never: HMAC takes a key of any length.
#[must_use]
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub fn signature(secret: &str, signed_at: Timestamp, body: &[u8]) -> String {
    let seconds = signed_at.as_second();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v0={}", hex::encode(mac.finalize().into_bytes()))
}

/// Posts one body to a webhook, signed, and gives the status and the answer.
///
/// # Errors
/// When nothing answers at the URL.
pub async fn post(
    client: &reqwest::Client,
    base_url: &str,
    secret: &str,
    signed_at: Timestamp,
    body: Vec<u8>,
) -> Result<(u16, String)> {
    let url = format!("{}{WEBHOOK_PATH}", base_url.trim_end_matches('/'));
    let response = client
        .post(&url)
        .header("content-type", "application/json")
        .header(SIGNATURE_HEADER, signature(secret, signed_at, &body))
        .body(body)
        .send()
        .await
        .with_context(|| unanswered(&url))?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// What to say where nothing answers at a URL.
#[must_use]
pub fn unanswered(url: &str) -> String {
    format!("nothing answers at {url} (is it running? `cargo local` starts it)")
}
