//! The agent's side: plain HTTP, and a memory of every byte that came back.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::cli::Failure;

/// An HTTP client of one server.
pub(super) struct Wire {
    server: SocketAddr,
    received: Vec<u8>,
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) text: String,
}

impl Answer {
    /// The stable code of a refusal.
    pub(super) fn code(&self) -> &str {
        self.text_at("/code").unwrap_or_default()
    }

    /// The text at a JSON pointer.
    pub(super) fn text_at(&self, pointer: &str) -> Option<&str> {
        self.body.pointer(pointer).and_then(Value::as_str)
    }
}

impl Wire {
    pub(super) fn to(server: SocketAddr) -> Self {
        Self { server, received: Vec::new() }
    }

    /// Every byte of every answer so far, heads and bodies.
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    /// One request on a connection of its own.
    pub(super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Result<Answer, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("{method} {path}: {error}"));
        let mut request = Request::builder().method(method).uri(path).header("host", self.server.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).map_err(|error| failed(&error))?;
        let stream = TcpStream::connect(self.server).await.map_err(|error| failed(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        driver.abort();
        let head = Response::from_parts(head, ());
        for (name, value) in head.headers() {
            self.received.extend_from_slice(name.as_str().as_bytes());
            self.received.extend_from_slice(b": ");
            self.received.extend_from_slice(value.as_bytes());
            self.received.extend_from_slice(b"\r\n");
        }
        self.received.extend_from_slice(&body);
        Ok(Answer {
            status: head.status().as_u16(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

/// In which form `secret` is somewhere in `bytes`, if it is: as it is, percent-encoded, in hex, or in base64 (either
/// alphabet) at any of the three offsets that it can have inside of a longer text.
pub(super) fn trace_of(secret: &[u8], bytes: &[u8]) -> Option<&'static str> {
    if contains(bytes, secret) {
        return Some("as it is");
    }
    if contains(&percent_decode(bytes).collect::<Vec<u8>>(), secret) {
        return Some("percent-encoded");
    }
    if contains(&bytes.to_ascii_lowercase(), HEXLOWER.encode(secret).as_bytes()) {
        return Some("in hex");
    }
    let one_alphabet = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    };
    let text: Vec<u8> = bytes.iter().map(one_alphabet).collect();
    (0..3).any(|offset| contains(&text, base64_inside(secret, offset).as_bytes())).then_some("in base64")
}

/// The base64 characters that `secret` alone decides when it stands `offset` bytes behind a group's beginning.
fn base64_inside(secret: &[u8], offset: usize) -> String {
    let mut shifted = vec![0; offset];
    shifted.extend_from_slice(secret);
    let whole = STANDARD_NO_PAD.encode(&shifted);
    let (from, to) = ((offset * 8).div_ceil(6), shifted.len() * 8 / 6);
    whole.get(from..to).unwrap_or_default().to_owned()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    !wanted.is_empty() && bytes.windows(wanted.len()).any(|part| part == wanted)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn every_form_of_the_secret_is_found_and_nothing_else() {
        let secret = b"demo/sk?0123456789>~";
        let all_percent: String = secret.iter().map(|byte| format!("%{byte:02x}")).collect();
        for (form, text) in [
            ("as it is", String::from_utf8(secret.to_vec()).unwrap()),
            ("percent-encoded", all_percent),
            ("percent-encoded", "demo%2Fsk%3f0123456789%3E~".to_owned()),
            ("in hex", HEXLOWER.encode(secret).to_uppercase()),
        ] {
            assert_eq!(trace_of(secret, format!("{{\"a\":\"{text}\"}}").as_bytes()), Some(form));
        }
        for before in ["", "u", "us", "user:"] {
            let plain = [before.as_bytes(), secret, b"!"].concat();
            for text in [STANDARD.encode(&plain), URL_SAFE_NO_PAD.encode(&plain)] {
                assert_eq!(trace_of(secret, text.as_bytes()), Some("in base64"), "{before}");
            }
        }
        assert_eq!(trace_of(secret, b"demo/sk?0123456789 and [redacted by hallpass]"), None);
    }
}
