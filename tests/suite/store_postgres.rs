//! What only a server can go through: restarts, crashes, upgrades and strangers.

use std::{
    collections::HashSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract::State, routing::post};
use futures_util::future::join_all;
use orderflow::store::{
    Answer, Store, StoreError,
    postgres::{Address, PostgresStore},
};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{
    postgres_server::{PASSWORD, PostgresServer, execute, number},
    processes::{orderflow, output},
    publish::identity_endpoint,
    store_conformance::{counting, looking, open_postgres, order},
    support::{Answer as HttpAnswer, client, eventually, listen, new_order, subscribers},
};

/// How long a store that is away may keep somebody waiting.
const AWAY_LIMIT: Duration = Duration::from_secs(8);

async fn count(store: &dyn Store, shared: &[&str]) -> String {
    match store
        .transact(looking(order(1), shared).boxed())
        .await
        .unwrap()
        .answer
    {
        Some(Answer::Unreadable(seen)) => seen,
        other => panic!("{other:?}"),
    }
}

async fn open_error(url: &str) -> String {
    let opened = PostgresStore::open(Address::parse(url).unwrap(), None).await;
    let error = opened.err().expect("it cannot be opened").to_string();
    assert!(
        error.starts_with("STORE_URL: ") && !error.contains('\n'),
        "{error}"
    );
    error
}

#[tokio::test]
async fn instances_that_start_together_make_the_schema_once() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    drop(join_all((0..10).map(|_| open_postgres(&url))).await);
    assert_eq!(
        number(&url, "SELECT count(*) FROM orderflow.migrations").await,
        1
    );
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    drop(open_postgres(&url).await);
    execute(
        &url,
        "INSERT INTO orderflow.migrations (version) VALUES (99)",
    )
    .await;
    let error = open_error(&url).await;
    assert!(
        error.contains("schema version 99") && error.contains("use a newer version"),
        "{error}"
    );
}

#[tokio::test]
async fn whoever_may_not_make_schemas_uses_one_that_was_made_for_him() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    execute(
        &url,
        "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE SCHEMA orderflow AUTHORIZATION app",
    )
    .await;
    let (_, host) = url.split_once('@').unwrap();
    let store = open_postgres(&format!("postgres://app:app@{host}")).await;
    store
        .transact(counting("1", order(1), &[]).boxed())
        .await
        .unwrap();
    assert_eq!(count(&store, &[]).await, "1");
}

#[tokio::test]
async fn commits_are_flushed_whatever_the_server_s_default() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    execute(&url, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$").await;
    assert_eq!(
        number(
            &url,
            "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off'"
        )
        .await,
        1
    );
    // A function in the place of the table's default tells what the writer's session has set.
    let store = open_postgres(&url).await;
    execute(
        &url,
        "CREATE TABLE seen (setting text, application text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen VALUES (current_setting('synchronous_commit'), current_setting('application_name'));
             RETURN NULL; END $$;
         CREATE TRIGGER note AFTER INSERT ON orderflow.order_rows EXECUTE FUNCTION note()",
    )
    .await;
    store
        .transact(counting("1", order(1), &[]).boxed())
        .await
        .unwrap();
    let seen = "SELECT count(*) FROM seen WHERE setting = 'on' AND application = 'orderflow'";
    assert_eq!(number(&url, seen).await, 1);
}

#[tokio::test]
async fn one_job_that_the_server_refuses_is_nobody_else_s_fault() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = open_postgres(&server.database().await).await;
    // PostgreSQL has no text with a NUL; an event with one in its id is refused long before it comes here.
    let ids: Vec<_> = (0..40)
        .map(|number| {
            if number == 20 {
                "\0".to_owned()
            } else {
                number.to_string()
            }
        })
        .collect();
    let outcomes = join_all(
        ids.iter()
            .map(|id| store.transact(counting(id, order(1), &["hot"]).boxed())),
    )
    .await;
    for (id, outcome) in ids.iter().zip(outcomes) {
        match outcome {
            Ok(receipt) => assert_eq!(receipt.answer, Some(Answer::Accepted)),
            Err(error) => assert!(id == "\0", "{id}: {error}"),
        }
    }
    assert_eq!(count(&store, &["hot"]).await, "39/39");
}

