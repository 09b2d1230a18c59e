//! Nothing secret stands in a template or leaves one.

use crate::infra::template::Template;

/// Words in names of what must not leave a template, or enter one in the open.
const SECRET: &[&str] = &["key", "password", "secret", "connectionstring"];

pub fn secrets(template: &Template, found: &mut Vec<String>) {
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
