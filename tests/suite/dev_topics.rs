//! Several topics of the local Event Grid, and the Event Grid schema, over real HTTP.

use std::process::Command;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    dev_grid::{Delivery, Endpoint, Grid, odd_event, sas},
    dev_subscriptions::{dead_letters, start, to_function, with},
    support::eventually,
};

const ONE: &str = "application/cloudevents+json";
const EVENT_GRID: &str = "application/json";

/// The id of a topic.
fn topic_id(name: &str) -> String {
    format!(
        "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local/providers/Microsoft.EventGrid/topics/{name}"
    )
}

/// An event in the Event Grid schema, as a publisher would not write it.
fn event(id: &str, event_type: &str) -> String {
    format!(
        r#"{{ "eventType":"{event_type}","id" : "{id}","subject":"orders/o-{id}","data":{{"b":1.0e0, "a":"ä"}},"eventTime":"2026-11-24T11:00:00+01:00","dataVersion":"2.1"}}"#
    )
}

/// The same as Event Grid delivers it.
fn stamped(id: &str, event_type: &str, topic: &str) -> String {
    format!(
        r#"{{"id":"{id}","topic":"{}","subject":"orders/o-{id}","data":{{"b":1.0e0, "a":"ä"}},"eventType":"{event_type}","eventTime":"2026-11-24T11:00:00+01:00","dataVersion":"2.1","metadataVersion":"1"}}"#,
        topic_id(topic)
    )
}

/// A default topic, and `stock` in the Event Grid schema at a port of its own. Everything is taken by one subscription of each.
fn topics() -> Value {
    json!({"topics": {
        "stock": {"inputSchema": "EventGridSchema", "port": 0, "subscriptions": {
            "of-stock": {
                "destination": to_function("billing", &json!({})),
                "retryPolicy": {"maxDeliveryAttempts": 1},
                "deadLetterDestination": dead_letters(),
            },
        }},
        "default": {"subscriptions": {"of-default": {"destination": to_function("orders", &json!({}))}}},
    }})
}

impl Grid {
    /// The addresses of a topic, as the index shows them.
    async fn addresses(&self, topic: &str) -> Vec<String> {
        let index = self.get("/").await;
        let mut topics = index["topics"].as_array().unwrap().iter();
        let topic = topics.find(|one| one["name"] == topic).unwrap();
        serde_json::from_value(topic["addresses"].clone()).unwrap()
    }

    async fn publish_event(&self, url: &str, event: &str) -> (u16, Value) {
        self.publish_to(url, EVENT_GRID, &self.key, format!("[{event}]"))
            .await
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }
}

/// The bodies that a subscription got.
fn bodies(deliveries: &[Delivery], subscription: &str) -> Vec<String> {
    let mut bodies: Vec<_> = deliveries
        .iter()
        .filter(|delivery| delivery.header("aeg-subscription-name") == subscription)
        .map(|delivery| delivery.body.clone())
        .collect();
    bodies.sort();
    bodies
}

