//! `orderflow package`: the folder that the Functions host and Core Tools want, and the zip that is deployed.
//!
//! - [`binary`]: whether a program would start in Azure
//! - `staging`: the folder
//! - [`trial`]: starts what was staged, and sends every function one invocation
//! - `archive`: the zip

mod archive;
pub mod binary;
mod staging;
pub mod trial;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use crate::{artifacts, functions::FUNCTIONS};

use self::{
    binary::{Fit, Unfit},
    trial::{Trial, TrialError},
};

/// What host.json names as `defaultExecutablePath`, character for character: Core Tools give only that entry of the
/// package the right to be executed.
pub const EXECUTABLE: &str = "orderflow";

/// What a debug build says of itself after its version.
pub const DEBUG_BUILD: &str = "(debug build)";

/// How to make a program that is fit for Azure.
const REMEDY: &str = "build with infra/build-portable and package that, or use --local to stage for `func start` \
                      on this machine";

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to package.
#[derive(Debug, Clone)]
pub struct Package {
    /// The repository's root, with host.json and `functions/`.
    pub root: PathBuf,
    /// The folder to stage.
    pub out: PathBuf,
    /// The program that becomes the handler.
    pub binary: PathBuf,
    /// For `func start` on this machine only: any program that runs here will do.
    pub local: bool,
    /// Does not start the program, for a machine that cannot.
    pub untried: bool,
    /// The zip to write, if any.
    pub zip: Option<PathBuf>,
}

/// What was made.
#[derive(Debug, Clone, Copy)]
pub struct Packaged {
    /// What the handler needs of Azure; `None` when it was not asked.
    pub fit: Option<Fit>,
    /// The size of the handler, in bytes.
    pub handler_size: u64,
    /// How many functions the app has.
    pub functions: usize,
    /// What the staged app has shown; `None` when it was not tried.
    pub trial: Option<Trial>,
    /// The size of the zip, in bytes.
    pub zip_size: Option<u64>,
}

/// Why nothing was packaged.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file that is made from the code is not what the code says.
    #[error("{0}; run `orderflow check --write` first")]
    Outdated(artifacts::Difference),
    /// Something is not readable.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// host.json would not start the handler.
    #[error("host.json: {0}")]
    HostJson(String),
    /// The program would not start in Azure.
    #[error("{} is not for Azure: {reason}; {REMEDY}", binary.display())]
    Unfit {
        /// The program.
        binary: PathBuf,
        /// Why not.
        reason: Unfit,
    },
    /// The program may be fit, but it cannot be started on this machine.
    #[error(
        "{} cannot be started here: {cause}; on a machine that runs no programs for x86-64 Linux, use --untried",
        binary.display()
    )]
    NotRunnable {
        /// The program.
        binary: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The folder cannot be written.
    #[error("cannot stage {}: {cause}", out.display())]
    Staging {
        /// The folder.
        out: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The staged app does not work.
    #[error("{} does not work: {cause}", out.display())]
    Trial {
        /// The folder.
        out: PathBuf,
        /// What does not.
        cause: TrialError,
    },
    /// The zip cannot be written.
    #[error("cannot write {}: {cause}", zip.display())]
    Archive {
        /// The zip.
        zip: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
}

impl Package {
    /// Checks the program, stages the folder, tries what was staged, and writes the zip.
    ///
    /// # Errors
    /// The first thing that is wrong. A program that is not fit leaves the folder as it was, an app that does not work
    /// an earlier zip.
    pub async fn make(&self) -> Result<Packaged, PackageError> {
        self.check_sources()?;
        let fit = if self.local {
            None
        } else {
            Some(self.check_binary().await?)
        };
        let (out, zip) = (&self.out, &self.zip);
        staging::stage(&self.root, out, &self.binary).map_err(|cause| PackageError::Staging {
            out: out.clone(),
            cause,
        })?;
        let trial = if self.untried {
            None
        } else {
            let tried = trial::run(out).await;
            Some(tried.map_err(|cause| PackageError::Trial {
                out: out.clone(),
                cause,
            })?)
        };
        let write = |zip: &PathBuf| {
            archive::write(out, zip).map_err(|cause| PackageError::Archive {
                zip: zip.clone(),
                cause,
            })
        };
        Ok(Packaged {
            fit,
            handler_size: size(&self.binary)?,
            functions: FUNCTIONS.len(),
            trial,
            zip_size: zip.as_ref().map(write).transpose()?,
        })
    }

    fn check_sources(&self) -> Result<(), PackageError> {
        let differences =
            artifacts::differences(&self.root).map_err(|cause| unreadable(&self.root, cause))?;
        if let Some(difference) = differences.into_iter().next() {
            return Err(PackageError::Outdated(difference));
        }
        let path = self.root.join("host.json");
        let host = fs::read_to_string(&path).map_err(|cause| unreadable(&path, cause))?;
        let host: serde_json::Value = serde_json::from_str(&host)
            .map_err(|error| PackageError::HostJson(error.to_string()))?;
        let pointer = "/customHandler/description/defaultExecutablePath";
        let executable = host.pointer(pointer).and_then(|path| path.as_str());
        if executable == Some(EXECUTABLE) {
            return Ok(());
        }
        Err(PackageError::HostJson(format!(
            "customHandler.description.defaultExecutablePath must be {EXECUTABLE:?}, and it is {:?}",
            executable.unwrap_or_default()
        )))
    }

    async fn check_binary(&self) -> Result<Fit, PackageError> {
        let binary = &self.binary;
        let unfit = |reason| PackageError::Unfit {
            binary: binary.clone(),
            reason,
        };
        let fit = binary::check(binary)
            .map_err(|cause| unreadable(binary, cause))?
            .map_err(unfit)?;
        if self.untried {
            return Ok(fit);
        }
        match says_debug_build(binary).await {
            Ok(false) => Ok(fit),
            Ok(true) => Err(unfit(Unfit::DebugBuild)),
            Err(cause) => Err(PackageError::NotRunnable {
                binary: binary.clone(),
                cause,
            }),
        }
    }
}

/// Whether a program is a debug build, stripped or not: only the program itself knows how it was built.
async fn says_debug_build(program: &Path) -> io::Result<bool> {
    let version = Command::new(fs::canonicalize(program)?)
        .arg("--version")
        .env_clear()
        .kill_on_drop(true)
        .output();
    let version = timeout(PATIENCE, version).await??;
    Ok(String::from_utf8_lossy(&version.stdout).contains(DEBUG_BUILD))
}

fn size(path: &Path) -> Result<u64, PackageError> {
    let metadata = fs::metadata(path).map_err(|cause| unreadable(path, cause))?;
    Ok(metadata.len())
}

fn unreadable(path: &Path, cause: io::Error) -> PackageError {
    PackageError::Unreadable {
        path: path.to_owned(),
        cause,
    }
}
