//! One storage suite, on SQLite and on PostgreSQL.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use hallpass::app::{self, Surroundings};
use hallpass::audit::{Draft, Ledger, LedgerError, LedgerSettings, SegmentBuilder, Verification, verify_node};
use hallpass::config::{self, Overrides};
use hallpass::issue::first_keys;
use hallpass::keyring::{Algorithm, Policy};
use hallpass::model::{
    Agent, AgentStatus, Change, Credential, CredentialVersion, DefinitionKind, Event, EventKind, Guard, Head, OnceOnly,
    Revocation, RevocationKind, Rewrapped, Sealed, Segment, Session, StoredKey, StoredSecret, UsedAssertion, UsedProof,
    append_record,
};
use hallpass::registry::Registry;
use hallpass::secret::SecretBytes;
use hallpass::store::{Access, Batch, Everything, Part, ServeLock, Store, StoreError, Tail, Verdict};
use hallpass::supervise::Supervisor;
use hallpass::vault::{MasterKey, Vault};
use hallpass::world::World;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::database::{blob, execute, fresh_url, number, on_both_engines, texts};
use crate::support::real::until;
use crate::support::{Binary, Engine, TestBroker, Upstream, log, postgres::postgres_url};

on_both_engines!(
    every_change_round_trips,
    a_batch_is_all_or_nothing,
    a_record_is_never_written_twice,
    five_hundred_callers_make_one_gapless_chain,
    a_violation_hits_its_own_caller_only,
    migrations_run_twice,
    a_database_from_the_future_is_refused,
    a_second_broker_is_refused,
    the_past_is_pruned_and_nothing_else,
    a_restart_keeps_everything,
    what_is_good_once_is_used_once,
    two_that_commit_at_once_use_it_once,
    the_main_job,
);

/// A migrated database with a chain of its own.
struct Fresh {
    store: Store,
    url: String,
    head: Head,
    _dir: TempDir,
}

impl Fresh {
    async fn new(engine: Engine) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let url = fresh_url(engine, dir.path())?;
        let store = Store::open(&url, 4, Access::Create).await.unwrap();
        store.migrate().await.unwrap();
        Some(Self { store, url, head: Head::EMPTY, _dir: dir })
    }

    /// Commits these changes with one record that tells of them.
    async fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let verdicts = self.commit_parts(&[Part { guards: &[], changes }], false).await?;
        assert_eq!(verdicts, [Verdict::Goes]);
        Ok(())
    }

    /// Commits these parts, with one record for each that goes.
    async fn commit_parts(&mut self, parts: &[Part<'_>], one_by_one: bool) -> Result<Vec<Verdict>, StoreError> {
        let mut done = None;
        let before = self.head;
        let mut tail = |verdicts: &[Verdict]| {
            let mut segment = SegmentBuilder::new("node-1", before, 1000);
            for _ in verdicts.iter().filter(|one| **one == Verdict::Goes) {
                segment.push(&Draft::new(&Event::new(EventKind::Broker)).unwrap(), None).unwrap();
            }
            let head = segment.head();
            done = Some((head, verdicts.to_vec()));
            Ok(Tail { segment: segment.finish(), head, mac: [7; 32] })
        };
        self.store.commit(&Batch { node: "node-1", now: 1000, parts, one_by_one }, &mut tail).await?;
        let (head, verdicts) = done.unwrap();
        self.head = head;
        Ok(verdicts)
    }

    async fn load(&self) -> Everything {
        self.store.load(0).await.unwrap()
    }

    /// A ledger on it, with keys that nobody keeps.
    async fn ledger(&self) -> (Ledger, Arc<Registry>, SecretBytes) {
        let world = World::system();
        let vault = Vault::new(MasterKey::generate(world.entropy.as_ref()).unwrap(), Vec::new());
        let policy = Policy {
            algorithm: Algorithm::Es256,
            rotate_every_ms: 1_000_000_000,
            publish_ahead_ms: 1_000_000,
            retire_after_ms: 1_000_000,
        };
        let (_, keys) = first_keys(&policy, &vault, &world).unwrap();
        let registry = Arc::new(Registry::new(Everything::default(), keys).unwrap());
        let settings = LedgerSettings {
            node: "node-1".into(),
            issuer: "http://127.0.0.1".into(),
            max_batch: 64,
            max_waiting: 10_000,
            checkpoint_every: 1_000_000,
            checkpoint_after_ms: 1_000_000,
        };
        let mac_key = SecretBytes::new(vec![9; 32]);
        let ledger = Ledger::start(
            settings,
            self.store.clone(),
            registry.clone(),
            world,
            Head::EMPTY,
            mac_key.clone(),
            &Supervisor::new(),
        );
        (ledger, registry, mac_key)
    }
}

fn sealed(n: u8) -> Sealed {
    Sealed { wrapped_key: vec![n, 0, 255], ciphertext: vec![n, 1, 2, 3] }
}

fn secret(n: u8, expires_at: Option<i64>) -> StoredSecret {
    StoredSecret { digest: [n; 32], created_at: i64::from(n), expires_at }
}

