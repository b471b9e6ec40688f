//! The search index of the audit log: written behind the commits, and read by searches only.

use crate::store::statement::{Statement, Value, bound, insert_many};
use crate::store::{Pool, Result, Store, on_db};
use crate::world::Millis;

/// A run of records, and a filter of the values that stand in them.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct IndexedRun {
    /// Its first record.
    pub first: i64,
    /// Its last record.
    pub last: i64,
    /// When its first record was written.
    pub first_at: Millis,
    /// When its last record was written.
    pub last_at: Millis,
    /// A Bloom filter.
    pub filter: Vec<u8>,
}

impl Store {
    /// Up to which record of a node the index reaches.
    pub async fn indexed_to(&self, node: &str) -> Result<i64> {
        let sql = "SELECT last FROM audit_index WHERE node = $1 ORDER BY first DESC LIMIT 1";
        let row: Option<(i64,)> = on_db!(self, pool => sqlx::query_as(sql).bind(node).fetch_optional(pool).await)?;
        Ok(row.map_or(0, |(last,)| last))
    }

    /// Removes the index of a node if runs are missing in it, or if it goes beyond the log. Whether it did.
    pub async fn drop_broken_index(&self, node: &str) -> Result<bool> {
        let sql = "SELECT COUNT(*), COALESCE(MAX(last), 0), CAST(COALESCE(SUM(last - first + 1), 0) AS BIGINT) \
                   FROM audit_index WHERE node = $1";
        let (runs, last, records): (i64, i64, i64) =
            on_db!(self, pool => sqlx::query_as(sql).bind(node).fetch_one(pool).await)?;
        // The log is looked at second: another node may write both meanwhile.
        if runs == 0 || (records == last && last <= self.audit_last_seq(node).await?) {
            return Ok(false);
        }
        let sql = "DELETE FROM audit_index WHERE node = $1";
        match &self.pool {
            Pool::Sqlite { writer, .. } => {
                writer.put(vec![Statement::new(sql, vec![Value::Text(node.to_owned())])]).await?;
            }
            Pool::Postgres(pool) => {
                sqlx::query(sql).bind(node).execute(pool).await?;
            }
        }
        Ok(true)
    }

    /// Up to `limit` runs of a node that hold records after `after`, in order.
    pub async fn indexed_runs(&self, node: &str, after: i64, limit: i64) -> Result<Vec<IndexedRun>> {
        // Runs do not overlap: the one in which the next record is begins at or before it.
        let sql = "SELECT first, last, first_at, last_at, filter FROM audit_index WHERE node = $1 \
                   AND first >= COALESCE((SELECT MAX(first) FROM audit_index WHERE node = $1 AND first <= $2), $2) \
                   AND last >= $2 ORDER BY first LIMIT $3";
        let next = after.saturating_add(1);
        Ok(on_db!(self, pool => sqlx::query_as(sql).bind(node).bind(next).bind(limit).fetch_all(pool).await)?)
    }

    /// Adds runs. One that is there already stays as it is.
    pub async fn put_indexed(&self, node: &str, runs: Vec<IndexedRun>) -> Result<()> {
        let row = |run: IndexedRun| {
            vec![
                Value::Text(node.to_owned()),
                Value::Int(run.first),
                Value::Int(run.last),
                Value::Int(run.first_at),
                Value::Int(run.last_at),
                Value::Bytes(run.filter),
            ]
        };
        let rows = runs.into_iter().map(row).collect();
        let head = "INSERT INTO audit_index (node, first, last, first_at, last_at, filter)";
        let all = insert_many(head, 6, rows).into_iter().map(|Statement { sql, values }| Statement {
            sql: format!("{sql} ON CONFLICT (node, first) DO NOTHING").into(),
            values,
        });
        match &self.pool {
            // By the connection that commits: what waits for it is in a queue and does not poll for a lock.
            Pool::Sqlite { writer, .. } => writer.put(all.collect()).await,
            Pool::Postgres(pool) => {
                for statement in all {
                    bound!(statement).execute(pool).await?;
                }
                Ok(())
            }
        }
    }
}
