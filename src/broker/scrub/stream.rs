//! A streaming pass over a body: constant memory, nothing held back but a short tail, whatever stands in it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::mark::{Found, Mark};
use super::needles::Needles;

/// Replaces the secrets in a body that arrives in chunks. However the body is cut into chunks, the result is the
/// same: otherwise an upstream could hide an echo by flushing in the middle of it.
pub struct Scrubber {
    needles: Arc<Needles>,
    /// The tail in which a match could begin that is not here as a whole; always shorter than the longest match.
    carry: Bytes,
    redactions: u64,
}

impl Scrubber {
    /// A scrubber at the beginning of a body.
    pub fn new(needles: Arc<Needles>) -> Self {
        Self { needles, carry: Bytes::new(), redactions: 0 }
    }

    /// Takes the next chunk and appends to `out` all that is certain by now, as slices of what came in.
    pub fn push(&mut self, chunk: Bytes, out: &mut VecDeque<Bytes>) {
        if self.needles.is_empty() {
            emit(chunk, out);
        } else if let Some(rest) = self.settle(chunk, out) {
            self.carry = self.pass(rest, Needles::certain, out);
        }
    }

    /// As [`Scrubber::push`], where it is known that nothing comes after `chunk`.
    pub fn push_last(&mut self, chunk: Bytes, out: &mut VecDeque<Bytes>) {
        if let Some(rest) = self.settle(chunk, out) {
            self.carry = rest;
        }
        self.finish(out);
    }

    /// The body has ended: what was held back is no secret, or a whole one.
    pub fn finish(&mut self, out: &mut VecDeque<Bytes>) {
        let carry = mem::take(&mut self.carry);
        self.carry = self.pass(carry, |_, rest| rest.len(), out);
    }

    /// What it looks for.
    pub fn needles(&self) -> &Needles {
        &self.needles
    }

    /// How many redactions there were so far.
    pub fn redactions(&self) -> u64 {
        self.redactions
    }

    /// Decides about the carry with the help of `chunk`, and gives back what of `chunk` is left to do. Only as much
    /// of it as a match can be long is copied behind the carry.
    fn settle(&mut self, mut chunk: Bytes, out: &mut VecDeque<Bytes>) -> Option<Bytes> {
        if self.carry.is_empty() || chunk.is_empty() {
            return Some(chunk).filter(|chunk| !chunk.is_empty());
        }
        let mut carry = mem::take(&mut self.carry);
        let mut joint = BytesMut::with_capacity(carry.len().saturating_add(self.needles.longest.min(chunk.len())));
        joint.extend_from_slice(&carry);
        joint.extend_from_slice(chunk.get(..self.needles.longest).unwrap_or(&chunk));
        let mut joint = joint.freeze();
        if chunk.len() < self.needles.longest {
            return Some(joint);
        }
        while let Some(Found { range, mark }) = self.needles.find(&joint, 0, carry.len()) {
            let end = range.end;
            emit(carry.slice(..range.start), out);
            self.redact(mark, out);
            let _ = joint.split_to(end);
            if let Some(of_chunk) = end.checked_sub(carry.len()) {
                let _ = chunk.split_to(of_chunk);
                return Some(chunk).filter(|chunk| !chunk.is_empty());
            }
            let _ = carry.split_to(end);
        }
        emit(carry, out);
        Some(chunk)
    }

    /// Scrubs `data` as far as it is `certain`, and gives back the rest. That is asked anew behind each secret: if what
    /// is held back depended on bytes that are gone, it would depend on how the body was cut.
    fn pass(
        &mut self,
        mut data: Bytes,
        certain: impl Fn(&Needles, &[u8]) -> usize,
        out: &mut VecDeque<Bytes>,
    ) -> Bytes {
        loop {
            let until = certain(&self.needles, &data);
            let Some(Found { range, mark }) = self.needles.find(&data, 0, until) else {
                emit(data.split_to(until), out);
                return data;
            };
            let mut found = data.split_to(range.end);
            found.truncate(range.start);
            emit(found, out);
            self.redact(mark, out);
        }
    }

