//! Which changes of an event's schema break with what was released.

use orderflow::artifacts::compatibility::breaks;
use serde_json::{Value, json};

/// The findings between what was released and what is, in words.
#[track_caller]
fn check(released: &Value, current: &Value, expected: &[&str]) {
    let found: Vec<_> = breaks(released, current)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, expected, "from {released} to {current}");
    assert!(breaks(released, released).is_empty());
}

/// An event with one field, which is required, and what it must be.
fn with(field: &Value) -> Value {
    json!({ "type": "object", "properties": { "it": field }, "required": ["it"] })
}

#[track_caller]
fn check_field(released: &Value, current: &Value, expected: &[&str]) {
    check(&with(released), &with(current), expected);
}

const NEW_REQUIRED: &str =
    "it: a new required field; events without it are under way, so make it optional";

#[test]
fn a_field_that_comes_or_goes() {
    let none = json!({ "type": "object" });
    let required = with(&json!({ "type": "string" }));
    let mut optional = required.clone();
    optional["required"] = json!([]);
    let gone = "it: the field is gone; keep it, since readers count on it";
    check(&required, &none, &[gone]);
    check(&optional, &none, &[gone]);
    check(&none, &required, &[NEW_REQUIRED]);
    check(&none, &optional, &[]);
    check(
        &optional,
        &required,
        &[
            "it: the field was optional, is required; events without it are under way, so make it optional",
        ],
    );
    check(
        &required,
        &optional,
        &["it: the field was required, is optional; keep it required, since readers count on it"],
    );
}

#[test]
fn a_field_of_another_kind() {
    let retyped = "it: was string, is integer; keep it and add a new field beside it";
    let text = json!({ "type": "string" });
    check_field(&text, &json!({ "type": "integer" }), &[retyped]);
    check_field(
        &text,
        &json!({ "type": "string", "description": "new" }),
        &[],
    );
    check_field(
        &text,
        &json!({ "type": "string", "format": "uuid" }),
        &["it: its format was none, is \"uuid\"; keep it"],
    );
    check_field(
        &json!({ "type": ["string", "null"] }),
        &text,
        &["it: was allowed to be null; allow it still"],
    );
    check_field(
        &json!({ "type": "array", "items": { "type": "string" } }),
        &json!({ "type": "array", "items": { "type": "integer" } }),
        &["it[]: was string, is integer; keep it and add a new field beside it"],
    );
}

#[test]
fn a_limit_that_takes_less() {
    let number = |maximum: u32| json!({ "type": "integer", "minimum": 1, "maximum": maximum });
    check_field(
        &number(10),
        &number(9),
        &["it: its maximum was 10, is 9; take what was published"],
    );
    check_field(&number(9), &number(10), &[]);
    check_field(&number(9), &json!({ "type": "integer" }), &[]);
    check_field(
        &json!({ "type": "integer" }),
        &number(9),
        &[
            "it: its minimum was none, is 1; take what was published",
            "it: its maximum was none, is 9; take what was published",
        ],
    );
    check_field(
        &json!({ "type": "string", "minLength": 1 }),
        &json!({ "type": "string", "minLength": 2 }),
        &["it: its minLength was 1, is 2; take what was published"],
    );
    check_field(
        &json!({ "type": "string" }),
        &json!({ "type": "string", "pattern": "^a" }),
        &["it: its pattern was none, is \"^a\"; take what was published"],
    );
    check_field(
        &json!({ "type": "string", "pattern": "^a" }),
        &json!({ "type": "string" }),
        &[],
    );
}

#[test]
fn a_list_of_values_that_takes_less() {
    let listed = |values: &[&str]| json!({ "type": "string", "enum": values });
    let described = |values: &[&str]| {
        let each = |value: &&str| json!({ "type": "string", "const": value, "description": "…" });
        json!({ "oneOf": values.iter().map(each).collect::<Vec<_>>() })
    };
    let gone = "it: does not take \"b\" any more; take what was published";
    for (released, current) in [
        (listed(&["a", "b"]), listed(&["a"])),
        (described(&["a", "b"]), described(&["a"])),
        (listed(&["a", "b"]), described(&["a"])),
    ] {
        check_field(&released, &current, &[gone]);
        check_field(&current, &released, &[]);
    }
    check_field(
        &json!({ "type": "string" }),
        &listed(&["a"]),
        &["it: was any, is one of a closed list; take any still"],
    );
}

#[test]
fn a_type_that_is_referred_to() {
    let document = |target: &Value| {
        let mut whole = with(&json!({ "$ref": "#/$defs/Thing", "description": "A thing." }));
        whole["$defs"] = json!({ "Thing": target });
        whole
    };
    let thing = json!({
        "type": "object",
        "properties": { "size": { "type": "integer" }, "parts": { "type": "array", "items": { "$ref": "#/$defs/Thing" } } },
        "required": ["size"]
    });
    let mut changed = thing.clone();
    changed["properties"]["size"]["type"] = json!("string");
    check(
        &document(&thing),
        &document(&changed),
        &["it.size: was integer, is string; keep it and add a new field beside it"],
    );
    // The same type under another name, or in place, is the same type.
    let renamed: Value =
        serde_json::from_str(&document(&thing).to_string().replace("Thing", "Item")).unwrap();
    check(&document(&thing), &renamed, &[]);
    let number = json!({ "type": "integer" });
    check(&document(&number), &with(&number), &[]);
    // Something or nothing, and a list of values or nothing.
    let listed = |values: &[&str]| {
        let each = |value: &&str| json!({ "type": "string", "const": value });
        let mut whole = document(&json!({ "oneOf": values.iter().map(each).collect::<Vec<_>>() }));
        whole["properties"]["it"] =
            json!({ "anyOf": [{ "$ref": "#/$defs/Thing" }, { "type": "null" }] });
        whole
    };
    check(
        &listed(&["a", "b"]),
        &listed(&["a"]),
        &["it: does not take \"b\" any more; take what was published"],
    );
    let or_null = json!({ "anyOf": [{ "$ref": "#/$defs/Thing" }, { "type": "null" }] });
    let mut optional = document(&number);
    optional["properties"]["it"] = or_null;
    check(&optional, &optional, &[]);
    check(
        &optional,
        &document(&number),
        &["it: was allowed to be null; allow it still"],
    );
}

#[test]
fn what_is_not_known_must_stay_as_it_is() {
    check_field(
        &json!({ "type": "integer", "multipleOf": 2 }),
        &json!({ "type": "integer", "multipleOf": 3 }),
        &["it: its multipleOf was 2, is 3; keep it"],
    );
    check_field(
        &json!({ "anyOf": [{ "type": "object" }, { "type": "string" }] }),
        &json!({ "anyOf": [{ "type": "object" }, { "type": "string" }, { "type": "array" }] }),
        &["it: has other alternatives; keep them"],
    );
}
