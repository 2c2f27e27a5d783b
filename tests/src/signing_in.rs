//! People sign in to the console, and nobody else is let in.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use local::Options;
use local::dynamodb::Fault;
use reqwest::{Method, Url};

use crate::support::{Answer, World, path_of, request, template};

pub(crate) const ANNA: &str = "anna@example.com";
const SESSION: &str = "__Host-session";
const PENDING: &str = "__Host-sign-in";

/// A browser that follows nothing by itself, and keeps cookies as browsers do.
pub(crate) struct Browser<'a> {
    world: &'a World,
    cookies: BTreeMap<String, String>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self {
            world,
            cookies: BTreeMap::new(),
        }
    }

    fn url(&self, target: &str) -> Url {
        Url::parse(self.world.stack.url()).unwrap().join(target).unwrap()
    }

    pub(crate) async fn request(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let mut all = vec![("accept", "text/html"), ("cookie", cookies.as_str())];
        all.extend(headers);
        let url = self.url(target);
        for (name, value) in url.query_pairs() {
            if ["code", "state", "nonce", "code_challenge"].contains(&name.as_ref()) {
                self.world.confide(&value);
            }
        }
        let answer = request(&self.world.client, method, url.as_str(), &all, body).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let (pair, attributes) = cookie.to_str().unwrap().split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
                assert!(
                    attributes.split("; ").any(|given| given == attribute),
                    "{attributes}"
                );
            }
            assert!(!attributes.contains("Domain"), "{attributes}");
            self.world.confide(value);
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.request(Method::GET, target, &[], "").await
    }

    /// Says which time zone it is in, as our module has browsers do.
    pub(crate) fn in_zone(&mut self, zone: &str) {
        self.cookies.insert("time_zone".to_owned(), zone.to_owned());
    }

    /// The text of a page that must be there.
    pub(crate) async fn page(&mut self, target: &str) -> String {
        let answer = self.get(target).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        String::from_utf8(answer.body).unwrap()
    }

    /// Posts a form of one of our own pages.
    pub(crate) async fn submit(&mut self, target: &str) -> Answer {
        self.submit_from("/calls", target, &[]).await
    }

    /// Posts a form of a page of ours with these fields.
    pub(crate) async fn submit_from(&mut self, page: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
        let mut url = Url::parse("http://x").unwrap();
        url.query_pairs_mut().extend_pairs(fields);
        let referer = self.url(page);
        let headers = [
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("referer", referer.as_str()),
        ];
        let body = url.query().unwrap_or_default();
        self.request(Method::POST, target, &headers, body).await
    }

    /// As [`submit_from`](Self::submit_from), of a form that does something: the page
    /// that it leads to, which says what was done.
    pub(crate) async fn decide(&mut self, page: &str, target: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.submit_from(page, target, fields).await;
        assert_eq!(
            answer.status,
            303,
            "{target}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        let location = answer.header("location").to_owned();
        self.page(&location).await
    }

    /// Uploads a file by a form of a page of ours.
    pub(crate) async fn upload(&mut self, target: &str, field: &str, file: &str) -> Answer {
        let body = format!(
            "--limit\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"a.csv\"\r\n\
             Content-Type: text/csv\r\n\r\n{file}\r\n--limit--\r\n"
        );
        let headers = [
            ("sec-fetch-site", "same-origin"),
            ("content-type", "multipart/form-data; boundary=limit"),
        ];
        self.request(Method::POST, target, &headers, &body).await
    }

    /// From a page of ours to the provider: where it is sent.
    async fn begin(&mut self, target: &str) -> String {
        let answer = self.get(target).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        answer.header("location").to_owned()
    }

    /// One click at the provider: where that sends it back to.
    pub(crate) async fn consent(&mut self, provider: &str, person: &str) -> String {
        let page = self.get(provider).await;
        assert!(String::from_utf8_lossy(&page.body).contains(person), "{page:?}");
        let answer = self
            .request(Method::POST, provider, &[], &format!("person={person}"))
            .await;
        assert_eq!(answer.status, 303, "{answer:?}");
        answer.header("location").to_owned()
    }

    pub(crate) async fn sign_in(&mut self, person: &str) {
        let provider = self.begin("/sign-in").await;
        let callback = self.consent(&provider, person).await;
        let answer = self.get(&callback).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, "/"),
            "{answer:?}"
        );
    }

    /// Whose name the pages show; `None` where they send to sign-in.
    pub(crate) async fn is_in(&mut self) -> Option<String> {
        let answer = self.get("/sync").await;
        if answer.status == 303 {
            assert_eq!(answer.header("location"), "/sign-in?return_to=%2Fsync");
            return None;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = String::from_utf8(answer.body).unwrap();
        let who = page
            .split_once("<span title=\"")
            .unwrap()
            .1
            .split_once('"')
            .unwrap()
            .0;
        Some(who.to_owned())
    }
}

