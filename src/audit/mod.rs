//! The audit log: one hash chain per node, written in segments, durable before anybody is answered.
//!
//! record n = JSON with `node`, `seq`, `at`, `prev` = SHA-256 of record n-1, and what happened. A segment holds the records of
//! one commit.

mod anchors;
mod chain;
mod checkpoint;
mod error;
mod fault;
mod find;
mod follow;
mod in_doubt;
mod index;
mod intent;
mod ledger;
mod merkle;
mod pack;
mod search;
mod settings;
mod throttle;
mod verify;
mod walk;
mod writer;

pub use chain::{Draft, Link, SegmentBuilder};
pub use checkpoint::{CHECKPOINT_TYP, Checkpoint, verify_checkpoint};
pub use error::LedgerError;
pub use fault::Fault;
pub use find::issued_at;
pub use follow::Follower;
pub use index::Indexer;
pub use intent::{Intent, IntentNumber, Recorded};
pub use ledger::Ledger;
pub use pack::pack_old_records;
pub use search::{Found, Query, search};
pub use settings::{LedgerSettings, Priority};
pub use throttle::{RECORDED_A_MINUTE, Throttle, omitted_note};
pub use verify::{LogReader, Report, Verification, verify_node};

use crate::model::Head;
use crate::secret::SecretBytes;

/// The id of the broker secret under which chain ends are kept.
pub const HEAD_SECRET: &str = "audit-head";

/// HMAC-SHA-256(key, node ‖ 0 ‖ seq ‖ hash): a thief of the database who cuts the tail off cannot make a fitting end.
fn head_mac(key: &SecretBytes, node: &str, head: &Head) -> [u8; 32] {
    crate::vault::head_mac(key, &head_message(node, head))
}

/// Whether a chain's end was written by whoever has the key.
pub fn head_is_authentic(key: &SecretBytes, node: &str, head: &Head, mac: &[u8]) -> bool {
    crate::vault::head_mac_verify(key, &head_message(node, head), mac)
}

fn head_message(node: &str, head: &Head) -> Vec<u8> {
    let mut message = Vec::with_capacity(node.len() + 41);
    message.extend_from_slice(node.as_bytes());
    message.push(0);
    message.extend_from_slice(&head.seq.to_be_bytes());
    message.extend_from_slice(&head.hash);
    message
}
