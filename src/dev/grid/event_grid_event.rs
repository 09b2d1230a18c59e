//! Events in Event Grid's own schema: what a topic accepts, what it adds, and what becomes of one in CloudEvents.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::admission::{AdmittedEvent, Unfit, printable};

/// The version of the members around the data. There is only this one.
pub(super) const METADATA_VERSION: &str = "1";

/// An event with its members in the order in which Event Grid delivers them. Other members are not kept (inferred: the
/// service's own type does not have them).
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    id: Option<String>,
    topic: Option<String>,
    subject: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    event_type: Option<String>,
    event_time: Option<String>,
    data_version: Option<String>,
    metadata_version: Option<String>,
}

/// Checks an event that is published to the topic with this id, and adds what the publisher leaves to Event Grid.
pub(super) fn admit(text: &str, topic_id: &str) -> Result<AdmittedEvent, Unfit> {
    if !text.starts_with('{') {
        return Err(Unfit::Wrong("it is not a JSON object".to_owned()));
    }
    let mut event: Written<'_> =
        serde_json::from_str(text).map_err(|error| Unfit::Wrong(error.to_string()))?;
    let id = required("id", event.id.as_ref())?;
    let subject = required("subject", event.subject.as_ref())?;
    if event.data.is_none() {
        return Err(Unfit::Missing("data"));
    }
    let event_type = required("eventType", event.event_type.as_ref())?;
    let event_time = required("eventTime", event.event_time.as_ref())?;
    if time(&event_time).is_none() {
        let problem = "`eventTime` is not a time such as 2026-11-24T10:00:00Z";
        return Err(Unfit::Wrong(problem.to_owned()));
    }
    required("dataVersion", event.data_version.as_ref())?;
    for (name, value) in [("id", &id), ("eventType", &event_type)] {
        if value.is_empty() {
            return Err(Unfit::Missing(name));
        }
    }
    fixed("topic", &mut event.topic, topic_id)?;
    fixed(
        "metadataVersion",
        &mut event.metadata_version,
        METADATA_VERSION,
    )?;
    let text = serde_json::to_string(&event).map_err(|error| Unfit::Wrong(error.to_string()))?;
    Ok(AdmittedEvent {
        id,
        source: topic_id.to_owned(),
        event_type,
        subject: Some(subject),
        text: text.into(),
    })
}

fn required(name: &'static str, value: Option<&String>) -> Result<String, Unfit> {
    let value = value.ok_or(Unfit::Missing(name))?;
    printable(name, value).map_err(Unfit::Wrong)?;
    Ok(value.clone())
}

/// Event Grid stamps this value on the event, and refuses another one (Azure documentation, "Azure Event Grid event schema").
fn fixed(name: &str, value: &mut Option<String>, only: &str) -> Result<(), Unfit> {
    let given = value.get_or_insert_with(|| only.to_owned());
    if given == only {
        return Ok(());
    }
    Err(Unfit::Wrong(format!(
        "`{name}` is {given:?}: leave it out, or give {only:?}"
    )))
}

/// ISO 8601 as publishers write it: Azure's own examples have an offset without a colon, some have none at all.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let with_offset = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    let utc = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
    match with_offset {
        Ok(time) => Some(time.to_utc()),
        Err(_) => utc().ok().map(|time| time.and_utc()),
    }
}

/// The version of the event's data, as a delivery's header has it.
pub(super) fn data_version(text: &str) -> String {
    let event = serde_json::from_str::<Written<'_>>(text).ok();
    event
        .and_then(|event| event.data_version)
        .unwrap_or_default()
}