/// A system that logs all it can, so that the end of each story, which looks for
/// secrets in the logs, has the most to look at.
async fn talkative() -> World {
    World::with(Options::default().parameter("LogLevel", "DEBUG")).await
}

/// With a query parameter changed.
fn with_parameter(url: &str, name: &str, value: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(key, old)| {
            let value = if key == name { value.into() } else { old };
            (key.into_owned(), value.into_owned())
        })
        .collect();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.into()
}

#[tokio::test]
async fn a_person_signs_in_sees_who_they_are_and_signs_out() {
    let world = talkative().await;
    let mut browser = Browser::new(&world);
    assert_eq!(browser.is_in().await, None);
    for person in [ANNA, "ben@example.com"] {
        browser.sign_in(person).await;
        assert_eq!(browser.is_in().await.as_deref(), Some(person));
        assert!(
            !browser.cookies.contains_key(PENDING),
            "what is over is forgotten"
        );
    }
    let leaving = browser.submit("/sign-out").await;
    assert_eq!(leaving.status, 200);
    assert!(browser.cookies.is_empty());
    // By way of the provider back to a page of ours.
    let page = String::from_utf8(leaving.body).unwrap();
    let provider = page.split_once("0;url=").unwrap().1.split_once('"').unwrap().0;
    let back = browser.get(&provider.replace("&#38;", "&")).await;
    assert_eq!(back.status, 303, "{back:?}");
    let goodbye = browser.get(back.header("location")).await;
    assert!(String::from_utf8_lossy(&goodbye.body).contains("You are signed out"));
    assert_eq!(browser.is_in().await, None);
    // Twice does no harm.
    assert_eq!(browser.submit("/sign-out").await.status, 200);
    assert_eq!(browser.is_in().await, None);
    assert_eq!(
        world.get("/api/calls").await.status,
        200,
        "and the API goes its own way"
    );
    world.end().await;
}

#[tokio::test]
async fn signing_in_again_ends_the_session_before() {
    let world = talkative().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(ANNA).await;
    let mut copy = Browser::new(&world);
    copy.cookies = browser.cookies.clone();
    browser.sign_in("ben@example.com").await;
    assert_eq!(copy.is_in().await, None);
    assert_eq!(browser.is_in().await.as_deref(), Some("ben@example.com"));
}

#[tokio::test]
async fn sign_in_leads_back_to_the_page_that_was_asked_for_and_nowhere_else() {
    let world = talkative().await;
    let mut browser = Browser::new(&world);
    let asked = browser.get("/?a=1&b=%2F").await;
    let sign_in = asked.header("location").to_owned();
    let provider = browser.begin(&sign_in).await;
    let callback = browser.consent(&provider, ANNA).await;
    assert_eq!(browser.get(&callback).await.header("location"), "/?a=1&b=%2F");

    for target in [
        "https://evil.example/",
        "//evil.example",
        "/%5Cevil.example",
        "%09//evil.example",
        "/%0A/evil.example",
        "javascript:alert(1)",
        "/.//evil.example",
        "/%252e//evil.example/..//evil.example",
        "/a/..//evil.example",
        &format!("/{}", "x".repeat(1024)),
        "",
    ] {
        let answer = browser.get(&format!("/sign-in?return_to={target}")).await;
        assert_eq!((answer.status, answer.header("location")), (400, ""), "{target}");
    }
    // A page whose address is too long to come back to is asked for again.
    let long = Browser::new(&world).get(&format!("/?{}", "x".repeat(1024))).await;
    assert_eq!((long.status, long.header("location")), (303, "/sign-in"));
}

#[tokio::test]
async fn a_sign_in_that_this_browser_did_not_begin_is_refused() {
    let world = talkative().await;
    let mut browser = Browser::new(&world);
    let provider = browser.begin("/sign-in").await;
    let callback = browser.consent(&provider, ANNA).await;
    let refused = async |browser: &mut Browser<'_>, callback: &str| {
        let answer = browser.get(callback).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (400, ""),
            "{callback}"
        );
        assert!(!browser.cookies.contains_key(SESSION), "{callback}");
    };
    // A wrong state, none, and no code.
    refused(&mut browser, &with_parameter(&callback, "state", "wrong")).await;
    refused(&mut browser, &with_parameter(&callback, "state", "")).await;
    refused(&mut browser, callback.split('?').next().unwrap()).await;
    let denied = format!("{}&error=access_denied", callback.replace("code=", "other="));
    refused(&mut browser, &denied).await;
    // A browser that began nothing, or something else.
    let mut victim = Browser::new(&world);
    refused(&mut victim, &callback).await;
    victim.begin("/sign-in").await;
    refused(&mut victim, &callback).await;
    // Whoever began it is not hindered by any of that.
    assert_eq!(browser.get(&callback).await.status, 303);
    assert!(browser.is_in().await.is_some());
}

