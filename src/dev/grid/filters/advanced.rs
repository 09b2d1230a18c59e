//! Advanced filters: one key of an event, one operator, and the values to compare with.
//!
//! Values of another JSON type than the operator's are ignored. Where nothing is left, the key counts as missing.

use serde::Deserialize;
use serde_json::Value;

use super::Key;
use crate::dev::grid::schema::Schema;

/// The most characters in one string.
const LONGEST: usize = 512;

/// One advanced filter.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct AdvancedFilter {
    key: Key,
    rule: Rule,
}

impl AdvancedFilter {
    /// Makes its key one of events in this schema, or says why it is none.
    pub(super) fn fit(&mut self, schema: Schema) -> Result<(), String> {
        self.key = self.key.clone().of(schema)?;
        Ok(())
    }

    /// How many values it compares with.
    pub(super) fn values(&self) -> usize {
        match &self.rule {
            Rule::Null | Rule::NotNull => 0,
            Rule::Any(matchers) | Rule::NoneOf { matchers, .. } => matchers.len(),
        }
    }

    /// Whether the event is taken. With `on_arrays` each element of an array counts as a value.
    pub(super) fn takes(&self, event: &Value, on_arrays: bool) -> bool {
        let found = self.key.find(event);
        match &self.rule {
            Rule::Null => found.is_none(),
            Rule::NotNull => found.is_some(),
            Rule::Any(matchers) => verdict(matchers, found, on_arrays).unwrap_or(false),
            Rule::NoneOf {
                matchers,
                when_missing,
            } => verdict(matchers, found, on_arrays).map_or(*when_missing, |matching| !matching),
        }
    }
}

/// Whether any value that was found fits any matcher; nothing if there is no value of the matchers' type.
fn verdict(matchers: &[Matcher], found: Option<&Value>, on_arrays: bool) -> Option<bool> {
    let values = match found? {
        Value::Array(elements) if on_arrays => elements.as_slice(),
        one => std::slice::from_ref(one),
    };
    values
        .iter()
        .flat_map(|value| matchers.iter().filter_map(|matcher| matcher.fits(value)))
        .reduce(|one, other| one || other)
}

#[derive(Debug, Clone)]
enum Rule {
    Null,
    NotNull,
    Any(Vec<Matcher>),
    NoneOf {
        matchers: Vec<Matcher>,
        /// What is said of an event that does not have the key.
        when_missing: bool,
    },
}

/// One value to compare with, and how. Strings are in lower case.
#[derive(Debug, Clone)]
enum Matcher {
    Number(f64),
    Below(f64),
    AtMost(f64),
    Above(f64),
    AtLeast(f64),
    Within(f64, f64),
    Bool(bool),
    Equal(String),
    Contained(String),
    Beginning(String),
    End(String),
}

impl Matcher {
    /// Whether the value fits; nothing if it is of another type.
    fn fits(&self, value: &Value) -> Option<bool> {
        match self {
            Self::Bool(wanted) => Some(value.as_bool()? == *wanted),
            Self::Equal(wanted) => Some(value.as_str()?.to_lowercase() == *wanted),
            Self::Contained(wanted) => Some(value.as_str()?.to_lowercase().contains(wanted)),
            Self::Beginning(wanted) => Some(value.as_str()?.to_lowercase().starts_with(wanted)),
            Self::End(wanted) => Some(value.as_str()?.to_lowercase().ends_with(wanted)),
            _ => self.fits_number(value.as_f64()?),
        }
    }

    #[expect(
        clippy::float_cmp,
        reason = "two numbers that were written alike are the same number"
    )]
    fn fits_number(&self, number: f64) -> Option<bool> {
        match self {
            Self::Number(wanted) => Some(number == *wanted),
            Self::Below(limit) => Some(number < *limit),
            Self::AtMost(limit) => Some(number <= *limit),
            Self::Above(limit) => Some(number > *limit),
            Self::AtLeast(limit) => Some(number >= *limit),
            Self::Within(least, most) => Some((*least..=*most).contains(&number)),
            _ => None,
        }
    }
}

