//! The one write: guards, changes, the records that tell of them and the chain's new end, in one transaction.

use sqlx::Connection as _;

use crate::model::{Change, Guard, Head, OnceOnly, Segment};
use crate::store::statement::{self, Statement, Value, bound, insert_many, session_row};
use crate::store::{COMMIT_PATIENCE, Pool, REMOTE_COMMIT_PATIENCE, Result, Store, StoreError, epoch};
use crate::world::Millis;

/// How often a transaction that another one got in the way of is tried.
const TRIES: usize = 4;

/// What is committed at once, for many callers.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Whose chain.
    pub node: &'a str,
    /// Now.
    pub now: Millis,
    /// What each caller wants, in order.
    pub parts: &'a [Part<'a>],
    /// Each part by itself within the transaction, so that one whose row is refused drops out alone. That is slower, and
    /// is for after a batch was refused.
    pub one_by_one: bool,
}

/// What one caller wants.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Under which conditions.
    pub guards: &'a [Guard],
    /// Changes, in order.
    pub changes: &'a [Change],
}

/// What becomes of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the commit.
    Goes,
    /// A guard of it does not hold.
    Spent(OnceOnly),
    /// A rule of the schema refused a row of it.
    Refused(String),
}

/// The records of the parts that are in the commit, and the chain's end after them.
#[derive(Debug)]
pub struct Tail {
    /// The records; none where nothing is recorded.
    pub segment: Option<Segment>,
    /// The chain's end.
    pub head: Head,
    /// MAC of that end.
    pub mac: [u8; 32],
}

/// Makes the tail, once it is known what becomes of each part. It may be asked again where a transaction is tried again.
pub type MakeTail<'a> = dyn FnMut(&[Verdict]) -> Result<Tail> + Send + 'a;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is durable. The epoch of the revocation list, if it was raised.
    Done(Option<i64>),
    /// Nothing was done: a part with several guards has to give back those that held.
    OneByOne,
}

/// Runs guards and changes inside of a transaction of either engine: what becomes of each part. `None`: it has to be done
/// one by one.
macro_rules! apply {
    ($connection:expr, $batch:expr) => {{
        use $crate::store::commit::{Verdict, is_torn, statements};
        use $crate::store::guard::{self, Guards};
        use $crate::store::statement::{Statement, bound};
        let batch: &$crate::store::commit::Batch<'_> = $batch;
        let mut verdicts = vec![Verdict::Goes; batch.parts.len()];
        if batch.one_by_one {
            for (part, verdict) in batch.parts.iter().zip(&mut verdicts) {
                if part.guards.is_empty() && part.changes.is_empty() {
                    continue;
                }
                bound!(Statement::new("SAVEPOINT part", Vec::new())).execute($connection).await?;
                let done = 'part: {
                    for (kind, statement) in guard::of_one(part.guards, batch.now) {
                        match bound!(statement).fetch_all($connection).await {
                            Ok(taken) if taken.is_empty() => break 'part Ok(Some(kind)),
                            Ok(_) => {}
                            Err(error) => break 'part Err(error),
                        }
                    }
                    for statement in statements(std::iter::once(part), batch.now) {
                        if let Err(error) = bound!(statement).execute($connection).await {
                            break 'part Err(error);
                        }
                    }
                    Ok(None)
                };
                let end = match done {
                    Ok(None) => "RELEASE SAVEPOINT part",
                    Ok(Some(kind)) => {
                        *verdict = Verdict::Spent(kind);
                        "ROLLBACK TO SAVEPOINT part"
                    }
                    Err(error) => match $crate::store::StoreError::from(error) {
                        $crate::store::StoreError::Constraint(error) => {
                            *verdict = Verdict::Refused($crate::store::plain::plain(&error));
                            "ROLLBACK TO SAVEPOINT part"
                        }
                        error => return Err(error),
                    },
                };
                bound!(Statement::new(end, Vec::new())).execute($connection).await?;
            }
            Some(verdicts)
        } else {
            let guards = Guards::of(batch.parts, &mut verdicts);
            let mut taken = Vec::new();
            for (kind, statement) in guards.statements(batch.now) {
                for row in bound!(statement).fetch_all($connection).await? {
                    taken.push((kind, sqlx::Row::try_get::<Vec<u8>, _>(&row, 0)?));
                }
            }
            guards.settle(&taken, &mut verdicts);
            if is_torn(batch, &verdicts) {
                None
            } else {
                let going = batch.parts.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Goes);
                for statement in statements(going.map(|(part, _)| part), batch.now) {
                    bound!(statement).execute($connection).await?;
                }
                Some(verdicts)
            }
        }
    }};
}
pub(super) use apply;

