//! What is checked in the templates without Azure's own compiler.

mod azure;
pub mod code;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};

use super::{syntax::Node, template::Template};

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

/// Everything that is wrong with the files, each with its place.
pub fn problems(files: &Files) -> Vec<String> {
    let is_template = |path: &&String| !path.ends_with("json");
    let templates: BTreeMap<_, _> = files
        .iter()
        .filter(|(path, _)| is_template(path))
        .map(|(path, text)| (path.as_str(), Template::new(path, text)))
        .collect();
    let mut found = Vec::new();
    for template in templates.values() {
        syntax(template, &mut found);
        names(template, &mut found);
        azure::resource_types(template, &mut found);
        secrets::secrets(template, &mut found);
        modules(template, &templates, &mut found);
        parameter_file(template, &templates, &mut found);
    }
    azure::fixed(&templates, &mut found);
    azure::roles(&templates, files, &mut found);
    code::settings(&templates, &mut found);
    code::subscriptions(files, &mut found);
    code::always_ready(&templates, &mut found);
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
