//! Whether an event's schema still fits the one that was released.
//!
//! Both directions count. What was published under the old schema is still under way, kept, or replayed after weeks:
//! it must stay readable. And who reads events by the old schema, an older version of this program among them, counts
//! on what it promised. So these break: a field that is gone, a field of another kind, a field that is required now
//! (new or not), a field that was required and is not any more, and a closed list or a limit that takes less than it
//! did.
//!
//! A new optional field passes, since unknown fields are ignored. So does a limit or a list that takes more: until
//! every reader knows a new value, those that do not will park it, so publish it one version after it can be read.

mod shape;

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use shape::Shape;

/// What says nothing about which values fit.
const ANNOTATIONS: [&str; 10] = [
    "$schema",
    "$id",
    "$defs",
    "$comment",
    "title",
    "description",
    "default",
    "deprecated",
    "examples",
    "example",
];

/// Limits that take less when they grow.
const LOWER: [&str; 4] = ["minimum", "exclusiveMinimum", "minLength", "minItems"];

/// Limits that take less when they shrink.
const UPPER: [&str; 4] = ["maximum", "exclusiveMaximum", "maxLength", "maxItems"];

/// What is compared by rules of its own.
const COMPARED: [&str; 10] = [
    "type",
    "enum",
    "const",
    "oneOf",
    "anyOf",
    "pattern",
    "properties",
    "required",
    "items",
    "additionalProperties",
];

/// A change that breaks with what was released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The field, such as `order.lines[].quantity`.
    pub path: String,
    /// What became of it, and what to do.
    pub change: String,
}

impl fmt::Display for Break {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "data"
        } else {
            &self.path
        };
        write!(formatter, "{path}: {}", self.change)
    }
}

/// Every change from the `released` schema to the `current` one that breaks with it.
pub fn breaks(released: &Value, current: &Value) -> Vec<Break> {
    let mut comparison = Comparison {
        released,
        current,
        within: Vec::new(),
        breaks: Vec::new(),
    };
    comparison.compare("", released, current);
    comparison.breaks
}

struct Comparison<'a> {
    /// The documents, in which references are looked up.
    released: &'a Value,
    current: &'a Value,
    /// The references that are being compared, since types may hold themselves.
    within: Vec<(String, String)>,
    breaks: Vec<Break>,
}

