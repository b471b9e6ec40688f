//! Under what an upstream can know a secret that was stored in another form.
//!
//! HTTP trims a header's value, a parser takes the scheme word, the quotes or the name in front away, a framework reads
//! Latin-1 where UTF-8 was sent. The upstream then accepts the key, and echoes what it made of it. A search for what was
//! stored would not find that echo: so each form that an upstream can make of a stored value is looked for as well.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use super::around::{
    before_remark, characters, is_invisible, trim, unquote, without_backslashes, without_end, without_first_word,
    without_name, without_punctuation,
};
use super::mark::Wide;

/// More parts than this are not made of one secret: each costs its share of every search.
const MOST_PARTS: usize = 64;

/// More forms than this are not made of them. Only parts with characters beyond ASCII have more than a few; those of the
/// stored value itself come first.
const MOST: usize = 160;

/// Readers of Basic credentials take padding or leave it.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// In which forms one of them is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// Text with its escapes, hex, base64.
    Anything,
    /// Hex digits of either case.
    Hex,
    /// Byte for byte: it is an encoding already.
    Itself,
    /// Byte for byte, as it is this encoding.
    Wide(Wide),
}

/// What an upstream can know, each at least as long as `shortest`; the stored value itself comes first. Wiped on drop.
pub(super) struct Known {
    shortest: usize,
    most: usize,
    all: Vec<(Zeroizing<Vec<u8>>, As)>,
    /// Whether a part had no place.
    cut: bool,
}

impl Known {
    pub(super) fn of(secret: &[u8], shortest: usize) -> Self {
        let mut known = Self { shortest, most: MOST_PARTS, all: Vec::with_capacity(1), cut: false };
        known.add(secret);
        // What is found is taken apart in its turn: `Authorization: Bearer "…"`. Each part is shorter, so this ends.
        let mut next = 0;
        while let Some((whole, of)) = known.all.get(next).cloned() {
            if of == As::Anything {
                known.take_apart(&whole);
            }
            next += 1;
        }
        known.most = MOST;
        for (one, of) in known.all.clone() {
            if of == As::Anything {
                if !one.is_ascii() {
                    known.recode(&one);
                }
                known.utf7(&one);
            }
        }
        known
    }

