//! A stand-in for Stripe's API on this machine: `PaymentIntents` and Refunds with the idempotency, the errors and the
//! test tokens of the real one, and a ledger of its own. It checks every request against the published parameters, so
//! that a wrong name fails a test. It knows nothing of the program under test and can stand beside a real process.
//!
//! Rules from Stripe's documentation: "Idempotent requests", "Errors", "Advanced error handling", "Search", "Testing",
//! "Supported currencies".

mod account;
mod keys;
mod parameters;

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::Response,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use account::Account;
pub use account::{Booking, VERSION};
use keys::Keys;
pub use parameters::Parameters;

/// The secret key of the stand-in's only account.
pub const KEY: &str = "sk_test_standInOnly";

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is done, and the connection breaks before the answer has come.
    DropAnswer,
    /// It is refused with this status before anything is done; nothing is stored.
    Refuse(u16),
    /// As `Refuse`, with a header.
    RefuseWith(u16, &'static str, &'static str),
    /// It is done, and a server error is answered and stored all the same.
    FailAfter,
    /// A server error is answered and stored, and nothing is done.
    FailBefore,
    /// It takes this long; until then its key is in use.
    Delay(Duration),
    /// Its `PaymentIntent` stays in this status.
    LeaveIn(&'static str),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Such as `POST /v1/payment_intents`.
    pub operation: String,
    pub idempotency_key: Option<String>,
    pub parameters: Parameters,
    /// What was answered; 0 before that.
    pub status: u16,
}

/// A running stand-in.
pub struct StripeStandIn {
    shared: Arc<Shared>,
    address: String,
}

#[derive(Default)]
struct Shared {
    account: Mutex<Account>,
    keys: Mutex<Keys>,
    faults: Mutex<VecDeque<(String, Fault)>>,
    seen: Mutex<Vec<Seen>>,
}

/// A status and a body.
type Answer = (u16, Value);

impl StripeStandIn {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let routes = Router::new().fallback(answer).with_state(shared.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { shared, address }
    }

    /// `STRIPE_API_BASE`.
    pub fn url(&self) -> &str {
        &self.address
    }

    /// Has the next request of an operation, such as `POST /v1/refunds`, go wrong. Faults of one operation queue up.
    pub fn fail_next(&self, operation: &str, fault: Fault) {
        let mut faults = lock(&self.shared.faults);
        faults.push_back((operation.to_owned(), fault));
    }

    /// As Stripe may after 24 hours.
    pub fn forget_keys(&self) {
        lock(&self.shared.keys).forget();
    }

    /// From now on a search shows what there is now.
    pub fn freeze_index(&self) {
        lock(&self.shared.account).freeze_index();
    }

    /// A search shows everything again.
    pub fn thaw_index(&self) {
        lock(&self.shared.account).thaw_index();
    }

    /// A `PaymentIntent` that is being processed succeeds, and pending Refunds come to this status.
    pub fn settle(&self, refunds: &str) {
        lock(&self.shared.account).settle(refunds);
    }

    /// Money in (positive) and out (negative), in order.
    pub fn ledger(&self) -> Vec<Booking> {
        lock(&self.shared.account).ledger.clone()
    }

    /// What is left of all that came and went, in the currency's Stripe unit.
    pub fn balance(&self, currency: &str) -> i64 {
        let ledger = self.ledger();
        let booked = ledger.iter().filter(|booking| booking.currency == currency);
        booked.map(|booking| booking.amount).sum()
    }

    /// Every `PaymentIntent`, oldest first.
    pub fn payment_intents(&self) -> Vec<Value> {
        lock(&self.shared.account).payment_intents.clone()
    }

