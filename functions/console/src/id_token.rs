//! What the identity provider vouches for.
//!
//! <https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>

use jiff::Timestamp;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use shared::identity::Identity;

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

/// The person whom an ID token names.
///
/// # Errors
/// [`Refused`].
pub fn identity(token: &str, keys: &JwkSet, expected: &Expected<'_>) -> Result<Identity, Refused> {
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
    validation.set_required_spec_claims(&["iss", "aud"]);
    // The time is the request's, not this machine's; see below.
    validation.validate_exp = false;
    let claims: Map<String, Value> = jsonwebtoken::decode(token, &key, &validation)
        .map_err(|_| Refused::Invalid)?
        .claims;
    let expires = claims
        .get("exp")
        .and_then(Value::as_i64)
        .ok_or(Refused::Invalid)?;
    let claim = |name: &str| claims.get(name).and_then(Value::as_str);
    if expected.now.as_second() >= expires || claim("nonce") != Some(expected.nonce) {
        return Err(Refused::Invalid);
    }
    Identity::of_claims(claim).ok_or(Refused::Invalid)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    /// A key, and the set in which a provider publishes it.
    fn key() -> (EncodingKey, JwkSet) {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
        let key = EncodingKey::from_rsa_der(der.as_ref());
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
            "iss": "https://id.example", "aud": "console", "exp": 1001, "nonce": "n", "email": "anna@example.com",
        });
        let token = |claims: &Value| {
            jsonwebtoken::encode(&header(Algorithm::RS256, Some("1")), claims, &key).unwrap()
        };
        let anna = identity(&token(&right), &keys, &expected).unwrap();
        assert_eq!(anna.as_str(), "anna@example.com");
        for (claim, wrong) in [
            ("iss", json!("https://other.example")),
            ("aud", json!("script")),
            ("exp", json!(1000)),
            ("nonce", json!("of another sign-in")),
            ("email", json!("")),
        ] {
            let mut claims = right.clone();
            claims[claim] = wrong;
            assert_eq!(
                identity(&token(&claims), &keys, &expected),
                Err(Refused::Invalid),
                "{claim}"
            );
            claims.as_object_mut().unwrap().remove(claim);
            assert_eq!(
                identity(&token(&claims), &keys, &expected),
                Err(Refused::Invalid),
                "without {claim}"
            );
        }
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
        let claims = json!({ "iss": "i", "aud": "c", "exp": 9, "nonce": "n", "sub": "s" });
        let encode = |header: &Header, key: &EncodingKey| jsonwebtoken::encode(header, &claims, key).unwrap();
        let rs256 = |kid: Option<&str>| header(Algorithm::RS256, kid);
        let right = encode(&rs256(Some("1")), &key);
        assert!(identity(&right, &keys, &expected).is_ok());
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
            assert_eq!(identity(&token, &keys, &expected), Err(refused), "{token}");
        }
    }
}
