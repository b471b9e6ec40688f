//! One form of one secret, and whether it stands at the beginning of some data.

use std::ops::Range;

use super::mark::Mark;
use super::needles::{BASE64, ESCAPE, PERCENT, RAW, TEXT};
use super::sieve::REACH;
use super::{Kind, unit};

/// One form of one secret: a sequence of elements.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) unambiguous: bool,
    pub(super) mark: Mark,
}

impl Form {
    pub(super) fn bucket(self) -> u16 {
        match self.kind {
            Kind::Text => TEXT,
            Kind::Hex | Kind::Raw | Kind::Ebcdic => RAW,
            Kind::Base64(offset) => BASE64 << offset,
        }
    }

    pub(super) fn buckets(self) -> u16 {
        match self.kind {
            Kind::Hex | Kind::Raw | Kind::Ebcdic => RAW,
            Kind::Text | Kind::Base64(_) => self.bucket() | PERCENT | ESCAPE,
        }
    }

    /// Whether it stands at the beginning of `data`, unescaped, if letters of either case are the same.
    pub(super) fn begins_in_any_case(self, secret: &[u8], data: &[u8]) -> bool {
        let mut data = data.iter();
        let mut index = 0_usize;
        while let Some(element) = self.kind.element(secret, index) {
            let Some(byte) = data.next() else { return false };
            if !element.raw(byte.to_ascii_lowercase()) && !element.raw(byte.to_ascii_uppercase()) {
                return false;
            }
            index = index.saturating_add(1);
        }
        true
    }

    /// The length of the form that stands at the beginning of `data`, if one does.
    pub(super) fn at(self, secret: &[u8], data: &[u8]) -> Option<usize> {
        if !self.unambiguous {
            return self.follow(secret, data);
        }
        // What the gate and the sieve tell by their time, and then all the rest as one.
        let mut at = 0_usize;
        for range in [0..2, 2..REACH, REACH..usize::MAX] {
            at = at.saturating_add(self.compare(secret, data.get(at..).unwrap_or_default(), range)?);
        }
        Some(at)
    }

    /// How many bytes the elements in `range` take up where `data` can be read in one way only.
    ///
    /// Goes on to the last of them however early they differ: an agent that has an upstream echo megabytes of guesses
    /// must not learn from the time of the answer how far a guess was right.
    fn compare(self, secret: &[u8], data: &[u8], range: Range<usize>) -> Option<usize> {
        // Most texts are as they are: then this is a comparison of bytes.
        let wanted = secret.get(range.start..range.end.min(secret.len())).unwrap_or_default();
        let raw = data.get(..wanted.len()).filter(|raw| memchr::memchr3(b'%', b'\\', b'+', raw).is_none());
        if let (Kind::Text, Some(raw)) = (self.kind, raw) {
            let differ = raw.iter().zip(wanted).fold(0, |differ, (one, other)| differ | (one ^ other));
            return (differ == 0).then_some(wanted.len());
        }
        let (mut at, mut differ) = (0_usize, 0_u8);
        for index in range {
            let Some(element) = self.kind.element(secret, index) else { break };
            let rest = data.get(at..).unwrap_or_default();
            let (bytes, meant) = match self.kind {
                Kind::Hex | Kind::Raw | Kind::Ebcdic => (1, *rest.first()?), // nobody escapes these
                Kind::Text | Kind::Base64(_) => unit(rest)?,
            };
            differ |= match (bytes, meant) {
                (1, b'+') => element.differs(b'+').min(element.differs_from_raw_plus()),
                _ => element.differs(meant),
            };
            at = at.saturating_add(bytes);
        }
        (differ == 0).then_some(at)
    }

    /// Follows all readings of `data`, in the order of their positions.
    ///
    /// Readings differ only where the secret itself holds something like `%25` or `\\`. An upstream that knows such
    /// a secret could make them many: equal ones are merged, and one that still needs more than `budget` steps is
    /// taken for the longest match that there can be, which costs it a redaction and lets nothing through.
    fn follow(self, secret: &[u8], data: &[u8]) -> Option<usize> {
        let mut budget = secret.len().saturating_mul(8).saturating_add(512);
        let mut end = None;
        let mut todo: Vec<(usize, usize)> = Vec::new(); // (position, element), the next one last
        let (mut at, mut index) = (0, 0);
        loop {
            budget = budget.saturating_sub(1);
            if budget == 0 {
                let longest = data.get(..secret.len().saturating_mul(6)).unwrap_or(data);
                let of_one_line = memchr::memchr2(b'\n', b'\r', secret).is_none();
                let line = memchr::memchr2(b'\n', b'\r', longest).filter(|_| of_one_line);
                return line.or(Some(longest.len())).filter(|len| *len >= secret.len());
            }
            if let Some(element) = self.kind.element(secret, index) {
                let rest = data.get(at..).unwrap_or_default();
                let moves = element.moves(secret.get(index..).unwrap_or_default(), rest);
                let all = [moves.raw.then_some((1, 1)), moves.escaped, moves.wide];
                for (bytes, elements) in all.into_iter().flatten() {
                    let next = (at.saturating_add(bytes), index.saturating_add(elements));
                    if let Err(slot) = todo.binary_search_by(|other| next.cmp(other)) {
                        todo.insert(slot, next);
                    }
                }
            } else {
                end = Some(at); // positions only grow, so the last one is the longest
            }
            match todo.pop() {
                Some(next) => (at, index) = next,
                None => return end,
            }
        }
    }
}
