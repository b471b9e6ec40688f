//! An upstream that repeats the secret that it was sent, in every place that an answer has. What it repeats is what it
//! really received: it is told the place and the form, never the secret.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt as _;

use super::forms::forms;
use crate::exchange::{RawUpstream, drain};

/// The ways in which a secret is put into a call: the name of the upstream, of its credential, and `inject`.
pub(super) const KINDS: &[(&str, &str)] = &[
    ("header", "{ kind: header, name: X-Api-Key, credential: header }"),
    ("prefixed", "{ kind: header, name: Authorization, prefix: 'Token token=', credential: prefixed }"),
    ("bearer", "{ kind: bearer, credential: bearer }"),
    ("basic", "{ kind: basic, username: broker, credential: basic }"),
    ("query", "{ kind: query, name: key, credential: query }"),
];

/// Places in a body: the agent gets all of it but the secret.
pub(super) const BODIES: &[&str] = &[
    "length",
    "close",
    "cuts",
    "bytes",
    "extension",
    "multipart",
    "error",
    "unauthorized",
    "gzip",
    "deflate",
    "br",
    "zstd",
    "gzip, br",
    "utf-16le",
    "utf-16be",
    "utf-32le",
    "utf-32be",
    "utf-16 unlabelled",
];

/// Places around a body.
pub(super) const HEADS: &[&str] =
    &["reason", "values", "names", "trailers", "early", "no content", "not modified", "redirect", "second"];

/// Answers that are none: the agent, the log and the record get an error.
pub(super) const BROKEN: &[&str] = &[
    "status",
    "version",
    "header line",
    "huge head",
    "length line",
    "chunk size",
    "coding",
    "not gzip",
    "transfer",
    "charset",
    "switch",
    "cut",
];

/// The server, and the secrets that it received by the kind of injection.
pub(super) struct Echo {
    pub(super) upstream: RawUpstream,
    received: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

impl Echo {
    pub(super) async fn start() -> Self {
        let received: Arc<Mutex<HashMap<String, Vec<String>>>> = Arc::default();
        let remembered = received.clone();
        let upstream = RawUpstream::start(move |mut stream, head| {
            let head: Vec<u8> = head.chars().map(|c| c as u8).collect();
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap();
            let mut words = path.split('?').next().unwrap().split('/').skip(1).map(|word| word.replace("%20", " "));
            let (kind, place) = (words.next().unwrap(), words.next().unwrap());
            let form: usize = words.next().unwrap().parse().unwrap();
            let secret = secret_in(&kind, &head);
            let mut all = remembered.lock().unwrap();
            let all = all.entry(kind).or_default();
            if !all.contains(&secret) {
                all.push(secret);
            }
            // The oldest or the newest that it knows: an upstream that was told a new key may still repeat the old one.
            let (place, secret) = match place.strip_prefix("old ") {
                Some(place) => (place.to_owned(), all[0].clone()),
                None => (place, all[all.len() - 1].clone()),
            };
            Box::pin(async move {
                let answer = answer(&place, &forms(&secret)[form].1).await;
                // The broker may hang up as soon as it has seen enough.
                _ = stream.write_all(&answer).await.is_ok();
                _ = stream.shutdown().await.is_ok();
                drain(&mut stream).await;
            })
        })
        .await;
        Self { upstream, received }
    }

    /// The document that declares it once for each kind of injection.
    pub(super) fn document(&self) -> String {
        let mut text = "upstreams:\n".to_owned();
        for (kind, inject) in KINDS {
            text.push_str(&upstream(kind, &format!("{}/{kind}", self.upstream.url()), inject));
        }
        text
    }

