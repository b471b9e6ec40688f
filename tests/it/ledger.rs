//! The ledger when a commit's fate is unknown, on SQLite and on PostgreSQL: nothing is lost, nothing is there twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::maybe_done;
use futures_util::poll;

use hallpass::audit::{Follower, Ledger, LedgerError, LedgerSettings, Verification, verify_node};
use hallpass::issue::first_keys;
use hallpass::keyring::{Algorithm, Policy};
use hallpass::model::{Agent, AgentStatus, Change, Event, EventKind, Head, Sealed, Session};
use hallpass::registry::Registry;
use hallpass::secret::SecretBytes;
use hallpass::store::{Access, Everything, Store};
use hallpass::supervise::Supervisor;
use hallpass::vault::{MasterKey, Vault};
use hallpass::world::{Clock, Millis, SystemEntropy, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::database::{blob, execute, fresh_url, on_both_engines};
use crate::support::{Engine, log, postgres::postgres_url};

on_both_engines!(
    a_chain_that_another_has_moved_is_followed,
    an_altered_end_is_refused_until_it_is_mended,
    a_record_behind_the_end_loses_no_outcome,
    one_bad_row_fails_alone,
    what_is_in_no_haste_is_written_with_others,
    followers_read_every_record_once_while_many_write,
);

fn registry() -> Arc<Registry> {
    let world = World::system();
    let vault = Vault::new(MasterKey::generate(world.entropy.as_ref()).unwrap(), Vec::new());
    let policy = Policy {
        algorithm: Algorithm::Es256,
        rotate_every_ms: 1_000_000_000,
        publish_ahead_ms: 1_000_000,
        retire_after_ms: 1_000_000,
    };
    let (_, keys) = first_keys(&policy, &vault, &world).unwrap();
    Arc::new(Registry::new(Everything::default(), keys).unwrap())
}

fn mac_key() -> SecretBytes {
    SecretBytes::new(vec![9; 32])
}

/// One more ledger on this database; none of them knows of the others.
async fn ledger(store: &Store, registry: Arc<Registry>) -> Ledger {
    ledger_in(World::system(), store, registry).await
}

async fn ledger_in(world: World, store: &Store, registry: Arc<Registry>) -> Ledger {
    let settings = LedgerSettings {
        node: "node-1".into(),
        issuer: "http://127.0.0.1".into(),
        max_batch: 64,
        max_waiting: 10_000,
        checkpoint_every: 1_000_000,
        checkpoint_after_ms: 1_000_000,
    };
    let head = store.audit_head("node-1").await.unwrap().map_or(Head::EMPTY, |signed| signed.head);
    Ledger::start(settings, store.clone(), registry, world, head, mac_key(), &Supervisor::new())
}

async fn fresh(engine: Engine) -> Option<(Store, String, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let url = fresh_url(engine, dir.path())?;
    let store = Store::open(&url, 4, Access::Create).await.unwrap();
    store.migrate().await.unwrap();
    Some((store, url, dir))
}

fn event(name: &str) -> Event {
    let mut event = Event::new(EventKind::Broker);
    event.object = Some(name.into());
    event
}

fn session(id: &str) -> Change {
    Change::PutSession(Arc::new(Session {
        id: id.into(),
        agent_id: "ag_1".into(),
        created_at: 1,
        expires_at: 9_000_000_000_000,
        task: None,
        purpose: None,
        revoked_at: None,
        parent: None,
        cnf: None,
        delegation: None,
    }))
}

/// What the log says, in order; the chain is whole.
async fn objects(store: &Store, url: &str) -> Vec<String> {
    let keys = hallpass_verify::KeySet::from_json(r#"{"keys":[]}"#).unwrap();
    let key = mac_key();
    let with = Verification { mac_key: Some(&key), kept: None };
    verify_node(store, "node-1", &keys, with, |_, _| {}).await.unwrap().unwrap();
    let bodies = log::bodies(url).await;
    // The writer's own record that the log can be written again has none.
    let object =
        |body: &String| Some(serde_json::from_str::<serde_json::Value>(body).unwrap()["object"].as_str()?.to_owned());
    bodies.iter().filter_map(object).collect()
}

async fn wait_for_records(url: &str, n: i64) {
    for _ in 0..150 {
        if log::count(url, &[]).await >= n {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{n} records do not come");
}

async fn a_chain_that_another_has_moved_is_followed(engine: Engine) {
    let Some((store, url, _dir)) = fresh(engine).await else { return };
    let first = ledger(&store, registry()).await;
    first.commit(vec![event("a")], Vec::new()).await.unwrap();
    let second = ledger(&store, registry()).await;
    second.commit(vec![event("b")], Vec::new()).await.unwrap();
    second.commit(vec![event("c")], Vec::new()).await.unwrap();
    first.commit(vec![event("d")], Vec::new()).await.unwrap();
    second.outcome(&event("e"));
    wait_for_records(&url, 5).await;
    first.commit(vec![event("f")], Vec::new()).await.unwrap();
    assert_eq!(objects(&store, &url).await, ["a", "b", "c", "d", "e", "f"]);
    store.close().await;
}

async fn an_altered_end_is_refused_until_it_is_mended(engine: Engine) {
    let Some((store, url, _dir)) = fresh(engine).await else { return };
    let first = ledger(&store, registry()).await;
    first.commit(vec![event("a")], Vec::new()).await.unwrap();
    let second = ledger(&store, registry()).await;
    second.commit(vec![event("b")], Vec::new()).await.unwrap();
    let mac = store.audit_head("node-1").await.unwrap().unwrap().mac;
    execute(&url, &format!("UPDATE audit_heads SET mac = {}", blob(&url, &[1; 32]))).await;
    let refused = first.commit(vec![event("never")], Vec::new()).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    assert!(!first.is_healthy());
    first.outcome(&event("c"));
    let refused = first.commit(vec![event("never")], Vec::new()).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    execute(&url, &format!("UPDATE audit_heads SET mac = {}", blob(&url, &mac))).await;
    wait_for_records(&url, 3).await;
    assert_eq!(objects(&store, &url).await, ["a", "b", "c"]);
    store.close().await;
}

async fn a_record_behind_the_end_loses_no_outcome(engine: Engine) {
    let Some((store, url, _dir)) = fresh(engine).await else { return };
    let ledger = ledger(&store, registry()).await;
    ledger.commit(vec![event("a")], Vec::new()).await.unwrap();
    let empty = blob(&url, b"\0\0\0\x02{}");
    let forged = format!(
        "INSERT INTO audit_segments VALUES ('node-1', 2, 2, 1, 1, {empty}, {hash}, {hash})",
        hash = blob(&url, &[1; 32])
    );
    execute(&url, &forged).await;
    ledger.outcome(&event("b"));
    let refused = ledger.commit(vec![event("never")], Vec::new()).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "not the caller's fault: {refused:?}");
    execute(&url, "DELETE FROM audit_segments WHERE first = 2").await;
    wait_for_records(&url, 2).await;
    ledger.commit(vec![event("c")], Vec::new()).await.unwrap();
    assert_eq!(objects(&store, &url).await, ["a", "b", "c"]);
    store.close().await;
}

async fn one_bad_row_fails_alone(engine: Engine) {
    let Some((store, url, _dir)) = fresh(engine).await else { return };
    let ledger = ledger(&store, registry()).await;
    // PostgreSQL takes no NUL in a text (SQLite does); neither takes a second secret of one id.
    let agent = Agent {
        id: "ag_1".into(),
        name: "nul\0".into(),
        status: AgentStatus::Active,
        roles: Vec::new(),
        secrets: Vec::new(),
        identity: Default::default(),
        created_at: 1,
    };
    let sealed = Sealed { wrapped_key: vec![1], ciphertext: vec![2] };
    let secret = || Change::PutBrokerSecret { id: "one".into(), sealed: sealed.clone() };
    let (good, nul, twice, outcome, last) = tokio::join!(
        ledger.commit(vec![event("a")], vec![session("s_1")]),
        ledger.commit(vec![event("nul")], vec![Change::PutAgent(Arc::new(agent))]),
        ledger.commit(vec![event("never")], vec![secret(), secret()]),
        async { ledger.outcome(&event("b")) },
        ledger.commit(vec![event("c")], vec![session("s_2")]),
    );
    let () = outcome;
    good.unwrap();
    last.unwrap();
    assert!(matches!(twice, Err(LedgerError::Refused(_))), "{twice:?}");
    match engine {
        Engine::Sqlite => assert!(nul.is_ok(), "{nul:?}"),
        Engine::Postgres => assert!(matches!(nul, Err(LedgerError::Refused(_))), "{nul:?}"),
    }
    let objects = objects(&store, &url).await;
    assert_eq!(objects.iter().filter(|one| *one != "nul").collect::<Vec<_>>(), ["a", "b", "c"]);
    store.close().await;
}

/// Never tells the same time twice: records of one time are of one commit.
#[derive(Default)]
struct Counting(AtomicI64);

impl Clock for Counting {
    fn now(&self) -> Millis {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// When the record was written.
async fn at(url: &str, object: &str) -> String {
    let mut bodies = log::bodies(url).await;
    bodies.retain(|body| body.contains(&format!("\"object\":\"{object}\"")));
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    serde_json::from_str::<serde_json::Value>(&bodies[0]).unwrap()["at"].to_string()
}

/// Refusals come close behind each other while others are in haste: the first is written at once, the next with whatever is
/// in haste; alone only when nothing is.
async fn what_is_in_no_haste_is_written_with_others(engine: Engine) {
    let Some((store, url, _dir)) = fresh(engine).await else { return };
    let world = World { clock: Arc::new(Counting::default()), entropy: Arc::new(SystemEntropy) };
    let ledger = ledger_in(world, &store, registry()).await;
    let (linger, haste_is_over) = (Duration::from_millis(5), Duration::from_millis(100));
    let mut rounds = 0..500;
    let mut seen = 0;
    while seen < 5 {
        let round = rounds.next().expect("this machine does nothing within 5 ms");
        tokio::time::sleep(2 * linger).await;
        let hasty_before = Instant::now();
        ledger.commit(vec![event("before")], Vec::new()).await.unwrap();
        let begun = Instant::now();
        ledger.refusal(event(&format!("first-{round}"))).await.unwrap();
        // On a busy machine either may be done when it is polled for the first time: then this round shows nothing.
        let mut second = Box::pin(maybe_done(ledger.refusal(event(&format!("second-{round}")))));
        let second_waits = poll!(second.as_mut()).is_pending();
        // The writer takes it, and keeps it.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut hasty = Box::pin(maybe_done(ledger.commit(vec![event(&format!("hasty-{round}"))], Vec::new())));
        let hasty_waits = poll!(hasty.as_mut()).is_pending();
        let both_wait = second_waits && hasty_waits;
        let is_in_time = both_wait && begun.elapsed() < linger && hasty_before.elapsed() < haste_is_over;
        hasty.as_mut().await;
        hasty.as_mut().take_output().unwrap().unwrap();
        second.as_mut().await;
        second.as_mut().take_output().unwrap().unwrap();
        if is_in_time {
            seen += 1;
            let [first, second, hasty] = ["first", "second", "hasty"].map(|what| format!("{what}-{round}"));
            assert_eq!(at(&url, &second).await, at(&url, &hasty).await);
            assert_ne!(at(&url, &first).await, at(&url, &hasty).await);
        }
    }
    ledger.refusal(event("alone-1")).await.unwrap();
    ledger.refusal(event("alone-2")).await.unwrap();
    assert_ne!(at(&url, "alone-1").await, at(&url, "alone-2").await);
    objects(&store, &url).await;
    store.close().await;
}

const PASS: u8 = 0;
/// The next COMMIT reaches the server, its answer is lost.
const LOSE_ANSWER: u8 = 1;
/// The next COMMIT is lost.
const LOSE_COMMIT: u8 = 2;
/// The next COMMIT reaches the server two seconds after its connection broke.
const LATE: u8 = 3;

/// A network in front of PostgreSQL that fails at the worst moment.
async fn network(url: &str, plan: Arc<AtomicU8>) -> String {
    let (front, name) = url.rsplit_once('/').unwrap();
    let server = front.rsplit_once('@').unwrap().1.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(connection(client, TcpStream::connect(server.clone()).await.unwrap(), plan.clone()));
        }
    });
    format!("postgres://postgres@127.0.0.1:{port}/{name}?sslmode=disable")
}

async fn connection(client: TcpStream, server: TcpStream, plan: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 65_536];
    while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
        let sent = &buffer[..n];
        let plan = if sent.windows(6).any(|part| part == b"COMMIT") { plan.swap(PASS, Ordering::SeqCst) } else { PASS };
        if plan != PASS {
            // Both halves to the client go: it sees its connection break.
            answers.abort();
            _ = answers.await;
            drop(from_client);
            match plan {
                LOSE_COMMIT => return,
                LATE => tokio::time::sleep(Duration::from_secs(2)).await,
                _ => {}
            }
            to_server.write_all(sent).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            return;
        }
        if to_server.write_all(sent).await.is_err() {
            return;
        }
    }
}

