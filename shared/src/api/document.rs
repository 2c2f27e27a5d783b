//! The OpenAPI document, made of the types that requests and answers have.
//!
//! <https://spec.openapis.org/oas/v3.1.1.html>

use std::sync::OnceLock;

use schemars::JsonSchema;
use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::calls::{CallFilterRequest, CallPage, DetailedCall, ExportRequest, SortRequest, TranscriptPage};
use super::campaigns::{
    AssignmentRequest, CampaignPage, CampaignView, ChangedCampaign, ContactPage, ContactView, ContactsAdded,
    ContactsRemoved, EndRequest, NewCampaign, NewContacts,
};
use super::decisions::{
    AssignCall, AssignCalls, ConvertCall, DecidedCall, Outcomes, ReattributeRequest, ReattributedView,
    UndoRequest,
};
use super::deliveries::{
    Accepted, DeliveryFilterRequest, DeliveryPage, DeliveryView, ReplayRequest, ReplayView, WebhookStatus,
};
use super::erasures::{ErasureRequest, Receipt};
use super::reports::{Summary, SummaryRequest, Timeseries, TimeseriesRequest};
use super::sync::{LedgerRequest, SyncStatus, SyncView};
use crate::http::ErrorAnswer;
use crate::query::Paging;

/// The route that serves it.
pub const ROUTE: &str = "GET /api/openapi.json";

/// The document, made once.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(make)
}

