//! Which events a subscription takes: their types, their subject, and what stands in them.
//!
//! Every layer must agree. A filter is read in the shape that ARM has for it (`properties.filter`).

mod advanced;
mod key;

use std::cell::OnceCell;

use serde::Deserialize;
use serde_json::Value;

use self::advanced::AdvancedFilter;
pub(super) use self::key::Key;
use super::schema::Schema;

/// How many advanced filters a subscription may have, and how many values in all of them together.
const MOST: usize = 25;

/// The word for every event type.
const ALL_TYPES: &str = "All";

/// What a subscription takes. Without any member: everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Filter {
    included_event_types: Option<Vec<String>>,
    subject_begins_with: Option<String>,
    subject_ends_with: Option<String>,
    is_subject_case_sensitive: Option<bool>,
    enable_advanced_filtering_on_arrays: Option<bool>,
    advanced_filters: Option<Vec<AdvancedFilter>>,
}

impl Filter {
    /// Takes these types and nothing else.
    pub(super) fn of_types(types: &[&str]) -> Self {
        Self {
            included_event_types: Some(types.iter().map(|&name| name.to_owned()).collect()),
            ..Self::default()
        }
    }

    /// Fails, in words that complete "the filter …", when Event Grid would not take the filter at a topic of this schema.
    pub(super) fn check(&mut self, schema: Schema) -> Result<(), String> {
        for filter in self.advanced_filters.iter_mut().flatten() {
            filter
                .fit(schema)
                .map_err(|problem| format!("has a key that does not fit: {problem}"))?;
        }
        let filters = self.advanced();
        if filters.len() > MOST {
            return Err(format!(
                "has {} advanced filters, Event Grid allows {MOST}",
                filters.len()
            ));
        }
        let values: usize = filters.iter().map(AdvancedFilter::values).sum();
        if values > MOST {
            return Err(format!(
                "has {values} values in its advanced filters, Event Grid allows {MOST} in all of them together"
            ));
        }
        Ok(())
    }

    /// The types that are taken; nothing when it is all of them.
    pub(super) fn types(&self) -> Option<&[String]> {
        let types = self.included_event_types.as_deref()?;
        let all = types
            .iter()
            .any(|name| name.eq_ignore_ascii_case(ALL_TYPES));
        (!all && !types.is_empty()).then_some(types)
    }

    /// Whether the event is taken.
    pub(super) fn takes(&self, event: &FilteredEvent<'_>) -> bool {
        let right_type = self
            .types()
            .is_none_or(|types| types.iter().any(|name| name == event.event_type));
        let on_arrays = self.enable_advanced_filtering_on_arrays.unwrap_or(false);
        right_type
            && self.takes_subject(event.subject.unwrap_or_default())
            && self
                .advanced()
                .iter()
                .all(|filter| filter.takes(event.parsed(), on_arrays))
    }

    fn takes_subject(&self, subject: &str) -> bool {
        let begins = self.subject_begins_with.as_deref().unwrap_or_default();
        let ends = self.subject_ends_with.as_deref().unwrap_or_default();
        if self.is_subject_case_sensitive.unwrap_or(false) {
            return subject.starts_with(begins) && subject.ends_with(ends);
        }
        let subject = subject.to_lowercase();
        subject.starts_with(&begins.to_lowercase()) && subject.ends_with(&ends.to_lowercase())
    }

    fn advanced(&self) -> &[AdvancedFilter] {
        self.advanced_filters.as_deref().unwrap_or_default()
    }
}

/// An event as filters see it. It is parsed only if one of them looks into it.
#[derive(Debug)]
pub(super) struct FilteredEvent<'a> {
    event_type: &'a str,
    subject: Option<&'a str>,
    text: &'a str,
    parsed: OnceCell<Value>,
}

impl<'a> FilteredEvent<'a> {
    /// The event with this type and subject, whose JSON is `text`.
    pub(super) fn new(event_type: &'a str, subject: Option<&'a str>, text: &'a str) -> Self {
        Self {
            event_type,
            subject,
            text,
            parsed: OnceCell::new(),
        }
    }

