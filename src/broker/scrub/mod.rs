//! What an upstream answers is scrubbed of the secrets that were put into the request.
//!
//! An agent that never holds a key must not learn it from an echo: a debugging endpoint that mirrors request
//! headers, an error message that quotes the key, a redirect with the key in its query. So every header value and
//! every body passes [`Needles`] (what to look for) and [`Scrubber`] (a streaming pass over a body), and a body that
//! is compressed is decompressed first ([`plan`], [`decoded`]): what cannot be read cannot be redacted.
//!
//! A secret is found in three forms, each also where the text is in UTF-16 or UTF-32 ([`spaced`]), and as it is in EBCDIC:
//! 1. as **text**, where each byte is raw, `%HH` (a space also `+`) or JSON-escaped, in any mixture,
//! 2. as **hex**, in any mixture of cases,
//! 3. as **base64** at each of the three offsets, of either alphabet, where each character may again be raw, `%HH` or
//!    JSON-escaped. Boundary characters that hold some bits of the secret are redacted too.
//!
//! This stops accidents and mirrors, not an upstream that conspires with the agent: whoever knows the secret can
//! always write it in a way that no scanner knows. Therefore an allowed upstream remains a trusted one, and the only
//! thing a hostile one must not achieve here is to exhaust memory or time.

pub mod around;
pub mod charset;
mod decode;
mod ebcdic;
mod form;
pub mod known;
mod mark;
mod needles;
#[cfg(test)]
mod reference;
mod sieve;
mod spaced;
mod stream;

pub use decode::{Coding, DecodedBody, MAX_CODINGS, UnsupportedCoding, decoded, plan};
pub use needles::Needles;
pub use stream::Scrubber;

/// What stands where a secret stood.
pub const REDACTED: &[u8] = b"[redacted by hallpass]";

/// The short escapes of JSON: what follows the backslash, and what it means.
const SHORT: [(u8, u8); 8] = [
    (b'"', b'"'),
    (b'\\', b'\\'),
    (b'/', b'/'),
    (b'b', 0x08),
    (b'f', 0x0c),
    (b'n', b'\n'),
    (b'r', b'\r'),
    (b't', b'\t'),
];

const SEXTETS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The forms of a secret, each a sequence of elements.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Hex,
    /// With so many bytes before the secret in its group of three.
    Base64(u8),
    /// Byte for byte.
    Raw,
    /// Each byte as a character of Latin-1 in one of the code pages of EBCDIC.
    Ebcdic,
}

impl Kind {
    /// Whether no data can be read as this form in more than one way: it has no byte of its own that begins an escape,
    /// and no character of several bytes, which has escapes of its own.
    fn is_unambiguous(self, secret: &[u8]) -> bool {
        !matches!(self, Self::Text) || (secret.is_ascii() && memchr::memchr2(b'%', b'\\', secret).is_none())
    }

    /// Whether no serializer escapes a character of this form.
    fn is_never_escaped(self) -> bool {
        matches!(self, Self::Hex | Self::Raw | Self::Ebcdic)
    }

    /// The element at `index`, computed from the secret.
    fn element(self, secret: &[u8], index: usize) -> Option<Element> {
        match self {
            Self::Text | Self::Raw => secret.get(index).copied().map(Element::Byte),
            Self::Ebcdic => secret.get(index).map(|byte| Element::OneOf(ebcdic::bytes_of(*byte))),
            Self::Hex => {
                let byte = *secret.get(index / 2)?;
                Some(Element::Nibble(if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 }))
            }
            Self::Base64(offset) => {
                // The first character with bits of the secret is the one at the same index as its first byte.
                let offset = usize::from(offset);
                let bit = index.checked_add(offset)?.checked_mul(6)?;
                let pair = |at: usize| match at.checked_sub(offset).and_then(|at| secret.get(at)) {
                    Some(byte) => (u16::from(*byte), 0xff_u16),
                    None => (0, 0),
                };
                let ((high, high_mask), (low, low_mask)) = (pair(bit / 8), pair(bit / 8 + 1));
                let cut = |high: u16, low: u16| (((high << 8 | low) >> (10 - bit % 8)) & 63) as u8;
                let mask = cut(high_mask, low_mask);
                (mask != 0).then(|| Element::Sextet { value: cut(high, low), mask })
            }
        }
    }
}

/// What one step of a form accepts: a set of bytes, each of which may be encoded.
#[derive(Clone, Copy)]
enum Element {
    Byte(u8),
    /// A hex digit of either case.
    Nibble(u8),
    /// A base64 character of either alphabet; only the bits under the mask are the secret's.
    Sextet {
        value: u8,
        mask: u8,
    },
    /// What stands for a character in one code page or another.
    OneOf(&'static [u8]),
}

/// How the data can be read as an element. Up to three readings, each (bytes, elements).
#[derive(Default)]
struct Moves {
    raw: bool,
    escaped: Option<(usize, usize)>,
    /// An escaped character of which this element is the first of several bytes.
    wide: Option<(usize, usize)>,
}

impl Element {
    fn accepts(self, byte: u8) -> bool {
        self.differs(byte) == 0
    }

    /// 0 if `byte` is accepted. Takes as long if not.
    fn differs(self, byte: u8) -> u8 {
        match self {
            Self::Byte(wanted) => wanted ^ byte,
            Self::Nibble(wanted) => nibble(byte).map_or(u8::MAX, |digit| digit ^ wanted),
            Self::Sextet { value, mask } => sextet(byte).map_or(u8::MAX, |bits| (bits ^ value) & mask),
            Self::OneOf(these) => these.iter().fold(u8::MAX, |least, one| least.min(one ^ byte)),
        }
    }

