//! `hallpass audit search`: what is found is what a look at every record finds, wherever the index has got to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hallpass::audit::{Draft, Follower, Indexer, Query, SegmentBuilder, Verification, search, verify_node};
use hallpass::model::{Event, EventKind, Head};
use hallpass::store::{Access, Batch, Store, Tail, Verdict};
use serde_json::Value;

use crate::support::database::{blob, execute, fresh_url, number, on_both_engines};
use crate::support::real::{Real, said, until};
use crate::support::{Engine, Upstream};

on_both_engines!(
    what_is_found_is_what_a_look_at_every_record_finds,
    an_index_that_is_lost_hides_nothing_and_is_made_again,
    a_follower_reads_every_record_once,
    somebody_searches_the_log_of_a_broker,
);

/// A log of one node, written segment by segment.
struct Log {
    store: Store,
    url: String,
    head: Head,
    committed: tokio::sync::watch::Sender<i64>,
    _dir: tempfile::TempDir,
}

/// The record of a number: two of each request, agents and sessions in turns, few refusals.
fn event(n: i64) -> Event {
    let mut event = Event::new(if n % 2 == 1 { EventKind::CallIntent } else { EventKind::CallOutcome });
    let call = (n - 1) / 2;
    let text = |text: String| Some(Arc::from(text));
    event.agent = text(format!("ag_{}", call % 97));
    event.agent_name = text(format!("agent \"{}\"", call % 97));
    event.session = text(format!("se_{}", call / 50));
    event.upstream = text(format!("up{}", call % 5));
    event.operation = text(format!("op{}", call % 11));
    event.request = text(format!("rq_{call}"));
    event.decision = (n % 2 == 1).then_some("allow");
    if call % 1009 == 17 && n % 2 == 0 {
        event.reason = text("upstream_timeout".into());
    }
    event
}

