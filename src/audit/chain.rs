//! Making and reading the links of the chain.

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
    let event = serde_json::to_string(event)?;
    let rest = event.strip_prefix('{').unwrap_or(&event);
    let prev = HEXLOWER.encode(&head.hash);
    // `node` is [a-z0-9-] by configuration, so nothing in the front part needs escaping.
    let body = format!(r#"{{"node":"{node}","seq":{seq},"at":{at},"prev":"{prev}",{rest}"#);
    let hash = hash(&body);
    Ok(AuditRow { seq, body, hash })
}

/// SHA-256 of a record's text.
pub(super) fn hash(body: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, body.as_bytes()).as_ref());
    out
}
