//! HTTP/2 frames by hand (RFC 9113 §4), for what no client library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::machine::{self, Stream};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags.
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
}

/// The bytes of a frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// One setting.
pub(super) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A header block of literals that enter no table (RFC 7541 §6.2.2): any bytes as names and values.
pub(super) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            text_length(&mut block, text.len());
            // Latin-1, so that a test can write any byte.
            block.extend(text.chars().map(|c| c as u8));
        }
    }
    block
}

/// An integer with a prefix of 7 bits (RFC 7541 §5.1).
fn text_length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// A connection after the preface and our SETTINGS.
pub(super) async fn connect(address: SocketAddr, settings: &[Vec<u8>]) -> Stream {
    let mut stream = machine::connect(address).await;
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(SETTINGS, 0, 0, &settings.concat()));
    stream.write_all(&hello).await.unwrap();
    stream
}

/// The next frame; `None` at the end of the connection.
pub(super) async fn next<R: tokio::io::AsyncRead + Unpin>(stream: &mut R) -> Option<Got> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Got { kind: head[3], flags: head[4], payload })
}

/// Answers pings and settings until the other side closes, at most for `patience`; gives all other frames and whether it closed.
pub(super) async fn drain(stream: &mut Stream, patience: Duration) -> (Vec<Got>, bool) {
    let mut got = Vec::new();
    let read = async {
        while let Some(one) = next(stream).await {
            let answer = match (one.kind, one.flags & ACK) {
                (PING, 0) => Some(frame(PING, ACK, 0, &one.payload)),
                (SETTINGS, 0) => Some(frame(SETTINGS, ACK, 0, &[])),
                _ => None,
            };
            match answer {
                Some(answer) => _ = stream.write_all(&answer).await.is_ok(),
                None => got.push(one),
            }
        }
    };
    let closed = tokio::time::timeout(patience, read).await.is_ok();
    (got, closed)
}
