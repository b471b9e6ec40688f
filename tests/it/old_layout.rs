//! A database of the layout before segments, a row for each record, is brought into the new one with its chain intact.

use hallpass::audit::{Indexer, Query, Verification, pack_old_records, search, verify_node};
use hallpass::store::{Access, Store};
use hallpass_verify::KeySet;

use crate::support::database::{blob, execute, fresh_url, number, on_both_engines};
use crate::support::log::{self, sha256};
use crate::support::real::{Real, said};
use crate::support::{Engine, Upstream};

on_both_engines!(
    a_broker_serves_a_database_of_the_old_layout,
    a_long_log_of_several_nodes_is_packed_in_pieces,
    what_was_done_to_old_rows_still_shows,
);

const SECRET: &str = "sk-live-0123456789abcdef";

/// As migration 0001 makes it.
const OLD_TABLE: &str = "CREATE TABLE audit_records (node TEXT NOT NULL, seq BIGINT NOT NULL, body TEXT NOT NULL, \
     hash BYTEA NOT NULL, PRIMARY KEY (node, seq))";

/// Writes rows of the old layout, many in one statement.
async fn put_old_rows(url: &str, node: &str, first: i64, bodies: &[String]) {
    for (n, some) in (0..).zip(bodies.chunks(500)) {
        let row = |(at, body): (i64, &String)| {
            let seq = first + 500 * n + at;
            format!("('{node}', {seq}, '{}', {})", body.replace('\'', "''"), blob(url, &sha256(body)))
        };
        let rows: Vec<String> = (0..).zip(some).map(row).collect();
        execute(url, &format!("INSERT INTO audit_records VALUES {}", rows.join(", "))).await;
    }
}

/// The database as the version before segments left it. `packed`: so many segments are packed already, as where the
/// broker was stopped midway.
async fn back_to_the_old_layout(url: &str, packed: usize) {
    let rows = log::rows(url).await;
    execute(url, OLD_TABLE).await;
    for row in &rows[packed..] {
        put_old_rows(url, &row.node, row.first, &row.bodies).await;
    }
    log::replace(url, &rows[..packed]).await;
    if packed == 0 {
        execute(url, "DROP TABLE audit_segments;\nDROP TABLE audit_index;\nDROP TABLE used_proofs").await;
        execute(url, "DELETE FROM _sqlx_migrations WHERE version > 4").await;
    }
}

