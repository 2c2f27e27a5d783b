//! `template.yaml` as CloudFormation gets it: what linters do not see.
//!
//! `.ci/template` writes it with SAM's own translator.

use std::collections::{BTreeMap, BTreeSet};

use local::dynamodb::{DynamoDb, Storage};
use local::permissions::Permissions;
use local::workspace;
use serde_json::{Value, json};

use crate::support::{World, ask_store, template};
use crate::tidy::is_open_to_the_gateway;

fn transformed() -> Value {
    let path = workspace().join("target/sam/transformed.json");
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}: run .ci/template", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The properties of all resources of a type, by logical id.
fn resources(kind: &str) -> BTreeMap<String, Value> {
    let transformed = transformed();
    let all = transformed["Resources"].as_object().unwrap().iter();
    let found: BTreeMap<_, _> = all
        .filter(|(_, resource)| resource["Type"] == kind)
        .map(|(id, resource)| (id.clone(), resource["Properties"].clone()))
        .collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

/// What a table is, as DynamoDB describes it, without what differs from one to the next.
async fn described(store: &DynamoDb, table: &str) -> Value {
    let description = ask_store(store, "DescribeTable", &json!({ "TableName": table })).await;
    let mut table = description["Table"].clone();
    for differing in ["CreationDateTime", "TableId", "TableArn", "LatestStreamArn"] {
        table.as_object_mut().unwrap().remove(differing);
    }
    table
}

#[tokio::test]
async fn the_tables_are_those_that_the_local_stack_makes() {
    let tables = resources("AWS::DynamoDB::Table");
    let permissions = Permissions::new(BTreeMap::new());
    let deployed = DynamoDb::start(&Storage::Memory, &tables, permissions)
        .await
        .unwrap();
    let world = World::new().await;
    assert_eq!(tables.len(), template().tables.len());
    for (table, properties) in tables {
        assert_eq!(properties, template().tables[&table], "{table}");
        let here = described(world.stack.dynamodb(), &table).await;
        assert_eq!(described(&deployed, &table).await, here, "{table}");
        assert_eq!(properties["BillingMode"], "PAY_PER_REQUEST");
        assert_eq!(properties["SSESpecification"]["SSEEnabled"], true);
    }
}

#[test]
fn what_cannot_be_made_again_outlives_the_stack() {
    let transformed = transformed();
    let resources = transformed["Resources"].as_object().unwrap();
    for id in [
        "CallsTable",
        "CampaignsTable",
        "DeliveriesTable",
        "SyncTable",
        "WebhookSecret",
        "ElevenLabsApiKey",
        "UserPool",
    ] {
        let resource = &resources[id];
        assert_eq!(resource["DeletionPolicy"], "RetainExceptOnCreate", "{id}");
        assert_eq!(resource["UpdateReplacePolicy"], "Retain", "{id}");
    }
    for id in ["CallsTable", "CampaignsTable", "DeliveriesTable", "SyncTable"] {
        let recovery = &resources[id]["Properties"]["PointInTimeRecoverySpecification"];
        assert_eq!(recovery["PointInTimeRecoveryEnabled"], true, "{id}");
    }
}

#[test]
fn every_route_is_closed_with_its_scope_but_those_that_may_be_open() {
    let body = resources("AWS::ApiGatewayV2::Api")["Api"]["Body"].clone();
    let authorizer = &body["components"]["securitySchemes"]["AccessToken"]["x-amazon-apigateway-authorizer"];
    assert_eq!(authorizer["type"], "jwt");
    let mut routes = BTreeSet::new();
    for (path, methods) in body["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = match method.as_str() {
                "x-amazon-apigateway-any-method" => "ANY".to_owned(),
                other => other.to_uppercase(),
            };
            let name = format!("{method} {path}");
            let scope = if method == "GET" {
                "ringmark/read"
            } else {
                "ringmark/write"
            };
            let open = is_open_to_the_gateway(&name);
            let security = &operation["security"];
            if open {
                assert!(
                    security.is_null() || security == &json!([{ "NONE": [] }]),
                    "{name}: {security}"
                );
            } else {
                assert_eq!(security, &json!([{ "AccessToken": [scope] }]), "{name}");
            }
            assert_eq!(
                operation["x-amazon-apigateway-integration"]["payloadFormatVersion"],
                "2.0"
            );
            routes.insert(name);
        }
    }
    let expected: BTreeSet<_> = template()
        .routes
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(routes, expected);
}

