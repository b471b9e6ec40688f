//! Making the records of a commit: each names the hash of the one before it.

use std::io::Write as _;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use crate::audit::merkle::Tree;
use crate::model::{Event, Head, Segment, append_record};
use crate::world::Millis;

/// What every record begins with.
#[derive(Debug, Deserialize)]
pub struct Link<'a> {
    /// Who wrote it.
    #[serde(borrow)]
    pub node: std::borrow::Cow<'a, str>,
    /// Its number.
    pub seq: i64,
    /// When, unix milliseconds.
    pub at: Millis,
    /// The hash of the record before it, hex.
    #[serde(borrow)]
    pub prev: std::borrow::Cow<'a, str>,
}

/// What a record says, as JSON, before it has a place in the chain. Whoever wants it recorded makes it, so that the one
/// writer only puts number, time and link in front.
#[derive(Debug)]
pub struct Draft(Vec<u8>);

impl Draft {
    /// # Errors
    /// Only if the event cannot be written as JSON.
    pub fn new(event: &Event) -> Result<Self, serde_json::Error> {
        // As large as most records are.
        let mut body = Vec::with_capacity(768);
        serde_json::to_writer(&mut body, event)?;
        Ok(Self(body))
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What goes on behind the front part: without the opening brace.
    fn rest(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }
}

/// The records of one commit while they are put together.
#[derive(Debug)]
pub struct SegmentBuilder<'a> {
    node: &'a str,
    at: Millis,
    first: i64,
    head: Head,
    prev: [u8; 64],
    records: Vec<u8>,
    tree: Tree,
}

impl<'a> SegmentBuilder<'a> {
    /// Behind `head`, for records that are written at `at`.
    pub fn new(node: &'a str, head: Head, at: Millis) -> Self {
        let mut prev = [0; 64];
        HEXLOWER.encode_mut(&head.hash, &mut prev);
        let first = head.seq.saturating_add(1);
        Self { node, at, first, head, prev, records: Vec::new(), tree: Tree::default() }
    }

    /// Makes room for so many bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.records.reserve(bytes);
    }

    /// One more record; its number. `intent`: the number of the intent that it is the outcome of.
    ///
    /// # Errors
    /// A record of 4 GiB.
    pub fn push(&mut self, draft: &Draft, intent: Option<i64>) -> std::io::Result<i64> {
        let (node, seq, at) = (self.node, self.head.seq.saturating_add(1), self.at);
        let prev = std::str::from_utf8(&self.prev).unwrap_or_default();
        let range = append_record(&mut self.records, |out| {
            // `node` is [a-z0-9-] by configuration, so nothing in the front part needs escaping.
            write!(out, r#"{{"node":"{node}","seq":{seq},"at":{at},"prev":"{prev}","#)?;
            if let Some(intent) = intent {
                write!(out, r#""intent":{intent},"#)?;
            }
            out.extend_from_slice(draft.rest());
            Ok(())
        })?;
        let record = self.records.get(range).unwrap_or_default();
        let hash = hash(record);
        self.tree.push(record);
        HEXLOWER.encode_mut(&hash, &mut self.prev);
        self.head = Head { seq, hash };
        Ok(seq)
    }

    /// Where the chain ends now.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The segment, if there is a record in it.
    pub fn finish(self) -> Option<Segment> {
        (self.head.seq >= self.first).then(|| Segment {
            first: self.first,
            last: self.head.seq,
            first_at: self.at,
            last_at: self.at,
            records: self.records,
            hash: self.head.hash.to_vec(),
            root: self.tree.root().to_vec(),
        })
    }
}

/// Bytes of a record besides its draft, at most: what room to make.
pub(super) const FRONT: usize = 192;

/// SHA-256 of a record.
pub(super) fn hash(record: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, record).as_ref());
    out
}
