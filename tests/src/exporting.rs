//! Exports: all calls of a filter as one file, however many answers that takes.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, World, phone_call};

/// Follows `Link` from part to part, as a script does; the file and its parts.
pub(crate) async fn download(world: &World, query: &str) -> (Vec<u8>, usize) {
    let mut path = format!("/api/calls/export?{query}");
    let (mut file, mut parts) = (Vec::new(), 0);
    loop {
        let part = world.get(&path).await;
        assert_eq!(part.status, 200, "{part:?}");
        file.extend(&part.body);
        parts += 1;
        match next(&part) {
            Some(next) => path = next,
            None => return (file, parts),
        }
    }
}

fn next(part: &Answer) -> Option<String> {
    let link = part.header("link").strip_suffix(">; rel=\"next\"")?;
    Some(link.strip_prefix('<').unwrap().to_owned())
}

async fn thirty_calls(world: &World) {
    let start: Timestamp = "2026-10-20T10:00:00Z".parse().unwrap();
    for index in 0..30 {
        let at = (start + SignedDuration::from_hours(24 * index)).to_string();
        let mut body = phone_call(&format!("conv_{index:02}"), &at, &at);
        body["data"]["analysis"]["call_successful"] = json!(["success", "failure"][index as usize % 2]);
        world.deliver_ok(body.to_string()).await;
    }
}

#[tokio::test]
async fn parts_of_an_export_make_one_file() {
    let world = World::new().await;
    thirty_calls(&world).await;
    for query in [
        "",
        "outcome=success",
        "outcome=success&order=asc",
        "sort=duration&from=2026-10-25&to=2026-12-01",
    ] {
        let listed = world.calls(&format!("{query}&limit=100")).await;
        let (whole, parts) = download(&world, &format!("format=ndjson&{query}")).await;
        assert_eq!(parts, 1);
        let (pieced, parts) = download(&world, &format!("format=ndjson&limit=4&{query}")).await;
        assert_eq!(parts, listed.len().div_ceil(4));
        assert_eq!(pieced, whole);
        let lines: Vec<Value> = String::from_utf8(whole)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines, listed, "a line is a call as lists show it");

        let (whole, _) = download(&world, &format!("format=csv&{query}")).await;
        let (pieced, _) = download(&world, &format!("format=csv&limit=7&{query}")).await;
        assert_eq!(pieced, whole);
        let text = String::from_utf8(whole).unwrap();
        assert!(text.starts_with("id,started_at,duration_seconds,"), "{text}");
        assert!(text.ends_with("\r\n"));
        let rows = text.strip_suffix("\r\n").unwrap().split("\r\n");
        let ids: Vec<&str> = rows.skip(1).map(|row| row.split(',').next().unwrap()).collect();
        let listed: Vec<&str> = listed.iter().map(|call| call["id"].as_str().unwrap()).collect();
        assert_eq!(ids, listed);
    }
}

