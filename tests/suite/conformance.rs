//! The CloudEvents project's own conformance cases, over real HTTP. They lie beside this project, in
//! `../shared/data/cloudevents`, and are skipped where they are not there.
//!
//! Each goes to two receivers: a function's route, which understands the event and says that it does not take its type, and
//! a receiver that decodes as the routes do and answers with the event in the JSON format, so that every attribute is seen.

use std::{collections::BTreeMap, fs, io::Write as _};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use orderflow::cloud_event;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use yaml_rust2::{Yaml, YamlLoader};

use crate::support::{Handler, listen, root};

/// A file of github.com/cloudevents/conformance; none if they are not there and need not be.
fn published(path: &str) -> Option<String> {
    let folder = root().join("../shared/data/cloudevents/conformance");
    if !folder.exists() {
        let wanted = orderflow::config::environment("ORDERFLOW_TEST_CLOUDEVENTS");
        assert_ne!(
            wanted.as_deref(),
            Some("required"),
            "{} is not there, and ORDERFLOW_TEST_CLOUDEVENTS says that it must be",
            folder.display()
        );
        let skipped = format!(
            "skipped: the CloudEvents project's {path}, which is not in {}",
            folder.display()
        );
        // Past the capture of the test's output.
        drop(writeln!(std::io::stderr(), "{skipped}"));
        return None;
    }
    Some(fs::read_to_string(folder.join(path)).unwrap())
}

/// Where the cases are sent to.
struct Receivers {
    handler: Handler,
    decoder: String,
}

/// An HTTP request, in the way of the feature file: header lines, and a body.
struct Request {
    headers: Vec<(String, String)>,
    body: String,
}

impl Receivers {
    async fn start() -> Self {
        let decoder = Router::new().route("/billing", post(decoded));
        Self {
            handler: Handler::start_in_memory().await,
            decoder: listen(decoder).await,
        }
    }

    /// The event that both of them understand.
    async fn understood(&self, request: &Request) -> Value {
        let (status, event) = send(&self.decoder, request).await;
        assert_eq!(status, 200, "{event}");
        let (status, problem) = send(&self.handler.url(""), request).await;
        assert_eq!(status, 400, "{problem}");
        assert_eq!(problem["field"], "type", "{problem}");
        let event_type = event["type"].as_str().unwrap();
        assert!(problem.to_string().contains(event_type), "{problem}");
        event
    }

    /// Why neither of them takes the request for an event.
    async fn refused(&self, request: &Request) -> String {
        let (status, why) = send(&self.decoder, request).await;
        assert_eq!(status, 400, "{why}");
        let (status, problem) = send(&self.handler.url(""), request).await;
        assert_eq!(status, 400, "{problem}");
        let why = why.as_str().unwrap().to_owned();
        assert!(
            why.starts_with(problem["field"].as_str().unwrap()),
            "{problem}"
        );
        why
    }
}

async fn decoded(headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    match cloud_event::from_http(&headers, &body) {
        Ok(events) => match &events[..] {
            [event] => (StatusCode::OK, cloud_event::to_json(event)),
            _ => (
                StatusCode::BAD_REQUEST,
                json!("not one event").to_string().into(),
            ),
        },
        Err(error) => (
            StatusCode::BAD_REQUEST,
            json!(error.to_string()).to_string().into(),
        ),
    }
}

