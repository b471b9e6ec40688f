//! Whether an answer can be searched in the character set that it says it is in.
//!
//! The search looks for ASCII, and for UTF-16, UTF-32 and EBCDIC, in every body, whatever it is called. What says that it
//! is in yet another set, in which ASCII looks otherwise (UTF-7, ISO-2022-KR, HZ), is refused, and so is a name that
//! nobody here knows: a client may know it. Names of supersets of ASCII pass.

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};

/// Supersets of ASCII that the Encoding Standard does not know, and what is written where a name should be: no client
/// has a decoder of that name, so it takes the text for a superset of ASCII. Letters and digits only.
const SUPERSETS: [&str; 68] = [
    "7bit",
    "8bit",
    "ansi",
    "armscii8",
    "ascii7bit",
    "ascii8bit",
    "big5hkscs2004",
    "big5uao",
    "binary",
    "cesu8",
    "default",
    "eucjis2004",
    "eucjp",
    "eucjpms",
    "euctw",
    "extendedascii",
    "gb12345",
    "gb2312",
    "geostd8",
    "hproman8",
    "iso8859",
    "johab",
    "koi8",
    "koi8t",
    "macarabic",
    "maccentraleurope",
    "maccroatian",
    "macgreek",
    "machebrew",
    "maciceland",
    "macicelandic",
    "macjapanese",
    "macroman",
    "macromania",
    "macromanian",
    "macthai",
    "macturkish",
    "macukraine",
    "none",
    "null",
    "ptcp154",
    "rk1048",
    "roman8",
    "sjisdocomo",
    "sjiskddi",
    "sjissoftbank",
    "tcvn",
    "tcvn5712",
    "u8",
    "undefined",
    "unknown",
    "utf",
    "utf88",
    "utf8auto",
    "utf8bom",
    "utf8docomo",
    "utf8emacs",
    "utf8hfs",
    "utf8kddi",
    "utf8mac",
    "utf8mb3",
    "utf8mb4",
    "utf8n",
    "utf8sig",
    "utf8softbank",
    "utf8strict",
    "utf8withsignature",
    "viscii",
];

/// Code pages that are supersets of ASCII, as Microsoft and IBM number them.
const PAGES: [u32; 51] = [
    437, 720, 737, 775, 850, 852, 855, 856, 857, 858, 860, 861, 862, 863, 864, 865, 866, 869, 874, 922, 932, 936, 943,
    949, 950, 1006, 1125, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258, 1361, 20127, 28591, 28592, 28593,
    28594, 28595, 28596, 28597, 28598, 28599, 28603, 28605, 51932, 65001,
];

/// What stands before the number of a code page.
const PAGE: [&str; 6] = ["windows", "win", "cp", "ms", "ibm", "ccsid"];

/// What Emacs writes behind a name, for the ends of lines.
const LINE_ENDS: [&[u8]; 3] = [b"-unix", b"-dos", b"-mac"];

/// Ways to say UTF-16 and UTF-32 that name neither.
const WIDE: [&str; 8] = [
    "csunicode",
    "unicode",
    "unicodebig",
    "unicodebigunmarked",
    "unicodefeff",
    "unicodefffe",
    "unicodelittle",
    "unicodelittleunmarked",
];

/// Whether a text with this label is one in which a secret is found.
pub fn is_searched(label: &[u8]) -> bool {
    let lower = label.to_ascii_lowercase();
    let label = of_locale(&lower);
    let ends = |end: &&[u8]| label.strip_suffix(*end).filter(|rest| !rest.is_empty());
    is_searched_by_name(label) || LINE_ENDS.iter().find_map(ends).is_some_and(is_searched_by_name)
}