#[test]
fn the_gateway_may_call_every_function_behind_a_route() {
    let permissions = resources("AWS::Lambda::Permission");
    let granted: BTreeSet<String> = permissions
        .values()
        .filter(|permission| permission["Principal"] != "events.amazonaws.com")
        .map(|permission| {
            assert_eq!(permission["Principal"], "apigateway.amazonaws.com");
            let arn = permission["SourceArn"]["Fn::Sub"][0].as_str().unwrap();
            let (_, route) = arn.split_once("${__Stage__}/").unwrap();
            format!("{} {route}", permission["FunctionName"]["Ref"].as_str().unwrap())
        })
        .collect();
    for route in template().routes {
        let method = if route.method == "ANY" { "*" } else { &route.method };
        let path: Vec<&str> = route
            .path
            .split('/')
            .map(|segment| if segment.starts_with('{') { "*" } else { segment })
            .collect();
        let wanted = format!("{} {method}{}", route.function, path.join("/"));
        assert!(granted.contains(&wanted), "{wanted} is not among {granted:#?}");
    }
    // A function's own policy may have 20 KB, of which each route takes some 400 bytes.
    for function in template().functions.keys() {
        let routes = granted
            .iter()
            .filter(|route| route.starts_with(function.as_str()));
        assert!(routes.count() < 45, "{function}");
    }
}

#[test]
fn the_clock_may_invoke_what_it_is_to_and_tries_once() {
    let permissions = resources("AWS::Lambda::Permission");
    let of_the_clock: Vec<&Value> = permissions
        .values()
        .filter(|permission| permission["Principal"] == "events.amazonaws.com")
        .map(|permission| &permission["FunctionName"]["Ref"])
        .collect();
    assert_eq!(of_the_clock, ["SyncFunction"]);
    let rules = resources("AWS::Events::Rule");
    assert_eq!(rules.len(), 1);
    for rule in rules.values() {
        assert_eq!(
            rule["ScheduleExpression"],
            json!({ "Fn::Sub": "rate(${SyncEveryMinutes} minutes)" })
        );
        assert!(rule["State"].is_null(), "enabled");
        let target = &rule["Targets"][0];
        assert_eq!(target["Arn"]["Fn::GetAtt"], json!(["SyncFunction", "Arn"]));
        assert!(target["Input"].is_null(), "the event tells its time");
        assert_eq!(target["RetryPolicy"]["MaximumRetryAttempts"], 0);
    }
    let invoked = resources("AWS::Lambda::EventInvokeConfig");
    for config in invoked.values() {
        assert_eq!(
            (
                &config["MaximumRetryAttempts"],
                &config["MaximumEventAgeInSeconds"]
            ),
            (&json!(0), &json!(60))
        );
    }
}

#[test]
fn roles_allow_what_the_statements_say_and_no_stars() {
    let roles = resources("AWS::IAM::Role");
    let functions = template().functions;
    assert_eq!(roles.len(), functions.len());
    for (id, function) in functions {
        let role = &roles[&format!("{id}Role")];
        let managed: Vec<&str> = role["ManagedPolicyArns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arn| arn.as_str().unwrap().rsplit('/').next().unwrap())
            .collect();
        // Writing logs and traces, which SAM adds.
        assert_eq!(
            managed,
            ["AWSLambdaBasicExecutionRole", "AWSXrayWriteOnlyAccess"],
            "{id}"
        );
        let policies = role["Policies"].as_array().unwrap();
        let statements: Vec<&Value> = policies
            .iter()
            .flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array().unwrap())
            .collect();
        let listed = |value: &Value| match value {
            Value::Array(many) => many.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
            one => vec![one.as_str().unwrap().to_owned()],
        };
        let allowed: Vec<(&str, Vec<String>)> = statements
            .iter()
            .map(|statement| (statement["Sid"].as_str().unwrap(), listed(&statement["Action"])))
            .collect();
        let expected = function.statements.iter();
        let expected: Vec<(&str, Vec<String>)> = expected
            .map(|statement| (statement.id.as_str(), statement.actions.clone()))
            .collect();
        assert_eq!(allowed, expected, "{id}");
        for statement in statements {
            assert!(!statement["Action"].to_string().contains('*'), "{statement}");
            assert!(!statement["Resource"].to_string().contains('*'), "{statement}");
            assert!(!statement["Action"].to_string().contains("Scan"), "{statement}");
        }
    }
}

