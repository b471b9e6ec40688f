//! The one connection through which SQLite is written.
//!
//! It is none of the pool's. There, each commit would get another connection, which has to read again what the last one
//! had in its cache; and the pool's checks, BEGIN, every statement and COMMIT would each be a trip to the connection's
//! thread and back. On a small commit these trips cost more than all else but the fsync.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

use crate::store::statement::{Statement, joined, run, unnumbered};
use crate::store::{Result, StoreError};

/// Values in a batch that is sent as one text. Larger ones go statement by statement: joined, their texts would be as
/// many as there are mixtures of sizes, and the cache of prepared statements would hold none of them for long.
const MOST_IN_ONE: usize = 72;

/// The connection, made when it is first needed.
#[derive(Debug)]
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    connection: Mutex<Option<SqliteConnection>>,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: Mutex::new(None) }
    }

    /// Runs the statements in one transaction: all of them or none.
    pub(super) async fn commit(&self, statements: Vec<Statement>) -> Result<()> {
        let mut place = self.connection.lock().await;
        // Taken out, and put back only with no transaction open on it: a commit that is given up midway, or fails on a
        // full disk, would leave the database locked for everybody else. A connection that is dropped rolls back.
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        for statement in transaction(statements) {
            let Err(error) = run!(&mut connection, statement) else { continue };
            let error = StoreError::from(error);
            if matches!(error, StoreError::Constraint(_))
                && sqlx::query("ROLLBACK").execute(&mut connection).await.is_ok()
            {
                *place = Some(connection);
            }
            return Err(error);
        }
        *place = Some(connection);
        Ok(())
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database's writing connection could not be closed in order");
        }
    }
}

/// The same statements, with BEGIN before and COMMIT behind them, in as few texts as is good for them.
fn transaction(statements: Vec<Statement>) -> Vec<Statement> {
    let mut statements: Vec<Statement> = statements.into_iter().map(unnumbered).collect();
    if statements.iter().map(|statement| statement.values.len()).sum::<usize>() <= MOST_IN_ONE {
        statements = vec![joined(statements)];
    }
    if let Some(first) = statements.first_mut() {
        first.sql = format!("BEGIN IMMEDIATE; {}", first.sql).into();
    }
    if let Some(last) = statements.last_mut() {
        last.sql = format!("{}; COMMIT", last.sql).into();
    }
    statements
}
