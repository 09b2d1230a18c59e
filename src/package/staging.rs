//! The folder that the Functions host and Core Tools want.
//!
//! The host finds functions only in direct subfolders beside host.json, so `functions/<name>` becomes `<name>`.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::EXECUTABLE;
use crate::functions::{FUNCTIONS, Function};

/// Files beside host.json that go along.
const SETTINGS: [&str; 2] = ["host.json", "local.settings.json"];

/// What Core Tools do not publish: what the handler keeps when it runs from there.
const IGNORED: &str = ".orderflow\n";

/// What is deployed of a staged folder, below it, in the order of its names. local.settings.json is not: it is for
/// `func start` alone.
pub(super) fn deployed() -> Vec<PathBuf> {
    let definitions = FUNCTIONS
        .iter()
        .map(|function| Path::new(function.name).join("function.json"));
    let mut files: Vec<_> = definitions.collect();
    files.extend([EXECUTABLE, "host.json"].map(PathBuf::from));
    files.sort();
    files
}

/// Makes `out` from the repository at `root`, with `binary` as the handler.
pub(super) fn stage(root: &Path, out: &Path, binary: &Path) -> io::Result<()> {
    fs::create_dir_all(out)?;
    // Copying a file onto itself would empty it.
    if fs::canonicalize(out)? == fs::canonicalize(root)? {
        return Err(io::Error::other(
            "it must be another folder than the repository's",
        ));
    }
    remove_former_functions(out)?;
    fs::write(out.join(".funcignore"), IGNORED)?;
    for function in FUNCTIONS {
        let folder = out.join(function.name);
        fs::create_dir_all(&folder)?;
        let definition = Path::new("functions")
            .join(function.name)
            .join("function.json");
        copy(&root.join(definition), &folder.join("function.json"))?;
    }
    for file in SETTINGS {
        copy(&root.join(file), &out.join(file))?;
    }
    // A handler that runs from there must not be written over while it is being read.
    let staged = out.join(".orderflow.new");
    copy(binary, &staged)?;
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o755))?;
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
