//! What can go wrong, in the kinds that a program acts on.

use std::error::Error as StdError;
use std::fmt;

/// A failure or a refusal.
#[derive(Debug)]
pub enum Error {
    /// The request can't be served as it is; the message says how to mend it.
    Invalid {
        /// What programs match on.
        code: &'static str,
        /// The offending field, where there is one.
        field: Option<String>,
        /// For people.
        message: String,
    },
    /// Nobody that we know is asking.
    Unauthenticated,
    /// Somebody is asking who may not, or not from there.
    Forbidden {
        /// What programs match on.
        code: &'static str,
        /// For people.
        message: &'static str,
    },
    /// There is no such thing.
    NotFound {
        /// For people: what there is not, and what to check.
        message: &'static str,
    },
    /// It contradicts something that is there.
    Conflict {
        /// What programs match on.
        code: &'static str,
        /// The offending field, where there is one.
        field: Option<&'static str>,
        /// For people.
        message: String,
    },
    /// Something we depend on is throttled or out of reach; trying again helps.
    Unavailable(Failure),
    /// A mistake of ours; trying again does not help.
    Internal(Failure),
}

/// What was being done, and what came of it. Shown in logs only.
#[derive(Debug)]
pub struct Failure {
    doing: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A field that does not hold what it should.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            code: "invalid_request",
            field: Some(field.into()),
            message: message.into(),
        }
    }

    /// The same, of a field within another one.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Invalid { code, field, message } => Self::Invalid {
                code,
                field: field.map(|field| format!("{outer}.{field}")),
                message,
            },
            other => other,
        }
    }

    /// Something out of reach.
    pub fn unavailable(doing: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Unavailable(Failure {
            doing: doing.into(),
            source: Some(Box::new(source)),
        })
    }

    /// A mistake of ours with its cause.
    pub fn internal(doing: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Internal(Failure {
            doing: doing.into(),
            source: Some(Box::new(source)),
        })
    }

    /// A mistake of ours that shows by itself.
    pub fn unexpected(what: impl Into<String>) -> Self {
        Self::Internal(Failure {
            doing: what.into(),
            source: None,
        })
    }
}

/// The whole chain, for the log.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { message, .. } | Self::Conflict { message, .. } => f.write_str(message),
            Self::Unauthenticated => f.write_str("nobody that we know is asking"),
            Self::Forbidden { message, .. } | Self::NotFound { message } => f.write_str(message),
            Self::Unavailable(failure) | Self::Internal(failure) => {
                f.write_str(&failure.doing)?;
                let mut source = failure.source.as_deref().map(|source| source as &dyn StdError);
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
        }
    }
}

impl StdError for Error {}
