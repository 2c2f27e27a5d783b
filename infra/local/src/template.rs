//! `template.yaml`, read as CloudFormation and SAM would read it.
//!
//! Only what the template of this repository uses is understood. Any other
//! intrinsic, resource type or property is refused by its name: a stand-in that
//! guesses would let a template pass here that behaves differently on AWS.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The region that everything local claims to be in.
pub const REGION: &str = "eu-west-1";
/// The account that everything local claims to belong to.
pub const ACCOUNT: &str = "000000000000";

/// What the template deploys, with every intrinsic resolved.
#[derive(Debug)]
pub struct Template {
    /// By logical id.
    pub functions: BTreeMap<String, Function>,
    /// Every route of the HTTP API.
    pub routes: Vec<Route>,
    /// By logical id, the properties of each `AWS::DynamoDB::Table`.
    pub tables: BTreeMap<String, Value>,
    /// By logical id, the ARN of each secret.
    pub secrets: BTreeMap<String, String>,
}

/// A function as deployed.
#[derive(Debug, Clone)]
pub struct Function {
    /// Logical id in the template.
    pub logical_id: String,
    /// The binary that is its bootstrap.
    pub binary: String,
    /// Its environment, without what Lambda itself adds.
    pub environment: BTreeMap<String, String>,
    /// Seconds until an invocation is ended.
    pub timeout_seconds: u64,
    /// Memory in MiB, told to the function but not enforced.
    pub memory_mib: u64,
    /// `LoggingConfig.LogFormat`.
    pub log_format: String,
    /// `LoggingConfig.ApplicationLogLevel`.
    pub log_level: String,
    /// The policy statements, as written.
    pub policies: Value,
}

/// One route of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `GET`, …, or `ANY`.
    pub method: String,
    /// With `{parameters}`.
    pub path: String,
    /// Logical id of the function behind it.
    pub function: String,
}

impl Template {
    /// Reads the template with its parameters' defaults and the given values.
    ///
    /// # Errors
    /// Names whatever is not understood, and any parameter value that the
    /// template would not accept.
    pub fn read(path: &Path, parameters: &BTreeMap<String, String>) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text, parameters).with_context(|| format!("in {}", path.display()))
    }

    /// As [`read`](Self::read), from the text itself.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, parameters: &BTreeMap<String, String>) -> Result<Self> {
        let documents = Yaml::load_from_str(text).context("not YAML")?;
        let [document] = documents.as_slice() else {
            bail!("expected one YAML document");
        };
        let raw: RawTemplate = serde_json::from_value(to_json(document)?)?;
        ensure!(
            raw.transform == "AWS::Serverless-2016-10-31",
            "unknown Transform {:?}",
            raw.transform
        );
        let resolver = Resolver::new(&raw, parameters)?;

        let globals: FunctionProperties = match &raw.globals.function {
            Some(globals) => read_as("Globals.Function", resolver.resolve(globals.clone())?)?,
            None => FunctionProperties::default(),
        };
        let mut template = Self {
            functions: BTreeMap::new(),
            routes: Vec::new(),
            tables: BTreeMap::new(),
            secrets: BTreeMap::new(),
        };
        for (id, resource) in &raw.resources {
            let properties = resolver
                .resolve(resource.properties.clone())
                .with_context(|| format!("resource {id}"))?;
            match resource.kind.as_str() {
                "AWS::Serverless::Function" => {
                    let own: FunctionProperties = read_as(id, properties)?;
                    template.add_function(id, own, &globals, resource)?;
                }
                "AWS::Serverless::HttpApi" => {
                    let HttpApiProperties { .. } = read_as(id, properties)?;
                }
                "AWS::DynamoDB::Table" => {
                    template.tables.insert(id.clone(), properties);
                }
                "AWS::SecretsManager::Secret" => {
                    let SecretProperties { .. } = read_as(id, properties)?;
                    template.secrets.insert(id.clone(), secret_arn(id));
                }
                other => bail!("resource {id}: type {other} is not understood here"),
            }
        }
        for (name, output) in &raw.outputs {
            resolver
                .resolve(output.clone())
                .with_context(|| format!("output {name}"))?;
        }
        Ok(template)
    }

    fn add_function(
        &mut self,
        id: &str,
        own: FunctionProperties,
        globals: &FunctionProperties,
        resource: &RawResource,
    ) -> Result<()> {
        let metadata: FunctionMetadata = read_as(
            &format!("{id}.Metadata"),
            resource
                .metadata
                .clone()
                .with_context(|| format!("function {id} has no Metadata"))?,
        )?;
        ensure!(
            metadata.build_method == "rust-cargolambda",
            "function {id}: BuildMethod {} is not understood here",
            metadata.build_method
        );
        for (name, expected, actual) in [
            (
                "CodeUri",
                ".",
                own.code_uri.as_ref().or(globals.code_uri.as_ref()),
            ),
            (
                "Handler",
                "bootstrap",
                own.handler.as_ref().or(globals.handler.as_ref()),
            ),
            (
                "Runtime",
                "provided.al2023",
                own.runtime.as_ref().or(globals.runtime.as_ref()),
            ),
        ] {
            ensure!(
                actual.is_some_and(|actual| actual == expected),
                "function {id}: {name} must be {expected}"
            );
        }
        for (event, HttpApiEvent { kind, properties }) in own.events {
            ensure!(
                kind == "HttpApi",
                "function {id}, event {event}: type {kind} is not understood here"
            );
            self.routes.push(Route {
                method: properties.method.to_uppercase(),
                path: properties.path,
                function: id.to_owned(),
            });
        }
        let mut environment = globals.environment.clone().unwrap_or_default().variables;
        environment.extend(own.environment.unwrap_or_default().variables);
        let logging = own
            .logging_config
            .or_else(|| globals.logging_config.clone())
            .unwrap_or_default();
        self.functions.insert(
            id.to_owned(),
            Function {
                logical_id: id.to_owned(),
                binary: metadata.build_properties.binary,
                environment: environment
                    .into_iter()
                    .map(|(name, value)| Ok((name, scalar_text(&value)?)))
                    .collect::<Result<_>>()
                    .with_context(|| format!("environment of {id}"))?,
                timeout_seconds: own.timeout.or(globals.timeout).unwrap_or(3),
                memory_mib: own.memory_size.or(globals.memory_size).unwrap_or(128),
                log_format: logging.log_format,
                log_level: logging.application_log_level,
                policies: own.policies.unwrap_or(Value::Null),
            },
        );
        Ok(())
    }
}

