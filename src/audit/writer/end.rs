//! Where the chain ends: known for certain before anything is written behind it.

use std::time::Duration;

use crate::audit::error::LedgerError;
use crate::audit::writer::Writer;
use crate::audit::{CHECKPOINT_TYP, Checkpoint, chain, head_is_authentic};
use crate::model::{Change, Head};
use crate::store::{StoreError, StoredCheckpoint};

/// How long the database may take to say where the chain ends.
const READ_PATIENCE: Duration = Duration::from_secs(10);

impl Writer {
    /// The chain's end. After a failure it is read again: a commit whose answer was lost may have gone through, and
    /// then its changes are shown to the registry now (a revocation must not be in the database only).
    pub(super) async fn known_head(&mut self) -> Result<Head, StoreError> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let node = &self.settings.node;
        let head = match in_time(self.store.audit_head(node)).await? {
            None => Head::EMPTY,
            Some(signed) if head_is_authentic(&self.mac_key, node, &signed.head, &signed.mac) => signed.head,
            Some(signed) => {
                return Err(StoreError::Corrupt(format!(
                    "the MAC of the audit chain's end, {}, does not fit: somebody altered it",
                    signed.head.seq
                )));
            }
        };
        let last = self.last;
        if head.seq < last.seq || (head.seq == last.seq && head.hash != last.hash) {
            return Err(StoreError::Corrupt(format!(
                "the audit chain ends at {} but was at {} before: records are gone (if that is a backup you restored, \
                 restart Hallpass)",
                head.seq, last.seq
            )));
        }
        // While it has not moved, a commit in doubt may still land: it stays in doubt.
        if head != last {
            self.settle(&head).await?;
        }
        self.is_at(head);
        Ok(head)
    }

    /// The chain has moved without our knowing: by a commit of ours, or by another writer?
    async fn settle(&mut self, head: &Head) -> Result<(), StoreError> {
        let mut landed = None;
        for seq in self.in_doubt.places(head) {
            let rows = in_time(self.store.audit_page(&self.settings.node, seq - 1, 1)).await?;
            let end = rows.first().map(|row| Head { seq: row.seq, hash: chain::hash(row.body.as_bytes()) });
            landed = end.filter(|end| self.in_doubt.ends_with(end));
            if landed.is_some() {
                break;
            }
        }
        // Whatever a commit of ours raised the epoch to, it is this by now: nobody else writes this database.
        let epoch = in_time(self.store.epoch()).await?;
        let Some(attempt) = self.in_doubt.settle(landed.as_ref()) else {
            tracing::error!(seq = head.seq, was = self.last.seq, "another process writes this node's audit chain");
            return Ok(());
        };
        tracing::warn!(seq = attempt.would_be.seq, "a commit that was given up had gone through");
        // Only the outcomes that were in it: later ones wait on.
        self.pending.retain(|entry| entry.reply.is_some() || entry.number > attempt.outcomes_to);
        for (number, seq) in &attempt.numbers {
            number.set(*seq);
        }
        self.registry.apply_all(&attempt.changes, Some(epoch));
        count_revocations(&attempt.changes);
        self.is_back();
        Ok(())
    }

    pub(super) fn is_at(&mut self, head: Head) {
        self.head = Some(head);
        self.last = head;
        self.committed.send_if_modified(|seen| std::mem::replace(seen, head.seq) != head.seq);
    }

    pub(super) async fn checkpoint_if_due(&mut self) {
        let Some(head) = self.head else { return };
        let (seq, at) = self.last_checkpoint;
        let due = head.seq - seq >= self.settings.checkpoint_every
            || self.world.now() - at >= self.settings.checkpoint_after_ms;
        if head.seq > seq
            && due
            && let Err(error) = self.checkpoint().await
        {
            tracing::warn!(%error, "no checkpoint");
        }
    }

    pub(super) async fn checkpoint(&mut self) -> Result<String, LedgerError> {
        let unavailable = |error: &dyn std::fmt::Display| LedgerError::Unavailable(error.to_string());
        let head = self.known_head().await.map_err(|error| unavailable(&error))?;
        let now = self.world.now();
        let claims = Checkpoint::new(&self.settings.issuer, &self.settings.node, &head, now);
        let jws = self.registry.keys().sign(CHECKPOINT_TYP, &claims).map_err(|error| unavailable(&error))?;
        let stored = StoredCheckpoint { node: self.settings.node.clone(), seq: head.seq, at: now, jws: jws.clone() };
        in_time(self.store.put_checkpoint(&stored)).await.map_err(|error| unavailable(&error))?;
        self.last_checkpoint = (head.seq, now);
        Ok(jws)
    }
}

/// What is in force, not what was asked for.
pub(super) fn count_revocations(changes: &[Change]) {
    for change in changes {
        if let Change::PutRevocation(revocation) = change {
            metrics::counter!("hallpass_revocations_total", "kind" => revocation.kind.as_str()).increment(1);
        }
    }
}

/// A reading that is given up after a while.
pub(super) async fn in_time<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(READ_PATIENCE, reading).await.unwrap_or(Err(StoreError::Timeout))
}