#[tokio::test]
async fn a_code_counts_once() {
    let world = talkative().await;
    let mut browser = Browser::new(&world);
    let provider = browser.begin("/sign-in").await;
    let callback = browser.consent(&provider, ANNA).await;
    let before = browser.cookies.clone();
    assert_eq!(browser.get(&callback).await.status, 303);
    // Somebody has kept all of it.
    let mut thief = Browser::new(&world);
    thief.cookies = before;
    assert_eq!(thief.get(&callback).await.status, 400);
    assert!(!thief.cookies.contains_key(SESSION));
}

#[tokio::test]
async fn an_answer_of_the_provider_to_another_session_is_refused() {
    let world = talkative().await;
    // The person is sent to the provider with the nonce of another session,
    // or with the challenge of another one.
    for parameter in ["nonce", "code_challenge"] {
        let mut browser = Browser::new(&world);
        let provider = browser.begin("/sign-in").await;
        let other = Browser::new(&world).begin("/sign-in").await;
        let other = Url::parse(&other).unwrap();
        let foreign = other.query_pairs().find(|pair| pair.0 == parameter).unwrap().1;
        let altered = with_parameter(&provider, parameter, &foreign);
        let callback = browser.consent(&altered, ANNA).await;
        assert_eq!(browser.get(&callback).await.status, 400, "{parameter}");
        assert!(!browser.cookies.contains_key(SESSION));
    }
}

#[tokio::test]
async fn a_sign_in_is_to_be_finished_within_a_quarter_of_an_hour() {
    let world = talkative().await;
    for (minutes, status) in [(14, 303), (15, 400)] {
        let mut browser = Browser::new(&world);
        let provider = browser.begin("/sign-in").await;
        world.stack.clock().advance(SignedDuration::from_mins(minutes));
        let callback = browser.consent(&provider, ANNA).await;
        assert_eq!(
            browser.get(&callback).await.status,
            status,
            "after {minutes} minutes"
        );
    }
}

