//! What each function may do: the statements of its policy in the template, enforced.
//!
//! A function is known by its access key, which is its logical id. Any other key is
//! that of the account's owner, who may do everything. What is read of a policy is
//! what the template uses: `Allow`, actions taken literally, and resources, in which
//! `*` stands for any text and `?` for any character.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use crate::cloudformation::{ACCOUNT, REGION};

/// One statement of a function's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it is called; unique within the function.
    pub id: String,
    /// What it allows.
    pub actions: Vec<String>,
    /// On what, as ARNs.
    pub resources: Vec<String>,
}

/// One action on one resource, as a statement allows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Logical id of the function.
    pub function: String,
    /// The statement's name.
    pub statement: String,
    /// For example `dynamodb:PutItem`.
    pub action: String,
    /// The ARN, as the statement has it.
    pub resource: String,
}

/// The policies of all functions, and what was made use of.
#[derive(Debug, Clone)]
pub struct Permissions {
    statements: Arc<BTreeMap<String, Vec<Statement>>>,
    used: Arc<Mutex<BTreeSet<Grant>>>,
    refused: Arc<Mutex<BTreeSet<(String, Asked)>>>,
}

/// What a request asks to do: an action on a resource.
pub type Asked = (String, String);

impl Permissions {
    /// Of these functions, by logical id.
    #[must_use]
    pub fn new(statements: BTreeMap<String, Vec<Statement>>) -> Self {
        Self {
            statements: Arc::new(statements),
            used: Arc::default(),
            refused: Arc::default(),
        }
    }

    /// All that is granted.
    #[must_use]
    pub fn granted(&self) -> BTreeSet<Grant> {
        let mut granted = BTreeSet::new();
        for (function, statements) in &*self.statements {
            for statement in statements {
                for action in &statement.actions {
                    granted.extend(statement.resources.iter().map(|resource| Grant {
                        function: function.clone(),
                        statement: statement.id.clone(),
                        action: action.clone(),
                        resource: resource.clone(),
                    }));
                }
            }
        }
        granted
    }

    /// What was made use of so far.
    #[must_use]
    pub fn used(&self) -> BTreeSet<Grant> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What functions asked for and were refused so far, with who asked.
    #[must_use]
    pub fn refused(&self) -> BTreeSet<(String, Asked)> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether whoever signed a request may do all that it asks.
    ///
    /// # Errors
    /// Says what is not allowed, as AWS does.
    pub(crate) fn check(&self, headers: &HeaderMap, asked: &[Asked]) -> Result<(), String> {
        let access_key = access_key(headers).ok_or("the request is not signed")?;
        let Some(statements) = self.statements.get(access_key) else {
            return Ok(());
        };
        for (action, resource) in asked {
            let grants = statements.iter().find_map(|statement| {
                let granted = statement
                    .resources
                    .iter()
                    .find(|granted| fits(granted, resource))?;
                statement.actions.contains(action).then(|| Grant {
                    function: access_key.to_owned(),
                    statement: statement.id.clone(),
                    action: action.clone(),
                    resource: granted.clone(),
                })
            });
            let Some(grant) = grants else {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.insert((access_key.to_owned(), (action.clone(), resource.clone())));
                return Err(format!(
                    "{access_key} is not authorized to perform: {action} on resource: {resource}"
                ));
            };
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.insert(grant);
        }
        Ok(())
    }
}

/// The access key of a signed request.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html>
fn access_key(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get("authorization")?.to_str().ok()?;
    let (_, credential) = authorization.split_once("Credential=")?;
    credential.split('/').next()
}

/// Whether a resource of a policy covers this one.
fn fits(granted: &str, resource: &str) -> bool {
    match granted.chars().next() {
        None => resource.is_empty(),
        Some('*') => {
            let rest = &granted[1..];
            let mut starts = resource
                .char_indices()
                .map(|(start, _)| start)
                .chain([resource.len()]);
            starts.any(|start| fits(rest, &resource[start..]))
        }
        Some(wanted) => resource.chars().next().is_some_and(|character| {
            (wanted == '?' || wanted == character)
                && fits(&granted[wanted.len_utf8()..], &resource[character.len_utf8()..])
        }),
    }
}

/// What a request to the store asks to do.
///
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html>
pub(crate) fn asked_of_the_store(operation: &str, request: &Value) -> Vec<Asked> {
    let table = |name: &str| format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}");
    let action = |name: &str| format!("dynamodb:{name}");
    match operation {
        "BatchGetItem" | "BatchWriteItem" => {
            let tables = request["RequestItems"].as_object().into_iter().flatten();
            tables.map(|(name, _)| (action(operation), table(name))).collect()
        }
        "TransactWriteItems" | "TransactGetItems" => {
            let parts = request["TransactItems"].as_array().into_iter().flatten();
            let parts = parts.filter_map(Value::as_object).flatten();
            parts
                .map(|(kind, part)| {
                    let kind = if kind == "ConditionCheck" {
                        "ConditionCheckItem"
                    } else {
                        &format!("{kind}Item")
                    };
                    (
                        action(kind),
                        table(part["TableName"].as_str().unwrap_or_default()),
                    )
                })
                .collect()
        }
        _ => {
            let name = request["TableName"].as_str().unwrap_or_default();
            let resource = match request["IndexName"].as_str() {
                Some(index) => format!("{}/index/{index}", table(name)),
                None => table(name),
            };
            vec![(action(operation), resource)]
        }
    }
}

