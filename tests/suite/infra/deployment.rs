//! What deploys: the scripts, azd's file, the workflows, the dev container.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use orderflow::functions::FUNCTIONS;
use yaml_rust2::{Yaml, YamlLoader};

use crate::{processes::orderflow, support::root};

const ENVIRONMENT: &[(&str, &str)] = &[
    ("AZURE_RESOURCE_GROUP", "group"),
    ("ORDERFLOW_APP", "app-x1"),
    ("ORDERFLOW_TOPIC", "topic-x1"),
    ("ORDERFLOW_FILES_ACCOUNT", "filesx1"),
    ("ORDERFLOW_DEAD_LETTER_CONTAINER", "dead-letters"),
    ("ORDERFLOW_POLL_SECONDS", "0"),
];

/// Runs a script of `infra/` with a stand-in for `az`, which writes down how it is called and then does `does`.
fn run(script: &[&str], does: &str, environment: &[(&str, &str)]) -> (Output, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (az, log) = (folder.path().join("az"), folder.path().join("log"));
    let text = format!(
        "#!/usr/bin/env bash\necho \"$*\" >>'{}'\n{does}\n",
        log.display()
    );
    fs::write(&az, text).unwrap();
    fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("bash")
        .args(script)
        .current_dir(root())
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .env("CALLS", &log)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let calls = fs::read_to_string(log).unwrap_or_default();
    (output, calls.lines().map(str::to_owned).collect())
}

/// As `az functionapp function list` lists them, for `printf`.
fn listed(without: &str) -> String {
    let names = FUNCTIONS.iter().map(|function| function.name);
    let lines: Vec<_> = names
        .filter(|name| *name != without)
        .map(|name| format!("app-x1/{name}\\n"))
        .collect();
    lines.concat()
}

#[test]
fn subscriptions_are_made_once_the_host_knows_all_functions() {
    let all = listed("");
    // Not all of them are there before the third question. Then the topic has one that nobody wants any more.
    let does = format!(
        r#"case $* in
             *"function list"*)
               if [ "$(grep -c 'function list' "$CALLS")" -lt 3 ]; then printf 'app-x1/billing\n'; else printf '{all}'; fi ;;
             *"rest --method get"*) printf 'payment\nloyalty\nbilling\n' ;;
           esac"#
    );
    let (output, calls) = run(&["infra/publish", "some.zip"], &does, ENVIRONMENT);
    assert!(output.status.success(), "{output:?}");
    let verbs: Vec<_> = (calls.iter().map(|call| call.split(" --").next().unwrap())).collect();
    let expected = [
        "functionapp deployment source config-zip",
        "functionapp function list",
        "functionapp function list",
        "functionapp function list",
        "deployment group create",
        "rest",
        "rest",
    ];
    assert_eq!(verbs, expected);
    for (call, given) in [
        (0, "--resource-group group --name app-x1 --src some.zip"),
        (
            4,
            "--template-file infra/subscriptions.bicep --parameters appName=app-x1 topicName=topic-x1",
        ),
        (
            4,
            "filesAccountName=filesx1 deadLetterContainer=dead-letters",
        ),
        (
            5,
            "rest --method get --url /subscriptions/{subscriptionId}/resourceGroups/group/",
        ),
        (
            5,
            "/topics/topic-x1/eventSubscriptions?api-version=2025-02-15 --query",
        ),
        (5, "resourceId || '', '/sites/app-x1/functions/')].name"),
        (
            6,
            "rest --method delete --url /subscriptions/{subscriptionId}/resourceGroups/group/",
        ),
        (
            6,
            "/topics/topic-x1/eventSubscriptions/loyalty?api-version=2025-02-15",
        ),
    ] {
        assert!(calls[call].contains(given), "{}", calls[call]);
    }
    let said = String::from_utf8(output.stdout).unwrap();
    let known = format!("the host knows all {} functions\n", FUNCTIONS.len());
    assert!(
        said.contains(&known) && said.contains("removed the event subscription loyalty"),
        "{said}"
    );
}

