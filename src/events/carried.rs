//! Payloads that a service keeps and passes on without reading them again.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::value::RawValue;

use super::{Invalid, Payload};

/// A payload as the JSON text that it has on the wire: kept with a state, it is copied instead of read and written anew.
#[derive(Debug, Clone)]
pub struct Carried<E> {
    json: Box<RawValue>,
    payload: PhantomData<fn() -> E>,
}

impl<E: Payload> Carried<E> {
    /// The payload's text.
    pub fn of(payload: &E) -> Self {
        // A payload is a plain struct of strings, numbers and lists: it always has a JSON form.
        Self::from(serde_json::value::to_raw_value(payload).unwrap_or_default())
    }

    /// The payload.
    ///
    /// # Errors
    /// The first field that is not what it must be: the text was kept by another version.
    pub fn read(&self) -> Result<E, Invalid> {
        Invalid::read(E::TYPE, self.json.get())
    }

    /// The payload's text with the members of another object after its own; `None` if that is no object.
    pub(super) fn with(&self, more: &impl Serialize) -> Option<String> {
        let more = serde_json::to_string(more).ok()?;
        let own = self.json.get().strip_suffix('}')?;
        Some(format!("{own},{}", more.strip_prefix('{')?))
    }
}

impl<E> From<Box<RawValue>> for Carried<E> {
    fn from(json: Box<RawValue>) -> Self {
        Self {
            json,
            payload: PhantomData,
        }
    }
}

impl<E> PartialEq for Carried<E> {
    fn eq(&self, other: &Self) -> bool {
        self.json.get() == other.json.get()
    }
}

impl<E> Eq for Carried<E> {}

impl<E> Serialize for Carried<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<'de, E> Deserialize<'de> for Carried<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        if !json.get().starts_with('{') {
            return Err(D::Error::custom("must be an object"));
        }
        Ok(Self::from(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{
        BillingCompleted, Outgoing, PaymentSuccessful, compose, decode, event_type,
        samples::{self, ORDER_ID},
    };

    fn sample<E: Payload>() -> E {
        decode(&samples::event(&event_type::<E>(), ORDER_ID)).unwrap()
    }

    #[test]
    fn what_is_passed_on_with_more_is_the_next_payload() {
        let (billed, paid) = (sample::<BillingCompleted>(), sample::<PaymentSuccessful>());
        let more = serde_json::json!({ "payment": paid.payment });
        let passed_on =
            Outgoing::passing_on::<PaymentSuccessful>(ORDER_ID, &Carried::of(&billed), &more);
        assert_eq!(passed_on, Outgoing::once(&paid));
        let cause = crate::events::Cause {
            id: None,
            traceparent: None,
            tracestate: None,
            time: samples::time(),
        };
        let event = compose(passed_on, &cause, cause.time);
        assert_eq!(decode::<PaymentSuccessful>(&event), Ok(paid));
    }

    #[test]
    fn what_is_kept_comes_back_and_is_read_strictly() {
        let billed = sample::<BillingCompleted>();
        let kept = serde_json::to_string(&Carried::of(&billed)).unwrap();
        assert_eq!(kept, serde_json::to_string(&billed).unwrap());
        let carried: Carried<BillingCompleted> = serde_json::from_str(&kept).unwrap();
        assert_eq!(carried.read(), Ok(billed));
        let other = kept.replace("\"currency\":\"EUR\"", "\"currency\":\"euro\"");
        let other: Carried<BillingCompleted> = serde_json::from_str(&other).unwrap();
        let error = other.read().unwrap_err();
        assert_eq!(error.path, "Sales.BillingCompleted.order.currency");
        let no_object = serde_json::from_str::<Carried<BillingCompleted>>("[1]");
        assert!(no_object.is_err());
    }
}
