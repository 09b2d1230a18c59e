//! One invocation: the request that the handler gets, and what its answer means.

use std::{collections::BTreeMap, convert::identity, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use reqwest::{
    Client, RequestBuilder, Response,
    header::{CONTENT_TYPE, USER_AGENT},
};
use serde::{Deserialize, Serialize};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};
use tokio::time::timeout;

use super::handler_process::{Handler, NoHandler, Running};
use crate::dev::{
    ambient::{now, random_id, timestamp},
    client::describe,
    terminal::Terminal,
};

/// The version of the host that is imitated.
const HOST_VERSION: &str = "4.1052.200";

/// The largest answer that is read.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What the host says it is, on every request to the handler but the probe.
pub(crate) fn with_host_headers(request: RequestBuilder) -> RequestBuilder {
    request
        .header("X-Azure-Functions-HostVersion", HOST_VERSION)
        .header("X-Azure-Functions-InvocationId", random_id().to_string())
        .header(USER_AGENT, format!("Azure-Functions-Host/{HOST_VERSION}"))
}

/// The body of an invocation. The trigger's value is passed on unchanged; what the host knows besides goes into `Metadata`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct InvocationBody<'a> {
    data: BTreeMap<&'a str, &'a RawValue>,
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    sys: Sys,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sys {
    method_name: String,
    utc_now: String,
    rand_guid: String,
}

impl<'a> InvocationBody<'a> {
    /// The invocation of a function by an event, whose own `data` the host repeats in the metadata.
    pub(crate) fn of_event(
        function: &str,
        binding: &'a str,
        event: &'a RawValue,
    ) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct DataMember<'a> {
            #[serde(borrow, default)]
            data: Option<&'a RawValue>,
        }
        let member: DataMember<'_> = serde_json::from_str(event.get())?;
        let mut body = Self::of_timer(function, binding, event);
        body.metadata.data = member.data.map(as_metadata).transpose()?;
        Ok(body)
    }

    /// The invocation of a function by a timer, or by anything else that has no metadata of its own.
    pub(super) fn of_timer(function: &str, binding: &'a str, value: &'a RawValue) -> Self {
        let sys = Sys {
            method_name: function.to_owned(),
            utc_now: timestamp(now()),
            rand_guid: random_id().to_string(),
        };
        Self {
            data: BTreeMap::from([(binding, value)]),
            metadata: Metadata { data: None, sys },
        }
    }

    /// The body as it is sent.
    pub(crate) fn to_bytes(&self) -> Result<Bytes, serde_json::Error> {
        serde_json::to_vec(self).map(Bytes::from)
    }
}

/// An object stays one; anything else the host passes as a string that holds its JSON.
fn as_metadata(value: &RawValue) -> Result<Box<RawValue>, serde_json::Error> {
    if value.get().starts_with('{') {
        Ok(value.to_owned())
    } else {
        to_raw_value(value.get())
    }
}

/// Why an invocation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvocationError {
    #[error(transparent)]
    NoHandler(#[from] NoHandler),
    #[error("the handler cannot be reached: {0}")]
    Refused(String),
    #[error("the connection to the handler broke: {0}")]
    Broken(String),
    #[error("the handler answered {0}")]
    Failure(String),
    #[error("the function ran into its time limit of {} s and the handler was killed", .0.as_secs())]
    TimedOut(Duration),
    #[error("the invocation cannot be written as JSON: {0}")]
    NotJson(#[from] serde_json::Error),
}

impl From<reqwest::Error> for InvocationError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_connect() {
            Self::Refused(describe(&error))
        } else {
            Self::Broken(describe(&error))
        }
    }
}

/// Sends invocations to the handler.
#[derive(Debug, Clone)]
pub(super) struct Invoker {
    pub(super) client: Client,
    pub(super) handler: Handler,
    pub(super) function_timeout: Duration,
    pub(super) terminal: Terminal,
}

impl Invoker {
    /// Invokes a function. Returns once the host would take the invocation for done.
    pub(super) async fn invoke(&self, function: &str, body: Bytes) -> Result<(), InvocationError> {
        let logs = self
            .within_limit(function, |running| {
                self.send(function, running, body.clone())
            })
            .await?;
        for entry in logs {
            self.terminal.notice(format!("{function}: {entry}"));
        }
        Ok(())
    }

    /// Does something with the handler, waiting for it while it is being started. Has it killed when the function's time limit is over.
    pub(super) async fn within_limit<T, Exchange>(
        &self,
        what: &str,
        exchange: impl Fn(Running) -> Exchange,
    ) -> Result<T, InvocationError>
    where
        Exchange: Future<Output = Result<T, InvocationError>>,
    {
        loop {
            let running = self.handler.ready().await?;
            match timeout(self.function_timeout, exchange(running.clone())).await {
                // Nothing was sent, so the next handler may have it.
                Ok(Err(InvocationError::Refused(_))) if self.handler.has_gone(&running).await => {}
                Ok(Err(error @ InvocationError::Broken(_))) => {
                    // Whoever hears of the failure and tries again must not meet the handler that is just ending.
                    self.handler.has_gone(&running).await;
                    return Err(error);
                }
                Ok(ended) => return ended,
                Err(_) => {
                    let limit = self.function_timeout;
                    self.terminal.alarm(format!(
                        "{what} ran into its time limit of {} s: the handler is killed, with all that it is doing",
                        limit.as_secs()
                    ));
                    self.handler.kill(&running);
                    return Err(InvocationError::TimedOut(limit));
                }
            }
        }
    }