/// Every route of the API.
fn routes() -> Vec<Route> {
    vec![
        get("/api/webhooks/elevenlabs", "Whether the webhook is there")
            .open()
            .answer::<WebhookStatus>(200),
        post("/api/webhooks/elevenlabs", "Take a delivery of ElevenLabs")
            .open()
            .header(
                "elevenlabs-signature",
                "`t=<seconds>,v0=<hex>`: HMAC-SHA256 of `<seconds>.<body>` with the signing secret.",
            )
            .body::<Value>()
            .answer::<Accepted>(200)
            .refusals(&[400, 401, 403, 405, 415, 429, 503]),
        get("/api/calls", "List calls")
            .query::<CallFilterRequest>()
            .query::<SortRequest>()
            .query::<Paging>()
            .answer::<CallPage>(200),
        get("/api/calls/export", "Export calls as a file, part by part")
            .query::<CallFilterRequest>()
            .query::<SortRequest>()
            .query::<ExportRequest>()
            .parts(&["text/csv", "application/x-ndjson"]),
        get("/api/calls/{id}", "One call with everything").answer::<DetailedCall>(200),
        get("/api/calls/{id}/raw", "The newest body of a call, byte for byte")
            .file(&["application/json", "application/octet-stream"]),
        get(
            "/api/calls/{id}/transcript",
            "The transcript of a call, page by page",
        )
        .query::<Paging>()
        .answer::<TranscriptPage>(200),
        put(
            "/api/calls/{id}/attribution",
            "Credit a call to a campaign or to none",
        )
        .body::<AssignCall>()
        .answer::<DecidedCall>(200),
        delete(
            "/api/calls/{id}/attribution",
            "Return the credit of a call to the rules",
        )
        .answer::<DecidedCall>(200),
        put(
            "/api/calls/{id}/conversion",
            "Say whether a call reached its goal",
        )
        .body::<ConvertCall>()
        .answer::<DecidedCall>(200),
        delete(
            "/api/calls/{id}/conversion",
            "Return the conversion of a call to its outcome",
        )
        .answer::<DecidedCall>(200),
        post("/api/assignments", "Credit many calls to a campaign or to none")
            .body::<AssignCalls>()
            .answer::<Outcomes>(200),
        post(
            "/api/assignments/{id}/undo",
            "Undo an assignment or a re-attribution",
        )
        .optional_body::<UndoRequest>()
        .answer::<Outcomes>(200),
        post(
            "/api/reattributions",
            "Ask the rules again about the calls of a window",
        )
        .body::<ReattributeRequest>()
        .answer::<ReattributedView>(200),
        post(
            "/api/erasures",
            "Erase a customer: what tells who it was, but not that there was a call",
        )
        .body::<ErasureRequest>()
        .answer::<Receipt>(200),
        get("/api/campaigns", "List campaigns")
            .query::<Paging>()
            .answer::<CampaignPage>(200),
        post("/api/campaigns", "Make a campaign")
            .body::<NewCampaign>()
            .answer::<CampaignView>(201),
        get("/api/campaigns/{id}", "One campaign").answer::<CampaignView>(200),
        patch("/api/campaigns/{id}", "Change a campaign")
            .body::<ChangedCampaign>()
            .answer::<CampaignView>(200),
        put(
            "/api/campaigns/{id}/numbers/{number}",
            "Give a tracking number to a campaign for a while",
        )
        .body::<AssignmentRequest>()
        .answer::<CampaignView>(200),
        delete(
            "/api/campaigns/{id}/numbers/{number}",
            "End the assignment of a number, or remove a wrong one",
        )
        .query::<EndRequest>()
        .answer::<CampaignView>(200),
        put(
            "/api/campaigns/{id}/agents/{agent_id}",
            "Give an agent to a campaign for a while",
        )
        .body::<AssignmentRequest>()
        .answer::<CampaignView>(200),
        delete(
            "/api/campaigns/{id}/agents/{agent_id}",
            "End the assignment of an agent, or remove a wrong one",
        )
        .query::<EndRequest>()
        .answer::<CampaignView>(200),
        get("/api/campaigns/{id}/contacts", "List the contacts of a campaign")
            .query::<Paging>()
            .answer::<ContactPage>(200),
        post("/api/campaigns/{id}/contacts", "Add contacts to a campaign")
            .body::<NewContacts>()
            .csv_body("A header row `number[,from,to]`, then up to 10,000 rows.")
            .answer::<ContactsAdded>(200),
        delete(
            "/api/campaigns/{id}/contacts",
            "Remove contacts, 10,000 a request",
        )
        .answer::<ContactsRemoved>(200),
        get("/api/campaigns/{id}/contacts/{number}", "One contact").answer::<ContactView>(200),
        delete("/api/campaigns/{id}/contacts/{number}", "Remove a contact").answer::<ContactView>(200),
        get("/api/reports/summary", "What calls come to, group by group")
            .query::<SummaryRequest>()
            .query::<CallFilterRequest>()
            .answer::<Summary>(200),
        get("/api/reports/timeseries", "What calls come to over time")
            .query::<TimeseriesRequest>()
            .query::<CallFilterRequest>()
            .answer::<Timeseries>(200),
        get("/api/deliveries", "List the delivery log")
            .query::<DeliveryFilterRequest>()
            .query::<Paging>()
            .answer::<DeliveryPage>(200),
        get("/api/deliveries/{id}", "One delivery").answer::<DeliveryView>(200),
        get(
            "/api/deliveries/{id}/raw",
            "The body of a delivery, where it is kept",
        )
        .file(&["application/json", "application/octet-stream"]),
        post("/api/deliveries/{id}/replay", "Read a kept delivery again")
            .body::<ReplayRequest>()
            .answer::<ReplayView>(200),
        get("/api/sync", "How sync is, and whether any call is missing")
            .query::<LedgerRequest>()
            .answer::<SyncView>(200),
        post("/api/sync", "Look for missing calls now, for at most 20 seconds")
            .answer::<SyncStatus>(200)
            .refusals(&[409]),
        get("/api/openapi.json", "This document").open(),
    ]
}

/// Makes the schema of a type, as it is read or written.
type MakeSchema = fn(&mut SchemaGenerator) -> Value;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// One route, as it is described.
struct Route {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// Whether it asks for no token.
    is_open: bool,
    /// A header that it needs, and what that holds.
    header: Option<(&'static str, &'static str)>,
    query: Vec<MakeSchema>,
    body: Option<MakeSchema>,
    /// Whether it can do without a body.
    body_is_optional: bool,
    /// What a CSV body holds, where it takes one.
    csv_body: Option<&'static str>,
    /// Status and content of the answer.
    answer: (u16, Answer),
    /// Statuses of errors, beside those of every route.
    refusals: Vec<u16>,
}

enum Answer {
    Json(MakeSchema),
    /// Bytes of one of these types.
    File(&'static [&'static str]),
    /// The same, part by part.
    Parts(&'static [&'static str]),
}

