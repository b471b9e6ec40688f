//! Client certificates: RFC 8705, X.509-SVIDs, RFC 9440, and the broker's own CA; over real TLS.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass::app::Surroundings;
use hallpass_verify::{CertificateThumbprint, Gateway, GatewaySettings, Possession, Refusal};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::certificates::{Ca, Holder, dns, email, uri};
use crate::support::broker::{TestAgent, client};
use crate::support::database::on_both_engines;
use crate::support::real::{Real, until};
use crate::support::{Engine, TestBroker, TestClock, Upstream};

const BOT: &str = "https://bots.example.com/helpdesk";

/// A broker with TLS, the CA that it asks about clients, and files that can be replaced.
struct Scene {
    broker: TestBroker,
    clock: Arc<TestClock>,
    ca: Ca,
    server: rcgen::CertifiedKey<rcgen::KeyPair>,
    files: TempDir,
    agents: std::sync::atomic::AtomicU32,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| None, &[]).await
    }

    /// `None` (said loudly) where PostgreSQL is asked for and not installed.
    async fn on(engine: Engine) -> Option<Self> {
        Self::start(engine, |_| None, &[]).await
    }

    /// `crl` makes the revocation list's file, if there is to be one.
    async fn with(crl: impl FnOnce(&Ca) -> Option<String>, settings: &[(&str, &str)]) -> Self {
        Self::start(Engine::Sqlite, crl, settings).await.unwrap()
    }

    async fn start(engine: Engine, crl: impl FnOnce(&Ca) -> Option<String>, settings: &[(&str, &str)]) -> Option<Self> {
        drop(client());
        let (clock, ca, files) = (TestClock::new(), Ca::new("Example CA"), tempfile::tempdir().unwrap());
        let server = server_certificate();
        let path = |name: &str| files.path().join(name).display().to_string();
        let write = |name: &str, text: &str| write(files.path().join(name), text);
        write("tls.crt", &server.cert.pem());
        write("tls.key", &server.signing_key.serialize_pem());
        write("ca.crt", &ca.pem);
        let paths = [path("tls.crt"), path("tls.key"), path("ca.crt"), path("ca.crl")];
        let mut all = vec![
            ("HALLPASS_TLS__CERT_FILE", paths[0].as_str()),
            ("HALLPASS_TLS__KEY_FILE", paths[1].as_str()),
            ("HALLPASS_TLS__CLIENT_CA_FILE", paths[2].as_str()),
        ];
        if let Some(crl) = crl(&ca) {
            write("ca.crl", &crl);
            all.push(("HALLPASS_TLS__CLIENT_CRL_FILE", paths[3].as_str()));
        }
        all.extend_from_slice(settings);
        let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
        let broker = TestBroker::start_with(engine, surroundings, &all).await?;
        Some(Self { broker, clock, ca, server, files, agents: Default::default() })
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.broker.running.public)
    }

    /// A client that shows this certificate, on connections of its own.
    fn client(&self, holder: Option<&Holder>) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.server.cert.pem().as_bytes()).unwrap();
        let builder = reqwest::Client::builder().tls_certs_only([root]).pool_max_idle_per_host(0);
        match holder {
            Some(holder) => builder.identity(holder.identity()).build().unwrap(),
            None => builder.build().unwrap(),
        }
    }

    /// An agent with these methods.
    async fn agent(&self, methods: Value) -> TestAgent {
        let n = self.agents.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.agent_named(&format!("bot-{n}"), methods, &[]).await
    }

    async fn agent_named(&self, name: &str, methods: Value, roles: &[&str]) -> TestAgent {
        let body = json!({ "name": name, "roles": roles, "identity": { "methods": methods } });
        let answer = self.broker.admin_ok("POST", "/admin/v1/agents", body).await;
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        TestAgent { client_id: text("client_id"), client_secret: text("client_secret") }
    }

    async fn post(&self, path: &str, holder: Option<&Holder>, form: &[(&str, &str)]) -> (u16, Value) {
        let answer = self.client(holder).post(self.url(path)).form(form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A token request of this agent with this certificate.
    async fn ask(&self, agent: &TestAgent, holder: Option<&Holder>) -> (u16, Value) {
        let form = [("grant_type", "client_credentials"), ("client_id", agent.client_id.as_str())];
        self.post("/oauth2/token", holder, &form).await
    }

    /// The request is refused, and the audit log says why.
    async fn refused(&self, agent: &TestAgent, holder: &Holder, reason: &str) {
        let before = self.broker.records().await.len();
        let (status, answer) = self.ask(agent, Some(holder)).await;
        assert_eq!((status, answer["error"].as_str()), (401, Some("invalid_client")), "{reason}: {answer}");
        let records = self.broker.records().await;
        let last = records[before..].iter().rfind(|record| record["kind"] == "token.refused");
        assert_eq!(last.unwrap()["reason"], reason);
    }

    async fn accepted(&self, agent: &TestAgent, holder: &Holder, what: &str) -> Value {
        let (status, answer) = self.ask(agent, Some(holder)).await;
        // Authenticated: without a role there is nothing to issue, and that is said only then.
        assert!(status == 200 || answer["error"] == "invalid_scope", "{what}: {status} {answer}");
        answer
    }
}

on_both_engines!(
    rfc8705_s2_1_2_each_matcher_takes_its_name_and_no_other,
    rfc8705_s2_2_a_self_signed_certificate_is_the_registered_one,
    spiffe_x509_svid_s5_2_only_its_own_trust_domain_vouches,
    rfc8705_s3_a_copied_token_is_no_use,
);

fn server_certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap()
}