    /// Returns what the handler wants logged.
    async fn send(
        &self,
        function: &str,
        running: Running,
        body: Bytes,
    ) -> Result<Vec<String>, InvocationError> {
        match exchange(&self.client, &running.address, function, body).await? {
            Judgement::Success { logs } => Ok(logs),
            Judgement::Failure(problem) => Err(InvocationError::Failure(problem)),
            Judgement::Hang(status) => {
                self.terminal.alarm(format!(
                    "{function} answered {status} without content: the real host hangs on this until the function's time limit \
                     and then kills the handler, and so does this one. Answer {{\"Outputs\":{{}},\"Logs\":[],\"ReturnValue\":null}}"
                ));
                // Ended by the time limit.
                std::future::pending().await
            }
        }
    }
}

/// Sends an invocation to the handler at an address, and says what its answer means to the host.
pub(crate) async fn exchange(
    client: &Client,
    address: &str,
    function: &str,
    body: Bytes,
) -> Result<Judgement, InvocationError> {
    let request = client.post(format!("{address}/{function}"));
    let request = with_host_headers(request)
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .body(chunked(body));
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let content_type = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content_type = content_type.map(str::to_owned);
    let body = read(answer).await?;
    Ok(judge(status, content_type.as_deref(), &body))
}

/// A body that is sent in chunks, as the real host does. Mapping its frames, to themselves, makes it forget its length.
fn chunked(body: Bytes) -> reqwest::Body {
    reqwest::Body::wrap(Full::new(body).map_frame(identity))
}

