//! Texts in UTF-16 and UTF-32, of either byte order: between the bytes of ASCII stand one or three bytes of zero.
//!
//! A match is looked for from its first byte that is not zero to its last one. So both byte orders are one, and what is
//! put in its place, spaced in the same way, leaves everything around it where it was. Bodies without zeros, and most of
//! those with zeros, are passed over eight bytes at a time; what looks like a text is copied without its zeros and then
//! searched as any other text, with all its forms. All of this depends on where zeros stand, never on how much of
//! a secret was right.

use super::mark::{Found, Mark};
use super::needles::Needles;

/// Units that are looked at in one go.
const UNITS: usize = 1024;

const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
const ODD: u64 = 0xff00_ff00_ff00_ff00;

/// A match has 8 units and so at least 15 bytes: one of the words that a body is cut into lies in it as a whole.
const WORD: usize = 8;

/// Fewer units than this are not looked for: the word that is to give them away may not be there.
pub(super) const LEAST: usize = 8;

impl Needles {
    /// The leftmost spaced match that begins in `from..until`, and the longest one there.
    pub(super) fn find_spaced(&self, data: &[u8], from: usize, until: usize) -> Option<Found> {
        // The first whole word of a match begins at most 7 bytes behind it.
        let end = until.saturating_add(2 * WORD - 2).min(data.len());
        let (words, _) = data.get(from..end)?.as_chunks::<WORD>();
        let mut at = 0_usize;
        while let Some(skipped) = suspect(words.get(at..)?) {
            at = at.saturating_add(skipped);
            let place = from.saturating_add(at.saturating_mul(WORD));
            let mut next = at.saturating_add(1);
            if let Some((first, stride)) = words.get(at).and_then(shape) {
                let run = Run { data, from, until, stride };
                match self.in_run(run, place.saturating_add(first)) {
                    Ok(found) => return Some(found),
                    Err(end) => next = next.max(end.saturating_sub(from) / WORD),
                }
            }
            at = next;
        }
        None
    }

    /// Searches the run of spaced bytes that holds the unit at `unit`; gives where it ends if nothing is there.
    fn in_run(&self, run: Run<'_>, unit: usize) -> Result<Found, usize> {
        let mut start = unit;
        while let Some(before) =
            start.checked_sub(run.stride).filter(|before| *before >= run.from && run.goes_on(*before))
        {
            start = before;
        }
        let mut units = Vec::with_capacity(UNITS.min(run.data.len()));
        loop {
            units.clear();
            units.extend(run.data.get(start));
            let mut ends = true;
            for next in run.data.get(start.saturating_add(1)..).unwrap_or_default().chunks_exact(run.stride) {
                match next {
                    _ if units.len() == UNITS.saturating_add(self.plain_longest) => {
                        ends = false;
                        break;
                    }
                    [zeros @ .., unit] if *unit != 0 && zeros.iter().all(|byte| *byte == 0) => units.push(*unit),
                    _ => break,
                }
            }
            let last = place_of(start, units.len().saturating_sub(1), run.stride);
            let here = if ends { units.len() } else { UNITS };
            let here = here.min(run.until.saturating_sub(start).div_ceil(run.stride));
            if let Some(found) = self.find_plain(&units, 0, here) {
                let place = |unit: usize| place_of(start, unit, run.stride);
                let range = place(found.range.start)..place(found.range.end.saturating_sub(1)).saturating_add(1);
                return Ok(Found { range, mark: Mark::Spaced(run.stride) });
            }
            if ends || place_of(start, here, run.stride) >= run.until {
                return Err(last);
            }
            start = place_of(start, here, run.stride);
        }
    }

    /// Where the spaced text begins that may go on behind the end of `data`; its length if there is none.
    pub(super) fn unfinished(&self, data: &[u8]) -> usize {
        let len = data.len();
        let held = self.longest.saturating_sub(1);
        let zeros = data.iter().rev().take(4).take_while(|byte| **byte == 0).count();
        let mut earliest = len;
        for stride in [2, 4] {
            let run = Run { data, from: 0, until: len, stride };
            let Some(mut start) = len.checked_sub(zeros.saturating_add(1)).filter(|_| zeros < stride) else { continue };
            if self.ends_a_match(data.get(start)) {
                continue;
            }
            while let Some(before) = start.checked_sub(stride)
                && len.saturating_sub(before) <= held
                && run.goes_on(before)
                && !self.ends_a_match(data.get(before))
            {
                start = before;
            }
            earliest = earliest.min(start);
        }
        earliest
    }
}

fn place_of(start: usize, unit: usize, stride: usize) -> usize {
    start.saturating_add(unit.saturating_mul(stride))
}

/// Bytes that are not zero, each followed by `stride - 1` zeros.
#[derive(Clone, Copy)]
struct Run<'a> {
    data: &'a [u8],
    from: usize,
    until: usize,
    stride: usize,
}

impl Run<'_> {
    /// Whether a unit stands at `place`, and the next one where it belongs.
    fn goes_on(&self, place: usize) -> bool {
        let next = place.saturating_add(self.stride);
        match self.data.get(place..next.saturating_add(1)) {
            Some([first, zeros @ .., last]) => *first != 0 && *last != 0 && zeros.iter().all(|byte| *byte == 0),
            _ => false,
        }
    }
}

