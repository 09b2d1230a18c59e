//! The expressions of ARM templates, as far as event subscriptions use them: `[format('{0}/{1}', parameters('topic'), 'x')]`.

use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Stands around what has no value here, in place of the value. No template has it in a string.
const MARK: char = '\u{1}';

/// So many expressions may be inside of each other: a template that refers to itself has an end.
const DEEPEST: u32 = 32;

/// The most copies of a resource, and elements of a range (Azure Resource Manager has 800 and 10,000).
pub(super) const MOST_COPIES: i64 = 800;

/// What stands for the value of a parameter without one.
pub(super) fn unknown_parameter(name: &str) -> Value {
    unknown(&format!("the parameter `{name}`"))
}

fn unknown(described: &str) -> Value {
    Value::from(format!("{MARK}{described}{MARK}"))
}

/// What has no value here and went into this string, in words.
pub(super) fn named_unknown(text: &str) -> Option<&str> {
    text.split(MARK).nth(1)
}

/// Where an expression stands, and so what it may refer to.
#[derive(Debug, Clone)]
pub(super) struct Scope<'a> {
    template: &'a Value,
    given: Map<String, Value>,
    index: Option<i64>,
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
    pub(super) fn with_index(&self, index: i64) -> Self {
        Self {
            index: Some(index),
            ..self.clone()
        }
    }

    /// The value with every expression in it replaced by what it says.
    pub(super) fn evaluate(&self, value: &Value) -> Result<Value, String> {
        self.evaluate_except(value, &[], "")
    }

    /// Like `evaluate`, but what cannot be evaluated in members with these names does not matter; `name` is the one of the
    /// value itself.
    pub(super) fn evaluate_except(
        &self,
        value: &Value,
        unread: &[&str],
        name: &str,
    ) -> Result<Value, String> {
        if unread.contains(&name) {
            return Ok(self.evaluate(value).unwrap_or_else(|_| inert(value)));
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
            None if declared.get("nullable") == Some(&Value::Bool(true)) => Ok(Value::Null),
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
        let name = function.to_ascii_lowercase();
        if let Some(value) = self.reference(&name, arguments) {
            return value;
        }
        if let Some(value) = composed(&name, arguments) {
            return value;
        }
        let mut texts = arguments.iter().filter_map(Value::as_str);
        if let Some(unknown) = texts.find_map(named_unknown) {
            return Err(format!(
                "{function}() needs {unknown}, which has no value here; give it a default value in the template, or \
                 write the value itself instead"
            ));
        }
        computed(&name, arguments).ok_or_else(|| {
            format!("{function}() is not understood with these arguments; write the value itself instead")
        })
    }

    /// The functions that refer to something else in the template, or to where it is deployed, which is not known here.
    fn reference(&self, function: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        Some(match (function, arguments) {
            ("parameters", [Value::String(name)]) => self.parameter(name),
            ("variables", [Value::String(name)]) => self.variable(name),
            ("copyindex", [] | [Value::String(_)]) => self
                .index
                .map(Value::from)
                .ok_or_else(|| "there is no copy to count".to_owned()),
            ("resourcegroup", []) => Ok(place("resourceGroup", &["id", "name", "location"])),
            ("subscription", []) => {
                Ok(place("subscription", &["id", "subscriptionId", "tenantId"]))
            }
            _ => return None,
        })
    }
}

/// The functions that take what has no value as well, and put it into their own.
fn composed(function: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    let value = match (function, arguments) {
        ("concat", [Value::Array(_), ..]) => {
            let elements = arguments.iter().filter_map(Value::as_array).flatten();
            elements.cloned().collect()
        }
        ("concat", _) => Value::from(arguments.iter().map(printed).collect::<String>()),
        ("format", [Value::String(pattern), values @ ..]) => return Some(format(pattern, values)),
        ("resourceid" | "extensionresourceid", _) => Value::from(resource_id(arguments)),
        ("createarray", _) => Value::from(arguments),
        ("createobject", _) => {
            let members = arguments.chunks(2).map(|pair| match pair {
                [name, value] => Some((printed(name), value.clone())),
                _ => None,
            });
            members.collect::<Option<_>>()?
        }
        // Not Azure's values, but as here: always the same for the same arguments.
        ("uniquestring", [_, ..]) => {
            let digest = digest(arguments).simple().to_string();
            Value::from(digest.chars().take(13).collect::<String>())
        }
        ("guid", [_, ..]) => Value::from(digest(arguments).to_string()),
        _ => return None,
    };
    Some(Ok(value))
}

