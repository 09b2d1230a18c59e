//! What a template declares and what it uses.

use std::collections::BTreeMap;

use super::syntax::{Node, parse, take};

pub struct Template {
    pub path: String,
    pub tree: Node,
    /// Whether each parameter may be left out.
    pub parameters: BTreeMap<String, bool>,
    pub secure: Vec<String>,
    pub variables: BTreeMap<String, Node>,
    pub resources: Vec<Resource>,
    pub modules: Vec<Module>,
    pub outputs: BTreeMap<String, Node>,
    /// What a parameter file is for.
    pub using: Option<String>,
}

pub struct Resource {
    pub symbol: String,
    /// Type and API version, as written.
    pub kind: String,
    /// Whether it is only referred to.
    pub existing: bool,
    pub line: usize,
    pub node: Node,
}

pub struct Module {
    pub symbol: String,
    pub path: String,
    pub line: usize,
    pub parameters: Vec<String>,
}

impl Template {
    pub fn new(path: &str, text: &str) -> Self {
        let tree = parse(path, text);
        let mut template = Self {
            path: path.to_owned(),
            parameters: BTreeMap::new(),
            secure: Vec::new(),
            variables: BTreeMap::new(),
            resources: Vec::new(),
            modules: Vec::new(),
            outputs: BTreeMap::new(),
            using: None,
            tree: tree.clone(),
        };
        let mut decorators = String::new();
        for statement in &tree.children {
            template.add(statement, &decorators);
            decorators = match statement.kind.as_str() {
                "decorators" => statement.text.clone(),
                _ => String::new(),
            };
        }
        template
    }

    fn add(&mut self, statement: &Node, decorators: &str) {
        let child = |index: usize| statement.children.get(index);
        let name = || child(0).map_or_else(String::new, |name| name.text.clone());
        match statement.kind.as_str() {
            "parameter_declaration" => {
                if decorators.contains("@secure()") {
                    self.secure.push(name());
                }
                self.parameters.insert(name(), child(2).is_some());
            }
            "variable_declaration" => {
                if let Some(value) = child(1) {
                    self.variables.insert(name(), value.clone());
                }
            }
            "output_declaration" => {
                if let Some(value) = child(2) {
                    self.outputs.insert(name(), value.clone());
                }
            }
            "using_statement" => self.using = child(0).map(|path| path.unquoted().to_owned()),
            "resource_declaration" => self.resources.push(Resource {
                symbol: name(),
                kind: child(1).map_or_else(String::new, |kind| kind.unquoted().to_owned()),
                existing: (statement.text.split('=').next())
                    .is_some_and(|head| head.trim_end().ends_with("existing")),
                line: statement.line,
                node: statement.clone(),
            }),
            "module_declaration" => {
                let parameters = statement.body().and_then(|body| body.property("params"));
                let names = parameters.map(Node::properties).unwrap_or_default();
                self.modules.push(Module {
                    symbol: name(),
                    path: child(1).map_or_else(String::new, |path| path.unquoted().to_owned()),
                    line: statement.line,
                    parameters: names.into_iter().map(|(name, _)| name).collect(),
                });
            }
            _ => {}
        }
    }

    /// Names that expressions refer to, with where; those of functions are apart.
    pub fn references(&self) -> (Vec<&Node>, Vec<&Node>) {
        let (mut values, mut functions) = (Vec::new(), Vec::new());
        for statement in &self.tree.children {
            let declared = match statement.kind.as_str() {
                "decorators" | "target_scope_assignment" | "using_statement" => 0,
                _ => 1,
            };
            for child in statement.children.iter().skip(declared) {
                refer(child, &mut values, &mut functions);
            }
        }
        (values, functions)
    }

    /// The names of loop variables.
    pub fn loop_variables(&self) -> Vec<&str> {
        let loops = self.tree.walk().into_iter();
        loops
            .filter(|node| node.kind == "for_statement")
            .filter_map(|node| node.children.first())
            .map(|variable| variable.text.as_str())
            .collect()
    }

    /// The paths of the values in an object, as far as they are written in this template.
    pub fn paths(&self, value: &Node, path: &str, found: &mut Vec<(String, Node)>) {
        let value = self.variables.get(&value.text).unwrap_or(value);
        let objects = value.objects();
        let properties: Vec<_> = objects
            .iter()
            .flat_map(|object| object.properties())
            .collect();
        if properties.is_empty() {
            found.push((path.to_owned(), value.clone()));
        }
        for (name, value) in properties {
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}.{name}")
            };
            self.paths(value, &path, found);
        }
    }
}

fn refer<'a>(node: &'a Node, values: &mut Vec<&'a Node>, functions: &mut Vec<&'a Node>) {
    let skipped = match node.kind.as_str() {
        "identifier" => {
            values.push(node);
            return;
        }
        "type" => return,
        "call_expression" => {
            functions.extend(node.children.first());
            1
        }
        "object_property" if take::<2>(node).is_some_and(|[key, _]| key.kind == "string") => 0,
        "object_property" | "for_statement" => 1,
        _ => 0,
    };
    for child in node.children.iter().skip(skipped) {
        refer(child, values, functions);
    }
}
