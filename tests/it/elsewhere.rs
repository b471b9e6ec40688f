//! The command line at a broker on another machine: which broker it talks to, and what a bad one can do to it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::{Ca, email};
use crate::support::Binary;
use crate::support::real::said;

/// A machine of an admin: a home, and a folder to work in.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(desk.path("work")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of its owner's alone.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    fn logged_in(&self, server: &str, expires_at: i64, ca_pem: &str) -> String {
        let login = json!({ "server": server, "ca_pem": ca_pem, "token": "hp_ad_x", "name": "oidc:ada", "role": "owner",
                            "expires_at": expires_at });
        self.write(".config/hallpass/login.json", &login.to_string())
    }

    fn run(&self, arguments: &[&str]) -> (i32, String) {
        self.run_with(&[], arguments)
    }

    fn run_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
        command.args(arguments).current_dir(self.path("work")).env("HOME", self.dir.path()).stdin(Stdio::null());
        for name in ["XDG_CONFIG_HOME", "HALLPASS_CONFIG", "HALLPASS_SERVER"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied());
        said(&command.output().unwrap())
    }

    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str], words: &str) {
        let (found, text) = self.run(arguments);
        assert!(found == code && text.contains(words), "{arguments:?}: {found}: {text}");
    }
}

const FAR: i64 = 32_503_680_000_000;

/// Something that speaks HTTPS, answers each path as it is told, and is no broker: its URL and certificate.
fn not_a_broker(answers: &'static [(&'static str, &'static str)]) -> (String, String) {
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let chain = vec![CertificateDer::from(own.cert.der().to_vec())];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key.into()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let body = answers.iter().find(|(path, _)| head.contains(path)).map_or("?", |(_, body)| body);
            let status = if body.contains("detail") { "500 No" } else { "200 OK" };
            let length = body.len();
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            _ = stream.write_all(text.as_bytes()).is_ok();
            stream.conn.send_close_notify();
            _ = stream.flush().is_ok();
        }
    });
    (url, own.cert.pem())
}

#[test]
fn which_broker_is_never_a_guess() {
    let desk = Desk::new();
    desk.fails(1, &["status"], "no configuration here and no login");
    let login = desk.logged_in("https://127.0.0.1:9", FAR, "");
    desk.fails(3, &["status"], "no broker answers at https://127.0.0.1:9");
    desk.fails(3, &["--server", "HTTPS://127.0.0.1:9/", "status"], "no broker answers");
    desk.fails(1, &["--server", "https://127.0.0.1:8", "status"], "nobody is logged in at https://127.0.0.1:8");
    for odd in ["http://127.0.0.1:9", "127.0.0.1:9", "https://127.0.0.1:9/x", "https://:pw@127.0.0.1:9", "https://a#b"]
    {
        desk.fails(2, &["--server", odd, "status"], "is no admin listener");
    }
    desk.fails(3, &["--server", "https://127.0.0.1:9", "audit", "verify"], "no broker answers");
    desk.fails(2, &["--admin-cert", "a", "--admin-key", "b", "status"], "name it by --server");
    desk.fails(1, &["--server", "https://127.0.0.1:9", "--server-ca", "gone.crt", "status"], "gone.crt cannot be read");

    // Somebody left a configuration in the folder, with a socket of theirs.
    desk.write("work/hallpass.toml", "[listen]\nadmin_socket = \"theirs.sock\"\n");
    desk.fails(2, &["credential", "list"], "which broker? your login is at https://127.0.0.1:9");
    desk.fails(3, &["--server", "https://127.0.0.1:9", "status"], "no broker answers at https");
    desk.fails(3, &["--config", "hallpass.toml", "status"], "theirs.sock");
    desk.logged_in("https://127.0.0.1:9", 1, "");
    desk.fails(2, &["credential", "list"], "which broker?");
    desk.fails(3, &["logout"], "forgotten here");
    desk.fails(3, &["status"], "theirs.sock");
    std::fs::remove_file(desk.path("work/hallpass.toml")).unwrap();
    desk.logged_in("https://127.0.0.1:9", FAR, "");

    // Whoever puts a login into somebody's home names the broker that hears their secrets. Only root can try that here.
    if std::os::unix::fs::chown(&login, Some(65_534), None).is_ok() {
        desk.fails(1, &["status"], "it belongs to somebody else");
    }
}

#[test]
fn what_is_written_for_a_command_counts_more_than_the_environment() {
    let desk = Desk::new();
    let (config, server) = ("/nowhere/hallpass.toml", "https://127.0.0.1:1");
    let named = |environment: &[(&str, &str)], arguments: &[&str], code: i32, words: &str| {
        let (found, text) = desk.run_with(environment, &[arguments, &["status"]].concat());
        assert!(found == code && text.contains(words), "{environment:?} {arguments:?}: {found}: {text}");
    };
    let (by_config, by_server) = (("HALLPASS_CONFIG", config), ("HALLPASS_SERVER", server));
    named(&[by_server], &["--config", config], 1, "there is no configuration at /nowhere");
    named(&[by_config], &["--server", server], 1, "nobody is logged in at https://127.0.0.1:1");
    named(&[by_config, by_server], &[], 2, "which broker?");
    named(&[], &["--config", config, "--server", server], 2, "which broker?");
    // What is set to nothing is not set, and an empty name on the line is a mistake: a script's variable was not there.
    let nothing = ["CONFIG", "SERVER", "SERVER_CA", "ADMIN_CERT", "ADMIN_KEY"].map(|name| format!("HALLPASS_{name}"));
    let nothing = nothing.each_ref().map(|name| (name.as_str(), ""));
    named(&nothing, &[], 1, "no configuration here and no login");
    named(&nothing, &["--server", ""], 2, "is no admin listener");
    named(&nothing, &["--config", ""], 2, "--config");
}

