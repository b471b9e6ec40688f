//! What is put where a secret stood, in the encoding in which it stood there.

use std::borrow::Cow;
use std::ops::Range;

use super::{REDACTED, ebcdic};

/// A match: where it is, and what to put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) range: Range<usize>,
    pub(super) mark: Mark,
}

/// The encoding of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// ASCII.
    Plain,
    /// As between two characters of UTF-16 or UTF-32 of ASCII: so many bytes from one to the next.
    Spaced(usize),
    /// UTF-16 or UTF-32, whole characters.
    Wide(Wide),
    /// IBM's code page 37.
    Ebcdic,
}

/// An encoding of Unicode in units of two or four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wide {
    pub(super) bytes: usize,
    pub(super) big: bool,
}

impl Wide {
    pub(super) const ALL: [Self; 4] = [
        Self { bytes: 2, big: false },
        Self { bytes: 2, big: true },
        Self { bytes: 4, big: false },
        Self { bytes: 4, big: true },
    ];

    /// Appends `text` to `out`, which has room for it.
    pub(super) fn encode(self, text: &str, out: &mut Vec<u8>) {
        let mut unit = |unit: u32| {
            let (little, big) = (unit.to_le_bytes(), unit.to_be_bytes());
            let bytes = if self.big { big.get(4 - self.bytes..) } else { little.get(..self.bytes) };
            out.extend_from_slice(bytes.unwrap_or_default());
        };
        match self.bytes {
            2 => text.encode_utf16().for_each(|one| unit(one.into())),
            _ => text.chars().for_each(|one| unit(one.into())),
        }
    }
}

impl Mark {
    pub(super) fn bytes(self) -> Cow<'static, [u8]> {
        match self {
            Self::Plain => Cow::Borrowed(REDACTED),
            Self::Spaced(stride) => {
                let mut spaced: Vec<u8> = Vec::with_capacity(REDACTED.len().saturating_mul(stride));
                for byte in REDACTED {
                    spaced.resize(spaced.len().next_multiple_of(stride), 0);
                    spaced.push(*byte);
                }
                Cow::Owned(spaced)
            }
            Self::Wide(wide) => {
                let mut bytes = Vec::new();
                wide.encode(&String::from_utf8_lossy(REDACTED), &mut bytes);
                Cow::Owned(bytes)
            }
            Self::Ebcdic => {
                let of = |byte: &u8| match byte {
                    b'[' => Some(0xba), // as code page 37 has them
                    b']' => Some(0xbb),
                    other => ebcdic::bytes_of(*other).first().copied(),
                };
                Cow::Owned(REDACTED.iter().filter_map(of).collect())
            }
        }
    }
}
