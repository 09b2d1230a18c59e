//! What is checked in the templates without Azure's own compiler.

use std::collections::{BTreeMap, BTreeSet};

use orderflow::functions::{FUNCTIONS, Trigger};
use serde_json::Value;

use super::{
    syntax::Node,
    template::{Resource, Template},
};

/// Files by their paths below `infra/`.
pub type Files = BTreeMap<String, String>;

/// What the templates are allowed to call. None of it can hand out a secret.
const CALLABLE: &[&str] = &[
    "allowed",
    "batchSize",
    "description",
    "empty",
    "guid",
    "items",
    "loadJsonContent",
    "maxLength",
    "maxValue",
    "minLength",
    "minValue",
    "readEnvironmentVariable",
    "resourceGroup",
    "subscriptionResourceId",
    "tenant",
    "toLower",
    "union",
    "uniqueString",
];

/// Words in names of what must not leave a template, or enter one in the open.
const SECRET: &[&str] = &["key", "password", "secret", "connectionstring"];

/// App settings of the Functions host.
const HOST_SETTINGS: &[&str] = &[
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
];

/// What must stay as it is, whatever else changes: file, resource, property, value.
const FIXED: &[(&str, &str, &str, &str)] = &[
    (
        "modules/app.bicep",
        "app",
        "properties.functionAppConfig.runtime.name",
        "'custom'",
    ),
    (
        "modules/app.bicep",
        "app",
        "properties.functionAppConfig.runtime.version",
        "'1.0'",
    ),
    (
        "modules/app.bicep",
        "app",
        "properties.functionAppConfig.deployment.storage.authentication.type",
        "'UserAssignedIdentity'",
    ),
    ("modules/app.bicep", "app", "properties.httpsOnly", "true"),
    ("modules/app.bicep", "plan", "sku.name", "'FC1'"),
    (
        "modules/app.bicep",
        "publishingPasswords",
        "properties.allow",
        "false",
    ),
    (
        "modules/database.bicep",
        "server",
        "properties.authConfig.activeDirectoryAuth",
        "'Enabled'",
    ),
    (
        "modules/database.bicep",
        "server",
        "properties.authConfig.passwordAuth",
        "'Disabled'",
    ),
    (
        "modules/events.bicep",
        "topic",
        "properties.disableLocalAuth",
        "true",
    ),
    (
        "modules/events.bicep",
        "topic",
        "properties.inputSchema",
        "'CloudEventSchemaV1_0'",
    ),
    (
        "modules/storage.bicep",
        "files",
        "properties.allowBlobPublicAccess",
        "false",
    ),
    (
        "modules/storage.bicep",
        "files",
        "properties.allowSharedKeyAccess",
        "false",
    ),
    (
        "modules/storage.bicep",
        "host",
        "properties.allowBlobPublicAccess",
        "false",
    ),
    (
        "modules/storage.bicep",
        "host",
        "properties.allowSharedKeyAccess",
        "false",
    ),
    (
        "modules/telemetry.bicep",
        "insights",
        "properties.DisableLocalAuth",
        "true",
    ),
    (
        "modules/vault.bicep",
        "vault",
        "properties.enableRbacAuthorization",
        "true",
    ),
    (
        "subscriptions.bicep",
        "subscriptions",
        "name",
        "function.key",
    ),
    (
        "subscriptions.bicep",
        "subscriptions",
        "properties.deadLetterWithResourceIdentity.identity.type",
        "'SystemAssigned'",
    ),
    (
        "subscriptions.bicep",
        "subscriptions",
        "properties.destination.endpointType",
        "'AzureFunction'",
    ),
    (
        "subscriptions.bicep",
        "subscriptions",
        "properties.destination.properties.resourceId",
        "'${app.id}/functions/${function.key}'",
    ),
    (
        "subscriptions.bicep",
        "subscriptions",
        "properties.eventDeliverySchema",
        "'CloudEventSchemaV1_0'",
    ),
    (
        "subscriptions.bicep",
        "subscriptions",
        "properties.filter.includedEventTypes",
        "function.value.includedEventTypes",
    ),
];

