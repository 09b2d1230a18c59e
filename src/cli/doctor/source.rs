//! Where the settings come from: the environment, or what `az` exported.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::app::App;
use crate::config;

/// A file larger than this is not what it is taken for.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The settings of this machine or of a deployed app.
pub(super) struct Source {
    values: BTreeMap<String, String>,
    from: Vec<String>,
    /// What `az functionapp show` said.
    pub(super) app: Option<App>,
    /// Whether this is about an app in Azure and not about this machine.
    pub(super) deployed: bool,
}

/// An element of what `az functionapp config appsettings list` prints.
#[derive(Deserialize)]
struct AppSetting {
    name: String,
    // A setting whose value may not be seen is null.
    value: Option<String>,
}

/// A file, by what it holds.
enum Export {
    AppSettings(Vec<AppSetting>),
    LocalSettings(BTreeMap<String, String>),
    App(App),
}

impl Source {
    /// Reads the files, or else the environment over the folder's local.settings.json, as Core Tools does.
    ///
    /// # Errors
    /// One line: a file cannot be read, or is none of those that are expected.
    pub(super) fn read(files: &[PathBuf], folder: &Path) -> Result<Self, String> {
        let mut source = Self {
            values: BTreeMap::new(),
            from: Vec::new(),
            app: None,
            deployed: false,
        };
        let local = folder.join("local.settings.json");
        if files.is_empty() && local.exists() {
            source.take(&local)?;
        }
        for file in files {
            source.take(file)?;
        }
        if files.is_empty() {
            source.from.push("the environment".to_owned());
            for name in config::NAMES {
                if let Some(value) = config::environment(name) {
                    source.values.insert(name.to_owned(), value);
                }
            }
        }
        Ok(source)
    }

    fn take(&mut self, file: &Path) -> Result<(), String> {
        match read(file)? {
            Export::AppSettings(settings) => {
                self.deployed = true;
                let known = settings
                    .into_iter()
                    .filter_map(|setting| Some((setting.name, setting.value?)));
                self.values.extend(known);
            }
            Export::LocalSettings(values) => self.values.extend(values),
            Export::App(app) => {
                self.deployed = true;
                self.app = Some(app);
            }
        }
        let name = file.display().to_string();
        self.from
            .push(name.strip_prefix("./").map_or(name.clone(), str::to_owned));
        Ok(())
    }

    /// A setting's value, unless it is empty, which counts as unset.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name)?;
        Some(value.as_str()).filter(|value| !value.trim().is_empty())
    }

    /// The names of all settings.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Whether there are any settings: not if only the app itself was exported.
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Where the settings come from, for people.
    pub(super) fn description(&self) -> String {
        let whose = if self.deployed {
            "a deployed app"
        } else {
            "this machine"
        };
        format!("{whose}, by {}", self.from.join(" and "))
    }
}

fn read(file: &Path) -> Result<Export, String> {
    let name = file.display();
    let size = fs::metadata(file)
        .map_err(|error| format!("cannot read {name}: {error}"))?
        .len();
    if size > MAX_FILE {
        return Err(format!(
            "{name}: expected at most {MAX_FILE} bytes, came {size}"
        ));
    }
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    // Windows PowerShell writes a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    // The error of the conversion may quote a value, so it is not told beyond its place.
    let value: Value = serde_json::from_str(text).map_err(|error| {
        format!(
            "{name}: not JSON (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    let export = if value.is_array() {
        serde_json::from_value(value).ok().map(Export::AppSettings)
    } else if let Some(values) = value.get("Values") {
        BTreeMap::deserialize(values)
            .ok()
            .map(Export::LocalSettings)
    } else {
        App::read(&value).map(Export::App)
    };
    export.ok_or_else(|| {
        format!(
            "{name}: expected what `az functionapp config appsettings list -o json` or `az functionapp show -o json` \
             prints, or a local.settings.json"
        )
    })
}
