//! Cookies that only we can read and make.

use cookie::time::Duration;
use cookie::{Cookie, CookieJar, Key, SameSite};
use jiff::Timestamp;
use lambda_http::http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::error::Error;

/// The least that a key can be made of, in bytes.
const MIN_SECRET_BYTES: usize = 32;

/// What a cookie holds: sealed, it is worth something until it expires.
///
/// `__Host-` in its name has browsers refuse it from any other host, and without
/// TLS (on loopback, Chromium and Firefox do without):
/// <https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Set-Cookie#cookie_prefixes>
pub trait Sealed: Serialize + DeserializeOwned {
    /// The cookie's name, which is sealed with its value.
    const NAME: &'static str;

    /// The first instant at which it is worth nothing.
    fn expires_at(&self) -> Timestamp;
}

/// Seals with the first key, opens what any of them sealed: AES-256-GCM.
pub struct Seal(Vec<Key>);

impl Seal {
    /// From the values of a secret, the current one first.
    ///
    /// # Errors
    /// When there is none, or one is too short to make a key of.
    pub fn new(secrets: &[String]) -> Result<Self, Error> {
        if secrets.is_empty() || secrets.iter().any(|secret| secret.len() < MIN_SECRET_BYTES) {
            return Err(Error::unexpected(format!(
                "the session key needs a value of at least {MIN_SECRET_BYTES} bytes"
            )));
        }
        let keys = secrets.iter().map(|secret| Key::derive_from(secret.as_bytes()));
        Ok(Self(keys.collect()))
    }

    /// The `Set-Cookie` that hands a value to the browser.
    ///
    /// # Errors
    /// When the value can't be written.
    pub fn set_cookie<T: Sealed>(&self, value: &T, now: Timestamp) -> Result<HeaderValue, Error> {
        let text =
            serde_json::to_string(value).map_err(|error| Error::internal("writing a cookie", error))?;
        let lifetime = value.expires_at().duration_since(now).as_secs();
        let mut jar = CookieJar::new();
        let key = self
            .0
            .first()
            .ok_or_else(|| Error::unexpected("no session key"))?;
        jar.private_mut(key)
            .add(cookie::<T>(text, Duration::seconds(lifetime)));
        let sealed = jar
            .get(T::NAME)
            .ok_or_else(|| Error::unexpected("a cookie was not sealed"))?;
        HeaderValue::try_from(sealed.to_string()).map_err(|error| Error::internal("writing a cookie", error))
    }

    /// What a browser handed back, if we made it and it is not expired.
    pub fn open<T: Sealed>(&self, headers: &HeaderMap, now: Timestamp) -> Option<T> {
        let mut jar = CookieJar::new();
        for header in headers.get_all(header::COOKIE) {
            // What is not ASCII is not ours, and must not hide what is: the
            // parser would trim an exotic blank off another cookie's name.
            let pairs = header.as_bytes().split(|byte| *byte == b';');
            let pairs = pairs.filter_map(|pair| std::str::from_utf8(pair).ok());
            for pair in pairs.filter(|pair| pair.is_ascii()) {
                if let Ok(cookie) = Cookie::parse(pair.to_owned()) {
                    jar.add_original(cookie);
                }
            }
        }
        let opened = self.0.iter().find_map(|key| jar.private(key).get(T::NAME))?;
        let value: T = serde_json::from_str(opened.value()).ok()?;
        (now < value.expires_at()).then_some(value)
    }
}

/// The `Set-Cookie` that has the browser forget a value.
///
/// # Errors
/// When it can't be written as a header.
pub fn forget_cookie<T: Sealed>() -> Result<HeaderValue, Error> {
    let cookie = cookie::<T>(String::new(), Duration::ZERO).to_string();
    HeaderValue::try_from(cookie).map_err(|error| Error::internal("writing a cookie", error))
}

fn cookie<T: Sealed>(value: String, lifetime: Duration) -> Cookie<'static> {
    Cookie::build((T::NAME, value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .max_age(lifetime)
        .build()
}
