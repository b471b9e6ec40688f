//! The command line and the configuration, through the program itself.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::database::{execute, texts};
use crate::support::real::{Client, Real, copy_folder, crm_document, hallpass, said};
use crate::support::{Binary, Engine, Upstream, log};

const SECRET: &str = "sk-live-0123456789abcdef";

fn run(real: &Real, arguments: &[&str], input: &str) -> (i32, String) {
    said(&real.binary.run(arguments, input))
}

/// It fails with this code and says this.
#[track_caller]
fn fails(real: &Real, code: i32, arguments: &[&str], input: &str, words: &str) {
    let (found, text) = run(real, arguments, input);
    assert_eq!(found, code, "{arguments:?}: {text}");
    assert!(text.contains(words), "{arguments:?}: {text}");
    if code != 2 {
        let mut all = arguments.to_vec();
        all.push("--json");
        let output = real.binary.run(&all, input);
        let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{all:?} is no JSON"));
        assert!(error["error"].is_string(), "{error}");
    }
}

#[test]
fn init_overwrites_nothing() {
    let broker = Binary::init(None);
    let dir = broker.dir.path().display().to_string();
    let (config, key) = (broker.config(), broker.dir.path().join("keys/master.key"));
    let before = (std::fs::read(&config).unwrap(), std::fs::read(&key).unwrap());
    let mode = |file: &str| std::fs::metadata(broker.dir.path().join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("hallpass.toml"), mode("data/hallpass.db"), mode("data")), (0o600, 0o600, 0o700));
    assert_eq!((mode("keys"), mode("keys/master.key")), (0o700, 0o600));
    for (missing, there) in [(None, "hallpass.toml"), (Some(&config), "master.key"), (Some(&key), "hallpass.db")] {
        if let Some(file) = missing {
            std::fs::remove_file(file).unwrap();
        }
        let (code, text) = said(&broker.run(&["init", "--dir", &dir], ""));
        assert!(code == 1 && text.contains(there) && text.contains("nothing is overwritten"), "{text}");
    }
    std::fs::write(&config, &before.0).unwrap();
    assert!(!key.exists(), "and it leaves nothing behind");
}

