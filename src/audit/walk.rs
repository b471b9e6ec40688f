//! From record to record: each must stand where it was written, behind the one that it names.

use data_encoding::HEXLOWER;

use crate::audit::anchors::Anchors;
use crate::audit::fault::Fault;
use crate::audit::merkle::Tree;
use crate::audit::{Link, chain};
use crate::model::{Head, Segment};
use crate::world::Millis;

/// How far a log was read, and what the next record must begin with.
#[derive(Debug)]
pub(super) struct Walk {
    node: String,
    pub(super) head: Head,
    /// The head's hash in hex, as the next record must name it.
    prev: [u8; 64],
    /// `{"node":"NODE","seq":`.
    front: Vec<u8>,
    tree: Tree,
}

impl Walk {
    pub(super) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            head: Head::EMPTY,
            prev: [b'0'; 64],
            front: format!(r#"{{"node":"{node}","seq":"#).into_bytes(),
            tree: Tree::default(),
        }
    }

    /// Goes on from the record before this one, whose hash it names.
    pub(super) fn begin_before(&mut self, link: &Link<'_>) -> Result<(), Fault> {
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

    /// Goes through a segment. `end`: where the chain ended when the reading began.
    pub(super) fn segment(
        &mut self,
        segment: &Segment,
        anchors: &mut Anchors,
        end: Option<&Head>,
    ) -> Result<(), Fault> {
        let fault = |seq, problem: String| Err(Fault { seq, problem });
        let expected = self.head.seq + 1;
        if segment.first > expected {
            return fault(expected, format!("it is missing; the next one there is {}", segment.first));
        }
        if segment.first < expected {
            return fault(expected, format!("a segment that begins with record {} stands in its place", segment.first));
        }
        self.tree.clear();
        let (mut first_at, mut last_at) = (None, 0);
        // Told last: a text that does not fit its own segment is the nearer cause.
        let mut against = None;
        let mut records = segment.records();
        for record in &mut records {
            last_at = self.step(record).map_err(|fault| nearer(fault, segment))?;
            first_at.get_or_insert(last_at);
            self.tree.push(record);
            against = against.or_else(|| anchors.check(&self.head).err());
            if end.is_some_and(|end| end.seq == self.head.seq && end.hash != self.head.hash) {
                let problem = "it is not the record that the chain ended with".into();
                against = against.or(Some(Fault { seq: self.head.seq, problem }));
            }
        }
        let last = self.head.seq;
        if !records.is_whole() {
            return fault(last + 1, "it was edited: the bytes of its segment are no records".into());
        }
        if last < segment.last {
            return fault(last + 1, format!("it is missing from its segment, which ends with record {}", segment.last));
        }
        if last > segment.last {
            let problem = format!("it was added to its segment, which ends with record {}", segment.last);
            return fault(segment.last + 1, problem);
        }
        if segment.hash != self.head.hash {
            return fault(last, "it was edited: its text does not fit its hash".into());
        }
        if segment.root != self.tree.root() {
            return fault(segment.first, "it was edited: its segment does not fit its Merkle root".into());
        }
        if (first_at, last_at) != (Some(segment.first_at), segment.last_at) {
            return fault(segment.first, "the times of its segment were edited".into());
        }
        against.map_or(Ok(()), Err)
    }

    /// The next record; when it was written.
    pub(super) fn step(&mut self, record: &[u8]) -> Result<Millis, Fault> {
        let seq = self.head.seq + 1;
        let at = match self.quickly(record, seq) {
            Some(at) => at,
            None => self.slowly(record, seq)?,
        };
        let hash = chain::hash(record);
        HEXLOWER.encode_mut(&hash, &mut self.prev);
        self.head = Head { seq, hash };
        Ok(at)
    }

    /// Byte for byte what is written in front of a record here, so that nothing has to be parsed. When it was written.
    fn quickly(&self, record: &[u8], seq: i64) -> Option<Millis> {
        let rest = record.strip_prefix(self.front.as_slice())?;
        let (seen, rest) = whole_number(rest)?;
        let rest = rest.strip_prefix(b",\"at\":")?;
        let (at, rest) = whole_number(rest)?;
        let rest = rest.strip_prefix(b",\"prev\":\"")?;
        let (prev, rest) = rest.split_first_chunk::<64>()?;
        (seen == seq && *prev == self.prev && rest.starts_with(b"\",")).then_some(at)
    }

    /// As JSON: what is wrong with it, if there is something.
    fn slowly(&self, record: &[u8], seq: i64) -> Result<Millis, Fault> {
        let fault = |seq, problem: String| Err(Fault { seq, problem });
        let Ok(link) = serde_json::from_slice::<Link<'_>>(record) else {
            return fault(seq, "it was edited: it is no audit record".into());
        };
        if link.seq > seq && link.node == self.node.as_str() {
            return fault(seq, format!("it is missing; the next one there is {}", link.seq));
        }
        if link.seq != seq || link.node != self.node.as_str() {
            return fault(seq, format!("it was moved: it was written as record {} of node {}", link.seq, link.node));
        }
        if link.prev.as_bytes() != self.prev {
            // This record says what it was written after. What stands there now is something else.
            let problem = format!("it was replaced: record {seq} was written after another one");
            return fault(self.head.seq.max(1), problem);
        }
        Ok(link.at)
    }
}

/// A record of this segment that is not what the one behind it names: replaced, or edited where it does not even fit the
/// segment's Merkle root.
fn nearer(fault: Fault, segment: &Segment) -> Fault {
    let mut tree = Tree::default();
    segment.records().for_each(|record| tree.push(record));
    if (segment.first..=segment.last).contains(&fault.seq) && segment.root != tree.root() {
        let problem = format!("it was edited: its segment does not fit its Merkle root ({})", fault.problem);
        return Fault { problem, ..fault };
    }
    fault
}

/// A whole number of JSON, not negative, and what comes behind it.
fn whole_number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = bytes.split_at_checked(end)?;
    // Eighteen digits always fit. JSON knows no leading zeros.
    if digits.is_empty() || digits.len() > 18 || (digits.len() > 1 && digits.first() == Some(&b'0')) {
        return None;
    }
    Some((digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')), rest))
}
