//! The program itself under attack, and a client that only wants to work meanwhile.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::machine::Standing;
use crate::support::real::{Real, until};
use crate::support::upstream::text;
use crate::support::{Engine, Upstream};

/// One attack at a time: two would be measured as one.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A good client's p99 under attack may be five times its usual one. Below this it may be anything: a disk that was slow a few
/// times is no attacker. Without optimisation a frame or a header costs the broker some twenty times what it costs a
/// flooder, the two share the machine, and other tests run beside: there it only must be served at all. The strict form is
/// `cargo test --release --test it hostile`, on a machine that has nothing else to do.
const FLOOR: Duration = Duration::from_millis(if cfg!(debug_assertions) { 10_000 } else { 25 });

/// Calls by which the usual p99 is measured, before an attack and after it; and at least as many during the attack.
const CALLS: usize = if cfg!(debug_assertions) { 100 } else { 3000 };

/// Bytes of a page of the database, with its head in the write-ahead log.
const PAGE: usize = 4096 + 24;

/// Pages that a commit of an intent and an outcome writes.
const PAGES: usize = 4;

/// What a call is made of besides the broker's own work, each measured under the same attack, as a broker that costs nothing
/// would have it: a call of the upstream without a broker in between, and one durable write.
struct Bare {
    disk: std::fs::File,
}

/// How long one round of a good client took, and what the machine alone took for the same.
struct Round {
    brokered: Duration,
    direct: Duration,
    durable: Duration,
}

/// `listen.header_timeout_seconds` of every scene.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// `exchange.idle_timeout_seconds` of every scene: also how long a reader may stand still.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of a request's body, at most, at the upstream `evil`: more than sockets on loopback hold.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;

/// Bytes of an answer's body, at most, at the upstream `evil`.
pub(super) const MAX_ANSWER: usize = 512 * 1024;

/// A broker with two upstreams: `good`, which answers at once, and `evil`, wherever the test says.
pub(super) struct Scene {
    pub(super) real: Real,
    pub(super) token: String,
    good_token: String,
    quiet: Quiet,
    good_http: reqwest::Client,
    bare: Arc<Bare>,
    good: Upstream,
    _alone: MutexGuard<'static, ()>,
}

/// A thread of its own for the good client and its upstream: what is measured is how long the broker keeps them waiting,
/// not how long the attackers, who write as fast as they can, keep the test's own threads busy.
struct Quiet(Option<tokio::runtime::Runtime>);

impl Quiet {
    fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().on_thread_start(|| Standing::Good.take());
        Self(Some(runtime.build().unwrap()))
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.0.as_ref().unwrap().spawn(work).await.unwrap()
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A runtime must not wait for its tasks inside another one.
        self.0.take().unwrap().shutdown_background();
    }
}

fn document(good: &str, evil: &str) -> String {
    let operations = r#"[ { id: any, methods: [GET, POST], path: "/any/{*rest}", scope: any } ]"#;
    let inject = "{ kind: header, name: X-Api-Key, credential: crm-key }";
    format!(
        r#"
upstreams:
  - {{ name: good, base_url: "{good}", allow_private: true, inject: {inject}, operations: {operations} }}
  - name: evil
    base_url: "{evil}"
    allow_private: true
    inject: {inject}
    operations: {operations}
    timeouts: {{ response_seconds: 1, idle_seconds: 1 }}
    limits: {{ max_request_bytes: {MAX_BODY}, max_response_bytes: {MAX_ANSWER} }}
roles: [ {{ name: support, scopes: ["good:any", "evil:any"] }} ]
"#
    )
}