fn agent(id: &str, name: &str) -> Agent {
    Agent {
        id: id.into(),
        name: name.into(),
        status: AgentStatus::Active,
        roles: vec!["support".into(), "quote\"and'comma,".into()],
        secrets: vec![secret(1, None)],
        identity: Default::default(),
        created_at: 11,
    }
}

fn credential(id: &str, name: &str) -> Credential {
    let version = CredentialVersion { version: 1, sealed: sealed(1), created_at: 5, expires_at: None };
    Credential {
        id: id.into(),
        name: name.into(),
        allow_short: true,
        created_at: 12,
        revoked_at: None,
        versions: vec![version],
    }
}

fn session(id: &str) -> Session {
    Session {
        id: id.into(),
        agent_id: "ag_1".into(),
        created_at: 13,
        expires_at: 9_000_000_000_000,
        task: Some("täsk ' \" \u{1F511}".into()),
        purpose: None,
        revoked_at: None,
        parent: None,
        cnf: None,
        delegation: None,
    }
}

fn revocation(kind: RevocationKind, subject: &str, cut: i64, keep_until: i64) -> Revocation {
    Revocation { kind, subject: subject.into(), cut, keep_until, created_at: 14, reason: "because 'of' \"it\"".into() }
}

fn key(kid: &str, state: &str, sealed: Option<Sealed>) -> StoredKey {
    StoredKey {
        kid: kid.into(),
        algorithm: "ES256".into(),
        state: state.into(),
        created_at: 15,
        activated_at: Some(16),
        retiring_at: None,
        gone_at: None,
        revoked: false,
        public_jwk: r#"{"kty":"EC"}"#.into(),
        sealed,
    }
}

/// A variant that is added without its part below fails here to compile, or there to be seen.
fn variant(change: &Change) -> &'static str {
    match change {
        Change::PutAgent(_) => "PutAgent",
        Change::RemoveAgent { .. } => "RemoveAgent",
        Change::AddSecret { .. } => "AddSecret",
        Change::PutDefinition { .. } => "PutDefinition",
        Change::RemoveDefinition { .. } => "RemoveDefinition",
        Change::PutCredential(_) => "PutCredential",
        Change::AddCredentialVersion { .. } => "AddCredentialVersion",
        Change::RemoveCredential { .. } => "RemoveCredential",
        Change::PutKey(_) => "PutKey",
        Change::PutBrokerSecret { .. } => "PutBrokerSecret",
        Change::Rewrap(_) => "Rewrap",
        Change::PutSession(_) => "PutSession",
        Change::EndSession { .. } => "EndSession",
        Change::PutRevocation(_) => "PutRevocation",
        Change::KeepAssertions { .. } => "KeepAssertions",
        Change::Prune { .. } => "Prune",
    }
}

const VARIANTS: usize = 16;

