//! The console in a real browser, by the keyboard alone: what needs our module, and
//! what only a browser can tell.

use local::issuer::VIEWER;
use serde_json::json;

use crate::chromium::Person;
use crate::provider::{Conversation, Fault, Provider};
use crate::signing_in::ANNA;
use crate::support::{World, deliver_many, phone_call};
use crate::syncing;

/// Windows of a phone, a tablet, laptops and a large screen; and on both sides of each
/// width at which the layout changes.
const WIDTHS: [(i64, i64); 8] = [
    (360, 740),
    (768, 1024),
    (992, 800),
    (993, 800),
    (1200, 800),
    (1201, 800),
    (1280, 800),
    (1440, 900),
];

/// Somebody who is signed in, where there is a browser.
async fn signed_in(world: &World) -> Option<Person> {
    let person = Person::at(world).await?;
    person.sign_in(ANNA).await;
    Some(person)
}

#[tokio::test]
async fn the_first_call_and_then_another_one_appear_by_themselves() {
    let world = World::new().await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    person.sees("Waiting for the first call").await;
    deliver_many(&world, 1).await;
    person
        .wait("document.querySelectorAll('tr[data-id]').length === 1")
        .await;
    person.sees("The first call is here.").await;
    let at = "2026-11-02T10:00:00Z";
    world.deliver_ok(phone_call("conv_new", at, at).to_string()).await;
    person
        .wait("document.querySelector('tr[data-id]').dataset.id === 'conv_new'")
        .await;
    person.sees("1 new call").await;
    person.leave().await;
}

#[tokio::test]
async fn a_new_call_does_not_move_what_somebody_reads() {
    let world = World::new().await;
    deliver_many(&world, 40).await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    person.value("window.stays = true; scrollTo(0, 400)").await;
    let place = "document.querySelector('[data-id=conv_0025]').getBoundingClientRect().top";
    person.wait("scrollY === 400").await;
    let before = person.value(place).await;
    let at = "2026-11-02T10:00:00Z";
    world.deliver_ok(phone_call("conv_new", at, at).to_string()).await;
    person
        .wait("document.querySelector('[data-id=conv_new]') !== null")
        .await;
    let moved = person.value(place).await.as_f64().unwrap() - before.as_f64().unwrap();
    assert!(moved.abs() < 1.0, "{moved} pixels");
    person.sees("1 new call").await;
    assert_eq!(person.value("window.stays").await, true, "without a reload");
    person.leave().await;
}

#[tokio::test]
async fn a_call_is_found_opened_over_the_list_decided_about_and_left() {
    let world = World::new().await;
    let spring = world.campaign("Spring mailing").await;
    deliver_many(&world, 3).await;
    let at = "2026-11-02T10:00:00Z";
    let mut other = phone_call("conv_other", at, at);
    other["data"]["metadata"]["phone_call"]["external_number"] = json!("+16125550199");
    world.deliver_ok(other.to_string()).await;
    let Some(person) = signed_in(&world).await else {
        return;
    };

    // Found by the last digits of the number.
    person.fill("[name=customer_number]", "0199").await;
    person.press("Enter").await;
    person
        .wait("document.querySelectorAll('tr[data-id]').length === 1")
        .await;
    assert_eq!(person.address().await, "/calls?customer_number=0199");
    person.enter("td.date a").await;
    person.wait("document.querySelector('#dialog').open").await;
    assert_eq!(person.address().await, "/calls/conv_other");
    assert!(person.text("#dialog").await.contains("+1 612-555-0199"));

    // Converted with a value, and the list behind it knows.
    person.enter("#dialog #set-converted").await;
    person.sees("The call is marked as not converted.").await;
    assert_eq!(world.call("conv_other").await["conversion"]["converted"], false);
    person.enter("#dialog #set-converted").await;
    person.sees("The call is marked as converted.").await;
    person.fill("#dialog [name=amount]", "120.00").await;
    person.fill("#dialog [name=currency]", "usd").await;
    person.press("Enter").await;
    person
        .wait("document.querySelector('#dialog .big b')?.innerText === '120.00 USD'")
        .await;
    person
        .wait("document.querySelector('tr .note')?.innerText.includes('120.00 USD')")
        .await;

    // Assigned, and undone by the notice.
    person.reach("#dialog #assign-to").await;
    person.type_in("Spring").await;
    person.enter("#dialog #assign").await;
    person.sees("The call is credited to Spring mailing.").await;
    assert_eq!(
        world.call("conv_other").await["attribution"]["campaign_id"],
        json!(spring)
    );
    person.enter("#dialog #notices button").await;
    person.sees("Undone: 1 call is as before.").await;
    assert_eq!(
        world.call("conv_other").await["attribution"]["status"],
        "unattributed"
    );

    // Reloaded, it is a page of its own; back is the list as it was.
    person.value("location.reload()").await;
    person
        .wait("document.querySelector('#main > .sheet') !== null")
        .await;
    assert_eq!(person.address().await, "/calls/conv_other");
    person.value("history.back()").await;
    person.wait("location.search === '?customer_number=0199'").await;
    person
        .wait("document.querySelectorAll('tr[data-id]').length === 1")
        .await;
    person.enter("td.date a").await;
    person.wait("document.querySelector('#dialog').open").await;
    person.press("Escape").await;
    person.wait("!document.querySelector('#dialog').open").await;
    person.wait("location.search === '?customer_number=0199'").await;
    person.wait("document.activeElement.matches('td.date a')").await;
    person.leave().await;
}

