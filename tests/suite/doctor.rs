//! `orderflow doctor`: what it finds, and what it says about it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use axum::{Router, http::header::DATE, routing::any};
use orderflow::artifacts;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    postgres_server::PostgresServer,
    processes::{Dev, orderflow, output},
    support::{KEY, Topic, listen, root},
};

/// The line of a subject that has these words, and the fix below it.
#[track_caller]
fn assert_found(printed: &str, verdict: &str, subject: &str, words: &str) {
    let mut lines = printed.lines();
    let found = lines.find(|line| {
        let mut columns = line.split_whitespace();
        columns.next() == Some(subject) && columns.next() == Some(verdict) && line.contains(words)
    });
    assert!(
        found.is_some(),
        "no {verdict} of {subject} with {words:?}:\n{printed}"
    );
    if matches!(verdict, "FAULT" | "doubt") {
        let fix = lines.next().unwrap_or_default().trim_start();
        assert!(
            fix.starts_with("fix: ") && fix.len() > 10,
            "{fix:?}:\n{printed}"
        );
    }
}

/// Nothing to be mended.
#[track_caller]
fn assert_healthy((code, printed, errors): (Option<i32>, String, String)) -> String {
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{printed}");
    assert!(printed.ends_with(" doubts: 0, faults: 0\n"), "{printed}");
    printed
}

async fn examined(arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = orderflow(&[&["doctor"], arguments].concat());
    output(command.envs(settings.iter().copied())).await
}

#[tokio::test]
async fn a_repository_beside_a_running_event_grid_is_healthy() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path()).await;
    let endpoint = format!("{}/api/events", dev.grid);
    let store = format!("sqlite:{}/new/orders.db", data.path().display());
    let settings = [
        ("EVENTGRID_TOPIC_ENDPOINT", endpoint.as_str()),
        ("STORE_URL", &store),
    ];
    let printed = assert_healthy(examined(&[], &settings).await);
    assert_found(
        &printed,
        "ok",
        "topic",
        "took an event of the type Orderflow.Doctor",
    );
    assert_found(&printed, "ok", "clock", "0 s apart");
    assert_found(
        &printed,
        "ok",
        "store",
        "empty; the first start makes its tables",
    );
    assert_found(&printed, "ok", "functions", "10 folders");
    assert!(!data.path().join("new").exists(), "nothing is changed");
    dev.stop().await;
}

/// An exported app that has nothing wrong with it, as settings and as `az functionapp show` prints it.
fn healthy_app() -> (Value, Value) {
    let client_id = "0199c0de-0000-7000-8000-0000000000c1";
    let settings = json!({
        "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=00000000-0000-0000-0000-000000000000",
        "AZURE_CLIENT_ID": client_id,
        "AzureWebJobsStorage__accountName": "orders",
        "EVENTGRID_TOPIC_ENDPOINT": "https://orders.westeurope-1.eventgrid.azure.net/api/events",
        "PAYMENT_PROVIDER": "stripe",
        "STORE_URL": "postgres://orderflow@orders.postgres.database.azure.com/orderflow",
        "STRIPE_API_KEY": "@Microsoft.KeyVault(SecretUri=https://orders.vault.azure.net/secrets/stripe)",
    });
    let app = json!({
        "kind": "functionapp,linux",
        "state": "Running",
        "functionAppConfig": { "runtime": { "name": "custom", "version": "1.0" } },
        "identity": {
            "type": "UserAssigned",
            "userAssignedIdentities": { "/subscriptions/x": { "clientId": client_id, "principalId": "p" } },
        },
    });
    (settings, app)
}

/// Examines an exported app, without asking anybody.
async fn examined_app(settings: &Value, app: &Value) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let list: Vec<_> = settings
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| json!({ "name": name, "slotSetting": false, "value": value }))
        .collect();
    let files = [("settings.json", json!(list)), ("app.json", app.clone())];
    let mut arguments = vec!["--offline".to_owned()];
    for (name, value) in files {
        let file = folder.path().join(name);
        fs::write(&file, value.to_string()).unwrap();
        arguments.extend(["--from".to_owned(), file.display().to_string()]);
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    examined(&arguments, &[]).await
}

