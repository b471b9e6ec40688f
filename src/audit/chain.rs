//! Making and reading the links of the chain.

use std::io::Write as _;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use crate::model::{AuditRow, Event, Head};
use crate::world::Millis;

/// What every record begins with.
#[derive(Debug, Deserialize)]
pub struct Link<'a> {
    /// Who wrote it.
    #[serde(borrow)]
    pub node: std::borrow::Cow<'a, str>,
    /// Its number.
    pub seq: i64,
    /// When, unix milliseconds.
    pub at: Millis,
    /// The hash of the record before it, hex.
    #[serde(borrow)]
    pub prev: std::borrow::Cow<'a, str>,
}

/// The record after `head`: its text, and SHA-256 over exactly that text.
///
/// # Errors
/// Only if the event cannot be written as JSON.
pub fn append(head: &Head, node: &str, at: Millis, event: &Event) -> Result<AuditRow, serde_json::Error> {
    let seq = head.seq.saturating_add(1);
    let mut prev = [0; 64];
    HEXLOWER.encode_mut(&head.hash, &mut prev);
    let prev = std::str::from_utf8(&prev).unwrap_or_default();
    // One buffer, as large as most records are: a busy broker makes tens of thousands of them a second.
    let mut body = Vec::with_capacity(1024);
    // `node` is [a-z0-9-] by configuration, so nothing in the front part needs escaping.
    write!(body, r#"{{"node":"{node}","seq":{seq},"at":{at},"prev":"{prev}""#).map_err(serde_json::Error::io)?;
    let front = body.len();
    serde_json::to_writer(&mut body, event)?;
    // The event goes on where the front part ended: its opening brace becomes the comma.
    if let Some(brace) = body.get_mut(front) {
        *brace = b',';
    }
    let body = String::from_utf8(body).map_err(serde::de::Error::custom)?;
    let hash = hash(&body);
    Ok(AuditRow { seq, body, hash })
}

/// SHA-256 of a record's text.
pub(super) fn hash(body: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, body.as_bytes()).as_ref());
    out
}