#[tokio::test]
async fn on_its_own_page_a_call_shows_at_once_what_was_decided() {
    let world = World::new().await;
    world.campaign("Spring mailing").await;
    deliver_many(&world, 1).await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    person.go("/calls/conv_0000").await;
    person.enter("#set-converted").await;
    person.sees("The call is marked as not converted.").await;
    person
        .wait("document.querySelector('.big .badge').innerText === 'Not converted'")
        .await;
    person.sees("Conversion: converted → not converted").await;
    person.wait("document.activeElement.id === 'set-converted'").await;
    person.reach("#assign-to").await;
    person.type_in("Spring").await;
    person.enter("#assign").await;
    person.sees("anna@example.com decided so.").await;
    // What can be undone stays, whatever else there is to say.
    let at = "2026-11-02T10:00:00Z";
    world.deliver_ok(phone_call("conv_new", at, at).to_string()).await;
    person.enter("#notices form button").await;
    person.sees("Undone: 1 call is as before.").await;
    assert_eq!(
        world.call("conv_0000").await["attribution"]["status"],
        "unattributed"
    );
    person.leave().await;
}

#[tokio::test]
async fn news_take_away_no_undo_and_no_selection() {
    let world = World::new().await;
    let spring = world.campaign("Spring mailing").await;
    deliver_many(&world, 30).await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    person.go("/unattributed").await;
    person.reach("[name=call_id][value=conv_0020]").await;
    person.press(" ").await;
    // One of the others, in the dialog: it leaves the list, and no old call is news.
    person.enter("[data-id=conv_0025] a").await;
    person.wait("document.querySelector('#dialog').open").await;
    person.reach("#assign-to").await;
    person.type_in("Spring").await;
    person.enter("#assign").await;
    person.sees("The call is credited to Spring mailing.").await;
    person
        .wait("document.querySelector('[data-id=conv_0025]') === null")
        .await;
    person.press("Escape").await;
    person.wait("!document.querySelector('#dialog').open").await;
    person
        .wait("document.querySelector('[data-selected]').innerText === '1 selected'")
        .await;
    let at = "2026-11-02T10:00:00Z";
    world.deliver_ok(phone_call("conv_new", at, at).to_string()).await;
    person.sees("1 new call").await;
    person
        .wait("document.querySelectorAll('#notices form').length === 1")
        .await;
    person
        .wait("document.querySelector('[value=conv_0020]').checked")
        .await;
    person.enter("#notices form button").await;
    person.sees("Undone: 1 call is as before.").await;
    assert_eq!(world.calls(&format!("campaign_id={spring}")).await.len(), 0);
    person
        .wait("document.querySelector('[data-id=conv_0025]') !== null")
        .await;
    person.leave().await;
}

#[tokio::test]
async fn a_delivery_is_previewed_and_taken_in_again_over_the_log() {
    let world = World::new().await;
    deliver_many(&world, 3).await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    person.go("/deliveries").await;
    person.enter("td.date a").await;
    person.wait("document.querySelector('#dialog').open").await;
    person.enter("#dialog [name=action]").await;
    person.sees("No fact of a call would change.").await;
    person.enter("#dialog button.primary").await;
    person.sees("The delivery was taken in again").await;
    person.press("Escape").await;
    person.wait("!document.querySelector('#dialog').open").await;
    let rows = "new Set([...document.querySelectorAll('tr[data-id]')].map((row) => row.dataset.id)).size";
    person.wait(&format!("{rows} === 4")).await;
    assert_eq!(
        person.value("document.querySelectorAll('tbody tr').length").await,
        4
    );
    person.wait("location.pathname === '/deliveries'").await;
    // The same from a page of its own: what it leads to is a page of its own, too.
    let delivery = person.value("document.querySelector('td.date a').pathname").await;
    person.go(delivery.as_str().unwrap()).await;
    person.enter("[name=action]").await;
    person.sees("No fact of a call would change.").await;
    person.enter("#dialog button.primary").await;
    person.wait("location.pathname.startsWith('/calls/conv_')").await;
    person.wait("!document.querySelector('#dialog').open").await;
    person
        .wait("document.querySelector('#main > .sheet #set-converted') !== null")
        .await;
    person.leave().await;
}