#[tokio::test]
async fn a_topic_is_at_its_path_and_at_its_port() {
    let (_folder, endpoint, grid) = start(&topics()).await;
    let [by_port, by_path] = &grid.addresses("stock").await[..] else {
        panic!()
    };
    assert_eq!(*by_path, grid.at("/stock/api/events"));
    assert!(
        by_port.starts_with("http://127.0.0.1:") && by_port.ends_with("/api/events"),
        "{by_port}"
    );
    let own = by_port.strip_suffix("api/events").unwrap();
    let addresses = [
        by_path.clone(),
        grid.at("/STOCK"),
        by_port.clone(),
        own.to_owned(),
    ];
    for (number, address) in addresses.iter().enumerate() {
        let answer = grid
            .publish_event(address, &event(&number.to_string(), "Any"))
            .await;
        assert_eq!(answer, (200, Value::Null), "{address}");
    }
    for (number, path) in ["/", "/api/events", "/default", "/default/api/events"]
        .iter()
        .enumerate()
    {
        let event = odd_event(&number.to_string(), "Any");
        let answer = grid.publish_to(&grid.at(path), ONE, &grid.key, event).await;
        assert_eq!(answer, (200, Value::Null), "{path}");
    }
    grid.until_idle().await;
    let deliveries = endpoint.deliveries();
    let numbers = 0..4;
    let of_stock = numbers
        .clone()
        .map(|number| format!("[{}]", stamped(&number.to_string(), "Any", "stock")));
    assert_eq!(
        bodies(&deliveries, "OF-STOCK"),
        of_stock.collect::<Vec<_>>()
    );
    let of_default = numbers.map(|number| odd_event(&number.to_string(), "Any"));
    assert_eq!(
        bodies(&deliveries, "OF-DEFAULT"),
        of_default.collect::<Vec<_>>()
    );
    let shown = grid.get("/events").await;
    let shown = shown["events"].as_array().unwrap().iter();
    let of_stock = shown.clone().filter(|event| event["topic"] == "stock");
    let of_default = shown.filter(|event| event["topic"] == "default");
    assert_eq!((of_stock.count(), of_default.count()), (4, 4));
    // Nothing else is at the port of a topic.
    let there = grid.client.get(format!("{own}events")).send().await;
    assert_eq!(there.unwrap().status(), 404);
    grid.stop().await;
}

#[tokio::test]
async fn a_topic_that_there_is_not_is_told_with_those_that_there_are() {
    let (_folder, _endpoint, grid) = start(&topics()).await;
    for path in ["/other/api/events", "/other", "/a%07b"] {
        let (status, body) = grid
            .publish_to(&grid.at(path), ONE, &grid.key, odd_event("1", "Any"))
            .await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!("NotFound")));
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("default, stock"), "{message}");
        assert!(!message.contains('\u{7}'), "{message}");
    }
    assert_eq!(
        grid.client
            .get(grid.at("/other"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    grid.stop().await;
}

#[tokio::test]
async fn keys_and_tokens_are_checked_at_each_topic() {
    let mut topics = topics();
    topics["topics"]["secure"] = json!({"disableLocalAuth": true});
    let (_folder, _endpoint, grid) = start(&topics).await;
    let [by_port, by_path] = &grid.addresses("stock").await[..] else {
        panic!()
    };
    for address in [by_port, by_path] {
        let (status, _) = grid
            .publish_to(address, EVENT_GRID, "wrong", "[]".to_owned())
            .await;
        assert_eq!(status, 401);
    }
    // A token is for its resource, which is the topic at this address.
    let with_sas = async |address: &str, resource: &str| {
        let token = sas(resource, "1/1/2100 1:00:00 AM", b"local-development");
        let request = grid.client.post(address).header("aeg-sas-token", token);
        let request = request.header("content-type", EVENT_GRID);
        let answer = request.body(format!("[{}]", event("1", "Any"))).send();
        answer.await.unwrap().status()
    };
    assert_eq!(with_sas(by_path, by_path).await, 200);
    assert_eq!(with_sas(by_port, by_port).await, 200);
    assert_eq!(with_sas(by_path, &grid.at("/stock")).await, 200);
    assert_eq!(with_sas(by_path, by_port).await, 401);
    assert_eq!(with_sas(by_path, &grid.at("/api/events")).await, 401);
    assert_eq!(with_sas(by_path, &grid.at("/other/api/events")).await, 401);

    let identity = grid
        .client
        .get(grid.at("/msi/token?api-version=2019-08-01&resource=https://eventgrid.azure.net"))
        .header("x-identity-header", &grid.key);
    let identity: Value =
        serde_json::from_str(&identity.send().await.unwrap().text().await.unwrap()).unwrap();
    let bearer = format!("Bearer {}", identity["access_token"].as_str().unwrap());
    let with_token = async |path: &str, content_type: &str, body: String| {
        let request = grid
            .client
            .post(grid.at(path))
            .header("content-type", content_type);
        let answer = request.header("authorization", &bearer).body(body).send();
        answer.await.unwrap().status()
    };
    let of_stock = format!("[{}]", event("1", "Any"));
    assert_eq!(with_token("/stock", EVENT_GRID, of_stock).await, 200);
    assert_eq!(with_token("/secure", ONE, odd_event("1", "Any")).await, 200);
    let (status, body) = grid
        .publish_to(&grid.at("/secure"), ONE, &grid.key, odd_event("1", "Any"))
        .await;
    assert_eq!(status, 401);
    assert!(body.to_string().contains("disableLocalAuth"), "{body}");
    grid.stop().await;
}

#[tokio::test]
async fn each_topic_is_throttled_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (_endpoint, address) = Endpoint::start().await;
    let mut topics = topics();
    // Nobody takes these, so nothing is delivered.
    let nothing = json!({"includedEventTypes": ["Unheard"]});
    topics["topics"]["stock"]["subscriptions"]["of-stock"]["filter"] = nothing.clone();
    topics["topics"]["default"]["subscriptions"]["of-default"]["filter"] = nothing;
    let mut options = with(folder.path(), &address, &topics);
    options.throttle = true;
    let grid = Grid::start_with(options).await;
    // Together, three of the default topic's come faster than in two seconds.
    let many = |event: &str| format!("[{}]", vec![event; 5_000].join(","));
    let of_default = many(r#"{"specversion":"1.0","id":"1","source":"/s","type":"T"}"#);
    let of_stock = many(
        r#"{"id":"1","subject":"","data":1,"eventType":"T","eventTime":"2026-11-24T10:00:00Z","dataVersion":""}"#,
    );
    let publish = async |path: &str, content_type: &str, batch: &str| {
        let url = grid.at(path);
        let answer = grid.publish_to(&url, content_type, &grid.key, batch.to_owned());
        answer.await.0
    };
    let batch = "application/cloudevents-batch+json";
    let default = || publish("/api/events", batch, &of_default);
    let (first, second, third, stock) = tokio::join!(
        default(),
        default(),
        default(),
        publish("/stock", EVENT_GRID, &of_stock)
    );
    let mut statuses = [first, second, third];
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[2], stock), (200, 429, 200));
    grid.stop().await;
}

