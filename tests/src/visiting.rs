//! The console as plain pages and forms: what every browser gets, and all that one
//! without JavaScript gets.

use local::issuer::VIEWER;
use reqwest::Method;
use serde_json::{Value, json};

use crate::signing_in::{ANNA, Browser};
use crate::support::{Answer, World, deliver_many, phone_call};

/// Words that would do harm if they were not shown as what they are.
const HARMFUL: &str = "<script>alert(1)</script>\"'&<!--";

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// What stands between two marks, the first time.
fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    let rest = page.split_once(start);
    let rest = rest.unwrap_or_else(|| panic!("{start} is not in {page}")).1;
    rest.split_once(end).unwrap().0
}

/// The ids of the calls that a page lists, in order.
fn listed(page: &str) -> Vec<String> {
    let rows = page.split("<tr data-id=\"").skip(1);
    rows.map(|row| row.split_once('"').unwrap().0.to_owned())
        .collect()
}

/// The address of a link by its words.
fn link(page: &str, words: &str) -> String {
    let before = page.split_once(&format!("\">{words}</a>"));
    let before = before.unwrap_or_else(|| panic!("no link {words:?} in {page}")).0;
    let href = before.rsplit_once("href=\"").unwrap().1;
    href.split('"').next().unwrap().replace("&#38;", "&")
}

/// Where the form of a notice is sent, which undoes what it tells of.
fn undo(page: &str) -> String {
    let notice = between(page, "<div class=\"notice\">", "</form>");
    between(notice, "action=\"", "\"").to_owned()
}

async fn signed_in(world: &World) -> Browser<'_> {
    let mut browser = Browser::new(world);
    browser.sign_in(ANNA).await;
    browser
}

#[tokio::test]
async fn the_first_run_says_what_to_do_and_becomes_the_list_of_calls() {
    let world = World::new().await;
    let mut browser = signed_in(&world).await;
    assert_eq!(browser.get("/").await.header("location"), "/calls");
    let page = browser.page("/calls").await;
    assert!(page.contains("Waiting for the first call"));
    assert!(
        page.contains(&format!("{}/api/webhooks/elevenlabs", world.stack.url())),
        "{page}"
    );
    assert!(browser.page("/campaigns").await.contains("No campaigns yet"));
    assert!(browser.page("/unattributed").await.contains("Nothing to do here"));
    assert!(browser.page("/deliveries").await.contains("No deliveries yet"));
    assert!(browser.page("/sync").await.contains("Sync has never run"));
    deliver_many(&world, 1).await;
    let page = browser.page("/calls").await;
    assert_eq!(listed(&page), ["conv_0000"]);
    assert!(!page.contains("Waiting for the first call"));
}

#[tokio::test]
async fn a_list_is_paged_forth_and_back_sorted_and_filtered_by_its_address() {
    let world = World::new().await;
    deliver_many(&world, 60).await;
    let mut browser = signed_in(&world).await;
    let ids = |range: std::ops::Range<usize>| -> Vec<String> {
        range.rev().map(|index| format!("conv_{index:04}")).collect()
    };
    let first = browser.page("/calls").await;
    assert_eq!(listed(&first), ids(35..60));
    let second = browser.page(&link(&first, "Next")).await;
    assert_eq!(listed(&second), ids(10..35));
    let third = browser.page(&link(&second, "Next")).await;
    assert_eq!(listed(&third), ids(0..10));
    assert!(!third.contains("rel=\"next\""));
    let back = browser.page(&link(&third, "Previous")).await;
    assert_eq!(listed(&back), ids(10..35));
    let start = browser.page(&link(&back, "First page")).await;
    assert_eq!(listed(&start), ids(35..60));
    assert!(!start.contains("rel=\"prev\""));

    let page = browser.page("/calls?limit=100&order=asc").await;
    let mut ascending = ids(0..60);
    ascending.reverse();
    assert_eq!(listed(&page), ascending);
    // Sorted by something else than time, a list needs days; the link names them.
    world.stack.clock().set("2026-11-10T12:00:00Z".parse().unwrap());
    let page = browser.page("/calls?limit=100&order=asc").await;
    let by_duration = link(&page, "Duration");
    assert!(
        by_duration.contains("from=2026-10-11&through=2026-11-10"),
        "{by_duration}"
    );
    assert_eq!(listed(&browser.page(&by_duration).await).len(), 60);
    // The last day counts whole, in the zone of the viewer.
    assert_eq!(
        listed(
            &browser
                .page("/calls?limit=100&from=2026-11-01&through=2026-11-01")
                .await
        )
        .len(),
        60
    );
    assert_eq!(
        listed(&browser.page("/calls?limit=100&through=2026-10-31").await).len(),
        0
    );
    let none = browser.page("/calls?customer_number=9999").await;
    assert!(none.contains("No call matches"), "{none}");
    assert_eq!(link(&none, "Show all calls"), "/calls");
    for (query, said) in [
        ("customer_number=12", "at least its last four digits"),
        (
            "from=2026-11-02&through=2026-11-01",
            "The last day must not be before",
        ),
        ("outcome=good", "outcome: unknown variant"),
        ("colour=red", "this route has no parameter colour"),
        ("cursor=x", "cursor must be"),
        ("sort=duration&order=asc", "give a window by from and to"),
    ] {
        let page = browser.page(&format!("/calls?{query}")).await.to_lowercase();
        assert!(page.contains(&said.to_lowercase()), "{query}: {page}");
    }
}