/// The event as a subscription in the CloudEvents schema gets it. Azure's samples show the same events in both schemas: the
/// topic is the source, and the version of the data is the fragment of `dataschema` (Azure documentation, "Azure Health Data
/// Services as an Event Grid source": version `1` is `#1`; "Azure Blob Storage as an Event Grid source": an empty one is `#`).
pub(super) fn to_cloud_event(text: &str) -> Arc<str> {
    // It was accepted, so it can be read; a text that somebody has changed by hand is delivered as it is.
    let Ok(event) = serde_json::from_str::<Written<'_>>(text) else {
        return text.into();
    };
    let at = event.event_time.as_deref().and_then(time);
    let converted = json!({
        "id": event.id,
        "source": event.topic,
        "specversion": "1.0",
        "type": event.event_type,
        "dataschema": format!("#{}", event.data_version.unwrap_or_default()),
        "subject": event.subject,
        "time": at.map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
    });
    let mut converted = converted.to_string();
    // The data as it was written: numbers keep their digits.
    if let Some(data) = event.data {
        converted.pop();
        converted.push_str(",\"data\":");
        converted.push_str(data.get());
        converted.push('}');
    }
    converted.into()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const TOPIC: &str = "/topics/stock";

    fn event() -> Value {
        json!({"id": "e-1", "subject": "orders/1", "data": {"a": 1}, "eventType": "T", "eventTime": "2026-11-24T10:00:00Z", "dataVersion": "1.0"})
    }

    fn unfit(member: &str, value: Value) -> String {
        let mut event = event();
        event[member] = value;
        match admit(&event.to_string(), TOPIC).unwrap_err() {
            Unfit::Missing(name) => format!("{name} is missing"),
            Unfit::Wrong(problem) => problem,
        }
    }

    #[test]
    fn the_topic_and_the_version_of_the_metadata_are_added() {
        let text = r#"{"data":{"b":1.0e0, "a":"ä"},"id":"e-1","subject":"","eventType":"T","eventTime":"2026-11-24T10:00:00","dataVersion":"","other":1}"#;
        let admitted = admit(text, TOPIC).unwrap();
        assert_eq!(
            &*admitted.text,
            r#"{"id":"e-1","topic":"/topics/stock","subject":"","data":{"b":1.0e0, "a":"ä"},"eventType":"T","eventTime":"2026-11-24T10:00:00","dataVersion":"","metadataVersion":"1"}"#
        );
        let again = admit(&admitted.text, TOPIC).unwrap();
        assert_eq!(again.text, admitted.text);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for member in [
            "id",
            "subject",
            "data",
            "eventType",
            "eventTime",
            "dataVersion",
        ] {
            assert_eq!(unfit(member, Value::Null), format!("{member} is missing"));
        }
        for member in ["id", "eventType"] {
            assert_eq!(unfit(member, json!("")), format!("{member} is missing"));
        }
        for (member, value, why) in [
            ("id", json!(1), "expected a string"),
            ("subject", json!("a\u{7}b"), "control characters"),
            ("eventTime", json!("yesterday"), "`eventTime` is not a time"),
            ("topic", json!("/topics/other"), "\"/topics/stock\""),
            ("metadataVersion", json!("2"), "give \"1\""),
        ] {
            let problem = unfit(member, value);
            assert!(problem.contains(why), "{member}: {problem}");
        }
        assert!(admit("[]", TOPIC).is_err());
    }

    #[test]
    fn times_are_understood_as_publishers_write_them() {
        for written in [
            "2026-11-24T10:00:00Z",
            "2026-11-24T11:00:00+01:00",
            "2026-11-24T11:00:00+0100",
            "2026-11-24T10:00:00.000",
        ] {
            let mut event = event();
            event["eventTime"] = json!(written);
            let admitted = admit(&event.to_string(), TOPIC).unwrap();
            let converted: Value = serde_json::from_str(&to_cloud_event(&admitted.text)).unwrap();
            assert_eq!(converted["time"], "2026-11-24T10:00:00Z", "{written}");
        }
    }

    #[test]
    fn an_event_in_cloud_events_has_the_topic_as_its_source() {
        let mut event = event();
        event["topic"] = json!(TOPIC);
        let converted: Value = serde_json::from_str(&to_cloud_event(&event.to_string())).unwrap();
        assert_eq!(
            converted,
            json!({
                "id": "e-1", "source": "/topics/stock", "specversion": "1.0", "type": "T", "dataschema": "#1.0",
                "subject": "orders/1", "time": "2026-11-24T10:00:00Z", "data": {"a": 1},
            })
        );
    }
}
