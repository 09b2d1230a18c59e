//! The files that are made from the code. `orderflow check` compares them with what stands in the repository,
//! `orderflow check --write` writes them.
//!
//! Each submodule makes one kind of file from the registry and from the types behind it. Nothing in them is written by
//! hand but what no type can say, such as a title.

mod asyncapi;
mod choreography;
pub mod compatibility;
mod function_json;
mod openapi;
mod released;
mod samples;
mod schemas;
mod subscriptions;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub use released::release;
pub use samples::{new_order, sample_path};
pub use schemas::schema_path;

/// The folders in which everything is made from the code.
const OWN_FOLDERS: [&str; 3] = ["functions", "samples", "schemas"];

/// A file, or a part of one, made from the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Where it stands, below the repository's root.
    pub path: PathBuf,
    /// What it holds.
    pub content: String,
    /// How much of the file it is.
    pub extent: Extent,
}

/// How much of a file is made from the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    File,
    /// What stands between two lines of a text that people write.
    Between(&'static str, &'static str),
}

impl Artifact {
    fn json(path: impl Into<PathBuf>, value: &Value) -> Self {
        Self {
            path: path.into(),
            content: format!("{value:#}\n"),
            extent: Extent::File,
        }
    }

    /// What the file is to hold, where it holds `found` now; `None` when it lacks the lines that enclose this part.
    fn within(&self, found: Option<&str>) -> Option<String> {
        match self.extent {
            Extent::File => Some(self.content.clone()),
            Extent::Between(begin, end) => {
                let (before, rest) = found?.split_once(begin)?;
                let (_, after) = rest.split_once(end)?;
                Some(format!("{before}{begin}\n{}{end}{after}", self.content))
            }
        }
    }
}

/// In what the files differ from what the code says, or the code from what was released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing(PathBuf),
    /// It holds something else.
    Stale(PathBuf),
    /// It lacks the two lines between which something belongs.
    Unmarked(PathBuf, &'static str, &'static str),
    /// Nothing in the code asks for it.
    Stray(PathBuf),
    /// It is not what it must be to be compared.
    Unreadable(PathBuf, String),
    /// The event's schema breaks with the one that was released.
    Breaking(PathBuf, compatibility::Break),
    /// An event that was released is gone.
    Withdrawn(PathBuf),
    /// An HTTP function has no row among the API's operations.
    Undescribed(&'static str),
}

impl Difference {
    /// Whether [`write()`] mends it.
    pub fn is_mended_by_write(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Stale(_) => true,
            Self::Unmarked(..)
            | Self::Stray(_)
            | Self::Unreadable(..)
            | Self::Breaking(..)
            | Self::Withdrawn(_)
            | Self::Undescribed(_) => false,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(formatter, "{}: is missing", path.display()),
            Self::Stale(path) => write!(
                formatter,
                "{}: differs from what the code says",
                path.display()
            ),
            Self::Unmarked(path, begin, end) => write!(
                formatter,
                "{}: must have the lines {begin} and {end}",
                path.display()
            ),
            Self::Stray(path) => write!(
                formatter,
                "{}: the code knows no such thing",
                path.display()
            ),
            Self::Unreadable(path, problem) => write!(formatter, "{}: {problem}", path.display()),
            Self::Breaking(path, change) => write!(
                formatter,
                "{}: breaks with the released version: {change}",
                path.display()
            ),
            Self::Withdrawn(path) => write!(
                formatter,
                "{}: was released, and nobody publishes it any more; keep the event, or delete this file once nobody \
                 listens to it and none is under way",
                path.display()
            ),
            Self::Undescribed(function) => write!(
                formatter,
                "{function}: an HTTP function without an operation in src/handler/api.rs"
            ),
        }
    }
}

/// Every file that is made from the code.
pub fn all() -> Vec<Artifact> {
    let mut artifacts = function_json::all();
    artifacts.extend(samples::all());
    artifacts.push(subscriptions::artifact());
    artifacts.extend(schemas::all());
    artifacts.push(asyncapi::artifact());
    artifacts.push(openapi::artifact());
    artifacts.push(choreography::artifact());
    artifacts
}

/// Compares the files below `root` with what the code says, and the schemas of the events with those that were released.
///
/// # Errors
/// A folder or a file cannot be read.
pub fn differences(root: &Path) -> io::Result<Vec<Difference>> {
    let artifacts = all();
    let mut differences: Vec<_> = openapi::undescribed()
        .map(Difference::Undescribed)
        .collect();
    for artifact in &artifacts {
        let path = artifact.path.clone();
        let found = read(&root.join(&path))?;
        let expected = artifact.within(found.as_deref());
        match (artifact.extent, found, expected) {
            (_, None, _) => differences.push(Difference::Missing(path)),
            (Extent::Between(begin, end), _, None) => {
                differences.push(Difference::Unmarked(path, begin, end));
            }
            (_, found, expected) if found == expected => {}
            _ => differences.push(Difference::Stale(path)),
        }
    }
    // A folder without a route would be invoked in vain, and its events redelivered for a day.
    for folder in OWN_FOLDERS {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten() {
            let path = Path::new(folder).join(entry?.file_name());
            let known = path == Path::new(released::FOLDER)
                || artifacts
                    .iter()
                    .any(|artifact| artifact.path.starts_with(&path));
            if !known {
                differences.push(Difference::Stray(path));
            }
        }
    }
    differences.extend(released::differences(root)?);
    Ok(differences)
}

/// Writes every file below `root` that differs from what the code says. Returns their paths.
///
/// # Errors
/// A file cannot be read or written.
pub fn write(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for artifact in all() {
        let path = root.join(&artifact.path);
        let found = read(&path)?;
        let expected = artifact.within(found.as_deref());
        if let Some(content) = expected.filter(|expected| found.as_ref() != Some(expected)) {
            put(&path, &content)?;
            written.push(artifact.path);
        }
    }
    Ok(written)
}

/// A file's text; `None` when there is no such file.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("{}: {error}", path.display()),
        )),
    }
}

/// Writes a file, and makes its folder where there is none.
fn put(path: &Path, content: &str) -> io::Result<()> {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, content));
    written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The name of an event type in files: `order-placed` for `Sales.OrderPlaced`.
fn file_name(event_type: &str) -> String {
    let mut name = String::new();
    for letter in crate::events::short_name(event_type).chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}