/// Who may do what: file, on which resource, in which role, and whose object id that is. Nobody may do anything else.
const GRANTS: &[(&str, &str, &str, &str)] = &[
    (
        "modules/events.bicep",
        "topic",
        "eventGridDataSender",
        "senderId",
    ),
    (
        "modules/storage.bicep",
        "deadLetters",
        "storageBlobDataContributor",
        "topicId",
    ),
    (
        "modules/storage.bicep",
        "host",
        "storageBlobDataOwner",
        "appId",
    ),
    (
        "modules/storage.bicep",
        "host",
        "storageTableDataContributor",
        "appId",
    ),
    (
        "modules/storage.bicep",
        "packages",
        "storageBlobDataContributor",
        "appId",
    ),
    (
        "modules/telemetry.bicep",
        "insights",
        "monitoringMetricsPublisher",
        "publisherId",
    ),
    (
        "modules/vault.bicep",
        "vault",
        "keyVaultSecretsUser",
        "readerId",
    ),
];

/// Everything that is wrong with the files, each with its place.
pub fn problems(files: &Files) -> Vec<String> {
    let is_template = |path: &str| path.ends_with(".bicep") || path.ends_with(".bicepparam");
    let templates: BTreeMap<_, _> = files
        .iter()
        .filter(|(path, _)| is_template(path))
        .map(|(path, text)| (path.as_str(), Template::new(path, text)))
        .collect();
    let mut found = Vec::new();
    for template in templates.values() {
        syntax(template, &mut found);
        names(template, &mut found);
        resource_types(template, &mut found);
        secrets(template, &mut found);
        modules(template, &templates, &mut found);
        parameter_file(template, &templates, &mut found);
    }
    fixed(&templates, &mut found);
    roles(&templates, files, &mut found);
    settings(&templates, &mut found);
    subscriptions(files, &mut found);
    always_ready(&templates, &mut found);
    found
}

fn syntax(template: &Template, found: &mut Vec<String>) {
    for node in template.tree.walk().iter().filter(|node| node.wrong) {
        let place = format!("{}:{}", template.path, node.line);
        found.push(format!("{place}: cannot be parsed near {:?}", node.text));
    }
}

/// Whatever is named is declared, and whatever is declared is named.
fn names(template: &Template, found: &mut Vec<String>) {
    let (values, functions) = template.references();
    let symbols = template.resources.iter().map(|it| it.symbol.as_str());
    let modules = template.modules.iter().map(|it| it.symbol.as_str());
    let declared: BTreeSet<_> = (template.parameters.keys().map(String::as_str))
        .chain(template.variables.keys().map(String::as_str))
        .chain(symbols)
        .chain(modules)
        .chain(template.loop_variables())
        .collect();
    let path = &template.path;
    for node in &values {
        if !declared.contains(node.text.as_str()) {
            found.push(format!(
                "{path}:{}: nothing is called {}",
                node.line, node.text
            ));
        }
    }
    for node in functions {
        if !CALLABLE.contains(&node.text.as_str()) {
            found.push(format!(
                "{path}:{}: {} must not be called",
                node.line, node.text
            ));
        }
    }
    let used: BTreeSet<_> = values.iter().map(|node| node.text.as_str()).collect();
    if template.using.is_none() {
        let unused = template.parameters.keys().chain(template.variables.keys());
        for name in unused.filter(|name| !used.contains(name.as_str())) {
            found.push(format!("{path}: {name} is not used"));
        }
    }
}

/// The types that are known to exist, with the properties that they are known to have.
fn known_types() -> Value {
    serde_json::from_str(include_str!("../../fixtures/azure-resource-types.json")).unwrap()
}

fn resource_types(template: &Template, found: &mut Vec<String>) {
    let known = known_types();
    for resource in &template.resources {
        let place = format!("{}:{}", template.path, resource.line);
        let Some(known) = known.get(&resource.kind) else {
            found.push(format!(
                "{place}: {} is not a known resource type",
                resource.kind
            ));
            continue;
        };
        let known: Vec<_> = known["properties"].as_array().unwrap().iter().collect();
        for (path, _) in properties(template, resource) {
            let open = |known: &str| {
                let prefix = known.strip_suffix('*');
                prefix.is_some_and(|prefix| path.starts_with(prefix)) || known == path
            };
            let of_bicep = ["name", "parent", "scope", "dependsOn"].contains(&path.as_str());
            if !of_bicep && !known.iter().any(|known| open(known.as_str().unwrap())) {
                found.push(format!("{place}: {} has no {path}", resource.kind));
            }
        }
    }
}

