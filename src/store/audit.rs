//! Reading the audit log, and keeping its signed checkpoints.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::model::{AuditRow, Head};
use crate::store::{Pool, Result, Store, StoreError, on_db};
use crate::world::Millis;

/// Records in order, and where to go on.
pub type AuditPage = Vec<AuditRow>;

/// Records as the driver holds them: read in place, for whoever reads millions of them.
#[derive(Debug)]
pub struct RawPage(Rows);

#[derive(Debug)]
enum Rows {
    Sqlite(Vec<SqliteRow>),
    Postgres(Vec<PgRow>),
}

/// A record, not copied. Its hash may have any length: another than 32 bytes is an edited row, for `audit verify` to
/// name, and must not stop the reading.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Counts from 1 on each node.
    pub seq: i64,
    /// JSON, byte for byte as it was hashed.
    pub body: &'a str,
    /// SHA-256 of `body`.
    pub hash: &'a [u8],
}

impl RawPage {
    /// How many records.
    pub fn len(&self) -> usize {
        match &self.0 {
            Rows::Sqlite(rows) => rows.len(),
            Rows::Postgres(rows) => rows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record at a place in the page.
    pub fn record(&self, at: usize) -> Result<Option<RecordRef<'_>>> {
        macro_rules! read {
            ($rows:expr) => {
                match $rows.get(at) {
                    None => Ok(None),
                    Some(row) => {
                        Ok(Some(RecordRef { seq: row.try_get(0)?, body: row.try_get(1)?, hash: row.try_get(2)? }))
                    }
                }
            };
        }
        match &self.0 {
            Rows::Sqlite(rows) => read!(rows),
            Rows::Postgres(rows) => read!(rows),
        }
    }
}

/// A chain's end with its MAC.
#[derive(Debug, Clone)]
pub struct SignedHead {
    /// The end.
    pub head: Head,
    /// Its MAC.
    pub mac: Vec<u8>,
}

/// A signed checkpoint as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StoredCheckpoint {
    /// Whose chain.
    pub node: String,
    /// Up to which record.
    pub seq: i64,
    /// When.
    pub at: Millis,
    /// Compact JWS.
    pub jws: String,
}

impl Store {
    /// The nodes that have a chain here, in order.
    pub async fn audit_nodes(&self) -> Result<Vec<String>> {
        let sql = "SELECT node FROM audit_heads UNION SELECT DISTINCT node FROM audit_records ORDER BY 1";
        let rows: Vec<(String,)> = on_db!(self, pool => sqlx::query_as(sql).fetch_all(pool).await)?;
        Ok(rows.into_iter().map(|(node,)| node).collect())
    }

    /// The end of a node's chain, as it was last committed.
    pub async fn audit_head(&self, node: &str) -> Result<Option<SignedHead>> {
        let sql = "SELECT seq, hash, mac FROM audit_heads WHERE node = $1";
        let row: Option<(i64, Vec<u8>, Vec<u8>)> =
            on_db!(self, pool => sqlx::query_as(sql).bind(node).fetch_optional(pool).await)?;
        row.map(|(seq, hash, mac)| Ok(SignedHead { head: Head { seq, hash: digest(&hash)? }, mac })).transpose()
    }

    /// Up to `limit` records of a node after `after`, in order.
    pub async fn audit_page(&self, node: &str, after: i64, limit: i64) -> Result<AuditPage> {
        let page = self.audit_page_raw(node, after, limit).await?;
        let mut rows = Vec::with_capacity(page.len());
        while let Some(record) = page.record(rows.len())? {
            let hash = digest(record.hash).unwrap_or_default();
            rows.push(AuditRow { seq: record.seq, body: record.body.to_owned(), hash });
        }
        Ok(rows)
    }

    /// As [`Store::audit_page`], not copied.
    pub async fn audit_page_raw(&self, node: &str, after: i64, limit: i64) -> Result<RawPage> {
        let sql = "SELECT seq, body, hash FROM audit_records WHERE node = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        Ok(RawPage(match &self.pool {
            Pool::Sqlite { pool, .. } => {
                Rows::Sqlite(sqlx::query(sql).bind(node).bind(after).bind(limit).fetch_all(pool).await?)
            }
            Pool::Postgres(pool) => {
                Rows::Postgres(sqlx::query(sql).bind(node).bind(after).bind(limit).fetch_all(pool).await?)
            }
        }))
    }

    /// The last record of a node, whatever its head says.
    pub async fn audit_last_seq(&self, node: &str) -> Result<i64> {
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM audit_records WHERE node = $1";
        let (seq,): (i64,) = on_db!(self, pool => sqlx::query_as(sql).bind(node).fetch_one(pool).await)?;
        Ok(seq)
    }

    /// The signed checkpoints of a node, in order.
    pub async fn checkpoints(&self, node: &str) -> Result<Vec<StoredCheckpoint>> {
        let sql = "SELECT node, seq, at, jws FROM audit_checkpoints WHERE node = $1 ORDER BY seq";
        Ok(on_db!(self, pool => sqlx::query_as(sql).bind(node).fetch_all(pool).await)?)
    }

    /// Keeps a signed checkpoint.
    pub async fn put_checkpoint(&self, checkpoint: &StoredCheckpoint) -> Result<()> {
        let sql = "INSERT INTO audit_checkpoints (node, seq, at, jws) VALUES ($1, $2, $3, $4) ON CONFLICT (node, seq) DO NOTHING";
        let StoredCheckpoint { node, seq, at, jws } = checkpoint;
        on_db!(self, pool => sqlx::query(sql).bind(node).bind(*seq).bind(*at).bind(jws).execute(pool).await.map(drop))?;
        Ok(())
    }
}

fn digest(bytes: &[u8]) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| StoreError::Corrupt("an audit hash is not 32 bytes long".into()))
}
