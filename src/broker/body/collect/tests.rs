//! Real bodies: sent by a hyper client, received by a hyper server, collected there.

use std::convert::Infallible;

use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody as Streamed};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::*;

const LIMITS: CollectLimits =
    CollectLimits { process_bytes: 1000, agent_bytes: 600, deadline: Duration::from_millis(300) };

/// What came of one body.
type Outcome = Result<CallBody, &'static str>;

/// Sends these pieces, with the length announced or not, and gives what the collector makes of them. After the pieces nothing
/// comes if `hangs`, else the end.
async fn collected(
    collector: &Arc<Collector>,
    agent: &'static str,
    max: u64,
    pieces: Vec<usize>,
    announced: bool,
    hangs: bool,
) -> Outcome {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (sender, mut received) = mpsc::unbounded_channel();
    let collector = collector.clone();
    let serve = tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let (collector, sender) = (collector.clone(), sender.clone());
            async move {
                let body = CallBody::incoming(request.into_body());
                let whole = collector.whole(body, agent, max).await.map_err(|error| error.code);
                sender.send(whole).unwrap();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
            }
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service).await
    });
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    let drive = tokio::spawn(connection);
    let length: usize = pieces.iter().sum();
    let pieces = stream::iter(pieces).map(|size| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'a'; size]))));
    let body = if hangs { pieces.chain(stream::pending()).boxed() } else { pieces.boxed() };
    let mut request = Request::post("/");
    if announced {
        request = request.header("content-length", if hangs { length + 1 } else { length });
    }
    let sent = tokio::spawn(send.send_request(request.body(Streamed::new(body)).unwrap()));
    let outcome = received.recv().await.unwrap();
    for task in [sent.abort_handle(), drive.abort_handle(), serve.abort_handle()] {
        task.abort();
    }
    outcome
}

fn collector() -> Arc<Collector> {
    Arc::new(Collector::new(LIMITS))
}

fn whole(outcome: &Outcome) -> usize {
    match outcome {
        Ok(CallBody::Whole(bytes)) => bytes.len(),
        Ok(CallBody::Empty) => 0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_body_is_there_as_a_whole() {
    let all = collector();
    for announced in [true, false] {
        let body = collected(&all, "a", 500, vec![100, 300, 50], announced, false).await;
        assert_eq!(whole(&body), 450);
        drop(body);
        let empty = collected(&all, "a", 500, vec![], announced, false).await;
        assert!(matches!(empty, Ok(CallBody::Empty)), "{empty:?}");
    }
    assert_eq!(all.process.available_permits(), 1000, "all of it was given back");
}

#[tokio::test]
async fn what_is_larger_than_its_limit_is_refused_before_it_is_read() {
    let all = collector();
    for announced in [true, false] {
        let body = collected(&all, "a", 99, vec![100], announced, announced).await;
        assert_eq!(body.unwrap_err(), "request_too_large");
    }
    assert_eq!(all.process.available_permits(), 1000);
}

#[tokio::test]
async fn one_agent_has_its_share_and_all_together_have_theirs() {
    let all = collector();
    for announced in [true, false] {
        let first = collected(&all, "a", 900, vec![500], announced, false).await;
        let second = collected(&all, "a", 900, vec![101], announced, false).await;
        assert_eq!(second.unwrap_err(), "too_many_bodies", "its own share");
        let other = collected(&all, "b", 900, vec![450], announced, false).await;
        let third = collected(&all, "c", 900, vec![51], announced, false).await;
        assert_eq!(third.unwrap_err(), "too_many_bodies", "everybody's");
        assert_eq!((whole(&first), whole(&other)), (500, 450));
        // Held for as long as the last copy of the bytes is, however it is cut.
        let Ok(CallBody::Whole(bytes)) = first else { panic!() };
        let rest = bytes.slice(499..);
        drop(bytes);
        assert_eq!(all.process.available_permits(), 50);
        drop((rest, other));
        assert_eq!(all.process.available_permits(), 1000);
        assert_eq!(whole(&collected(&all, "c", 900, vec![51], announced, false).await), 51);
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_is_not_waited_for() {
    let all = collector();
    for announced in [true, false] {
        let begun = crate::world::monotonic();
        let body = collected(&all, "a", 500, vec![10], announced, true).await;
        assert_eq!(body.unwrap_err(), "request_too_slow");
        assert!((250..5_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }
    assert_eq!(all.process.available_permits(), 1000);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_body() {
    let broken = stream::iter([Ok(Frame::data(Bytes::from_static(b"half"))), Err(BodyError::Broken)]);
    let body = CallBody::Stream(StreamBody::new(Streamed::new(broken)));
    let all = collector();
    assert_eq!(all.whole(body, "a", 500).await.unwrap_err().code, "request_broken");
    assert_eq!(all.process.available_permits(), 1000);
}

#[tokio::test]
async fn what_is_collected_or_empty_stays_as_it_is() {
    let all = collector();
    assert!(matches!(all.whole(CallBody::Empty, "a", 0).await, Ok(CallBody::Empty)));
    let whole = all.whole(CallBody::Whole(Bytes::from_static(b"there")), "a", 1).await;
    assert!(matches!(whole, Ok(CallBody::Whole(bytes)) if bytes == "there"));
}
