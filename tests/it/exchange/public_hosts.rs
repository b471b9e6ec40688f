//! Upstreams by host names of their own at the public listener: the same calls, the same checks, nothing else.

use hallpass::app::Surroundings;
use http::{HeaderValue, StatusCode};
use reqwest::Method;
use serde_json::{Value, json};

use super::links::{all_came_through, pages, run};
use super::{HEADER, SECRET, crm, document, problem, raw, status_of};
use crate::forge;
use crate::support::proof::{ProofKey, proof_claims};
use crate::support::upstream::text;
use crate::support::{Engine, TestBroker, Upstream};

const HOST: &str = "crm.hallpass.test";
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// An upstream that answers with what it saw, as `crm` at [`HOST`], and a token for it.
async fn scene(upstream: &Upstream) -> (TestBroker, String) {
    let broker = TestBroker::start().await;
    let token = crm(&broker, &upstream.url(), HEADER, &format!("public_hosts: [{HOST}]")).await;
    (broker, token)
}

/// The answer to a GET with this `Host` and these further lines.
async fn get(broker: &TestBroker, host: &str, path: &str, lines: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
    let answer = raw(broker.running.public, request).await;
    (status_of(&answer), answer)
}

/// All challenges of a refusal.
fn challenges(answer: &reqwest::Response) -> String {
    let values = answer.headers().get_all("www-authenticate").iter();
    values.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(", ")
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_the_host_is_a_call_of_its_upstream() {
    let upstream = Upstream::echo().await;
    let (broker, token) = scene(&upstream).await;
    let port = broker.running.public.port();
    for host in [
        HOST.to_owned(),
        format!("{HOST}:{port}"),
        format!("{HOST}:80"),
        format!("{HOST}."),
        HOST.to_ascii_uppercase(),
        format!("Crm.HallPass.Test:{port}"),
    ] {
        let (status, answer) = get(&broker, &host, "/v1/charges?limit=3", &bearer(&token)).await;
        assert_eq!(status, 200, "{host}: {answer}");
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(
            (seen.uri.to_string(), seen.headers["x-api-key"].to_str().unwrap()),
            ("/v1/charges?limit=3".to_owned(), SECRET),
            "{host}"
        );
        assert_eq!(seen.headers["host"], upstream.address.to_string(), "{host}");
    }
    let record = broker.wait_for_record(|record| record["kind"] == "call.intent").await;
    assert_eq!((&record["upstream"], &record["target"]), (&json!("crm"), &json!("/v1/charges?limit=3")));
    // The path is the upstream's, whatever it looks like: there is no second way in by this name.
    for path in ["/", "/exchange/crm/a", "/oauth2/token", "/revocations", "/.well-known/jwks.json", "/healthz"] {
        let (status, answer) = get(&broker, HOST, path, &bearer(&token)).await;
        assert_eq!((status, upstream.seen().pop().unwrap().uri.to_string()), (200, path.to_owned()), "{answer}");
        assert_eq!(get(&broker, HOST, path, "").await.0, 401, "{path}");
    }
    for (method, body) in [("POST", "a=b"), ("PUT", ""), ("DELETE", "")] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = broker.http.request(method.clone(), broker.url("/a")).header("host", HOST).bearer_auth(&token);
        assert_eq!(request.body(body).send().await.unwrap().status(), 200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!((seen.method, seen.body.as_ref()), (method, body.as_bytes()));
    }
    // The host alone is the base URL, as it was written.
    for (base, path) in [("/mcp", "/mcp"), ("/mcp/", "/mcp/"), ("", "/")] {
        let base = format!("{}{base}", upstream.url());
        broker.apply(&document(&base, HEADER, &format!("public_hosts: [{HOST}]"))).await;
        assert_eq!(get(&broker, HOST, "/", &bearer(&token)).await.0, 200, "{base}");
        assert_eq!(upstream.seen().pop().unwrap().uri, path);
    }
    // What no path may be is none here.
    for path in ["/a/../b", "/a;x", "//a", "*"] {
        assert_eq!(get(&broker, HOST, path, &bearer(&token)).await.0, 400, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9112_s3_2_2_a_whole_url_in_the_request_line_names_it_too() {
    let upstream = Upstream::echo().await;
    let (broker, token) = scene(&upstream).await;
    let port = broker.running.public.port();
    for host in [HOST.to_owned(), format!("{HOST}:{port}")] {
        let (status, answer) = get(&broker, &host, &format!("http://{host}/a"), &bearer(&token)).await;
        assert_eq!(status, 200, "{host}: {answer}");
        assert_eq!(upstream.seen().pop().unwrap().uri, "/a");
    }
    let own = broker.running.public.to_string();
    assert_eq!(get(&broker, &own, &format!("http://{HOST}/a"), &bearer(&token)).await.0, 400, "Host differs");
    assert_eq!(get(&broker, "x.test", "http://x.test/a", &bearer(&token)).await.0, 421);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_name_and_no_forwarded_one_leads_there() {
    let upstream = Upstream::echo().await;
    let (broker, token) = scene(&upstream).await;
    let port = broker.running.public.port();
    for host in [
        "hallpass.test".to_owned(),
        format!("x.{HOST}"),
        format!("{HOST}.evil.example"),
        format!("{HOST}:{}", port ^ 1),
        format!("{HOST}:443"),
        format!("{HOST}.."),
        broker.running.public.to_string(),
    ] {
        let lines = format!(
            "X-Forwarded-Host: {HOST}\r\nForwarded: host={HOST}\r\nX-Original-Host: {HOST}\r\n{}",
            bearer(&token)
        );
        let (status, answer) = get(&broker, &host, "/v1/charges", &lines).await;
        assert_eq!(status, 404, "{host}: {answer}");
        assert!(answer.contains("no_such_route"), "{host}: {answer}");
    }
    assert!(upstream.seen().is_empty());
    // By its path it stays reachable, and links lead there.
    assert_eq!(broker.call(Method::GET, "/crm/a", &token).send().await.unwrap().status(), 200);
    // The other listeners know nothing of it.
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    assert_eq!(status_of(&raw(broker.running.ops, request).await), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_good_token_is_refused_as_at_the_exchange_endpoint() {
    let upstream = Upstream::echo().await;
    let (broker, token) = scene(&upstream).await;
    let claims = forge::payload(&token);
    let kid = forge::header(&token)["kid"].as_str().unwrap().to_owned();
    let (revoked, now) = (broker.token(&broker.register("other", &["support"]).await).await, forge::now(&broker));
    let jti = forge::payload(&revoked)["jti"].clone();
    broker.admin_ok("POST", "/admin/v1/tokens/revoke", json!({ "jti": jti })).await;
    let signed = |claims: Value| forge::by_broker(&broker, "at+jwt", &claims);
    let origin = format!("http://{HOST}");
    for (token, status, code) in [
        (None, 401, "token_missing"),
        (Some(signed(forge::with(claims.clone(), "exp", now - 10))), 401, "token_expired"),
        (Some(revoked), 401, "token_revoked"),
        (Some(forge::tampered(&token, |claims| claims["scope"] = "crm:admin".into())), 401, "token_bad_signature"),
        (Some(forge::by_foreign_key(&kid, &claims)), 401, "token_bad_signature"),
        (Some(forge::unsecured("none", &kid, &claims)), 401, "token_wrong_algorithm"),
        (Some(forge::by_broker(&broker, "jwt", &claims)), 401, "token_wrong_type"),
        (Some(signed(forge::with(claims.clone(), "aud", "https://other.example"))), 401, "token_wrong_audience"),
        (
            Some(signed(forge::with(claims.clone(), "aud", format!("{}/exchange/other", broker.running.issuer)))),
            401,
            "token_wrong_audience",
        ),
        (Some(signed(forge::with(claims.clone(), "scope", "crm:other"))), 403, "insufficient_scope"),
    ] {
        for placed in ["Authorization: Bearer ", "X-Api-Key: "] {
            let line = token.as_ref().map_or_else(String::new, |token| format!("{placed}{token}\r\n"));
            let (found, answer) = get(&broker, HOST, "/a", &line).await;
            assert_eq!(found, status, "{code}: {answer}");
            assert!(answer.contains(&format!(r#""code":"{code}""#)), "{code}: {answer}");
            assert!(answer.contains(&format!(r#"resource_metadata="{origin}{METADATA}""#)), "{code}: {answer}");
            assert!(token.as_ref().is_none_or(|token| !answer.contains(&**token)), "{answer}");
        }
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9728_s3_3_the_metadata_is_of_the_url_that_the_client_used() {
    let upstream = Upstream::echo().await;
    let (broker, _) = scene(&upstream).await;
    let port = broker.running.public.port();
    for (host, origin) in
        [(HOST.to_owned(), format!("http://{HOST}")), (format!("{HOST}:{port}"), format!("http://{HOST}:{port}"))]
    {
        let (status, answer) = get(&broker, &host, METADATA, "").await;
        assert_eq!(status, 200, "{answer}");
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["resource"], origin);
        assert_eq!(body["authorization_servers"], json!([broker.running.issuer]));
        // The client asks for a token for that resource, as it is or as URL parsers write it.
        let agent = broker.register(&format!("agent-{}", host.len()), &["support"]).await;
        for resource in [origin.clone(), format!("{origin}/")] {
            let (status, answer) = broker.token_request(&agent, &[("resource", &resource)]).await;
            assert_eq!(status, 200, "{resource}: {answer}");
            let token = answer["access_token"].as_str().unwrap();
            assert_eq!(forge::payload(token)["aud"], format!("{}/exchange/crm", broker.running.issuer));
            assert_eq!(get(&broker, &host, "/a", &bearer(token)).await.0, 200, "{resource}");
        }
        for resource in
            [format!("{origin}/a"), format!("{origin}?a"), format!("http://u@{host}/"), "http://x.test".into()]
        {
            let (status, answer) = broker.token_request(&agent, &[("resource", &resource)]).await;
            assert_eq!((status, &answer["error"]), (400, &json!("invalid_target")), "{resource}");
        }
    }
    let post = broker.http.post(broker.url(METADATA)).header("host", HOST).send().await.unwrap();
    assert_eq!(problem(post, 405).await, "method_not_allowed");
    assert!(upstream.seen().iter().all(|seen| seen.uri.path() == "/a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s4_3_a_proof_is_for_the_url_that_the_client_used() {
    let upstream = Upstream::echo().await;
    let (broker, _) = scene(&upstream).await;
    let (key, agent) = (ProofKey::new(), broker.register("bound", &["support"]).await);
    let nonce = || broker.running.public_state.dpop.nonce(forge::now(&broker));
    let proof = |method: &str, url: &str, token: Option<&str>| {
        key.sign(&key.header(), &proof_claims(method, url, token, nonce().as_deref(), forge::now(&broker)))
    };
    let url = broker.url("/oauth2/token");
    let request = broker.http.post(&url).basic_auth(&agent.client_id, Some(&agent.client_secret));
    let request = request.header("dpop", proof("POST", &url, None)).form(&[("grant_type", "client_credentials")]);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap();
    let port = broker.running.public.port();
    let call = async |host: &str, htu: String| {
        let lines = format!("Authorization: DPoP {token}\r\nDPoP: {}\r\n", proof("GET", &htu, Some(token)));
        get(&broker, host, "/a", &lines).await
    };
    let with_port = format!("{HOST}:{port}");
    assert_eq!(call(HOST, format!("http://{HOST}/a")).await.0, 200);
    assert_eq!(call(&with_port, format!("http://{with_port}/a")).await.0, 200);
    for (host, htu) in [
        (HOST, format!("http://{with_port}/a")),
        (HOST, broker.url("/exchange/crm/a")),
        (HOST, broker.url("/a")),
        (HOST, format!("https://{HOST}/a")),
        (HOST, format!("http://{HOST}/exchange/crm/a")),
    ] {
        let (status, answer) = call(host, htu.clone()).await;
        assert_eq!(status, 401, "{htu}: {answer}");
        assert!(answer.contains("invalid_dpop_proof") && answer.contains(METADATA), "{htu}: {answer}");
    }
    // A proof for the host is none for the path.
    let stolen = proof("GET", &format!("http://{HOST}/a"), Some(token));
    let request = broker.http.get(broker.url("/exchange/crm/a")).header("authorization", format!("DPoP {token}"));
    assert_eq!(request.header("dpop", stolen).send().await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_says_the_host_in_authority() {
    let upstream = Upstream::echo().await;
    let (broker, token) = scene(&upstream).await;
    let (address, port) = (broker.running.public, broker.running.public.port());
    let client = reqwest::Client::builder().http2_prior_knowledge().resolve(HOST, address).resolve("x.test", address);
    let client = client.no_proxy().build().unwrap();
    let answer = client.get(format!("http://{HOST}:{port}/v1/charges")).bearer_auth(&token).send().await.unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, http::Version::HTTP_2));
    assert_eq!(upstream.seen().pop().unwrap().uri, "/v1/charges");
    let refused = client.get(format!("http://{HOST}:{port}/v1/charges")).send().await.unwrap();
    let metadata = format!("http://{HOST}:{port}{METADATA}");
    assert!(challenges(&refused).contains(&metadata), "{refused:?}");
    let elsewhere = client.get(format!("http://x.test:{port}/v1/charges")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_certificate_is_the_operators() {
    let upstream = Upstream::echo().await;
    let names = vec!["127.0.0.1".to_owned(), HOST.to_owned()];
    let server = rcgen::generate_simple_self_signed(names).unwrap();
    let keys = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = keys.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (file("tls.crt", &server.cert.pem()), file("tls.key", &server.signing_key.serialize_pem()));
    let settings = [("HALLPASS_TLS__CERT_FILE", &*cert), ("HALLPASS_TLS__KEY_FILE", &*key)];
    let broker = TestBroker::start_with(Engine::Sqlite, Surroundings::default(), &settings).await.unwrap();
    broker.apply(&document(&upstream.url(), HEADER, &format!("public_hosts: [{HOST}]"))).await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    let root = reqwest::Certificate::from_pem(server.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([root]).resolve(HOST, broker.running.public).no_proxy();
    let client = client.build().unwrap();
    let form = [("grant_type", "client_credentials")];
    let request = client.post(format!("{}/oauth2/token", broker.running.issuer)).form(&form);
    let answer = request.basic_auth(&agent.client_id, Some(&agent.client_secret)).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let url = format!("https://{HOST}:{}/v1/charges", broker.running.public.port());
    let answer = client.get(&url).bearer_auth(answer["access_token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let refused = client.get(&url).send().await.unwrap();
    let metadata = format!("https://{HOST}:{}{METADATA}", broker.running.public.port());
    assert!(challenges(&refused).contains(&metadata), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_to_the_host_that_was_asked() {
    let upstream = pages().await;
    let (broker, token) = scene(&upstream).await;
    let port = broker.running.public.port();
    for host in [HOST.to_owned(), format!("{HOST}:{port}"), format!("{HOST}.:{port}").to_ascii_uppercase()] {
        let origin = format!("http://{}", host.to_ascii_lowercase().replace(".:", ":"));
        let (_, answer) = get(&broker, &host, "/absolute", &bearer(&token)).await;
        assert!(answer.contains(&format!("\r\nlocation: {origin}/items\r\n")), "{host}: {answer}");
        let (_, answer) = get(&broker, &host, "/items?page=1", &bearer(&token)).await;
        assert!(answer.contains(&format!("<{origin}/items?page=2>; rel=\"next\"")), "{host}: {answer}");
    }
    let resolve = format!("{HOST}:{port}:127.0.0.1");
    let (key, url) = (format!("X-Api-Key: {token}"), format!("http://{HOST}:{port}"));
    for path in ["/absolute", "/relative", "/nested/sibling", "/network-path"] {
        let url = format!("{url}{path}");
        let arguments = ["-sL", "--resolve", &resolve, "-H", &key, "-w", " %{http_code}", &url];
        let Some(answer) = run("curl", &arguments).await else { break };
        assert_eq!(answer, "[1] 200", "{path}");
    }
    all_came_through(&upstream.seen(), &token);
}

/// As SDKs do that take a host, a port and a protocol, and no path.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_a_host_and_no_path() {
    let upstream = Upstream::start(|seen| {
        let mut answer = text(StatusCode::OK, &format!("{{\"object\":\"list\",\"url\":\"{}\"}}", seen.uri.path()));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        answer
    })
    .await;
    let (broker, token) = scene(&upstream).await;
    let script = "const [port, token, host] = process.argv.slice(1); \
        const lookup = (_, options, done) => options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) \
            : done(null, '127.0.0.1', 4); \
        require('http').request({ host, port, path: '/v1/charges', method: 'GET', lookup, \
            headers: { Authorization: 'Bearer ' + token } }, answer => { let text = ''; \
            answer.on('data', piece => text += piece).on('end', () => console.log(answer.statusCode, text)); }).end();";
    let port = broker.running.public.port().to_string();
    let Some(answer) = run("node", &["-e", script, &port, &token, HOST]).await else { return };
    assert_eq!(answer, "200 {\"object\":\"list\",\"url\":\"/v1/charges\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_checked_when_they_are_applied_and_end_with_their_definition() {
    let upstream = Upstream::echo().await;
    let (broker, token) = scene(&upstream).await;
    let one = |name: &str, hosts: &str| {
        let document = document(&upstream.url(), HEADER, "public_hosts: [HOSTS]").replace("crm", name);
        document.replace("HOSTS", hosts)
    };
    let mistaken = async |document: String| {
        let (status, answer) = broker.admin("POST", "/admin/v1/apply", json!({ "document": document })).await;
        assert_eq!((status, &answer["code"]), (400, &json!("document_invalid")), "{answer}");
        let mistake = &answer["mistakes"][0];
        assert_eq!(mistake["at"], "upstreams[0].public_hosts[0]", "{answer}");
        mistake["problem"].as_str().unwrap().to_owned()
    };
    assert!(mistaken(one("other", HOST)).await.contains("upstream 'crm' has"));
    assert!(mistaken(one("other", "'crm.hallpass.test:8443'")).await.contains("upstream 'crm' has"));
    assert!(mistaken(one("other", "127.0.0.1")).await.contains("IP address"));
    assert!(mistaken(one("other", "'127.0.0.1:8600'")).await.contains("IP address"));
    assert!(mistaken(one("other", "Other.Test")).await.contains("usual spelling"));
    assert!(mistaken(one("crm", "'*.hallpass.test'")).await.contains("wildcard"));
    broker.apply(&one("crm", "new.hallpass.test")).await;
    assert_eq!(get(&broker, HOST, "/a", &bearer(&token)).await.0, 404);
    assert_eq!(get(&broker, "new.hallpass.test", "/a", &bearer(&token)).await.0, 200);
    // Kept in the database, and known after a start.
    let broker = broker.restart().await;
    assert_eq!(get(&broker, "new.hallpass.test", "/a", "").await.0, 401);
    broker.admin_ok("DELETE", "/admin/v1/upstreams/crm", Value::Null).await;
    assert_eq!(get(&broker, "new.hallpass.test", "/a", &bearer(&token)).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_host_is_never_an_upstreams() {
    let upstream = Upstream::echo().await;
    let settings = [("HALLPASS_ISSUER", "http://hallpass.localhost:8600")];
    let broker = TestBroker::start_with(Engine::Sqlite, Surroundings::default(), &settings).await.unwrap();
    for host in ["hallpass.localhost", "'hallpass.localhost:1'"] {
        let document = document(&upstream.url(), HEADER, &format!("public_hosts: [{host}]"));
        let (status, answer) = broker.admin("POST", "/admin/v1/apply", json!({ "document": document })).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.to_string().contains("the broker's own host"), "{answer}");
    }
    // Applied under another issuer, it is the broker's all the same.
    let broker = TestBroker::start().await;
    broker.apply(&document(&upstream.url(), HEADER, "public_hosts: [hallpass.localhost]")).await;
    assert_eq!(get(&broker, "hallpass.localhost", METADATA, "").await.0, 200);
    let definitions = broker.running.state.manager.registry.definitions();
    let at = |issuer: &str| definitions.at_public_host(&issuer.parse().unwrap(), "Hallpass.localhost.", None).is_some();
    assert!(at("http://127.0.0.1:1") && !at("http://hallpass.localhost"));
}
