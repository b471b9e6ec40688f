//! What "redacted" means, written down a second time and as plainly as possible: no gate, no budget, no streaming.
//! Also the spellings of a secret, for bodies that hold one.

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};

const SHORT: [(u8, u8); 8] =
    [(b'"', b'"'), (b'\\', b'\\'), (b'/', b'/'), (b'b', 8), (b'f', 12), (b'n', 10), (b'r', 13), (b't', 9)];

/// Each secret in each of its forms: text, hex, base64 at three offsets.
pub struct Spec<'a>(pub &'a [Vec<u8>]);

impl Spec<'_> {
    /// The data with the leftmost, longest matches cut out: what is left between them.
    pub fn kept<'d>(&self, data: &'d [u8]) -> Vec<&'d [u8]> {
        let (mut kept, mut from, mut at) = (Vec::new(), 0, 0);
        while at < data.len() {
            let longest = self.0.iter().flat_map(|secret| (0..5).filter_map(|form| longest(form, secret, &data[at..])));
            match longest.max() {
                Some(len) => {
                    kept.push(&data[from..at]);
                    at += len;
                    from = at;
                }
                None => at += 1,
            }
        }
        kept.push(&data[from..]);
        kept
    }
}

/// How long the longest reading of a form at the beginning of `data` is.
fn longest(form: usize, secret: &[u8], data: &[u8]) -> Option<usize> {
    let mut end = None;
    let mut states = std::collections::BTreeSet::from([(0, 0)]);
    while let Some((at, index)) = states.pop_first() {
        let rest = &data[at..];
        match form {
            _ if index == elements(form, secret) => end = end.max(Some(at)),
            0 => states.extend(text(secret, index, rest).map(|(bytes, more)| (at + bytes, index + more))),
            1 => {
                let digit = secret[index / 2] >> (4 * (1 - index % 2)) & 15;
                if rest.first().is_some_and(|byte| char::from(*byte).to_digit(16) == Some(digit.into())) {
                    states.insert((at + 1, index + 1));
                }
            }
            offset => {
                let fits = |byte: u8| base64_fits(offset - 2, secret, index, byte);
                states.extend(readings(rest).filter(|(byte, _)| fits(*byte)).map(|(_, bytes)| (at + bytes, index + 1)));
            }
        }
    }
    end
}

fn elements(form: usize, secret: &[u8]) -> usize {
    match form {
        0 => secret.len(),
        1 => secret.len() * 2,
        // From the first character that holds a bit of the secret to the last one.
        offset => ((secret.len() + offset - 2) * 8).div_ceil(6) - (offset - 2),
    }
}

/// The bytes that the data may begin with, and how many bytes of data say so.
fn readings(data: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    let hex = |digits: Option<&[u8]>| {
        let digits = std::str::from_utf8(digits?).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let raw = data.first().map(|byte| (*byte, 1));
    let percent = data.strip_prefix(b"%").and_then(|rest| hex(rest.get(..2))).map(|byte| (byte as u8, 3));
    let unicode = data.strip_prefix(b"\\u").and_then(|rest| hex(rest.get(..4)));
    let unicode = unicode.and_then(|unit| u8::try_from(unit).ok()).map(|byte| (byte, 6));
    let short = data.strip_prefix(b"\\").and_then(<[u8]>::first);
    let short = short.and_then(|letter| SHORT.iter().find(|(escape, _)| escape == letter)).map(|(_, byte)| (*byte, 2));
    [raw, percent, unicode, short].into_iter().flatten()
}

/// How far one element of the text, or a whole character of it, can be read: (bytes, elements).
fn text(secret: &[u8], index: usize, data: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let wanted = secret[index];
    let plus = (wanted == b' ' && data.first() == Some(&b'+')).then_some((1, 1));
    // A character of several bytes as one `\uHHHH`, or as a surrogate pair.
    let character = (2..=4).find_map(|len| std::str::from_utf8(secret.get(index..index + len)?).ok());
    let character = character.filter(|text| text.chars().count() == 1);
    let wide = character.and_then(|text| {
        let written: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let same = data.get(..written.len())?.eq_ignore_ascii_case(written.as_bytes());
        let lower_u = data.get(..written.len())?.chunks(6).all(|unit| unit.starts_with(b"\\u"));
        (same && lower_u).then_some((written.len(), text.len()))
    });
    let single = readings(data).filter(move |(byte, _)| *byte == wanted).map(|(_, bytes)| (bytes, 1));
    single.chain(plus).chain(wide)
}

/// Whether a base64 character agrees with all bits of the secret that it holds.
fn base64_fits(offset: usize, secret: &[u8], index: usize, byte: u8) -> bool {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let byte = match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    let Some(value) = ALPHABET.iter().position(|one| *one == byte) else { return false };
    (0..6).all(|n| {
        let bit = (index + offset) * 6 + n;
        let Some(of) = (bit / 8).checked_sub(offset).and_then(|at| secret.get(at)) else { return true };
        (of >> (7 - bit % 8)) & 1 == (value >> (5 - n)) as u8 & 1
    })
}

/// How many ways of spelling [`spelled`] knows.
pub const SPELLINGS: u8 = 12;

/// A secret as common programs write it.
pub fn spelled(secret: &[u8], how: u8) -> Vec<u8> {
    let each = |f: &dyn Fn(u8) -> String| secret.iter().map(|byte| f(*byte)).collect::<String>().into_bytes();
    match how {
        0 => secret.to_vec(),
        1 => each(&|byte| format!("%{byte:02x}")),
        2 => each(&|byte| format!("%{byte:02X}")),
        3 => each(&|byte| format!("\\u{byte:04x}")),
        4 => match std::str::from_utf8(secret) {
            Ok(text) => {
                // Only the quotes around it: the secret may end in one of its own.
                let quoted = serde_json::to_string(text).unwrap();
                quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap().into()
            }
            Err(_) => secret.to_vec(),
        },
        5 => match std::str::from_utf8(secret) {
            Ok(text) => text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<String>().into_bytes(),
            Err(_) => secret.to_vec(),
        },
        6 => each(&|byte| format!("{byte:02x}")),
        7 => each(&|byte| format!("{byte:02X}")),
        8 => BASE64_STANDARD_NO_PAD.encode(secret).into_bytes(),
        9 => BASE64_URL_SAFE_NO_PAD.encode([b"u:", secret].concat()).into_bytes(),
        10 => BASE64_STANDARD_NO_PAD.encode([b"x", secret, b"y"].concat()).into_bytes(),
        _ => url::form_urlencoded::byte_serialize(secret).collect::<String>().into_bytes(),
    }
}
