//! The settings: each by itself as `serve` reads it, and whether they fit together.

use std::path::Path;

use super::{
    report::{Report, note},
    source::Source,
};
use crate::{
    config::{self, PaymentProvider, Settings, StoreUrl},
    http_client::is_loopback,
};

const SUBJECT: &str = "settings";

/// How settings of a deployed app are set.
const SET: &str = "az functionapp config appsettings set -n APP -g GROUP --settings";
/// And how they are removed.
const DELETE: &str = "az functionapp config appsettings delete -n APP -g GROUP --setting-names";

/// Where a package lies in Azure.
const DEPLOYED_FOLDER: &str = "/home/site/wwwroot/";

/// Reads the settings as `serve` does, and says what is wrong with them. None when they cannot be read.
pub(super) fn check(source: &Source, folder: &Path, report: &mut Report) -> Option<Settings> {
    if source.is_empty() {
        let how = "pass the output of `az functionapp config appsettings list -n APP -g GROUP -o json` to --from as well";
        report.skipped(SUBJECT, how);
        return None;
    }
    for name in source.names() {
        if source.get(name).is_some_and(is_reference) {
            let what = format!(
                "{name} is a Key Vault reference: Azure resolves it, here it is not looked at"
            );
            note(SUBJECT, &what);
        }
    }
    let read = Settings::read(&|name| value(source, folder, name));
    let settings = match read {
        Ok(settings) => Some(settings),
        Err(error) => {
            for problem in error.problems() {
                let name = problem.split(':').next().unwrap_or_default();
                report.fault(SUBJECT, problem, &how_to_set(source, name));
            }
            None
        }
    };
    if settings.is_some() {
        report.fine(SUBJECT, "each is well formed, and none is missing");
    }
    strangers(source, report);
    if let Some(settings) = &settings {
        if source.deployed {
            in_azure(settings, source, report);
        } else {
            on_this_machine(settings, source, report);
        }
        anywhere(settings, source, report);
    }
    settings
}

/// A setting as `serve` would see it where it is meant to run.
fn value(source: &Source, folder: &Path, name: &str) -> Option<String> {
    let value = source.get(name).map(str::to_owned);
    match name {
        // The platform sets it for whoever has an identity.
        "IDENTITY_ENDPOINT" if source.deployed => Some("https://platform".to_owned()),
        "CATALOG_FILE" if source.deployed => {
            let file = value?;
            let file = file.strip_prefix(DEPLOYED_FOLDER).unwrap_or(&file);
            Some(folder.join(file).display().to_string())
        }
        "STRIPE_API_KEY" if value.as_deref().is_some_and(is_reference) => {
            Some("sk_reference".to_owned())
        }
        "STORE_URL" if value.as_deref().is_some_and(is_reference) => Some("memory:".to_owned()),
        _ => value,
    }
}

/// Whether a value stands in a Key Vault (Azure documentation, "Use Key Vault references").
pub(super) fn is_reference(value: &str) -> bool {
    value.trim().starts_with("@Microsoft.KeyVault(")
}

fn how_to_set(source: &Source, name: &str) -> String {
    if source.deployed {
        format!("{SET} {name}=…")
    } else {
        format!("set {name} in the environment, or under Values of local.settings.json")
    }
}

/// Names that look like ours and are not.
fn strangers(source: &Source, report: &mut Report) {
    const FAMILIES: [&str; 5] = ["EVENTGRID_", "STORE_", "PAYMENT_", "STRIPE_", "CATALOG_"];
    for name in source.names() {
        let ours = FAMILIES.iter().any(|family| name.starts_with(family));
        if ours && !config::NAMES.contains(&name) {
            report.doubt(
                SUBJECT,
                &format!("nothing reads {name}"),
                "see the README's table of settings for the names",
            );
        }
    }
    if source.get("CONTAINER_NAME").is_some() {
        report.doubt(
            SUBJECT,
            "CONTAINER_NAME makes Core Tools take the app for another kind",
            "choose another name",
        );
    }
}

fn in_azure(settings: &Settings, source: &Source, report: &mut Report) {
    host_settings(source, report);
    if is_loopback(&settings.topic_endpoint) {
        report.fault(
            SUBJECT,
            "EVENTGRID_TOPIC_ENDPOINT is the local Event Grid's: in Azure nobody listens there",
            &format!("{SET} EVENTGRID_TOPIC_ENDPOINT=… (az eventgrid topic show -n TOPIC -g GROUP --query endpoint)"),
        );
    }
    if settings.topic_key.is_some() {
        report.doubt(
            SUBJECT,
            "EVENTGRID_TOPIC_KEY is set: a topic with local authentication switched off refuses it",
            &format!("{DELETE} EVENTGRID_TOPIC_KEY, and give the app's identity the role EventGrid Data Sender"),
        );
    }
    let database =
        format!("{SET} STORE_URL=postgres://IDENTITY@NAME.postgres.database.azure.com/orderflow");
    match &settings.store {
        _ if source.get("STORE_URL").is_some_and(is_reference) => {}
        StoreUrl::Memory | StoreUrl::Sqlite(_) => report.fault(
            SUBJECT,
            "STORE_URL is kept by one instance alone: each function runs on instances of its own, and they forget it",
            &database,
        ),
        StoreUrl::Postgres(address) if !address.needs_token() => report.doubt(
            SUBJECT,
            "STORE_URL has a password, which everybody can read who can read the settings",
            &format!("{database}, without a password: a token of the app's identity takes its place"),
        ),
        StoreUrl::Postgres(_) => {}
    }
    match &settings.payments {
        PaymentProvider::Simulated => report.doubt(
            SUBJECT,
            "PAYMENT_PROVIDER is simulated: nobody is charged",
            &format!("{SET} PAYMENT_PROVIDER=stripe STRIPE_API_KEY=…"),
        ),
        PaymentProvider::Stripe { api_base, .. } => {
            if is_test_key(source) {
                let what = "STRIPE_API_KEY is a test key: nobody is charged";
                report.doubt(SUBJECT, what, "use a live key (sk_live_…, rk_live_…)");
            }
            if api_base.host_str() != Some("api.stripe.com") {
                report.doubt(
                    SUBJECT,
                    "STRIPE_API_BASE is not Stripe's own address",
                    &format!("{DELETE} STRIPE_API_BASE"),
                );
            }
        }
    }
}