#[tokio::test]
async fn a_deployed_app_is_examined_by_its_export() {
    let (settings, app) = healthy_app();
    let printed = assert_healthy(examined_app(&settings, &app).await);
    assert_found(
        &printed,
        "ok",
        "app",
        "Flex Consumption, runtime custom 1.0",
    );
    // Newer versions of `az` have most of it one level deeper.
    let mut nested = json!({ "kind": app["kind"], "identity": app["identity"] });
    nested["properties"] =
        json!({ "functionAppConfig": app["functionAppConfig"], "state": "Running" });
    assert_healthy(examined_app(&settings, &nested).await);
}

/// A setting, what it is set to instead, and what is to be found then.
type Setting = (
    &'static str,
    Option<&'static str>,
    &'static str,
    &'static str,
    &'static str,
);

const SETTINGS: &[Setting] = &[
    (
        "EVENTGRID_TOPIC_ENDPOINT",
        None,
        "FAULT",
        "settings",
        "is not set",
    ),
    (
        "EVENTGRID_TOPIC_ENDPOINT",
        Some("http://127.0.0.1:6500/api/events"),
        "FAULT",
        "settings",
        "nobody listens there",
    ),
    (
        "EVENTGRID_TOPIC_ENDPOINT",
        Some("https://orders.westeurope-1.eventgrid.azure.net"),
        "doubt",
        "settings",
        "has the path /",
    ),
    (
        "EVENTGRID_TOPIC_KEY",
        Some("hunter2"),
        "doubt",
        "settings",
        "refuses it",
    ),
    (
        "EVENTGRID_ENDPOINT",
        Some("hunter2"),
        "doubt",
        "settings",
        "nothing reads EVENTGRID_ENDPOINT",
    ),
    (
        "STORE_URL",
        Some("sqlite:orders.db"),
        "FAULT",
        "settings",
        "kept by one instance alone",
    ),
    (
        "STORE_URL",
        Some("memory:"),
        "FAULT",
        "settings",
        "kept by one instance alone",
    ),
    (
        "STORE_URL",
        Some("postgres://orderflow:hunter2@orders.example.com/orderflow"),
        "doubt",
        "settings",
        "has a password",
    ),
    (
        "STORE_URL",
        Some("mysql://hunter2@x"),
        "FAULT",
        "settings",
        "must be postgres://",
    ),
    (
        "PAYMENT_PROVIDER",
        None,
        "doubt",
        "settings",
        "nobody is charged",
    ),
    (
        "PAYMENT_PROVIDER",
        Some("simulated"),
        "doubt",
        "settings",
        "the key is not used",
    ),
    (
        "STRIPE_API_KEY",
        None,
        "FAULT",
        "settings",
        "STRIPE_API_KEY: is not set",
    ),
    (
        "STRIPE_API_KEY",
        Some("sk_test_hunter2"),
        "doubt",
        "settings",
        "a test key",
    ),
    (
        "STRIPE_API_BASE",
        Some("https://stripe.example.com"),
        "doubt",
        "settings",
        "not Stripe's own address",
    ),
    (
        "CATALOG_FILE",
        Some("/home/site/wwwroot/prices.json"),
        "FAULT",
        "settings",
        "cannot read ./prices.json",
    ),
    (
        "AzureWebJobsStorage__accountName",
        None,
        "FAULT",
        "settings",
        "there is no AzureWebJobsStorage",
    ),
    (
        "AzureWebJobsStorage",
        Some("AccountName=x;AccountKey=hunter2"),
        "doubt",
        "settings",
        "account key",
    ),
    (
        "FUNCTIONS_WORKER_RUNTIME",
        Some("custom"),
        "doubt",
        "settings",
        "from functionAppConfig",
    ),
    (
        "WEBSITE_RUN_FROM_PACKAGE",
        Some("1"),
        "doubt",
        "settings",
        "functionAppConfig.deployment",
    ),
    (
        "CONTAINER_NAME",
        Some("x"),
        "doubt",
        "settings",
        "CONTAINER_NAME",
    ),
    (
        "APPLICATIONINSIGHTS_CONNECTION_STRING",
        None,
        "doubt",
        "settings",
        "nobody keeps the logs",
    ),
    (
        "FUNCTIONS_CUSTOMHANDLER_PORT",
        Some("8080"),
        "doubt",
        "settings",
        "chooses the port itself",
    ),
    (
        "AZURE_CLIENT_ID",
        None,
        "FAULT",
        "identity",
        "it gets no token",
    ),
    (
        "AZURE_CLIENT_ID",
        Some("orderflow"),
        "FAULT",
        "settings",
        "must be the client id",
    ),
    (
        "AZURE_CLIENT_ID",
        Some("0199c0de-0000-7000-8000-0000000000c2"),
        "FAULT",
        "identity",
        "has no such identity",
    ),
];