#[tokio::test]
async fn who_is_signed_out_elsewhere_is_told() {
    let world = World::new().await;
    deliver_many(&world, 1).await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    world.stack.clock().advance(jiff::SignedDuration::from_hours(9));
    person.enter("td.actions button").await;
    person.sees("You are signed out.").await;
    person.enter("#notices a").await;
    person.wait("location.pathname.includes('authorize')").await;
    person.leave().await;
}

#[tokio::test]
async fn calls_of_a_customer_are_leafed_through_in_the_dialog_and_the_payload_is_unfolded() {
    let world = World::new().await;
    deliver_many(&world, 3).await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    person.enter("td.date a").await;
    person.wait("document.querySelector('#dialog').open").await;
    person.enter("#previous-call").await;
    person.wait("location.pathname === '/calls/conv_0001'").await;
    person.enter("#previous-call").await;
    person.wait("location.pathname === '/calls/conv_0000'").await;
    person.enter("#dialog .json > summary").await;
    person
        .wait("document.querySelectorAll('.json details').length === 1")
        .await;
    person.enter("#dialog .json details summary").await;
    person.sees("conversation_id: \"conv_0000\"").await;
    person.value("history.back()").await;
    person.wait("!document.querySelector('#dialog').open").await;
    assert_eq!(person.address().await, "/calls");
    person.leave().await;
}

#[tokio::test]
async fn thirty_of_a_hundred_calls_are_assigned_at_once_and_undone() {
    let world = World::new().await;
    let spring = world.campaign("Spring mailing").await;
    world.campaign("Radio").await;
    deliver_many(&world, 100).await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    person.go("/unattributed?limit=50").await;
    for row in 0..30 {
        person
            .reach(&format!("[name=call_id][value=conv_{:04}]", 99 - row))
            .await;
        person.press(" ").await;
    }
    person
        .wait("document.querySelector('[data-selected]').innerText === '30 selected'")
        .await;
    person.reach("#bulk select").await;
    person.type_in("Spring").await;
    person.enter("#bulk button").await;
    person.sees("Credit 30 calls to Spring mailing?").await;
    assert_eq!(person.address().await, "/unattributed?limit=50");
    person.enter("#dialog button.primary").await;
    person.sees("30 calls are credited to Spring mailing.").await;
    person
        .wait("document.querySelector('tr[data-id]').dataset.id === 'conv_0069'")
        .await;
    let credited = async || {
        world
            .calls(&format!("campaign_id={spring}&limit=100"))
            .await
            .len()
    };
    assert_eq!(credited().await, 30);
    person.enter("#notices button").await;
    person.sees("Undone: 30 calls are as before.").await;
    assert_eq!(credited().await, 0);

    // All of the page, then all that match.
    person.go("/unattributed?limit=25").await;
    person.reach("[data-all]").await;
    person.press(" ").await;
    person
        .wait("document.querySelector('[data-selected]').innerText === '25 selected'")
        .await;
    person.reach("[name=all_matching]").await;
    person.press(" ").await;
    person.reach("#bulk select").await;
    person.type_in("Radio").await;
    person.enter("#bulk button").await;
    person.sees("Credit 100 calls to Radio?").await;
    person.enter("#dialog button.primary").await;
    person.sees("100 calls are credited to Radio.").await;
    person.sees("No call is without a campaign.").await;
    person.leave().await;
}

#[tokio::test]
async fn contacts_are_uploaded_and_the_report_is_read() {
    let world = World::new().await;
    let campaign = world.campaign("Spring mailing").await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    person.go("/campaigns").await;
    person.enter("td.name a").await;
    person
        .wait(&format!("location.pathname === '/campaigns/{campaign}'"))
        .await;
    person.enter(".empty a.primary").await;
    person
        .wait("document.querySelector('[name=contacts]') !== null")
        .await;
    person
        .choose_file(
            "[name=contacts]",
            "contacts.csv",
            "number\n+16125550187\nnobody\n",
        )
        .await;
    person.enter("form[enctype] button").await;
    person
        .sees("1 contact added, 0 changed, 0 as before, 1 row not taken.")
        .await;
    person.sees("number: \"nobody\" is no phone number").await;
    person.leave().await;
}

