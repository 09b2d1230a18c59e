//! The files beside the code say what the code says.

use std::{fs, process::Command};

use orderflow::{
    artifacts,
    events::{Role, short_name},
    functions::{FUNCTIONS, Trigger, catalogue},
    handler::api::OPERATIONS,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::root;

#[test]
fn generated_files_are_up_to_date() {
    let differences = artifacts::differences(&root()).unwrap();
    let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert!(
        lines.is_empty(),
        "run `orderflow check --write`:\n{}",
        lines.join("\n")
    );
}

/// A folder with all that is made from the code, and nothing else.
fn written() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let readme = "# Ours\n\n<!-- choreography:begin -->\nold\n<!-- choreography:end -->\n\nours\n";
    fs::write(folder.path().join("README.md"), readme).unwrap();
    fs::copy(root().join("host.json"), folder.path().join("host.json")).unwrap();
    let paths = artifacts::write(folder.path()).unwrap();
    assert_eq!(paths.len(), artifacts::all().len());
    folder
}

/// What differs in a folder, in words.
fn found(folder: &TempDir) -> Vec<String> {
    artifacts::differences(folder.path())
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn check_finds_what_differs_and_write_mends_it() {
    let folder = written();
    assert_eq!(found(&folder), [""; 0]);
    let path = |name: &str| folder.path().join(name);
    fs::write(path("samples/order-placed.json"), "{}").unwrap();
    fs::write(path("schemas/openapi.json"), "{}").unwrap();
    fs::remove_file(path("functions/billing/function.json")).unwrap();
    fs::create_dir(path("functions/invoicing")).unwrap();
    fs::write(path("schemas/points-earned.json"), "{}").unwrap();
    let stray = [
        "functions/invoicing: the code knows no such thing",
        "schemas/points-earned.json: the code knows no such thing",
    ];
    let mut expected = vec![
        "functions/billing/function.json: is missing",
        "samples/order-placed.json: differs from what the code says",
        "schemas/openapi.json: differs from what the code says",
    ];
    expected.extend(stray);
    assert_eq!(found(&folder), expected);
    artifacts::write(folder.path()).unwrap();
    assert_eq!(found(&folder), stray, "what people made is left alone");
}

#[test]
fn of_the_readme_only_the_picture_is_written() {
    let folder = written();
    let path = folder.path().join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# Ours\n\n<!-- choreography:begin -->\n```mermaid\n"));
    assert!(text.ends_with("```\n<!-- choreography:end -->\n\nours\n"));
    assert!(!text.contains("old"), "{text}");
    fs::write(&path, text.replace("-->|BillingCompleted|", "-->|Billed|")).unwrap();
    assert_eq!(
        found(&folder),
        ["README.md: differs from what the code says"]
    );
    fs::write(&path, "# Ours\n").unwrap();
    artifacts::write(folder.path()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# Ours\n");
    assert_eq!(
        found(&folder),
        [
            "README.md: must have the lines <!-- choreography:begin --> and <!-- choreography:end -->"
        ]
    );
}

#[test]
fn the_picture_shows_who_tells_whom_what() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let shown = |from: &str, arrow: &str, event: &str, to: &str| {
        readme.lines().any(|line| {
            let middle = line
                .trim()
                .strip_prefix(&format!("{from} {arrow}|"))
                .and_then(|line| line.strip_suffix(&format!("| {to}")));
            middle.is_some_and(|events| events.split("<br/>").any(|shown| shown == event))
        })
    };
    for event in catalogue() {
        let arrow = match event.role {
            Role::Failure => "-.->",
            Role::Step | Role::Refusal | Role::Result => "-->",
        };
        let name = short_name(event.name);
        for function in FUNCTIONS {
            let takes = function.event_types().any(|taken| taken == event.name);
            assert_eq!(
                shown(event.service, arrow, name, function.name),
                takes && function.name != "orders",
                "{name} to {}",
                function.name
            );
        }
    }
    assert!(shown("orders", "-->", "OrderCompleted", "outside"));
}

/// Runs `orderflow check` in a folder: its exit code, and what it printed.
fn check(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_orderflow"))
        .arg("check")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap() + str::from_utf8(&output.stderr).unwrap(),
    )
}

