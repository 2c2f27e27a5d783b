//! A person who is signed in and looks at a page: what every page knows.

use askama::Template;
use cookie::Cookie;
use jiff::{SignedDuration, Timestamp};
use lambda_http::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use lambda_http::{Body, Request};
use serde::{Deserialize, Serialize};
use shared::calendar::Zone;
use shared::decide::Decision;
use shared::error::Error;
use shared::http::{Context, large_answer, needs_compression};
use url::Url;

use crate::access::origin::Origin;
use crate::access::seal::{Seal, Sealed, forget_cookie};
use crate::access::session::Session;
use crate::address::Address;
use crate::pages::CONTENT_SECURITY_POLICY;

/// The cookie in which the browser says in which time zone it is.
const ZONE_COOKIE: &str = "time_zone";
/// The header of a request that nobody made: a page that looks for news.
const LIVE: &str = "x-live";
/// How long a notice waits for the page that shows it.
const NOTICE_LIFETIME: SignedDuration = SignedDuration::from_mins(1);

/// A visit of a page.
pub struct Visit {
    /// Who.
    pub session: Session,
    /// Where we are.
    pub origin: Origin,
    /// The time zone that the browser is in; UTC where it does not say.
    pub zone: Zone,
    /// When.
    pub now: Timestamp,
    /// Of which page.
    pub address: Address,
    /// What there is to say about what was done before.
    pub notice: Option<Notice>,
    came_from: Option<String>,
    headers: HeaderMap,
}

/// What a page says about what was done before, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What was done.
    pub text: String,
    /// How to undo it.
    pub undo: Option<Undo>,
    expires_at: Timestamp,
}

/// The form that undoes what was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// Where it is sent.
    pub action: String,
    /// What it says.
    pub fields: Vec<(String, String)>,
}

impl Notice {
    /// Something that was done now.
    pub fn new(text: String, undo: Option<Undo>, now: Timestamp) -> Self {
        let expires_at = now + NOTICE_LIFETIME;
        Self {
            text,
            undo,
            expires_at,
        }
    }
}

impl Sealed for Notice {
    const NAME: &'static str = "__Host-notice";

    fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl Visit {
    /// Of a request with a session.
    pub fn new(request: &Request, context: &Context, origin: Origin, session: Session, seal: &Seal) -> Self {
        let headers = request.headers();
        let now = context.received_at;
        let notice = if headers.contains_key(LIVE) {
            None
        } else {
            seal.open(headers, now)
        };
        let came_from = headers.get(header::REFERER).and_then(|url| url.to_str().ok());
        let came_from = came_from.and_then(|url| Url::parse(url).ok());
        Self {
            came_from: came_from.and_then(|url| origin.own_path(&url[url::Position::BeforePath..])),
            zone: zone(headers).unwrap_or_default(),
            address: Address::of(request),
            headers: headers.clone(),
            session,
            origin,
            now,
            notice,
        }
    }

    /// By which name the history knows the person.
    pub fn who(&self) -> &str {
        self.session.person.identity.as_str()
    }

    /// Whether the person may change anything.
    pub fn may_change(&self) -> bool {
        self.session.person.may_change
    }

    /// Whether this is a page below a path.
    pub fn is_at(&self, path: &str) -> bool {
        let rest = self.address.path().strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The page that this request was sent from, or another one.
    pub fn back_or(&self, other: &str) -> String {
        self.came_from.clone().unwrap_or_else(|| other.to_owned())
    }

    /// A decision of this person, now.
    ///
    /// # Errors
    /// Where the reason is too long, or not on one line.
    pub fn decision(&self, reason: Option<String>, dry_run: bool) -> Result<Decision, Error> {
        Decision::new(&self.session.person.identity, self.now, reason, dry_run)
    }

    /// A page.
    ///
    /// # Errors
    /// When it can't be written, or does not pass the gateway.
    pub fn page(&self, page: &impl Template) -> Result<Response<Body>, Error> {
        self.page_with(StatusCode::OK, page)
    }

    /// A page with another status.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    pub fn page_with(&self, status: StatusCode, page: &impl Template) -> Result<Response<Body>, Error> {
        let html = page
            .render()
            .map_err(|error| Error::internal("writing a page", error))?;
        let answer = large_answer(&self.headers, "text/html; charset=utf-8", html.into_bytes())?;
        let mut answer = answer.ok_or_else(needs_compression)?;
        *answer.status_mut() = status;
        let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
        answer
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
        if self.notice.is_some() {
            let forgotten = forget_cookie::<Notice>()?;
            answer.headers_mut().append(header::SET_COOKIE, forgotten);
        }
        Ok(answer)
    }

    /// The headers of the request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

fn zone(headers: &HeaderMap) -> Option<Zone> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let mut cookies = cookies
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| Cookie::parse(pair.trim().to_owned()).ok());
    let name = cookies.find(|cookie| cookie.name() == ZONE_COOKIE)?;
    Zone::try_from(name.value().to_owned()).ok()
}
