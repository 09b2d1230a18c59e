//! Event subscriptions of the local Event Grid as data, over real HTTP: filters, retry policies, batches, headers, dead letters.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, HeaderName, Method},
};
use chrono::{DateTime, Utc};
use orderflow::dev::GridOptions;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::dev_grid::{Delivery, Endpoint, Grid, odd_event, options, until};

const BATCH: &str = "application/cloudevents-batch+json";

/// What a grid with these subscriptions is started with.
pub(crate) fn with(folder: &Path, deliver_to: &str, subscriptions: &Value) -> GridOptions {
    let file = folder.join("subscriptions.json");
    std::fs::write(&file, subscriptions.to_string()).unwrap();
    let mut options = options(&folder.join("data"), deliver_to, 1_000.0);
    options.delivery.subscriptions = Some(file);
    options
}

pub(crate) async fn start(subscriptions: &Value) -> (TempDir, Arc<Endpoint>, Grid) {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let grid = Grid::start_with(with(folder.path(), &address, subscriptions)).await;
    (folder, endpoint, grid)
}

pub(crate) fn to_function(name: &str, more: &Value) -> Value {
    let mut properties =
        json!({"resourceId": format!("/providers/Microsoft.Web/sites/app/functions/{name}")});
    properties
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"endpointType": "AzureFunction", "properties": properties})
}

pub(crate) fn dead_letters() -> Value {
    json!({"endpointType": "StorageBlob", "properties": {"resourceId": "r", "blobContainerName": "c"}})
}

