//! What to look for: the forms a secret can take, and whether one of them stands at a position.

use std::fmt;

use zeroize::Zeroizing;

use super::form::Form;
use super::known::{As, Known};
use super::mark::{Found, Mark};
use super::sieve::{PIECE, Sieve};
use super::spaced::LEAST;
use super::{Digits, Element, Kind, SHORT, ebcdic, first_char, nibble};

/// The forms of some secrets, ready to be searched for. Built per brokered call, as secrets are never cached in the
/// clear; therefore a form is computed from the secret while matching rather than spelled out beforehand.
pub struct Needles {
    /// All secrets, one after another. Wiped on drop.
    secrets: Zeroizing<Vec<u8>>,
    forms: Vec<Form>,
    /// For each byte, the buckets whose match may have it first (low half) or second (high half). Two bytes are
    /// asked before anything else is: the first character of a base64 form can be one of 16, which alone would stop
    /// the scan at every fourth byte. Wiped, as it holds the beginning of each secret.
    gate: Zeroizing<[u16; 256]>,
    /// What is asked before the gate.
    sieve: Sieve,
    /// No match is shorter than this: no form has fewer bytes than the secret. Most headers are shorter.
    shortest: usize,
    /// No match is longer than this.
    pub(super) longest: usize,
    /// No match that is not spaced is longer than this.
    pub(super) plain_longest: usize,
    /// Whether no match goes on beyond the end of a line: no form but a secret's own text could hold one.
    within_lines: bool,
    /// Whether a form can hold a zero.
    pub(super) has_zero: bool,
    /// Whether texts in UTF-16 and UTF-32 are searched: not for a secret that is too short to be told from chance.
    pub(super) spaced: bool,
    /// Whether a secret begins with a character of several bytes.
    wide: bool,
}

/// Buckets of the gate: how a match begins.
pub(super) const TEXT: u16 = 1;
/// Hex, and what else nobody escapes.
pub(super) const RAW: u16 = 1 << 1;
pub(super) const BASE64: u16 = 1 << 2; // and the next two bits, for the offsets 1 and 2
pub(super) const PERCENT: u16 = 1 << 5;
pub(super) const ESCAPE: u16 = 1 << 6;
const BUCKETS: u16 = PERCENT | ESCAPE | ((1 << 5) - 1);
/// Not a bucket: a match may begin with an escape that means this byte.
const LOGICAL: u16 = 1 << 7;

/// Kinds of forms that one secret has at most.
const KINDS: usize = 6;

/// Bytes in which the next match is looked for before more are looked at.
const STEP: usize = 4096;

impl Needles {
    /// The forms of `secrets`; an empty one is skipped, as it would be found everywhere.
    pub fn new(secrets: &[&[u8]]) -> Self {
        Self::from_forms(&secrets.iter().map(|secret| (*secret, As::Anything)).collect::<Vec<_>>())
    }

    /// The forms of `secrets`, and of all that an upstream can have made of them ([`Known`]), as far as they have at
    /// least `shortest` bytes.
    pub fn of_stored(secrets: &[&[u8]], shortest: usize) -> Self {
        let known: Vec<Known> = secrets.iter().map(|secret| Known::of(secret, shortest)).collect();
        Self::from_forms(&known.iter().flat_map(Known::iter).collect::<Vec<_>>())
    }