#[tokio::test]
async fn a_row_that_somebody_else_holds_keeps_a_delivery_no_longer_than_it_lasts() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    let store = Arc::new(open_postgres(&url).await);
    store
        .transact(counting("1", order(1), &["held"]).boxed())
        .await
        .unwrap();
    // Someone takes the row, and then does nothing for a long time.
    let (holder, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    holder
        .batch_execute("BEGIN; SELECT * FROM orderflow.shared_rows FOR UPDATE")
        .await
        .unwrap();
    let began = Instant::now();
    let held = store
        .transact(counting("2", order(1), &["held"]).boxed())
        .await;
    assert!(matches!(held, Err(StoreError::Unavailable(_))), "{held:?}");
    assert!(began.elapsed() < AWAY_LIMIT, "{:?}", began.elapsed());
    // Others go on meanwhile, by the other writer.
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .transact(counting("2", order(1), &["held"]).boxed())
                .await
        })
    };
    tokio::task::yield_now().await;
    store
        .transact(counting("3", order(2), &[]).boxed())
        .await
        .unwrap();
    holder.batch_execute("ROLLBACK").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(count(&*store, &["held"]).await, "2/2");
}

#[tokio::test]
async fn a_restart_of_the_server_is_survived() {
    let Some(server) = PostgresServer::start("-c fsync=off") else {
        return;
    };
    let store = open_postgres(&server.database().await).await;
    store
        .transact(counting("1", order(1), &[]).boxed())
        .await
        .unwrap();
    assert_eq!(
        store.row("billing", order(1)).await.unwrap(),
        Some(b"1".to_vec())
    );
    // So short that nobody notices.
    server.stop("fast");
    server.run();
    store
        .transact(counting("2", order(1), &[]).boxed())
        .await
        .unwrap();
    assert_eq!(
        store.row("billing", order(1)).await.unwrap(),
        Some(b"2".to_vec())
    );
    server.stop("fast");
    for _ in 0..3 {
        let began = Instant::now();
        let away = store.transact(counting("3", order(1), &[]).boxed()).await;
        assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
        let away = store.row("billing", order(1)).await;
        assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
        assert!(began.elapsed() < AWAY_LIMIT, "{:?}", began.elapsed());
    }
    server.run();
    eventually("it works again", async || {
        store
            .transact(counting("3", order(1), &[]).boxed())
            .await
            .ok()
    })
    .await;
    eventually("it can be read again", async || {
        store.row("billing", order(1)).await.ok()
    })
    .await;
    assert_eq!(count(&store, &[]).await, "3");
}

