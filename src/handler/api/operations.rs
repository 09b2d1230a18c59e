//! The table of the API's operations: a row for each HTTP function of the registry.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};

use crate::{
    events::{NewOrder, OrderId},
    functions::Function,
    handler::{App, problem::Problem},
};

use super::{
    Accepted, Answer, Body, IdInPath, ListQuery, ListedBy, Operation, OrderList, OrderState,
    Parameter, Place, SchemaOf, answered, cancel, idempotency_key, list, look_up, operation::of,
    place,
};

/// Every HTTP function: what it wants, what it answers, and what serves it.
pub static OPERATIONS: &[Operation] = &[
    Operation {
        function: "place-order",
        summary: "Place an order",
        description: "The order is accepted once it is durable; what becomes of it shows under its `Location`. The \
            amounts are those that the customer saw: if one differs from the price list, the order is refused.",
        parameters: &[Parameter {
            name: "Idempotency-Key",
            place: Place::Header,
            description: "The same key is the same order, however often it is sent.",
            schema: idempotency_key,
        }],
        query: None,
        body: Some(of::<NewOrder>()),
        answers: &[
            Answer {
                status: StatusCode::ACCEPTED,
                description: "The order is placed, now or earlier under the same key.",
                body: Body::Json(of::<Accepted>()),
                headers: &[("Location", "Where the order is found.")],
                leads_to: &["get-order", "cancel-order"],
            },
            refused(
                StatusCode::BAD_REQUEST,
                "There is no body, it is no JSON, or a header is malformed.",
            ),
            refused(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."),
            refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body is not sent as JSON.",
            ),
            refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The order is not valid or not as on the price list, or another one was placed under the same key.",
            ),
            UNAVAILABLE,
        ],
        serve: |function| {
            post(move |State(app): State<App>, request: Request| async move {
                answered(place(app.engine().await, function, request).await)
            })
        },
    },
    Operation {
        function: "list-orders",
        summary: "List orders",
        description: "Newest first, page by page.",
        parameters: &[],
        query: Some(of::<ListQuery>()),
        body: None,
        answers: &[
            Answer {
                status: StatusCode::OK,
                description: "A page of orders.",
                body: Body::Json(of::<OrderList>()),
                headers: &[],
                leads_to: &[],
            },
            refused(StatusCode::BAD_REQUEST, "A query parameter is not valid."),
            UNAVAILABLE,
        ],
        serve: |_| {
            get(|State(app): State<App>, query: ListedBy| async move {
                answered(list(app.engine().await, query).await)
            })
        },
    },
    Operation {
        function: "get-order",
        summary: "Look an order up",
        description: "Its status, how far each of its four legs has come, and what has happened.",
        parameters: &[ORDER_ID],
        query: None,
        body: None,
        answers: &[
            Answer {
                status: StatusCode::OK,
                description: "The order.",
                body: Body::Json(of::<OrderState<'_>>()),
                headers: &[],
                leads_to: &[],
            },
            NO_ORDER_ID,
            UNKNOWN,
            UNAVAILABLE,
        ],
        serve: |_| {
            get(|State(app): State<App>, id: IdInPath| async move {
                answered(look_up(app.engine().await, id).await)
            })
        },
    },
    Operation {
        function: "cancel-order",
        summary: "Cancel an order",
        description: "Until it is dispatched. What has been done is undone; the order's status shows how far that is.",
        parameters: &[ORDER_ID],
        query: None,
        body: None,
        answers: &[
            Answer {
                status: StatusCode::ACCEPTED,
                description: "The order is being cancelled, or is already.",
                body: Body::Json(of::<Accepted>()),
                headers: &[("Location", "Where the order is found.")],
                leads_to: &["get-order"],
            },
            NO_ORDER_ID,
            UNKNOWN,
            refused(StatusCode::CONFLICT, "The order has been dispatched."),
            UNAVAILABLE,
        ],
        serve: |function| {
            post(
                move |State(app): State<App>, id: IdInPath, headers: HeaderMap| async move {
                    answered(cancel(app.engine().await, function, id, &headers).await)
                },
            )
        },
    },
];

const ORDER_ID: Parameter = Parameter {
    name: "orderId",
    place: Place::Path,
    description: "The order's id.",
    schema: of::<OrderId>(),
};

const NO_ORDER_ID: Answer = refused(StatusCode::BAD_REQUEST, "The order's id is no UUID.");

const UNKNOWN: Answer = refused(StatusCode::NOT_FOUND, "There is no such order.");

const UNAVAILABLE: Answer = Answer {
    headers: &[("Retry-After", "In how many seconds to try again.")],
    ..refused(
        StatusCode::SERVICE_UNAVAILABLE,
        "Not possible now. Trying again is safe, and with the same `Idempotency-Key` makes no second order.",
    )
};

const fn refused(status: StatusCode, description: &'static str) -> Answer {
    Answer {
        status,
        description,
        body: Body::Problem,
        headers: &[],
        leads_to: &[],
    }
}

/// What an HTTP function of the registry wants and answers.
pub fn operation(function: &Function) -> Option<&'static Operation> {
    OPERATIONS
        .iter()
        .find(|operation| operation.function == function.name)
}

/// The schema of what every refusal looks like.
pub const PROBLEM: SchemaOf = of::<Problem>();
