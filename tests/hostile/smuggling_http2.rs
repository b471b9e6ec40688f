//! Smuggling through the change from HTTP/2 to HTTP/1.1: what would be a line end or a framing there.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::frames::*;
use super::smuggling::{Recorder, SMUGGLED, broker_before, good_call};

/// Headers in place of (or after) the usual ones, and the body.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str, Option<&'static str>);

const ROWS: &[Row] = &[
    ("plain", &[], "hello", Some("hello")),
    ("right content-length", &[("content-length", "5")], "hello", Some("hello")),
    ("content-length too small", &[("content-length", "0")], "{S}", None),
    ("content-length too small, not 0", &[("content-length", "3")], "abc{S}", None),
    ("content-length too large", &[("content-length", "500")], "hello", None),
    ("content-length +5", &[("content-length", "+5")], "hello", None),
    ("content-length 5, 5", &[("content-length", "5, 5")], "hello", None),
    ("two content-lengths", &[("content-length", "5"), ("content-length", "6")], "hello", None),
    ("two equal content-lengths", &[("content-length", "5"), ("content-length", "5")], "hello", None),
    ("transfer-encoding", &[("transfer-encoding", "chunked")], "0\r\n\r\n{S}", None),
    ("connection", &[("connection", "x-api-key")], "hello", None),
    ("keep-alive", &[("keep-alive", "1")], "hello", None),
    ("proxy-connection", &[("proxy-connection", "close")], "hello", None),
    ("upgrade", &[("upgrade", "h2c")], "hello", None),
    ("te: chunked", &[("te", "chunked")], "hello", None),
    ("CRLF in a value", &[("x-a", "b\r\ntransfer-encoding: chunked")], "0\r\n\r\n{S}", None),
    ("a request in a value", &[("x-a", "b\r\n\r\nGET /any/smuggled HTTP/1.1\r\nHost: b\r\n\r\n")], "", None),
    ("LF in a value", &[("x-a", "b\ncontent-length: 0")], "{S}", None),
    ("CR in a value", &[("x-a", "b\rc")], "", None),
    ("NUL in a value", &[("x-a", "b\u{0}c")], "", None),
    ("CRLF in a name", &[("x-a: b\r\ntransfer-encoding", "chunked")], "0\r\n\r\n{S}", None),
    ("colon in a name", &[("transfer-encoding: chunked\r\nx", "y")], "0\r\n\r\n{S}", None),
    ("space in a name", &[("transfer-encoding ", "chunked")], "0\r\n\r\n{S}", None),
    ("upper case", &[("Transfer-Encoding", "chunked")], "0\r\n\r\n{S}", None),
    ("empty name", &[("", "b")], "", None),
    ("CRLF in :path", &[(":path", "/exchange/crm/any/row HTTP/1.1\r\nx: y\r\n\r\nGET /any/smuggled")], "", None),
    ("space in :path", &[(":path", "/exchange/crm/any/row HTTP/1.1")], "", None),
    ("empty :path", &[(":path", "")], "", None),
    ("no slash in :path", &[(":path", "exchange/crm/any/row")], "", None),
    ("URL in :path", &[(":path", "http://evil/exchange/crm/any/row")], "", None),
    ("CRLF in :method", &[(":method", "GET /any/smuggled HTTP/1.1\r\nx: y\r\n\r\nPOST")], "", None),
    ("space in :method", &[(":method", "POST /any/smuggled")], "", None),
    ("CRLF in :authority", &[(":authority", "b\r\nx: y")], "", None),
    ("userinfo in :authority", &[(":authority", "a@b")], "", None),
    ("host as :authority", &[("host", "b")], "hello", Some("hello")),
    ("host as :authority, other case and the usual port", &[("host", "B:80")], "hello", Some("hello")),
    ("another host", &[("host", "evil")], "hello", None),
    ("another port in host", &[("host", "b:443")], "hello", None),
    ("host twice", &[("host", "b"), ("host", "b")], "hello", None),
    ("host, and then another", &[("host", "b"), ("host", "evil")], "hello", None),
    ("an empty host", &[("host", "")], "hello", None),
    ("userinfo in host", &[("host", "a@b")], "hello", None),
    ("CRLF in :scheme", &[(":scheme", "http\r\nx: y")], "", None),
    (":path twice", &[(":path", "/exchange/crm/any/row"), (":path", "/exchange/crm/any/smuggled")], "", None),
    (":status", &[(":status", "200")], "", None),
    ("an unknown pseudo-header", &[(":x", "y")], "", None),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_on_the_way_down_to_http_1() {
    let upstream = Recorder::start().await;
    let (broker, token) = broker_before(&upstream.url()).await;
    let authorization = format!("Bearer {token}");
    let mut wrong = Vec::new();
    for (name, given, body, wanted) in ROWS {
        let mut headers =
            vec![(":method", "POST"), (":scheme", "http"), (":authority", "b"), (":path", "/exchange/crm/any/row")];
        for (at, (key, value)) in given.iter().enumerate() {
            let there = headers.iter_mut().find(|(usual, _)| usual == key).filter(|_| at == 0);
            match there {
                Some(usual) => usual.1 = value,
                None => headers.push((key, value)),
            }
            if headers.len() == 4 && !key.starts_with(':') {
                headers.push((key, value));
            }
        }
        headers.push(("authorization", &authorization));
        let mut stream = connect(broker.running.public, &[]).await;
        let body = body.replace("{S}", SMUGGLED);
        let mut request = frame(HEADERS, END_HEADERS, 1, &block(&headers));
        request.extend(frame(DATA, END_STREAM, 1, body.as_bytes()));
        stream.write_all(&request).await.unwrap();
        // Until the stream is over: answered to its end, reset, or the connection with it.
        let mut first = None;
        let mut over = false;
        while !over {
            let Ok(Some(got)) = tokio::time::timeout(Duration::from_secs(8), next(&mut stream)).await else { break };
            over = match got.kind {
                HEADERS | DATA => {
                    first = first.or((got.kind == HEADERS).then(|| got.payload[0]));
                    got.flags & END_STREAM != 0
                }
                RST_STREAM | GOAWAY => true,
                _ => false,
            };
        }
        let seen = upstream.take(name);
        let right = match wanted {
            // 0x88 is `:status: 200`, 0x8e is 500 (RFC 7541, appendix A).
            Some(body) => seen.len() == 1 && seen[0].body == *body && first == Some(0x88),
            None => seen.is_empty() && !matches!(first, Some(0x88 | 0x8e)),
        };
        if !right {
            wrong.push(format!("{name}: first byte {first:?}, over {over}, upstream saw {seen:?}"));
        }
        good_call(&broker, &token, name).await;
        assert_eq!(upstream.take(name).len(), 2, "after {name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