impl Log {
    async fn new(engine: Engine) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let url = fresh_url(engine, dir.path())?;
        let store = Store::open(&url, 2, Access::Create).await.unwrap();
        store.migrate().await.unwrap();
        Some(Self { store, url, head: Head::EMPTY, committed: tokio::sync::watch::Sender::new(0), _dir: dir })
    }

    /// Adds records up to this number, `each` to a segment; each second has a hundred.
    async fn grow(&mut self, to: i64, each: i64) {
        while self.head.seq < to {
            let at = 1_000_000 + self.head.seq * 10;
            let mut segment = SegmentBuilder::new("node-1", self.head, at);
            for n in self.head.seq + 1..=(self.head.seq + each).min(to) {
                segment.push(&Draft::new(&event(n)).unwrap(), None).unwrap();
            }
            let head = segment.head();
            let segment = segment.finish();
            let batch = Batch { node: "node-1", now: at, parts: &[], one_by_one: false };
            let mut tail = |_: &[Verdict]| Ok(Tail { segment: segment.clone(), head, mac: [0; 32] });
            self.store.commit(&batch, &mut tail).await.unwrap();
            self.head = head;
        }
        self.committed.send_replace(to);
    }

    fn indexer(&self) -> Indexer {
        Indexer::new(self.store.clone(), "node-1".into(), self.committed.subscribe())
    }

    /// The numbers of all that fit, page by page.
    async fn search(&self, query: &Query) -> Vec<i64> {
        let (mut all, mut after) = (Vec::new(), Some(0));
        while let Some(from) = after {
            let found = search(&self.store, "node-1", from, query).await.unwrap();
            all.extend(found.records.iter().map(|row| row.seq));
            assert!(found.next.is_none_or(|next| next > from), "{found:?}");
            after = found.next;
        }
        all
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn what_is_found_is_what_a_look_at_every_record_finds(engine: Engine) {
    let Some(mut log) = Log::new(engine).await else { return };
    let every = Query::default();
    let queries: Vec<Query> = vec![
        Query { agent: text("ag_17"), ..every.clone() },
        Query { agent: text("agent \"17\""), ..every.clone() },
        Query { session: text("se_9"), ..every.clone() },
        Query { upstream: text("up3"), operation: text("op7"), ..every.clone() },
        Query { decision: text("allow"), session: text("se_3"), ..every.clone() },
        Query { reason: text("upstream_timeout"), ..every.clone() },
        Query { request: text("rq_1234"), ..every.clone() },
        Query { request: text("rq_123"), ..every.clone() },
        Query { request: text("rq_"), ..every.clone() },
        Query { agent: text("ag_17"), upstream: text("up1"), ..every.clone() },
        Query { since: Some(1_010_000), until: Some(1_012_000), ..every.clone() },
        Query { since: Some(1_030_001), agent: text("ag_5"), ..every.clone() },
        Query { until: Some(1_020_000), agent: text("ag_5"), ..every.clone() },
        Query { since: Some(9_999_999), ..every.clone() },
        Query { agent: text(""), ..every.clone() },
        every,
    ];
    // Nothing indexed; all but a rest; more behind it, in segments of another size; and what is left of a run.
    for (to, each, is_indexed) in [(2_000, 7, false), (2_600, 1, true), (6_000, 300, false), (6_010, 3, true)] {
        log.grow(to, each).await;
        if is_indexed {
            let mut indexer = log.indexer();
            indexer.catch_up().await.unwrap();
            let left = to - *indexer.indexed().borrow();
            assert!((0..512).contains(&left), "{left}");
        }
        let records = log.store.audit_page("node-1", 0, 10_000).await.unwrap();
        assert_eq!(records.len(), usize::try_from(to).unwrap());
        for query in &queries {
            let fits = |body: &str| {
                let record: Value = serde_json::from_str(body).unwrap();
                let is = |wanted: &Option<String>, name: &str| {
                    wanted.is_none() || record[name].as_str() == wanted.as_deref()
                };
                let at = record["at"].as_i64().unwrap();
                query.since.is_none_or(|since| at >= since)
                    && query.until.is_none_or(|until| at < until)
                    && (is(&query.agent, "agent") || is(&query.agent, "agent_name"))
                    && is(&query.session, "session")
                    && is(&query.upstream, "upstream")
                    && is(&query.operation, "operation")
                    && is(&query.decision, "decision")
                    && is(&query.reason, "reason")
                    && is(&query.request, "request")
            };
            let wanted: Vec<i64> = records.iter().filter(|row| fits(&row.body)).map(|row| row.seq).collect();
            assert_eq!(log.search(query).await, wanted, "{to}: {query:?}");
        }
    }
    // What was found is byte for byte what was hashed.
    let query = Query { request: text("rq_100"), ..Query::default() };
    let found = search(&log.store, "node-1", 0, &query).await.unwrap();
    assert_eq!(found.records, log.store.audit_page("node-1", 200, 2).await.unwrap());
    log.store.close().await;
}

async fn an_index_that_is_lost_hides_nothing_and_is_made_again(engine: Engine) {
    let Some(mut log) = Log::new(engine).await else { return };
    log.grow(3_000, 7).await;
    let runs = async |log: &Log| number(&log.url, "SELECT COUNT(*) FROM audit_index").await;
    let queries = [
        Query { agent: text("ag_17"), ..Query::default() },
        Query { request: text("rq_700"), ..Query::default() },
        Query { since: Some(1_010_000), until: Some(1_022_000), upstream: text("up3"), ..Query::default() },
    ];
    let mut wanted = Vec::new();
    for query in &queries {
        wanted.push(log.search(query).await);
    }
    assert!(wanted.iter().all(|found| !found.is_empty()));
    log.indexer().catch_up().await.unwrap();
    let all = runs(&log).await;
    assert!(all > 5, "{all}");
    let emptied = format!("UPDATE audit_index SET filter = {}", blob(&log.url, &[0]));
    for (sql, is_seen) in [
        ("DELETE FROM audit_index", true),
        ("DELETE FROM audit_index WHERE first = 1", true),
        ("DELETE FROM audit_index WHERE first > 1000 AND first < 1600", true),
        ("DELETE FROM audit_index WHERE first > 2000", true),
        // A search trusts these two.
        ("UPDATE audit_index SET last = last + 5000 WHERE first > 2000", false),
        (&emptied, false),
    ] {
        execute(&log.url, sql).await;
        if is_seen {
            for (query, wanted) in queries.iter().zip(&wanted) {
                assert_eq!(log.search(query).await, *wanted, "{sql}: {query:?}");
            }
        }
        // Whatever is in the index, the log is whole.
        let keys = hallpass_verify::KeySet::from_json(r#"{"keys":[]}"#).unwrap();
        let report = verify_node(&log.store, "node-1", &keys, Verification::default(), |_, _| {}).await.unwrap();
        assert_eq!(report.map(|report| report.records).ok(), Some(3_000), "{sql}");
        if sql == emptied {
            assert_eq!(log.search(&queries[1]).await, [0_i64; 0], "nothing shows that it is wrong");
            execute(&log.url, "DELETE FROM audit_index").await;
        }
        log.indexer().catch_up().await.unwrap();
        assert_eq!(runs(&log).await, all, "{sql}");
        for (query, wanted) in queries.iter().zip(&wanted) {
            assert_eq!(log.search(query).await, *wanted, "made again after {sql}: {query:?}");
        }
    }
    log.store.close().await;
}

async fn a_follower_reads_every_record_once(engine: Engine) {
    let Some(mut log) = Log::new(engine).await else { return };
    log.grow(100, 7).await;
    let mut follower = Follower::new(log.store.clone(), "node-1".into(), 3, log.committed.subscribe());
    let mut seen: Vec<i64> = Vec::new();
    let mut read = async |follower: &mut Follower| {
        let before = follower.position();
        let segments = follower.next(30).await.unwrap()?;
        let numbers = segments.iter().flat_map(|one| (one.first..).zip(one.records()).map(|(seq, _)| seq));
        seen.extend(numbers.filter(|seq| *seq > before));
        Some(follower.position())
    };
    while read(&mut follower).await != Some(100) {}
    // It waits for more, and begins again where somebody says.
    let waiting = tokio::time::timeout(Duration::from_millis(50), follower.next(30)).await;
    assert!(waiting.is_err(), "nothing is there to read");
    log.grow(130, 4).await;
    assert_eq!(read(&mut follower).await, Some(130));
    log.grow(140, 4).await;
    let mut follower =
        Follower::new(log.store.clone(), "node-1".into(), follower.position(), log.committed.subscribe());
    assert_eq!(read(&mut follower).await, Some(140));
    assert!(seen.into_iter().eq(4..=140));
    // When nobody writes any more it ends.
    let Log { store, committed, .. } = log;
    drop(committed);
    assert_eq!(follower.next(30).await.unwrap(), None);
    store.close().await;
}

async fn somebody_searches_the_log_of_a_broker(engine: Engine) {
    let upstream = Upstream::echo().await;
    let Some(mut real) = Real::init(engine) else { return };
    let agent = real.with_crm(&upstream.url(), "sk-live-0123456789abcdef");
    let token = real.token(&agent).await;
    for n in 0..300 {
        assert_eq!(real.call_status(&format!("/crm/v1/contacts/{n}"), &token).await, 200);
    }
    let lag = || real.binary.json(&["status"], "")["audit_index_lag"].as_i64().unwrap();
    until("the log is indexed", 20, async || lag() < 300).await;
    assert!(lag() >= 0);
    let search = |more: &[&str]| found(&real, more);
    let records = |more: &[&str]| records(&real, more);
    // One in the index and one that is not there yet.
    for target in ["/v1/contacts/7", "/v1/contacts/299"] {
        let of_call = |record: &&Value| record["target"] == target;
        let all = records(&["--agent", "helpdesk", "--upstream", "crm"]);
        let intent = all.iter().find(of_call).unwrap();
        let found = records(&["--request", intent["request"].as_str().unwrap()]);
        let kinds: Vec<_> = found.iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["call.intent", "call.outcome"]);
        assert_eq!(found[1]["intent"], found[0]["seq"], "the outcome names its intent");
        let line = search(&["--request", intent["request"].as_str().unwrap()]);
        assert!(line.contains(&format!("helpdesk allow crm GET {target}")), "{line}");
    }
    assert_eq!(records(&["--agent", &agent.0, "--decision", "allow", "--operation", "get-contact"]).len(), 300);
    assert_eq!(records(&["--session", "se_of_nobody"]).len(), 0);
    assert_eq!(real.call_status("/crm/v1/nothing", &token).await, 403);
    let refused = records(&["--reason", "operation_not_allowed", "--since", "1h"]);
    assert!(refused.len() == 1 && refused[0]["decision"] == "deny", "{refused:?}");
    assert_eq!(records(&["--reason", "operation_not_allowed", "--until", "2026-01-31"]).len(), 0);
    // The oldest first, as many as asked for, and said if there are more.
    let all = records(&["--agent", "helpdesk"]);
    assert!(all.is_sorted_by_key(|record| record["seq"].as_i64()));
    for (limit, is_all) in [(1, false), (all.len() - 1, false), (all.len(), true), (all.len() + 1, true)] {
        let more =
            real.binary.run(&["audit", "search", "--agent", "helpdesk", "--json", "--limit", &limit.to_string()], "");
        let lines = String::from_utf8(more.stdout).unwrap();
        let found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found, all[..limit.min(all.len())], "{limit}");
        assert_eq!(String::from_utf8(more.stderr).unwrap().contains("there are more"), !is_all, "{limit}");
    }
    let (code, text) = said(&real.binary.run(&["audit", "search", "--decision", "maybe"], ""));
    assert_eq!(code, 2, "{text}");
    // While the broker is down, too.
    assert!(real.binary.terminate().success());
    assert_eq!(self::records(&real, &["--reason", "operation_not_allowed"]).len(), 1);
}