impl Scene {
    pub(super) async fn start(evil: &str, settings: &[(&str, &str)], root: Option<reqwest::Certificate>) -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        // Inherited by the broker: thousands of connections are thousands of descriptors on either side.
        let limit = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
        let quiet = Quiet::new();
        let good = quiet.run(Upstream::start(|seen| text(StatusCode::OK, seen.uri.path()))).await;
        let mut real = Real::init(Engine::Sqlite).unwrap();
        for (name, value) in [
            ("HALLPASS_LISTEN__HEADER_TIMEOUT_SECONDS", "2"),
            ("HALLPASS_LISTEN__DRAIN_SECONDS", "2"),
            ("HALLPASS_EXCHANGE__IDLE_TIMEOUT_SECONDS", "2"),
            ("HALLPASS_TOKENS__LIFETIME_SECONDS", "900"),
        ]
        .iter()
        .chain(settings)
        {
            real.binary.set(name, value);
        }
        // A connection that the broker is about to close for being idle is not one to send the next call on.
        let http = || reqwest::Client::builder().pool_idle_timeout(HEADER_TIMEOUT / 4).no_proxy();
        let http = || root.clone().map_or_else(http, |root| http().tls_certs_only([root])).build().unwrap();
        real.http = http();
        real.binary.serve(None);
        real.binary.ok(&["apply", "-f", "-"], &document(&good.url(), evil));
        real.binary.ok(&["credential", "put", "crm-key"], "sk-live-0123456789abcdef");
        let (attacker, worker) = (real.register("attacker"), real.register("worker"));
        let (token, good_token) = (real.token(&attacker).await, real.token(&worker).await);
        // Not before: the broker would inherit it.
        Standing::Attacker.take();
        let bare = Arc::new(Bare::beside(real.binary.dir.path()));
        Self { real, token, good_token, quiet, good_http: http(), bare, good, _alone: alone }
    }

    /// Where the public listener is.
    pub(super) fn address(&self) -> SocketAddr {
        self.real.binary.public.split_once("://").unwrap().1.parse().unwrap()
    }

    /// Resident memory of the broker, in KiB.
    fn rss(&self) -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.real.binary.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// One call of the good client, and the same without a broker: how long each took.
    async fn call(&self) -> Round {
        let url = format!("{}/exchange/good/any/work", self.real.binary.public);
        let brokered = self.good_http.get(url).bearer_auth(&self.good_token);
        let direct = self.good_http.get(format!("{}/any/work", self.good.url()));
        let bare = self.bare.clone();
        let timed = async |request: reqwest::RequestBuilder| {
            let start = Instant::now();
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.text().await.unwrap(), "/any/work");
            start.elapsed()
        };
        let round = async move {
            Round { brokered: timed(brokered).await, direct: timed(direct).await, durable: bare.write() }
        };
        self.quiet.run(round).await
    }

    /// So many rounds when nobody attacks.
    async fn usual(&self) -> Vec<Round> {
        let mut rounds = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            rounds.push(self.call().await);
        }
        rounds
    }

    /// Runs `attack` while a good client works, again and again until that has made enough calls to judge by; gives the
    /// result of each time. Fails if the broker takes more than `max_growth` MiB, if the good client waits much longer
    /// than before and afterwards, or if a call is left over.
    pub(super) async fn under<T>(&self, what: &str, max_growth: i64, mut attack: impl AsyncFnMut() -> T) -> Vec<T> {
        let mut usual = self.usual().await;
        let before = self.rss();
        let calls = Cell::new(0);
        let over = Cell::new(false);
        let attack = async {
            let mut results = Vec::new();
            while calls.get() < CALLS {
                results.push(attack().await);
            }
            over.set(true);
            results
        };
        let work = async {
            let (mut times, mut peak) = (Vec::new(), before);
            while !over.get() {
                times.push(self.call().await);
                calls.set(times.len());
                peak = peak.max(self.rss());
            }
            (times, peak)
        };
        let (results, (times, peak)) = futures_util::join!(attack, work);
        self.all_quiet(what).await;
        usual.extend(self.usual().await);
        let growth = (peak - before) / 1024;
        let rounds = times.len();
        let of = |what: fn(&Round) -> Duration| (percentiles(&times, what), percentiles(&usual, what));
        let ([during_p50, during], [usual_p50, usual_p99]) = of(|round| round.brokered);
        let ([_, direct], [_, usual_direct]) = of(|round| round.direct);
        let ([_, durable], [_, usual_durable]) = of(|round| round.durable);
        // A brokered call goes over the network twice as often as a direct one, and writes once.
        let machine = direct.saturating_sub(usual_direct) * 2 + durable.saturating_sub(usual_durable);
        let ratio = during.as_secs_f64() / usual_p99.as_secs_f64();
        println!(
            "{what}: {} times, RSS +{growth} MiB (bound {max_growth}), {rounds} good calls: p99 {during:.1?}, usually \
             {usual_p99:.1?}, ratio {ratio:.2}; p50 {during_p50:.1?}, usually {usual_p50:.1?}; the machine alone: direct \
             p99 {direct:.1?}, usually {usual_direct:.1?}, durable write {durable:.1?}, usually {usual_durable:.1?}; \
             without what it adds {:.2}",
            results.len(),
            during.saturating_sub(machine).as_secs_f64() / usual_p99.as_secs_f64(),
        );
        assert!(growth <= max_growth, "{what}: {growth} MiB more than before");
        assert!(during <= FLOOR.max(usual_p99 * 5), "{what}: p99 {during:?}, usually {usual_p99:?}");
        results
    }

    /// A number that `/metrics` shows.
    pub(super) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.real.http.get(format!("{}/metrics", self.real.binary.ops)).send().await.unwrap();
        let text = text.text().await.unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// No call holds a place any more.
    async fn all_quiet(&self, what: &str) {
        until(&format!("{what}: calls in flight end"), 15, async || {
            self.metric("hallpass_calls_in_flight ").await == Some(0.0)
        })
        .await;
    }

    /// Stops the broker, which must be able to, and gives how each call to `evil` ended: `(target, reason)` with its count.
    pub(super) async fn finish(mut self) -> BTreeMap<(String, String), usize> {
        let start = Instant::now();
        assert!(self.real.binary.terminate().success());
        assert!(start.elapsed() < Duration::from_secs(15), "stopping took {:?}", start.elapsed());
        let exported = self.real.binary.ok(&["audit", "export"], "");
        let mut under_way: BTreeMap<String, Value> = BTreeMap::new();
        let mut ended = BTreeMap::new();
        for line in exported.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            match &*text("kind") {
                "call.intent" => drop(under_way.insert(text("request"), record)),
                "call.outcome" => {
                    assert!(under_way.remove(&text("request")).is_some(), "an outcome without an intent: {record}");
                    if text("upstream") == "evil" {
                        *ended.entry((text("target"), text("reason"))).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
        assert!(under_way.is_empty(), "calls without an outcome: {under_way:#?}");
        ended
    }
}

impl Bare {
    /// On the disk of this broker's database.
    fn beside(folder: &std::path::Path) -> Self {
        let disk = std::fs::File::create(folder.join("durable.tmp")).unwrap();
        disk.write_all_at(&[0; PAGES * PAGE], 0).unwrap();
        disk.sync_all().unwrap();
        Self { disk }
    }

    /// Makes as many pages durable as the record of a call takes.
    fn write(&self) -> Duration {
        let start = Instant::now();
        self.disk.write_all_at(&[1; PAGES * PAGE], 0).unwrap();
        self.disk.sync_data().unwrap();
        start.elapsed()
    }
}

/// The median and the 99th percentile.
fn percentiles(rounds: &[Round], what: fn(&Round) -> Duration) -> [Duration; 2] {
    let mut times: Vec<Duration> = rounds.iter().map(what).collect();
    times.sort_unstable();
    [50, 99].map(|percent| times[times.len() * percent / 100 - 1])
}
