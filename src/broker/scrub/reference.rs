//! The specification, spelled out: slow, and written without a look at the code that it is compared with.

use std::collections::BTreeSet;

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine as _};

use super::mark::Mark;

/// The readings of one element: (bytes, elements that they cover).
pub(super) type Readings = Vec<(Vec<u8>, usize)>;

pub(super) fn forms(secret: &[u8]) -> Vec<Vec<Readings>> {
    let mut forms = vec![text(secret), hex(secret)];
    forms.extend((0..3).map(|offset| base64(secret, offset)));
    let code_pages = |byte: &u8| super::ebcdic::bytes_of(*byte).iter().map(|one| (vec![*one], 1)).collect::<Readings>();
    let in_ebcdic: Vec<Readings> = secret.iter().map(code_pages).collect();
    let is_latin1 = secret.is_ascii() || std::str::from_utf8(secret).is_err();
    if is_latin1 && in_ebcdic.iter().all(|readings| !readings.is_empty()) {
        forms.push(in_ebcdic);
    }
    forms
}

fn cases(text: &str, from: usize) -> Vec<Vec<u8>> {
    let (head, tail) = text.split_at(from);
    let mut all = vec![String::from(head)];
    for c in tail.chars() {
        let forms = BTreeSet::from([c.to_ascii_lowercase(), c.to_ascii_uppercase()]);
        all = all.iter().flat_map(|head| forms.iter().map(move |form| format!("{head}{form}"))).collect();
    }
    all.into_iter().map(String::into_bytes).collect()
}

fn escapes(byte: u8) -> Vec<Vec<u8>> {
    let mut all = vec![vec![byte]];
    all.extend(cases(&format!("%{byte:02x}"), 1));
    all.extend(cases(&format!("\\u{byte:04x}"), 2));
    let short = match byte {
        b'"' | b'\\' | b'/' => Some(byte),
        8 => Some(b'b'),
        9 => Some(b't'),
        10 => Some(b'n'),
        12 => Some(b'f'),
        13 => Some(b'r'),
        _ => None,
    };
    all.extend(short.map(|short| vec![b'\\', short]));
    all
}

fn text(secret: &[u8]) -> Vec<Readings> {
    let element = |(index, byte): (usize, &u8)| {
        let mut all: Readings = escapes(*byte).into_iter().map(|bytes| (bytes, 1)).collect();
        if *byte == b' ' {
            all.push((b"+".to_vec(), 1));
        }
        for len in 2..=4 {
            let Some(Ok(text)) = secret.get(index..index + len).map(std::str::from_utf8) else {
                continue;
            };
            if text.chars().count() == 1 {
                let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                let mut spellings = vec![Vec::new()];
                for unit in units {
                    let unit = cases(&unit, 2);
                    spellings =
                        spellings.iter().flat_map(|head| unit.iter().map(|tail| [&head[..], tail].concat())).collect();
                }
                all.extend(spellings.into_iter().map(|bytes| (bytes, len)));
            }
        }
        all
    };
    secret.iter().enumerate().map(element).collect()
}

fn hex(secret: &[u8]) -> Vec<Readings> {
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().map(|c| cases(&c.to_string(), 0).into_iter().map(|bytes| (bytes, 1)).collect()).collect()
}

fn base64(secret: &[u8], offset: usize) -> Vec<Readings> {
    let mut sets = vec![BTreeSet::new(); (offset + secret.len() + 1) * 4 / 3 + 2];
    for around in 0..=255_u8 {
        let plain = [&vec![around; offset][..], secret, &[around; 3]].concat();
        for (set, byte) in sets.iter_mut().zip(BASE64_STANDARD_NO_PAD.encode(plain).bytes()) {
            set.insert(byte);
            match byte {
                b'+' => set.insert(b'-'),
                b'/' => set.insert(b'_'),
                _ => false,
            };
        }
    }
    let sets = sets.into_iter().filter(|set| !set.is_empty() && set.len() < 66);
    sets.map(|set| set.into_iter().flat_map(escapes).map(|bytes| (bytes, 1)).collect()).collect()
}

/// The longest match at the beginning of `data`, and whether it is in EBCDIC.
fn plain(forms: &[Vec<Readings>], data: &[u8]) -> Option<(usize, bool)> {
    let mut longest = None;
    for form in forms {
        let mut todo = BTreeSet::from([(0, 0)]);
        while let Some((pos, index)) = todo.pop_first() {
            let Some(readings) = form.get(index) else {
                // No escape is among its readings.
                let is_ebcdic = form.iter().flatten().all(|(bytes, _)| bytes.iter().all(|byte| *byte >= 0x40));
                longest = longest.max(Some((pos, is_ebcdic)));
                continue;
            };
            for (bytes, elements) in readings.iter().filter(|(bytes, _)| data[pos..].starts_with(bytes)) {
                todo.insert((pos + bytes.len(), index + elements));
            }
        }
    }
    longest
}

/// The longest match at the beginning of `data`, and what is put there; `spaced` if those in UTF-16 and UTF-32 count.
pub(super) fn at(forms: &[Vec<Readings>], spaced: bool, data: &[u8]) -> Option<(usize, Mark)> {
    let of_plain = plain(forms, data).map(|(len, ebcdic)| (len, if ebcdic { Mark::Ebcdic } else { Mark::Plain }));
    let of_spaced = [2, 4].into_iter().filter(|_| spaced).filter_map(|stride| {
        let mut units: Vec<u8> = data.first().copied().into_iter().filter(|first| *first != 0).collect();
        while let Some([zeros @ .., unit]) =
            data.get((units.len() * stride + 1).saturating_sub(stride)..=units.len() * stride)
        {
            if units.is_empty() || *unit == 0 || zeros.iter().any(|byte| *byte != 0) {
                break;
            }
            units.push(*unit);
        }
        plain(forms, &units).map(|(len, _)| ((len - 1) * stride + 1, Mark::Spaced(stride)))
    });
    of_plain.into_iter().chain(of_spaced).max_by_key(|(len, _)| *len)
}

/// Appends to `out` the scrubbed text of what begins before the place that `until` gives for the data behind the last
/// secret; gives where the rest begins.
pub(super) fn scrub_certain(
    forms: &[Vec<Readings>],
    spaced: bool,
    data: &[u8],
    until: impl Fn(&[u8]) -> usize,
    out: &mut Vec<u8>,
) -> usize {
    let (mut pos, mut end) = (0, until(data));
    while pos < end {
        match at(forms, spaced, &data[pos..]) {
            Some((len, mark)) => {
                out.extend_from_slice(&mark.bytes());
                pos += len;
                end = pos + until(&data[pos..]);
            }
            None => {
                out.push(data[pos]);
                pos += 1;
            }
        }
    }
    pos
}
