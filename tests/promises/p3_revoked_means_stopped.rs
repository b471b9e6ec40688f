//! Revoked means stopped: once the command has returned, the broker refuses the token, session, agent, signing key
//! or credential, and the signed list that gateways follow names it (credentials apart, which no gateway has); a gateway
//! whose list is older than its bound (30 s by default) refuses everything.
//!
//! The program itself under load: agents call without pause over connections that they keep, while the command runs.
//! What counts is when a call was *started*: none that was started after the command's end succeeds, and the upstream,
//! which keeps its own record, has seen none of them.

mod gateways;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hallpass::world::monotonic;
use http::StatusCode;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::forge;
use crate::support::database::on_both_engines;
use crate::support::real::{Client, Real, until};
use crate::support::upstream::{AnswerBody, text};
use crate::support::{Engine, Upstream};

const SECRET: &str = "sk-live-of-promise-3";

/// Connections, each with one call after the other, for each token.
const LANES: usize = 3;

/// Calls that every lane must have made before the command, and again after it.
const ENOUGH: usize = 4;

/// A call that was let through before the command may still be on its way to the upstream when it has ended; not long.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

on_both_engines!(nothing_that_was_started_after_the_command_succeeds);

async fn nothing_that_was_started_after_the_command_succeeds(engine: Engine) {
    let Some(mut real) = Real::init(engine) else { return };
    let record = Record::default();
    let upstream = record.upstream().await;
    let a = real.with_crm(&upstream.url(), SECRET);
    let (b, c) = (real.register("b"), real.register("c"));
    let round = async |revoke: Round<'_>| revoke.run(&real, &record).await;

    let (first, second, of_b) = (real.token(&a).await, real.token(&a).await, real.token(&b).await);
    let revoke = Round::new("token revoke", &["token", "revoke"], &first);
    round(revoke.victims(&[&first]).bystanders(&[&second, &of_b])).await;

    let by_jti = real.token(&a).await;
    let jti = forge::payload(&by_jti)["jti"].as_str().unwrap().to_owned();
    let revoke = Round::new("token revoke JTI", &["token", "revoke", &jti], "");
    round(revoke.victims(&[&by_jti]).bystanders(&[&second, &of_b])).await;

    let in_session = real.token(&a).await;
    let sid = forge::payload(&in_session)["sid"].as_str().unwrap().to_owned();
    let (status, answer) = real.token_request(&a, &[("session_id", &sid)]).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let also = answer["access_token"].as_str().unwrap().to_owned();
    let revoke = Round::new("session revoke", &["session", "revoke", &sid], "");
    round(revoke.victims(&[&in_session, &also]).bystanders(&[&second, &of_b])).await;
    assert_eq!(real.token_request(&a, &[("session_id", &sid)]).await.unwrap().0, 400, "the session goes on");

    let revoke = Round::new("agent suspend", &["agent", "suspend", "helpdesk"], "");
    round(revoke.victims(&[&second]).asking(&a).bystanders(&[&of_b])).await;
    real.binary.ok(&["agent", "resume", "helpdesk"], "");
    assert_eq!(real.call_status("/crm/any/old", &second).await, 401, "resumed, and what it had before is back");
    let resumed = real.token(&a).await;

    let revoke = Round::new("agent revoke", &["agent", "revoke", "b"], "");
    round(revoke.victims(&[&of_b]).asking(&b).bystanders(&[&resumed])).await;

    let of_c = real.token(&c).await;
    let rotate = Round::new("key rotate", &["key", "rotate"], "");
    round(rotate.bystanders(&[&resumed, &of_c])).await;
    let (kid, new) = (forge::header(&of_c)["kid"].clone(), real.token(&c).await);
    assert_eq!(forge::header(&resumed)["kid"], kid);
    assert_ne!(forge::header(&new)["kid"], kid);
    let retire = Round::new("key retire", &["key", "retire", kid.as_str().unwrap()], "");
    round(retire.victims(&[&resumed, &of_c]).bystanders(&[&new])).await;

    let last = real.token(&a).await;
    let mut revoke = Round::new("credential revoke", &["credential", "revoke", "crm-key"], "");
    // It ends calls to come, not an agent: what streams already goes on.
    (revoke.status, revoke.cuts_streams) = (403, false);
    round(revoke.victims(&[&new, &last])).await;
}

