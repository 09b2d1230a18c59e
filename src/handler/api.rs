//! The HTTP API for customers and for people: place, look up, list and cancel orders.

mod operation;
mod operations;

pub use operation::{Answer, Body, Operation, Parameter, Place, SchemaOf};
pub use operations::{OPERATIONS, PROBLEM, operation};

use axum::{
    extract::{
        Path, Query, Request,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    cloud_event::is_json,
    engine::{Engine, Reply},
    events::{
        CancelRequester, Invalid, NewOrder, Order, OrderId, OrderPlaced, ReasonCode, event_id,
    },
    functions::{Function, rule::given},
    sales::{
        Catalog, State as _,
        orders::{
            self, CancelRequest, DISPATCHED, Entry, OrderView, PLACED_DIFFERENTLY, UNKNOWN_ORDER,
        },
        status::{Fact, Legs, Status, Summary},
    },
    store::{OrderQuery, Parked, StoreError},
};

use super::{App, answer, body, problem::Problem};

/// How many orders a list shows unless it is asked for another number.
const DEFAULT_LIMIT: usize = 50;

/// The most orders that one list shows.
const MAX_LIMIT: usize = 200;

/// The longest `Idempotency-Key`.
const MAX_IDEMPOTENCY_KEY: usize = 255;

/// An order's id as it stands in the path.
type IdInPath = Result<Path<String>, PathRejection>;

/// What a list is asked for.
type ListedBy = Result<Query<ListQuery>, QueryRejection>;

/// The route of an HTTP function of the registry.
pub(super) fn route(function: &'static Function) -> MethodRouter<App> {
    match operation(function) {
        Some(operation) => (operation.serve)(function),
        // `orderflow check` names it, and so does a test.
        None => axum::routing::any(|| async { StatusCode::NOT_IMPLEMENTED }),
    }
}

fn answered(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(IntoResponse::into_response)
}

async fn place(
    engine: &Engine,
    function: &'static Function,
    request: Request,
) -> Result<Response, Problem> {
    let (headers, body) = body::split(request).await?;
    let order_id = order_id(&headers)?;
    let order = new_order(&headers, &body)?.with_id(order_id);
    // A test of a deployment does not know its price list, and is never billed.
    if !order.test {
        check_prices(engine.catalog(), &order)?;
    }
    let case = given(
        order_id,
        OrderPlaced {
            order: order.clone(),
        },
        orders::place,
    );
    let id = order_id.to_string();
    match engine
        .request(function, OrderView::OWNER, id, traceparent(&headers), case)
        .await
    {
        Reply::Accepted => Ok(accepted(order_id, Status::Placed)),
        // The same key again: the same order, or somebody reused the key.
        Reply::Ignored(_) => match engine.order(order_id).await.map_err(unavailable)? {
            Some(view) if view.order.as_ref() == Some(&order) => {
                Ok(accepted(order_id, view.facts.status()))
            }
            _ => Err(key_reused()),
        },
        Reply::Refused(_) => Err(key_reused()),
        Reply::Unavailable(reason) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Try again",
            reason,
        )),
    }
}

fn idempotency_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_IDEMPOTENCY_KEY,
        // A header's value neither begins nor ends with a space.
        "pattern": "^[!-~]([ -~]*[!-~])?$"
    })
}

/// The order's id: made from the `Idempotency-Key`, so that the same key is the same order, or a new one.
fn order_id(headers: &HeaderMap) -> Result<OrderId, Problem> {
    let Some(key) = headers.get("idempotency-key") else {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is where an order gets its id"
        )]
        return Ok(OrderId(Uuid::now_v7()));
    };
    let valid = |key: &&str| (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len());
    let Some(key) = key.to_str().ok().filter(valid) else {
        let problem = format!("must be 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters");
        let invalid = Invalid::new("Idempotency-Key", problem);
        return Err(Problem::invalid(
            StatusCode::BAD_REQUEST,
            "Invalid header",
            &invalid,
        ));
    };
    Ok(OrderId(event_id(
        OrderId(Uuid::nil()),
        &format!("idempotencyKey/{key}"),
        1,
    )))
}