    /// The event was JSON when it was accepted, so it is JSON now.
    fn parsed(&self) -> &Value {
        self.parsed
            .get_or_init(|| serde_json::from_str(self.text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(written: Value) -> Filter {
        serde_json::from_value(written).unwrap()
    }

    fn takes(written: Value, event: &Value) -> bool {
        let text = event.to_string();
        let event_type = event["type"].as_str().unwrap();
        filter(written).takes(&FilteredEvent::new(
            event_type,
            event["subject"].as_str(),
            &text,
        ))
    }

    #[test]
    fn types_are_taken_as_they_are_written_and_all_means_all() {
        let event = json!({"type": "Sales.OrderPlaced"});
        for (written, expected) in [
            (json!({}), true),
            (json!({"includedEventTypes": null}), true),
            (json!({"includedEventTypes": []}), true),
            (json!({"includedEventTypes": ["All"]}), true),
            (
                json!({"includedEventTypes": ["Other", "Sales.OrderPlaced"]}),
                true,
            ),
            (json!({"includedEventTypes": ["Sales.Order"]}), false),
        ] {
            assert_eq!(takes(written.clone(), &event), expected, "{written}");
        }
        let named = Filter::of_types(&["T"]);
        assert!(named.takes(&FilteredEvent::new("T", None, "{}")));
        assert!(!named.takes(&FilteredEvent::new("U", None, "{}")));
    }

    #[test]
    fn the_case_of_a_subject_counts_only_if_that_is_asked_for() {
        let event = json!({"type": "T", "subject": "Orders/Ä-1"});
        for (written, expected) in [
            (
                json!({"subjectBeginsWith": "orders/", "subjectEndsWith": "ä-1"}),
                true,
            ),
            (
                json!({"subjectBeginsWith": "", "subjectEndsWith": ""}),
                true,
            ),
            (json!({"subjectBeginsWith": "carts/"}), false),
            (json!({"subjectEndsWith": "-2"}), false),
            (
                json!({"subjectBeginsWith": "orders/", "isSubjectCaseSensitive": true}),
                false,
            ),
            (
                json!({"subjectEndsWith": "ä-1", "isSubjectCaseSensitive": true}),
                false,
            ),
            (
                json!({"subjectBeginsWith": "Orders/", "isSubjectCaseSensitive": true}),
                true,
            ),
        ] {
            assert_eq!(takes(written.clone(), &event), expected, "{written}");
        }
        let without = json!({"type": "T"});
        assert!(!takes(json!({"subjectBeginsWith": "o"}), &without));
        assert!(takes(json!({"subjectBeginsWith": ""}), &without));
    }

    #[test]
    fn every_layer_and_every_advanced_filter_must_agree() {
        let written = json!({
            "includedEventTypes": ["T"],
            "subjectBeginsWith": "orders/",
            "advancedFilters": [
                {"operatorType": "NumberGreaterThan", "key": "data.amount", "value": 10},
                {"operatorType": "StringIn", "key": "data.currency", "values": ["EUR", "CHF"]},
            ],
        });
        let good =
            json!({"type": "T", "subject": "orders/1", "data": {"amount": 11, "currency": "chf"}});
        assert!(takes(written.clone(), &good));
        for (pointer, other) in [
            ("/type", json!("U")),
            ("/subject", json!("carts/1")),
            ("/data/amount", json!(10)),
            ("/data/currency", json!("USD")),
        ] {
            let mut event = good.clone();
            *event.pointer_mut(pointer).unwrap() = other;
            assert!(!takes(written.clone(), &event), "{event}");
        }
    }

    #[test]
    fn a_subscription_has_at_most_25_filters_and_25_values() {
        let filters = |count: usize, values: usize| {
            let one =
                json!({"operatorType": "NumberIn", "key": "data.n", "values": vec![1; values]});
            filter(json!({"advancedFilters": vec![one; count]})).check(Schema::CloudEvents)
        };
        assert_eq!(filters(1, 25), Ok(()));
        assert_eq!(filters(25, 1), Ok(()));
        assert!(filters(1, 26).unwrap_err().contains("26 values"));
        assert!(filters(13, 2).unwrap_err().contains("26 values"));
        let one = json!({"operatorType": "IsNotNull", "key": "data.n"});
        let many = |count| {
            filter(json!({"advancedFilters": vec![one.clone(); count]})).check(Schema::CloudEvents)
        };
        assert_eq!(many(25), Ok(()));
        assert!(many(26).unwrap_err().contains("26 advanced filters"));
    }
}