/// Two instances under load while the server goes away and comes back; then everything is delivered again.
async fn what_was_acknowledged_survives(go_away: impl FnOnce(&PostgresServer) + Send + 'static) {
    let Some(server) = PostgresServer::start("") else {
        return;
    };
    let server = Arc::new(server);
    let url = server.database().await;
    let stores = [
        Arc::new(open_postgres(&url).await),
        Arc::new(open_postgres(&url).await),
    ];
    let ids: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
    let task = |id: &str| {
        let number: u32 = id.parse().unwrap();
        counting(id, order(number % 100), &["hot"]).boxed()
    };
    let mut acknowledged = HashSet::new();
    let mut go_away = Some(go_away);
    let mut outage = None;
    for some in ids.chunks(60) {
        let sent = some.iter().zip(stores.iter().cycle());
        let sent = sent.map(|(id, store)| {
            let (store, task) = (store.clone(), task(id));
            tokio::spawn(async move { store.transact(task).await })
        });
        let sent: Vec<_> = sent.collect();
        // In the middle of the eleventh round.
        if acknowledged.len() >= 600
            && let Some(go_away) = go_away.take()
        {
            let server = server.clone();
            outage = Some(tokio::task::spawn_blocking(move || {
                go_away(&server);
                server.run();
            }));
        }
        for (id, outcome) in some.iter().zip(join_all(sent).await) {
            if outcome.unwrap().is_ok() {
                acknowledged.insert(id.clone());
            }
        }
    }
    outage.expect("the server went away").await.unwrap();
    assert!(
        !acknowledged.is_empty() && acknowledged.len() < ids.len(),
        "{}",
        acknowledged.len()
    );
    eventually("the server is back", async || {
        stores[0].row("billing", order(1)).await.ok()
    })
    .await;
    for some in ids.chunks(200) {
        let (store, task, acknowledged) = (&stores[0], &task, &acknowledged);
        let again = some.iter().map(|id| async move {
            let receipt = eventually("a redelivery is taken", async || {
                store.transact(task(id)).await.ok()
            });
            let forgotten = receipt.await.answer.is_some() && acknowledged.contains(id);
            assert!(!forgotten, "{id} was acknowledged and forgotten");
        });
        join_all(again).await;
    }
    assert_eq!(count(&*stores[1], &["hot"]).await, "30/3000");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_of_the_server() {
    what_was_acknowledged_survives(|server| server.stop("immediate")).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_of_the_server() {
    what_was_acknowledged_survives(PostgresServer::kill).await;
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_said_in_one_line_without_the_password() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.url("postgres");
    let wrong = url.replace("s3cr3t", "hunter2");
    let error = open_error(&wrong).await;
    assert!(error.contains("password authentication failed"), "{error}");
    for (url, expected) in [
        (wrong.as_str(), "password authentication failed"),
        (&server.url("nowhere"), "does not exist"),
        ("postgres://orderflow:hunter2@127.0.0.1:1/orders", "refused"),
        (
            "postgres://orderflow:hunter2@127.0.0.1:1/orders?sslmode=maybe",
            "the sslmode must be",
        ),
    ] {
        let (code, _, errors) = output(serve("http://127.0.0.1:1", 0).env("STORE_URL", url)).await;
        assert_eq!(code, Some(1));
        assert!(
            errors.contains("STORE_URL: ") && errors.contains(expected),
            "{errors}"
        );
        let lines = errors
            .lines()
            .filter(|line| line.starts_with("orderflow: "));
        assert_eq!(lines.count(), 1, "{errors}");
        assert!(
            !errors.contains("hunter2") && !errors.contains("s3cr3t"),
            "{errors}"
        );
    }
}

fn serve(topic: &str, port: u16) -> Command {
    let mut serve = orderflow(&["serve"]);
    serve
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .env("EVENTGRID_TOPIC_ENDPOINT", format!("{topic}/api/events"))
        .env("EVENTGRID_TOPIC_KEY", "a2V5");
    serve
}

/// A running `serve`, and where it listens.
async fn running(command: impl FnOnce(u16) -> Command) -> (Child, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut command = command(port);
    command.stdout(std::process::Stdio::null());
    let process = command.spawn().unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let client = client();
    eventually("serve is ready", async || {
        let answer = client
            .get(format!("{address}/api/orders"))
            .send()
            .await
            .ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    (process, address)
}

/// A topic that keeps what is published.
async fn topic() -> (String, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    let publish = async |State(sender): State<tokio::sync::mpsc::UnboundedSender<Value>>,
                         body: String| {
        for event in serde_json::from_str::<Vec<Value>>(&body).unwrap() {
            sender.send(event).unwrap();
        }
    };
    let routes = Router::new()
        .route("/api/events", post(publish))
        .with_state(sender);
    (listen(routes).await, events)
}

#[tokio::test]
async fn an_order_goes_its_way_through_two_instances_on_one_database() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    let (topic, mut events) = topic().await;
    let start = |port| {
        let mut command = serve(&topic, port);
        command.env("STORE_URL", &url);
        command
    };
    // Both make the schema.
    let ((_one, one), (_other, other)) = tokio::join!(running(start), running(start));
    let client = client();
    let place = client
        .post(format!("{one}/api/orders"))
        .header("content-type", "application/json");
    let placed = HttpAnswer::of(place.body(new_order().to_string())).await;
    assert_eq!(placed.status, 202, "{placed:?}");
    let path = placed.header("location").to_owned();
    let view = async || {
        HttpAnswer::of(client.get(format!("{other}{path}")))
            .await
            .json()
    };
    while view().await["status"] != "completed" {
        let event = tokio::time::timeout(crate::support::PATIENCE, events.recv());
        let event = event.await.expect("the order goes on").unwrap();
        // Both instances get each event at once, as when Event Grid grows impatient.
        for function in subscribers(event["type"].as_str().unwrap()) {
            let body = json!({ "Data": { "event": event }, "Metadata": { "sys": { "MethodName": function } } });
            let sent = [&one, &other].map(|instance| {
                let request = client.post(format!("{instance}/{function}"));
                HttpAnswer::of(
                    request
                        .header("content-type", "application/json")
                        .body(body.to_string()),
                )
            });
            for answer in join_all(sent).await {
                answer.assert_done();
            }
        }
    }
    let view = view().await;
    let names: Vec<_> = view["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["event"].as_str().unwrap())
        .collect();
    let distinct: HashSet<_> = names.iter().collect();
    assert_eq!(names.len(), distinct.len(), "each step once: {view:#}");
    assert_eq!(
        number(&url, "SELECT count(*) FROM orderflow.orders").await,
        1
    );
    HttpAnswer::of(client.post(format!("{one}/sweep")))
        .await
        .assert_done();
}

#[tokio::test]
async fn while_the_database_is_away_deliveries_are_answered_with_5xx() {
    let Some(server) = PostgresServer::start("-c fsync=off") else {
        return;
    };
    let url = server.database().await;
    let (topic, _events) = topic().await;
    let (_process, address) = running(|port| {
        let mut command = serve(&topic, port);
        command.env("STORE_URL", &url);
        command
    })
    .await;
    let client = client();
    let deliver = async || {
        let event = crate::support::sample("OrderPlaced");
        let body = json!({ "Data": { "event": event }, "Metadata": { "sys": { "MethodName": "billing" } } });
        let request = client.post(format!("{address}/billing"));
        HttpAnswer::of(
            request
                .header("content-type", "application/json")
                .body(body.to_string()),
        )
        .await
    };
    server.stop("immediate");
    for _ in 0..3 {
        let answer = deliver().await;
        assert!(answer.status >= 500, "{answer:?}");
        assert!(!answer.text.contains(PASSWORD), "{answer:?}");
    }
    server.run();
    eventually("it works again", async || {
        (deliver().await.status == 200).then_some(())
    })
    .await;
}

/// Makes the server speak TLS, with a certificate for `db.example.com` from an authority of its own; the authority's
/// certificate.
async fn certify(server: &PostgresServer) -> std::path::PathBuf {
    let folder = server.folder();
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        command.current_dir(folder).args(arguments.split(' '));
        let output = command.output().expect("openssl comes with PostgreSQL");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    std::fs::write(folder.join("names"), "subjectAltName=DNS:db.example.com").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"
    ));
    openssl(&format!(
        "req {key} -keyout server.key -out server.csr -subj /CN=db.example.com"
    ));
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
    );
    server.give(&folder.join("server.key"));
    for (name, value) in [
        (
            "ssl_cert_file",
            folder.join("server.pem").display().to_string(),
        ),
        (
            "ssl_key_file",
            folder.join("server.key").display().to_string(),
        ),
        ("ssl", "on".to_owned()),
    ] {
        server
            .execute("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"))
            .await;
    }
    server.execute("postgres", "SELECT pg_reload_conf()").await;
    folder.join("ca.pem")
}

