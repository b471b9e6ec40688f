//! The audit log shows whatever was done to it behind the broker's back, and holds no secret.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hallpass::app::{open_broker_secret, open_store, open_vault};
use hallpass::audit::{CHECKPOINT_TYP, Checkpoint, HEAD_SECRET};
use hallpass::config::{self, Overrides};
use hallpass::issue::open_keys;
use hallpass::model::Head;
use hallpass::secret::SecretBytes;
use hallpass::store::{Access, Batch, StoredCheckpoint, Tail};
use hallpass::vault::head_mac;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::database::{blob, execute, texts};
use crate::support::log::{self, body, set_body, sha256};
use crate::support::real::{Client, ISSUER, Real, copy_folder, hallpass, said};
use crate::support::{Engine, Upstream};

const SECRET: &str = "sk-live-0123456789abcdef";
const NEEDLE: &str = "q=a-needle-in-the-hay";

/// A broker that has worked a little and stopped; and a checkpoint from the middle of its life, kept elsewhere.
struct Lived {
    real: Real,
    records: i64,
    kept: TempDir,
}

impl Lived {
    async fn new(engine: Engine) -> Option<Self> {
        let upstream = Upstream::echo().await;
        let mut real = Real::init(engine)?;
        let agent = real.with_crm(&upstream.url(), SECRET);
        let token = real.token(&agent).await;
        for n in 0..4 {
            assert_eq!(real.call_status(&format!("/crm/v1/contacts/{n}?{NEEDLE}"), &token).await, 200);
        }
        let kept = tempfile::tempdir().unwrap();
        std::fs::write(kept.path().join("checkpoint"), real.binary.ok(&["audit", "checkpoint"], "")).unwrap();
        for n in 0..4 {
            assert_eq!(real.call_status(&format!("/crm/v1/contacts/{n}"), &token).await, 200);
        }
        assert!(real.binary.terminate().success());
        let records = log::count(&real.database, &[]).await;
        assert!(records >= 20, "{records}");
        Some(Self { real, records, kept })
    }

    fn kept(&self) -> String {
        self.kept.path().join("checkpoint").display().to_string()
    }

    /// A copy to be tampered with; SQLite only.
    fn copy(&self) -> Copy {
        let dir = tempfile::tempdir().unwrap();
        copy_folder(self.real.binary.dir.path(), dir.path());
        Copy { url: format!("sqlite:{}", dir.path().join("data/hallpass.db").display()), dir }
    }
}

struct Copy {
    dir: TempDir,
    url: String,
}

impl Copy {
    fn config(&self) -> PathBuf {
        self.dir.path().join("hallpass.toml")
    }

    fn verify(&self, more: &[&str]) -> (i32, String) {
        let mut all = vec!["audit", "verify"];
        all.extend_from_slice(more);
        hallpass(&self.config(), &all)
    }