    /// Whether each part has a place: a list of many keys has more of them than are looked for.
    pub(super) fn is_whole(&self) -> bool {
        !self.cut
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], As)> {
        self.all.iter().map(|(one, of)| (one.as_slice(), *of))
    }

    fn add(&mut self, form: &[u8]) {
        self.push(form, As::Anything);
    }

    fn push(&mut self, form: &[u8], of: As) {
        let is_new = || self.all.iter().all(|(one, other)| (one.as_slice(), *other) != (form, of));
        if form.len() < self.shortest.max(1) || !is_new() {
            return;
        }
        if self.all.len() < self.most {
            self.all.push((Zeroizing::new(form.to_vec()), of));
        } else {
            self.cut |= self.most == MOST_PARTS;
        }
    }

    /// What a transport or a parser strips, splits or decodes.
    fn take_apart(&mut self, whole: &[u8]) {
        self.in_base64(whole);
        self.add(without_punctuation(whole));
        if is_one_word(whole) {
            self.digits(whole);
            return;
        }
        self.add(trim(whole));
        self.add(unquote(whole));
        if let Some(rest) = without_first_word(whole) {
            self.add(rest);
        }
        if let Some(rest) = without_name(whole) {
            self.add(rest);
        }
        self.halves(whole);
        self.userinfo(whole);
        self.add(before_remark(whole).unwrap_or_default());
        for word in whole.split(|byte| byte.is_ascii_whitespace() || b"()[]{}<>\"'`#|\\".contains(byte)) {
            self.word(word);
        }
        for part in whole.split(|byte| b",;&".contains(byte)).map(trim) {
            self.add(part);
            self.add(without_name(part).unwrap_or_default());
        }
        if whole.contains(&b'%') {
            let decoded: Zeroizing<Vec<u8>> = Zeroizing::new(percent_encoding::percent_decode(whole).collect());
            self.add(&decoded);
        }
        if whole.contains(&b'\\') {
            self.add(&without_backslashes(whole));
        }
        let (mut tight, mut collapsed) = (Zeroizing::new(Vec::new()), Zeroizing::new(Vec::new()));
        let mut after_blank = false;
        for (character, bytes) in characters(whole) {
            let blank = character.is_whitespace();
            if !is_invisible(character) {
                tight.extend_from_slice(bytes);
                collapsed.extend_from_slice(bytes);
            } else if blank && !after_blank {
                collapsed.push(b' ');
            }
            after_blank = blank;
        }
        self.add(trim(&collapsed));
        self.add(&tight);
    }

    /// The halves of `user:secret`: the second one, and the first where it can be the key itself, as in `sk_live_…:`.
    fn halves(&mut self, whole: &[u8]) {
        let Some(colon) = memchr::memchr(b':', whole) else { return };
        let (user, rest) = whole.split_at(colon);
        let secret = rest.get(1..).unwrap_or_default();
        self.add(trim(secret));
        if trim(secret).len() < self.shortest || (user.len() >= 16 && user.iter().any(u8::is_ascii_digit)) {
            self.add(trim(user));
        }
    }

    /// One of several words: the key in `KEY1 KEY2`, in `{"key":"KEY"}`. A shorter one may be a word of a passphrase, or a
    /// name: it is no secret by itself, and who guesses words one by one must not be told which are right.
    fn word(&mut self, word: &[u8]) {
        let word = without_punctuation(word);
        if word.len() >= 16 {
            self.add(word);
        }
    }

    /// What stands between `//` and `@` in a URL (RFC 3986 §3.2.1).
    fn userinfo(&mut self, whole: &[u8]) {
        let Some(start) = memchr::memmem::find(whole, b"://") else { return };
        let authority = whole.get(start.saturating_add(3)..).unwrap_or_default();
        let authority = authority.split(|byte| b"/?#".contains(byte)).next().unwrap_or_default();
        if let Some(at) = memchr::memrchr(b'@', authority) {
            self.add(authority.get(..at).unwrap_or_default());
        }
    }

    /// Base64 (RFC 4648): whoever decodes it knows the bytes, whoever encodes them again may take the other alphabet or
    /// leave the padding out. A ready-made `user:secret` is decoded by whoever checks it (RFC 7617).
    fn in_base64(&mut self, whole: &[u8]) {
        let unpadded = without_end(whole, |byte| byte == b'=');
        let is_base64 = unpadded.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte));
        if is_base64 && unpadded.iter().any(|byte| b"+/".contains(byte)) {
            let other = |byte: &u8| match *byte {
                b'+' => b'-',
                b'/' => b'_',
                byte => byte,
            };
            self.add(&Zeroizing::new(unpadded.iter().map(other).collect::<Vec<u8>>()));
            self.add(unpadded);
        }
        let Ok(bytes) = STANDARD.decode(whole).or_else(|_| URL_SAFE.decode(whole)).map(Zeroizing::new) else { return };
        // Text by chance is rarer than one key in a million, from 12 characters on.
        let is_text = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
        let is_pair = bytes.contains(&b':') && !bytes.iter().any(u8::is_ascii_control);
        if is_pair || (is_text && bytes.len() >= 12) {
            self.add(&bytes);
        }
        // Letters and digits alone are a key of their own far more often than an encoding.
        if whole.iter().any(|byte| b"+/=".contains(byte)) {
            self.push(&bytes, As::Hex);
        }
    }

    /// A key of hex digits, or a UUID: some parse it and write it in their own case, or without the hyphens.
    fn digits(&mut self, whole: &[u8]) {
        let digits = || whole.iter().filter(|byte| **byte != b'-');
        if digits().count() < 16 || !digits().all(u8::is_ascii_hexdigit) {
            return;
        }
        let plain: Zeroizing<Vec<u8>> =
            Zeroizing::new(digits().copied().map(|byte| byte.to_ascii_lowercase()).collect());
        if let Ok(bytes) = data_encoding::HEXLOWER.decode(&plain).map(Zeroizing::new) {
            self.push(&bytes, As::Hex);
        }
        if plain.len() < whole.len() {
            self.add(&Zeroizing::new(whole.to_ascii_lowercase()));
            self.add(&Zeroizing::new(whole.to_ascii_uppercase()));
        }
    }

    /// What is read as one character set and written as another.
    fn recode(&mut self, whole: &[u8]) {
        self.wide(whole);
        let windows = encoding_rs::WINDOWS_1252;
        let read_as_latin1: Zeroizing<String> = Zeroizing::new(whole.iter().map(|byte| char::from(*byte)).collect());
        self.add(read_as_latin1.as_bytes());
        self.add(&Zeroizing::new(windows.decode_without_bom_handling(whole).0.into_owned().into_bytes()));
        let text = Zeroizing::new(String::from_utf8_lossy(whole).into_owned());
        self.add(text.as_bytes());
        for normal in [text.nfc().collect::<String>(), text.nfd().collect(), text.nfkc().collect()] {
            let normal = Zeroizing::new(normal);
            self.add(normal.as_bytes());
            let in_latin1 = |other: u8| -> Zeroizing<Vec<u8>> {
                Zeroizing::new(normal.chars().map(|one| u8::try_from(u32::from(one)).unwrap_or(other)).collect())
            };
            self.add(&in_latin1(b'?'));
            let encoded = Zeroizing::new(windows.encode(&normal).0.into_owned());
            self.add(&encoded);
        }
        let in_ascii = |instead: &[u8]| -> Zeroizing<Vec<u8>> {
            let one = |c: char| if c.is_ascii() { vec![c as u8] } else { instead.to_vec() };
            Zeroizing::new(text.chars().flat_map(one).collect())
        };
        self.add(&in_ascii(b"?"));
        self.add(&in_ascii(b""));
        let by_bytes: Zeroizing<Vec<u8>> =
            Zeroizing::new(whole.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect());
        self.add(&by_bytes);
        // Whatever became of the others: these are most of it.
        for run in whole.split(|byte| !byte.is_ascii()) {
            self.add(run);
        }
    }
}