impl Store {
    /// Commits a batch: all parts that go, or nothing. When it returns, that is durable. A batch that revokes something
    /// raises the epoch of the revocation list, which is returned then.
    pub async fn commit(&self, batch: &Batch<'_>, tail: &mut MakeTail<'_>) -> Result<Option<i64>> {
        let mut batch = *batch;
        let mut tries = 0;
        loop {
            let attempt = match &self.pool {
                Pool::Sqlite { writer, .. } => {
                    let outcome = tokio::time::timeout(COMMIT_PATIENCE, writer.commit(&batch, tail)).await;
                    outcome.unwrap_or(Err(StoreError::Timeout))
                }
                Pool::Postgres(pool) => postgres(pool, &batch, tail).await,
            };
            tries += 1;
            match attempt {
                Ok(Attempt::Done(epoch)) => return Ok(epoch),
                Ok(Attempt::OneByOne) => batch.one_by_one = true,
                // Two transactions in each other's way: the database gave up this one, and none of it was done.
                Err(StoreError::Conflict(error)) if tries < TRIES => tracing::debug!(%error, "a commit is repeated"),
                Err(error) => return Err(error),
            }
        }
    }
}

async fn postgres(pool: &sqlx::PgPool, batch: &Batch<'_>, tail: &mut MakeTail<'_>) -> Result<Attempt> {
    let mut connection = pool.acquire().await?;
    let outcome = async {
        let mut tx = connection.begin().await?;
        let verdicts = match apply!(&mut *tx, batch) {
            Some(verdicts) => verdicts,
            None => return Ok(Attempt::OneByOne),
        };
        for statement in tail_statements(batch.node, tail(&verdicts)?) {
            bound!(statement).execute(&mut *tx).await?;
        }
        // Last: the row of the epoch is locked until the end, for the revocations of all nodes.
        let epoch = if revokes(batch, &verdicts) { Some(epoch::raise_postgres(&mut *tx).await?) } else { None };
        tx.commit().await?;
        Ok(Attempt::Done(epoch))
    };
    let outcome = tokio::time::timeout(REMOTE_COMMIT_PATIENCE, outcome).await.unwrap_or(Err(StoreError::Timeout));
    if matches!(outcome, Err(StoreError::Unavailable(_) | StoreError::Timeout)) {
        // After a timeout an answer may still be in flight. Never used again.
        connection.close_on_drop();
    }
    outcome
}

/// Whether a part drops out of which another guard may have taken its row: that row has to be given back.
pub(super) fn is_torn(batch: &Batch<'_>, verdicts: &[Verdict]) -> bool {
    batch
        .parts
        .iter()
        .zip(verdicts)
        .any(|(part, verdict)| part.guards.len() > 1 && matches!(verdict, Verdict::Spent(_)))
}

/// Whether something is revoked by a part that goes.
pub(super) fn revokes(batch: &Batch<'_>, verdicts: &[Verdict]) -> bool {
    let going = batch.parts.iter().zip(verdicts).filter(|(_, verdict)| **verdict == Verdict::Goes);
    going.flat_map(|(part, _)| part.changes).any(|change| matches!(change, Change::PutRevocation(_)))
}

/// What the changes of these parts do to the tables.
pub(super) fn statements<'a>(parts: impl Iterator<Item = &'a Part<'a>> + Clone, now: Millis) -> Vec<Statement> {
    let changes = parts.flat_map(|part| part.changes);
    let mut all: Vec<Statement> = changes.clone().flat_map(|change| statement::statements(change, now)).collect();
    let sessions = changes.filter_map(|change| match change {
        Change::PutSession(session) => Some(session_row(session)),
        _ => None,
    });
    all.extend(insert_many(
        "INSERT INTO sessions (id, agent_id, created_at, expires_at, task, purpose, revoked_at, parent, cnf, delegation)",
        10,
        sessions.collect(),
    ));
    all
}

pub(super) const PUT_SEGMENT: &str = "INSERT INTO audit_segments (node, first, last, first_at, last_at, records, hash, root) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

pub(super) const PUT_HEAD: &str = "INSERT INTO audit_heads (node, seq, hash, mac) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (node) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, mac = excluded.mac";

pub(super) fn put_segment(node: &str, segment: Segment) -> Statement {
    Statement::new(
        PUT_SEGMENT,
        vec![
            Value::Text(node.to_owned()),
            Value::Int(segment.first),
            Value::Int(segment.last),
            Value::Int(segment.first_at),
            Value::Int(segment.last_at),
            Value::Bytes(segment.records),
            Value::Bytes(segment.hash),
            Value::Bytes(segment.root),
        ],
    )
}

/// The segment and the chain's end.
pub(super) fn tail_statements(node: &str, tail: Tail) -> Vec<Statement> {
    let mut all = Vec::with_capacity(2);
    all.extend(tail.segment.map(|segment| put_segment(node, segment)));
    all.push(Statement::new(
        PUT_HEAD,
        vec![
            Value::Text(node.to_owned()),
            Value::Int(tail.head.seq),
            Value::Bytes(tail.head.hash.to_vec()),
            Value::Bytes(tail.mac.to_vec()),
        ],
    ));
    all
}
