//! `schemas/<event>.json`: the JSON Schema of each event's `data`, made from its Rust type.
//!
//! They say what decoding takes, limits included. Unknown fields are ignored when events are read, so the schemas
//! forbid none.

use std::path::{Path, PathBuf};

use schemars::{
    Schema, SchemaGenerator, generate::SchemaSettings, transform::transform_subschemas,
};
use serde_json::{Map, Value, json};

use crate::{
    events::{EventType, short_name},
    functions::catalogue,
};

use super::{Artifact, file_name};

/// Where the schemas stand.
pub(super) const FOLDER: &str = "schemas";

/// Where OpenAPI and AsyncAPI documents keep their schemas.
const COMPONENTS: &str = "/components/schemas";

pub(super) fn all() -> Vec<Artifact> {
    let artifact =
        |event_type: &EventType| Artifact::json(schema_path(event_type.name), &schema(event_type));
    catalogue().map(artifact).collect()
}

/// Where the schema of an event type stands: `schemas/order-placed.json` for `Sales.OrderPlaced`.
pub fn schema_path(event_type: &str) -> PathBuf {
    Path::new(FOLDER)
        .join(file_name(event_type))
        .with_extension("json")
}

/// The schema of an event's data, draft 2020-12, with everything that it refers to.
pub(super) fn schema(event_type: &EventType) -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(whole_numbers);
    let meta_schema = settings.meta_schema.clone();
    let mut generator = settings.into_generator();
    let mut whole = Map::new();
    whole.insert("$schema".to_owned(), json!(meta_schema));
    whole.insert("title".to_owned(), json!(short_name(event_type.name)));
    whole.extend(data(event_type, &mut generator));
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        whole.insert("$defs".to_owned(), Value::Object(definitions));
    }
    Value::Object(whole)
}

/// The schema of an event's data, which refers to what the generator collects.
pub(super) fn data(event_type: &EventType, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut schema = (event_type.schema)(generator);
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    std::mem::take(schema.ensure_object())
}

/// A generator for an AsyncAPI document: JSON Schema draft 7, which is what AsyncAPI's own dialect extends.
pub(super) fn for_asyncapi() -> SchemaGenerator {
    in_components(SchemaSettings::draft07())
}

/// A generator for what an OpenAPI document says of requests.
pub(super) fn for_requests() -> SchemaGenerator {
    in_components(SchemaSettings::draft2020_12())
}

/// A generator for what an OpenAPI document says of answers: they have fields that may be missing from requests.
pub(super) fn for_answers() -> SchemaGenerator {
    in_components(SchemaSettings::draft2020_12().for_serialize())
}

fn in_components(settings: SchemaSettings) -> SchemaGenerator {
    let settings = settings
        .with(|settings| {
            settings.definitions_path = COMPONENTS.into();
            settings.meta_schema = None;
        })
        .with_transform(whole_numbers);
    settings.into_generator()
}

/// States the limits of Rust's whole numbers, which schemars tells by `format` alone.
fn whole_numbers(schema: &mut Schema) {
    transform_subschemas(&mut whole_numbers, schema);
    let (minimum, maximum) = match schema.get("format").and_then(Value::as_str) {
        Some("int8") => (json!(i8::MIN), json!(i8::MAX)),
        Some("int16") => (json!(i16::MIN), json!(i16::MAX)),
        Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
        Some("int64") => (json!(i64::MIN), json!(i64::MAX)),
        Some("uint8") => (json!(0), json!(u8::MAX)),
        Some("uint16") => (json!(0), json!(u16::MAX)),
        Some("uint32") => (json!(0), json!(u32::MAX)),
        Some("uint64") => (json!(0), json!(u64::MAX)),
        _ => return,
    };
    for (name, limit) in [("minimum", minimum), ("maximum", maximum)] {
        if schema.get(name).is_none() {
            schema.insert(name.to_owned(), limit);
        }
    }
}
