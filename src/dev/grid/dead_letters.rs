//! Dead letters, kept in the layout that Event Grid uses in a blob container: as files in a folder, or in such a container.
//!
//! `<SUBSCRIPTION>/<YYYY>/<M>/<D>/<H>/<guid>.json`, UTC and without padding, each an array of one event with five members
//! added that say why it was given up. Their names are in lower case in a CloudEvent, whose extensions have no capitals, and in
//! camel case in an Event Grid event.

mod container;
mod folder;
mod outage;
mod place;

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

pub(super) use self::place::PlaceError;
use self::{outage::Outage, place::Place};
use super::{clock::Clock, schema::Schema};
use crate::dev::{DevError, ambient::timestamp, terminal::Terminal};

/// How long Event Grid tries to write a dead letter before it drops it, on the clock.
const PATIENCE: Duration = Duration::from_secs(4 * 60 * 60);

/// So many letters are read at a time to be listed.
const READ_AT_ONCE: usize = 16;

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
    fn name(&self) -> String {
        let time = self.last_attempt_at;
        format!(
            "{}/{}/{}/{}/{}/{}",
            self.subscription.to_uppercase(),
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            file_name(self.subscription, self.number, self.accepted_at)
        )
    }

    fn content(&self) -> serde_json::Result<Vec<u8>> {
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
        serde_json::to_vec(&[members])
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
    /// Where it lies.
    path: String,
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
        self.path.rsplit('/').next() == Some(name.as_str())
    }
}

/// A dead letter as it lies in its place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundLetter {
    /// Where it lies, seen from the folder or container of dead letters.
    path: String,
    /// Its content: an array of events.
    events: Box<RawValue>,
}

/// Why a letter was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotKept {
    /// It is to be tried again.
    Yet,
    /// It will not be kept, since Event Grid would give up here: for this reason.
    Ever(String),
}

/// Where dead letters are kept.
#[derive(Debug, Clone)]
pub(super) struct DeadLetters {
    place: Arc<Place>,
    outage: Arc<Outage>,
    clock: Arc<Clock>,
    terminal: Terminal,
}

impl DeadLetters {
    /// In the folder or container that was asked for, or in the usual folder.
    pub(super) fn new(
        asked: Option<&str>,
        usual: PathBuf,
        clock: Arc<Clock>,
        terminal: Terminal,
    ) -> Result<Self, DevError> {
        Ok(Self {
            place: Arc::new(Place::new(asked, usual)?),
            outage: Arc::default(),
            clock,
            terminal,
        })
    }

    /// Where they are kept, for people.
    pub(super) fn place(&self) -> String {
        self.place.shown()
    }

    /// Tells people now if letters cannot be kept, and not only when there is one.
    pub(super) async fn check(&self) {
        if let Err(error) = self.place.check().await {
            self.outage.failed(self.clock.now());
            self.warn(&error);
        }
    }

    /// Keeps a letter; returns where it lies, for people. One alarm tells of an outage, however many letters wait for its end.
    pub(super) async fn keep(&self, letter: &DeadLetter) -> Result<String, NotKept> {
        let path = letter.name();
        let kept = match letter.content() {
            Ok(content) => self.place.put(&path, content).await,
            Err(error) => Err(PlaceError::File(error.into())),
        };
        let Err(error) = kept else {
            if self.outage.ended() {
                let place = self.place.shown();
                let notice = format!("dead letters are kept in {place} again");
                self.terminal.notice(notice);
            }
            return Ok(format!("{}/{path}", self.place.shown()));
        };
        let lasted = self.outage.failed(self.clock.now());
        match (&error, lasted) {
            (PlaceError::NoContainer(_), _) => Err(NotKept::Ever(error.to_string())),
            (PlaceError::Unreachable(_) | PlaceError::Refused(_), Some(lasted))
                if lasted >= PATIENCE =>
            {
                Err(NotKept::Ever(error.to_string()))
            }
            (_, None) => {
                self.warn(&error);
                Err(NotKept::Yet)
            }
            (_, Some(_)) => Err(NotKept::Yet),
        }
    }

    fn warn(&self, error: &PlaceError) {
        let advice = match error {
            PlaceError::NoContainer(name) => format!(
                "events that are given up are dropped until it is made, for example with \
                 `az storage container create --connection-string UseDevelopmentStorage=true --name {name}`"
            ),
            PlaceError::File(_) => "they are tried again until they are".to_owned(),
            PlaceError::Unreachable(_) | PlaceError::Refused(_) => {
                "they are tried again for four hours of Event Grid's time, then their events are dropped"
                    .to_owned()
            }
        };
        let place = self.place.shown();
        self.terminal.alarm(format!(
            "dead letters cannot be kept in {place}: {error}; {advice}"
        ));
    }

    /// The newest letters, newest first, within `limit`.
    pub(super) async fn list(&self, limit: usize) -> Result<Vec<FoundLetter>, PlaceError> {
        let paths = self.place.newest(limit).await?;
        // One that is gone meanwhile, or that is no JSON, is not a dead letter.
        let read = async |path: String| {
            let text = self.place.get(&path).await.ok()??;
            let events = RawValue::from_string(text).ok()?;
            Some(FoundLetter { path, events })
        };
        let read = stream::iter(paths).map(read).buffered(READ_AT_ONCE);
        Ok(read.filter_map(std::future::ready).collect().await)
    }

