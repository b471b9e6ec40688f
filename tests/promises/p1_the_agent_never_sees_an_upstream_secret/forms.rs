//! Every way to write a secret that the README says is found, spelled out without a look at the code that finds them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use data_encoding::{HEXLOWER, HEXUPPER};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

/// The forms of a secret, each with its name.
pub(super) fn forms(secret: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let json = serde_json::to_string(secret).unwrap().trim_matches('"').to_owned();
    let units = |upper: bool| -> String {
        let unit = |one: u16| if upper { format!("\\u{one:04X}") } else { format!("\\u{one:04x}") };
        secret.encode_utf16().map(unit).collect()
    };
    // `"` at the end of the secret would be trimmed with the quotes.
    assert!(!secret.ends_with('"') && !secret.starts_with('"'));
    let mut forms: Vec<(String, Vec<u8>)> = vec![
        ("as it is".into(), bytes.to_vec()),
        ("+ for a space".into(), secret.replace(' ', "+").into_bytes()),
        ("percent".into(), percent_encode(bytes, NON_ALPHANUMERIC).to_string().into_bytes()),
        ("percent, every byte, lower".into(), each(bytes, |byte| format!("%{byte:02x}"))),
        ("percent, every byte, UPPER".into(), each(bytes, |byte| format!("%{byte:02X}"))),
        ("form".into(), url::form_urlencoded::byte_serialize(bytes).collect::<String>().into_bytes()),
        ("JSON".into(), json.clone().into_bytes()),
        ("JSON, solidus escaped".into(), json.replace('/', "\\/").into_bytes()),
        ("JSON, every character, lower".into(), units(false).into_bytes()),
        ("JSON, every character, UPPER".into(), units(true).into_bytes()),
        ("a mixture".into(), mixture(bytes)),
        ("hex".into(), HEXLOWER.encode(bytes).into_bytes()),
        ("HEX".into(), HEXUPPER.encode(bytes).into_bytes()),
        ("hEx".into(), each(bytes, |byte| format!("{:x}{:X}", byte >> 4, byte & 15))),
    ];
    for before in ["", "u", "u:", "user:"] {
        let padded = format!("{before}{secret}");
        let more = format!("{before}{secret}!~");
        forms.push((format!("base64, {} before", before.len()), STANDARD.encode(&padded).into_bytes()));
        forms.push((
            format!("base64, {} before, more behind", before.len()),
            STANDARD_NO_PAD.encode(&more).into_bytes(),
        ));
        forms.push((format!("base64url, {} before", before.len()), URL_SAFE_NO_PAD.encode(&padded).into_bytes()));
        forms.push((format!("base64url, {} before, more behind", before.len()), URL_SAFE.encode(&more).into_bytes()));
    }
    let base64 = STANDARD.encode(format!("u{secret}"));
    forms
        .push(("base64 in a URL".into(), percent_encode(base64.as_bytes(), NON_ALPHANUMERIC).to_string().into_bytes()));
    forms.push(("base64 in JSON".into(), base64.replace('/', "\\/").into_bytes()));
    forms
}

fn each(bytes: &[u8], form: impl Fn(u8) -> String) -> Vec<u8> {
    bytes.iter().map(|byte| form(*byte)).collect::<String>().into_bytes()
}

/// Raw, percent-encoded and JSON-escaped characters by turns.
fn mixture(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, byte) in bytes.iter().enumerate() {
        match (n % 3, byte) {
            (0, _) => out.push(*byte),
            (1, 0..=0x7f) => out.extend(format!("\\u{byte:04x}").bytes()),
            _ => out.extend(format!("%{byte:02X}").bytes()),
        }
    }
    out
}