fn properties(template: &Template, resource: &Resource) -> Vec<(String, Node)> {
    let mut found = Vec::new();
    if let Some(body) = resource.node.body() {
        template.paths(body, "", &mut found);
    }
    found
}

fn secrets(template: &Template, found: &mut Vec<String>) {
    let path = &template.path;
    let tells = |text: &str| {
        let text = text.to_ascii_lowercase();
        SECRET.iter().any(|word| text.contains(word))
    };
    for (name, value) in &template.outputs {
        if tells(name) || tells(&value.text) {
            found.push(format!("{path}: the output {name} may be a secret"));
        }
    }
    for name in template.parameters.keys() {
        if tells(name) && !template.secure.contains(name) {
            found.push(format!(
                "{path}: the parameter {name} may be a secret and is not @secure()"
            ));
        }
    }
    for node in template.tree.walk() {
        if node.kind == "string"
            && ["AccountKey=", "SharedAccess", "Password="]
                .iter()
                .any(|word| node.text.contains(word))
        {
            found.push(format!("{path}:{}: a secret is written here", node.line));
        }
    }
}

/// A path next to the file that names it.
fn beside(path: &str, named: &str) -> String {
    match path.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{named}"),
        None => named.to_owned(),
    }
}

fn modules(template: &Template, templates: &BTreeMap<&str, Template>, found: &mut Vec<String>) {
    for module in &template.modules {
        let place = format!("{}:{}", template.path, module.line);
        let Some(called) = templates.get(beside(&template.path, &module.path).as_str()) else {
            found.push(format!("{place}: there is no {}", module.path));
            continue;
        };
        parameters(&place, &module.parameters, called, found);
        for name in outputs_named(&template.tree, &module.symbol) {
            if !called.outputs.contains_key(&name) {
                found.push(format!("{place}: {} has no output {name}", module.path));
            }
        }
    }
}

/// What is asked of a module's outputs.
fn outputs_named(tree: &Node, symbol: &str) -> Vec<String> {
    let name = |node: &Node| {
        let (object, name) = node.text.rsplit_once('.')?;
        let outputs = [format!("{symbol}.outputs"), format!("{symbol}!.outputs")];
        outputs
            .contains(&object.to_owned())
            .then(|| name.to_owned())
    };
    let nodes = tree.walk().into_iter();
    nodes
        .filter(|node| node.kind == "member_expression")
        .filter_map(name)
        .collect()
}

fn parameters(place: &str, given: &[String], called: &Template, found: &mut Vec<String>) {
    for name in given {
        if !called.parameters.contains_key(name) {
            found.push(format!("{place}: {} has no parameter {name}", called.path));
        }
    }
    for (name, optional) in &called.parameters {
        if !optional && !given.contains(name) {
            found.push(format!(
                "{place}: {} needs the parameter {name}",
                called.path
            ));
        }
    }
}

fn parameter_file(
    template: &Template,
    templates: &BTreeMap<&str, Template>,
    found: &mut Vec<String>,
) {
    if !template.path.ends_with(".bicepparam") {
        return;
    }
    let using = template.using.as_deref().unwrap_or_default();
    match templates.get(using) {
        None => found.push(format!("{}: there is no {using:?}", template.path)),
        Some(called) => {
            let given: Vec<_> = template.variables.keys().cloned().collect();
            parameters(&template.path, &given, called, found);
        }
    }
}

fn resource<'a>(
    templates: &'a BTreeMap<&str, Template>,
    file: &str,
    symbol: &str,
) -> Option<(&'a Template, &'a Resource)> {
    let template = templates.get(file)?;
    let mut resources = template.resources.iter();
    Some((
        template,
        resources.find(|resource| resource.symbol == symbol)?,
    ))
}

