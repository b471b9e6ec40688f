//! `hallpass login` against npm's oidc-provider: people with a browser, a broker on another machine, and what it records.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::runtime;
use crate::support::Binary;

/// The issuer, and a broker whose admins log in there.
struct Scene {
    broker: Binary,
    folder: TempDir,
    issuer: Child,
    /// Kept open: a server that cannot say what it has to say ends.
    _said: Lines<BufReader<ChildStdout>>,
    admin: String,
}

impl Drop for Scene {
    fn drop(&mut self) {
        _ = self.issuer.kill().is_ok();
        _ = self.issuer.wait().is_ok();
    }
}

/// A person: a home of their own, and a browser.
struct Person<'a> {
    scene: &'a Scene,
    name: &'static str,
    home: TempDir,
}

impl Scene {
    fn new(mut provider: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        write(&file("own.crt"), &own.cert.pem());
        write(&file("own.key"), &own.signing_key.serialize_pem());
        provider.env("CERT", file("own.crt")).env("KEY", file("own.key"));
        let mut issuer = provider.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(issuer.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| {
            let said: Value = serde_json::from_str(&line.unwrap()).ok()?;
            Some(said["issuer"].as_str()?.to_owned())
        });
        let mut broker = Binary::init(None);
        let path = |name: &str| file(name).display().to_string();
        for (name, value) in [
            ("LISTEN", "127.0.0.1:0"),
            ("CERT_FILE", &path("own.crt")),
            ("KEY_FILE", &path("own.key")),
            ("ISSUER", &url.expect("oidc-provider says where it is")),
            ("ISSUER_CA_FILE", &path("own.crt")),
            ("ISSUER_ALLOW_PRIVATE", "true"),
            ("CLIENT_ID", "hallpass-cli"),
            ("VIEWERS", "groups=auditors"),
            ("OPERATORS", "groups=platform"),
            ("OWNERS", "email=owner@example.com"),
        ] {
            broker.set(&format!("HALLPASS_ADMIN__{name}"), value);
        }
        broker.serve(None);
        let admin = broker.remote_admin.clone();
        Self { broker, folder, issuer, _said: lines, admin }
    }

    fn person(&self, name: &'static str) -> Person<'_> {
        Person { scene: self, name, home: tempfile::tempdir().unwrap() }
    }
}

impl Person<'_> {
    /// A command of theirs, on a machine that knows nothing of the broker's.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
        command.args(arguments).current_dir(self.home.path()).env("HOME", self.home.path());
        for name in ["XDG_CONFIG_HOME", "HALLPASS_CONFIG", "HALLPASS_SERVER"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `hallpass login`, confirmed in the browser: what it printed, and on standard error.
    fn log_in(&self) -> (bool, String, String) {
        let ca = self.scene.folder.path().join("own.crt");
        let mut login = self.command(&["login", &self.scene.admin, "--json", "--ca"]);
        let mut login = login.arg(&ca).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(login.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no code: {line}"));
        let page = told["verification_uri_complete"].as_str().unwrap();
        let mut browser = runtime::node("person.mjs").unwrap();
        runtime::run(browser.args([page, self.name]).env("CA", &ca), Duration::from_secs(60)).unwrap();
        let (mut rest, output) = (String::new(), login.wait_with_output().unwrap());
        said.read_to_string(&mut rest).unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), rest)
    }
}

/// A file of its owner's alone.
pub(super) fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_person_logs_in_by_device_flow_and_may_what_their_role_gives() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(provider) = runtime::node("provider.mjs") else { return };
    let scene = Scene::new(provider);
    let (ada, eve, mallory) = (scene.person("ada"), scene.person("eve"), scene.person("mallory"));
    let ((ada_in, said, _), (eve_in, _, _), (mallory_in, _, why)) = std::thread::scope(|threads| {
        let all = [&ada, &eve, &mallory].map(|person| threads.spawn(|| person.log_in()));
        let [ada, eve, mallory] = all.map(|thread| thread.join().unwrap());
        (ada, eve, mallory)
    });
    assert!(ada_in && eve_in);
    assert!(!mallory_in && why.contains("admin role"), "{why}");
    let login: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&login["role"], &login["name"]), (&"operator".into(), &"oidc:ada@example.com (ada)".into()), "{login}");

    // What is kept is hers alone, and there is nothing else in her folder.
    let kept = Path::new(login["file"].as_str().unwrap());
    assert!(kept.starts_with(ada.home.path()));
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(kept.parent().unwrap()).unwrap().count(), 1);
    let token = serde_json::from_str::<Value>(&std::fs::read_to_string(kept).unwrap()).unwrap()["token"].clone();
    let token = token.as_str().unwrap();
    assert!(token.starts_with("hp_ad_") && !said.contains(token));

    // An operator registers an agent; a viewer looks at it, and no more.
    ada.ok(&["agent", "register", "helpdesk"]);
    assert!(eve.ok(&["agent", "list"]).contains("helpdesk"));
    let refused = complaint(&eve.run(&["agent", "register", "another"]));
    assert!(refused.contains("takes the admin role operator") && refused.contains("viewer"), "{refused}");
    let refused = complaint(&ada.run(&["key", "rotate"]));
    assert!(refused.contains("takes the admin role owner"), "{refused}");
    let refused = complaint(&mallory.run(&["agent", "list"]));
    assert!(refused.contains("hallpass login"), "{refused}");

    // The audit log names them.
    let log = scene.broker.ok(&["audit", "export"], "");
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |action: &str| records.iter().find(|record| record["action"] == action).unwrap();
    assert_eq!(of("agent register")["admin"], "oidc:ada@example.com (ada)");
    let low = records.iter().find(|record| record["reason"] == "role_too_low").unwrap();
    assert_eq!((&low["admin"], &low["decision"]), (&"oidc:eve@example.com (eve)".into(), &"deny".into()));
    assert!(records.iter().any(|record| record["reason"] == "no_admin_role"));
    // Whoever may look may read it, too, wherever they are.
    assert_eq!(eve.ok(&["audit", "export"]).lines().next(), log.lines().next());
    assert!(eve.ok(&["audit", "tail", "-n", "100"]).contains("oidc:ada@example.com (ada) agent register helpdesk"));
    assert!(!log.contains(token) && !scene.broker.serve_log().contains(token));

    // A login that others can read is not used; one that was ended is over at the broker, too.
    std::fs::set_permissions(kept, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(complaint(&ada.run(&["agent", "list"])).contains("others than its owner"));
    std::fs::set_permissions(kept, std::fs::Permissions::from_mode(0o600)).unwrap();
    let copy = std::fs::read(kept).unwrap();
    ada.ok(&["logout"]);
    assert!(!kept.exists());
    write(kept, std::str::from_utf8(&copy).unwrap());
    assert!(complaint(&ada.run(&["agent", "list"])).contains("this login is over"));
}