async fn a_broker_serves_a_database_of_the_old_layout(engine: Engine) {
    let upstream = Upstream::echo().await;
    let Some(mut real) = Real::init(engine) else { return };
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    for n in 0..3 {
        assert_eq!(real.call_status(&format!("/crm/v1/contacts/{n}"), &token).await, 200);
    }
    let kept = real.binary.dir.path().join("kept");
    std::fs::write(&kept, real.binary.ok(&["audit", "checkpoint"], "")).unwrap();
    let kept = kept.display().to_string();
    for packed in [0, 4] {
        assert!(real.binary.terminate().success());
        let url = real.database.clone();
        let before = log::bodies(&url).await;
        back_to_the_old_layout(&url, packed).await;
        // Whoever only looks changes nothing, and says what to do.
        let (code, text) = said(&real.binary.run(&["audit", "verify"], ""));
        assert!(code == 1 && text.contains("older version") && text.contains("Start the broker"), "{text}");
        real.binary.serve(None);
        let log_file = std::fs::read_to_string(real.binary.log_file()).unwrap();
        assert!(log_file.contains("brought into its new layout"), "{log_file}");
        assert_eq!(log::bodies(&url).await[..before.len()], before[..], "byte for byte");
        let token = real.token(&agent).await;
        assert_eq!(real.call_status("/crm/v1/contacts/9", &token).await, 200);
        for agent in ["helpdesk", &agent.0] {
            let found = real.binary.ok(&["audit", "search", "--agent", agent, "--upstream", "crm", "--json"], "");
            let of_calls = |body: &&String| body.contains(r#""upstream":"crm""#) && body.contains("helpdesk");
            let old: Vec<&str> = before.iter().filter(of_calls).map(String::as_str).collect();
            assert!(old.len() >= 6 && found.lines().take(old.len()).eq(old), "{found}");
        }
        let (code, text) = real.verify(&["--checkpoint", &kept]);
        assert_eq!(code, 0, "{text}");
        assert!(!text.contains("not at hand"), "the MAC of the end fits: {text}");
    }
    let tables = match engine {
        Engine::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE name = 'audit_records'",
        Engine::Postgres => "SELECT COUNT(*) FROM pg_tables WHERE tablename = 'audit_records'",
    };
    assert_eq!(number(&real.database, tables).await, 0, "the old table is gone");
}

/// A chain as the version before wrote it.
fn chain(node: &str, records: i64) -> Vec<String> {
    let mut prev = "0".repeat(64);
    let record = |seq| {
        let body = format!(
            r#"{{"node":"{node}","seq":{seq},"at":{},"prev":"{prev}","kind":"broker","agent":"ag_{}"}}"#,
            1000 + seq / 10,
            seq % 7
        );
        prev = sha256(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        body
    };
    (1..=records).map(record).collect()
}

async fn put_end(url: &str, node: &str, bodies: &[String]) {
    let hash = blob(url, &sha256(bodies.last().unwrap()));
    execute(url, &format!("INSERT INTO audit_heads VALUES ('{node}', {}, {hash}, {hash})", bodies.len())).await;
}

async fn verify(store: &Store, node: &str) -> Result<i64, String> {
    let keys = KeySet::from_json(r#"{"keys":[]}"#).unwrap();
    let report = verify_node(store, node, &keys, Verification::default(), |_, _| {}).await.unwrap();
    report.map(|report| report.records).map_err(|fault| format!("record {}: {}", fault.seq, fault.problem))
}

async fn a_long_log_of_several_nodes_is_packed_in_pieces(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let Some(url) = fresh_url(engine, dir.path()) else { return };
    let store = Store::open(&url, 2, Access::Create).await.unwrap();
    store.migrate().await.unwrap();
    let lengths = [("node-1", 9_000), ("node-2", 300), ("node-3", 1)];
    for (node, length) in lengths {
        let bodies = chain(node, length);
        put_old_rows(&url, node, 1, &bodies).await;
        put_end(&url, node, &bodies).await;
    }
    pack_old_records(&store).await.unwrap();
    for (node, length) in lengths {
        assert_eq!(verify(&store, node).await, Ok(length));
        assert_eq!(store.audit_last_seq(node).await.unwrap(), length);
    }
    // Pages of any size begin anywhere and miss nothing.
    for limit in [1, 7, 256, 4096] {
        let (mut after, mut seen) = (8_700, Vec::new());
        loop {
            let page = store.audit_page("node-1", after, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.seq;
            seen.extend(page.into_iter().map(|row| row.seq));
        }
        assert!(seen.into_iter().eq(8_701..=9_000), "{limit}");
    }
    assert!(!store.has_old_records().await.unwrap());
    // They are searched as all others are, those that are indexed and those that are not yet.
    let query = Query { agent: Some("ag_3".into()), ..Query::default() };
    let wanted: Vec<i64> = (1..=9_000).filter(|seq| seq % 7 == 3).collect();
    for is_indexed in [false, true] {
        if is_indexed {
            let (_committed, seen) = tokio::sync::watch::channel(9_000);
            Indexer::new(store.clone(), "node-1".into(), seen).catch_up().await.unwrap();
            assert!(store.indexed_to("node-1").await.unwrap() > 8_000);
        }
        let (mut all, mut after) = (Vec::new(), Some(0));
        while let Some(from) = after {
            let found = search(&store, "node-1", from, &query).await.unwrap();
            all.extend(found.records.iter().map(|row| row.seq));
            after = found.next;
        }
        assert_eq!(all, wanted, "indexed: {is_indexed}");
    }
    // A start after that finds nothing to do.
    pack_old_records(&store).await.unwrap();
    store.close().await;
}

async fn what_was_done_to_old_rows_still_shows(engine: Engine) {
    for (sql, fault) in [
        (
            "UPDATE audit_records SET body = REPLACE(body, 'broker', 'admin') WHERE seq = 300",
            "record 300: it was edited",
        ),
        ("DELETE FROM audit_records WHERE seq = 300", "record 300: it is missing"),
        (
            "UPDATE audit_records SET hash = (SELECT hash FROM audit_records WHERE seq = 1) WHERE seq = 600",
            "record 600: it was edited",
        ),
        ("UPDATE audit_records SET body = 'nothing' WHERE seq = 600", "record 600: it was edited"),
        ("DELETE FROM audit_records WHERE seq > 590", "record 591: the tail was cut off"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(url) = fresh_url(engine, dir.path()) else { return };
        let store = Store::open(&url, 2, Access::Create).await.unwrap();
        store.migrate().await.unwrap();
        let bodies = chain("node-1", 600);
        put_old_rows(&url, "node-1", 1, &bodies).await;
        put_end(&url, "node-1", &bodies).await;
        execute(&url, sql).await;
        pack_old_records(&store).await.unwrap();
        let found = verify(&store, "node-1").await.unwrap_err();
        assert!(found.starts_with(fault), "{sql}: {found}");
        store.close().await;
    }
}