#[tokio::test]
async fn a_person_signs_out_and_a_viewer_finds_nothing_to_change() {
    let world = World::new().await;
    deliver_many(&world, 1).await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    person.enter(".who button").await;
    person.sees("You are signed out").await;
    person.go("/calls").await;
    person.wait("location.pathname.includes('authorize')").await;
    person.enter(&format!("button[value=\"{VIEWER}\"]")).await;
    person.wait("location.pathname === '/calls'").await;
    person.sees("Read only").await;
    person.enter("td.date a").await;
    person.wait("document.querySelector('#dialog').open").await;
    let forms = person
        .value("document.querySelectorAll('main form[method=post], dialog form[method=post]').length")
        .await;
    assert_eq!(forms, 0);
    person.leave().await;
}

#[tokio::test]
async fn times_are_those_of_the_viewers_zone() {
    let world = World::new().await;
    let Some(person) = Person::at(&world).await else {
        return;
    };
    person.move_to("America/New_York").await;
    deliver_many(&world, 1).await;
    person.sign_in(ANNA).await;
    person
        .wait("document.body.dataset.zone === 'America/New_York'")
        .await;
    person
        .wait("document.querySelector('td.date time').title.includes('20:00:00 America/New_York')")
        .await;
    person.leave().await;
}

/// A world in which every page has something to show, and its pages.
async fn furnished(word: &str) -> (World, Vec<String>) {
    let provider = Provider::start().await;
    let world = syncing::world_of(&provider).await;
    let name = word.chars().take(200).collect::<String>();
    let campaign = world.campaign(name.trim()).await;
    let other = world.campaign("Radio").await;
    let from = json!({ "from": "2026-01-01T00:00:00Z" });
    world.assign(&campaign, "+16125550142", &from).await.expect(200);
    for id in [&campaign, &other] {
        let agent = format!("/api/campaigns/{id}/agents/agent_2");
        world.send(reqwest::Method::PUT, &agent, &from).await.expect(200);
    }
    let contacts = json!({ "contacts": [{ "number": "+16125550166" }] });
    let path = format!("/api/campaigns/{campaign}/contacts");
    world
        .send(reqwest::Method::POST, &path, &contacts)
        .await
        .expect(200);
    for index in 0..30 {
        let at = format!("2026-11-{:02}T10:00:00Z", index % 20 + 1);
        let mut call = phone_call(&format!("conv_{index}"), &at, &at);
        let data = &mut call["data"];
        data["metadata"]["phone_call"]["agent_number"] =
            json!(["+16125550142", "+16125550100", "sip:someone@example.com"][index % 3]);
        if index % 5 == 1 {
            data["agent_id"] = json!("agent_2");
        }
        data["agent_name"] = json!(word);
        data["metadata"]["termination_reason"] = json!(word);
        data["analysis"]["transcript_summary"] = json!(word);
        data["analysis"]["evaluation_criteria_results"] =
            json!({ word: { "result": "success", "rationale": word } });
        data["analysis"]["data_collection_results"] = json!({ word: { "value": word, "rationale": word } });
        data["transcript"] = json!([
            { "role": "user", "message": word, "time_in_call_secs": 0 },
            { "role": word, "message": word, "time_in_call_secs": 1,
              "tool_calls": [{ "tool_name": word, "params_as_json": word }],
              "tool_results": [{ "tool_name": word, "result_value": word, "is_error": true }] },
        ]);
        world.deliver_ok(call.to_string()).await;
    }
    world.deliver_ok("not JSON").await;
    let reason = word
        .chars()
        .filter(|character| !character.is_control())
        .take(500)
        .collect::<String>();
    let decision = json!({ "campaign_id": other, "reason": reason });
    world
        .send(reqwest::Method::PUT, "/api/calls/conv_3/attribution", &decision)
        .await
        .expect(200);
    for (id, agent_id) in [
        ("conv_here", "agent_1"),
        ("conv_lost", "agent_1"),
        ("conv_private", "agent_2"),
    ] {
        provider.put(Conversation::new(id, agent_id, "2026-11-20T10:00:00Z"));
    }
    provider.inject(|asked| asked.path.contains("conv_lost").then_some(Fault::Malformed));
    provider.put(Conversation::new("conv_now", "agent_1", "2026-11-21T11:59:00Z").with_status("in-progress"));
    provider.set_zero_retention("agent_2");
    let webhook = |name: &str, path: &str, is_disabled: bool| {
        json!({ "name": name, "webhook_id": path, "webhook_url": format!("https://x.example/{path}/api/webhooks/elevenlabs"),
            "is_disabled": is_disabled, "is_auto_disabled": false, "created_at_unix": 1, "auth_type": "hmac",
            "most_recent_failure_error_code": 401, "most_recent_failure_timestamp": 1_795_300_084, "usage": null })
    };
    provider.set_webhooks(json!([
        webhook("Ringmark", "a", false),
        webhook(word, word, true)
    ]));
    world.sync().await;
    let view = world.sync_view().await;
    let rows = view["ledger"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["missing"] == 1), "{view}");
    assert!(rows.iter().any(|row| row["checkable"] == false), "{view}");
    let delivery = world.deliveries().await[0]["id"].as_str().unwrap().to_owned();
    let pages = [
        "/calls".to_owned(),
        "/calls?direction=inbound&limit=100".to_owned(),
        "/calls?customer_number=99999".to_owned(),
        "/calls/conv_3".to_owned(),
        "/calls/conv_1".to_owned(),
        "/unattributed".to_owned(),
        "/unattributed?attribution=ambiguous".to_owned(),
        "/campaigns".to_owned(),
        format!("/campaigns/{campaign}"),
        format!("/campaigns/{campaign}/calls"),
        format!("/campaigns/{campaign}/numbers"),
        format!("/campaigns/{campaign}/settings"),
        "/deliveries".to_owned(),
        format!("/deliveries/{delivery}"),
        "/sync".to_owned(),
        "/calls/conv_none".to_owned(),
        "/sign-out".to_owned(),
    ];
    (world, pages.to_vec())
}

