//! A gateway that follows the list over a line that can be cut: how soon it hears, and that it fails closed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hallpass::app::Surroundings;
use hallpass::world::monotonic;
use hallpass_verify::{Gateway, GatewaySettings, REVOCATIONS_TYP, Refusal, RevokedBy};
use reqwest::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::say;
use crate::forge;
use crate::support::broker::TestAgent;
use crate::support::real::until;
use crate::support::{Engine, TestBroker, TestClock};

const ORDERS: &str = "https://orders.example.com";

/// How a gateway hears of revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    LongPoll,
    Push,
}

/// A TCP line to the broker, which can be cut and mended.
struct Line {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Line {
    async fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let whole = watch::Sender::new(true);
        let state = whole.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.clone();
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let mut far = TcpStream::connect(broker).await.unwrap();
                    tokio::select! {
                        copied = tokio::io::copy_bidirectional(&mut near, &mut far) => drop(copied),
                        cut = state.wait_for(|whole| !whole) => drop(cut),
                    }
                });
            }
        });
        Self { address, whole, task }
    }
}

/// A gateway with the program around it that follows the list.
struct Follower {
    gateway: Arc<Gateway>,
    line: Line,
    /// Every list that was taken.
    taken: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
        self.line.task.abort();
    }
}

impl Follower {
    async fn new(scene: &Scene, follow: Follow, max_list_age: i64) -> Self {
        let issuer = scene.broker.running.issuer.clone();
        let settings = GatewaySettings { max_list_age, ..GatewaySettings::new(issuer, ORDERS) };
        let gateway = Arc::new(Gateway::new(settings));
        gateway.set_jwks(scene.broker.running.state.manager.registry.keys().jwks()).unwrap();
        let line = Line::to(scene.broker.running.public).await;
        let taken: Arc<Mutex<Vec<String>>> = Arc::default();
        let world = scene.broker.running.state.world.clone();
        let take = {
            let (gateway, taken) = (gateway.clone(), taken.clone());
            move |list: &str| {
                if gateway.set_revocations(list, world.now() / 1000).is_ok() {
                    taken.lock().unwrap().push(list.to_owned());
                }
            }
        };
        let url = format!("http://{}/revocations", line.address);
        let task = tokio::spawn(async move {
            // As a gateway must: a request that hears nothing is given up. On a busy machine this client was seen to wait
            // without end after a connection that was closed as soon as it was accepted.
            let http = reqwest::Client::builder().read_timeout(Duration::from_secs(12)).build().unwrap();
            loop {
                // Ends when the line is cut; then it is tried again, as a gateway would.
                match follow {
                    Follow::LongPoll => poll(&http, &url, &take).await,
                    Follow::Push => listen(&http, &url, &take).await,
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let follower = Self { gateway, line, taken, task };
        until("the first list", 20, async || !follower.taken.lock().unwrap().is_empty()).await;
        follower
    }

    fn verify(&self, scene: &Scene, token: &str) -> Result<(), Refusal> {
        self.gateway.verify(token, forge::now(&scene.broker)).map(drop)
    }

    /// When the list that it holds was true.
    fn held_since(&self) -> i64 {
        forge::payload(self.taken.lock().unwrap().last().unwrap())["iat"].as_i64().unwrap()
    }
}

async fn poll(http: &reqwest::Client, url: &str, take: &impl Fn(&str)) {
    let mut etag = String::new();
    while let Ok(answer) = http.get(format!("{url}?wait=30")).header(IF_NONE_MATCH, &etag).send().await {
        let tag = answer.headers().get(ETAG).map(|tag| tag.to_str().unwrap().to_owned());
        if answer.status() == 200 {
            let Ok(list) = answer.text().await else { return };
            take(&list);
            etag = tag.unwrap_or_default();
        }
    }
}

async fn listen(http: &reqwest::Client, url: &str, take: &impl Fn(&str)) {
    let Ok(mut answer) = http.get(url).header(ACCEPT, "text/event-stream").send().await else { return };
    let mut text = String::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        text.push_str(std::str::from_utf8(&piece).unwrap());
        while let Some(end) = text.find("\n\n") {
            let rest = text.split_off(end + 2);
            let event = std::mem::replace(&mut text, rest);
            take(event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap());
        }
    }
}

struct Scene {
    broker: TestBroker,
    agent: TestAgent,
    clock: Arc<TestClock>,
}

impl Scene {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let clock = TestClock::new();
        let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
        let broker = TestBroker::start_with(Engine::Sqlite, surroundings, settings).await.unwrap();
        let document = format!(
            "resources: [ {{ name: orders, audience: \"{ORDERS}\", scopes: [read] }} ]\n\
             roles: [ {{ name: support, scopes: [\"orders:read\"] }} ]\n"
        );
        broker.apply(&document).await;
        let agent = broker.register("helpdesk", &["support"]).await;
        Self { broker, agent, clock }
    }

    async fn token(&self) -> String {
        let (status, answer) = self.broker.token_request(&self.agent, &[("resource", ORDERS)]).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn revoke(&self, token: &str) {
        self.broker.admin_ok("POST", "/admin/v1/tokens/revoke", json!({ "token": token })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_line_is_cut_refuses_everything_after_its_bound_and_no_forged_list_brings_it_back() {
    for follow in [Follow::LongPoll, Follow::Push] {
        let scene = Scene::new(&[]).await;
        let follower = Follower::new(&scene, follow, 30).await;
        let (token, other) = (scene.token().await, scene.token().await);
        let first_list = follower.taken.lock().unwrap()[0].clone();
        // Another list, so that the first one is an older one.
        let marker = scene.token().await;
        scene.revoke(&marker).await;
        until("the marker", 20, async || follower.verify(&scene, &marker).is_err()).await;
        follower.verify(&scene, &token).unwrap();

        follower.line.whole.send_replace(false);
        tokio::time::sleep(Duration::from_millis(100)).await;
        scene.revoke(&token).await;
        let since = follower.held_since();
        // What it cannot hear of it does not know, for as long as the bound says and no longer.
        follower.gateway.verify(&token, since + 30).unwrap();
        scene.clock.add_seconds(since + 31 - forge::now(&scene.broker));
        let now = forge::now(&scene.broker);
        for good_before in [&token, &other] {
            assert_eq!(follower.verify(&scene, good_before).unwrap_err(), Refusal::ListStale, "{follow:?}");
        }

        let held = follower.taken.lock().unwrap().last().unwrap().clone();
        let issuer = &scene.broker.running.issuer;
        let kid = scene.broker.running.state.manager.registry.keys().active_kid().to_owned();
        let young = json!({ "iss": issuer, "iat": now, "version": 1_000_000, "max_age": 30, "revoked": [] });
        let made_younger = forge::tampered(&held, |list| list["iat"] = now.into());
        for (what, list) in [
            ("the same again", held.clone()),
            ("an older one", first_list),
            ("one that another key signed", forge::by_foreign_key_as(REVOCATIONS_TYP, &kid, &young)),
            ("one that an unknown key signed", forge::by_foreign_key_as(REVOCATIONS_TYP, "k", &young)),
            ("one that nobody signed", forge::unsecured("none", &kid, &young)),
            ("a younger date under the old signature", made_younger),
            ("a token of the broker", forge::by_broker(&scene.broker, "at+jwt", &young)),
            (
                "one of another issuer",
                forge::by_broker(
                    &scene.broker,
                    REVOCATIONS_TYP,
                    &forge::with(young.clone(), "iss", "https://evil.example"),
                ),
            ),
            ("nothing", String::new()),
        ] {
            let taken = follower.gateway.set_revocations(&list, now);
            assert!(taken.is_err() || list == held, "{follow:?}: {what} was taken");
            for good_before in [&token, &other] {
                assert_eq!(follower.verify(&scene, good_before).unwrap_err(), Refusal::ListStale, "{follow:?}: {what}");
            }
        }

        follower.line.whole.send_replace(true);
        let refused = Err(Refusal::Revoked(RevokedBy::Token));
        until("the line is mended", 40, async || follower.verify(&scene, &token) == refused).await;
        follower.verify(&scene, &other).unwrap();
    }
}

/// The same in real time, with a short bound.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_line_is_cut_refuses_in_real_time() {
    const BOUND: i64 = 2;
    let settings = [("HALLPASS_REVOCATIONS__SIGN_EVERY_SECONDS", "1"), ("HALLPASS_REVOCATIONS__MAX_AGE_SECONDS", "5")];
    for follow in [Follow::LongPoll, Follow::Push] {
        let scene = Scene::new(&settings).await;
        let follower = Follower::new(&scene, follow, BOUND).await;
        let token = scene.token().await;
        until("a young list", 20, async || follower.verify(&scene, &token).is_ok()).await;
        follower.line.whole.send_replace(false);
        let cut = monotonic();
        until("the gateway refuses", 20, async || {
            let age = forge::now(&scene.broker) - follower.held_since();
            match follower.verify(&scene, &token) {
                Ok(()) => {
                    assert!(age <= BOUND, "{follow:?}: it relies on a list of {age} s");
                    false
                }
                Err(refusal) => refusal == Refusal::ListStale,
            }
        })
        .await;
        say(&format!("{follow:?}: refuses {:?} after the cut, with a bound of {BOUND} s", cut.elapsed()));
        // And stays so, although the token has minutes to live.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(follower.verify(&scene, &token).unwrap_err(), Refusal::ListStale, "{follow:?}");
        }
        follower.line.whole.send_replace(true);
        until("the line is mended", 40, async || follower.verify(&scene, &token).is_ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_hears_of_a_revocation_at_once() {
    const REVOCATIONS: usize = 50;
    let scene = Scene::new(&[]).await;
    let polls = Follower::new(&scene, Follow::LongPoll, 30).await;
    let hears = Follower::new(&scene, Follow::Push, 30).await;
    let (mut by_poll, mut by_push) = (Vec::new(), Vec::new());
    for n in 0..REVOCATIONS {
        let token = scene.token().await;
        for follower in [&polls, &hears] {
            follower.verify(&scene, &token).unwrap();
        }
        let by = if n % 2 == 0 {
            scene.revoke(&token).await;
            RevokedBy::Token
        } else {
            let sid = forge::payload(&token)["sid"].as_str().unwrap().to_owned();
            scene.broker.admin_ok("POST", &format!("/admin/v1/sessions/{sid}/revoke"), Value::Null).await;
            RevokedBy::Session
        };
        let revoked = monotonic();
        let heard = async |follower: &Follower| {
            while follower.verify(&scene, &token) != Err(Refusal::Revoked(by)) {
                assert!(revoked.elapsed() < Duration::from_secs(5), "revocation {n} was not heard of within 5 s");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            revoked.elapsed()
        };
        let (poll, push) = tokio::join!(heard(&polls), heard(&hears));
        by_poll.push(poll);
        by_push.push(push);
    }
    for (name, mut times) in [("long poll", by_poll), ("push", by_push)] {
        times.sort();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        say(&format!("{name}: {REVOCATIONS} revocations, p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100)));
    }
}
