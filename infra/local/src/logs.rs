//! What the functions write, line by line.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// The collected log lines of all functions.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    lines: Arc<Mutex<Vec<String>>>,
    echo: bool,
}

impl Logs {
    /// Collects nothing and shows each line on standard error, for a person who watches.
    #[must_use]
    pub fn shown() -> Self {
        Self {
            lines: Arc::default(),
            echo: true,
        }
    }

    /// Adds a line of one function.
    pub fn add(&self, function: &str, line: &str) {
        if self.echo {
            eprintln!("{function} | {}", short(line).as_deref().unwrap_or(line));
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