fn fixed(templates: &BTreeMap<&str, Template>, found: &mut Vec<String>) {
    for (file, symbol, path, expected) in FIXED {
        let value = resource(templates, file, symbol).and_then(|(template, resource)| {
            let mut values = properties(template, resource).into_iter();
            values
                .find(|(known, _)| known == path)
                .map(|(_, value)| value.text)
        });
        if value.as_deref() != Some(*expected) {
            let value = value.as_deref().unwrap_or("nothing");
            found.push(format!(
                "{file}: {symbol}.{path} must be {expected}, not {value}"
            ));
        }
    }
}

/// Role ids are what Azure publishes, and each is granted to whom it is meant for.
fn roles(templates: &BTreeMap<&str, Template>, files: &Files, found: &mut Vec<String>) {
    let published: Value =
        serde_json::from_str(include_str!("../../fixtures/azure-roles.json")).unwrap();
    let ids: BTreeMap<String, String> = serde_json::from_str(&files["roles.json"]).unwrap();
    for (key, id) in &ids {
        if published[key]["id"] != id.as_str() {
            found.push(format!("roles.json: {key} is not {id}"));
        }
    }
    let mut grants = Vec::new();
    for (path, template) in templates {
        for node in template.tree.walk() {
            if node.kind == "string_content"
                && uuid::Uuid::parse_str(node.text.trim_matches('\'')).is_ok()
            {
                found.push(format!(
                    "{path}:{}: an id that roles.json does not name",
                    node.line
                ));
            }
        }
        let assignments = template.resources.iter();
        for resource in assignments.filter(|it| it.kind.contains("/roleAssignments@")) {
            grants.extend(granted(path, template, resource));
        }
    }
    for grant in &grants {
        let (file, on, role, to) = grant;
        if !ids.contains_key(role) {
            found.push(format!("{file}: roles.json has no {role}"));
        }
        let known = |known: &&(&str, &str, &str, &str)| {
            *known == &(file.as_str(), on.as_str(), role.as_str(), to.as_str())
        };
        if !GRANTS.iter().any(|grant| known(&grant)) {
            found.push(format!("{file}: {to} must not have {role} on {on}"));
        }
    }
    for (file, on, role, to) in GRANTS {
        let there = |grant: &(String, String, String, String)| {
            *grant
                == (
                    file.to_string(),
                    on.to_string(),
                    role.to_string(),
                    to.to_string(),
                )
        };
        if !grants.iter().any(there) {
            found.push(format!("{file}: {to} needs {role} on {on}"));
        }
    }
}

/// The roles that an assignment names itself, or its loop goes over.
fn granted(
    path: &str,
    template: &Template,
    resource: &Resource,
) -> Vec<(String, String, String, String)> {
    let text = |property: &str| {
        let value = resource.node.body().and_then(|body| {
            let mut names = property.split('.');
            names.try_fold(body, |object, name| object.property(name))
        });
        value.map_or_else(|| "nobody".to_owned(), |value| value.text.clone())
    };
    let mut nodes = resource.node.walk();
    let named = nodes
        .clone()
        .into_iter()
        .filter_map(|node| template.variables.get(&node.text));
    nodes.extend(named.flat_map(Node::walk).collect::<Vec<_>>());
    let roles: BTreeSet<_> = nodes
        .iter()
        .filter(|node| node.kind == "member_expression")
        .filter_map(|node| node.text.strip_prefix("roles."))
        .collect();
    let grant = |role: &&str| {
        (
            path.to_owned(),
            text("scope"),
            (*role).to_owned(),
            text("properties.principalId"),
        )
    };
    roles.iter().map(grant).collect()
}

