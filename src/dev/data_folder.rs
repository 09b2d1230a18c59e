//! The data folder: what lies where in it, and that one process at a time uses it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::DevError;

/// How long a lock that somebody holds is tried for, and how often.
const LET_GO: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(10);

/// The data folder, held by this process until the value is dropped.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    /// The lock is let go by the operating system when the file is closed, so a killed process leaves none behind.
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if need be, checks that it can be written and takes it for this process.
    pub(super) fn open(path: &Path) -> Result<Self, DevError> {
        let unusable = |cause| DevError::DataFolder {
            path: path.to_path_buf(),
            cause,
        };
        fs::create_dir_all(path).map_err(unusable)?;
        // The handler runs in a working directory of its own choice; it gets absolute paths.
        let path = fs::canonicalize(path).map_err(unusable)?;
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        match lock_soon(&lock) {
            Ok(()) => {
                let folder = Self { path, _lock: lock };
                // A killed process leaves its announcement behind.
                folder.withdraw();
                Ok(folder)
            }
            Err(TryLockError::WouldBlock) => Err(DevError::DataFolderInUse { path }),
            Err(TryLockError::Error(cause)) => Err(unusable(cause)),
        }
    }

    /// The events, their deliveries and attempts.
    pub(super) fn grid_database(&self) -> PathBuf {
        self.path.join("grid.db")
    }

    /// What stands in for the dead-letter container.
    pub(super) fn dead_letters(&self) -> PathBuf {
        self.path.join("deadletters")
    }

    /// What the handler wrote.
    pub(super) fn handler_log(&self) -> PathBuf {
        self.path.join("handler.log")
    }

    /// Where the stand-ins listen, for other commands to find them. There only while they run.
    pub(super) fn endpoints(&self) -> PathBuf {
        self.path.join("endpoints.json")
    }

    /// Says where the stand-ins listen.
    pub(super) fn announce(&self, host: &str, grid: &str) -> io::Result<()> {
        let endpoints = serde_json::json!({"host": host, "grid": grid});
        // The rename makes the file appear whole or not at all.
        let draft = self.endpoints().with_extension("draft");
        fs::write(&draft, format!("{endpoints}\n"))?;
        fs::rename(draft, self.endpoints())
    }

    /// Says that the stand-ins listen no more.
    pub(super) fn withdraw(&self) {
        // An error means that nothing was announced.
        drop(fs::remove_file(self.endpoints()));
    }
}

/// Whoever starts again at once after a kill finds the lock held for a moment more: by what the killed process was starting.
fn lock_soon(file: &File) -> Result<(), TryLockError> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if started.elapsed() < LET_GO => thread::sleep(AGAIN),
            locked => return locked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_uses_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataFolder::open(folder.path()).unwrap();
        assert!(matches!(
            DataFolder::open(folder.path()),
            Err(DevError::DataFolderInUse { .. })
        ));
        drop(held);
        assert!(DataFolder::open(folder.path()).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataFolder::open(&file.join("below"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("file/below") && error.contains("--data"),
            "{error}"
        );
    }
}