#[tokio::test]
async fn all_events_in_the_event_grid_schema_are_accepted_or_none() {
    let (_folder, endpoint, grid) = start(&topics()).await;
    let url = grid.at("/stock/api/events");
    let good = event("1", "Any");
    let cases = [
        (
            EVENT_GRID,
            format!("[{good},{}]", good.replace("\"subject\"", "\"object\"")),
            "This resource is configured for 'EventGridEvent' schema and requires 'subject' property to be set: event 2",
        ),
        (EVENT_GRID, good.clone(), "not a JSON array"),
        (EVENT_GRID, "[1]".to_owned(), "event 1"),
        (
            EVENT_GRID,
            format!("[{}]", good.replacen('{', "{\"topic\":\"/other\",", 1)),
            "`topic` is \"/other\"",
        ),
        (ONE, odd_event("1", "Any"), "must be application/json"),
    ];
    for (content_type, body, why) in cases {
        let (status, answer) = grid.publish_to(&url, content_type, &grid.key, body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!("BadRequest"))
        );
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
    let many = format!("[{}]", vec!["{}"; 5_001].join(","));
    let large = format!("[{good}{}]", " ".repeat(1024 * 1024));
    for body in [many, large] {
        let (status, _) = grid.publish_to(&url, EVENT_GRID, &grid.key, body).await;
        assert_eq!(status, 413);
    }
    assert_eq!(grid.get("/events").await["events"], json!([]));
    // What Event Grid adds may be there already.
    let whole = stamped("1", "Any", "stock");
    assert_eq!(grid.publish_event(&url, &whole).await.0, 200);
    grid.until_idle().await;
    assert_eq!(endpoint.deliveries()[0].body, format!("[{whole}]"));
    grid.stop().await;
}