#[tokio::test]
async fn every_page_but_the_open_ones_turns_visitors_away() {
    const OPEN: [&str; 5] = [
        "GET /assets/{name}",
        "GET /sign-in",
        "GET /sign-in/callback",
        "GET /sign-out",
        "POST /sign-out",
    ];
    let world = talkative().await;
    // Sealed with a key that is gone, and expired.
    let other_key = "k".repeat(64);
    world.stack.set_secret("SessionKey", &[&other_key]).unwrap();
    let mut stranger = Browser::new(&world);
    stranger.sign_in(ANNA).await;
    let foreign = stranger.cookies[SESSION].clone();
    world.stack.set_secret("SessionKey", &[&"l".repeat(64)]).unwrap();
    world.stack.clock().advance(SignedDuration::from_mins(2));
    let mut early = Browser::new(&world);
    early.sign_in(ANNA).await;
    let expired = early.cookies[SESSION].clone();
    world.stack.clock().advance(SignedDuration::from_hours(8));

    let mut browser = Browser::new(&world);
    browser.sign_in(ANNA).await;
    let right = browser.cookies[SESSION].clone();
    // Ended, but its cookie is kept.
    let mut leaver = Browser::new(&world);
    leaver.sign_in(ANNA).await;
    let ended = leaver.cookies[SESSION].clone();
    leaver.submit("/sign-out").await;
    // Under way, not signed in: a sealed cookie of ours by another name.
    let mut beginner = Browser::new(&world);
    beginner.begin("/sign-in").await;

    let mut bad = vec![
        None,
        Some(String::new()),
        Some("x".to_owned()),
        Some(foreign),
        Some(expired),
        Some(ended),
        Some(beginner.cookies[PENDING].clone()),
        Some(right[..right.len() - 1].to_owned()),
        Some(format!("{right}A")),
    ];
    for position in [0, 10, right.len() / 2, right.len() - 3] {
        let mut altered = right.clone().into_bytes();
        altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
        bad.push(Some(String::from_utf8(altered).unwrap()));
    }
    let closed: Vec<_> = template()
        .routes
        .into_iter()
        .filter(|route| route.function == "ConsoleFunction")
        .filter(|route| !OPEN.contains(&format!("{} {}", route.method, route.path).as_str()))
        .collect();
    assert!(!closed.is_empty());
    for route in closed {
        let method: Method = route.method.parse().unwrap();
        let path = path_of(&route);
        let ours = ("sec-fetch-site", "same-origin");
        for cookie in &bad {
            let mut visitor = Browser::new(&world);
            visitor.cookies = cookie
                .iter()
                .map(|value| (SESSION.to_owned(), value.clone()))
                .collect();
            let answer = visitor.request(method.clone(), &path, &[ours], "").await;
            assert_eq!(answer.status, 303, "{method} {path}: {cookie:?}");
            assert!(answer.header("location").starts_with("/sign-in"), "{answer:?}");
            assert!(answer.body.is_empty());
            // A script is told instead.
            let cookie = format!("{SESSION}={}", cookie.as_deref().unwrap_or_default());
            let answer = world
                .bare_request(method.clone(), &path, &[ours, ("cookie", &cookie)], "")
                .await;
            assert_eq!(
                answer.error(),
                (401, "unauthenticated".to_owned()),
                "{method} {path}"
            );
        }
        let answer = browser.request(method.clone(), &path, &[ours], "").await;
        assert!(
            answer.status < 500 && ![401, 403].contains(&answer.status),
            "{answer:?}"
        );
        assert!(!answer.header("location").starts_with("/sign-in"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_session_lasts_for_eight_hours() {
    let world = talkative().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(ANNA).await;
    let advance = |duration| world.stack.clock().advance(duration);
    advance(SignedDuration::from_hours(8) - SignedDuration::from_secs(1));
    assert_eq!(browser.is_in().await.as_deref(), Some(ANNA));
    advance(SignedDuration::from_secs(1));
    assert_eq!(browser.is_in().await, None);
}

#[tokio::test]
async fn the_session_key_is_rotated_without_signing_anybody_out() {
    let world = talkative().await;
    let key = |letter: &str| letter.repeat(64);
    let set = |current: &str, previous: &[&str]| {
        let values: Vec<&str> = [current].into_iter().chain(previous.iter().copied()).collect();
        world.stack.set_secret("SessionKey", &values).unwrap();
        // A minute, as instances know the old one for so long.
        world.stack.clock().advance(SignedDuration::from_secs(61));
    };
    let [a, b, c] = ["a", "b", "c"].map(key);
    set(&a, &[]);
    let mut browser = Browser::new(&world);
    browser.sign_in(ANNA).await;
    set(&b, &[&a]);
    assert!(browser.is_in().await.is_some());
    let mut newcomer = Browser::new(&world);
    newcomer.sign_in(ANNA).await;
    set(&c, &[&b]);
    assert_eq!(browser.is_in().await, None, "sealed with a key that is gone");
    assert!(newcomer.is_in().await.is_some());
    // What is no key seals nothing, and opens nothing.
    set("short", &[]);
    assert_eq!(newcomer.get("/calls").await.status, 500);
    assert_eq!(newcomer.get("/sign-in").await.status, 500);
}

#[tokio::test]
async fn what_another_site_has_a_browser_post_is_refused() {
    let world = talkative().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(ANNA).await;
    let own = world.stack.url().to_owned();
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", own.as_str())],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
    ] {
        let answer = browser.request(Method::POST, "/sign-out", headers, "").await;
        assert_eq!(answer.status, 403, "{headers:?}");
        assert!(browser.is_in().await.is_some(), "{headers:?}");
    }
    // A browser that does not tell the site tells the origin.
    let answer = browser
        .request(Method::POST, "/sign-out", &[("origin", &own)], "")
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(browser.is_in().await, None);
}

#[tokio::test]
async fn nobody_is_let_in_while_it_can_not_be_known_who_signed_out() {
    let world = talkative().await;
    let mut browser = Browser::new(&world);
    browser.sign_in(ANNA).await;
    world.stack.dynamodb().inject(|_| Some(Fault::InternalError));
    let answer = browser.get("/calls").await;
    assert_eq!(answer.status, 503);
    assert!(!String::from_utf8_lossy(&answer.body).contains(ANNA));
    // Nor is anybody told that they are out who is not.
    assert_eq!(browser.submit("/sign-out").await.status, 503);
    world.stack.dynamodb().heal();
    assert!(browser.is_in().await.is_some());
    assert_eq!(browser.submit("/sign-out").await.status, 200);
}