#[tokio::test]
async fn a_call_is_found_by_its_number_and_shows_everything() {
    let world = World::new().await;
    let campaign = world.campaign("Spring mailing").await;
    let other = world.campaign("Radio").await;
    let from = json!({ "from": "2026-01-01T00:00:00Z" });
    world.assign(&campaign, "+16125550142", &from).await.expect(200);
    let agent = format!("/api/campaigns/{other}/agents/agent_1");
    world.send(Method::PUT, &agent, &from).await.expect(200);
    for (id, day) in [("conv_a", "01"), ("conv_b", "02"), ("conv_c", "03")] {
        let at = format!("2026-11-{day}T10:00:00Z");
        let mut call = phone_call(id, &at, &at);
        call["data"]["transcript"] = json!([
            { "role": "agent", "message": "Good day.", "time_in_call_secs": 0 },
            { "role": "user", "message": HARMFUL, "time_in_call_secs": 75 },
            { "role": "agent", "message": null, "time_in_call_secs": 80,
              "tool_calls": [{ "tool_name": "book_visit", "params_as_json": "{\"day\":\"Monday\"}",
                "tool_details": { "headers": { "authorization": "do not show this" } } }],
              "tool_results": [{ "tool_name": "book_visit", "result_value": "no room", "is_error": true },
                { "tool_name": "transfer", "result": { "result_type": "transfer_to_agent_success" } }] },
        ]);
        call["data"]["analysis"]["evaluation_criteria_results"] =
            json!({ "polite": { "result": "failure", "rationale": "Was short." } });
        call["data"]["analysis"]["data_collection_results"] =
            json!({ "budget": { "value": 1200, "rationale": "Said so." } });
        assert_eq!(world.deliver_ok(call.to_string()).await, "stored");
    }
    let mut browser = signed_in(&world).await;
    assert_eq!(
        listed(&browser.page("/calls?customer_number=0187").await).len(),
        3
    );
    let page = browser.page("/calls/conv_b").await;
    for shown in [
        "+1 612-555-0187",
        "Spring mailing",
        "by tracking number",
        "The tracking number +1 612-555-0142 belongs to it since 1 Jan 2026.",
        "Radio",
        "by agent",
        "Said hello.",
        "Good day.",
        "1:15",
        "Asked book_visit",
        "no room",
        "Failed",
        "transfer: Transfer to agent success",
        "&#34;day&#34;: &#34;Monday&#34;",
        "polite",
        "Was short.",
        "budget",
        "1200",
        "Nobody has decided anything",
        "/calls/conv_b/raw",
    ] {
        assert!(page.contains(shown), "{shown:?}: {page}");
    }
    assert!(!page.contains("do not show this") && !page.contains("<script>alert"));
    assert!(
        page.contains("&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;&#60;!--"),
        "{page}"
    );
    assert_eq!(link(&page, "Earlier call"), "/calls/conv_a");
    assert_eq!(link(&page, "Later call"), "/calls/conv_c");
    let raw = browser.get("/calls/conv_b/raw?download=yes").await;
    assert!(raw.header("content-disposition").contains("call.json"));
    assert_eq!(raw.json()["data"]["conversation_id"], "conv_b");
    assert_eq!(browser.get("/calls/conv_z").await.status, 404);
    assert_eq!(browser.get("/calls/conv_z/raw").await.status, 404);
}

