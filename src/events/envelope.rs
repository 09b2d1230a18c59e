//! The envelope: deterministic ids, causality and trace context around a payload.

use chrono::{DateTime, Utc};
use cloudevents::{
    AttributesReader, Data, Event, EventBuilder, EventBuilderV10, event::ExtensionValue,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use super::{Carried, OrderId, Payload, TYPE_PREFIX};

/// The namespace of every id that this application derives. Another one would make other ids of the same things.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_7d3e_41b5_5a27_9c58_0d2b_7e94_a3f1);

/// A field that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}{problem}", if path.is_empty() { "" } else { ": " })]
pub struct Invalid {
    /// Where, such as `data.order.lines[2].quantity`.
    pub path: String,
    /// What is wrong with it, such as `must be at least 1`.
    pub problem: String,
}

impl Invalid {
    /// A problem at a path.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }

    /// Reads `T` out of a JSON text, which stands at `root`.
    ///
    /// # Errors
    /// The path and the problem of the first field that does not fit.
    pub fn read<T: DeserializeOwned>(root: &str, json: &str) -> Result<T, Self> {
        // Tracking the path costs; only a text that does not fit pays for it.
        serde_json::from_str(json).map_err(|error| {
            let value: serde_json::Result<Value> = serde_json::from_str(json);
            let found = value.map(|value| Self::read_value::<T>(root, &value));
            match found {
                Ok(Err(invalid)) => invalid,
                // A member that is there twice, or nesting without end: what only the text shows.
                Ok(Ok(_)) | Err(_) => Self::new(root, without_place(&error)),
            }
        })
    }

    /// Reads `T` out of `value`, which stands at `root`.
    ///
    /// # Errors
    /// The path and the problem of the first field that does not fit.
    fn read_value<T: DeserializeOwned>(root: &str, value: &Value) -> Result<T, Self> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let path = match (root, path.as_str()) {
                (root, ".") => root.to_owned(),
                ("", path) => path.to_owned(),
                (root, path) => format!("{root}.{path}"),
            };
            Self {
                path,
                problem: without_value(&error.into_inner().to_string()),
            }
        })
    }
}

/// What `serde_json` says is wrong, without the line and column that it adds.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// The id of the thing that `kind` names about an order: doing the same thing twice makes the same id.
pub fn event_id(order: OrderId, kind: &str, attempt: u32) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{order}/{kind}/{attempt}").as_bytes())
}

/// An event's name without its prefix: `OrderPlaced` for `Sales.OrderPlaced`.
pub fn short_name(event_type: &str) -> &str {
    event_type.strip_prefix(TYPE_PREFIX).unwrap_or(event_type)
}

/// What caused an outgoing event: the part of the causing event that its effects carry on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// The causing event's id; absent for a request from outside.
    pub id: Option<String>,
    /// Its W3C `traceparent`.
    pub traceparent: Option<String>,
    /// Its W3C `tracestate`.
    pub tracestate: Option<String>,
    /// When it happened.
    pub time: DateTime<Utc>,
}

impl Cause {
    /// The causing event's part; `arrived` stands in for a missing `time`.
    pub fn of(event: &Event, arrived: DateTime<Utc>) -> Self {
        let text = |name| match event.extension(name) {
            Some(ExtensionValue::String(text)) => Some(text.clone()),
            _ => None,
        };
        Self {
            id: Some(event.id().to_owned()),
            traceparent: text("traceparent").filter(|text| trace_id(text).is_some()),
            tracestate: text("tracestate"),
            time: event.time().copied().unwrap_or(arrived),
        }
    }
}

/// An event that a service decided on, before it has an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The CloudEvents `type`.
    pub event_type: &'static str,
    /// The publishing service.
    pub service: &'static str,
    /// The order that it is about.
    pub order_id: OrderId,
    /// Which try it reports; 1 where there is but one.
    pub attempt: u32,
    /// The payload as JSON text.
    pub data: String,
}

impl Outgoing {
    /// The payload of an event that happens once per order.
    pub fn once<E: Payload>(payload: &E) -> Self {
        Self::attempt(payload, 1)
    }

    /// The payload of an event that may happen once per attempt.
    pub fn attempt<E: Payload>(payload: &E, attempt: u32) -> Self {
        // A payload is a plain struct of strings, numbers and lists: it always has a JSON form.
        let data = serde_json::to_string(payload).unwrap_or_default();
        Self {
            event_type: E::TYPE,
            service: E::SERVICE,
            order_id: payload.order_id(),
            attempt,
            data,
        }
    }

