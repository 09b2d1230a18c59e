//! Topics and event subscriptions out of a compiled ARM template.
//!
//! A parameter without a value does not matter where the local grid does not look: in ids of resources, for example.
//! Where it does matter the parameter is named.

use serde_json::{Map, Value};

use super::expression::{MOST_COPIES, Scope, named_unknown, unknown_parameter};
use crate::dev::grid::{schema::Schema, topics::FoundTopic};

/// The types of resources that are event subscriptions of a topic.
const SUBSCRIPTIONS: [&str; 3] = [
    "Microsoft.EventGrid/topics/eventSubscriptions",
    "Microsoft.EventGrid/topics/providers/eventSubscriptions",
    "Microsoft.EventGrid/eventSubscriptions",
];

const TOPIC: &str = "Microsoft.EventGrid/topics";

/// What else Event Grid has is not here.
const PROVIDER: &str = "Microsoft.EventGrid/";

/// Members of a topic that only matter in Azure: who reaches it over the network, and where its data stays.
const UNREAD_OF_TOPIC: [&str; 4] = [
    "dataResidencyBoundary",
    "inboundIpRules",
    "minimumTlsVersionAllowed",
    "publicNetworkAccess",
];

const DEPLOYMENT: &str = "Microsoft.Resources/deployments";

/// Members in which the local grid reads nothing.
const UNREAD: [&str; 4] = [
    "deadLetterDestination",
    "deadLetterWithResourceIdentity",
    "identity",
    "labels",
];

/// What the template has, in its order.
#[derive(Debug, Default)]
struct Found {
    topics: Vec<FoundTopic>,
    /// Topic (nothing if the subscription does not say it), name and properties.
    subscriptions: Vec<(Option<String>, String, Value)>,
}

/// The topics of the template, with their subscriptions. Those whose topic is not in the template belong to the default one. So
/// do those whose topic cannot be known, unless there is one topic only: then that is meant.
pub(in crate::dev::grid) fn topics(template: &Value) -> Result<Vec<FoundTopic>, String> {
    let mut found = Found::default();
    collect(&Scope::new(template, Map::new()), template, &mut found)?;
    let Found {
        mut topics,
        subscriptions,
    } = found;
    let only = topics.len() == 1;
    if let [topic] = &mut topics[..]
        && named_unknown(&topic.name).is_some()
    {
        topic.name = FoundTopic::default(Map::new()).name;
    }
    for topic in &topics {
        known(&Value::from(topic.name.as_str()), "the name of a topic")?;
    }
    let mut others = FoundTopic::default(Map::new());
    for (topic, name, properties) in subscriptions {
        let named = |name: &str| {
            let same = |topic: &FoundTopic| topic.name.eq_ignore_ascii_case(name);
            topics.iter().position(same)
        };
        let owner = match topic.filter(|topic| named_unknown(topic).is_none()) {
            Some(topic) => named(&topic),
            None => only.then_some(0),
        };
        let owner = owner.or_else(|| named(&others.name));
        let owner = owner.and_then(|position| topics.get_mut(position));
        let owner = owner.unwrap_or(&mut others);
        if owner
            .subscriptions
            .insert(name.clone(), properties)
            .is_some()
        {
            return Err(format!("there are two subscriptions `{name}`"));
        }
    }
    if !others.subscriptions.is_empty() || topics.is_empty() {
        topics.push(others);
    }
    Ok(topics)
}

/// Adds what is among the resources of the template, whose expressions refer to the scope.
fn collect(scope: &Scope<'_>, template: &Value, found: &mut Found) -> Result<(), String> {
    let resources: Vec<&Value> = match template.get("resources") {
        Some(Value::Array(resources)) => resources.iter().collect(),
        // With symbolic names (`languageVersion` 2.0).
        Some(Value::Object(resources)) => resources.values().collect(),
        _ => Vec::new(),
    };
    for resource in resources {
        let Some(kind) = Kind::of(text(resource, "type")) else {
            continue;
        };
        if resource.get("existing") == Some(&Value::Bool(true)) {
            continue;
        }
        let problem = |error: String| {
            let (kind, name) = (text(resource, "type"), text(resource, "name"));
            format!("{kind} `{name}`: {error}")
        };
        for scope in copies(scope, resource).map_err(problem)? {
            if !wanted(&scope, resource).map_err(problem)? {
                continue;
            }
            match kind {
                Kind::Deployment => {
                    let inner = resource
                        .pointer("/properties/template")
                        .ok_or("properties.template is missing; linked templates are not read")
                        .map_err(|error| problem(error.to_owned()))?;
                    match given(&scope, resource) {
                        Some(given) => collect(&Scope::new(inner, given), inner, found)?,
                        None => collect(&scope, inner, found)?,
                    }
                }
                Kind::Topic => found.topics.push(topic(&scope, resource).map_err(problem)?),
                Kind::Subscription => {
                    let subscription = subscription(&scope, resource).map_err(problem)?;
                    found.subscriptions.push(subscription);
                }
                Kind::Other => {
                    let words =
                        "the local Event Grid has custom topics and their subscriptions only";
                    return Err(problem(words.to_owned()));
                }
            }
        }
    }
    Ok(())
}

