//! Abuse of HTTP/2's own means: resets, continuations, settings, pings, windows, header tables.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::frames::*;
use super::good_client::{HEADER_TIMEOUT, IDLE_TIMEOUT, Scene};
use super::machine::{Stream, attacked};
use crate::support::Upstream;
use crate::support::upstream::text;

const PATIENCE: Duration = Duration::from_secs(15);

fn get(path: &str, token: &str) -> Vec<u8> {
    let authorization = format!("Bearer {token}");
    let mut headers = vec![(":method", "GET"), (":scheme", "http"), (":authority", "b"), (":path", path)];
    if !token.is_empty() {
        headers.push(("authorization", &authorization));
    }
    block(&headers)
}

/// Sends `pieces` over and over until the broker hangs up or `stop`; gives whether it hung up. What it answers is read
/// only if `read` says so.
async fn flood(stream: Stream, piece: Vec<u8>, stop: Duration, read: bool) -> bool {
    let start = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = async {
        while start.elapsed() < stop {
            // A broker that reads no more is as good as one that hung up.
            let write = tokio::time::timeout(stop, writer.write_all(&piece)).await;
            if !matches!(write, Ok(Ok(()))) {
                return true;
            }
        }
        false
    };
    let receive = async {
        if !read {
            std::future::pending::<()>().await;
        }
        while next(&mut reader).await.is_some_and(|got| got.kind != GOAWAY) {}
    };
    tokio::select! {
        hung_up = send => hung_up,
        () = receive => true,
    }
}

async fn all(tasks: JoinSet<bool>) -> Vec<bool> {
    tasks.join_all().await
}

#[test]
fn floods_of_frames() {
    attacked(async || {
        let scene = Scene::start("http://127.0.0.1:9", &[], None).await;
        let address = scene.address();

        // CVE-2023-44487: 5 times 40,000 streams, each reset at once.
        let reset = async || {
            let mut tasks = JoinSet::new();
            for _ in 0..5 {
                tasks.spawn(async move {
                    let mut stream = connect(address, &[]).await;
                    let request = get("/.well-known/jwks.json", "");
                    for id in (1..80_000u32).step_by(2) {
                        let mut pair = frame(HEADERS, END_HEADERS | END_STREAM, id, &request);
                        pair.extend(frame(RST_STREAM, 0, id, &8u32.to_be_bytes()));
                        if stream.write_all(&pair).await.is_err() {
                            return true;
                        }
                    }
                    drain(&mut stream, PATIENCE).await.1
                });
            }
            all(tasks).await
        };
        let hung_up = scene.under("rapid reset", 48, reset).await;
        assert!(hung_up.iter().flatten().all(|one| *one), "{hung_up:?}");

        // A header list that never ends, with and without content.
        let continuation = async || {
            let mut tasks = JoinSet::new();
            for n in 0..20 {
                tasks.spawn(async move {
                    let mut stream = connect(address, &[]).await;
                    stream.write_all(&frame(HEADERS, END_STREAM, 1, &get("/", ""))).await.unwrap();
                    let value = "x".repeat([0, 1000][n % 2]);
                    let piece = if n % 4 < 2 { block(&[("x-a", &value)]) } else { Vec::new() };
                    flood(stream, frame(CONTINUATION, 0, 1, &piece).repeat(100), PATIENCE, true).await
                });
            }
            all(tasks).await
        };
        let hung_up = scene.under("CONTINUATION flood", 48, continuation).await;
        assert!(hung_up.iter().flatten().all(|one| *one), "{hung_up:?}");

        // An HPACK bomb: 4 KB enter the table once and are named 8,000 times by one byte each: 32 MB of headers a request.
        let bomb = async || {
            let mut tasks = JoinSet::new();
            for _ in 0..20 {
                tasks.spawn(async move {
                    let stream = connect(address, &[]).await;
                    let mut list = get("/", "");
                    list.extend([0x40, 3, b'x', b'-', b'a', 127, 0xa1, 0x1e]);
                    list.extend([b'x'; 4000]);
                    list.extend([0xbe; 8000]);
                    hpack_bomb(stream, list).await
                });
            }
            all(tasks).await
        };
        let hung_up = scene.under("giant header lists", 64, bomb).await;
        assert!(hung_up.iter().flatten().all(|one| *one), "{hung_up:?}");
        scene.finish().await;
    });
}

#[test]
fn floods_of_control_frames() {
    attacked(async || {
        let scene = Scene::start("http://127.0.0.1:9", &[], None).await;
        let address = scene.address();
        // Each asks for an answer, and the answers are not read.
        let control = async || {
            let mut tasks = JoinSet::new();
            for n in 0..20 {
                tasks.spawn(async move {
                    let stream = connect(address, &[]).await;
                    let one = match n % 3 {
                        0 => frame(PING, 0, 0, &[0; 8]),
                        1 => frame(SETTINGS, 0, 0, &setting(3, 100)),
                        _ => frame(WINDOW_UPDATE, 0, 0, &0u32.to_be_bytes()),
                    };
                    flood(stream, one.repeat(500), PATIENCE, false).await
                });
            }
            all(tasks).await
        };
        let hung_up = scene.under("PING, SETTINGS and WINDOW_UPDATE floods", 48, control).await;
        assert!(hung_up.iter().flatten().all(|one| *one), "{hung_up:?}");
        scene.finish().await;
    });
}

