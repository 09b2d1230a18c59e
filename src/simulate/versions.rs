//! Events as they are not sent today: from a newer or an older publisher, which must be taken like any other, and
//! damaged, which must be refused.

use cloudevents::{AttributesWriter, Event, event::Data};
use serde_json::{Map, Value, json};

use super::customers::CONFIDENTIAL;

/// The name of what nobody here knows, as a field and as an extension attribute.
pub(super) const UNKNOWN: &str = "addedlater";

/// As a newer publisher would send it: with an attribute, and with fields at every level, that are not known here.
pub(super) fn newer(event: &mut Event) {
    change_data(event, |fields| {
        for field in fields.values_mut() {
            match field {
                Value::Object(inner) => extend(inner),
                Value::Array(items) => items
                    .iter_mut()
                    .filter_map(Value::as_object_mut)
                    .for_each(extend),
                _ => {}
            }
        }
        extend(fields);
    });
    event.set_extension(UNKNOWN, "2");
}

fn extend(fields: &mut Map<String, Value>) {
    fields.insert(
        UNKNOWN.to_owned(),
        json!({ "since": 2, "values": [1, null] }),
    );
}

/// As an older publisher would send it: without a time and a trace.
pub(super) fn older(event: &mut Event) {
    event.set_time(None::<chrono::DateTime<chrono::Utc>>);
    event.remove_extension("traceparent");
}

/// How many kinds of damage there are.
pub(super) const DAMAGES: u64 = 5;

/// A copy of an event with something wrong with it.
pub(super) fn damaged(event: &Event, damage: u64) -> Event {
    let mut event = event.clone();
    match damage {
        0 => change_data(&mut event, |fields| {
            let first = fields.keys().next().cloned().unwrap_or_default();
            fields.shift_remove(&first);
        }),
        1 => {
            event.set_data("application/json", Value::from("damaged"));
        }
        2 => {
            event.set_subject(Some("orders/00000000-0000-0000-0000-000000000000"));
        }
        3 => {
            event.set_type("Sales.Unknown");
        }
        // What is confidential stands where something else belongs.
        _ => change_data(&mut event, |fields| {
            if let Some(field) = fields.values_mut().next() {
                *field = json!(CONFIDENTIAL.join(", "));
            }
        }),
    }
    event
}

fn change_data(event: &mut Event, change: impl FnOnce(&mut Map<String, Value>)) {
    let Some(Data::String(text)) = event.data() else {
        return;
    };
    if let Ok(Value::Object(mut fields)) = serde_json::from_str(text) {
        change(&mut fields);
        event.set_data("application/json", Value::Object(fields).to_string());
    }
}
