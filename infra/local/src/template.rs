//! `template.yaml`, read as CloudFormation and SAM would read it.
//!
//! Only what the template of this repository uses is understood. Any other
//! intrinsic, resource type or property is refused by its name: a stand-in that
//! guesses would let a template pass here that behaves differently on AWS.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use saphyr::{LoadableYamlNode, Yaml};
use serde::Deserialize;
use serde_json::Value;

use crate::cloudformation::{RawResource, RawTemplate, Resolver, scalar_text, secret_arn, to_json};
use crate::permissions::{Statement, read_policies};

/// What the template deploys, with every intrinsic resolved.
#[derive(Debug)]
pub struct Template {
    /// By logical id.
    pub functions: BTreeMap<String, Function>,
    /// Every route of the HTTP API.
    pub routes: Vec<Route>,
    /// By logical id, the properties of each `AWS::DynamoDB::Table`.
    pub tables: BTreeMap<String, Value>,
    /// By logical id.
    pub secrets: BTreeMap<String, Secret>,
    /// What closed routes ask tokens of.
    pub authorizer: Option<Authorizer>,
}

/// A secret, by what functions ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name where the template names it, otherwise its ARN.
    pub id: String,
    /// The length of the value that it is made with, if any.
    pub generated_length: Option<usize>,
}

/// A JWT authorizer of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorizer {
    /// The `iss` of tokens.
    pub issuer: String,
    /// One of these must be the `aud`, or else the `client_id`, of a token.
    pub audience: Vec<String>,
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
    /// What it may do.
    pub statements: Vec<Statement>,
    /// How often the clock invokes it, by each of its schedules.
    pub schedules: Vec<Duration>,
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
    /// The scopes of which a token must have one, any token where there is none;
    /// `None` for an open route.
    pub scopes: Option<Vec<String>>,
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
            authorizer: None,
        };
        for (id, resource) in &raw.resources {
            if let Some(condition) = &resource.condition
                && !resolver.condition(condition)?
            {
                continue;
            }
            let properties = resolver
                .resolve(resource.properties.clone())
                .with_context(|| format!("resource {id}"))?;
            match resource.kind.as_str() {
                "AWS::Serverless::Function" => {
                    let own: FunctionProperties = read_as(id, properties)?;
                    template.add_function(id, own, &globals, resource)?;
                }
                "AWS::Serverless::HttpApi" => {
                    let api: HttpApiProperties = read_as(id, properties)?;
                    template.authorizer = api.auth.map(HttpApiAuth::authorizer).transpose()?;
                }
                "AWS::DynamoDB::Table" => {
                    template.tables.insert(id.clone(), properties);
                }
                "AWS::SecretsManager::Secret" => {
                    let secret: SecretProperties = read_as(id, properties)?;
                    ensure!(
                        secret.secret_string.is_none(),
                        "secret {id}: a value in the template is not understood here"
                    );
                    let secret = Secret {
                        id: secret.name.unwrap_or_else(|| secret_arn(id)),
                        generated_length: secret.generate_secret_string.map(|how| how.password_length),
                    };
                    template.secrets.insert(id.clone(), secret);
                }
                // For those who watch over a deployed stack.
                "AWS::CloudWatch::Alarm"
                | "AWS::CloudWatch::Dashboard"
                | "AWS::Logs::LogGroup"
                | "AWS::SNS::Subscription"
                | "AWS::SNS::Topic" => {}
                other => bail!("resource {id}: type {other} is not understood here"),
            }
        }
        ensure!(
            template.authorizer.is_some() || template.routes.iter().all(|route| route.scopes.is_none()),
            "there are closed routes, but the API has no authorizer"
        );
        for (name, output) in &raw.outputs {
            if let Some(condition) = output["Condition"].as_str()
                && !resolver.condition(condition)?
            {
                continue;
            }
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
        let mut schedules = Vec::new();
        for (event, RawEvent { kind, properties }) in own.events {
            let what = format!("function {id}, event {event}");
            let properties: HttpApiEventProperties = match kind.as_str() {
                "HttpApi" => read_as(&what, properties)?,
                "Schedule" => {
                    let schedule: ScheduleProperties = read_as(&what, properties)?;
                    schedules.push(rate(&schedule.schedule).context(what)?);
                    continue;
                }
                _ => bail!("{what}: type {kind} is not understood here"),
            };
            self.routes.push(Route {
                method: properties.method.to_uppercase(),
                path: properties.path,
                function: id.to_owned(),
                scopes: properties.auth.unwrap_or_default().scopes().context(what)?,
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
                statements: own
                    .policies
                    .map_or_else(|| Ok(Vec::new()), read_policies)
                    .with_context(|| format!("policies of {id}"))?,
                schedules,
            },
        );
        Ok(())
    }
}

