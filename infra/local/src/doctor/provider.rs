//! How the webhook is set up at the provider: enabled, on which events, failing or not.
//!
//! Only what the provider's API tells is judged; the shapes are those of its own SDK.
//! <https://elevenlabs.io/docs/eleven-api/resources/webhooks>

use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use serde::Deserialize;

use super::Finding;

const THERE: &str = "the provider delivers to this address";

/// How to reach the provider's API.
#[derive(Debug, Clone)]
pub struct Provider {
    /// For example `https://api.elevenlabs.io`.
    pub url: String,
    /// Sent as `xi-api-key`.
    pub api_key: String,
}

/// Looks at the webhook that delivers to this address.
pub(super) async fn examine(client: &Client, provider: &Provider, address: &str) -> Vec<Finding> {
    let webhooks = provider.ask::<Webhooks>(client, "/v1/workspace/webhooks?include_usages=true");
    let webhooks = match webhooks.await {
        Ok(webhooks) => webhooks.webhooks,
        Err(why) => return vec![Finding::unknown(THERE, why)],
    };
    let Some(webhook) = webhooks.iter().find(|webhook| webhook.webhook_url == address) else {
        let says = format!("no webhook there has the URL {address}: make one, with HMAC");
        return vec![Finding::bad(THERE, says)];
    };
    let mut findings = vec![
        Finding::good(THERE, webhook.name.clone()),
        webhook.enabled(),
        webhook.retries(),
    ];
    findings.extend(webhook.failures());
    match provider.ask::<Settings>(client, "/v1/convai/settings").await {
        Ok(settings) => {
            let webhooks = settings.webhooks.unwrap_or_default();
            findings.extend(webhooks.findings(&webhook.webhook_id));
        }
        Err(why) => findings.push(Finding::unknown("agents use the webhook", why)),
    }
    findings
}

impl Provider {
    /// What it answers, or why that can't be read.
    async fn ask<T: for<'de> Deserialize<'de>>(&self, client: &Client, path: &str) -> Result<T, String> {
        let failed = |error: reqwest::Error| format!("{path} did not answer: {error}");
        let request = client.get(format!("{}{path}", self.url));
        let response = request
            .header("xi-api-key", &self.api_key)
            .send()
            .await
            .map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let says = "the key needs to belong to an administrator, and to this address of the provider";
            return Err(format!("{path} answered {status}: {says}"));
        }
        let body = response.bytes().await.map_err(failed)?;
        serde_json::from_slice(&body).map_err(|error| format!("{path} answered something else: {error}"))
    }
}

#[derive(Deserialize)]
struct Webhooks {
    webhooks: Vec<Webhook>,
}

#[derive(Deserialize)]
struct Webhook {
    name: String,
    webhook_id: String,
    webhook_url: String,
    is_disabled: bool,
    is_auto_disabled: bool,
    /// Documented for writing only; some answers have it.
    retry_enabled: Option<bool>,
    most_recent_failure_error_code: Option<i64>,
    most_recent_failure_timestamp: Option<i64>,
}

impl Webhook {
    fn enabled(&self) -> Finding {
        const CHECK: &str = "the webhook is enabled";
        match (self.is_auto_disabled, self.is_disabled) {
            (true, _) => {
                let says =
                    "the provider switched it off after too many failures: mend them, then enable it again";
                Finding::bad(CHECK, says)
            }
            (_, true) => Finding::bad(
                CHECK,
                "somebody disabled it: enable it in the provider's settings",
            ),
            _ => Finding::good(CHECK, "it is"),
        }
    }

    fn retries(&self) -> Finding {
        const CHECK: &str = "failed deliveries are repeated";
        let mend = "enable retries of the webhook in the provider's settings, they are off by default";
        match self.retry_enabled {
            Some(true) => Finding::good(CHECK, "retries are on"),
            Some(false) => Finding::bad(CHECK, format!("retries are off: {mend}")),
            None => Finding::unknown(CHECK, format!("the provider does not tell: {mend}")),
        }
    }

    fn failures(&self) -> Option<Finding> {
        let at = Timestamp::from_second(self.most_recent_failure_timestamp?).ok()?;
        let code = self
            .most_recent_failure_error_code
            .map(|code| format!(" with {code}"))
            .unwrap_or_default();
        let says = format!("the last one failed at {at}{code}");
        const CHECK: &str = "no delivery failed lately";
        let is_recent = at > Timestamp::now() - SignedDuration::from_hours(24);
        Some(if is_recent {
            Finding::bad(CHECK, says)
        } else {
            Finding::good(CHECK, says)
        })
    }
}

#[derive(Deserialize)]
struct Settings {
    webhooks: Option<AgentWebhooks>,
}

#[derive(Deserialize, Default)]
struct AgentWebhooks {
    post_call_webhook_id: Option<String>,
    events: Option<Vec<String>>,
    send_audio: Option<bool>,
}

impl AgentWebhooks {
    fn findings(&self, webhook_id: &str) -> Vec<Finding> {
        let events = self.events.clone().unwrap_or_default();
        let has = |event: &str| events.iter().any(|given| given == event);
        let is_ours = self.post_call_webhook_id.as_deref() == Some(webhook_id);
        vec![
            if is_ours {
                Finding::good(
                    "agents use the webhook",
                    "it is the workspace's post-call webhook",
                )
            } else {
                let says =
                    "it is not the workspace's post-call webhook: choose it there, or see that agents do";
                Finding::unknown("agents use the webhook", says)
            },
            match (has("transcript"), self.events.is_some()) {
                (true, _) => Finding::good("transcripts are sent", "they are"),
                (_, true) => Finding::bad(
                    "transcripts are sent",
                    "enable the event transcript: without it no call comes",
                ),
                _ => Finding::unknown(
                    "transcripts are sent",
                    "the provider does not tell: enable the event transcript",
                ),
            },
            if has("audio") || self.send_audio == Some(true) {
                let says = "disable the event audio: it is not kept, and is too large for the gateway after some minutes, \
                            which counts as failures of the webhook";
                Finding::bad("audio is not sent", says)
            } else {
                Finding::good("audio is not sent", "it is not")
            },
        ]
    }
}
