//! The expressions of ARM templates, as far as event subscriptions use them: `[format('{0}/{1}', parameters('topic'), 'x')]`.

use serde_json::{Map, Value, json};

/// Stands around the name of a parameter that has no value, in place of the value. No template has it in a string.
const MARK: char = '\u{1}';

/// So many expressions may be inside of each other: a template that refers to itself has an end.
const DEEPEST: u32 = 32;

/// What stands for the value of a parameter without one.
pub(super) fn unknown_parameter(name: &str) -> Value {
    Value::from(format!("{MARK}{name}{MARK}"))
}

/// The parameter without a value that went into this string.
pub(super) fn named_unknown(text: &str) -> Option<&str> {
    text.split(MARK).nth(1)
}

/// Where an expression stands, and so what it may refer to.
#[derive(Debug, Clone)]
pub(super) struct Scope<'a> {
    template: &'a Value,
    given: Map<String, Value>,
    index: Option<u64>,
    depth: u32,
}

impl<'a> Scope<'a> {
    /// That of a template which is given these parameters.
    pub(super) fn new(template: &'a Value, given: Map<String, Value>) -> Self {
        Self {
            template,
            given,
            index: None,
            depth: 0,
        }
    }

    /// That of one copy of a resource, counted from 0.
    pub(super) fn with_index(&self, index: u64) -> Self {
        Self {
            index: Some(index),
            ..self.clone()
        }
    }

    /// The value with every expression in it replaced by what it says.
    pub(super) fn evaluate(&self, value: &Value) -> Result<Value, String> {
        self.evaluate_except(value, &[], "")
    }

