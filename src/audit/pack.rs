//! A log of the layout before segments is packed into segments, record for record as it was hashed.
//!
//! Piece by piece: a broker that is stopped midway goes on where it was. What somebody did to the old rows stays as visible
//! as it was: numbers that are missing end a segment, and so does a text that does not fit its stored hash, which becomes the
//! segment's.

use std::time::{Duration, Instant};

use crate::audit::chain::{Link, hash};
use crate::audit::merkle::Tree;
use crate::model::{Segment, append_record};
use crate::store::{OldRecord, Result, Store, StoreError};
use crate::world::{Millis, monotonic};

/// Records of one segment, at most.
const RECORDS: usize = 256;

/// Records that are read at once, and moved in one transaction.
const PIECE: i64 = 4096;

/// How often the log says how far it is.
const SAY: Duration = Duration::from_secs(5);

/// Packs what is there, and drops the old table. To be called under the lock of whoever serves.
///
/// # Errors
/// The database does not take it. What was packed before stays.
pub async fn pack_old_records(store: &Store) -> Result<()> {
    if !store.has_old_records().await? {
        return Ok(());
    }
    let all = store.count_old_records().await?;
    let started = monotonic();
    let (mut done, mut said) = (0_i64, started);
    if all > 0 {
        tracing::info!(records = all, "the audit log is brought into its new layout; nothing is served until then");
    }
    loop {
        let page = store.first_old_records(PIECE).await?;
        let Some(first) = page.first() else { break };
        let node = first.node.clone();
        let of_node: Vec<&OldRecord> = page.iter().take_while(|row| row.node == node).collect();
        let Some(last) = of_node.last() else { break };
        let segments = pack(&of_node)?;
        store.replace_old_records(&node, segments, last.seq).await?;
        done += i64::try_from(of_node.len()).unwrap_or(0);
        said = say(done, all, said);
    }
    store.drop_old_records().await?;
    if all > 0 {
        let seconds = started.elapsed().as_secs();
        tracing::info!(records = done, seconds, "the audit log is in its new layout");
    }
    Ok(())
}

fn say(done: i64, all: i64, said: Instant) -> Instant {
    let now = monotonic();
    if now.duration_since(said) < SAY {
        return said;
    }
    tracing::info!(done, all, "the audit log is brought into its new layout");
    now
}

/// Segments of records of one node, in order.
fn pack(rows: &[&OldRecord]) -> Result<Vec<Segment>> {
    let mut all = Vec::new();
    let mut open: Option<Segment> = None;
    let (mut tree, mut count) = (Tree::default(), 0);
    for row in rows {
        let goes_on = open.as_ref().is_some_and(|segment| segment.last + 1 == row.seq && count < RECORDS);
        if !goes_on {
            all.extend(open.take().map(|segment| closed(segment, &mut tree)));
            count = 0;
        }
        let before = open.as_ref().map(|segment| segment.last_at);
        let at = time_of(row, before.unwrap_or(0));
        let segment = open.get_or_insert_with(|| Segment {
            first: row.seq,
            last: row.seq,
            first_at: at,
            last_at: at,
            records: Vec::new(),
            hash: Vec::new(),
            root: Vec::new(),
        });
        append_record(&mut segment.records, |out| {
            out.extend_from_slice(row.body.as_bytes());
            Ok(())
        })
        .map_err(|error| StoreError::Corrupt(format!("audit record {} cannot be packed: {error}", row.seq)))?;
        tree.push(row.body.as_bytes());
        count += 1;
        (segment.last, segment.last_at) = (row.seq, at);
        segment.hash.clone_from(&row.hash);
        // A text that does not fit its hash ends its segment: there the stored hash is kept, and verified.
        if hash(row.body.as_bytes()) != *row.hash {
            count = RECORDS;
        }
    }
    all.extend(open.map(|segment| closed(segment, &mut tree)));
    Ok(all)
}

fn closed(mut segment: Segment, tree: &mut Tree) -> Segment {
    segment.root = tree.root().to_vec();
    tree.clear();
    segment
}

/// When a record was written; of one that was damaged, when the one before it was.
fn time_of(row: &OldRecord, before: Millis) -> Millis {
    serde_json::from_str::<Link<'_>>(&row.body).map_or(before, |link| link.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64) -> OldRecord {
        let body = format!(r#"{{"node":"n","seq":{seq},"at":{},"prev":""}}"#, seq * 10);
        let hash = hash(body.as_bytes()).to_vec();
        OldRecord { node: "n".into(), seq, body, hash }
    }

    #[test]
    fn segments_end_where_numbers_are_missing_and_where_they_are_full() {
        let rows: Vec<OldRecord> = (1..=3).chain(5..=600).map(row).collect();
        let segments = pack(&rows.iter().collect::<Vec<_>>()).unwrap();
        let spans: Vec<_> = segments.iter().map(|one| (one.first, one.last)).collect();
        assert_eq!(spans, [(1, 3), (5, 260), (261, 516), (517, 600)]);
        assert_eq!((segments[1].first_at, segments[1].last_at), (50, 2600));
        assert_eq!(segments[1].hash, rows[258].hash);
        let bodies: Vec<&[u8]> = segments.iter().flat_map(Segment::records).collect();
        assert!(bodies.iter().copied().eq(rows.iter().map(|row| row.body.as_bytes())));
        let mut tree = Tree::default();
        rows[..3].iter().for_each(|row| tree.push(row.body.as_bytes()));
        assert_eq!(segments[0].root, tree.root());
    }

    #[test]
    fn a_segment_ends_where_a_text_does_not_fit_its_hash() {
        let mut rows: Vec<OldRecord> = (1..=5).map(row).collect();
        rows[2].hash = vec![0];
        let segments = pack(&rows.iter().collect::<Vec<_>>()).unwrap();
        let spans: Vec<_> = segments.iter().map(|one| (one.first, one.last)).collect();
        assert_eq!(spans, [(1, 3), (4, 5)]);
        assert_eq!((&segments[0].hash, &segments[1].hash), (&vec![0], &rows[4].hash));
    }
}
