//! TLS, and tokens of Entra ID.

use std::path::Path;

use orderflow::store::postgres::{Address, PostgresStore};

use super::{
    open_error,
    served::{running, serve, topic},
};
use crate::{
    postgres_server::{PostgresServer, execute, number},
    processes::output,
    publish::identity_endpoint,
    support::eventually,
};

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
    let audience = "https://ossrdbms-aad.database.windows.net";
    let identity = identity_endpoint(audience, Some("client-of-the-app")).await;
    let (_, host) = url.split_once('@').unwrap();
    let without_password = elsewhere(&format!("postgres://app@{host}"));
    let (topic, _events) = topic().await;
    let start = |authority: &Path, port| {
        let mut command = serve(&topic, port);
        command
            .env("STORE_URL", &without_password)
            .env("SSL_CERT_FILE", authority)
            .env("AZURE_CLIENT_ID", "client-of-the-app")
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