/// With what a terminal would obey, and a member that only a later version has.
const STATUS: &str = r#"{"version":"\u001b[2Jx","issuer":"\u009b31m\u202ehi","node":"a","database":"sqlite",
        "audit_log_writable":true,"audit_index_lag":0,"agents":1,"sessions":2,"upstreams":3,"credentials":4,"revocations":5,
        "revocation_version":6,"signing_key":"k","signing_algorithm":"ES256","master_key":"m","time":7,"more":"\u001b"}"#;

#[test]
fn what_is_no_broker_says_nothing_to_a_terminal() {
    let (url, pem) = not_a_broker(&[
        ("/status", STATUS),
        ("/agents", r#"{"code":"x\u001b[2J","detail":"\u001b]0;owned\u0007"}"#),
        ("/roles", "<html>Welcome</html>"),
        ("/audit/a/", r#"{"records":[{"seq":1,"body":"{}"}]}"#),
        ("/audit", r#"{"nodes":[{"node":"a","last":9}]}"#),
    ]);
    let desk = Desk::new();
    desk.logged_in(&url, FAR, &pem);
    let (code, text) = desk.run(&["status"]);
    assert!(code == 0 && text.contains("\\u001b[2Jx\n") && text.contains("\\u009b31m\\u202ehi\n"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text:?}");
    let (code, text) = desk.run(&["agent", "list"]);
    assert_eq!((code, &*text), (1, "hallpass: \\u001b]0;owned\\u0007 [x\\u001b[2J ]\n"));
    desk.fails(1, &["role", "list"], "is no broker");
    // The same record for ever would be asked for for ever.
    desk.fails(1, &["audit", "export"], "out of order");
}

#[test]
fn a_login_is_one_or_is_not_kept() {
    let (url, pem) =
        not_a_broker(&[("/login", r#"{"issuer":"http://login.example.com","client_id":"x","scope":"openid"}"#)]);
    let desk = Desk::new();
    let ca = desk.write("ca.crt", &pem);
    // Nothing goes to an issuer in the clear.
    desk.fails(1, &["login", &url, "--ca", &ca], "URL scheme is not allowed");
    desk.fails(3, &["login", &url], "--server-ca FILE");
    assert!(!Path::new(&desk.path(".config")).exists());
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
    command.args(["login", &url, "--ca", &ca]).env_remove("HOME").env("XDG_CONFIG_HOME", "here");
    let (code, text) = said(&command.current_dir(desk.path("work")).output().unwrap());
    assert!(code == 1 && text.contains("a login has no place"), "{text}");
}

#[test]
fn a_certificate_goes_where_it_is_sent() {
    let (desk, ca) = (Desk::new(), Ca::new("Example Admin CA"));
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let holder = ca.holder(|params| params.subject_alt_names = vec![email("ada@example.com")]);
    let (server, key) =
        (desk.write("own.crt", &own.cert.pem()), desk.write("own.key", &own.signing_key.serialize_pem()));
    let (ada, ada_key) = (desk.write("ada.crt", &holder.pem), desk.write("ada.key", &holder.key));
    let cas = desk.write("ca.crt", &ca.pem);
    let mut broker = Binary::init(None);
    for (name, value) in [
        ("LISTEN", "127.0.0.1:0"),
        ("CERT_FILE", &server),
        ("KEY_FILE", &key),
        ("CLIENT_CA_FILE", &cas),
        ("OPERATORS", "cert.san_email=ada@example.com"),
    ] {
        broker.set(&format!("HALLPASS_ADMIN__{name}"), value);
    }
    broker.serve(None);
    // A configuration in the folder is not asked.
    desk.write("work/hallpass.toml", "[listen]\nadmin_socket = \"theirs.sock\"\n");
    let with = |arguments: &[&str]| {
        let mut all = vec!["--server", &broker.remote_admin, "--server-ca", &server, "--admin-cert", &ada];
        all.extend(["--admin-key", &ada_key]);
        all.extend(arguments);
        desk.run(&all)
    };
    let (code, text) = with(&["agent", "register", "helpdesk", "--json"]);
    assert!(code == 0 && serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    let (code, text) = with(&["key", "rotate"]);
    assert!(code == 1 && text.contains("takes the admin role owner"), "{text}");
    let (code, text) = with(&["audit", "export"]);
    assert_eq!((code, text.lines().next()), (0, broker.ok(&["audit", "export"], "").lines().next()));
    assert!(text.contains("cert:ada@example.com"));
    // Over the network the log is verified, too: a checkpoint is asked for, kept, and held against it.
    let (code, checkpoint) = with(&["audit", "checkpoint"]);
    assert_eq!(code, 0, "{checkpoint}");
    let kept = desk.write("kept.jws", &checkpoint);
    for more in [&[][..], &["--checkpoint", &kept]] {
        let (code, text) = with(&[&["audit", "verify", "--json"], more].concat());
        let report: Value = serde_json::from_str(&text).unwrap();
        assert!(code == 0 && report["nodes"][0]["records"].as_i64().unwrap() >= 3, "{text}");
    }
}
