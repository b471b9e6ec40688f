//! An echo of the secret never reaches the agent (P1), in whatever form and place and however it is cut.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use data_encoding::{HEXLOWER, HEXUPPER};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{HEADER, RawUpstream, SECRET, crm, drain, outcome, problem, raw, status_of};
use crate::support::upstream::{AnswerBody, text};
use crate::support::{TestBroker, Upstream};

const MARK: &str = "[redacted by hallpass]";

/// The forms in which a secret may be echoed, each within a text that says where it ends.
fn echoes() -> Vec<(String, Vec<u8>)> {
    let all_percent: String = SECRET.bytes().map(|b| format!("%{b:02x}")).collect();
    let json = serde_json::to_string(SECRET).unwrap();
    let unicode: String = SECRET.bytes().map(|b| format!("\\u{b:04X}")).collect();
    let mut forms = vec![
        ("raw".to_owned(), SECRET.to_owned()),
        ("percent".to_owned(), percent_encode(SECRET.as_bytes(), NON_ALPHANUMERIC).to_string()),
        ("all percent, lower".to_owned(), all_percent),
        ("form".to_owned(), url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect()),
        ("json".to_owned(), json.trim_matches('"').to_owned()),
        ("json, solidus".to_owned(), json.trim_matches('"').replace('/', "\\/")),
        ("json, unicode".to_owned(), unicode),
        ("hex".to_owned(), HEXLOWER.encode(SECRET.as_bytes())),
        ("HEX".to_owned(), HEXUPPER.encode(SECRET.as_bytes())),
    ];
    for before in ["", "u", "us", "user:"] {
        let around = format!("{before}{SECRET}");
        forms.push((format!("base64 {before}"), STANDARD.encode(&around)));
        forms.push((format!("base64url {before}"), URL_SAFE_NO_PAD.encode(format!("{around}!"))));
    }
    forms.into_iter().map(|(name, form)| (name, format!("<<{form}>>").into_bytes())).collect()
}

/// Whether the agent could read the secret out of this.
fn leaks(text: &str) -> bool {
    // Its beginning is enough: `sk-live/0123`.
    let begin = &SECRET.as_bytes()[..12];
    let lower = text.to_ascii_lowercase();
    text.contains("live")
        || lower.contains(&HEXLOWER.encode(begin))
        || lower.contains("%73%6b")
        || (0..3).any(|skip| {
            let padded = [&b"xxx"[..skip], begin].concat();
            let encoded = STANDARD.encode(padded);
            text.contains(&encoded[4..12])
        })
}