/// What the host and the platform want of the settings.
fn host_settings(source: &Source, report: &mut Report) {
    let storage = [
        "AzureWebJobsStorage",
        "AzureWebJobsStorage__accountName",
        "AzureWebJobsStorage__blobServiceUri",
    ];
    if !storage.iter().any(|name| source.get(name).is_some()) {
        report.fault(
            SUBJECT,
            "there is no AzureWebJobsStorage: the host keeps its keys and the timer's lease there",
            &format!("{SET} AzureWebJobsStorage__accountName=… AzureWebJobsStorage__credential=managedidentity AzureWebJobsStorage__clientId=…"),
        );
    }
    let key = |value: &str| value.contains("AccountKey=");
    if source.get("AzureWebJobsStorage").is_some_and(key) {
        report.doubt(
            SUBJECT,
            "AzureWebJobsStorage holds an account key",
            "name the account in AzureWebJobsStorage__accountName instead, and use the app's identity",
        );
    }
    let flex = source.app.as_ref().is_some_and(super::app::App::is_flex);
    match source.get("FUNCTIONS_WORKER_RUNTIME") {
        Some(_) if flex => report.doubt(
            SUBJECT,
            "FUNCTIONS_WORKER_RUNTIME is set: Flex Consumption takes the runtime from functionAppConfig",
            &format!("{DELETE} FUNCTIONS_WORKER_RUNTIME"),
        ),
        None | Some("custom") => {}
        Some(other) => report.fault(
            SUBJECT,
            &format!("FUNCTIONS_WORKER_RUNTIME is {other}: the host starts no custom handler then"),
            &format!("{SET} FUNCTIONS_WORKER_RUNTIME=custom"),
        ),
    }
    if source.get("WEBSITE_RUN_FROM_PACKAGE").is_some() && flex {
        report.doubt(
            SUBJECT,
            "WEBSITE_RUN_FROM_PACKAGE is set: Flex Consumption has its packages in functionAppConfig.deployment",
            &format!("{DELETE} WEBSITE_RUN_FROM_PACKAGE"),
        );
    }
    if source
        .get("APPLICATIONINSIGHTS_CONNECTION_STRING")
        .is_none()
    {
        report.doubt(
            SUBJECT,
            "APPLICATIONINSIGHTS_CONNECTION_STRING is not set: nobody keeps the logs",
            &format!("{SET} APPLICATIONINSIGHTS_CONNECTION_STRING=…"),
        );
    }
    if source.get("FUNCTIONS_CUSTOMHANDLER_PORT").is_some() {
        report.doubt(
            SUBJECT,
            "FUNCTIONS_CUSTOMHANDLER_PORT is set: the host chooses the port itself",
            &format!("{DELETE} FUNCTIONS_CUSTOMHANDLER_PORT"),
        );
    }
}

fn on_this_machine(settings: &Settings, source: &Source, report: &mut Report) {
    match source.get("FUNCTIONS_WORKER_RUNTIME") {
        None | Some("custom") => {}
        Some(other) => report.fault(
            SUBJECT,
            &format!(
                "FUNCTIONS_WORKER_RUNTIME is {other}: `func start` starts no custom handler then"
            ),
            "set it to custom under Values of local.settings.json",
        ),
    }
    if settings.store == StoreUrl::Memory {
        note(
            SUBJECT,
            "STORE_URL is memory: everything is forgotten when the process ends",
        );
    }
    if settings.topic_key.is_none() && is_loopback(&settings.topic_endpoint) {
        report.doubt(
            SUBJECT,
            "EVENTGRID_TOPIC_KEY is not set, and the local Event Grid wants its key",
            "EVENTGRID_TOPIC_KEY=local-development",
        );
    }
    if matches!(settings.payments, PaymentProvider::Stripe { .. }) && !is_test_key(source) {
        let what = "STRIPE_API_KEY is no test key: orders on this machine charge real money";
        report.doubt(SUBJECT, what, "use a test key (sk_test_…, rk_test_…)");
    }
}

fn anywhere(settings: &Settings, source: &Source, report: &mut Report) {
    if settings.topic_endpoint.path() != "/api/events" {
        report.doubt(
            SUBJECT,
            &format!(
                "EVENTGRID_TOPIC_ENDPOINT has the path {}, and that of a topic is /api/events",
                settings.topic_endpoint.path()
            ),
            "az eventgrid topic show -n TOPIC -g GROUP --query endpoint",
        );
    }
    if settings.payments == PaymentProvider::Simulated && source.get("STRIPE_API_KEY").is_some() {
        report.doubt(
            SUBJECT,
            "STRIPE_API_KEY is set, and PAYMENT_PROVIDER is simulated: the key is not used",
            "set PAYMENT_PROVIDER=stripe, or remove the key",
        );
    }
}

fn is_test_key(source: &Source) -> bool {
    let test = |key: &str| key.trim().starts_with("sk_test_") || key.trim().starts_with("rk_test_");
    source.get("STRIPE_API_KEY").is_some_and(test)
}
