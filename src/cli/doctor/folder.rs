//! The folder that is run or deployed: host.json against the handler, and the functions' folders against its routes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use super::report::{Report, note};
use crate::{
    artifacts,
    engine::DELIVERY_BUDGET,
    functions::{FUNCTIONS, Function},
    package::{EXECUTABLE, binary},
};

/// How long a handler may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

const PACKAGE: &str = "cargo run --release -- package";
const WRITE: &str = "orderflow check --write";

/// Looks at a repository or at what `orderflow package` staged.
pub(super) async fn check(folder: &Path, report: &mut Report) {
    host_json(folder, report);
    // Only in the repository, the functions are gathered in one folder.
    let gathered = folder.join("functions");
    if gathered.is_dir() {
        functions(&gathered, WRITE, report);
        let what = "is not staged here; `orderflow package` stages it";
        note("handler", what);
    } else {
        functions(folder, PACKAGE, report);
        handler(&folder.join(EXECUTABLE), report).await;
    }
}

fn host_json(folder: &Path, report: &mut Report) {
    const SUBJECT: &str = "host.json";
    let file = folder.join("host.json");
    let parsed = fs::read_to_string(&file)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    let host: Value = match parsed {
        Ok(host) => host,
        Err(error) => {
            let what = format!("cannot read {}: {error}", file.display());
            let fix = "run this in the repository or name the staged folder: --folder dist";
            return report.fault(SUBJECT, &what, fix);
        }
    };
    let expected = [
        ("/version", json!("2.0")),
        (
            "/customHandler/description/defaultExecutablePath",
            json!(EXECUTABLE),
        ),
        ("/customHandler/description/arguments", json!(["serve"])),
        // Without it an HTTP request comes as an invocation, which the API does not take.
        ("/customHandler/enableForwardingHttpRequest", json!(true)),
        // Core Tools and the host load the Event Grid trigger from there.
        (
            "/extensionBundle/id",
            json!("Microsoft.Azure.Functions.ExtensionBundle"),
        ),
    ];
    let mut faults = 0;
    for (path, value) in expected {
        let found = host.pointer(path).unwrap_or(&Value::Null);
        if *found != value {
            faults += 1;
            let name = path.trim_start_matches('/').replace('/', ".");
            let what = format!("{name} must be {value}, is {found}");
            report.fault(
                SUBJECT,
                &what,
                "put it right in host.json, then package again",
            );
        }
    }
    let prefix = host.pointer("/extensions/http/routePrefix");
    if prefix.is_some_and(|prefix| prefix != "api") {
        faults += 1;
        report.fault(
            SUBJECT,
            "extensions.http.routePrefix is not \"api\", where the handler has its routes",
            "remove it from host.json",
        );
    }
    // Functions host, `HttpWorkerOptions`: routes there and function.json files exclude each other.
    if host.pointer("/customHandler/http/routes").is_some() {
        faults += 1;
        report.fault(
            SUBJECT,
            "customHandler.http.routes keeps the host from starting beside function.json files",
            "remove it from host.json",
        );
    }
    if let Some(timeout) = host.pointer("/functionTimeout").and_then(Value::as_str)
        && timeout != "-1"
        && time_span(timeout).is_none_or(|timeout| timeout <= DELIVERY_BUDGET)
    {
        faults += 1;
        let what = format!(
            "functionTimeout is {timeout}, and a delivery may take {} s",
            DELIVERY_BUDGET.as_secs()
        );
        report.fault(SUBJECT, &what, "\"functionTimeout\": \"00:01:00\"");
    }
    if faults == 0 {
        report.fine(SUBJECT, "starts the handler as it wants to be started");
    }
}

/// A .NET `TimeSpan` of the form `hh:mm:ss`.
fn time_span(text: &str) -> Option<Duration> {
    let mut seconds = 0;
    for part in text.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    (text.split(':').count() == 3).then_some(Duration::from_secs(seconds))
}

/// The folders of functions against the registry.
fn functions(folder: &Path, remedy: &str, report: &mut Report) {
    const SUBJECT: &str = "functions";
    let mut faults = 0;
    let mut fault = |what: String| {
        faults += 1;
        report.fault(SUBJECT, &what, remedy);
    };
    let files = artifacts::all();
    for function in FUNCTIONS {
        let below = Path::new(function.name).join("function.json");
        let path = Path::new("functions").join(&below);
        let expected = files.iter().find(|file| file.path == path);
        let expected = expected.and_then(|file| serde_json::from_str::<Value>(&file.content).ok());
        let found = fs::read_to_string(folder.join(&below)).ok();
        match found.map(|text| serde_json::from_str::<Value>(&text).ok()) {
            None => fault(format!(
                "{} is missing: the host does not know the function, and answers Event Grid with 404",
                folder.join(&below).display()
            )),
            Some(found) if found != expected => fault(format!(
                "{} differs from what the handler has a route for",
                folder.join(&below).display()
            )),
            Some(_) => {}
        }
    }
    for name in strays(folder) {
        fault(format!(
            "{} is a function that the handler has no route for: its events would come again for a day",
            name.display()
        ));
    }
    if faults == 0 {
        let what = format!(
            "{} folders, as many as the handler has routes",
            FUNCTIONS.len()
        );
        report.fine(SUBJECT, &what);
    }
}

fn strays(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let stray = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        path.join("function.json").is_file() && name.and_then(Function::named).is_none()
    };
    entries.map(|entry| entry.path()).filter(stray).collect()
}

/// A handler that runs here need not run there.
fn fit_for_azure(file: &Path, report: &mut Report) {
    const SUBJECT: &str = "handler";
    match binary::check(file) {
        Ok(Ok(_)) => report.fine(SUBJECT, "would start in Azure"),
        Ok(Err(unfit)) => {
            let what = format!("would not start in Azure: {unfit}");
            report.doubt(SUBJECT, &what, "infra/build-portable, then package that");
        }
        Err(error) => report.skipped(SUBJECT, &error.to_string()),
    }
}

/// The staged handler: whether it starts at all, and is of this version.
async fn handler(file: &Path, report: &mut Report) {
    const SUBJECT: &str = "handler";
    let name = file.display();
    let mode = match fs::metadata(file) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) => return report.fault(SUBJECT, &format!("{name}: {error}"), PACKAGE),
    };
    if mode & 0o111 == 0 {
        let what = format!("{name} may not be executed");
        return report.fault(SUBJECT, &what, PACKAGE);
    }
    // A relative path without a slash would be looked up in PATH.
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").kill_on_drop(true);
    let expected = concat!("orderflow ", env!("CARGO_PKG_VERSION"));
    match tokio::time::timeout(VERSION_LIMIT, command.output()).await {
        Err(_) => report.fault(SUBJECT, &format!("{name} --version does not end"), PACKAGE),
        Ok(Err(error)) => {
            report.fault(SUBJECT, &format!("{name} does not start: {error}"), PACKAGE);
        }
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let said = said.lines().next().unwrap_or_default().trim();
            if output.status.success() && said.starts_with(expected) {
                report.fine(SUBJECT, said);
                fit_for_azure(file, report);
            } else {
                let what = format!(
                    "{name} says {said:?} ({}), expected {expected:?}",
                    output.status
                );
                report.fault(SUBJECT, &what, PACKAGE);
            }
        }
    }
}
