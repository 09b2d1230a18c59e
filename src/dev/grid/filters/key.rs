//! Keys: how filters and delivery properties name a value of an event.

use serde_json::Value;

/// Where a value stands in a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Key {
    /// A member of the event itself, such as `source` or an extension.
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
