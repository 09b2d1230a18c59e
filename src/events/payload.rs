//! What makes a type the payload of an event, and the macro that declares one.

use cloudevents::Event;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};

use super::{Invalid, OrderId, Outgoing, decode, samples::Story};

/// The `data` of one event type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the payload of an event",
    note = "declare it with `payload!`, as those in src/events/payloads.rs"
)]
pub trait Payload: Serialize + DeserializeOwned + JsonSchema {
    /// The CloudEvents `type`, `Sales.` and the event's name.
    const TYPE: &'static str;
    /// The service that publishes it; the CloudEvents `source` is `/sales/` and this name.
    const SERVICE: &'static str;
    /// What it means for the order.
    const ROLE: Role;

    /// The order that the event is about.
    fn order_id(&self) -> OrderId;

    /// What it says in the samples.
    fn sample(story: &Story) -> Self;

    /// Checks what spans several fields.
    ///
    /// # Errors
    /// The first field that contradicts another one.
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// What an event means for its order, and so who must take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Brings the order on, or takes a part of it back.
    Step,
    /// Something failed after others had done their part: somebody must undo it.
    Failure,
    /// Something was refused before anything was done: there is nothing to undo.
    Refusal,
    /// Tells the world outside what became of the order: nobody here needs to take it.
    Result,
}

/// A payload with its type erased: what the registry's rows list as published.
#[derive(Debug, Clone, Copy)]
pub struct EventType {
    /// The CloudEvents `type`.
    pub name: &'static str,
    /// The service that publishes it.
    pub service: &'static str,
    /// What it means for the order.
    pub role: Role,
    /// The JSON Schema of its data.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Its sample.
    pub sample: fn(&Story) -> Outgoing,
    /// Whether an event of this type can be read, and if not, why.
    pub check: fn(&Event) -> Result<(), Invalid>,
}

/// The event type of a payload.
pub const fn event_type<E: Payload>() -> EventType {
    EventType {
        name: E::TYPE,
        service: E::SERVICE,
        role: E::ROLE,
        schema: E::json_schema,
        sample: |story| Outgoing::once(&E::sample(story)),
        check: |event| decode::<E>(event).map(drop),
    }
}

/// Declares a payload: the service that publishes it, its role, its type name and fields, and its sample. For example
///
/// ```text
/// payload!(
///     /// The customer has earned points.
///     "loyalty" Result PointsEarned {
///         /// The order's id.
///         order_id: OrderId,
///         /// How many.
///         points: u32,
///     }
///     sample = |story| Self { order_id: story.order.order_id, points: 153 };
/// );
/// ```
///
/// `order` says where the order's id is unless it is the field `order_id`; `check` checks what spans several fields.
macro_rules! payload {
    (
        $(#[$doc:meta])*
        $service:literal $role:ident $name:ident { $( $(#[$field_doc:meta])* $field:ident: $kind:ty, )* }
        sample = $sample:expr;
        $( order = $order:expr; )?
        $( check = $check:expr; )?
    ) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema,
        )]
        #[serde(rename_all = "camelCase")]
        pub struct $name { $( $(#[$field_doc])* pub $field: $kind, )* }

        impl $crate::events::Payload for $name {
            const TYPE: &'static str = concat!("Sales.", stringify!($name));
            const SERVICE: &'static str = $service;
            const ROLE: $crate::events::Role = $crate::events::Role::$role;

            $crate::events::payload!(@order $( $order )?);

            fn sample(story: &$crate::events::samples::Story) -> Self {
                let sample: fn(&$crate::events::samples::Story) -> Self = $sample;
                sample(story)
            }

            $(
                fn check(&self) -> Result<(), $crate::events::Invalid> {
                    let check: fn(&Self) -> Result<(), $crate::events::Invalid> = $check;
                    check(self)
                }
            )?
        }
    };
    (@order) => {
        fn order_id(&self) -> $crate::events::OrderId {
            self.order_id
        }
    };
    (@order $order:expr) => {
        fn order_id(&self) -> $crate::events::OrderId {
            let order: fn(&Self) -> &$crate::events::Order = $order;
            order(self).order_id
        }
    };
}

pub(crate) use payload;
