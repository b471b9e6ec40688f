//! `hallpass quickstart`: the story holds, tells everything, keeps its secret, and leaves nothing behind.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The command, with a temporary folder of its own: what it leaves there is seen.
fn quickstart(tmp: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
    command.arg("quickstart").args(arguments).env("TMPDIR", tmp).stdin(Stdio::null());
    command.env_remove("HALLPASS_CONFIG").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn short_folder() -> TempDir {
    // The admin socket lies inside, and a socket's path has room for about 100 bytes.
    tempfile::Builder::new().prefix("qs-").tempdir_in("/tmp").unwrap()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn once_tells_every_step_and_leaves_nothing_behind() {
    let tmp = short_folder();
    let output = quickstart(tmp.path(), &["--once"]).output().unwrap();
    let (told, complaint) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}{complaint}");
    assert_eq!(complaint, "");
    for part in [
        "without its key the API answers 401",
        "agent         helpdesk, client id ag_",
        "scope      crm:contacts.read",
        "the API confirms: it saw its real key",
        "[redacted by hallpass]",
        "Ada Lovelace",
        "the key is in no form",
        "403 insufficient_scope",
        "403 operation_not_allowed",
        "401 agent_revoked",
        "milliseconds",
        "call.intent   helpdesk allow crm GET /v1/contacts",
        "call.outcome  helpdesk crm GET /v1/contacts 200",
        "revoked helpdesk",
        "each with the hash of the one before: whole",
    ] {
        assert!(told.contains(part), "'{part}' is missing in:\n{told}");
    }
    assert!(!told.contains('\x1b'), "colours in a pipe");
    assert!(!told.contains("demo_sk_"), "the planted key was told:\n{told}");
    assert!(!told.contains("hp_cs_"), "the agent's secret was told:\n{told}");
    assert!(is_empty(tmp.path()), "something was left behind");
}

#[test]
fn once_as_json_has_a_line_per_step() {
    let tmp = short_folder();
    let output = quickstart(tmp.path(), &["--once", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let steps: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["stage", "admin", "token", "call", "refused", "revoked", "audit"]);
    for step in &steps {
        assert_eq!(step["ok"], true);
        assert!(!step["held"].as_array().unwrap().is_empty(), "{step}");
    }
    assert!(steps[5]["facts"]["milliseconds"].as_f64().unwrap() > 0.0);
    assert!(!text(&output.stdout).contains("demo_sk_"));
}

#[test]
fn where_it_cannot_work_it_says_so() {
    let tmp = short_folder();
    let output = quickstart(&tmp.path().join("missing"), &["--once"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("set TMPDIR"), "{}", text(&output.stderr));
}

/// A quickstart that stays up, killed if its test fails.
struct Staying {
    child: Child,
    told: String,
}

impl Drop for Staying {
    fn drop(&mut self) {
        _ = self.child.kill().is_ok();
        _ = self.child.wait().is_ok();
    }
}

impl Staying {
    /// Returns when it has told how to go on.
    fn start(tmp: &Path) -> Self {
        let mut child = quickstart(tmp, &[]).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut told = String::new();
        while !told.contains("until Ctrl-C") {
            let read = reader.read_line(&mut told).unwrap();
            if read == 0 {
                let mut complaint = String::new();
                child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
                panic!("it ended early:\n{told}\n{complaint}");
            }
        }
        Self { child, told }
    }

    /// The lines that can be pasted.
    fn commands(&self) -> Vec<String> {
        let (_, rest) = self.told.split_once("paste these lines").unwrap();
        rest.lines().filter_map(|line| line.strip_prefix("      ")).map(str::to_owned).collect()
    }

    fn signal(&mut self, name: &str) -> std::process::ExitStatus {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

/// As a person would: into one shell, line by line.
fn bash(lines: &[&str]) -> Output {
    Command::new("bash").arg("-c").arg(lines.join("\n")).env_remove("HALLPASS_CONFIG").output().unwrap()
}

#[test]
fn the_printed_lines_work_as_printed_and_the_end_is_clean() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        let line = "#".repeat(100);
        let text =
            format!("\n{line}\n## CURL IS NOT INSTALLED: the lines that quickstart prints were not tried.\n{line}\n");
        drop(std::io::stderr().lock().write_all(text.as_bytes()));
        return;
    }
    let tmp = short_folder();
    let mut staying = Staying::start(tmp.path());
    let commands = staying.commands();
    let [token, call, forbidden, tail, revoke, verify] = commands.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        panic!("six lines were expected, not {commands:#?}")
    };
    assert!(!staying.told.contains("demo_sk_"));

    let output = bash(&[token, call]);
    let answer = text(&output.stdout);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Grace Hopper"), "{answer}");
    assert!(answer.contains("[redacted by hallpass]") && !answer.contains("demo_sk_"), "{answer}");

    let answer = text(&bash(&[token, forbidden]).stdout);
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("operation_not_allowed"), "{answer}");

    let followed = text(&bash(&[&format!("timeout 3 {tail}")]).stdout);
    assert!(followed.contains("call.outcome  playground crm GET /v1/contacts 200"), "{followed}");

    let output = bash(&[token, revoke, call]);
    let answer = text(&output.stdout);
    assert!(answer.contains("playground is revoked for good"), "{answer}{}", text(&output.stderr));
    assert!(answer.contains("HTTP/1.1 401") && answer.contains("agent_revoked"), "{answer}");

    let output = bash(&[verify]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("records are whole"), "{}", text(&output.stdout));

    assert!(!is_empty(tmp.path()));
    assert!(staying.signal("-TERM").success());
    assert!(is_empty(tmp.path()), "something was left behind");
}

#[test]
fn control_c_ends_it_cleanly_too() {
    let tmp = short_folder();
    let mut staying = Staying::start(tmp.path());
    assert!(staying.signal("-INT").success());
    assert!(is_empty(tmp.path()), "something was left behind");
}