/// A filter as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    operator_type: Operator,
    key: String,
    value: Option<Value>,
    values: Option<Vec<Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Operator {
    NumberIn,
    NumberNotIn,
    NumberLessThan,
    NumberLessThanOrEquals,
    NumberGreaterThan,
    NumberGreaterThanOrEquals,
    NumberInRange,
    NumberNotInRange,
    BoolEquals,
    StringContains,
    StringNotContains,
    StringBeginsWith,
    StringNotBeginsWith,
    StringEndsWith,
    StringNotEndsWith,
    StringIn,
    StringNotIn,
    IsNullOrUndefined,
    IsNotNull,
}

impl TryFrom<Written> for AdvancedFilter {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let rule = written.rule()?;
        Ok(Self {
            key: Key::parse(written.key)?,
            rule,
        })
    }
}

impl Written {
    fn rule(&self) -> Result<Rule, String> {
        use Operator as O;
        let none_of = |matchers, when_missing| Rule::NoneOf {
            matchers,
            when_missing,
        };
        Ok(match self.operator_type {
            O::IsNullOrUndefined => self.without_values(Rule::Null)?,
            O::IsNotNull => self.without_values(Rule::NotNull)?,
            O::BoolEquals => Rule::Any(self.one(|value| value.as_bool().map(Matcher::Bool))?),
            O::NumberLessThan => Rule::Any(self.one(number(Matcher::Below))?),
            O::NumberLessThanOrEquals => Rule::Any(self.one(number(Matcher::AtMost))?),
            O::NumberGreaterThan => Rule::Any(self.one(number(Matcher::Above))?),
            O::NumberGreaterThanOrEquals => Rule::Any(self.one(number(Matcher::AtLeast))?),
            O::NumberIn => Rule::Any(self.all(number(Matcher::Number))?),
            O::NumberNotIn => none_of(self.all(number(Matcher::Number))?, true),
            O::NumberInRange => Rule::Any(self.all(range)?),
            O::NumberNotInRange => none_of(self.all(range)?, true),
            O::StringContains => Rule::Any(self.all(string(Matcher::Contained))?),
            O::StringBeginsWith => Rule::Any(self.all(string(Matcher::Beginning))?),
            O::StringEndsWith => Rule::Any(self.all(string(Matcher::End))?),
            O::StringIn => Rule::Any(self.all(string(Matcher::Equal))?),
            O::StringNotIn => none_of(self.all(string(Matcher::Equal))?, true),
            // Unlike those above, these do not take an event without the key.
            O::StringNotContains => none_of(self.all(string(Matcher::Contained))?, false),
            O::StringNotBeginsWith => none_of(self.all(string(Matcher::Beginning))?, false),
            O::StringNotEndsWith => none_of(self.all(string(Matcher::End))?, false),
        })
    }

    fn without_values(&self, rule: Rule) -> Result<Rule, String> {
        if self.value.is_none() && self.values.is_none() {
            Ok(rule)
        } else {
            Err(self.wrong("has neither `value` nor `values`"))
        }
    }

    fn one(&self, matcher: impl Fn(&Value) -> Option<Matcher>) -> Result<Vec<Matcher>, String> {
        let value = self.value.as_ref().filter(|_| self.values.is_none());
        let value = value.ok_or_else(|| self.wrong("needs `value`, and no `values`"))?;
        Ok(vec![self.matcher(value, matcher)?])
    }

    fn all(&self, matcher: impl Fn(&Value) -> Option<Matcher>) -> Result<Vec<Matcher>, String> {
        let values = self.values.as_ref().filter(|_| self.value.is_none());
        let values = values.filter(|values| !values.is_empty());
        let values = values.ok_or_else(|| {
            self.wrong("needs `values` with at least one of them, and no `value`")
        })?;
        let matchers = values.iter().map(|value| self.matcher(value, &matcher));
        matchers.collect()
    }

    fn matcher(
        &self,
        value: &Value,
        matcher: impl Fn(&Value) -> Option<Matcher>,
    ) -> Result<Matcher, String> {
        matcher(value).ok_or_else(|| {
            self.wrong(&format!(
                "cannot compare with {value}: it wants numbers, ranges as [1, 2], true or false, or strings of at most {LONGEST} characters, as its name says"
            ))
        })
    }

    fn wrong(&self, problem: &str) -> String {
        format!("{:?} on `{}` {problem}", self.operator_type, self.key)
    }
}

