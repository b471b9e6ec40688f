//! Clients that send too slowly, too little, too much, or nothing at all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::good_client::{HEADER_TIMEOUT, MAX_BODY, Scene};
use super::machine::{Stream, attacked, connect};
use super::upstreams::Evil;

/// Much longer than any of the broker's time limits here: whoever waits so long waits in vain.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads until the other side closes; gives what came first.
async fn until_closed(stream: &mut Stream) -> String {
    let (mut first, mut piece) = (Vec::new(), [0; 4096]);
    let read = async {
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            first.extend_from_slice(&piece[..n]);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the broker closes the connection");
    String::from_utf8_lossy(&first).into_owned()
}

/// Sends `head`, then `tail` byte by byte, every 100 ms, until the broker closes or `stop`.
async fn byte_by_byte(address: SocketAddr, head: String, tail: &'static str, stop: Duration) {
    let mut stream = connect(address).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let start = Instant::now();
    for byte in tail.bytes().cycle() {
        if start.elapsed() > stop || stream.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs `count` of them at once.
async fn many<F: Future<Output = ()> + Send + 'static>(count: usize, one: impl Fn(usize) -> F) {
    let mut tasks: JoinSet<()> = (0..count).map(one).collect();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[test]
fn slow_clients_and_half_open_connections() {
    attacked(async || {
        let evil = Evil::start().await;
        let scene = Scene::start(&evil.url(), &[], None).await;
        let address = scene.address();
        // 200 connections with a head and a body of a few bytes each: 16 KiB apiece is 3 MiB; the rest is slack for the
        // allocator's arenas.
        let slow = |_| byte_by_byte(address, "GET / HTTP/1.1\r\nX-Slow: ".into(), "x", PATIENCE);
        let heads = async || {
            let start = Instant::now();
            many(200, slow).await;
            assert!(start.elapsed() < PATIENCE, "the header timeout ended them");
        };
        scene.under("slow heads", 32, heads).await;

        let token = scene.token.clone();
        let head = format!(
            "POST /exchange/evil/any/sink HTTP/1.1\r\nHost: b\r\nContent-Length: 1000000\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let slow = |_| byte_by_byte(address, head.clone(), "x", Duration::from_secs(3));
        let times = scene.under("slow bodies", 32, async || many(100, slow).await).await.len();

        let head = format!("GET /exchange/evil/any/never HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\r\n");
        let one = |n: usize| {
            let head = head.clone();
            async move {
                let mut stream = connect(address).await;
                // Nothing, half a head, or a whole one; then no more is sent, or the connection is reset.
                let bytes = &head.as_bytes()[..[0, 30, head.len()][n % 3]];
                stream.write_all(bytes).await.unwrap();
                if n.is_multiple_of(2) {
                    _ = stream.shutdown().await.is_ok();
                    until_closed(&mut stream).await;
                } else {
                    socket_reset(stream);
                }
            }
        };
        scene.under("half-open connections", 32, async || many(300, one).await).await;
        let ended = scene.finish().await;
        let sink: Vec<_> = ended.iter().filter(|((target, _), _)| target == "/any/sink").collect();
        // Which side notices first that the agent left is a race.
        assert!(
            sink.iter().all(|((_, reason), _)| ["agent_went_away", "request_broken"].contains(&&**reason)),
            "{ended:?}"
        );
        assert_eq!(sink.iter().map(|(_, count)| **count).sum::<usize>(), 100 * times, "{ended:?}");
    });
}

/// Closes with a reset.
fn socket_reset(stream: Stream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

#[test]
fn five_thousand_idle_connections() {
    attacked(async || {
        let scene = Scene::start("http://127.0.0.1:9", &[], None).await;
        let address = scene.address();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let count = 5000.min(limit.saturating_sub(1000)) as usize;
        if count < 5000 {
            println!("only {count} connections: no more files may be open here");
        }
        let attack = async || {
            let mut streams = Vec::with_capacity(count);
            let start = Instant::now();
            for _ in 0..count {
                streams.push(connect(address).await);
            }
            println!("{count} connections after {:?}", start.elapsed());
            tokio::time::timeout(PATIENCE, many_closed(streams)).await.expect("idle connections are closed");
            assert!(start.elapsed() >= HEADER_TIMEOUT);
        };
        // 24 KiB a connection.
        scene.under("idle connections", 120, attack).await;
        scene.finish().await;
    });
}

async fn many_closed(streams: Vec<Stream>) {
    for mut stream in streams {
        _ = stream.read(&mut [0; 16]).await.is_ok();
    }
}

#[test]
fn floods_of_headers_and_bodies() {
    attacked(async || {
        let evil = Evil::start().await;
        let scene = Scene::start(&evil.url(), &[], None).await;
        let (address, token) = (scene.address(), scene.token.clone());
        let authorization = format!("Host: b\r\nAuthorization: Bearer {token}\r\n");
        let giant = "x".repeat(8 * 1024 * 1024);
        let heads = [
            format!("GET /exchange/evil/any/x HTTP/1.1\r\n{authorization}{}\r\n", "X-A: b\r\n".repeat(200)),
            format!("GET /exchange/evil/any/x HTTP/1.1\r\n{authorization}{}\r\n", "X-A: b\r\n".repeat(500_000)),
            format!("GET /exchange/evil/any/x HTTP/1.1\r\n{authorization}X-A: {giant}\r\n\r\n"),
            format!("GET /exchange/evil/any/x HTTP/1.1\r\n{authorization}{giant}: a\r\n\r\n"),
            format!("GET /exchange/evil/any/{giant} HTTP/1.1\r\n{authorization}\r\n"),
            format!("{giant} /exchange/evil/any/x HTTP/1.1\r\n{authorization}\r\n"),
        ]
        .map(std::sync::Arc::new);
        let one = |n: usize| {
            let head = heads[n % heads.len()].clone();
            async move {
                let mut stream = connect(address).await;
                // The broker hangs up long before all is sent.
                _ = stream.write_all(head.as_bytes()).await.is_ok();
                let answer = until_closed(&mut stream).await;
                let status = answer.get(9..12).unwrap_or("");
                assert!(["", "400", "414", "431"].contains(&status), "{answer}");
            }
        };
        // 120 connections with buffers of 32 KiB (`listen.max_header_bytes`), doubled while they grow: 8 MiB, and slack.
        scene.under("floods of headers", 48, async || many(120, one).await).await;

        let post = |framing: &str| format!("POST /exchange/evil/any/sink HTTP/1.1\r\n{authorization}{framing}\r\n\r\n");
        let announced = post(&format!("Content-Length: {}", MAX_BODY + 1));
        let endless = post("Transfer-Encoding: chunked");
        let extension = post("Transfer-Encoding: chunked");
        let one = |n: usize| {
            let head = [&announced, &endless, &extension][n % 3].clone();
            async move {
                let mut stream = connect(address).await;
                stream.write_all(head.as_bytes()).await.unwrap();
                let (mut reader, mut writer) = tokio::io::split(stream);
                let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                let piece = if n % 3 == 2 { format!("1;{}", "e".repeat(0x10000)) } else { piece };
                let send = async { while writer.write_all(piece.as_bytes()).await.is_ok() {} };
                let mut answer = vec![0; 1024];
                let receive = async {
                    let read = reader.read(&mut answer).await.unwrap_or(0);
                    String::from_utf8_lossy(&answer[..read]).into_owned()
                };
                let answer = tokio::select! {
                    answer = receive => answer,
                    () = send => String::new(),
                    () = tokio::time::sleep(PATIENCE) => panic!("an endless body is taken"),
                };
                let wanted = [&["413", ""][..], &["413", ""][..], &["400", ""][..]][n % 3];
                assert!(wanted.contains(&answer.get(9..12).unwrap_or("")), "{n}: {answer}");
            }
        };
        // 60 bodies that stream: some pieces of 64 KiB each.
        scene.under("endless bodies", 48, async || many(60, one).await).await;
        let ended = scene.finish().await;
        assert!(
            ended
                .keys()
                .all(|(_, reason)| ["request_too_large", "request_broken", "agent_went_away"].contains(&&**reason)),
            "{ended:?}"
        );
        assert!(ended.contains_key(&("/any/sink".to_owned(), "request_too_large".to_owned())), "{ended:?}");
    });
}

#[test]
fn half_a_tls_handshake() {
    attacked(async || {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let files = [("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())].map(|(name, pem)| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join(name);
            std::fs::write(&path, pem).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        });
        let settings = [("HALLPASS_TLS__CERT_FILE", &*files[0]), ("HALLPASS_TLS__KEY_FILE", &*files[1])];
        _ = rustls::crypto::ring::default_provider().install_default().is_ok();
        let root = reqwest::Certificate::from_pem(certificate.pem().as_bytes()).unwrap();
        let scene = Scene::start("http://127.0.0.1:9", &settings, Some(root)).await;
        let address = scene.address();
        // The header of a handshake record that announces 16 KiB of a ClientHello, and the first bytes of it.
        let hello = [0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3];
        let one = |n: usize| async move {
            let mut stream = connect(address).await;
            // Where the machine is busy, its time may be over before the first byte.
            _ = stream.write_all(&hello[..n % (hello.len() + 1)]).await.is_ok();
            until_closed(&mut stream).await;
        };
        // 500 handshakes of at most 32 KiB.
        scene.under("half TLS handshakes", 48, async || many(500, one).await).await;
        scene.finish().await;
    });
}
