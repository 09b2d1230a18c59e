//! Headers that a subscription adds to its deliveries: static ones, and dynamic ones out of the event.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::{filters::Key, schema::Schema};

/// The most properties of a subscription.
const MOST: usize = 10;

/// The most bytes of a value.
const LONGEST: usize = 4_096;

/// What the request itself needs.
const TAKEN: [&str; 5] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
];

/// A property in the shape that ARM has for it (`deliveryAttributeMappings`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenProperty {
    name: String,
    #[serde(rename = "type")]
    kind: Kind,
    properties: WrittenSource,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Kind {
    Static,
    Dynamic,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenSource {
    value: Option<String>,
    is_secret: Option<bool>,
    source_field: Option<String>,
}

/// The headers of a subscription.
#[derive(Debug, Clone, Default)]
pub(super) struct DeliveryProperties {
    fixed: HeaderMap,
    by_event: Vec<(HeaderName, Key)>,
}

impl DeliveryProperties {
    /// Whether one of them is this header.
    pub(super) fn sets(&self, name: &HeaderName) -> bool {
        self.fixed.contains_key(name) || self.by_event.iter().any(|(by_event, _)| by_event == name)
    }

    /// Fails with what Event Grid would not take at a topic of this schema. No message holds a value: it may be secret.
    pub(super) fn new(written: Vec<WrittenProperty>, schema: Schema) -> Result<Self, String> {
        if written.len() > MOST {
            return Err(format!(
                "deliveryAttributeMappings has {} headers, Event Grid allows {MOST}",
                written.len()
            ));
        }
        let mut properties = Self::default();
        for one in written {
            let name = header_name(&one.name)?;
            let WrittenSource {
                value,
                is_secret,
                source_field,
            } = one.properties;
            match (one.kind, value, source_field) {
                (Kind::Static, Some(value), None) => {
                    let mut value = header_value(&value).ok_or_else(|| {
                        format!(
                            "the value of the header `{name}` is not one: at most {LONGEST} bytes, no control characters"
                        )
                    })?;
                    value.set_sensitive(is_secret.unwrap_or(false));
                    properties.fixed.insert(name, value);
                }
                (Kind::Dynamic, None, Some(field)) => {
                    properties
                        .by_event
                        .push((name, Key::parse(field)?.of(schema)?));
                }
                (kind, ..) => {
                    return Err(format!(
                        "the header `{name}` is {kind:?}: Static ones have a `value`, Dynamic ones a `sourceField`"
                    ));
                }
            }
        }
        Ok(properties)
    }

    /// Whether events differ in their headers.
    pub(super) fn differ_by_event(&self) -> bool {
        !self.by_event.is_empty()
    }

    /// The headers for the event in this text. One that the event has no string, number or boolean for is left out.
    pub(super) fn headers(&self, text: &str) -> HeaderMap {
        let mut headers = self.fixed.clone();
        if self.by_event.is_empty() {
            return headers;
        }
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        for (name, key) in &self.by_event {
            let value = match key.find(&event) {
                Some(Value::String(text)) => header_value(text),
                Some(scalar @ (Value::Number(_) | Value::Bool(_))) => {
                    header_value(&scalar.to_string())
                }
                _ => None,
            };
            if let Some(value) = value {
                headers.insert(name.clone(), value);
            }
        }
        headers
    }
}

fn header_name(written: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(written)
        .map_err(|_| format!("`{written}` is not a name for a header"))?;
    if name.as_str().starts_with("aeg-") {
        return Err(format!(
            "the header `{name}`: Event Grid keeps names that begin with aeg- for itself"
        ));
    }
    if TAKEN.contains(&name.as_str()) {
        return Err(format!("the header `{name}` is part of every delivery"));
    }
    Ok(name)
}

fn header_value(text: &str) -> Option<HeaderValue> {
    if text.len() > LONGEST {
        return None;
    }
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(written: Value) -> Result<DeliveryProperties, String> {
        let written = serde_json::from_value(written)
            .map_err(|error: serde_json::Error| error.to_string())?;
        DeliveryProperties::new(written, Schema::CloudEvents)
    }

    #[test]
    fn headers_are_the_same_always_or_come_out_of_the_event() {
        let properties = read(json!([
            {"name": "X-Tenant", "type": "Static", "properties": {"value": "acme", "isSecret": true}},
            {"name": "x-order", "type": "Dynamic", "properties": {"sourceField": "subject"}},
            {"name": "x-amount", "type": "Dynamic", "properties": {"sourceField": "data.amount"}},
            {"name": "x-paid", "type": "Dynamic", "properties": {"sourceField": "data.paid"}},
            {"name": "x-lines", "type": "Dynamic", "properties": {"sourceField": "data.lines"}},
            {"name": "x-absent", "type": "Dynamic", "properties": {"sourceField": "data.absent"}},
            {"name": "x-long", "type": "Dynamic", "properties": {"sourceField": "data.long"}},
        ]))
        .unwrap();
        assert!(properties.differ_by_event());
        let event = json!({"subject": "orders/ä", "data": {"amount": 12.5, "paid": true, "lines": [1], "long": "x".repeat(4_097)}});
        let headers = properties.headers(&event.to_string());
        let found: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(
            found,
            [
                ("x-tenant", &b"acme"[..]),
                ("x-order", "orders/ä".as_bytes()),
                ("x-amount", b"12.5"),
                ("x-paid", b"true"),
            ]
        );
        assert!(!format!("{headers:?}").contains("acme"), "a secret");
    }

    #[test]
    fn what_event_grid_would_not_take_is_refused() {
        let one = |name: &str, kind: &str, properties: Value| json!({"name": name, "type": kind, "properties": properties});
        for (written, why) in [
            (
                json!([one("aeg-mine", "Static", json!({"value": "v"}))]),
                "aeg-",
            ),
            (
                json!([one("Content-Type", "Static", json!({"value": "v"}))]),
                "every delivery",
            ),
            (
                json!([one("a b", "Static", json!({"value": "v"}))]),
                "not a name",
            ),
            (
                json!([one("x", "Static", json!({"value": "v".repeat(4_097)}))]),
                "4096",
            ),
            (
                json!([one("x", "Static", json!({"value": "secret\n"}))]),
                "control",
            ),
            (
                json!([one("x", "Static", json!({"sourceField": "id"}))]),
                "Static ones have",
            ),
            (
                json!([one("x", "Dynamic", json!({"value": "v"}))]),
                "Dynamic ones",
            ),
            (
                json!([one("x", "Dynamic", json!({"sourceField": "a.b"}))]),
                "not a key",
            ),
            (
                json!([one("x", "Other", json!({"value": "v"}))]),
                "unknown variant",
            ),
            (
                json!([one("x", "Static", json!({"value": "v", "more": 1}))]),
                "unknown field",
            ),
            (
                json!(vec![one("x", "Static", json!({"value": "v"})); 11]),
                "11 headers",
            ),
        ] {
            let refusal = read(written).unwrap_err();
            assert!(
                refusal.contains(why) && !refusal.contains("secret"),
                "{refusal}"
            );
        }
        assert!(read(json!(vec![one("x", "Static", json!({"value": "v"})); 10])).is_ok());
    }
}