#[test]
fn functions_answer_before_the_gateway_gives_up_and_log_where_it_is_kept() {
    let groups = resources("AWS::Logs::LogGroup");
    for (id, function) in resources("AWS::Lambda::Function") {
        // Of sync, the clock waits for longer; who asks by the gateway has its answer in time.
        let most = if id == "SyncFunction" { 301 } else { 30 };
        assert!(function["Timeout"].as_u64().unwrap() < most, "{id}");
        assert_eq!(function["TracingConfig"]["Mode"], "Active", "{id}");
        assert_eq!(function["LoggingConfig"]["LogFormat"], "JSON", "{id}");
        let group = function["LoggingConfig"]["LogGroup"]["Ref"].as_str().unwrap();
        assert!(groups.contains_key(group), "{id}: {group}");
        assert_eq!(
            function["Architectures"],
            json!([{ "Ref": "Architecture" }]),
            "{id}"
        );
        for (name, value) in function["Environment"]["Variables"].as_object().unwrap() {
            let value = value.to_string();
            assert!(
                !value.contains("resolve:") && !value.contains("ClientSecret\""),
                "{id}: {name}"
            );
        }
    }
    for (id, group) in groups {
        assert_eq!(
            group["RetentionInDays"],
            json!({ "Ref": "LogRetentionDays" }),
            "{id}"
        );
    }
}

#[test]
fn the_stage_is_throttled_and_logs_no_paths() {
    let stage = resources("AWS::ApiGatewayV2::Stage")["ApiApiGatewayDefaultStage"].clone();
    let limits = &stage["DefaultRouteSettings"];
    for limit in ["ThrottlingRateLimit", "ThrottlingBurstLimit"] {
        assert_eq!(limits[limit], json!({ "Ref": "RequestsPerSecond" }));
    }
    // Of routes that do not exist, CloudFormation says nothing before it fails.
    assert!(stage["RouteSettings"].is_null());
    let format = stage["AccessLogSettings"]["Format"].as_str().unwrap();
    let fields: BTreeMap<String, String> = serde_json::from_str(format).unwrap();
    assert_eq!(fields["route"], "$context.routeKey");
    for private in ["$context.path", "$context.authorizer", "queryString"] {
        assert!(
            !format.contains(private),
            "{private}: a path can hold a phone number"
        );
    }
}

