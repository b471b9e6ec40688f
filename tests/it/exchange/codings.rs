//! What upstreams write into `Content-Encoding`, rightly and wrongly: the agent gets the text, or an answer that names the
//! upstream's fault; never an empty reply.

use std::time::Duration;

use async_compression::tokio::bufread::{DeflateEncoder, GzipEncoder, ZlibEncoder};
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{HEADER, RawUpstream, SECRET, crm, document, drain, outcome};
use crate::support::TestBroker;

const MARK: &str = "[redacted by hallpass]";

async fn encoded(coding: &str, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => GzipEncoder::new(plain).read_to_end(&mut out).await,
        "zlib" => ZlibEncoder::new(plain).read_to_end(&mut out).await,
        "raw" => DeflateEncoder::new(plain).read_to_end(&mut out).await,
        _ => Ok(out.write(plain).await.unwrap()),
    }
    .unwrap();
    out
}

/// The answer to an upstream's answer with this `Content-Encoding` and body: status, headers and text.
async fn answer(broker: &TestBroker, n: usize, header: &str, body: &[u8]) -> (u16, http::HeaderMap, String) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {header}\r\nContent-Length: {}\r\n\r\n", body.len());
    let upstream = RawUpstream::answering([head.as_bytes(), body].concat()).await;
    broker.apply(&document(&upstream.url(), HEADER, "")).await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register(&format!("agent-{n}"), &["support"]).await;
    let token = broker.token(&agent).await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    (answer.status().as_u16(), answer.headers().clone(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encoded_is_decoded_and_what_names_no_coding_is_identity() {
    let broker = TestBroker::start().await;
    let plain = format!("{{\"a\":\"{}\"}}", "b".repeat(3000));
    for (n, (header, coding)) in [
        ("deflate", "raw"),
        ("deflate", "zlib"),
        ("Deflate, identity", "raw"),
        ("x-gzip", "gzip"),
        ("identity, gzip", "gzip"),
        ("aws-chunked,gzip", "gzip"),
        ("utf-8, gzip", "gzip"),
        ("none", ""),
        ("utf-8", ""),
        ("UTF8", ""),
        ("ISO-8859-1", ""),
        ("aws-chunked", ""),
        ("identity", ""),
        ("identity, identity", ""),
        ("", ""),
        ("chunked", ""),
        ("binary", ""),
        ("8bit", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let body = encoded(coding, format!("{plain}<<{SECRET}>>").as_bytes()).await;
        let (status, headers, text) = answer(&broker, n, header, &body).await;
        assert_eq!((status, &*text), (200, &*format!("{plain}<<{MARK}>>")), "{header}, {coding}");
        assert!(!headers.contains_key("content-encoding"), "{header}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_in_its_coding_is_the_upstreams_fault_and_says_so() {
    let broker = TestBroker::start().await;
    let cut = encoded("gzip", b"a text that ends too early").await;
    let bodies: [&[u8]; 4] = [b"{\"ok\":true}", b"<html>no such page</html>", &cut[..cut.len() - 6], &[0xff; 300]];
    let mut n = 0;
    for header in ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, br"] {
        for body in bodies {
            let (status, _, text) = answer(&broker, n, header, body).await;
            assert_eq!(status, 502, "{header}: {text}");
            let wanted = header.trim_start_matches("x-");
            assert!(
                text.contains("upstream_encoding") && text.contains(wanted) && text.contains("upstream's"),
                "{text}"
            );
            assert_eq!(outcome(&broker, n).await["reason"], "body_undecodable");
            n += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn padding_behind_what_is_encoded_is_passed_over() {
    let broker = TestBroker::start().await;
    // More than is decoded before the head goes out, and what does not compress.
    let noise: String =
        (0..40_000_u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let mut n = 0;
    for (header, coding) in [("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "raw")] {
        for plain in ["short", &*noise] {
            for padding in [&[0; 300][..], b"\n"] {
                let body = [&encoded(coding, format!("{plain}<<{SECRET}>>").as_bytes()).await, padding].concat();
                let (status, _, text) = answer(&broker, n, header, &body).await;
                assert_eq!((status, &*text), (200, &*format!("{plain}<<{MARK}>>")), "{coding} {}", plain.len());
                n += 1;
            }
        }
    }
    // The secret behind the padding.
    let (one, two) = (encoded("gzip", b"one").await, encoded("gzip", SECRET.as_bytes()).await);
    let (status, _, text) = answer(&broker, n, "gzip", &[&one[..], &[0; 20], &two].concat()).await;
    assert_eq!((status, &*text), (200, &*format!("one{MARK}")));
    let (status, _, text) = answer(&broker, n + 1, "gzip", &[&one[..], b"garbage"].concat()).await;
    assert!(status == 502 && text.contains("upstream_encoding"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_is_empty_in_any_coding() {
    let broker = TestBroker::start().await;
    for (n, header) in ["gzip", "deflate", "br", "zstd", "none"].into_iter().enumerate() {
        let (status, _, text) = answer(&broker, n, header, b"").await;
        assert_eq!((status, &*text), (200, ""), "{header}");
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: {header}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        let upstream = RawUpstream::answering(head).await;
        broker.apply(&document(&upstream.url(), HEADER, "")).await;
        let agent = broker.register(&format!("chunked-{n}"), &["support"]).await;
        let token = broker.token(&agent).await;
        let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &*answer.text().await.unwrap()), (200, ""), "{header}, chunked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_coding_is_named_if_it_can_be() {
    let broker = TestBroker::start().await;
    for (n, (header, named)) in
        [("compress", "'compress'"), ("br, aes128gcm", "'aes128gcm'"), (SECRET, "unknown"), ("no-such", "unknown")]
            .into_iter()
            .enumerate()
    {
        let (status, _, text) = answer(&broker, n, header, b"hello").await;
        assert!(status == 502 && text.contains("upstream_encoding") && text.contains(named), "{text}");
        assert!(!text.contains("no-such") && !text.contains("0123"), "{text}");
    }
}

/// Nothing is answered before the beginning of an encoded body has come; a revocation meanwhile ends the call (P3).
#[tokio::test(flavor = "multi_thread")]
async fn p3_a_call_whose_encoded_answer_has_not_begun_is_ended_by_a_revocation() {
    let upstream = RawUpstream::start(|mut stream, _| {
        Box::pin(async move {
            let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            drain(&mut stream).await;
        })
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let call = tokio::spawn(broker.call(Method::GET, "/crm/a", &token).send());
    broker.wait_for_record(|one| one["kind"] == "call.intent").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!call.is_finished(), "answered before anything could be decoded");
    broker.admin_ok("POST", "/admin/v1/agents/helpdesk/revoke", serde_json::Value::Null).await;
    let answer = tokio::time::timeout(Duration::from_secs(5), call).await.expect("it ends").unwrap().unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(outcome(&broker, 0).await["reason"], "revoked_midway");
}
