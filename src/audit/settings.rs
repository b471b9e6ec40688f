//! How the ledger works, and how soon it writes.

use crate::world::Millis;

/// How the ledger works.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// Whose chain.
    pub node: String,
    /// `iss` of checkpoints.
    pub issuer: String,
    /// Records in one transaction, at most.
    pub max_batch: usize,
    /// Callers that may wait; more are refused at once.
    pub max_waiting: usize,
    /// A signed checkpoint after so many records …
    pub checkpoint_every: i64,
    /// … or after so much time, if there is a new record.
    pub checkpoint_after_ms: Millis,
}

/// How soon a record has to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// At once.
    Now,
    /// Coalesced: where there are many of these, they can wait a few milliseconds, so that they share a commit with each
    /// other or with an urgent one. That one then does not wait for a commit of theirs first.
    WithOthers,
}