fn route(method: &'static str, path: &'static str, summary: &'static str) -> Route {
    Route {
        method,
        path,
        summary,
        is_open: false,
        header: None,
        query: Vec::new(),
        body: None,
        body_is_optional: false,
        csv_body: None,
        answer: (200, Answer::Json(schema_of::<Value>)),
        refusals: Vec::new(),
    }
}

fn get(path: &'static str, summary: &'static str) -> Route {
    route("get", path, summary)
}

fn post(path: &'static str, summary: &'static str) -> Route {
    route("post", path, summary)
}

fn put(path: &'static str, summary: &'static str) -> Route {
    route("put", path, summary)
}

fn patch(path: &'static str, summary: &'static str) -> Route {
    route("patch", path, summary)
}

fn delete(path: &'static str, summary: &'static str) -> Route {
    route("delete", path, summary)
}

impl Route {
    fn open(self) -> Self {
        Self {
            is_open: true,
            ..self
        }
    }

    fn header(self, name: &'static str, description: &'static str) -> Self {
        Self {
            header: Some((name, description)),
            ..self
        }
    }

    fn query<T: JsonSchema>(mut self) -> Self {
        self.query.push(schema_of::<T>);
        self
    }

    fn body<T: JsonSchema>(self) -> Self {
        Self {
            body: Some(schema_of::<T>),
            ..self
        }
    }

    fn optional_body<T: JsonSchema>(self) -> Self {
        Self {
            body_is_optional: true,
            ..self.body::<T>()
        }
    }

    fn csv_body(self, description: &'static str) -> Self {
        Self {
            csv_body: Some(description),
            ..self
        }
    }

    fn answer<T: JsonSchema>(self, status: u16) -> Self {
        Self {
            answer: (status, Answer::Json(schema_of::<T>)),
            ..self
        }
    }

    fn file(self, content_types: &'static [&'static str]) -> Self {
        Self {
            answer: (200, Answer::File(content_types)),
            ..self
        }
    }

    fn parts(self, content_types: &'static [&'static str]) -> Self {
        Self {
            answer: (200, Answer::Parts(content_types)),
            ..self
        }
    }

    fn refusals(self, statuses: &[u16]) -> Self {
        Self {
            refusals: statuses.to_vec(),
            ..self
        }
    }

    fn describe(&self, requests: &mut SchemaGenerator, answers: &mut SchemaGenerator) -> Value {
        let mut parameters: Vec<Value> = self.path_parameters().map(path_parameter).collect();
        if let Some((name, description)) = self.header {
            parameters.push(json!({
                "name": name, "in": "header", "required": true, "description": description,
                "schema": { "type": "string" },
            }));
        }
        parameters.extend(
            self.query
                .iter()
                .flat_map(|make| query_parameters(&make(requests))),
        );
        let mut operation = json!({
            "summary": self.summary,
            "parameters": parameters,
            "responses": self.describe_answers(answers),
            "security": [],
        });
        if !self.is_open {
            let scope = if self.method == "get" {
                "ringmark/read"
            } else {
                "ringmark/write"
            };
            operation["security"] = json!([{ "token": [scope] }]);
        }
        if let Some(make) = self.body {
            let mut content = json!({ "application/json": { "schema": make(requests) } });
            if let Some(description) = self.csv_body {
                let schema = json!({ "type": "string", "description": description });
                content["text/csv"] = json!({ "schema": schema });
            }
            operation["requestBody"] = json!({ "required": !self.body_is_optional, "content": content });
        }
        operation
    }

    fn describe_answers(&self, answers: &mut SchemaGenerator) -> Value {
        let (status, answer) = &self.answer;
        let content = match answer {
            Answer::Json(make) => json!({ "application/json": { "schema": make(answers) } }),
            Answer::File(types) | Answer::Parts(types) => {
                types.iter().map(|name| ((*name).to_owned(), json!({}))).collect()
            }
        };
        let mut described = Map::new();
        let mut done = json!({ "description": "Done.", "content": content });
        if let Answer::Parts(_) = answer {
            done["headers"] = json!({ "link": {
                "description": "`<address>; rel=\"next\"`: the next part; none with the last one.",
                "schema": { "type": "string" },
            } });
        }
        described.insert(status.to_string(), done);
        for (status, _) in REFUSALS {
            let is_usual = match status {
                401 | 403 | 429 => !self.is_open,
                404 => self.path_parameters().next().is_some(),
                409 => self.method != "get" && self.path.starts_with("/api/campaigns"),
                _ => !matches!(status, 405 | 415),
            };
            if is_usual || self.refusals.contains(&status) {
                let reference = format!("#/components/responses/{status}");
                described.insert(status.to_string(), json!({ "$ref": reference }));
            }
        }
        Value::Object(described)
    }

    fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        let segments = self.path.split('/');
        segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// What errors say, by their status.
