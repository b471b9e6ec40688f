//! Files that admins give hold more than was asked for: a private key beside a certificate. It is not kept, not shown,
//! not recorded, and the command line does not even send it.

use serde_json::{Value, json};

use crate::support::database::{execute, texts};
use crate::support::{Binary, TestBroker};

/// A certificate and its private key, PEM, and a line of the key.
fn pair() -> (String, String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["crm.example.com".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let line = key.lines().nth(1).unwrap().to_owned();
    (made.cert.pem(), key, line)
}

const CANARY: &str = "sk-live-canary-0123456789";

fn upstream(ca_file: &str) -> String {
    format!(
        "upstreams: [ {{ name: crm, base_url: \"https://crm.example.com\", ca_file: {ca_file}, \
         inject: {{ kind: bearer, credential: k }}, \
         operations: [ {{ id: a, methods: [GET], path: /, scope: s }} ] }} ]\n"
    )
}

/// Every file of the broker's database, and every record.
async fn everything_kept(broker: &TestBroker) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(broker.dir.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            all.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
    all.push_str(&json!(broker.records().await).to_string());
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_private_key_in_a_file_of_certificates_or_keys_is_refused_and_kept_nowhere() {
    let broker = TestBroker::start().await;
    let (cert, key, line) = pair();
    let issuer = "issuers: [ { name: k8s, issuer: \"https://k8s.example.com\", ca_file: f } ]\n";
    let domain = "trust_domains: [ { name: a.example, bundle_endpoint: \"https://a.example/b\", ca_file: f } ]\n";
    let bundle = "trust_domains: [ { name: a.example, bundle_file: f } ]\n";
    let private = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": CANARY }] }).to_string();
    let inline = |jwks: &str| {
        format!(
            "agents: [ {{ name: a, roles: [], identity: {{ methods: [ {{ method: private_key_jwt, jwks: {jwks} }} ] }} }} ]\n"
        )
    };
    let pem_inline = format!("roles: []\n# {}\n", key.replace('\n', "\n# "));
    for (document, file, at) in [
        (upstream("f"), format!("{cert}{key}"), "upstreams[0].ca_file"),
        (upstream("f"), format!("{key}{cert}"), "upstreams[0].ca_file"),
        (upstream("f"), key.clone(), "upstreams[0].ca_file"),
        (issuer.to_owned(), format!("{cert}{key}"), "issuers[0].ca_file"),
        (domain.to_owned(), format!("{cert}{key}"), "trust_domains[0].ca_file"),
        (bundle.to_owned(), private.clone(), "trust_domains[0].bundle_file"),
        (inline(&private), String::new(), "agents[0].identity.methods[0].jwks"),
        (pem_inline, String::new(), "document"),
    ] {
        for dry_run in [true, false] {
            let body = json!({ "document": document, "files": { "f": file }, "dry_run": dry_run });
            let (status, answer) = broker.admin("POST", "/admin/v1/apply", body).await;
            assert_eq!((status, answer["mistakes"][0]["at"].as_str()), (400, Some(at)), "{answer}");
            let said = answer.to_string();
            assert!(said.contains("private") && !said.contains(&line) && !said.contains(CANARY), "{said}");
        }
    }
    let identity = json!({ "methods": [{ "method": "private_key_jwt", "jwks": { "kty": "oct", "k": CANARY } }] });
    let (status, answer) = broker.admin("POST", "/admin/v1/agents", json!({ "name": "a", "identity": identity })).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("bad_identity")));
    let kept = everything_kept(&broker).await;
    assert!(!kept.contains(&line) && !kept.contains(CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_of_a_file_nothing_is_kept_but_what_was_asked_for() {
    let broker = TestBroker::start().await;
    let (cert, ..) = pair();
    let document = format!(
        "{}trust_domains: [ {{ name: a.example, bundle_file: b }} ]\nagents: [ {{ name: a, roles: [], identity: {{ methods: \
         [ {{ method: private_key_jwt, jwks: {{ keys: [ {{ kty: EC, crv: P-256, x: MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4, \"y\": 4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM, note: {CANARY} }} ] }} }} ] }} }} ]\n",
        upstream("f")
    );
    let bundle = json!({ "keys": [{ "kty": "EC", "x": "AA", "note": CANARY }], "password": CANARY }).to_string();
    let files = json!({ "f": format!("api_key: {CANARY}\n{cert}\n# {CANARY}\n"), "b": bundle });
    let answer = broker.admin_ok("POST", "/admin/v1/apply", json!({ "document": document, "files": files })).await;
    assert!(!answer.to_string().contains(CANARY), "{answer}");
    let shown = broker.admin_ok("GET", "/admin/v1/upstreams/crm", Value::Null).await;
    assert_eq!(shown["ca_pem"].as_str().unwrap(), cert.replace("\r\n", "\n"));
    assert!(!everything_kept(&broker).await.contains(CANARY));
    let again = broker.admin_ok("POST", "/admin/v1/apply", json!({ "document": document, "files": files })).await;
    assert_eq!(again["changes"], json!([]), "what was left out is no change");
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_the_command_line_sends_no_private_key() {
    let mut binary = Binary::init(None);
    let (cert, key, line) = pair();
    let write = |name: &str, text: &str| std::fs::write(binary.dir.path().join(name), text).unwrap();
    write("both.pem", &format!("{cert}{key}"));
    write("ca.pem", &format!("# {CANARY}\n{cert}"));
    write("private.json", &json!({ "keys": [{ "kty": "EC", "x": "AA", "d": CANARY }] }).to_string());
    write("up.yaml", &upstream("both.pem"));
    write("good.yaml", &upstream("ca.pem"));
    write("bundle.yaml", "trust_domains: [ { name: a.example, bundle_file: private.json } ]\n");
    write("broken.yaml", &format!("nonsense: {{ keys: [ {{ kty: EC, d: {CANARY} }} ] }}\n"));
    let path = |name: &str| binary.dir.path().join(name).display().to_string();
    let commands = [
        vec!["apply".to_owned(), "-f".to_owned(), path("up.yaml")],
        vec!["apply".to_owned(), "-f".to_owned(), path("bundle.yaml")],
        vec!["apply".to_owned(), "-f".to_owned(), path("broken.yaml")],
        ["agent", "register", "a", "--jwks"].map(str::to_owned).into_iter().chain([path("private.json")]).collect(),
        ["agent", "issue-cert", "a", "--csr"].map(str::to_owned).into_iter().chain([path("both.pem")]).collect(),
        ["login", "https://127.0.0.1:1", "--ca"].map(str::to_owned).into_iter().chain([path("both.pem")]).collect(),
    ];
    let good = path("good.yaml");
    // Nobody is there to send it to: a command that tried would end with 3.
    for command in &commands {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = binary.run(&command, "");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("private") && !said.contains(&line) && !said.contains(CANARY), "{command:?}: {said}");
    }
    binary.serve(None);
    binary.ok(&["apply", "-f", &good], "");
    let shown = binary.ok(&["upstream", "show", "crm"], "");
    assert!(shown.contains("BEGIN CERTIFICATE") && !shown.contains(CANARY), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_private_key_that_was_stored_before_is_removed_at_the_start() {
    let broker = TestBroker::start().await;
    let (cert, key, line) = pair();
    let body = json!({ "document": upstream("f"), "files": { "f": cert } });
    broker.admin_ok("POST", "/admin/v1/apply", body).await;
    let url = format!("sqlite:{}", broker.database_file().display());
    let bodies = || async { texts(&url, "SELECT body FROM definitions WHERE name = 'crm'").await };
    let stored = bodies().await.remove(0);
    let mut old: Value = serde_json::from_str(&stored).unwrap();
    old["ca_pem"] = format!("{cert}{key}").into();
    execute(&url, &format!("UPDATE definitions SET body = '{old}' WHERE name = 'crm'")).await;

    let broker = broker.restart().await;
    let shown = broker.admin_ok("GET", "/admin/v1/upstreams/crm", Value::Null).await;
    assert_eq!(shown["ca_pem"].as_str().unwrap(), cert);
    assert!(!bodies().await.concat().contains(&line));
    assert!(!everything_kept(&broker).await.contains(&line), "it is in the file's free pages");
    let told = broker.wait_for_record(|one| one["action"] == "clean stored file").await;
    assert_eq!((told["object"].as_str(), told["reason"].as_str()), (Some("upstream crm"), Some("private_key_removed")));
    // Once is enough.
    let broker = broker.restart().await;
    let told = broker.records().await.into_iter().filter(|one| one["action"] == "clean stored file").count();
    assert_eq!(told, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_file_of_the_settings_with_a_private_key_stops_the_start() {
    use hallpass::app::{self, Surroundings};
    use hallpass::config::{self, Overrides};
    let dir = tempfile::tempdir().unwrap();
    app::init(dir.path(), None).await.unwrap();
    let (cert, key, line) = pair();
    std::fs::write(dir.path().join("tls.crt"), &cert).unwrap();
    std::fs::write(dir.path().join("both.pem"), format!("{cert}{key}")).unwrap();
    let tls_key = dir.path().join("tls.key");
    std::fs::write(&tls_key, &key).unwrap();
    std::fs::set_permissions(&tls_key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let settings = [
        ("HALLPASS_TLS__CERT_FILE".to_owned(), path("tls.crt")),
        ("HALLPASS_TLS__KEY_FILE".to_owned(), path("tls.key")),
        ("HALLPASS_TLS__CLIENT_CA_FILE".to_owned(), path("both.pem")),
    ];
    let overrides = Overrides { listen: Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0))) };
    let config = config::load(Some(&dir.path().join("hallpass.toml")), settings.into_iter(), overrides).unwrap();
    let error = app::start(config, Surroundings::default()).await.unwrap_err().to_string();
    assert!(error.contains("both.pem") && error.contains("private key") && !error.contains(&line), "{error}");
}