    /// The secrets that came by this kind of injection.
    pub(super) fn received(&self, kind: &str) -> Vec<String> {
        self.received.lock().unwrap().get(kind).cloned().unwrap_or_default()
    }
}

/// One upstream of a document.
pub(super) fn upstream(name: &str, base_url: &str, inject: &str) -> String {
    format!(
        "  - name: {name}\n    base_url: {base_url}\n    allow_private: true\n    inject: {inject}\n    \
         timeouts: {{ connect_seconds: 1 }}\n    \
         operations: [ {{ id: all, methods: [GET, HEAD], path: '/{{*rest}}', scope: any }} ]\n"
    )
}

fn secret_in(kind: &str, head: &str) -> String {
    let header = |name: &str| {
        let line = head.split("\r\n").find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{kind} without {name}"))[name.len() + 2..].to_owned()
    };
    let behind = |text: String, prefix: &str| text.strip_prefix(prefix).unwrap().to_owned();
    match kind {
        "header" => header("x-api-key"),
        "prefixed" => behind(header("authorization"), "Token token="),
        "bearer" => behind(header("authorization"), "Bearer "),
        "basic" => {
            let pair = STANDARD.decode(behind(header("authorization"), "Basic ")).unwrap();
            behind(String::from_utf8(pair).unwrap(), "broker:")
        }
        _ => {
            let query = head.split(' ').nth(1).unwrap().split_once('?').unwrap().1;
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == "key").unwrap().1.into_owned()
        }
    }
}

