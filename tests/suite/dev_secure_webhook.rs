//! A secure webhook of the local Event Grid: every request shows a token that the webhook can validate.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    http::{HeaderMap, Method},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use orderflow::engine::{Clock as _, SystemClock};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::{
    dev_clock::{TAKEN_ONCE, still},
    dev_grid::{Grid, odd_event},
    support::listen,
};

/// The claims of a token, if one of these keys has signed it.
fn claims(token: &str, keys: &Value) -> Option<Value> {
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    let key = keys["keys"]
        .as_array()?
        .iter()
        .find(|key| key["kid"] == header["kid"])?;
    let coordinate = |name: &str| decode(key[name].as_str().unwrap());
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(signed.as_bytes(), &decode(signature)).ok()?;
    serde_json::from_slice(&decode(claims)).ok()
}

#[tokio::test]
async fn handshake_and_delivery_show_a_token_for_the_webhooks_application() {
    const APPLICATION: &str = "api://6d4b1a6e-webhook";
    let shown: Arc<Mutex<Vec<(Method, String)>>> = Arc::default();
    let seen = Arc::clone(&shown);
    let webhook = listen(Router::new().fallback(
        async move |method: Method, headers: HeaderMap| -> Response {
            let mut tokens = headers.get_all("authorization").iter();
            let token = tokens
                .next()
                .map(|token| token.to_str().unwrap().to_owned());
            assert_eq!(tokens.next(), None);
            seen.lock()
                .unwrap()
                .push((method, token.unwrap_or_default()));
            [("webhook-allowed-origin", "*")].into_response()
        },
    ))
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("subscriptions.json");
    let subscriptions = json!({"one": {"destination": {"endpointType": "WebHook", "properties": {
        "endpointUrl": webhook,
        "azureActiveDirectoryTenantId": "a-tenant",
        "azureActiveDirectoryApplicationIdOrUri": APPLICATION,
    }}}});
    std::fs::write(&file, subscriptions.to_string()).unwrap();
    let mut options = still(&folder.path().join("data"), "http://127.0.0.1:1");
    options.delivery.subscriptions = Some(file);
    let grid = Grid::start_with(options).await;
    grid.publish(&odd_event("1", TAKEN_ONCE)).await;
    grid.until_idle().await;
    let keys = grid.get("/a-tenant/discovery/v2.0/keys").await;
    let shown = shown.lock().unwrap().clone();
    let methods: Vec<_> = shown.iter().map(|(method, _)| method.clone()).collect();
    assert_eq!(methods, [Method::OPTIONS, Method::POST]);
    for (_, authorization) in shown {
        let token = authorization.strip_prefix("Bearer ").unwrap();
        let verified = claims(token, &keys).unwrap();
        assert_eq!(verified["aud"], APPLICATION);
        assert_eq!(verified["tid"], "a-tenant");
        assert_eq!(
            verified["roles"],
            json!(["AzureEventGridSecureWebhookSubscriber"])
        );
        assert!(verified["exp"].as_i64().unwrap() > SystemClock.now().timestamp());
        let mut longer = verified.clone();
        longer["exp"] = json!(i64::MAX);
        let signed = token.split('.').collect::<Vec<_>>();
        let forged = [
            signed[0],
            &BASE64_URL_SAFE_NO_PAD.encode(longer.to_string()),
            signed[2],
        ];
        assert_eq!(claims(&forged.join("."), &keys), None);
    }
    grid.stop().await;
}