#[tokio::test]
async fn an_event_is_delivered_in_the_schema_of_its_subscription() {
    let (_folder, endpoint, grid) = start(&json!({"topics": {"stock": {
        "inputSchema": "EventGridSchema",
        "subscriptions": {
            "own-schema": {"destination": to_function("billing", &json!({}))},
            "own-batch": {
                "destination": to_function("billing", &json!({"maxEventsPerBatch": 10})),
                "eventDeliverySchema": "EventGridSchema",
            },
            "converted": {
                "destination": to_function("orders", &json!({})),
                "eventDeliverySchema": "CloudEventSchemaV1_0",
            },
        },
    }}}))
    .await;
    let url = grid.at("/api/events");
    assert_eq!(grid.publish_event(&url, &event("1", "Any")).await.0, 200);
    grid.until_idle().await;
    let deliveries = endpoint.deliveries();
    let of = |name: &str| {
        let mut deliveries = deliveries.iter();
        deliveries
            .find(|delivery| delivery.header("aeg-subscription-name") == name)
            .unwrap()
    };
    for name in ["OWN-SCHEMA", "OWN-BATCH"] {
        let delivery = of(name);
        assert_eq!(delivery.body, format!("[{}]", stamped("1", "Any", "stock")));
        for (header, value) in [
            ("content-type", "application/json; charset=utf-8"),
            ("aeg-event-type", "Notification"),
            ("aeg-delivery-count", "1"),
            ("aeg-metadata-version", "1"),
            ("aeg-data-version", "2.1"),
        ] {
            assert_eq!(delivery.header(header), value);
        }
    }
    let converted = of("CONVERTED");
    assert_eq!(
        converted.header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    assert_eq!(converted.header("aeg-metadata-version"), "1.0");
    assert!(!converted.headers.contains_key("aeg-data-version"));
    assert!(converted.body.contains("1.0e0"), "{}", converted.body);
    assert_eq!(
        serde_json::from_str::<Value>(&converted.body).unwrap(),
        json!({
            "specversion": "1.0", "id": "1", "source": topic_id("stock"), "type": "Any", "subject": "orders/o-1",
            "time": "2026-11-24T10:00:00Z", "dataschema": "#2.1", "data": {"a": "ä", "b": 1.0},
        })
    );
    grid.stop().await;
}

#[tokio::test]
async fn filters_and_headers_name_the_members_of_the_event_grid_schema() {
    let filtered = |filter: Value| json!({"destination": to_function("billing", &json!({})), "filter": filter});
    let advanced = |key: &str, value: &str| {
        let filter = json!({"operatorType": "StringContains", "key": key, "values": [value]});
        filtered(json!({"advancedFilters": [filter]}))
    };
    let headers = json!({"deliveryAttributeMappings": [
        {"name": "x-type", "type": "Dynamic", "properties": {"sourceField": "EventType"}},
        {"name": "x-a", "type": "Dynamic", "properties": {"sourceField": "data.a"}},
    ]});
    let (_folder, endpoint, grid) = start(&json!({"topics": {"stock": {
        "inputSchema": "EventGridSchema",
        "subscriptions": {
            "by-type": filtered(json!({"includedEventTypes": ["One"]})),
            "by-subject": filtered(json!({"subjectEndsWith": "-1"})),
            "by-id": advanced("Id", "1"),
            "by-topic": advanced("Topic", "topics/stock"),
            "by-subject-key": advanced("Subject", "o-1"),
            "by-event-type": advanced("EventType", "one"),
            "by-data-version": advanced("DataVersion", "2.1"),
            "by-data": advanced("data.a", "Ä"),
            "by-no-data": advanced("data.b", "Ä"),
            "with-headers": {"destination": to_function("billing", &headers)},
        },
    }}}))
    .await;
    let url = grid.at("/stock");
    grid.publish_event(&url, &event("1", "One")).await;
    grid.publish_event(&url, &event("2", "Two")).await;
    grid.until_idle().await;
    let deliveries = endpoint.deliveries();
    let count = |name: &str| bodies(&deliveries, name).len();
    for name in [
        "BY-TYPE",
        "BY-SUBJECT",
        "BY-ID",
        "BY-SUBJECT-KEY",
        "BY-EVENT-TYPE",
    ] {
        let one = [format!("[{}]", stamped("1", "One", "stock"))];
        assert_eq!(bodies(&deliveries, name), one, "{name}");
    }
    for name in ["BY-TOPIC", "BY-DATA-VERSION", "BY-DATA"] {
        assert_eq!(count(name), 2, "{name}");
    }
    assert_eq!(count("BY-NO-DATA"), 0);
    let headers: Vec<HeaderMap> = deliveries
        .iter()
        .filter(|delivery| delivery.header("aeg-subscription-name") == "WITH-HEADERS")
        .map(|delivery| delivery.headers.clone())
        .collect();
    assert!(headers.iter().any(|headers| headers["x-type"] == "Two"));
    assert!(
        headers
            .iter()
            .all(|headers| headers["x-a"].as_bytes() == "ä".as_bytes())
    );
    grid.stop().await;
}

#[tokio::test]
async fn a_dead_letter_of_the_event_grid_schema_is_in_camel_case_and_can_be_replayed() {
    let (_folder, endpoint, grid) = start(&topics()).await;
    endpoint.will_answer(&[500]);
    grid.publish_event(&grid.at("/stock"), &event("1", "Any"))
        .await;
    grid.until_idle().await;
    let letters = grid.get("/deadletters").await;
    let letter = &letters["deadLetters"][0];
    let dead = &letter["events"][0];
    assert_eq!(dead["deadLetterReason"], "MaxDeliveryAttemptsExceeded");
    assert_eq!(dead["deliveryAttempts"], 1);
    assert_eq!(dead["lastDeliveryOutcome"], "Busy");
    assert!(dead["publishTime"].is_string() && dead["lastDeliveryAttemptTime"].is_string());
    assert!(dead.get("deadletterreason").is_none());
    let request = grid.client.post(grid.at("/deadletters/replay"));
    let body = json!({"path": letter["path"]}).to_string();
    let answer = request.body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    grid.until_idle().await;
    let whole = format!("[{}]", stamped("1", "Any", "stock"));
    assert_eq!(
        bodies(&endpoint.deliveries(), "OF-STOCK"),
        [whole.clone(), whole]
    );
    assert_eq!(grid.get("/deadletters").await["deadLetters"], json!([]));
    let shown = grid.get("/events").await;
    assert_eq!(shown["events"][1]["topic"], "stock");
    grid.stop().await;
}

#[tokio::test]
async fn what_is_pending_goes_on_after_a_kill_unless_its_subscription_is_at_another_topic_now() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let slow = |topics: &Value, speed: f64| {
        let mut options = with(folder.path(), &address, topics);
        options.speed = speed;
        options
    };
    let mut topics = topics();
    topics["topics"]["stock"]["subscriptions"]["of-stock"]["retryPolicy"] = Value::Null;
    let grid = Grid::start_with(slow(&topics, 0.001)).await;
    endpoint.will_answer(&[500]);
    grid.publish_event(&grid.at("/stock"), &event("1", "Any"))
        .await;
    eventually("an attempt is made", async || {
        let shown = grid.get("/events").await;
        let attempts = &shown["events"][0]["deliveries"][0]["attempts"];
        (*attempts != json!([])).then_some(())
    })
    .await;
    grid.kill().await;
    let grid = Grid::start_with(slow(&topics, 0.001)).await;
    assert_eq!(grid.get("/idle").await["pending"], 1);
    grid.kill().await;
    let stock = topics["topics"]["stock"]["subscriptions"].take();
    let flat = Grid::start_with(slow(&stock, 0.001)).await;
    assert_eq!(flat.get("/idle").await["pending"], 0);
    flat.stop().await;
}