    /// The payload `E` of an event that happens once per order, if its members are those of a payload that is passed on
    /// unread, and `more`; for example `PaymentSuccessful`, which is `BillingCompleted` with a `payment`.
    pub fn passing_on<E: Payload>(
        order_id: OrderId,
        carried: &Carried<impl Payload>,
        more: &impl Serialize,
    ) -> Self {
        Self {
            event_type: E::TYPE,
            service: E::SERVICE,
            order_id,
            attempt: 1,
            // As in `attempt`: both always have a JSON form, which is an object.
            data: carried.with(more).unwrap_or_default(),
        }
    }

    /// The CloudEvents `id`: a UUIDv5 of order, type and attempt.
    pub fn id(&self) -> Uuid {
        event_id(self.order_id, self.event_type, self.attempt)
    }
}

/// Puts an outgoing event into its envelope. `time` is when it was decided.
pub fn compose(outgoing: Outgoing, cause: &Cause, time: DateTime<Utc>) -> Event {
    let id = outgoing.id();
    let order = outgoing.order_id;
    let mut builder = EventBuilderV10::new()
        .id(id.to_string())
        .ty(outgoing.event_type)
        .source(format!("/sales/{}", outgoing.service))
        .subject(format!("orders/{order}"))
        .time(time)
        .data("application/json", Data::String(outgoing.data))
        .extension("correlationid", order.to_string())
        .extension("traceparent", traceparent(order, id, cause));
    if let Some(id) = &cause.id {
        builder = builder.extension("causationid", id.as_str());
    }
    if let Some(tracestate) = &cause.tracestate {
        builder = builder.extension("tracestate", tracestate.as_str());
    }
    // Every attribute that the specification requires is set above.
    builder.build().unwrap_or_default()
}

/// The W3C trace context of an event: the trace of its cause, or one made from the order's id, with a span made
/// from the event's id, so that the same event always carries the same context.
fn traceparent(order: OrderId, id: Uuid, cause: &Cause) -> String {
    let own_trace = order.0.simple().to_string();
    let trace = cause
        .traceparent
        .as_deref()
        .and_then(trace_id)
        .unwrap_or(&own_trace);
    let (span, _) = id.as_u64_pair();
    format!("00-{trace}-{span:016x}-01")
}

/// The trace id of a version 00 `traceparent` (W3C Trace Context, section 3.2.2); `None` when it is malformed.
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let set = |text: &str| text.bytes().any(|byte| byte != b'0');
    let valid = version == "00"
        && hex(trace, 32)
        && set(trace)
        && hex(span, 16)
        && set(span)
        && hex(flags, 2);
    (valid && parts.next().is_none()).then_some(trace)
}

/// Reads the typed payload out of an event.
///
/// # Errors
/// The path and the problem when there is no JSON `data`, a field is missing or invalid, fields contradict each
/// other, or the subject names another order than the data.
pub fn decode<E: Payload>(event: &Event) -> Result<E, Invalid> {
    let payload: E = match event.data() {
        Some(Data::String(text)) => Invalid::read("data", text)?,
        Some(Data::Json(value)) => Invalid::read_value("data", value)?,
        Some(Data::Binary(_)) | None => {
            let expected = format!("must be a JSON object with the fields of {}", E::TYPE);
            return Err(Invalid::new("data", expected));
        }
    };
    payload.check()?;
    match order_of(event)? {
        Some(order) if order != payload.order_id() => Err(Invalid::new(
            "subject",
            format!(
                "must be orders/{} as in the data, got orders/{order}",
                payload.order_id()
            ),
        )),
        _ => Ok(payload),
    }
}

/// The order in an event's subject, `orders/<orderId>`.
///
/// # Errors
/// When there is a subject of another form.
pub fn order_of(event: &Event) -> Result<Option<OrderId>, Invalid> {
    let Some(subject) = event.subject() else {
        return Ok(None);
    };
    subject
        .strip_prefix("orders/")
        .and_then(|id| Uuid::try_parse(id).ok())
        .map(|id| Some(OrderId(id)))
        .ok_or_else(|| Invalid::new("subject", "must be orders/ and the order's id, a UUID"))
}

/// What serde says is wrong, without the text that it quotes: that may be anything, such as an e-mail address where an
/// object belongs, and problems are logged and kept.
fn without_value(problem: &str) -> String {
    let expected = ", expected ";
    let cut = |quote: char| {
        let (kind, rest) = problem.split_once(&format!(" {quote}"))?;
        let (_, wanted) = rest.rsplit_once(&format!("{quote}{expected}"))?;
        Some(format!("{kind}{expected}{wanted}"))
    };
    cut('"')
        .or_else(|| cut('`'))
        .unwrap_or_else(|| problem.to_owned())
}