fn key_reused() -> Problem {
    let invalid = Invalid::new("Idempotency-Key", PLACED_DIFFERENTLY);
    Problem::invalid(
        StatusCode::UNPROCESSABLE_ENTITY,
        "Idempotency key reused",
        &invalid,
    )
}

fn new_order(headers: &HeaderMap, body: &[u8]) -> Result<NewOrder, Problem> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !is_json(content_type) {
        let invalid = Invalid::new(
            "Content-Type",
            format!("must be application/json, got {content_type:?}"),
        );
        return Err(Problem::invalid(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Not JSON",
            &invalid,
        ));
    }
    if body.is_empty() {
        // The Functions host forwards a body only if the caller declared its length.
        let detail = "the body is empty; send the order as JSON, with a Content-Length";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "No body", detail));
    }
    let json: &RawValue = serde_json::from_slice(body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "Malformed JSON", error.to_string())
    })?;
    Invalid::read("", json.get()).map_err(|invalid| {
        Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, "Invalid order", &invalid)
    })
}

/// The customer must pay the price that they saw.
fn check_prices(catalog: &Catalog, order: &Order) -> Result<(), Problem> {
    order
        .lines
        .iter()
        .enumerate()
        .try_for_each(|(index, line)| {
            catalog.check_price(&order.currency, line).map_err(|error| {
                let invalid = Invalid::new(error.field.path(index), error.problem);
                Problem::invalid(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "Not as on the price list",
                    &invalid,
                )
            })
        })
}

/// What was accepted: an order, or its cancellation.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    /// The order's id.
    order_id: OrderId,
    /// Where it stands.
    status: Status,
}

fn accepted(order_id: OrderId, status: Status) -> Response {
    let body = Accepted { order_id, status };
    let mut response = answer::brief(StatusCode::ACCEPTED, &body);
    if let Ok(location) = HeaderValue::try_from(format!("/api/orders/{order_id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn traceparent(headers: &HeaderMap) -> Option<String> {
    headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: StoreError) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "Try again",
        error.to_string(),
    )
}

fn parse_id(id: IdInPath) -> Result<OrderId, Problem> {
    let id = id.ok().and_then(|Path(id)| Uuid::try_parse(&id).ok());
    id.map(OrderId).ok_or_else(|| {
        let invalid = Invalid::new("orderId", "must be a UUID");
        Problem::invalid(StatusCode::BAD_REQUEST, "Invalid order id", &invalid)
    })
}

fn unknown(order_id: OrderId) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "Unknown order",
        format!("there is no order {order_id}"),
    )
}

async fn look_up(engine: &Engine, id: IdInPath) -> Result<Response, Problem> {
    let order_id = parse_id(id)?;
    let parked = engine.store().parked(order_id).await.map_err(unavailable)?;
    let Some(view) = engine.order(order_id).await.map_err(unavailable)? else {
        return Err(unknown(order_id).with_parked(parked));
    };
    let state = OrderState {
        order_id,
        status: view.facts.status(),
        legs: view.facts.legs(),
        awaiting: view.facts.awaiting(),
        cancel_requested: view.facts.has(Fact::CancelRequested),
        placed_at: view.placed_at,
        order: view.order.as_ref(),
        history: &view.history,
        reason_code: view.reason,
        parked,
    };
    Ok(answer::readable(StatusCode::OK, &state))
}

/// All that is known of an order.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct OrderState<'a> {
    /// The order's id.
    order_id: OrderId,
    /// Where it stands.
    status: Status,
    /// How far each service has come with it.
    legs: Legs,
    /// The names of the events that are missing for its next step.
    awaiting: Vec<&'static str>,
    /// Whether somebody asked to cancel it.
    cancel_requested: bool,
    /// When it was placed, as far as is known.
    placed_at: DateTime<Utc>,
    /// What was ordered; unknown while only later facts have arrived.
    order: Option<&'a Order>,
    /// Every event about it, oldest first.
    history: &'a [Entry],
    /// Why it fell through, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReasonCode")]
    reason_code: Option<ReasonCode>,
    /// What arrived about it and can never succeed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parked: Vec<Parked>,
}