/// What Bicep makes of two topics, subscriptions of both by parent and by scope, and one of a topic that is elsewhere.
fn template() -> Value {
    let filter = json!({"includedEventTypes": ["Any"]});
    let properties = |function: &str| {
        let id = format!(
            "[format('{{0}}/functions/{function}', resourceId('Microsoft.Web/sites', parameters('app')))]"
        );
        json!({
            "destination": {"endpointType": "AzureFunction", "properties": {"resourceId": id}},
            "filter": filter,
        })
    };
    json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "app": {"type": "string"},
            "elsewhere": {"type": "string"},
            "stock": {"type": "string", "defaultValue": "stock"},
        },
        "resources": [
            {
                "type": "Microsoft.EventGrid/topics", "apiVersion": "2025-02-15", "name": "[parameters('stock')]",
                "location": "[resourceGroup().location]", "properties": {"publicNetworkAccess": "Enabled", "inputSchema": null},
            },
            {
                "type": "Microsoft.EventGrid/topics", "apiVersion": "2025-02-15", "name": "parcels",
                "properties": {"inputSchema": "CloudEventSchemaV1_0", "disableLocalAuth": false},
            },
            {
                "type": "Microsoft.EventGrid/topics/eventSubscriptions", "apiVersion": "2025-02-15",
                "name": "[format('{0}/{1}', parameters('stock'), 'by-parent')]", "properties": properties("billing"),
            },
            {
                "type": "Microsoft.EventGrid/eventSubscriptions", "apiVersion": "2025-02-15",
                "scope": "[format('Microsoft.EventGrid/topics/{0}', 'parcels')]",
                "name": "by-scope", "properties": properties("billing"),
            },
            {
                "type": "Microsoft.EventGrid/eventSubscriptions", "apiVersion": "2025-02-15",
                "scope": "[resourceId('Microsoft.EventGrid/topics', 'parcels')]",
                "name": "by-id", "properties": properties("billing"),
            },
            {
                "type": "Microsoft.EventGrid/topics/eventSubscriptions", "apiVersion": "2025-02-15",
                "name": "[format('{0}/{1}', parameters('elsewhere'), 'of-another')]", "properties": properties("orders"),
            },
        ],
    })
}

