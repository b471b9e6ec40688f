//! What names and labels may look like.

/// The built-in scope that lets an agent introspect tokens (RFC 7662 §2.1: the caller must be authorised).
pub const INTROSPECT_SCOPE: &str = "hallpass:introspect";

/// A name of an agent, role, upstream or credential: `[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?`.
///
/// # Errors
/// One sentence that says what is wrong.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    let inner = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
    if bytes.len() <= 64 && inner && edge(bytes.first()) && edge(bytes.last()) {
        Ok(())
    } else {
        let shown: String = name.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
        Err(format!("'{shown}' is no {what} name; use 1 to 64 of a-z 0-9 . _ - with a letter or digit at both ends"))
    }
}

/// A free label that rides into the audit log (`task`, `purpose`): at most 200 characters, none of them control.
///
/// # Errors
/// One sentence that says what is wrong.
pub fn check_label(what: &str, label: &str) -> Result<(), String> {
    if label.chars().count() <= 200 && !label.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(format!("{what} takes at most 200 characters and no control characters"))
    }
}
