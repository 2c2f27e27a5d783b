//! `template.yaml`, read as CloudFormation and SAM would read it.
//!
//! Only what the template of this repository uses is understood. Any other
//! intrinsic, resource type or property is refused by its name: a stand-in that
//! guesses would let a template pass here that behaves differently on AWS.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use saphyr::{LoadableYamlNode, Yaml};
use serde::Deserialize;
use serde_json::Value;

use crate::cloudformation::{RawResource, RawTemplate, Resolver, scalar_text, secret_arn, to_json};

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

fn read_as<T: serde::de::DeserializeOwned>(what: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).with_context(|| format!("{what} is not understood here"))
}

// ------------------------------------------------- resources as written

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

#[cfg(test)]
mod tests {
    use serde_json::json;

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
