//! Who decided something.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The claims that may name somebody, the most telling first: a person's name
/// in access tokens and in ID tokens of Cognito, an address (unless the provider
/// says that nobody checked it), a script's client; `sub` is what every token has.
const CLAIMS: [&str; 5] = ["username", "cognito:username", "email", "client_id", "sub"];

/// What stands in `by` for decisions that nobody made.
const AUTOMATIC: &str = "automatic";

/// A person or a script, as the history of decisions names it in `by`.
///
/// Never empty, and never the word for what nobody decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Identity(String);

impl Identity {
    /// From the claims of a verified token, looked up by name.
    #[must_use]
    pub fn of_claims<'a>(claim: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let is_checked = claim("email_verified") != Some("false");
        CLAIMS
            .iter()
            .filter(|name| is_checked || **name != "email")
            .filter_map(|name| claim(name))
            .find(|value| !value.trim().is_empty() && *value != AUTOMATIC)
            .map(|value| Self(value.to_owned()))
    }

    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_claim_names_the_caller() {
        for (claims, identity) in [
            (
                &[("sub", "1"), ("client_id", "c"), ("username", "anna")][..],
                Some("anna"),
            ),
            (
                &[("sub", "1"), ("cognito:username", "anna"), ("email", "a@b")],
                Some("anna"),
            ),
            (&[("sub", "1"), ("client_id", "c"), ("email", "a@b")], Some("a@b")),
            (
                &[("sub", "1"), ("email", "a@b"), ("email_verified", "false")],
                Some("1"),
            ),
            (
                &[("sub", "1"), ("email", "a@b"), ("email_verified", "true")],
                Some("a@b"),
            ),
            (&[("sub", "1"), ("client_id", "c")], Some("c")),
            (&[("sub", "1"), ("username", " ")], Some("1")),
            (&[("sub", "1"), ("username", "automatic")], Some("1")),
            (&[("iss", "x")], None),
        ] {
            let claim = |name: &str| claims.iter().find(|claim| claim.0 == name).map(|claim| claim.1);
            let found = Identity::of_claims(claim);
            assert_eq!(found.as_ref().map(Identity::as_str), identity, "{claims:?}");
        }
    }
}
