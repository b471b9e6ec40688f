//! Signed checkpoints against the log: each is met on the walk, and must be for what is there.

use std::collections::VecDeque;

use data_encoding::HEXLOWER;
use hallpass_verify::KeySet;

use crate::audit::fault::Fault;
use crate::audit::{Checkpoint, verify_checkpoint};
use crate::model::Head;
use crate::store::StoredCheckpoint;

/// Signed checkpoints, in order, to be met on the walk.
#[derive(Debug)]
pub(super) struct Anchors {
    waiting: VecDeque<(Checkpoint, &'static str)>,
    broken: Option<Fault>,
    pub(super) agreed: usize,
}

impl Anchors {
    pub(super) fn new(stored: &[StoredCheckpoint], node: &str, keys: &KeySet, kept: Option<&Checkpoint>) -> Self {
        let mut all = Vec::new();
        let mut broken = None;
        for stored in stored {
            match verify_checkpoint(&stored.jws, keys) {
                Ok(checkpoint) if checkpoint.node == node && checkpoint.seq == stored.seq => {
                    all.push((checkpoint, "a stored checkpoint"));
                }
                Ok(_) => broken = Some(Fault { seq: stored.seq, problem: "its checkpoint was moved".into() }),
                Err(error) => {
                    broken = Some(Fault { seq: stored.seq, problem: format!("its checkpoint was altered: {error}") });
                }
            }
        }
        if let Some(kept) = kept.filter(|kept| kept.node == node) {
            all.push((kept.clone(), "the checkpoint that was kept elsewhere"));
        }
        all.sort_by_key(|(checkpoint, _)| checkpoint.seq);
        Self { waiting: all.into(), broken, agreed: 0 }
    }

    /// What was signed of records before this one says nothing of what is read. The one right before it is met at once.
    pub(super) fn skip_before(&mut self, seq: i64) {
        self.waiting.retain(|(checkpoint, _)| checkpoint.seq + 1 >= seq);
    }

    pub(super) fn check(&mut self, head: &Head) -> Result<(), Fault> {
        while let Some((checkpoint, name)) = self.waiting.front().filter(|(one, _)| one.seq <= head.seq) {
            if checkpoint.seq > 0 && checkpoint.hash != HEXLOWER.encode(&head.hash) {
                let problem = format!("the log up to here is not the one that {name} signed");
                return Err(Fault { seq: checkpoint.seq, problem });
            }
            self.agreed += 1;
            self.waiting.pop_front();
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, head: &Head) -> Result<(), Fault> {
        if let Some(fault) = self.broken.take() {
            return Err(fault);
        }
        self.check(head)?;
        match self.waiting.front() {
            Some((checkpoint, name)) => Err(Fault {
                seq: head.seq + 1,
                problem: format!("the log was cut off: {name} is for record {}", checkpoint.seq),
            }),
            None => Ok(()),
        }
    }
}
