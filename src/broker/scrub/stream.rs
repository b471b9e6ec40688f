//! A streaming pass over a body: constant memory, nothing held back but a tail that may be a secret's beginning.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::REDACTED;
use super::needles::{Found, Needles};

/// Replaces the secrets in a body that arrives in chunks. However the body is cut into chunks, the result is the
/// same: otherwise an upstream could hide an echo by flushing in the middle of it.
pub struct Scrubber {
    needles: Arc<Needles>,
    /// The tail that may be the beginning of a match; never longer than the longest match.
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
            self.carry = self.pass(rest, false, out);
        }
    }

    /// The body has ended: what was held back is no secret, or a whole one.
    pub fn finish(&mut self, out: &mut VecDeque<Bytes>) {
        let carry = mem::take(&mut self.carry);
        self.pass(carry, true, out);
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
        joint.extend(chunk.iter().take(self.needles.longest));
        let mut joint = joint.freeze();
        loop {
            match self.needles.find(&joint, 0, carry.len(), false) {
                Found::Nothing => {
                    emit(carry, out);
                    return Some(chunk).filter(|chunk| !chunk.is_empty());
                }
                Found::Match { start, end } => {
                    emit(carry.slice(..start), out);
                    self.redact(out);
                    let _ = joint.split_to(end);
                    if let Some(of_chunk) = end.checked_sub(carry.len()) {
                        let _ = chunk.split_to(of_chunk);
                        return Some(chunk).filter(|chunk| !chunk.is_empty());
                    }
                    let _ = carry.split_to(end);
                }
                // Then the joint holds the whole chunk: had it been cut, it would be longer than any match.
                Found::Partial { start } => {
                    emit(carry.slice(..start), out);
                    self.carry = joint.split_off(start);
                    return None;
                }
            }
        }
    }

    /// Scrubs `data` and gives back the tail that is still undecided.
    fn pass(&mut self, mut data: Bytes, last: bool, out: &mut VecDeque<Bytes>) -> Bytes {
        loop {
            match self.needles.find(&data, 0, data.len(), last) {
                Found::Nothing => {
                    emit(data, out);
                    return Bytes::new();
                }
                Found::Match { start, end } => {
                    let mut found = data.split_to(end);
                    found.truncate(start);
                    emit(found, out);
                    self.redact(out);
                }
                Found::Partial { start } => {
                    emit(data.split_to(start), out);
                    return data;
                }
            }
        }
    }

    fn redact(&mut self, out: &mut VecDeque<Bytes>) {
        self.redactions = self.redactions.saturating_add(1);
        out.push_back(Bytes::from_static(REDACTED));
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

    use super::super::needles::reference;
    use super::*;

    fn run(needles: &Arc<Needles>, chunks: &[&[u8]]) -> Vec<u8> {
        let mut scrubber = Scrubber::new(Arc::clone(needles));
        let mut out = VecDeque::new();
        for chunk in chunks {
            scrubber.push(Bytes::copy_from_slice(chunk), &mut out);
        }
        scrubber.finish(&mut out);
        assert!(out.iter().all(|piece| !piece.is_empty()));
        assert_eq!(scrubber.redactions(), out.iter().filter(|piece| *piece == REDACTED).count() as u64);
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
    fn holds_back_nothing_else_and_copies_nothing() {
        let needles = Arc::new(Needles::new(&[b"secret-secret"]));
        let mut scrubber = Scrubber::new(needles);
        let mut out = VecDeque::new();
        let chunk = Bytes::from_static(b"data: {\"a\": 1}\n\n");
        scrubber.push(chunk.clone(), &mut out);
        assert_eq!(out.pop_front().map(|piece| piece.as_ptr()), Some(chunk.as_ptr()));
        scrubber.push(Bytes::from_static(b"abc sec"), &mut out);
        assert_eq!(out.pop_front().unwrap(), "abc ");
        scrubber.push(Bytes::from_static(b"ular"), &mut out);
        assert_eq!(Vec::from(mem::take(&mut out)).concat(), b"secular");
        scrubber.push(Bytes::from_static(b"secret-sec"), &mut out);
        assert!(out.is_empty());
        scrubber.finish(&mut out);
        assert_eq!(out.pop_front().unwrap(), "secret-sec");
        assert_eq!(scrubber.redactions(), 0);
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
    type Piece = (usize, usize, Vec<prop::sample::Index>, usize, bool, Vec<u8>);

    fn body() -> impl Strategy<Value = Vec<Piece>> {
        let noise = prop::collection::vec(prop::sample::select(b"%25\\u0cC/ +aB\"\xc3\xa9".to_vec()), 0..4);
        // Sometimes so much that whole pieces are passed over.
        let noise = (noise, prop_oneof![Just(0), 100..300_usize], prop::sample::select(b".aB5".to_vec()));
        let noise = noise.prop_map(|(noise, much, of)| [vec![of; much], noise].concat());
        let spelling = prop::collection::vec(any::<prop::sample::Index>(), 8);
        prop::collection::vec((0..2_usize, 0..5_usize, spelling, 0..4_usize, any::<bool>(), noise), 1..5)
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
            for (secret, form, spelling, cut, raw, noise) in &pieces {
                data.extend(noise);
                let form = &forms[secret % forms.len()][*form];
                let mut index = 0;
                let begin = data.len();
                while let Some(readings) = form.get(index) {
                    let choice = if *raw { 0 } else { spelling[index % spelling.len()].index(readings.len()) };
                    data.extend(&readings[choice].0);
                    index += readings[choice].1;
                }
                let cut = if *cut == 0 { 0 } else { spelling[0].index(12) };
                data.truncate(data.len().saturating_sub(cut).max(begin));
            }
            let forms: Vec<_> = forms.into_iter().flatten().collect();
            let refs: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();
            let needles = Arc::new(Needles::new(&refs));
            let (expected, _) = reference::scrub(&forms, &data, true);
            prop_assert_eq!(run(&needles, &[&data]), expected.clone());

            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
            cuts.extend([0, data.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect();
            prop_assert_eq!(run(&needles, &chunks), expected.clone());
            prop_assert_eq!(run(&needles, &data.chunks(1).collect::<Vec<_>>()), expected);

            // What is held back is exactly what could begin a match.
            let (mut scrubber, mut out, mut end) = (Scrubber::new(Arc::clone(&needles)), VecDeque::new(), 0);
            for chunk in chunks {
                scrubber.push(Bytes::copy_from_slice(chunk), &mut out);
                end += chunk.len();
                let (sure, held) = reference::scrub(&forms, &data[..end], false);
                prop_assert_eq!(Vec::from(out.clone()).concat(), sure);
                prop_assert_eq!(&scrubber.carry[..], &data[held..end]);
            }
        }
    }
}
