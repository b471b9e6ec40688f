//! Reading the audit log, and keeping its signed checkpoints.

use crate::model::{AuditRow, Head, Segment};
use crate::store::{Result, Store, StoreError, on_db};
use crate::world::Millis;

/// Records in order, and where to go on.
pub type AuditPage = Vec<AuditRow>;

/// Where a segment lies: in the chain, and in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Span {
    /// Its first record.
    pub first: i64,
    /// Its last record.
    pub last: i64,
    /// When its first record was written.
    pub first_at: Millis,
    /// When its last record was written.
    pub last_at: Millis,
}

#[derive(sqlx::FromRow)]
struct SegmentRow {
    first: i64,
    last: i64,
    first_at: Millis,
    last_at: Millis,
    records: Vec<u8>,
    hash: Vec<u8>,
    root: Vec<u8>,
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
        let sql = "SELECT node FROM audit_heads UNION SELECT DISTINCT node FROM audit_segments ORDER BY 1";
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

    /// Segments of a node that hold records after `after`, in order: the next one, and those that begin within `limit`
    /// records of it. None: there are no more.
    pub async fn segments(&self, node: &str, after: i64, limit: i64) -> Result<Vec<Segment>> {
        // The one in which the next record is, or would be, begins at or before it.
        let sql = "SELECT first, last, first_at, last_at, records, hash, root FROM audit_segments WHERE node = $1 \
                   AND first >= COALESCE((SELECT MAX(first) FROM audit_segments WHERE node = $1 AND first <= $2), $2) \
                   AND first < COALESCE((SELECT MIN(first) FROM audit_segments WHERE node = $1 AND first > $2), $2) + $3 \
                   AND last >= $2 ORDER BY first";
        let (next, limit) = (after.saturating_add(1), limit.clamp(1, 1_000_000));
        let rows: Vec<SegmentRow> =
            on_db!(self, pool => sqlx::query_as(sql).bind(node).bind(next).bind(limit).fetch_all(pool).await)?;
        let segment = |row: SegmentRow| {
            let SegmentRow { first, last, first_at, last_at, records, hash, root } = row;
            Segment { first, last, first_at, last_at, records, hash, root }
        };
        Ok(rows.into_iter().map(segment).collect())
    }

    /// Up to `limit` records of a node after `after`, in order. What was damaged is shown as it is; what is wrong with it
    /// is for `audit verify` to say.
    pub async fn audit_page(&self, node: &str, after: i64, limit: i64) -> Result<AuditPage> {
        let most = usize::try_from(limit).unwrap_or(0);
        let (mut rows, mut seen) = (Vec::new(), after);
        while rows.is_empty() {
            let segments = self.segments(node, seen, limit).await?;
            let Some(last) = segments.last() else { break };
            // A segment whose numbers were edited must not be read without end.
            seen = last.last.max(seen.saturating_add(1));
            for segment in &segments {
                let numbered = (segment.first..).zip(segment.records());
                let wanted = numbered.filter(|(seq, _)| *seq > after).take(most - rows.len());
                rows.extend(
                    wanted.map(|(seq, record)| AuditRow { seq, body: String::from_utf8_lossy(record).into_owned() }),
                );
            }
        }
        Ok(rows)
    }

    /// The last record of a node, whatever its head says.
    pub async fn audit_last_seq(&self, node: &str) -> Result<i64> {
        Ok(self.span_at(node, i64::MAX).await?.map_or(0, |span| span.last))
    }

    /// The segment of a node that record `seq` is in, or else the last one before it.
    pub async fn span_at(&self, node: &str, seq: i64) -> Result<Option<Span>> {
        let sql = "SELECT first, last, first_at, last_at FROM audit_segments WHERE node = $1 AND first <= $2 \
                   ORDER BY first DESC LIMIT 1";
        Ok(on_db!(self, pool => sqlx::query_as(sql).bind(node).bind(seq).fetch_optional(pool).await)?)
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
