//! The examples, and stock clients that nobody changed, through the broker to stand-ins of the APIs that they are made for.
//!
//! A stand-in takes its real key only, and names it in a header of each answer. It refuses a request that holds a token.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{SECRET, runtime};
use crate::support::Binary;

/// Definition, role, credential.
const APIS: &[(&str, &str, &str)] = &[
    ("examples/openai.yaml", "openai-user", "openai-key"),
    ("examples/anthropic.yaml", "anthropic-user", "anthropic-key"),
    ("examples/github.yaml", "triage", "github-token"),
    ("examples/gitlab.yaml", "gitlab-reader", "gitlab-token"),
    ("examples/stripe.yaml", "billing", "stripe-key"),
    ("examples/slack.yaml", "announcer", "slack-token"),
    ("examples/npm.yaml", "builder", "npm-token"),
    ("examples/git.yaml", "committer", "git-token"),
    ("examples/mcp.yaml", "tools-user", "tools-token"),
    ("tests/interop/clients/pypi.yaml", "installer", "pypi-token"),
];

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A program of `tests/interop/clients` that serves until it is dropped.
struct Standin {
    child: Child,
    url: String,
}

impl Standin {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        assert!(url.starts_with("http://"), "the stand-in did not start");
        Self { child, url }
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A broker with all of [`APIS`], stand-ins behind them, and an agent that may use them all.
struct Desk {
    binary: Binary,
    _standins: Vec<Standin>,
}

impl Desk {
    /// `None`, said loudly, where Python and its packages are not to be had.
    fn open() -> Option<Self> {
        let mut binary = Binary::init(None);
        let repositories = binary.dir.path().join("repositories");
        make_repository(&repositories);
        let mut apis = runtime::python("tests/interop/clients/standin.py")?;
        apis.arg(SECRET).arg(&repositories);
        let mut tools = runtime::python("tests/interop/clients/mcp_standin.py")?;
        tools.arg(SECRET);
        let standins = vec![Standin::start(apis), Standin::start(tools)];

        binary.serve(None);
        let mut register = vec!["agent", "register", "builder"];
        for (file, role, credential) in APIS {
            let text = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
            binary.ok(&["credential", "put", credential], SECRET);
            binary.ok(&["apply", "-f", "-"], &here(&text, &standins[0].url, &standins[1].url));
            register.extend(["--role", role]);
        }
        register.push("--json");
        super::login::write(&binary.dir.path().join("agent.json"), &binary.ok(&register, ""));
        Some(Self { binary, _standins: standins })
    }

    /// Runs a client to its end, which must succeed and show no key: what it printed.
    async fn run(&self, mut command: Command) -> String {
        let credentials = self.binary.dir.path().join("agent.json");
        let token = self.binary.ok(&["token", "get", "--credentials", credentials.to_str().unwrap()], "");
        let port = self.binary.public.rsplit(':').next().unwrap();
        let python = runtime::python("").unwrap().get_program().to_owned();
        let scratch = tempfile::tempdir_in(self.binary.dir.path()).unwrap();
        command.current_dir(scratch.path()).env("HOME", scratch.path()).env("PYTHON", python);
        command.env("BROKER", &self.binary.public).env("TOKEN", token.trim());
        command.env("NODE_OPTIONS", format!("--require {ROOT}/tests/interop/clients/localhost.cjs"));
        command.env("STRIPE_HOST", format!("http://stripe.localhost:{port}"));
        let said = tokio::task::spawn_blocking(move || runtime::run(&mut command, Duration::from_secs(120)));
        let said =
            said.await.unwrap().unwrap_or_else(|why| panic!("{why}\nThe broker said:\n{}", self.binary.serve_log()));
        assert!(!said.contains(SECRET), "{said}");
        self.leaves_no_trace(scratch.path());
        said
    }

