//! Where we are, and who speaks to us from there.

use lambda_http::http::{HeaderMap, Method, header};
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};
use shared::error::Error;
use url::Url;

/// What fits into a cookie, sealed, with the rest of a sign-in: browsers keep
/// cookies of up to 4096 bytes.
pub const MAX_PATH_BYTES: usize = 1024;

/// The scheme and host that a request was made to, by the gateway's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(Url);

impl Origin {
    /// Of a request.
    ///
    /// # Errors
    /// When the event does not tell.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let RequestContext::ApiGatewayV2(context) = request.request_context() else {
            return Err(Error::unexpected("the event has no HTTP API request context"));
        };
        let host = context
            .domain_name
            .ok_or_else(|| Error::unexpected("the event has no domain name"))?;
        let scheme = match request.headers().get("x-forwarded-proto") {
            Some(proto) if proto == "http" => "http",
            _ => "https",
        };
        Url::parse(&format!("{scheme}://{host}"))
            .map(Self)
            .map_err(|error| Error::internal("reading the request's host", error))
    }

    /// A path of ours as a whole URL.
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(path);
        url
    }

    /// Refuses what another site has a browser send here.
    ///
    /// Browsers say where a request comes from; a request that changes something
    /// and says nothing is refused, too.
    /// <https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site>
    ///
    /// # Errors
    /// `cross_site`.
    pub fn expect_same_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Error> {
        let same = match headers.get("sec-fetch-site") {
            Some(site) => site == "same-origin",
            None => headers
                .get(header::ORIGIN)
                .is_some_and(|origin| *origin == self.0.origin().ascii_serialization()),
        };
        if same || method.is_safe() {
            return Ok(());
        }
        Err(Error::Forbidden {
            code: "cross_site",
            message: "this was not sent from one of our own pages: open the page and try again there",
        })
    }

    /// A place of ours to go to after signing in: path and query, of at most
    /// [`MAX_PATH_BYTES`].
    ///
    /// `None` for anything that a browser would take for another place: also for
    /// a path that, once its dots are resolved, begins with two slashes.
    pub fn own_path(&self, text: &str) -> Option<String> {
        let url = self.0.join(text).ok()?;
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let is_ours = text.starts_with('/') && url.origin() == self.0.origin() && !path.starts_with("//");
        (is_ours && path.len() <= MAX_PATH_BYTES).then(|| path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;

    use super::*;

    fn origin() -> Origin {
        Origin(Url::parse("https://ringmark.example").unwrap())
    }

    #[test]
    fn only_a_path_of_ours_is_returned_to() {
        for (text, path) in [
            ("/", Some("/")),
            ("/calls?limit=5", Some("/calls?limit=5")),
            ("/calls#top", Some("/calls")),
            ("/../x", Some("/x")),
            ("/.//evil.example", None),
            ("/..//evil.example", None),
            ("/%2e//evil.example", None),
            ("/a/..//evil.example", None),
            ("/a//b", Some("/a//b")),
            ("", None),
            ("calls", None),
            ("//evil.example", None),
            ("/\\evil.example", None),
            ("\\\\evil.example", None),
            ("/\t/evil.example", None),
            ("https://evil.example/", None),
            ("https:evil.example", None),
            ("javascript:alert(1)", None),
            ("https://ringmark.example.evil.example/", None),
        ] {
            assert_eq!(origin().own_path(text).as_deref(), path, "{text:?}");
        }
    }

    #[test]
    fn a_post_proves_that_it_comes_from_our_own_page() {
        for (headers, ours) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("origin", "https://ringmark.example")], true),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://ringmark.example"),
                ],
                false,
            ),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "http://ringmark.example")], false),
            (&[("origin", "null")], false),
            (&[], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            let check = |method| origin().expect_same_origin(&method, &map).is_ok();
            assert_eq!(check(Method::POST), ours, "{headers:?}");
            assert!(check(Method::GET), "reading changes nothing");
        }
    }
}
