#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod admin;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::keys::{KEYS, Kind};
use super::*;

/// A settings directory that is gone when the test is.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        std::fs::write(self.path(name), content).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load_with(&self, text: impl AsRef<[u8]>, env: &[(&str, &str)], listen: &str) -> Result<Config, Vec<String>> {
        self.write("hallpass.toml", text, 0o600);
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let overrides = Overrides { listen: (!listen.is_empty()).then(|| listen.parse().unwrap()) };
        let prefix = format!("{}/", self.0.path().display());
        let short = |mistake: &Mistake| mistake.to_string().replace(&prefix, "");
        load(Some(&self.path("hallpass.toml")), env, overrides)
            .map_err(|mistakes| mistakes.iter().map(short).collect::<Vec<_>>())
    }

    fn load(&self, text: impl AsRef<[u8]>, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        self.load_with(text, env, "")
    }
}

fn good(text: &str) -> Config {
    Dir::new().load(text, &[]).unwrap()
}

fn bad(text: impl AsRef<[u8]>) -> Vec<String> {
    Dir::new().load(text, &[]).unwrap_err()
}

/// `a.b = v` as a file with one setting, which then stands on the line that is returned.
fn file_with(path: &str, value: &str) -> (String, usize) {
    match path.split_once('.') {
        Some((table, name)) => (format!("# a comment\n[{table}]\n{name} = {value}\n"), 3),
        None => (format!("# a comment\n{path} = {value}\n"), 2),
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    let dir = Dir::new();
    let config = dir.load("", &[]).unwrap();
    assert_eq!(config.issuer, None);
    assert!(!config.insecure_http);
    assert_eq!(config.node, "node-1");
    assert_eq!(config.listen.public, "127.0.0.1:8600".parse().unwrap());
    assert_eq!(config.listen.ops, None);
    assert_eq!(config.listen.admin_socket, dir.path("data/admin.sock"));
    assert_eq!((config.listen.max_connections, config.listen.max_header_bytes), (10_000, 32_768));
    assert_eq!((config.listen.header_timeout.as_secs(), config.listen.drain.as_secs()), (10, 20));
    assert!(config.listen.http2 && config.listen.limit_untrusted);
    assert!(config.tls.is_none());
    assert!(config.client_certificates.ca_file.is_none() && config.client_certificates.crl_file.is_none());
    assert!(config.listen.trusted_proxies.is_empty());
    assert!(matches!(&config.database.target, DatabaseTarget::Sqlite(path) if *path == dir.path("data/hallpass.db")));
    assert_eq!(config.database.max_connections, 8);
    assert!(matches!(&config.vault.master_key, MasterKey::File(path) if *path == dir.path("keys/master.key")));
    assert_eq!(config.vault.previous_master_key_file, None);
    let tokens = &config.tokens;
    assert_eq!(tokens.lifetime.as_secs(), 300);
    assert_eq!((tokens.session.as_secs(), tokens.session_max.as_secs()), (3600, 86_400));
    assert_eq!((tokens.leeway.as_secs(), tokens.secret_grace.as_secs()), (5, 86_400));
    assert_eq!((config.dpop.require_nonce, config.dpop.window.as_secs()), (true, 60));
    assert_eq!(config.dpop.replay_entries, 1_000_000);
    assert_eq!(config.keys.algorithm, SigningAlgorithm::Es256);
    assert_eq!((config.keys.rotate.as_secs(), config.keys.publish_ahead.as_secs()), (30 * 86_400, 86_400));
    assert_eq!((config.revocations.sign_every.as_secs(), config.revocations.max_age.as_secs()), (5, 30));
    let audit = &config.audit;
    assert_eq!((audit.checkpoint_every_records, audit.checkpoint_every.as_secs()), (10_000, 60));
    assert_eq!((audit.max_batch, audit.max_waiting), (1024, 20_000));
    let exchange = &config.exchange;
    assert_eq!((exchange.connect_timeout.as_secs(), exchange.response_timeout.as_secs()), (5, 300));
    assert_eq!(exchange.idle_timeout.as_secs(), 300);
    assert_eq!((exchange.max_request_bytes, exchange.max_response_bytes), (10_737_418_240, 10_737_418_240));
    assert_eq!((exchange.max_calls, exchange.token_cache), (5000, 100_000));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Human, LogLevel::Info));
    // And without any file, relative to where we are.
    let config = load(None, std::iter::empty(), Overrides::default()).unwrap();
    assert_eq!(config.listen.admin_socket, Path::new("data/admin.sock"));
}