#[allow(clippy::too_many_lines)]
async fn every_change_round_trips(engine: Engine) {
    let Some(mut db) = Fresh::new(engine).await else { return };
    let mut seen = BTreeSet::new();
    macro_rules! commit {
        ($($change:expr),+ $(,)?) => {{
            let changes = [$($change),+];
            seen.extend(changes.iter().map(variant));
            db.commit(&changes).await.unwrap();
            db.load().await
        }};
    }

    let all = commit!(Change::PutAgent(Arc::new(agent("ag_1", "helpdesk"))));
    let one = &all.agents[0];
    assert_eq!((&*one.id, &*one.name, one.status, one.created_at), ("ag_1", "helpdesk", AgentStatus::Active, 11));
    assert_eq!(one.roles, agent("", "").roles);
    assert_eq!(one.secrets, [secret(1, None)]);

    // A new status does not touch the secrets, not even if it is sent with others.
    let stopped = Agent { status: AgentStatus::Revoked, roles: Vec::new(), secrets: Vec::new(), ..agent("ag_1", "x") };
    let all = commit!(Change::PutAgent(Arc::new(stopped)));
    assert_eq!((all.agents.len(), all.agents[0].status), (1, AgentStatus::Revoked));
    assert_eq!((&*all.agents[0].name, all.agents[0].roles.len()), ("helpdesk", 0));
    assert_eq!(all.agents[0].secrets, [secret(1, None)]);

    // Another one with its secrets, and gone without a trace.
    commit!(Change::PutAgent(Arc::new(agent("ag_9", "gone"))));
    let all = commit!(Change::RemoveAgent { id: "ag_9".into(), name: "gone".into() });
    assert_eq!(all.agents.iter().map(|one| &*one.id).collect::<Vec<_>>(), ["ag_1"]);
    assert_eq!(number(&db.url, "SELECT COUNT(*) FROM client_secrets WHERE agent_id = 'ag_9'").await, 0);

    let add = |n, others_end| Change::AddSecret { agent_id: "ag_1".into(), secret: secret(n, None), others_end };
    let all = commit!(add(2, 500));
    assert_eq!(all.agents[0].secrets, [secret(1, Some(500)), secret(2, None)]);
    let all = commit!(add(3, 900));
    // The one before the last ends at once: two are valid.
    assert_eq!(all.agents[0].secrets, [secret(1, Some(3)), secret(2, Some(900)), secret(3, None)]);

    for kind in [DefinitionKind::Upstream, DefinitionKind::Role, DefinitionKind::Resource] {
        let put = |body: &str| Change::PutDefinition { kind, name: "crm".into(), body: body.into() };
        let all = commit!(put(r#"{"a":"ä"}"#));
        let of = |all: &Everything| {
            all.definitions.iter().filter(|one| one.kind == kind).map(|one| one.body.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(&all), [r#"{"a":"ä"}"#]);
        assert_eq!(of(&commit!(put("{}"))), ["{}"]);
    }
    let all = commit!(Change::RemoveDefinition { kind: DefinitionKind::Role, name: "crm".into() });
    assert_eq!(all.definitions.len(), 2);
    assert!(all.definitions.iter().all(|one| one.kind != DefinitionKind::Role));

    let all = commit!(Change::PutCredential(Arc::new(credential("cr_1", "crm-key"))));
    let one = &all.credentials[0];
    assert_eq!((&*one.id, &*one.name, one.allow_short, one.created_at), ("cr_1", "crm-key", true, 12));
    assert_eq!((one.versions[0].version, &one.versions[0].sealed), (1, &sealed(1)));
    let flagged = Credential { allow_short: false, revoked_at: Some(77), ..credential("cr_1", "crm-key") };
    let all = commit!(Change::PutCredential(Arc::new(flagged)));
    assert_eq!((all.credentials[0].allow_short, all.credentials[0].revoked_at), (false, Some(77)));
    let version = CredentialVersion { version: 2, sealed: sealed(2), created_at: 6, expires_at: None };
    let all = commit!(Change::AddCredentialVersion { credential_id: "cr_1".into(), version, others_end: 600 });
    let ends: Vec<_> = all.credentials[0].versions.iter().map(|one| (one.version, one.expires_at)).collect();
    assert_eq!(ends, [(1, Some(600)), (2, None)]);

    commit!(Change::PutKey(key("k1", "active", Some(sealed(3)))), Change::PutKey(key("k2", "next", Some(sealed(4)))));
    let retiring = StoredKey { retiring_at: Some(17), gone_at: Some(18), ..key("k1", "retiring", Some(sealed(5))) };
    let all = commit!(Change::PutKey(retiring));
    let one = all.keys.iter().find(|one| one.kid == "k1").unwrap();
    assert_eq!((one.state.as_str(), one.retiring_at, one.gone_at), ("retiring", Some(17), Some(18)));
    assert_eq!((one.activated_at, one.created_at, one.algorithm.as_str()), (Some(16), 15, "ES256"));
    assert_eq!(one.sealed, Some(sealed(5)));
    let all = commit!(Change::PutKey(StoredKey { revoked: true, ..key("k1", "gone", None) }));
    let one = all.keys.iter().find(|one| one.kid == "k1").unwrap();
    assert!(one.revoked && one.sealed.is_none() && one.state == "gone", "the private half is destroyed: {one:?}");

    let all = commit!(Change::PutBrokerSecret { id: "audit-head".into(), sealed: sealed(6) });
    assert_eq!(all.broker_secrets["audit-head"], sealed(6));

    let all = commit!(Change::Rewrap(vec![
        Rewrapped::Credential { id: "cr_1".into(), version: 2, wrapped_key: vec![42] },
        Rewrapped::Key { kid: "k2".into(), wrapped_key: vec![43] },
        Rewrapped::Broker { id: "audit-head".into(), wrapped_key: vec![44] },
    ]));
    let versions = &all.credentials[0].versions;
    assert_eq!(versions[0].sealed, sealed(1));
    assert_eq!(versions[1].sealed, Sealed { wrapped_key: vec![42], ..sealed(2) });
    let k2 = all.keys.iter().find(|one| one.kid == "k2").unwrap();
    assert_eq!(k2.sealed, Some(Sealed { wrapped_key: vec![43], ..sealed(4) }));
    assert_eq!(all.broker_secrets["audit-head"], Sealed { wrapped_key: vec![44], ..sealed(6) });

    let all = commit!(Change::RemoveCredential { id: "cr_1".into(), name: "crm-key".into() });
    assert!(all.credentials.is_empty());
    assert_eq!(number(&db.url, "SELECT COUNT(*) FROM credential_versions").await, 0);

    let all = commit!(Change::PutSession(Arc::new(session("s_1"))), Change::PutSession(Arc::new(session("s_2"))));
    let one = all.sessions.iter().find(|one| &*one.id == "s_1").unwrap();
    assert_eq!((one.task.as_deref(), one.purpose.as_deref()), (Some("täsk ' \" \u{1F511}"), None));
    assert_eq!((one.created_at, one.expires_at, &*one.agent_id), (13, 9_000_000_000_000, "ag_1"));
    commit!(Change::EndSession { id: "s_1".into(), at: 99 });
    let all = commit!(Change::EndSession { id: "s_1".into(), at: 200 });
    let end = |id: &str| all.sessions.iter().find(|one| &*one.id == id).unwrap().revoked_at;
    assert_eq!((end("s_1"), end("s_2")), (Some(99), None), "the first end stands");

    for kind in [RevocationKind::Token, RevocationKind::Session, RevocationKind::Agent, RevocationKind::Key] {
        let all = commit!(Change::PutRevocation(revocation(kind, "x", 5, 5000)));
        let one = all.revocations.iter().find(|one| one.kind == kind).unwrap();
        assert_eq!((&*one.subject, one.cut, one.keep_until, one.created_at), ("x", 5, 5000, 14));
        assert_eq!(one.reason, "because 'of' \"it\"");
    }
    // A weaker one later takes nothing back.
    let all = commit!(
        Change::PutRevocation(revocation(RevocationKind::Agent, "x", 3, 9000)),
        Change::PutRevocation(revocation(RevocationKind::Session, "x", 9, 100)),
    );
    let of = |kind| all.revocations.iter().find(|one| one.kind == kind).map(|one| (one.cut, one.keep_until)).unwrap();
    assert_eq!(of(RevocationKind::Agent), (5, 9000));
    assert_eq!(of(RevocationKind::Session), (9, 5000));

    let used = |n: u8, expires_at| UsedAssertion { digest: [n; 16], agent_id: "ag_1".into(), expires_at };
    let guards = [(1, 5000), (2, 9500)].map(|(n, end)| Guard::Assertion(Arc::new(used(n, end))));
    let part = Part { guards: &guards, changes: &[Change::KeepAssertions { since: 77 }] };
    assert_eq!(db.commit_parts(&[part], false).await.unwrap(), [Verdict::Goes]);
    let all = commit!(Change::KeepAssertions { since: 99 });
    assert_eq!(all.assertions_since, Some(77), "the first time stands");
    assert_eq!(all.used_assertions.len(), 2);

    let all = commit!(Change::Prune { before: 5001 });
    assert_eq!((all.used_assertions, all.assertions_since), (vec![used(2, 9500)], Some(77)));
    assert_eq!(all.revocations.len(), 1);
    assert_eq!(seen.len(), VARIANTS, "{seen:?}");
    // And all of that is one chain.
    let keys = hallpass_verify::KeySet::from_json(r#"{"keys":[]}"#).unwrap();
    let report = verify_node(&db.store, "node-1", &keys, Verification::default(), |_, _| {}).await.unwrap().unwrap();
    assert_eq!(report.records, db.head.seq);
    db.store.close().await;
}

fn proof(n: u8, expires_at: i64) -> Guard {
    Guard::Proof(UsedProof { digest: [n; 16], expires_at })
}

fn assertion(n: u8, expires_at: i64) -> Guard {
    Guard::Assertion(Arc::new(UsedAssertion { digest: [n; 16], agent_id: "ag_1".into(), expires_at }))
}

async fn what_is_good_once_is_used_once(engine: Engine) {
    let Some(mut db) = Fresh::new(engine).await else { return };
    let (goes, spent) = (Verdict::Goes, Verdict::Spent(OnceOnly::Proof));
    let proofs = "SELECT COUNT(*) FROM used_proofs";
    // Fresh's commits are made at 1000.
    let (one, again, other) = ([proof(1, 5000)], [proof(1, 6000)], [proof(2, 1000)]);
    let change = [Change::PutDefinition { kind: DefinitionKind::Role, name: "r".into(), body: "{}".into() }];
    let parts = [&one, &again, &other].map(|guards| Part { guards, changes: &[] });
    assert_eq!(db.commit_parts(&parts, false).await.unwrap(), [goes.clone(), spent.clone(), goes.clone()]);
    assert_eq!((db.head.seq, number(&db.url, proofs).await), (2, 2), "what drops out leaves no record");
    // Used before; its neighbours and what it would have changed.
    let late = Part { guards: &again, changes: &change };
    let third = [proof(3, 5000)];
    for one_by_one in [false, true] {
        let fresh = [proof(if one_by_one { 4 } else { 5 }, 5000)];
        let parts = [late, Part { guards: &fresh, changes: &[] }, Part { guards: &[], changes: &[] }];
        assert_eq!(db.commit_parts(&parts, one_by_one).await.unwrap(), [spent.clone(), goes.clone(), goes.clone()]);
    }
    assert!(db.load().await.definitions.is_empty(), "nor was anything changed");
    // Its time was over: it may be used again.
    assert_eq!(
        db.commit_parts(&[Part { guards: &other, changes: &[] }], false).await.unwrap(),
        std::slice::from_ref(&goes)
    );
    // All of a part's guards hold, or none is taken: what it took is there for the next.
    let torn = [assertion(7, 9000), proof(1, 9000)];
    let parts = [Part { guards: &torn, changes: &change }, Part { guards: &third, changes: &[] }];
    assert_eq!(db.commit_parts(&parts, false).await.unwrap(), [spent.clone(), goes.clone()]);
    let whole = [proof(9, 9000), assertion(7, 9000)];
    assert_eq!(
        db.commit_parts(&[Part { guards: &whole, changes: &[] }], false).await.unwrap(),
        std::slice::from_ref(&goes)
    );
    let parts = [Part { guards: &[assertion(7, 9000)], changes: &[] }];
    assert_eq!(db.commit_parts(&parts, false).await.unwrap(), [Verdict::Spent(OnceOnly::Assertion)]);
    // Of three, two want the same as one before them that drops out itself.
    let (both, first, second) = ([assertion(7, 9000), proof(20, 9000)], [proof(20, 9000)], [proof(20, 9000)]);
    let parts = [&both[..], &first, &second].map(|guards| Part { guards, changes: &[] });
    let verdicts = db.commit_parts(&parts, false).await.unwrap();
    assert_eq!(verdicts, [Verdict::Spent(OnceOnly::Assertion), goes, spent]);
    db.commit(&[Change::Prune { before: 6000 }]).await.unwrap();
    assert_eq!(number(&db.url, proofs).await, 2, "what has ended is forgotten");
}

/// Two nodes, whose writers do not know of each other. Each wants the same rows, in another order.
async fn two_that_commit_at_once_use_it_once(engine: Engine) {
    let Some(db) = Fresh::new(engine).await else { return };
    let other = Store::open(&db.url, 4, Access::Serve).await.unwrap();
    let commit = async |store: &Store, node: &str, first: i64, upwards: bool| {
        let mut guards: Vec<[Guard; 1]> = (0..40).map(|n| [proof(n, 9000)]).collect();
        if !upwards {
            guards.reverse();
        }
        let parts: Vec<Part<'_>> = guards.iter().map(|guards| Part { guards, changes: &[] }).collect();
        let mut went = 0;
        let head = Head { seq: first, hash: [1; 32] };
        let mut tail = |verdicts: &[Verdict]| {
            went = verdicts.iter().filter(|one| **one == Verdict::Goes).count();
            Ok(Tail { segment: None, head, mac: [7; 32] })
        };
        store.commit(&Batch { node, now: 1000, parts: &parts, one_by_one: false }, &mut tail).await.unwrap();
        went
    };
    for n in 0..10 {
        let (one, two) = tokio::join!(commit(&db.store, "node-1", n, true), commit(&other, "node-2", n, false));
        assert_eq!(one + two, 40, "{one} and {two}");
        execute(&db.url, "DELETE FROM used_proofs").await;
    }
    other.close().await;
}

async fn a_batch_is_all_or_nothing(engine: Engine) {
    let Some(mut db) = Fresh::new(engine).await else { return };
    let secret = Change::PutBrokerSecret { id: "one".into(), sealed: sealed(1) };
    db.commit(std::slice::from_ref(&secret)).await.unwrap();
    let before = db.store.audit_head("node-1").await.unwrap().unwrap();

    // Good changes before and after one that contradicts what is there: a second one of that id; a foreign key; a name.
    let taken = Change::PutAgent(Arc::new(agent("ag_9", "helpdesk")));
    let orphan = Change::AddSecret { agent_id: "nobody".into(), secret: self::secret(1, None), others_end: 0 };
    for bad in [secret.clone(), orphan, taken] {
        let changes = [
            Change::PutAgent(Arc::new(agent("ag_1", "helpdesk"))),
            Change::PutSession(Arc::new(session("s_1"))),
            bad,
            Change::PutCredential(Arc::new(credential("cr_1", "crm-key"))),
        ];
        let error = db.commit(&changes).await.unwrap_err();
        assert!(matches!(error, StoreError::Constraint(_)), "{error:?}");
        let all = db.load().await;
        assert!(all.agents.is_empty() && all.sessions.is_empty() && all.credentials.is_empty());
        assert_eq!(db.store.audit_last_seq("node-1").await.unwrap(), 1);
        let head = db.store.audit_head("node-1").await.unwrap().unwrap();
        assert_eq!((head.head, head.mac), (before.head, before.mac.clone()));
    }
    db.store.close().await;
}

/// Two writers on one chain: the second one's records fit no place.
async fn a_record_is_never_written_twice(engine: Engine) {
    let Some(mut db) = Fresh::new(engine).await else { return };
    let stale = db.head;
    db.commit(&[]).await.unwrap();
    let real = db.head;
    db.head = stale;
    let error = db.commit(&[Change::PutSession(Arc::new(session("s_1")))]).await.unwrap_err();
    assert!(matches!(error, StoreError::Constraint(_)), "{error:?}");
    assert_eq!(db.store.audit_head("node-1").await.unwrap().unwrap().head, real);
    assert!(db.load().await.sessions.is_empty());
    db.store.close().await;
}

fn numbered(n: usize) -> Event {
    let mut event = Event::new(EventKind::TokenIssued);
    event.object = Some(format!("caller-{n}").into());
    event
}

async fn five_hundred_callers_make_one_gapless_chain(engine: Engine) {
    let Some(db) = Fresh::new(engine).await else { return };
    let (ledger, registry, mac_key) = db.ledger().await;
    let callers = (0..500).map(|n| {
        let (ledger, registry) = (ledger.clone(), registry.clone());
        tokio::spawn(async move {
            let id = format!("s_{n}");
            let put = Change::PutSession(Arc::new(session(&id)));
            ledger.commit(vec![numbered(n), numbered(n)], vec![put]).await.unwrap();
            assert!(registry.session(&id).is_some(), "shown when it is durable");
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    for n in 500..600 {
        ledger.outcome(&numbered(n));
    }
    ledger.close().await;
    let all = db.load().await;
    assert_eq!(all.sessions.len(), 500);
    let keys = hallpass_verify::KeySet::from_json(registry.keys().jwks()).unwrap();
    let with = Verification { mac_key: Some(&mac_key), kept: None };
    let report = verify_node(&db.store, "node-1", &keys, with, |_, _| {}).await.unwrap().unwrap();
    assert_eq!((report.records, report.checkpoints, report.end_authenticated), (1100, 1, true));
    // Each caller's two records stand side by side, and each caller is there once.
    let mut rows = db.store.audit_page("node-1", 0, 1000).await.unwrap();
    rows.extend(db.store.audit_page("node-1", 1000, 1000).await.unwrap());
    let objects: Vec<String> = rows
        .iter()
        .map(|row| serde_json::from_str::<Value>(&row.body).unwrap()["object"].as_str().unwrap().to_owned())
        .collect();
    let mut callers = BTreeSet::new();
    let mut at = 0;
    while at < objects.len() {
        let n: usize = objects[at].strip_prefix("caller-").unwrap().parse().unwrap();
        assert!(callers.insert(n), "{n} is there twice");
        let step = if n < 500 { 2 } else { 1 };
        assert_eq!(objects[at + step - 1], objects[at]);
        at += step;
    }
    assert_eq!(callers.len(), 600);
    db.store.close().await;
}

async fn a_violation_hits_its_own_caller_only(engine: Engine) {
    let Some(db) = Fresh::new(engine).await else { return };
    let (ledger, registry, mac_key) = db.ledger().await;
    let put = |id: &str| Change::PutBrokerSecret { id: id.to_owned(), sealed: sealed(1) };
    ledger.commit(vec![numbered(0)], vec![put("there")]).await.unwrap();
    // All are in the queue before the writer sees the first one: polled in turn by one task.
    let commits = (1..=100).map(|n| {
        let change = if n % 25 == 0 { put("there") } else { Change::PutSession(Arc::new(session(&format!("s_{n}")))) };
        ledger.commit(vec![numbered(n)], vec![change])
    });
    let outcomes = join_all(commits).await;
    for (outcome, n) in outcomes.iter().zip(1..) {
        match outcome {
            Ok(()) => assert!(n % 25 != 0, "{n}"),
            Err(LedgerError::Refused(_)) => assert_eq!(n % 25, 0, "{n}"),
            Err(other) => panic!("{n}: {other}"),
        }
        assert_eq!(registry.session(&format!("s_{n}")).is_some(), n % 25 != 0, "{n}");
    }
    assert!(ledger.is_healthy());
    ledger.close().await;
    assert_eq!(db.load().await.sessions.len(), 96);
    let keys = hallpass_verify::KeySet::from_json(registry.keys().jwks()).unwrap();
    let with = Verification { mac_key: Some(&mac_key), kept: None };
    let report = verify_node(&db.store, "node-1", &keys, with, |_, _| {}).await.unwrap().unwrap();
    assert_eq!(report.records, 97, "what was refused is not in the log");
    db.store.close().await;
}

async fn migrations_run_twice(engine: Engine) {
    let Some(mut db) = Fresh::new(engine).await else { return };
    db.commit(&[Change::PutSession(Arc::new(session("s_1")))]).await.unwrap();
    db.store.migrate().await.unwrap();
    let again = Store::open(&db.url, 2, Access::Serve).await.unwrap();
    again.migrate().await.unwrap();
    assert_eq!(again.load(0).await.unwrap().sessions.len(), 1);
    again.close().await;
    db.store.close().await;
}

async fn a_database_from_the_future_is_refused(engine: Engine) {
    let url = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => match postgres_url() {
            None => return,
            url => url,
        },
    };
    let broker = Binary::init(url.as_deref());
    let url = url.unwrap_or_else(|| format!("sqlite:{}", broker.dir.path().join("data/hallpass.db").display()));
    let checksum = blob(&url, &[0; 48]);
    let row = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99999999, 'from the future', TRUE, {checksum}, 1)"
    );
    assert_eq!(execute(&url, &row).await, 1);
    let output = broker.run(&["serve", "--listen", "127.0.0.1:0"], "");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("99999999") && error.contains("newer version"), "{error}");
    assert!(!broker.dir.path().join("data/admin.sock").exists());

    // And one that was migrated by another text of the same migration.
    execute(&url, "DELETE FROM _sqlx_migrations WHERE version = 99999999").await;
    execute(&url, &format!("UPDATE _sqlx_migrations SET checksum = {checksum}")).await;
    let output = broker.run(&["serve", "--listen", "127.0.0.1:0"], "");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("migration 1"), "{error}");
}

/// SQLite's write-ahead log goes into the database while nobody commits, and begins anew however fast they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_is_copied_beside_the_commits_and_stays_small() {
    const PAGE: u64 = 4096;
    /// `MOST_PAGES` of the writer.
    const MOST: u64 = 4000;
    let mut fresh = Fresh::new(Engine::Sqlite).await.unwrap();
    let path = fresh.url.split_once(":").unwrap().1.to_owned();
    let pages = |suffix: &str| std::fs::metadata(format!("{path}{suffix}")).unwrap().len() / PAGE;
    let before = pages("");
    for _ in 0..300 {
        fresh.commit(&[]).await.unwrap();
    }
    assert!(pages("-wal") < MOST, "no commit had to copy: {} pages", pages("-wal"));
    until("the records are in the database", 15, async || pages("") > before + 10).await;
    let body = "x".repeat(8000);
    for _ in 0..60 {
        let (first, last) = (fresh.head.seq + 1, fresh.head.seq + 64);
        let mut records = Vec::new();
        for _ in 0..64 {
            append_record(&mut records, |out| std::io::Write::write_all(out, body.as_bytes())).unwrap();
        }
        fresh.head.seq = last;
        let (hash, root) = (vec![1; 32], vec![1; 32]);
        let segment = Segment { first, last, first_at: 1, last_at: 1, records, hash, root };
        let batch = Batch { node: "node-1", now: 1000, parts: &[], one_by_one: false };
        let head = fresh.head;
        let mut tail = |_: &[Verdict]| Ok(Tail { segment: Some(segment.clone()), head, mac: [7; 32] });
        fresh.store.commit(&batch, &mut tail).await.unwrap();
    }
    assert!(pages("") > 60 * 64 * 2 / 2, "{} pages", pages(""));
    assert!(pages("-wal") < MOST * 3 / 2, "{} pages", pages("-wal"));
    assert_eq!(log::count(&fresh.url, &[]).await, 300 + 60 * 64);
    // The one that copies, and those that commit, would have ruined a database together before SQLite 3.51.3
    // (https://sqlite.org/wal.html#walresetbug).
    let version = texts(&fresh.url, "SELECT sqlite_version()").await.remove(0);
    let version: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(version >= vec![3, 51, 3], "{version:?}");
    // Whoever leaves last takes the log away.
    fresh.store.close().await;
    assert!(!std::path::Path::new(&format!("{path}-wal")).exists());
}

async fn a_second_broker_is_refused(engine: Engine) {
    let Some(broker) = TestBroker::start_with(engine, Surroundings::default(), &[]).await else { return };
    let second = || {
        let overrides = Overrides { listen: Some(([127, 0, 0, 1], 0).into()) };
        config::load(Some(&broker.dir.path().join("hallpass.toml")), std::iter::empty(), overrides).unwrap()
    };
    let error = app::start(second(), Surroundings::default()).await.unwrap_err();
    assert!(error.message.contains("another hallpass process already serves this database"), "{error}");
    // The first one was not disturbed by that: its admin socket is still its own.
    broker.admin_ok("GET", "/admin/v1/status", Value::Null).await;
    let config = second();
    broker.running.stop().await;
    app::start(config, Surroundings::default()).await.unwrap().stop().await;
}

async fn the_past_is_pruned_and_nothing_else(engine: Engine) {
    let Some(mut db) = Fresh::new(engine).await else { return };
    let ended = |id: &str, end| Change::PutSession(Arc::new(Session { expires_at: end, ..session(id) }));
    let version = |version, expires_at| CredentialVersion { version, sealed: sealed(1), created_at: 1, expires_at };
    let changes = [
        Change::PutAgent(Arc::new(Agent {
            secrets: vec![secret(1, Some(999)), secret(2, Some(1000)), secret(3, None)],
            ..agent("ag_1", "helpdesk")
        })),
        Change::PutCredential(Arc::new(Credential {
            versions: vec![version(1, Some(999)), version(2, Some(1000)), version(3, None)],
            ..credential("cr_1", "crm-key")
        })),
        ended("s_old", 999),
        ended("s_edge", 1000),
        ended("s_new", 1001),
        Change::PutRevocation(revocation(RevocationKind::Token, "old", 0, 999)),
        Change::PutRevocation(revocation(RevocationKind::Token, "edge", 0, 1000)),
        Change::PutRevocation(revocation(RevocationKind::Token, "new", 0, 1001)),
    ];
    db.commit(&changes).await.unwrap();
    db.commit(&[Change::Prune { before: 1000 }]).await.unwrap();
    let all = db.load().await;
    assert_eq!(all.agents[0].secrets, [secret(2, Some(1000)), secret(3, None)]);
    let versions: Vec<u32> = all.credentials[0].versions.iter().map(|one| one.version).collect();
    assert_eq!(versions, [2, 3]);
    let sessions: BTreeSet<String> = all.sessions.iter().map(|one| one.id.to_string()).collect();
    assert_eq!(sessions, BTreeSet::from(["s_edge".to_owned(), "s_new".to_owned()]));
    let revoked: BTreeSet<String> = all.revocations.iter().map(|one| one.subject.to_string()).collect();
    assert_eq!(revoked, BTreeSet::from(["edge".to_owned(), "new".to_owned()]));
    // What is read at start is what can still matter then.
    let later = db.store.load(1000).await.unwrap();
    assert_eq!((later.sessions.len(), later.revocations.len()), (1, 2));
    db.store.close().await;
}

const ISSUER: (&str, &str) = ("HALLPASS_ISSUER", "http://127.0.0.1:8600");

async fn a_restart_keeps_everything(engine: Engine) {
    let Some(broker) = TestBroker::start_with(engine, Surroundings::default(), &[ISSUER]).await else { return };
    let upstream = Upstream::echo().await;
    let (agent, token) = broker.with_crm(&upstream.url(), "sk-live-0123456789abcdef").await;
    let suspended = broker.register("sleeper", &["support"]).await;
    let asleep = broker.token(&suspended).await;
    let (_, other) = broker.token_request(&agent, &[("task", "t"), ("purpose", "p")]).await;
    let (other, sid) = (other["access_token"].as_str().unwrap().to_owned(), other["session_id"].as_str().unwrap());
    let (_, third) = broker.token_request(&agent, &[]).await;
    let third = third["access_token"].as_str().unwrap().to_owned();

    broker.admin_ok("POST", "/admin/v1/keys/rotate", Value::Null).await;
    let new_key = broker.token(&agent).await;
    broker.admin_ok("POST", &format!("/admin/v1/sessions/{sid}/revoke"), Value::Null).await;
    broker.admin_ok("POST", "/admin/v1/tokens/revoke", json!({ "token": third })).await;
    broker.admin_ok("POST", "/admin/v1/agents/sleeper/suspend", json!({ "reason": "night" })).await;
    broker.put_credential("crm-key", "sk-live-second-456789abcdef").await;
    let keys = broker.admin_ok("GET", "/admin/v1/keys", Value::Null).await;
    let agents = broker.admin_ok("GET", "/admin/v1/agents", Value::Null).await;
    let roles = broker.admin_ok("GET", "/admin/v1/roles", Value::Null).await;
    let sessions = broker.admin_ok("GET", "/admin/v1/sessions", Value::Null).await;
    let status = broker.admin_ok("GET", "/admin/v1/status", Value::Null).await;

    let broker = broker.restart().await;
    assert_eq!(broker.admin_ok("GET", "/admin/v1/keys", Value::Null).await, keys);
    assert_eq!(broker.admin_ok("GET", "/admin/v1/agents", Value::Null).await, agents);
    assert_eq!(broker.admin_ok("GET", "/admin/v1/roles", Value::Null).await, roles);
    assert_eq!(broker.admin_ok("GET", "/admin/v1/sessions", Value::Null).await, sessions);
    let again = broker.admin_ok("GET", "/admin/v1/status", Value::Null).await;
    for field in ["agents", "sessions", "upstreams", "credentials", "revocations", "signing_key", "master_key"] {
        assert_eq!(again[field], status[field], "{field}");
    }
    let call =
        async |token: &str| broker.call(Method::GET, "/crm/v1/contacts", token).send().await.unwrap().status().as_u16();
    assert_eq!(call(&token).await, 200, "of the key before the rotation");
    assert_eq!(call(&new_key).await, 200);
    assert_eq!(call(&other).await, 401, "its session was revoked");
    assert_eq!(call(&third).await, 401, "it was revoked");
    assert_eq!(call(&asleep).await, 401, "its agent was suspended");
    assert_eq!(upstream.seen().last().unwrap().headers["x-api-key"], "sk-live-second-456789abcdef");
    let (code, answer) = broker.token_request(&agent, &[("session_id", sid)]).await;
    assert_eq!(code, 400, "{answer}");
    assert_eq!(broker.token_request(&suspended, &[]).await.0, 401);
    assert_eq!(broker.token_request(&agent, &[]).await.0, 200);
    broker.running.stop().await;
}

async fn the_main_job(engine: Engine) {
    let Some(broker) = TestBroker::start_with(engine, Surroundings::default(), &[]).await else { return };
    let upstream = Upstream::echo().await;
    let secret = "sk-live-0123456789abcdef";
    let (_, token) = broker.with_crm(&upstream.url(), secret).await;
    let answer = broker.call(Method::GET, "/crm/v1/contacts/7?q=1", &token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.text().await.unwrap().contains(secret));
    assert_eq!(upstream.seen()[0].headers["x-api-key"], secret);
    let outcome = broker.wait_for_record(|record| record["kind"] == "call.outcome").await;
    assert_eq!(outcome["status"], 200);
    broker.admin_ok("POST", "/admin/v1/agents/helpdesk/revoke", Value::Null).await;
    let answer = broker.call(Method::GET, "/crm/v1/contacts/7", &token).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(upstream.seen().len(), 1);
    broker.running.stop().await;
}

/// A second handle on the lock's file stands for the one that a child has between fork and exec.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_let_go_of_is_free_although_a_child_was_forked_meanwhile() {
    let db = Fresh::new(Engine::Sqlite).await.unwrap();
    let lock = db.store.lock().await.unwrap();
    let ServeLock::File(file) = &lock else { panic!("SQLite is locked by a file") };
    let of_the_child = file.try_clone().unwrap();
    assert!(matches!(db.store.lock().await, Err(StoreError::Locked(_))));
    drop(lock);
    db.store.lock().await.unwrap();
    drop(of_the_child);
}