#[test]
fn every_mistake_in_the_configuration_is_told_at_once() {
    let broker = Binary::init(None);
    let text = "issuer = 7\nnode = \"No!\"\nunknown = 1\n[listen]\npublic = \"nowhere\"\n[tokens]\nlifetime_seconds = 901\n\
                sesion_seconds = 5\n[log]\nlevel = \"loud\"\n[database]\nurl = \"mysql://root:hunter2@host/x\"\n";
    std::fs::write(broker.config(), text).unwrap();
    let mut broker = broker;
    broker.set("HALLPASS_KEYS__ALGORITHM", "none");
    let (code, text) = said(&broker.run(&["serve"], ""));
    assert_eq!(code, 1, "{text}");
    for words in [
        "issuer",
        "node",
        "unknown",
        "listen.public",
        "tokens.lifetime_seconds",
        "sesion_seconds",
        "log.level",
        "database.url",
        "HALLPASS_KEYS__ALGORITHM",
        "line 7",
        "10 to 900",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("9 mistakes"), "{text}");
    let (code, text) = hallpass(std::path::Path::new("/nowhere/hallpass.toml"), &["status"]);
    assert!(code == 1 && text.contains("hallpass init"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_come_from_the_environment() {
    let mut real = Real::init(Engine::Sqlite).unwrap();
    real.binary.set("HALLPASS_TOKENS__LIFETIME_SECONDS", "42");
    real.binary.set("HALLPASS_NODE", "from-env");
    real.binary.set("HALLPASS_KEYS__ALGORITHM", "EdDSA");
    real.binary.set("HALLPASS_LOG__FORMAT", "json");
    let upstream = Upstream::echo().await;
    let agent = real.with_crm(&upstream.url(), SECRET);
    let (_, answer) = real.token_request(&agent, &[]).await.unwrap();
    assert!(answer["expires_in"].as_i64().unwrap() <= 42, "{answer}");
    assert_eq!(real.binary.json(&["status"], "")["node"], "from-env");
    assert_eq!(log::count(&real.database, &["\"node\":\"from-env\""]).await, 6);
    assert!(real.binary.terminate().success());
    for line in std::fs::read_to_string(real.binary.log_file()).unwrap().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes() {
    let mut real = Real::init(Engine::Sqlite).unwrap();
    for arguments in [&["agent"][..], &["agent", "register"], &["nonsense"], &["serve", "--listen", "nowhere"], &[]] {
        assert_eq!(run(&real, arguments, "").0, 2, "{arguments:?}");
    }
    assert_eq!(run(&real, &["--help"], "").0, 0);
    assert_eq!(run(&real, &["--version"], "").0, 0);
    fails(&real, 3, &["status"], "", "hallpass serve");
    fails(&real, 3, &["agent", "list"], "", "no broker answers");
    // A socket that a dead server left behind.
    real.binary.serve(None);
    real.binary.kill();
    assert!(real.binary.dir.path().join("data/admin.sock").exists());
    fails(&real, 3, &["status"], "", "no broker answers");
    real.binary.serve(None);
    assert_eq!(run(&real, &["status"], "").0, 0);
    fails(&real, 1, &["agent", "show", "nobody"], "", "there is no agent 'nobody'");
    fails(&real, 2, &["token", "inspect"], "", "standard input");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_sessions_and_tokens() {
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let agent = real.with_crm(&upstream.url(), SECRET);
    let Client(id, secret) = agent.clone();
    assert!(id.starts_with("ag_") && secret.starts_with("hp_cs_"), "{id}");

    fails(&real, 1, &["agent", "register", "helpdesk"], "", "already");
    fails(&real, 1, &["agent", "register", "Bad Name"], "", "is no agent name");
    fails(&real, 1, &["agent", "register", "other", "--role", "nope"], "", "hallpass apply");
    assert!(real.binary.ok(&["agent", "register", "other"], "").contains("shown once"));
    let list = real.binary.json(&["agent", "list"], "");
    assert_eq!(list["agents"].as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains("secret"), "{list}");
    assert!(real.binary.ok(&["agent", "list"], "").contains("helpdesk"));
    for name in ["helpdesk", &id] {
        let shown = real.binary.json(&["agent", "show", name], "");
        assert_eq!((&shown["name"], &shown["status"]), (&"helpdesk".into(), &"active".into()));
        assert_eq!(shown["scope"], "crm:any crm:contacts.read");
        assert!(!shown.to_string().contains("hp_cs_"), "{shown}");
    }
    assert!(real.binary.ok(&["agent", "show", "helpdesk"], "").contains("created_at"));

    let (_, answer) = real.token_request(&agent, &[("task", "ticket 7")]).await.unwrap();
    let (token, sid) = (answer["access_token"].as_str().unwrap().to_owned(), answer["session_id"].as_str().unwrap());
    let seen = real.binary.json(&["token", "inspect"], &format!("{token}\n"));
    assert_eq!((&seen["active"], &seen["claims"]["client_id"]), (&true.into(), &id.as_str().into()), "{seen}");
    assert!(real.binary.ok(&["token", "inspect"], &token).contains("good"));
    fails(&real, 1, &["token", "inspect"], "nonsense", "only tokens of this broker");
    let sessions = real.binary.json(&["session", "list", "--agent", "helpdesk"], "");
    assert_eq!(sessions["sessions"][0]["id"], sid);
    assert!(real.binary.ok(&["session", "list"], "").contains("ticket 7"));
    assert_eq!(real.binary.json(&["session", "list", "--agent", "other"], "")["sessions"], json!([]));
    fails(&real, 1, &["session", "list", "--agent", "nobody"], "", "no agent");
    assert_eq!(real.binary.json(&["session", "show", sid], "")["task"], "ticket 7");
    assert!(real.binary.ok(&["session", "show", sid], "").contains(sid));
    fails(&real, 1, &["session", "show", "s_nope"], "", "hallpass session list");

    // Each kind of revocation stops the very next call.
    let call = async |token: &str| real.call_status("/crm/v1/contacts", token).await;
    assert_eq!(call(&token).await, 200);
    assert!(real.binary.json(&["session", "revoke", sid, "--reason", "done"], "")["revoked_at"].is_i64());
    assert_eq!(call(&token).await, 401);
    assert_eq!(real.binary.json(&["token", "inspect"], &token)["active"], false);
    for by_jti in [false, true] {
        let token = real.token(&agent).await;
        assert_eq!(call(&token).await, 200);
        if by_jti {
            let jti = real.binary.json(&["token", "inspect"], &token)["claims"]["jti"].as_str().unwrap().to_owned();
            assert!(real.binary.ok(&["token", "revoke", "--jti", &jti], "").contains(&jti));
        } else {
            assert_eq!(real.binary.json(&["token", "revoke"], &token)["revoked"], true);
        }
        assert_eq!(call(&token).await, 401);
    }
    fails(&real, 1, &["token", "revoke", "nonsense"], "", "tk_");

    // Two secrets while one is being rotated; without grace the old one is gone at once.
    let rotated = real.binary.json(&["agent", "rotate-secret", "helpdesk"], "");
    let second = Client(id.clone(), rotated["client_secret"].as_str().unwrap().to_owned());
    real.token(&agent).await;
    real.token(&second).await;
    assert!(real.binary.ok(&["agent", "rotate-secret", "helpdesk", "--grace", "0"], "").contains("hp_cs_"));
    assert_eq!(real.token_request(&agent, &[]).await.unwrap().0, 401);
    assert_eq!(real.token_request(&second, &[]).await.unwrap().0, 401);
    fails(&real, 1, &["agent", "rotate-secret", "helpdesk", "--grace", "9999999"], "", "30 days");
    let rotated = real.binary.json(&["agent", "rotate-secret", "helpdesk"], "");
    let agent = Client(id.clone(), rotated["client_secret"].as_str().unwrap().to_owned());

    let token = real.token(&agent).await;
    assert_eq!(real.binary.json(&["agent", "suspend", "helpdesk", "--reason", "night"], "")["status"], "suspended");
    assert_eq!((call(&token).await, real.token_request(&agent, &[]).await.unwrap().0), (401, 401));
    assert_eq!(real.binary.json(&["agent", "resume", "helpdesk"], "")["status"], "active");
    assert_eq!(call(&token).await, 401, "what was issued before stays dead");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let token = real.token(&agent).await;
    assert_eq!(call(&token).await, 200);
    assert_eq!(real.binary.json(&["agent", "revoke", &id], "")["status"], "revoked");
    assert_eq!((call(&token).await, real.token_request(&agent, &[]).await.unwrap().0), (401, 401));
    fails(&real, 1, &["agent", "resume", "helpdesk"], "", "does not come back");
    fails(&real, 1, &["agent", "suspend", "helpdesk"], "", "for good");
    fails(&real, 1, &["agent", "rotate-secret", "helpdesk"], "", "register a new one");
    fails(&real, 1, &["agent", "revoke", "other", "--reason", "a\nb"], "", "control characters");
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_roles_keys_and_status() {
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    assert_eq!(real.binary.json(&["upstream", "list"], "")["upstreams"][0]["credential_stored"], true);
    assert!(real.binary.ok(&["upstream", "list"], "").contains("crm-key"));
    assert_eq!(real.binary.json(&["upstream", "show", "crm"], "")["base_url"], upstream.url());
    assert_eq!(real.binary.json(&["upstream", "test", "crm"], "")["reachable"], true);
    assert!(upstream.seen().is_empty(), "no request was sent");
    fails(&real, 1, &["upstream", "show", "nope"], "", "hallpass upstream list");
    let role = real.binary.json(&["role", "show", "support"], "");
    assert_eq!(role["scopes"], json!(["crm:contacts.read", "crm:any"]), "{role}");
    assert_eq!(real.binary.json(&["role", "list"], "")["roles"][0]["name"], "support");
    assert!(real.binary.ok(&["role", "list"], "").contains("support"));
    fails(&real, 1, &["role", "show", "nope"], "", "nope");
    let status = real.binary.json(&["status"], "");
    assert_eq!((&status["agents"], &status["audit_log_writable"]), (&1.into(), &true.into()), "{status}");
    assert!(real.binary.ok(&["status"], "").contains("signing_key"));

    let keys = real.binary.json(&["key", "list"], "");
    let active = keys["active"].as_str().unwrap().to_owned();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    let rotated = real.binary.json(&["key", "rotate"], "");
    assert_ne!(rotated["active"], active.as_str());
    assert!(rotated["warning"]["text"].as_str().unwrap().contains("publish_ahead_hours"), "{rotated}");
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 200, "it is published until its last token is dead");
    let new = real.token(&agent).await;
    real.binary.json(&["key", "retire", &active, "--reason", "leaked"], "");
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 401);
    assert_eq!(real.call_status("/crm/v1/contacts", &new).await, 200);
    let active = rotated["active"].as_str().unwrap();
    assert!(real.binary.ok(&["key", "retire", active], "").contains("active"));
    assert_eq!(real.call_status("/crm/v1/contacts", &new).await, 401);
    let newest = real.token(&agent).await;
    assert_eq!(real.call_status("/crm/v1/contacts", &newest).await, 200);
    let (code, text) = run(&real, &["key", "retire", "nope"], "");
    assert!(code == 1 && !text.contains("inside"), "{text}");
    real.binary.kill();
    real.binary.serve(None);
    assert_eq!(real.call_status("/crm/v1/contacts", &new).await, 401);
    assert_eq!(real.call_status("/crm/v1/contacts", &newest).await, 200);

    let gone = real.binary.json(&["upstream", "remove", "crm"], "");
    assert_eq!(gone["removed"], true);
    assert_eq!(real.call_status("/crm/v1/contacts", &newest).await, 404);
    fails(&real, 1, &["upstream", "remove", "crm"], "", "no upstream 'crm'");
    // One that cannot be reached, and why.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    real.binary.ok(&["apply", "-f", "-"], &crm_document(&format!("http://{nobody}")));
    fails(&real, 1, &["upstream", "test", "crm"], "", "is not reachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials() {
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;
    let injected = async || {
        let status = real.call_status("/crm/v1/contacts", &token).await;
        (status, upstream.seen().last().unwrap().headers["x-api-key"].to_str().unwrap().to_owned())
    };
    assert_eq!(injected().await, (200, SECRET.to_owned()));
    let file = real.binary.dir.path().join("value");
    std::fs::write(&file, "sk-from-a-file-0123456789\r\n").unwrap();
    let file = file.display().to_string();
    let put = real.binary.json(&["credential", "put", "crm-key", "--from-file", &file], "");
    assert_eq!(put["version"], 2);
    assert_eq!(injected().await.1, "sk-from-a-file-0123456789");
    assert!(real.binary.ok(&["credential", "rotate", "crm-key"], "sk-rotated-0123456789\n").contains("version 3"));
    assert_eq!(injected().await.1, "sk-rotated-0123456789");

    fails(&real, 1, &["credential", "put", "x"], "short", "--allow-short");
    real.binary.ok(&["credential", "put", "x", "--allow-short"], "short");
    for bad in ["sk-live\n0123456789", "sk-live\t0123456789", "sk-live-\u{1}-0123456789", "sk-live-0123456789\n\n"] {
        fails(&real, 1, &["credential", "put", "y"], bad, "control characters");
    }
    fails(&real, 1, &["credential", "put", "y"], "", "empty");
    // What came with copying is asked about; the line break behind it is the shell's.
    for (odd, what) in [
        ("sk-live-0123456789 ", "ends with a space"),
        (" sk-live-0123456789\n", "begins with a space"),
        ("\u{feff}sk-live-0123456789", "a byte order mark"),
        ("Bearer sk-live-0123456789", "scheme word"),
        ("'sk-live-0123456789'", "a quote"),
        ("export KEY=sk-live-0123456789\n", "NAME=key"),
        ("sk-live-0123456789-\u{fc}", "not ASCII"),
    ] {
        fails(&real, 1, &["credential", "put", "y"], odd, what);
        fails(&real, 1, &["credential", "put", "y"], odd, "--as-is");
    }
    real.binary.ok(&["credential", "put", "x", "--as-is"], "Bearer sk-live-0123456789");
    real.binary.ok(&["credential", "rotate", "x", "--as-is"], "sk-live-0123456789 ");
    fails(&real, 1, &["credential", "rotate", "x"], "sk-live-0123456789 ", "--as-is");
    fails(&real, 1, &["credential", "put", "y", "--as-is"], "short        ", "--allow-short");
    fails(&real, 1, &["credential", "put", "y"], &"a".repeat(20_000), "larger than");
    fails(&real, 1, &["credential", "put", "Y!"], SECRET, "is no credential name");
    fails(&real, 1, &["credential", "put", "y", "--from-file", "/nowhere"], "", "/nowhere cannot be read");
    fails(&real, 1, &["credential", "rotate", "y"], SECRET, "no credential 'y'");
    fails(&real, 2, &["credential", "put", "y", SECRET], "", "unexpected argument");
    let list = real.binary.json(&["credential", "list"], "");
    assert_eq!(list["credentials"].as_array().unwrap().len(), 2, "{list}");
    let people = real.binary.ok(&["credential", "list"], "");
    assert!(people.contains("crm-key") && people.contains("2, 3"), "{people}");
    assert!(!people.contains("sk-") && !list.to_string().contains("sk-"));

    real.binary.json(&["credential", "revoke", "crm-key", "--reason", "leaked"], "");
    let before = upstream.seen().len();
    assert!(real.call_status("/crm/v1/contacts", &token).await >= 400);
    fails(&real, 1, &["credential", "put", "crm-key"], SECRET, "remove it first");
    real.binary.json(&["credential", "remove", "crm-key"], "");
    assert!(real.call_status("/crm/v1/contacts", &token).await >= 400);
    assert_eq!(upstream.seen().len(), before);
    fails(&real, 1, &["credential", "remove", "crm-key"], "", "no credential");
    real.binary.ok(&["credential", "put", "crm-key"], SECRET);
    assert_eq!(injected().await, (200, SECRET.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrap_while_serving_and_after_an_interruption() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let upstream = Upstream::echo().await;
        let Some(mut real) = Real::init(engine) else { continue };
        let agent = real.with_crm(&upstream.url(), SECRET);
        real.binary.ok(&["key", "rotate"], "");
        real.binary.ok(&["credential", "rotate", "crm-key"], "sk-second-0123456789");
        let token = real.token(&agent).await;
        let keys = real.binary.dir.path().join("keys");
        let old = std::fs::read_to_string(keys.join("master.key")).unwrap();
        let done = real.binary.json(&["credential", "rewrap"], "");
        // Two versions, three signing keys, three secrets of the broker.
        assert_eq!(done["rewrapped"], 9, "{done}");
        let new = std::fs::read_to_string(keys.join("master.key")).unwrap();
        assert_ne!(old, new);
        assert!(!keys.join("master.key.next").exists());
        let kept = keys.join(format!("master.key.old-{}", done["old_master_key"].as_str().unwrap()));
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), old);
        let mode = std::fs::metadata(keys.join("master.key")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let works = async |real: &Real| {
            assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 200);
            assert_eq!(upstream.seen().last().unwrap().headers["x-api-key"], "sk-second-0123456789");
            real.token(&agent).await;
            real.binary.ok(&["key", "rotate"], "");
        };
        works(&real).await;
        std::fs::remove_file(&kept).unwrap();
        real.binary.kill();
        real.binary.serve(None);
        assert_eq!(real.binary.json(&["status"], "")["master_key"], done["master_key"]);
        works(&real).await;

        // Interrupted: the new key is written beside the old one, some rows are under it, and the process is gone.
        real.binary.kill();
        let other = Binary::init(None);
        std::fs::copy(other.dir.path().join("keys/master.key"), keys.join("master.key.next")).unwrap();
        real.binary.serve(None);
        let next = real.binary.json(&["status"], "")["master_key"].clone();
        assert_ne!(next, done["master_key"]);
        assert!(!keys.join("master.key.next").exists());
        works(&real).await;
        // And before the files could be renamed: everything is under the new key already, the old one is gone or not.
        real.binary.kill();
        std::fs::rename(keys.join("master.key"), keys.join("master.key.next")).unwrap();
        real.binary.serve(None);
        assert_eq!(real.binary.json(&["status"], "")["master_key"], next);
        works(&real).await;
        fails(&real, 1, &["credential", "rewrap", "--new-key-file", "-"], &new, "leave it out");
        assert!(real.binary.ok(&["credential", "rewrap"], "").contains("back it up now"));
        works(&real).await;
        assert!(real.binary.terminate().success());
        let (code, text) = real.verify(&[]);
        assert_eq!(code, 0, "{text}");
        assert!(!text.contains("not at hand"), "{text}");
    }
}

/// P6: what lies in the database opens for nobody else, nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_or_shuffled_database_is_no_use() {
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let agent = real.with_crm(&upstream.url(), SECRET);
    let other_secret = "sk-other-0123456789abcdef";
    real.binary.ok(&["credential", "put", "other-key"], other_secret);
    let token = real.token(&agent).await;
    assert!(real.binary.terminate().success());

    let serve = |dir: &std::path::Path| hallpass(&dir.join("hallpass.toml"), &["serve", "--listen", "127.0.0.1:0"]);
    let copy = || {
        let dir = tempfile::tempdir().unwrap();
        copy_folder(real.binary.dir.path(), dir.path());
        dir
    };
    let stolen = copy();
    std::fs::remove_dir_all(stolen.path().join("keys")).unwrap();
    let (code, text) = serve(stolen.path());
    assert!(code == 1 && text.contains("master.key") && text.contains("backup"), "without keys: {text}");
    std::fs::create_dir(stolen.path().join("keys")).unwrap();
    let own = Binary::init(None);
    std::fs::copy(own.dir.path().join("keys/master.key"), stolen.path().join("keys/master.key")).unwrap();
    let (code, text) = serve(stolen.path());
    assert!(code == 1 && text.contains("does not open with this master key"), "with another key: {text}");
    let key = stolen.path().join("keys/master.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, text) = serve(stolen.path());
    assert!(code == 1 && text.contains("chmod 600") && text.contains("644"), "{text}");
    for bad in ["", "hp_mk_short", "something else"] {
        std::fs::remove_file(&key).unwrap();
        std::fs::write(&key, bad).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (code, text) = serve(stolen.path());
        assert!(code == 1 && text.contains("master") && text.contains("key"), "{bad:?}: {text}");
        assert!(bad.is_empty() || !text.contains(bad), "{text}");
    }

    // Ciphertext moved to another row: the attacker's own upstream is not told the secret of another.
    let sealed = "SELECT hex(wrapped_key) || ':' || hex(ciphertext) FROM credential_versions ORDER BY credential_id";
    let before = texts(&real.database, sealed).await;
    for columns in [&["wrapped_key", "ciphertext"][..], &["ciphertext"], &["wrapped_key"]] {
        let set = |n: usize, from: usize| {
            let of = |text: &str, n: usize| text.split(':').nth(n).unwrap().to_owned();
            let values: Vec<String> = columns
                .iter()
                .map(|column| format!("{column} = x'{}'", of(&before[from], usize::from(*column == "ciphertext"))))
                .collect();
            format!(
                "UPDATE credential_versions SET {} WHERE credential_id = \
                 (SELECT credential_id FROM credential_versions ORDER BY credential_id LIMIT 1 OFFSET {n})",
                values.join(", ")
            )
        };
        execute(&real.database, &format!("{};\n{}", set(0, 1), set(1, 0))).await;
        real.binary.serve(None);
        let seen = upstream.seen().len();
        let answer = real.call("/crm/v1/contacts", &token).await.unwrap();
        assert!(answer.status().is_server_error(), "{columns:?}: {}", answer.status());
        let text = answer.text().await.unwrap();
        assert!(!text.contains(SECRET) && !text.contains(other_secret), "{text}");
        assert_eq!(upstream.seen().len(), seen, "nothing was sent");
        assert!(real.binary.terminate().success());
        execute(&real.database, &format!("{};\n{}", set(0, 0), set(1, 1))).await;
    }
    assert_eq!(texts(&real.database, sealed).await, before);
    real.binary.serve(None);
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 200);
    let log = std::fs::read_to_string(real.binary.log_file()).unwrap();
    assert!(!log.contains(SECRET) && !log.contains(other_secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_shows_changes_and_is_idempotent() {
    let mut real = Real::init(Engine::Sqlite).unwrap();
    real.binary.serve(None);
    let records = async || log::count(&real.database, &[]).await;
    let document = format!(
        "{}agents: [ {{ name: helpdesk, roles: [support] }} ]\n\
         resources: [ {{ name: orders, audience: \"https://orders.example.com\", scopes: [orders.read] }} ]\n",
        crm_document("http://127.0.0.1:9")
    );
    let before = records().await;
    let dry = real.binary.json(&["apply", "-f", "-", "--dry-run"], &document);
    assert_eq!((&dry["applied"], dry["changes"].as_array().unwrap().len()), (&false.into(), 4), "{dry}");
    assert!(real.binary.ok(&["apply", "-f", "-", "--dry-run"], &document).contains("nothing was changed"));
    assert_eq!(
        (records().await, real.binary.json(&["upstream", "list"], "")["upstreams"].clone()),
        (before, json!([]))
    );

    let file = real.binary.dir.path().join("document.yaml");
    std::fs::write(&file, &document).unwrap();
    let file = file.display().to_string();
    let text = real.binary.ok(&["apply", "-f", &file], "");
    assert!(text.contains("create upstream 'crm'") && text.contains("4 changed"), "{text}");
    let after = records().await;
    assert_eq!(after, before + 4);
    assert!(real.binary.ok(&["apply", "-f", &file], "").contains("nothing to change"));
    let again = real.binary.json(&["apply", "-f", &file], "");
    assert_eq!((&again["applied"], &again["changes"]), (&false.into(), &json!([])));
    assert_eq!(records().await, after);

    let text = real.binary.ok(&["apply", "-f", "-"], &document.replace("127.0.0.1:9", "127.0.0.1:10"));
    assert!(text.contains("change upstream 'crm'") && text.contains("1 changed"), "{text}");
    assert!(text.contains("-  \"base_url\": \"http://127.0.0.1:9\"") && text.contains("+  \"base_url\""), "{text}");
    // What a document does not name stays.
    real.binary.ok(&["apply", "-f", "-"], "roles: [ { name: more, scopes: [\"orders:orders.read\"] } ]");
    assert_eq!(real.binary.json(&["role", "list"], "")["roles"].as_array().unwrap().len(), 2);
    fails(&real, 1, &["apply", "-f", "/nowhere.yaml"], "", "/nowhere.yaml cannot be read");
    let ca = document.replace("allow_private: true", "allow_private: true\n    ca_file: nowhere.pem");
    fails(&real, 1, &["apply", "-f", "-"], &ca.replace("http://", "https://"), "nowhere.pem cannot be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_document_changes_nothing_and_says_where_what_and_how() {
    let mut real = Real::init(Engine::Sqlite).unwrap();
    real.binary.serve(None);
    let good = "upstreams:\n  - name: crm\n    base_url: https://crm.example.com\n    inject: { kind: bearer, credential: k }\n    \
                operations: [ { id: one, methods: [GET], path: /v1, scope: read } ]\nresources: [ { name: orders, audience: \"https://o.example.com\", scopes: [x] } ]\n\
                roles: [ { name: r, scopes: [\"crm:read\"] } ]\nagents: [ { name: a, roles: [r] } ]\n";
    let op = "{ id: one, methods: [GET], path: /v1, scope: read }";
    let inject = "{ kind: bearer, credential: k }";
    let with_op = |text: &str| (op.to_owned(), text.to_owned());
    let with_inject = |text: &str| (inject.to_owned(), text.to_owned());
    let with = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let cases: Vec<((String, String), &str)> = vec![
        // Wrong types and unknown fields, at each level.
        (with("upstreams:\n", "upstreams: 7\nx:\n"), "document"),
        (with("roles: [ {", "rolls: [ {"), "rolls"),
        (with("name: crm", "name: [crm]"), "document"),
        (with("base_url: https://crm.example.com", "base_url: { a: b }"), "document"),
        (with("base_url: https://crm.example.com", "baseurl: https://crm.example.com"), "baseurl"),
        (with("    inject", "    allow_private: maybe\n    inject"), "document"),
        (with("    inject", "    allow_range: 7\n    inject"), "document"),
        (with("    inject", "    timeouts: 5\n    inject"), "document"),
        (with("    inject", "    timeouts: { connect_seconds: soon }\n    inject"), "document"),
        (with("    inject", "    timeouts: { seconds: 5 }\n    inject"), "seconds"),
        (with("    inject", "    limits: { max_request_bytes: -1 }\n    inject"), "document"),
        (with("    inject", "    limits: { max: 1 }\n    inject"), "max"),
        (with("    inject", "    ca_file: [x]\n    inject"), "document"),
        (with(op, "7"), "document"),
        (with_op("{ id: one, methods: GET, path: /v1, scope: read }"), "document"),
        (with_op("{ id: one, methods: [GET], path: 7, scope: [read] }"), "document"),
        (with_op("{ id: one, methods: [GET], path: /v1 }"), "scope"),
        (with_op("{ id: one, methods: [GET], path: /v1, scope: read, x: 1 }"), "x"),
        (with_inject("{ kind: magic, credential: k }"), "magic"),
        (with_inject("{ kind: bearer }"), "credential"),
        (with_inject("{ kind: bearer, credential: k, value: sk-1 }"), "value"),
        (with_inject("bearer"), "document"),
        (with("audience: \"https://o.example.com\"", "audience: [1]"), "document"),
        (with("scopes: [x]", "scopes: x"), "document"),
        (with("scopes: [\"crm:read\"]", "scopes: { a: b }"), "document"),
        (with("roles: [r]", "roles: r"), "document"),
        (with("roles: [r] }", "roles: [r], secret: x }"), "secret"),
        (with("name: a,", "name: a, name: b,"), "document"),
        (with("agents: [", "agents: [ {"), "document"),
        // What the type does not say.
        (with("name: crm", "name: Crm!"), "upstreams[0].name"),
        (with("name: crm", "name: hallpass"), "upstreams[0].name"),
        (with("https://crm.example.com", "ftp://crm.example.com"), "upstreams[0].base_url"),
        (with("https://crm.example.com", "https://u:p@crm.example.com"), "upstreams[0].base_url"),
        (with("https://crm.example.com", "https://crm.example.com/?a=b"), "upstreams[0].base_url"),
        (with("https://crm.example.com", "https://crm.example.com/a/../b"), "upstreams[0].base_url"),
        (with("https://crm.example.com", "https://0x7f000001/"), "upstreams[0].base_url"),
        (with("https://crm.example.com", "http://169.254.169.254"), "upstreams[0].base_url"),
        (with("https://crm.example.com", "crm"), "upstreams[0].base_url"),
        (with("    inject", "    timeouts: { connect_seconds: 0 }\n    inject"), "timeouts.connect_seconds"),
        (with("    inject", "    timeouts: { idle_seconds: 3601 }\n    inject"), "timeouts.idle_seconds"),
        (with("    inject", "    limits: { max_response_bytes: 0 }\n    inject"), "limits.max_response_bytes"),
        (with("    inject", "    ca_pem: x\n    inject"), "ca_pem"),
        (with_inject("{ kind: bearer, credential: K! }"), "inject.credential"),
        (with_inject("{ kind: bearer, credential: k@0 }"), "inject.credential"),
        (with_inject("{ kind: header, name: Host, credential: k }"), "inject.name"),
        (with_inject("{ kind: header, name: \"a b\", credential: k }"), "inject.name"),
        (with_inject("{ kind: header, name: X-K, prefix: \"\\n\", credential: k }"), "inject.prefix"),
        (with_inject("{ kind: basic, username: \"a:b\", credential: k }"), "inject.username"),
        (with_inject("{ kind: query, name: \"a&b\", credential: k }"), "inject.name"),
        (with(&format!("[ {op} ]"), "[]"), "upstreams[0].operations"),
        (with_op(&format!("{op}, {}", op.replace("GET", "POST"))), "operations[1].id"),
        (with_op(&format!("{op}, {}", op.replace("one", "two"))), "operations[1].path"),
        (with_op(&op.replace("one", "ONE")), "operations[0].id"),
        (with_op(&op.replace("GET", "CONNECT")), "operations[0].methods"),
        (with_op(&op.replace("GET", "TRACE")), "operations[0].methods"),
        (with_op(&op.replace("GET", "get")), "operations[0].methods"),
        (with_op(&op.replace("[GET]", "[]")), "operations[0].methods"),
        (with_op(&op.replace("/v1", "/v1/../x")), "dot segment"),
        (with_op(&op.replace("/v1", "v1")), "slash"),
        (with_op(&op.replace("/v1", "\"/v1/x{id}\"")), "whole segment"),
        (with_op(&op.replace("/v1", "\"/v1?x=1\"")), "query"),
        (with_op(&op.replace("scope: read", "scope: \"a:b\"")), "operations[0].scope"),
        (with_op(&op.replace("scope: read", "scope: \"a b\"")), "operations[0].scope"),
        (with("name: orders", "name: crm"), "resources[0].name"),
        (with("name: orders", "name: O"), "resources[0].name"),
        (with("https://o.example.com", "o"), "resources[0].audience"),
        (with("https://o.example.com", "https://o.example.com/#x"), "resources[0].audience"),
        (with("scopes: [x]", "scopes: [\"a b\"]"), "resources[0].scopes[0]"),
        (with("crm:read", "crm:write"), "roles[0].scopes[0]"),
        (with("crm:read", "nope:read"), "roles[0].scopes[0]"),
        (with("name: r,", "name: R!,"), "roles[0].name"),
        (with("roles: [ {", "roles: [ { name: r, scopes: [] }, {"), "roles[1].name"),
        (with("agents: [ {", "agents: [ { name: a, roles: [] }, {"), "agents[1].name"),
        (with("roles: [r]", "roles: [nope]"), "agents[0].roles[0]"),
        (with("name: a,", "name: \"a b\","), "agents[0].name"),
    ];
    let state = async || {
        let rows = texts(&real.database, "SELECT kind || name || body FROM definitions").await;
        (rows, log::count(&real.database, &[]).await)
    };
    let before = state().await;
    for ((from, to), words) in cases {
        let document = good.replacen(&from, &to, 1);
        assert_ne!(document, good, "{from}");
        let (code, text) = run(&real, &["apply", "-f", "-"], &document);
        assert_eq!(code, 1, "{to}: {text}");
        assert!(text.contains(words), "{to}: {text}");
        assert!(text.contains("nothing was changed") && text.contains("; "), "{to}: {text}");
    }
    for document in ["", "   \n", "[", "just a text", "- 1\n- 2", "upstreams: &a [*a]"] {
        let (code, text) = run(&real, &["apply", "-f", "-"], document);
        assert!(code == 1 && text.contains("nothing was changed"), "{document:?}: {text}");
    }
    assert_eq!(state().await, before);
    // Several at once are all told, and the text that all of them were made from is good.
    let many = good.replace("GET", "CONNECT").replace("crm:read", "crm:no").replace("[r]", "[s]");
    let (_, text) = run(&real, &["apply", "-f", "-"], &many);
    assert!(text.contains("3 mistakes"), "{text}");
    assert!(real.binary.ok(&["apply", "-f", "-"], good).contains("4 changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_http2() {
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let agent = real.with_crm(&upstream.url(), SECRET);
    let token = real.token(&agent).await;

    // Without TLS: HTTP/2 by prior knowledge.
    let plain = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let url = |real: &Real| format!("{}/exchange/crm/v1/contacts", real.binary.public);
    let answer = plain.get(url(&real)).bearer_auth(&token).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    assert!(real.binary.terminate().success());

    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let keys = real.binary.dir.path().join("keys");
    std::fs::write(keys.join("tls.crt"), &cert).unwrap();
    std::fs::write(keys.join("tls.key"), key).unwrap();
    real.binary.set("HALLPASS_TLS__CERT_FILE", "keys/tls.crt");
    real.binary.set("HALLPASS_TLS__KEY_FILE", "keys/tls.key");
    std::fs::set_permissions(keys.join("tls.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, text) = run(&real, &["serve", "--listen", "127.0.0.1:0"], "");
    assert!(code == 1 && text.contains("tls.key_file") && text.contains("chmod 600"), "{text}");
    std::fs::set_permissions(keys.join("tls.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    real.binary.serve(None);
    assert!(real.binary.public.starts_with("https://"), "{}", real.binary.public);

    let root = || reqwest::Certificate::from_pem(cert.as_bytes()).unwrap();
    let both = reqwest::Client::builder().tls_certs_only([root()]);
    let one = reqwest::Client::builder().tls_certs_only([root()]).http1_only();
    for (client, version) in [(both, http::Version::HTTP_2), (one, http::Version::HTTP_11)] {
        let client = client.build().unwrap();
        for _ in 0..2 {
            let answer = client.get(url(&real)).bearer_auth(&token).send().await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
            assert!(!answer.text().await.unwrap().contains(SECRET));
        }
        let request = client.post(format!("{}/oauth2/token", real.binary.public)).basic_auth(&agent.0, Some(&agent.1));
        let answer = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    }
    assert!(real.http.get(url(&real)).send().await.is_err(), "a client that does not know the certificate");
    let cleartext = url(&real).replace("https", "http");
    assert!(real.http.get(cleartext).send().await.is_err(), "no plain HTTP on the same port");
    assert!(real.binary.terminate().success());
}