/// At once or not at all, as `mv` does; readable by its owner alone.
fn write(path: PathBuf, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(next, path).unwrap();
}

fn san(names: &[SanType]) -> impl FnOnce(&mut CertificateParams) {
    let names = names.to_vec();
    move |params| params.subject_alt_names = names
}

fn by_uri(text: &str) -> Value {
    json!([{ "method": "tls_client_auth", "san_uri": text }])
}

async fn rfc8705_s2_1_2_each_matcher_takes_its_name_and_no_other(engine: Engine) {
    let Some(scene) = Scene::on(engine).await else { return };
    let ip = |text: &str| SanType::IpAddress(text.parse().unwrap());
    for (matcher, wanted, good, bad) in [
        ("san_dns", "Bot.example.com", dns("bot.example.com"), dns("bot.example.com.evil.net")),
        ("san_uri", BOT, uri(BOT), uri("https://bots.example.com/helpdesk/")),
        ("san_ip", "192.0.2.7", ip("192.0.2.7"), ip("192.0.2.70")),
        ("san_ip", "2001:db8:0::7", ip("2001:db8::7"), ip("192.0.2.7")),
        ("san_email", "bot@example.com", email("bot@example.com"), email("Bot@example.com")),
    ] {
        let agent = scene.agent(json!([{ "method": "tls_client_auth", matcher: wanted }])).await;
        let (good, bad) = (scene.ca.holder(san(&[dns("x.example.com"), good])), scene.ca.holder(san(&[bad])));
        scene.accepted(&agent, &good, matcher).await;
        scene.refused(&agent, &bad, "client_certificate_of_another").await;
        // The right text, but as a name of another kind.
        let other = scene.ca.holder(san(&[if matcher == "san_dns" { email("bot.example.com") } else { dns("x.y") }]));
        scene.refused(&agent, &other, "client_certificate_of_another").await;
    }
    let agent = scene.agent(json!([{ "method": "tls_client_auth", "subject_dn": "cn=bot, o=Example" }])).await;
    scene.accepted(&agent, &scene.ca.holder(|_| {}), "subject_dn").await;
    for change in [
        |params: &mut CertificateParams| params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "more"),
        |params: &mut CertificateParams| params.distinguished_name.push(rcgen::DnType::CommonName, "bot2"),
        |params: &mut CertificateParams| params.distinguished_name = rcgen::DistinguishedName::new(),
    ] {
        scene.refused(&agent, &scene.ca.holder(change), "client_certificate_of_another").await;
    }
    // What is no name is refused when it is declared, not when it never matches.
    let body =
        json!({ "name": "x", "identity": { "methods": [{ "method": "tls_client_auth", "subject_dn": "bot" }] } });
    let (status, answer) = scene.broker.admin("POST", "/admin/v1/agents", body).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("bad_identity")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8705_s2_1_a_certificate_must_be_good_and_vouched_for() {
    let scene = Scene::new().await;
    let stranger = Ca::new("Example CA");
    let named = |change: fn(&mut CertificateParams)| {
        move |params: &mut CertificateParams| {
            params.subject_alt_names = vec![uri(BOT)];
            change(params);
        }
    };
    let expired = scene.ca.holder(named(|params| params.not_after = OffsetDateTime::now_utc() - Duration::minutes(1)));
    let early = scene.ca.holder(named(|params| params.not_before = OffsetDateTime::now_utc() + Duration::hours(2)));
    let a_ca = scene.ca.holder(named(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)));
    let a_server =
        scene.ca.holder(named(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]));
    let no_eku = scene.ca.holder(named(|params| params.extended_key_usages = Vec::new()));
    let good = scene.ca.holder(named(|_| {}));
    for (holder, reason) in [
        (&expired, "client_certificate_expired"),
        (&early, "client_certificate_not_yet_valid"),
        (&stranger.holder(named(|_| {})), "client_certificate_of_unknown_ca"),
        (&Holder::self_signed(named(|_| {})), "client_certificate_of_unknown_ca"),
        (&a_ca, "client_certificate_is_a_ca"),
        (&a_server, "client_certificate_not_for_clients"),
        (&scene.ca.holder(san(&[uri("https://bots.example.com/other")])), "client_certificate_of_another"),
    ] {
        let agent = scene.agent(by_uri(BOT)).await;
        scene.refused(&agent, holder, reason).await;
        scene.accepted(&agent, &good, reason).await;
    }
    let agent = scene.agent(by_uri(BOT)).await;
    scene.accepted(&agent, &no_eku, "no EKU: for anything").await;
    // An agent without any such method has no certificate that is its own.
    scene.refused(&scene.agent(json!([])).await, &good, "client_certificate_not_accepted").await;

    // §2: client_id must be sent; nothing is not a certificate; two methods are one too many.
    let grant = ("grant_type", "client_credentials");
    assert_eq!(scene.post("/oauth2/token", Some(&good), &[grant]).await.0, 401);
    assert_eq!(scene.ask(&agent, None).await.0, 401);
    let two = [
        grant,
        ("client_id", &agent.client_id),
        ("client_secret", "x"),
        ("client_assertion", "y"),
        ("client_assertion_type", "z"),
    ];
    let (status, answer) = scene.post("/oauth2/token", Some(&good), &two).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")), "{answer}");
    // One that was presented and failed ends the attempt, whatever the connection shows.
    let wrong = [grant, ("client_id", &agent.client_id), ("client_secret", "wrong")];
    assert_eq!(scene.post("/oauth2/token", Some(&good), &wrong).await.0, 401);

    // The broker's own clock decides.
    scene.clock.add_seconds(3 * 3600);
    scene.accepted(&agent, &early, "its time has come").await;
    scene.clock.add_seconds(24 * 3600);
    scene.refused(&agent, &good, "client_certificate_expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_is_honoured_and_an_outdated_one_is_no_excuse() {
    let revoked = std::cell::RefCell::new(None);
    let scene = Scene::with(
        |ca| {
            let holder = ca.holder(san(&[uri(BOT)]));
            let crl = ca.crl(&[&holder], OffsetDateTime::now_utc() - Duration::minutes(1));
            revoked.replace(Some(holder));
            Some(crl)
        },
        &[],
    )
    .await;
    let revoked = revoked.into_inner().unwrap();
    let good = scene.ca.holder(san(&[uri(BOT)]));
    let agent = scene.agent(by_uri(BOT)).await;
    scene.accepted(&agent, &good, "not on the list").await;
    scene.refused(&agent, &revoked, "client_certificate_revoked").await;
    scene.clock.add_seconds(2 * 3600);
    scene.refused(&agent, &good, "client_certificate_status_unknown").await;
    // A new list is read without a restart.
    let new = scene.ca.crl(&[&good], OffsetDateTime::now_utc() + Duration::minutes(110));
    write(scene.files.path().join("ca.crl"), &new);
    until("the new list counts", 20, async || scene.ask(&agent, Some(&revoked)).await.1["error"] == "invalid_scope")
        .await;
    scene.refused(&agent, &good, "client_certificate_revoked").await;
}