#[test]
fn no_subscription_is_made_for_a_function_that_does_not_come() {
    let some = listed("payment");
    let does = format!(r#"[[ $* != *"function list"* ]] || printf '{some}'"#);
    let (output, calls) = run(&["infra/publish", "some.zip"], &does, ENVIRONMENT);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("the host does not know these functions: payment"),
        "{said}"
    );
    assert!(
        !calls.iter().any(|call| call.starts_with("deployment")),
        "{calls:?}"
    );
}

#[test]
fn nothing_follows_a_deployment_that_failed() {
    let (output, calls) = run(&["infra/publish", "some.zip"], "exit 1", ENVIRONMENT);
    assert_eq!((output.status.code(), calls.len()), (Some(1), 1));
    let (output, calls) = run(&["infra/publish", "some.zip"], "", &ENVIRONMENT[..1]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("ORDERFLOW_APP: is not set: the output ORDERFLOW_APP") && calls.is_empty(),
        "{said}"
    );
}

#[test]
fn the_outputs_become_environment_variables() {
    let does = r#"echo '{"orderfloW_APP": {"type": "String", "value": "app-x1"}, "azurE_RESOURCE_GROUP": {"value": "group"}}'"#;
    let (output, calls) = run(&["infra/outputs", "group"], does, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "ORDERFLOW_APP=app-x1\nAZURE_RESOURCE_GROUP=group\n");
    assert!(
        calls[0].contains("--resource-group group --name orderflow"),
        "{calls:?}"
    );
}

fn yaml(path: &str) -> Yaml {
    let text = fs::read_to_string(root().join(path)).unwrap();
    YamlLoader::load_from_str(&text).unwrap().remove(0)
}

/// Every step of a workflow, with its job's name.
fn steps(workflow: &Yaml) -> Vec<(String, Yaml)> {
    let jobs = workflow["jobs"].as_hash().unwrap().iter();
    jobs.flat_map(|(name, job)| {
        let steps = job["steps"].as_vec().unwrap().iter();
        steps
            .map(|step| (name.as_str().unwrap().to_owned(), step.clone()))
            .collect::<Vec<_>>()
    })
    .collect()
}

