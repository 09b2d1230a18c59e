//! Event subscriptions out of a compiled ARM template.
//!
//! A parameter without a value does not matter where the local grid does not look: in ids of resources, for example.
//! Where it does matter the parameter is named.

use serde_json::{Map, Value};

use super::expression::{MOST_COPIES, Scope, unknown_parameter};

/// The types of resources that are event subscriptions of a topic.
const SUBSCRIPTIONS: [&str; 3] = [
    "Microsoft.EventGrid/topics/eventSubscriptions",
    "Microsoft.EventGrid/topics/providers/eventSubscriptions",
    "Microsoft.EventGrid/eventSubscriptions",
];

const DEPLOYMENT: &str = "Microsoft.Resources/deployments";

/// Members in which the local grid reads nothing.
const UNREAD: [&str; 4] = [
    "deadLetterDestination",
    "deadLetterWithResourceIdentity",
    "identity",
    "labels",
];

/// The properties of every subscription in the template, by name.
pub(super) fn subscriptions(template: &Value) -> Result<Map<String, Value>, String> {
    let mut found = Map::new();
    collect(&Scope::new(template, Map::new()), template, &mut found)?;
    Ok(found)
}

/// Adds the subscriptions among the resources of the template, whose expressions refer to the scope.
fn collect(
    scope: &Scope<'_>,
    template: &Value,
    found: &mut Map<String, Value>,
) -> Result<(), String> {
    let resources: Vec<&Value> = match template.get("resources") {
        Some(Value::Array(resources)) => resources.iter().collect(),
        // With symbolic names (`languageVersion` 2.0).
        Some(Value::Object(resources)) => resources.values().collect(),
        _ => Vec::new(),
    };
    for resource in resources {
        let kind = text(resource, "type");
        let subscription = SUBSCRIPTIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(kind));
        let deployment = DEPLOYMENT.eq_ignore_ascii_case(kind);
        if !(subscription || deployment) || resource.get("existing") == Some(&Value::Bool(true)) {
            continue;
        }
        let problem = |error: String| format!("{kind} `{}`: {error}", text(resource, "name"));
        for scope in copies(scope, resource).map_err(problem)? {
            if !wanted(&scope, resource).map_err(problem)? {
                continue;
            }
            if deployment {
                let inner = resource
                    .pointer("/properties/template")
                    .ok_or("properties.template is missing; linked templates are not read")
                    .map_err(|error| problem(error.to_owned()))?;
                match given(&scope, resource) {
                    Some(given) => collect(&Scope::new(inner, given), inner, found)?,
                    None => collect(&scope, inner, found)?,
                }
            } else {
                let (name, properties) = evaluated(&scope, resource).map_err(problem)?;
                if found.insert(name.clone(), properties).is_some() {
                    return Err(format!("there are two subscriptions `{name}`"));
                }
            }
        }
    }
    Ok(())
}

fn text<'a>(resource: &'a Value, member: &str) -> &'a str {
    resource
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// One scope for each copy of the resource, or the one that there is.
fn copies<'a>(scope: &Scope<'a>, resource: &Value) -> Result<Vec<Scope<'a>>, String> {
    let Some(copy) = resource.get("copy") else {
        return Ok(vec![scope.clone()]);
    };
    let count = scope.evaluate(copy.get("count").unwrap_or(&Value::Null))?;
    known(&count, "copy.count")?;
    let count = count
        .as_i64()
        .filter(|count| (0..=MOST_COPIES).contains(count))
        .ok_or_else(|| format!("copy.count is not a number up to {MOST_COPIES}"))?;
    Ok((0..count).map(|index| scope.with_index(index)).collect())
}

fn wanted(scope: &Scope<'_>, resource: &Value) -> Result<bool, String> {
    let Some(condition) = resource.get("condition") else {
        return Ok(true);
    };
    let condition = scope.evaluate(condition)?;
    known(&condition, "condition")?;
    condition
        .as_bool()
        .ok_or_else(|| "condition is neither true nor false".to_owned())
}

/// What the template inside of a deployment is given. None: its expressions refer to the template around it, as they do
/// unless something else is said (Azure Resource Manager, "Use linked and nested templates"); Bicep's modules say so.
fn given(scope: &Scope<'_>, deployment: &Value) -> Option<Map<String, Value>> {
    let mode = deployment.pointer("/properties/expressionEvaluationOptions/scope");
    mode.and_then(Value::as_str)
        .filter(|mode| mode.eq_ignore_ascii_case("inner"))?;
    let mut given = Map::new();
    let parameters = deployment.pointer("/properties/parameters");
    for (name, parameter) in parameters.and_then(Value::as_object).into_iter().flatten() {
        // What cannot be had here, such as the output of another deployment, has no value. It may not be needed.
        let value = parameter
            .get("value")
            .and_then(|value| scope.evaluate(value).ok());
        given.insert(
            name.clone(),
            value.unwrap_or_else(|| unknown_parameter(name)),
        );
    }
    Some(given)
}

fn evaluated(scope: &Scope<'_>, resource: &Value) -> Result<(String, Value), String> {
    let name = scope.evaluate(resource.get("name").unwrap_or(&Value::Null))?;
    let name = name.as_str().ok_or("its name is not a string")?;
    // A child's name begins with that of its topic.
    let name = name.rsplit_once('/').map_or(name, |(_, last)| last);
    known(&Value::from(name), "name")?;
    let mut properties = Map::new();
    let written = resource.get("properties").and_then(Value::as_object);
    for (member, value) in written.ok_or("its properties are missing")? {
        let value = scope
            .evaluate_except(value, &UNREAD, member)
            .map_err(|problem| format!("properties.{member}: {problem}"))?;
        let path = format!("properties.{member}");
        if UNREAD.contains(&member.as_str()) {
            known(&value, &path)?;
        } else {
            known_in(&value, &path)?;
        }
        properties.insert(member.clone(), value);
    }
    Ok((name.to_owned(), Value::Object(properties)))
}

/// Fails if a parameter without a value stands anywhere in the value where it matters.
fn known_in(value: &Value, path: &str) -> Result<(), String> {
    match value {
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            let path = format!("{path}.{name}");
            match value.as_str() {
                // Only the function's name is looked at.
                Some(id) if name == "resourceId" => {
                    let end = id.rsplit_once("/functions/").map_or(id, |(_, name)| name);
                    known(&Value::from(end), &path)
                }
                _ => known_in(value, &path),
            }
        }),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| known_in(value, &format!("{path}[{index}]"))),
        other => known(other, path),
    }
}

fn known(value: &Value, path: &str) -> Result<(), String> {
    match value.as_str().and_then(super::expression::named_unknown) {
        Some(unknown) => Err(format!(
            "{path}: {unknown} has no value here; give it a default value in the template, or write the value itself instead"
        )),
        None => Ok(()),
    }
}
