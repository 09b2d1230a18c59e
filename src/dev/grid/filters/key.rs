//! Keys: how filters and delivery properties name a value of an event.

use serde_json::Value;

use crate::dev::grid::schema::Schema;

/// The members of an Event Grid event that keys may name. Azure's documentation begins them with a capital, or two ("Event
/// filtering").
const EVENT_GRID: [&str; 5] = ["id", "topic", "subject", "eventType", "dataVersion"];

/// Where a value stands in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Key {
    /// A member of the event itself, such as `source`, an extension or `eventType`.
    Attribute(String),
    /// A member of `data`, by the names on the way to it.
    Data(Vec<String>),
}

impl Key {
    /// Reads a key, or says why it is none.
    pub(in super::super) fn parse(written: String) -> Result<Self, String> {
        match written.strip_prefix("data.") {
            Some(below) if below.split('.').all(|name| !name.is_empty()) => {
                return Ok(Self::Data(below.split('.').map(str::to_owned).collect()));
            }
            None if !written.contains('.') && !written.is_empty() => {
                return Ok(Self::Attribute(written));
            }
            _ => {}
        }
        Err(format!(
            "`{written}` is not a key: give an attribute or extension of a CloudEvent (`source`, `subject`), or a member of the data (`data.order.total`)"
        ))
    }

    /// The same key, as events in this schema spell it.
    pub(in super::super) fn of(self, schema: Schema) -> Result<Self, String> {
        match (self, schema) {
            (Self::Attribute(name), Schema::EventGrid) => EVENT_GRID
                .iter()
                .find(|known| known.eq_ignore_ascii_case(&name))
                .map(|known| Self::Attribute((*known).to_owned()))
                .ok_or_else(|| {
                    format!(
                        "`{name}` is not a key of an event in the Event Grid schema: give Id, Topic, Subject, EventType, \
                         DataVersion or a member of the data (`data.order.total`)"
                    )
                }),
            (key, _) => Ok(key),
        }
    }

    /// The value; nothing if it is null, as if it were not there.
    pub(in super::super) fn find<'a>(&self, event: &'a Value) -> Option<&'a Value> {
        let found = match self {
            Self::Attribute(name) => event.get(name),
            Self::Data(names) => names.iter().try_fold(event.get("data")?, |value, name| {
                // A number as a name must not address an element of an array.
                value.as_object()?.get(name)
            }),
        };
        found.filter(|value| !value.is_null())
    }
}