#[test]
fn alarms_watch_what_there_is_and_tell_somebody() {
    let transformed = transformed();
    let metrics = std::fs::read_to_string(workspace().join("shared/src/metrics.rs")).unwrap();
    let is_counted = |name: &str| metrics.contains(&format!("= \"{name}\";"));
    let alarms = resources("AWS::CloudWatch::Alarm");
    let mut watched = BTreeSet::new();
    for (id, alarm) in &alarms {
        assert_eq!(alarm["AlarmActions"], json!([{ "Ref": "AlarmTopic" }]), "{id}");
        assert!(alarm["AlarmDescription"].is_string(), "{id}");
        let parts = match alarm["Metrics"].as_array() {
            Some(metrics) => metrics
                .iter()
                .map(|part| part["MetricStat"]["Metric"].clone())
                .collect(),
            None => vec![alarm.clone()],
        };
        for metric in parts.iter().filter(|part| !part.is_null()) {
            let dimensions = metric["Dimensions"].as_array().unwrap().iter();
            let names: Vec<&str> = dimensions
                .clone()
                .map(|part| part["Name"].as_str().unwrap())
                .collect();
            for of in dimensions.filter_map(|part| part["Value"]["Ref"].as_str()) {
                assert!(transformed["Resources"][of].is_object(), "{id}: {of}");
            }
            let [namespace, name] = ["Namespace", "MetricName"].map(|part| metric[part].as_str().unwrap());
            watched.insert(format!("{id}: {namespace} {name} by {}", names.join(", ")));
            assert!(namespace != "Ringmark" || is_counted(name), "{id}");
        }
    }
    // As the services' own pages name them; CloudWatch takes any name, and waits for ever.
    let expected = [
        "CallsMissing: Ringmark CallsMissing by FunctionName",
        "CallsThrottled: AWS/DynamoDB WriteThrottleEvents by TableName",
        "CallsThrottled: AWS/DynamoDB WriteThrottleEvents by TableName, GlobalSecondaryIndexName",
        "DeliveriesToReplay: Ringmark DeliveriesToReplay by FunctionName",
        "NoDeliveries: Ringmark DeliveriesAccepted by FunctionName",
        "ServerErrors: AWS/ApiGateway 5xx by ApiId",
        "SignaturesRefused: Ringmark SignaturesRefused by FunctionName",
        "SyncBehind: Ringmark HoursSinceCompared by FunctionName",
        "WebhookDisabled: Ringmark WebhooksDisabled by FunctionName",
        "WebhookSlow: AWS/Lambda Duration by FunctionName",
        "WebhookStopped: Ringmark HoursBySyncOnly by FunctionName",
        "WebhookThrottled: AWS/Lambda Throttles by FunctionName",
    ];
    assert_eq!(watched, BTreeSet::from(expected.map(str::to_owned)));
    assert_eq!(alarms["WebhookSlow"]["Threshold"], 500);
    assert_eq!(alarms["WebhookSlow"]["ExtendedStatistic"], "p99");
    // Seven days is the longest that CloudWatch looks back.
    let hours = &transformed["Parameters"]["HoursWithoutDeliveries"]["MaxValue"];
    let seconds = alarms["NoDeliveries"]["Period"].as_u64().unwrap() * hours.as_u64().unwrap();
    assert_eq!(seconds, 7 * 24 * 3600);
    // Lambda would drop the lines of metrics.
    let levels = &transformed["Parameters"]["LogLevel"]["AllowedValues"];
    assert_eq!(levels, &json!(["INFO", "DEBUG"]));
    let dashboard = resources("AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"]["Fn::Sub"].clone();
    let dashboard: Value = serde_json::from_str(dashboard.as_str().unwrap()).unwrap();
    for widget in dashboard["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"].as_array().unwrap() {
            if metric[0] == "Ringmark" {
                assert!(is_counted(metric[1].as_str().unwrap()), "{metric}");
            }
            let of = metric[3]
                .as_str()
                .unwrap()
                .trim_start_matches("${")
                .trim_end_matches('}');
            assert!(transformed["Resources"][of].is_object(), "{metric}");
        }
    }
}

#[test]
fn a_guided_deployment_asks_nothing_that_it_does_not_explain() {
    let transformed = transformed();
    for (name, parameter) in transformed["Parameters"].as_object().unwrap() {
        assert!(
            parameter["Description"]
                .as_str()
                .is_some_and(|text| text.len() > 30),
            "{name}"
        );
        assert!(!parameter["Default"].is_null(), "{name} has a safe default");
        let bounds = ["AllowedPattern", "AllowedValues", "MinValue"];
        assert!(
            bounds.iter().any(|bound| !parameter[*bound].is_null()),
            "{name} takes anything"
        );
        assert!(!name.contains("Secret"), "{name}: secrets are no parameters");
    }
    let outputs = transformed["Outputs"].as_object().unwrap();
    for name in ["WebhookUrl", "ConsoleUrl", "NextSteps"] {
        assert!(outputs.contains_key(name), "{name}");
    }
    for (name, output) in outputs {
        assert!(!output.to_string().contains("ClientSecret\""), "{name}");
    }
    // Made without a value, but for the key and what only the user pool knows.
    for (id, secret) in resources("AWS::SecretsManager::Secret") {
        let has_value = !secret["SecretString"].is_null() || !secret["GenerateSecretString"].is_null();
        assert_eq!(
            has_value,
            !["WebhookSecret", "ElevenLabsApiKey"].contains(&id.as_str()),
            "{id}"
        );
    }
}

#[test]
fn the_example_of_samconfig_names_parameters_that_there_are() {
    let example = std::fs::read_to_string(workspace().join("infra/samconfig.example.toml")).unwrap();
    let transformed = transformed();
    let (_, overrides) = example.split_once("\nparameter_overrides = [").unwrap();
    let mut named = 0;
    for line in overrides.lines().filter(|line| line.contains('=')) {
        let (name, _) = line.trim().trim_start_matches('"').split_once('=').unwrap();
        assert!(transformed["Parameters"][name].is_object(), "{name}");
        named += 1;
    }
    assert_eq!(named, 3);
}