    fn redact(&mut self, mark: Mark, out: &mut VecDeque<Bytes>) {
        self.redactions = self.redactions.saturating_add(1);
        out.push_back(match mark.bytes() {
            Cow::Borrowed(mark) => Bytes::from_static(mark),
            Cow::Owned(mark) => mark.into(),
        });
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The carry may be most of a secret.
        f.debug_struct("Scrubber").field("redactions", &self.redactions).finish_non_exhaustive()
    }
}

fn emit(bytes: Bytes, out: &mut VecDeque<Bytes>) {
    if !bytes.is_empty() {
        out.push_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reference;
    use super::*;

    fn run(needles: &Arc<Needles>, chunks: &[&[u8]]) -> Vec<u8> {
        let mut scrubber = Scrubber::new(Arc::clone(needles));
        let mut out = VecDeque::new();
        for chunk in chunks {
            scrubber.push(Bytes::copy_from_slice(chunk), &mut out);
        }
        scrubber.finish(&mut out);
        assert!(out.iter().all(|piece| !piece.is_empty()));
        let marks = [Mark::Plain, Mark::Spaced(2), Mark::Spaced(4), Mark::Ebcdic].map(Mark::bytes);
        let is_mark = |piece: &&Bytes| marks.iter().any(|mark| piece[..] == mark[..]);
        assert_eq!(scrubber.redactions(), out.iter().filter(is_mark).count() as u64);
        Vec::from(out).concat()
    }

    #[test]
    fn every_cut_of_short_inputs() {
        // In base64 the last one is ++++++++////. Where a chunk ends with %2, it may become + as well as the other
        // alphabet's -.
        let secrets: [&[u8]; 3] = [b"p%25\\ss/w rd", "schlüssel😀".as_bytes(), b"\xfb\xef\xbe\xfb\xef\xbe\xff\xff\xff"];
        let needles = Arc::new(Needles::new(&secrets));
        for text in [
            &b"x p%25\\ss/w rd y p%2525\\\\ss\\/w+rd p%25\\ss/w r"[..],
            br"schl\u00FCssel\ud83d\uDE00 schl%c3%bcssel%f0%9f%98%80\\u007",
            b"dXNlcjpwJTI1XHNzL3cgcmQ= 702532355c73732f7720726470%",
            b"a%2B%2d+-%2b-++%2F%5f_/ %2B%2d+-%2b-++%2F%5",
        ] {
            let whole = run(&needles, &[text]);
            assert_eq!(Some(&whole), needles.scrub_value(text).as_ref());
            assert_eq!(whole, run(&needles, &text.chunks(1).collect::<Vec<_>>()));
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let chunks = [&text[..first], &text[first..second], &text[second..]];
                    assert_eq!(whole, run(&needles, &chunks), "{first} {second}");
                }
            }
        }
    }

    #[test]
    fn lines_that_have_ended_pass_at_once_and_are_not_copied() {
        let needles = Arc::new(Needles::new(&[b"secret-secret"]));
        let mut scrubber = Scrubber::new(needles);
        let mut out = VecDeque::new();
        for event in ["data: {\"a\": 1}\n\n", "secret-secre\n", "secret-secre\r"] {
            let chunk = Bytes::from_static(event.as_bytes());
            scrubber.push(chunk.clone(), &mut out);
            assert_eq!(out.pop_front().map(|piece| piece.as_ptr()), Some(chunk.as_ptr()), "{event:?}");
            assert!(out.is_empty() && scrubber.carry.is_empty(), "{event:?}");
        }
        scrubber.push(Bytes::from_static(b"one\nsecret-sec"), &mut out);
        assert_eq!(out.pop_front().unwrap(), "one\n");
        scrubber.finish(&mut out);
        assert_eq!(out.pop_front().unwrap(), "secret-sec");
        assert_eq!(scrubber.redactions(), 0);
    }

    #[test]
    fn a_secret_of_several_lines_is_found_however_it_is_cut() {
        let needles = Arc::new(Needles::new(&[b"secret\nof two\r\nlines"]));
        let text = b"a secret\nof two\r\nlines b";
        assert_eq!(run(&needles, &text.chunks(1).collect::<Vec<_>>()), b"a [redacted by hallpass] b");
        assert_eq!(run(&needles, &[&text[..9], &text[9..]]), b"a [redacted by hallpass] b");
    }

    #[test]
    fn the_last_chunk_holds_nothing_back_and_is_not_cut() {
        let needles = Arc::new(Needles::new(&[b"secret-secret"]));
        let (mut scrubber, mut out) = (Scrubber::new(Arc::clone(&needles)), VecDeque::new());
        scrubber.push_last(Bytes::from_static(b"{\"a\": \"secret-sec\"}"), &mut out);
        assert_eq!(Vec::from(mem::take(&mut out)), [&b"{\"a\": \"secret-sec\"}"[..]]);
        scrubber.push(Bytes::from_static(b"secret-"), &mut out);
        scrubber.push_last(Bytes::from_static(b"secret."), &mut out);
        assert_eq!(Vec::from(out).concat(), b"[redacted by hallpass].");
    }

    /// How many bytes come out after each chunk, piece by piece.
    fn cuts(needles: &Arc<Needles>, chunks: &[Vec<u8>]) -> Vec<Vec<usize>> {
        let mut scrubber = Scrubber::new(Arc::clone(needles));
        let mut cuts = Vec::new();
        for chunk in chunks {
            let mut out = VecDeque::new();
            scrubber.push(Bytes::copy_from_slice(chunk), &mut out);
            cuts.push(out.iter().map(Bytes::len).collect());
        }
        cuts
    }

    #[test]
    fn p1_what_is_held_back_tells_nothing_of_how_much_of_a_guess_was_right() {
        let secret = b"sk-live-4eC39HqLyj";
        for secret in [&secret[..], b"50%25\\u005c-of-a-secret", "schl\u{fc}ssel-\u{1f600}".as_bytes()] {
            let needles = Arc::new(Needles::new(&[secret]));
            let spellings = [
                secret.to_vec(),
                secret.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect(),
                secret.iter().flat_map(|byte| format!("\\u{byte:04x}").into_bytes()).collect(),
                secret.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
            ];
            for spelled in spellings {
                for before in [0, 1, 40, 400] {
                    let chunks = |right: usize| {
                        let mut guess = [&vec![b'.'; before][..], &spelled[..right]].concat();
                        guess.resize(before + spelled.len(), b'.');
                        // At the end of a chunk, across two of them, and before more than a match can be long.
                        let (head, tail) = guess.split_at(before + right);
                        vec![head.to_vec(), tail.to_vec(), vec![b'.'; 1000], guess.clone(), b"..".to_vec()]
                    };
                    for right in 1..spelled.len() {
                        let mut wrong = chunks(right);
                        wrong.iter_mut().for_each(|chunk| chunk.fill(b'.'));
                        assert_eq!(cuts(&needles, &chunks(right)), cuts(&needles, &wrong), "{before} {right}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_needles_no_work() {
        assert_eq!(run(&Arc::new(Needles::new(&[])), &[b"a", b"", b"b"]), b"ab");
    }

    /// Secrets that look like their own encodings.
    fn secret() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "%", "25", "%25", "\\", "\\\\", "\\u005c", "u00", "5", "c", "a", "B", "+", " ", "/", "\"", "\n", "é", "€",
            "😀", "aaaa",
        ]);
        let text = prop::collection::vec(piece, 4..10).prop_map(|pieces| pieces.concat().into_bytes());
        prop_oneof![4 => text, 1 => prop::collection::vec(any::<u8>(), 8..20)]
    }

    /// What to put into the body: which form, how its elements are spelled, what is cut off, what comes before.
    type Piece = (usize, usize, Vec<prop::sample::Index>, usize, (bool, usize, bool), Vec<u8>);

    fn body() -> impl Strategy<Value = Vec<Piece>> {
        let noise = prop::collection::vec(prop::sample::select(b"%25\\u0cC/ +aB\n\"\xc3\xa9".to_vec()), 0..4);
        // Sometimes so much that whole pieces are passed over.
        let noise = (noise, prop_oneof![Just(0), 100..300_usize], prop::sample::select(b".aB5".to_vec()));
        let noise = noise.prop_map(|(noise, much, of)| [vec![of; much], noise].concat());
        let spelling = prop::collection::vec(any::<prop::sample::Index>(), 8);
        // Raw or escaped; so many bytes for a character, and in what order.
        let spelled = (any::<bool>(), prop::sample::select(vec![1_usize, 1, 2, 4]), any::<bool>());
        prop::collection::vec((0..2_usize, 0..6_usize, spelling, 0..4_usize, spelled, noise), 1..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_the_specification_however_it_is_cut(
            secrets in prop::collection::vec(secret(), 1..3),
            pieces in body(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let forms: Vec<Vec<_>> = secrets.iter().map(|secret| reference::forms(secret)).collect();
            let mut data = Vec::new();
            for (secret, form, spelling, cut, (raw, bytes, big), noise) in &pieces {
                data.extend(noise);
                let all = &forms[secret % forms.len()];
                let form = &all[*form % all.len()];
                let mut index = 0;
                let begin = data.len();
                while let Some(readings) = form.get(index) {
                    let choice = if *raw { 0 } else { spelling[index % spelling.len()].index(readings.len()) };
                    data.extend(&readings[choice].0);
                    index += readings[choice].1;
                }
                let wide: Vec<u8> = data.drain(begin..).flat_map(|byte| {
                    let mut unit = vec![0; *bytes];
                    unit[if *big { bytes - 1 } else { 0 }] = byte;
                    unit
                }).collect();
                data.extend(wide);
                let cut = if *cut == 0 { 0 } else { spelling[0].index(12) };
                data.truncate(data.len().saturating_sub(cut).max(begin));
            }
            let forms: Vec<_> = forms.into_iter().flatten().collect();
            let refs: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();
            let needles = Arc::new(Needles::new(&refs));
            let spaced = secrets.iter().all(|secret| secret.len() >= 8);
            let mut expected = Vec::new();
            reference::scrub_certain(&forms, spaced, &data, <[u8]>::len, &mut expected);
            prop_assert_eq!(run(&needles, &[&data]), expected.clone());

            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
            cuts.extend([0, data.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect();
            prop_assert_eq!(run(&needles, &chunks), expected.clone());
            prop_assert_eq!(run(&needles, &data.chunks(1).collect::<Vec<_>>()), expected);

            // What is held back is as long as a match can be, or as a line is, or as a text in UTF-16 or UTF-32 is.
            let (mut scrubber, mut out) = (Scrubber::new(Arc::clone(&needles)), VecDeque::new());
            let one_line = !secrets.concat().iter().any(|byte| matches!(byte, b'\n' | b'\r'));
            let no_zero = !secrets.concat().contains(&0);
            let is_end = |byte: &u8| one_line && matches!(byte, b'\n' | b'\r');
            let held_from = |data: &[u8]| {
                let cut = (data.len() + 1).saturating_sub(needles.plain_longest);
                let line = data[cut..].iter().rposition(is_end).map_or(cut, |at| {
                    let zeros = data[cut + at + 1..].iter().take(3).take_while(|byte| **byte == 0 && no_zero);
                    cut + at + 1 + zeros.count()
                });
                let may_go_on = |from: &usize| [2, 4].into_iter().any(|stride| {
                    data[*from..].iter().enumerate().all(|(n, byte)| match n % stride {
                        0 => *byte != 0 && !is_end(byte),
                        _ => *byte == 0,
                    })
                });
                let first = (data.len() + 1).saturating_sub(needles.longest);
                (first..data.len()).find(may_go_on).filter(|_| spaced).map_or(line, |from| from.min(line))
            };
            let (mut sure, mut begin, mut end) = (Vec::new(), 0, 0);
            for chunk in chunks {
                scrubber.push(Bytes::copy_from_slice(chunk), &mut out);
                end += chunk.len();
                // Whatever has come out is gone: it does not count for what is held back.
                begin += reference::scrub_certain(&forms, spaced, &data[begin..end], held_from, &mut sure);
                prop_assert_eq!(Vec::from(out.clone()).concat(), &sure[..]);
                prop_assert_eq!(&scrubber.carry[..], &data[begin..end]);
            }
        }
    }
}
