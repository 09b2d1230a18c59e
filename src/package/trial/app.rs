//! What the host reads of an app's folder: which program it starts, and which functions there are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

/// An app as the host sees it.
#[derive(Debug)]
pub(super) struct App {
    /// Its folder, as a full path.
    pub(super) folder: PathBuf,
    /// The handler, as a full path.
    pub(super) program: PathBuf,
    /// What the handler is started with.
    pub(super) arguments: Vec<String>,
    /// Its functions: first those that take events, then those that answer requests, so that there is something to ask
    /// for.
    pub(super) functions: Vec<AppFunction>,
}

/// A function of the app: a folder with a function.json.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AppFunction {
    pub(super) trigger: Trigger,
    /// The name of its folder.
    pub(super) name: String,
}

/// What starts a function.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trigger {
    /// An event of Event Grid, under the name of its binding.
    Event { binding: String },
    /// A request below `/api/`.
    Http { method: String, route: String },
    /// The clock, under the name of its binding.
    Timer { binding: String },
}

impl App {
    /// Reads the app in a folder.
    ///
    /// # Errors
    /// One line: what the host would not understand.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let unreadable = |error| format!("{}: {error}", folder.display());
        let folder = fs::canonicalize(folder).map_err(unreadable)?;
        let host: HostJson = read_json(&folder.join("host.json"))?;
        let description = host.custom_handler.description;
        let mut functions = Vec::new();
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let definition = entry.path().join("function.json");
            if definition.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let trigger = trigger(&name, &definition)?;
                functions.push(AppFunction { trigger, name });
            }
        }
        if functions.is_empty() {
            return Err(format!(
                "{}: no folder with a function.json, so the host would not start the handler",
                folder.display()
            ));
        }
        functions.sort();
        Ok(Self {
            program: folder.join(description.default_executable_path),
            arguments: description.arguments,
            functions,
            folder,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostJson {
    custom_handler: CustomHandler,
}

#[derive(Debug, Deserialize)]
struct CustomHandler {
    description: Description,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    default_executable_path: String,
    #[serde(default)]
    arguments: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct FunctionJson {
    bindings: Vec<Binding>,
}

#[derive(Debug, Deserialize)]
struct Binding {
    r#type: String,
    name: String,
    #[serde(default)]
    methods: Vec<String>,
    route: Option<String>,
}

fn trigger(function: &str, definition: &Path) -> Result<Trigger, String> {
    let FunctionJson { bindings } = read_json(definition)?;
    let triggers = bindings
        .into_iter()
        .filter(|binding| binding.r#type.ends_with("Trigger"));
    let [binding] = <[Binding; 1]>::try_from(triggers.collect::<Vec<_>>()).map_err(|found| {
        format!(
            "{}: one trigger was expected, and there are {}",
            definition.display(),
            found.len()
        )
    })?;
    match binding.r#type.as_str() {
        "eventGridTrigger" => Ok(Trigger::Event {
            binding: binding.name,
        }),
        "timerTrigger" => Ok(Trigger::Timer {
            binding: binding.name,
        }),
        "httpTrigger" => Ok(Trigger::Http {
            method: binding
                .methods
                .first()
                .map_or_else(|| "GET".to_owned(), |method| method.to_ascii_uppercase()),
            route: binding.route.unwrap_or_else(|| function.to_owned()),
        }),
        other => Err(format!(
            "{}: eventGridTrigger, httpTrigger or timerTrigger was expected, and it is a {other}",
            definition.display()
        )),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}
