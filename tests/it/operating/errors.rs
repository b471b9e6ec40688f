//! Each error names what is wrong, where, and what to do, in the words of those who read it.

use std::path::Path;

use crate::support::Binary;
use crate::support::postgres::Cluster;
use crate::support::real::{hallpass, said};

/// Words out of the source of a library.
const FOREIGN: [&str; 10] = [
    "DuplicateKeyPolicy",
    "Option<",
    "CaUsedAsEndEntity",
    "OtherError(",
    "sqlx",
    "PoolTimedOut",
    "struct ",
    "enum ",
    "Some(",
    "Options",
];

#[track_caller]
fn is_plain(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "'{word}' is missing: {text}");
    }
    for word in FOREIGN {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_configuration_that_cannot_be_looked_at_is_not_one_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let round = dir.path().join("round");
    std::os::unix::fs::symlink(&round, &round).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    for (config, words) in
        [(round.join("hallpass.toml"), "symbolic links"), (dir.path().join("file/x"), "Not a directory")]
    {
        for command in [&["status"][..], &["serve"], &["audit", "tail"]] {
            let (code, text) = hallpass(&config, command);
            assert!(code == 1 && !text.contains("there is no configuration"), "{text}");
            is_plain(&text, &["it cannot be told whether there is a configuration at", words, "--config FILE"]);
        }
    }
    // Where somebody else may not read. Only root can become somebody else.
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let broker = Binary::init(None);
    let program = Path::new(env!("CARGO_BIN_EXE_hallpass"));
    let mut command = std::process::Command::new(program);
    command.args(["status", "--config"]).arg(broker.config()).current_dir("/").uid(65_534).gid(65_534);
    std::fs::set_permissions(broker.dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    if let Ok(output) = command.output() {
        let (code, text) = said(&output);
        assert_eq!(code, 1, "{text}");
        is_plain(&text, &["it cannot be told", "Permission denied", "as the broker's user"]);
    }
}

#[test]
fn documents_are_told_what_is_wrong_in_their_own_words() {
    let mut broker = Binary::init(None);
    broker.serve(None);
    for (document, words) in [
        ("roles: []\nroles: []\n", &["duplicate", "roles", "line 2"][..]),
        ("roles: [ { name: a, name: b, scopes: [] } ]\n", &["duplicate", "name"]),
        ("roles: [ { name: ~, scopes: [] } ]\n", &["null", "line 1"]),
        ("roles: [ { name: a, scopes: ~x } ]\n", &["line 1"]),
        ("- a\n", &["document"]),
        ("upstreams: 7\n", &["a list"]),
        ("upstreams: [ 7 ]\n", &["a mapping"]),
        ("roles: [ 7 ]\n", &["a mapping"]),
        ("upstreams: [ { name: a, base_url: 'https://a', inject: 7, operations: [] } ]\n", &["line 1"]),
    ] {
        let (code, text) = said(&broker.run(&["apply", "-f", "-"], document));
        assert_eq!(code, 1, "{document}: {text}");
        is_plain(&text, words);
    }
}

#[test]
fn a_database_that_cannot_be_used_says_why() {
    let mut broker = Binary::init(None);
    let mut fails = |url: &str, words: &[&str]| {
        broker.set("HALLPASS_DATABASE__URL", url);
        let (code, text) = said(&broker.run(&["serve"], ""));
        assert_eq!(code, 1, "{url}: {text}");
        is_plain(&text, words);
        assert!(!text.contains("hunter2"), "{text}");
    };
    fails("postgres://u:hunter2@127.0.0.1:1/x", &["cannot be reached", "nothing listens there"]);
    fails("postgres://u:hunter2@%2Fnowhere/x", &["no socket at this path"]);
    let Some(cluster) = Cluster::own() else { return };
    let url = cluster.create_database(0);
    let (server, _) = url.rsplit_once('/').unwrap();
    fails(&format!("{server}/absent"), &["absent", "create the database"]);
    fails(&url.replace("postgres@", "nobody:hunter2@"), &["nobody", "mend user and password"]);
    cluster.signal("-STOP");
    fails(&url, &["does not answer in time"]);
    cluster.signal("-CONT");
    cluster.stop("immediate");
}

#[test]
fn service_links_of_kubernetes_are_passed_over_and_slips_are_not() {
    let mut broker = Binary::init(None);
    for (name, value) in [
        ("PORT", "tcp://10.0.0.1:8600"),
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "8600"),
        ("SERVICE_PORT_HTTP", "8600"),
        ("PORT_8600_TCP", "tcp://10.0.0.1:8600"),
        ("PORT_8600_TCP_PROTO", "tcp"),
        ("PORT_8600_TCP_PORT", "8600"),
        ("PORT_8600_TCP_ADDR", "10.0.0.1"),
        ("ADMIN_SERVICE_PORT", "8602"),
        ("SERVER_CA", "/nowhere"),
        // Docker's links, an image's and a deployment's own, and links whose value is not an address.
        ("NAME", "/web/hallpass"),
        ("ENV_FOO", "bar"),
        ("PORT_8600_TCP_START", "tcp://172.17.0.2:8600"),
        ("VERSION", "1.2.3"),
        ("IMAGE_TAG", "1"),
        ("TOKEN", "canary"),
        ("SECRETS", "/etc/hallpass/compose"),
        ("SERVICE_HOST", "hallpass.default.svc"),
        ("SERVICE_PORT", ""),
    ] {
        broker.set(&format!("HALLPASS_{name}"), value);
    }
    broker.serve(None);
    broker.ok(&["status"], "");
    for (name, value, words) in [
        ("HALLPASS_PORT", "8600", "did you mean HALLPASS_LISTEN__PUBLIC?"),
        ("HALLPASS_TOKENS_LIFETIME_SECONDS", "60", "did you mean HALLPASS_TOKENS__LIFETIME_SECONDS?"),
        ("HALLPASS_LISTEN_ANYTHING", "1", "did you mean HALLPASS_LISTEN__PUBLIC?"),
        ("HALLPASS_IMAGE__TAG", "1", "rename it if it is not for Hallpass"),
    ] {
        let mut broker = Binary::init(None);
        broker.set(name, value);
        let (code, text) = said(&broker.run(&["serve"], ""));
        assert_eq!(code, 1, "{text}");
        is_plain(&text, &[name, words]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shows_a_cas_certificate_is_told_in_words() {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let chain = vec![ca.der().clone()];
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = config.with_no_client_auth().with_single_cert(chain, key.into()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            _ = acceptor.accept(stream).await.is_ok();
        }
    });
    let mut broker = Binary::init(None);
    broker.serve(None);
    let file = broker.dir.path().join("ca.crt");
    std::fs::write(&file, ca.pem()).unwrap();
    let (server, file) = (format!("https://localhost:{port}"), file.display().to_string());
    let document = format!(
        "upstreams:\n  - name: crm\n    base_url: {server}\n    allow_private: true\n    ca_file: {file}\n    \
         inject: {{ kind: header, name: X-Api-Key, credential: k }}\n    \
         operations: [ {{ id: a, methods: [GET], path: /a, scope: a }} ]\n"
    );
    broker.ok(&["apply", "-f", "-"], &document);
    let (code, text) = said(&broker.run(&["upstream", "test", "crm"], ""));
    assert_eq!(code, 1, "{text}");
    is_plain(&text, &["crm is not reachable", "a CA's"]);
    let (code, text) = said(&broker.run(&["login", &server, "--ca", &file], ""));
    assert_eq!(code, 3, "{text}");
    is_plain(&text, &["no broker answers", "a CA's"]);
}