/// Sends a request byte for byte, so that no client mends its headers. The status, and the answer's JSON.
async fn send(address: &str, request: &Request) -> (u16, Value) {
    let address = address.trim_start_matches("http://");
    let mut head = "POST /billing HTTP/1.1\r\nConnection: close\r\n".to_owned();
    for (name, value) in &request.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    let bytes = format!("{head}\r\n{}", request.body);
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

// --- The feature file

/// What comes below a step.
#[derive(Default)]
struct Step {
    words: String,
    text: String,
    table: Vec<Vec<String>>,
}

#[derive(Default)]
struct Outline {
    steps: Vec<Step>,
    examples: Vec<Vec<String>>,
}

/// Reads as much of Gherkin as the feature file uses, and refuses the rest.
fn outlines(feature: &str) -> Vec<Outline> {
    let mut outlines: Vec<Outline> = Vec::new();
    let mut lines = feature.lines();
    let mut below_examples = false;
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if line.is_empty() || line.starts_with('@') || line.starts_with("Feature: ") {
            continue;
        }
        if line == "Background:" || line.starts_with("Scenario Outline: ") {
            outlines.push(Outline::default());
            below_examples = false;
            continue;
        }
        // The feature's own description.
        let Some(outline) = outlines.last_mut() else {
            continue;
        };
        if line == "Examples:" {
            below_examples = true;
        } else if line.starts_with('|') {
            let cells = line.trim_matches('|').split('|');
            let cells = cells.map(|cell| cell.trim().to_owned()).collect();
            if below_examples {
                outline.examples.push(cells);
            } else {
                outline.steps.last_mut().unwrap().table.push(cells);
            }
        } else if line == "\"\"\"" {
            let text = lines.by_ref().take_while(|line| line.trim() != "\"\"\"");
            let text: Vec<_> = text.map(|line| line.get(indent..).unwrap_or("")).collect();
            outline.steps.last_mut().unwrap().text = text.join("\n");
        } else {
            let (keyword, words) = line.split_once(' ').unwrap();
            assert!(
                ["Given", "When", "Then", "And"].contains(&keyword),
                "unknown: {line}"
            );
            outline.steps.push(Step {
                words: words.to_owned(),
                ..Step::default()
            });
        }
    }
    outlines
}