impl Known {
    /// UTF-16 and UTF-32 of characters that Latin-1 does not have: those that it has are found without this.
    fn wide(&mut self, whole: &[u8]) {
        let Ok(text) = std::str::from_utf8(whole) else { return };
        if text.chars().all(|one| u32::from(one) < 0x100) {
            return;
        }
        for wide in Wide::ALL {
            let mut encoded = Zeroizing::new(Vec::with_capacity(text.len().saturating_mul(wide.bytes)));
            wide.encode(text, &mut encoded);
            self.push(&encoded, As::Wide(wide));
        }
    }

    /// UTF-7 (RFC 2152), where it is not the same as ASCII. Encoders differ in what they leave as it is, and in when they
    /// write the sign that ends a shifted sequence.
    fn utf7(&mut self, whole: &[u8]) {
        let Ok(text) = std::str::from_utf8(whole) else { return };
        if text.chars().all(|one| is_direct(one, false)) {
            return;
        }
        let differs_anyway = !text.chars().all(|one| is_direct(one, true));
        let encoders = [(true, false), (true, true), (false, false), (false, true)];
        for (more, always_ended) in encoders.into_iter().filter(|(more, _)| !more || differs_anyway) {
            let encoded = utf7(text, more, always_ended);
            if encoded.as_slice() != whole {
                self.push(&encoded, As::Itself);
            }
        }
    }
}

/// RFC 2152: set D, and set O with `more`.
fn is_direct(one: char, more: bool) -> bool {
    match one {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '\'' | '(' | ')' | ',' | '-' | '.' | '/' | ':' | '?' | ' ' => true,
        '!'..='}' => more && !matches!(one, '+' | '\\'),
        _ => false,
    }
}

fn utf7(text: &str, more: bool, always_ended: bool) -> Zeroizing<Vec<u8>> {
    // Reserved once: a vector that grows leaves unwiped copies behind. Of one character: +, 8 of base64 at most, -.
    let mut out = Zeroizing::new(Vec::with_capacity(text.len().saturating_mul(10)));
    let mut shifted = Zeroizing::new(Vec::with_capacity(text.len().saturating_mul(4)));
    for one in text.chars().map(Some).chain([None]) {
        match one {
            Some('+') if shifted.is_empty() => out.extend_from_slice(b"+-"),
            Some(one) if !is_direct(one, more) => {
                Wide { bytes: 2, big: true }.encode(one.encode_utf8(&mut [0; 4]), &mut shifted);
            }
            next => {
                if !shifted.is_empty() {
                    let base64 = Zeroizing::new(STANDARD_NO_PAD.encode(shifted.as_slice()));
                    out.push(b'+');
                    out.extend_from_slice(base64.as_bytes());
                    shifted.clear();
                    let ambiguous = |one: char| one.is_ascii_alphanumeric() || "/-".contains(one);
                    if next.map_or(always_ended, |one| always_ended || ambiguous(one)) {
                        out.push(b'-');
                    }
                }
                out.extend(next.map(|one| one as u8));
            }
        }
    }
    out
}

/// Whether nobody strips, splits or decodes anything of this.
fn is_one_word(whole: &[u8]) -> bool {
    whole.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte))
}

/// Whether the search looks for all that an upstream can make of `secret`: not of a list with many parts.
pub fn is_covered(secret: &[u8], shortest: usize) -> bool {
    Known::of(secret, shortest).is_whole()
}

#[cfg(test)]
mod tests;
