//! What people see.

mod assigning;
mod call;
mod call_table;
mod calls;
mod campaigns;
mod deliveries;
mod erasing;
pub mod numbers;
mod sync;

use std::sync::LazyLock;

use askama::Template;
use lambda_http::Body;
use lambda_http::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};
use shared::error::Error;
use shared::http::{Told, large_answer, needs_compression, text_answer, told};

use crate::access::session::Session;
use crate::visit::Visit;

/// Nothing but our own files, no script or style within a page, no frame around it.
/// <https://developer.mozilla.org/docs/Web/HTTP/Guides/CSP>
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The files that pages refer to: name, content type, content.
const ASSETS: [(&str, &str, &str); 3] = [
    (
        "console.css",
        "text/css; charset=utf-8",
        include_str!("../../assets/console.css"),
    ),
    (
        "console.js",
        "text/javascript; charset=utf-8",
        include_str!("../../assets/console.js"),
    ),
    ("icon.svg", "image/svg+xml", include_str!("../../assets/icon.svg")),
];

#[derive(Template)]
#[template(path = "sign_out.html")]
struct SignOut {
    is_in: bool,
}

#[derive(Template)]
#[template(path = "leaving.html")]
struct Leaving<'a> {
    sign_out_url: &'a str,
}

#[derive(Template)]
#[template(path = "error.html")]
struct Failure<'a> {
    title: &'a str,
    message: &'a str,
    request_id: &'a str,
}

/// Whether you want to sign out, or that you are.
pub fn sign_out(session: Option<&Session>) -> Result<Response<Body>, Error> {
    let page = SignOut {
        is_in: session.is_some(),
    };
    render(StatusCode::OK, &page)
}

/// The way out by the identity provider. A page, not a redirect: the policy
/// above lets no form lead to another site, also not in a second step.
pub fn leaving(sign_out_url: &str) -> Result<Response<Body>, Error> {
    render(StatusCode::OK, &Leaving { sign_out_url })
}

/// What went wrong, and what to do; for somebody who is not signed in.
pub fn error(error: &Error, request_id: &str) -> Result<Response<Body>, Error> {
    let Told { status, message, .. } = told(error);
    let page = Failure {
        title: title_of(status),
        message: &message,
        request_id,
    };
    render(status, &page)
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailureOnVisit<'a> {
    visit: &'a Visit,
    title: &'a str,
    message: &'a str,
    request_id: &'a str,
}

/// What went wrong, and what to do.
pub fn error_on_visit(error: &Error, request_id: &str, visit: &Visit) -> Result<Response<Body>, Error> {
    let Told { status, message, .. } = told(error);
    let page = FailureOnVisit {
        visit,
        title: title_of(status),
        message: &message,
        request_id,
    };
    visit.page_with(status, &page)
}

fn title_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is nothing here",
        status if status.is_server_error() => "Something went wrong",
        _ => "That did not work",
    }
}

/// What the address of a file ends with: another one as soon as a file is another one,
/// so that a browser may keep what it has and no page meets files of another version.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (_, _, text) in ASSETS {
        hash.update(text);
    }
    hex::encode(&hash.finalize()[..6])
});

/// The address of a file that pages refer to.
pub fn asset_path(name: &str) -> String {
    format!("/assets/{name}?v={}", *VERSION)
}

/// A file that pages refer to: as it is now, whichever version is asked for.
pub fn asset(name: &str, version: &str, headers: &HeaderMap) -> Result<Response<Body>, Error> {
    let Some((_, content_type, text)) = ASSETS.iter().find(|asset| asset.0 == name) else {
        return Err(Error::NotFound {
            message: "there is no such file",
        });
    };
    let answer = large_answer(headers, content_type, text.as_bytes().to_vec())?;
    let mut answer = answer.ok_or_else(needs_compression)?;
    let cached = if version == *VERSION {
        "public, max-age=31536000, immutable"
    } else {
        "public, max-age=300"
    };
    let cached = HeaderValue::from_static(cached);
    answer.headers_mut().insert(header::CACHE_CONTROL, cached);
    Ok(answer)
}

fn render(status: StatusCode, page: &impl Template) -> Result<Response<Body>, Error> {
    let html = page
        .render()
        .map_err(|error| Error::internal("writing a page", error))?;
    let mut answer = text_answer(status, "text/html; charset=utf-8", html);
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    answer
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}
