//! The one write: changes, the audit records that tell of them and the chain's new end, in one transaction.

use sqlx::Connection as _;

use crate::model::{AuditRow, Change, Head};
use crate::store::statement::{self, Statement, Value, insert_many, run, session_row};
use crate::store::{COMMIT_PATIENCE, Pool, REMOTE_COMMIT_PATIENCE, Result, Store, StoreError, epoch};
use crate::world::Millis;

/// What is committed at once, for many callers.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Whose chain.
    pub node: &'a str,
    /// Now.
    pub now: Millis,
    /// Changes, in order.
    pub changes: &'a [Change],
    /// Audit records, in order.
    pub rows: &'a [AuditRow],
    /// The chain's end after them.
    pub head: Head,
    /// MAC of that end.
    pub mac: [u8; 32],
}

impl Store {
    /// Commits a batch: all of it or nothing. When it returns, the rows are durable. A batch that revokes something
    /// raises the epoch of the revocation list, which is returned then.
    pub async fn commit(&self, batch: Batch<'_>) -> Result<Option<i64>> {
        let revokes = batch.changes.iter().any(|change| matches!(change, Change::PutRevocation(_)));
        let statements = plan(&batch);
        let pool = match &self.pool {
            Pool::Sqlite { writer, .. } => {
                let outcome = tokio::time::timeout(COMMIT_PATIENCE, writer.commit(statements, revokes)).await;
                return outcome.unwrap_or(Err(StoreError::Timeout));
            }
            Pool::Postgres(pool) => pool,
        };
        let mut connection = pool.acquire().await?;
        let outcome = async {
            let mut tx = connection.begin().await?;
            for statement in statements {
                run!(&mut *tx, statement)?;
            }
            // Last: the row of the epoch is locked until the end, for the revocations of all nodes.
            let epoch = if revokes { Some(epoch::raise_postgres(&mut *tx).await?) } else { None };
            tx.commit().await?;
            Ok(epoch)
        };
        let outcome = match tokio::time::timeout(REMOTE_COMMIT_PATIENCE, outcome).await {
            Ok(outcome) => outcome.map_err(|error: sqlx::Error| StoreError::from(error)),
            Err(_) => Err(StoreError::Timeout),
        };
        if matches!(outcome, Err(StoreError::Unavailable(_) | StoreError::Timeout)) {
            // After a timeout an answer may still be in flight. Never used again.
            connection.close_on_drop();
        }
        outcome
    }
}

fn plan(batch: &Batch<'_>) -> Vec<Statement> {
    let mut all: Vec<Statement> =
        batch.changes.iter().flat_map(|change| statement::statements(change, batch.now)).collect();
    let sessions = batch.changes.iter().filter_map(|change| match change {
        Change::PutSession(session) => Some(session_row(session)),
        _ => None,
    });
    all.extend(insert_many(
        "INSERT INTO sessions (id, agent_id, created_at, expires_at, task, purpose, revoked_at, parent, cnf, delegation)",
        10,
        sessions.collect(),
    ));
    let rows = batch.rows.iter().map(|row| {
        let node = Value::Text(batch.node.to_owned());
        vec![node, Value::Int(row.seq), Value::Text(row.body.clone()), Value::Bytes(row.hash.to_vec())]
    });
    all.extend(insert_many("INSERT INTO audit_records (node, seq, body, hash)", 4, rows.collect()));
    all.push(Statement::new(
        "INSERT INTO audit_heads (node, seq, hash, mac) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (node) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, mac = excluded.mac",
        vec![
            Value::Text(batch.node.to_owned()),
            Value::Int(batch.head.seq),
            Value::Bytes(batch.head.hash.to_vec()),
            Value::Bytes(batch.mac.to_vec()),
        ],
    ));
    all
}
