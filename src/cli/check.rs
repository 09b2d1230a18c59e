//! `orderflow check`: whether the files that are made from the code are up to date, whether the registry's rows fit
//! together, and whether the events still fit those that were released.

use std::path::Path;

use crate::{
    artifacts,
    functions::{FUNCTIONS, audit::audit},
};

/// What to compare, and what to write.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Write what differs anew
    #[arg(long)]
    write: bool,

    /// Keep the events' schemas as the released ones, in schemas/released, unless they break with those there
    #[arg(long)]
    release: bool,
}

/// Compares or writes the files below the current folder.
///
/// # Errors
/// One line: how much differs, or what cannot be read or written.
pub(super) fn run(check: &Check) -> Result<(), String> {
    let root = Path::new(".");
    if !root.join("host.json").exists() {
        return Err("there is no host.json here; run this in the repository's root".to_owned());
    }
    let misfits = audit(FUNCTIONS);
    for misfit in &misfits {
        println!("{misfit}");
    }
    if !misfits.is_empty() {
        return Err(format!("{} faults in the code", misfits.len()));
    }
    if check.write {
        let written = artifacts::write(root).map_err(|error| format!("cannot write: {error}"))?;
        for path in written {
            println!("{}: written", path.display());
        }
    }
    let differences =
        artifacts::differences(root).map_err(|error| format!("cannot read: {error}"))?;
    for difference in &differences {
        println!("{difference}");
    }
    if !differences.is_empty() {
        let mended = differences
            .iter()
            .filter(|found| found.is_mended_by_write());
        return Err(match (differences.len(), mended.count()) {
            (all, 0) => format!("differences: {all}"),
            (all, some) => {
                format!("differences: {all}; `orderflow check --write` mends {some} of them")
            }
        });
    }
    if check.release {
        let kept = artifacts::release(root).map_err(|error| format!("cannot write: {error}"))?;
        for path in kept {
            println!("{}: released", path.display());
        }
    }
    println!("{} files are as the code says", artifacts::all().len());
    Ok(())
}