/// Of `en_us.utf-8@euro`, a locale of POSIX, the name of the character set.
fn of_locale(lower: &[u8]) -> &[u8] {
    let Some(dot) = memchr::memchr(b'.', lower) else { return lower };
    let (locale, rest) = lower.split_at_checked(dot).unwrap_or_default();
    let (language, country) = match locale.split_at_checked(2) {
        Some((language, [b'_', country @ ..])) => (language, country),
        _ => (locale, &b""[..]),
    };
    let is_locale = [&b"c"[..], b"posix"].contains(&locale) || (language.len() == 2 && matches!(country.len(), 0 | 2));
    if !is_locale || !language.iter().chain(country).all(u8::is_ascii_alphabetic) {
        return lower;
    }
    let name = rest.get(1..).and_then(|name| name.split(|byte| *byte == b'@').next()).unwrap_or_default();
    if name.is_empty() { lower } else { name }
}

fn is_searched_by_name(label: &[u8]) -> bool {
    let is_known = |label: &[u8]| {
        Encoding::for_label(label)
            .map(|encoding| encoding.is_ascii_compatible() || encoding == UTF_16LE || encoding == UTF_16BE)
    };
    if let Some(searched) = is_known(label) {
        return searched;
    }
    // Whatever else is in a name, nobody here knows what it does to it.
    if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.: ()".contains(byte)) {
        return false;
    }
    let plain: String = label
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect();
    if let Some(searched) = is_known(plain.as_bytes()) {
        return searched;
    }
    let is_wide = ["utf16", "ucs2", "utf32", "ucs4"].iter().any(|name| plain.contains(name)) || WIDE.contains(&&*plain);
    let is_superset = label.is_empty()
        || SUPERSETS.binary_search(&&*plain).is_ok()
        || plain.strip_prefix("cs").or(plain.strip_prefix('x')).is_some_and(|rest| SUPERSETS.contains(&rest))
        || is_page(&plain)
        || is_iso_8859(&plain);
    is_wide || is_superset
}

/// `windows1252`, `IBM00858`, `x-windows-949`.
fn is_page(plain: &str) -> bool {
    let name = plain.strip_prefix("cs").or(plain.strip_prefix('x')).unwrap_or(plain);
    let number = PAGE.iter().find_map(|prefix| name.strip_prefix(prefix)).filter(|rest| !rest.is_empty());
    number.and_then(|number| number.parse().ok()).is_some_and(|number: u32| PAGES.contains(&number))
}

/// `ISO8859_16`, Java's `8859_1`. There is no part 12: nobody has a decoder for it.
fn is_iso_8859(plain: &str) -> bool {
    let part = plain.strip_prefix("iso").unwrap_or(plain).strip_prefix("8859");
    part.and_then(|part| part.parse().ok()).is_some_and(|part: u8| (1..=16).contains(&part))
}

/// Each label that somebody could read out of this `Content-Type`: as the HTML standard does it ("extracting a character
/// encoding from a meta element"), which finds what strict readers find and what lenient ones do; blanks around the `=`,
/// quotes and extended parameters (RFC 8187) included, and each `charset` if there are several.
pub fn labels(content_type: &[u8]) -> Vec<Vec<u8>> {
    let mut labels = Vec::new();
    let lower = content_type.to_ascii_lowercase();
    let mut rest = lower.as_slice();
    while let Some(at) = memchr::memmem::find(rest, b"charset") {
        rest = rest.get(at.saturating_add(7)..).unwrap_or_default();
        let mut value = rest;
        let is_extended = value.first() == Some(&b'*');
        while let Some((b'*' | b'0'..=b'9', more)) = value.split_first() {
            value = more;
        }
        let Some(value) = value.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start) else { continue };
        let label = match value.split_first() {
            Some((quote @ (b'"' | b'\''), quoted)) if !is_extended || *quote == b'"' => {
                quoted.split(|byte| byte == quote).next()
            }
            _ => value.split(|byte| byte.is_ascii_whitespace() || b";,".contains(byte)).next(),
        };
        let label = label.unwrap_or_default();
        // Of `UTF-8''label`, what is behind the language.
        let label = label.rsplit(|byte| is_extended && *byte == b'\'').next().unwrap_or_default();
        let label: Vec<u8> = percent_encoding::percent_decode(label).filter(|byte| *byte != b'\\').collect();
        labels.push(label.trim_ascii().to_vec());
    }
    labels
}

#[cfg(test)]
mod tests;
