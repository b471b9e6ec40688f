//! Audit segments: the records of one commit, in one row.
//!
//! records = for each record: its length (4 bytes, big-endian) ‖ its JSON, byte for byte as it was hashed.

use std::io;
use std::ops::Range;

use crate::world::Millis;

/// Bytes before each record.
const PREFIX: usize = 4;

/// The records of one commit, as they are stored. `hash` and `root` may have any length here: another than 32 bytes is an
/// edited row, for `audit verify` to name, and must not stop the reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first record.
    pub first: i64,
    /// The number of its last record.
    pub last: i64,
    /// When its first record was written.
    pub first_at: Millis,
    /// When its last record was written.
    pub last_at: Millis,
    /// The records, each behind its length.
    pub records: Vec<u8>,
    /// SHA-256 of the last record: the chain's hash at its end.
    pub hash: Vec<u8>,
    /// The Merkle root of the records (RFC 6962 §2.1).
    pub root: Vec<u8>,
}

impl Segment {
    /// The records in order. It ends early where the bytes are no segment, see [`Records::is_whole`].
    pub fn records(&self) -> Records<'_> {
        Records { left: &self.records }
    }
}

/// The records of a segment, one after the other.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    left: &'a [u8],
}

impl Records<'_> {
    /// After the last one: whether the bytes ended where a record did.
    pub fn is_whole(&self) -> bool {
        self.left.is_empty()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.left.split_first_chunk::<PREFIX>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (record, left) = rest.split_at_checked(length)?;
        self.left = left;
        Some(record)
    }
}

/// Writes one record behind those that are there: `write` appends its bytes, and its length is put before them. Gives the
/// place of the record.
///
/// # Errors
/// What `write` says, or a record of 4 GiB.
pub fn append_record(
    records: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<Range<usize>> {
    let at = records.len();
    records.extend_from_slice(&[0; PREFIX]);
    let start = records.len();
    write(records)?;
    let length = u32::try_from(records.len() - start).map_err(io::Error::other)?.to_be_bytes();
    if let Some(place) = records.get_mut(at..start) {
        place.copy_from_slice(&length);
    }
    Ok(start..records.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(records: Vec<u8>) -> Segment {
        Segment { first: 1, last: 1, first_at: 0, last_at: 0, records, hash: Vec::new(), root: Vec::new() }
    }

    #[test]
    fn records_come_back_as_they_were_put_in() {
        let mut bytes = Vec::new();
        for text in ["", "{}", "a longer one"] {
            let range = append_record(&mut bytes, |out| {
                out.extend_from_slice(text.as_bytes());
                Ok(())
            });
            assert_eq!(bytes[range.unwrap()], *text.as_bytes());
        }
        let segment = segment(bytes);
        let mut records = segment.records();
        assert_eq!(records.by_ref().collect::<Vec<_>>(), [&b""[..], b"{}", b"a longer one"]);
        assert!(records.is_whole());
    }

    #[test]
    fn bytes_that_are_no_segment_end_early_and_say_so() {
        for bytes in [&b"\0\0"[..], b"\0\0\0\x05abcd", b"\xff\xff\xff\xffabcd", b"\0\0\0\x01ab"] {
            let segment = segment(bytes.to_vec());
            let mut records = segment.records();
            assert!(records.by_ref().count() <= 1);
            assert!(!records.is_whole(), "{bytes:?}");
        }
    }
}
