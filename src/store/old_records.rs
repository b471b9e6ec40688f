//! The table of the layout before segments: a row for each record. It is emptied piece by piece, and dropped.

use sqlx::Connection as _;

use crate::model::Segment;
use crate::store::commit::put_segment;
use crate::store::statement::{Statement, Value, bound, unnumbered};
use crate::store::{Pool, Result, Store, on_db};

/// A record as it was stored. Its hash may have any length: another than 32 bytes is an edited row.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct OldRecord {
    /// Whose.
    pub node: String,
    /// Counts from 1 on each node.
    pub seq: i64,
    /// JSON, byte for byte as it was hashed.
    pub body: String,
    /// SHA-256 of `body`.
    pub hash: Vec<u8>,
}

impl Store {
    /// Whether the old table is there.
    pub async fn has_old_records(&self) -> Result<bool> {
        let found: Option<(i32,)> = match &self.pool {
            Pool::Sqlite { pool, .. } => {
                let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'audit_records'";
                sqlx::query_as(sql).fetch_optional(pool).await?
            }
            Pool::Postgres(pool) => {
                sqlx::query_as("SELECT 1 WHERE to_regclass('audit_records') IS NOT NULL").fetch_optional(pool).await?
            }
        };
        Ok(found.is_some())
    }

    /// How many records are in it.
    pub async fn count_old_records(&self) -> Result<i64> {
        let (count,): (i64,) =
            on_db!(self, pool => sqlx::query_as("SELECT COUNT(*) FROM audit_records").fetch_one(pool).await)?;
        Ok(count)
    }

    /// The first of them, in the order of nodes and numbers.
    pub async fn first_old_records(&self, limit: i64) -> Result<Vec<OldRecord>> {
        let sql = "SELECT node, seq, body, hash FROM audit_records ORDER BY node, seq LIMIT $1";
        Ok(on_db!(self, pool => sqlx::query_as(sql).bind(limit).fetch_all(pool).await)?)
    }

    /// In one transaction: segments of a node are put, and its old records up to `last` are taken away.
    pub async fn replace_old_records(&self, node: &str, segments: Vec<Segment>, last: i64) -> Result<()> {
        let mut all: Vec<Statement> = segments.into_iter().map(|segment| put_segment(node, segment)).collect();
        all.push(Statement::new(
            "DELETE FROM audit_records WHERE node = $1 AND seq <= $2",
            vec![Value::Text(node.to_owned()), Value::Int(last)],
        ));
        match &self.pool {
            Pool::Sqlite { pool, .. } => {
                let mut connection = pool.acquire().await?;
                let mut tx = connection.begin().await?;
                for statement in all.into_iter().map(unnumbered) {
                    bound!(statement).execute(&mut *tx).await?;
                }
                tx.commit().await?;
            }
            Pool::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                for statement in all {
                    bound!(statement).execute(&mut *tx).await?;
                }
                tx.commit().await?;
            }
        }
        Ok(())
    }

    /// Drops the empty table.
    pub async fn drop_old_records(&self) -> Result<()> {
        on_db!(self, pool => sqlx::query("DROP TABLE audit_records").execute(pool).await.map(drop))?;
        Ok(())
    }
}
