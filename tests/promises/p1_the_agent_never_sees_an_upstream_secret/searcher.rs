//! Looks for secrets by undoing encodings, where the product looks for encoded secrets: the two share no idea, so that
//! one's blind spot is not the other's.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// So many bytes in a row of a secret are a leak: a redaction that lets a part through does not pass.
const WINDOW: usize = 8;

/// Secrets to look for.
pub(super) struct Searcher {
    windows: HashSet<u64>,
    gate: Vec<bool>,
}

impl Searcher {
    pub(super) fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut windows = HashSet::new();
        let mut gate = vec![false; 1 << 16];
        for secret in secrets {
            let secret = secret.as_ref();
            assert!(secret.len() >= WINDOW, "too short to be looked for");
            for window in secret.windows(WINDOW) {
                let window = u64::from_be_bytes(window.try_into().unwrap());
                windows.insert(window);
                gate[(window & 0xffff) as usize] = true;
            }
        }
        Self { windows, gate }
    }

    /// In which encoding a part of a secret is in this data, if one is.
    pub(super) fn find(&self, data: &[u8]) -> Option<&'static str> {
        if self.holds(data) {
            return Some("as it is");
        }
        let plain = unescaped(data, false);
        if self.holds(&plain) {
            return Some("escaped");
        }
        if self.holds(&unescaped(data, true)) {
            return Some("escaped, + for a space");
        }
        let digit = |byte: u8| byte.is_ascii_hexdigit();
        if runs(data, 2 * WINDOW, digit).any(|run| (0..2).any(|skip| self.holds(&from_hex(&run[skip..])))) {
            return Some("hex");
        }
        let base64 = |byte: u8| sextet(byte).is_some();
        for source in [data, &plain] {
            let mut runs = runs(source, WINDOW * 4 / 3, base64);
            if runs.any(|run| (0..4).any(|skip| self.holds(&from_base64(&run[skip..])))) {
                return Some("base64");
            }
        }
        let narrow: Vec<u8> = data.iter().copied().filter(|byte| *byte != 0).collect();
        if narrow.len() < data.len() { self.find(&narrow).map(|_| "UTF-16 or UTF-32") } else { None }
    }

    /// In which file below a folder, and in which encoding. Also says how many bytes were read.
    pub(super) fn find_in_folder(&self, folder: &Path) -> (Option<(PathBuf, &'static str)>, usize) {
        let mut read = 0;
        for file in files(folder) {
            // A database deletes and renames files while it runs.
            let Ok(bytes) = std::fs::read(&file) else { continue };
            read += bytes.len();
            if let Some(found) = self.find(&bytes) {
                return (Some((file, found)), read);
            }
        }
        (None, read)
    }

    fn holds(&self, data: &[u8]) -> bool {
        let mut window = 0_u64;
        for (n, byte) in data.iter().enumerate() {
            window = window << 8 | u64::from(*byte);
            if self.gate[(window & 0xffff) as usize] && n + 1 >= WINDOW && self.windows.contains(&window) {
                return true;
            }
        }
        false
    }
}

/// All regular files below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// What comes out of each decompressor, as far as it comes.
pub(super) async fn decompressed(data: &[u8]) -> Vec<Vec<u8>> {
    async fn all(mut decoder: impl AsyncRead + Unpin) -> Vec<u8> {
        let mut out = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = decoder.read(&mut piece).await {
            out.extend_from_slice(&piece[..n]);
        }
        out
    }
    vec![
        all(GzipDecoder::new(data)).await,
        all(ZlibDecoder::new(data)).await,
        all(BrotliDecoder::new(data)).await,
        all(ZstdDecoder::new(data)).await,
    ]
}

/// Percent-encoding and JSON's escapes undone, in any mixture.
fn unescaped(data: &[u8], plus_is_space: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some((byte, after)) = rest.split_first() {
        let read = match byte {
            b'%' => hex(after, 2).map(|byte| (vec![byte as u8], 3)),
            b'+' if plus_is_space => Some((vec![b' '], 1)),
            b'\\' => json_escape(rest),
            _ => None,
        };
        match read {
            Some((bytes, length)) => {
                out.extend(bytes);
                rest = &rest[length..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// What an escape of JSON (RFC 8259 §7) stands for, and its length.
fn json_escape(data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let unit = |at: &[u8]| at.strip_prefix(b"\\u").and_then(|digits| hex(digits, 4));
    match (data.get(1)?, unit(data)) {
        (_, Some(high @ 0xd800..=0xdbff)) => {
            let low = unit(&data[6..])?;
            Some((String::from_utf16(&[high, low]).ok()?.into_bytes(), 12))
        }
        (_, Some(one)) => Some((char::from_u32(one.into())?.to_string().into_bytes(), 6)),
        (escaped @ (b'"' | b'\\' | b'/'), None) => Some((vec![*escaped], 2)),
        _ => None,
    }
}

/// The number that so many hex digits say.
fn hex(data: &[u8], digits: usize) -> Option<u16> {
    let digits = data.get(..digits).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The stretches of data of which every byte is `wanted`, if they are so long.
fn runs(data: &[u8], least: usize, wanted: impl Fn(u8) -> bool) -> impl Iterator<Item = &[u8]> {
    data.split(move |byte| !wanted(*byte)).filter(move |run| run.len() >= least)
}

fn from_hex(run: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    run.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn from_base64(run: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(run.len());
    let (mut bits, mut count) = (0_u32, 0);
    for byte in run {
        bits = bits << 6 | u32::from(sextet(*byte).unwrap());
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

/// Either alphabet (RFC 4648 §4, §5).
fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}
