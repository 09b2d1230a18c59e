//! What the store itself says: read straight from the file or the database, past the program.

use std::path::Path;

use serde_json::Value;

/// What is read at the end.
#[derive(Debug, Default)]
pub struct Books {
    /// The stock of each article: `onHand`, `reserved`, `shipped`.
    pub stock: Vec<(String, Value)>,
    /// How many deliveries still owe something.
    pub pending: i64,
    /// What could never succeed, and why.
    pub parked: Vec<String>,
    /// How many orders there are.
    pub orders: i64,
}

/// Reads an SQLite file.
pub fn of_sqlite(file: &Path) -> rusqlite::Result<Books> {
    let connection =
        rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut stock = connection
        .prepare("SELECT key, body FROM state WHERE owner = 'inventory' AND body IS NOT NULL")?;
    let stock = stock.query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let stock = stock.collect::<Result<Vec<(String, _)>, _>>()?;
    let mut parked = connection.prepare("SELECT reason FROM parked")?;
    let parked = parked.query_map([], |row| row.get(0))?;
    let parked = parked.collect::<Result<_, _>>()?;
    let count = |table: &str| {
        let count = format!("SELECT count(*) FROM {table}");
        connection.query_row(&count, [], |row| row.get(0))
    };
    Ok(Books {
        stock: levels(stock),
        pending: count("pending")?,
        parked,
        orders: count("orders")?,
    })
}

/// Reads a PostgreSQL database.
pub async fn of_postgres(url: &str) -> Result<Books, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let stock = "SELECT key, body FROM orderflow.shared_rows WHERE owner = 'inventory'";
    let stock = client.query(stock, &[]).await?;
    let stock = stock.iter().map(|row| (row.get(0), row.get(1)));
    let parked = client
        .query("SELECT reason FROM orderflow.parked", &[])
        .await?;
    let count = async |table: &str| {
        let count = format!("SELECT count(*) FROM orderflow.{table}");
        let row = client.query_one(&count, &[]).await?;
        Ok::<i64, tokio_postgres::Error>(row.get(0))
    };
    Ok(Books {
        stock: levels(stock.collect()),
        pending: count("pending").await?,
        parked: parked.iter().map(|row| row.get(0)).collect(),
        orders: count("orders").await?,
    })
}

/// Rows of orders have their id as the key and no stock in them.
fn levels(rows: Vec<(String, Vec<u8>)>) -> Vec<(String, Value)> {
    let rows = rows.into_iter();
    let rows = rows.filter_map(|(key, body)| Some((key, serde_json::from_slice(&body).ok()?)));
    rows.filter(|(_, body): &(String, Value)| body["onHand"].is_u64())
        .collect()
}
