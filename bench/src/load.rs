//! The load generator: so many keep-alive connections, each with one request under way, for so long.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::process::Contestant;

/// What is sent over and over.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// `Authorization`, taken in turn; empty: none.
    pub(crate) authorizations: Rc<Vec<HeaderValue>>,
    /// The type of the body, and the body.
    pub(crate) body: Option<(&'static str, Bytes)>,
}

/// For how long, over how many connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// Connections, each with one request at a time.
    pub(crate) connections: usize,
    /// Driven before anything is counted.
    pub(crate) warm_up: Duration,
    /// Counted.
    pub(crate) window: Duration,
}

/// What one contestant did in one window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Requests in a second of the clock.
    pub(crate) per_second: f64,
    /// Requests in a second of the contestant's processor time.
    pub(crate) per_cpu_second: f64,
    /// Median latency, microseconds.
    pub(crate) median_us: f64,
    /// The latency that one in a hundred exceeds, microseconds.
    pub p99_us: f64,
    /// The contestant's resident memory at the window's end, MiB.
    pub(crate) resident_mib: f64,
}

#[derive(Default)]
struct Shared {
    counting: Cell<bool>,
    stop: Cell<bool>,
    done: Cell<u64>,
    latencies: RefCell<Vec<u32>>,
}

/// Drives a contestant. Every answer but a success is an error: a benchmark of refusals says nothing.
pub(crate) fn drive(contestant: &Contestant, shot: &Shot, course: Course) -> Result<Measured> {
    run_locally(async {
        let shared = Rc::new(Shared::default());
        let mut shooters = Vec::new();
        for n in 0..course.connections {
            let sender = connect(contestant.address).await?;
            shooters.push(tokio::task::spawn_local(shoot(sender, shot.clone(), n, contestant.address, shared.clone())));
        }
        tokio::time::sleep(course.warm_up).await;
        let (start, cpu) = (Instant::now(), contestant.cpu_seconds()?);
        shared.counting.set(true);
        tokio::time::sleep(course.window).await;
        shared.counting.set(false);
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), contestant.cpu_seconds()? - cpu);
        let resident_mib = contestant.resident_mib()?;
        shared.stop.set(true);
        for shooter in shooters {
            shooter.await?.with_context(|| format!("{} with {} connections", contestant.name, course.connections))?;
        }
        let done = shared.done.get() as f64;
        let mut latencies = shared.latencies.take();
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            latencies.get(place).map_or(f64::NAN, |us| f64::from(*us) / 10.0)
        };
        Ok(Measured {
            per_second: done / seconds,
            per_cpu_second: done / cpu,
            median_us: at(0.5),
            p99_us: at(0.99),
            resident_mib,
        })
    })
}

/// Sends one request and reads the answer to its end: how long both took, and how many bytes came.
pub(crate) fn once(address: SocketAddr, shot: &Shot) -> Result<(Duration, u64)> {
    run_locally(async {
        let mut sender = connect(address).await?;
        let start = Instant::now();
        let bytes = send(&mut sender, shot, 0, address).await?;
        Ok((start.elapsed(), bytes))
    })
}

/// Sends one request for each authorization, over 32 connections: the answers' bodies, in order.
pub(crate) fn collect(address: SocketAddr, shot: &Shot) -> Result<Vec<Bytes>> {
    run_locally(async {
        let next = Rc::new(Cell::new(0_usize));
        let answers = Rc::new(RefCell::new(vec![Bytes::new(); shot.authorizations.len()]));
        let mut collectors = Vec::new();
        for _ in 0..32 {
            let (shot, next, answers) = (shot.clone(), next.clone(), answers.clone());
            let mut sender = connect(address).await?;
            collectors.push(tokio::task::spawn_local(async move {
                loop {
                    let n = next.replace(next.get() + 1);
                    if n >= shot.authorizations.len() {
                        return Ok::<_, anyhow::Error>(());
                    }
                    sender.ready().await?;
                    let response = sender.send_request(request(&shot, n, address)?).await?;
                    let status = response.status();
                    let body = response.into_body().collect().await?.to_bytes();
                    check(status, &body)?;
                    answers.borrow_mut()[n] = body;
                }
            }));
        }
        for collector in collectors {
            collector.await??;
        }
        Ok(answers.take())
    })
}

/// On this thread alone, so that the load generator leaves the processors to the contestants.
fn run_locally<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn shoot(
    mut sender: SendRequest<Full<Bytes>>,
    shot: Shot,
    first: usize,
    address: SocketAddr,
    shared: Rc<Shared>,
) -> Result<()> {
    let mut n = first;
    while !shared.stop.get() {
        let start = Instant::now();
        send(&mut sender, &shot, n, address).await?;
        if shared.counting.get() {
            shared.done.set(shared.done.get() + 1);
            // Tenths of a microsecond.
            let took = u32::try_from(start.elapsed().as_nanos() / 100).unwrap_or(u32::MAX);
            shared.latencies.borrow_mut().push(took);
        }
        // A prime, so that each connection comes by every authorization.
        n += 521;
    }
    Ok(())
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, shot: &Shot, n: usize, address: SocketAddr) -> Result<u64> {
    sender.ready().await?;
    let response = sender.send_request(request(shot, n, address)?).await?;
    let status = response.status();
    let mut body = response.into_body();
    if status != StatusCode::OK {
        check(status, &body.collect().await?.to_bytes())?;
        return Ok(0);
    }
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

fn request(shot: &Shot, n: usize, address: SocketAddr) -> Result<Request<Full<Bytes>>> {
    let body = shot.body.as_ref().map(|(_, body)| body.clone()).unwrap_or_default();
    let mut request = Request::builder().method(&shot.method).uri(&shot.path).body(Full::new(body))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&address.to_string())?);
    if let Some((kind, _)) = &shot.body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if !shot.authorizations.is_empty() {
        let authorization = &shot.authorizations[n % shot.authorizations.len()];
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}

fn check(status: StatusCode, body: &[u8]) -> Result<()> {
    if status != StatusCode::OK {
        bail!("the answer was {status}: {}", String::from_utf8_lossy(body));
    }
    Ok(())
}
