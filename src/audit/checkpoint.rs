//! Signed checkpoints: the chain's end, to be kept where the database's owner cannot reach.

use data_encoding::HEXLOWER;
use hallpass_verify::{KeySet, Refusal, Unverified};
use serde::{Deserialize, Serialize};

use crate::model::Head;
use crate::world::Millis;

/// `typ` of a checkpoint.
pub const CHECKPOINT_TYP: &str = "hallpass-checkpoint+jwt";

/// The claims of a checkpoint: up to record `seq`, node `node`'s log has the hash `hash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The broker.
    pub iss: String,
    /// Whose chain.
    pub node: String,
    /// Up to which record.
    pub seq: i64,
    /// That record's hash, hex.
    pub hash: String,
    /// When, unix seconds.
    pub iat: i64,
}

impl Checkpoint {
    /// For a chain's end.
    pub fn new(issuer: &str, node: &str, head: &Head, now: Millis) -> Self {
        Self {
            iss: issuer.to_owned(),
            node: node.to_owned(),
            seq: head.seq,
            hash: HEXLOWER.encode(&head.hash),
            iat: now / 1000,
        }
    }
}

/// Verifies a checkpoint's signature against keys that this broker has, or had.
pub fn verify_checkpoint(jws: &str, keys: &KeySet) -> Result<Checkpoint, Refusal> {
    let (checkpoint, _) = Unverified::parse(jws.trim(), CHECKPOINT_TYP)?.verify::<Checkpoint>(keys)?;
    Ok(checkpoint)
}