/// Straight to standard error: what was measured is shown of tests that pass, too.
fn say(what: &str) {
    drop(std::io::stderr().lock().write_all(format!("p3: {what}\n").as_bytes()));
}

/// The upstream's own record: when each call arrived, and whether with the secret.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<(Instant, String)>>>);

impl Record {
    async fn upstream(&self) -> Upstream {
        let record = self.0.clone();
        Upstream::start(move |seen| {
            assert_eq!(seen.headers["x-api-key"], SECRET);
            record.lock().unwrap().push((monotonic(), seen.uri.path().to_owned()));
            if seen.uri.path().ends_with("/stream") { endless() } else { text(StatusCode::OK, "ok") }
        })
        .await
    }

    fn arrivals(&self) -> Vec<(Instant, String)> {
        self.0.lock().unwrap().clone()
    }
}

/// A word every 20 ms, for ever.
fn endless() -> http::Response<AnswerBody> {
    let words = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"word\n"))), ()))
    });
    http::Response::new(StreamBody::new(words).boxed_unsync())
}

/// One command under load.
struct Round<'a> {
    name: &'a str,
    command: Vec<&'a str>,
    input: &'a str,
    victims: Vec<String>,
    bystanders: Vec<String>,
    asking: Option<Client>,
    /// What victims are answered afterwards.
    status: u16,
    cuts_streams: bool,
}

/// One call: when it was started, and how it ended.
#[derive(Debug, Clone)]
struct Made {
    path: String,
    started: Instant,
    status: u16,
    /// Of a token request.
    token: Option<String>,
}

impl<'a> Round<'a> {
    fn new(name: &'a str, command: &[&'a str], input: &'a str) -> Self {
        let nobody = Vec::new;
        Self {
            name,
            command: command.to_vec(),
            input,
            victims: nobody(),
            bystanders: nobody(),
            asking: None,
            status: 401,
            cuts_streams: true,
        }
    }

    fn victims(mut self, tokens: &[&str]) -> Self {
        self.victims = tokens.iter().map(|one| (*one).to_owned()).collect();
        self
    }

    fn bystanders(mut self, tokens: &[&str]) -> Self {
        self.bystanders = tokens.iter().map(|one| (*one).to_owned()).collect();
        self
    }

    /// A victim that asks for tokens all the time.
    fn asking(mut self, agent: &Client) -> Self {
        self.asking = Some(agent.clone());
        self
    }

    async fn run(self, real: &Real, record: &Record) {
        let place = self.name.replace(' ', "-");
        let mut victims = Load::default();
        let mut bystanders = Load::default();
        for (n, token) in self.victims.iter().enumerate() {
            victims.call(real, token, &format!("/any/{place}/victim-{n}"));
        }
        if let Some(agent) = &self.asking {
            victims.ask(real, agent);
        }
        for (n, token) in self.bystanders.iter().enumerate() {
            bystanders.call(real, token, &format!("/any/{place}/bystander-{n}"));
        }
        let mut streams = Vec::new();
        for token in &self.victims {
            let mut stream = real.call(&format!("/crm/any/{place}/stream"), token).await.unwrap();
            assert_eq!(stream.chunk().await.unwrap().unwrap(), "word\n");
            streams.push(stream);
        }
        victims.have_made(ENOUGH).await;
        bystanders.have_made(ENOUGH).await;

        tokio::task::block_in_place(|| real.binary.ok(&self.command, self.input));
        let after = monotonic();

        for mut stream in streams.into_iter().filter(|_| self.cuts_streams) {
            let end = async { while stream.chunk().await.is_ok_and(|piece| piece.is_some()) {} };
            let ended = tokio::time::timeout(Duration::from_secs(10), end).await;
            assert!(ended.is_ok(), "{}: a stream goes on", self.name);
        }
        victims.have_made(ENOUGH).await;
        bystanders.have_made(ENOUGH).await;
        let (victims, bystanders) = (victims.stop().await, bystanders.stop().await);

        assert!(bystanders.iter().all(|made| made.status == 200), "{}: {bystanders:#?}", self.name);
        let late: Vec<&Made> = victims.iter().filter(|made| made.started > after).collect();
        assert!(self.victims.is_empty() || late.len() >= ENOUGH, "{}: hardly any load", self.name);
        for made in &late {
            assert_eq!(made.status, if made.path.is_empty() { 401 } else { self.status }, "{}: {made:?}", self.name);
        }
        self.nothing_arrived(record, &late, after);
        // A token that was on its way when its agent was stopped is worth nothing.
        for token in victims.iter().filter_map(|made| made.token.as_ref()) {
            assert_eq!(real.call_status(&format!("/crm/any/{place}/minted"), token).await, 401, "{}", self.name);
        }
        let calls = victims.len() + bystanders.len();
        say(&format!("{}: {calls} calls, {} of victims started after it", self.name, late.len()));
    }

    fn nothing_arrived(&self, record: &Record, late: &[&Made], after: Instant) {
        let victims = format!("/any/{}/victim-", self.name.replace(' ', "-"));
        for (at, path) in record.arrivals().into_iter().filter(|(_, path)| path.starts_with(&victims)) {
            let started_late = late.iter().any(|made| made.path == path);
            assert!(!started_late, "{}: {path} was started after it and reached the upstream", self.name);
            assert!(at < after + ON_ITS_WAY, "{}: {path} reached the upstream {:?} after it", self.name, at - after);
        }
    }
}