#[tokio::test]
async fn a_csv_file_tells_what_lists_tell_and_no_cell_is_a_formula() {
    let world = World::new().await;
    let campaign = world
        .campaign("=HYPERLINK(\"http://evil.example\"), \"Spring\"")
        .await;
    world
        .assign(
            &campaign,
            "+16125550142",
            &json!({ "from": "2020-01-01T00:00:00Z" }),
        )
        .await
        .expect(200);
    let mut body = phone_call("-conv,\"1", "2026-11-20T10:00:00Z", "2026-11-20T10:05:00Z");
    body["data"]["agent_name"] = json!("@Anna\nof Minnesota");
    body["data"]["metadata"]["termination_reason"] = json!("=1+1");
    world.deliver_ok(body.to_string()).await;
    let worth = json!({ "converted": true, "value": { "amount": "120.00", "currency": "USD" } });
    let path = "/api/calls/-conv,%221/conversion";
    world.send(Method::PUT, path, &worth).await.expect(200);

    let answer = world.get("/api/calls/export?format=csv").await;
    assert_eq!(
        answer.header("content-type"),
        "text/csv; charset=utf-8; header=present"
    );
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"calls.csv\""
    );
    let call = &world.calls("").await[0];
    let instant = |value: &Value| value.as_str().unwrap().to_owned();
    let expected = [
        ("id", "\"'-conv,\"\"1\"".to_owned()),
        ("started_at", "2026-11-20T10:00:00Z".to_owned()),
        ("duration_seconds", "60".to_owned()),
        ("channel", "phone".to_owned()),
        ("direction", "inbound".to_owned()),
        ("customer_number", "'+16125550187".to_owned()),
        ("tracking_number", "'+16125550142".to_owned()),
        ("agent_id", "agent_1".to_owned()),
        ("agent_name", "\"'@Anna\nof Minnesota\"".to_owned()),
        ("outcome", "success".to_owned()),
        ("termination_reason", "'=1+1".to_owned()),
        ("language", String::new()),
        ("converted", "true".to_owned()),
        ("conversion_source", "manual".to_owned()),
        ("conversion_by", instant(&call["conversion"]["by"])),
        ("conversion_at", instant(&call["conversion"]["at"])),
        ("conversion_amount", "120.00".to_owned()),
        ("conversion_currency", "USD".to_owned()),
        ("attribution_status", "attributed".to_owned()),
        ("campaign_id", campaign),
        (
            "campaign_name",
            "\"'=HYPERLINK(\"\"http://evil.example\"\"), \"\"Spring\"\"\"".to_owned(),
        ),
        ("attribution_method", "tracking_number".to_owned()),
        ("attribution_by", "automatic".to_owned()),
        ("attribution_at", instant(&call["attribution"]["at"])),
        ("has_transcript", "true".to_owned()),
        ("arrived_by", "webhook".to_owned()),
        ("received_at", instant(&call["received_at"])),
        ("updated_at", instant(&call["updated_at"])),
    ];
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    let cells: Vec<&str> = expected.iter().map(|(_, cell)| cell.as_str()).collect();
    let file = format!("{}\r\n{}\r\n", names.join(","), cells.join(","));
    assert_eq!(String::from_utf8(answer.body).unwrap(), file);
}

#[tokio::test]
async fn an_exported_number_can_be_uploaded_as_a_contact() {
    let world = World::new().await;
    thirty_calls(&world).await;
    let (file, _) = download(&world, "format=csv&limit=1").await;
    let text = String::from_utf8(file).unwrap();
    let number = text.lines().nth(1).unwrap().split(',').nth(5).unwrap();
    assert_eq!(number, "'+16125550187");
    let campaign = world.campaign("Follow-up").await;
    let path = format!("/api/campaigns/{campaign}/contacts");
    let headers = [("content-type", "text/csv")];
    let added = world
        .request(Method::POST, &path, &headers, format!("number\n{number}\n"))
        .await;
    assert_eq!(added.expect(200)["added"], 1);
    let contacts = world.get(&path).await.expect(200);
    assert_eq!(contacts["contacts"][0]["number"], "+16125550187");
}

#[tokio::test]
async fn an_export_of_nothing_is_an_empty_file() {
    let world = World::new().await;
    let (csv, _) = download(&world, "format=csv").await;
    assert_eq!(
        csv.split(|byte| *byte == b',').count(),
        28,
        "the names of the columns"
    );
    let (ndjson, _) = download(&world, "format=ndjson").await;
    assert!(ndjson.is_empty());
}

#[tokio::test]
async fn bad_exports_are_refused_by_name() {
    let world = World::new().await;
    thirty_calls(&world).await;
    let first = world.get("/api/calls/export?format=csv&limit=4").await;
    let link = next(&first).unwrap();
    let cursor = link.split("cursor=").nth(1).unwrap();
    for (query, code, field) in [
        (String::new(), "invalid_request", "format"),
        ("format=xlsx".to_owned(), "invalid_request", "format"),
        ("format=csv&limit=0".to_owned(), "invalid_request", "limit"),
        ("format=csv&limit=1001".to_owned(), "invalid_request", "limit"),
        ("format=csv&outcome=good".to_owned(), "invalid_request", "outcome"),
        ("format=csv&sort=duration".to_owned(), "window_too_large", "from"),
        (
            format!("format=csv&outcome=success&cursor={cursor}"),
            "invalid_cursor",
            "cursor",
        ),
    ] {
        let answer = world.get(&format!("/api/calls/export?{query}")).await;
        assert_eq!(answer.error(), (400, code.to_owned()), "{query}");
        assert_eq!(answer.json()["error"]["field"], field, "{query}");
    }
}