/// On one thread, so that both are in the queue before the writer sees the first, and so in one commit:
/// an outcome in a commit whose answer is lost, one more after that, and a caller: each is there once.
async fn lost(how: u8) {
    let Some(url) = postgres_url() else { return };
    let plan = Arc::new(AtomicU8::new(PASS));
    let store = Store::open(&network(&url, plan.clone()).await, 4, Access::Create).await.unwrap();
    store.migrate().await.unwrap();
    let registry = registry();
    let ledger = ledger(&store, registry.clone()).await;
    ledger.commit(vec![event("a")], Vec::new()).await.unwrap();
    plan.store(how, Ordering::SeqCst);
    let (outcome, answer) =
        tokio::join!(async { ledger.outcome(&event("b")) }, ledger.commit(vec![event("c")], vec![session("s_1")]),);
    let () = outcome;
    assert!(matches!(answer, Err(LedgerError::Unavailable(_))), "{answer:?}");
    ledger.outcome(&event("d"));
    wait_for_records(&url, if how == LOSE_COMMIT { 3 } else { 4 }).await;
    // The records are there a moment before the writer knows that it can write again.
    for _ in 0..100 {
        if ledger.is_healthy() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ledger.commit(vec![event("e")], Vec::new()).await.unwrap();
    let went_through = how != LOSE_COMMIT;
    let expected: &[&str] = if went_through { &["a", "b", "c", "d", "e"] } else { &["a", "b", "d", "e"] };
    assert_eq!(objects(&store, &url).await, expected);
    assert_eq!(registry.session("s_1").is_some(), went_through, "the registry shows what the database holds");
    assert!(ledger.is_healthy());
    store.close().await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_repeated() {
    lost(LOSE_ANSWER).await;
}

#[tokio::test]
async fn a_commit_that_is_lost_is_repeated() {
    lost(LOSE_COMMIT).await;
}

#[tokio::test]
async fn a_commit_that_lands_late_is_not_repeated() {
    lost(LATE).await;
}

/// Reads to the end of the log, and begins with a new follower at the same place after every `restart_after` reads.
async fn follow(store: Store, ledger: Ledger, restart_after: usize) -> Vec<i64> {
    let (mut seen, mut position) = (Vec::new(), 0);
    loop {
        let mut follower = Follower::new(store.clone(), "node-1".into(), position, ledger.subscribe());
        for _ in 0..restart_after {
            let Some(segments) = follower.next(20).await.unwrap() else { return seen };
            let numbers = segments.iter().flat_map(|one| (one.first..).zip(one.records()).map(|(seq, _)| seq));
            seen.extend(numbers.filter(|seq| *seq > position));
            position = follower.position();
        }
    }
}

async fn followers_read_every_record_once_while_many_write(engine: Engine) {
    const WRITERS: usize = 16;
    const EACH: usize = 40;
    let Some((store, url, _dir)) = fresh(engine).await else { return };
    let ledger = ledger(&store, registry()).await;
    // One that never reads: the writer must not wait for it.
    let mut idle = Follower::new(store.clone(), "node-1".into(), 0, ledger.subscribe());
    let quick = tokio::spawn(follow(store.clone(), ledger.clone(), usize::MAX));
    let restarted = tokio::spawn(follow(store.clone(), ledger.clone(), 1));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    ledger.commit(vec![event(&format!("{writer}-{n}"))], Vec::new()).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(idle.position(), 0);
    // Before the last checkpoint, whose key is not at hand here.
    assert_eq!(objects(&store, &url).await.len(), WRITERS * EACH);
    ledger.close().await;
    let last = store.audit_last_seq("node-1").await.unwrap();
    assert!(quick.await.unwrap().into_iter().eq(1..=last), "no gap, nothing twice");
    assert!(restarted.await.unwrap().into_iter().eq(1..=last), "nor where it begins again");
    // It finds all of it afterwards, and then the end.
    let mut found = 0;
    while let Some(segments) = idle.next(100).await.unwrap() {
        found += segments.iter().map(|one| one.records().count()).sum::<usize>();
    }
    assert_eq!(i64::try_from(found).unwrap(), last);
    store.close().await;
}
