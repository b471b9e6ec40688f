//! The connection through which SQLite is written, and one that copies what was written from the write-ahead log into the
//! database (SQLite calls that a checkpoint; it has nothing to do with the signed ones of the audit log).
//!
//! The first is none of the pool's. There, each commit would get another connection, which has to read again what the last one
//! had in its cache; and the pool's checks, BEGIN, every statement and COMMIT would each be a trip to the connection's
//! thread and back. On a small commit these trips cost more than all else but the fsync.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

use crate::store::statement::{Statement, Value, joined, run, unnumbered};
use crate::store::{Result, StoreError, epoch};

/// Values in a batch that is sent as one text. Larger ones go statement by statement: joined, their texts would be as
/// many as there are mixtures of sizes, and the cache of prepared statements would hold none of them for long.
const MOST_IN_ONE: usize = 72;

/// Bytes of a page of the database.
const PAGE: usize = 4096;

/// Pages that a small commit writes.
const PAGES_OF_A_COMMIT: usize = 4;

/// About so many pages in the write-ahead log are worth copying into the database.
const PAGES_TO_COPY: usize = 800;

/// With so many pages in the write-ahead log, a commit copies what is left. That is seldom much: only where commits never
/// pause does nobody else get to the last page of the log, after which it begins anew.
pub(super) const MOST_PAGES: usize = 4000;

/// Bytes that the file of the log keeps when it begins anew, after a long reader had made it longer.
pub(super) const MOST_KEPT: usize = 2 * MOST_PAGES * PAGE;

/// How often the copying starts again because commits came meanwhile. What they added is little, and quickly copied.
const TRIES: usize = 4;

/// The connection, made when it is first needed.
#[derive(Debug)]
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    connection: Mutex<Option<SqliteConnection>>,
    /// Pages written since the last copying began.
    pages: AtomicUsize,
    /// The connection that copies. Left to a commit, as SQLite does it by itself, everybody who waits for that commit would
    /// wait for a thousand pages more, and another fsync.
    copying: Arc<Mutex<Copying>>,
}

#[derive(Debug, Default)]
struct Copying {
    connection: Option<SqliteConnection>,
    /// Pages in the log when it was last said that there are too many.
    said_at: usize,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: Mutex::new(None), pages: AtomicUsize::new(0), copying: Arc::default() }
    }

    /// Runs the statements in one transaction: all of them or none. `revokes`: raises the epoch in it, and gives that.
    pub(super) async fn commit(&self, statements: Vec<Statement>, revokes: bool) -> Result<Option<i64>> {
        let mut place = self.connection.lock().await;
        // Taken out, and put back only with no transaction open on it: a commit that is given up midway, or fails on a
        // full disk, would leave the database locked for everybody else. A connection that is dropped rolls back.
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let pages = pages(&statements);
        let epoch = match run_all(&mut connection, statements, revokes).await {
            Ok(epoch) => epoch,
            Err(error) => {
                let error = StoreError::from(error);
                if matches!(error, StoreError::Constraint(_))
                    && sqlx::query("ROLLBACK").execute(&mut connection).await.is_ok()
                {
                    *place = Some(connection);
                }
                return Err(error);
            }
        };
        *place = Some(connection);
        drop(place);
        if self.pages.fetch_add(pages, Ordering::Relaxed) + pages >= PAGES_TO_COPY {
            self.copy();
        }
        Ok(epoch)
    }

    /// Copies the write-ahead log into the database, beside the commits that come meanwhile; nothing waits for it.
    fn copy(&self) {
        // It is being done.
        let Ok(mut copying) = self.copying.clone().try_lock_owned() else { return };
        self.pages.store(0, Ordering::Relaxed);
        let options = self.options.clone();
        tokio::spawn(async move {
            if let Err(error) = copying.run(&options).await {
                // Nothing is lost: what is in the log is durable, and the next one tries again.
                tracing::warn!(%error, "the write-ahead log could not be copied into the database");
            }
        });
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.copying.lock().await.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the connection that copies the write-ahead log could not be closed in order");
        }
        if let Some(connection) = self.connection.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database's writing connection could not be closed in order");
        }
    }
}

impl Copying {
    async fn run(&mut self, options: &SqliteConnectOptions) -> sqlx::Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => options.connect().await?,
        };
        let mut left = 0;
        for _ in 0..TRIES {
            // PASSIVE waits for nobody, and nobody for it.
            let (is_busy, all, copied): (i64, i64, i64) =
                sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut connection).await?;
            left = usize::try_from(all - copied).unwrap_or(0);
            if left == 0 || is_busy != 0 {
                break;
            }
        }
        self.connection = Some(connection);
        if left > 2 * MOST_PAGES.max(self.said_at) {
            self.said_at = left;
            tracing::warn!(
                pages = left,
                "the write-ahead log grows for as long as another process reads the database in one transaction; end that \
                 process (a SQLite shell, a backup), or the disk fills up"
            );
        } else if left < MOST_PAGES {
            self.said_at = 0;
        }
        Ok(())
    }
}

async fn run_all(
    connection: &mut SqliteConnection,
    statements: Vec<Statement>,
    revokes: bool,
) -> sqlx::Result<Option<i64>> {
    if !revokes {
        for statement in transaction(statements) {
            run!(&mut *connection, statement)?;
        }
        return Ok(None);
    }
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for statement in statements.into_iter().map(unnumbered) {
        run!(&mut *connection, statement)?;
    }
    let epoch = epoch::raise_sqlite(&mut *connection).await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(Some(epoch))
}

/// About how many pages the statements write; rather too many than too few.
fn pages(statements: &[Statement]) -> usize {
    // Of deleted rows nobody knows how many there are.
    if statements.iter().any(|statement| statement.sql.starts_with("DELETE")) {
        return PAGES_TO_COPY;
    }
    let values = statements.iter().flat_map(|statement| &statement.values);
    // A row of a session has ten values, and a page of its own in an index.
    let rows = values.clone().count() / 10;
    let bytes = values.map(|value| match value {
        Value::Text(text) | Value::MaybeText(Some(text)) => text.len(),
        Value::Bytes(bytes) | Value::MaybeBytes(Some(bytes)) => bytes.len(),
        Value::MaybeText(None) | Value::MaybeBytes(None) | Value::Int(_) | Value::MaybeInt(_) | Value::Bool(_) => 0,
    });
    PAGES_OF_A_COMMIT + rows + bytes.sum::<usize>() / PAGE
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
