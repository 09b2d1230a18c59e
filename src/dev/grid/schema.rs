//! The two schemas in which events are published and delivered.

use serde::{Deserialize, Serialize};

/// A schema, named as ARM names it in `inputSchema` and `eventDeliverySchema`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(super) enum Schema {
    /// CloudEvents 1.0.
    #[serde(rename = "CloudEventSchemaV1_0")]
    CloudEvents,
    /// Event Grid's own.
    #[serde(rename = "EventGridSchema")]
    EventGrid,
}

impl Schema {
    /// ARM's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CloudEvents => "CloudEventSchemaV1_0",
            Self::EventGrid => "EventGridSchema",
        }
    }

    /// Whether events that are published in this schema can be delivered in the other one (Azure documentation, "Event schema
    /// compatibility").
    pub(super) fn can_become(self, delivered: Self) -> bool {
        self == Self::EventGrid || delivered == Self::CloudEvents
    }
}