/// The names of the settings that the handler reads.
pub fn settings_read() -> BTreeSet<String> {
    let names = std::cell::RefCell::new(BTreeSet::new());
    let source = |name: &str| {
        names.borrow_mut().insert(name.to_owned());
        (name == "PAYMENT_PROVIDER").then(|| "stripe".to_owned())
    };
    // Nothing is set, so it fails, having asked for everything.
    assert!(orderflow::config::Settings::read(&source).is_err());
    // An app that is complete is asked for the rest.
    let complete = |name: &str| {
        names.borrow_mut().insert(name.to_owned());
        match name {
            "EVENTGRID_TOPIC_ENDPOINT" => Some("https://topic.example.com/api/events".to_owned()),
            "STORE_URL" => Some("memory:".to_owned()),
            _ => None,
        }
    };
    assert!(orderflow::config::Settings::read(&complete).is_ok());
    names.into_inner()
}

/// The app settings in the template, with their values as they are written.
pub fn settings_written(template: &Template) -> BTreeMap<String, Node> {
    let variables = ["settings", "stripeSettings"].map(|name| template.variables.get(name));
    let objects = variables.into_iter().flatten();
    objects
        .flat_map(|object| object.properties())
        .map(|(name, value)| (name, value.clone()))
        .collect()
}

fn settings(templates: &BTreeMap<&str, Template>, found: &mut Vec<String>) {
    let Some(template) = templates.get("modules/app.bicep") else {
        return;
    };
    let (written, read) = (settings_written(template), settings_read());
    for (name, value) in &written {
        // The host sets these by itself, or they would be a key.
        let ours = read.contains(name)
            && ![
                "EVENTGRID_TOPIC_KEY",
                "IDENTITY_ENDPOINT",
                "FUNCTIONS_CUSTOMHANDLER_PORT",
            ]
            .contains(&name.as_str());
        if !ours && !HOST_SETTINGS.contains(&name.as_str()) {
            found.push(format!(
                "modules/app.bicep: nobody reads the app setting {name}"
            ));
        }
        if name == "STRIPE_API_KEY" && !value.unquoted().starts_with("@Microsoft.KeyVault(") {
            found.push("modules/app.bicep: STRIPE_API_KEY must come from the key vault".to_owned());
        }
    }
    let needed = [
        "AZURE_CLIENT_ID",
        "EVENTGRID_TOPIC_ENDPOINT",
        "PAYMENT_PROVIDER",
        "STORE_URL",
        "STRIPE_API_KEY",
    ];
    for name in needed.iter().chain(HOST_SETTINGS) {
        if !written.contains_key(*name) {
            found.push(format!(
                "modules/app.bicep: the app setting {name} is missing"
            ));
        }
    }
}

/// What Event Grid is told is what the registry says.
fn subscriptions(files: &Files, found: &mut Vec<String>) {
    let listed: BTreeMap<String, Value> =
        serde_json::from_str(&files["subscriptions.json"]).unwrap();
    for function in FUNCTIONS
        .iter()
        .filter(|function| !function.rules().is_empty())
    {
        let types: Vec<_> = function.event_types().map(Value::from).collect();
        let listed = listed
            .get(function.name)
            .map(|it| &it["includedEventTypes"]);
        if listed != Some(&Value::from(types)) {
            found.push(format!(
                "subscriptions.json: {} takes other events",
                function.name
            ));
        }
    }
    for name in listed.keys() {
        let takes = FUNCTIONS
            .iter()
            .any(|function| function.name == name && !function.rules().is_empty());
        if !takes {
            found.push(format!("subscriptions.json: {name} takes no events"));
        }
    }
}

/// Instances are kept warm for groups that exist: all HTTP functions together, each other function by itself.
fn always_ready(templates: &BTreeMap<&str, Template>, found: &mut Vec<String>) {
    for (path, template) in templates {
        let Some(groups) = template
            .variables
            .get("alwaysReady")
            .filter(|_| template.using.is_some())
        else {
            continue;
        };
        for group in groups.objects() {
            let name = group
                .property("name")
                .map(Node::unquoted)
                .unwrap_or_default();
            let alone = |name: &str| {
                let function = FUNCTIONS.iter().find(|function| function.name == name);
                function.is_some_and(|function| !matches!(function.trigger, Trigger::Http { .. }))
            };
            let exists = name == "http" || name.strip_prefix("function:").is_some_and(alone);
            if !exists {
                found.push(format!("{path}: there is no group {name} to keep warm"));
            }
        }
    }
}