/// `rate(<n> minutes)`; other expressions are refused.
fn rate(expression: &str) -> Result<Duration> {
    let minutes = expression
        .strip_prefix("rate(")
        .and_then(|rest| rest.strip_suffix(" minutes)"))
        .and_then(|minutes| minutes.parse::<u64>().ok())
        .filter(|minutes| *minutes > 1)
        .with_context(|| format!("the schedule {expression} is not understood here"))?;
    Ok(Duration::from_secs(60 * minutes))
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
    events: BTreeMap<String, RawEvent>,
    #[serde(rename = "EventInvokeConfig")]
    _event_invoke_config: Option<Value>,
    #[serde(rename = "Architectures")]
    _architectures: Option<Value>,
    #[serde(rename = "ReservedConcurrentExecutions")]
    _reserved_concurrent_executions: Option<Value>,
    #[serde(rename = "Tracing")]
    _tracing: Option<String>,
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
    #[serde(rename = "LogGroup")]
    _log_group: Option<String>,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self {
            log_format: "Text".to_owned(),
            application_log_level: "INFO".to_owned(),
            _system_log_level: None,
            _log_group: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawEvent {
    #[serde(rename = "Type")]
    kind: String,
    properties: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ScheduleProperties {
    schedule: String,
    #[serde(rename = "Description")]
    _description: Option<String>,
    #[serde(rename = "RetryPolicy")]
    _retry_policy: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct HttpApiEventProperties {
    #[serde(rename = "ApiId")]
    _api_id: String,
    path: String,
    method: String,
    auth: Option<EventAuth>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct EventAuth {
    authorizer: Option<String>,
    authorization_scopes: Option<Vec<String>>,
}

impl EventAuth {
    /// As [`Route::scopes`].
    fn scopes(self) -> Result<Option<Vec<String>>> {
        match (self.authorizer.as_deref(), self.authorization_scopes) {
            (Some("NONE"), None) => Ok(None),
            (None, scopes) => Ok(Some(scopes.unwrap_or_default())),
            (authorizer, _) => bail!("Auth with {authorizer:?} is not understood here"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct HttpApiAuth {
    default_authorizer: String,
    authorizers: BTreeMap<String, JwtAuthorizer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct JwtAuthorizer {
    identity_source: String,
    jwt_configuration: JwtConfiguration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JwtConfiguration {
    issuer: String,
    audience: Vec<String>,
}

impl HttpApiAuth {
    fn authorizer(mut self) -> Result<Authorizer> {
        let name = &self.default_authorizer;
        let jwt = self
            .authorizers
            .remove(name)
            .with_context(|| format!("the API has no authorizer {name}"))?;
        ensure!(
            self.authorizers.is_empty(),
            "several authorizers are not understood here"
        );
        ensure!(
            jwt.identity_source == "$request.header.Authorization",
            "IdentitySource {} is not understood here",
            jwt.identity_source
        );
        Ok(Authorizer {
            issuer: jwt.jwt_configuration.issuer,
            audience: jwt.jwt_configuration.audience,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct HttpApiProperties {
    auth: Option<HttpApiAuth>,
    #[serde(rename = "DefaultRouteSettings")]
    _default_route_settings: Option<Value>,
    #[serde(rename = "AccessLogSettings")]
    _access_log_settings: Option<Value>,
    #[serde(rename = "Description")]
    _description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct SecretProperties {
    name: Option<String>,
    secret_string: Option<Value>,
    generate_secret_string: Option<GenerateSecretString>,
    #[serde(rename = "Description")]
    _description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GenerateSecretString {
    password_length: usize,
    #[serde(rename = "ExcludePunctuation")]
    _exclude_punctuation: bool,
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
            (
                "  T: { Type: AWS::DynamoDB::Table, Condition: Never, Properties: {} }",
                "Never",
            ),
        ] {
            let message = refusal(resources);
            assert!(message.contains(name), "{message:?} does not name {name}");
        }
    }

    #[test]
    fn what_is_conditional_is_there_when_its_condition_holds() {
        let text = FRAME.replace(
            "Resources:",
            "Rules:
  BNeedsACountry:
    RuleCondition: !Equals [!Ref Mode, b]
    Assertions: [{ Assert: !Not [!Equals [!Ref Country, '']], AssertDescription: b needs Country }]
Conditions:
  IsB: !Equals [!Ref Mode, b]
Resources:
  T: { Type: AWS::DynamoDB::Table, Properties: { X: !If [IsB, yes it is, !Ref AWS::NoValue] } }
  Other: { Type: AWS::DynamoDB::Table, Condition: IsB, Properties: {} }
",
        );
        let with = |pairs: &[(&str, &str)]| {
            let given = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Template::parse(&text, &given.collect())
        };
        let a = with(&[]).unwrap().tables;
        assert_eq!(a, BTreeMap::from([("T".to_owned(), json!({ "X": null }))]));
        let b = with(&[("Mode", "b"), ("Country", "US")]).unwrap().tables;
        assert_eq!(b["T"], json!({ "X": "yes it is" }));
        assert!(b.contains_key("Other"));
        let error = with(&[("Mode", "b")]).unwrap_err();
        assert!(format!("{error:#}").contains("b needs Country"));
    }

    #[test]
    fn a_route_is_closed_unless_it_says_otherwise() {
        let scopes = |auth: &str| {
            let function = format!(
                "  F:
    Type: AWS::Serverless::Function
    Metadata: {{ BuildMethod: rust-cargolambda, BuildProperties: {{ Binary: f }} }}
    Properties:
      CodeUri: .
      Handler: bootstrap
      Runtime: provided.al2023
      Events:
        E: {{ Type: HttpApi, Properties: {{ ApiId: x, Path: /, Method: GET{auth} }} }}
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: A
        Authorizers:
          A:
            IdentitySource: $request.header.Authorization
            JwtConfiguration: {{ issuer: i, audience: [a] }}
"
            );
            let template = Template::parse(&format!("{FRAME}{function}"), &BTreeMap::new());
            template.map(|template| template.routes[0].scopes.clone())
        };
        assert_eq!(scopes("").unwrap(), Some(vec![]));
        assert_eq!(
            scopes(", Auth: { AuthorizationScopes: [r] }").unwrap(),
            Some(vec!["r".to_owned()])
        );
        assert_eq!(scopes(", Auth: { Authorizer: NONE }").unwrap(), None);
        assert!(scopes(", Auth: { Authorizer: Other }").is_err());
    }

    #[test]
    fn a_schedule_is_a_rate_in_minutes() {
        assert_eq!(rate("rate(15 minutes)").unwrap(), Duration::from_secs(900));
        for other in [
            "rate(1 minutes)",
            "rate(1 hour)",
            "cron(0 12 * * ? *)",
            "rate(x minutes)",
            "",
        ] {
            assert!(rate(other).is_err(), "{other}");
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