    /// 0 if this is the space that `+` stands for in forms and queries.
    fn differs_from_raw_plus(self) -> u8 {
        match self {
            Self::Byte(wanted) => wanted ^ b' ',
            Self::Nibble(_) | Self::Sextet { .. } | Self::OneOf(_) => u8::MAX,
        }
    }

    /// Calls `f` with each accepted byte.
    fn each(self, mut f: impl FnMut(u8)) {
        match self {
            Self::Byte(byte) => f(byte),
            Self::OneOf(these) => these.iter().copied().for_each(f),
            Self::Nibble(value @ 0..=9) => f(b'0' | value),
            Self::Nibble(value) => {
                [b'a', b'A'].map(|ten| ten.wrapping_add(value).wrapping_sub(10)).into_iter().for_each(f)
            }
            Self::Sextet { value, mask } => {
                // With each value of the bits that are not the secret's.
                let (wanted, free) = (value & mask, !mask & 63);
                let mut bits = free;
                loop {
                    SEXTETS.get(usize::from(wanted | bits)).copied().into_iter().for_each(&mut f);
                    match wanted | bits {
                        62 => f(b'-'),
                        63 => f(b'_'),
                        _ => {}
                    }
                    if bits == 0 {
                        break;
                    }
                    bits = bits.wrapping_sub(1) & free;
                }
            }
        }
    }

    /// Calls `f` with each byte that stands for this element unescaped.
    fn each_raw(self, mut f: impl FnMut(u8)) {
        if matches!(self, Self::Byte(b' ')) {
            f(b'+');
        }
        self.each(f);
    }

    /// Whether `byte` stands for this element unescaped.
    fn raw(self, byte: u8) -> bool {
        self.accepts(byte) || (byte == b'+' && matches!(self, Self::Byte(b' '))) // `+`: as forms and queries have it
    }

    /// All readings of the beginning of `data`; `secret` are the bytes from this element on, if it is one of a text.
    fn moves(self, secret: &[u8], data: &[u8]) -> Moves {
        let raw = data.first().is_some_and(|byte| self.raw(*byte));
        // Where there is no escape this is the raw reading once more.
        let escape = unit(data).filter(|(_, meant)| self.accepts(*meant));
        let wide = match (self, data) {
            (Self::Byte(0xc2..), [b'\\', rest @ ..]) => first_char(secret).and_then(|wide| wide_escape(wide, rest)),
            _ => None,
        };
        Moves { raw, escaped: escape.map(|(bytes, _)| (bytes, 1)), wide }
    }
}

/// The first character of `data`, raw or escaped: how many bytes it takes up, and what they mean. Where an escape means
/// no byte, its first one stands for itself.
fn unit(data: &[u8]) -> Option<(usize, u8)> {
    let escape = match data {
        [b'%', high, low, ..] => nibble(*high).zip(nibble(*low)).map(|(high, low)| (3, high << 4 | low)),
        [b'\\', b'u', digits @ ..] => Digits::of(digits).byte().map(|byte| (6, byte)),
        [b'\\', short, ..] => SHORT.iter().find(|(escape, _)| escape == short).map(|(_, byte)| (2, *byte)),
        _ => None,
    };
    escape.or(data.first().map(|byte| (1, *byte)))
}

/// Reads `wide` as one `\uHHHH` or, beyond the Basic Multilingual Plane, a surrogate pair of them (RFC 8259, § 7): how
/// many bytes and elements that is. The first backslash is already read.
fn wide_escape(wide: char, mut rest: &[u8]) -> Option<(usize, usize)> {
    let mut units = [0; 2];
    let mut read = 0_usize;
    for unit in wide.encode_utf16(&mut units) {
        if read != 0 {
            rest = rest.strip_prefix(b"\\")?;
        }
        let digits = Digits::of(rest.strip_prefix(b"u")?);
        if digits.count != 4 || digits.value != *unit {
            return None;
        }
        rest = rest.get(5..)?;
        read = read.saturating_add(6);
    }
    Some((read, wide.len_utf8()))
}

/// Up to four hex digits; `count` is less only when the data ends, and 5 when something else stands there.
struct Digits {
    value: u16,
    count: u8,
}

impl Digits {
    fn of(data: &[u8]) -> Self {
        let mut digits = Self { value: 0, count: 0 };
        for byte in data.iter().take(4) {
            let Some(digit) = nibble(*byte) else {
                return Self { value: 0xffff, count: 5 };
            };
            digits.value = digits.value << 4 | u16::from(digit);
            digits.count = digits.count.saturating_add(1);
        }
        digits
    }

    /// The byte that four digits name.
    fn byte(&self) -> Option<u8> {
        u8::try_from(self.value).ok().filter(|_| self.count == 4)
    }
}

/// The character of several bytes that `bytes` begin with.
fn first_char(bytes: &[u8]) -> Option<char> {
    let len = match bytes.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    std::str::from_utf8(bytes.get(..len)?).ok()?.chars().next()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit & 15),
        b'a'..=b'f' | b'A'..=b'F' => Some((digit & 15).wrapping_add(9)),
        _ => None,
    }
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte.wrapping_sub(b'A')),
        b'a'..=b'z' => Some(byte.wrapping_sub(b'a').wrapping_add(26)),
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0').wrapping_add(52)),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}
