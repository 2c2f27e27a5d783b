//! The OpenAPI document: it tells of every route, and every answer is as it says.
//!
//! Whatever a story asks of the API is looked at by [`expect_documented`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use local::template::Route;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, World, request, template};

pub(crate) const PATH: &str = "/api/openapi.json";
static DOCUMENT: OnceLock<Value> = OnceLock::new();

/// The document as a stack serves it; the same for all stacks of one run.
pub(crate) async fn document(world: &World) -> &'static Value {
    if let Some(document) = DOCUMENT.get() {
        return document;
    }
    let url = format!("{}{PATH}", world.stack.url());
    let answer = request(&world.client, Method::GET, &url, &[], "").await;
    DOCUMENT.get_or_init(|| answer.expect(200))
}

/// Fails unless an answer is one that the document tells of.
pub(crate) fn expect_documented(document: &Value, method: &Method, path: &str, answer: &Answer) {
    let path = path.split('?').next().unwrap_or_default();
    let Some((template, operation)) = operation(document, method, path) else {
        assert!(
            [404, 405].contains(&answer.status),
            "{method} {path} is not documented: {answer:?}"
        );
        return;
    };
    let response = resolved(document, &operation["responses"][answer.status.to_string()]);
    assert!(
        response.is_object(),
        "{method} {template} answers {} beyond its document: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body),
    );
    let content_type = answer.header("content-type");
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let content = &response["content"][essence];
    assert!(
        content.is_object(),
        "{method} {template} answers {content_type} beyond its document"
    );
    let schema = &content["schema"];
    if schema.is_object() {
        let validator = validator(document, schema);
        let json = answer.json();
        let errors: Vec<String> = validator
            .iter_errors(&json)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(
            errors.is_empty(),
            "{method} {template} answers {} otherwise than documented: {errors:#?} in {json:#}",
            answer.status
        );
    }
}

fn operation<'a>(document: &'a Value, method: &Method, path: &str) -> Option<(&'a str, &'a Value)> {
    let matches = |template: &str| {
        let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        let fits = |(wanted, given): (&&str, &&str)| {
            wanted == given || (wanted.starts_with('{') && !given.is_empty())
        };
        template.len() == path.len() && template.iter().zip(&path).all(fits)
    };
    let paths = document["paths"].as_object().unwrap();
    let mut found: Vec<&String> = paths.keys().filter(|template| matches(template)).collect();
    // One without parameters goes before one with them.
    found.sort_by_key(|template| template.matches('{').count());
    let template = found.first()?;
    let operation = paths[*template].get(method.as_str().to_lowercase())?;
    Some((template, operation))
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

/// Made once for each schema.
fn validator(document: &Value, schema: &Value) -> Arc<Validator> {
    static MADE: Mutex<BTreeMap<String, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let make = || {
        let whole = json!({ "allOf": [schema], "components": document["components"] });
        Arc::new(Validator::new(&strict(&whole)).unwrap())
    };
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(schema.to_string()).or_insert_with(make).clone()
}

/// The same schema, in which an object has no property that is not told of.
fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut fields: serde_json::Map<_, _> = fields
                .iter()
                .map(|(name, value)| (name.clone(), strict(value)))
                .collect();
            let is_object = fields.get("type") == Some(&json!("object"));
            if is_object && fields.contains_key("properties") {
                fields
                    .entry("unevaluatedProperties")
                    .or_insert(json!(fields_are_of_alternatives(schema)));
            }
            Value::Object(fields)
        }
        Value::Array(items) => items.iter().map(strict).collect(),
        other => other.clone(),
    }
}

/// Whether this is one alternative of several, whose common fields stand outside.
fn fields_are_of_alternatives(schema: &Value) -> bool {
    schema["properties"]["action"].is_object() && schema["oneOf"].is_null()
}

fn is_of_the_api(route: &Route) -> bool {
    route.path.starts_with("/api/")
}

#[tokio::test]
async fn every_route_is_documented_and_nothing_else() {
    let world = World::new().await;
    let document = document(&world).await;
    let mut of_template = BTreeSet::new();
    for route in template().routes.into_iter().filter(is_of_the_api) {
        let methods = match route.method.as_str() {
            // The webhook takes any method, to refuse all but these.
            "ANY" => vec!["get".to_owned(), "post".to_owned()],
            method => vec![method.to_lowercase()],
        };
        for method in methods {
            of_template.insert((route.path.clone(), method, route.scopes.clone()));
        }
    }
    let mut of_document = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let scopes = operation["security"][0]["token"].as_array();
            let scopes = scopes.map(|scopes| {
                scopes
                    .iter()
                    .map(|scope| scope.as_str().unwrap().to_owned())
                    .collect()
            });
            of_document.insert((path.clone(), method.clone(), scopes));
        }
    }
    assert_eq!(of_document, of_template);
}

#[tokio::test]
async fn the_document_holds_together() {
    let world = World::new().await;
    let document = document(&world).await;
    assert_eq!(document["openapi"], "3.1.1");
    // Every reference leads somewhere, and nothing is described in vain.
    let text = document.to_string();
    let mut used = BTreeSet::new();
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
        used.insert(pointer.to_owned());
    }
    for kind in ["schemas", "responses"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(
                used.contains(&format!("/components/{kind}/{name}")),
                "{kind} {name}"
            );
        }
    }
    // Types of the same name would be told apart by a number.
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(
        !schemas
            .keys()
            .any(|name| name.ends_with(|c: char| c.is_ascii_digit()))
    );
}