const OTHER: &[(&str, &str)] = &[
    ("issuer", "\"https://hp.example.com/a\""),
    ("insecure_http", "true"),
    ("node", "\"eu-2\""),
    ("listen.public", "\"[::1]:9000\""),
    ("listen.ops", "\"127.0.0.1:9100\""),
    ("listen.admin_socket", "\"/run/hp.sock\""),
    ("listen.max_connections", "11"),
    ("listen.header_timeout_seconds", "12"),
    ("listen.max_header_bytes", "0x4000"),
    ("listen.drain_seconds", "0"),
    ("listen.http2", "false"),
    ("listen.limit_untrusted", "false"),
    ("listen.trusted_proxies", "\"10.0.0.0/8, ::1\""),
    ("tls.cert_file", "\"cert.pem\""),
    ("tls.key_file", "\"key.pem\""),
    ("tls.client_ca_file", "\"cert.pem\""),
    ("tls.client_crl_file", "\"cert.pem\""),
    ("admin.listen", "\"127.0.0.1:9200\""),
    ("admin.cert_file", "\"cert.pem\""),
    ("admin.key_file", "\"key.pem\""),
    ("admin.issuer", "\"https://login.example.com\""),
    ("admin.client_id", "\"cli\""),
    ("admin.scope", "\"openid groups\""),
    ("admin.name_claim", "\"upn\""),
    ("admin.login_seconds", "61"),
    ("admin.issuer_ca_file", "\"cert.pem\""),
    ("admin.issuer_allow_private", "true"),
    ("admin.client_ca_file", "\"cert.pem\""),
    ("admin.client_crl_file", "\"cert.pem\""),
    ("admin.viewers", "\"a=1\""),
    ("admin.approvers", "\"a=2\""),
    ("admin.operators", "\"a=3; a=4\""),
    ("admin.owners", "\"cert.san_dns=a.example.com\""),
    ("database.url", "\"sqlite:///var/hp.db\""),
    ("database.max_connections", "13"),
    ("vault.master_key_file", "\"mk\""),
    ("vault.previous_master_key_file", "\"mk.old\""),
    ("tokens.lifetime_seconds", "14"),
    ("tokens.session_seconds", "61"),
    ("tokens.session_max_seconds", "62"),
    ("tokens.leeway_seconds", "15"),
    ("tokens.secret_grace_seconds", "1_6"),
    ("dpop.require_nonce", "false"),
    ("dpop.window_seconds", "32"),
    ("dpop.replay_entries", "3300"),
    ("delegation.max_depth", "7"),
    ("client_auth.methods", "\"spiffe federated\""),
    ("client_auth.assertion_algorithms", "\"RS256\""),
    ("keys.algorithm", "\"EdDSA\""),
    ("keys.rotate_days", "17"),
    ("keys.publish_ahead_hours", "18"),
    ("revocations.sign_every_seconds", "19"),
    ("revocations.max_age_seconds", "20"),
    ("audit.checkpoint_every_records", "21"),
    ("audit.checkpoint_every_seconds", "22"),
    ("audit.max_batch", "23"),
    ("audit.max_waiting", "24"),
    ("exchange.connect_timeout_seconds", "25"),
    ("exchange.response_timeout_seconds", "26"),
    ("exchange.idle_timeout_seconds", "27"),
    ("exchange.max_request_bytes", "2800"),
    ("exchange.max_response_bytes", "2900"),
    ("exchange.max_calls", "30"),
    ("exchange.max_calls_per_agent", "29"),
    ("exchange.max_connections", "33"),
    ("exchange.max_connections_per_upstream", "32"),
    ("exchange.token_cache", "31"),
    ("outbound.proxy", "\"http://proxy.example.com:3128\""),
    ("outbound.no_proxy", "\"10.0.0.0/8\""),
    ("log.format", "\"json\""),
    ("log.level", "\"trace\""),
];