    /// Opens the letter that lies at this path. `None` when there is none.
    pub(super) async fn open(&self, path: &str) -> Result<Option<OpenedLetter>, PlaceError> {
        let below = Path::new(path);
        let inside = below
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        let Some(subscription) = below.iter().next().filter(|_| inside) else {
            return Ok(None);
        };
        let Some(content) = self.place.get(path).await? else {
            return Ok(None);
        };
        let (accepted_at, text) = accepted(&content).map_err(std::io::Error::from)?;
        Ok(Some(OpenedLetter {
            path: path.to_owned(),
            subscription: subscription.to_string_lossy().into_owned(),
            accepted_at,
            text,
        }))
    }

    /// Removes a letter.
    pub(super) async fn remove(&self, letter: &OpenedLetter) -> Result<(), PlaceError> {
        self.place.remove(&letter.path).await
    }
}

/// When the letter's event was accepted, and the event as it was then.
fn accepted(content: &str) -> serde_json::Result<(DateTime<Utc>, String)> {
    let [mut members]: [BTreeMap<String, Box<RawValue>>; 1] = serde_json::from_str(content)?;
    let added = |name: &str, added: &str| name.eq_ignore_ascii_case(added);
    let accepted_at = members.iter().find(|(name, _)| added(name, PUBLISH_TIME));
    let accepted_at = accepted_at.map_or("null", |(_, time)| time.get());
    let accepted_at = serde_json::from_str(accepted_at)?;
    members.retain(|name, _| !ADDED.iter().any(|one| added(name, one)));
    Ok((accepted_at, serde_json::to_string(&members)?))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        time::SystemTime,
    };

    use super::*;
    use crate::dev::grid::speed::Speed;

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

    /// A clock that stands still.
    fn clock() -> Arc<Clock> {
        Arc::new(Clock::new(Speed::new(0.0).unwrap(), None))
    }

    fn letters(folder: &Path) -> DeadLetters {
        let terminal = Terminal::start(true);
        DeadLetters::new(None, folder.to_path_buf(), clock(), terminal).unwrap()
    }

    #[tokio::test]
    async fn a_letter_lies_where_azure_would_put_it() {
        let folder = tempfile::tempdir().unwrap();
        let letters = letters(folder.path());
        let path = letters.keep(&letter()).await.unwrap();
        assert_eq!(
            Path::new(&path).parent().unwrap(),
            folder.path().join("BILLING/2026/3/4/6")
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"[{"data":{"amount": 1.50},"deadletterreason":"MaxDeliveryAttemptsExceeded","deliveryattempts":30,"id":"e-1","lastdeliveryattempttime":"2026-03-04T06:00:00.000Z","lastdeliveryoutcome":"Busy","publishtime":"2026-03-04T05:06:07.000Z"}]"#
        );
        assert_eq!(letters.keep(&letter()).await.unwrap(), path);
    }

    #[tokio::test]
    async fn a_storage_out_of_reach_for_too_long_loses_letters_and_a_folder_never() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "in the way").unwrap();
        // Nothing listens at the port of nobody.
        let nowhere = "http://127.0.0.1:1/devstoreaccount1/letters";
        let below = file.join("letters").display().to_string();
        let kept = async |place: &str, after| {
            let (usual, clock) = (folder.path().to_path_buf(), clock());
            let terminal = Terminal::start(true);
            let letters =
                DeadLetters::new(Some(place), usual, Arc::clone(&clock), terminal).unwrap();
            let first = letters.keep(&letter()).await;
            assert_eq!(first, Err(NotKept::Yet), "the outage has just begun");
            clock.turn(after);
            letters.keep(&letter()).await
        };
        let before = PATIENCE.saturating_sub(Duration::from_secs(1));
        assert_eq!(kept(nowhere, before).await, Err(NotKept::Yet));
        let lost = kept(nowhere, PATIENCE).await;
        assert!(
            matches!(&lost, Err(NotKept::Ever(problem)) if problem.contains("not reached")),
            "{lost:?}"
        );
        assert_eq!(kept(&below, PATIENCE).await, Err(NotKept::Yet));
    }

    #[tokio::test]
    async fn letters_are_listed_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let none_yet = letters(&folder.path().join("none yet"));
        assert!(none_yet.list(10).await.unwrap().is_empty());
        let letters = letters(folder.path());
        let old = letters.keep(&letter()).await.unwrap();
        let new = letters
            .keep(&DeadLetter {
                number: 8,
                ..letter()
            })
            .await
            .unwrap();
        File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        fs::write(Path::new(&new).with_extension("txt"), "not a letter").unwrap();
        let listed = async |limit| {
            let found = letters.list(limit).await.unwrap();
            let place = letters.place();
            found
                .into_iter()
                .map(|found| format!("{place}/{}", found.path))
                .collect::<Vec<_>>()
        };
        assert_eq!(listed(10).await, [new.clone(), old]);
        assert_eq!(listed(1).await, [new]);
    }
}