#[tokio::test]
async fn a_template_has_topics_and_assigns_subscriptions_to_them() {
    let (_folder, endpoint, grid) = start(&template()).await;
    let index = grid.get("/").await;
    let topics: Vec<_> = index["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| (topic["name"].as_str(), topic["inputSchema"].as_str()))
        .collect();
    let cloud_events = Some("CloudEventSchemaV1_0");
    assert_eq!(
        topics,
        [
            (Some("default"), cloud_events),
            (Some("parcels"), cloud_events),
            (Some("stock"), Some("EventGridSchema")),
        ]
    );
    grid.publish_event(&grid.at("/stock"), &event("1", "Any"))
        .await;
    for (path, id) in [("/parcels", "2"), ("/", "3")] {
        let event = odd_event(id, "Any");
        grid.publish_to(&grid.at(path), ONE, &grid.key, event).await;
    }
    grid.until_idle().await;
    let deliveries = endpoint.deliveries();
    for (name, body) in [
        ("BY-PARENT", format!("[{}]", stamped("1", "Any", "stock"))),
        ("BY-SCOPE", odd_event("2", "Any")),
        ("BY-ID", odd_event("2", "Any")),
        ("OF-ANOTHER", odd_event("3", "Any")),
    ] {
        assert_eq!(bodies(&deliveries, name), [body], "{name}");
    }
    grid.stop().await;
}

#[tokio::test]
async fn the_only_topic_of_a_template_is_the_default_one() {
    let mut template = template();
    let resources = template["resources"].as_array_mut().unwrap();
    // A subscription of a topic whose name is only known in Azure.
    resources[2]["name"] = json!("[format('{0}/{1}', parameters('elsewhere'), 'by-parent')]");
    resources.retain(|resource| {
        let text = resource.to_string();
        !text.contains("parcels") && !text.contains("of-another")
    });
    let of_azure = json!("[format('stock-{0}', reference('site').suffix)]");
    for (name, topic) in [(json!("stock"), "stock"), (of_azure, "default")] {
        template["resources"][0]["name"] = name;
        let (_folder, endpoint, grid) = start(&template).await;
        let url = grid.at("/api/events");
        grid.publish_event(&url, &event("1", "Any")).await;
        grid.until_idle().await;
        let whole = format!("[{}]", stamped("1", "Any", topic));
        assert_eq!(bodies(&endpoint.deliveries(), "BY-PARENT"), [whole]);
        grid.stop().await;
    }
}

/// The one line that `orderflow COMMAND` ends with.
fn refusal(command: &str, file: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_orderflow"));
    process.args([command, "--grid-port", "0", "--data"]);
    process.arg(folder.path().join("data"));
    process.arg("--subscriptions").arg(&path);
    if command == "dev" {
        process.args(["--host-port", "0"]);
    }
    let output = process.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[test]
fn what_the_local_grid_does_not_do_with_topics_is_refused_in_one_line() {
    let with_topic = |member: &str, value: Value| {
        let mut template = template();
        template["resources"][1]["properties"][member] = value;
        template
    };
    let changed = |pointer: &str, value: Value| {
        let mut template = template();
        *template.pointer_mut(pointer).unwrap() = value;
        template
    };
    let mut delivered = topics();
    let default = "/topics/default/subscriptions/of-default/eventDeliverySchema";
    delivered["topics"]["default"]["subscriptions"]["of-default"]["eventDeliverySchema"] =
        json!("EventGridSchema");
    assert!(delivered.pointer(default).is_some());
    let mut filtered = topics();
    filtered["topics"]["stock"]["subscriptions"]["of-stock"]["filter"] =
        json!({"advancedFilters": [{"operatorType": "IsNotNull", "key": "source"}]});
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let mut taken = topics();
    taken["topics"]["stock"]["port"] = json!(port);
    for (file, why) in [
        (
            with_topic("inputSchema", json!("CustomEventSchema")),
            "properties.inputSchema: \"CustomEventSchema\" is not supported",
        ),
        (
            with_topic(
                "inputSchemaMapping",
                json!({"inputSchemaMappingType": "Json"}),
            ),
            "properties.inputSchemaMapping",
        ),
        (
            changed("/resources/1/type", json!("Microsoft.EventGrid/domains")),
            "Microsoft.EventGrid/domains `parcels`",
        ),
        (
            changed(
                "/resources/3/scope",
                json!("[resourceId('Microsoft.Storage/storageAccounts', 's')]"),
            ),
            "no custom topic",
        ),
        (
            changed("/resources/0/name", json!("[parameters('elsewhere')]")),
            "the parameter `elsewhere`",
        ),
        (delivered, "of-default: properties.eventDeliverySchema"),
        (
            filtered,
            "`source` is not a key of an event in the Event Grid schema",
        ),
        (taken, &format!("cannot listen on 127.0.0.1:{port}")),
    ] {
        let line = refusal("grid", &file);
        assert!(line.contains(why), "{why}: {line}");
    }
    // What the application itself could not publish to.
    for (member, value, why) in [
        ("disableLocalAuth", json!(true), "--managed-identity"),
        (
            "inputSchema",
            json!("EventGridSchema"),
            "the handler publishes CloudEvents",
        ),
    ] {
        let subscriptions = json!({"one": {"destination": to_function("orders", &json!({}))}});
        let mut topic = json!({"subscriptions": subscriptions});
        topic[member] = value;
        let line = refusal("dev", &json!({"topics": {"only": topic}}));
        assert!(line.contains(why), "{line}");
    }
}