const REFUSALS: [(u16, &str); 12] = [
    (
        400,
        "The request can't be served as it is; the message says how to mend it.",
    ),
    (
        401,
        "Nobody that we know is asking: the token or the signature is missing or not valid.",
    ),
    (
        403,
        "Who is asking may not: the token lacks the scope, or the address is not allowed.",
    ),
    (404, "There is no such thing."),
    (405, "The method is not one that this route takes."),
    (409, "It contradicts something that is there."),
    (413, "The request is too large for the gateway."),
    (415, "The body is not of a type that this route takes."),
    (429, "Too many requests: try again later."),
    (431, "The head of the request is too large for the gateway."),
    (500, "A mistake of ours."),
    (503, "Temporarily out of service: try again."),
];

fn path_parameter(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
}

/// The parameters that a type of a query string stands for: its fields.
fn query_parameters(schema: &Value) -> Vec<Value> {
    let is_required = |name: &String| {
        let names = schema["required"].as_array();
        names.is_some_and(|names| names.contains(&json!(name)))
    };
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, property)| {
            json!({
                "name": name,
                "in": "query",
                "required": is_required(name),
                "description": property["description"],
                "schema": without_null(property),
            })
        })
        .collect()
}

/// A query string has no null: what may be left out is not required.
fn without_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let is_null = |choice: &Value| *choice == json!("null") || *choice == json!({ "type": "null" });
    for choices in ["type", "anyOf", "enum"] {
        let Some(list) = schema[choices].as_array() else {
            continue;
        };
        let left: Vec<Value> = list
            .iter()
            .filter(|choice| !is_null(choice) && !choice.is_null())
            .cloned()
            .collect();
        schema[choices] = match (choices, left.as_slice()) {
            ("type", [only]) => only.clone(),
            _ => Value::Array(left),
        };
    }
    if let Some(object) = schema.as_object_mut() {
        object.remove("description");
        object.retain(|_, value| !value.is_null());
    }
    schema
}

fn generator(contract: Contract) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.definitions_path = "/components/schemas".into();
        settings.contract = contract;
    });
    settings.into_generator()
}

fn make() -> Value {
    // A field with a default may be left out of what is read; what is written has all.
    let (mut requests, mut answers) = (generator(Contract::Deserialize), generator(Contract::Serialize));
    let mut paths = Map::new();
    for route in routes() {
        let described = route.describe(&mut requests, &mut answers);
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method] = described;
    }
    // Ours, or, where no function was asked, the gateway's.
    let ours = schema_of::<ErrorAnswer>(&mut answers);
    let theirs = json!({ "$ref": "#/components/schemas/GatewayError" });
    let refusals: Map<String, Value> = REFUSALS
        .into_iter()
        .map(|(status, description)| {
            let content = json!({ "application/json": { "schema": { "anyOf": [ours, theirs] } } });
            (
                status.to_string(),
                json!({ "description": description, "content": content }),
            )
        })
        .collect();
    let mut schemas = requests.take_definitions(true);
    schemas.extend(answers.take_definitions(true));
    schemas.insert(
        "GatewayError".to_owned(),
        json!({
            "description": "What the gateway itself answers, without asking any function.",
            "type": "object",
            "properties": { "message": { "type": ["string", "null"] } },
            "required": ["message"],
        }),
    );
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Ringmark",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Call tracking for ElevenLabs AI phone agents. Times are UTC, durations are whole seconds. \
                Every answer of ours carries `x-request-id`.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": refusals,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An OIDC access token with the scope `ringmark/read` or `ringmark/write`.",
                },
            },
        },
    })
}
