//! Where an OAuth library finds out what to do: metadata of the exchange endpoint (RFC 9728), and the challenges of
//! refused calls.

use serde_json::{Value, json};

use crate::support::proof::{ProofKey, proof_claims};
use crate::support::{Engine, TestBroker, Upstream};
use hallpass::app::Surroundings;

const ROOT: &str = "/.well-known/oauth-protected-resource";

async fn get(broker: &TestBroker, path: &str) -> (u16, Value) {
    let answer = broker.http.get(broker.url(path)).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9728_s2_the_metadata_names_the_resource_and_who_issues_tokens_for_it() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let (agent, _) = broker.with_crm(&upstream.url(), "sk-live-0123456789abcdef").await;
    let paths = [("", "/exchange"), ("/exchange", "/exchange"), ("/exchange/crm", "/exchange/crm")];
    for (path, resource) in paths {
        let (status, metadata) = get(&broker, &format!("{ROOT}{path}")).await;
        let wanted = json!({
            "resource": broker.url(resource),
            "resource_name": "Hallpass exchange",
            "authorization_servers": [broker.url("")],
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": ["ES256", "EdDSA", "Ed25519", "PS256", "RS256"],
            "tls_client_certificate_bound_access_tokens": false,
        });
        assert_eq!((status, &metadata), (200, &wanted), "{path}");
        // What it says is so: the resource is one to ask a token for, at the server that it names (RFC 8707).
        if !path.is_empty() {
            let (status, token) =
                broker.token_request(&agent, &[("resource", metadata["resource"].as_str().unwrap())]).await;
            assert_eq!(status, 200, "{token}");
            let token = token["access_token"].as_str().unwrap();
            let answer = broker.call(http::Method::GET, "/crm/v1/contacts", token).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    }
    for path in ["/exchange/", "/exchange/CRM", "/exchange/crm/v1", "/exchange/%22", "/oauth2/token", "/x/exchange"] {
        let (status, problem) = get(&broker, &format!("{ROOT}{path}")).await;
        assert_eq!((status, &problem["code"]), (404, &json!("no_such_route")), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8414_s2_the_authorization_endpoint_gives_nothing_and_redirects_nowhere() {
    let broker = TestBroker::start().await;
    let (_, metadata) = get(&broker, "/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["response_types_supported"], json!([]), "RFC 8414 §2: required, if empty");
    let url = metadata["authorization_endpoint"].as_str().unwrap();
    let query = "response_type=code&client_id=x&redirect_uri=https%3A%2F%2Fevil.example.com%2F&state=s";
    for request in [broker.http.get(format!("{url}?{query}")), broker.http.post(url).body(query)] {
        let answer = request.send().await.unwrap();
        assert!(answer.status() == 400 && !answer.headers().contains_key("location"), "{answer:?}");
        let body = answer.text().await.unwrap();
        assert!(body.contains("unsupported_response_type") && !body.contains("evil"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_does_not_learn_from_the_metadata_which_upstreams_there_are() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    broker.with_crm(&upstream.url(), "sk-live-0123456789abcdef").await;
    let (there, there_not) =
        (get(&broker, &format!("{ROOT}/exchange/crm")).await, get(&broker, &format!("{ROOT}/exchange/xyz")).await);
    assert_eq!(there.1.to_string().replace("crm", "xyz"), there_not.1.to_string());
    assert_eq!((there.0, there_not.0), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9728_s5_1_each_challenge_leads_to_the_metadata() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    broker.with_crm(&upstream.url(), "sk-live-0123456789abcdef").await;
    let cases = [
        ("/exchange/crm/v1/contacts", "/exchange/crm"),
        ("/exchange/crm", "/exchange/crm"),
        ("/exchange/unknown/x", "/exchange/unknown"),
        // What is no name does not come back in a header.
        ("/exchange/a%22b/x", "/exchange"),
        ("/exchange/CRM/x", "/exchange"),
    ];
    for (path, resource) in cases {
        for token in [None, Some("not-a-token")] {
            let request = broker.http.get(broker.url(path));
            let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
            let answer = request.send().await.unwrap();
            let challenges: Vec<_> = answer.headers().get_all("www-authenticate").iter().collect();
            let challenge = challenges[1].to_str().unwrap().to_owned();
            let url = broker.url(&format!("{ROOT}{resource}"));
            assert!(challenge.contains(&format!(r#"resource_metadata="{url}""#)), "{path}: {challenge}");
            assert_eq!(answer.status(), 401, "{path}");
            assert!(url.ends_with(resource) && get(&broker, &format!("{ROOT}{resource}")).await.0 == 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9728_s3_1_an_issuer_with_a_path_has_it_in_the_well_known_path() {
    let settings = [("HALLPASS_ISSUER", "https://hp.example.com/a")];
    let broker = TestBroker::start_with(Engine::Sqlite, Surroundings::default(), &settings).await.unwrap();
    let at = async |path: &str| {
        let answer = broker.http.get(format!("http://{}{ROOT}{path}", broker.running.public)).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    // As RFC 9728 puts it together, and as a proxy passes it on that takes its own prefix off.
    for path in ["/a/exchange/crm", "/exchange/crm"] {
        let (status, metadata) = at(path).await;
        assert_eq!((status, &metadata["resource"]), (200, &json!("https://hp.example.com/a/exchange/crm")), "{path}");
        assert_eq!(metadata["authorization_servers"], json!(["https://hp.example.com/a"]), "{path}");
    }
    assert_eq!(at("/aexchange/crm").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9449_s7_1_a_bound_token_without_the_scope_is_told_so_under_its_scheme() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let (agent, _) = broker.with_crm(&upstream.url(), "sk-live-0123456789abcdef").await;
    let (key, now) = (ProofKey::new(), crate::forge::now(&broker));
    let proof = |method: &str, path: &str, token: Option<&str>| {
        let nonce = broker.running.public_state.dpop.nonce(now);
        key.sign(&key.header(), &proof_claims(method, &broker.url(path), token, nonce.as_deref(), now))
    };
    let request = broker.http.post(broker.url("/oauth2/token")).header("dpop", proof("POST", "/oauth2/token", None));
    let request = request.basic_auth(&agent.client_id, Some(&agent.client_secret));
    let token: Value =
        request.form(&[("grant_type", "client_credentials")]).send().await.unwrap().json().await.unwrap();
    let (token, path) = (token["access_token"].as_str().unwrap(), "/exchange/crm/v1/contacts");
    let request = broker.http.post(broker.url(path)).header("dpop", proof("POST", path, Some(token)));
    let answer = request.header("authorization", format!("DPoP {token}")).send().await.unwrap();
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    let wanted = r#"DPoP realm="hallpass", error="insufficient_scope", scope="crm:contacts.write""#;
    assert!(challenge.starts_with(wanted), "{challenge}");
    assert_eq!(answer.status(), 403);
}
