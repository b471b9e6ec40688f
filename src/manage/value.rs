//! Whether what an admin gives as a credential can be the key, and the key alone.
//!
//! White space at an end, quotes, a scheme word or a name in front come with copying and with shells. HTTP and the
//! upstream take most of it away: then the key works, and what the upstream knows is not what was stored. The search
//! covers that ([`known`]); here the admin is told, as a key that does not work is the more frequent end of it.

use crate::broker::MIN_REDACTABLE;
use crate::broker::scrub::{around, known};
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// No key of an API is longer; a file that was given by mistake is.
const MAX_VALUE: usize = 16 * 1024;

/// Words that stand in front of a key in `Authorization`, and in vendors' own headers.
const SCHEMES: [&str; 24] = [
    "api-key",
    "apikey",
    "apitoken",
    "auth",
    "aws4-hmac-sha256",
    "basic",
    "bearer",
    "bot",
    "client-id",
    "digest",
    "discogs",
    "dpop",
    "geniekey",
    "hawk",
    "hmac",
    "key",
    "mac",
    "negotiate",
    "ntlm",
    "oauth",
    "secret",
    "splunk",
    "ssws",
    "token",
];

/// Whether `value` may be stored. The messages say nothing of it but its length's order and what surrounds it.
pub(super) fn check_value(value: &SecretBytes, allow_short: bool, as_is: bool) -> Result<()> {
    let bytes = value.expose();
    if bytes.is_empty() {
        return Err(Error::invalid("value_empty", "the value is empty"));
    }
    if bytes.len() > MAX_VALUE {
        return Err(Error::too_large(
            "value_too_large",
            format!("the value is larger than {MAX_VALUE} bytes; was the wrong file given?"),
        ));
    }
    check_carried(bytes)?;
    if around::trim(bytes).is_empty() {
        return Err(Error::invalid("value_empty", "the value is white space and nothing else"));
    }
    if let Some((code, what)) = surplus(bytes).filter(|_| !as_is) {
        return Err(Error::invalid(
            code,
            format!("the value {what}; give the key alone, or insist with --as-is (in the API: as_is)"),
        ));
    }
    if !known::is_covered(bytes, MIN_REDACTABLE) {
        return Err(Error::invalid(
            "value_has_many_parts",
            "the value has so many parts that not all of them can be redacted from answers; give the key alone",
        ));
    }
    if !allow_short && bytes.len() < MIN_REDACTABLE {
        return Err(Error::invalid(
            "value_too_short",
            format!(
                "the value is shorter than {MIN_REDACTABLE} bytes, so it cannot be redacted from answers; use a longer key, or accept that with --allow-short"
            ),
        ));
    }
    if !allow_short && core(bytes).len() < MIN_REDACTABLE {
        return Err(Error::invalid(
            "value_too_short",
            format!(
                "the key in the value is shorter than {MIN_REDACTABLE} bytes without what surrounds it, so it cannot be redacted from answers; use a longer key, or accept that with --allow-short"
            ),
        ));
    }
    Ok(())
}

/// Refuses what no header can carry: there is nothing to insist on.
fn check_carried(bytes: &[u8]) -> Result<()> {
    let code = "value_has_control_characters";
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || bytes.contains(&0) {
        return Err(Error::invalid(
            code,
            "the value is UTF-16 or binary, it has control characters; write it as UTF-8 (in PowerShell: Out-File -Encoding utf8)",
        ));
    }
    let control = |byte: &u8| byte.is_ascii_control();
    if bytes.iter().any(control) {
        let text = match (bytes.first().is_some_and(control), bytes.last().is_some_and(control)) {
            (false, false) => "the value has line breaks or control characters inside, which no header can carry",
            _ => {
                "the value begins or ends with line breaks, tabs or other control characters, which no header can carry; \
                 give the key alone (one line break at the end of the input is dropped by 'credential put')"
            }
        };
        return Err(Error::invalid(code, text));
    }
    Ok(())
}

