//! Dead letters, kept as files in the layout that Event Grid uses in a blob container.
//!
//! `<SUBSCRIPTION>/<YYYY>/<M>/<D>/<H>/<guid>.json`, UTC and without padding, each an array of one event with five members
//! added that say why it was given up. Their names are in lower case in a CloudEvent, whose extensions have no capitals, and in
//! camel case in an Event Grid event.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::schema::Schema;
use crate::dev::ambient::timestamp;

/// How many levels of folders lie above a file.
const DEPTH: usize = 5;

/// The members that a letter adds to its event.
const ADDED: [&str; 5] = [
    "deadLetterReason",
    "deliveryAttempts",
    "lastDeliveryOutcome",
    "publishTime",
    "lastDeliveryAttemptTime",
];
const PUBLISH_TIME: &str = "publishTime";

/// An event that was given up.
#[derive(Debug, Clone)]
pub(super) struct DeadLetter {
    pub(super) subscription: &'static str,
    /// The event's number in the grid.
    pub(super) number: i64,
    pub(super) text: String,
    pub(super) reason: &'static str,
    pub(super) attempts: u32,
    pub(super) last_outcome: &'static str,
    pub(super) accepted_at: DateTime<Utc>,
    pub(super) last_attempt_at: DateTime<Utc>,
    /// That of the event as it was published (inferred: Azure does not say which it is where a subscription has another one).
    pub(super) schema: Schema,
}

impl DeadLetter {
    /// Always the same for the same letter: a grid killed before it noted the letter writes it again.
    fn file_name(&self) -> String {
        file_name(self.subscription, self.number, self.accepted_at)
    }

    fn folder(&self) -> PathBuf {
        let time = self.last_attempt_at;
        [
            self.subscription.to_uppercase(),
            time.year().to_string(),
            time.month().to_string(),
            time.day().to_string(),
            time.hour().to_string(),
        ]
        .iter()
        .collect()
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&self.text)?;
        let values = [
            to_raw_value(self.reason)?,
            to_raw_value(&self.attempts)?,
            to_raw_value(self.last_outcome)?,
            to_raw_value(&timestamp(self.accepted_at))?,
            to_raw_value(&timestamp(self.last_attempt_at))?,
        ];
        let names = ADDED.map(|name| match self.schema {
            Schema::CloudEvents => name.to_ascii_lowercase(),
            Schema::EventGrid => name.to_owned(),
        });
        members.extend(names.into_iter().zip(values));
        Ok(serde_json::to_vec(&[members])?)
    }
}

fn file_name(subscription: &str, number: i64, accepted_at: DateTime<Utc>) -> String {
    let name = format!("{subscription}/{number}/{}", accepted_at.timestamp_millis());
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    format!("{id}.json")
}

/// A dead letter to be replayed.
#[derive(Debug)]
pub(super) struct OpenedLetter {
    file: PathBuf,
    /// The subscription in capitals.
    pub(super) subscription: String,
    /// When the event was accepted.
    pub(super) accepted_at: DateTime<Utc>,
    /// The event without what the letter added to it.
    pub(super) text: String,
}

impl OpenedLetter {
    /// Whether it is the letter of this event.
    pub(super) fn is_of(&self, subscription: &str, number: i64) -> bool {
        let name = file_name(subscription, number, self.accepted_at);
        self.file
            .file_name()
            .is_some_and(|file| file == name.as_str())
    }

    /// Removes it from the folder.
    pub(super) fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.file)
    }
}

/// A dead letter as it lies in the folder.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundLetter {
    /// Where it lies, seen from the folder of dead letters.
    path: String,
    /// The file's content: an array of events.
    events: Box<RawValue>,
}

/// The folder of dead letters.
#[derive(Debug, Clone)]
pub(super) struct DeadLetters {
    folder: PathBuf,
}

impl DeadLetters {
    /// Uses this folder, which need not exist yet.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes a letter to disk; returns its file.
    pub(super) fn keep(&self, letter: &DeadLetter) -> io::Result<PathBuf> {
        let folder = self.folder.join(letter.folder());
        fs::create_dir_all(&folder)?;
        let path = folder.join(letter.file_name());
        // The rename makes the file appear whole or not at all.
        let draft = path.with_extension("draft");
        let mut file = File::create(&draft)?;
        file.write_all(&letter.content()?)?;
        file.sync_all()?;
        fs::rename(draft, &path)?;
        Ok(path)
    }

