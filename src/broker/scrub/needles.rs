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
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};

    use super::super::REDACTED;
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
    fn in_ebcdic_as_it_is() {
        for (secret, ebcdic) in [
            (&b"*k-Live_01"[..], &b"\x5c\x92\x60\xd3\x89\xa5\x85\x6d\xf0\xf1"[..]),
            (b"!k-Live[01", b"\x5a\x92\x60\xd3\x89\xa5\x85\xba\xf0\xf1"),
            (b"!k-Live[01", b"\x4f\x92\x60\xd3\x89\xa5\x85\x4a\xf0\xf1"),
            (b"k-Live-\xfc01", b"\x92\x60\xd3\x89\xa5\x85\x60\xdc\xf0\xf1"),
            // A page with Katakana.
            (b"$k-Live_01", b"\xe0\x73\x60\xd3\x71\xb5\x66\x6d\xf0\xf1"),
        ] {
            for before in [&b""[..], b"\x40\x40", &[0x4c; 300]] {
                let data = [before, ebcdic, &[0x6e; 200]].concat();
                let found = Needles::new(&[secret]).find(&data, 0, data.len()).expect("found");
                assert_eq!((found.range, found.mark), (before.len()..before.len() + 10, Mark::Ebcdic));
            }
        }
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