#[tokio::test]
async fn calls_of_one_customer_in_the_same_instant_follow_each_other() {
    let world = World::new().await;
    for id in ["conv_a", "conv_b", "conv_c"] {
        let at = "2026-11-01T10:00:00Z";
        world.deliver_ok(phone_call(id, at, at).to_string()).await;
    }
    let mut browser = signed_in(&world).await;
    let first = browser.page("/calls/conv_a").await;
    assert!(!first.contains("Earlier call"));
    let second = link(&first, "Later call");
    assert_eq!(second, "/calls/conv_b");
    let second = browser.page(&second).await;
    assert_eq!(
        (
            link(&second, "Earlier call").as_str(),
            link(&second, "Later call").as_str()
        ),
        ("/calls/conv_a", "/calls/conv_c")
    );
}

#[tokio::test]
async fn a_conversion_is_set_with_its_value_undone_and_returned_to_automatic() {
    let world = World::new().await;
    deliver_many(&world, 1).await;
    let mut browser = signed_in(&world).await;
    let (page, target) = ("/calls/conv_0000", "/calls/conv_0000/conversion");
    let conversion = async || world.call("conv_0000").await["conversion"].clone();
    let fields = [("converted", "true"), ("amount", "120.00"), ("currency", "usd")];
    let said = browser.decide(page, target, &fields).await;
    assert!(said.contains("The call is marked as converted."), "{said}");
    assert!(said.contains("120.00 USD"));
    let value = json!({ "amount": "120.00", "currency": "USD" });
    let is = conversion().await;
    assert_eq!(
        (&is["converted"], &is["by"], &is["value"]),
        (&json!(true), &json!(ANNA), &value)
    );
    let said = browser.decide(page, target, &[("converted", "false")]).await;
    assert_eq!(conversion().await["converted"], false);
    // The notice says how to undo it, once.
    let undo = between(&said, "<div class=\"notice\">", "</form>");
    for field in ["value=\"true\"", "value=\"120.00\"", "value=\"USD\"", target] {
        assert!(undo.contains(field), "{undo}");
    }
    assert!(!browser.page(page).await.contains("class=\"notice\""));
    browser.decide(page, target, &fields).await;
    assert_eq!(conversion().await["value"], value);
    // An undo that comes too late takes nothing from anybody.
    let late = [("converted", "automatic"), ("revision", "1")];
    let said = browser.decide(page, target, &late).await;
    assert!(said.contains("The call has changed since"), "{said}");
    assert_eq!(conversion().await["value"], value);
    browser.decide(page, target, &[("converted", "automatic")]).await;
    assert_eq!(conversion().await["source"], "automatic");
    let said = browser.decide(page, target, &[("converted", "automatic")]).await;
    assert!(said.contains("nothing changed"), "{said}");
    for fields in [
        &[("converted", "maybe")][..],
        &[],
        &[("converted", "true"), ("amount", "1,5"), ("currency", "USD")],
        &[("converted", "true"), ("amount", "1")],
        &[("converted", "false"), ("amount", "1"), ("currency", "USD")],
        &[("converted", "true"), ("colour", "red")],
    ] {
        let answer = browser.submit_from(page, target, fields).await;
        assert_eq!(answer.status, 400, "{fields:?}");
        assert!(text(&answer).contains("That did not work"), "{answer:?}");
    }
    assert_eq!(conversion().await["source"], "automatic");
}

#[tokio::test]
async fn one_call_is_assigned_undone_and_returned_to_automatic() {
    let world = World::new().await;
    let spring = world.campaign("Spring").await;
    deliver_many(&world, 1).await;
    let mut browser = signed_in(&world).await;
    let (page, target) = ("/calls/conv_0000", "/calls/conv_0000/attribution");
    let attribution = async || world.call("conv_0000").await["attribution"].clone();
    let said = browser.decide(page, target, &[("campaign_id", &spring)]).await;
    assert!(said.contains("The call is credited to Spring."), "{said}");
    assert!(said.contains("anna@example.com decided so."), "{said}");
    assert_eq!(attribution().await["campaign_id"], json!(spring));
    let undo = undo(&said);
    let said = browser.decide(page, &undo, &[]).await;
    assert!(said.contains("Undone: 1 call is as before."), "{said}");
    assert_eq!(attribution().await["status"], "unattributed");
    browser.decide(page, target, &[("campaign_id", "none")]).await;
    assert_eq!(attribution().await["method"], "manual");
    let said = browser
        .decide(page, target, &[("campaign_id", "automatic")])
        .await;
    assert!(
        said.contains("The rules decide again: they name no campaign."),
        "{said}"
    );
    assert_eq!(attribution().await["by"], "automatic");
    let page = browser.page(page).await;
    assert!(
        page.contains("Credit: unattributed → Spring") && page.contains("undo"),
        "{page}"
    );
    for campaign in ["cmp_x", "cmp_00000000000000000000000000000000"] {
        let answer = browser
            .submit_from("/calls", target, &[("campaign_id", campaign)])
            .await;
        assert_eq!(answer.status, 400, "{campaign}");
    }
}