/// What azd and the workflows run, and what the README says to run.
fn scripts() -> String {
    let azd = yaml("azure.yaml");
    let mut scripts: Vec<_> = azd["hooks"]
        .as_hash()
        .unwrap()
        .values()
        .map(|hook| hook["run"].as_str().unwrap().to_owned())
        .collect();
    for workflow in ["ci", "deploy"] {
        let steps = steps(&yaml(&format!(".github/workflows/{workflow}.yml")));
        scripts.extend(
            steps
                .iter()
                .filter_map(|(_, step)| step["run"].as_str())
                .map(str::to_owned),
        );
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let deploy = readme
        .split("\n## Deploy\n")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    scripts.extend(
        deploy
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .map(str::to_owned),
    );
    scripts.join("\n")
}

/// What is wrong with a command of ours.
async fn fault(arguments: &[&str]) -> Option<String> {
    let command = arguments.first()?;
    let help = orderflow(&[command, "--help"]).output().await.unwrap();
    if !help.status.success() {
        return Some(format!("there is no command {command}"));
    }
    let help = String::from_utf8(help.stdout).unwrap();
    let mut options = arguments.iter().filter(|word| word.starts_with("--"));
    let unknown = options.find(|option| !help.contains(**option))?;
    Some(format!("{command} has no {unknown}"))
}

#[tokio::test]
async fn every_command_that_deploys_exists() {
    let (mut commands, mut faults) = (0, Vec::new());
    for line in scripts().lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            let arguments = &words[at + 1..];
            let named = |next: &&str| next.starts_with(char::is_alphabetic);
            if word.rsplit('/').next() == Some("orderflow") && arguments.first().is_some_and(named)
            {
                commands += 1;
                faults.extend(fault(arguments).await);
            }
            if word.starts_with("infra/") && Path::new(word).extension().is_none() {
                let file = fs::metadata(root().join(word));
                if !file.is_ok_and(|file| file.permissions().mode() & 0o111 != 0) {
                    faults.push(format!("there is no program {word}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(commands >= 3, "{commands}");
}

#[test]
fn azd_uses_a_parameter_file_that_is_there() {
    let infra = &yaml("azure.yaml")["infra"];
    let parameters = format!(
        "{}/{}.bicepparam",
        infra["path"].as_str().unwrap(),
        infra["module"].as_str().unwrap()
    );
    assert!(root().join(&parameters).is_file(), "{parameters}");
}

#[test]
fn workflows_may_do_no_more_than_they_must() {
    for name in ["ci", "deploy"] {
        let path = format!(".github/workflows/{name}.yml");
        let text = fs::read_to_string(root().join(&path)).unwrap();
        assert!(!text.contains("secrets."), "{path} needs a secret");
        let workflow = yaml(&path);
        let granted = |permissions: &Yaml| -> Vec<String> {
            let permissions = permissions.as_hash().into_iter().flatten();
            permissions
                .map(|(what, how)| format!("{}: {}", what.as_str().unwrap(), how.as_str().unwrap()))
                .collect()
        };
        assert!(
            workflow["permissions"].as_hash().is_some(),
            "{path} has every permission"
        );
        for (job, definition) in workflow["jobs"].as_hash().unwrap() {
            let mut granted = granted(&definition["permissions"]);
            granted.retain(|permission| permission != "contents: read");
            let expected: &[&str] = match job.as_str() {
                Some("deploy") => &["id-token: write"],
                _ => &[],
            };
            assert_eq!(granted, expected, "{path}");
            assert!(definition["timeout-minutes"].as_i64().is_some(), "{path}");
        }
        for (job, step) in steps(&workflow) {
            let Some(action) = step["uses"].as_str() else {
                continue;
            };
            let version = action
                .split_once('@')
                .map(|(_, version)| version.trim_start_matches('v'));
            let pinned = version
                .is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()));
            assert!(pinned, "{path}, {job}: {action} is whatever it is today");
            let checkout = action.starts_with("actions/checkout@");
            assert!(
                !checkout || step["with"]["persist-credentials"].as_bool() == Some(false),
                "{path}, {job}"
            );
        }
    }
}

#[test]
fn a_deployment_comes_in_order() {
    let deploy = yaml(".github/workflows/deploy.yml");
    assert_eq!(deploy["jobs"]["deploy"]["needs"].as_str(), Some("package"));
    let scripts: Vec<_> = steps(&deploy)
        .iter()
        .map(|(_, step)| step["run"].as_str().unwrap_or_default().to_owned())
        .collect();
    let place = |what: &str| {
        scripts
            .iter()
            .position(|script| script.contains(what))
            .unwrap_or_else(|| panic!("nothing does {what}"))
    };
    let order = [
        "cargo test",
        "orderflow package",
        "deployment group create",
        "infra/publish",
        "orderflow canary",
    ]
    .map(place);
    assert!(order.is_sorted(), "{scripts:#?}");
}

#[test]
fn the_dev_container_has_the_tools() {
    let text = fs::read_to_string(root().join(".devcontainer/devcontainer.json")).unwrap();
    let container: serde_json::Value = serde_json::from_str(&text).unwrap();
    let features = container["features"].as_object().unwrap();
    for tool in ["azd:", "azure-cli:", "azure-functions-core-tools:"] {
        assert!(
            features.keys().any(|feature| feature.contains(tool)),
            "{tool}"
        );
    }
    assert!(container["image"].as_str().unwrap().contains("/rust:"));
}
