//! Proving that a log is whole: nothing edited, removed, reordered, inserted or cut off.

use data_encoding::HEXLOWER;
use hallpass_verify::KeySet;

use crate::audit::anchors::Anchors;
use crate::audit::fault::Fault;
use crate::audit::walk::Walk;
use crate::audit::{Checkpoint, Link, head_is_authentic};
use crate::model::Head;
use crate::secret::SecretBytes;
use crate::store::{Result, SignedHead, Store, StoredCheckpoint};

/// Records read at once.
const PAGE: i64 = 4096;

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
    let mut page = store.segments(node, 0, PAGE).await?;
    while let Some(last) = page.last().map(|segment| segment.last) {
        // The database reads the next page while this one is hashed. Where that begins is taken on trust here only:
        // the walk goes from record to record and names the first one that is missing.
        let next = store.segments(node, last, PAGE);
        let walked = async {
            page.iter()
                .try_for_each(|segment| walk.segment(segment, &mut anchors, before.as_ref().map(|one| &one.head)))
        };
        let (next, walked) = tokio::join!(next, walked);
        if let Err(fault) = walked {
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
        if self.from.is_none() {
            let Ok(link) = serde_json::from_str::<Link<'_>>(body) else {
                let problem = "it was edited: it is no audit record".into();
                return Err(Fault { seq: self.walk.head.seq + 1, problem });
            };
            self.from = Some(link.seq);
            self.walk.begin_before(&link)?;
            self.anchors.skip_before(link.seq);
            self.anchors.check(&self.walk.head)?;
        }
        self.walk.step(body.as_bytes())?;
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
