//! Addresses of pages: a path, and what is asked of it.

use std::fmt;

use lambda_http::{Request, RequestExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

/// What a segment of a path has encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// An address of ours. Parameters without a value are not there: a form sends them
/// for every field that was left empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    path: String,
    parameters: Vec<(String, String)>,
}

impl Address {
    /// That a request was made to.
    pub fn of(request: &Request) -> Self {
        let parameters = request.query_string_parameters();
        let parameters = parameters.iter().filter(|(_, value)| !value.is_empty());
        Self {
            path: request.uri().path().to_owned(),
            parameters: parameters
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    /// A path with the parameters of a query string.
    pub fn with_query(path: &str, query: &str) -> Self {
        let parameters = form_urlencoded::parse(query.as_bytes()).into_owned();
        Self {
            path: path.to_owned(),
            parameters: parameters.filter(|(_, value)| !value.is_empty()).collect(),
        }
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The parameters.
    pub fn parameters(&self) -> Vec<(String, String)> {
        self.parameters.clone()
    }

    /// The value of a parameter; empty where it is not there.
    pub fn value(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|parameter| parameter.0 == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Whether a parameter has this value.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.value(name) == value
    }

    /// The same path with one parameter changed.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.without(&[name]);
        if !value.is_empty() {
            other.parameters.push((name.to_owned(), value.to_owned()));
        }
        other
    }

    /// The same path without some of its parameters.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let mut other = self.clone();
        other
            .parameters
            .retain(|(name, _)| !names.contains(&name.as_str()));
        other
    }

    /// Another path with the same parameters.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            parameters: self.parameters.clone(),
        }
    }

    /// The parameters as a query string.
    pub fn query(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.parameters)
            .finish()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match self.query() {
            query if query.is_empty() => Ok(()),
            query => write!(f, "?{query}"),
        }
    }
}

/// The path of one of several things, such as `/calls/conv_1`.
pub fn path_of(things: &str, id: &str) -> String {
    format!("/{things}/{}", utf8_percent_encode(id, SEGMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_changed_one_parameter_at_a_time() {
        let address = Address::with_query("/calls", "outcome=&customer_number=%2B1612&limit=50&cursor=x");
        assert_eq!(address.value("customer_number"), "+1612");
        assert_eq!(address.value("outcome"), "");
        let first = address.without(&["cursor"]).with("limit", "100");
        assert_eq!(first.to_string(), "/calls?customer_number=%2B1612&limit=100");
        assert_eq!(first.with("limit", "").query(), "customer_number=%2B1612");
        assert_eq!(
            first
                .at("/calls.csv")
                .without(&["limit", "customer_number"])
                .to_string(),
            "/calls.csv"
        );
    }

    #[test]
    fn an_id_is_one_segment_whatever_it_holds() {
        assert_eq!(path_of("calls", "conv_1.a-b~"), "/calls/conv_1.a-b~");
        assert_eq!(path_of("calls", "a/b?c#d é"), "/calls/a%2Fb%3Fc%23d%20%C3%A9");
    }
}
