//! Followers: whoever reads the log as it grows. They read committed segments from the database, behind a cursor of their own;
//! none of them sits in the writer's queue, and a slow one holds nobody up.

use tokio::sync::watch;

use crate::model::Segment;
use crate::store::{Result, Store};

/// A cursor over the segments of one node's chain.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    node: String,
    after: i64,
    committed: watch::Receiver<i64>,
}

impl Follower {
    /// Begins behind record `after` (0: at the first). `committed` is [`crate::audit::Ledger::subscribe`] of that node's ledger.
    pub fn new(store: Store, node: String, after: i64, committed: watch::Receiver<i64>) -> Self {
        Self { store, node, after, committed }
    }

    /// The last record that was read: where to begin again after a restart.
    pub fn position(&self) -> i64 {
        self.after
    }

    /// Waits for records behind the position and gives the segments that hold them, in order: at least one, and about `limit`
    /// records at most. The first may begin at or before the position. `None`: the ledger was closed, and all of it was read.
    ///
    /// # Errors
    /// The database cannot be read. The position stays where it was.
    pub async fn next(&mut self, limit: i64) -> Result<Option<Vec<Segment>>> {
        loop {
            let after = self.after;
            // An error: nobody writes any more. What is there is read to its end.
            let is_closed = self.committed.wait_for(|last| *last > after).await.is_err();
            let segments = self.store.segments(&self.node, after, limit).await?;
            if let Some(last) = segments.last() {
                self.after = last.last.max(after.saturating_add(1));
                return Ok(Some(segments));
            }
            if is_closed {
                return Ok(None);
            }
            // Said to be committed and not there: somebody took it away, which is for `audit verify` to name.
            self.after = self.after.max(*self.committed.borrow());
        }
    }
}
