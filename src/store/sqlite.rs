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

use crate::store::commit::{
    Attempt, Batch, MakeTail, PUT_HEAD, PUT_SEGMENT, Verdict, apply, revokes, statements, tail_statements,
};
use crate::store::statement::{Statement, Value, bound, joined, unnumbered};
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

    /// One transaction: all parts that go, or nothing.
    pub(super) async fn commit(&self, batch: &Batch<'_>, tail: &mut MakeTail<'_>) -> Result<Attempt> {
        let mut place = self.connection.lock().await;
        // Taken out, and put back only with no transaction open on it: a commit that is given up midway, or fails on a
        // full disk, would leave the database locked for everybody else. A connection that is dropped rolls back.
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let mut pages = 0;
        let attempt = transact(&mut connection, batch, tail, &mut pages).await;
        if !matches!(attempt, Ok(Attempt::Done(_))) {
            if matches!(attempt, Ok(Attempt::OneByOne) | Err(StoreError::Constraint(_)))
                && sqlx::query("ROLLBACK").execute(&mut connection).await.is_ok()
            {
                *place = Some(connection);
            }
            return attempt;
        }
        *place = Some(connection);
        drop(place);
        if self.pages.fetch_add(pages, Ordering::Relaxed) + pages >= PAGES_TO_COPY {
            self.copy();
        }
        attempt
    }

    /// Writes what is no part of a commit, in one transaction.
    pub(super) async fn put(&self, statements: Vec<Statement>) -> Result<()> {
        let mut place = self.connection.lock().await;
        // As in a commit: it is put back only with no transaction open on it.
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let pages = pages_of(&statements);
        for statement in joined_transaction(statements) {
            bound!(statement).execute(&mut connection).await?;
        }
        *place = Some(connection);
        drop(place);
        if self.pages.fetch_add(pages, Ordering::Relaxed) + pages >= PAGES_TO_COPY {
            self.copy();
        }
        Ok(())
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

async fn transact(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    tail: &mut MakeTail<'_>,
    pages: &mut usize,
) -> Result<Attempt> {
    let has_guards = batch.parts.iter().any(|part| !part.guards.is_empty());
    let all_go = vec![Verdict::Goes; batch.parts.len()];
    if !has_guards && !batch.one_by_one && !revokes(batch, &all_go) {
        let mut all = statements(batch.parts.iter(), batch.now);
        all.extend(tail_statements(batch.node, tail(&all_go)?));
        *pages = pages_of(&all);
        for statement in transaction(all) {
            bound!(statement).execute(&mut *connection).await?;
        }
        return Ok(Attempt::Done(None));
    }
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let Some(verdicts) = apply!(&mut *connection, batch) else { return Ok(Attempt::OneByOne) };
    let tail = tail_statements(batch.node, tail(&verdicts)?);
    *pages = pages_of(&tail) + pages_of(&statements(batch.parts.iter(), batch.now));
    for statement in tail.into_iter().map(unnumbered) {
        bound!(statement).execute(&mut *connection).await?;
    }
    let epoch = if revokes(batch, &verdicts) { Some(epoch::raise_sqlite(&mut *connection).await?) } else { None };
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(Attempt::Done(epoch))
}

/// About how many pages the statements write; rather too many than too few.
fn pages_of(statements: &[Statement]) -> usize {
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

/// A commit that only records: the text is a constant, so it is neither made nor looked up anew for each.
const RECORD: &str = "BEGIN IMMEDIATE; INSERT INTO audit_segments (node, first, last, first_at, last_at, records, hash, root) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?); INSERT INTO audit_heads (node, seq, hash, mac) VALUES (?, ?, ?, ?) \
     ON CONFLICT (node) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, mac = excluded.mac; COMMIT";

/// The same statements, with BEGIN before and COMMIT behind them, in as few texts as is good for them.
fn transaction(statements: Vec<Statement>) -> Vec<Statement> {
    if let [segment, head] = statements.as_slice()
        && (&*segment.sql, &*head.sql) == (PUT_SEGMENT, PUT_HEAD)
    {
        let values = statements.into_iter().flat_map(|statement| statement.values).collect();
        return vec![Statement::new(RECORD, values)];
    }
    joined_transaction(statements)
}

fn joined_transaction(statements: Vec<Statement>) -> Vec<Statement> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Head, Segment};
    use crate::store::Tail;

    #[test]
    fn the_constant_text_is_what_would_be_made() {
        let all = || {
            let segment =
                Segment { first: 1, last: 2, first_at: 3, last_at: 4, records: vec![5], hash: vec![6], root: vec![7] };
            tail_statements("node-1", Tail { segment: Some(segment), head: Head::EMPTY, mac: [0; 32] })
        };
        let (constant, made) = (transaction(all()), joined_transaction(all()));
        assert_eq!((constant.len(), made.len()), (1, 1));
        assert_eq!(constant[0].sql, made[0].sql);
        assert_eq!(format!("{:?}", constant[0].values), format!("{:?}", made[0].values));
    }
}