#[tokio::test]
async fn an_ambiguous_call_offers_its_candidates() {
    let world = World::new().await;
    let from = json!({ "from": "2026-01-01T00:00:00Z" });
    let mut campaigns = Vec::new();
    for name in ["Spring", "Radio"] {
        let id = world.campaign(name).await;
        let agent = format!("/api/campaigns/{id}/agents/agent_1");
        world.send(Method::PUT, &agent, &from).await.expect(200);
        campaigns.push(id);
    }
    deliver_many(&world, 1).await;
    let mut browser = signed_in(&world).await;
    assert_eq!(listed(&browser.page("/unattributed").await).len(), 0);
    let page = browser.page("/unattributed?attribution=ambiguous").await;
    let choices = between(&page, "class=\"choices\"", "</form>");
    for (id, name) in campaigns.iter().zip(["Spring", "Radio"]) {
        assert!(
            choices.contains(&format!(
                "value=\"{id}\" aria-label=\"{name}: credit it to this campaign\">{name}</button>"
            )),
            "{choices}"
        );
    }
    let back = "/unattributed?attribution=ambiguous";
    let said = browser
        .decide(
            back,
            "/calls/conv_0000/attribution",
            &[("campaign_id", &campaigns[1])],
        )
        .await;
    assert!(
        said.contains("No call is claimed by several campaigns."),
        "{said}"
    );
    assert_eq!(
        world.call("conv_0000").await["attribution"]["campaign_name"],
        "Radio"
    );
}

#[tokio::test]
async fn many_calls_are_assigned_after_a_preview_and_undone() {
    let world = World::new().await;
    let spring = world.campaign("Spring").await;
    let radio = world.campaign("Radio").await;
    deliver_many(&world, 40).await;
    let mut browser = signed_in(&world).await;
    let credited = async |campaign: &str| {
        world
            .calls(&format!("campaign_id={campaign}&limit=100"))
            .await
            .len()
    };

    // Some, by name.
    let chosen: Vec<String> = listed(&browser.page("/unattributed").await)[..3].to_vec();
    let mut fields: Vec<(&str, &str)> = chosen.iter().map(|id| ("call_id", id.as_str())).collect();
    fields.push(("campaign_id", &radio));
    let preview = browser
        .submit_from("/unattributed", "/assignments/preview", &fields)
        .await;
    let preview = text(&preview);
    assert!(
        preview.contains("Credit 3 calls to Radio?") && preview.contains("No campaign"),
        "{preview}"
    );
    assert_eq!(credited(&radio).await, 0, "a preview changes nothing");
    browser.decide("/unattributed", "/assignments", &fields).await;
    assert_eq!(credited(&radio).await, 3);

    // All that match, wherever they are listed.
    let all = [
        ("campaign_id", spring.as_str()),
        ("all_matching", "yes"),
        ("scope", "all"),
        ("filter", "customer_number=0187&through=2026-11-01"),
        ("return_to", "/calls?limit=50"),
        ("reason", "agreed on Monday"),
    ];
    let preview = text(&browser.submit_from("/calls", "/assignments/preview", &all).await);
    assert!(preview.contains("Credit 40 calls to Spring?"), "{preview}");
    let rows = between(&preview, "<tbody>", "</tbody>");
    assert!(
        rows.contains("Radio") && rows.contains(">37<") && rows.contains(">3<"),
        "{rows}"
    );
    let answer = browser
        .submit_from("/assignments/preview", "/assignments", &all)
        .await;
    assert_eq!(answer.header("location"), "/calls?limit=50");
    let said = browser.page("/calls?limit=50").await;
    assert!(said.contains("40 calls are credited to Spring."), "{said}");
    assert_eq!(credited(&spring).await, 40);
    let history = &world.call("conv_0000").await["history"][0];
    assert_eq!(
        (&history["by"], &history["reason"]),
        (&json!(ANNA), &json!("agreed on Monday"))
    );

    // Undone, but for what somebody decided since.
    browser
        .decide(
            "/calls",
            "/calls/conv_0005/attribution",
            &[("campaign_id", "none")],
        )
        .await;
    let undo = undo(&said);
    let said = browser.decide("/calls", &undo, &[]).await;
    assert!(
        said.contains("Undone: 39 calls are as before. 1 call was decided about since and stays."),
        "{said}"
    );
    assert_eq!((credited(&spring).await, credited(&radio).await), (0, 3));

    let nothing = [
        ("campaign_id", "none"),
        ("all_matching", "yes"),
        ("scope", "open"),
        ("filter", "outcome=failure"),
    ];
    let preview = text(
        &browser
            .submit_from("/unattributed", "/assignments/preview", &nothing)
            .await,
    );
    assert!(preview.contains("Nothing would change"), "{preview}");
    for fields in [
        &[("campaign_id", spring.as_str())][..],
        &[("call_id", "conv_0000")],
        &[("campaign_id", "cmp_x"), ("call_id", "conv_0000")],
        &[
            ("campaign_id", "none"),
            ("all_matching", "yes"),
            ("scope", "all"),
            ("filter", "colour=red"),
        ],
        // What is left out never means all calls there are.
        &[("campaign_id", spring.as_str()), ("all_matching", "yes")],
        &[
            ("campaign_id", spring.as_str()),
            ("all_matching", "yes"),
            ("scope", "campaign"),
        ],
    ] {
        for target in ["/assignments/preview", "/assignments"] {
            let answer = browser.submit_from("/unattributed", target, fields).await;
            assert_eq!(answer.status, 400, "{target} {fields:?}");
        }
    }
    // What is to be returned to is a page of ours.
    let away = [
        ("campaign_id", "none"),
        ("call_id", "conv_0001"),
        ("return_to", "//evil.example/"),
    ];
    let answer = browser.submit_from("/calls", "/assignments", &away).await;
    assert_eq!(answer.header("location"), "/calls");
}

