//! What came over the wire, byte for byte, and what a client would make of it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::searcher::{Searcher, decompressed};
use crate::exchange::raw;

/// An answer as it came.
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    /// Without its chunks.
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn parse(bytes: Vec<u8>) -> Self {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let chunked = bytes[..head].to_ascii_lowercase().windows(26).any(|part| part == b"transfer-encoding: chunked");
        let body = if chunked { dechunked(&bytes[head..]) } else { bytes[head..].to_vec() };
        Self { body, bytes }
    }

    /// Over HTTP/1.1, from the socket.
    pub(super) async fn get(address: SocketAddr, method: &str, path: &str, token: &str) -> Self {
        let request = format!(
            "{method} /exchange{path} HTTP/1.1\r\nHost: b\r\nTE: trailers\r\nConnection: close, TE\r\n\
             Accept-Encoding: gzip, deflate, br, zstd\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        Self::parse(raw(address, request).await.chars().map(|c| c as u8).collect())
    }

    /// Over HTTP/2, where trailers need no announcement; written down as HTTP/1.1 would have it.
    pub(super) async fn get_http2(address: SocketAddr, path: &str, token: &str) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://b/exchange{path}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let mut bytes = format!("HTTP/2 {}\r\n", answer.status()).into_bytes();
        write_down(answer.headers(), &mut bytes);
        let body = answer.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let body = body.to_bytes().to_vec();
        bytes.extend_from_slice(&body);
        write_down(&trailers, &mut bytes);
        Self { bytes, body }
    }

    pub(super) fn status(&self) -> u16 {
        let line = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(16)]).into_owned();
        line.split(' ').nth(1).and_then(|status| status.trim().parse().ok()).unwrap_or(0)
    }

    /// How often the body, or the whole of it, says that something was taken out.
    pub(super) fn marks_in_body(&self) -> usize {
        count(&self.body, MARK)
    }

    pub(super) fn marks(&self) -> usize {
        count(&self.bytes, MARK)
    }

    /// Whether the agent could read a secret out of this, also if it decompressed what it got.
    pub(super) async fn leak(&self, searcher: &Searcher) -> Option<&'static str> {
        let mut views = vec![self.bytes.clone(), self.body.clone()];
        views.extend(decompressed(&self.body).await);
        views.iter().find_map(|view| searcher.find(view))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

pub(super) const MARK: &[u8] = b"[redacted by hallpass]";

fn count(data: &[u8], part: &[u8]) -> usize {
    data.windows(part.len()).filter(|window| *window == part).count()
}

fn write_down(headers: &http::HeaderMap, bytes: &mut Vec<u8>) {
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: ").as_bytes());
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
}

/// RFC 9112 §7.1, as far as it goes.
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let size = line.split(';').next().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        rest = &rest[end + 2..];
        let size = size.min(rest.len());
        body.extend_from_slice(&rest[..size]);
        rest = rest.get(size + 2..).unwrap_or_default();
    }
    body
}
