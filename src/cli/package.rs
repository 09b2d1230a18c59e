//! `orderflow package`: stages the folder that the Functions host and Core Tools want.
//!
//! The host finds functions only in direct subfolders beside host.json, so `functions/<name>` becomes `<name>`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    artifacts,
    functions::{FUNCTIONS, Function},
};

/// What host.json names as `defaultExecutablePath`, character for character: Core Tools gives only that entry of the
/// package the right to be executed.
const EXECUTABLE: &str = "orderflow";

/// Files beside host.json that go along.
const SETTINGS: [&str; 2] = ["host.json", "local.settings.json"];

/// Stages `out` from the current folder, with `binary` (this program when `None`) as the handler.
///
/// # Errors
/// One line: what is missing or cannot be written.
pub(super) fn run(out: &Path, binary: Option<PathBuf>) -> Result<(), String> {
    let differences =
        artifacts::differences(Path::new(".")).map_err(|error| format!("cannot read: {error}"))?;
    if let Some(difference) = differences.first() {
        return Err(format!("{difference}; run `orderflow check --write` first"));
    }
    let host = fs::read_to_string("host.json")
        .map_err(|error| format!("cannot read host.json: {error}"))?;
    let host: serde_json::Value =
        serde_json::from_str(&host).map_err(|error| format!("host.json: {error}"))?;
    let path = host.pointer("/customHandler/description/defaultExecutablePath");
    if path.and_then(|path| path.as_str()) != Some(EXECUTABLE) {
        return Err(format!(
            "host.json: customHandler.description.defaultExecutablePath must be {EXECUTABLE:?}"
        ));
    }
    let this =
        std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let binary = binary.unwrap_or(this);
    stage(out, &binary).map_err(|error| format!("cannot stage {}: {error}", out.display()))?;
    let size = fs::metadata(out.join(EXECUTABLE))
        .map(|metadata| metadata.len())
        .unwrap_or_default();
    println!(
        "{}: host.json, {EXECUTABLE} ({} KiB), {} functions",
        out.display(),
        size / 1024,
        FUNCTIONS.len()
    );
    if cfg!(debug_assertions) {
        println!("this is a debug build; for Azure, package with `cargo run --release -- package`");
    }
    println!("try it:     func start --script-root {}", out.display());
    println!(
        "publish it: func azure functionapp publish APP --custom --no-build --script-root {}",
        out.display()
    );
    Ok(())
}

/// What is never published: what the handler keeps when it runs from there.
const IGNORED: &str = ".orderflow\n";

fn stage(out: &Path, binary: &Path) -> io::Result<()> {
    fs::create_dir_all(out)?;
    remove_former_functions(out)?;
    fs::write(out.join(".funcignore"), IGNORED)?;
    for function in FUNCTIONS {
        let folder = out.join(function.name);
        fs::create_dir_all(&folder)?;
        copy(
            &Path::new("functions")
                .join(function.name)
                .join("function.json"),
            &folder.join("function.json"),
        )?;
    }
    for file in SETTINGS {
        copy(Path::new(file), &out.join(file))?;
    }
    // A handler that runs from there must not be written over while it is being read.
    let staged = out.join(".orderflow.new");
    copy(binary, &staged)?;
    fs::rename(staged, out.join(EXECUTABLE))
}

/// A folder that an earlier version staged would be deployed without a route behind it, and its events redelivered
/// for a day.
fn remove_former_functions(out: &Path) -> io::Result<()> {
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.join("function.json").is_file() && Function::named(name).is_none() {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", from.display())))
}
