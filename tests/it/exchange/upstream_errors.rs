//! Upstreams that misbehave: each its code, each in the log, none with a word of the secret.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use reqwest::Method;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{HEADER, RawUpstream, SECRET, crm, document, drain, outcome, problem};
use crate::support::{Binary, TestBroker, Upstream};

/// A call to `base_url` fails with this; the audit log says so, too.
async fn fails(base_url: &str, more: &str, status: u16, code: &str) {
    let broker = TestBroker::start().await;
    let token = crm(&broker, base_url, HEADER, more).await;
    let answer = broker.call(Method::POST, "/crm/a", &token).body("body").send().await.unwrap();
    assert_eq!(problem(answer, status).await, code);
    let outcome = outcome(&broker, 0).await;
    assert_eq!(outcome["reason"], code);
    assert!(!outcome.to_string().contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    fails(&format!("http://{closed}"), "", 502, "upstream_connect").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole() {
    // A full backlog: the kernel drops further SYNs.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        let connect = TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(300), connect).await {
            Ok(stream) => held.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    fails(&format!("http://{address}"), "timeouts: { connect_seconds: 1 }", 504, "upstream_connect_timeout").await;
    drop((held, listener));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    fails(&url, "timeouts: { connect_seconds: 1 }", 504, "upstream_connect_timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_a_plain_server() {
    let upstream = Upstream::echo().await;
    fails(&format!("https://{}", upstream.address), "", 502, "upstream_tls").await;
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_to_a_tls_server() {
    let (address, _, _task) = tls_upstream("127.0.0.1").await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &format!("http://{address}"), HEADER, "").await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    let code = problem(answer, 502).await;
    assert!(["upstream_protocol", "upstream_reset"].contains(&&*code), "{code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_after_the_request() {
    let upstream = RawUpstream::start(|mut stream, _| Box::pin(async move { drain(&mut stream).await })).await;
    fails(&upstream.url(), "timeouts: { response_seconds: 1 }", 504, "upstream_timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upstream_names_the_setting_that_would_wait_longer() {
    let upstream = RawUpstream::start(|mut stream, _| Box::pin(async move { drain(&mut stream).await })).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "timeouts: { response_seconds: 1 }").await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    assert_eq!(answer.status(), 504);
    let text = answer.text().await.unwrap();
    for part in ["'crm'", "within 1 s", "timeouts.response_seconds", "exchange.response_timeout_seconds"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// What the agent is told when the upstream answers so.
async fn told(upstream: &str) -> String {
    let broker = TestBroker::start().await;
    let token = crm(&broker, upstream, HEADER, "").await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status == 502 && text.contains("upstream_protocol"), "{status} {text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_an_answers_head_gets_a_text_that_is_true() {
    let many = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    for (answer, part) in [
        (format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n"), "more headers than the 100"),
        ("HTTP/1.1 200 OK\r\nX-Long: a\r\n b\r\nContent-Length: 0\r\n\r\n".to_owned(), "obs-fold"),
        ("HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n".to_owned(), "a blank in its name"),
        ("HTTP/1.1 999999 No\r\n\r\n".to_owned(), "status code"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!".to_owned(), "its length"),
        ("HTTP/2.0 200 OK\r\n\r\n".to_owned(), "HTTP/2"),
        ("220 mail.example.com ESMTP\r\n\r\n".to_owned(), "another protocol"),
    ] {
        let upstream = RawUpstream::answering(&answer).await;
        let text = told(&upstream.url()).await;
        assert!(text.contains(part), "{part}: {text}");
    }
    // Nearly as many as are read; what the broker adds has to fit into what the agent reads.
    let hundred = (0..90).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let upstream = RawUpstream::answering(format!("HTTP/1.1 200 OK\r\n{hundred}Content-Length: 0\r\n\r\n")).await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    assert_eq!(broker.call(Method::GET, "/crm/a", &token).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_http2_at_once_is_called_so() {
    // Its SETTINGS, before or after the request came (RFC 9113 §3.4).
    const SETTINGS: &[u8] = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64";
    for waits in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if waits {
                    _ = stream.read(&mut [0; 4096]).await.is_ok();
                }
                _ = stream.write_all(SETTINGS).await.is_ok();
                tokio::spawn(async move { drain(&mut stream).await });
            }
        });
        let text = told(&url).await;
        assert!(text.contains("HTTP/2"), "{waits}: {text}");
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_and_reset_without_an_answer() {
    let upstream = RawUpstream::start(|stream, _| Box::pin(async move { drop(stream) })).await;
    fails(&upstream.url(), "", 502, "upstream_reset").await;
    let upstream = RawUpstream::start(|stream, _| {
        Box::pin(async move {
            let stream = stream.into_std().unwrap();
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        })
    })
    .await;
    fails(&upstream.url(), "", 502, "upstream_reset").await;
    // In the middle of the head.
    let upstream = RawUpstream::answering("HTTP/1.1 200 OK\r\nContent-Le").await;
    fails(&upstream.url(), "", 502, "upstream_reset").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http() {
    for garbage in [
        "220 mail.example.com ESMTP\r\n\r\n".to_owned(),
        format!("{SECRET}\r\n\r\n"),
        "HTTP/1.1 999999 No\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!".to_owned(),
        "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nX-Echo: a\u{0}{SECRET}\r\n\r\n"),
        "HTTP/1.1 200 OK\r\n".to_owned() + &format!("X-Long: {}\r\n\r\n", "a".repeat(1_000_000)),
        "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
    ] {
        let upstream = RawUpstream::answering(garbage).await;
        fails(&upstream.url(), "", 502, "upstream_protocol").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_protocols_is_refused() {
    let upstream =
        RawUpstream::answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            .await;
    fails(&upstream.url(), "", 502, "upstream_protocol").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_informational_answers_are_waited_out() {
    let upstream = RawUpstream::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, "ok".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_not_complete() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let upstream = RawUpstream::answering(answer).await;
        let broker = TestBroker::start().await;
        let token = crm(&broker, &upstream.url(), HEADER, "").await;
        match broker.call(Method::GET, "/crm/a", &token).send().await {
            Ok(got) => drop(got.text().await.unwrap_err()),
            Err(error) => assert!(!error.is_connect()),
        }
        let outcome = outcome(&broker, 0).await;
        assert_eq!((&outcome["reason"], &outcome["status"]), (&"body_broken".into(), &200.into()), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stands_still_is_cut() {
    let upstream = RawUpstream::start(|mut stream, _| {
        Box::pin(async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
            drain(&mut stream).await;
        })
    })
    .await;
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, "timeouts: { idle_seconds: 1 }").await;
    broker.call(Method::GET, "/crm/a", &token).send().await.unwrap().text().await.unwrap_err();
    assert_eq!(outcome(&broker, 0).await["reason"], "body_idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_is_no_timeout() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "timeouts: { response_seconds: 1 }").await;
    let pieces = stream::unfold(0, |n| async move {
        tokio::time::sleep(Duration::from_millis(250)).await;
        (n < 10).then_some((Ok::<_, std::io::Error>(Bytes::from_static(b"piece")), n + 1))
    });
    let request = broker.call(Method::POST, "/crm/a", &token).body(reqwest::Body::wrap_stream(pieces));
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(upstream.seen()[0].body.len(), 50);
}

/// An HTTPS server on loopback whose certificate is for `name`: its address, and its CA as PEM.
async fn tls_upstream(name: &str) -> (std::net::SocketAddr, String, tokio::task::JoinHandle<()>) {
    _ = rustls::crypto::ring::default_provider().install_default().is_ok();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = [0; 4096];
                _ = stream.read(&mut head).await.is_ok();
                _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsafe")
                    .await
                    .is_ok();
                _ = stream.shutdown().await.is_ok();
            });
        }
    });
    (address, ca.pem(), task)
}

/// Applies `document` with this CA, as `hallpass apply` sends it after it read `ca_file`; gives the status.
async fn apply_with_ca(broker: &TestBroker, base_url: &str, pem: &str) -> u16 {
    let document = document(base_url, HEADER, "ca_file: ca.pem");
    let body = json!({ "document": document, "files": { "ca.pem": pem } });
    broker.admin("POST", "/admin/v1/apply", body).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_certificate_for_this_name_gets_the_secret() {
    let (address, ca, _task) = tls_upstream("127.0.0.1").await;
    let (_, other_ca, _other) = tls_upstream("127.0.0.1").await;
    let (wrong_name, wrong_name_ca, _wrong) = tls_upstream("other.example.com").await;
    let broker = TestBroker::start().await;
    broker.put_credential("crm-key", SECRET).await;
    let url = format!("https://{address}");
    // The public CAs do not know it.
    broker.apply(&document(&url, HEADER, "")).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    let token = broker.token(&agent).await;
    let get = || async { broker.call(Method::GET, "/crm/a", &token).send().await.unwrap() };
    assert_eq!(problem(get().await, 502).await, "upstream_tls");
    assert_eq!(apply_with_ca(&broker, &url, &ca).await, 200);
    assert_eq!(get().await.text().await.unwrap(), "safe");
    assert_eq!(apply_with_ca(&broker, &url, &other_ca).await, 200);
    assert_eq!(problem(get().await, 502).await, "upstream_tls");
    assert_eq!(apply_with_ca(&broker, &format!("https://{wrong_name}"), &wrong_name_ca).await, 200);
    assert_eq!(problem(get().await, 502).await, "upstream_tls");
    // A CA that is none is the operator's mistake, and says so in the log as well.
    let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    if apply_with_ca(&broker, &url, none).await == 200 {
        assert_eq!(problem(get().await, 503).await, "upstream_ca");
        broker.wait_for_record(|one| one["kind"] == "call.outcome" && one["reason"] == "upstream_ca").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upstream_is_in_the_log_by_its_name() {
    let upstream = RawUpstream::start(|mut stream, _| Box::pin(async move { drain(&mut stream).await })).await;
    let mut binary = Binary::init(None);
    let file = binary.dir.path().join("crm.yaml");
    std::fs::write(&file, document(&upstream.url(), HEADER, "timeouts: { response_seconds: 1 }")).unwrap();
    binary.serve(None);
    binary.ok(&["apply", "-f", file.to_str().unwrap()], "");
    binary.ok(&["credential", "put", "crm-key"], SECRET);
    let agent = binary.json(&["agent", "register", "helpdesk", "--role", "support"], "");
    let base = if binary.public.contains("://") { binary.public.clone() } else { format!("http://{}", binary.public) };
    let http = crate::support::broker::client();
    let request = http.post(format!("{base}/oauth2/token")).form(&[("grant_type", "client_credentials")]);
    let request = request.basic_auth(agent["client_id"].as_str().unwrap(), agent["client_secret"].as_str());
    let token: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    let token = token["access_token"].as_str().unwrap();
    let answer = http.get(format!("{base}/exchange/crm/a")).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 504);
    let log = binary.serve_log();
    let line = log.lines().find(|line| line.contains("upstream_timeout")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("WARN") && line.contains("'crm'") && line.contains("1 s"), "{line}");
    assert!(!log.contains(SECRET));
}
