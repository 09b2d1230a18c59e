//! `infra/database-role.sql`, on a server with a stand-in for Azure's function.

use std::process::Command;

use orderflow::store::postgres::{Address, PostgresStore};

use crate::{
    postgres_server::{PostgresServer, number},
    support::root,
};

/// What Azure keeps in the database `postgres`. There, a token is the password.
const AZURE: &str = "
    CREATE ROLE administrators LOGIN CREATEROLE PASSWORD 'token';
    ALTER DATABASE orderflow OWNER TO administrators;
    CREATE FUNCTION pgaadauth_create_principal(name text, administrator boolean, mfa boolean) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        EXECUTE format('CREATE ROLE %I LOGIN PASSWORD ''token''', name);
        RETURN 'created';
    END $$";

#[tokio::test]
async fn the_app_may_make_its_tables_and_nothing_else() {
    let Some(server) = PostgresServer::start("-c fsync=off") else {
        return;
    };
    let url = server.database().await;
    let place = url.split_once('@').unwrap().1.split_once('/').unwrap().0;
    server
        .execute("postgres", "CREATE DATABASE orderflow")
        .await;
    server.execute("postgres", AZURE).await;
    // As often as you like.
    for _ in 0..2 {
        let mut psql = Command::new("psql");
        psql.args(["-q", "-v", "app=orderflow-x1", "-f"])
            .arg(root().join("infra/database-role.sql"))
            .arg(format!("postgres://administrators:token@{place}/postgres"));
        let output = psql.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let app = format!("postgres://orderflow-x1:token@{place}/orderflow");
    let opened = PostgresStore::open(Address::parse(&app).unwrap(), None).await;
    drop(opened.unwrap());
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'orderflow' AND tableowner = current_user";
    assert!(number(&app, tables).await > 0);
    let more = "SELECT count(*) FROM pg_roles WHERE rolname = current_user
                AND (rolsuper OR rolcreatedb OR rolcreaterole OR has_database_privilege('orderflow', 'CREATE'))";
    assert_eq!(number(&app, more).await, 0);
}