    /// Every Refund, oldest first.
    pub fn refunds(&self) -> Vec<Value> {
        lock(&self.shared.account).refunds.clone()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many requests of an operation came.
    pub fn count(&self, operation: &str) -> usize {
        let seen = self.seen();
        seen.iter()
            .filter(|seen| seen.operation == operation)
            .count()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no handler panics")
}

/// An error's body in Stripe's shape.
fn error(
    status: u16,
    kind: &str,
    code: Option<&str>,
    param: Option<&str>,
    message: &str,
) -> Answer {
    let mut error = json!({ "type": kind, "message": message });
    if let Some(code) = code {
        error["code"] = json!(code);
        error["doc_url"] = json!(format!("https://stripe.com/docs/error-codes/{code}"));
    }
    if let Some(param) = param {
        error["param"] = json!(param);
    }
    (status, json!({ "error": error }))
}

fn invalid(code: Option<&str>, param: Option<&str>, message: &str) -> Answer {
    error(400, "invalid_request_error", code, param, message)
}

/// One request, as far as it has been looked at.
struct Request {
    number: usize,
    operation: String,
    /// The object that the path names.
    id: Option<String>,
    key: Option<String>,
    parameters: Parameters,
    fault: Option<Fault>,
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (operation, id) = operation(&method, uri.path());
    let form = match method {
        Method::POST => String::from_utf8_lossy(&body).into_owned(),
        _ => uri.query().unwrap_or_default().to_owned(),
    };
    let mut request = Request {
        number: 0,
        operation,
        id,
        key: header("idempotency-key").map(str::to_owned),
        parameters: parameters::parse(&form),
        fault: None,
    };
    request.number = shared.record(&request);
    request.fault = shared.fault(&request.operation);
    if method == Method::POST && header("content-type") != Some("application/x-www-form-urlencoded")
    {
        let answer = invalid(None, None, "a POST has a form");
        return shared.respond(&request, answer, false);
    }
    let expected = format!("Bearer {KEY}");
    if header("authorization") != Some(&expected) {
        let came = header("authorization").unwrap_or_default();
        // The real one shows some of it; this one shows all, to see who passes it on.
        let message = format!("Invalid API Key provided: {came}");
        let answer = error(401, "invalid_request_error", None, None, &message);
        return shared.respond(&request, answer, false);
    }
    if header("stripe-version") != Some(VERSION) {
        let answer = invalid(None, None, "Invalid Stripe API version");
        return shared.respond(&request, answer, false);
    }
    // What has begun is done, whether somebody waits for it or not.
    tokio::spawn(async move { shared.handle(request).await })
        .await
        .expect("no handler panics")
}

/// The operation that a path belongs to, with `{id}` for an object's id.
fn operation(method: &Method, path: &str) -> (String, Option<String>) {
    let mut id = None;
    let parts: Vec<&str> = path
        .split('/')
        .map(|part| {
            if part.starts_with("pi_") || part.starts_with("re_") {
                id = Some(part.to_owned());
                return "{id}";
            }
            part
        })
        .collect();
    (format!("{method} {}", parts.join("/")), id)
}

impl Shared {
    fn record(&self, request: &Request) -> usize {
        let mut seen = lock(&self.seen);
        seen.push(Seen {
            operation: request.operation.clone(),
            idempotency_key: request.key.clone(),
            parameters: request.parameters.clone(),
            status: 0,
        });
        seen.len() - 1
    }

    fn fault(&self, operation: &str) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let next = faults.iter().position(|(of, _)| of == operation)?;
        faults.remove(next).map(|(_, fault)| fault)
    }

    async fn handle(&self, request: Request) -> Response {
        match request.fault {
            Some(Fault::Refuse(status)) => {
                return self.respond(&request, refusal(status), false);
            }
            Some(Fault::RefuseWith(status, name, value)) => {
                let mut response = self.respond(&request, refusal(status), false);
                response.headers_mut().insert(name, value.parse().unwrap());
                return response;
            }
            _ => {}
        }
        if let Err(answer) = parameters::check(&request.operation, &request.parameters) {
            return self.respond(&request, answer, false);
        }
        let dropped = matches!(request.fault, Some(Fault::DropAnswer));
        let answer = match lock(&self.keys).begin(&request) {
            Ok(None) => None,
            Ok(Some(stored)) => Some((stored, true)),
            Err(answer) => Some((answer, false)),
        };
        if let Some((answer, replayed)) = answer {
            let response = self.respond(&request, answer, replayed);
            return if dropped { broken_off() } else { response };
        }
        if let Some(Fault::Delay(time)) = request.fault {
            tokio::time::sleep(time).await;
        }
        let broken = || error(500, "api_error", None, None, "An unknown error occurred");
        let answer = match request.fault {
            Some(Fault::FailBefore) => broken(),
            _ => self.execute(&request),
        };
        let answer = match request.fault {
            Some(Fault::FailAfter) => broken(),
            _ => answer,
        };
        lock(&self.keys).store(&request, &answer);
        let response = self.respond(&request, answer, false);
        if dropped { broken_off() } else { response }
    }

    fn execute(&self, request: &Request) -> Answer {
        let mut account = lock(&self.account);
        let (parameters, id) = (
            &request.parameters,
            request.id.as_deref().unwrap_or_default(),
        );
        let left_in = match request.fault {
            Some(Fault::LeaveIn(status)) => Some(status),
            _ => None,
        };
        let done = match request.operation.as_str() {
            "POST /v1/payment_intents" => account.create_payment_intent(parameters, left_in),
            "GET /v1/payment_intents" => Ok(account.list_payment_intents(parameters)),
            "GET /v1/payment_intents/search" => account.search_payment_intents(parameters),
            "GET /v1/payment_intents/{id}" => account.retrieve_payment_intent(id),
            "POST /v1/payment_intents/{id}/confirm" => account.confirm(id, parameters),
            "POST /v1/payment_intents/{id}/capture" => account.capture(id, parameters),
            "POST /v1/payment_intents/{id}/cancel" => account.cancel(id, parameters),
            "POST /v1/refunds" => account.create_refund(parameters),
            "GET /v1/refunds" => Ok(account.list_refunds(parameters)),
            "GET /v1/refunds/{id}" => account.retrieve_refund(id),
            operation => unreachable!("{operation} has parameters and no function"),
        };
        match done {
            Ok(object) => (200, object),
            Err(answer) => answer,
        }
    }

    fn respond(&self, request: &Request, (status, body): Answer, replayed: bool) -> Response {
        lock(&self.seen)[request.number].status = status;
        let mut response = Response::builder()
            .status(StatusCode::from_u16(status).unwrap())
            .header("content-type", "application/json")
            .header("stripe-version", VERSION)
            .header("request-id", format!("req_{:014}", request.number));
        if let Some(key) = &request.key {
            response = response.header("idempotency-key", key);
        }
        if replayed {
            response = response.header("idempotent-replayed", "true");
        }
        response.body(Body::from(body.to_string())).unwrap()
    }
}

fn refusal(status: u16) -> Answer {
    match status {
        429 => error(
            429,
            "invalid_request_error",
            Some("rate_limit"),
            None,
            "Too many requests",
        ),
        500.. => error(
            status,
            "api_error",
            None,
            None,
            "Something is wrong on our end",
        ),
        _ => error(status, "invalid_request_error", None, None, "Refused"),
    }
}

/// An answer that breaks off.
fn broken_off() -> Response {
    let broken = futures_util::stream::once(async {
        Err::<Bytes, _>(std::io::Error::other("the connection is lost"))
    });
    Response::new(Body::from_stream(broken))
}