/// An answer with `echo` in this place.
pub(super) async fn answer(place: &str, echo: &[u8]) -> Vec<u8> {
    let marked = [b"<<", echo, b">>"].concat();
    let whole = |head: &str, body: &[u8]| {
        [format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
    };
    let lines = |first: &str, lines: &[&[u8]]| {
        let mut out = format!("HTTP/1.1 {first}\r\n").into_bytes();
        lines.iter().for_each(|line| out.extend([line, &b"\r\n"[..]].concat()));
        out
    };
    let with = |before: &str, after: &str| [before.as_bytes(), echo, after.as_bytes()].concat();
    let chunked = |head: &str, pieces: &[&[u8]]| {
        let mut out = format!("HTTP/1.1 {head}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
        pieces.iter().for_each(|piece| out.extend(chunk(piece, b"")));
        [&out[..], b"0\r\n\r\n"].concat()
    };
    match place {
        "length" => whole("200 OK", &marked),
        "error" => whole("500 Internal Server Error", &marked),
        "unauthorized" => whole("401 Unauthorized", &marked),
        "close" => [b"HTTP/1.1 200 OK\r\n\r\n", &marked[..]].concat(),
        "bytes" => chunked("200 OK", &marked.chunks(1).collect::<Vec<_>>()),
        // One echo for each place at which it can be cut in two.
        "cuts" => {
            let mut pieces: Vec<&[u8]> = Vec::new();
            for cut in 0..=echo.len() {
                pieces.extend([b"<<", &echo[..cut], &echo[cut..], b">>"]);
            }
            chunked("200 OK", &pieces)
        }
        "extension" => {
            let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            out.extend(chunk(&marked, &with(";key=\"", "\"")));
            out.extend(chunk(b"behind", &with(";", "")));
            [&out[..], b"0;last=", echo, b"\r\n\r\n"].concat()
        }
        "multipart" => {
            let part = [b"--b\r\nContent-Disposition: form-data; name=\"", echo, b"\"\r\n\r\n<<", echo, b">>\r\n--b--"]
                .concat();
            whole("200 OK\r\nContent-Type: multipart/form-data; boundary=b", &part)
        }
        "gzip" | "deflate" | "br" | "zstd" | "gzip, br" => {
            let mut body = marked;
            for coding in place.split(", ") {
                body = compressed(coding, &body).await;
            }
            chunked(&format!("200 OK\r\nContent-Encoding: {place}"), &body.chunks(3).collect::<Vec<_>>())
        }
        "reason" => [b"HTTP/1.1 200 ", echo, b"\r\nContent-Length: 2\r\n\r\nok"].concat(),
        "values" => {
            let values = [
                with("X-Echo: <<", ">>"),
                with("X-Echo: ", ""),
                with("ETag: \"", "\""),
                with("Set-Cookie: s=", ""),
                with("WWW-Authenticate: Basic realm=\"", "\""),
                with("Content-Type: text/plain; x=", ""),
                with("Link: <https://a/", ">"),
                with("Server: ", ""),
                with("Date: ", ""),
                with("Warning: 199 - ", ""),
                with("Content-Disposition: attachment; filename=", ""),
                with("Connection: close, ", ""),
                with("Keep-Alive: ", ""),
                with("Via: 1.1 ", ""),
                with("Alt-Svc: ", ""),
                with("Vary: ", ""),
                b"Content-Length: 2".to_vec(),
                b"".to_vec(),
                b"ok".to_vec(),
            ];
            lines("200 OK", &values.iter().map(Vec::as_slice).collect::<Vec<_>>())
        }
        "names" if is_token(echo) => {
            lines("200 OK", &[&with("", ": a"), &with("X-", "-Y: b"), b"Content-Length: 2", b"", b"ok"])
        }
        "names" => whole("200 OK", b"ok"),
        "trailers" => {
            let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Echo, X-Name\r\n\r\n".to_vec();
            out.extend(chunk(b"ok", b""));
            out.extend(with("0\r\nX-Echo: <<", ">>\r\n"));
            if is_token(echo) {
                out.extend(with("", ": a\r\n"));
            }
            [&out[..], b"\r\n"].concat()
        }
        "early" => [lines("103 Early Hints", &[&with("Link: <", ">"), b""]), whole("200 OK", b"ok")].concat(),
        "no content" => lines("204 No Content", &[&with("X-Echo: <<", ">>"), b""]),
        "not modified" => lines("304 Not Modified", &[&with("X-Echo: <<", ">>"), b""]),
        "redirect" => {
            lines("307 Temporary Redirect", &[&with("Location: https://a/?key=", "&b"), b"Content-Length: 0", b""])
        }
        // Behind the first answer: another one, to nobody's request.
        "second" => [whole("200 OK", b"ok"), whole("200 OK", &marked)].concat(),
        "status" => [b"HTTP/1.1 ", echo, b"\r\n\r\n"].concat(),
        "version" => [echo, b" 200 OK\r\n\r\n"].concat(),
        "header line" => lines("200 OK", &[&with("X Y ", ": a"), b"", b"ok"]),
        "huge head" => lines("200 OK", &[&[b"X-Echo: ", &echo.repeat(600_000 / echo.len())[..]].concat(), b"", b"ok"]),
        "length line" => lines("200 OK", &[&with("Content-Length: ", ""), b"", b"ok"]),
        "chunk size" => [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", echo, b"\r\n"].concat(),
        "coding" => lines("200 OK", &[&with("Content-Encoding: ", ""), b"", &marked]),
        "not gzip" => whole("200 OK\r\nContent-Encoding: gzip", &marked),
        "transfer" => lines("200 OK", &[&with("Transfer-Encoding: ", ", chunked"), b"", &marked]),
        "charset" => whole("200 OK\r\nContent-Type: text/plain; charset=UTF-7", &marked),
        wide if wide.starts_with("utf-") => {
            let unit = |byte: &u8| match &wide[4..] {
                "16le" => vec![*byte, 0],
                "16be" => vec![0, *byte],
                "32be" => vec![0, 0, 0, *byte],
                "32le" => vec![*byte, 0, 0, 0],
                _ => vec![*byte, 0],
            };
            let body: Vec<u8> = marked.iter().flat_map(unit).collect();
            let label = if wide.len() == 8 { format!("text/plain; charset={wide}") } else { "image/png".to_owned() };
            chunked(&format!("200 OK\r\nContent-Type: {label}"), &body.chunks(5).collect::<Vec<_>>())
        }
        "switch" => lines("101 Switching Protocols", &[b"Connection: upgrade", &with("Upgrade: ", ""), b"", &marked]),
        "cut" => [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", &marked[..]].concat(),
        other => panic!("no place {other}"),
    }
}

fn chunk(data: &[u8], extension: &[u8]) -> Vec<u8> {
    // An empty chunk would be the last one.
    if data.is_empty() {
        return Vec::new();
    }
    [format!("{:x}", data.len()).as_bytes(), extension, b"\r\n", data, b"\r\n"].concat()
}

/// Whether it can be a header's name (RFC 9110 §5.6.2).
pub(super) fn is_token(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// In one of the codings that HTTP knows.
pub(super) async fn compressed(coding: &str, plain: &[u8]) -> Vec<u8> {
    use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
    use tokio::io::AsyncReadExt as _;
    let mut out = Vec::new();
    match coding {
        "gzip" => GzipEncoder::new(plain).read_to_end(&mut out).await,
        "deflate" => ZlibEncoder::new(plain).read_to_end(&mut out).await,
        "br" => BrotliEncoder::new(plain).read_to_end(&mut out).await,
        _ => ZstdEncoder::new(plain).read_to_end(&mut out).await,
    }
    .unwrap();
    out
}