fn assert_other(dir: &Dir, config: &Config) {
    assert_eq!(config.issuer.as_deref(), Some("https://hp.example.com/a"));
    assert!(config.insecure_http);
    assert_eq!(config.node, "eu-2");
    assert_eq!(config.listen.public, "[::1]:9000".parse().unwrap());
    assert_eq!(config.listen.ops, Some("127.0.0.1:9100".parse().unwrap()));
    assert_eq!(config.listen.admin_socket, Path::new("/run/hp.sock"));
    assert_eq!((config.listen.max_connections, config.listen.max_header_bytes), (11, 16_384));
    assert_eq!((config.listen.header_timeout.as_secs(), config.listen.drain.as_secs()), (12, 0));
    assert!(!config.listen.http2 && !config.listen.limit_untrusted);
    let proxies: Vec<_> = config.listen.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(config.client_certificates.ca_file, Some(dir.path("cert.pem")));
    assert_eq!(config.client_certificates.crl_file, Some(dir.path("cert.pem")));
    let admin = config.admin.as_ref().unwrap();
    assert_eq!((admin.listen.port(), &admin.tls.key_file), (9200, &dir.path("key.pem")));
    assert_eq!(
        (&admin.certificates.ca_file, &admin.certificates.crl_file),
        (&Some(dir.path("cert.pem")), &Some(dir.path("cert.pem")))
    );
    let login = admin.login.as_ref().unwrap();
    assert_eq!(
        (&*login.issuer, &*login.client_id, &*login.scope),
        ("https://login.example.com", "cli", "openid groups")
    );
    assert_eq!((&*login.name_claim, login.lifetime.as_secs(), login.allow_private), ("upn", 61, true));
    assert_eq!(login.ca_file, Some(dir.path("cert.pem")));
    let values: Vec<_> = admin.grants.iter().map(|grant| &*grant.value).collect();
    assert_eq!(values, ["a.example.com", "3", "4", "2", "1"]);
    let tls = config.tls.as_ref().unwrap();
    assert_eq!((&tls.cert_file, &tls.key_file), (&dir.path("cert.pem"), &dir.path("key.pem")));
    assert!(
        matches!(&config.database.target, DatabaseTarget::Sqlite(path) if path.as_path() == Path::new("/var/hp.db"))
    );
    assert_eq!(config.database.max_connections, 13);
    assert!(matches!(&config.vault.master_key, MasterKey::File(path) if *path == dir.path("mk")));
    assert_eq!(config.vault.previous_master_key_file, Some(dir.path("mk.old")));
    let tokens = &config.tokens;
    assert_eq!((tokens.lifetime.as_secs(), tokens.session.as_secs()), (14, 61));
    assert_eq!((tokens.session_max.as_secs(), tokens.leeway.as_secs()), (62, 15));
    assert_eq!((tokens.secret_grace.as_secs(), config.delegation.max_depth), (16, 7));
    assert_eq!((config.dpop.require_nonce, config.dpop.window.as_secs()), (false, 32));
    assert_eq!(config.dpop.replay_entries, 3300);
    assert_eq!(config.keys.algorithm, SigningAlgorithm::EdDsa);
    assert_eq!((config.keys.rotate.as_secs(), config.keys.publish_ahead.as_secs()), (17 * 86_400, 18 * 3600));
    assert_eq!((config.revocations.sign_every.as_secs(), config.revocations.max_age.as_secs()), (19, 20));
    let audit = &config.audit;
    assert_eq!((audit.checkpoint_every_records, audit.checkpoint_every.as_secs()), (21, 22));
    assert_eq!((audit.max_batch, audit.max_waiting), (23, 24));
    let exchange = &config.exchange;
    assert_eq!((exchange.connect_timeout.as_secs(), exchange.response_timeout.as_secs()), (25, 26));
    assert_eq!((exchange.idle_timeout.as_secs(), exchange.max_request_bytes), (27, 2800));
    assert_eq!((exchange.max_response_bytes, exchange.max_calls, exchange.token_cache), (2900, 30, 31));
    assert_eq!((exchange.max_connections, exchange.max_connections_per_upstream), (33, 32));
    let Outbound::Proxy { url, except } = &config.outbound else { panic!("no proxy") };
    assert_eq!((url.expose(), except.as_str()), (&b"http://proxy.example.com:3128"[..], "10.0.0.0/8"));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Trace));
}

fn dir_with_tls() -> Dir {
    let dir = Dir::new();
    dir.write("cert.pem", "cert", 0o644);
    dir.write("key.pem", "key", 0o600);
    dir
}

#[test]
fn every_setting_can_be_set_in_the_file() {
    let dir = dir_with_tls();
    let text: String = OTHER.iter().map(|(path, value)| format!("{path} = {value}\n")).collect();
    assert_other(&dir, &dir.load(text, &[]).unwrap());
    let alternatives = ["outbound.proxy_file", "database.url_file", "vault.master_key_env", "vault.master_key_command"];
    for key in KEYS {
        assert!(OTHER.iter().any(|(path, _)| *path == key.path) || alternatives.contains(&key.path), "{}", key.path);
    }
}

#[test]
fn every_setting_can_be_set_in_the_environment_which_wins() {
    let dir = dir_with_tls();
    let env: Vec<_> = OTHER
        .iter()
        .map(|(path, value)| {
            let value = match *value {
                "0x4000" => "16384",
                "1_6" => "16",
                value => value.trim_matches('"'),
            };
            (format!("HALLPASS_{}", path.to_uppercase().replace('.', "__")), value.to_owned())
        })
        .collect();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let file = "node = \"from-the-file\"\n[listen]\npublic = \"127.0.0.1:1\"\nhttp2 = true\n[log]\nlevel = \"warn\"\n";
    assert_other(&dir, &dir.load(file, &env).unwrap());
}

#[test]
fn the_command_line_wins_over_both() {
    let env = [("HALLPASS_LISTEN__PUBLIC", "127.0.0.1:2")];
    let config = Dir::new().load_with("listen.public = \"127.0.0.1:1\"", &env, "127.0.0.1:3").unwrap();
    assert_eq!(config.listen.public, "127.0.0.1:3".parse().unwrap());
}

/// Every key refuses what has the wrong form, in the file and in the environment, and says what to write.
#[test]
fn every_key_refuses_the_wrong_form() {
    for key in KEYS {
        // A file's value, what it is called, and a variable's value with the problem it has.
        let (in_file, problem, in_env, env_problem) = match &key.kind {
            Kind::Text { .. } => {
                ("7", "a whole number stands where a text belongs".to_owned(), "", "the value is empty")
            }
            Kind::Choice { .. } => ("\"hm\"", "'hm' is not a choice".to_owned(), "hm", "'hm' is not a choice"),
            Kind::Integer { max, .. } => {
                let (value, problem) = (max + 1, format!("{} is out of range", max + 1));
                let text: &'static str = value.to_string().leak();
                (text, problem, "5m", "'5m' is not a whole number")
            }
            Kind::Boolean { .. } => (
                "\"yes\"",
                "a text stands where true or false belongs".to_owned(),
                "1",
                "'1' is neither true nor false",
            ),
            Kind::Command { .. } => (
                "\"sh\"",
                "a text stands where an array of texts belongs".to_owned(),
                "sh",
                "the value is no array of texts",
            ),
        };
        let (text, line) = file_with(key.path, in_file);
        let expected = format!("{} (hallpass.toml line {line}): {problem}; {}", key.path, key.fix());
        assert!(bad(&text).contains(&expected), "{expected}\nnot in {:?}", bad(&text));
        let name = key.variable();
        let expected = format!("{} ({name}): {env_problem}; {}", key.path, key.fix());
        let found = Dir::new().load("", &[(&name, in_env)]).unwrap_err();
        assert!(found.contains(&expected), "{expected}\nnot in {found:?}");
    }
}