#[tokio::test]
async fn a_campaign_is_made_given_numbers_and_contacts_and_archived() {
    let world = World::new().await;
    let mut browser = signed_in(&world).await;
    let made = browser
        .submit_from(
            "/campaigns",
            "/campaigns",
            &[("name", HARMFUL), ("code", "spring-26")],
        )
        .await;
    let numbers = made.header("location").to_owned();
    let campaign = numbers.trim_end_matches("/numbers").to_owned();
    let id = campaign.trim_start_matches("/campaigns/").to_owned();
    let view = async || world.get(&format!("/api/campaigns/{id}")).await.expect(200);
    assert_eq!(view().await["name"], HARMFUL);
    let again = browser
        .submit_from(
            "/campaigns",
            "/campaigns",
            &[("name", "Other"), ("code", "spring-26")],
        )
        .await;
    assert_eq!(again.status, 409);
    assert!(
        text(&again).contains("another campaign has this code"),
        "{}",
        text(&again)
    );

    let number = [
        ("number", "+1 612 555 0142"),
        ("from", "2026-11-01"),
        ("action", "assign"),
    ];
    let page = browser.decide(&numbers, &numbers, &number).await;
    assert!(page.contains("+1 612-555-0142"), "{page}");
    assert_eq!(view().await["numbers"][0]["from"], "2026-11-01T00:00:00Z");
    let other = world.campaign("Radio").await;
    let others = format!("/campaigns/{other}/numbers");
    let taken = browser.submit_from(&others, &others, &number).await;
    assert_eq!(taken.status, 409, "{}", text(&taken));
    let moved = [
        ("number", "+16125550142"),
        ("from", "2026-11-10"),
        ("move", "yes"),
        ("action", "assign"),
    ];
    browser.decide(&others, &others, &moved).await;
    assert_eq!(view().await["numbers"][0]["to"], "2026-11-10T00:00:00Z");
    browser
        .decide(&others, &others, &[("number", "+16125550142"), ("action", "end")])
        .await;
    let entry = [
        ("number", "+16125550142"),
        ("from", "2026-11-01T00:00:00Z"),
        ("action", "remove"),
    ];
    browser.decide(&numbers, &numbers, &entry).await;
    assert_eq!(view().await["numbers"], json!([]));

    let file = "number,from\n+16125550187,\n+16125550188,2026-11-01\nnobody,\n";
    let report = text(
        &browser
            .upload(&format!("{campaign}/contacts"), "contacts", file)
            .await,
    );
    assert!(
        report.contains("2 contacts added, 0 changed, 0 as before, 1 row not taken"),
        "{report}"
    );
    assert!(
        between(&report, "What to mend", "</table>").contains(">4<"),
        "{report}"
    );
    assert_eq!(view().await["contact_count"], 2);
    let find = async |browser: &mut Browser, number: &str| {
        let page = browser.page(&format!("{numbers}?contact={number}")).await;
        between(&page, ">Contacts <", "Upload contacts").to_owned()
    };
    let found = find(&mut browser, "%2B1%20(612)%20555-0187").await;
    assert!(
        found.contains("+1 612-555-0187") && !found.contains("0188"),
        "{found}"
    );
    let found = find(&mut browser, "%2B16125550189").await;
    assert!(found.contains("is no contact of the campaign"), "{found}");
    for (file, said) in [
        ("", "choose a file first"),
        ("phone\n1\n", "the first row must name"),
    ] {
        let answer = browser
            .upload(&format!("{campaign}/contacts"), "contacts", file)
            .await;
        assert_eq!(answer.status, 400);
        assert!(text(&answer).contains(said), "{}", text(&answer));
    }
    browser
        .decide(
            &numbers,
            &format!("{campaign}/contacts/remove"),
            &[("number", "+16125550188")],
        )
        .await;
    assert_eq!(view().await["contact_count"], 1);

    let settings = format!("{campaign}/settings");
    browser
        .decide(&settings, &campaign, &[("name", "Spring mailing"), ("code", "")])
        .await;
    assert_eq!(
        (&view().await["name"], &view().await["code"]),
        (&json!("Spring mailing"), &Value::Null)
    );
    let page = browser
        .decide(&settings, &campaign, &[("status", "archived")])
        .await;
    assert!(page.contains("Archived"), "{page}");
    assert_eq!(view().await["status"], "archived");
    browser
        .decide(&settings, &campaign, &[("status", "active")])
        .await;
    assert_eq!(view().await["status"], "active");
    assert_eq!(browser.get("/campaigns/cmp_x").await.status, 404);
}

