//! What the functions write, line by line.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

/// The collected log lines of all functions.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    lines: Arc<Mutex<Vec<String>>>,
    /// How many streams of instances are being read.
    streams: watch::Sender<usize>,
    echo: bool,
}

/// One stream of an instance that is being read, until dropped.
pub(crate) struct Reading(watch::Sender<usize>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.send_modify(|streams| *streams -= 1);
    }
}

impl Logs {
    /// Collects nothing and shows each line on standard error, for a person who watches.
    #[must_use]
    pub fn shown() -> Self {
        Self {
            echo: true,
            ..Self::default()
        }
    }

    /// Counts one more stream.
    pub(crate) fn reading(&self) -> Reading {
        self.streams.send_modify(|streams| *streams += 1);
        Reading(self.streams.clone())
    }

    /// Waits until every stream has been read to its end.
    pub(crate) async fn read_out(&self) {
        let mut streams = self.streams.subscribe();
        // The sender is ours, so it can't be gone.
        streams.wait_for(|streams| *streams == 0).await.ok();
    }

    /// Adds a line of one function.
    pub fn add(&self, function: &str, line: &str) {
        if self.echo {
            // Lines in CloudWatch's embedded format are for CloudWatch.
            if !line.contains(r#""_aws":"#) {
                eprintln!("{function} | {}", short(line).as_deref().unwrap_or(line));
            }
        } else {
            self.lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(format!("{function} | {line}"));
        }
    }

    /// All lines so far; none when they are shown instead.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A JSON line of a function as people read it: level, message, fields.
fn short(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line["fields"].as_object()?;
    let mut text = format!("{} {}", line["level"].as_str()?, fields.get("message")?.as_str()?);
    for (name, value) in fields.iter().filter(|(name, _)| *name != "message") {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!(" {name}={value}"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_is_shown_short_and_any_other_as_it_is() {
        let line = r#"{"level":"INFO","fields":{"message":"took a delivery","result":"stored","bytes":7},"span":{}}"#;
        assert_eq!(
            short(line).as_deref(),
            Some("INFO took a delivery bytes=7 result=stored")
        );
        assert_eq!(short("Error: setting X"), None);
    }
}
