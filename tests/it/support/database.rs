//! The database behind the broker's back: what a thief, an attacker or another process would do to it.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};

use super::{Engine, postgres::postgres_url};

/// Runs one body on a connection of either engine.
macro_rules! on_either {
    ($url:expr, $connection:ident => $body:expr) => {
        if let Some(path) = $url.strip_prefix("sqlite:") {
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(path)
                .foreign_keys(false)
                .busy_timeout(std::time::Duration::from_secs(10));
            let mut $connection = SqliteConnection::connect_with(&options).await.unwrap();
            let outcome = $body;
            $connection.close().await.unwrap();
            outcome
        } else {
            let mut $connection = PgConnection::connect($url).await.unwrap();
            let outcome = $body;
            $connection.close().await.unwrap();
            outcome
        }
    };
}

pub(crate) use on_either;

/// Runs statements, a `;` between them; how many rows the last one touched.
pub(crate) async fn execute(url: &str, sql: &str) -> u64 {
    on_either!(url, connection => {
        let mut touched = 0;
        for one in sql.split(";\n").map(str::trim).filter(|one| !one.is_empty()) {
            let outcome = sqlx::query(AssertSqlSafe(one.to_owned())).execute(&mut connection).await;
            touched = outcome.unwrap_or_else(|error| panic!("{one}: {error}")).rows_affected();
        }
        touched
    })
}

/// A whole number.
pub(crate) async fn number(url: &str, sql: &str) -> i64 {
    on_either!(url, connection => {
        let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap();
        row.get::<i64, _>(0)
    })
}

/// Texts: the first column of each row.
pub(crate) async fn texts(url: &str, sql: &str) -> Vec<String> {
    on_either!(url, connection => {
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0)).collect()
    })
}

/// The bytes in one column of one row.
pub(crate) async fn bytes(url: &str, sql: &str) -> Vec<u8> {
    on_either!(url, connection => {
        let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap();
        row.get::<Vec<u8>, _>(0)
    })
}

/// Every row of every table of ours, as text, in order.
pub(crate) async fn everything(url: &str) -> Vec<String> {
    let tables = "agents client_secrets definitions credentials credential_versions signing_keys broker_secrets sessions \
                  revocations used_assertions used_proofs audit_segments audit_heads audit_checkpoints \
                  audit_index";
    let mut all = Vec::new();
    for table in tables.split_whitespace() {
        let row = if url.starts_with("sqlite:") {
            let columns = texts(url, &format!("SELECT name FROM pragma_table_info('{table}')")).await;
            columns.iter().map(|name| format!("quote({name})")).collect::<Vec<_>>().join(" || '|' || ")
        } else {
            format!("{table}::text")
        };
        let rows = texts(url, &format!("SELECT {row} FROM {table} ORDER BY 1")).await;
        all.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    all
}

/// Bytes as each engine writes them.
pub(crate) fn blob(url: &str, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if url.starts_with("sqlite:") { format!("x'{hex}'") } else { format!("'\\x{hex}'::bytea") }
}

/// The URL of a database that a test may fill itself; on SQLite in this folder.
pub(crate) fn fresh_url(engine: Engine, dir: &std::path::Path) -> Option<String> {
    match engine {
        Engine::Sqlite => Some(format!("sqlite:{}", dir.join("test.db").display())),
        Engine::Postgres => postgres_url(),
    }
}

/// The same tests on both engines: each is an `async fn(Engine)`.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::support::Engine::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::support::Engine::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both_engines;
