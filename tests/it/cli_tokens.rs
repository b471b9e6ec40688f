//! `hallpass token get` and `hallpass token revoke`, as scripts and admins run them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::real::Real;
use crate::support::upstream::text;
use crate::support::{Engine, Upstream};

/// A broker whose issuer is where it listens, as a script finds it.
struct Scene {
    real: Real,
    /// The file that `agent register --json` was written to.
    file: String,
    registered: Value,
    _upstream: Upstream,
}

impl Scene {
    async fn new() -> Self {
        let upstream = Upstream::start(|_| text(http::StatusCode::OK, "[]")).await;
        let mut real = Real::init(Engine::Sqlite).unwrap();
        // The issuer is the public listener's own address, for which a port must be known beforehand.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        real.binary.set("HALLPASS_ISSUER", &format!("http://{address}"));
        real.binary.serve(Some(&address));
        real.binary.ok(&["apply", "-f", "-"], &crate::support::real::crm_document(&upstream.url()));
        real.binary.ok(&["credential", "put", "crm-key"], "a-secret-of-the-crm");
        let printed = real.binary.ok(&["agent", "register", "script", "--role", "support", "--json"], "");
        let registered: Value = serde_json::from_str(&printed).unwrap();
        let path = real.binary.dir.path().join("script.json");
        std::fs::write(&path, printed).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let file = path.display().to_string();
        Self { real, file, registered, _upstream: upstream }
    }

    fn of(&self, name: &str) -> &str {
        self.registered[name].as_str().unwrap()
    }