// ----------------------------------------------------------------- as written

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawPolicy {
    statement: Vec<RawStatement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawStatement {
    sid: String,
    effect: String,
    action: OneOrMany,
    resource: OneOrMany,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// The statements of a function's `Policies`.
pub(crate) fn read_policies(policies: Value) -> Result<Vec<Statement>> {
    let policies: Vec<RawPolicy> =
        serde_json::from_value(policies).context("policies other than statements are not understood here")?;
    let mut ids = BTreeSet::new();
    policies
        .into_iter()
        .flat_map(|policy| policy.statement)
        .map(|statement| {
            let id = statement.sid;
            ensure!(
                statement.effect == "Allow",
                "statement {id}: only Allow is understood here"
            );
            ensure!(ids.insert(id.clone()), "two statements are called {id}");
            Ok(Statement {
                id,
                actions: statement.action.all(),
                resources: statement.resource.all(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn signed_by(key: &str) -> HeaderMap {
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20261122/eu-west-1/dynamodb/aws4_request, Signature=0"
        );
        HeaderMap::from_iter([(
            "authorization".parse().unwrap(),
            HeaderValue::try_from(value).unwrap(),
        )])
    }

    fn permissions() -> Permissions {
        let statements = read_policies(json!([{ "Statement": [
            { "Sid": "Read", "Effect": "Allow", "Action": ["dynamodb:GetItem", "dynamodb:Query"],
              "Resource": ["arn:aws:dynamodb:eu-west-1:000000000000:table/T", "arn:aws:dynamodb:eu-west-1:000000000000:table/T/index/by-x"] },
            { "Sid": "Unused", "Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "arn:s:stack/name-??" },
        ]}]));
        Permissions::new(BTreeMap::from([("F".to_owned(), statements.unwrap())]))
    }

    #[test]
    fn a_function_may_do_what_a_statement_says_and_nothing_else() {
        let permissions = permissions();
        let check = |operation: &str, request: Value| {
            permissions
                .check(&signed_by("F"), &asked_of_the_store(operation, &request))
                .is_ok()
        };
        assert!(check("GetItem", json!({ "TableName": "T" })));
        assert!(check("Query", json!({ "TableName": "T", "IndexName": "by-x" })));
        assert!(!check("Query", json!({ "TableName": "T", "IndexName": "by-y" })));
        assert!(!check("GetItem", json!({ "TableName": "U" })));
        assert!(!check("Scan", json!({ "TableName": "T" })));
        assert!(!check("BatchGetItem", json!({ "RequestItems": { "T": {} } })));
        assert!(check(
            "TransactGetItems",
            json!({ "TransactItems": [{ "Get": { "TableName": "T" } }] })
        ));
        for kind in ["Put", "Update", "Delete", "ConditionCheck"] {
            let items = json!({ "TransactItems": [{ kind: { "TableName": "T" } }] });
            assert!(!check("TransactWriteItems", items), "{kind}");
        }
        let secret = |id: &str| [("secretsmanager:GetSecretValue".to_owned(), id.to_owned())];
        assert!(
            permissions
                .check(&signed_by("F"), &secret("arn:s:stack/name-ab"))
                .is_ok()
        );
        assert!(
            permissions
                .check(&signed_by("F"), &secret("arn:s:stack/name-abc"))
                .is_err()
        );
        assert!(permissions.check(&HeaderMap::new(), &[]).is_err(), "nobody");
        assert!(
            permissions
                .check(&signed_by("owner"), &secret("anything"))
                .is_ok()
        );
    }

    #[test]
    fn what_was_used_is_known() {
        let permissions = permissions();
        let asked = asked_of_the_store("GetItem", &json!({ "TableName": "T" }));
        permissions.check(&signed_by("F"), &asked).unwrap();
        let used = permissions.used();
        assert_eq!(used.len(), 1);
        assert_eq!(used.first().unwrap().statement, "Read");
        assert_eq!(permissions.granted().difference(&used).count(), 4);
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (granted, resource, expected) in [
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*", "", true),
            ("a?", "a", false),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(granted, resource), expected, "{granted} {resource}");
        }
    }

    #[test]
    fn policies_that_are_not_understood_are_refused() {
        let statement = |change: (&str, Value)| {
            let mut statement = json!({ "Sid": "S", "Effect": "Allow", "Action": "a:B", "Resource": "*" });
            statement[change.0] = change.1;
            read_policies(json!([{ "Statement": [statement] }]))
        };
        assert!(statement(("Sid", json!("Other"))).is_ok());
        assert!(statement(("Effect", json!("Deny"))).is_err());
        assert!(statement(("Condition", json!({}))).is_err());
        assert!(read_policies(json!(["AmazonDynamoDBFullAccess"])).is_err());
    }
}
