//! Forms, and whether their fields are the published ones.

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
};

use super::{Answer, error, invalid};

/// A request's fields by their names, brackets and all.
pub type Parameters = BTreeMap<String, String>;

/// Operation and name, with `*` for whatever stands between brackets there.
static PUBLISHED: LazyLock<HashSet<(&str, &str)>> = LazyLock::new(|| {
    let mut operation = "";
    let mut published = HashSet::new();
    let lines = include_str!("parameters.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.strip_prefix("    ").unwrap_or_else(|| {
            operation = line;
            ""
        });
        published.insert((operation, name));
    }
    published
});

/// A form or a query.
pub(super) fn parse(form: &str) -> Parameters {
    url::form_urlencoded::parse(form.as_bytes())
        .into_owned()
        .collect()
}

/// What is wrong with a request before it is executed: this is not stored under its key.
pub(super) fn check(operation: &str, parameters: &Parameters) -> Result<(), Answer> {
    if !PUBLISHED.contains(&(operation, "")) {
        let message = format!("Unrecognized request URL ({operation})");
        return Err(error(404, "invalid_request_error", None, None, &message));
    }
    for (name, value) in parameters {
        let any = name.split_once('[').map(|(hash, _)| format!("{hash}[*]"));
        let known = PUBLISHED.contains(&(operation, name))
            || any.is_some_and(|any| PUBLISHED.contains(&(operation, any.as_str())));
        if !known {
            let message = format!("Received unknown parameter: {name}");
            return Err(invalid(Some("parameter_unknown"), Some(name), &message));
        }
        if value.is_empty() {
            let message = format!("You passed an empty string for '{name}'.");
            return Err(invalid(
                Some("parameter_invalid_empty"),
                Some(name),
                &message,
            ));
        }
        let key = name
            .strip_prefix("metadata[")
            .and_then(|key| key.strip_suffix(']'));
        if key.is_some_and(|key| key.len() > 40 || key.contains(['[', ']']) || value.len() > 500) {
            return Err(invalid(None, Some(name), "Metadata is too long"));
        }
        let integer = matches!(name.as_str(), "amount" | "limit" | "amount_to_capture");
        if integer && value.parse::<u64>().is_err() {
            let message = format!("Invalid integer: {value}");
            return Err(invalid(
                Some("parameter_invalid_integer"),
                Some(name),
                &message,
            ));
        }
        let boolean = matches!(name.as_str(), "confirm" | "off_session")
            || name == "automatic_payment_methods[enabled]";
        if boolean && !matches!(value.as_str(), "true" | "false") {
            return Err(invalid(
                None,
                Some(name),
                &format!("Invalid boolean: {value}"),
            ));
        }
    }
    let required: &[&str] = match operation {
        "POST /v1/payment_intents" => &["amount", "currency"],
        "GET /v1/payment_intents/search" => &["query"],
        _ => &[],
    };
    match required
        .iter()
        .find(|name| !parameters.contains_key(**name))
    {
        Some(name) => {
            let message = format!("Missing required param: {name}.");
            Err(invalid(Some("parameter_missing"), Some(name), &message))
        }
        None => Ok(()),
    }
}