#[test]
fn every_number_is_refused_below_and_above_its_limits_and_taken_at_them() {
    for key in KEYS {
        let Kind::Integer { min, max, .. } = &key.kind else { continue };
        for wrong in [i128::from(*min) - 1, -1, i128::from(*max) + 1] {
            let (text, line) = file_with(key.path, &wrong.to_string());
            let expected = format!(
                "{} (hallpass.toml line {line}): {wrong} is out of range; write a whole number from {min} to {max}",
                key.path
            );
            assert_eq!(bad(&text), [expected]);
        }
        for right in [min, max] {
            let found = Dir::new().load(file_with(key.path, &right.to_string()).0, &[]);
            // At a limit it may contradict another setting, but is never out of range.
            assert!(found.is_ok() || found.unwrap_err().iter().all(|m| !m.contains("out of range")), "{}", key.path);
        }
    }
}

#[test]
fn what_no_form_shows_is_refused_too() {
    let long = format!("\"/{}\"", "x".repeat(110));
    let table: &[(&str, &str, &str)] = &[
        (
            "issuer",
            "\"foo\"",
            "issuer (hallpass.toml line 2): 'foo' is no URL; write one, for example \"https://hallpass.example.com\"",
        ),
        (
            "issuer",
            "\"ftp://h\"",
            "issuer (hallpass.toml line 2): the URL is neither https nor http; write https://HOST[:PORT][/PATH]",
        ),
        (
            "issuer",
            "\"https://u:canary@h\"",
            "issuer (hallpass.toml line 2): the URL holds a user name or password; write https://",
        ),
        ("issuer", "\"https://h?a=canary\"", "issuer (hallpass.toml line 2): the URL has a query; write https://"),
        ("issuer", "\"https://h#a\"", "issuer (hallpass.toml line 2): the URL has a fragment; write https://"),
        ("issuer", "\"https://h/\"", "issuer (hallpass.toml line 2): the URL ends with a slash; write https://"),
        (
            "issuer",
            "\"https://H.example:443\"",
            "issuer (hallpass.toml line 2): 'https://H.example:443' is not its plain spelling; write 'https://h.example'",
        ),
        (
            "issuer",
            "\"http://h.example\"",
            "issuer (hallpass.toml line 2): the URL is http and its host is not loopback; write an https URL, or set insecure_http = true",
        ),
        (
            "issuer",
            "\"http://127.0.0.1.example\"",
            "issuer (hallpass.toml line 2): the URL is http and its host is not loopback; ",
        ),
        (
            "node",
            "\"Node 1\"",
            "node (hallpass.toml line 2): 'Node 1' is no name of a node; write 1 to 32 of a-z, 0-9 and -",
        ),
        ("node", "\"a23456789012345678901234567890123\"", "node (hallpass.toml line 2): "),
        (
            "node",
            "\"a\\nb\"",
            "node (hallpass.toml line 2): the value holds a line break or control character; write a text",
        ),
        ("node", "\" a\"", "node (hallpass.toml line 2): the value begins or ends with a space; write a text"),
        (
            "listen.public",
            "\"foo\"",
            "listen.public (hallpass.toml line 3): 'foo' is no socket address; write IP:PORT, for example 127.0.0.1:8600",
        ),
        (
            "listen.public",
            "\"localhost:1\"",
            "listen.public (hallpass.toml line 3): 'localhost:1' is no socket address; ",
        ),
        ("listen.public", "\"127.0.0.1:65536\"", "listen.public (hallpass.toml line 3): "),
        (
            "listen.public",
            "\"127.0.0.1:65535\"",
            "listen.ops (not set): the public listener has the last port, so there is no next one; set it",
        ),
        (
            "listen.public",
            "\"0.0.0.0:8600\"",
            "issuer (hallpass.toml line 3): is missing, and cannot be derived from the listener 0.0.0.0:8600; set it to the URL that agents use",
        ),
        (
            "listen.public",
            "\"[::]:8600\"",
            "issuer (hallpass.toml line 3): is missing, and cannot be derived from the listener [::]:8600; ",
        ),
        (
            "listen.public",
            "\"[fe80::1%2]:8600\"",
            "issuer (hallpass.toml line 3): is missing, and cannot be derived from the listener [fe80::1%2]:8600; ",
        ),
        (
            "listen.public",
            "\"10.0.0.5:8600\"",
            "issuer (hallpass.toml line 3): would be http://10.0.0.5:8600, which is http and not loopback; set an https issuer, or [tls], or insecure_http",
        ),
        (
            "listen.ops",
            "\"8601\"",
            "listen.ops (hallpass.toml line 3): '8601' is no socket address; write IP:PORT, for example 127.0.0.1:8601",
        ),
        (
            "listen.ops",
            "\"0.0.0.0:8600\"",
            "listen.ops (hallpass.toml line 3): 0.0.0.0:8600 is taken by the public listener 127.0.0.1:8600; write another port",
        ),
        (
            "listen.admin_socket",
            &long,
            "listen.admin_socket (hallpass.toml line 3): the path is 111 bytes long; write one of at most 107 bytes",
        ),
        (
            "database.url",
            "\"mysql://u:canary@h/d\"",
            "database.url (hallpass.toml line 3): the URL (not shown) is neither sqlite: nor postgres://; write sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME",
        ),
        (
            "database.url",
            "\"postgres://u:can#canary@h:x/d\"",
            "database.url (hallpass.toml line 3): the URL cannot be parsed; ",
        ),
        ("database.url", "\"sqlite:\"", "database.url (hallpass.toml line 3): the URL names no file; "),
        (
            "database.url",
            "\"sqlite::memory:\"",
            "database.url (hallpass.toml line 3): a database in memory forgets the audit log; ",
        ),
        (
            "database.url",
            "\"sqlite:a.db?mode=ro\"",
            "database.url (hallpass.toml line 3): an sqlite URL takes no options; ",
        ),
        ("database.url", "[\"canary\"]", "database.url (hallpass.toml line 3): an array stands where a text belongs; "),
        (
            "database.url_file",
            "\"absent\"",
            "database.url_file (hallpass.toml line 3): 'absent' cannot be read (No such file or directory (os error 2)); name a file",
        ),
        (
            "database.url_file",
            "\".\"",
            "database.url_file (hallpass.toml line 3): '.' cannot be read (not a file); name a file",
        ),
        (
            "vault.master_key_env",
            "\"canary+/=\"",
            "vault.master_key_env (hallpass.toml line 3): the value (not shown) is no name of a variable; write the variable's name, not the key itself",
        ),
        ("vault.master_key_env", "\"1A\"", "vault.master_key_env (hallpass.toml line 3): "),
        (
            "vault.master_key_command",
            "[]",
            "vault.master_key_command (hallpass.toml line 3): the array names no program; write the program and its arguments",
        ),
        (
            "vault.master_key_command",
            "[\"canary\", 1]",
            "vault.master_key_command (hallpass.toml line 3): the array holds something that is not a text; ",
        ),
        (
            "vault.master_key_command",
            "[\"a\", \"\\u0000\"]",
            "vault.master_key_command (hallpass.toml line 3): the array holds a NUL character; ",
        ),
        (
            "vault.previous_master_key_file",
            "\"keys/master.key\"",
            "vault.previous_master_key_file (hallpass.toml line 3): is the same file as vault.master_key_file; name the old key's file",
        ),
        (
            "listen.trusted_proxies",
            "\"10.0.0.0/8, x\"",
            "listen.trusted_proxies (hallpass.toml line 3): 'x' is no address or network of proxies; write them with commas",
        ),
        (
            "listen.trusted_proxies",
            "\"0.0.0.0/0\"",
            "listen.trusted_proxies (hallpass.toml line 3): '0.0.0.0/0' is no address or network of proxies; ",
        ),
        (
            "tls.client_crl_file",
            "\"absent\"",
            "tls.client_ca_file (not set): is missing beside tls.client_crl_file; set both, or remove the revocation list",
        ),
        ("tls.client_ca_file", "\"absent\"", "tls.client_ca_file (hallpass.toml line 3): 'absent' cannot be read"),
        (
            "tls.cert_file",
            "\"absent\"",
            "tls.key_file (not set): is missing beside tls.cert_file; set both, or remove both",
        ),
        (
            "tls.cert_file",
            "\"absent\"",
            "tls.cert_file (hallpass.toml line 3): 'absent' cannot be read (No such file or directory (os error 2)); name a file that the broker's user can read",
        ),
        ("tls.key_file", "\"absent\"", "tls.key_file (hallpass.toml line 3): 'absent' cannot be read"),
        ("tls.key_file", "\"absent\"", "tls.cert_file (not set): is missing beside tls.key_file; "),
        (
            "tokens.session_seconds",
            "1.5",
            "tokens.session_seconds (hallpass.toml line 3): a fraction stands where a whole number belongs; ",
        ),
        (
            "tokens.session_max_seconds",
            "3599",
            "tokens.session_max_seconds (hallpass.toml line 3): 3599 is less than tokens.session_seconds, 3600; raise it, or lower the other",
        ),
        (
            "keys.algorithm",
            "\"HS256\"",
            "keys.algorithm (hallpass.toml line 3): 'HS256' is not a choice; write one of ES256, EdDSA, RS256",
        ),
        (
            "keys.publish_ahead_hours",
            "720",
            "keys.publish_ahead_hours (hallpass.toml line 3): 720 hours are not less than keys.rotate_days, 720 hours; lower it",
        ),
        (
            "keys.rotate_days",
            "1",
            "keys.publish_ahead_hours (hallpass.toml line 3): 24 hours are not less than keys.rotate_days, 24 hours; ",
        ),
        (
            "revocations.max_age_seconds",
            "5",
            "revocations.max_age_seconds (hallpass.toml line 3): 5 is not more than revocations.sign_every_seconds, 5; raise it",
        ),
        (
            "audit.max_waiting",
            "1023",
            "audit.max_waiting (hallpass.toml line 3): 1023 is less than audit.max_batch, 1024; raise it",
        ),
    ];
    for (path, value, expected) in table {
        let (text, _) = file_with(path, value);
        let found = bad(&text);
        assert!(found.iter().any(|mistake| mistake.starts_with(expected)), "{expected}\nnot in {found:#?}");
        assert!(found.iter().all(|mistake| !mistake.contains("canary") && !mistake.contains('\n')), "{found:?}");
    }
}