fn ids(deliveries: &[Delivery], subscription: &str) -> Vec<String> {
    let mut ids: Vec<_> = deliveries
        .iter()
        .filter(|delivery| delivery.header("aeg-subscription-name") == subscription)
        .map(|delivery| {
            let event: Value = serde_json::from_str(&delivery.body).unwrap();
            event["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.sort();
    ids
}

/// The state of the only delivery of the only event.
async fn only_delivery(grid: &Grid) -> Value {
    let shown = grid.get("/events").await;
    let deliveries = shown["events"][0]["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 1, "{shown}");
    deliveries[0].clone()
}

#[tokio::test]
async fn a_subscription_gets_what_its_filter_takes() {
    let (_folder, endpoint, grid) = start(&json!({
        "by-type": {
            "destination": to_function("billing", &json!({})),
            "filter": {"includedEventTypes": ["Sales.OrderPlaced"]},
        },
        "by-data": {
            "destination": to_function("billing", &json!({})),
            "filter": {
                "subjectEndsWith": "-2",
                "advancedFilters": [{"operatorType": "StringContains", "key": "data.a", "values": ["Ä"]}],
            },
        },
        "everything": {"destination": to_function("orders", &json!({}))},
        "nothing": {
            "destination": to_function("orders", &json!({})),
            "filter": {"advancedFilters": [{"operatorType": "IsNotNull", "key": "data.missing"}]},
        },
    }))
    .await;
    grid.publish(&odd_event("1", "Sales.OrderPlaced")).await;
    grid.publish(&odd_event("2", "Any")).await;
    grid.until_idle().await;
    let deliveries = endpoint.deliveries();
    assert_eq!(ids(&deliveries, "BY-TYPE"), ["1"]);
    assert_eq!(ids(&deliveries, "BY-DATA"), ["2"]);
    assert_eq!(ids(&deliveries, "EVERYTHING"), ["1", "2"]);
    assert_eq!(ids(&deliveries, "NOTHING"), [""; 0]);
    let by_data = deliveries
        .iter()
        .find(|delivery| delivery.header("aeg-subscription-name") == "BY-DATA");
    assert_eq!(by_data.unwrap().query, "functionName=billing");
    assert_eq!(by_data.unwrap().body, odd_event("2", "Any"));
    grid.stop().await;
}

#[tokio::test]
async fn a_webhook_on_this_machine_gets_events_at_its_own_address() {
    let (webhook, address) = Endpoint::start().await;
    let url = format!("{address}/runtime/webhooks/eventgrid?code=key");
    let (_folder, host, grid) = start(&json!({
        "hook": {"destination": {"endpointType": "WebHook", "properties": {"endpointUrl": url}}},
    }))
    .await;
    grid.publish(&odd_event("1", "Any")).await;
    grid.until_idle().await;
    assert_eq!(webhook.deliveries()[0].query, "code=key");
    assert!(host.deliveries().is_empty());
    grid.stop().await;
}

#[tokio::test]
async fn a_subscription_gives_up_by_its_own_policy() {
    let policy = |letters: Option<Value>| {
        let mut properties = json!({
            "destination": to_function("orders", &json!({})),
            "retryPolicy": {"maxDeliveryAttempts": 2, "eventTimeToLiveInMinutes": 1440},
        });
        if let Some(letters) = letters {
            properties["deadLetterDestination"] = letters;
        }
        json!({"one": properties})
    };
    let (_folder, endpoint, grid) = start(&policy(Some(dead_letters()))).await;
    endpoint.will_answer(&[500, 500]);
    grid.publish(&odd_event("1", "Any")).await;
    grid.until_idle().await;
    assert_eq!(endpoint.deliveries().len(), 2);
    let letters = grid.get("/deadletters").await;
    let event = &letters["deadLetters"][0]["events"][0];
    assert_eq!(event["deadletterreason"], "MaxDeliveryAttemptsExceeded");
    assert_eq!(event["deliveryattempts"], 2);
    assert_eq!(event["lastdeliveryoutcome"], "Busy");
    assert_eq!(only_delivery(&grid).await["state"], "deadLettered");
    grid.stop().await;

    // Without a container the event is dropped.
    let (_folder, endpoint, grid) = start(&policy(None)).await;
    endpoint.will_answer(&[500, 500]);
    grid.publish(&odd_event("1", "Any")).await;
    grid.until_idle().await;
    assert_eq!(grid.get("/deadletters").await["deadLetters"], json!([]));
    assert_eq!(only_delivery(&grid).await["state"], "dropped");
    grid.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_held_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let subscriptions = json!({"one": {
        "destination": to_function("orders", &json!({})),
        "deadLetterDestination": dead_letters(),
    }});
    let held_for = |hold| {
        let mut options = with(folder.path(), &address, &subscriptions);
        options.delivery.dead_letter_hold = Some(hold);
        options
    };
    let grid = Grid::start_with(held_for(Duration::from_secs(3_000))).await;
    endpoint.will_answer(&[400]);
    grid.publish(&odd_event("1", "Any")).await;
    until("the event is delivered", || {
        endpoint.deliveries().len() == 1
    })
    .await;
    while only_delivery(&grid).await["attempts"] == json!([]) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(only_delivery(&grid).await["state"], "pending");
    assert_eq!(grid.get("/deadletters").await["deadLetters"], json!([]));
    grid.kill().await;

    let grid = Grid::start_with(held_for(Duration::ZERO)).await;
    grid.until_idle().await;
    assert_eq!(endpoint.deliveries().len(), 1, "it is not tried again");
    let letters = grid.get("/deadletters").await;
    let event = &letters["deadLetters"][0]["events"][0];
    assert_eq!(
        event["deadletterreason"],
        "UndeliverableDueToHttpBadRequest"
    );
    assert_eq!(event["lastdeliveryoutcome"], "BadRequest");
    assert_eq!(event["deliveryattempts"], 1);
    assert!(event["lastdeliveryattempttime"].is_string());
    grid.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_gets_no_new_events_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let subscriptions = json!({"one": {"destination": to_function("orders", &json!({}))}});
    let mut options = with(folder.path(), &address, &subscriptions);
    // Nothing is tried again, and probation is not over, before the test is.
    options.speed = 0.01;
    let grid = Grid::start_with(options).await;
    endpoint.will_answer(&[404; 10]);
    for number in 0..9 {
        grid.publish(&odd_event(&number.to_string(), "Any")).await;
    }
    until("nine fail", || endpoint.deliveries().len() == 9).await;
    grid.publish(&odd_event("the tenth", "Any")).await;
    until("ten fail", || endpoint.deliveries().len() == 10).await;
    let untried = json!([]);
    while grid.get("/events").await["events"]
        .as_array()
        .unwrap()
        .iter()
        .any(|event| event["deliveries"][0]["attempts"] == untried)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    grid.publish(&odd_event("new", "Any")).await;
    for _ in 0..50 {
        assert_eq!(grid.get("/idle").await["pending"], 11);
    }
    assert_eq!(endpoint.deliveries().len(), 10);
    grid.stop().await;
}

#[tokio::test]
async fn a_batch_is_delivered_whole_or_not_at_all() {
    let (_folder, endpoint, grid) = start(&json!({"one": {
        "destination": to_function("orders", &json!({"maxEventsPerBatch": 3, "preferredBatchSizeInKilobytes": 1})),
    }}))
    .await;
    endpoint.will_answer(&[500]);
    let small: Vec<_> = (0..3)
        .map(|number| odd_event(&number.to_string(), "Any"))
        .collect();
    grid.publish_with(BATCH, "local-development", format!("[{}]", small.join(",")))
        .await;
    grid.until_idle().await;
    let deliveries = endpoint.deliveries();
    let whole = format!("[{}]", small.join(","));
    let bodies: Vec<_> = deliveries
        .iter()
        .map(|delivery| delivery.body.as_str())
        .collect();
    assert_eq!(bodies, [whole.as_str(), whole.as_str()]);
    let counts: Vec<_> = deliveries
        .iter()
        .map(|delivery| delivery.header("aeg-delivery-count"))
        .collect();
    assert_eq!(counts, ["1", "2"]);
    assert_eq!(
        deliveries[0].header("content-type"),
        "application/cloudevents-batch+json; charset=utf-8"
    );

    // One event is an array as well, and one that is too large for others comes alone.
    let large = odd_event("large", "Any").replace("\"ä\"", &format!("\"{}\"", "x".repeat(2_000)));
    let batch = format!("[{large},{}]", small.join(","));
    grid.publish_with(BATCH, "local-development", batch).await;
    grid.until_idle().await;
    let sizes: Vec<_> = endpoint.deliveries()[2..]
        .iter()
        .map(|delivery| {
            serde_json::from_str::<Vec<Value>>(&delivery.body)
                .unwrap()
                .len()
        })
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 4);
    assert!(sizes.contains(&1) && sizes.contains(&3), "{sizes:?}");
    grid.stop().await;
}

#[tokio::test]
async fn a_delivery_carries_the_headers_of_its_subscription() {
    let (_folder, endpoint, grid) = start(&json!({"one": {
        "destination": to_function("orders", &json!({"deliveryAttributeMappings": [
            {"name": "authorization", "type": "Static", "properties": {"value": "Secret s", "isSecret": true}},
            {"name": "x-order", "type": "Dynamic", "properties": {"sourceField": "subject"}},
            {"name": "x-b", "type": "Dynamic", "properties": {"sourceField": "data.b"}},
            {"name": "x-absent", "type": "Dynamic", "properties": {"sourceField": "data.absent"}},
        ]})),
    }}))
    .await;
    grid.publish(&odd_event("1", "Any")).await;
    grid.until_idle().await;
    let deliveries = endpoint.deliveries();
    assert_eq!(deliveries[0].header("authorization"), "Secret s");
    assert_eq!(deliveries[0].header("x-order"), "orders/o-1");
    assert_eq!(deliveries[0].header("x-b"), "1.0");
    assert!(!deliveries[0].headers.contains_key("x-absent"));
    assert_eq!(
        deliveries[0].header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    grid.stop().await;
}

/// How long the grid waits after the first attempt, in milliseconds.
async fn first_wait(seed: u64) -> i64 {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    endpoint.will_answer(&[500]);
    let subscriptions = json!({"one": {"destination": to_function("orders", &json!({}))}});
    let mut options = with(folder.path(), &address, &subscriptions);
    options.speed = 1.0;
    options.delivery.seed = Some(seed);
    let grid = Grid::start_with(options).await;
    grid.publish(&odd_event("1", "Any")).await;
    let delivery = loop {
        let delivery = only_delivery(&grid).await;
        if delivery["attempts"] != json!([]) {
            break delivery;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let time = |value: &Value| {
        let time: DateTime<Utc> = value.as_str().unwrap().parse().unwrap();
        time.timestamp_millis()
    };
    let attempt = &delivery["attempts"][0];
    grid.kill().await;
    time(&delivery["nextAttemptAt"])
        - time(&attempt["at"])
        - attempt["milliseconds"].as_i64().unwrap()
}

#[tokio::test]
async fn a_seed_makes_the_waits_the_same_in_every_run() {
    let one = first_wait(1).await;
    assert!((9_998..=11_002).contains(&one), "{one}");
    // Times are kept in whole milliseconds.
    assert!((one - first_wait(1).await).abs() <= 3);
    assert!((one - first_wait(2).await).abs() > 3);
}

/// Stands in for an endpoint whose handshake is looked at.
struct Handshake {
    asked: Mutex<Option<HeaderMap>>,
    answer: HeaderMap,
    delivered: AtomicUsize,
}

impl Handshake {
    /// Starts it and a grid with one subscription to it.
    async fn start(answer: &[(&'static str, &str)]) -> (Arc<Self>, TempDir, Grid) {
        let answer = answer
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        let handshake = Arc::new(Self {
            asked: Mutex::default(),
            answer: answer.collect(),
            delivered: AtomicUsize::new(0),
        });
        let state = Arc::clone(&handshake);
        let router = Router::new().fallback(async move |method: Method, headers: HeaderMap| {
            if method == Method::OPTIONS {
                *state.asked.lock().unwrap() = Some(headers);
                return state.answer.clone();
            }
            state.delivered.fetch_add(1, Ordering::SeqCst);
            HeaderMap::new()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        let (folder, _, grid) = start(&json!({
            "one": {"destination": {"endpointType": "WebHook", "properties": {"endpointUrl": url}}},
        }))
        .await;
        (handshake, folder, grid)
    }

    fn delivered(&self) -> usize {
        self.delivered.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn an_endpoint_may_consent_later_by_callback() {
    let (handshake, _folder, grid) = Handshake::start(&[]).await;
    grid.publish(&odd_event("1", "Any")).await;
    until("the grid asks", || {
        handshake.asked.lock().unwrap().is_some()
    })
    .await;
    let asked = handshake.asked.lock().unwrap().clone().unwrap();
    assert_eq!(asked["WebHook-Request-Origin"], "eventgrid.azure.net");
    let rate = asked["WebHook-Request-Rate"].to_str().unwrap();
    assert!(rate.parse::<u32>().unwrap() > 0);
    let callback = asked["WebHook-Request-Callback"].to_str().unwrap();
    assert!(callback.starts_with(&grid.address), "{callback}");
    let visit = async |url: String| grid.client.get(url).send().await.unwrap().status();
    assert_eq!(visit(format!("{callback}x")).await, 404);
    assert_eq!(grid.get("/idle").await["pending"], 1);
    assert_eq!(handshake.delivered(), 0);
    // Refused until the answer to the first request has arrived.
    while visit(callback.to_owned()).await != 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    grid.until_idle().await;
    assert_eq!(handshake.delivered(), 1);
    grid.stop().await;
}

#[tokio::test]
async fn an_endpoint_is_not_delivered_to_faster_than_it_allows() {
    let allowed = [
        ("webhook-allowed-origin", "*"),
        ("webhook-allowed-rate", "1"),
    ];
    let (handshake, _folder, grid) = Handshake::start(&allowed).await;
    grid.publish(&odd_event("1", "Any")).await;
    grid.until_idle().await;
    grid.publish(&odd_event("2", "Any")).await;
    for _ in 0..50 {
        assert_eq!(grid.get("/idle").await["pending"], 1);
    }
    assert_eq!(handshake.delivered(), 1);
    grid.stop().await;
}

/// What Bicep makes of a loop over the functions, as `infra/subscriptions.bicep` has it, inside of a module.
fn template() -> Value {
    let inner = json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "appName": {"type": "string"},
            "topicName": {"type": "string"},
            "filesAccountName": {"type": "string"},
            "maximumAttempts": {"type": "int", "defaultValue": 1},
        },
        "variables": {"functions": {
            "orders": {"includedEventTypes": ["Any"]},
            "billing": {"includedEventTypes": ["Sales.OrderPlaced"]},
        }},
        "resources": [
            {"type": "Microsoft.Web/sites", "name": "[parameters('appName')]", "properties": {}},
            {
                "copy": {"name": "subscriptions", "count": "[length(items(variables('functions')))]", "mode": "serial", "batchSize": 1},
                "type": "Microsoft.EventGrid/topics/eventSubscriptions",
                "apiVersion": "2025-02-15",
                "name": "[format('{0}/{1}', parameters('topicName'), items(variables('functions'))[copyIndex()].key)]",
                "properties": {
                    "destination": {"endpointType": "AzureFunction", "properties": {
                        "resourceId": "[format('{0}/functions/{1}', resourceId('Microsoft.Web/sites', parameters('appName')), items(variables('functions'))[copyIndex()].key)]",
                    }},
                    "eventDeliverySchema": "CloudEventSchemaV1_0",
                    "filter": {"includedEventTypes": "[items(variables('functions'))[copyIndex()].value.includedEventTypes]"},
                    "retryPolicy": {"maxDeliveryAttempts": "[parameters('maximumAttempts')]"},
                    "deadLetterWithResourceIdentity": {
                        "identity": {"type": "SystemAssigned"},
                        "deadLetterDestination": {"endpointType": "StorageBlob", "properties": {
                            "resourceId": "[resourceId('Microsoft.Storage/storageAccounts', parameters('filesAccountName'))]",
                            "blobContainerName": "dead-letters",
                        }},
                    },
                },
            },
        ],
    });
    json!({
        "$schema": "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#",
        "parameters": {"app": {"type": "string"}},
        "resources": [{
            "type": "Microsoft.Resources/deployments",
            "name": "subscriptions",
            "properties": {
                "expressionEvaluationOptions": {"scope": "inner"},
                "mode": "Incremental",
                "parameters": {
                    "appName": {"value": "[parameters('app')]"},
                    "topicName": {"value": "[reference('topic').outputs.name.value]"},
                },
                "template": inner,
            },
        }],
    })
}

#[tokio::test]
async fn a_compiled_template_is_read_as_it_is_deployed() {
    let (_folder, endpoint, grid) = start(&template()).await;
    endpoint.will_answer(&[500]);
    grid.publish(&odd_event("1", "Sales.OrderPlaced")).await;
    grid.publish(&odd_event("2", "Any")).await;
    grid.until_idle().await;
    let deliveries = endpoint.deliveries();
    assert_eq!(ids(&deliveries, "BILLING"), ["1"]);
    assert_eq!(ids(&deliveries, "ORDERS"), ["2"]);
    let letters = grid.get("/deadletters").await;
    assert_eq!(
        letters["deadLetters"][0]["events"][0]["deadletterreason"],
        "MaxDeliveryAttemptsExceeded"
    );
    grid.stop().await;
}

/// What Bicep makes of a module that takes its subscriptions as a parameter, most members of which may be missing, and that
/// has a deployment of its own for nothing but counting.
fn module_template() -> Value {
    let or_nothing =
        |member: &str| format!("[tryGet(parameters('subscriptions')[copyIndex()], '{member}')]");
    let nullable = |kind: &str| json!({"type": kind, "nullable": true});
    json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "languageVersion": "2.0",
        "parameters": {
            "prefix": {"type": "string", "defaultValue": "[format('to-{0}', uniqueString(resourceGroup().id))]"},
            "location": {"type": "string", "defaultValue": "[resourceGroup().location]"},
            "telemetry": {"type": "bool", "defaultValue": true},
            "subscriptions": {"type": "array", "defaultValue": [
                {"retryPolicy": {"maxDeliveryAttempts": 1}},
                {"filter": {"includedEventTypes": ["Sales.OrderPlaced"]}},
            ]},
        },
        "resources": {
            "telemetry": {
                "condition": "[parameters('telemetry')]",
                "type": "Microsoft.Resources/deployments",
                "name": "[format('telemetry-{0}', substring(uniqueString(deployment().name), 0, 4))]",
                "properties": {"mode": "Incremental", "template": {"resources": []}},
            },
            "topic": {"existing": true, "type": "Microsoft.EventGrid/topics", "name": "orders"},
            "subscriptions": {
                "copy": {"name": "subscriptions", "count": "[length(parameters('subscriptions'))]"},
                "type": "Microsoft.Resources/deployments",
                "name": "[format('{0}-{1}', parameters('prefix'), copyIndex())]",
                "properties": {
                    "expressionEvaluationOptions": {"scope": "inner"},
                    "parameters": {
                        "name": {"value": "[format('{0}-{1}', parameters('prefix'), copyIndex())]"},
                        "filter": {"value": or_nothing("filter")},
                        "retryPolicy": {"value": or_nothing("retryPolicy")},
                    },
                    "template": {
                        "languageVersion": "2.0",
                        "parameters": {
                            "name": {"type": "string"},
                            "filter": nullable("object"),
                            "retryPolicy": nullable("object"),
                            "deadLetterDestination": nullable("object"),
                            "expirationTimeUtc": nullable("string"),
                            "deliveryWithResourceIdentity": nullable("object"),
                        },
                        "resources": {"subscription": {
                            "type": "Microsoft.EventGrid/topics/eventSubscriptions",
                            "name": "[format('orders/{0}', parameters('name'))]",
                            "properties": {
                                "deadLetterDestination": "[parameters('deadLetterDestination')]",
                                "deliveryWithResourceIdentity": "[parameters('deliveryWithResourceIdentity')]",
                                "destination": "[if(empty(parameters('deliveryWithResourceIdentity')), createObject('endpointType', 'AzureFunction', 'properties', createObject('resourceId', '/functions/billing')), null())]",
                                "eventDeliverySchema": "CloudEventSchemaV1_0",
                                "expirationTimeUtc": "[coalesce(parameters('expirationTimeUtc'), '')]",
                                "filter": "[coalesce(parameters('filter'), createObject())]",
                                "labels": "[coalesce(null(), createArray())]",
                                "retryPolicy": "[parameters('retryPolicy')]",
                            },
                        }},
                    },
                },
            },
        },
    })
}

#[tokio::test]
async fn a_template_of_modules_is_read_as_it_is_deployed() {
    let (_folder, endpoint, grid) = start(&module_template()).await;
    grid.publish(&odd_event("1", "Sales.OrderPlaced")).await;
    grid.publish(&odd_event("2", "Any")).await;
    grid.until_idle().await;
    let deliveries = endpoint.deliveries();
    let name = |end: &str| {
        let mut names = deliveries
            .iter()
            .map(|delivery| delivery.header("aeg-subscription-name"));
        names
            .find(|name| name.starts_with("TO-") && name.ends_with(end))
            .unwrap()
    };
    assert_eq!(ids(&deliveries, name("-0")), ["1", "2"]);
    assert_eq!(ids(&deliveries, name("-1")), ["1"]);
    grid.stop().await;
}

#[test]
fn what_the_local_grid_does_not_do_is_refused_in_one_line() {
    let refusal = |subscriptions: &Value| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wrong.json");
        std::fs::write(&file, subscriptions.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_orderflow"))
            .args(["grid", "--grid-port", "0", "--data"])
            .arg(folder.path().join("data"))
            .arg("--subscriptions")
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains("wrong.json"), "{line}");
        line
    };
    let queue = json!({"one": {"destination": {"endpointType": "ServiceBusQueue", "properties": {"resourceId": "r"}}}});
    let line = refusal(&queue);
    assert!(
        line.contains("one: properties.destination") && line.contains("ServiceBusQueue"),
        "{line}"
    );

    let properties = "/resources/0/properties/template/resources/1/properties";
    for (member, value, why) in [
        (
            "filter",
            json!({"subjectBeginsWith": "[parameters('topicName')]"}),
            "the parameter `topicName`",
        ),
        (
            "filter",
            json!({"subjectBeginsWith": "[base64('x')]"}),
            "base64() is not understood",
        ),
        (
            "eventDeliverySchema",
            json!("EventGridSchema"),
            "EventGridSchema",
        ),
        (
            "expirationTimeUtc",
            json!("2020-01-01T00:00:00Z"),
            "has passed",
        ),
    ] {
        let mut template = template();
        template.pointer_mut(properties).unwrap()[member] = value;
        let line = refusal(&template);
        assert!(
            line.contains(&format!("properties.{member}")) || line.contains("properties: "),
            "{line}"
        );
        assert!(line.contains(why), "{line}");
    }
}
