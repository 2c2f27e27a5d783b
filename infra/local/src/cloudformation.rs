//! A template as CloudFormation reads it: YAML with its tags, parameters, and
//! the intrinsics that refer to them and to resources.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use saphyr::{Scalar, Yaml};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The region that everything local claims to be in.
pub const REGION: &str = "eu-west-1";
/// The account that everything local claims to belong to.
pub const ACCOUNT: &str = "000000000000";

// ------------------------------------------------------------ as written

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct RawTemplate {
    #[serde(rename = "AWSTemplateFormatVersion")]
    _version: String,
    pub(crate) transform: String,
    #[serde(rename = "Description")]
    _description: String,
    #[serde(default)]
    parameters: BTreeMap<String, RawParameter>,
    #[serde(default)]
    rules: BTreeMap<String, RawRule>,
    #[serde(default)]
    conditions: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) globals: RawGlobals,
    pub(crate) resources: BTreeMap<String, RawResource>,
    #[serde(default)]
    pub(crate) outputs: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct RawParameter {
    #[serde(rename = "Type")]
    kind: ParameterType,
    default: Option<Value>,
    allowed_values: Option<Vec<Value>>,
    allowed_pattern: Option<String>,
    min_value: Option<f64>,
    max_value: Option<f64>,
    #[serde(rename = "Description")]
    _description: Option<String>,
}

#[derive(Deserialize, PartialEq)]
enum ParameterType {
    String,
    Number,
}

impl RawParameter {
    /// Refuses a value as CloudFormation would.
    fn check(&self, name: &str, value: &str) -> Result<()> {
        if let Some(allowed) = &self.allowed_values {
            let allowed = allowed.iter().map(scalar_text).collect::<Result<Vec<_>>>()?;
            ensure!(
                allowed.iter().any(|allowed| allowed == value),
                "parameter {name} must be one of {}",
                allowed.join(", ")
            );
        }
        if let Some(pattern) = &self.allowed_pattern {
            let whole = Regex::new(&format!("^(?:{pattern})$"))?;
            ensure!(whole.is_match(value), "parameter {name} must match {pattern}");
        }
        if self.kind == ParameterType::Number {
            let number: f64 = value
                .parse()
                .with_context(|| format!("parameter {name} must be a number"))?;
            let least = self.min_value.unwrap_or(f64::NEG_INFINITY);
            ensure!(number >= least, "parameter {name} must be at least {least}");
            let most = self.max_value.unwrap_or(f64::INFINITY);
            ensure!(number <= most, "parameter {name} must be at most {most}");
        }
        Ok(())
    }
}

/// What must hold of the parameters together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawRule {
    rule_condition: Value,
    assertions: Vec<RawAssertion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawAssertion {
    assert: Value,
    assert_description: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct RawGlobals {
    pub(crate) function: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct RawResource {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    pub(crate) condition: Option<String>,
    #[serde(rename = "DependsOn")]
    _depends_on: Option<Value>,
    #[serde(default)]
    pub(crate) properties: Value,
    pub(crate) metadata: Option<Value>,
    #[serde(rename = "DeletionPolicy")]
    _deletion_policy: Option<String>,
    #[serde(rename = "UpdateReplacePolicy")]
    _update_replace_policy: Option<String>,
}

// ------------------------------------------------------- YAML and intrinsics

/// YAML to JSON, with `!Ref X` as `{"Ref": X}` and `!Sub X` as `{"Fn::Sub": X}`.
pub(crate) fn to_json(yaml: &Yaml<'_>) -> Result<Value> {
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(items) => Value::Array(items.iter().map(to_json).collect::<Result<_>>()?),
        Yaml::Mapping(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| Ok((scalar_text(&to_json(key)?)?, to_json(value)?)))
                .collect::<Result<_>>()?,
        ),
        Yaml::Tagged(tag, inner) => {
            ensure!(
                tag.handle == "!",
                "YAML tag {}{} is not understood",
                tag.handle,
                tag.suffix
            );
            let name = match tag.suffix.as_str() {
                "Ref" => "Ref".to_owned(),
                other => format!("Fn::{other}"),
            };
            let argument = match (name.as_str(), to_json(inner)?) {
                ("Fn::GetAtt", Value::String(path)) => json!(path.split('.').collect::<Vec<_>>()),
                (_, argument) => argument,
            };
            Value::Object(Map::from_iter([(name, argument)]))
        }
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => {
            bail!("a YAML value could not be read: {yaml:?}")
        }
    })
}

pub(crate) fn scalar_text(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        other => bail!("expected a text, a number or a boolean, found {other}"),
    }
}

/// Resolves intrinsics with the parameters' values.
pub(crate) struct Resolver<'a> {
    parameters: BTreeMap<String, String>,
    conditions: &'a BTreeMap<String, Value>,
    resources: &'a BTreeMap<String, RawResource>,
}

impl<'a> Resolver<'a> {
    /// With the parameters' defaults and the given values.
    pub(crate) fn new(raw: &'a RawTemplate, given: &BTreeMap<String, String>) -> Result<Self> {
        for name in given.keys() {
            ensure!(
                raw.parameters.contains_key(name),
                "the template has no parameter {name}"
            );
        }
        let mut parameters = BTreeMap::new();
        for (name, parameter) in &raw.parameters {
            let value = match (given.get(name), &parameter.default) {
                (Some(value), _) => value.clone(),
                (None, Some(default)) => scalar_text(default)?,
                (None, None) => bail!("parameter {name} has no default: give it a value"),
            };
            parameter.check(name, &value)?;
            parameters.insert(name.clone(), value);
        }
        let resolver = Self {
            parameters,
            conditions: &raw.conditions,
            resources: &raw.resources,
        };
        for rule in raw.rules.values() {
            if resolver.holds(&rule.rule_condition)? {
                for assertion in &rule.assertions {
                    ensure!(
                        resolver.holds(&assertion.assert)?,
                        "{}",
                        assertion.assert_description
                    );
                }
            }
        }
        Ok(resolver)
    }

