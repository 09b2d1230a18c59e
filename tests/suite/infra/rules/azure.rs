//! What exists in Azure, what must stay as it is there, and who may do what.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Files;
use crate::infra::{
    syntax::Node,
    template::{Resource, Template},
};

/// What must stay as it is, whatever else changes: file, resource, property, value.
const FIXED: &str = "
modules/app.bicep       app                  properties.functionAppConfig.runtime.name                            'custom'
modules/app.bicep       app                  properties.functionAppConfig.runtime.version                         '1.0'
modules/app.bicep       app                  properties.functionAppConfig.deployment.storage.authentication.type  'UserAssignedIdentity'
modules/app.bicep       app                  properties.httpsOnly                                                 true
modules/app.bicep       plan                 sku.name                                                             'FC1'
modules/app.bicep       publishingPasswords  properties.allow                                                     false
modules/database.bicep  server               properties.authConfig.activeDirectoryAuth                            'Enabled'
modules/database.bicep  server               properties.authConfig.passwordAuth                                   'Disabled'
modules/events.bicep    topic                properties.disableLocalAuth                                          true
modules/events.bicep    topic                properties.inputSchema                                               'CloudEventSchemaV1_0'
modules/storage.bicep   files                properties.allowBlobPublicAccess                                     false
modules/storage.bicep   files                properties.allowSharedKeyAccess                                      false
modules/storage.bicep   host                 properties.allowBlobPublicAccess                                     false
modules/storage.bicep   host                 properties.allowSharedKeyAccess                                      false
modules/telemetry.bicep insights             properties.DisableLocalAuth                                          true
modules/telemetry.bicep workspace            properties.features.disableLocalAuth                                 true
modules/vault.bicep     vault                properties.enableRbacAuthorization                                   true
subscriptions.bicep     subscriptions        name                                                                 function.key
subscriptions.bicep     subscriptions        properties.deadLetterWithResourceIdentity.identity.type              'SystemAssigned'
subscriptions.bicep     subscriptions        properties.destination.endpointType                                  'AzureFunction'
subscriptions.bicep     subscriptions        properties.destination.properties.resourceId                         '${app.id}/functions/${function.key}'
subscriptions.bicep     subscriptions        properties.eventDeliverySchema                                       'CloudEventSchemaV1_0'
subscriptions.bicep     subscriptions        properties.filter.includedEventTypes                                 function.value.includedEventTypes
";

/// Who may do what: file, on which resource, in which role, and whose object id that is. Nobody may do anything else.
const GRANTS: &str = "
modules/events.bicep     topic        eventGridDataSender          senderId
modules/storage.bicep    deadLetters  storageBlobDataContributor   topicId
modules/storage.bicep    host         storageBlobDataOwner         appId
modules/storage.bicep    host         storageTableDataContributor  appId
modules/storage.bicep    packages     storageBlobDataContributor   appId
modules/telemetry.bicep  insights     monitoringMetricsPublisher   publisherId
modules/vault.bicep      vault        keyVaultSecretsUser          readerId
";

/// A table's rows.
fn rows(table: &'static str) -> impl Iterator<Item = [&'static str; 4]> {
    let rows = table.lines().filter(|line| !line.is_empty());
    rows.map(|row| {
        let columns: Vec<_> = row.split_whitespace().collect();
        columns.try_into().unwrap()
    })
}

/// The types that are known to exist, with the properties that they are known to have.
fn known_types() -> Value {
    serde_json::from_str(include_str!("../../../fixtures/azure-resource-types.json")).unwrap()
}

pub fn resource_types(template: &Template, found: &mut Vec<String>) {
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
        let known = known["properties"].as_array().unwrap();
        let known: Vec<_> = known.iter().map(|path| path.as_str().unwrap()).collect();
        let given = properties(template, resource);
        for (path, value) in &given {
            let open = |known: &&str| {
                let prefix = known.strip_suffix('*');
                prefix.is_some_and(|prefix| path.starts_with(prefix)) || known == path
            };
            let of_bicep = ["name", "parent", "scope", "dependsOn"].contains(&path.as_str());
            if !of_bicep && !known.iter().any(open) {
                found.push(format!("{place}: {} has no {path}", resource.kind));
            }
            let late = [".properties.", ".outputs."]
                .iter()
                .any(|late| value.text.contains(late));
            if path == "name" && late {
                found.push(format!(
                    "{place}: the name is not known before the deployment"
                ));
            }
        }
        let needed = ["name", "location"].into_iter();
        for path in
            needed.filter(|path| *path == "name" || known.contains(path) && !resource.existing)
        {
            if !given.iter().any(|(given, _)| given == path) {
                found.push(format!("{place}: {} needs {path}", resource.symbol));
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

pub fn fixed(templates: &BTreeMap<&str, Template>, found: &mut Vec<String>) {
    for [file, symbol, path, expected] in rows(FIXED) {
        let value = resource(templates, file, symbol).and_then(|(template, resource)| {
            let mut values = properties(template, resource).into_iter();
            values.find(|(known, _)| known == path)
        });
        let value = value.map_or_else(|| "nothing".to_owned(), |(_, value)| value.text);
        if value != expected {
            found.push(format!(
                "{file}: {symbol}.{path} must be {expected}, not {value}"
            ));
        }
    }
}

/// Role ids are what Azure publishes, and each is granted to whom it is meant for.
pub fn roles(templates: &BTreeMap<&str, Template>, files: &Files, found: &mut Vec<String>) {
    let published: Value =
        serde_json::from_str(include_str!("../../../fixtures/azure-roles.json")).unwrap();
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
    for [file, on, role, to] in &grants {
        if !ids.contains_key(role) {
            found.push(format!("{file}: roles.json has no {role}"));
        }
        if !rows(GRANTS).any(|meant| meant == [file, on, role, to]) {
            found.push(format!("{file}: {to} must not have {role} on {on}"));
        }
    }
    for meant in rows(GRANTS) {
        if !grants.iter().any(|grant| meant == *grant) {
            let [file, on, role, to] = meant;
            found.push(format!("{file}: {to} needs {role} on {on}"));
        }
    }
}

/// The roles that an assignment names itself, or its loop goes over.
fn granted(path: &str, template: &Template, resource: &Resource) -> Vec<[String; 4]> {
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
        let (on, to) = (text("scope"), text("properties.principalId"));
        [path.to_owned(), on, (*role).to_owned(), to]
    };
    roles.iter().map(grant).collect()
}