#[tokio::test]
async fn a_campaigns_numbers_are_those_of_the_report() {
    let world = World::new().await;
    let campaign = world.campaign("Spring").await;
    let from = json!({ "from": "2026-01-01T00:00:00Z" });
    world.assign(&campaign, "+16125550142", &from).await.expect(200);
    for (index, outcome) in ["success", "failure", "success", "unknown"]
        .into_iter()
        .enumerate()
    {
        let at = format!("2026-11-0{}T10:00:00Z", index + 1);
        let mut call = phone_call(&format!("conv_{index}"), &at, &at);
        call["data"]["analysis"]["call_successful"] = json!(outcome);
        call["data"]["metadata"]["call_duration_secs"] = json!(30 * (index + 1));
        world.deliver_ok(call.to_string()).await;
    }
    let mut elsewhere = phone_call("conv_9", "2026-11-02T10:00:00Z", "2026-11-02T10:00:00Z");
    elsewhere["data"]["metadata"]["phone_call"]["agent_number"] = json!("+16125550100");
    world.deliver_ok(elsewhere.to_string()).await;
    world.stack.clock().set("2026-11-05T12:00:00Z".parse().unwrap());
    let mut browser = signed_in(&world).await;
    let page = browser.page(&format!("/campaigns/{campaign}?days=7")).await;
    let figures: Vec<&str> = page
        .split("<dd>")
        .skip(1)
        .map(|rest| rest.split_once('<').unwrap().0)
        .collect();
    assert_eq!(figures[..4], ["4", "2", "50.0%", "1:15"]);
    assert!(
        page.contains("4 calls and 2 conversions in 7 days, at most 1 a day"),
        "{page}"
    );
    assert!(
        page.contains("<title>2 Nov: 1 call, 0 conversions</title>"),
        "{page}"
    );
    let list = browser.page("/campaigns").await;
    assert!(list.contains("1 call</a> of the last 30 days"), "{list}");
    let row = between(&list, "class=\"name\"", "</tr>");
    assert!(
        row.contains(">4<") && row.contains(">2<") && row.contains("50.0%"),
        "{row}"
    );
    // By the day of the viewer: what is late on the second is on the third in Auckland.
    let mut late = phone_call("conv_late", "2026-11-02T12:00:00Z", "2026-11-02T12:00:00Z");
    late["data"]["analysis"]["call_successful"] = json!("failure");
    world.deliver_ok(late.to_string()).await;
    browser.in_zone("Pacific/Auckland");
    let page = browser.page(&format!("/campaigns/{campaign}?days=7")).await;
    assert!(
        page.contains("<title>2 Nov: 1 call, 0 conversions</title>"),
        "{page}"
    );
    assert!(
        page.contains("<title>3 Nov: 2 calls, 1 conversion</title>"),
        "{page}"
    );
    let calls = browser.page(&format!("/campaigns/{campaign}/calls")).await;
    assert_eq!(
        listed(&calls),
        ["conv_3", "conv_2", "conv_late", "conv_1", "conv_0"]
    );
    assert!(
        calls.contains("Wednesday, 4 November 2026, 23:00:00 Pacific/Auckland"),
        "{calls}"
    );
}