impl Comparison<'_> {
    fn found(&mut self, path: &str, change: impl Into<String>) {
        self.breaks.push(Break {
            path: path.to_owned(),
            change: change.into(),
        });
    }

    fn compare(&mut self, path: &str, released: &Value, current: &Value) {
        let references = (reference(released), reference(current));
        if let (Some(old), Some(new)) = references {
            let pair = (old.to_owned(), new.to_owned());
            if self.within.contains(&pair) {
                return;
            }
            self.within.push(pair);
            self.compare_resolved(path, released, current);
            self.within.pop();
        } else {
            self.compare_resolved(path, released, current);
        }
    }

    fn compare_resolved(&mut self, path: &str, released: &Value, current: &Value) {
        let old = Shape::of(released, self.released);
        let new = Shape::of(current, self.current);
        if old.types != new.types {
            let kinds = |shape: &Shape| match shape.types.len() {
                0 => "anything".to_owned(),
                _ => words(&shape.types),
            };
            let (was, is) = (kinds(&old), kinds(&new));
            self.found(
                path,
                format!("was {was}, is {is}; keep it and add a new field beside it"),
            );
            return;
        }
        if old.nullable && !new.nullable {
            self.found(path, "was allowed to be null; allow it still");
        }
        self.values(path, &old, &new);
        self.limits(path, &old, &new);
        self.fields(path, &old, &new);
        self.inner(path, &old, &new, "items", "[]");
        self.inner(path, &old, &new, "additionalProperties", "{}");
        self.alternatives(path, &old, &new);
        self.anything_else(path, &old, &new);
    }

    /// Closed lists of values, and patterns.
    fn values(&mut self, path: &str, old: &Shape, new: &Shape) {
        match (&old.values, &new.values) {
            (Some(old), Some(new)) => {
                let gone: BTreeSet<_> = old.difference(new).cloned().collect();
                if !gone.is_empty() {
                    let change = format!(
                        "does not take {} any more; take what was published",
                        words(&gone)
                    );
                    self.found(path, change);
                }
            }
            (Some(_), None) => self.found(path, "was one of a closed list, is any; keep the list"),
            (None, Some(_)) => self.found(path, "was any, is one of a closed list; take any still"),
            (None, None) => {}
        }
        let pattern = |shape: &Shape| shape.rest.get("pattern").cloned();
        if let (was, Some(is)) = (pattern(old), pattern(new))
            && was.as_ref() != Some(&is)
        {
            let was = was.map_or("none".to_owned(), |was| was.to_string());
            self.found(
                path,
                format!("its pattern was {was}, is {is}; take what was published"),
            );
        }
    }

    fn limits(&mut self, path: &str, old: &Shape, new: &Shape) {
        let tighter = |name: &str, is_tighter: fn(f64, f64) -> bool| {
            let is = new.rest.get(name)?;
            let was = old.rest.get(name);
            let tighter = match (was.and_then(Value::as_f64), is.as_f64()) {
                (Some(was), Some(is)) => is_tighter(was, is),
                _ => true,
            };
            tighter.then(|| {
                let was = was.map_or("none".to_owned(), Value::to_string);
                format!("its {name} was {was}, is {is}; take what was published")
            })
        };
        let lower = LOWER.map(|name| tighter(name, |was, is| is > was));
        let upper = UPPER.map(|name| tighter(name, |was, is| is < was));
        for change in lower.into_iter().chain(upper).flatten() {
            self.found(path, change);
        }
    }

    fn fields(&mut self, path: &str, old: &Shape, new: &Shape) {
        let beside = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        for (name, released) in &old.fields {
            let path = beside(name);
            let Some(current) = new.fields.get(name) else {
                self.found(
                    &path,
                    "the field is gone; keep it, since readers count on it",
                );
                continue;
            };
            match (old.required.contains(name), new.required.contains(name)) {
                (false, true) => self.found(
                    &path,
                    "the field was optional, is required; events without it are under way, so make it optional",
                ),
                (true, false) => self.found(
                    &path,
                    "the field was required, is optional; keep it required, since readers count on it",
                ),
                _ => self.compare(&path, released, current),
            }
        }
        for name in new.required.difference(&old.required) {
            if !old.fields.contains_key(name) {
                self.found(
                    &beside(name),
                    "a new required field; events without it are under way, so make it optional",
                );
            }
        }
    }

    /// What is inside of a list or a map.
    fn inner(&mut self, path: &str, old: &Shape, new: &Shape, keyword: &str, step: &str) {
        let path = format!("{path}{step}");
        match (old.rest.get(keyword), new.rest.get(keyword)) {
            (Some(Value::Object(released)), Some(Value::Object(current))) => {
                let (released, current) = (released.clone(), current.clone());
                self.compare(&path, &Value::Object(released), &Value::Object(current));
            }
            (was, is @ Some(_)) if was != is => {
                self.found(&path, format!("its {keyword} are other ones; keep them"));
            }
            _ => {}
        }
    }

    fn alternatives(&mut self, path: &str, old: &Shape, new: &Shape) {
        if old.alternatives.len() != new.alternatives.len() {
            self.found(path, "has other alternatives; keep them");
            return;
        }
        for (released, current) in old.alternatives.iter().zip(&new.alternatives) {
            self.compare(path, released, current);
        }
    }

    /// What has no rule of its own must stay as it is.
    fn anything_else(&mut self, path: &str, old: &Shape, new: &Shape) {
        let names: BTreeSet<&String> = old.rest.keys().chain(new.rest.keys()).collect();
        for name in names {
            let known = |names: &[&str]| names.contains(&name.as_str());
            if known(&ANNOTATIONS) || known(&COMPARED) || known(&LOWER) || known(&UPPER) {
                continue;
            }
            let (was, is) = (old.rest.get(name), new.rest.get(name));
            if was != is {
                let word =
                    |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
                let change = format!("its {name} was {}, is {}; keep it", word(was), word(is));
                self.found(path, change);
            }
        }
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

fn words(names: &BTreeSet<String>) -> String {
    names.iter().cloned().collect::<Vec<_>>().join(" or ")
}