/// What the value has besides a key, if it looks like that: a code, and what to say.
fn surplus(bytes: &[u8]) -> Option<(&'static str, String)> {
    let trimmed = around::trim(bytes);
    if trimmed.len() < bytes.len() {
        let at_the_front = !bytes.starts_with(trimmed);
        let ends = if at_the_front { around::characters(bytes).next() } else { around::last_character(bytes) };
        let what = ends.map_or_else(String::new, |(one, _)| named(one));
        let begins = if at_the_front { "begins" } else { "ends" };
        return Some((
            "value_has_blank_ends",
            format!("{begins} with {what}, which HTTP or the upstream strips, so that another key would arrive"),
        ));
    }
    let hidden = around::characters(bytes).map(|(one, _)| one).find(|one| *one != ' ' && around::is_invisible(*one));
    if let Some(hidden) = hidden {
        return Some(("value_has_invisible_characters", format!("has {} inside, which no key has", named(hidden))));
    }
    if has_scheme(bytes) {
        return Some((
            "value_has_scheme",
            "begins with what looks like a scheme word, such as Bearer or Basic, which is the definition's matter \
             (inject: bearer, or prefix of inject: header)"
                .into(),
        ));
    }
    let quoted = around::characters(bytes).next().is_some_and(|(one, _)| around::is_quote(one))
        || around::last_character(bytes).is_some_and(|(one, _)| around::is_quote(one));
    if has_name(bytes) {
        return Some(("value_has_name", "begins with a name, as in NAME=key or Name: key".into()));
    }
    if around::before_remark(bytes).is_some_and(|word| word.len() >= MIN_REDACTABLE) {
        return Some(("value_has_remark", "has a remark behind a blank, as in 'key # of production'".into()));
    }
    if around::is_enclosed(bytes) {
        return Some(("value_has_brackets", "is in brackets, braces or stars".into()));
    }
    if quoted {
        return Some(("value_has_quotes", "begins or ends with a quote or an angle bracket".into()));
    }
    if !bytes.is_ascii() {
        return Some((
            "value_not_ascii",
            "has characters that are not ASCII, which upstreams read in different ways".into(),
        ));
    }
    None
}

/// What of the value is the key, once all is gone that [`surplus`] tells of.
fn core(mut bytes: &[u8]) -> &[u8] {
    loop {
        let next = around::trim(bytes);
        let next = if has_scheme(next) { around::without_first_word(next).unwrap_or(next) } else { next };
        let next = if has_name(next) { around::without_name(next).unwrap_or(next) } else { next };
        let next = around::unquote(next);
        if next.len() == bytes.len() {
            return bytes;
        }
        bytes = next;
    }
}

/// `Bearer …`, `Bearer: …`; or any one word of letters before something as long as a key.
fn has_scheme(bytes: &[u8]) -> bool {
    let Some(rest) = around::without_first_word(bytes) else { return false };
    let end = around::characters(bytes).take_while(|(one, _)| !around::is_invisible(*one)).map(|(_, part)| part.len());
    let word = bytes.get(..end.sum()).unwrap_or_default();
    let scheme = word.strip_suffix(b":").unwrap_or(word);
    let is_listed = SCHEMES.iter().any(|one| scheme.eq_ignore_ascii_case(one.as_bytes()));
    let of_letters = word.first().is_some_and(u8::is_ascii_uppercase)
        && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    is_listed || (of_letters && rest.len() >= 16 && !rest.contains(&b' '))
}

/// `NAME=…`, `Name: …`, and `Name:…` where the name is one of a header that carries a key.
fn has_name(bytes: &[u8]) -> bool {
    if around::without_name(bytes).is_some() {
        return true;
    }
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return false };
    let name = bytes.get(..colon).unwrap_or_default().to_ascii_lowercase();
    let ends =
        [&b"authorization"[..], b"key", b"token", b"secret", b"password", b"auth", b"cookie", b"bearer", b"basic"];
    name.iter().all(|byte| byte.is_ascii_alphabetic() || b"-_".contains(byte))
        && ends.iter().any(|end| name.ends_with(end))
        && colon + 1 < bytes.len()
}

