//! Proving that a log is whole: nothing edited, removed, reordered, inserted or cut off.

use data_encoding::HEXLOWER;
use hallpass_verify::KeySet;

use crate::audit::{Checkpoint, Link, chain, head_is_authentic, verify_checkpoint};
use crate::model::Head;
use crate::secret::SecretBytes;
use crate::store::{RawPage, RecordRef, Result, SignedHead, Store};

/// Records read at once.
const PAGE: i64 = 4096;

/// What is wrong, and from which record on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The first bad record.
    pub seq: i64,
    /// What is wrong with it.
    pub problem: String,
}

/// A log that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many records.
    pub records: i64,
    /// The hash of the last one, hex.
    pub head: String,
    /// How many signed checkpoints agree with it.
    pub checkpoints: usize,
    /// Whether the MAC of the chain's end was checked too (it needs the master key).
    pub end_authenticated: bool,
}

/// With what a log is verified.
#[derive(Debug, Default)]
pub struct Verification<'a> {
    /// The key of the chain's end, where the master key is at hand.
    pub mac_key: Option<&'a SecretBytes>,
    /// A checkpoint that was kept elsewhere, verified.
    pub kept: Option<&'a Checkpoint>,
}

/// Verifies the chain of one node. `progress` hears the number of records done and of all.
///
/// # Errors
/// Outer: the database cannot be read. Inner: the first fault.
pub async fn verify_node(
    store: &Store,
    node: &str,
    keys: &KeySet,
    with: Verification<'_>,
    mut progress: impl FnMut(i64, i64),
) -> Result<Result<Report, Fault>> {
    let before = store.audit_head(node).await?;
    let total = store.audit_last_seq(node).await?;
    let mut anchors = Anchors::collect(store, node, keys, &with).await?;
    let mut walk = Walk::new(node);
    let mut page = store.audit_page_raw(node, 0, PAGE).await?;
    while let Some(last) = last_seq(&page)? {
        // The database reads the next page while this one is hashed. Where that begins is taken on trust here only:
        // the walk goes from record to record and names the first one that is missing.
        let next = store.audit_page_raw(node, last, PAGE);
        let (next, walked) = tokio::join!(next, async { walk.page(&page, &mut anchors, before.as_ref()) });
        if let Err(fault) = walked? {
            return Ok(Err(fault));
        }
        page = next?;
        progress(walk.head.seq, total.max(walk.head.seq));
    }
    // Read again: while the broker serves, the end moves on as we read.
    let after = store.audit_head(node).await?;
    let ending = check_end(&walk.head, before.as_ref(), after.as_ref(), node, with.mac_key);
    Ok(ending.and_then(|end_authenticated| {
        anchors.finish(&walk.head)?;
        Ok(Report {
            records: walk.head.seq,
            head: HEXLOWER.encode(&walk.head.hash),
            checkpoints: anchors.agreed,
            end_authenticated,
        })
    }))
}

fn last_seq(page: &RawPage) -> Result<Option<i64>> {
    let last = match page.len().checked_sub(1) {
        Some(last) => page.record(last)?,
        None => None,
    };
    Ok(last.map(|record| record.seq))
}

struct Walk<'a> {
    node: &'a str,
    head: Head,
    /// The head's hash in hex, as the next record must name it.
    prev: [u8; 64],
}

impl<'a> Walk<'a> {
    fn new(node: &'a str) -> Self {
        Self { node, head: Head::EMPTY, prev: [b'0'; 64] }
    }

    /// Goes through a page. Outer: it cannot be read. Inner: the first fault.
    fn page(
        &mut self,
        page: &RawPage,
        anchors: &mut Anchors,
        before: Option<&SignedHead>,
    ) -> Result<Result<(), Fault>> {
        for at in 0..page.len() {
            let Some(record) = page.record(at)? else { break };
            if let Err(fault) = self.step(&record).and_then(|()| anchors.check(&self.head)) {
                return Ok(Err(fault));
            }
            if let Some(signed) = before
                && signed.head.seq == self.head.seq
                && signed.head.hash != self.head.hash
            {
                let problem = "it is not the record that the chain ended with".into();
                return Ok(Err(Fault { seq: self.head.seq, problem }));
            }
        }
        Ok(Ok(()))
    }

    fn step(&mut self, record: &RecordRef<'_>) -> Result<(), Fault> {
        let expected = self.head.seq + 1;
        let fault = |seq, problem: &str| Err(Fault { seq, problem: problem.to_owned() });
        if record.seq != expected {
            return fault(expected, &format!("it is missing; the next one there is {}", record.seq));
        }
        let hash = chain::hash(record.body);
        if hash != record.hash {
            return fault(record.seq, "it was edited: its text does not fit its hash");
        }
        let Ok(link) = serde_json::from_str::<Link<'_>>(record.body) else {
            return fault(record.seq, "it was edited: it is no audit record");
        };
        if link.seq != record.seq || link.node != self.node {
            return fault(
                record.seq,
                &format!("it was moved: it was written as record {} of node {}", link.seq, link.node),
            );
        }
        if link.prev.as_bytes() != self.prev {
            // This record is whole and says what it was written after. What stands there now is something else.
            let seq = self.head.seq.max(1);
            return fault(seq, &format!("it was replaced: record {} was written after another one", record.seq));
        }
        HEXLOWER.encode_mut(&hash, &mut self.prev);
        self.head = Head { seq: record.seq, hash };
        Ok(())
    }
}

/// The chain's end against the one that was committed with it.
fn check_end(
    walked: &Head,
    before: Option<&SignedHead>,
    after: Option<&SignedHead>,
    node: &str,
    mac_key: Option<&SecretBytes>,
) -> Result<bool, Fault> {
    let fault = |seq, problem: String| Err(Fault { seq, problem });
    let (Some(before), Some(after)) = (before, after) else {
        return fault(walked.seq, "the chain's end is missing from audit_heads".into());
    };
    if walked.seq < before.head.seq {
        let (from, to) = (walked.seq + 1, before.head.seq);
        return fault(from, format!("the tail was cut off: records {from} to {to} are missing"));
    }
    if walked.seq > after.head.seq {
        let seq = after.head.seq + 1;
        return fault(seq, format!("it was added behind the chain's end, which is {}", after.head.seq));
    }
    let Some(key) = mac_key else { return Ok(false) };
    if head_is_authentic(key, node, &before.head, &before.mac) {
        Ok(true)
    } else {
        fault(before.head.seq, "the chain's end was altered: its MAC does not fit".into())
    }
}

/// Signed checkpoints, in order, to be met on the walk.
struct Anchors {
    waiting: std::collections::VecDeque<(Checkpoint, &'static str)>,
    broken: Option<Fault>,
    agreed: usize,
}

impl Anchors {
    async fn collect(store: &Store, node: &str, keys: &KeySet, with: &Verification<'_>) -> Result<Self> {
        let mut all = Vec::new();
        let mut broken = None;
        for stored in store.checkpoints(node).await? {
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
        if let Some(kept) = with.kept.filter(|kept| kept.node == node) {
            all.push((kept.clone(), "the checkpoint that was kept elsewhere"));
        }
        all.sort_by_key(|(checkpoint, _)| checkpoint.seq);
        Ok(Self { waiting: all.into(), broken, agreed: 0 })
    }

    fn check(&mut self, head: &Head) -> Result<(), Fault> {
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

    fn finish(&mut self, head: &Head) -> Result<(), Fault> {
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
