//! Whether an answer can be searched in the character set that it says it is in.
//!
//! The search looks for ASCII, and for UTF-16, UTF-32 and EBCDIC, in every body, whatever it is called. What says that it
//! is in yet another set, in which ASCII looks otherwise (UTF-7, ISO-2022-KR, HZ), is refused, and so is a name that
//! nobody here knows: a client may know it. Names of supersets of ASCII pass.

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};

/// Supersets of ASCII that the Encoding Standard does not know, and what is written where a name should be: no client
/// has a decoder of that name, so it takes the text for a superset of ASCII. Letters and digits only.
const SUPERSETS: [&str; 76] = [
    "7bit",
    "8bit",
    "ansi",
    "armscii8",
    "big5hkscs2004",
    "binary",
    "cesu8",
    "cp1006",
    "cp1125",
    "cp1361",
    "cp437",
    "cp65001",
    "cp720",
    "cp737",
    "cp775",
    "cp850",
    "cp852",
    "cp855",
    "cp856",
    "cp857",
    "cp858",
    "cp860",
    "cp861",
    "cp862",
    "cp863",
    "cp864",
    "cp865",
    "cp866",
    "cp869",
    "cp874",
    "cp922",
    "cp932",
    "cp936",
    "cp943",
    "cp949",
    "cp950",
    "default",
    "eucjis2004",
    "euctw",
    "gb2312",
    "geostd8",
    "hproman8",
    "ibm437",
    "ibm737",
    "ibm775",
    "ibm850",
    "ibm852",
    "ibm855",
    "ibm857",
    "ibm858",
    "ibm860",
    "ibm861",
    "ibm862",
    "ibm863",
    "ibm864",
    "ibm865",
    "ibm869",
    "ibm943",
    "johab",
    "koi8t",
    "maccentraleurope",
    "macgreek",
    "maciceland",
    "macroman",
    "macturkish",
    "ms932",
    "ms936",
    "none",
    "null",
    "ptcp154",
    "rk1048",
    "roman8",
    "undefined",
    "unknown",
    "utf8mb3",
    "utf8mb4",
];

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
        || plain.starts_with("utf8") && plain.get(4..).is_some_and(|rest| ["bom", "n", "sig"].contains(&rest));
    is_wide || is_superset
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
mod tests {
    use super::*;

    #[test]
    fn supersets_of_ascii_and_what_is_searched_pass() {
        assert!(SUPERSETS.is_sorted());
        for label in [
            "",
            "utf-8",
            "UTF8",
            "utf_8",
            "us-ascii",
            "iso-8859-1",
            "ISO_8859-15",
            "latin1",
            "windows-1252",
            "cp1252",
            "Shift_JIS",
            "gb18030",
            "big5",
            "euc-kr",
            "koi8-r",
            "cp437",
            "IBM850",
            "utf8mb4",
            "UTF-8-sig",
            "none",
            "binary",
            "x-cp932",
            "utf-16",
            "utf-16le",
            "UTF-16BE",
            "x-utf-16le",
            "ISO-10646-UCS-2",
            "ucs-2",
            "UCS2",
            "csUnicode",
            "unicode",
            "UnicodeFFFE",
            "unicodeLittle",
            "x-UTF-16LE-BOM",
            "utf-32",
            "UTF_32BE",
            "utf32le",
            "UCS-4",
            "ISO-10646-UCS-4",
            "csUCS4",
            "x-utf-32be-bom",
            "utf16_le",
        ] {
            assert!(is_searched(label.as_bytes()), "{label}");
        }
    }

    #[test]
    fn what_is_neither_or_unknown_is_not_searched() {
        for label in [
            "utf-7",
            "UTF7",
            "unicode-1-1-utf-7",
            "csUnicode11UTF7",
            "utf-7-imap",
            "x-imap-modified-utf-7",
            "ibm037",
            "cp037",
            "IBM-1047",
            "cp500",
            "ebcdic-cp-us",
            "x-ebcdic",
            "utf-ebcdic",
            "iso-2022-kr",
            "iso-2022-cn",
            "iso-2022-jp",
            "hz-gb-2312",
            "scsu",
            "bocu-1",
            "replacement",
            "punycode",
            "utf-1",
            "invariant",
            "rot13",
            "no-such-set",
            "?",
            "-",
            "utf-8\u{fc}",
            "iso-10646-j-1",
            "iso646-de",
        ] {
            assert!(!is_searched(label.as_bytes()), "{label}");
        }
    }

    #[test]
    fn labels_are_found_however_they_are_written() {
        for (value, wanted) in [
            ("text/plain", &[][..]),
            ("text/plain; charset=utf-16", &["utf-16"]),
            ("text/plain;charset = utf-16 ;x=y", &["utf-16"]),
            ("text/plain; Charset\t=\t\"UTF-16\"", &["utf-16"]),
            ("text/plain; charset='utf-16'", &["utf-16"]),
            ("text/plain; charset=\"utf\\-16\"", &["utf-16"]),
            ("text/plain; charset=utf-8; charset=utf-7", &["utf-8", "utf-7"]),
            ("text/plain; charset=utf-8, text/html; charset=utf-7", &["utf-8", "utf-7"]),
            ("text/plain; charset*=us-ascii'en'utf-7", &["utf-7"]),
            ("text/plain; charset*=''utf%2D7", &["utf-7"]),
            ("text/plain; charset*0=utf-; charset*1=7", &["utf-", "7"]),
            ("text/plain; x=\"charset=utf-7\"", &["utf-7\""]),
            ("text/plain; charset", &[]),
            ("charset=", &[""]),
        ] {
            let found: Vec<_> =
                labels(value.as_bytes()).into_iter().map(|one| String::from_utf8(one).unwrap()).collect();
            assert_eq!(found, wanted, "{value}");
        }
    }
}