/// What a list is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
struct ListQuery {
    /// Only those of this status.
    #[schemars(with = "Status", transform = or_empty)]
    status: Option<String>,
    /// How many at most; 50 when it is missing.
    #[schemars(with = "u32", range(min = 1, max = MAX_LIMIT), transform = or_empty)]
    limit: Option<String>,
    /// Only those after this one: the `next` of the page before.
    #[schemars(with = "OrderId", transform = or_empty)]
    after: Option<String>,
}

/// A parameter without a value is as if it were not there.
fn or_empty(schema: &mut Schema) {
    let description = schema.remove("description");
    let value = std::mem::take(schema);
    *schema = json_schema!({ "anyOf": [value, { "const": "" }] });
    if let Some(description) = description {
        schema.insert("description".to_owned(), description);
    }
}

/// A page of orders.
#[derive(Serialize, JsonSchema)]
struct OrderList {
    /// Newest first.
    orders: Vec<Summary>,
    /// The `after` of the next page; null on the last one.
    next: Option<OrderId>,
}

async fn list(engine: &Engine, query: ListedBy) -> Result<Response, Problem> {
    let query = order_query(query).map_err(|invalid| {
        Problem::invalid(StatusCode::BAD_REQUEST, "Invalid query parameter", &invalid)
    })?;
    let more = OrderQuery {
        limit: query.limit + 1,
        ..query
    };
    let mut orders: Vec<Summary> = engine.store().orders(more).await.map_err(unavailable)?;
    let complete = orders.len() <= query.limit;
    orders.truncate(query.limit);
    let next = orders
        .last()
        .filter(|_| !complete)
        .map(|last| last.order_id);
    Ok(answer::readable(
        StatusCode::OK,
        &OrderList { orders, next },
    ))
}

fn order_query(query: ListedBy) -> Result<OrderQuery, Invalid> {
    let Query(query) = query.map_err(|error| Invalid::new("query", error.body_text()))?;
    let status = query
        .status
        .as_deref()
        .filter(|name| !name.is_empty())
        .map(|name| {
            let known = Status::ALL.map(Status::as_str).join(", ");
            Status::parse(name)
                .ok_or_else(|| Invalid::new("status", format!("must be one of {known}")))
        });
    let limit = query
        .limit
        .as_deref()
        .filter(|limit| !limit.is_empty())
        .map(|limit| {
            let valid = limit
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit));
            valid.ok_or_else(|| {
                Invalid::new("limit", format!("must be a number from 1 to {MAX_LIMIT}"))
            })
        });
    let after = query
        .after
        .as_deref()
        .filter(|id| !id.is_empty())
        .map(|id| {
            Uuid::try_parse(id)
                .map(OrderId)
                .map_err(|_| Invalid::new("after", "must be an order's id, a UUID"))
        });
    Ok(OrderQuery {
        status: status.transpose()?,
        limit: limit.transpose()?.unwrap_or(DEFAULT_LIMIT),
        after: after.transpose()?,
    })
}

fn too_late(reason: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, "Too late to cancel", reason)
}

async fn cancel(
    engine: &Engine,
    function: &'static Function,
    id: IdInPath,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let order_id = parse_id(id)?;
    let request = CancelRequest {
        order_id,
        requested_by: CancelRequester::Customer,
        reason_code: ReasonCode::CustomerRequest,
    };
    let case = given(order_id, request, orders::cancel);
    match engine
        .request(
            function,
            OrderView::OWNER,
            order_id.to_string(),
            traceparent(headers),
            case,
        )
        .await
    {
        Reply::Accepted | Reply::Ignored(_) => {
            let view = engine
                .order(order_id)
                .await
                .map_err(unavailable)?
                .ok_or_else(|| unknown(order_id))?;
            // An earlier request may have lost the race against the carrier.
            if view.facts.has(Fact::ShipmentDispatched) {
                return Err(too_late(DISPATCHED));
            }
            Ok(accepted(order_id, view.facts.status()))
        }
        Reply::Refused(UNKNOWN_ORDER) => Err(unknown(order_id)),
        Reply::Refused(reason) => Err(too_late(reason)),
        Reply::Unavailable(reason) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Try again",
            reason,
        )),
    }
}