#[test]
fn alternatives_exclude_each_other() {
    let dir = Dir::new();
    dir.write("url", "postgres://u:canary@h/d\n", 0o600);
    let both = "[database]\nurl = \"sqlite:a\"\nurl_file = \"url\"\n";
    let expected = "database.url_file (hallpass.toml line 3): is set beside database.url; remove one of the two";
    assert_eq!(dir.load(both, &[]).unwrap_err(), [expected]);
    let config = dir.load("database.url_file = \"url\"", &[]).unwrap();
    let DatabaseTarget::Postgres(url) = &config.database.target else { panic!("{config:?}") };
    assert_eq!(url.expose(), b"postgres://u:canary@h/d");
    assert!(!format!("{config:?}").contains("canary"));
    dir.write("url", "canary", 0o600);
    let found = dir.load("database.url_file = \"url\"", &[]).unwrap_err();
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("database.url_file (hallpass.toml line 1): the URL (not shown) is neither"));
    dir.write("url", [0xff], 0o600);
    let found = dir.load("database.url_file = \"url\"", &[]).unwrap_err();
    assert!(found[0].contains("write the URL into it, as UTF-8"), "{found:?}");

    let keys = "[vault]\nmaster_key_file = \"a\"\nmaster_key_env = \"B\"\n";
    let found = dir.load(keys, &[("HALLPASS_VAULT__MASTER_KEY_COMMAND", "[\"c\"]")]).unwrap_err();
    let expected = "vault.master_key_command (HALLPASS_VAULT__MASTER_KEY_COMMAND): is set beside \
                    vault.master_key_file; keep one source of the master key";
    assert_eq!(found, [expected]);
}