async fn read(mut answer: Response) -> Result<Vec<u8>, InvocationError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len().saturating_add(chunk.len()) > ANSWER_BYTES {
            return Err(InvocationError::Failure(format!(
                "more than {ANSWER_BYTES} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What an answer means to the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The invocation is done.
    Success { logs: Vec<String> },
    /// The invocation failed, for this reason.
    Failure(String),
    /// Neither, since there is nothing in the answer: the host waits until the function's time limit. With its status.
    Hang(u16),
}

/// Judges an answer as the host does.
fn judge(status: u16, content_type: Option<&str>, body: &[u8]) -> Judgement {
    if !(200..=299).contains(&status) {
        return Judgement::Failure(
            format!("{status} {}", beginning(body))
                .trim_end()
                .to_owned(),
        );
    }
    if body.is_empty() {
        return Judgement::Hang(status);
    }
    if !is_json(content_type) {
        let given = content_type.unwrap_or("missing");
        return Judgement::Failure(format!(
            "{status}, but the content type is {given}: it must be application/json"
        ));
    }
    if body.trim_ascii().is_empty() {
        return Judgement::Hang(status);
    }
    match serde_json::from_slice(body) {
        Ok(Value::Null) => Judgement::Hang(status),
        Ok(Value::Object(members)) => judge_members(status, &members),
        Ok(_) => Judgement::Failure(format!(
            "{status}, but its JSON is not an object: {}",
            beginning(body)
        )),
        Err(error) => Judgement::Failure(format!("{status}, but its body is not JSON: {error}")),
    }
}

fn judge_members(status: u16, members: &Map<String, Value>) -> Judgement {
    let mut logs = Vec::new();
    for (name, value) in members {
        // The host compares these names without regard to case.
        match (name.to_ascii_lowercase().as_str(), value) {
            ("outputs", Value::Object(_) | Value::Null) | ("logs", Value::Null) => {}
            ("outputs", _) => {
                return Judgement::Failure(format!("{status}, but `{name}` is not an object"));
            }
            ("logs", Value::Array(entries)) => logs.extend(entries.iter().filter_map(log_entry)),
            ("logs", _) => {
                return Judgement::Failure(format!("{status}, but `{name}` is not an array"));
            }
            _ => {}
        }
    }
    Judgement::Success { logs }
}

fn log_entry(entry: &Value) -> Option<String> {
    let text = entry
        .as_str()
        .map_or_else(|| entry.to_string(), str::to_owned);
    (!text.trim().is_empty()).then_some(text)
}

fn is_json(content_type: Option<&str>) -> bool {
    let essence = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    essence.eq_ignore_ascii_case("application/json") || essence.eq_ignore_ascii_case("text/json")
}

/// The beginning of a body, on one line.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn an_invocation_that_is_refused_goes_to_the_next_handler() {
        let listener = || tokio::net::TcpListener::bind("127.0.0.1:0");
        let (ended, alive) = (listener().await.unwrap(), listener().await.unwrap());
        let address = |listener: &tokio::net::TcpListener| {
            format!("http://{}", listener.local_addr().unwrap())
        };
        let (gone, next) = (address(&ended), address(&alive));
        drop(ended);
        let answer = async || ([(CONTENT_TYPE, "application/json")], "{}");
        let router = axum::Router::new().route("/billing", axum::routing::post(answer));
        tokio::spawn(async { axum::serve(alive, router).await });

        let (play, handler) = Handler::played();
        let invoker = Invoker {
            client: crate::dev::client::loopback().unwrap(),
            handler,
            function_timeout: Duration::from_secs(20),
            terminal: Terminal::start(true),
        };
        play(gone, 1);
        let refused = invoker.invoke("billing", Bytes::new()).await;
        assert!(
            matches!(refused, Err(InvocationError::Refused(_))),
            "{refused:?}"
        );
        let taken = tokio::join!(invoker.invoke("billing", Bytes::new()), async {
            play(next, 2);
        })
        .0;
        assert!(taken.is_ok(), "{taken:?}");
    }

    const JSON: Option<&str> = Some("application/json; charset=utf-8");

    fn success() -> Judgement {
        Judgement::Success { logs: vec![] }
    }

    #[track_caller]
    fn fails(status: u16, content_type: Option<&str>, body: &str, because: &str) {
        match judge(status, content_type, body.as_bytes()) {
            Judgement::Failure(reason) => assert!(reason.contains(because), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_object_in_json_is_success() {
        for body in [
            "{}",
            r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#,
            r#"{"anything":[1]}"#,
        ] {
            assert_eq!(judge(200, JSON, body.as_bytes()), success());
        }
        assert_eq!(judge(299, Some("TEXT/JSON"), b"{}"), success());
    }

    #[test]
    fn logs_are_passed_on() {
        let logs = vec!["one".to_owned(), "2".to_owned()];
        assert_eq!(
            judge(200, JSON, br#"{"logs":["one",""," ",2]}"#),
            Judgement::Success { logs }
        );
    }

    #[test]
    fn no_content_is_neither_success_nor_failure() {
        assert_eq!(judge(204, None, b""), Judgement::Hang(204));
        assert_eq!(judge(200, Some("text/plain"), b""), Judgement::Hang(200));
        assert_eq!(judge(200, JSON, b" \n"), Judgement::Hang(200));
        assert_eq!(judge(200, JSON, b"null"), Judgement::Hang(200));
    }

    #[test]
    fn everything_else_fails() {
        fails(
            500,
            JSON,
            "{\"problem\":\n\"no database\"}",
            "500 {\"problem\": \"no database\"}",
        );
        fails(404, None, "", "404");
        fails(302, JSON, "{}", "302");
        fails(200, None, "{}", "missing");
        fails(
            200,
            Some("application/problem+json"),
            "{}",
            "application/problem+json",
        );
        fails(200, Some("text/plain"), "null", "text/plain");
        fails(200, JSON, "{", "not JSON");
        fails(200, JSON, "[]", "not an object");
        fails(200, JSON, r#"{"Outputs":[]}"#, "`Outputs`");
        fails(200, JSON, r#"{"Logs":"text"}"#, "`Logs`");
    }

    fn invocation(event: &str) -> Value {
        let event = RawValue::from_string(event.to_owned()).unwrap();
        let body = InvocationBody::of_event("billing", "event", &event).unwrap();
        serde_json::from_slice(&body.to_bytes().unwrap()).unwrap()
    }

    #[test]
    fn the_event_is_passed_as_an_object_and_its_data_again_as_metadata() {
        let body = invocation(r#"{"id":"1","data":{"orderId":"42"}}"#);
        assert_eq!(
            body["Data"],
            json!({"event": {"id": "1", "data": {"orderId": "42"}}})
        );
        assert_eq!(body["Metadata"]["data"], json!({"orderId": "42"}));
        assert_eq!(body["Metadata"]["sys"]["MethodName"], "billing");
        assert!(
            body["Metadata"]["sys"]["UtcNow"]
                .as_str()
                .unwrap()
                .ends_with('Z')
        );
        assert_eq!(
            body["Metadata"]["sys"]["RandGuid"].as_str().unwrap().len(),
            36
        );
    }

    #[test]
    fn data_that_is_no_object_becomes_a_string_of_json() {
        assert_eq!(
            invocation(r#"{"data":"abc"}"#)["Metadata"]["data"],
            json!("\"abc\"")
        );
        assert_eq!(
            invocation(r#"{"data":[1, 2]}"#)["Metadata"]["data"],
            json!("[1, 2]")
        );
        assert_eq!(invocation(r#"{"data":3}"#)["Metadata"]["data"], json!("3"));
        assert_eq!(invocation(r#"{"data":null}"#)["Metadata"].get("data"), None);
        assert_eq!(invocation("{}")["Metadata"].get("data"), None);
    }

    #[test]
    fn the_event_keeps_every_byte() {
        let event = RawValue::from_string(r#"{ "b":1.0e0,"a" : "ä" }"#.to_owned()).unwrap();
        let body = InvocationBody::of_event("billing", "event", &event)
            .unwrap()
            .to_bytes()
            .unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(
            body.starts_with(r#"{"Data":{"event":{ "b":1.0e0,"a" : "ä" }},"Metadata":{"sys":{"#),
            "{body}"
        );
    }
}