    /// The newest letters, newest first, within `limit`.
    pub(super) fn list(&self, limit: usize) -> io::Result<Vec<FoundLetter>> {
        let mut files = Vec::new();
        match collect(&self.folder, DEPTH, &mut files) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            collected => collected?,
        }
        files.sort_by(|one, other| other.cmp(one));
        files.truncate(limit);
        // A file that is gone meanwhile, or that is no JSON, is not a dead letter.
        Ok(files
            .iter()
            .filter_map(|(_, path)| self.read(path))
            .collect())
    }

    /// Opens the letter that lies at this path below the folder. `None` when there is none.
    pub(super) fn open(&self, path: &str) -> io::Result<Option<OpenedLetter>> {
        let below = Path::new(path);
        let inside = below
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        let Some(subscription) = below.iter().next().filter(|_| inside) else {
            return Ok(None);
        };
        let file = self.folder.join(below);
        let content = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            content => content?,
        };
        let [mut members]: [BTreeMap<String, Box<RawValue>>; 1] = serde_json::from_str(&content)?;
        let added = |name: &str, added: &str| name.eq_ignore_ascii_case(added);
        let accepted_at = members.iter().find(|(name, _)| added(name, PUBLISH_TIME));
        let accepted_at = accepted_at.map_or("null", |(_, time)| time.get());
        let accepted_at = serde_json::from_str(accepted_at)?;
        members.retain(|name, _| !ADDED.iter().any(|one| added(name, one)));
        Ok(Some(OpenedLetter {
            subscription: subscription.to_string_lossy().into_owned(),
            accepted_at,
            text: serde_json::to_string(&members)?,
            file,
        }))
    }

    fn read(&self, path: &Path) -> Option<FoundLetter> {
        let events = RawValue::from_string(fs::read_to_string(path).ok()?).ok()?;
        let below = path.strip_prefix(&self.folder).ok()?;
        Some(FoundLetter {
            path: below.to_string_lossy().into_owned(),
            events,
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            subscription: "billing",
            number: 7,
            text: r#"{"id":"e-1","data":{"amount": 1.50}}"#.to_owned(),
            reason: "MaxDeliveryAttemptsExceeded",
            attempts: 30,
            last_outcome: "Busy",
            accepted_at: "2026-03-04T05:06:07Z".parse().unwrap(),
            last_attempt_at: "2026-03-04T06:00:00Z".parse().unwrap(),
            schema: Schema::CloudEvents,
        }
    }

    #[test]
    fn a_letter_lies_where_azure_would_put_it() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(folder.path().to_path_buf());
        let path = letters.keep(&letter()).unwrap();
        assert_eq!(
            path.parent().unwrap(),
            folder.path().join("BILLING/2026/3/4/6")
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"[{"data":{"amount": 1.50},"deadletterreason":"MaxDeliveryAttemptsExceeded","deliveryattempts":30,"id":"e-1","lastdeliveryattempttime":"2026-03-04T06:00:00.000Z","lastdeliveryoutcome":"Busy","publishtime":"2026-03-04T05:06:07.000Z"}]"#
        );
        assert_eq!(letters.keep(&letter()).unwrap(), path);
    }

    #[test]
    fn letters_are_listed_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(folder.path().join("none yet"));
        assert!(letters.list(10).unwrap().is_empty());
        let letters = DeadLetters::new(folder.path().to_path_buf());
        let old = letters.keep(&letter()).unwrap();
        let new = letters
            .keep(&DeadLetter {
                number: 8,
                ..letter()
            })
            .unwrap();
        File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        fs::write(new.with_extension("txt"), "not a letter").unwrap();
        let listed = |limit| -> Vec<_> {
            letters
                .list(limit)
                .unwrap()
                .into_iter()
                .map(|found| folder.path().join(found.path))
                .collect()
        };
        assert_eq!(listed(10), [new.clone(), old]);
        assert_eq!(listed(1), [new]);
    }
}
