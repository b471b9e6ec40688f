//! The README and the tutorial say what is so: the tutorial works as pasted, and the tables of the pages miss nothing.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::docs::Page;
use crate::support::postgres::postgres_url;

pub(crate) fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// One section, from its headline to the next of the same rank.
pub(crate) fn section<'a>(readme: &'a str, headline: &str) -> &'a str {
    let (_, rest) = readme.split_once(&format!("\n## {headline}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

/// All lines of the fenced blocks of one language, in order.
pub(crate) fn blocks(text: &str, language: &str) -> String {
    let mut inside = None;
    let mut lines = String::new();
    for line in text.lines() {
        match (inside, line.strip_prefix("```")) {
            (None, Some(fence)) => inside = Some(fence == language),
            (Some(_), Some(_)) => inside = None,
            (Some(true), None) => lines.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    lines
}

/// Every `fn` that is a test somewhere in this repository.
pub(crate) fn tests_there_are(folder: &Path, found: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            tests_there_are(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

/// The tests that a document names, in backquotes: whatever looks like one.
fn tests_named_in(text: &str) -> Vec<&str> {
    let names = text.split('`').skip(1).step_by(2);
    names
        .filter(|name| {
            name.matches('_').count() >= 3
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
        .collect()
}

/// The last column of a document's tables. What stands before it in a table of conformance names members and parameters,
/// too, and many of those look like tests.
fn last_column(text: &str) -> String {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit('|').next()).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = std::collections::BTreeSet::new();
    for folder in ["src", "tests", "crates"] {
        tests_there_are(&root.join(folder), &mut there);
    }
    for document in ["README.md", "docs/threat-model.md", "docs/conformance.md"].map(|name| root.join(name)) {
        let mut text = std::fs::read_to_string(&document).unwrap();
        if document.ends_with("conformance.md") {
            text = last_column(&text);
        }
        let missing: Vec<_> = tests_named_in(&text).into_iter().filter(|name| !there.contains(*name)).collect();
        assert!(missing.is_empty(), "{} names tests that are not there: {missing:#?}", document.display());
    }
    let model = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    assert!(tests_named_in(&model).len() > 40);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What the walk-through prints, pasted into one bash. The first line that fails ends it.
pub(crate) fn walk(script: &str) -> String {
    let (public, ops, api) = (free_port(), free_port(), free_port());
    let script = script.replace("127.0.0.1:8600", &format!("127.0.0.1:{public}"));
    let script = script.replace("localhost:8600", &format!("localhost:{public}"));
    let script = script.replace("127.0.0.1:9000", &format!("127.0.0.1:{api}"));
    let script = script.replace("(\"127.0.0.1\", 9000)", &format!("(\"127.0.0.1\", {api})"));
    let guard = "set -Eeuo pipefail\n\
                 trap 'echo \"this line failed: $BASH_COMMAND\" >&2' ERR\n\
                 trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n";
    // A broker that does not start must not hold the test up for ever.
    let script = script.replace("until hallpass status", "SECONDS=0; until [ $SECONDS -gt 30 ] || hallpass status");
    let folder = tempfile::Builder::new().prefix("walk-").tempdir_in("/tmp").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_hallpass")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.current_dir(folder.path()).env("PATH", path).env_remove("HALLPASS_CONFIG");
    // Whoever runs the tests may be logged in somewhere.
    bash.env("XDG_CONFIG_HOME", folder.path()).env_remove("HALLPASS_SERVER");
    bash.env("HALLPASS_LISTEN__PUBLIC", format!("127.0.0.1:{public}"));
    bash.env("HALLPASS_LISTEN__OPS", format!("127.0.0.1:{ops}"));
    let mut child = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{guard}{script}").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(folder.path().join("hallpass-walk/serve.log")).unwrap_or_default();
    assert!(output.status.success(), "{said}\n{complaint}\n{log}");
    assert!(!log.contains("sk-live-of-the-crm"), "{log}");
    said.into_owned()
}

fn has_what_it_takes() -> bool {
    check_tools(&["bash", "curl", "python3"])
}

/// Whether all of these are installed; where they are not, that is said loudly.
pub(crate) fn check_tools(names: &[&'static str]) -> bool {
    let is_missing =
        |name: &&&str| Command::new(name).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err();
    let missing: Vec<&str> = names.iter().filter(is_missing).copied().collect();
    if missing.is_empty() {
        return true;
    }
    let (line, missing) = ("#".repeat(100), missing.join(", "));
    let text = format!("\n{line}\n## NOT INSTALLED: {missing}. What the documents show was not tried.\n{line}\n");
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
    false
}

fn check(said: &str) {
    for part in [
        "/v1/contacts: your key is None",
        "create upstream 'crm'",
        "2 to change; nothing was changed (--dry-run)",
        "2 changed",
        "crm-key is stored, version 1",
        "scope      crm:contacts.read",
        "/v1/contacts/7: your key is [redacted by hallpass]",
        "/v1/contacts: your key is [redacted by hallpass]",
        "\"code\":\"insufficient_scope\"",
        "\"code\":\"operation_not_allowed\"",
        "helpdesk is revoked for good",
        "\"code\":\"agent_revoked\"",
        "call.outcome  helpdesk crm GET /v1/contacts/7 200",
        "records are whole",
        "the log extends the checkpoint",
    ] {
        assert!(said.contains(part), "'{part}' is missing in:\n{said}");
    }
    assert!(!said.contains("sk-live-of-the-crm"), "the secret was shown:\n{said}");
}

#[test]
fn the_tutorial_works_on_sqlite() {
    if !has_what_it_takes() {
        return;
    }
    let said = walk(&Page::of("docs/tutorial.md").script("sh"));
    check(&said);
    assert!(said.contains("sqlite"), "{said}");
}

#[test]
fn the_tutorial_works_on_postgresql() {
    let Some(url) = postgres_url() else { return };
    if !has_what_it_takes() {
        return;
    }
    let tutorial = Page::of("docs/tutorial.md");
    let other = tutorial.script("bash");
    assert!(other.contains("postgres://hallpass@127.0.0.1/hallpass"), "{other}");
    let script = tutorial
        .script("sh")
        .replace("hallpass init --dir .\n", &other.replace("postgres://hallpass@127.0.0.1/hallpass", &url));
    assert!(script.contains(&url));
    let said = walk(&script);
    check(&said);
    assert!(said.contains("postgres"), "{said}");
}

#[test]
fn every_route_is_in_the_table_of_endpoints() {
    use hallpass::http::routes::{Listener, table};
    let endpoints = document("docs/endpoints.md");
    for route in table().iter().filter(|route| route.listener != Listener::Admin) {
        let path = route.path.trim_end_matches("{*path}").trim_end_matches('/');
        assert!(endpoints.contains(path), "{} is not in docs/endpoints.md", route.path);
    }
}

#[test]
fn every_folder_is_in_the_repository_layout() {
    let architecture = document("docs/architecture.md");
    let map = section(&architecture, "Repository layout");
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            ["main.rs", "lib.rs"].contains(&name.as_str()) || map.contains(&format!("src/{name}")),
            "src/{name} is not in docs/architecture.md"
        );
    }
}

#[test]
fn init_makes_the_database_that_the_environment_names() {
    let Some(url) = postgres_url() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("database.url");
    std::fs::write(&file, url).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
        command.args(arguments).current_dir(folder.path()).env("HALLPASS_DATABASE__URL_FILE", &file);
        command.env_remove("HALLPASS_CONFIG").output().unwrap()
    };
    let made = run(&["init", "--dir", "."]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(!folder.path().join("data/hallpass.db").exists());
    let told = run(&["audit", "tail"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("init"), "{}", String::from_utf8_lossy(&told.stderr));
}

/// Ten minutes are short.
#[test]
fn the_readme_is_short() {
    let words = document("README.md").split_whitespace().count();
    assert!(words <= 900, "the README has {words} words: move something to docs/");
}

#[test]
fn the_readme_shows_what_the_quickstart_prints() {
    let shown = Page::of("README.md").script("text");
    assert!(shown.lines().count() > 10, "{shown}");
    let output =
        Command::new(env!("CARGO_BIN_EXE_hallpass")).args(["quickstart", "--once"]).env("TMPDIR", "/tmp").output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    for line in shown.lines() {
        assert!(said.lines().any(|one| one == line), "the quickstart does not print {line:?} but\n{said}");
    }
}

#[test]
fn each_promise_links_to_its_test() {
    let readme = document("README.md");
    let promises: Vec<&str> = section(&readme, "Promises").split("\n- ").skip(1).collect();
    assert_eq!(promises.len(), 9);
    for (n, promise) in (1..).zip(promises) {
        assert!(promise.starts_with(&format!("**P{n} ")) && promise.contains("](tests/"), "{promise}");
    }
}
