//! What a schema says, in a form that can be compared.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// A schema with its references followed, in a form that can be compared: the same says the same.
pub(super) struct Shape {
    /// The JSON types that fit, without `null`; empty when any does.
    pub(super) types: BTreeSet<String>,
    /// Whether `null` fits.
    pub(super) nullable: bool,
    /// The closed list of values that fit, as JSON texts.
    pub(super) values: Option<BTreeSet<String>>,
    /// Each field's schema.
    pub(super) fields: Map<String, Value>,
    /// The fields that must be there.
    pub(super) required: BTreeSet<String>,
    /// The schemas of which one must fit, where they are no mere list of values.
    pub(super) alternatives: Vec<Value>,
    /// Every keyword as it stands.
    pub(super) rest: Map<String, Value>,
}

impl Shape {
    pub(super) fn of(schema: &Value, document: &Value) -> Self {
        let mut rest = resolved(schema, document);
        let mut nullable = false;
        let mut alternatives = Vec::new();
        for keyword in ["oneOf", "anyOf"] {
            alternatives.extend(schemas_under(&rest, keyword).iter().cloned());
        }
        let null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
        if alternatives.iter().any(null) {
            nullable = true;
            alternatives.retain(|schema| !null(schema));
            // Something or nothing: that something.
            if let [only] = alternatives.as_slice() {
                rest.retain(|keyword, _| keyword != "oneOf" && keyword != "anyOf");
                rest.extend(resolved(only, document));
                let something = Self::of(&Value::Object(rest), document);
                return Self {
                    nullable,
                    ..something
                };
            }
        }
        let constants = |schema: &Value| schema.get("const").map(Value::to_string);
        let listed = |schema: &Value| match schema.get("enum").and_then(Value::as_array) {
            Some(values) => Some(values.iter().map(Value::to_string).collect()),
            None => constants(schema).map(|value| vec![value]),
        };
        let values: Option<Vec<Vec<String>>> = if alternatives.is_empty() {
            listed(&Value::Object(rest.clone())).map(|values| vec![values])
        } else {
            alternatives.iter().map(listed).collect()
        };
        let mut types: BTreeSet<_> = names(rest.get("type")).collect();
        if values.is_some() {
            types.extend(
                alternatives
                    .iter()
                    .flat_map(|schema| names(schema.get("type"))),
            );
            alternatives.clear();
        }
        nullable |= types.remove("null");
        Self {
            types,
            nullable,
            values: values.map(|values| values.into_iter().flatten().collect()),
            fields: rest
                .get("properties")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
            required: names(rest.get("required")).collect(),
            alternatives,
            rest,
        }
    }
}

/// The name, or the names, under a keyword.
fn names(value: Option<&Value>) -> impl Iterator<Item = String> {
    let names = match value {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    };
    names.into_iter()
}

/// The schemas under a keyword.
fn schemas_under<'a>(schema: &'a Map<String, Value>, keyword: &str) -> &'a [Value] {
    schema
        .get(keyword)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The schema with its reference followed; what stands beside the reference is added.
fn resolved(schema: &Value, document: &Value) -> Map<String, Value> {
    let mut own = schema.as_object().cloned().unwrap_or_default();
    let Some(Value::String(reference)) = own.shift_remove("$ref") else {
        return own;
    };
    let target = reference
        .strip_prefix('#')
        .and_then(|pointer| document.pointer(pointer));
    let mut whole = target.map_or_else(Map::new, |target| resolved(target, document));
    whole.extend(own);
    whole
}