fn chunked(pieces: Vec<Vec<u8>>) -> AnswerBody {
    let frames = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))));
    StreamBody::new(stream::iter(frames.collect::<Vec<_>>())).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_in_a_body() {
    let forms = Arc::new(echoes());
    let answers = forms.clone();
    let upstream = Upstream::start(move |seen| {
        let n: usize = seen.uri.path().trim_start_matches('/').parse().unwrap();
        Response::new(chunked(vec![answers[n].1.clone()]))
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for (n, (name, echo)) in forms.iter().enumerate() {
        assert!(leaks(std::str::from_utf8(echo).unwrap()) || name == "json, unicode", "{name}: the test is no test");
        let answer = broker.call(Method::GET, &format!("/crm/{n}"), &token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.text().await.unwrap();
        assert!(!leaks(&body) && body.contains(MARK), "{name}: {body}");
        assert!(body.starts_with("<<") && body.ends_with(">>"), "{name}: {body}");
        let outcome = outcome(&broker, n).await;
        assert_eq!(outcome["redactions"], 1, "{name}");
        assert_eq!(outcome["response_bytes"], body.len(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cut_of_a_body() {
    // Two pieces at every place, and three with a single byte in the middle, for a few forms.
    let bodies: Arc<Vec<Vec<u8>>> = Arc::new(
        echoes()
            .into_iter()
            .filter(|(name, _)| ["raw", "json", "base64 u"].contains(&&**name))
            .map(|one| one.1)
            .collect(),
    );
    let answers = bodies.clone();
    let upstream = Upstream::start(move |seen| {
        let mut numbers = seen.uri.path().split('/').skip(1).map(|number| number.parse::<usize>().unwrap());
        let body = &answers[numbers.next().unwrap()];
        let (first, second) = (numbers.next().unwrap(), numbers.next().unwrap());
        Response::new(chunked(vec![body[..first].to_vec(), body[first..second].to_vec(), body[second..].to_vec()]))
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for (n, body) in bodies.iter().enumerate() {
        for first in 0..=body.len() {
            for second in [first, (first + 1).min(body.len())] {
                let path = format!("/crm/{n}/{first}/{second}");
                let text = broker.call(Method::GET, &path, &token).send().await.unwrap().text().await.unwrap();
                assert!(!leaks(&text) && text.contains(MARK), "{n} {first} {second}: {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_by_time_as_well() {
    // Each byte in a packet of its own, flushed.
    let upstream = RawUpstream::start(|mut stream, _| {
        Box::pin(async move {
            stream.set_nodelay(true).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.unwrap();
            for byte in format!("<<{SECRET}>>").bytes() {
                stream.write_all(&[byte]).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let body = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap().text().await.unwrap();
    assert_eq!(body, format!("<<{MARK}>>"));
}

async fn encoded(coding: &str, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => GzipEncoder::new(plain).read_to_end(&mut out).await,
        "br" => BrotliEncoder::new(plain).read_to_end(&mut out).await,
        "zstd" => ZstdEncoder::new(plain).read_to_end(&mut out).await,
        _ => ZlibEncoder::new(plain).read_to_end(&mut out).await,
    }
    .unwrap();
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_are_opened() {
    let plain = format!("{}<<{SECRET}>>{}", "a ".repeat(4000), "b ".repeat(4000));
    let broker = TestBroker::start().await;
    for coding in ["gzip", "br", "zstd", "deflate", "gzip, br", "GZIP", "x-gzip"] {
        let mut body = plain.clone().into_bytes();
        for one in coding.split(", ") {
            body = encoded(one.to_ascii_lowercase().trim_start_matches("x-"), &body).await;
        }
        let upstream = Upstream::start(move |_| {
            let mut answer = Response::new(chunked(body.chunks(7).map(<[u8]>::to_vec).collect()));
            answer.headers_mut().insert("content-encoding", HeaderValue::from_str(coding).unwrap());
            answer
        })
        .await;
        broker.apply(&super::document(&upstream.url(), HEADER, "")).await;
        broker.put_credential("crm-key", SECRET).await;
        let agent = broker.register(&format!("a{}", upstream.address.port()), &["support"]).await;
        let token = broker.token(&agent).await;
        let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("content-encoding"), "{coding}");
        assert_eq!(answer.text().await.unwrap(), plain.replace(SECRET, MARK), "{coding}");
    }
    // Cut off in the middle: no end that looks like one. Of a small one nothing goes out at all.
    let noise: Vec<u8> = (0..200_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let noise: String = noise.iter().map(|byte| char::from(0x20 + byte % 0x5f)).collect();
    let mut body = encoded("gzip", noise.as_bytes()).await;
    body.truncate(body.len() / 2);
    let upstream = Upstream::start(move |_| {
        let mut answer = Response::new(chunked(vec![body.clone()]));
        answer.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
        answer
    })
    .await;
    broker.apply(&super::document(&upstream.url(), HEADER, "")).await;
    let agent = broker.register("last", &["support"]).await;
    let token = broker.token(&agent).await;
    // Where the cut is seen before the head went out, it is a 502; where it is seen just then, the head may not come either.
    let is_whole = match broker.call(Method::GET, "/crm/a", &token).send().await {
        Ok(answer) if answer.status() == 502 => false,
        Ok(answer) => answer.text().await.is_ok(),
        Err(_) => false,
    };
    assert!(!is_whole);
    broker
        .wait_for_record(|one| ["body_undecodable", "upstream_encoding"].map(Into::into).contains(&one["reason"]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_is_refused() {
    let broker = TestBroker::start().await;
    let upstream = Upstream::start(|seen| {
        let mut answer = text(StatusCode::OK, SECRET);
        let coding = seen.uri.query().unwrap().replace('_', " ");
        answer.headers_mut().insert("content-encoding", HeaderValue::from_str(&coding).unwrap());
        answer
    })
    .await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for (n, coding) in ["compress", "gzip,_compress", "aes128gcm", "gzip;q=1", "gzip,gzip,gzip,gzip"].iter().enumerate()
    {
        let answer = broker.call(Method::GET, &format!("/crm/a?{coding}"), &token).send().await.unwrap();
        assert_eq!(problem(answer, 502).await, "upstream_encoding", "{coding}");
        assert_eq!(outcome(&broker, n).await["reason"], "upstream_encoding");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_values_and_names() {
    let secret = "x-secret-0123456789-name";
    let broker = TestBroker::start().await;
    let mut head = format!("HTTP/1.1 302 {secret}\r\nContent-Length: 0\r\nConnection: close\r\n");
    let basic = STANDARD.encode(format!("user:{secret}"));
    let hex = HEXLOWER.encode(secret.as_bytes());
    for line in [
        format!("Location: https://a/?key={secret}&b=1"),
        format!("X-Debug: Basic {basic}"),
        format!("X-Debug: plain {secret}, twice {secret}"),
        format!("X-Hex: {hex}"),
        format!("{secret}: a name"),
        format!("{hex}: another name"),
        "X-Clean: yes".to_owned(),
        format!("X-Latin: \u{e9} {secret}"),
    ] {
        head.push_str(&line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let bytes: Vec<u8> = head.chars().map(|c| c as u8).collect();
    let upstream = RawUpstream::answering(bytes).await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    broker.put_credential("crm-key", secret).await;
    let request = format!(
        "GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let answer = raw(broker.running.public, request).await;
    assert_eq!(status_of(&answer), 302, "{answer}");
    for forbidden in [secret, &hex, "secret-0123", "c2VjcmV0"] {
        assert!(!answer.to_ascii_lowercase().contains(&forbidden.to_ascii_lowercase()), "{forbidden} in {answer}");
    }
    assert!(answer.contains(&format!("location: https://a/?key={MARK}&b=1\r\n")), "{answer}");
    assert!(answer.contains(&format!("x-debug: plain {MARK}, twice {MARK}\r\n")), "{answer}");
    assert!(answer.contains("x-clean: yes\r\n"), "{answer}");
    assert!(outcome(&broker, 0).await["redactions"].as_u64().unwrap() >= 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers() {
    let upstream = RawUpstream::answering(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Echo, Set-Cookie\r\n\r\n\
         4\r\nbody\r\n0\r\nX-Sum: 7\r\nX-Echo: {SECRET}\r\nSet-Cookie: s=1\r\n\r\n"
    ))
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    // Over HTTP/2, where trailers need no announcement.
    let stream = tokio::net::TcpStream::connect(broker.running.public).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(broker.url("/exchange/crm/a"))
        .header("authorization", format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    let trailers = answer.trailers().cloned().unwrap_or_default();
    assert_eq!(answer.to_bytes(), "body");
    let expected: HeaderMap =
        [("x-sum", "7"), ("x-echo", MARK)].map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).into_iter().collect();
    assert_eq!(trailers, expected);
    assert_eq!(outcome(&broker, 0).await["redactions"], 1);

    // Over HTTP/1.1 none of it may leak either, trailers or not.
    let request = format!(
        "GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nTE: trailers\r\nConnection: close, TE\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    let answer = raw(broker.running.public, request).await;
    assert!(status_of(&answer) == 200 && !leaks(&answer) && !answer.contains("s=1"), "{answer}");
}

/// The wire of a chunked answer: the sizes of its chunks, in order.
fn chunk_sizes(answer: &[u8]) -> Vec<usize> {
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| &answer[at + 4..]);
    let (mut rest, mut sizes) = (body.unwrap_or_default(), Vec::new());
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        sizes.push(size);
        rest = rest.get(line + 2 + size + 2..).unwrap_or_default();
    }
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_when_and_in_what_pieces_an_echo_comes_back_tells_nothing_of_a_guess() {
    // Echoes a guess that the agent sends, all but its last piece, and waits for the test's word before that.
    let (word, heard) = watch::channel(0);
    let upstream = RawUpstream::start(move |mut stream, head| {
        let mut heard = heard.clone();
        Box::pin(async move {
            let mut guess = head.split_once("\r\n\r\n").unwrap().1.as_bytes().to_owned();
            let mut rest = vec![0; SECRET.len() - guess.len()];
            stream.read_exact(&mut rest).await.unwrap();
            guess.append(&mut rest);
            let guess = String::from_utf8(guess).unwrap();
            let now = *heard.borrow_and_update();
            let piece = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            let first = format!("{head}{}{}", piece(&format!("{{\"a\":1}}\n{}", ".".repeat(600))), piece(&guess));
            stream.write_all(first.as_bytes()).await.unwrap();
            heard.wait_for(|word| *word > now).await.unwrap();
            let rest = format!("{}{}0\r\n\r\n", piece("..."), piece(&".".repeat(600)));
            stream.write_all(rest.as_bytes()).await.unwrap();
            drain(&mut stream).await;
        })
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let mut seen = Vec::new();
    for right in [0, 1, 2, 8, SECRET.len() - 1] {
        let guess = format!("{}{}", &SECRET[..right], ".".repeat(SECRET.len() - right));
        let (begin, all) = (&guess[..right.max(1)], SECRET.len());
        // At the end of what has come, and with wrong bytes behind it.
        for guess in [".".repeat(all - begin.len()) + begin, guess.clone()] {
            let mut agent = TcpStream::connect(broker.running.public).await.unwrap();
            let request = format!(
                "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
                 Content-Length: {}\r\n\r\n{guess}",
                guess.len()
            );
            agent.write_all(request.as_bytes()).await.unwrap();
            let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(Ok(n @ 1..)) = tokio::time::timeout(Duration::from_millis(300), agent.read(&mut piece)).await {
                answer.extend_from_slice(&piece[..n]);
            }
            let at_first = chunk_sizes(&answer);
            word.send_modify(|word| *word += 1);
            agent.read_to_end(&mut answer).await.unwrap();
            seen.push((at_first, chunk_sizes(&answer)));
        }
    }
    assert!(seen[0].0.iter().sum::<usize>() > 400, "{seen:?}");
    assert_eq!(seen[0].1.iter().sum::<usize>(), 8 + 600 + SECRET.len() + 3 + 600, "{seen:?}");
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_page_is_searched_too() {
    let upstream = Upstream::start(|_| text(StatusCode::UNAUTHORIZED, &format!("bad key {SECRET}"))).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.text().await.unwrap(), format!("bad key {MARK}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_too_short_to_find_is_refused_unless_that_is_accepted() {
    let upstream = Upstream::echo().await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let put = |value: &str, allow: bool| {
        let body = json!({ "value_base64": STANDARD.encode(value), "allow_short": allow });
        async { broker.admin("POST", "/admin/v1/credentials/crm-key", body).await }
    };
    let (status, answer) = put("7chars!", false).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("value_too_short")));
    assert!(!answer.to_string().contains("7chars!"));
    assert_eq!(put("8 chars!", false).await.0, 200);
    let text = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap().text().await.unwrap();
    assert!(text.contains(MARK) && !text.contains("8 chars!"), "{text}");
    assert_eq!(put("7chars!", true).await.0, 200);
    // Accepted: it is injected, and not looked for.
    let text = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("7chars!"), "{text}");
    for (value, code) in [("", "value_empty"), ("line\nbreak-1234", "value_has_control_characters")] {
        let (status, answer) = put(value, true).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some(code)));
    }
}

#[test]
fn the_leak_finder_finds() {
    let mut text = Vec::new();
    write!(text, "Basic {}", STANDARD.encode(format!("user:{SECRET}"))).unwrap();
    assert!(leaks(std::str::from_utf8(&text).unwrap()));
    assert!(leaks(SECRET) && !leaks(MARK));
}
