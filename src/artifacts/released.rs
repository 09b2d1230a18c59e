//! `schemas/released/<event>.json`: the schemas as the last release published them, kept to be compared with.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::functions::catalogue;

use super::{Artifact, Difference, compatibility::breaks, file_name, put, read, schemas};

/// Where the released schemas stand.
pub(super) const FOLDER: &str = "schemas/released";

/// Every event whose schema breaks with the released one.
///
/// # Errors
/// The folder or a file cannot be read.
pub(super) fn differences(root: &Path) -> io::Result<Vec<Difference>> {
    let mut names = match fs::read_dir(root.join(FOLDER)) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    names.sort();
    let mut differences = Vec::new();
    for name in names {
        let path = Path::new(FOLDER).join(&name);
        let current = catalogue().find(|known| path == released_path(known.name));
        let Some(current) = current else {
            differences.push(Difference::Withdrawn(path));
            continue;
        };
        let text = read(&root.join(&path))?.unwrap_or_default();
        match serde_json::from_str::<Value>(&text) {
            Ok(released) => {
                let breaks = breaks(&released, &schemas::schema(current)).into_iter();
                let path = schemas::schema_path(current.name);
                differences.extend(breaks.map(|change| Difference::Breaking(path.clone(), change)));
            }
            Err(error) => {
                let problem = format!("must be a JSON Schema: {error}");
                differences.push(Difference::Unreadable(path, problem));
            }
        }
    }
    Ok(differences)
}

/// Keeps the schemas of all events below `root` as the released ones. Returns the paths of those that changed.
///
/// # Errors
/// A file cannot be read or written.
pub fn release(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for event_type in catalogue() {
        let path = released_path(event_type.name);
        let artifact = Artifact::json(path.clone(), &schemas::schema(event_type));
        if read(&root.join(&path))?.as_ref() != Some(&artifact.content) {
            put(&root.join(&path), &artifact.content)?;
            written.push(path);
        }
    }
    Ok(written)
}

fn released_path(event_type: &str) -> PathBuf {
    Path::new(FOLDER)
        .join(file_name(event_type))
        .with_extension("json")
}