    /// Whether a condition of the template holds.
    pub(crate) fn condition(&self, name: &str) -> Result<bool> {
        let condition = self
            .conditions
            .get(name)
            .with_context(|| format!("the template has no condition {name}"))?;
        self.holds(condition).with_context(|| format!("condition {name}"))
    }

    fn holds(&self, expression: &Value) -> Result<bool> {
        let mut parts = expression.as_object().into_iter().flatten();
        let (Some((function, Value::Array(of))), None) = (parts.next(), parts.next()) else {
            bail!("the condition {expression} is not understood here");
        };
        match (function.as_str(), of.as_slice()) {
            ("Fn::Equals", [one, other]) => Ok(self.resolve(one.clone())? == self.resolve(other.clone())?),
            ("Fn::Not", [inner]) => Ok(!self.holds(inner)?),
            _ => bail!("the condition {expression} is not understood here"),
        }
    }

    /// A value with every intrinsic in it resolved. `AWS::NoValue` is null,
    /// which every property that may be left out reads as absent.
    pub(crate) fn resolve(&self, value: Value) -> Result<Value> {
        match value {
            Value::Array(items) => items.into_iter().map(|item| self.resolve(item)).collect(),
            Value::Object(map) => {
                if map.len() == 1
                    && let Some((name, argument)) = map.iter().next()
                    && (name == "Ref" || name.starts_with("Fn::"))
                {
                    return self.intrinsic(name, argument);
                }
                map.into_iter()
                    .map(|(key, value)| Ok((key, self.resolve(value)?)))
                    .collect::<Result<Map<_, _>>>()
                    .map(Value::Object)
            }
            scalar => Ok(scalar),
        }
    }

    fn intrinsic(&self, name: &str, argument: &Value) -> Result<Value> {
        match (name, argument) {
            ("Ref", Value::String(target)) if target == "AWS::NoValue" => Ok(Value::Null),
            ("Ref", Value::String(target)) => self.reference(target).map(Value::String),
            ("Fn::GetAtt", Value::Array(path)) => match path.as_slice() {
                [Value::String(id), Value::String(attribute)] => {
                    self.attribute(id, attribute).map(Value::String)
                }
                _ => bail!("Fn::GetAtt {argument} is not understood"),
            },
            ("Fn::Sub", Value::String(text)) => self.substitute(text).map(Value::String),
            ("Fn::If", Value::Array(choice)) => match choice.as_slice() {
                [Value::String(condition), then, otherwise] => {
                    let chosen = if self.condition(condition)? {
                        then
                    } else {
                        otherwise
                    };
                    self.resolve(chosen.clone())
                }
                _ => bail!("Fn::If {argument} is not understood"),
            },
            _ => bail!("the intrinsic {name} {argument} is not understood here"),
        }
    }

    fn substitute(&self, text: &str) -> Result<String> {
        let mut resolved = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after
                .split_once('}')
                .with_context(|| format!("Fn::Sub {text:?}: ${{ without an end"))?;
            resolved.push_str(before);
            resolved.push_str(&match name.split_once('.') {
                Some((id, attribute)) => self.attribute(id, attribute)?,
                None => self.reference(name)?,
            });
            rest = after;
        }
        resolved.push_str(rest);
        Ok(resolved)
    }

    fn reference(&self, target: &str) -> Result<String> {
        if let Some(value) = self.parameters.get(target) {
            return Ok(value.clone());
        }
        if let Some(resource) = self.resources.get(target) {
            return match resource.kind.as_str() {
                "AWS::Serverless::Function"
                | "AWS::Serverless::HttpApi"
                | "AWS::DynamoDB::Table"
                | "AWS::Logs::LogGroup"
                | "AWS::CloudWatch::Dashboard" => Ok(target.to_owned()),
                "AWS::SecretsManager::Secret" => Ok(secret_arn(target)),
                "AWS::SNS::Topic" => Ok(format!("arn:aws:sns:{REGION}:{ACCOUNT}:{target}")),
                other => bail!("Ref {target}: what a {other} refers to is not known here"),
            };
        }
        match target {
            "AWS::Region" => Ok(REGION.to_owned()),
            "AWS::AccountId" => Ok(ACCOUNT.to_owned()),
            "AWS::Partition" => Ok("aws".to_owned()),
            "AWS::StackName" => Ok("local".to_owned()),
            "AWS::URLSuffix" => Ok("amazonaws.com".to_owned()),
            _ => bail!("Ref {target}: nothing of that name"),
        }
    }

    fn attribute(&self, id: &str, attribute: &str) -> Result<String> {
        let resource = self
            .resources
            .get(id)
            .with_context(|| format!("GetAtt {id}.{attribute}: no such resource"))?;
        match (resource.kind.as_str(), attribute) {
            ("AWS::DynamoDB::Table", "Arn") => Ok(format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{id}")),
            ("AWS::Serverless::Function", "Arn") => {
                Ok(format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{id}"))
            }
            ("AWS::Logs::LogGroup", "Arn") => Ok(format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{id}:*")),
            (kind, _) => bail!("GetAtt {id}.{attribute} of a {kind} is not understood here"),
        }
    }
}

/// The ARN of a secret of the template.
pub(crate) fn secret_arn(id: &str) -> String {
    format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{id}")
}
