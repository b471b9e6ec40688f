//! Making and reading the links of the chain.

use std::io::Write as _;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use crate::model::{AuditRow, Event, Head};
use crate::world::Millis;

/// What every record begins with.
#[derive(Debug, PartialEq, Eq, Deserialize)]
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

/// What a record begins with; `None` if it is none. Records as [`append`] writes them are read by their front alone: the
/// hash says that the rest is what was written, so millions of them need not be parsed to be verified.
pub(super) fn link(body: &str) -> Option<Link<'_>> {
    front(body).or_else(|| serde_json::from_str(body).ok())
}

fn front(body: &str) -> Option<Link<'_>> {
    let (node, rest) = body.strip_prefix(r#"{"node":""#)?.split_once('"')?;
    let (seq, rest) = rest.strip_prefix(r#","seq":"#)?.split_once(',')?;
    let (at, rest) = rest.strip_prefix(r#""at":"#)?.split_once(',')?;
    let (prev, rest) = rest.strip_prefix(r#""prev":""#)?.split_at_checked(64)?;
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_plain(node) || !is_plain(prev) || !rest.starts_with("\",") {
        return None;
    }
    Some(Link { node: node.into(), seq: number(seq)?, at: number(at)?, prev: prev.into() })
}

/// A number in its one spelling.
fn number(text: &str) -> Option<i64> {
    let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if is_canonical { text.parse().ok() } else { None }
}

/// SHA-256 of a record's text.
pub(super) fn hash(body: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, body.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventKind;

    #[test]
    fn a_record_as_it_is_written_is_known_by_its_front_and_reads_as_the_whole_does() {
        let head = Head { seq: 41, hash: [0xab; 32] };
        let body = append(&head, "node-1", 1_800_000_000_000, &Event::new(EventKind::Admin)).unwrap().body;
        let link = front(&body).unwrap();
        assert_eq!((&*link.node, link.seq, link.at, &*link.prev), ("node-1", 42, 1_800_000_000_000, &*"ab".repeat(32)));
        assert_eq!(Some(&link), serde_json::from_str(&body).ok().as_ref());
        assert_eq!(Some(link), super::link(&body));
        let first = append(&Head::EMPTY, "n", 0, &Event::new(EventKind::Admin)).unwrap().body;
        assert_eq!(front(&first), serde_json::from_str(&first).ok());
    }

    #[test]
    fn another_spelling_is_parsed_and_what_is_no_record_is_none() {
        let prev = "0".repeat(64);
        let with = |seq: &str, more: &str| format!(r#"{{"node":"n","seq":{seq},"at":7,"prev":"{prev}"{more}"#);
        for odd in [with("1", "}"), with("1", r#", "kind":"x"}"#), with("1", "}").replace("\"n\"", r#""\u006e""#)] {
            let link = link(&odd).unwrap();
            assert_eq!((&*link.node, link.seq, link.at), ("n", 1, 7), "{odd}");
        }
        for bad in ["01", "+1", "-0x1", "", "1.5", "9223372036854775808"] {
            assert_eq!(link(&with(bad, r#","kind":"x"}"#)), None, "{bad}");
        }
        for bad in ["", "{}", "null", r#"{"node":"n","seq":1,"at":7,"prev":"0"#, &with("1", "")] {
            assert_eq!(link(bad), None, "{bad}");
        }
        assert_eq!(link(&with("-1", r#","kind":"x"}"#)).unwrap().seq, -1, "for the walk to refuse");
        let short = format!(r#"{{"node":"n","seq":1,"at":7,"prev":"{}","kind":"x"}}"#, "0".repeat(63));
        assert_eq!(link(&short).unwrap().prev.len(), 63, "for the walk to refuse");
    }
}
