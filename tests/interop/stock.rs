//! Stock clients that wait to be asked for a password (RFC 7617): git, wget, curl, Java's. The token is the password, whatever
//! way the upstream's secret is put into the call.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::{SECRET, runtime};
use crate::support::upstream::{AnswerBody, text};
use crate::support::{Seen, TestBroker, Upstream};

const INJECTIONS: [(&str, &str); 2] = [
    ("{ kind: bearer, credential: crm-key }", "Bearer sk-live-0123456789abcdef"),
    ("{ kind: basic, username: x-access-token, credential: crm-key }", ""),
];

/// Runs it in a folder of its own; what it printed.
async fn run(mut command: Command, folder: &Path) -> String {
    command.current_dir(folder);
    let said = tokio::task::spawn_blocking(move || runtime::run(&mut command, Duration::from_secs(120)));
    let said = said.await.unwrap().unwrap_or_else(|why| panic!("{why}"));
    assert!(!said.contains(SECRET), "{said}");
    said
}

fn bash(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script));
    command
}

async fn with_code(broker: &TestBroker, base_url: &str, inject: &str) -> String {
    let document = format!(
        r#"
upstreams:
  - name: code
    base_url: {base_url}
    allow_private: true
    inject: {inject}
    authorization_schemes: [token]
    operations:
      - {{ id: refs, methods: [GET], path: "/{{repo}}/info/refs", scope: code }}
      - {{ id: fetch, methods: [POST], path: "/{{repo}}/git-upload-pack", scope: code }}
      - {{ id: push, methods: [POST], path: "/{{repo}}/git-receive-pack", scope: code }}
roles: [ {{ name: coder, scopes: ["code:code"] }} ]
"#
    );
    broker.apply(&document).await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register("coder", &["coder"]).await;
    broker.token(&agent).await
}

/// git's own server program behind HTTP, for whoever shows the upstream's secret.
async fn git_server(root: &Path, authorization: String) -> Upstream {
    let root = root.to_owned();
    Upstream::start(move |seen| {
        if seen.headers.get("authorization").is_none_or(|value| *value != authorization) {
            return text(StatusCode::UNAUTHORIZED, "who are you?");
        }
        git_backend(&root, seen)
    })
    .await
}

/// RFC 3875, as far as git goes.
fn git_backend(root: &Path, seen: &Seen) -> Response<AnswerBody> {
    let header = |name: &str| seen.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "broker")
        .env("REQUEST_METHOD", seen.method.as_str())
        .env("PATH_INFO", seen.uri.path())
        .env("QUERY_STRING", seen.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", seen.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&seen.body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut answer = Response::new(text(StatusCode::OK, "").into_body());
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *answer.status_mut() = value[..3].parse().unwrap();
        } else {
            let name: HeaderName = name.parse().unwrap();
            answer.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
    }
    use http_body_util::{BodyExt as _, Full};
    let body = Full::new(bytes::Bytes::copy_from_slice(&output[end + 4..]));
    answer.map(|_| body.map_err(|never| match never {}).boxed_unsync())
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_and_pushes_with_the_token_as_password() {
    if !runtime::is_there("git", "--version") {
        return runtime::not_here("git");
    }
    for (inject, authorization) in INJECTIONS {
        let folder = tempfile::tempdir().unwrap();
        let prepare = "set -e; export HOME=$PWD; git init -q --bare -b main srv/repo.git; git init -q -b main work; \
                       cd work; echo first > file; git add file; \
                       git -c user.name=a -c user.email=a@b commit -qm first; git push -q ../srv/repo.git main";
        let mut command = Command::new("bash");
        command.args(["-c", prepare]);
        run(command, folder.path()).await;
        let basic = format!("Basic {}", STANDARD.encode(format!("x-access-token:{SECRET}")));
        let authorization = if authorization.is_empty() { basic } else { authorization.to_owned() };
        let upstream = git_server(&folder.path().join("srv"), authorization).await;
        let broker = TestBroker::start().await;
        let token = with_code(&broker, &upstream.url(), inject).await;
        let mut command = bash("git.sh");
        command.env("BROKER", broker.url("")).env("TOKEN", &token);
        run(command, folder.path()).await;
        let leaked = |seen: &Seen| format!("{seen:?}").contains(&token);
        assert!(!upstream.seen().iter().any(leaked), "{inject}: the token travelled on");
    }
}

/// A call by a client that is asked for the password first, for each way in which the secret is put in.
async fn is_asked_and_gets_through(make: impl Fn() -> Command) {
    for (inject, _) in INJECTIONS.into_iter().chain([
        ("{ kind: header, name: X-Api-Key, credential: crm-key }", ""),
        ("{ kind: query, name: key, credential: crm-key }", ""),
    ]) {
        let (broker, upstream) = (TestBroker::start().await, Upstream::start(contacts).await);
        let token = crate::exchange::crm(&broker, &upstream.url(), inject, "").await;
        let folder = tempfile::tempdir().unwrap();
        let mut command = make();
        command.env("CONTACTS", broker.url("/exchange/crm/v1/contacts")).env("TOKEN", &token);
        run(command, folder.path()).await;
        assert!(!upstream.seen().is_empty() && !format!("{:?}", upstream.seen()).contains(&token), "{inject}");
    }
}

fn contacts(seen: &Seen) -> Response<AnswerBody> {
    text(StatusCode::OK, &format!(r#"{{"uri":"{}"}}"#, seen.uri.path()))
}

#[tokio::test(flavor = "multi_thread")]
async fn wget_and_curl_are_asked_for_a_password() {
    for (program, argument) in [("wget", "--version"), ("curl", "--version")] {
        if !runtime::is_there(program, argument) {
            return runtime::not_here(program);
        }
    }
    is_asked_and_gets_through(|| bash("password.sh")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_of_java_are_asked_for_a_password() {
    if !runtime::is_there("javac", "-version") {
        return runtime::not_here("a JDK");
    }
    is_asked_and_gets_through(|| {
        let mut command = Command::new("java");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/java/Password.java"));
        command
    })
    .await;
}