#[tokio::test]
async fn settings_of_a_deployed_app_that_do_not_fit_are_named_with_their_fix() {
    for (name, value, verdict, subject, words) in SETTINGS {
        let (mut settings, app) = healthy_app();
        settings[name] = json!(value);
        let (code, printed, errors) = examined_app(&settings, &app).await;
        assert_found(&printed, verdict, subject, words);
        assert_eq!(
            code,
            Some(i32::from(printed.contains("FAULT"))),
            "{printed}"
        );
        assert!(
            !format!("{printed}{errors}").contains("hunter2"),
            "{printed}"
        );
    }
}

#[tokio::test]
async fn an_app_that_cannot_run_the_handler_is_named_with_its_fix() {
    for (path, value, verdict, subject, words) in [
        (
            "/state",
            json!("Stopped"),
            "FAULT",
            "app",
            "its state is Stopped",
        ),
        (
            "/functionAppConfig/runtime/name",
            json!("node"),
            "FAULT",
            "app",
            "its runtime is node",
        ),
        (
            "/functionAppConfig",
            json!(null),
            "doubt",
            "app",
            "does not run on Flex Consumption",
        ),
        (
            "/identity",
            json!(null),
            "FAULT",
            "identity",
            "the app has none",
        ),
    ] {
        let (settings, mut app) = healthy_app();
        *app.pointer_mut(path).unwrap() = value;
        let (_, printed, _) = examined_app(&settings, &app).await;
        assert_found(&printed, verdict, subject, words);
    }
}

#[tokio::test]
async fn a_file_that_is_no_export_is_refused_without_quoting_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export.json");
    for content in [
        r#"{"password": "hunter2"}"#,
        r#"[{"hunter2": 1}]"#,
        "STRIPE_API_KEY=hunter2",
        r#"{"kind": "app"}"#,
    ] {
        fs::write(&file, content).unwrap();
        let (code, printed, errors) = examined(&["--from", file.to_str().unwrap()], &[]).await;
        assert_eq!(code, Some(1), "{printed}");
        assert!(
            errors.contains("export.json: ") && !errors.contains("hunter2"),
            "{errors}"
        );
    }
}

/// A healthy package, but for a handler that can do nothing except say its version.
fn staged() -> TempDir {
    let package = tempfile::tempdir().unwrap();
    let folder = package.path();
    for artifact in artifacts::all() {
        if let Ok(below) = artifact.path.strip_prefix("functions") {
            fs::create_dir_all(folder.join(below).parent().unwrap()).unwrap();
            fs::write(folder.join(below), &artifact.content).unwrap();
        }
    }
    fs::copy(root().join("host.json"), folder.join("host.json")).unwrap();
    script(
        folder,
        concat!("echo orderflow ", env!("CARGO_PKG_VERSION")),
    );
    package
}