#[test]
fn the_master_key_may_come_from_a_variable_of_our_prefix_or_a_command() {
    let env = [("HALLPASS_MASTER_KEY", "canary"), ("HALLPASS_VAULT__MASTER_KEY_ENV", "HALLPASS_MASTER_KEY")];
    let config = Dir::new().load("", &env).unwrap();
    assert!(matches!(&config.vault.master_key, MasterKey::Variable(name) if name == "HALLPASS_MASTER_KEY"));
    let config = good("vault.master_key_command = [\"fetch\", \"--token=canary\"]");
    let MasterKey::Command(command) = &config.vault.master_key else { panic!("{config:?}") };
    assert_eq!(
        (command.program.as_str(), command.arguments.as_slice()),
        ("fetch", ["--token=canary".to_owned()].as_slice())
    );
    assert!(!format!("{config:?}").contains("canary"));
    // Where nothing names it, it is a mistake like any other unknown variable, and its value stays unsaid.
    let found = Dir::new().load("", &[("HALLPASS_MASTER_KEY", "canary")]).unwrap_err();
    assert_eq!(
        found,
        ["HALLPASS_MASTER_KEY: there is no such setting; did you mean HALLPASS_VAULT__MASTER_KEY_FILE? else remove it"]
    );
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = dir_with_tls();
    let text = "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";
    for mode in [0o640, 0o604, 0o660] {
        dir.write("key.pem", "canary", mode);
        let expected = format!(
            "tls.key_file (hallpass.toml line 3): others than its owner have access to the file (mode {mode:03o}); \
             run `chmod 600 key.pem`"
        );
        assert_eq!(dir.load(text, &[]).unwrap_err(), [expected]);
    }
    dir.write("key.pem", "key", 0o400);
    assert!(dir.load(text, &[]).is_ok());
}

