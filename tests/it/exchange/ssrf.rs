//! What was checked is what is sent (P8), and only where the definition says (P7).

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use hallpass::app::Surroundings;
use hallpass::outbound::Resolve;
use reqwest::Method;
use serde_json::json;

use super::{HEADER, RawUpstream, SECRET, crm, document, outcome, problem, raw, status_of};
use crate::support::{Engine, TestBroker, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// A request to `crm` with this target (below `/exchange`), exactly as written.
fn get(target: &str, token: &str) -> String {
    format!("GET /exchange{target} HTTP/1.1\r\nHost: b\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_parsers_could_read_in_two_ways_is_refused() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(OK).await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for target in [
        "/crm/a/../b",
        "/crm/..",
        "/crm/.",
        "/crm/a/./b",
        "/crm/a/%2e%2e/b",
        "/crm/a/%2E%2e/b",
        "/crm/a/.%2e/b",
        "/crm/%2e/b",
        "/crm/..%2fadmin",
        "/crm/a%5cb",
        "/crm/..%5cadmin",
        "/crm/a\\b",
        "/crm/a%00",
        "/crm/a%0d%0aX:%20y",
        "/crm/a%0a",
        "/crm/a%7f",
        "/crm/a%252e%252e/b",
        "/crm/a%252fb",
        "/crm/a%25%32%66b",
        "/crm/a%25252fb",
        "/crm//a",
        "/crm/a//b",
        "/crm///",
        "/crm//evil.example.com/a",
        "/crm/a;b",
        "/crm/..;/admin",
        "/crm/a;jsessionid=1/b",
        "/crm/a%u002e",
        "/crm/%",
        "/crm/%2",
        "/crm/%zz",
        "/crm/%c0%ae%c0%ae/b",
        "/crm/%e0%80%af",
        "/crm/%ff",
        "/crm/%ef%bc%8f",
        "/crm/%e2%80%a6",
        "/crm/%20../b/%2e%2e%20",
        "/crm/a?b%00",
        "/crm/a?b%",
        "/crm/a?b\"",
        "/crm/a\"b",
        "/crm/a<b>",
        "/crm/{a}",
        "/crm/a`b",
        "/crm/caf\u{e9}",
        "/crm\\a",
        "/crm;x/a",
        "/crm%2fa",
        "/./crm/a",
        "/../exchange/crm/a",
        "//crm/a",
        "/crm:80/a",
        "/crm@evil/a",
        "/%63rm/a",
        "/CRM/a",
    ] {
        let bytes: Vec<u8> = get(target, &token).chars().map(|c| c as u8).collect();
        let answer = raw(broker.running.public, bytes).await;
        let status = status_of(&answer);
        assert!([400, 404].contains(&status), "{target}: {answer}");
        assert!(upstream.heads().is_empty(), "{target} reached the upstream: {:?}", upstream.heads());
    }
    let long = format!("/crm/{}", "a".repeat(5000));
    assert_eq!(status_of(&raw(broker.running.public, get(&long, &token)).await), 400);
    let long = format!("/crm/a?{}", "a".repeat(17_000));
    assert_eq!(status_of(&raw(broker.running.public, get(&long, &token)).await), 400);
    assert!(upstream.heads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_framed_or_aimed_in_two_ways_are_refused() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(OK).await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let auth = format!("Authorization: Bearer {token}\r\n");
    let base = format!("Connection: close\r\n{auth}");
    let many = "X-A: 1\r\n".repeat(300);
    for (name, request) in [
        ("absolute form", format!("GET http://evil/exchange/crm/a HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("absolute form, same host", format!("GET http://b/exchange/crm/a HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("https form", format!("GET https://b/exchange/crm/a HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("authority form", format!("GET b:80 HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("asterisk form", format!("OPTIONS * HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("CONNECT", format!("CONNECT evil:443 HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("TRACE", format!("TRACE /exchange/crm/a HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("no slash", format!("GET exchange/crm/a HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("no Host", format!("GET /exchange/crm/a HTTP/1.1\r\n{base}\r\n")),
        ("two Hosts", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nHost: c\r\n{base}\r\n")),
        ("bad Host", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b/../c\r\n{base}\r\n")),
        ("Host with user", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: a@b\r\n{base}\r\n")),
        (
            "two lengths",
            format!(
                "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\nContent-Length: 5\r\n{base}\r\nbody!"
            ),
        ),
        (
            "a list of lengths",
            format!("POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nContent-Length: 4, 4\r\n{base}\r\nbody"),
        ),
        ("length +4", format!("POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nContent-Length: +4\r\n{base}\r\nbody")),
        ("length 0x4", format!("POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nContent-Length: 0x4\r\n{base}\r\nbody")),
        ("length 4a", format!("POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nContent-Length: 4a\r\n{base}\r\nbody")),
        ("length -1", format!("POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nContent-Length: -1\r\n{base}\r\nbody")),
        (
            "huge length",
            format!(
                "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nContent-Length: 99999999999999999999\r\n{base}\r\nbody"
            ),
        ),
        ("TE x", format!("POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: x\r\n{base}\r\n0\r\n\r\n")),
        (
            "TE chunked, x",
            format!("POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked, x\r\n{base}\r\n0\r\n\r\n"),
        ),
        (
            "TE with VT",
            format!(
                "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: \x0bchunked\r\n{base}\r\n0\r\n\r\n"
            ),
        ),
        (
            "TE in HTTP/1.0",
            format!("POST /exchange/crm/a HTTP/1.0\r\nHost: b\r\nTransfer-Encoding: chunked\r\n{base}\r\n0\r\n\r\n"),
        ),
        (
            "TE gzip, chunked",
            format!(
                "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: gzip, chunked\r\n{base}\r\n0\r\n\r\n"
            ),
        ),
        (
            "TE chunked, chunked",
            format!(
                "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked, chunked\r\n{base}\r\n0\r\n\r\n"
            ),
        ),
        (
            "TE twice",
            format!(
                "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n{base}\r\n0\r\n\r\n"
            ),
        ),
        ("obs-fold", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nX-A: 1\r\n folded\r\n{base}\r\n")),
        ("space before colon", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nX-A : 1\r\n{base}\r\n")),
        ("space before name", format!("GET /exchange/crm/a HTTP/1.1\r\n Host: b\r\n{base}\r\n")),
        ("no colon", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nX-A\r\n{base}\r\n")),
        ("empty name", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\n: x\r\n{base}\r\n")),
        ("bare CR in value", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nX-A: 1\rX-B: 2\r\n{base}\r\n")),
        ("NUL in value", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nX-A: 1\0\r\n{base}\r\n")),
        ("space in target", format!("GET /exchange/crm/a b HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("tab in target", format!("GET /exchange/crm/a\tb HTTP/1.1\r\nHost: b\r\n{base}\r\n")),
        ("HTTP/1.2", format!("GET /exchange/crm/a HTTP/1.2\r\nHost: b\r\n{base}\r\n")),
        ("HTTP/0.9", "GET /exchange/crm/a\r\n\r\n".to_owned()),
        ("too many headers", format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\n{many}{base}\r\n")),
        (
            "oversized header",
            format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nX-A: {}\r\n{base}\r\n", "a".repeat(100_000)),
        ),
        (
            "chunk size overflow",
            format!(
                "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n{base}\r\nffffffffffffffff1\r\nx"
            ),
        ),
    ] {
        let answer = raw(broker.running.public, request).await;
        let status = status_of(&answer);
        assert!([400, 404, 405, 413, 414, 421, 431, 505, 0].contains(&status), "{name}: {answer}");
        let whole = upstream.heads();
        // A broken chunk may break off a request that had begun; nothing else may even begin.
        assert!(whole.is_empty() || name == "chunk size overflow", "{name} reached the upstream: {whole:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feeds_make_no_other_request() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(OK).await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    // RFC 9112 §2.2 lets a server take a bare LF for a line's end; then it is one for everything that we send on.
    let request = format!(
        "GET /exchange/crm/a HTTP/1.1\nHost: b\nConnection: close\nPrefer: 1\nAuthorization: Bearer {token}\n\n"
    );
    let answer = raw(broker.running.public, request).await;
    assert!([200, 400].contains(&status_of(&answer)), "{answer}");
    for head in upstream.heads() {
        assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{head:?}");
        assert!(head.contains("\r\nprefer: 1\r\n"), "{head:?}");
    }
    assert!(upstream.heads().len() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled() {
    let broker = TestBroker::start().await;
    let upstream = Upstream::echo().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let auth = format!("Authorization: Bearer {token}\r\n");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = smuggled.len();
    for (name, request) in [
        // CL.TE: who trusts the length sees one request, who trusts the chunks sees the smuggled one as well.
        (
            "CL then TE",
            format!(
                "POST /exchange/crm/one HTTP/1.1\r\nHost: b\r\n{auth}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
                length + 5
            ),
        ),
        (
            "TE then CL",
            format!(
                "POST /exchange/crm/one HTTP/1.1\r\nHost: b\r\n{auth}Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{smuggled}",
                length + 5
            ),
        ),
        (
            "TE.CL",
            format!(
                "POST /exchange/crm/one HTTP/1.1\r\nHost: b\r\n{auth}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"
            ),
        ),
        (
            "GET with a body",
            format!("GET /exchange/crm/one HTTP/1.1\r\nHost: b\r\n{auth}Content-Length: {length}\r\n\r\n{smuggled}"),
        ),
        (
            "length named away",
            format!(
                "POST /exchange/crm/one HTTP/1.1\r\nHost: b\r\n{auth}Connection: Content-Length\r\nContent-Length: {length}\r\n\r\n{smuggled}"
            ),
        ),
        (
            "chunk extension",
            format!(
                "POST /exchange/crm/one HTTP/1.1\r\nHost: b\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{length:x};ext=\"a\"\r\n{smuggled}\r\n0\r\n\r\n"
            ),
        ),
        (
            "trailers",
            format!(
                "POST /exchange/crm/one HTTP/1.1\r\nHost: b\r\n{auth}Transfer-Encoding: chunked\r\nTrailer: X-Api-Key\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\nX-Api-Key: mine\r\nX-T: 1\r\n\r\n"
            ),
        ),
    ] {
        let before = upstream.seen().len();
        let answer = raw(broker.running.public, request).await;
        let seen: Vec<_> = upstream.seen().into_iter().skip(before).collect();
        assert!(seen.len() <= 1, "{name}: {answer}\n{seen:#?}");
        for one in &seen {
            assert_eq!(one.uri, "/one", "{name}");
            let (length, encoding) = (one.headers.get("content-length"), one.headers.get("transfer-encoding"));
            assert!(length.is_none() || encoding.is_none(), "{name}: framed twice: {one:?}");
            assert_eq!(one.headers.get_all("x-api-key").iter().collect::<Vec<_>>(), [SECRET], "{name}");
            assert!(!one.headers.contains_key("x-t"), "{name}");
        }
        // A second answer would be one to the smuggled request.
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        if ["chunk extension", "trailers", "GET with a body", "length named away"].contains(&name) {
            assert_eq!(seen.len(), 1, "{name}: {answer}");
            assert_eq!(seen[0].body, smuggled, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policy_saw_is_what_the_upstream_received() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(OK).await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let mut expected = Vec::new();
    for (sent, received) in [
        ("/crm/a", "/a"),
        ("/crm/a/", "/a/"),
        ("/crm/a?", "/a?"),
        ("/crm/a??x", "/a??x"),
        ("/crm/a!$&'()*+,=:@-._~", "/a!$&'()*+,=:@-._~"),
        ("/crm/a%20b", "/a%20b"),
        ("/crm/a+b", "/a+b"),
        ("/crm/%c3%a9", "/%C3%A9"),
        ("/crm/%41%7e", "/A~"),
        ("/crm/a%3Fb=c", "/a%3Fb=c"),
        ("/crm/a%23b", "/a%23b"),
        ("/crm/a%3Bb", "/a%3Bb"),
        ("/crm/a%25", "/a%25"),
        ("/crm/a%2fb", "/a%2fb"),
        ("/crm/a%2Fb", "/a%2Fb"),
        ("/crm/a|b^c/[0]", "/a|b^c/[0]"),
        ("/crm/a?b\\c={d}|^`", "/a?b\\c={d}|^`"),
        ("/crm/a?b%0d%0aX:y", "/a?b%0d%0aX:y"),
        ("/crm/a.b/..c/d../...e", "/a.b/..c/d../...e"),
        ("/crm/exchange/crm/a", "/exchange/crm/a"),
        ("/crm/http:x", "/http:x"),
        ("/crm/@evil.example.com", "/@evil.example.com"),
        ("/crm/:80", "/:80"),
        ("/crm/*", "/*"),
        ("/crm/a?x=1&x=2&y[]=%2F&z=a+b", "/a?x=1&x=2&y[]=%2F&z=a+b"),
        ("/crm/a?url=http://169.254.169.254/", "/a?url=http://169.254.169.254/"),
        ("/crm/a?x=../../b&y=%2e%2E", "/a?x=../../b&y=%2e%2E"),
        ("/crm/a?x=%252e;y", "/a?x=%252e;y"),
        ("/crm/a?%C3%28", "/a?%C3%28"),
        ("/crm?x=/..", "/?x=/.."),
        ("/crm/a%E2%80%8Cb", "/a%E2%80%8Cb"),
    ] {
        let answer = raw(broker.running.public, get(sent, &token)).await;
        assert_eq!(status_of(&answer), 200, "{sent}: {answer}");
        let line = upstream.heads().last().unwrap().split("\r\n").next().unwrap().to_owned();
        assert_eq!(line, format!("GET {received} HTTP/1.1"), "{sent}");
        expected.push(received);
    }
    let intents = broker.records().await.into_iter().filter(|one| one["kind"] == "call.intent");
    let recorded: Vec<String> = intents.map(|one| one["target"].as_str().unwrap().to_owned()).collect();
    assert_eq!(recorded, expected);
}

/// A fragment is no part of a request target (RFC 9112 §3.2); the HTTP library cuts it off before anybody looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_fragment_reaches_nobody() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(OK).await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for target in ["/crm/a#b", "/crm/a?b#/../c", "/crm/a#?b"] {
        let answer = raw(broker.running.public, get(target, &token)).await;
        assert!([200, 400].contains(&status_of(&answer)), "{target}: {answer}");
    }
    for head in upstream.heads() {
        assert!(head.starts_with("GET /a HTTP/1.1\r\n") || head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    }
    for record in broker.records().await.iter().filter(|one| one["kind"] == "call.intent") {
        assert!(!record["target"].as_str().unwrap().contains('#'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_of_the_base_url_cannot_be_left() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(OK).await;
    let token = crm(&broker, &format!("{}/api/v2/", upstream.url()), HEADER, "").await;
    for (sent, received) in [("/crm", "/api/v2/"), ("/crm/a?x", "/api/v2/a?x"), ("/crm/@evil/", "/api/v2/@evil/")] {
        assert_eq!(status_of(&raw(broker.running.public, get(sent, &token)).await), 200);
        assert!(upstream.heads().last().unwrap().starts_with(&format!("GET {received} HTTP/1.1\r\n")), "{sent}");
    }
    assert_eq!(status_of(&raw(broker.running.public, get("/crm/../v1/a", &token)).await), 400);
    assert_eq!(upstream.heads().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn base_urls_that_hide_where_they_lead_are_refused_when_applied() {
    let broker = TestBroker::start().await;
    for (base_url, hint) in [
        ("http://2130706433/", "127.0.0.1"),
        ("http://0x7f000001/", "127.0.0.1"),
        ("http://0177.0.0.1/", "127.0.0.1"),
        ("http://127.1/", "127.0.0.1"),
        ("http://127.0.0.1./", ""),
        ("http://[::ffff:169.254.169.254]/", "never"),
        ("http://[::ffff:a9fe:a9fe]/", "never"),
        ("http://[64:ff9b::a9fe:a9fe]/", "never"),
        ("http://[fe80::1]/", "never"),
        ("http://[fd00:ec2::254]/", "never"),
        ("http://169.254.169.254/", "never"),
        ("http://169.254.170.2/", "never"),
        ("http://100.100.100.200/", "never"),
        ("http://0.0.0.0/", "never"),
        ("http://[::]/", "never"),
        ("http://224.0.0.1/", "never"),
        ("http://255.255.255.255/", "never"),
        ("http://user:secret@127.0.0.1/", "user name"),
        ("http://user@127.0.0.1/", "user name"),
        ("http://example.com@169.254.169.254/", "user name"),
        ("http://127.0.0.1/?a=b", "query"),
        ("http://127.0.0.1/#a", "fragment"),
        ("http://127.0.0.1/a/../b", "canonical"),
        ("http://127.0.0.1/a//b", "canonical"),
        ("http://127.0.0.1/%2e%2e/b", "canonical"),
        ("http://127.0.0.1\\@example.com/", ""),
        ("http:/127.0.0.1/", "usual form"),
        ("http:127.0.0.1/", "usual form"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://127.0.0.1/", "scheme"),
        ("unix:///run/docker.sock", "scheme"),
        ("http://\u{ff11}27.0.0.1/", "127.0.0.1"),
        ("http://127\u{3002}0.0.1/", "127.0.0.1"),
        ("http://exa mple.com/", ""),
        ("http:///a", ""),
        ("127.0.0.1:80", ""),
        ("", ""),
    ] {
        let quoted = serde_json::to_string(base_url).unwrap();
        let body = json!({ "document": document(&quoted, HEADER, "") });
        let (status, answer) = broker.admin("POST", "/admin/v1/apply", body).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("document_invalid")), "{base_url}: {answer}");
        let mistakes = answer["mistakes"].as_array().unwrap();
        let mine = mistakes.iter().find(|one| one["at"] == "upstreams[0].base_url").expect(base_url);
        assert!(mine["problem"].as_str().unwrap().contains(hint), "{base_url}: {mine}");
        assert!(!mine["fix"].as_str().unwrap().is_empty());
        assert!(!mine.to_string().contains("secret@"), "{mine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_only_where_the_definition_says_so() {
    let broker = TestBroker::start().await;
    let upstream = Upstream::echo().await;
    let open = document(&upstream.url(), HEADER, "");
    let closed = open.replace("allow_private: true", "allow_private: false");
    broker.apply(&closed).await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    let token = broker.token(&agent).await;
    let call = || async { broker.call(Method::GET, "/crm/a", &token).send().await.unwrap() };
    assert_eq!(problem(call().await, 502).await, "upstream_address");
    assert_eq!(outcome(&broker, 0).await["reason"], "upstream_address");
    broker.apply(&open).await;
    assert_eq!(call().await.status(), 200);
    // Taken back: a connection that is still open does not outlive the permission.
    broker.apply(&closed).await;
    assert_eq!(problem(call().await, 502).await, "upstream_address");
    assert_eq!(upstream.seen().len(), 1);
    let port = upstream.address.port();
    broker.apply(&closed.replace(&upstream.url(), &format!("http://localhost:{port}"))).await;
    assert_eq!(problem(call().await, 502).await, "upstream_address");
}

/// A resolver that gives one prepared answer after the other, the last one for ever, and remembers what it was asked.
struct Fickle {
    answers: Mutex<Vec<Vec<&'static str>>>,
    asked: Mutex<Vec<(String, u16)>>,
}

impl Resolve for Fickle {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.lock().unwrap().push((host.to_owned(), port));
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move {
            if answer == ["error"] {
                return Err(io::Error::other("no such name"));
            }
            Ok(answer.iter().map(|ip| ip.parse().unwrap()).collect())
        })
    }
}

/// A broker whose upstream has a name, and the resolver that answers for it.
async fn named(answers: &[&[&'static str]], base_url: &str, allow: bool) -> (TestBroker, Arc<Fickle>, String) {
    let answers = answers.iter().map(|one| one.to_vec()).collect();
    let resolver = Arc::new(Fickle { answers: Mutex::new(answers), asked: Mutex::default() });
    let surroundings = Surroundings { resolver: resolver.clone(), ..Surroundings::default() };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    let document = document(base_url, HEADER, "timeouts: { connect_seconds: 1 }");
    broker.apply(&document.replace("allow_private: true", &format!("allow_private: {allow}"))).await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    let token = broker.token(&agent).await;
    (broker, resolver, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let upstream = RawUpstream::answering(OK).await;
    let port = upstream.address.port();
    let base = format!("http://crm.example.com:{port}");
    // Each call needs a new connection, so each asks once: whatever a second look-up would say, nobody makes one.
    let answers: &[&[&str]] = &[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"], &["fe80::1"], &["127.0.0.1"]];
    let (broker, resolver, token) = named(answers, &base, true).await;
    for (n, answer) in answers.iter().enumerate() {
        let got = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
        if answer == &["127.0.0.1"] {
            assert_eq!(got.status(), 200, "{n}");
        } else {
            assert_eq!(problem(got, 502).await, "upstream_address", "{n}");
        }
        assert_eq!(resolver.asked.lock().unwrap().len(), n + 1);
    }
    assert_eq!(upstream.heads().len(), 3);
    assert!(upstream.heads()[0].contains(&format!("\r\nhost: crm.example.com:{port}\r\n")), "{:?}", upstream.heads());
    assert_eq!(resolver.asked.lock().unwrap()[0], ("crm.example.com".to_owned(), port));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_address_spoils_the_answer() {
    let upstream = RawUpstream::answering(OK).await;
    let base = format!("http://crm.example.com:{}", upstream.address.port());
    for (answers, allow, code) in [
        (&["127.0.0.1", "169.254.169.254"][..], true, "upstream_address"),
        (&["169.254.169.254", "127.0.0.1"], true, "upstream_address"),
        (&["8.8.8.8", "fe80::1"], true, "upstream_address"),
        (&["8.8.8.8", "10.0.0.1"], false, "upstream_address"),
        (&["8.8.8.8", "::ffff:127.0.0.1"], false, "upstream_address"),
        (&["::ffff:169.254.169.254"], true, "upstream_address"),
        (&["127.0.0.1"], false, "upstream_address"),
        (&["::1"], false, "upstream_address"),
        (&["0.0.0.0"], true, "upstream_address"),
        (&["fd00:ec2::254"], true, "upstream_address"),
        (&[], true, "upstream_dns"),
        (&["error"], true, "upstream_dns"),
    ] {
        let (broker, _, token) = named(&[answers], &base, allow).await;
        let got = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
        assert_eq!(problem(got, 502).await, code, "{answers:?} {allow}");
    }
    assert!(upstream.heads().is_empty());
    // The second of two good ones is tried when the first does not answer.
    let (broker, _, token) = named(&[&["127.0.0.2", "127.0.0.1"]], &base, true).await;
    assert_eq!(broker.call(Method::GET, "/crm/a", &token).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_the_agents_to_read_and_nobodys_to_follow() {
    let other = RawUpstream::answering(OK).await;
    for status in [301, 302, 303, 307, 308] {
        let upstream = RawUpstream::answering(format!(
            "HTTP/1.1 {status} Moved\r\nLocation: {}/x?key={SECRET}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            other.url()
        ))
        .await;
        let broker = TestBroker::start().await;
        let token = crm(&broker, &upstream.url(), HEADER, "").await;
        let answer = broker.call(Method::POST, "/crm/a", &token).body("x").send().await.unwrap();
        assert_eq!(answer.status(), status);
        let location = answer.headers()["location"].to_str().unwrap();
        assert_eq!(location, format!("{}/x?key=[redacted by hallpass]", other.url()));
        assert_eq!(upstream.heads().len(), 1);
    }
    assert!(other.heads().is_empty());
}