/// Sends the list on 100 streams; gives whether none of them was taken for a request that could be answered with 200.
async fn hpack_bomb(mut stream: Stream, list: Vec<u8>) -> bool {
    for id in (1..200u32).step_by(2) {
        if stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, id, &list)).await.is_err() {
            break;
        }
    }
    let (got, closed) = drain(&mut stream, PATIENCE).await;
    closed && got.iter().all(|one| one.kind != HEADERS || one.payload.first() != Some(&0x88))
}

/// Opens 100 streams of a large answer, with this window, and takes nothing; gives whether the connection was closed.
async fn zero_window(address: SocketAddr, token: String, window: u32) -> bool {
    let mut stream = connect(address, &[setting(4, window)]).await;
    let request = get("/exchange/evil/any/large", &token);
    for id in (1..200u32).step_by(2) {
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, id, &request)).await.unwrap();
    }
    drain(&mut stream, PATIENCE).await.1
}

#[test]
fn readers_with_a_closed_window_are_cut() {
    attacked(async || {
        let large = "x".repeat(1024 * 1024);
        let evil = Upstream::start(move |_| text(http::StatusCode::OK, &large)).await;
        let scene = Scene::start(&evil.url(), &[], None).await;
        let (address, token) = (scene.address(), scene.token.clone());
        let attack = async || {
            let mut tasks = JoinSet::new();
            for n in 0..4 {
                tasks.spawn(zero_window(address, token.clone(), n % 2));
            }
            tasks.join_all().await
        };
        // 400 calls; each holds what was read of its answer (at most 512 KiB of the 1 MiB) until it is cut.
        let start = Instant::now();
        let ended = scene.under("closed windows", 240, attack).await;
        assert!(start.elapsed() > IDLE_TIMEOUT);
        assert!(ended.iter().flatten().all(|closed| *closed), "{ended:?}");
        let times = ended.len();
        let stalled = scene.metric("hallpass_streams_stalled_total ").await.unwrap_or_default();
        let ended = scene.finish().await;
        let of = |reason: &str| ended.get(&("/any/large".to_owned(), reason.to_owned())).copied().unwrap_or(0);
        // 400 calls at once: on a busy machine the upstream does not begin all its answers within its second. What is told of
        // that (504) is as stuck in the window as an answer would be, and goes with its connection.
        assert_eq!(of("agent_went_away") + of("upstream_timeout"), 400 * times, "{ended:?}");
        assert!(stalled >= of("agent_went_away") as f64 && of("agent_went_away") > 0, "{stalled} of {ended:?}");
    });
}

#[test]
fn a_connection_without_a_stream_is_closed_and_a_slow_reader_is_not_cut() {
    attacked(async || {
        let large = "x".repeat(256 * 1024);
        let evil = Upstream::start(move |_| text(http::StatusCode::OK, &large)).await;
        let scene = Scene::start(&evil.url(), &[], None).await;
        let address = scene.address();
        let idle = async {
            let start = Instant::now();
            let mut stream = connect(address, &[]).await;
            // It answers every ping, and all that it is asked.
            let (got, closed) = drain(&mut stream, PATIENCE).await;
            assert!(closed && got.iter().any(|one| one.kind == GOAWAY), "{got:?}");
            assert!(start.elapsed() >= HEADER_TIMEOUT);
        };
        let slow = async {
            // A piece every 200 ms: twice as long as a reader may stand still, but it never does.
            let mut stream = connect(address, &[setting(4, 0)]).await;
            let request = get("/exchange/evil/any/large", &scene.token);
            stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request)).await.unwrap();
            let open = |stream_id: u32| frame(WINDOW_UPDATE, 0, stream_id, &(13_000u32).to_be_bytes());
            let (mut reader, mut writer) = tokio::io::split(stream);
            let feed = tokio::spawn(async move {
                loop {
                    let both = [open(0), open(1)].concat();
                    if writer.write_all(&both).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
            let (mut read, start) = (0, Instant::now());
            while let Some(got) = next(&mut reader).await {
                assert_ne!(got.kind, RST_STREAM, "cut after {read} bytes");
                read += if got.kind == DATA { got.payload.len() } else { 0 };
                if got.kind == DATA && got.flags & END_STREAM != 0 {
                    break;
                }
            }
            feed.abort();
            assert_eq!(read, 256 * 1024);
            assert!(start.elapsed() > IDLE_TIMEOUT, "{:?}", start.elapsed());
        };
        futures_util::join!(idle, slow);
        let ended = scene.finish().await;
        assert_eq!(ended[&("/any/large".to_owned(), "completed".to_owned())], 1, "{ended:?}");
    });
}
