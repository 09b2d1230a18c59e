//! Dead letters as files.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// How many levels of folders lie above a file.
const DEPTH: usize = 5;

/// A folder, which need not exist yet.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Whether files can be written to it. Makes it.
    pub(super) async fn check(&self) -> io::Result<()> {
        let folder = self.path.clone();
        blocking(move || {
            fs::create_dir_all(&folder)?;
            let trial = folder.join(".trial");
            File::create(&trial)?;
            fs::remove_file(&trial)
        })
        .await
    }

    /// Writes a file, to disk.
    pub(super) async fn put(&self, name: &str, text: Vec<u8>) -> io::Result<()> {
        let file = self.path.join(name);
        blocking(move || write(&file, &text)).await
    }

    /// The names of the files that changed last.
    pub(super) async fn newest(&self, limit: usize) -> io::Result<Vec<String>> {
        let folder = self.path.clone();
        blocking(move || {
            let mut files = Vec::new();
            match collect(&folder, DEPTH, &mut files) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                collected => collected?,
            }
            files.sort_by(|one, other| other.cmp(one));
            files.truncate(limit);
            let names = files.iter().filter_map(|(_, file)| {
                let below = file.strip_prefix(&folder).ok()?;
                Some(below.to_string_lossy().into_owned())
            });
            Ok(names.collect())
        })
        .await
    }

    /// The text of a file.
    pub(super) async fn get(&self, name: &str) -> io::Result<Option<String>> {
        let file = self.path.join(name);
        blocking(move || match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some),
        })
        .await
    }

    /// Removes a file.
    pub(super) async fn remove(&self, name: &str) -> io::Result<()> {
        let file = self.path.join(name);
        blocking(move || fs::remove_file(file)).await
    }

    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // The rename makes the file appear whole or not at all.
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(draft, path)
}

/// Collects the JSON files `depth` levels below `folder`, with the time of their last change.
fn collect(folder: &Path, depth: usize, files: &mut Vec<(SystemTime, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let path = entry.path();
        if metadata.is_dir() && depth > 0 {
            collect(&path, depth - 1, files)?;
        } else if metadata.is_file()
            && path
                .extension()
                .is_some_and(|extension| extension == "json")
        {
            files.push((metadata.modified()?, path));
        }
    }
    Ok(())
}
