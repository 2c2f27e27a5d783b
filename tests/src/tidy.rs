//! The rules of the house that a program can check.

use std::collections::BTreeSet;
use std::path::Path;

use local::workspace;

use crate::support::{World, path_of, template};

fn manifest(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("Cargo.toml")).unwrap()
}

/// Our own crates that a crate depends on, as it is built for the product.
fn own_dependencies(folder: &Path) -> BTreeSet<String> {
    let manifest = manifest(folder);
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    let own = [
        "shared",
        "local",
        "tests",
        "webhook",
        "calls",
        "attribution",
        "sync",
        "console",
    ];
    dependencies
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| own.contains(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn functions_folders_crates_and_binaries_agree() {
    let in_template: BTreeSet<String> = template()
        .functions
        .into_values()
        .map(|function| function.binary)
        .collect();
    let in_folders: BTreeSet<String> = std::fs::read_dir(workspace().join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(in_template, in_folders);
    for name in in_folders {
        let manifest = manifest(&workspace().join("functions").join(&name));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn dependencies_flow_one_way() {
    let of = |folder: &str| own_dependencies(&workspace().join(folder));
    for function in template().functions.into_values() {
        let own = of(&format!("functions/{}", function.binary));
        assert_eq!(own, BTreeSet::from(["shared".to_owned()]), "{}", function.binary);
    }
    assert_eq!(of("shared"), BTreeSet::new());
    assert_eq!(
        of("infra/local"),
        BTreeSet::new(),
        "the stand-in knows no crate of ours"
    );
    assert_eq!(of("tests"), BTreeSet::from(["local".to_owned()]));
    // The benchmark beside the stories knows it.
    let product = ["shared", "::"].concat();
    for story in std::fs::read_dir(workspace().join("tests/src")).unwrap() {
        let path = story.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&product), "{}", path.display());
    }
}

#[test]
fn the_domain_knows_no_http_no_aws_no_environment_and_no_clock() {
    let domain = [
        "phone_number",
        "call",
        "campaign",
        "attribution",
        "calendar",
        "completeness",
        "conversation",
        "lenient",
        "listing",
        "conversion",
        "decision",
        "details",
        "delivery",
        "identity",
    ];
    for module in domain {
        let path = workspace().join(format!("shared/src/{module}.rs"));
        let text = std::fs::read_to_string(&path).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        for foreign in [
            "aws_",
            "lambda_http",
            "std::env",
            "crate::store",
            "crate::http",
            "::now()",
            "now_v7",
            "Instant::",
        ] {
            assert!(!product.contains(foreign), "{module} knows {foreign}");
        }
    }
}

#[test]
fn mains_have_no_branch() {
    for function in template().functions.into_values() {
        let path = workspace()
            .join("functions")
            .join(&function.binary)
            .join("src/main.rs");
        let main = std::fs::read_to_string(&path).unwrap();
        for word in ["if ", "match ", "for ", "while "] {
            let code = main.lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(
                !code.clone().any(|line| line.contains(word)),
                "{}: {word}",
                path.display()
            );
        }
    }
}

/// Whether the gateway leaves a route open: those whose function itself decides who
/// may, the webhook by its signature, the console by its sessions; and one that
/// serves what everybody may know.
pub(crate) fn is_open_to_the_gateway(name: &str) -> bool {
    let is_open = ["ANY /api/webhooks/elevenlabs", "GET /api/openapi.json"].contains(&name);
    let is_of_the_console = !name.split(' ').nth(1).unwrap_or_default().starts_with("/api/");
    is_open || is_of_the_console
}

#[test]
fn what_is_not_of_the_api_is_of_the_console() {
    for route in template().routes {
        let is_of_the_console = route.function == "ConsoleFunction";
        assert_eq!(
            is_of_the_console,
            !route.path.starts_with("/api/"),
            "{}",
            route.path
        );
    }
}

#[test]
fn every_route_asks_for_a_token_but_those_that_may_be_open() {
    for route in template().routes {
        let name = format!("{} {}", route.method, route.path);
        let scope = if route.method == "GET" {
            "ringmark/read"
        } else {
            "ringmark/write"
        };
        let expected = (!is_open_to_the_gateway(&name)).then(|| vec![scope.to_owned()]);
        assert_eq!(route.scopes, expected, "{name}");
    }
}

#[test]
fn no_table_is_reached_by_a_scan() {
    let text = std::fs::read_to_string(workspace().join("template.yaml")).unwrap();
    assert!(
        !text.contains("dynamodb:Scan") && !text.contains("dynamodb:*"),
        "no scan is granted"
    );
}

#[tokio::test]
async fn every_route_of_the_template_is_served_by_its_function() {
    let world = World::new().await;
    for route in template().routes {
        let path = path_of(&route);
        let method = if route.method == "ANY" {
            "GET"
        } else {
            &route.method
        };
        let answer = world.request(method.parse().unwrap(), &path, &[], "").await;
        assert!(answer.status < 500, "{} {}: {answer:?}", route.method, route.path);
    }
}