/// The resources that are looked at.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Deployment,
    Topic,
    Subscription,
    /// Something else of Event Grid's.
    Other,
}

impl Kind {
    fn of(resource_type: &str) -> Option<Self> {
        let is = |known: &str| known.eq_ignore_ascii_case(resource_type);
        let of_event_grid = resource_type
            .get(..PROVIDER.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PROVIDER));
        if is(DEPLOYMENT) {
            Some(Self::Deployment)
        } else if is(TOPIC) {
            Some(Self::Topic)
        } else if SUBSCRIPTIONS.into_iter().any(is) {
            Some(Self::Subscription)
        } else {
            of_event_grid.then_some(Self::Other)
        }
    }
}

fn topic(scope: &Scope<'_>, resource: &Value) -> Result<FoundTopic, String> {
    let name = scope.evaluate(resource.get("name").unwrap_or(&Value::Null));
    // A name may be made of what is only known in Azure. It matters only if there are several topics.
    let name = name.unwrap_or_else(|_| unknown_parameter(text(resource, "name")));
    let name = name.as_str().ok_or("its name is not a string")?;
    // What Azure takes where nothing is said.
    let mut topic = FoundTopic::new(name, Schema::EventGrid, Map::new());
    let written = resource.get("properties").and_then(Value::as_object);
    for (member, value) in written.into_iter().flatten() {
        let value = scope
            .evaluate_except(value, &UNREAD_OF_TOPIC, member)
            .map_err(|problem| format!("properties.{member}: {problem}"))?;
        known(&value, &format!("properties.{member}"))?;
        let unsupported = || {
            format!(
                "properties.{member}: {value} is not supported; the local Event Grid takes {} or {}, and knows disableLocalAuth",
                Schema::CloudEvents.name(),
                Schema::EventGrid.name()
            )
        };
        match (member.as_str(), &value) {
            (member, _) if UNREAD_OF_TOPIC.contains(&member) => {}
            (_, Value::Null) => {}
            ("inputSchema", Value::String(_)) => {
                topic.schema = serde_json::from_value(value.clone()).map_err(|_| unsupported())?;
            }
            ("disableLocalAuth", Value::Bool(disabled)) => topic.tokens_only = *disabled,
            _ => return Err(unsupported()),
        }
    }
    Ok(topic)
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

fn subscription(
    scope: &Scope<'_>,
    resource: &Value,
) -> Result<(Option<String>, String, Value), String> {
    let full_name = scope.evaluate(resource.get("name").unwrap_or(&Value::Null))?;
    let full_name = full_name.as_str().ok_or("its name is not a string")?;
    // A child's name begins with that of its topic.
    let (topic, name) = match full_name.rsplit_once('/') {
        Some((before, name)) => (before.split('/').next().map(str::to_owned), name),
        None => (topic_in_scope(scope, resource)?, full_name),
    };
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
    Ok((topic, name.to_owned(), Value::Object(properties)))
}

/// The topic whose id, or the end of it, is the resource's scope.
fn topic_in_scope(scope: &Scope<'_>, resource: &Value) -> Result<Option<String>, String> {
    // What cannot be had here, such as the output of another deployment, is not known.
    let written = resource.get("scope").map(|written| scope.evaluate(written));
    let Some(Ok(Value::String(id))) = written else {
        return Ok(None);
    };
    let lower = id.to_ascii_lowercase();
    let kind = format!("{}/", TOPIC.to_ascii_lowercase());
    match lower
        .find(&kind)
        .and_then(|start| id.get(start + kind.len()..))
    {
        Some(name) => Ok(Some(name.to_owned())),
        None if named_unknown(&id).is_some() => Ok(None),
        None => Err(format!(
            "scope: `{id}` is no custom topic; the local Event Grid has no other sources of events"
        )),
    }
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
    match value.as_str().and_then(named_unknown) {
        Some(unknown) => Err(format!(
            "{path}: {unknown} has no value here; give it a default value in the template, or write the value itself instead"
        )),
        None => Ok(()),
    }
}
