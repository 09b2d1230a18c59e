//! `orderflow package`: what to package, and what came of it, for a person.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::package::{Package, binary::IMAGE_GLIBC};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The folder to make
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,

    /// The handler to stage [default: this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,

    /// Write DIR.zip, too: what is deployed
    ///
    /// It has the handler with the right to be executed, and no local.settings.json. The same files make the same bytes.
    #[arg(long, conflicts_with = "local")]
    zip: bool,

    /// For `func start` on this machine only: take any handler that runs here
    #[arg(long)]
    local: bool,

    /// Do not start the handler, on a machine that does not run programs for x86-64 Linux
    #[arg(long)]
    untried: bool,
}

/// Packages the repository in the current folder.
///
/// # Errors
/// Why nothing was packaged.
pub(super) async fn run(options: Options) -> Result<(), String> {
    let Options {
        out,
        binary,
        zip,
        local,
        untried,
    } = options;
    let binary = binary.map_or_else(this_program, Ok);
    let package = Package {
        root: PathBuf::from("."),
        binary: binary.map_err(|error| format!("cannot find this program: {error}"))?,
        zip: zip.then(|| beside(&out)),
        out,
        local,
        untried,
    };
    let made = package.make().await.map_err(|error| error.to_string())?;
    let out = package.out.display();
    if let Some(fit) = made.fit {
        let needs = fit.glibc.map_or_else(
            || "linked statically".to_owned(),
            |glibc| format!("glibc {glibc} (there is {IMAGE_GLIBC})"),
        );
        println!("fit for Azure  x86-64, {needs}, stripped, not a debug build");
    }
    println!(
        "staged         {out}: host.json, the handler ({}), {} functions",
        mebibytes(made.handler_size),
        made.functions
    );
    match made.trial {
        Some(trial) => println!(
            "tried          in a clean environment: {} of {} functions answered, {} ms",
            trial.functions,
            made.functions,
            trial.took.as_millis()
        ),
        None => println!("not tried      the handler was not started"),
    }
    if let (Some(zip), Some(size)) = (&package.zip, made.zip_size) {
        println!("zipped         {}: {}", zip.display(), mebibytes(size));
    }
    println!("start it       func start --script-root {out}");
    if !local {
        println!(
            "publish it     func azure functionapp publish APP --custom --no-build --script-root {out}"
        );
    }
    if let Some(zip) = &package.zip {
        println!(
            "or deploy it   az functionapp deployment source config-zip --resource-group GROUP --name APP --src {}",
            zip.display()
        );
    }
    Ok(())
}

/// The path of this program, as short as a person would write it.
fn this_program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let here = std::env::current_dir()?;
    Ok(program
        .strip_prefix(here)
        .map_or_else(|_| program.clone(), Path::to_path_buf))
}

/// The zip of a folder: beside it, under its name.
fn beside(out: &Path) -> PathBuf {
    // Without a slash at the end.
    let mut zip = OsString::from(out.components().as_path());
    zip.push(".zip");
    PathBuf::from(zip)
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / (1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zip_is_beside_its_folder() {
        for out in ["build/dist", "build/dist/"] {
            assert_eq!(beside(Path::new(out)), Path::new("build/dist.zip"));
        }
    }
}
