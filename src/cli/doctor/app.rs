//! What `az functionapp show` says of a deployed app: its runtime and its identities.

use serde_json::Value;

use super::{report::Report, source::Source};

/// A deployed app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct App {
    state: Option<String>,
    /// The runtime's name and version: on Flex Consumption, where they are no app setting.
    runtime: Option<(String, String)>,
    /// The client ids of its user-assigned identities.
    client_ids: Vec<String>,
    system_assigned: bool,
}

impl App {
    /// Reads the export, in its older shape or the newer one that has most of it under `properties`.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let at = |path: &str| {
            let nested = format!("/properties{path}");
            value.pointer(path).or_else(|| value.pointer(&nested))
        };
        let text = |path: &str| Some(at(path)?.as_str()?.to_owned());
        if !text("/kind")?.contains("functionapp") {
            return None;
        }
        let identities = at("/identity/userAssignedIdentities").and_then(Value::as_object);
        let client_id = |identity: &Value| Some(identity.get("clientId")?.as_str()?.to_owned());
        let kind_of_identity = text("/identity/type").unwrap_or_default();
        Some(Self {
            state: text("/state"),
            runtime: text("/functionAppConfig/runtime/name")
                .zip(text("/functionAppConfig/runtime/version")),
            client_ids: identities
                .into_iter()
                .flatten()
                .filter_map(|(_, identity)| client_id(identity))
                .collect(),
            system_assigned: kind_of_identity.contains("SystemAssigned"),
        })
    }

    /// Whether the app runs on Flex Consumption.
    pub(super) fn is_flex(&self) -> bool {
        self.runtime.is_some()
    }
}

/// Whether the app can run the handler, and has the identity that its settings name.
pub(super) fn check(source: &Source, report: &mut Report) {
    const SUBJECT: &str = "app";
    let Some(app) = &source.app else {
        if source.deployed {
            let how = "pass the output of `az functionapp show -n APP -g GROUP -o json` to --from as well";
            report.skipped(SUBJECT, how);
        }
        return;
    };
    match app.state.as_deref() {
        None | Some("Running") => {}
        Some(state) => report.fault(
            SUBJECT,
            &format!("its state is {state}"),
            "az functionapp start -n APP -g GROUP",
        ),
    }
    match &app.runtime {
        Some((name, version)) if name == "custom" && version == "1.0" => {
            report.fine(SUBJECT, "Flex Consumption, runtime custom 1.0");
        }
        Some((name, version)) => report.fault(
            SUBJECT,
            &format!("its runtime is {name} {version}, and the handler is a custom one"),
            "deploy infra/main.bicep: functionAppConfig.runtime is {name: 'custom', version: '1.0'}",
        ),
        None => report.doubt(
            SUBJECT,
            "it has no functionAppConfig, so it does not run on Flex Consumption",
            "deploy infra/main.bicep; Linux Consumption ends in September 2028",
        ),
    }
    identity(app, source, report);
}

fn identity(app: &App, source: &Source, report: &mut Report) {
    const SUBJECT: &str = "identity";
    let client_id = source.get("AZURE_CLIENT_ID").map(str::trim);
    match client_id {
        _ if app.client_ids.is_empty() && !app.system_assigned => report.fault(
            SUBJECT,
            "the app has none, so nobody lets it in",
            "az functionapp identity assign -n APP -g GROUP --identities IDENTITY",
        ),
        Some(id) if app.client_ids.iter().any(|known| known.eq_ignore_ascii_case(id)) => {
            report.fine(SUBJECT, "AZURE_CLIENT_ID is that of the app's identity");
        }
        Some(id) => report.fault(
            SUBJECT,
            &format!("AZURE_CLIENT_ID is {id}, and the app has no such identity"),
            &format!("set it to one of: {}", app.client_ids.join(", ")),
        ),
        None if app.system_assigned => report.fine(SUBJECT, "system-assigned"),
        None if source.is_empty() => {}
        None => report.fault(
            SUBJECT,
            "AZURE_CLIENT_ID is not set, and the app has a user-assigned identity only: it gets no token",
            &format!("set it to {}", app.client_ids.join(" or ")),
        ),
    }
}
