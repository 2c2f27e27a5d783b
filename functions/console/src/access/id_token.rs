//! What the identity provider vouches for.
//!
//! <https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>

use jiff::Timestamp;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::identity::Identity;

/// How far ahead of ours the provider's clock may be.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// The group of people who may look and change nothing, in the claim `cognito:groups`
/// or `groups`.
const VIEWERS: &str = "ringmark-viewers";

/// Somebody whom the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// By which name the history knows them.
    pub identity: Identity,
    /// Whether they may change anything.
    pub may_change: bool,
}

/// What an ID token must say to be for us, now.
pub struct Expected<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// Our client id there.
    pub client_id: &'a str,
    /// What this one sign-in was begun with.
    pub nonce: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// Why an ID token tells us nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is signed with a key that we don't know (yet).
    UnknownKey,
    /// It is no token, or its signature or a claim is wrong.
    Invalid,
}

/// The person whom an ID token names, and what they may.
///
/// # Errors
/// [`Refused`].
pub fn person(token: &str, keys: &JwkSet, expected: &Expected<'_>) -> Result<Person, Refused> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Invalid)?;
    if !matches!(
        header.alg,
        Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::ES256 | Algorithm::ES384
    ) {
        return Err(Refused::Invalid);
    }
    let key_id = header.kid.ok_or(Refused::Invalid)?;
    let key = keys.find(&key_id).ok_or(Refused::UnknownKey)?;
    let key = DecodingKey::from_jwk(key).map_err(|_| Refused::Invalid)?;
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client_id]);
    validation.set_required_spec_claims(&["iss", "aud", "sub"]);
    // The time is the request's, not this machine's; see below.
    validation.validate_exp = false;
    let claims: Map<String, Value> = jsonwebtoken::decode(token, &key, &validation)
        .map_err(|_| Refused::Invalid)?
        .claims;
    let seconds = |name: &str| claims.get(name).and_then(Value::as_i64);
    let claim = |name: &str| match claims.get(name)? {
        Value::String(text) => Some(text.as_str()),
        Value::Bool(true) => Some("true"),
        Value::Bool(false) => Some("false"),
        _ => None,
    };
    let now = expected.now.as_second();
    let is_current = seconds("exp").is_some_and(|expires| now < expires)
        && seconds("iat").is_some_and(|issued| issued <= now + CLOCK_SKEW_SECONDS);
    // A token for several clients says which of them asked for it.
    let asked_for_by = match claims.get("aud") {
        Some(Value::Array(clients)) if clients.len() > 1 => claim("azp"),
        _ => claim("azp").or(Some(expected.client_id)),
    };
    let is_ours = asked_for_by == Some(expected.client_id) && claim("nonce") == Some(expected.nonce);
    if !is_current || !is_ours {
        return Err(Refused::Invalid);
    }
    let groups = ["cognito:groups", "groups"].into_iter();
    let mut groups = groups.filter_map(|name| claims.get(name)?.as_array()).flatten();
    Ok(Person {
        identity: Identity::of_claims(claim).ok_or(Refused::Invalid)?,
        may_change: !groups.any(|group| group == VIEWERS),
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    /// A key, and the set in which a provider publishes it.
    fn key() -> (EncodingKey, JwkSet) {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let base64 = BASE64.encode(AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap().as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n");
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
        jwk.common.key_id = Some("1".to_owned());
        (key, JwkSet { keys: vec![jwk] })
    }

    fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        header
    }

    #[test]
    fn only_a_token_for_us_for_this_sign_in_and_for_now_names_somebody() {
        let (key, keys) = key();
        let expected = Expected {
            issuer: "https://id.example",
            client_id: "console",
            nonce: "n",
            now: Timestamp::from_second(1000).unwrap(),
        };
        let right = json!({
            "iss": "https://id.example", "aud": "console", "sub": "1", "iat": 1060, "exp": 1001,
            "nonce": "n", "email": "anna@example.com",
        });
        let token = |claims: &Value| {
            jsonwebtoken::encode(&header(Algorithm::RS256, Some("1")), claims, &key).unwrap()
        };
        let anna = person(&token(&right), &keys, &expected).unwrap();
        assert_eq!(
            (anna.identity.as_str(), anna.may_change),
            ("anna@example.com", true)
        );
        for (claim, groups, may_change) in [
            ("cognito:groups", json!(["ringmark-viewers"]), false),
            ("groups", json!(["staff", "ringmark-viewers"]), false),
            ("groups", json!(["viewers", 7]), true),
            ("roles", json!(["ringmark-viewers"]), true),
        ] {
            let mut claims = right.clone();
            claims[claim] = groups.clone();
            let person = person(&token(&claims), &keys, &expected).unwrap();
            assert_eq!(person.may_change, may_change, "{claim} {groups}");
        }
        for (claim, wrong) in [
            ("iss", json!("https://other.example")),
            ("aud", json!("script")),
            ("exp", json!(1000)),
            ("nonce", json!("of another sign-in")),
            ("iat", json!(1061)),
            ("sub", json!(null)),
        ] {
            let mut claims = right.clone();
            claims[claim] = wrong;
            assert_eq!(
                person(&token(&claims), &keys, &expected),
                Err(Refused::Invalid),
                "{claim}"
            );
            claims.as_object_mut().unwrap().remove(claim);
            assert_eq!(
                person(&token(&claims), &keys, &expected),
                Err(Refused::Invalid),
                "without {claim}"
            );
        }
        for (aud, azp, names) in [
            (json!(["console"]), json!(null), true),
            (json!("console"), json!("console"), true),
            (json!("console"), json!("other"), false),
            (json!(["console", "other"]), json!("console"), true),
            (json!(["console", "other"]), json!("other"), false),
            (json!(["console", "other"]), json!(null), false),
        ] {
            let mut claims = right.clone();
            claims["aud"] = aud.clone();
            claims["azp"] = azp.clone();
            let named = person(&token(&claims), &keys, &expected).is_ok();
            assert_eq!(named, names, "{aud} {azp}");
        }
        // An address that nobody checked is no name.
        let mut unchecked = right;
        unchecked["email_verified"] = json!(false);
        assert_eq!(
            person(&token(&unchecked), &keys, &expected)
                .unwrap()
                .identity
                .as_str(),
            "1"
        );
    }

    #[test]
    fn only_a_signature_of_the_providers_key_counts() {
        let (key, keys) = key();
        let (other_key, _) = self::key();
        let expected = Expected {
            issuer: "i",
            client_id: "c",
            nonce: "n",
            now: Timestamp::from_second(0).unwrap(),
        };
        let claims = json!({ "iss": "i", "aud": "c", "iat": 0, "exp": 9, "nonce": "n", "sub": "s" });
        let encode = |header: &Header, key: &EncodingKey| jsonwebtoken::encode(header, &claims, key).unwrap();
        let rs256 = |kid: Option<&str>| header(Algorithm::RS256, kid);
        let right = encode(&rs256(Some("1")), &key);
        assert!(person(&right, &keys, &expected).is_ok());
        let (head, signature) = right.rsplit_once('.').unwrap();
        let altered = format!("{head}.{}", signature.chars().rev().collect::<String>());
        let hmac = encode(
            &header(Algorithm::HS256, Some("1")),
            &EncodingKey::from_secret(b"public"),
        );
        for (token, refused) in [
            (encode(&rs256(Some("1")), &other_key), Refused::Invalid),
            (encode(&rs256(Some("2")), &key), Refused::UnknownKey),
            (encode(&rs256(None), &key), Refused::Invalid),
            (hmac, Refused::Invalid),
            (altered, Refused::Invalid),
            (format!("{head}."), Refused::Invalid),
            ("garbage".to_owned(), Refused::Invalid),
        ] {
            assert_eq!(person(&token, &keys, &expected), Err(refused), "{token}");
        }
    }
}