fn secret_arn(id: &str) -> String {
    format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{id}")
}

fn read_as<T: serde::de::DeserializeOwned>(what: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).with_context(|| format!("{what} is not understood here"))
}

// ------------------------------------------------------------ as written

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawTemplate {
    #[serde(rename = "AWSTemplateFormatVersion")]
    _version: String,
    transform: String,
    #[serde(rename = "Description")]
    _description: String,
    #[serde(default)]
    parameters: BTreeMap<String, RawParameter>,
    #[serde(default)]
    globals: RawGlobals,
    resources: BTreeMap<String, RawResource>,
    #[serde(default)]
    outputs: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawParameter {
    #[serde(rename = "Type")]
    kind: ParameterType,
    default: Option<Value>,
    allowed_values: Option<Vec<Value>>,
    allowed_pattern: Option<String>,
    min_value: Option<f64>,
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
        }
        Ok(())
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawGlobals {
    function: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawResource {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(default)]
    properties: Value,
    metadata: Option<Value>,
    #[serde(rename = "DeletionPolicy")]
    _deletion_policy: Option<String>,
    #[serde(rename = "UpdateReplacePolicy")]
    _update_replace_policy: Option<String>,
}

/// The properties of a function that mean something here, and those that are
/// known to mean nothing on one machine. Others are refused.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct FunctionProperties {
    code_uri: Option<String>,
    handler: Option<String>,
    runtime: Option<String>,
    memory_size: Option<u64>,
    timeout: Option<u64>,
    environment: Option<Environment>,
    policies: Option<Value>,
    logging_config: Option<LoggingConfig>,
    #[serde(default)]
    events: BTreeMap<String, HttpApiEvent>,
    #[serde(rename = "Architectures")]
    _architectures: Option<Value>,
    #[serde(rename = "Description")]
    _description: Option<String>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Environment {
    variables: BTreeMap<String, Value>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct LoggingConfig {
    log_format: String,
    application_log_level: String,
    #[serde(rename = "SystemLogLevel")]
    _system_log_level: Option<String>,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self {
            log_format: "Text".to_owned(),
            application_log_level: "INFO".to_owned(),
            _system_log_level: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct HttpApiEvent {
    #[serde(rename = "Type")]
    kind: String,
    properties: HttpApiEventProperties,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct HttpApiEventProperties {
    #[serde(rename = "ApiId")]
    _api_id: String,
    path: String,
    method: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct HttpApiProperties {
    #[serde(rename = "Description")]
    _description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct SecretProperties {
    #[serde(rename = "Description")]
    _description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct FunctionMetadata {
    build_method: String,
    build_properties: BuildProperties,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct BuildProperties {
    binary: String,
    #[serde(rename = "CargoLambdaFlags")]
    _cargo_lambda_flags: Option<Vec<String>>,
}

// ------------------------------------------------------- YAML and intrinsics

/// YAML to JSON, with `!Ref X` as `{"Ref": X}` and `!Sub X` as `{"Fn::Sub": X}`.
fn to_json(yaml: &Yaml<'_>) -> Result<Value> {
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

fn scalar_text(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        other => bail!("expected a text, a number or a boolean, found {other}"),
    }
}

struct Resolver<'a> {
    parameters: BTreeMap<String, String>,
    resources: &'a BTreeMap<String, RawResource>,
}

impl<'a> Resolver<'a> {
    fn new(raw: &'a RawTemplate, given: &BTreeMap<String, String>) -> Result<Self> {
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
        Ok(Self {
            parameters,
            resources: &raw.resources,
        })
    }

    fn resolve(&self, value: Value) -> Result<Value> {
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
            ("Ref", Value::String(target)) => self.reference(target).map(Value::String),
            ("Fn::GetAtt", Value::Array(path)) => match path.as_slice() {
                [Value::String(id), Value::String(attribute)] => {
                    self.attribute(id, attribute).map(Value::String)
                }
                _ => bail!("Fn::GetAtt {argument} is not understood"),
            },
            ("Fn::Sub", Value::String(text)) => self.substitute(text).map(Value::String),
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
                "AWS::Serverless::Function" | "AWS::Serverless::HttpApi" | "AWS::DynamoDB::Table" => {
                    Ok(target.to_owned())
                }
                "AWS::SecretsManager::Secret" => Ok(secret_arn(target)),
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
            (kind, _) => bail!("GetAtt {id}.{attribute} of a {kind} is not understood here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &str = "AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Description: test
Parameters:
  Mode: { Type: String, Default: a, AllowedValues: [a, b] }
  Country: { Type: String, Default: '', AllowedPattern: '^([A-Z]{2})?$' }
  Limit: { Type: Number, Default: 5, MinValue: 1 }
Resources:
";

    fn refusal(resources: &str) -> String {
        let error = Template::parse(&format!("{FRAME}{resources}"), &BTreeMap::new()).unwrap_err();
        format!("{error:#}")
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (resources, name) in [
            (
                "  Q: { Type: AWS::SQS::Queue, Properties: {} }",
                "AWS::SQS::Queue",
            ),
            (
                "  T: { Type: AWS::DynamoDB::Table, Properties: { X: !Select [0, [a]] } }",
                "Fn::Select",
            ),
            (
                "  T: { Type: AWS::DynamoDB::Table, Properties: { X: !Ref Nothing } }",
                "Nothing",
            ),
            (
                "  T: { Type: AWS::DynamoDB::Table, Properties: { X: !GetAtt T.Color } }",
                "T.Color",
            ),
            (
                "  F: { Type: AWS::Serverless::Function, Properties: { Layers: [x] } }",
                "Layers",
            ),
            (
                "  A: { Type: AWS::Serverless::HttpApi, Properties: { Domain: x } }",
                "Domain",
            ),
        ] {
            let message = refusal(resources);
            assert!(message.contains(name), "{message:?} does not name {name}");
        }
    }

    #[test]
    fn parameters_are_checked_as_the_template_declares_them() {
        let with = |name: &str, value: &str| {
            let given = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let table = "  T: { Type: AWS::DynamoDB::Table, Properties: { X: !Sub 'm-${Mode}' } }";
            Template::parse(&format!("{FRAME}{table}"), &given)
        };
        assert_eq!(with("Mode", "b").unwrap().tables["T"], json!({ "X": "m-b" }));
        assert!(format!("{:#}", with("Mode", "c").unwrap_err()).contains("one of a, b"));
        for (name, value) in [
            ("Moed", "a"),
            ("Country", "us"),
            ("Limit", "0"),
            ("Limit", "many"),
        ] {
            assert!(format!("{:#}", with(name, value).unwrap_err()).contains(name));
        }
    }
}