#[tokio::test]
async fn the_rules_are_asked_again_after_a_preview() {
    let world = World::new().await;
    deliver_many(&world, 5).await;
    let campaign = world.campaign("Spring").await;
    let from = json!({ "from": "2026-01-01T00:00:00Z" });
    world.assign(&campaign, "+16125550142", &from).await.expect(200);
    let mut browser = signed_in(&world).await;
    browser
        .decide(
            "/calls",
            "/calls/conv_0000/attribution",
            &[("campaign_id", "none")],
        )
        .await;
    let window = [("from", "2026-11-01"), ("through", "2026-11-30")];
    let preview = text(
        &browser
            .submit_from("/campaigns", "/reattributions/preview", &window)
            .await,
    );
    assert!(preview.contains("4 calls would move"), "{preview}");
    assert!(
        preview.contains("1 of them a person has decided about"),
        "{preview}"
    );
    let span = [
        ("from", between(&preview, "name=\"from\" value=\"", "\"")),
        ("to", between(&preview, "name=\"to\" value=\"", "\"")),
    ];
    let said = browser.decide("/campaigns", "/reattributions", &span).await;
    assert!(said.contains("4 calls have moved."), "{said}");
    assert_eq!(world.calls(&format!("campaign_id={campaign}")).await.len(), 4);
    let undo = undo(&said);
    browser.decide("/campaigns", &undo, &[]).await;
    assert_eq!(world.calls(&format!("campaign_id={campaign}")).await.len(), 0);
}

