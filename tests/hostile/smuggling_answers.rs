//! Answers that could be read in two ways: none of them becomes the answer to another call.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::smuggling::broker_before;

/// What follows an answer and would be the next one.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";

/// Answers, with `{P}` for the poison behind them; the body that the agent may get (`None`: an error).
const ROWS: &[(&str, &str, Option<&str>)] = &[
    ("two Content-Lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 62\r\n\r\nok{P}", None),
    ("two Content-Lengths in one", "HTTP/1.1 200 OK\r\nContent-Length: 2, 62\r\n\r\nok{P}", None),
    ("Content-Length +2", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok{P}", None),
    ("Content-Length 0x2", "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok{P}", None),
    // Chunks win (RFC 9112 §6.3).
    (
        "CL and TE",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{P}",
        Some("ok"),
    ),
    ("TE xchunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{P}", None),
    (
        "TE twice",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{P}",
        None,
    ),
    (
        "TE chunked, identity",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n{P}",
        None,
    ),
    ("TE in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{P}", None),
    ("a bare CR", "HTTP/1.1 200 OK\r\nX-A: b\rContent-Length: 2\r\n\r\nok{P}", None),
    ("NUL", "HTTP/1.1 200 OK\r\nX-A: b\0\r\nContent-Length: 2\r\n\r\nok{P}", None),
    ("a folded header", "HTTP/1.1 200 OK\r\nX-A: b\r\n Content-Length: 2\r\n\r\nok{P}", None),
    ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok{P}", None),
    ("extra bytes after an answer", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{P}", Some("ok")),
    (
        "extra bytes after chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{P}",
        Some("ok"),
    ),
    ("a body with a 204", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{P}", Some("")),
    ("a body with a 304", "HTTP/1.1 304 Not Modified\r\n\r\n{P}", Some("")),
    ("an empty answer with a tail", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{P}", Some("")),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_answer_answers_no_later_call() {
    let mut wrong = Vec::new();
    // The path says which row is answered; everything else is answered as it should be.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (broker, token) = broker_before(&format!("http://{}", listener.local_addr().unwrap())).await;
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut piece).await {
                    let head = String::from_utf8_lossy(&piece[..n]).into_owned();
                    let target = head.split(' ').nth(1).unwrap_or_default();
                    let row = target.strip_prefix("/any/row-").and_then(|row| row.parse::<usize>().ok());
                    let answer = match row {
                        Some(row) => ROWS[row].1.replace("{P}", POISON),
                        None => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()),
                    };
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    for (row, (name, _, wanted)) in ROWS.iter().enumerate() {
        for round in 0..3 {
            let request = broker.call(Method::GET, &format!("/crm/any/row-{row}"), &token);
            let answer = request.timeout(Duration::from_secs(10)).send().await.unwrap();
            let status = answer.status().as_u16();
            let got = answer.text().await.ok().filter(|_| status < 400);
            if got.as_deref() != *wanted {
                wrong.push(format!("{name}: {status} {got:?}"));
            }
            let path = format!("/any/good-{round}");
            let answer = broker.call(Method::GET, &format!("/crm{path}"), &token).send().await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            assert!(!text.contains("poisoned"), "after {name}");
            if (status, &text) != (200, &path) {
                wrong.push(format!("the call after {name}: {status} {text}"));
            }
        }
    }
    server.abort();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
