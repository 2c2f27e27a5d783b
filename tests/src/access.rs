//! Nobody gets at the API who shouldn't.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use local::issuer::{Issuer, PEOPLE, READ, WRITE};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, event, path_of, template};

/// A token, what is wrong with it, and how it is answered.
type Case = (&'static str, Option<String>, u16);

/// Every way in which a token can be wrong for a route that asks for `scope`.
fn wrong_tokens(world: &World, scope: &str) -> Vec<Case> {
    let issuer = world.stack.issuer();
    let right = issuer.access_claims(&[scope]);
    let now = world.stack.clock().now().as_second();
    let with = |changes: Value| {
        let mut claims = right.clone();
        let fields = claims.as_object_mut().unwrap();
        fields.extend(changes.as_object().unwrap().clone());
        fields.retain(|_, value| !value.is_null());
        issuer.sign(&claims).unwrap()
    };
    let with_header = |header: Header, key: &EncodingKey| jsonwebtoken::encode(&header, &right, key).unwrap();
    let keyed = |algorithm| {
        let mut header = Header::new(algorithm);
        header.kid = Some(issuer.key_id().to_owned());
        header
    };
    // Another issuer, honest about who it is, or pretending to be ours.
    let other = Issuer::new("https://id.example", world.stack.clock().clone()).unwrap();
    let by_other = other.sign(&other.access_claims(&[scope])).unwrap();
    let forged = other.sign(&right).unwrap();
    let unsigned = {
        let part = |json: Value| BASE64_URL.encode(json.to_string());
        let header = json!({ "alg": "none", "typ": "JWT", "kid": issuer.key_id() });
        format!("{}.{}.", part(header), part(right.clone()))
    };
    let by_public_key = with_header(
        keyed(Algorithm::HS256),
        &EncodingKey::from_secret(issuer.public_key_pem().as_bytes()),
    );
    let (head, signature) = issuer
        .sign(&right)
        .unwrap()
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let id_token = issuer.sign(&issuer.id_claims(PEOPLE[0], None)).unwrap();
    let other_scope = if scope == READ { WRITE } else { READ };
    vec![
        ("no token", None, 401),
        ("an empty one", Some(String::new()), 401),
        ("garbage", Some("garbage".to_owned()), 401),
        ("garbage in three parts", Some("a.b.c".to_owned()), 401),
        ("without its signature", Some(format!("{head}.")), 401),
        (
            "with a byte less",
            Some(format!("{head}.{}", &signature[1..])),
            401,
        ),
        ("of another issuer", Some(by_other), 401),
        ("of another issuer's key", Some(forged), 401),
        (
            "that names another issuer",
            Some(with(json!({ "iss": "https://id.example" }))),
            401,
        ),
        (
            "for another client",
            Some(with(json!({ "client_id": "other" }))),
            401,
        ),
        ("for another audience", Some(with(json!({ "aud": "other" }))), 401),
        ("for nobody", Some(with(json!({ "client_id": null }))), 401),
        ("expired", Some(with(json!({ "exp": now }))), 401),
        ("without an end", Some(with(json!({ "exp": null }))), 401),
        ("not yet valid", Some(with(json!({ "nbf": now + 60 }))), 401),
        ("not yet issued", Some(with(json!({ "iat": now + 60 }))), 401),
        ("alg none", Some(unsigned), 401),
        ("HS256 with the public key", Some(by_public_key), 401),
        ("an ID token", Some(id_token), 401),
        (
            "an ID token for our audience",
            Some(with(json!({ "scope": null, "token_use": "id" }))),
            403,
        ),
        ("without a scope", Some(with(json!({ "scope": "" }))), 403),
        (
            "with the other scope",
            Some(with(json!({ "scope": other_scope }))),
            403,
        ),
        (
            "with nearly the scope",
            Some(with(json!({ "scope": format!("{scope}er") }))),
            403,
        ),
    ]
}

#[tokio::test]
async fn every_route_of_the_api_takes_the_right_token_and_no_other() {
    let world = World::new().await;
    let closed: Vec<_> = template()
        .routes
        .into_iter()
        .filter(|route| route.scopes.is_some())
        .collect();
    assert!(closed.len() >= 11, "{closed:?}");
    for route in closed {
        let method: Method = route.method.parse().unwrap();
        let path = path_of(&route);
        let scope = if method == Method::GET { READ } else { WRITE };
        for (what, token, status) in wrong_tokens(&world, scope) {
            let bearer = token.map(|token| format!("Bearer {token}"));
            let headers: Vec<_> = bearer
                .iter()
                .map(|bearer| ("authorization", bearer.as_str()))
                .collect();
            let answer = world.bare_request(method.clone(), &path, &headers, "{}").await;
            assert_eq!(answer.status, status, "{method} {path}: {what}");
            let message = if status == 401 {
                "Unauthorized"
            } else {
                "Forbidden"
            };
            assert_eq!(
                answer.json(),
                json!({ "message": message }),
                "{method} {path}: {what}"
            );
        }
        // With and without the word before it, as the gateway takes both.
        for word in ["Bearer ", ""] {
            let bearer = format!("{word}{}", world.token(&[scope]));
            let answer = world
                .bare_request(method.clone(), &path, &[("authorization", &bearer)], "{}")
                .await;
            assert!(
                ![401, 403].contains(&answer.status) && answer.status < 500,
                "{method} {path}: {answer:?}"
            );
        }
    }
    assert_eq!(
        world.get("/api/campaigns").await.expect(200)["campaigns"],
        json!([])
    );
}

#[tokio::test]
async fn a_function_refuses_what_comes_past_the_authorizer() {
    let world = World::new().await;
    for (function, case) in [
        ("calls", "calls/list.json"),
        ("calls", "calls/read.json"),
        ("attribution", "attribution/create_campaign.json"),
    ] {
        let mut event: Value = serde_json::from_slice(&event(case)).unwrap();
        event["requestContext"]
            .as_object_mut()
            .unwrap()
            .remove("authorizer");
        let answer = world.invoke(function, &event).await;
        assert_eq!(answer["statusCode"], 401, "{case}: {answer}");
        assert!(answer["body"].as_str().unwrap().contains("unauthenticated"));
    }
}

#[tokio::test]
async fn everything_of_ours_says_how_browsers_are_to_treat_it() {
    let world = World::new().await;
    let html = [("accept", "text/html")];
    let answers = [
        world.get("/api/calls").await,
        world.get("/api/calls/none").await,
        world
            .bare_request(Method::GET, "/api/webhooks/elevenlabs", &[], "")
            .await,
        world.deliver("{}").await,
        world.post(&[("content-type", "text/plain")], "x").await,
        world.bare_request(Method::GET, "/", &html, "").await,
        world.bare_request(Method::GET, "/", &[], "").await,
        world.bare_request(Method::GET, "/sign-in", &html, "").await,
        world
            .bare_request(Method::GET, "/sign-in/callback", &html, "")
            .await,
        world.bare_request(Method::GET, "/sign-out", &html, "").await,
        world.bare_request(Method::POST, "/sign-out", &html, "").await,
        world
            .bare_request(Method::GET, "/assets/console.css", &[], "")
            .await,
        world.bare_request(Method::GET, "/assets/none", &html, "").await,
    ];
    for answer in answers {
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{answer:?}");
        assert!(policy.contains("frame-ancestors 'none'"), "{answer:?}");
        assert!(!policy.contains("unsafe"), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("strict-transport-security"), "max-age=63072000");
        assert!(!answer.header("cache-control").is_empty());
        assert!(!answer.header("x-request-id").is_empty());
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    // And a browser that asks whether another site may call us hears nothing of it.
    let preflight = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "GET"),
    ];
    let answer = world
        .bare_request(Method::OPTIONS, "/api/calls", &preflight, "")
        .await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (404, "")
    );
}