    fn from_forms(secrets: &[(&[u8], As)]) -> Self {
        let mut new = Self {
            // Reserved once: a vector that grows leaves unwiped copies behind.
            secrets: Zeroizing::new(Vec::with_capacity(secrets.iter().map(|(secret, _)| secret.len()).sum())),
            forms: Vec::with_capacity(secrets.len().saturating_mul(KINDS)),
            gate: Zeroizing::new([0; 256]),
            sieve: Sieve::new(secrets.len().saturating_mul(KINDS)),
            shortest: usize::MAX,
            longest: 0,
            plain_longest: 0,
            within_lines: true,
            has_zero: false,
            spaced: false,
            wide: false,
        };
        for (secret, of) in secrets.iter().copied().filter(|(secret, _)| !secret.is_empty()) {
            let start = new.secrets.len();
            new.secrets.extend_from_slice(secret);
            new.shortest = new.shortest.min(secret.len());
            // Six bytes per element at most: 6n as text (`\uHHHH`), 6⌈(8n + 4) / 6⌉ as base64.
            let longest = match of {
                As::Anything | As::Hex => secret.len().saturating_mul(8).saturating_add(16),
                As::Wide(_) | As::Itself => secret.len(),
            };
            new.plain_longest = new.plain_longest.max(longest);
            new.within_lines &= memchr::memchr2(b'\n', b'\r', secret).is_none();
            new.has_zero |= memchr::memchr(0, secret).is_some();
            for kind in of.kinds().iter().copied() {
                if matches!(kind, Kind::Ebcdic) && !in_ebcdic(secret) {
                    continue;
                }
                let mark = match (kind, of) {
                    (Kind::Ebcdic, _) => Mark::Ebcdic,
                    (_, As::Wide(wide)) => Mark::Wide(wide),
                    _ => Mark::Plain,
                };
                let form = Form { kind, start, len: secret.len(), unambiguous: kind.is_unambiguous(secret), mark };
                new.admit(form, secret);
                new.sieve.admit(kind, secret);
                new.forms.push(form);
            }
        }
        new.spaced = !new.forms.is_empty() && new.shortest >= LEAST;
        new.longest = if new.spaced { new.plain_longest.saturating_mul(4) } else { new.plain_longest };
        new
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Scrubs a text that is at hand as a whole, such as a header value. `None` when nothing was found.
    pub fn scrub_value(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut done = 0;
        while let Some(Found { range, mark }) = self.find(value, done, value.len()) {
            out.extend_from_slice(value.get(done..range.start).unwrap_or_default());
            out.extend_from_slice(&mark.bytes());
            done = range.end;
        }
        if done == 0 {
            return None;
        }
        out.extend_from_slice(value.get(done..).unwrap_or_default());
        Some(out)
    }

    /// Whether a header's name holds a secret. Names arrive in lower case whatever the upstream wrote, so the case of
    /// letters does not count: what is left of a secret, or of its base64, without it is still most of it.
    pub fn in_name(&self, name: &[u8]) -> bool {
        if name.len() < self.shortest {
            return false;
        }
        if self.find(name, 0, name.len()).is_some() {
            return true;
        }
        // Of JSON's escapes none can stand in a name (RFC 9110, § 5.6.2).
        let name: Vec<u8> = percent_encoding::percent_decode(name).collect();
        self.forms.iter().any(|form| {
            let secret = self.secrets.get(form.start..form.start.saturating_add(form.len)).unwrap_or_default();
            (0..name.len()).any(|start| form.begins_in_any_case(secret, name.get(start..).unwrap_or_default()))
        })
    }

    /// How much of `data` can be decided, whatever comes after it. What stays undecided has a length that depends on the
    /// ends of lines, and on where zeros stand, alone: if it depended on whether the data could go on as a secret, whoever
    /// has an upstream echo guesses could see by the moment, or the cut, at which they come back how much of a guess was
    /// right.
    pub(super) fn certain(&self, data: &[u8]) -> usize {
        let cut = data.len().saturating_sub(self.plain_longest.saturating_sub(1));
        let line_end = (cut..data.len()).rev().find(|at| self.ends_a_match(data.get(*at)));
        let certain = line_end.map_or(cut, |at| {
            // A line end in UTF-16 or UTF-32 has zeros behind it.
            let rest = data.get(at.saturating_add(1)..).unwrap_or_default();
            let zeros = rest.iter().take(3).take_while(|byte| **byte == 0 && !self.has_zero).count();
            at.saturating_add(1).saturating_add(zeros)
        });
        if self.spaced { certain.min(self.unfinished(data)) } else { certain }
    }

    /// Whether this is the end of a line, and no match goes on behind one.
    pub(super) fn ends_a_match(&self, byte: Option<&u8>) -> bool {
        self.within_lines && matches!(byte, Some(b'\n' | b'\r'))
    }

    /// The leftmost match that begins in `from..until`, and the longest one there. If more data follows, this is
    /// decided up to [`Needles::certain`] only.
    pub(super) fn find(&self, data: &[u8], from: usize, until: usize) -> Option<Found> {
        if !self.spaced {
            return self.find_plain(data, from, until);
        }
        // By steps: where the one kind of match is frequent and the other rare, the rare one is not looked for from
        // here to its next place each time.
        let mut at = from;
        while at < until {
            let end = at.saturating_add(STEP).min(until);
            let plain = self.find_plain(data, at, end);
            let until = plain.as_ref().map_or(end, |found| found.range.start.saturating_add(1));
            let spaced = self.find_spaced(data, at, until);
            let key = |found: &Found| (found.range.start, usize::MAX.saturating_sub(found.range.end));
            if let Some(found) = plain.into_iter().chain(spaced).min_by_key(key) {
                return Some(found);
            }
            at = end;
        }
        None
    }

    /// As [`Needles::find`], without texts in UTF-16 and UTF-32.
    pub(super) fn find_plain(&self, data: &[u8], from: usize, until: usize) -> Option<Found> {
        if data.len() < self.shortest {
            return None;
        }
        if !self.sieve.usable {
            return self.look_closer(data, from, until);
        }
        let mut at = from;
        loop {
            at = self.sieve.skip(data, at, until);
            let end = at.saturating_add(PIECE).min(until);
            let found = self.look_closer(data, at, end);
            if found.is_some() || end >= until {
                return found;
            }
            at = end;
        }
    }

    /// As [`Needles::find_plain`], byte by byte: one look-up for each, one branch per 16.
    fn look_closer(&self, data: &[u8], from: usize, until: usize) -> Option<Found> {
        let (first, rest) = data.get(from..)?.split_first()?;
        let mut at = from;
        let mut before = self.look(*first);
        let (blocks, tail) = rest.as_chunks::<16>();
        for block in blocks.iter().map(<[u8; 16]>::as_slice).chain([tail]) {
            if at >= until {
                return None;
            }
            let entered = before;
            let mut any = 0;
            for byte in block {
                let now = self.look(*byte);
                any |= before & (now >> 8);
                before = now;
            }
            if any != 0 {
                let mut before = entered;
                for (start, byte) in (at..until).zip(block) {
                    let now = self.look(*byte);
                    let buckets = before & (now >> 8);
                    before = now;
                    if buckets != 0
                        && let Some(found) = self.match_at(data, start, buckets)
                    {
                        return Some(found);
                    }
                }
            }
            at = at.saturating_add(block.len());
        }
        // The last byte has no second one to ask for.
        if at < until { self.match_at(data, at, before) } else { None }
    }

    fn look(&self, byte: u8) -> u16 {
        self.gate.get(usize::from(byte)).copied().unwrap_or(0)
    }

    /// What begins at `start`, as far as its first two bytes let it be in one of `buckets`.
    #[inline(never)] // keeps its registers out of the loop in `find`
    fn match_at(&self, data: &[u8], start: usize, buckets: u16) -> Option<Found> {
        let data = data.get(start..)?;
        if buckets & BUCKETS == 0 || (buckets & (PERCENT | ESCAPE) != 0 && self.escapes_another(data)) {
            return None;
        }
        let of_these = self.forms.iter().filter(|form| form.buckets() & buckets != 0);
        let lengths = of_these.filter_map(|form| {
            let secret = self.secrets.get(form.start..form.start.saturating_add(form.len)).unwrap_or_default();
            form.at(secret, data).map(|len| (len, form.mark))
        });
        let (len, mark) = lengths.max_by_key(|(len, _)| *len)?;
        Some(Found { range: start..start.saturating_add(len), mark })
    }

    /// Whether `data` begins with an escape that no match begins with. Spares texts that are full of escapes
    /// (`\uHHHH` is what many serializers make of each letter beyond ASCII) the look at all forms.
    fn escapes_another(&self, data: &[u8]) -> bool {
        let byte = match data {
            [b'%', high, low, ..] => nibble(*high).zip(nibble(*low)).map(|(high, low)| high << 4 | low),
            [b'\\', b'u', digits @ ..] if digits.len() >= 4 && !self.wide => Digits::of(digits).byte(),
            _ => return false,
        };
        // The percent sign may be the secret's own, and a backslash the asterisk of EBCDIC.
        let raw = data.first().is_some_and(|byte| self.look(*byte) & (TEXT | RAW) != 0);
        !raw && byte.is_none_or(|byte| self.look(byte) & LOGICAL == 0)
    }

    /// Opens the gate for how `form` may begin.
    fn admit(&mut self, form: Form, secret: &[u8]) {
        let Some(element) = form.kind.element(secret, 0) else {
            return;
        };
        let bucket = form.bucket();
        element.each_raw(|byte| self.open(byte, bucket));
        match form.kind.element(secret, 1) {
            Some(second) => second.each_raw(|byte| self.open(byte, bucket << 8)),
            None => (0..=255).for_each(|byte| self.open(byte, bucket << 8)), // a match may end here
        }
        if form.kind.is_never_escaped() {
            return;
        }
        self.open(b'%', PERCENT | bucket << 8);
        self.open(b'\\', ESCAPE | bucket << 8);
        self.open(b'u', ESCAPE << 8);
        self.wide |= first_char(secret).is_some();
        element.each(|byte| {
            self.open(byte, LOGICAL);
            Element::Nibble(byte >> 4).each(|digit| self.open(digit, PERCENT << 8));
            for (short, _) in SHORT.iter().filter(|(_, meant)| *meant == byte) {
                self.open(*short, ESCAPE << 8);
            }
        });
    }

    fn open(&mut self, byte: u8, buckets: u16) {
        if let Some(entry) = self.gate.get_mut(usize::from(byte)) {
            *entry |= buckets;
        }
    }
}

impl As {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Anything => &[Kind::Text, Kind::Hex, Kind::Base64(0), Kind::Base64(1), Kind::Base64(2), Kind::Ebcdic],
            Self::Hex => &[Kind::Hex],
            Self::Wide(_) | Self::Itself => &[Kind::Raw],
        }
    }
}

/// Whether each byte, read as Latin-1, is one in EBCDIC. What is UTF-8 and not ASCII is none of Latin-1.
fn in_ebcdic(secret: &[u8]) -> bool {
    (secret.is_ascii() || std::str::from_utf8(secret).is_err())
        && secret.iter().all(|byte| !ebcdic::bytes_of(*byte).is_empty())
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needles(redacted)")
    }
}

#[cfg(test)]
mod tests;
