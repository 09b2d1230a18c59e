//! The files beside the code say what the code says.

use orderflow::{
    artifacts,
    functions::{FUNCTIONS, Trigger},
};
use serde_json::Value;

use crate::support::root;

#[test]
fn generated_files_are_up_to_date() {
    let differences = artifacts::differences(&root()).unwrap();
    assert!(differences.is_empty(), "run `orderflow check --write`: {differences:?}");
}

#[test]
fn check_finds_what_differs_and_write_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let count = artifacts::write(folder.path()).unwrap();
    assert_eq!(count, artifacts::all().len());
    assert_eq!(artifacts::differences(folder.path()).unwrap(), []);
    std::fs::write(folder.path().join("samples/order-placed.json"), "{}").unwrap();
    std::fs::remove_file(folder.path().join("functions/billing/function.json")).unwrap();
    std::fs::create_dir(folder.path().join("functions/invoicing")).unwrap();
    let found: Vec<_> = artifacts::differences(folder.path()).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(found, [
        "functions/billing/function.json: is missing",
        "samples/order-placed.json: differs from what the code says",
        "functions/invoicing: the code knows no such thing",
    ]);
}

fn file(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(root().join(name)).unwrap()).unwrap()
}

#[test]
fn host_json_starts_the_handler() {
    let host = file("host.json");
    assert_eq!(host["customHandler"]["description"]["defaultExecutablePath"], "orderflow");
    assert_eq!(host["customHandler"]["description"]["arguments"], serde_json::json!(["serve"]));
    assert_eq!(host["customHandler"]["enableForwardingHttpRequest"], true);
    assert_eq!(host["extensionBundle"]["version"], "[4.*, 5.0.0)");
}

#[test]
fn local_settings_satisfy_the_handler() {
    let settings = file("local.settings.json");
    let source = |name: &str| settings["Values"][name].as_str().map(str::to_owned);
    orderflow::config::Settings::read(&source).unwrap();
    assert_eq!(source("FUNCTIONS_WORKER_RUNTIME").as_deref(), Some("custom"));
    assert!(source("AzureWebJobsStorage").is_some(), "Core Tools ask for it");
}

#[test]
fn names_are_what_the_host_accepts() {
    for function in FUNCTIONS {
        let valid = |letter: char| letter.is_ascii_lowercase() || letter == '-';
        assert!(function.name.chars().all(valid) && function.name.len() <= 63, "{}", function.name);
        let twice = FUNCTIONS.iter().filter(|other| other.name == function.name).count();
        assert_eq!(twice, 1, "{}", function.name);
        let mut taken: Vec<_> = function.event_types().collect();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), function.rules().len(), "{} takes a type twice", function.name);
        if let Trigger::EventGrid { rules, .. } = function.trigger {
            assert!(!rules.is_empty());
        }
    }
}