#[tokio::test]
async fn a_delivery_is_looked_at_and_taken_in_again() {
    let world = World::new().await;
    deliver_many(&world, 1).await;
    world.deliver_ok("not JSON").await;
    world.post(&[("content-type", "application/json")], "{}").await;
    let mut browser = signed_in(&world).await;
    let page = browser.page("/deliveries").await;
    for shown in ["Stored", "Unparsed", "Refused", "Missing signature", "conv_0000"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let page = browser.page("/deliveries?conversation_id=conv_0000").await;
    let delivery = format!("/deliveries/{}", between(&page, "href=\"/deliveries/", "\""));
    let page = browser.page(&delivery).await;
    assert!(
        page.contains("href=\"/calls/conv_0000\"") && page.contains("Take it in again"),
        "{page}"
    );
    let replay = format!("{delivery}/replay");
    let preview = browser
        .submit_from(&delivery, &replay, &[("action", "preview")])
        .await;
    assert!(
        text(&preview).contains("No fact of a call would change."),
        "{}",
        text(&preview)
    );
    let said = browser.decide(&delivery, &replay, &[("action", "apply")]).await;
    assert!(said.contains("The delivery was taken in again"), "{said}");
    let refused = browser.page("/deliveries?status=401").await;
    let refused = format!("/deliveries/{}", between(&refused, "href=\"/deliveries/", "\""));
    assert!(!browser.page(&refused).await.contains("Take it in again"));
    assert_eq!(browser.get(&format!("{refused}/raw")).await.status, 404);
    let bad = browser.page("/deliveries?client_ip=nowhere").await;
    assert!(bad.contains("expected an IP address"), "{bad}");
    assert_eq!(
        browser
            .submit_from(&delivery, &replay, &[("action", "burn")])
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_viewer_sees_no_way_to_change_anything_and_is_refused() {
    let world = World::new().await;
    let campaign = world.campaign("Spring").await;
    deliver_many(&world, 2).await;
    let mut viewer = Browser::new(&world);
    viewer.sign_in(VIEWER).await;
    let log = viewer.page("/deliveries").await;
    let delivery = format!("/deliveries/{}", between(&log, "href=\"/deliveries/", "\""));
    let numbers = format!("/campaigns/{campaign}/numbers");
    for page in [
        "/calls",
        "/calls/conv_0000",
        "/unattributed",
        "/campaigns",
        &format!("/campaigns/{campaign}"),
        &numbers,
        &format!("/campaigns/{campaign}/settings"),
        &delivery,
        "/sync",
    ] {
        let page = viewer.page(page).await;
        let forms: Vec<&str> = page.split("method=\"post\"").skip(1).collect();
        assert_eq!(forms.len(), 1, "the way out is the only form: {page}");
        assert!(
            page.contains("Read only") && !page.contains("formaction"),
            "{page}"
        );
    }
    for route in crate::support::template().routes {
        if route.function != "ConsoleFunction" || route.method != "POST" || route.path == "/sign-out" {
            continue;
        }
        let path = crate::support::path_of(&route);
        let answer = viewer
            .submit_from("/calls", &path, &[("converted", "false")])
            .await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(text(&answer).contains("change nothing"), "{answer:?}");
    }
    viewer
        .submit_from("/calls", "/calls/conv_0000/conversion", &[("converted", "false")])
        .await;
    assert_eq!(world.call("conv_0000").await["conversion"]["source"], "automatic");
}

#[tokio::test]
async fn what_is_shown_can_be_taken_as_a_file() {
    let world = World::new().await;
    deliver_many(&world, 3).await;
    let mut browser = signed_in(&world).await;
    let list = browser.page("/unattributed?converted=true&limit=25").await;
    let file = between(&list, "href=\"/calls.csv", "\"").replace("&#38;", "&");
    assert_eq!(file, "?converted=true&attribution=unattributed");
    let answer = browser.get(&format!("/calls.csv{file}")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("text/csv"));
    let file = text(&answer);
    let lines: Vec<&str> = file.lines().collect();
    assert_eq!(lines.len(), 4, "{file}");
    assert!(lines[0].starts_with("id,started_at"), "{file}");
    assert!(lines[1].contains("'+16125550187"), "no cell is a formula: {file}");
    assert_eq!(browser.get("/calls.csv?colour=red").await.status, 400);
}

#[tokio::test]
async fn the_address_that_a_form_left_leads_to_a_page() {
    let world = World::new().await;
    let campaign = world.campaign("Spring mailing").await;
    let mut browser = signed_in(&world).await;
    let campaign = format!("/campaigns/{campaign}");
    for (address, page) in [
        ("/assignments/preview".to_owned(), "/calls".to_owned()),
        ("/reattributions/preview".to_owned(), "/calls".to_owned()),
        (format!("{campaign}/contacts"), format!("{campaign}/numbers")),
    ] {
        let answer = browser.get(&address).await;
        assert_eq!((answer.status, answer.header("location")), (303, page.as_str()));
    }
}

#[tokio::test]
async fn pages_and_files_are_small() {
    let world = World::new().await;
    for number in 0..300 {
        world.campaign(&format!("Mailing of week {number}")).await;
    }
    deliver_many(&world, 26).await;
    let mut browser = signed_in(&world).await;
    let gzip = [("accept-encoding", "gzip")];
    for page in ["/calls", "/unattributed"] {
        let answer = browser.request(Method::GET, page, &gzip, "").await;
        assert_eq!(answer.header("content-encoding"), "gzip");
        assert!(answer.body.len() < 60_000, "{page}: {} bytes", answer.body.len());
    }
    let page = browser.page("/calls").await;
    let files = page
        .split("\"/assets/")
        .skip(1)
        .map(|rest| rest.split_once('"').unwrap().0);
    let files: std::collections::BTreeSet<&str> = files.collect();
    assert!(files.len() >= 3, "{files:?}");
    let mut bytes = 0;
    for file in files {
        let answer = browser
            .request(Method::GET, &format!("/assets/{file}"), &gzip, "")
            .await;
        assert_eq!(answer.status, 200, "{file}");
        assert!(answer.header("cache-control").ends_with("immutable"), "{file}");
        bytes += answer.body.len();
        // Of a page that was written before the console was last deployed.
        let (name, _) = file.split_once('?').expect("an address has its version");
        let answer = browser.get(&format!("/assets/{name}?v=0")).await;
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
    }
    assert!(bytes < 40_000, "{bytes} bytes");
}
