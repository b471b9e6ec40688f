//! The search for an echoed secret: nothing of it is left, nothing else is touched, however the body is cut (P1).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hallpass::broker::scrub::{Needles, REDACTED, Scrubber};

use crate::spec::{SPELLINGS, Spec, spelled};

/// Two lines, a secret each, then a body. In the body the control characters from 0x01 on stand for the first secret in
/// one spelling each, those from 0x0e on for the second; 0x1b cuts one byte off what stands there.
pub fn run(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let (Some(one), Some(two), Some(rest)) = (lines.next(), lines.next(), lines.next()) else { return };
    // With more, the readings of a secret that looks like its own encodings could exceed the scanner's budget.
    if one.is_empty() || one.len() > 24 || two.len() > 24 || rest.len() > 600 {
        return;
    }
    let secrets: Vec<Vec<u8>> = [one, two].into_iter().filter(|one| !one.is_empty()).map(<[u8]>::to_vec).collect();
    let body = expand(rest, one, two);
    let needles = Arc::new(Needles::new(&secrets.iter().map(Vec::as_slice).collect::<Vec<_>>()));

    let kept = Spec(&secrets).kept(&body);
    let expected = kept.join(REDACTED);
    let whole = scrub(&needles, std::iter::once(&body[..]));
    assert_eq!(text(&whole), text(&expected), "not what the specification says");
    assert_eq!(needles.scrub_value(&body).unwrap_or_else(|| body.clone()), expected);
    assert_eq!(scrub(&needles, body.chunks(1)), expected, "byte by byte");
    for seed in rest.iter().take(3) {
        assert_eq!(scrub(&needles, Cuts { rest: &body, seed: *seed }), expected, "cut by {seed}");
    }

    if kept.len() == 1 {
        // Nothing was found: then it comes back in the pieces in which a body comes that could begin nothing. Otherwise
        // whoever has a guess echoed could see how much of it was right.
        let blank: Vec<u8> = body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { *byte } else { 0xf5 }).collect();
        if Spec(&secrets).kept(&blank).len() == 1 {
            for seed in rest.iter().take(3) {
                let pieces = |rest| pieces(&needles, Cuts { rest, seed: *seed });
                assert_eq!(pieces(&body), pieces(&blank), "cut by {seed}");
            }
        }
    }

    // What other libraries write is gone, too. (The word "redacted" itself would still be there.)
    for secret in secrets.iter().filter(|secret| secret.len() > 2) {
        for spelling in (0..SPELLINGS).map(|how| spelled(secret, how)).filter(|spelling| !spelling.is_empty()) {
            let left = kept.iter().any(|part| part.windows(spelling.len()).any(|window| window == spelling));
            assert!(!left, "{} is left", text(&spelling));
        }
    }
}

/// The body that a seed stands for.
pub fn expand(seed: &[u8], one: &[u8], two: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for byte in seed {
        match byte {
            0x01..=0x09 => body.extend(spelled(one, byte - 1)),
            0x0b..=0x0d => body.extend(spelled(one, byte - 2)),
            0x0e..=0x19 => body.extend(spelled(two, byte - 0x0e)),
            0x1b => drop(body.pop()),
            byte => body.push(*byte),
        }
    }
    body
}

/// What comes out when the body arrives like this.
pub fn scrub<'a>(needles: &Arc<Needles>, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut scrubber, mut out) = (Scrubber::new(Arc::clone(needles)), VecDeque::new());
    for chunk in chunks {
        scrubber.push(Bytes::copy_from_slice(chunk), &mut out);
    }
    scrubber.finish(&mut out);
    Vec::from(out).concat()
}

/// How long the pieces are that come out after each chunk.
fn pieces<'a>(needles: &Arc<Needles>, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<usize>> {
    let mut scrubber = Scrubber::new(Arc::clone(needles));
    let pieces = chunks.map(|chunk| {
        let mut out = VecDeque::new();
        scrubber.push(Bytes::copy_from_slice(chunk), &mut out);
        out.iter().map(Bytes::len).collect()
    });
    pieces.collect()
}

/// Pieces of changing length, empty ones too.
struct Cuts<'a> {
    rest: &'a [u8],
    seed: u8,
}

impl<'a> Iterator for Cuts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.seed = self.seed.wrapping_mul(5).wrapping_add(77);
        let (piece, rest) = self.rest.split_at(usize::from(self.seed % 23).min(self.rest.len()));
        self.rest = rest;
        Some(piece)
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