fn script(folder: &Path, text: &str) {
    let file = folder.join("orderflow");
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

async fn examined_package(package: &TempDir) -> (Option<i32>, String, String) {
    let settings = [
        (
            "EVENTGRID_TOPIC_ENDPOINT",
            "http://127.0.0.1:6500/api/events",
        ),
        ("EVENTGRID_TOPIC_KEY", KEY),
        ("STORE_URL", "memory:"),
    ];
    let folder = package.path().to_str().unwrap();
    examined(&["--offline", "--folder", folder], &settings).await
}

#[tokio::test]
async fn a_package_is_examined_against_the_handler() {
    let (code, printed, errors) = examined_package(&staged()).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{printed}");
    // A script runs here, and is no handler for Azure.
    assert_found(&printed, "doubt", "handler", "would not start in Azure");
    assert!(printed.ends_with(" doubts: 1, faults: 0\n"), "{printed}");
    let version = concat!("orderflow ", env!("CARGO_PKG_VERSION"));
    assert_found(&printed, "ok", "handler", version);
    let executable = |folder: &Path| folder.join("orderflow");
    let billing = |folder: &Path| folder.join("billing/function.json");
    let damages: [(Damage<'_>, &str, &str); 8] = [
        (
            &|folder| fs::remove_file(folder.join("host.json")),
            "host.json",
            "cannot read",
        ),
        (
            &|folder| fs::remove_file(billing(folder)),
            "functions",
            "billing/function.json is missing",
        ),
        (
            &|folder| fs::write(billing(folder), "{}"),
            "functions",
            "differs",
        ),
        (
            &|folder| fs::rename(folder.join("billing"), folder.join("invoicing")),
            "functions",
            "no route for",
        ),
        (
            &|folder| fs::remove_file(executable(folder)),
            "handler",
            "No such file",
        ),
        (
            &|folder| fs::set_permissions(executable(folder), fs::Permissions::from_mode(0o644)),
            "handler",
            "may not be executed",
        ),
        (
            &|folder| fs::write(executable(folder), "#!/bin/sh\necho orderflow 0.0.0"),
            "handler",
            "orderflow 0.0.0",
        ),
        (
            &|folder| fs::write(executable(folder), "\u{7f}ELF"),
            "handler",
            "does not start",
        ),
    ];
    for (damage, subject, words) in damages {
        let package = staged();
        damage(package.path()).unwrap();
        let (code, printed, _) = examined_package(&package).await;
        assert_found(&printed, "FAULT", subject, words);
        assert_eq!(code, Some(1), "{printed}");
    }
}

type Damage<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;

#[tokio::test]
async fn a_host_json_that_does_not_start_the_handler_is_named() {
    for (parent, name, value, words) in [
        (
            "/customHandler/description",
            "defaultExecutablePath",
            json!("handler"),
            "must be \"orderflow\", is \"handler\"",
        ),
        (
            "/customHandler/description",
            "arguments",
            json!([]),
            "must be [\"serve\"]",
        ),
        (
            "/customHandler",
            "enableForwardingHttpRequest",
            json!(false),
            "must be true",
        ),
        (
            "/customHandler",
            "http",
            json!({ "routes": [] }),
            "keeps the host from starting",
        ),
        (
            "",
            "extensions",
            json!({ "http": { "routePrefix": "v1" } }),
            "routePrefix",
        ),
        (
            "",
            "functionTimeout",
            json!("00:00:20"),
            "a delivery may take 20 s",
        ),
    ] {
        let package = staged();
        let file = package.path().join("host.json");
        let mut host: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        host.pointer_mut(parent).unwrap()[name] = value;
        fs::write(file, host.to_string()).unwrap();
        let (_, printed, _) = examined_package(&package).await;
        assert_found(&printed, "FAULT", "host.json", words);
    }
}

#[tokio::test]
async fn a_topic_that_does_not_take_the_event_is_told_apart_by_why() {
    let (topic, endpoint) = Topic::start().await;
    let ask = async |key: &str| {
        let settings = [
            ("EVENTGRID_TOPIC_ENDPOINT", endpoint.as_str()),
            ("EVENTGRID_TOPIC_KEY", key),
            ("STORE_URL", "memory:"),
        ];
        examined(&[], &settings).await
    };
    let printed = assert_healthy(ask(KEY).await);
    assert_found(&printed, "ok", "topic", "took an event");
    assert_eq!(topic.names(), ["Orderflow.Doctor"]);
    let (code, printed, _) = ask("wr0ng").await;
    assert_found(&printed, "FAULT", "topic", "401");
    assert!(code == Some(1) && !printed.contains("wr0ng"), "{printed}");
    topic.fail_with(400);
    let (_, printed, _) = ask(KEY).await;
    assert_found(&printed, "FAULT", "topic", "400");
    assert!(printed.contains("CloudEventSchemaV1_0"), "{printed}");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named() {
    for (minutes, verdict) in [(10, "FAULT"), (1, "doubt")] {
        let date = chrono::DateTime::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().unwrap();
        let date = (date - chrono::TimeDelta::minutes(minutes)).to_rfc2822();
        let answer = async move || ([(DATE, date.replace("+0000", "GMT"))], "");
        let url = listen(Router::new().fallback(any(answer))).await;
        let settings = [
            ("EVENTGRID_TOPIC_ENDPOINT", format!("{url}/api/events")),
            ("EVENTGRID_TOPIC_KEY", KEY.to_owned()),
            ("STORE_URL", "memory:".to_owned()),
        ];
        let settings = settings
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let (_, printed, _) = examined(&[], &settings).await;
        assert_found(&printed, verdict, "clock", "s apart from http://127.0.0.1");
    }
}

/// What is said about a store, beside a topic that works.
async fn examined_store(url: &str) -> String {
    let (_topic, endpoint) = Topic::start().await;
    let settings = [
        ("EVENTGRID_TOPIC_ENDPOINT", endpoint.as_str()),
        ("EVENTGRID_TOPIC_KEY", KEY),
        ("STORE_URL", url),
    ];
    examined(&[], &settings).await.1
}

#[tokio::test]
async fn a_file_that_cannot_be_the_store_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.db");
    let url = format!("sqlite:{}", file.display());
    drop(orderflow::store::sqlite::SqliteStore::open(&file).unwrap());
    assert_found(
        &examined_store(&url).await,
        "ok",
        "store",
        "schema version 4",
    );
    rusqlite::Connection::open(&file)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert_found(
        &examined_store(&url).await,
        "FAULT",
        "store",
        "schema version 99",
    );
    fs::write(
        &file,
        "this is no database, but long enough to have a header of one: ".repeat(20),
    )
    .unwrap();
    assert_found(
        &examined_store(&url).await,
        "FAULT",
        "store",
        "not a database",
    );
    let nowhere = "sqlite:/proc/orders/orders.db";
    assert_found(&examined_store(nowhere).await, "FAULT", "store", "/proc");
}

#[tokio::test]
async fn a_database_that_cannot_be_the_store_is_named() {
    let away = "postgres://tester:hunter2@127.0.0.1:1/orders";
    let printed = examined_store(away).await;
    assert_found(&printed, "FAULT", "store", "Connection refused");
    assert!(!printed.contains("hunter2"), "{printed}");
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    assert_found(
        &examined_store(&url).await,
        "ok",
        "store",
        "empty; the first start makes its tables",
    );
    let (_, database) = url.rsplit_once('/').unwrap();
    server
        .execute(database, "CREATE ROLE powerless LOGIN PASSWORD 'hunter2'")
        .await;
    let (_, rest) = url.split_once('@').unwrap();
    let powerless = format!("postgres://powerless:hunter2@{rest}");
    let printed = examined_store(&powerless).await;
    assert_found(&printed, "FAULT", "store", "this user may not make it");
    assert!(!printed.contains("hunter2"), "{printed}");
}