fn found(real: &Real, more: &[&str]) -> String {
    real.binary.ok(&[&["audit", "search"], more].concat(), "")
}

fn records(real: &Real, more: &[&str]) -> Vec<Value> {
    let lines = found(real, &[more, &["--json"]].concat());
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A selective question to a long log. HALLPASS_TEST_FULL=1: a million records, else a tenth of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_selective_question_to_a_long_log_takes_less_than_a_second() {
    let is_full = std::env::var_os("HALLPASS_TEST_FULL").is_some();
    let records = if is_full { 1_000_000 } else { 100_000 };
    let mut log = Log::new(Engine::Sqlite).await.unwrap();
    log.grow(records, 40).await;
    let mut indexer = log.indexer();
    let started = Instant::now();
    indexer.catch_up().await.unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!("{records} records were indexed in {seconds:.1} s; {} are left", records - *indexer.indexed().borrow());
    let last = records / 2 - 1;
    let every = Query::default();
    let queries = [
        (Query { request: Some(format!("rq_{}", last / 2)), ..every.clone() }, 2),
        (Query { request: Some(format!("rq_{last}")), ..every.clone() }, 2),
        (Query { request: text("rq_of_nobody"), ..every.clone() }, 0),
        (Query { session: Some(format!("se_{}", last / 100)), ..every.clone() }, 100),
        (Query { reason: text("upstream_timeout"), ..every.clone() }, usize::try_from((last - 17) / 1009 + 1).unwrap()),
        (Query { agent: text("ag_5"), session: text("se_40"), ..every.clone() }, 2),
    ];
    for (query, found) in queries {
        let started = Instant::now();
        let all = log.search(&query).await;
        let took = started.elapsed();
        println!("{took:?} for {query:?}");
        assert_eq!(all.len(), found, "{query:?}");
        assert!(took < Duration::from_secs(1), "{took:?} for {query:?}");
    }
    log.store.close().await;
}
