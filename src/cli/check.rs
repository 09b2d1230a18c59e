//! `orderflow check`: whether the files that are made from the code are up to date, and whether the event catalogue and
//! the registry fit together.

use std::path::Path;

use crate::{
    artifacts,
    events::CATALOGUE,
    functions::{FUNCTIONS, audit::audit},
};

/// Compares or writes the files below the current folder.
///
/// # Errors
/// One line: which files differ, or what cannot be read or written.
pub(super) fn run(write: bool) -> Result<(), String> {
    let root = Path::new(".");
    if !root.join("host.json").exists() {
        return Err("there is no host.json here; run this in the repository's root".to_owned());
    }
    let misfits = audit(CATALOGUE, FUNCTIONS);
    for misfit in &misfits {
        println!("{misfit}");
    }
    if !misfits.is_empty() {
        return Err(format!("{} faults in the code", misfits.len()));
    }
    if write {
        let count = artifacts::write(root).map_err(|error| format!("cannot write: {error}"))?;
        println!("{count} files written");
    }
    let differences =
        artifacts::differences(root).map_err(|error| format!("cannot read: {error}"))?;
    for difference in &differences {
        println!("{difference}");
    }
    match differences.len() {
        0 => {
            println!("{} files are as the code says", artifacts::all().len());
            Ok(())
        }
        count => Err(format!(
            "{count} files differ; `orderflow check --write` makes them anew"
        )),
    }
}
