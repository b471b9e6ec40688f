//! Proving that a log is whole: nothing edited, removed, reordered, inserted or cut off.

use data_encoding::HEXLOWER;
use hallpass_verify::KeySet;

use crate::audit::{Checkpoint, Link, chain, head_is_authentic, verify_checkpoint};
use crate::model::Head;
use crate::secret::SecretBytes;
use crate::store::{RawPage, RecordRef, Result, SignedHead, Store, StoredCheckpoint};

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
    /// The first record; 1 but where a part of a log was verified.
    pub from: i64,
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
    let mut anchors = Anchors::new(&store.checkpoints(node).await?, node, keys, with.kept);
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
            from: 1,
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

/// A log that is read record by record from elsewhere than its database: an export, or a broker's admin interface. Where it
/// ends is proven by checkpoints alone, for the MAC of the end does not leave the database.
#[derive(Debug)]
pub struct LogReader {
    walk: Walk,
    anchors: Anchors,
    from: Option<i64>,
}

impl LogReader {
    /// `stored` are the checkpoints that come with the log, `kept` one that was kept elsewhere.
    pub fn new(node: &str, stored: &[StoredCheckpoint], keys: &KeySet, kept: Option<&Checkpoint>) -> Self {
        Self { walk: Walk::new(node), anchors: Anchors::new(stored, node, keys, kept), from: None }
    }

    /// Takes the next record, byte for byte as it was hashed. A log may begin in the middle: an export of some days does.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn record(&mut self, body: &str) -> Result<(), Fault> {
        let Ok(link) = serde_json::from_str::<Link<'_>>(body) else {
            let problem = "it was edited: it is no audit record".into();
            return Err(Fault { seq: self.walk.head.seq + 1, problem });
        };
        if self.from.is_none() {
            self.from = Some(link.seq);
            self.walk.begin_before(&link)?;
            self.anchors.skip_before(link.seq);
            self.anchors.check(&self.walk.head)?;
        }
        let hash = chain::hash(body);
        self.walk.step(&RecordRef { seq: link.seq, body, hash: &hash })?;
        self.anchors.check(&self.walk.head)
    }

    /// The end.
    ///
    /// # Errors
    /// A checkpoint is for a record behind the end.
    pub fn finish(mut self) -> Result<Report, Fault> {
        self.anchors.finish(&self.walk.head)?;
        let from = self.from.unwrap_or(1);
        Ok(Report {
            from,
            records: self.walk.head.seq + 1 - from,
            head: HEXLOWER.encode(&self.walk.head.hash),
            checkpoints: self.anchors.agreed,
            end_authenticated: false,
        })
    }
}

#[derive(Debug)]
struct Walk {
    node: String,
    head: Head,
    /// The head's hash in hex, as the next record must name it.
    prev: [u8; 64],
}

impl Walk {
    fn new(node: &str) -> Self {
        Self { node: node.to_owned(), head: Head::EMPTY, prev: [b'0'; 64] }
    }

    /// Goes on from the record before this one, whose hash it names.
    fn begin_before(&mut self, link: &Link<'_>) -> Result<(), Fault> {
        if link.seq <= 1 {
            return Ok(());
        }
        let malformed = || Fault { seq: link.seq, problem: "it was edited: prev is no hash".into() };
        self.prev = link.prev.as_bytes().try_into().map_err(|_| malformed())?;
        let hash = HEXLOWER.decode(&self.prev).map_err(|_| malformed())?;
        let hash = hash.try_into().map_err(|_| malformed())?;
        self.head = Head { seq: link.seq - 1, hash };
        Ok(())
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
        if link.seq != record.seq || link.node != self.node.as_str() {
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
#[derive(Debug)]
struct Anchors {
    waiting: std::collections::VecDeque<(Checkpoint, &'static str)>,
    broken: Option<Fault>,
    agreed: usize,
}

impl Anchors {
    fn new(stored: &[StoredCheckpoint], node: &str, keys: &KeySet, kept: Option<&Checkpoint>) -> Self {
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
    fn skip_before(&mut self, seq: i64) {
        self.waiting.retain(|(checkpoint, _)| checkpoint.seq + 1 >= seq);
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
