//! Bodies stream both ways: nothing is held back, nothing is collected, everything is counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::Method;
use ring::digest::{Context, SHA256, digest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{HEADER, RawUpstream, SECRET, crm, document, drain, outcome, problem, raw, status_of};
use crate::support::upstream::text;
use crate::support::{Binary, TestBroker, Upstream};

fn sha256(data: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, data).as_ref())
}

/// An upstream that sends an event, waits for the test's word, and sends another one; then keeps the stream open.
async fn events() -> (RawUpstream, watch::Sender<bool>) {
    let (word, heard) = watch::channel(false);
    let upstream = RawUpstream::start(move |mut stream, _| {
        let mut heard = heard.clone();
        Box::pin(async move {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(format!("{head}10\r\ndata: first sk\n\n\r\n").as_bytes()).await.unwrap();
            if heard.wait_for(|word| *word).await.is_err() {
                return;
            }
            _ = stream.write_all(b"e\r\ndata: second\n\n\r\n").await.is_ok();
            drain(&mut stream).await;
        })
    })
    .await;
    (upstream, word)
}

async fn next(answer: &mut reqwest::Response) -> Option<Bytes> {
    tokio::time::timeout(Duration::from_secs(10), answer.chunk()).await.expect("held back").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_before_the_next_one_is_sent() {
    let (upstream, word) = events().await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let mut answer = broker.call(Method::GET, "/crm/events", &token).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(next(&mut answer).await.unwrap(), "data: first sk\n\n");
    word.send_replace(true);
    assert_eq!(next(&mut answer).await.unwrap(), "data: second\n\n");
    drop(answer);
    let outcome = outcome(&broker, 0).await;
    assert_eq!(outcome["reason"], "agent_went_away");
    assert_eq!(outcome["response_bytes"], 30);
    assert_eq!(outcome["response_sha256"], sha256(b"data: first sk\n\ndata: second\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_events_are_not_held_back_either() {
    use async_compression::tokio::write::GzipEncoder;
    let (word, heard) = watch::channel(false);
    let upstream = RawUpstream::start(move |mut stream, _| {
        let mut heard = heard.clone();
        Box::pin(async move {
            let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut encoder = GzipEncoder::new(stream);
            encoder.write_all(b"data: first\n\n").await.unwrap();
            encoder.flush().await.unwrap();
            heard.wait_for(|word| *word).await.unwrap();
            encoder.write_all(format!("data: {SECRET}\n\n").as_bytes()).await.unwrap();
            encoder.shutdown().await.unwrap();
        })
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let mut answer = broker.call(Method::GET, "/crm/events", &token).send().await.unwrap();
    assert_eq!(next(&mut answer).await.unwrap(), "data: first\n\n");
    word.send_replace(true);
    assert_eq!(answer.text().await.unwrap(), "data: [redacted by hallpass]\n\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_at_once() {
    // The upstream answers each line before the next one is sent.
    let upstream = RawUpstream::start(|mut stream, head| {
        Box::pin(async move {
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            if !head.ends_with("\r\n\r\n") {
                stream.write_all(b"4\r\nack\n\r\n").await.unwrap();
            }
            let mut piece = [0; 1024];
            while let Ok(n) = stream.read(&mut piece).await {
                if n == 0 {
                    return;
                }
                stream.write_all(b"4\r\nack\n\r\n").await.unwrap();
            }
        })
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let mut agent = TcpStream::connect(broker.running.public).await.unwrap();
    let head = format!(
        "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    agent.write_all(head.as_bytes()).await.unwrap();
    let mut got = String::new();
    let mut piece = [0; 4096];
    for n in 1..=3 {
        agent.write_all(b"3\r\nabc\r\n").await.unwrap();
        while got.matches("ack").count() < n {
            let read = tokio::time::timeout(Duration::from_secs(10), agent.read(&mut piece)).await;
            let read = read.expect("held back").unwrap();
            assert!(read > 0, "closed: {got}");
            got.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_cuts_a_running_stream() {
    for what in ["agent", "session", "token"] {
        let (upstream, _word) = events().await;
        let broker = TestBroker::start().await;
        let token = crm(&broker, &upstream.url(), HEADER, "").await;
        let mut answer = broker.call(Method::GET, "/crm/events", &token).send().await.unwrap();
        next(&mut answer).await.unwrap();
        let intent = broker.wait_for_record(|one| one["kind"] == "call.intent").await;
        let (path, body) = match what {
            "agent" => ("/admin/v1/agents/helpdesk/revoke".to_owned(), Value::Null),
            "session" => (format!("/admin/v1/sessions/{}/revoke", intent["session"].as_str().unwrap()), Value::Null),
            _ => ("/admin/v1/tokens/revoke".to_owned(), json!({ "token": token })),
        };
        let begun = Instant::now();
        broker.admin_ok("POST", &path, body).await;
        let end = tokio::time::timeout(Duration::from_secs(10), answer.chunk()).await.expect("still running");
        assert!(!matches!(end, Ok(Some(_))), "{what}: {end:?}");
        assert!(end.is_err(), "{what}: it ended as if it were complete");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(outcome(&broker, 0).await["reason"], "revoked_midway", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_what_is_ready_when_an_answer_has_ended_is_not_for_an_agent_that_was_revoked_meanwhile() {
    // All of the answer is there, in pieces, as an echo parts them; the agent's window takes the first of them.
    for size in [3, 6, 12, 24] {
        let echo = format!("{{\"echo\":\"{SECRET}\"}}{}\n", ".".repeat(160));
        let body = echo.repeat(size * 1024 / echo.len());
        let upstream = RawUpstream::answering(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        let broker = TestBroker::start().await;
        let token = crm(&broker, &upstream.url(), HEADER, "").await;
        let http2 = reqwest::Client::builder().http2_prior_knowledge().http2_initial_stream_window_size(1024);
        let request = http2.build().unwrap().get(broker.url("/exchange/crm/a")).bearer_auth(&token);
        let mut answer = request.send().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        broker.admin_ok("POST", "/admin/v1/agents/helpdesk/revoke", Value::Null).await;
        let rest = async {
            while answer.chunk().await?.is_some() {}
            Ok::<_, reqwest::Error>(())
        };
        let end = tokio::time::timeout(Duration::from_secs(10), rest).await.expect("still running");
        assert!(end.is_err(), "{size}: it ended as if it were complete");
        assert_eq!(outcome(&broker, 0).await["reason"], "revoked_midway", "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_stops_a_call_that_waits_for_its_answer() {
    let upstream = RawUpstream::start(|mut stream, _| Box::pin(async move { drain(&mut stream).await })).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let call = tokio::spawn(broker.call(Method::GET, "/crm/a", &token).send());
    while upstream.heads().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    broker.admin_ok("POST", "/admin/v1/agents/helpdesk/revoke", Value::Null).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), call).await.expect("still waiting").unwrap().unwrap();
    problem(answer, 401).await;
    assert_eq!(outcome(&broker, 0).await["reason"], "revoked_midway");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_goes_away_is_recorded() {
    // While it waits for the head, and midway through its upload.
    let upstream = RawUpstream::start(|mut stream, _| Box::pin(async move { drain(&mut stream).await })).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for (n, request) in [
        format!("GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\r\n"),
        format!(
            "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nContent-Length: 9\r\nAuthorization: Bearer {token}\r\n\r\nhalf"
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut agent = TcpStream::connect(broker.running.public).await.unwrap();
        agent.write_all(request.as_bytes()).await.unwrap();
        while upstream.heads().len() <= n {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(agent);
        let outcome = outcome(&broker, n).await;
        let reason = outcome["reason"].as_str().unwrap();
        // An upload that breaks off may be seen as that first.
        assert!(reason == "agent_went_away" || (n == 1 && reason == "request_broken"), "{outcome}");
        assert_eq!(outcome["request_bytes"], if n == 0 { 0 } else { 4 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body() {
    let upstream = Upstream::start(|seen| {
        let status = seen.uri.path().trim_start_matches('/').parse().unwrap();
        let mut answer = text(status, "");
        if seen.method == http::Method::HEAD {
            answer.headers_mut().insert("content-length", HeaderValue::from_static("12345"));
            answer.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
        }
        answer.headers_mut().insert("etag", HeaderValue::from_static("\"e\""));
        answer
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for (n, (method, status)) in
        [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304), (Method::GET, 200), (Method::HEAD, 404)]
            .into_iter()
            .enumerate()
    {
        // Two on one connection: the first one's end must be where the second one begins.
        let one = format!("{method} /exchange/crm/{status} HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n");
        let answer = raw(broker.running.public, format!("{one}\r\n{one}Connection: close\r\n\r\n")).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{method} {status}: {answer}");
        assert_eq!(answer.matches("etag: \"e\"").count(), 2, "{method} {status}: {answer}");
        assert_eq!(status_of(&answer), status);
        if method == Method::HEAD {
            assert_eq!(answer.matches("content-length: 12345").count(), 2, "{answer}");
        }
        for record in [2 * n, 2 * n + 1] {
            let outcome = outcome(&broker, record).await;
            assert_eq!(outcome["reason"], "completed", "{method} {status}: {outcome}");
            assert_eq!((&outcome["status"], &outcome["response_bytes"]), (&status.into(), &0.into()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_request_end_here() {
    let (broker, upstream) = (
        TestBroker::start().await,
        RawUpstream::start(|mut stream, head| {
            Box::pin(async move {
                let mut all = head;
                let mut piece = [0; 1024];
                while !all.ends_with("0\r\n\r\n") {
                    let n = stream.read(&mut piece).await.unwrap();
                    assert!(n > 0, "{all}");
                    all.push_str(std::str::from_utf8(&piece[..n]).unwrap());
                }
                let body = all.split_once("\r\n\r\n").unwrap().1;
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            })
        })
        .await,
    );
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let request = format!(
        "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\
         Authorization: Bearer {token}\r\n\r\n4\r\nbody\r\n0\r\nX-T: 1\r\nX-Api-Key: mine\r\n\r\n"
    );
    let answer = raw(broker.running.public, request).await;
    assert!(answer.contains("4\r\nbody\r\n0\r\n\r\n") && !answer.contains("mine"), "{answer}");
    assert!(!upstream.heads()[0].contains("trailer"), "{:?}", upstream.heads());
    let outcome = outcome(&broker, 0).await;
    assert_eq!((&outcome["request_bytes"], &outcome["request_sha256"]), (&4.into(), &sha256(b"body").into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_digests_of_both_bodies() {
    let upstream = Upstream::start(|seen| text(StatusCode::OK, &format!("{SECRET} {}", seen.body.len()))).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let body = vec![7_u8; 300_000];
    let answer = broker.call(Method::PUT, "/crm/a", &token).body(body.clone()).send().await.unwrap();
    let got = answer.text().await.unwrap();
    assert_eq!(got, "[redacted by hallpass] 300000");
    let outcome = outcome(&broker, 0).await;
    assert_eq!(outcome["request_bytes"], 300_000);
    assert_eq!(outcome["request_sha256"], sha256(&body));
    // Of what the agent got, not of what the upstream sent.
    assert_eq!(outcome["response_bytes"], got.len());
    assert_eq!(outcome["response_sha256"], sha256(got.as_bytes()));
    assert_eq!((&outcome["status"], &outcome["redactions"]), (&200.into(), &1.into()));
    assert!(outcome["duration_us"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits() {
    let upstream = Upstream::start(|seen| text(StatusCode::OK, &"a".repeat(seen.body.len().max(1) * 2))).await;
    let broker = TestBroker::start().await;
    let token =
        crm(&broker, &upstream.url(), HEADER, "limits: { max_request_bytes: 1000, max_response_bytes: 1500 }").await;
    let post = |body: reqwest::Body| broker.call(Method::POST, "/crm/a", &token).body(body).send();
    let chunked = |pieces: usize| {
        reqwest::Body::wrap_stream(stream::iter((0..pieces).map(|_| Ok::<_, Infallible>(Bytes::from(vec![b'a'; 100])))))
    };
    // Known beforehand: refused before anything is recorded as a call or dialled.
    let answer = post(vec![0; 1001].into()).await.unwrap();
    assert_eq!(problem(answer, 413).await, "request_too_large");
    assert!(upstream.seen().is_empty());
    broker.wait_for_record(|one| one["kind"] == "call.refused" && one["reason"] == "request_too_large").await;
    assert!(broker.records().await.iter().all(|one| one["kind"] != "call.intent"));

    // Known midway.
    let answer = post(chunked(11)).await.unwrap();
    assert_eq!(problem(answer, 413).await, "request_too_large");
    assert_eq!(outcome(&broker, 0).await["reason"], "request_too_large");
    assert!(upstream.seen().is_empty(), "half a request was taken for a whole one");

    // Just within both.
    assert_eq!(post(chunked(7)).await.unwrap().text().await.unwrap().len(), 1400);
    assert_eq!(post(vec![0; 750].into()).await.unwrap().text().await.unwrap().len(), 1500);
    // An answer that is too long breaks off, and does not look complete.
    let answer = post(vec![0; 1000].into()).await;
    if let Ok(answer) = answer {
        answer.text().await.unwrap_err();
    }
    assert_eq!(outcome(&broker, 3).await["reason"], "body_too_large");
}

/// Bytes of the large upload and of the large download; each is searched for the secret, which without optimisation is ten
/// times slower. Either is several times what the broker may grow by. `HALLPASS_TEST_FULL=1`: as large as an operator would try.
fn sizes() -> (u64, u64) {
    match std::env::var_os("HALLPASS_TEST_FULL") {
        Some(_) if cfg!(debug_assertions) => (1 << 30, 256 << 20),
        Some(_) => (1 << 30, 1 << 30),
        None => (192 << 20, 48 << 20),
    }
}

fn large(bytes: u64) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    // Text with beginnings of the secret in it, so that the scanner has to look.
    let piece = Bytes::from("{\"name\":\"sk-live\",\"n\":12345}\n".repeat(2260).into_bytes()).slice(..65_536);
    stream::iter(0..bytes / 65_536).map(move |_| Ok(piece.clone()))
}

async fn digest_of(mut pieces: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Unpin) -> String {
    let mut context = Context::new(&SHA256);
    while let Some(Ok(piece)) = pieces.next().await {
        context.update(&piece);
    }
    HEXLOWER.encode(context.finish().as_ref())
}

fn high_water(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// `POST`: reads the body without keeping it and answers its length and digest. `GET`: sends the large body.
async fn large_upstream(down: u64) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = service_fn(move |request: Request<Incoming>| async move {
        if request.method() == http::Method::GET {
            let body = StreamBody::new(large(down).map(|piece| piece.map(Frame::data)));
            return Ok::<_, Infallible>(Response::new(body.boxed_unsync()));
        }
        let (mut context, mut bytes) = (Context::new(&SHA256), 0_u64);
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                context.update(data);
                bytes += data.len() as u64;
            }
        }
        let text = format!("{bytes} {}", HEXLOWER.encode(context.finish().as_ref()));
        Ok(Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()))
    });
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_takes_no_memory_in_either_direction() {
    let (up, down) = sizes();
    let (address, _task) = large_upstream(down).await;
    let mut binary = Binary::init(None);
    let file = binary.dir.path().join("crm.yaml");
    std::fs::write(&file, document(&format!("http://{address}"), HEADER, "")).unwrap();
    binary.serve(None);
    binary.ok(&["apply", "-f", file.to_str().unwrap()], "");
    binary.ok(&["credential", "put", "crm-key"], SECRET);
    let agent = binary.json(&["agent", "register", "helpdesk", "--role", "support"], "");
    let http = crate::support::broker::client();
    let base = if binary.public.contains("://") { binary.public.clone() } else { format!("http://{}", binary.public) };
    let token: Value = http
        .post(format!("{base}/oauth2/token"))
        .basic_auth(agent["client_id"].as_str().unwrap(), agent["client_secret"].as_str())
        .form(&[("grant_type", "client_credentials")])
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let token = token["access_token"].as_str().unwrap();
    let url = format!("{base}/exchange/crm/large");
    // Once small, so that everything that is made once is there.
    assert_eq!(http.post(&url).bearer_auth(token).body("x").send().await.unwrap().status(), 200);
    let before = high_water(binary.pid());

    let begun = Instant::now();
    let answer = http.post(&url).bearer_auth(token).body(reqwest::Body::wrap_stream(large(up))).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), format!("{up} {}", digest_of(large(up)).await));
    let up_took = begun.elapsed();

    let mut answer = http.get(&url).bearer_auth(token).send().await.unwrap();
    let (mut context, mut bytes) = (Context::new(&SHA256), 0_u64);
    while let Some(piece) = answer.chunk().await.unwrap() {
        context.update(&piece);
        bytes += piece.len() as u64;
    }
    assert_eq!(bytes, down);
    assert_eq!(HEXLOWER.encode(context.finish().as_ref()), digest_of(large(down)).await);
    let grown = high_water(binary.pid()) - before;
    assert!(grown < 24 << 20, "it grew by {grown} bytes; up took {up_took:?}, both {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_read_stops_the_upstream() {
    let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = sent.clone();
    let upstream = RawUpstream::start(move |mut stream, _| {
        let counter = counter.clone();
        Box::pin(async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.unwrap();
            let piece = vec![b'a'; 65_536];
            while stream.write_all(&piece).await.is_ok() {
                counter.fetch_add(65_536, std::sync::atomic::Ordering::Relaxed);
            }
        })
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    let mut last = 0;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        if now == last && now > 0 {
            break;
        }
        last = now;
    }
    assert!(last < 64 << 20, "{last} bytes went into a pipe that nobody reads");
    drop(answer);
    assert_eq!(outcome(&broker, 0).await["reason"], "agent_went_away");
}
