//! What becomes of deliveries and what sync finds, counted by CloudWatch from lines in its embedded format.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Answered 200: stored, repeated, ignored or kept.
pub const DELIVERIES_ACCEPTED: &str = "DeliveriesAccepted";
/// Refused, for whatever reason, also those that the log leaves out in a flood.
pub const DELIVERIES_REFUSED: &str = "DeliveriesRefused";
/// Refused for a signature that is wrong or stale: one that is missing is no sender's.
pub const SIGNATURES_REFUSED: &str = "SignaturesRefused";
/// Genuine ones that became no call; their bodies are kept until they are replayed.
pub const DELIVERIES_TO_REPLAY: &str = "DeliveriesToReplay";
/// Answered 503, which the sender repeats where retries are on.
pub const DELIVERIES_FAILED: &str = "DeliveriesFailed";

/// Calls that sync found missing and took in.
pub const CALLS_FOUND_BY_SYNC: &str = "CallsFoundBySync";
/// Conversations that the provider lists, that are over, and that are known not to be here.
pub const CALLS_MISSING: &str = "CallsMissing";
/// Hours since calls began to come by sync only; 0 while deliveries come.
pub const HOURS_BY_SYNC_ONLY: &str = "HoursBySyncOnly";
/// Webhooks with our path, where every one of them is switched off at the provider; 0 otherwise.
pub const WEBHOOKS_DISABLED: &str = "WebhooksDisabled";
/// Hours since the calls were last compared with the provider's listing, whole.
pub const HOURS_SINCE_COMPARED: &str = "HoursSinceCompared";

/// Counts for one function.
pub struct Metrics {
    function_name: String,
}

impl Metrics {
    /// For the function of this name: the metrics' only dimension.
    #[must_use]
    pub fn new(function_name: String) -> Self {
        Self { function_name }
    }

    /// Counts one more of each.
    pub fn count(&self, at: Timestamp, metrics: &[&'static str]) {
        let once: Vec<_> = metrics.iter().map(|name| (*name, 1.0)).collect();
        self.report(at, &once);
    }

    /// Reports the value of each.
    #[expect(clippy::print_stdout, reason = "how metrics leave a function")]
    pub fn report(&self, at: Timestamp, metrics: &[(&'static str, f64)]) {
        println!("{}", self.line(at, metrics));
    }

    fn line(&self, at: Timestamp, metrics: &[(&'static str, f64)]) -> Value {
        let definitions = metrics.iter().map(|(name, _)| {
            let unit = if name.starts_with("Hours") {
                "None"
            } else {
                "Count"
            };
            json!({ "Name": name, "Unit": unit })
        });
        let values = metrics
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)));
        let mut line = Map::from_iter(values);
        line.insert("FunctionName".to_owned(), json!(self.function_name));
        line.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": at.as_millisecond(),
                "CloudWatchMetrics": [{
                    "Namespace": "Ringmark",
                    "Dimensions": [["FunctionName"]],
                    "Metrics": definitions.collect::<Value>(),
                }],
            }),
        );
        Value::Object(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_it_counts_and_for_whom() {
        let metrics = Metrics::new("ringmark-webhook".to_owned());
        let at = Timestamp::from_millisecond(1_795_000_000_123).unwrap();
        assert_eq!(
            metrics.line(at, &[(DELIVERIES_REFUSED, 1.0), (HOURS_BY_SYNC_ONLY, 2.5)]),
            json!({
                "_aws": {
                    "Timestamp": 1_795_000_000_123_u64,
                    "CloudWatchMetrics": [{
                        "Namespace": "Ringmark",
                        "Dimensions": [["FunctionName"]],
                        "Metrics": [
                            { "Name": "DeliveriesRefused", "Unit": "Count" },
                            { "Name": "HoursBySyncOnly", "Unit": "None" },
                        ],
                    }],
                },
                "FunctionName": "ringmark-webhook",
                "DeliveriesRefused": 1.0,
                "HoursBySyncOnly": 2.5,
            })
        );
    }
}
