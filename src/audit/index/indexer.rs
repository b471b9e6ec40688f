//! The task that keeps the index.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;

use crate::audit::index::filter::filter_of;
use crate::audit::index::terms::Terms;
use crate::model::Segment;
use crate::store::{IndexedRun, Result, Store};

/// Records of one run, at least: so many are read where a search finds one, and so many lines a search tries at most because
/// they are not indexed yet.
const RUN: i64 = 256;

/// Records that are read, and indexed in one transaction, at most.
const BATCH: i64 = 8_192;

/// Between two batches, and after a failure. New records are in the index about so long after their commit.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the index of every chain in the database.
#[derive(Debug)]
pub struct Indexer {
    store: Store,
    node: String,
    committed: watch::Receiver<i64>,
    indexed: watch::Sender<i64>,
    /// Nodes whose index was looked at since the start.
    checked: HashSet<String>,
}

impl Indexer {
    /// `committed` is [`crate::audit::Ledger::subscribe`] of the ledger of `node`.
    pub fn new(store: Store, node: String, committed: watch::Receiver<i64>) -> Self {
        Self { store, node, committed, indexed: watch::Sender::new(0), checked: HashSet::new() }
    }

    /// Up to which record of its own node's chain the index reaches. It is closed when the indexer has ended.
    pub fn indexed(&self) -> watch::Receiver<i64> {
        self.indexed.subscribe()
    }

    /// Until the ledger is closed.
    pub async fn run(mut self) {
        let mut failed = false;
        loop {
            match self.catch_up().await {
                Ok(()) => failed = false,
                Err(error) => {
                    if !failed {
                        tracing::warn!(%error, "the audit log is not indexed for searches; it is tried again");
                    }
                    failed = true;
                }
            }
            let enough = self.indexed.borrow().saturating_add(RUN);
            if !failed && self.committed.wait_for(|last| *last >= enough).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = closed(self.committed.clone()) => return,
            }
        }
    }

    /// Indexes all whole runs that there are, of all chains: those of other nodes as well. It stops early where the ledger was
    /// closed.
    ///
    /// # Errors
    /// The database cannot be read or written; what is done stays.
    pub async fn catch_up(&mut self) -> Result<()> {
        for node in self.store.audit_nodes().await? {
            if !self.checked.contains(&node) {
                if self.store.drop_broken_index(&node).await? {
                    tracing::warn!(node, "the search index of the audit log does not fit the log; it is made again");
                }
                self.checked.insert(node.clone());
            }
            let mut reached = self.store.indexed_to(&node).await?;
            loop {
                if node == self.node {
                    self.indexed.send_replace(reached);
                }
                if self.committed.has_changed().is_err() {
                    return Ok(());
                }
                let segments = self.store.segments(&node, reached, BATCH).await?;
                // Hashing a batch takes as long as a few calls.
                let made = tokio::task::spawn_blocking(move || runs_of(&segments, reached)).await;
                // It panics only with a fault of ours, which then shows in the log; the next try finds the same records.
                let Ok(runs) = made else { break };
                let Some(last) = runs.last().map(|run| run.last) else { break };
                self.store.put_indexed(&node, runs).await?;
                reached = last;
            }
        }
        Ok(())
    }
}

/// Resolves when the ledger is closed.
async fn closed(mut committed: watch::Receiver<i64>) {
    while committed.changed().await.is_ok() {}
}

/// Whole runs of the segments behind record `after`. What is left at the end is too little for one.
fn runs_of(segments: &[Segment], after: i64) -> Vec<IndexedRun> {
    let mut all = Vec::new();
    let (mut terms, mut open) = (Terms::default(), None::<IndexedRun>);
    for segment in segments.iter().filter(|segment| segment.last > after) {
        let run = open.get_or_insert_with(|| IndexedRun {
            first: segment.first,
            last: segment.last,
            first_at: segment.first_at,
            last_at: segment.last_at,
            filter: Vec::new(),
        });
        (run.last, run.last_at) = (segment.last, segment.last_at);
        segment.records().for_each(|record| terms.add(record));
        if run.last - run.first + 1 >= RUN
            && let Some(run) = open.take()
        {
            let filter = filter_of(std::mem::take(&mut terms).all().into_iter());
            all.push(IndexedRun { filter, ..run });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::index::filter::may_hold;
    use crate::audit::index::terms::{Field, Term};
    use crate::model::append_record;

    fn segment(first: i64, records: i64) -> Segment {
        let mut bytes = Vec::new();
        for seq in first..first + records {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(
                    format!(r#"{{"at":{seq},"agent":"ag_{seq}","agent_name":"n\"{seq}"}}"#).as_bytes(),
                );
                Ok(())
            };
            append_record(&mut bytes, write).unwrap();
        }
        let last = first + records - 1;
        Segment { first, last, first_at: first, last_at: last, records: bytes, hash: Vec::new(), root: Vec::new() }
    }

    #[test]
    fn runs_are_whole_segments_and_what_is_too_little_waits() {
        let segments = [segment(1, 100), segment(101, 200), segment(301, 300), segment(601, 10)];
        let runs = runs_of(&segments, 0);
        let spans: Vec<_> = runs.iter().map(|run| (run.first, run.last, run.first_at, run.last_at)).collect();
        assert_eq!(spans, [(1, 300, 1, 300), (301, 600, 301, 600)]);
        for seq in 1..=600 {
            let run = &runs[usize::from(seq > 300)];
            assert!(may_hold(&run.filter, Term::new(Field::Agent, &format!("ag_{seq}"))));
            assert!(may_hold(&run.filter, Term::new(Field::Agent, &format!("n\"{seq}"))), "with an escape");
        }
        assert_eq!(runs_of(&segments, 300), runs[1..]);
        assert_eq!(runs_of(&segments[3..], 600), []);
    }
}