#[tokio::test]
async fn no_page_has_a_barrier_or_sticks_out() {
    let (world, pages) = furnished("Spring mailing").await;
    let Some(person) = signed_in(&world).await else {
        return;
    };
    for page in &pages {
        person.go(page).await;
        for scheme in ["light", "dark"] {
            person.prefer(scheme).await;
            for (width, height) in WIDTHS {
                person.resize(width, height).await;
                assert_eq!(person.sticking_out().await, [] as [String; 0], "{page} {width}");
                if [360, 1440].contains(&width) {
                    let barriers = person.barriers().await;
                    assert_eq!(barriers, [] as [String; 0], "{page} {scheme} {width}");
                }
                if [360, 768, 1280].contains(&width) {
                    let name = page.trim_start_matches('/').replace(['/', '?', '&', '='], "-");
                    person.picture(&format!("{name}-{scheme}-{width}")).await;
                }
            }
        }
    }
    // And the dialog.
    person.go("/calls").await;
    person.enter("td.date a").await;
    person.wait("document.querySelector('#dialog').open").await;
    for (width, height) in [(360, 740), (1440, 900)] {
        person.resize(width, height).await;
        assert_eq!(person.sticking_out().await, [] as [String; 0], "dialog {width}");
        assert_eq!(person.barriers().await, [] as [String; 0], "dialog {width}");
    }
    person.leave().await;
}

#[tokio::test]
async fn whatever_is_said_is_text_and_the_layout_holds() {
    let long = "x".repeat(10_000);
    for word in [
        "<script>document.title = 'harmed'</script><img src=x onerror=alert(1)>\"'`{{7*7}}</textarea>&amp;",
        "\u{202e}مرحبا بالعالم \u{2067}שלום\u{2069} 👩‍👩‍👧‍👦🏳️‍🌈 e\u{301}\u{301}\u{301}",
        &long,
    ] {
        let (world, pages) = furnished(word).await;
        let Some(person) = signed_in(&world).await else {
            return;
        };
        for page in &pages {
            person.go(page).await;
            for (width, height) in WIDTHS {
                person.resize(width, height).await;
                assert_eq!(person.sticking_out().await, [] as [String; 0], "{page} {width}");
            }
            assert_ne!(person.value("document.title").await, "harmed", "{page}");
        }
        person.go("/calls/conv_3").await;
        let told = person
            .value("document.querySelector('.transcript .user .prose').textContent")
            .await;
        assert_eq!(told, word);
        person.enter(".json > summary").await;
        person
            .wait("document.querySelectorAll('.json details').length > 0")
            .await;
        person.leave().await;
    }
}