    /// Neither what the client has kept nor what the broker keeps holds a key.
    fn leaves_no_trace(&self, kept: &Path) {
        let data = self.binary.dir.path().join("data");
        for file in files(kept).into_iter().chain(files(&data)).chain([self.binary.log_file()]) {
            let bytes = fs::read(&file).unwrap_or_default();
            let found = bytes.windows(SECRET.len()).any(|piece| piece == SECRET.as_bytes());
            assert!(!found, "the key is in {}", file.display());
        }
    }
}

/// The definition as it is, but for the address of the API.
fn here(text: &str, apis: &str, tools: &str) -> String {
    let mut name = "";
    let mut out = String::new();
    for line in text.lines() {
        if let Some(rest) = line.trim_start().strip_prefix("- name: ") {
            name = rest;
        }
        if line.trim_start().starts_with("base_url: https://") {
            let url = if name == "tools" { tools.to_owned() } else { format!("{apis}/{name}") };
            out.push_str(&format!("    base_url: {url}\n    allow_private: true\n"));
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    assert!(out.contains("allow_private"), "no base_url in {text}");
    out
}

/// A bare repository with one commit, which may be pushed to.
fn make_repository(folder: &Path) {
    let script = "set -e; mkdir -p \"$1/acme\"; cd \"$1/acme\"; git init -q --bare -b main answer.git; \
                  git -C answer.git config http.receivepack true; git clone -q answer.git work; cd work; \
                  git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m first; \
                  git push -q origin HEAD:main; cd ..; rm -rf work";
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash"]).arg(folder).env("HOME", folder.parent().unwrap());
    runtime::run(&mut command, Duration::from_secs(60)).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                files(&entry.path())
            } else {
                Some(entry.path()).filter(|_| kind.is_file()).into_iter().collect()
            }
        })
        .collect()
}

fn bash(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(Path::new(ROOT).join(script));
    command
}

async fn python(script: &str) -> Option<String> {
    Some(Desk::open()?.run(runtime::python(script)?).await)
}

async fn node(script: &str) -> Option<String> {
    let command = runtime::node(script)?;
    Some(Desk::open()?.run(command).await)
}

async fn shell(script: &str, program: &str) -> Option<String> {
    if !runtime::is_there(program, "--version") {
        runtime::not_here(program);
        return None;
    }
    Some(Desk::open()?.run(bash(script)).await)
}

/// What a client must print; nothing is said where it could not be tried.
fn prints(said: Option<String>, expected: &str) {
    if let Some(said) = said {
        assert_eq!(said.trim(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_openai_chats_and_streams() {
    prints(python("examples/openai_chat.py").await, "['gpt-5']\nHello there.\nHello there.");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_langchain_chats_and_streams() {
    prints(python("examples/langchain_chat.py").await, "Hello there.\nHello there.");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_anthropic_sends_and_streams() {
    prints(python("examples/anthropic_message.py").await, "Hello there.\nHello there.");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_github_follows_three_pages_and_writes() {
    prints(node("github_issues.mjs").await, "issue 1, issue 2, issue 3\n9 written by an agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_gitlab_names_a_project_by_its_path_and_follows_three_pages() {
    prints(python("examples/gitlab_issues.py").await, "acme/answer\nissue 1, issue 2, issue 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_stripe_has_a_host_of_its_own() {
    prints(node("stripe_customers.mjs").await, "cus_1\ncus_2\ncus_3\ngrace@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_slack_posts() {
    prints(python("examples/slack_message.py").await, "The report is ready.");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_npm_installs_a_scoped_package_with_its_tarball() {
    if let Some(said) = shell("examples/npm_install.sh", "npm").await {
        assert!(said.trim().ends_with("\n42"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_git_clones_and_pushes_by_a_credential_helper() {
    prints(shell("examples/git_clone.sh", "git").await, "written by an agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_mcp_lists_and_calls_tools() {
    prints(python("examples/mcp_tools.py").await, "['add']\n42");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_and_pushes_with_the_token_in_its_url() {
    prints(shell("tests/interop/clients/git_url.sh", "git").await, "pushed by URL");
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs_from_an_index_with_the_token_in_its_url() {
    prints(shell("tests/interop/clients/pip_install.sh", "git").await, "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn stripe_and_pygithub_follow_three_pages() {
    let expected =
        "stripe ['cus_1', 'cus_2', 'cus_3']\nstripe grace@example.com\ngithub ['issue 1', 'issue 2', 'issue 3']";
    prints(python("tests/interop/clients/sdks.py").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_of_openai_and_anthropic_for_node_chat_and_stream() {
    let expected = "openai Hello there.\nopenai Hello there.\nanthropic Hello there.\nanthropic Hello there.";
    prints(node("sdks.mjs").await, expected);
}
