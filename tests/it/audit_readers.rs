//! The log in the hands of those who read it: filters, an export that proves itself, and what an admin's change says.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::real::crm_document;
use crate::support::{Binary, Upstream};

async fn scene() -> (Binary, Upstream) {
    let upstream = Upstream::echo().await;
    let mut binary = Binary::init(None);
    binary.serve(None);
    binary.ok(&["apply", "-f", "-"], &crm_document(&upstream.url()));
    binary.ok(&["credential", "put", "crm-key"], "sk-live-0123456789abcdef");
    binary.ok(&["agent", "register", "helpdesk", "--role", "support"], "");
    (binary, upstream)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn fails(binary: &Binary, arguments: &[&str], input: &str) -> String {
    let output = binary.run(arguments, input);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_verified_without_the_database_and_the_broker() {
    let (mut binary, _upstream) = scene().await;
    let checkpoint = binary.dir.path().join("checkpoint.jwt");
    std::fs::write(&checkpoint, binary.ok(&["audit", "checkpoint"], "")).unwrap();
    let jwks = binary.dir.path().join("jwks.json");
    let http = crate::support::broker::client();
    let keys = http.get(format!("{}/.well-known/jwks.json", binary.public)).send().await.unwrap().text().await.unwrap();
    std::fs::write(&jwks, keys).unwrap();
    let log = binary.ok(&["audit", "export"], "");
    binary.terminate();
    std::fs::remove_dir_all(binary.dir.path().join("data")).unwrap();

    let file = binary.dir.path().join("log.jsonl");
    std::fs::write(&file, &log).unwrap();
    let (file, jwks, checkpoint) = (file.to_str().unwrap(), jwks.to_str().unwrap(), checkpoint.to_str().unwrap());
    let count = i64::try_from(log.lines().count()).unwrap();
    let report = binary.json(&["audit", "verify", file], "");
    assert_eq!((&report["ok"], &report["records"]), (&json!(true), &json!(count)), "{report}");
    let with = ["audit", "verify", file, "--jwks", jwks, "--checkpoint", checkpoint];
    let report = binary.json(&with, "");
    assert_eq!((&report["nodes"][0]["first"], &report["nodes"][0]["checkpoints"]), (&json!(1), &json!(1)), "{report}");
    // From standard input, too; and a part of a log, as one with --since is.
    binary.ok(&["audit", "verify", "-"], &log);
    let part: String = log.lines().skip(2).map(|line| format!("{line}\n")).collect();
    let report = binary.json(&["audit", "verify", "-", "--jwks", jwks, "--checkpoint", checkpoint], &part);
    assert_eq!((&report["nodes"][0]["first"], &report["records"]), (&json!(3), &json!(count - 2)), "{report}");

    // A checkpoint without keys to check it by says nothing.
    let output = binary.run(&["audit", "verify", file, "--checkpoint", checkpoint], "");
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Vec<&str> = log.lines().collect();
    let without =
        |n: usize| all.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, l)| format!("{l}\n")).collect::<String>();
    let said = fails(&binary, &["audit", "verify", "-"], &without(2));
    assert!(said.contains("record 3: it is missing"), "{said}");
    let said = fails(&binary, &["audit", "verify", "-"], &log.replacen("crm-key", "crm-kex", 1));
    assert!(said.contains("it was replaced"), "{said}");
    let said = fails(&binary, &["audit", "verify", "-"], "");
    assert!(said.contains("is empty"), "{said}");
    let said = fails(&binary, &["audit", "verify", "-"], "{\"no\":\"record\"}\n");
    assert!(said.contains("line 1 of - is no audit record"), "{said}");
    let cut: String = all.iter().take(2).map(|line| format!("{line}\n")).collect();
    let said = fails(&binary, &["audit", "verify", "-", "--jwks", jwks, "--checkpoint", checkpoint], &cut);
    assert!(said.contains("cut off"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_by_time_agent_upstream_and_decision() {
    let (binary, _upstream) = scene().await;
    let agent = binary.json(&["agent", "show", "helpdesk"], "");
    let secret = binary.json(&["agent", "rotate-secret", "helpdesk"], "");
    let http = crate::support::broker::client();
    let request = http.post(format!("{}/oauth2/token", binary.public));
    let id = agent["client_id"].as_str().unwrap();
    let request = request.basic_auth(id, secret["client_secret"].as_str());
    let token: Value =
        request.form(&[("grant_type", "client_credentials")]).send().await.unwrap().json().await.unwrap();
    for path in ["/v1/contacts", "/v1/nothing"] {
        let request = http.get(format!("{}/exchange/crm{path}", binary.public));
        request.bearer_auth(token["access_token"].as_str().unwrap()).send().await.unwrap().bytes().await.unwrap();
    }
    let export = |arguments: &[&str]| lines(&binary.ok(&[&["audit", "export"], arguments].concat(), ""));
    assert!(export(&["--upstream", "crm", "--decision", "deny"]).iter().all(|one| one["kind"] == "call.refused"));
    assert_eq!(export(&["--upstream", "crm", "--decision", "allow"]).len(), 1);
    assert!(export(&["--upstream", "shop"]).is_empty());
    assert!(export(&["--agent", "helpdesk"]).iter().all(|one| one["agent"] == id));
    assert!(!export(&["--since", "1h"]).is_empty() && export(&["--until", "1h"]).is_empty());
    assert!(export(&["--since", "2100-01-01"]).is_empty() && !export(&["--since", "2020-01-01"]).is_empty());
    let output = binary.run(&["audit", "export", "--since", "yesterday"], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("2026-01-31"), "{said}");

    let tail = binary.ok(&["audit", "tail", "-n", "1", "--decision", "deny"], "");
    assert!(tail.lines().count() == 1 && tail.contains("/v1/nothing"), "{tail}");
    let all = binary.ok(&["audit", "export"], "").lines().count();
    assert_eq!(binary.ok(&["audit", "tail", "--since", "1h"], "").lines().count(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admins_change_says_what_was_there_and_what_is_there_now() {
    let (mut binary, upstream) = scene().await;
    let last = |binary: &Binary| lines(&binary.ok(&["audit", "export"], "")).pop().unwrap();
    binary.ok(&["credential", "rotate", "crm-key"], "sk-live-fedcba9876543210");
    let record = last(&binary);
    assert_eq!(record["before"], json!({ "versions": [1] }), "{record}");
    assert_eq!(record["after"], json!({ "versions": [1, 2] }), "{record}");
    binary.ok(&["apply", "-f", "-"], "roles: [ { name: support, scopes: [\"crm:any\"] } ]");
    let record = last(&binary);
    assert_eq!(record["before"], json!({ "scopes": ["crm:contacts.read", "crm:any"] }), "{record}");
    assert_eq!(record["after"], json!({ "scopes": ["crm:any"] }), "{record}");
    binary.ok(&["agent", "suspend", "helpdesk", "--reason", "odd"], "");
    let record = last(&binary);
    assert_eq!((&record["before"]["status"], &record["after"]["status"]), (&json!("active"), &json!("suspended")));
    let other =
        crm_document(&upstream.url()).replace("allow_private: true", "allow_private: true\n    allow_range: true");
    binary.ok(&["apply", "-f", "-"], &other.replace(", \"crm:contacts.read\"", ""));
    let records = lines(&binary.ok(&["audit", "export"], ""));
    let record = records.iter().rfind(|record| record["object"] == "crm").unwrap();
    assert_eq!((record["before"].clone(), &record["after"]), (json!({}), &json!({ "allow_range": true })), "{record}");

    // The start and the end of the broker are in its log.
    binary.terminate();
    let records = lines(&binary.ok(&["audit", "export"], ""));
    assert_eq!((&records[0]["kind"], &records.last().unwrap()["action"]), (&json!("broker"), &json!("stop")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logged_in_and_became_root_is_named() {
    let (binary, _upstream) = scene().await;
    // What `login` and sshd do for a person; it takes a privilege that few processes have.
    let script = "echo 4242 > /proc/self/loginuid && exec \"$0\" agent resume helpdesk --config \"$1\"";
    let mut command = Command::new("sh");
    let output = command.args(["-c", script, env!("CARGO_BIN_EXE_hallpass")]).arg(binary.config()).output().unwrap();
    if !output.status.success() {
        println!("this process may not set a login's user: not tried");
        return;
    }
    let record = lines(&binary.ok(&["audit", "export"], "")).pop().unwrap();
    assert_eq!(record["admin"], "uid:0 from uid:4242", "{record}");
}