    /// `hallpass token get`, somewhere else: no configuration, only this environment.
    fn get(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
        command.args(["token", "get"]).args(arguments).current_dir(folder.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", folder.path()).envs(environment.iter().copied());
        command.output().unwrap()
    }

    /// What it printed to standard output, where it ended well.
    fn printed(&self, environment: &[(&str, &str)], arguments: &[&str]) -> String {
        let output = self.get(environment, arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && error.is_empty(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its exit code and what it said; nothing goes to standard output, and no secret anywhere.
    fn fails(&self, environment: &[(&str, &str)], arguments: &[&str], code: i32, words: &str) {
        let output = self.get(environment, arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(words) && output.stdout.is_empty(), "{arguments:?}: {error}");
        assert!(!error.contains(self.of("client_secret")), "{error}");
    }
}

fn now() -> i64 {
    hallpass::world::World::system().now()
}

#[tokio::test(flavor = "multi_thread")]
async fn token_get_prints_a_token_and_nothing_else() {
    let scene = Scene::new().await;
    assert_eq!(scene.of("issuer"), scene.real.binary.public, "what registers an agent says where it goes");
    let by_file = ["--credentials", &*scene.file];
    let token = scene.printed(&[], &by_file);
    assert!(token.ends_with('\n') && token.trim().split('.').count() == 3, "{token}");
    assert_eq!(scene.real.call_status("/crm/v1/contacts", token.trim()).await, 200);

    // From the environment; by a variable that names the file.
    let environment = [
        ("HALLPASS_CLIENT_ID", scene.of("client_id")),
        ("HALLPASS_CLIENT_SECRET", scene.of("client_secret")),
        ("HALLPASS_ISSUER", scene.of("issuer")),
    ];
    let token = scene.printed(&environment, &[]);
    assert_eq!(scene.real.call_status("/crm/v1/contacts", token.trim()).await, 200);
    scene.printed(&environment[..2], &["--issuer", scene.of("issuer")]);
    scene.printed(&[("HALLPASS_CREDENTIALS", &scene.file)], &[]);

    // Narrower, in the same session, with a task; the whole answer as JSON.
    let crm = format!("{}/exchange/crm", scene.of("issuer"));
    let more = ["--scope", "crm:contacts.read", "--resource", &*crm, "--task", "ticket 7", "--json"];
    let answer: Value = serde_json::from_str(&scene.printed(&[], &[&by_file[..], &more].concat())).unwrap();
    assert_eq!((&answer["scope"], &answer["token_type"]), (&"crm:contacts.read".into(), &"Bearer".into()), "{answer}");
    let session = answer["session_id"].as_str().unwrap();
    let inspected = scene.real.binary.json(&["token", "inspect"], answer["access_token"].as_str().unwrap());
    assert_eq!(inspected["claims"]["aud"], *crm);
    let next = scene.printed(&[], &[&by_file[..], &["--session", session]].concat());
    assert_eq!(scene.real.binary.json(&["token", "inspect"], &next)["claims"]["sid"], session);
    assert_eq!(scene.real.binary.json(&["session", "show", session], "")["task"], "ticket 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_get_says_what_is_wrong_and_ends_accordingly() {
    let scene = Scene::new().await;
    let by_file = ["--credentials", &*scene.file];
    let with = |more: &[&'static str]| [&by_file[..], more].concat();
    scene.fails(&[], &[], 2, "--credentials");
    scene.fails(&[("HALLPASS_CLIENT_ID", "ag_x")], &[], 2, "HALLPASS_CLIENT_SECRET is not set");
    let (id, secret) = (scene.of("client_id").to_owned(), scene.of("client_secret").to_owned());
    let both = [("HALLPASS_CLIENT_ID", &*id), ("HALLPASS_CLIENT_SECRET", &*secret)];
    scene.fails(&both, &[], 2, "--issuer");
    scene.fails(&both, &["--issuer", "http://broker.example.com"], 2, "plain http");
    scene.fails(&both, &["--issuer", "https://u:p@broker.example.com"], 2, "without user");
    scene.fails(&both, &["--issuer", "http://127.0.0.1:9"], 3, "no broker answers");
    scene.fails(&both, &["--issuer", &format!("{}/other", scene.of("issuer"))], 1, "answered 404");
    // Another spelling than the issuer has of itself is another issuer (RFC 8414 section 3.3).
    let other = scene.of("issuer").replace("127.0.0.1", "localhost");
    scene.fails(&both, &["--issuer", &other], 1, "another issuer");
    scene.fails(&[], &with(&["--scope", "crm:nope"]), 1, "invalid_scope: scope refused: crm:nope");
    scene.fails(&[], &with(&["--resource", "https://nowhere.example.com"]), 1, "invalid_target");
    scene.fails(&[], &with(&["--session", "se_nope"]), 1, "invalid_grant");
    scene.fails(&[], &with(&["--client-secret", "x"]), 2, "--client-secret");
    scene.fails(&[], &["--credentials", "nowhere.json"], 1, "nowhere.json");

    let write = |text: &str, mode: u32| {
        std::fs::write(&scene.file, text).unwrap();
        std::fs::set_permissions(&scene.file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let good = scene.registered.to_string();
    write(&good, 0o644);
    scene.fails(&[], &by_file, 1, "chmod 600");
    write(&good[1..], 0o600);
    scene.fails(&[], &by_file, 1, "not JSON");
    write("{}", 0o600);
    scene.fails(&[], &by_file, 1, "no client_id");
    write(&good, 0o600);
    scene.real.binary.ok(&["agent", "suspend", "script"], "");
    scene.fails(&[], &by_file, 1, "agent_suspended");
    // In the environment of every command, they are no settings of the broker.
    let mut real = scene.real;
    real.binary.set("HALLPASS_CLIENT_SECRET", &secret);
    real.binary.set("HALLPASS_CLIENT_ID", &id);
    real.binary.set("HALLPASS_CREDENTIALS", "x");
    real.binary.ok(&["agent", "list"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_revoke_says_what_it_did_and_refuses_what_is_no_token() {
    let scene = Scene::new().await;
    let token = scene.printed(&[], &["--credentials", &scene.file]);
    let jti = scene.real.binary.json(&["token", "inspect"], &token)["claims"]["jti"].as_str().unwrap().to_owned();
    let fails = |arguments: &[&str], words: &str| {
        let output = scene.real.binary.run(arguments, "");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains(words) && output.stdout.is_empty(), "{arguments:?}: {error}");
    };
    for bad in ["tk_nope", "tk_", "nonsense", "TK_ABC", &jti[..28], &format!("{jti}a"), &jti.to_uppercase(), "se_abc"] {
        fails(&["token", "revoke", bad], "no token id");
    }
    let unknown = hallpass::secret::ordered_id("tk_", now(), &hallpass::world::SystemEntropy);
    fails(&["token", "revoke", &unknown], "no token of this id was issued");
    let old = hallpass::secret::ordered_id("tk_", now() - 3_600_000, &hallpass::world::SystemEntropy);
    assert!(scene.real.binary.ok(&["token", "revoke", &old], "").contains("has expired"));
    // A session's id is in the log, too, and no token's.
    assert_eq!(scene.real.call_status("/crm/v1/contacts", token.trim()).await, 200);
    assert!(scene.real.binary.ok(&["token", "revoke", &jti], "").contains("refused from now on"));
    assert_eq!(scene.real.call_status("/crm/v1/contacts", token.trim()).await, 401);
    assert!(scene.real.binary.ok(&["token", "revoke", &jti], "").contains("revoked already"));
    assert!(scene.real.binary.ok(&["token", "revoke"], &token).contains("revoked already"));
    let list = scene.real.binary.json(&["token", "revoke", "--jti", &jti], "");
    assert_eq!((&list["revoked"], &list["already"]), (&true.into(), &true.into()));
}