/// The name of a character that nobody sees.
fn named(one: char) -> String {
    match one {
        ' ' => "a space".into(),
        '\u{feff}' => "a byte order mark".into(),
        '\u{a0}' => "a no-break space".into(),
        '\u{ad}' => "a soft hyphen".into(),
        '\u{200b}'..='\u{200f}' | '\u{2060}' => "a zero-width character".into(),
        other => format!("an invisible character (U+{:04X})", u32::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-live-abcdefghij";

    fn code(value: &[u8], as_is: bool) -> Option<&'static str> {
        check_value(&SecretBytes::new(value.to_vec()), false, as_is).err().map(|error| error.code)
    }

    #[test]
    fn what_holds_more_than_the_key_is_asked_about() {
        for (value, wanted) in [
            (format!("{KEY} "), "value_has_blank_ends"),
            (format!("  {KEY}"), "value_has_blank_ends"),
            (format!("\u{feff}{KEY}"), "value_has_blank_ends"),
            (format!("{KEY}\u{200b}"), "value_has_blank_ends"),
            (format!("{KEY}\u{a0}"), "value_has_blank_ends"),
            (format!("{KEY}\u{3000}"), "value_has_blank_ends"),
            (format!("\u{ad}{KEY}"), "value_has_blank_ends"),
            ("sk-live\u{200d}-abcdefghij".into(), "value_has_invisible_characters"),
            ("sk-live\u{a0}abcdefghij".into(), "value_has_invisible_characters"),
            ("sk-live-\u{ad}abcdefghij".into(), "value_has_invisible_characters"),
            (format!("Bearer {KEY}"), "value_has_scheme"),
            (format!("bearer   {KEY}"), "value_has_scheme"),
            (format!("Basic {KEY}"), "value_has_scheme"),
            (format!("token {KEY}"), "value_has_scheme"),
            (format!("Bearer: {KEY}"), "value_has_scheme"),
            (format!("GenieKey {KEY}"), "value_has_scheme"),
            (format!("Klaviyo-API-Key {KEY}"), "value_has_scheme"),
            (format!("Token token=\"{KEY}\""), "value_has_scheme"),
            (format!("\"{KEY}\""), "value_has_quotes"),
            (format!("'{KEY}'"), "value_has_quotes"),
            (format!("{KEY}'"), "value_has_quotes"),
            (format!("`{KEY}`"), "value_has_quotes"),
            (format!("<{KEY}>"), "value_has_quotes"),
            (format!("\u{201c}{KEY}\u{201d}"), "value_has_quotes"),
            (format!("KEY={KEY}"), "value_has_name"),
            (format!("export MY_KEY={KEY}"), "value_has_name"),
            (format!("export MY_KEY='{KEY}'"), "value_has_name"),
            (format!("X-Api-Key: {KEY}"), "value_has_name"),
            (format!("x-api-key:{KEY}"), "value_has_name"),
            (format!("Authorization:{KEY}"), "value_has_name"),
            (format!("\"api_key\": \"{KEY}\","), "value_has_name"),
            (format!("{KEY} # prod"), "value_has_remark"),
            (format!("{KEY}  (prod)"), "value_has_remark"),
            (format!("{KEY} // prod"), "value_has_remark"),
            (format!("{KEY} - prod"), "value_has_remark"),
            (format!("({KEY})"), "value_has_brackets"),
            (format!("[{KEY}]"), "value_has_brackets"),
            (format!("**{KEY}**"), "value_has_brackets"),
            (format!("{{\"api_key\":\"{KEY}\"}}"), "value_has_brackets"),
            (format!("{KEY}-\u{fc}"), "value_not_ascii"),
        ] {
            assert_eq!(code(value.as_bytes(), false), Some(wanted), "{value:?}");
            assert_eq!(code(value.as_bytes(), true), None, "{value:?}");
        }
        assert_eq!(code(b"\xa0sk-live-abcdefghij", false), Some("value_has_blank_ends"), "Latin-1");
        assert_eq!(code(b"schl\xfcssel-of-some-length", false), Some("value_not_ascii"), "Latin-1");
    }

    #[test]
    fn what_can_be_a_key_is_taken() {
        for value in [
            KEY,
            "AbCdefgh1234/+==",
            "AbCdefgh1234==",
            "123456:ABC-DEF1234ghIkl",
            "user:password-of-it",
            "correct horse battery staple",
            "abcd efgh ijkl mnop",
            "p\"ss'w<rd>=1&2",
            "https://hooks.example/services/T0/B0/x",
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
        ] {
            assert_eq!(code(value.as_bytes(), false), None, "{value}");
        }
    }

    #[test]
    fn what_no_header_carries_and_what_is_nothing_is_refused_even_as_it_is() {
        for value in ["a-key-of-it\n\n", "\ta-key-of-it", "a-key\r\nof-it", "a-key-of-it\0", "a-key-of-it\x7f"] {
            assert_eq!(code(value.as_bytes(), true), Some("value_has_control_characters"), "{value:?}");
        }
        assert_eq!(code(b"\xff\xfek\0e\0y\0", true), Some("value_has_control_characters"));
        let list = (0..70).map(|n| format!("key-{n:010}")).collect::<Vec<_>>().join(",");
        assert_eq!(code(list.as_bytes(), true), Some("value_has_many_parts"));
        for value in ["", "         ", "\u{feff}\u{a0}\u{200b}\u{3000}"] {
            assert_eq!(code(value.as_bytes(), true), Some("value_empty"), "{value:?}");
        }
    }

    #[test]
    fn a_key_is_too_short_without_what_surrounds_it() {
        for value in ["short      ", "Bearer short", "export KEY=short", "\"short12\"", "X-Api-Key: 'short'"] {
            assert_eq!(code(value.as_bytes(), true), Some("value_too_short"), "{value:?}");
            assert!(check_value(&SecretBytes::new(value.into()), true, true).is_ok(), "{value:?}");
        }
    }

    #[test]
    fn a_message_tells_nothing_of_the_value() {
        for value in
            ["canary-0123 ", "\u{feff}canary-0123", "Bearer canary-0123", "X-Key: canary-0123", "'canary-0123'"]
        {
            let error = check_value(&SecretBytes::new(value.into()), false, false).unwrap_err();
            assert!(!format!("{error:?}").contains("canary") && error.message.contains("--as-is"), "{error:?}");
        }
    }
}