    /// Like `evaluate`, but leaves members with these names alone; `name` is the one of the value itself.
    pub(super) fn evaluate_except(
        &self,
        value: &Value,
        unread: &[&str],
        name: &str,
    ) -> Result<Value, String> {
        if unread.contains(&name) {
            return Ok(inert(value));
        }
        match value {
            Value::String(text) => self.string(text),
            Value::Array(elements) => {
                let elements = elements
                    .iter()
                    .map(|element| self.evaluate_except(element, unread, ""));
                elements.collect::<Result<_, _>>().map(Value::Array)
            }
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| {
                    Ok((name.clone(), self.evaluate_except(value, unread, name)?))
                });
                members.collect::<Result<_, String>>().map(Value::Object)
            }
            other => Ok(other.clone()),
        }
    }

    fn string(&self, text: &str) -> Result<Value, String> {
        if let Some(literal) = text.strip_prefix("[[") {
            return Ok(Value::from(format!("[{literal}")));
        }
        let Some(expression) = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        else {
            return Ok(Value::from(text));
        };
        if self.depth >= DEEPEST {
            return Err(format!("`{text}` refers to itself"));
        }
        let scope = Self {
            depth: self.depth + 1,
            ..self.clone()
        };
        let mut parser = Parser {
            rest: expression,
            scope: &scope,
            depth: 0,
        };
        let value = parser.expression();
        let value = value.and_then(|value| match parser.rest.trim() {
            "" => Ok(value),
            more => Err(format!("cannot read `{more}`")),
        });
        value.map_err(|problem| format!("{problem} in `{text}`"))
    }

    fn parameter(&self, name: &str) -> Result<Value, String> {
        if let Some((_, value)) = find(&self.given, name) {
            return Ok(value.clone());
        }
        let declared = self
            .member("parameters", name)
            .ok_or_else(|| format!("there is no parameter `{name}`"))?;
        match declared.get("defaultValue") {
            Some(value) => self.evaluate(value),
            None => Ok(unknown_parameter(name)),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, String> {
        let value = self
            .member("variables", name)
            .ok_or_else(|| format!("there is no variable `{name}`"))?;
        self.evaluate(value)
    }

    /// Names in templates are the same in any case.
    fn member(&self, section: &str, name: &str) -> Option<&Value> {
        let section = self.template.get(section)?.as_object()?;
        find(section, name).map(|(_, value)| value)
    }

    fn call(&self, function: &str, arguments: &[Value]) -> Result<Value, String> {
        match (function.to_ascii_lowercase().as_str(), arguments) {
            ("parameters", [Value::String(name)]) => self.parameter(name),
            ("variables", [Value::String(name)]) => self.variable(name),
            ("copyindex", [] | [Value::String(_)]) => self
                .index
                .map(Value::from)
                .ok_or_else(|| "there is no copy to count".to_owned()),
            ("length", [Value::Array(elements)]) => Ok(Value::from(elements.len())),
            ("length", [Value::Object(members)]) => Ok(Value::from(members.len())),
            ("items", [Value::Object(members)]) => Ok(items(members)),
            ("concat", [Value::Array(_), ..]) => {
                let elements = arguments.iter().filter_map(Value::as_array).flatten();
                Ok(elements.cloned().collect())
            }
            ("concat", _) => Ok(Value::from(
                arguments.iter().map(printed).collect::<String>(),
            )),
            ("format", [Value::String(pattern), values @ ..]) => format(pattern, values),
            ("resourceid" | "extensionresourceid", _) => Ok(Value::from(resource_id(arguments))),
            ("createarray", _) => Ok(Value::from(arguments)),
            ("true", []) => Ok(Value::from(true)),
            ("false", []) => Ok(Value::from(false)),
            ("null", []) => Ok(Value::Null),
            _ => match arguments
                .iter()
                .filter_map(Value::as_str)
                .find_map(named_unknown)
            {
                Some(name) => Err(format!(
                    "{function}() needs the parameter `{name}`, which has no value here; give it a default value in the template"
                )),
                None => Err(format!(
                    "{function}() is not understood with these arguments; write the value itself instead"
                )),
            },
        }
    }
}

/// The value without expressions. What they would say does not matter.
fn inert(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with('[') => Value::from(""),
        Value::Array(elements) => elements.iter().map(inert).collect(),
        Value::Object(members) => {
            let members = members.iter();
            Value::Object(
                members
                    .map(|(name, value)| (name.clone(), inert(value)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

fn find<'a>(members: &'a Map<String, Value>, name: &str) -> Option<(&'a String, &'a Value)> {
    members
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// An object's members as an array, in the order of their names, as ARM has them.
fn items(members: &Map<String, Value>) -> Value {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|(name, _)| *name);
    members
        .into_iter()
        .map(|(name, value)| json!({"key": name, "value": value}))
        .collect()
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The pattern with `{0}`, `{1}`, … replaced.
fn format(pattern: &str, values: &[Value]) -> Result<Value, String> {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (position, after) = after.split_once('}').unwrap_or((after, ""));
        let value = position
            .parse()
            .ok()
            .and_then(|position: usize| values.get(position));
        let value =
            value.ok_or_else(|| format!("`{{{position}}}` in format() is not understood"))?;
        text.push_str(before);
        text.push_str(&printed(value));
        rest = after;
    }
    text.push_str(rest);
    Ok(Value::from(text))
}

/// The end of a resource's id, which is all that is looked at: types and names in turn.
fn resource_id(arguments: &[Value]) -> String {
    let arguments: Vec<_> = arguments.iter().map(printed).collect();
    let kind = arguments
        .iter()
        .position(|argument| argument.contains('/') && !argument.starts_with('/'))
        .unwrap_or_default();
    let (_, rest) = arguments.split_at(kind);
    let Some((kind, names)) = rest.split_first() else {
        return String::new();
    };
    let (provider, kinds) = kind.split_once('/').unwrap_or((kind, ""));
    let below = kinds.split('/').zip(names);
    let below: String = below
        .flat_map(|(kind, name)| ["/", kind, "/", name])
        .collect();
    format!("/providers/{provider}{below}")
}

/// Reads an expression and says what its value is.
struct Parser<'a> {
    rest: &'a str,
    scope: &'a Scope<'a>,
    depth: u32,
}

impl Parser<'_> {
    fn expression(&mut self) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("too many parentheses".to_owned());
        }
        let mut value = self.primary()?;
        loop {
            if self.take('.') {
                let name = self.name();
                value = member(&value, &name)?;
            } else if self.take('[') {
                let index = self.expression()?;
                self.expect(']')?;
                value = match &index {
                    Value::String(name) => member(&value, name)?,
                    index => index
                        .as_u64()
                        .and_then(|index| value.get(usize::try_from(index).ok()?))
                        .cloned()
                        .ok_or_else(|| format!("there is no element {index}"))?,
                };
            } else {
                self.depth -= 1;
                return Ok(value);
            }
        }
    }

    fn primary(&mut self) -> Result<Value, String> {
        if self.take('\'') {
            return self.literal();
        }
        let name = self.name();
        if let Ok(number) = name.parse::<i64>() {
            return Ok(Value::from(number));
        }
        self.expect('(')?;
        let mut arguments = Vec::new();
        while !self.take(')') {
            if !arguments.is_empty() {
                self.expect(',')?;
            }
            arguments.push(self.expression()?);
        }
        self.scope.call(&name, &arguments)
    }

    /// The rest of a string, in which two quotes stand for one.
    fn literal(&mut self) -> Result<Value, String> {
        let mut text = String::new();
        loop {
            let (before, after) = self.rest.split_once('\'').ok_or("a string has no end")?;
            text.push_str(before);
            let Some(after) = after.strip_prefix('\'') else {
                self.rest = after;
                return Ok(Value::from(text));
            };
            text.push('\'');
            self.rest = after;
        }
    }

    fn name(&mut self) -> String {
        let rest = self.rest.trim_start();
        let end = rest
            .find(|letter: char| {
                !(letter.is_ascii_alphanumeric() || letter == '_' || letter == '-')
            })
            .unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        self.rest = rest;
        name.to_owned()
    }

    fn take(&mut self, wanted: char) -> bool {
        match self.rest.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(format!("`{wanted}` is missing before `{}`", self.rest))
        }
    }
}