/// The functions that compute something of nothing but their arguments. None: not with these.
fn computed(function: &str, arguments: &[Value]) -> Option<Value> {
    let value = match (function, arguments) {
        ("true", []) => Value::from(true),
        ("false", []) => Value::from(false),
        ("null", []) => Value::Null,
        ("if", [Value::Bool(condition), then, otherwise]) => {
            if *condition { then } else { otherwise }.clone()
        }
        ("equals", [one, other]) => Value::from(one == other),
        ("not", [Value::Bool(value)]) => Value::from(!value),
        ("and" | "or", [_, ..]) => {
            let values = arguments.iter().map(Value::as_bool);
            let values: Vec<bool> = values.collect::<Option<_>>()?;
            Value::from(values.contains(&(function == "or")) == (function == "or"))
        }
        ("coalesce", [_, ..]) => {
            let value = arguments.iter().find(|argument| !argument.is_null());
            value.cloned().unwrap_or_default()
        }
        ("empty", [value]) => Value::from(match value {
            Value::String(text) => text.is_empty(),
            Value::Array(elements) => elements.is_empty(),
            Value::Object(members) => members.is_empty(),
            other => other.is_null(),
        }),
        ("length", [Value::String(text)]) => Value::from(text.chars().count()),
        ("length", [Value::Array(elements)]) => Value::from(elements.len()),
        ("length", [Value::Object(members)]) => Value::from(members.len()),
        ("items", [Value::Object(members)]) => items(members),
        // What Bicep makes of `.?`.
        ("tryget", [value, path @ ..]) => {
            let found = path.iter().try_fold(value, |value, step| match step {
                Value::String(name) => find(value.as_object()?, name).map(|(_, value)| value),
                index => value.get(usize::try_from(index.as_u64()?).ok()?),
            });
            found.cloned().unwrap_or_default()
        }
        ("contains", [Value::Object(members), Value::String(name)]) => {
            Value::from(find(members, name).is_some())
        }
        ("contains", [Value::Array(elements), value]) => Value::from(elements.contains(value)),
        ("contains", [Value::String(text), Value::String(part)]) => {
            Value::from(text.contains(part.as_str()))
        }
        ("first", [Value::Array(elements)]) => elements.first().cloned().unwrap_or_default(),
        ("last", [Value::Array(elements)]) => elements.last().cloned().unwrap_or_default(),
        ("range", [first, count]) => {
            let (first, count) = (first.as_i64()?, count.as_i64()?);
            let count = Some(count).filter(|count| (0..=MOST_COPIES).contains(count))?;
            (first..first.checked_add(count)?).collect()
        }
        ("string", [value]) => Value::from(printed(value)),
        ("tolower", [Value::String(text)]) => Value::from(text.to_lowercase()),
        ("toupper", [Value::String(text)]) => Value::from(text.to_uppercase()),
        ("take", [Value::String(text), count]) => {
            let count = usize::try_from(count.as_u64()?).ok()?;
            Value::from(text.chars().take(count).collect::<String>())
        }
        ("replace", [Value::String(text), Value::String(old), Value::String(new)]) => {
            Value::from(text.replace(old.as_str(), new))
        }
        ("split", [Value::String(text), Value::String(at)]) => text.split(at.as_str()).collect(),
        ("join", [Value::Array(elements), Value::String(between)]) => Value::from(
            elements
                .iter()
                .map(printed)
                .collect::<Vec<_>>()
                .join(between),
        ),
        _ => return None,
    };
    Some(value)
}

/// An object of members that have no value here.
fn place(function: &str, members: &[&str]) -> Value {
    let member = |name: &&str| ((*name).to_owned(), unknown(&format!("{function}().{name}")));
    members.iter().map(member).collect()
}

fn digest(arguments: &[Value]) -> Uuid {
    let arguments: Vec<_> = arguments.iter().map(printed).collect();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, arguments.join("/").as_bytes())
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
                "none": {"type": "string", "nullable": true},
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
            ("[if(and(true(), not(equals(1, 2))), 'a', 'b')]", json!("a")),
            ("[or(false(), empty(createArray()))]", json!(true)),
            ("[and(true(), false())]", json!(false)),
            ("[or(false(), false())]", json!(false)),
            ("[coalesce(null(), createObject('n', 1)).n]", json!(1)),
            ("[last(range(3, 2))]", json!(4)),
            ("[split('topic/name', '/')[1]]", json!("name")),
            ("[join(createArray('a', 'b'), '-')]", json!("a-b")),
            ("[take(toLower(replace('AXC', 'X', 'B')), 2)]", json!("ab")),
            ("[tryGet(variables('map'), 'B', 'n', 1)]", json!(2)),
            ("[tryGet(variables('map'), 'none', 'n')]", json!(null)),
            ("[contains(variables('map'), 'a')]", json!(true)),
            ("[contains(createArray('a'), 'b')]", json!(false)),
            ("[contains('abc', 'bc')]", json!(true)),
            ("[empty(parameters('none'))]", json!(true)),
            (
                "[resourceId('Microsoft.Web/sites/functions', 'app', 'x')]",
                json!("/providers/Microsoft.Web/sites/app/functions/x"),
            ),
        ] {
            assert_eq!(evaluate(expression).unwrap(), expected, "{expression}");
        }
        for (expression, expected) in [
            (
                "[format('{0}-x', parameters('app'))]",
                "the parameter `app`",
            ),
            ("[resourceGroup().location]", "resourceGroup().location"),
        ] {
            let unknown = evaluate(expression).unwrap();
            assert_eq!(named_unknown(unknown.as_str().unwrap()), Some(expected));
        }
    }

    #[test]
    fn a_unique_string_is_the_same_for_the_same_arguments() {
        let unique =
            |of: &str| evaluate(&format!("[uniqueString(resourceGroup().id, '{of}')]")).unwrap();
        assert_eq!(unique("a"), unique("a"));
        assert_ne!(unique("a"), unique("b"));
        let text = unique("a");
        assert_eq!(text.as_str().unwrap().len(), 13);
        assert_eq!(named_unknown(text.as_str().unwrap()), None);
    }

    #[test]
    fn what_cannot_be_evaluated_is_named() {
        for (expression, why) in [
            ("[reference('x').y]", "reference()"),
            ("[toUpper(parameters('app'))]", "the parameter `app`"),
            ("[base64('x')]", "base64()"),
            ("[parameters('missing')]", "no parameter `missing`"),
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