async fn rfc8705_s2_2_a_self_signed_certificate_is_the_registered_one(engine: Engine) {
    let Some(scene) = Scene::on(engine).await else { return };
    let holder = Holder::self_signed(|_| {});
    let jwks = |holder: &Holder| json!({ "keys": [{ "kty": "EC", "x5c": [STANDARD.encode(&holder.der)] }] });
    let methods = |holder: &Holder| json!([{ "method": "self_signed_tls_client_auth", "jwks": jwks(holder) }]);
    let agent = scene.agent(methods(&holder)).await;
    scene.accepted(&agent, &holder, "registered").await;
    let again = Holder::self_signed(|_| {});
    scene.refused(&agent, &again, "client_certificate_of_another").await;
    // The same key and name, but another certificate.
    scene.refused(&scene.agent(methods(&again)).await, &holder, "client_certificate_of_another").await;
    let a_ca = Holder::self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    scene.refused(&scene.agent(methods(&a_ca)).await, &a_ca, "client_certificate_is_a_ca").await;
    scene.clock.add_seconds(25 * 3600);
    scene.refused(&agent, &holder, "client_certificate_expired").await;
}

async fn spiffe_x509_svid_s5_2_only_its_own_trust_domain_vouches(engine: Engine) {
    let Some(scene) = Scene::on(engine).await else { return };
    let (own, other) = (Ca::new("prod"), Ca::new("test"));
    let id = "spiffe://prod.example.com/helpdesk";
    let key = |ca: &Ca, usage: &str| json!({ "kty": "EC", "use": usage, "x5c": [STANDARD.encode(&ca.der)] });
    let bundle = |keys: Vec<Value>| json!({ "keys": keys }).to_string();
    let file = |name: &str, text: &str| {
        let path = scene.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    file("prod.json", &bundle(vec![key(&own, "x509-svid"), key(&other, "jwt-svid")]));
    file("test.json", &bundle(vec![key(&other, "x509-svid")]));
    let declared = json!({
        "document": "trust_domains:\n  - { name: prod.example.com, bundle_file: prod.json }\n  - { name: test.example.com, bundle_file: test.json }\n",
        "files": {
            "prod.json": std::fs::read_to_string(scene.files.path().join("prod.json")).unwrap(),
            "test.json": std::fs::read_to_string(scene.files.path().join("test.json")).unwrap(),
        },
    });
    scene.broker.admin_ok("POST", "/admin/v1/apply", declared).await;
    let agent = scene.agent(json!([{ "method": "spiffe", "id": id }])).await;
    let svid = |change: fn(&mut CertificateParams)| {
        move |params: &mut CertificateParams| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.subject_alt_names = vec![uri("spiffe://prod.example.com/helpdesk")];
            change(params);
        }
    };
    scene.accepted(&agent, &own.holder(svid(|_| {})), "an SVID").await;
    for (holder, reason) in [
        (other.holder(svid(|_| {})), "client_certificate_of_unknown_ca"),
        (scene.ca.holder(svid(|_| {})), "client_certificate_of_unknown_ca"),
        (
            own.holder(svid(|params| params.subject_alt_names.push(uri("spiffe://prod.example.com/b")))),
            "svid_of_two_uris",
        ),
        (
            own.holder(svid(|params| params.subject_alt_names = vec![uri("spiffe://prod.example.com/b")])),
            "client_certificate_of_another",
        ),
        (own.holder(svid(|params| params.key_usages = Vec::new())), "svid_of_wrong_key_usage"),
        (own.holder(svid(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign))), "svid_of_wrong_key_usage"),
        (own.holder(svid(|params| params.key_usages.push(KeyUsagePurpose::CrlSign))), "svid_of_wrong_key_usage"),
        (
            own.holder(svid(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
            "client_certificate_is_a_ca",
        ),
    ] {
        scene.refused(&agent, &holder, reason).await;
    }
}

async fn rfc8705_s3_a_copied_token_is_no_use(engine: Engine) {
    let upstream = Upstream::echo().await;
    let Some(scene) = Scene::on(engine).await else { return };
    let methods = by_uri(BOT);
    scene.broker.apply(&crate::support::real::crm_document(&upstream.url())).await;
    scene.broker.put_credential("crm-key", "sk-live-of-the-crm").await;
    let agent = scene.agent_named("helpdesk", methods, &["support"]).await;
    let (own, thief) = (scene.ca.holder(san(&[uri(BOT)])), scene.ca.holder(san(&[uri("https://bots.example.com/b")])));
    let (status, answer) = scene.ask(&agent, Some(&own)).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["access_token"].as_str().unwrap();
    let claims: Value = {
        let body = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
    };
    let thumbprint = CertificateThumbprint::of_der(&own.der);
    assert_eq!(claims["cnf"], json!({ "x5t#S256": thumbprint.as_str() }));

    let url = scene.url("/exchange/crm/v1/contacts");
    for (holder, status) in [(Some(&own), 200), (Some(&thief), 401), (None, 401)] {
        let answer = scene.client(holder).get(&url).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        if status == 401 {
            let mut challenges = answer.headers().get_all("www-authenticate").iter();
            assert!(challenges.any(|one| one.to_str().unwrap().contains("invalid_token")), "{answer:?}");
        }
    }
    // Nor is the session, for whoever has the agent's secret but not its key.
    let session = answer["session_id"].as_str().unwrap();
    let form = [("grant_type", "client_credentials"), ("session_id", session)];
    let request =
        scene.client(None).post(scene.url("/oauth2/token")).basic_auth(&agent.client_id, Some(&agent.client_secret));
    let answer: Value = request.form(&form).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["error"], "invalid_grant", "{answer}");

    // A gateway says the same.
    let issuer = scene.broker.running.issuer.clone();
    let gateway = Gateway::new(GatewaySettings::new(issuer.clone(), format!("{issuer}/exchange")));
    let get = async |path: &str| scene.client(None).get(scene.url(path)).send().await.unwrap().text().await.unwrap();
    let now = scene.broker.running.state.world.now() / 1000;
    gateway.set_jwks(&get("/.well-known/jwks.json").await).unwrap();
    gateway.set_revocations(&get("/revocations").await, now).unwrap();
    let shown = |certificate: Option<CertificateThumbprint>| {
        gateway.verify_with(token, &Possession { certificate, proof: None }, now).map(|_| ())
    };
    assert_eq!(shown(Some(thumbprint)), Ok(()));
    for wrong in [Some(CertificateThumbprint::of_der(&thief.der)), None] {
        assert!(matches!(shown(wrong), Err(Refusal::Bound)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9440_s4_client_cert_counts_from_listed_proxies_alone() {
    let upstream = Upstream::echo().await;
    for (proxies, is_heard) in [("127.0.0.0/8", true), ("192.0.2.7", false)] {
        let scene = Scene::with(|_| None, &[("HALLPASS_LISTEN__TRUSTED_PROXIES", proxies)]).await;
        scene.broker.apply(&crate::support::real::crm_document(&upstream.url())).await;
        scene.broker.put_credential("crm-key", "sk-live-of-the-crm").await;
        let agent = scene.agent_named("helpdesk", by_uri(BOT), &["support"]).await;
        let (own, proxy) =
            (scene.ca.holder(san(&[uri(BOT)])), scene.ca.holder(san(&[uri("https://proxy.example.com/")])));
        let form = [("grant_type", "client_credentials"), ("client_id", agent.client_id.as_str())];
        let through = async |header: Option<&str>| {
            let request = scene.client(Some(&proxy)).post(scene.url("/oauth2/token")).form(&form);
            let request = header.into_iter().fold(request, |request, header| request.header("client-cert", header));
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        };
        let (status, answer) = through(Some(&own.header())).await;
        assert_eq!(status, if is_heard { 200 } else { 401 }, "{proxies}: {answer}");
        assert_eq!(through(None).await.0, 401);
        // What cannot be read is no request without a certificate, if it comes from a proxy.
        let (status, answer) = through(Some("MIIB")).await;
        assert_eq!(status, if is_heard { 400 } else { 401 }, "{answer}");
        if !is_heard {
            // The same certificate shown by itself.
            assert_eq!(scene.ask(&agent, Some(&own)).await.0, 200);
            continue;
        }
        // The proxy's own certificate is nobody's, even if an agent had it registered.
        let itself = scene.agent(by_uri("https://proxy.example.com/")).await;
        assert_eq!(scene.ask(&itself, Some(&proxy)).await.0, 401);

        // The upstream sees nothing of it, whoever sent it.
        let token = answer_token(through(Some(&own.header())).await.1);
        let before = upstream.seen().len();
        let request = scene.client(Some(&proxy)).get(scene.url("/exchange/crm/v1/contacts")).bearer_auth(&token);
        let request = request.header("client-cert", own.header()).header("client-cert-chain", own.header());
        assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
        let seen = upstream.seen().split_off(before);
        assert_eq!(seen.len(), 1);
        assert!(seen[0].headers.keys().all(|name| !name.as_str().contains("cert")), "{:?}", seen[0].headers);
    }
}

fn answer_token(answer: Value) -> String {
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issued_certificate_renews_itself_and_dies_with_its_agent() {
    let scene = Scene::new().await;
    let (agent, other) = (scene.agent(json!([])).await, scene.agent(by_uri(BOT)).await);
    let issue = async |agent: &TestAgent, csr: &str| {
        let path = format!("/admin/v1/agents/{}/certificate", agent.client_id);
        scene.broker.admin("POST", &path, json!({ "csr": csr })).await
    };
    let key = Holder::self_signed(|_| {});
    let (status, answer) = issue(&agent, &key.csr()).await;
    assert_eq!(status, 200, "{answer}");
    let first = key.with(answer["certificate"].as_str().unwrap());
    let text = String::from_utf8_lossy(&first.der).into_owned();
    assert!(text.contains(&format!("urn:hallpass:agent:{}", agent.client_id)) && !text.contains("bank.example.com"));
    scene.accepted(&agent, &first, "issued").await;
    scene.refused(&other, &first, "client_certificate_of_another").await;

    // A request that somebody else signed is no proof that its key is held.
    let forged = {
        let mut der = pem_der(&key.csr());
        let last = der.len() - 1;
        der[last] ^= 1;
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(der))
    };
    for csr in [
        forged.as_str(),
        "",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        &key.pem,
    ] {
        let (status, answer) = issue(&agent, csr).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad_csr")), "{answer}");
    }

    // Renewal, with a new key; only over what this broker issued, only to the same agent.
    let next = Holder::self_signed(|_| {});
    let renew = async |agent: &TestAgent, holder: &Holder, csr: &str| {
        scene.post("/oauth2/certificate", Some(holder), &[("client_id", &agent.client_id), ("csr", csr)]).await
    };
    let (status, answer) = renew(&agent, &first, &next.csr()).await;
    assert_eq!(status, 200, "{answer}");
    let second = next.with(answer["certificate"].as_str().unwrap());
    scene.accepted(&agent, &second, "renewed").await;
    assert_eq!(renew(&other, &first, &next.csr()).await.0, 401);
    let of_ca = scene.ca.holder(san(&[uri(BOT)]));
    let (status, answer) = renew(&other, &of_ca, &next.csr()).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("unauthorized_client")), "{answer}");
    let (status, answer) = renew(&agent, &second, &forged).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")), "{answer}");

    // After a day it is over.
    scene.clock.add_seconds(23 * 3600);
    scene.accepted(&agent, &second, "still good").await;
    scene.clock.add_seconds(2 * 3600);
    scene.refused(&agent, &second, "client_certificate_expired").await;

    // Stopping the agent ends its certificates, for good: whoever copied a key could renew it for ever.
    let issued = async |key: &Holder| key.with(issue(&agent, &key.csr()).await.1["certificate"].as_str().unwrap());
    let third = issued(&key).await;
    scene.accepted(&agent, &third, "issued anew").await;
    let of = |verb: &str| format!("/admin/v1/agents/{}/{verb}", agent.client_id);
    scene.broker.admin_ok("POST", &of("suspend"), json!({})).await;
    assert_eq!(scene.ask(&agent, Some(&third)).await.0, 401);
    assert_eq!(issue(&agent, &key.csr()).await.0, 409);
    scene.broker.admin_ok("POST", &of("resume"), json!({})).await;
    scene.refused(&agent, &third, "client_certificate_revoked").await;
    // Declaring the agent again does not bring them back.
    let shown = scene.broker.admin_ok("GET", of("").trim_end_matches('/'), Value::Null).await;
    let name = shown["name"].as_str().unwrap();
    scene
        .broker
        .apply(&format!("agents: [ {{ name: {name}, roles: [], identity: {{ require_bound: true }} }} ]"))
        .await;
    scene.refused(&agent, &third, "client_certificate_revoked").await;
    scene.clock.add_seconds(2);
    let fourth = issued(&key).await;
    scene.accepted(&agent, &fourth, "issued after that").await;
    scene.broker.admin_ok("POST", &of("revoke"), json!({})).await;
    assert_eq!(scene.ask(&agent, Some(&fourth)).await.0, 401);
    assert_eq!(renew(&agent, &fourth, &key.csr()).await.0, 401);
}

fn pem_der(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(lines).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again_and_broken_files_change_nothing() {
    let mut scene = Scene::new().await;
    let agent = scene.agent(by_uri(BOT)).await;
    let (old, new) = (scene.ca.holder(san(&[uri(BOT)])), Ca::new("Next CA"));
    let by_new = new.holder(san(&[uri(BOT)]));
    scene.refused(&agent, &by_new, "client_certificate_of_unknown_ca").await;
    let failed = async || {
        let text = scene.broker.http.get(scene.broker.ops_url("/metrics")).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with("hallpass_certificate_reloads_total{outcome=\"failed\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    // Broken: what was there stays, and it is said.
    let before = failed().await;
    write(scene.files.path().join("ca.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write(scene.files.path().join("tls.crt"), "nothing");
    until("two failures are counted", 20, async || failed().await >= before + 2.0).await;
    scene.accepted(&agent, &old, "the old CA").await;
    // Replaced: the new one counts, the old one no more.
    write(scene.files.path().join("ca.crt"), &new.pem);
    until("the new CA counts", 20, async || scene.ask(&agent, Some(&by_new)).await.1["error"] == "invalid_scope").await;
    scene.refused(&agent, &old, "client_certificate_of_unknown_ca").await;
    // The server's own: while only one of two files is new they do not fit, and the old pair stays.
    let next = server_certificate();
    let before = failed().await;
    write(scene.files.path().join("tls.crt"), &next.cert.pem());
    until("a mismatch is counted", 20, async || failed().await > before).await;
    scene.accepted(&agent, &by_new, "the old server certificate").await;
    write(scene.files.path().join("tls.key"), &next.signing_key.serialize_pem());
    let path = scene.url("/.well-known/jwks.json");
    scene.server = next;
    until("the new server certificate is shown", 20, async || scene.client(None).get(&path).send().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8705_s3_3_the_metadata_says_what_is_so() {
    let plain = TestBroker::start().await;
    let at = "/.well-known/oauth-authorization-server";
    let metadata: Value = plain.http.get(plain.url(at)).send().await.unwrap().json().await.unwrap();
    assert!(metadata.get("tls_client_certificate_bound_access_tokens").is_none());
    assert!(metadata.get("mtls_endpoint_aliases").is_none());
    let scene = Scene::new().await;
    let metadata: Value = scene.client(None).get(scene.url(at)).send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
    for endpoint in ["token", "introspection", "revocation"] {
        let methods = metadata[format!("{endpoint}_endpoint_auth_methods_supported")].as_array().unwrap();
        for method in ["tls_client_auth", "self_signed_tls_client_auth"] {
            assert!(methods.contains(&json!(method)), "{endpoint}: {methods:?}");
        }
    }
    for endpoint in ["token_endpoint", "introspection_endpoint", "revocation_endpoint"] {
        assert_eq!(metadata["mtls_endpoint_aliases"][endpoint], metadata[endpoint]);
    }
    let at = "/.well-known/oauth-protected-resource";
    let metadata: Value = scene.client(None).get(scene.url(at)).send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_is_the_same_after_a_restart() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(broker) = TestBroker::start_with(engine, Surroundings::default(), &[]).await else { continue };
        let before = broker.admin_ok("GET", "/admin/v1/client-ca", Value::Null).await;
        assert!(before["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        let broker = broker.restart().await;
        assert_eq!(broker.admin_ok("GET", "/admin/v1/client-ca", Value::Null).await, before);
        let agent = broker.register("helpdesk", &[]).await;
        let path = format!("/admin/v1/agents/{}/certificate", agent.client_id);
        broker.admin_ok("POST", &path, json!({ "csr": Holder::self_signed(|_| {}).csr() })).await;
    }
}

/// The walk-through of the README, with stock openssl and curl, against the program itself.
#[tokio::test(flavor = "multi_thread")]
async fn openssl_and_curl_get_along_with_the_program() {
    if ["openssl", "curl"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err()) {
        use std::io::Write as _;
        drop(
            std::io::stderr()
                .write_all(b"\n## NOT INSTALLED: openssl or curl. Certificates by stock tools were not tried.\n"),
        );
        return;
    }
    let upstream = Upstream::echo().await;
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let server = server_certificate();
    let keys = real.binary.dir.path().join("keys");
    write(keys.join("tls.crt"), &server.cert.pem());
    write(keys.join("tls.key"), &server.signing_key.serialize_pem());
    real.binary.set("HALLPASS_TLS__CERT_FILE", "keys/tls.crt");
    real.binary.set("HALLPASS_TLS__KEY_FILE", "keys/tls.key");
    let agent = real.with_crm(&upstream.url(), "sk-live-of-the-crm");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(real.binary.dir.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let mut request = vec!["req", "-new"];
    request.extend(ec);
    request.extend(["-keyout", "bot.key", "-out", "bot.csr", "-subj", "/CN=anything"]);
    run("openssl", &request);
    let (csr, crt) = (real.binary.dir.path().join("bot.csr"), real.binary.dir.path().join("bot.crt"));
    let (csr, crt) = (csr.display().to_string(), crt.display().to_string());
    real.binary.ok(&["agent", "issue-cert", "helpdesk", "--csr", &csr, "--out", &crt], "");
    let ca = real.binary.ok(&["agent", "ca"], "");
    std::fs::write(real.binary.dir.path().join("ca.crt"), ca).unwrap();
    let said = run("openssl", &["verify", "-purpose", "sslclient", "-CAfile", "ca.crt", "bot.crt"]);
    assert!(said.contains("bot.crt: OK"), "{said}");

    let tls = ["-sS", "--cacert", "keys/tls.crt", "--cert", "bot.crt", "--key", "bot.key"];
    let curl = |arguments: &[&str]| run("curl", &[&tls[..], arguments].concat());
    let (token_url, id) = (format!("{}/oauth2/token", real.binary.public), format!("client_id={}", agent.0));
    let answer: Value =
        serde_json::from_str(&curl(&["-d", "grant_type=client_credentials", "-d", &id, &token_url])).unwrap();
    let bearer =
        format!("Authorization: Bearer {}", answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")));
    let url = format!("{}/exchange/crm/v1/contacts", real.binary.public);
    let status = ["-o", "/dev/null", "-w", "%{http_code}", "-H", &bearer, &url];
    assert_eq!(curl(&status), "200");
    let bare = ["-sS", "--cacert", "keys/tls.crt"];
    assert_eq!(run("curl", &[&bare[..], &status[..]].concat()), "401");
    // The next certificate, for the same key, over the one before.
    let renew = format!("{}/oauth2/certificate", real.binary.public);
    let answer: Value = serde_json::from_str(&curl(&["-d", &id, "--data-urlencode", "csr@bot.csr", &renew])).unwrap();
    std::fs::write(real.binary.dir.path().join("bot.crt"), answer["certificate"].as_str().unwrap()).unwrap();
    assert!(curl(&["-d", "grant_type=client_credentials", "-d", &id, &token_url]).contains("access_token"));

    // A self-signed certificate, registered as it is.
    let mut request = vec!["req", "-x509", "-days", "30"];
    request.extend(ec);
    request.extend(["-keyout", "own.key", "-out", "own.crt", "-subj", "/CN=own"]);
    request.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
    run("openssl", &request);
    let der = pem_der(&std::fs::read_to_string(real.binary.dir.path().join("own.crt")).unwrap());
    let document = format!(
        "agents: [ {{ name: own, roles: [support], identity: {{ methods: [ {{ method: self_signed_tls_client_auth, \
         jwks: {{ keys: [ {{ kty: EC, x5c: [\"{}\"] }} ] }} }} ] }} }} ]",
        STANDARD.encode(der)
    );
    real.binary.ok(&["apply", "-f", "-"], &document);
    let shown = real.binary.json(&["agent", "show", "own"], "");
    let id = format!("client_id={}", shown["client_id"].as_str().unwrap());
    let own = ["-sS", "--cacert", "keys/tls.crt", "--cert", "own.crt", "--key", "own.key"];
    let asked = ["-d", "grant_type=client_credentials", "-d", &id, &token_url];
    assert!(run("curl", &[&own[..], &asked[..]].concat()).contains("access_token"));
    assert!(real.binary.terminate().success());
}