/// How many of `words` come before the first that may lie in a spaced text.
fn suspect(words: &[[u8; WORD]]) -> Option<usize> {
    let is_suspect = |word: &[u8; WORD]| {
        let word = u64::from_le_bytes(*word);
        (word != 0) & ((word & EVEN == 0) | (word & ODD == 0))
    };
    let (blocks, rest) = words.as_chunks::<16>();
    let mut before = 0_usize;
    for block in blocks.iter().map(<[_; 16]>::as_slice).chain([rest]) {
        // Half of such a word is zeros. Most texts have none, and most other data has few: they are counted first, which
        // the compiler does for 16 bytes at once.
        let zeros: u8 = block.as_flattened().iter().map(|byte| u8::from(*byte == 0)).sum();
        if zeros >= 4
            && let Some(at) = block.iter().position(is_suspect)
        {
            return Some(before.saturating_add(at));
        }
        before = before.saturating_add(block.len());
    }
    None
}

/// Which bytes of a word are units, if it is one of spaced text: the first of them, and the stride.
fn shape(word: &[u8; WORD]) -> Option<(usize, usize)> {
    let units = word.iter().enumerate().fold(0_u8, |units, (at, byte)| units | u8::from(*byte != 0) << at);
    match units {
        0b0101_0101 => Some((0, 2)),
        0b1010_1010 => Some((1, 2)),
        0b0001_0001 => Some((0, 4)),
        0b0010_0010 => Some((1, 4)),
        0b0100_0100 => Some((2, 4)),
        0b1000_1000 => Some((3, 4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"sk-live-4eC39/\"HqLyj";

    fn wide(text: &[u8], stride: usize, big: bool) -> Vec<u8> {
        let unit = |byte: &u8| {
            let mut unit = vec![0; stride];
            unit[if big { stride - 1 } else { 0 }] = *byte;
            unit
        };
        text.iter().flat_map(unit).collect()
    }

    #[test]
    fn found_in_either_width_and_order_wherever_it_stands() {
        let needles = Needles::new(&[SECRET]);
        for (stride, big) in [(2, false), (2, true), (4, false), (4, true)] {
            for text in [&b"sk-live-4eC39/\"HqLyj"[..], b"sk-live-4eC39\\/\\\"HqLyj", b"736b2d6c6976652d346543333 no"] {
                for before in 0..40 {
                    let around = wide(b"<<", stride, big);
                    let data = [&vec![b'.'; before][..], &around, &wide(text, stride, big), &around, b"...."].concat();
                    let found = needles.find(&data, 0, data.len());
                    if text.ends_with(b"no") {
                        assert!(found.is_none());
                        continue;
                    }
                    let found = found.unwrap();
                    let start = before + 2 * stride + if big { stride - 1 } else { 0 };
                    assert_eq!(found.range, start..start + (text.len() - 1) * stride + 1, "{stride} {big} {before}");
                    // What is left is in the same width and order.
                    let left = [&data[..start], &found.mark.bytes(), &data[found.range.end..]].concat();
                    let expected = [b"<<".as_slice(), super::super::REDACTED, b">>"].concat();
                    let shown = wide(&expected[..expected.len() - 2], stride, big);
                    assert!(left[before..].starts_with(&shown), "{stride} {big} {before}");
                }
            }
        }
    }

    #[test]
    fn zeros_alone_and_binary_data_are_passed_over() {
        let needles = Needles::new(&[SECRET]);
        let tar =
            [&b"name"[..], &[0; 600], &wide(b"short", 2, false), &[0; 600], &[1, 0, 2, 0, 0, 3].repeat(99)].concat();
        assert_eq!(needles.find(&tar, 0, tar.len()), None);
    }

    #[test]
    fn a_run_that_is_longer_than_one_look_is_searched_to_its_end() {
        let needles = Needles::new(&[SECRET]);
        for before in [UNITS - 30, UNITS - 10, UNITS, UNITS + 7, 3 * UNITS] {
            let data = wide(&[&vec![b'.'; before][..], SECRET, b"...."].concat(), 2, false);
            assert_eq!(needles.find(&data, 0, data.len()).map(|found| found.range.start), Some(2 * before));
        }
    }

    #[test]
    fn what_may_go_on_is_told_by_zeros_and_line_ends_alone() {
        let needles = Needles::new(&[SECRET]);
        let unfinished = |data: &[u8]| data.len() - needles.unfinished(data);
        assert_eq!(unfinished(b"text"), 1);
        assert_eq!(unfinished(b"text\n"), 0);
        assert_eq!(unfinished(&wide(b"text", 2, false)), 8);
        assert_eq!(unfinished(&wide(b"text", 2, true)), 7);
        assert_eq!(unfinished(&wide(b"text", 4, false)), 16);
        assert_eq!(unfinished(&wide(b"line\ntext", 2, false)), 8);
        assert_eq!(unfinished(&wide(b"line\n", 2, false)), 0);
        assert_eq!(unfinished(&[0; 50]), 0);
        let long = wide(&[b'.'; 5000], 2, false);
        assert!((needles.longest - 3..needles.longest).contains(&unfinished(&long)));
    }
}