/// The URL of a database on this machine as if it were on another one.
fn elsewhere(url: &str) -> String {
    format!(
        "{}?hostaddr=127.0.0.1",
        url.replace("@127.0.0.1", "@db.example.com")
    )
}

#[tokio::test]
async fn connections_are_encrypted_and_strangers_refused() {
    let Some(server) = PostgresServer::start("-c fsync=off") else {
        return;
    };
    let url = server.database().await;
    let error = open_error(&format!("{url}?sslmode=require")).await;
    assert!(error.contains("TLS"), "a server that cannot: {error}");
    let authority = certify(&server).await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'orderflow' AND ssl";
    for (parameters, expected) in [("?sslmode=disable", 0), ("", 1), ("?sslmode=require", 1)] {
        let store = eventually("the server has its certificate", async || {
            let address = Address::parse(&format!("{url}{parameters}")).unwrap();
            PostgresStore::open(address, None).await.ok()
        });
        let store = store.await;
        assert_eq!(number(&url, encrypted).await, expected, "{parameters}");
        drop(store);
        eventually("the connection has ended", async || {
            (number(&url, encrypted).await == 0).then_some(())
        })
        .await;
    }
    let error = open_error(&elsewhere(&url)).await;
    assert!(error.contains("UnknownIssuer"), "{error}");

    let (topic, _events) = topic().await;
    let with_authority = |url: &str, port| {
        let mut command = serve(&topic, port);
        command
            .env("STORE_URL", url)
            .env("SSL_CERT_FILE", &authority);
        command
    };
    let (_process, _) = running(|port| with_authority(&elsewhere(&url), port)).await;
    let other_name = elsewhere(&url).replace("db.example.com", "orders.example.com");
    let (code, _, errors) = output(&mut with_authority(&other_name, 0)).await;
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("NotValidForName") || errors.contains("not valid for name"),
        "{errors}"
    );
}

#[tokio::test]
async fn a_token_of_the_managed_identity_is_the_password_where_there_is_none() {
    let Some(server) = PostgresServer::start("-c fsync=off") else {
        return;
    };
    let url = server.database().await;
    let authority = certify(&server).await;
    execute(
        &url,
        "CREATE ROLE app LOGIN PASSWORD 'managed-token'; CREATE SCHEMA orderflow AUTHORIZATION app",
    )
    .await;
    let identity = identity_endpoint("https://ossrdbms-aad.database.windows.net").await;
    let (_, host) = url.split_once('@').unwrap();
    let without_password = elsewhere(&format!("postgres://app@{host}"));
    let (topic, _events) = topic().await;
    let start = |authority: &Path, port| {
        let mut command = serve(&topic, port);
        command
            .env("STORE_URL", &without_password)
            .env("SSL_CERT_FILE", authority)
            .env("IDENTITY_ENDPOINT", format!("http://{identity}/msi/token"));
        command
    };
    let (_process, _) = running(|port| {
        let mut command = start(&authority, port);
        command.env("IDENTITY_HEADER", "identity-secret");
        command
    })
    .await;
    // Nobody gets a token who does not know the platform's secret.
    let (code, _, errors) = output(start(&authority, 0).env("IDENTITY_HEADER", "wrong")).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("STORE_URL: no credential: "), "{errors}");
}