    /// Verification fails, and says that `seq` is the first bad record, and these words.
    #[track_caller]
    fn is_bad(&self, case: &str, seq: i64, words: &str) {
        let (code, text) = self.verify(&[]);
        assert_eq!(code, 1, "{case}: {text}");
        assert!(text.contains(&format!("record {seq}:")) && text.contains(words), "{case}: {text}");
        let (code, text) = self.verify(&["--json"]);
        assert_eq!(code, 1, "{case}");
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&first["ok"], &first["first_bad"]), (&false.into(), &seq.into()), "{case}: {first}");
    }

    fn without_master_key(&self) {
        std::fs::remove_dir_all(self.dir.path().join("keys")).unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every record from `from` on is written anew, so that each fits the one before; gives the hash of the last one.
async fn recompute(url: &str, from: i64) -> Vec<u8> {
    let mut rows = log::rows(url).await;
    let mut prev = sha256(&body(url, from - 1).await);
    for row in rows.iter_mut().filter(|row| row.last >= from) {
        for (seq, text) in (row.first..).zip(&mut row.bodies).filter(|(seq, _)| *seq >= from) {
            let old: Value = serde_json::from_str(text).unwrap();
            assert_eq!(old["seq"], seq);
            *text = text.replace(old["prev"].as_str().unwrap(), &hex(&prev));
            prev = sha256(text);
        }
        row.make_fit();
    }
    log::replace(url, &rows).await;
    prev
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_log_is_whole_with_and_without_the_master_key() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(lived) = Lived::new(engine).await else { continue };
        let (code, text) = lived.real.verify(&[]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(&format!("{} records are whole", lived.records)), "{text}");
        let answer = lived.real.binary.json(&["audit", "verify"], "");
        assert_eq!((&answer["ok"], &answer["records"]), (&true.into(), &lived.records.into()), "{answer}");
        assert_eq!(answer["nodes"][0]["end_authenticated"], true, "{answer}");
        assert_eq!(lived.real.verify(&["--checkpoint", &lived.kept()]).0, 0);

        std::fs::remove_dir_all(lived.real.binary.dir.path().join("keys")).unwrap();
        let answer = lived.real.binary.json(&["audit", "verify", "--checkpoint", &lived.kept()], "");
        assert_eq!((&answer["ok"], &answer["records"]), (&true.into(), &lived.records.into()), "{answer}");
        assert_eq!(answer["nodes"][0]["end_authenticated"], false, "{answer}");
        assert!(answer["nodes"][0]["checkpoints"].as_i64().unwrap() >= 3, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_to_one_record_shows() {
    let lived = Lived::new(Engine::Sqlite).await.unwrap();
    let (k, last) = (lived.records / 2, lived.records);

    for seq in [1, k, last] {
        let copy = lived.copy();
        let text = body(&copy.url, seq).await.replace("\"at\":1", "\"at\":2");
        set_body(&copy.url, seq, &text, false).await;
        copy.is_bad("edited", seq, "it was edited");
        copy.without_master_key();
        copy.is_bad("edited, without the master key", seq, "it was edited");

        let copy = lived.copy();
        log::change(&copy.url, seq, |row, _| row.hash = vec![0]).await;
        let end = segment(&copy.url, seq).await.last;
        copy.is_bad("hash edited", end, "its text does not fit its hash");

        let copy = lived.copy();
        log::change(&copy.url, seq, |row, _| row.root = vec![0; 32]).await;
        let begin = segment(&copy.url, seq).await.first;
        copy.is_bad("root edited", begin, "Merkle root");

        let copy = lived.copy();
        log::change(&copy.url, seq, |row, _| row.at.0 -= 1).await;
        copy.is_bad("time edited", begin, "times of its segment");

        let copy = lived.copy();
        log::change(&copy.url, seq, |row, place| drop(row.bodies.remove(place))).await;
        copy.is_bad("removed", seq, "missing");
        // And those behind it moved up.
        let mut rows = log::rows(&copy.url).await;
        for row in rows.iter_mut().filter(|row| row.last >= seq) {
            row.first -= i64::from(row.first > seq);
            row.last = row.first + i64::try_from(row.bodies.len()).unwrap() - 1;
            row.make_fit();
        }
        log::replace(&copy.url, &rows).await;
        let words = if seq == last { "cut off" } else { "it is missing" };
        copy.is_bad("removed, and those behind it moved up", seq, words);
    }

    let copy = lived.copy();
    let (one, other) = (body(&copy.url, k).await, body(&copy.url, k + 3).await);
    set_body(&copy.url, k, &other, true).await;
    set_body(&copy.url, k + 3, &one, true).await;
    copy.is_bad("reordered", k, "it is missing; the next one there is");

    // A later record is an earlier one once more.
    let copy = lived.copy();
    set_body(&copy.url, k + 3, &one, true).await;
    copy.is_bad("repeated", k + 3, "it was moved");

    // Inserted, with a hash and a link that fit: then the one behind it is where it was not written.
    let copy = lived.copy();
    let forged = body(&copy.url, k).await.replace("\"allow\"", "\"deny\"");
    let mut rows = log::rows(&copy.url).await;
    for row in rows.iter_mut().filter(|row| row.last >= k) {
        if row.first <= k {
            row.bodies.insert(usize::try_from(k - row.first).unwrap(), forged.clone());
        } else {
            row.first += 1;
        }
        row.last += 1;
        row.make_fit();
    }
    log::replace(&copy.url, &rows).await;
    copy.is_bad("inserted", k + 1, "it was moved");

    let copy = lived.copy();
    let forged = body(&copy.url, k).await.replacen("\"at\":1", "\"at\":2", 1);
    set_body(&copy.url, k, &forged, true).await;
    copy.is_bad("replaced with a hash that fits", k, "");

    let copy = lived.copy();
    let forged = body(&copy.url, last).await.replacen("\"at\":1", "\"at\":2", 1);
    set_body(&copy.url, last, &forged, true).await;
    let (code, text) = copy.verify(&[]);
    assert!(code == 1 && text.contains(&format!("record {last}:")), "the last one replaced: {text}");

    let copy = lived.copy();
    set_body(&copy.url, k, "no record at all", true).await;
    copy.is_bad("replaced by something else", k, "it is no audit record");

    // Lengths that do not add up.
    let copy = lived.copy();
    let first = segment(&copy.url, k).await.first;
    execute(&copy.url, &format!("UPDATE audit_segments SET records = x'000000ff7b7d' WHERE first = {first}")).await;
    copy.is_bad("no segment at all", first, "no records");

    let copy = lived.copy();
    execute(&copy.url, "DELETE FROM audit_segments;\nDELETE FROM audit_heads;\nDELETE FROM audit_checkpoints").await;
    let (code, text) = copy.verify(&[]);
    assert!(code == 1 && text.contains("it was removed"), "all of it removed: {text}");
    let copy = lived.copy();
    execute(&copy.url, "DELETE FROM audit_segments").await;
    copy.is_bad("all records removed", 1, "cut off");
}

/// The segment that a record is in.
async fn segment(url: &str, seq: i64) -> log::Row {
    log::rows(url).await.into_iter().find(|row| row.last >= seq).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_was_cut_off_or_written_anew_shows() {
    let lived = Lived::new(Engine::Sqlite).await.unwrap();
    let (k, last) = (lived.records / 2, lived.records);
    const NO_CHECKPOINTS: &str = "DELETE FROM audit_checkpoints";

    let copy = lived.copy();
    log::cut_behind(&copy.url, k).await;
    copy.is_bad("cut off", k + 1, "cut off");
    execute(&copy.url, NO_CHECKPOINTS).await;
    copy.is_bad("cut off with the checkpoints", k + 1, "cut off");

    // And the end set to what is the last one now: its MAC is what the thief cannot make.
    log::set_end(&copy.url, k).await;
    copy.is_bad("cut off and the end edited", k, "MAC");
    let (code, text) = copy.verify(&["--checkpoint", &lived.kept()]);
    assert!(code == 1, "{text}");
    let (code, text) = hallpass(&copy.config(), &["serve", "--listen", "127.0.0.1:0"]);
    assert!(code == 1 && text.contains("audit verify"), "it does not go on from there: {text}");

    let copy = lived.copy();
    log::cut_behind(&copy.url, k).await;
    log::set_end(&copy.url, k).await;
    copy.is_bad("cut off, the end edited, but checkpoints left", k, "MAC");
    copy.without_master_key();
    copy.is_bad("the same without the master key", k + 1, "checkpoint");

    let copy = lived.copy();
    execute(&copy.url, "DELETE FROM audit_heads").await;
    copy.is_bad("the end removed", last, "audit_heads");
    execute(&copy.url, NO_CHECKPOINTS).await;
    log::cut_behind(&copy.url, k).await;
    copy.is_bad("the end and the tail removed", k, "audit_heads");

    let copy = lived.copy();
    execute(&copy.url, &format!("UPDATE audit_heads SET mac = {}", blob(&copy.url, &[0; 32]))).await;
    copy.is_bad("the MAC edited", last, "MAC");

    // Everything behind an edit written anew, so that each record fits.
    let copy = lived.copy();
    let text = body(&copy.url, k).await.replacen("\"at\":1", "\"at\":2", 1);
    set_body(&copy.url, k, &text, true).await;
    let end = recompute(&copy.url, k + 1).await;
    let (code, text) = copy.verify(&[]);
    assert_eq!(code, 1, "the tail written anew: {text}");
    execute(&copy.url, NO_CHECKPOINTS).await;
    copy.is_bad("and the checkpoints removed", last, "chain ended with");
    execute(&copy.url, &format!("UPDATE audit_heads SET hash = {}", blob(&copy.url, &end))).await;
    copy.is_bad("and the end edited", last, "MAC");

    // A record behind the end.
    let copy = lived.copy();
    log::set_end(&copy.url, k).await;
    execute(&copy.url, NO_CHECKPOINTS).await;
    copy.is_bad("the end set back", k + 1, "behind the chain's end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_checkpoint_shows() {
    let lived = Lived::new(Engine::Sqlite).await.unwrap();
    let copy = lived.copy();
    let jws = texts(&copy.url, "SELECT jws FROM audit_checkpoints ORDER BY seq").await;
    let seqs: Vec<i64> = texts(&copy.url, "SELECT CAST(seq AS TEXT) FROM audit_checkpoints ORDER BY seq")
        .await
        .iter()
        .map(|seq| seq.parse().unwrap())
        .collect();
    assert!(seqs.len() >= 2, "{seqs:?}");
    let seq = seqs[1];
    // One character of the signature, and one of the claims.
    for at in [jws[1].len() - 20, jws[1].find('.').unwrap() + 30] {
        let mut edited = jws[1].clone().into_bytes();
        edited[at] = if edited[at] == b'A' { b'B' } else { b'A' };
        let edited = String::from_utf8(edited).unwrap();
        execute(&copy.url, &format!("UPDATE audit_checkpoints SET jws = '{edited}' WHERE seq = {seq}")).await;
        copy.is_bad("edited", seq, "its checkpoint was altered");
    }
    execute(&copy.url, &format!("UPDATE audit_checkpoints SET jws = '{}' WHERE seq = {seq}", jws[0])).await;
    copy.is_bad("another one's", seq, "its checkpoint was moved");
    execute(&copy.url, &format!("UPDATE audit_checkpoints SET jws = '{}' WHERE seq = {seq}", jws[1])).await;
    assert_eq!(copy.verify(&[]).0, 0);
}

/// One byte of the database's file, as a disk or an editor would change it.
#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_byte_of_the_file_shows() {
    let lived = Lived::new(Engine::Sqlite).await.unwrap();
    let copy = lived.copy();
    let file = copy.dir.path().join("data/hallpass.db");
    let whole = std::fs::read(&file).unwrap();
    let before = log::bodies(&copy.url).await;
    let places: Vec<usize> =
        whole.windows(NEEDLE.len()).enumerate().filter(|(_, w)| *w == NEEDLE.as_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "records are text in the file");
    let mut flipped = 0;
    for at in places {
        let mut bytes = whole.clone();
        bytes[at + NEEDLE.len() - 1] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let now = log::bodies(&copy.url).await;
        // The file may hold pages that are no longer in use.
        let Some(seq) = now.iter().zip(&before).position(|(a, b)| a != b) else { continue };
        copy.is_bad("a byte", i64::try_from(seq).unwrap() + 1, "it was edited");
        flipped += 1;
    }
    assert!(flipped >= 1);
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(copy.verify(&[]).0, 0);
}

/// Somebody with the database and every key writes the whole log anew: only what was kept elsewhere tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_kept_elsewhere_finds_a_log_written_anew() {
    let lived = Lived::new(Engine::Sqlite).await.unwrap();
    let copy = lived.copy();
    rewrite(&copy.config(), &copy.url).await;
    let (code, text) = copy.verify(&[]);
    assert_eq!(code, 0, "a perfect forgery: {text}");
    let (code, text) = copy.verify(&["--checkpoint", &lived.kept()]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("kept elsewhere"), "{text}");

    // The kept one itself must be whole.
    let broken = lived.kept.path().join("broken");
    let jws = std::fs::read_to_string(lived.kept()).unwrap();
    std::fs::write(&broken, jws.trim().strip_suffix(|_: char| true).unwrap()).unwrap();
    let (code, text) = lived.real.verify(&["--checkpoint", &broken.display().to_string()]);
    assert!(code == 1 && text.contains("no checkpoint of this broker"), "{text}");
    let (code, text) = lived.real.verify(&["--checkpoint", "/nowhere"]);
    assert!(code == 1 && text.contains("/nowhere cannot be read"), "{text}");

    // A database rolled back to an earlier state: whole, and shorter than the checkpoint says.
    let mut other = Real::init(Engine::Sqlite).unwrap();
    other.binary.serve(None);
    let kept = lived.kept.path().join("other");
    std::fs::write(&kept, other.binary.ok(&["audit", "checkpoint"], "")).unwrap();
    let (code, text) = lived.real.verify(&["--checkpoint", &kept.display().to_string()]);
    assert!(code == 1 && text.contains("no checkpoint of this broker"), "another broker's: {text}");
    assert!(other.binary.terminate().success());
    let early = tempfile::tempdir().unwrap();
    copy_folder(other.binary.dir.path(), early.path());
    other.binary.serve(None);
    other.binary.ok(&["key", "rotate"], "");
    std::fs::write(&kept, other.binary.ok(&["audit", "checkpoint"], "")).unwrap();
    assert!(other.binary.terminate().success());
    let early = early.path().join("hallpass.toml");
    assert_eq!(hallpass(&early, &["audit", "verify"]).0, 0);
    let (code, text) = hallpass(&early, &["audit", "verify", "--checkpoint", &kept.display().to_string()]);
    assert_eq!(code, 1, "rolled back: {text}");
}

async fn rewrite(config: &Path, url: &str) {
    let config = config::load(Some(config), std::iter::empty(), Overrides::default()).unwrap();
    let store = open_store(&config, Access::Serve).await.unwrap();
    let (vault, _, _) = open_vault(&config).unwrap();
    let secrets = store.broker_secrets().await.unwrap();
    let mac_key: SecretBytes = open_broker_secret(HEAD_SECRET, &secrets[HEAD_SECRET], &vault).unwrap();
    let keys = open_keys(&store.signing_keys().await.unwrap(), &vault).unwrap();
    let old = store.audit_page("node-1", 0, 10_000).await.unwrap();
    execute(url, "DELETE FROM audit_segments;\nDELETE FROM audit_checkpoints").await;
    // The same story without its fifth record.
    let mut head = Head::EMPTY;
    let mut row = log::Row {
        node: "node-1".into(),
        first: 1,
        last: 0,
        at: (0, 0),
        bodies: Vec::new(),
        hash: Vec::new(),
        root: Vec::new(),
    };
    for old in old.iter().filter(|row| row.seq != 5) {
        let link: Value = serde_json::from_str(&old.body).unwrap();
        let body = old.body.replace(link["prev"].as_str().unwrap(), &hex(&head.hash)).replacen(
            &format!("\"seq\":{}", old.seq),
            &format!("\"seq\":{}", head.seq + 1),
            1,
        );
        head = Head { seq: head.seq + 1, hash: sha256(&body).try_into().unwrap() };
        let at = link["at"].as_i64().unwrap();
        row.at = (if row.bodies.is_empty() { at } else { row.at.0 }, at);
        row.last = head.seq;
        row.bodies.push(body);
    }
    row.make_fit();
    log::replace(url, &[row]).await;
    let mut message = b"node-1\0".to_vec();
    message.extend_from_slice(&head.seq.to_be_bytes());
    message.extend_from_slice(&head.hash);
    let mac = head_mac(&mac_key, &message);
    let batch = Batch { node: "node-1", now: 0, parts: &[], one_by_one: false };
    store.commit(&batch, &mut |_| Ok(Tail { segment: None, head, mac })).await.unwrap();
    let jws = keys.sign(CHECKPOINT_TYP, &Checkpoint::new(ISSUER, "node-1", &head, 0)).unwrap();
    store.put_checkpoint(&StoredCheckpoint { node: "node-1".into(), seq: head.seq, at: 0, jws }).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgresql_an_edit_and_a_cut_show_too() {
    let Some(lived) = Lived::new(Engine::Postgres).await else { return };
    let (real, url, k) = (&lived.real, &lived.real.database, lived.records / 2);
    let old = body(url, k).await;
    set_body(url, k, &old.replacen("\"at\":1", "\"at\":2", 1), false).await;
    let (code, text) = real.verify(&[]);
    assert!(code == 1 && text.contains(&format!("record {k}: it was edited")), "{text}");
    set_body(url, k, &old, false).await;
    assert_eq!(real.verify(&[]).0, 0);

    log::cut_behind(url, k).await;
    let (code, text) = real.verify(&[]);
    assert!(code == 1 && text.contains(&format!("record {}: the tail was cut off", k + 1)), "{text}");
    execute(url, "DELETE FROM audit_checkpoints").await;
    log::set_end(url, k).await;
    let (code, text) = real.verify(&[]);
    assert!(code == 1 && text.contains(&format!("record {k}: ")) && text.contains("MAC"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_and_export_show_what_was_asked_for() {
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let one = real.with_crm(&upstream.url(), SECRET);
    let two = real.register("nightly");
    let (_, first) = real.token_request(&one, &[("task", "ticket 7")]).await.unwrap();
    let session = first["session_id"].as_str().unwrap();
    assert_eq!(real.call_status("/crm/v1/contacts/1", first["access_token"].as_str().unwrap()).await, 200);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let middle = real.binary.json(&["status"], "")["time"].as_i64().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let token = real.token(&two).await;
    assert_eq!(real.call_status("/crm/v1/contacts/2", &token).await, 200);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;

    let export = |more: &[&str]| {
        let mut all = vec!["audit", "export"];
        all.extend_from_slice(more);
        real.binary.ok(&all, "").lines().map(str::to_owned).collect::<Vec<String>>()
    };
    let all = export(&[]);
    // What is exported is what was hashed: anybody can follow the chain with sha256sum.
    let mut prev = "0".repeat(64);
    for (n, line) in all.iter().enumerate() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&record["seq"], &record["prev"]), (&(n + 1).into(), &prev.into()), "{line}");
        prev = hex(&sha256(line));
    }
    assert_eq!(real.binary.json(&["audit", "verify"], "")["nodes"][0]["head"], prev);

    let parsed =
        |lines: &[String]| lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    for agent in ["nightly", &two.0] {
        let lines = parsed(&export(&["--agent", agent]));
        assert!(lines.len() >= 4 && lines.iter().all(|one| one["agent"] == *two.0), "{lines:?}");
    }
    let lines = parsed(&export(&["--session", session]));
    let kinds: Vec<_> = lines.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["token.issued", "call.intent", "call.outcome"]);
    assert!(lines.iter().all(|one| one["session"] == session));
    let text = middle.to_string();
    let (until, since) = (export(&["--until", &text]), export(&["--since", &text]));
    assert_eq!([until.clone(), since.clone()].concat(), all);
    assert!(parsed(&since).iter().all(|one| one["at"].as_i64().unwrap() >= middle) && since.len() >= 3);
    assert!(export(&["--since", "2099-01-01T00:00:00Z"]).is_empty());
    assert_eq!(export(&["--since", "2020-01-01T00:00:00+02:00", "--until", "2099-01-01T00:00:00Z"]), all);
    assert!(export(&["--agent", "nobody"]).is_empty());
    assert_eq!(export(&["--agent", "nightly", "--session", session]).len(), 0);
    let (code, text) = said(&real.binary.run(&["audit", "export", "--since", "yesterday"], ""));
    assert!(code == 2 && text.contains("2026-01-31T09:00:00Z"), "{text}");

    let tail = real.binary.ok(&["audit", "tail", "-n", "3", "--json"], "");
    assert_eq!(tail.lines().collect::<Vec<_>>(), all[all.len() - 3..].iter().map(String::as_str).collect::<Vec<_>>());
    let people = real.binary.ok(&["audit", "tail"], "");
    assert!(people.lines().count() == all.len().min(20) && people.contains("nightly allow"), "{people}");

    let mut follow = Command::new(env!("CARGO_BIN_EXE_hallpass"))
        .arg("--config")
        .arg(real.binary.config())
        .args(["audit", "tail", "-f", "-n", "1", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(&lines.next().unwrap(), all.last().unwrap());
    let jti = real.binary.json(&["token", "revoke"], &token)["jti"].as_str().unwrap().to_owned();
    let line: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!((&line["kind"], &line["token"]), (&"revocation".into(), &jti.into()), "{line}");
    follow.kill().unwrap();
    follow.wait().unwrap();
}

/// P1, P6: nothing that opens anything is in what a broker writes, whatever came in.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_anything_that_is_written() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let upstream = Upstream::echo().await;
        let Some(mut real) = Real::init(engine) else { continue };
        real.binary.set("HALLPASS_LOG__LEVEL", "trace");
        let agent = real.with_crm(&upstream.url(), SECRET);
        let rotated = real.binary.json(&["agent", "rotate-secret", "helpdesk"], "");
        let second_secret = rotated["client_secret"].as_str().unwrap().to_owned();
        let token = real.token(&agent).await;
        let second = real.token(&Client(agent.0.clone(), second_secret.clone())).await;
        let public = real.binary.public.clone();
        assert_eq!(real.call_status("/crm/v1/contacts/1", &token).await, 200);
        // Where the upstream's own key would go; in the wrong places; and broken.
        let by_header = real.http.get(format!("{public}/exchange/crm/v1/contacts")).header("x-api-key", &second);
        assert_eq!(by_header.send().await.unwrap().status(), 200);
        let mut bad = token.clone();
        bad.pop();
        for path in [format!("/crm/v1/contacts?access_token={token}"), format!("/crm/v1/{token}"), "/nowhere/x".into()]
        {
            real.call(&path, &token).await.unwrap();
            real.call(&path, &bad).await.unwrap();
        }
        real.token_request(&agent, &[("scope", "crm:nothing")]).await.unwrap();
        real.token_request(&Client(agent.0.clone(), format!("{}x", agent.1)), &[]).await.unwrap();
        let form = [("client_id", &agent.0), ("client_secret", &agent.1), ("token", &second)];
        let answer = real.http.post(format!("{public}/oauth2/revoke")).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(real.call_status("/crm/v1/contacts/1", &second).await, 401);
        real.binary.ok(&["token", "inspect"], &token);
        real.binary.ok(&["token", "revoke"], &token);
        real.binary.ok(&["credential", "rotate", "crm-key"], "sk-live-second-456789abcdef");
        real.binary.run(&["credential", "put", "crm-key"], "sk-live-with-a\nline-break-0123");
        real.binary.ok(&["key", "rotate"], "");

        let metrics = real.http.get(format!("{}/metrics", real.binary.ops)).send().await.unwrap().text().await.unwrap();
        let mut places: Vec<(String, Vec<u8>)> = vec![
            ("metrics".into(), metrics.into_bytes()),
            ("export".into(), real.binary.ok(&["audit", "export"], "").into_bytes()),
        ];
        let data = real.binary.dir.path().join("data");
        let files = |when: &str, places: &mut Vec<(String, Vec<u8>)>| {
            for entry in std::fs::read_dir(&data).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    let name = format!("{} {when}", entry.file_name().display());
                    places.push((name, std::fs::read(entry.path()).unwrap()));
                }
            }
        };
        files("while serving", &mut places);
        assert!(real.binary.terminate().success());
        files("afterwards", &mut places);
        places.push(("the log".into(), std::fs::read(real.binary.log_file()).unwrap()));
        if engine == Engine::Postgres {
            for table in [
                "agents",
                "client_secrets",
                "definitions",
                "credentials",
                "credential_versions",
                "sessions",
                "signing_keys",
                "broker_secrets",
                "revocations",
                "audit_segments",
                "audit_checkpoints",
            ] {
                let rows = texts(&real.database, &format!("SELECT CAST(t.* AS TEXT) FROM {table} t")).await;
                places.push((table.into(), rows.join("\n").into_bytes()));
                places.push(("the records".into(), log::bodies(&real.database).await.join("\n").into_bytes()));
            }
        }
        assert!(places.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 20_000);

        let signature = |token: &str| token.rsplit('.').next().unwrap()[..40].to_owned();
        let body = |secret: &str| secret.strip_prefix("hp_cs_").unwrap()[..32].to_owned();
        let master = std::fs::read_to_string(real.binary.dir.path().join("keys/master.key")).unwrap();
        use base64::Engine as _;
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let hexed = |text: &str| hex(text.as_bytes());
        let canaries = [
            ("the upstream's key", SECRET.to_owned()),
            ("the upstream's key, base64", base64(SECRET)),
            ("the upstream's key, hex", hexed(SECRET)),
            ("the upstream's second key", "live-second-456789".into()),
            ("a key with a line break", "sk-live-with-a".into()),
            ("the client secret", body(&agent.1)),
            ("the client secret in Basic", base64(&format!("{}:{}", agent.0, agent.1))[..80].to_owned()),
            ("the second client secret", body(&second_secret)),
            ("the token", signature(&token)),
            ("the second token", signature(&second)),
            ("the master key", master.trim()[6..40].to_owned()),
        ];
        for (place, bytes) in &places {
            for (what, canary) in &canaries {
                let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                assert!(!found, "{engine:?}: {what} is in {place}");
            }
        }
    }
}