#[test]
fn check_exits_with_1_and_a_line_for_each_difference() {
    let folder = written();
    let as_the_code_says = format!("{} files are as the code says\n", artifacts::all().len());
    assert_eq!(check(&folder, &[]), (Some(0), as_the_code_says.clone()));
    fs::write(folder.path().join("samples/order-placed.json"), "{}").unwrap();
    let differs = "samples/order-placed.json: differs from what the code says\n\
        orderflow: differences: 1; `orderflow check --write` mends 1 of them\n";
    assert_eq!(check(&folder, &[]), (Some(1), differs.to_owned()));
    assert_eq!(
        check(&folder, &["--release"]),
        (Some(1), differs.to_owned())
    );
    assert_eq!(
        check(&folder, &["--write"]),
        (
            Some(0),
            format!("samples/order-placed.json: written\n{as_the_code_says}")
        )
    );
}

#[test]
fn what_is_released_is_kept_to_be_compared_with() {
    let folder = written();
    let released = folder.path().join("schemas/released/order-placed.json");
    assert!(!released.exists());
    assert_eq!(check(&folder, &["--release"]).0, Some(0));
    let kept = fs::read_to_string(&released).unwrap();
    let current = folder.path().join("schemas/order-placed.json");
    assert_eq!(kept, fs::read_to_string(current).unwrap());

    // What was released had a field that the code does not know.
    let older = kept.replace("\"paymentMethod\"", "\"payment\"");
    fs::write(&released, older).unwrap();
    fs::write(
        folder.path().join("schemas/released/points-earned.json"),
        "{}",
    )
    .unwrap();
    let (code, printed) = check(&folder, &["--release"]);
    assert_eq!(code, Some(1));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(
        lines,
        [
            "schemas/order-placed.json: breaks with the released version: order.payment: the field is gone; keep it, \
             since readers count on it",
            "schemas/order-placed.json: breaks with the released version: order.paymentMethod: a new required field; \
             events without it are under way, so make it optional",
            "schemas/released/points-earned.json: was released, and nobody publishes it any more; keep the event, or \
             delete this file once nobody listens to it and none is under way",
            "orderflow: differences: 3",
        ]
    );
    fs::write(&released, "{").unwrap();
    let (_, printed) = check(&folder, &[]);
    assert!(
        printed.starts_with("schemas/released/order-placed.json: must be a JSON Schema: "),
        "{printed}"
    );
}

#[test]
fn every_operation_of_the_api_belongs_to_an_http_function() {
    let functions = FUNCTIONS
        .iter()
        .filter(|function| matches!(function.trigger, Trigger::Http { .. }));
    let mut functions: Vec<_> = functions.map(|function| function.name).collect();
    let mut operations: Vec<_> = OPERATIONS.iter().map(|known| known.function).collect();
    functions.sort_unstable();
    operations.sort_unstable();
    assert_eq!(operations, functions);
}

fn file(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(root().join(name)).unwrap()).unwrap()
}

#[test]
fn host_json_starts_the_handler() {
    let host = file("host.json");
    assert_eq!(
        host["customHandler"]["description"]["defaultExecutablePath"],
        "orderflow"
    );
    assert_eq!(
        host["customHandler"]["description"]["arguments"],
        serde_json::json!(["serve"])
    );
    assert_eq!(host["customHandler"]["enableForwardingHttpRequest"], true);
    assert_eq!(host["extensionBundle"]["version"], "[4.*, 5.0.0)");
}

#[test]
fn local_settings_satisfy_the_handler() {
    let settings = file("local.settings.json");
    let source = |name: &str| settings["Values"][name].as_str().map(str::to_owned);
    orderflow::config::Settings::read(&source).unwrap();
    assert_eq!(
        source("FUNCTIONS_WORKER_RUNTIME").as_deref(),
        Some("custom")
    );
    assert!(
        source("AzureWebJobsStorage").is_some(),
        "Core Tools ask for it"
    );
}

#[test]
fn names_are_what_the_host_accepts() {
    for function in FUNCTIONS {
        let valid = |letter: char| letter.is_ascii_lowercase() || letter == '-';
        assert!(
            function.name.chars().all(valid) && function.name.len() <= 63,
            "{}",
            function.name
        );
        let twice = FUNCTIONS
            .iter()
            .filter(|other| other.name == function.name)
            .count();
        assert_eq!(twice, 1, "{}", function.name);
        let mut taken: Vec<_> = function.event_types().collect();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(
            taken.len(),
            function.rules().len(),
            "{} takes a type twice",
            function.name
        );
        if let Trigger::EventGrid { rules, .. } = function.trigger {
            assert!(!rules.is_empty());
        }
    }
}
