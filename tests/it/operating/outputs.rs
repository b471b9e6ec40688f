//! Output that cannot be written is not reported as done, and a secret that was not shown is not set.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::real::{Real, until};
use crate::support::{Binary, Engine, Upstream};

/// Where nothing can be written.
#[derive(Debug, Clone, Copy)]
enum To {
    FullDisk,
    NoReader,
}

/// The command with its standard output there: exit code, and what it said to standard error.
fn into(broker: &Binary, arguments: &str, to: To) -> (i32, String) {
    let stdout: Stdio = match to {
        To::FullDisk => std::fs::File::options().write(true).open("/dev/full").unwrap().into(),
        // The other end is gone when this returns.
        To::NoReader => std::io::pipe().unwrap().1.into(),
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
    command.args(arguments.split(' ')).env("HALLPASS_CONFIG", broker.config()).stdin(Stdio::null()).stdout(stdout);
    let command =
        command.env("XDG_CONFIG_HOME", broker.dir.path()).env_remove("HALLPASS_SERVER").stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_notices() {
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let upstream = Upstream::echo().await;
    real.with_crm(&upstream.url(), "sk-live-0123456789abcdef");
    let broker = &real.binary;
    for arguments in [
        "audit export",
        "audit tail",
        "audit tail -f",
        "audit verify",
        "audit checkpoint",
        "status",
        "status --json",
        "agent list",
        "agent show helpdesk",
        "agent ca",
        "agent suspend helpdesk",
        "agent resume helpdesk",
        "session list",
        "upstream list",
        "upstream show crm",
        "upstream test crm",
        "role list",
        "role show support",
        "credential list",
        "key list",
        "--help",
        "audit export --help",
        "--version",
    ] {
        let (code, text) = into(broker, arguments, To::FullDisk);
        assert!(code == 1 && text.contains("standard output cannot be written"), "{arguments}: {code}: {text}");
        // A reader who has had enough is none of our business; nor is it that nobody wants to see anything.
        let (code, text) = into(broker, arguments, To::NoReader);
        assert!(code == 0 && text.is_empty(), "{arguments}: {code}: {text}");
    }
    // What fails anyway says why, and not that nobody could read it.
    let (code, text) = into(broker, "agent show nobody", To::FullDisk);
    assert!(code == 1 && text.contains("no agent 'nobody'"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_not_shown_is_not_set() {
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let upstream = Upstream::echo().await;
    let agent = real.with_crm(&upstream.url(), "sk-live-0123456789abcdef");
    let broker = &real.binary;
    let secrets = || broker.json(&["agent", "show", "helpdesk"], "")["secrets"].clone();
    let before = secrets();
    for to in [To::FullDisk, To::NoReader] {
        for json in ["", " --json"] {
            let (code, text) = into(broker, &format!("agent register bot --role support{json}"), to);
            assert!(code == 1 && text.contains("bot is not registered"), "{to:?}: {code}: {text}");
            let (code, text) = into(broker, &format!("agent rotate-secret helpdesk --grace 0{json}"), to);
            assert!(code == 1 && text.contains("keeps the secret that it has"), "{to:?}: {code}: {text}");
        }
    }
    assert_eq!(broker.json(&["agent", "list"], "")["agents"].as_array().unwrap().len(), 1);
    assert_eq!(secrets(), before);
    assert_eq!(real.token_request(&agent, &[]).await.unwrap().0, 200);
    assert!(!broker.ok(&["audit", "export"], "").contains("rotate-secret"), "nothing was done");
    // Shown, it works, and programs see nothing of how.
    let answer = broker.json(&["agent", "rotate-secret", "helpdesk", "--grace", "0"], "");
    assert!(answer["hold"].is_null() && answer["client_secret"].is_string(), "{answer}");
    assert_eq!(real.token_request(&agent, &[]).await.unwrap().0, 401, "the old one is over");
    let agent = crate::support::real::Client(agent.0, answer["client_secret"].as_str().unwrap().to_owned());
    assert_eq!(real.token_request(&agent, &[]).await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_had_it_held_brings_a_secret_into_force_and_only_once() {
    let broker = crate::support::TestBroker::start().await;
    let body = serde_json::json!({ "name": "bot", "hold": true });
    let answer = broker.admin_ok("POST", "/admin/v1/agents", body.clone()).await;
    let (hold, id) = (answer["hold"].as_str().unwrap(), answer["client_id"].as_str().unwrap().to_owned());
    let secret = answer["client_secret"].as_str().unwrap().to_owned();
    let agent = crate::support::broker::TestAgent { client_id: id, client_secret: secret };
    assert_eq!(broker.token_request(&agent, &[]).await.0, 401, "it is not in force");
    let confirm = format!("/admin/v1/held/{hold}/confirm");
    let second = broker.admin_ok("POST", "/admin/v1/agents", body).await;
    broker.admin_ok("POST", &confirm, Value::Null).await;
    assert_ne!(broker.token_request(&agent, &[]).await.0, 401);
    assert_eq!(broker.admin("POST", &confirm, Value::Null).await.0, 404);
    let taken = format!("/admin/v1/held/{}/confirm", second["hold"].as_str().unwrap());
    assert_eq!(broker.admin("POST", &taken, Value::Null).await.0, 409, "the name is taken meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_fails_status_and_counts_no_revocation() {
    use sqlx::{ConnectOptions as _, Executor as _};
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let upstream = Upstream::echo().await;
    real.with_crm(&upstream.url(), "sk-live-0123456789abcdef");
    let metric = async |name: &str| {
        let answer = real.http.get(format!("{}/metrics", real.binary.ops)).send().await.unwrap().text().await.unwrap();
        answer.lines().find(|line| line.starts_with(name)).map(str::to_owned)
    };
    let file = real.binary.dir.path().join("data/hallpass.db");
    let mut lock = sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    lock.execute("BEGIN EXCLUSIVE").await.unwrap();
    let revoke = ["agent", "revoke", "helpdesk"];
    assert_eq!(real.binary.run(&revoke, "").status.code(), Some(1));
    assert_eq!(metric("hallpass_revocations_total").await, None, "it failed");
    for arguments in [&["status"][..], &["status", "--json"]] {
        let output = real.binary.run(arguments, "");
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{out}");
        assert!(out.contains("audit_log_writable") && error.contains("cannot be written"), "{out}{error}");
    }
    lock.execute("ROLLBACK").await.unwrap();
    until("it recovers by itself", 20, async || real.binary.run(&["status"], "").status.success()).await;
    assert!(real.binary.run(&revoke, "").status.success());
    assert_eq!(
        metric("hallpass_revocations_total{kind=\"agent\"}").await.unwrap(),
        "hallpass_revocations_total{kind=\"agent\"} 1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_they_are_and_histograms_stay_when_nobody_calls() {
    let mut real = Real::init(Engine::Sqlite).unwrap();
    real.binary.set("HALLPASS_LOG__FORMAT", "json");
    let upstream = Upstream::echo().await;
    let agent = real.with_crm(&upstream.url(), "sk-live-0123456789abcdef");
    let token = real.token(&agent).await;
    assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 200);
    let text =
        async || real.http.get(format!("{}/metrics", real.binary.ops)).send().await.unwrap().text().await.unwrap();
    until("the call is over", 10, async || text().await.contains("hallpass_call_seconds_count 1")).await;
    let text = text().await;
    assert!(text.contains("hallpass_call_seconds_bucket{le=\"+Inf\"} 1") && !text.contains("quantile"), "{text}");
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no HELP");
    }
}

/// Standard output and error often go to one place.
#[test]
fn the_ready_line_is_json_where_the_log_is() {
    let broker = Binary::init(None);
    std::fs::write(broker.config(), "[log]\nformat = \"json\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("HALLPASS_CONFIG", broker.config());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["ready"] == true && line["level"] == "INFO" && line["timestamp"].is_string(), "{line}");
}