fn member(value: &Value, name: &str) -> Result<Value, String> {
    let members = value.as_object().and_then(|members| find(members, name));
    members
        .map(|(_, value)| value.clone())
        .ok_or_else(|| format!("there is no `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(expression: &str) -> Result<Value, String> {
        let template = json!({
            "parameters": {
                "size": {"type": "int", "defaultValue": 7},
                "app": {"type": "string"},
                "prefix": {"type": "string", "defaultValue": "[concat('to-', variables('word'))]"},
                "loop": {"type": "string", "defaultValue": "[parameters('loop')]"},
            },
            "variables": {"word": "it''s", "map": {"b": {"n": [1, 2]}, "a": {"n": []}}},
        });
        let given = json!({"given": true});
        let scope = Scope::new(&template, given.as_object().cloned().unwrap_or_default());
        scope.with_index(1).evaluate(&Value::from(expression))
    }

    #[test]
    fn expressions_say_what_resource_manager_says() {
        for (expression, expected) in [
            ("plain", json!("plain")),
            ("[[not one]", json!("[not one]")),
            ("['it''s']", json!("it's")),
            ("[parameters('size')]", json!(7)),
            ("[Parameters('GIVEN')]", json!(true)),
            ("[parameters('prefix')]", json!("to-it''s")),
            ("[format('{1}/{0}', 'a', copyIndex())]", json!("1/a")),
            ("[concat('a', 1)]", json!("a1")),
            (
                "[concat(createArray(1), variables('map').b.n)]",
                json!([1, 1, 2]),
            ),
            ("[items(variables('map'))[copyIndex()].key]", json!("b")),
            ("[ variables('map')['b'].n[0] ]", json!(1)),
            ("[length(items(variables('map')))]", json!(2)),
            (
                "[resourceId('Microsoft.Web/sites/functions', 'app', 'x')]",
                json!("/providers/Microsoft.Web/sites/app/functions/x"),
            ),
        ] {
            assert_eq!(evaluate(expression).unwrap(), expected, "{expression}");
        }
        let unknown = evaluate("[format('{0}-x', parameters('app'))]").unwrap();
        assert_eq!(named_unknown(unknown.as_str().unwrap()), Some("app"));
    }

    #[test]
    fn what_cannot_be_evaluated_is_named() {
        for (expression, why) in [
            ("[reference('x').y]", "reference()"),
            ("[toUpper(parameters('app'))]", "the parameter `app`"),
            ("[parameters('none')]", "no parameter `none`"),
            ("[variables('none')]", "no variable `none`"),
            ("[parameters('loop')]", "refers to itself"),
            ("[variables('map').c]", "no `c`"),
            ("[variables('map').b.n[9]]", "no element 9"),
            ("[format('{0:x}', 1)]", "`{0:x}`"),
            ("[concat('a']", "`,` is missing"),
            ("['a]", "no end"),
            ("['a' b]", "cannot read `b`"),
        ] {
            let refusal = evaluate(expression).unwrap_err();
            assert!(
                refusal.contains(why) && refusal.contains(expression),
                "{refusal}"
            );
        }
        let deep = format!("[{}1{}]", "concat(".repeat(40), ")".repeat(40));
        assert!(evaluate(&deep).unwrap_err().contains("parentheses"));
    }
}
