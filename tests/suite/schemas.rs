//! The JSON Schemas of the events say what decoding takes, no more and no less.

use std::{fs, sync::LazyLock};

use cloudevents::AttributesWriter;
use jsonschema::Validator;
use orderflow::{
    artifacts::schema_path,
    events::{EventType, OrderPlaced, Payload, samples},
    functions::{catalogue, event_named},
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::root;

/// The schema that stands in the repository, formats included.
fn validator(event_type: &str) -> Validator {
    let schema = fs::read_to_string(root().join(schema_path(event_type))).unwrap();
    let schema = serde_json::from_str(&schema).unwrap();
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

/// Whether decoding takes the data; `None` when it is refused for what no schema can say: fields that contradict each
/// other.
fn is_read(event_type: &EventType, data: &Value) -> Option<bool> {
    let mut event = samples::event(event_type, samples::ORDER_ID);
    event.set_subject(None::<String>);
    event.set_data("application/json", data.clone());
    match (event_type.check)(&event) {
        Ok(()) => Some(true),
        Err(invalid) if invalid.problem.contains("must be netAmount + taxAmount") => None,
        Err(invalid)
            if invalid
                .problem
                .contains("must be the invoice's totalAmount") =>
        {
            None
        }
        Err(_) => Some(false),
    }
}

fn data(event_type: &EventType) -> Value {
    let event = samples::event(event_type, samples::ORDER_ID);
    let json = orderflow::cloud_event::to_json(&event);
    serde_json::from_slice::<Value>(&json).unwrap()["data"].take()
}

/// The path of every value inside, as JSON pointers.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| paths(value, &format!("{path}/{name}"), found)),
        // One item stands for all.
        Value::Array(items) => items
            .iter()
            .take(1)
            .for_each(|item| paths(item, &format!("{path}/0"), found)),
        _ => {}
    }
}

/// Values at and beyond every limit that there is.
fn odd_values() -> Vec<Value> {
    let mut values: Vec<Value> = [
        "",
        " ",
        "a",
        "A1",
        "DE",
        "de",
        "EUR",
        "EURO",
        "eur",
        "a b",
        " a ",
        "a\n",
        "\u{7f}",
        "a\u{85}",
        "\u{a0}",
        "\u{3000}",
        "\u{feff}",
        "é",
        "😀",
        "@b",
        "a@",
        "a@b",
        "a@@",
        "@",
        "cardDeclined",
        "unknownReason",
        "customer",
        "0199c0de-0000-7000-8000-000000000001",
        "0199c0de-0000-7000-8000-00000000000",
        "2026-01-15T09:30:00Z",
        "2026-01-15T09:30:00.123456+01:00",
        "2026-01-15",
        "2026-02-30T09:30:00Z",
    ]
    .map(Value::from)
    .to_vec();
    for length in [63, 64, 65, 199, 200, 201] {
        values.push("x".repeat(length).into());
        values.push("é".repeat(length).into());
        values.push(format!("a@{}", "b".repeat(length - 2)).into());
    }
    values.extend([json!(null), json!(true), json!({}), json!([]), json!(0.5)]);
    for limit in [
        0,
        1,
        1_000_000,
        (1 << 53) - 1,
        i64::from(u32::MAX),
        i64::MAX,
    ] {
        values.extend([json!(limit - 1), json!(limit)]);
        values.extend(limit.checked_add(1).map(Value::from));
    }
    values.extend([json!(i64::MIN), json!(u64::MAX)]);
    let line = json!({ "sku": "KB-87", "quantity": 1, "unitAmount": 1 });
    for lines in [1, 200, 201] {
        values.push(vec![line.clone(); lines].into());
    }
    values
}

#[test]
fn schemas_and_decoding_take_and_refuse_the_same() {
    let (mut taken, mut refused) = (0, 0);
    let mut agree = |event_type: &EventType, schema: &Validator, data: &Value, what: &str| {
        let Some(is_read) = is_read(event_type, data) else {
            return;
        };
        let name = event_type.name;
        assert_eq!(schema.is_valid(data), is_read, "{name}: {what} in {data}");
        *(if is_read { &mut taken } else { &mut refused }) += 1;
    };
    for event_type in catalogue() {
        let schema = validator(event_type.name);
        let sample = data(event_type);
        agree(event_type, &schema, &sample, "the sample");
        assert!(schema.is_valid(&sample), "{}", event_type.name);
        let mut found = Vec::new();
        paths(&sample, "", &mut found);
        for path in found {
            for value in odd_values() {
                let mut changed = sample.clone();
                let what = format!("{path} as {value}");
                *changed.pointer_mut(&path).unwrap() = value;
                agree(event_type, &schema, &changed, &what);
            }
            let mut changed = sample.clone();
            if let Some(fields) = changed.pointer_mut(&path).unwrap().as_object_mut() {
                fields.insert("addedLater".to_owned(), json!([1]));
                agree(event_type, &schema, &changed, "a field that nobody knows");
            }
            if let Some((parent, name)) = path.rsplit_once('/') {
                let mut changed = sample.clone();
                let parent = changed.pointer_mut(parent).unwrap().as_object_mut();
                if parent
                    .and_then(|fields: &mut Map<_, _>| fields.shift_remove(name))
                    .is_some()
                {
                    agree(event_type, &schema, &changed, &format!("without {path}"));
                }
            }
        }
    }
    assert!(taken > 500 && refused > 10_000, "{taken}, {refused}");
}

static ORDER_PLACED: LazyLock<(&EventType, Validator, Value)> = LazyLock::new(|| {
    let event_type = event_named(OrderPlaced::TYPE).unwrap();
    (event_type, validator(event_type.name), data(event_type))
});

/// Whether schema and decoding agree about a text as the payment method and as the e-mail address.
fn agree_about(text: &str) -> bool {
    let (event_type, schema, sample) = &*ORDER_PLACED;
    ["/order/paymentMethod", "/order/customer/email"]
        .iter()
        .all(|path| {
            let mut changed = sample.clone();
            *changed.pointer_mut(path).unwrap() = text.into();
            Some(schema.is_valid(&changed)) == is_read(event_type, &changed)
        })
}

#[test]
fn schemas_and_decoding_mean_the_same_characters() {
    // Every control character and every kind of white space lies below U+3001, or is one of these.
    for letter in ('\0'..='\u{3001}').chain(['\u{fe00}', '\u{feff}', '\u{e0001}']) {
        for text in [letter.to_string(), format!("a@{letter}")] {
            assert!(agree_about(&text), "{text:?}");
        }
    }
}

proptest! {
    #[test]
    fn schemas_and_decoding_agree_about_any_text(text in "[\\x00-\\x20a@\u{80}-\u{a1}\u{2000}-\u{2030}]{0,5}") {
        prop_assert!(agree_about(&text), "{text:?}");
    }
}
