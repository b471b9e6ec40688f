//! What to look for: the forms a secret can take, and whether one of them stands at a position.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroizing;

use super::known::{As, Known};
use super::sieve::{PIECE, REACH, Sieve};
use super::{Digits, Element, Kind, REDACTED, SHORT, first_char, nibble, unit};

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
    /// Whether no match goes on beyond the end of a line: no form but a secret's own text could hold one.
    within_lines: bool,
    /// Whether a secret begins with a character of several bytes.
    wide: bool,
}

/// Buckets of the gate: how a match begins.
const TEXT: u16 = 1;
const HEX: u16 = 1 << 1;
const BASE64: u16 = 1 << 2; // and the next two bits, for the offsets 1 and 2
const PERCENT: u16 = 1 << 5;
const ESCAPE: u16 = 1 << 6;
const BUCKETS: u16 = PERCENT | ESCAPE | ((1 << 5) - 1);
/// Not a bucket: a match may begin with an escape that means this byte.
const LOGICAL: u16 = 1 << 7;

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
            forms: Vec::with_capacity(secrets.len().saturating_mul(5)),
            gate: Zeroizing::new([0; 256]),
            sieve: Sieve::new(secrets.len().saturating_mul(5)),
            shortest: usize::MAX,
            longest: 0,
            within_lines: true,
            wide: false,
        };
        for (secret, of) in secrets.iter().copied().filter(|(secret, _)| !secret.is_empty()) {
            let start = new.secrets.len();
            new.secrets.extend_from_slice(secret);
            new.shortest = new.shortest.min(secret.len());
            // Six bytes per element at most: 6n as text (`\uHHHH`), 6⌈(8n + 4) / 6⌉ as base64.
            new.longest = new.longest.max(secret.len().saturating_mul(8).saturating_add(16));
            new.within_lines &= memchr::memchr2(b'\n', b'\r', secret).is_none();
            for kind in of.kinds().iter().copied() {
                let form = Form { kind, start, len: secret.len(), unambiguous: kind.is_unambiguous(secret) };
                new.admit(form, secret);
                new.sieve.admit(kind, secret);
                new.forms.push(form);
            }
        }
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
        while let Some(Range { start, end }) = self.find(value, done, value.len()) {
            out.extend_from_slice(value.get(done..start).unwrap_or_default());
            out.extend_from_slice(REDACTED);
            done = end;
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
    /// ends of lines alone: if it depended on whether the data could go on as a secret, whoever has an upstream echo
    /// guesses could see by the moment, or the cut, at which they come back how much of a guess was right.
    pub(super) fn certain(&self, data: &[u8]) -> usize {
        let cut = data.len().saturating_sub(self.longest.saturating_sub(1));
        let tail = data.get(cut..).filter(|_| self.within_lines).unwrap_or_default();
        memchr::memrchr2(b'\n', b'\r', tail).map_or(cut, |line_end| cut.saturating_add(line_end).saturating_add(1))
    }

    /// The leftmost match that begins in `from..until`, and the longest one there. If more data follows, this is
    /// decided up to [`Needles::certain`] only.
    pub(super) fn find(&self, data: &[u8], from: usize, until: usize) -> Option<Range<usize>> {
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

    /// As [`Needles::find`], byte by byte: one look-up for each, one branch per 16.
    fn look_closer(&self, data: &[u8], from: usize, until: usize) -> Option<Range<usize>> {
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
    fn match_at(&self, data: &[u8], start: usize, buckets: u16) -> Option<Range<usize>> {
        let data = data.get(start..)?;
        if buckets & BUCKETS == 0 || (buckets & (PERCENT | ESCAPE) != 0 && self.escapes_another(data)) {
            return None;
        }
        let of_these = self.forms.iter().filter(|form| form.buckets() & buckets != 0);
        let lengths = of_these.filter_map(|form| {
            let secret = self.secrets.get(form.start..form.start.saturating_add(form.len)).unwrap_or_default();
            form.at(secret, data)
        });
        lengths.max().map(|len| start..start.saturating_add(len))
    }

    /// Whether `data` begins with an escape that no match begins with. Spares texts that are full of escapes
    /// (`\uHHHH` is what many serializers make of each letter beyond ASCII) the look at all forms.
    fn escapes_another(&self, data: &[u8]) -> bool {
        let byte = match data {
            [b'%', high, low, ..] => nibble(*high).zip(nibble(*low)).map(|(high, low)| high << 4 | low),
            [b'\\', b'u', digits @ ..] if digits.len() >= 4 && !self.wide => Digits::of(digits).byte(),
            _ => return false,
        };
        // The percent sign may be the secret's own.
        let raw = data.first().is_some_and(|byte| self.look(*byte) & TEXT != 0);
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
        if matches!(form.kind, Kind::Hex) {
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
            Self::Anything => &[Kind::Text, Kind::Hex, Kind::Base64(0), Kind::Base64(1), Kind::Base64(2)],
            Self::Hex => &[Kind::Hex],
        }
    }
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needles(redacted)")
    }
}

/// One form of one secret: a sequence of elements.
#[derive(Clone, Copy)]
struct Form {
    kind: Kind,
    start: usize,
    len: usize,
    unambiguous: bool,
}

impl Form {
    fn bucket(self) -> u16 {
        match self.kind {
            Kind::Text => TEXT,
            Kind::Hex => HEX,
            Kind::Base64(offset) => BASE64 << offset,
        }
    }

    fn buckets(self) -> u16 {
        match self.kind {
            Kind::Hex => HEX,
            Kind::Text | Kind::Base64(_) => self.bucket() | PERCENT | ESCAPE,
        }
    }

    /// Whether it stands at the beginning of `data`, unescaped, if letters of either case are the same.
    fn begins_in_any_case(self, secret: &[u8], data: &[u8]) -> bool {
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
    fn at(self, secret: &[u8], data: &[u8]) -> Option<usize> {
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
                Kind::Hex => (1, *rest.first()?), // nobody escapes hex digits
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

/// The specification, spelled out: slow, and written without a look at the code above.
#[cfg(test)]
pub(super) mod reference {
    use std::collections::BTreeSet;

    use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine as _};

    /// The readings of one element: (bytes, elements that they cover).
    type Readings = Vec<(Vec<u8>, usize)>;

    pub(in super::super) fn forms(secret: &[u8]) -> Vec<Vec<Readings>> {
        let mut forms = vec![text(secret), hex(secret)];
        forms.extend((0..3).map(|offset| base64(secret, offset)));
        forms
    }

    fn cases(text: &str, from: usize) -> Vec<Vec<u8>> {
        let (head, tail) = text.split_at(from);
        let mut all = vec![String::from(head)];
        for c in tail.chars() {
            let forms = BTreeSet::from([c.to_ascii_lowercase(), c.to_ascii_uppercase()]);
            all = all.iter().flat_map(|head| forms.iter().map(move |form| format!("{head}{form}"))).collect();
        }
        all.into_iter().map(String::into_bytes).collect()
    }

    fn escapes(byte: u8) -> Vec<Vec<u8>> {
        let mut all = vec![vec![byte]];
        all.extend(cases(&format!("%{byte:02x}"), 1));
        all.extend(cases(&format!("\\u{byte:04x}"), 2));
        let short = match byte {
            b'"' | b'\\' | b'/' => Some(byte),
            8 => Some(b'b'),
            9 => Some(b't'),
            10 => Some(b'n'),
            12 => Some(b'f'),
            13 => Some(b'r'),
            _ => None,
        };
        all.extend(short.map(|short| vec![b'\\', short]));
        all
    }

    fn text(secret: &[u8]) -> Vec<Readings> {
        let element = |(index, byte): (usize, &u8)| {
            let mut all: Readings = escapes(*byte).into_iter().map(|bytes| (bytes, 1)).collect();
            if *byte == b' ' {
                all.push((b"+".to_vec(), 1));
            }
            for len in 2..=4 {
                let Some(Ok(text)) = secret.get(index..index + len).map(std::str::from_utf8) else {
                    continue;
                };
                if text.chars().count() == 1 {
                    let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                    let mut spellings = vec![Vec::new()];
                    for unit in units {
                        let unit = cases(&unit, 2);
                        spellings = spellings
                            .iter()
                            .flat_map(|head| unit.iter().map(|tail| [&head[..], tail].concat()))
                            .collect();
                    }
                    all.extend(spellings.into_iter().map(|bytes| (bytes, len)));
                }
            }
            all
        };
        secret.iter().enumerate().map(element).collect()
    }

    fn hex(secret: &[u8]) -> Vec<Readings> {
        let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.chars().map(|c| cases(&c.to_string(), 0).into_iter().map(|bytes| (bytes, 1)).collect()).collect()
    }

    fn base64(secret: &[u8], offset: usize) -> Vec<Readings> {
        let mut sets = vec![BTreeSet::new(); (offset + secret.len() + 1) * 4 / 3 + 2];
        for around in 0..=255_u8 {
            let plain = [&vec![around; offset][..], secret, &[around; 3]].concat();
            for (set, byte) in sets.iter_mut().zip(BASE64_STANDARD_NO_PAD.encode(plain).bytes()) {
                set.insert(byte);
                match byte {
                    b'+' => set.insert(b'-'),
                    b'/' => set.insert(b'_'),
                    _ => false,
                };
            }
        }
        let sets = sets.into_iter().filter(|set| !set.is_empty() && set.len() < 66);
        sets.map(|set| set.into_iter().flat_map(escapes).map(|bytes| (bytes, 1)).collect()).collect()
    }

    /// The longest match at the beginning of `data`.
    pub(in super::super) fn at(forms: &[Vec<Readings>], data: &[u8]) -> Option<usize> {
        let mut longest = None;
        for form in forms {
            let mut todo = BTreeSet::from([(0, 0)]);
            while let Some((pos, index)) = todo.pop_first() {
                let Some(readings) = form.get(index) else {
                    longest = longest.max(Some(pos));
                    continue;
                };
                for (bytes, elements) in readings.iter().filter(|(bytes, _)| data[pos..].starts_with(bytes)) {
                    todo.insert((pos + bytes.len(), index + elements));
                }
            }
        }
        longest
    }

    /// The scrubbed text of what begins before `until`, and where the rest begins.
    pub(in super::super) fn scrub(forms: &[Vec<Readings>], data: &[u8], until: usize) -> (Vec<u8>, usize) {
        let (mut out, mut pos) = (Vec::new(), 0);
        while pos < until {
            match at(forms, &data[pos..]) {
                Some(len) => {
                    out.extend(super::REDACTED);
                    pos += len;
                }
                None => {
                    out.push(data[pos]);
                    pos += 1;
                }
            }
        }
        (out, pos)
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};

    use super::*;

    const SECRET: &[u8] = b"sk-live/4\"eC39+HqLyj WDarjtT1zdp7dc";

    fn scrubbed(secret: &[u8], value: &[u8]) -> Option<String> {
        Needles::new(&[secret]).scrub_value(value).map(|out| String::from_utf8_lossy(&out).into_owned())
    }

    fn gone(secret: &[u8], value: &str) {
        let all = [b"a: ", value.as_bytes(), b", b"].concat();
        assert_eq!(scrubbed(secret, &all).as_deref(), Some("a: [redacted by hallpass], b"), "{value}");
        assert_eq!(scrubbed(secret, value.as_bytes()).as_deref(), Some("[redacted by hallpass]"), "{value}");
    }

    #[test]
    fn text_in_any_mixture_of_encodings() {
        gone(SECRET, std::str::from_utf8(SECRET).unwrap());
        gone(SECRET, r#"sk-live\/4\"eC39+HqLyj WDarjtT1zdp7dc"#);
        gone(SECRET, "sk-live%2f4%22eC39%2BHqLyj+WDarjtT1zdp7dc");
        gone(SECRET, r"\u0073k%2dlive\u002F4\u0022eC39+HqLyj%20WDarjtT1zdp7d\u0063");
        gone("grüße-😀-паролъ".as_bytes(), r"gr\u00fc\u00DFe-\ud83D\uDe00-%D0%BFа\u0440олъ");
        gone(b"tab\tnew\nline\rfeed\x0cback\x08", r"tab\tnew\nline\rfeed\fback\b");
        gone(b"\xff\xfe\x00\x01binary", r"\u00ff%fe%00\u0001binary");
    }

    #[test]
    fn hex_in_any_case() {
        gone(b"\x01\xabsecret\xff", "01aB736563726574Ff");
    }

    #[test]
    fn base64_at_each_offset_with_its_boundary_characters() {
        for (before, after) in [("", ""), ("a", "b"), ("ab", "c"), ("user:", ""), ("admin:", "!"), ("x", "yz")] {
            let plain = [before.as_bytes(), SECRET, after.as_bytes()].concat();
            for text in [BASE64_STANDARD.encode(&plain), BASE64_URL_SAFE_NO_PAD.encode(&plain)] {
                let shown = scrubbed(SECRET, text.as_bytes()).expect("found");
                let (head, tail) = shown.split_once("[redacted by hallpass]").expect("redacted");
                assert!(head.len() * 6 <= before.len() * 8, "{shown}");
                assert!(tail.trim_end_matches('=').len() * 6 / 8 <= after.len(), "{shown}");
            }
        }
        gone(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", r"//_%2F\/\u002f%5f__\u005F//");
    }

    #[test]
    fn leaves_other_texts_alone() {
        for value in ["", "sk-live", "sk-live/4\"eC39+HqLyj WDarjtT1zdp7d", "%", "\\", "\\u00", "c2stbGl2ZS"] {
            assert_eq!(scrubbed(SECRET, value.as_bytes()), None, "{value}");
        }
        // Nobody escapes the digits of hex.
        for value in ["7365637265%3742d31", r"7365637265\u003742d31", "73656372657%342d31"] {
            assert_eq!(scrubbed(b"secret-1", value.as_bytes()), None, "{value}");
        }
        gone(b"secret-1", "7365637265742d31");
        // A plus is a space only as it is.
        gone(b"secret 1", "secret+1");
        assert_eq!(scrubbed(b"secret 1", b"secret%2B1"), None);
        assert!(Needles::new(&[b"", b""]).is_empty());
        assert_eq!(Needles::new(&[]).scrub_value(b"anything"), None);
    }

    #[test]
    fn a_secret_may_begin_with_an_escape_or_with_what_has_a_short_one() {
        gone(b"%41-secret", "%41-secret");
        gone(b"%41-secret", "%2541-secret");
        gone(br"\u0041-secret", r"\u0041-secret");
        gone(b"\nline-secret", r"\nline-secret");
        gone(b"\x01", "\x01");
        assert_eq!(scrubbed(b"%41-secret", b"A-secret"), None);
    }

    #[test]
    fn names_are_searched_in_any_case() {
        let needles = Needles::new(&[b"Sk-4eC39", b"other-secret"]);
        for name in ["sk-4ec39", "x-sk-4ec39-y", "x-OTHER-secret", "x-%53k-4ec39", "536b2d3465433339", "x-u2stngvdmzk"]
        {
            assert!(needles.in_name(name.as_bytes()), "{name}");
        }
        for name in ["", "content-type", "sk-4ec3", "x-k-4ec39"] {
            assert!(!needles.in_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn several_secrets_and_several_places() {
        let needles = Needles::new(&[b"first-secret", b"", b"first-secret-longer"]);
        let out = needles.scrub_value(b"first-secretfirst-secret-longer 66697273742d736563726574.").unwrap();
        assert_eq!(out, [REDACTED, REDACTED, b" ", REDACTED, b"."].concat());
    }

    #[test]
    fn ambiguous_secrets_are_found_and_cost_no_more_than_the_budget() {
        gone(br"50%25%25\\\\u005c", r"50%25%25\\\\u005c");
        gone(br"50%25%25\\\\u005c", r"50%2525%2525\\\\\\\\u005c");
        // The upstream knows the secret and answers with what has the most readings.
        let secret = b"%25".repeat(60);
        let needles = Needles::new(&[&secret]);
        let value = b"%25".repeat(20_000);
        let _ = needles.scrub_value(&value);
        assert_eq!(scrubbed(&secret, &secret).as_deref(), Some("[redacted by hallpass]"));
        // What is left of the budget does not decide what is left of the secret.
        for backslashes in [40, 70, 74, 80, 100, 150] {
            let secret = [&[b'\\'; 150][..backslashes], b"the-real-4eC39HqLyj"].concat();
            assert_eq!(scrubbed(&secret, &secret).as_deref(), Some("[redacted by hallpass]"), "{backslashes}");
        }
    }

    #[test]
    fn what_is_shorter_than_the_secret_is_none_whatever_follows_on_the_next_line() {
        let secret = [b'\\'; 101];
        let short = [&[b'\\'; 99][..], b"\n"].concat();
        assert_eq!(scrubbed(&secret, &short), None);
        assert_eq!(scrubbed(&secret, &[&short[..], &[b'.'; 50]].concat()), None);
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", Needles::new(&[SECRET])), "Needles(redacted)");
    }
}