fn number(matcher: impl Fn(f64) -> Matcher) -> impl Fn(&Value) -> Option<Matcher> {
    move |value| value.as_f64().map(&matcher)
}

fn range(value: &Value) -> Option<Matcher> {
    match value.as_array()?.as_slice() {
        [least, most] => Some(Matcher::Within(least.as_f64()?, most.as_f64()?)),
        _ => None,
    }
}

fn string(matcher: impl Fn(String) -> Matcher) -> impl Fn(&Value) -> Option<Matcher> {
    move |value| {
        let text = value.as_str()?;
        (text.chars().count() <= LONGEST).then(|| matcher(text.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(operator: &str, key: &str, values: &Value) -> Result<AdvancedFilter, String> {
        let mut written = json!({"operatorType": operator, "key": key});
        let written_values = match values {
            Value::Null => None,
            Value::Array(_) => Some("values"),
            _ => Some("value"),
        };
        if let Some(member) = written_values {
            written[member] = values.clone();
        }
        serde_json::from_value(written).map_err(|error| error.to_string())
    }

    /// Says for each value of `data.k` whether the event is taken. `null` stands for an event without the key.
    fn table(operator: &str, values: &Value, rows: &[(Value, bool)]) {
        let filter = filter(operator, "data.k", values).unwrap();
        for (value, expected) in rows {
            let event = if value.is_null() {
                json!({"data": {"other": 1}})
            } else {
                json!({"data": {"k": value}})
            };
            assert_eq!(
                filter.takes(&event, true),
                *expected,
                "{operator} {values}: {value}"
            );
        }
    }

    #[test]
    fn numbers() {
        let absent = Value::Null;
        table(
            "NumberIn",
            &json!([1, 2.5]),
            &[
                (json!(2.5), true),
                (json!(1.0), true),
                (json!(3), false),
                (json!("1"), false),
                (json!([3, 1]), true),
                (json!([3, 4]), false),
                (absent.clone(), false),
            ],
        );
        table(
            "NumberNotIn",
            &json!([1, 2.5]),
            &[
                (json!(2.5), false),
                (json!(3), true),
                (json!("1"), true),
                (json!([3, 1]), false),
                (json!([3, 4]), true),
                (absent.clone(), true),
            ],
        );
        for (operator, [below, equal, above]) in [
            ("NumberLessThan", [true, false, false]),
            ("NumberLessThanOrEquals", [true, true, false]),
            ("NumberGreaterThan", [false, false, true]),
            ("NumberGreaterThanOrEquals", [false, true, true]),
        ] {
            table(
                operator,
                &json!(10),
                &[
                    (json!(9.9), below),
                    (json!(10), equal),
                    (json!(10.1), above),
                    (json!([9, 9]), below),
                    (json!([11, "x"]), above),
                    (json!([9, 11]), true),
                    (json!("9"), false),
                    (absent.clone(), false),
                ],
            );
        }
        let ranges = json!([[1, 2], [5, 6]]);
        table(
            "NumberInRange",
            &ranges,
            &[
                (json!(1), true),
                (json!(2), true),
                (json!(5.5), true),
                (json!(3), false),
                (json!([3, 6]), true),
                (json!([3, 4]), false),
                (absent.clone(), false),
            ],
        );
        table(
            "NumberNotInRange",
            &ranges,
            &[
                (json!(1), false),
                (json!(3), true),
                (json!([3, 6]), false),
                (json!([3, 4]), true),
                (absent, true),
            ],
        );
    }

    #[test]
    fn booleans_and_nulls() {
        let absent = Value::Null;
        table(
            "BoolEquals",
            &json!(true),
            &[
                (json!(true), true),
                (json!(false), false),
                (json!("true"), false),
                (json!([false, true]), true),
                (json!([false]), false),
                (absent.clone(), false),
            ],
        );
        table(
            "IsNullOrUndefined",
            &Value::Null,
            &[
                (json!(""), false),
                (json!([]), false),
                (absent.clone(), true),
            ],
        );
        table(
            "IsNotNull",
            &Value::Null,
            &[(json!(""), true), (json!(0), true), (absent, false)],
        );
        let null = json!({"data": {"k": null}});
        assert!(
            filter("IsNullOrUndefined", "data.k", &Value::Null)
                .unwrap()
                .takes(&null, false)
        );
        assert!(
            !filter("IsNotNull", "data.k", &Value::Null)
                .unwrap()
                .takes(&null, false)
        );
    }

    #[test]
    fn strings() {
        // Each operator with its opposite, a value that it takes and one that it does not.
        for (operator, opposite, good, bad, when_missing) in [
            (
                "StringContains",
                "StringNotContains",
                "1EUROPA",
                "EU",
                false,
            ),
            (
                "StringBeginsWith",
                "StringNotBeginsWith",
                "Euro",
                "1Euro",
                false,
            ),
            (
                "StringEndsWith",
                "StringNotEndsWith",
                "the EURO",
                "Europa",
                false,
            ),
            ("StringIn", "StringNotIn", "EURO", "Euros", true),
        ] {
            let values = json!(["euro", "yen"]);
            table(
                operator,
                &values,
                &[
                    (json!(good), true),
                    (json!(bad), false),
                    (json!(7), false),
                    (json!([bad, 7, good]), true),
                    (json!([bad]), false),
                    (Value::Null, false),
                ],
            );
            table(
                opposite,
                &values,
                &[
                    (json!(good), false),
                    (json!(bad), true),
                    // Ignored, and nothing is left.
                    (json!(7), when_missing),
                    (json!([]), when_missing),
                    (json!([bad, 7, good]), false),
                    (json!([bad, 7]), true),
                    (Value::Null, when_missing),
                ],
            );
        }
    }

    #[test]
    fn an_array_has_elements_only_if_that_is_asked_for() {
        let event = json!({"data": {"k": ["euro", "yen"]}});
        let takes = |operator, on_arrays| {
            filter(operator, "data.k", &json!(["EURO"]))
                .unwrap()
                .takes(&event, on_arrays)
        };
        assert!(takes("StringIn", true) && !takes("StringIn", false));
        assert!(!takes("StringNotIn", true) && takes("StringNotIn", false));
    }

    #[test]
    fn keys_are_attributes_extensions_and_members_of_the_data() {
        let event = json!({
            "id": "e-1", "source": "/sales", "type": "T", "specversion": "1.0", "subject": "s", "tenant": "acme",
            "data": {"order": {"total": {"currency": "EUR"}}, "a.b": "dotted", "list": ["zero"]},
        });
        for (key, value) in [
            ("id", "e-1"),
            ("source", "/sales"),
            ("type", "t"),
            ("specversion", "1.0"),
            ("subject", "S"),
            ("tenant", "ACME"),
            ("data.order.total.currency", "eur"),
        ] {
            let filter = filter("StringIn", key, &json!([value])).unwrap();
            assert!(filter.takes(&event, false), "{key}");
        }
        for key in [
            "data.a.b",
            "data.list.0",
            "data.order.total.currency.x",
            "nobody",
        ] {
            let filter = filter("IsNotNull", key, &Value::Null).unwrap();
            assert!(!filter.takes(&event, false), "{key}");
        }
        for key in ["", "data.", "data..x", "order.total"] {
            let refusal = filter("IsNotNull", key, &Value::Null).unwrap_err();
            assert!(refusal.contains("is not a key"), "{refusal}");
        }
    }

    #[test]
    fn what_an_operator_cannot_compare_with_is_refused() {
        let long = "x".repeat(513);
        for (operator, values, why) in [
            ("NumberIn", json!(["1"]), "cannot compare with \"1\""),
            ("NumberIn", json!([]), "at least one"),
            ("NumberIn", json!(1), "needs `values`"),
            ("NumberInRange", json!([[1]]), "cannot compare with [1]"),
            ("NumberLessThan", json!([1]), "needs `value`"),
            ("BoolEquals", json!("true"), "cannot compare with \"true\""),
            ("StringIn", json!([long]), "512"),
            ("IsNotNull", json!(1), "neither `value` nor `values`"),
            ("StringLike", json!(["x"]), "unknown variant `StringLike`"),
        ] {
            let refusal = filter(operator, "data.k", &values).unwrap_err();
            assert!(refusal.contains(why), "{refusal}");
        }
        assert!(filter("StringIn", "data.k", &json!(["x".repeat(512)])).is_ok());
    }
}