/// Callers that do not pause.
#[derive(Default)]
struct Load {
    stop: Arc<AtomicBool>,
    lanes: JoinSet<Vec<Made>>,
    counts: Vec<Arc<AtomicUsize>>,
}

impl Load {
    fn call(&mut self, real: &Real, token: &str, place: &str) {
        for lane in 0..LANES {
            let (token, place) = (token.to_owned(), format!("{place}-{lane}"));
            let base = format!("{}/exchange/crm", real.binary.public);
            self.lane(move |http, n| {
                let path = format!("{place}/{n}");
                (http.get(format!("{base}{path}")).bearer_auth(&token), path)
            });
        }
    }

    fn ask(&mut self, real: &Real, agent: &Client) {
        let url = format!("{}/oauth2/token", real.binary.public);
        let agent = agent.clone();
        self.lane(move |http, _| {
            let request = http.post(&url).basic_auth(&agent.0, Some(&agent.1));
            (request.form(&[("grant_type", "client_credentials")]), String::new())
        });
    }

    /// One connection, kept.
    fn lane(
        &mut self,
        request: impl Fn(&reqwest::Client, usize) -> (reqwest::RequestBuilder, String) + Send + 'static,
    ) {
        let (stop, count) = (self.stop.clone(), Arc::new(AtomicUsize::new(0)));
        self.counts.push(count.clone());
        self.lanes.spawn(async move {
            let http = reqwest::Client::builder().pool_max_idle_per_host(1).build().unwrap();
            let mut made = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let (request, path) = request(&http, made.len());
                let started = monotonic();
                let (status, body) = match request.send().await {
                    // Read whole, or the connection could not be used again. A victim's may be cut midway.
                    Ok(answer) => (answer.status().as_u16(), answer.bytes().await.unwrap_or_default()),
                    // Cut before its first byte: no answer at all.
                    Err(_) => (0, Bytes::new()),
                };
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let token = body["access_token"].as_str().map(str::to_owned);
                made.push(Made { path, started, status, token });
                count.fetch_add(1, Ordering::Relaxed);
            }
            made
        });
    }

    /// Waits until each lane has made so many more.
    async fn have_made(&self, more: usize) {
        let now = || self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = now();
        until("calls under load", 60, async || now().iter().zip(&before).all(|(now, before)| *now > before + more))
            .await;
    }

    async fn stop(self) -> Vec<Made> {
        self.stop.store(true, Ordering::Relaxed);
        self.lanes.join_all().await.into_iter().flatten().collect()
    }
}
