//! What the functions write, line by line.

use std::sync::{Arc, Mutex, PoisonError};

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
            eprintln!("{function} | {line}");
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