#[test]
fn what_is_not_known_is_a_mistake_with_a_guess() {
    let table = [
        ("isuer = 1", "isuer (hallpass.toml line 1): there is no such setting; did you mean issuer? else remove it"),
        (
            "[listen]\npublik = 1",
            "listen.publik (hallpass.toml line 2): there is no such setting; did you mean listen.public? else remove it",
        ),
        (
            "[listen]\nmax_calls = 1",
            "listen.max_calls (hallpass.toml line 2): there is no such setting; did you mean exchange.max_calls? else remove it",
        ),
        (
            "[lissen]\npublic = 1",
            "lissen (hallpass.toml line 1): there is no such table; did you mean [listen]? else remove it",
        ),
        (
            "[[listen]]\npublic = 1",
            "listen (hallpass.toml line 1): is a table, not a value; write [listen] on a line of its own, and its settings below",
        ),
        (
            "listen = 5",
            "listen (hallpass.toml line 1): is a table, not a value; write [listen] on a line of its own, and its settings below",
        ),
        ("zzz = \"canary\"", "zzz (hallpass.toml line 1): there is no such setting; remove it"),
        (
            "\"postgres://u:canary@h\" = 1",
            "(a name not shown) (hallpass.toml line 1): there is no such setting; remove it",
        ),
        (
            "\"node\\u001b\" = 1",
            "(a name not shown) (hallpass.toml line 1): there is no such setting; did you mean node? else remove it",
        ),
        (
            "\"listen.public\" = \"127.0.0.1:1\"",
            "listen.public (hallpass.toml line 1): there is no such setting; did you mean listen.public? else remove it",
        ),
        (
            "[listen.public]\na = 1",
            "listen.public (hallpass.toml line 1): a table stands where a text belongs; write a text, for example \"127.0.0.1:8600\"",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(bad(text), [expected]);
    }
    let table = [
        (
            "HALLPASS_LISTEN_PUBLIC",
            "HALLPASS_LISTEN_PUBLIC: there is no such setting; did you mean HALLPASS_LISTEN__PUBLIC? else remove it",
        ),
        (
            "HALLPASS_listen__public",
            "HALLPASS_listen__public: there is no such setting; did you mean HALLPASS_LISTEN__PUBLIC? else remove it",
        ),
        (
            "HALLPASS_",
            "HALLPASS_: there is no such setting; remove it, or rename it if it is not for Hallpass: HALLPASS_ begins our settings",
        ),
        (
            "HALLPASS_NONE__SUCH",
            "HALLPASS_NONE__SUCH: there is no such setting; remove it, or rename it if it is not for Hallpass: HALLPASS_ begins our settings",
        ),
    ];
    for (name, expected) in table {
        assert_eq!(Dir::new().load("", &[(name, "canary")]).unwrap_err(), [expected]);
    }
    let fine = [("HALLPASS_CONFIG", "x"), ("HALLPASS_TEST_POSTGRES", "x"), ("HALLPASSX", "x"), ("PATH", "x")];
    assert!(Dir::new().load("", &fine).unwrap().not_ours.is_empty());
    // Variables that an image, a deployment or Docker's links set: told, and not in the way.
    let not_ours = [("HALLPASS_TESTS", "x"), ("HALLPASS_VERSION", "1.2"), ("HALLPASS_SECRETS", "/run/secrets")];
    let mut names = not_ours.map(|(name, _)| name);
    names.sort_unstable();
    assert_eq!(Dir::new().load("", &not_ours).unwrap().not_ours, names);
    let found = Dir::new().load("", &[("HALLPASS_NODE", "a\u{fffd}")]).unwrap_err();
    assert_eq!(found, ["node (HALLPASS_NODE): the value is not UTF-8; write a text, for example \"node-1\""]);
}

#[test]
fn every_mistake_is_listed_at_once_in_order() {
    let text = "node = \"A\"\n[tokens]\nlifetime_seconds = 5\nlifetme = 1\n[log]\nlevel = \"loud\"\n[listen]\npublic = \"x\"\n";
    let env = [("HALLPASS_NODES", "1"), ("HALLPASS_AUDIT__MAX_BATCH", "many")];
    let found = Dir::new().load(text, &env).unwrap_err();
    let starts: Vec<_> =
        found.iter().map(|mistake| mistake.split_once("): ").map_or(mistake.as_str(), |m| m.0)).collect();
    assert_eq!(
        starts,
        [
            "node (hallpass.toml line 1",
            "tokens.lifetime_seconds (hallpass.toml line 3",
            "tokens.lifetme (hallpass.toml line 4",
            "log.level (hallpass.toml line 6",
            "listen.public (hallpass.toml line 8",
            "audit.max_batch (HALLPASS_AUDIT__MAX_BATCH",
            "HALLPASS_NODES: there is no such setting; did you mean HALLPASS_NODE? else remove it",
        ]
    );
}

#[test]
fn syntax_errors_have_line_and_column_and_show_nothing_of_the_file() {
    let found = bad("node = \"a\"\n[database]\nurl = postgres://u:canary@h/d\n\n[log]\nlevel = \n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("hallpass.toml line 3 column 7: is no TOML ("), "{found:?}");
    assert!(found[1].starts_with("hallpass.toml line 6 column 9: is no TOML ("), "{found:?}");
    assert!(found[0].ends_with("; write NAME = VALUE, texts in double quotes"));
    assert!(found.iter().all(|mistake| !mistake.contains("canary")), "{found:?}");
    let found = bad("node = \"a\"\nnode = \"b\"\n");
    assert!(found[0].starts_with("hallpass.toml line 2 column 1: is no TOML (duplicate key)"), "{found:?}");
    assert!(bad([b'a', b'\n', 0xff])[0].starts_with("hallpass.toml line 2: is not UTF-8; save"));
    assert!(bad(vec![b'\n'; 1024 * 1024 + 1])[0].starts_with("hallpass.toml: is larger than 1 MiB; name"));
    // What the file would have said is not asked of the environment.
    let env = [("HALLPASS_MASTER_KEY", "canary"), ("HALLPASS_NODE", "")];
    let found = Dir::new().load("vault.master_key_env = \"HALLPASS_MASTER_KEY\"\n=", &env).unwrap_err();
    assert_eq!(found.len(), 2, "{found:?}");

    let absent = load(Some(Path::new("/absent/hallpass.toml")), std::iter::empty(), Overrides::default()).unwrap_err();
    assert_eq!(
        absent[0].to_string(),
        "/absent/hallpass.toml: cannot be read (No such file or directory (os error 2)); \
         write it with `hallpass init`, or name another with --config"
    );
}

#[test]
fn issuers_that_are_fine() {
    for issuer in [
        "https://h.example",
        "https://h.example:8443/team/a",
        "http://localhost:8600",
        "http://127.0.0.1",
        "http://[::1]:8600",
        "http://a.localhost",
    ] {
        assert_eq!(good(&format!("issuer = \"{issuer}\"")).issuer.as_deref(), Some(issuer));
    }
    let config = good("issuer = \"http://h.example\"\ninsecure_http = true");
    assert_eq!(config.issuer_for("127.0.0.1:1".parse().unwrap()), "http://h.example");
    assert!(Dir::new().load("issuer = \"https://h\"\nlisten.public = \"0.0.0.0:1\"", &[]).is_ok());
}

#[test]
fn the_issuer_and_the_ops_address_follow_the_listener() {
    let mut config = good("listen.public = \"127.0.0.1:0\"");
    assert_eq!(config.issuer_for("127.0.0.1:4321".parse().unwrap()), "http://127.0.0.1:4321");
    assert_eq!(config.issuer_for("[::1]:4321".parse().unwrap()), "http://[::1]:4321");
    assert_eq!(config.ops_for("127.0.0.1:4321".parse().unwrap()), "127.0.0.1:0".parse().unwrap());
    config.tls = Some(Tls { cert_file: PathBuf::new(), key_file: PathBuf::new() });
    assert_eq!(config.issuer_for("10.0.0.5:443".parse().unwrap()), "https://10.0.0.5");
    let config = good("listen.public = \"127.0.0.1:70\"");
    assert_eq!(config.ops_for(config.listen.public), "127.0.0.1:71".parse().unwrap());
    let config = good("listen.ops = \"127.0.0.1:5\"");
    assert_eq!(config.ops_for(config.listen.public), "127.0.0.1:5".parse().unwrap());

    let found = Dir::new().load_with("", &[], "0.0.0.0:1").unwrap_err();
    assert!(found[0].starts_with("issuer (--listen): is missing, and cannot be derived from the listener 0.0.0.0:1"));
    let tls = dir_with_tls();
    let text = "tls.cert_file = \"cert.pem\"\ntls.key_file = \"key.pem\"\nlisten.public = \"10.0.0.5:8600\"";
    assert!(tls.load(text, &[]).is_ok());
    assert!(Dir::new().load("insecure_http = true\nlisten.public = \"10.0.0.5:8600\"", &[]).is_ok());
}

#[test]
fn algorithms_are_spelled_as_in_jose() {
    for name in ["ES256", "EdDSA", "RS256"] {
        assert_eq!(name.parse::<SigningAlgorithm>().unwrap().to_string(), name);
    }
    for name in ["", "es256", "EDDSA", "none", "HS256"] {
        assert_eq!(name.parse::<SigningAlgorithm>().unwrap_err().code, "unknown_algorithm");
    }
}

#[test]
fn the_template_parses_and_shows_every_key_at_its_default() {
    let dir = Dir::new();
    let text = template(None);
    let defaults = format!("{:?}", dir.load("", &[]).unwrap());
    assert_eq!(format!("{:?}", dir.load(&text, &[]).unwrap()), defaults);
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(format!("{:?}", dir.load(&uncommented, &[]).unwrap()), defaults);
    // Every key is there, in its own table, either at its default or as an example that has the right form.
    let mut table = "";
    let mut found = Vec::new();
    for line in text.lines() {
        assert!(line.chars().count() <= 130, "{line}");
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']');
        }
        let setting =
            line.strip_prefix("# e.g. ").or_else(|| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')));
        if let Some((name, value)) = setting.and_then(|setting| setting.split_once(" = ")) {
            let path = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
            let (text, _) = file_with(&path, value);
            let mistakes = dir.load(&text, &[]).err().unwrap_or_default();
            assert!(
                // The admin listener's address alone lets nobody in.
                mistakes.iter().all(|m| {
                    ["cannot be read", "missing beside"].iter().any(|told| m.contains(told))
                        || m.starts_with("admin.listen")
                }),
                "{mistakes:?}"
            );
            found.push(path);
        }
    }
    assert_eq!(found, KEYS.iter().map(|key| key.path).collect::<Vec<_>>());
}

#[test]
fn the_template_takes_a_database_url_whatever_is_in_it() {
    let url = "postgres://u:p\"a\\b'c%23@h/d";
    let config = Dir::new().load(template(Some(url)), &[]).unwrap();
    let DatabaseTarget::Postgres(found) = &config.database.target else { panic!("{config:?}") };
    assert_eq!(found.expose(), url.as_bytes());
}

#[test]
fn the_process_environment_can_be_read() {
    assert!(environment().any(|(name, _)| name == "PATH"));
}