fn request(text: &str) -> Request {
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /someresource HTTP/1.1"));
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    Request {
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn the_feature_of_the_http_protocol_binding() {
    let receivers = Receivers::start().await;
    let mut parsed = 0;
    let Some(feature) = published("features/http-protocol-binding.feature") else {
        return;
    };
    for outline in outlines(&feature) {
        let Some((names, examples)) = outline.examples.split_first() else {
            assert_eq!(outline.steps.len(), 1);
            assert_eq!(outline.steps[0].words, "HTTP Protocol Binding is supported");
            continue;
        };
        for example in examples {
            let filled = |text: &str| {
                let values = names.iter().zip(example);
                values.fold(text.to_owned(), |text, (name, value)| {
                    text.replace(&format!("<{name}>"), value)
                })
            };
            let (mut sent, mut event) = (None, Value::Null);
            for step in &outline.steps {
                match step.words.as_str() {
                    "an HTTP request" => sent = Some(request(&filled(&step.text))),
                    "parsed as HTTP request" => {
                        event = receivers.understood(sent.as_ref().unwrap()).await;
                        parsed += 1;
                    }
                    "the attributes are:" => {
                        let rows = step.table.iter().skip(1);
                        let expected: Map<_, _> = rows
                            .map(|row| (row[0].clone(), json!(filled(&row[1]))))
                            .collect();
                        let mut attributes = event.as_object().unwrap().clone();
                        attributes.remove("data");
                        assert_eq!(attributes, expected);
                    }
                    "the data is equal to the following JSON:" => {
                        let expected: Value = serde_json::from_str(&step.text).unwrap();
                        assert_eq!(event["data"], expected);
                    }
                    unknown => panic!("unknown step: {unknown}"),
                }
            }
        }
    }
    assert_eq!(parsed, 4);
}

// --- The YAML events

/// An event of the YAML files.
struct Case {
    /// Attributes and extensions.
    attributes: BTreeMap<String, String>,
    /// Headers that belong to the transport alone.
    transport: Vec<(String, String)>,
    data: String,
    mode: Option<String>,
}

fn text(yaml: &Yaml) -> String {
    match yaml {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn pairs(yaml: &Yaml) -> Vec<(String, Yaml)> {
    let pairs = yaml.as_hash().unwrap().iter();
    pairs
        .map(|(name, value)| (text(name), value.clone()))
        .collect()
}

fn texts(yaml: &Yaml) -> Vec<(String, String)> {
    let pairs = pairs(yaml).into_iter();
    pairs.map(|(name, value)| (name, text(&value))).collect()
}

fn cases(path: &str) -> Option<Vec<Case>> {
    let documents = YamlLoader::load_from_str(&published(path)?).unwrap();
    let case = |document: &Yaml| {
        let mut case = Case {
            attributes: BTreeMap::new(),
            transport: Vec::new(),
            data: String::new(),
            mode: None,
        };
        for (name, value) in pairs(document) {
            match name.as_str() {
                "ContextAttributes" => {
                    for (name, value) in pairs(&value) {
                        if name == "Extensions" {
                            // A header holds no line break, which ends these texts in YAML.
                            let texts = texts(&value).into_iter();
                            let texts = texts.map(|(name, text)| (name, text.trim().to_owned()));
                            case.attributes.extend(texts);
                        } else {
                            case.attributes.insert(name, text(&value));
                        }
                    }
                }
                "TransportExtensions" => case.transport = texts(&value),
                "Data" => case.data = text(&value),
                "Mode" => case.mode = Some(text(&value)),
                unknown => panic!("unknown: {unknown}"),
            }
        }
        case
    };
    Some(documents.iter().map(case).collect())
}

impl Case {
    /// JSON is the content of an event that does not say otherwise.
    fn data(&self) -> Value {
        let content_type = self.attributes.get("datacontenttype");
        if content_type.is_none_or(|content_type| cloud_event::is_json(content_type)) {
            serde_json::from_str(&self.data).unwrap()
        } else {
            json!(self.data)
        }
    }

    fn structured(&self) -> Value {
        let mut event = json!(self.attributes);
        event["data"] = self.data();
        event
    }

    fn in_mode(&self, mode: &str) -> Request {
        let mut headers = self.transport.clone();
        headers.push(("Host".to_owned(), "example.com".to_owned()));
        let body = if mode == "structured" {
            let content_type = "application/cloudevents+json; charset=utf-8";
            headers.push(("Content-Type".to_owned(), content_type.to_owned()));
            self.structured().to_string()
        } else {
            for (name, value) in &self.attributes {
                let header = match name.as_str() {
                    "datacontenttype" => "Content-Type".to_owned(),
                    name => format!("ce-{name}"),
                };
                headers.push((header, value.clone()));
            }
            self.data.clone()
        };
        headers.push(("Content-Length".to_owned(), body.len().to_string()));
        Request { headers, body }
    }
}

/// The JSON format may hold content that is not JSON either as text or in Base64.
fn with_text(mut event: Value) -> Value {
    let members = event.as_object_mut().unwrap();
    if let Some(encoded) = members.remove("data_base64") {
        let bytes = BASE64_STANDARD.decode(encoded.as_str().unwrap()).unwrap();
        members.insert("data".to_owned(), json!(String::from_utf8(bytes).unwrap()));
    }
    event
}

#[tokio::test]
async fn the_events_of_version_1_0_are_understood_in_each_mode() {
    let receivers = Receivers::start().await;
    let mut understood = 0;
    for path in ["yaml/v1.0/v1_minimum.yaml", "yaml/v1.yaml"] {
        let Some(cases) = cases(path) else {
            return;
        };
        for case in cases {
            let modes = case
                .mode
                .as_deref()
                .map_or(vec!["binary", "structured"], |mode| vec![mode]);
            for mode in modes {
                let event = receivers.understood(&case.in_mode(mode)).await;
                let event = with_text(event);
                let mut expected = case.structured();
                // Nothing may be assumed of content whose type is not said. Only in the JSON format it is JSON.
                if mode == "binary" && !case.attributes.contains_key("datacontenttype") {
                    expected["data"] = json!(case.data);
                }
                assert_eq!(event, expected, "{path} in {mode} mode");
                understood += 1;
            }
        }
    }
    assert_eq!(understood, 14);
}

#[tokio::test]
async fn the_events_of_version_0_3_are_refused_by_their_version() {
    let receivers = Receivers::start().await;
    let mut refused = 0;
    for path in ["yaml/v0.3/v03_minimum.yaml", "yaml/v03.yaml"] {
        let Some(cases) = cases(path) else {
            return;
        };
        for case in cases {
            for (mode, field) in [("binary", "ce-specversion"), ("structured", "specversion")] {
                let why = receivers.refused(&case.in_mode(mode)).await;
                assert_eq!(
                    why,
                    format!(r#"{field}: expected "1.0", came "0.3""#),
                    "{path}"
                );
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 14);
}
