//! Upstreams that answer too slowly, too little, too much, or not at all.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::good_client::{MAX_ANSWER, MAX_BODY, Scene};
use super::machine::{Stream, attacked, connect};

/// An upstream that does what the last segment of the path says.
pub(super) struct Evil {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Evil {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Every misbehaviour, with the reasons that an outcome may give for it.
const DEEDS: &[(&str, &[&str])] = &[
    ("drip", &["agent_went_away"]),
    ("drip-head", &["upstream_timeout"]),
    ("reset", &["upstream_reset"]),
    ("reset-head", &["upstream_reset"]),
    ("reset-body", &["body_broken"]),
    ("too-much", &["completed"]),
    ("too-little", &["body_broken"]),
    ("endless-head", &["upstream_protocol"]),
    ("giant-header", &["upstream_protocol"]),
    ("endless-1xx", &["upstream_timeout"]),
    ("endless-extension", &["body_broken"]),
    ("overflowing-chunk", &["body_broken"]),
    ("giant-chunk", &["body_too_large"]),
    ("endless-trailers", &["body_broken"]),
    ("endless-body", &["body_too_large"]),
    ("gzip", &["body_too_large"]),
    ("br", &["body_too_large"]),
    ("zstd", &["body_too_large"]),
    ("never", &["upstream_timeout"]),
];

impl Evil {
    pub(super) async fn start() -> Self {
        let bombs = Arc::new([bomb("gzip").await, bomb("br").await, bomb("zstd").await]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let bombs = bombs.clone();
                streams.spawn(async move { _ = misbehave(Stream::new(stream), &bombs).await.is_ok() });
                while streams.try_join_next().is_some() {}
            }
        });
        Self { address, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A whole answer that is 64 MiB when it is decoded.
async fn bomb(coding: &str) -> Vec<u8> {
    async fn fill(mut encoder: impl AsyncWrite + Unpin) {
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..64 {
            encoder.write_all(&zeros).await.unwrap();
        }
        encoder.shutdown().await.unwrap();
    }
    let mut body = Vec::new();
    match coding {
        "gzip" => fill(GzipEncoder::new(&mut body)).await,
        "br" => fill(BrotliEncoder::with_quality(&mut body, async_compression::Level::Fastest)).await,
        _ => fill(ZstdEncoder::new(&mut body)).await,
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}

async fn misbehave(mut stream: Stream, bombs: &[Vec<u8>; 3]) -> std::io::Result<()> {
    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            n => head.extend_from_slice(&piece[..n]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let deed = head.split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{ok}Transfer-Encoding: chunked\r\n\r\n");
    let reset = |stream: &Stream| rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    let (first, then): (String, String) = match &*deed {
        "drip" | "drip-head" => {
            let first =
                if deed == "drip" { format!("{ok}Content-Length: 1000\r\n\r\n") } else { ok.to_owned() + "X-A: " };
            stream.write_all(first.as_bytes()).await?;
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                stream.write_all(b"x").await?;
            }
        }
        "reset" => return Ok(reset(&stream)?),
        "reset-head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").await?;
            return Ok(reset(&stream)?);
        }
        "reset-body" => {
            stream.write_all(format!("{ok}Content-Length: 1000\r\n\r\nhalf").as_bytes()).await?;
            // What is in flight is lost with a reset: the head must arrive first.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Ok(reset(&stream)?);
        }
        "too-much" => (format!("{ok}Content-Length: 5\r\n\r\n01234{}", "poison".repeat(10)), String::new()),
        "too-little" => {
            return stream.write_all(format!("{ok}Content-Length: 50\r\n\r\n01234").as_bytes()).await;
        }
        "endless-head" => (ok.into(), "X-A: b\r\n".repeat(1000)),
        "giant-header" => (format!("{ok}X-A: "), "x".repeat(0x10000)),
        "endless-1xx" => (String::new(), "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(100)),
        "endless-extension" => (format!("{chunked}1;"), "e".repeat(0x10000)),
        "overflowing-chunk" => (format!("{chunked}ffffffffffffffff1\r\n"), "x".repeat(0x10000)),
        "giant-chunk" => (format!("{chunked}7fffffffffffffff\r\n"), "x".repeat(0x10000)),
        "endless-trailers" => (format!("{chunked}1\r\nx\r\n0\r\n"), "X-A: b\r\n".repeat(1000)),
        "endless-body" => (format!("{ok}\r\n"), "x".repeat(0x10000)),
        "gzip" | "br" | "zstd" => {
            let at = ["gzip", "br", "zstd"].iter().position(|one| *one == deed).unwrap();
            return stream.write_all(&bombs[at]).await;
        }
        "never-reads" => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            return Ok(());
        }
        // `sink` and `never`: all is read, nothing is said.
        _ => (String::new(), String::new()),
    };
    stream.write_all(first.as_bytes()).await?;
    while !then.is_empty() {
        stream.write_all(then.as_bytes()).await?;
    }
    let mut piece = vec![0; 0x10000];
    while stream.read(&mut piece).await? > 0 {}
    Ok(())
}

#[test]
fn every_misbehaviour_at_once() {
    attacked(async || {
        let evil = Evil::start().await;
        let scene = Scene::start(&evil.url(), &[], None).await;
        let attack = async || {
            let mut calls = JoinSet::new();
            for n in 0..6 * DEEDS.len() {
                let (deed, _) = DEEDS[n % DEEDS.len()];
                let request = scene.real.http.get(format!("{}/exchange/evil/any/{deed}", scene.real.binary.public));
                let request = request.bearer_auth(&scene.token).timeout(Duration::from_secs(20));
                calls.spawn(async move {
                    let Ok(answer) = request.send().await else { return };
                    let status = answer.status().as_u16();
                    let mut answer = answer;
                    let mut read = 0;
                    while let Ok(Some(piece)) = answer.chunk().await {
                        read += piece.len();
                    }
                    assert!([200, 502, 504].contains(&status), "{deed}: {status}");
                    assert!(read <= MAX_ANSWER, "{deed}: {read} bytes");
                });
            }
            while let Some(done) = calls.join_next().await {
                done.unwrap();
            }
        };
        // 114 calls; the dearest are the decoders: 8 MiB of window each for 12 of br and zstd, then buffers of at most 512 KiB.
        let times = scene.under("misbehaving upstreams", 160, attack).await.len();
        let ended = scene.finish().await;
        let (mut seen, mut late) = (BTreeSet::new(), 0);
        for ((target, reason), count) in &ended {
            let (deed, wanted) = DEEDS.iter().find(|(deed, _)| target.ends_with(&format!("/{deed}"))).unwrap();
            // On a busy machine the upstream's second may be over before it has done its deed, or the agent's patience.
            let is_late = matches!(&**reason, "upstream_timeout" | "body_idle" | "agent_went_away")
                // Seen once: a connection that was kept after an earlier deed may close just when this one is asked for.
                || (*deed, &**reason) == ("never", "upstream_reset");
            let is_wanted = wanted.contains(&&**reason);
            assert!(is_wanted || is_late, "{target} ended {count} times with {reason}; all: {ended:#?}");
            seen.insert(deed);
            late += if is_wanted { 0 } else { *count };
        }
        assert_eq!(seen.len(), DEEDS.len(), "{ended:#?}");
        assert!(late <= 2 * DEEDS.len() * times, "{late} of {} were late: {ended:#?}", 6 * DEEDS.len() * times);
    });
}

#[test]
fn an_upstream_that_does_not_read() {
    attacked(async || {
        let evil = Evil::start().await;
        let scene = Scene::start(&evil.url(), &[], None).await;
        let address = scene.address();
        let head = format!(
            "POST /exchange/evil/any/never-reads HTTP/1.1\r\nHost: b\r\nContent-Length: {MAX_BODY}\r\nAuthorization: Bearer {}\r\n\r\n",
            scene.token
        );
        let attack = async || {
            let mut uploads = JoinSet::new();
            for _ in 0..40 {
                let head = head.clone();
                uploads.spawn(async move {
                    let start = Instant::now();
                    let mut stream = connect(address).await;
                    stream.write_all(head.as_bytes()).await.unwrap();
                    let (mut reader, mut writer) = tokio::io::split(stream);
                    let body = vec![b'x'; MAX_BODY];
                    let mut answer = [0; 64];
                    let (_, read) = futures_util::join!(writer.write_all(&body), reader.read(&mut answer));
                    // The upstream has 5 s; that it ends at all is what counts, also where every core is busy elsewhere.
                    assert!(start.elapsed() < Duration::from_secs(60));
                    String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned()
                });
            }
            while let Some(answer) = uploads.join_next().await {
                let answer = answer.unwrap();
                // 400: on a busy machine the agent itself paused for too long before the upstream's time was over.
                let told = ["HTTP/1.1 504", "HTTP/1.1 400"].iter().any(|start| answer.starts_with(start));
                assert!(answer.is_empty() || told, "{answer}");
            }
        };
        // 40 uploads; what the sockets do not take stays with the agent.
        let times = scene.under("an upstream that does not read", 64, attack).await.len();
        let ended = scene.finish().await;
        let of = |reason: &str| ended.get(&("/any/never-reads".to_owned(), reason.to_owned())).copied().unwrap_or(0);
        assert_eq!(of("upstream_timeout") + of("request_broken"), 40 * times, "{ended:?}");
        assert!(of("upstream_timeout") > 0, "{ended:?}");
    });
}
