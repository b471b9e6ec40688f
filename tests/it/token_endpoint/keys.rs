//! Metadata, the JWKS, and keys that change (RFC 8414, RFC 7517).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rfc8414_s2_the_metadata_names_what_is_there() {
    let scene = Scene::new().await;
    let url = scene.broker.url("/.well-known/oauth-authorization-server");
    let answer = Answer::of(scene.broker.http.get(url)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let metadata = answer.json();
    let issuer = &scene.broker.running.issuer;
    // §3.3: identical, to the byte.
    assert_eq!(metadata["issuer"], **issuer);
    assert_eq!(metadata["token_endpoint"], format!("{issuer}/oauth2/token"));
    assert_eq!(metadata["introspection_endpoint"], format!("{issuer}/oauth2/introspect"));
    assert_eq!(metadata["revocation_endpoint"], format!("{issuer}/oauth2/revoke"));
    assert_eq!(metadata["jwks_uri"], format!("{issuer}/.well-known/jwks.json"));
    let grant = |name: &str| format!("urn:ietf:params:oauth:grant-type:{name}");
    let grants = json!(["client_credentials", grant("token-exchange"), grant("jwt-bearer")]);
    assert_eq!(metadata["grant_types_supported"], grants);
    for endpoint in ["token", "introspection", "revocation"] {
        let methods = &metadata[format!("{endpoint}_endpoint_auth_methods_supported")];
        let expected = ["client_secret_basic", "client_secret_post", "private_key_jwt", "spiffe_jwt"];
        assert_eq!(*methods, json!(expected), "{endpoint}");
    }
    assert_eq!(metadata["authorization_endpoint"], format!("{issuer}/oauth2/authorize"));
    // §3.2 omits what is empty, but §2 requires this one.
    for (name, value) in metadata.as_object().unwrap().iter().filter(|(name, _)| *name != "response_types_supported") {
        assert!(value.as_array().is_none_or(|array| !array.is_empty()), "{name}");
    }
    for (name, path) in metadata.as_object().unwrap().iter().filter_map(|(name, v)| Some((name, v.as_str()?))) {
        assert!(path.starts_with(issuer.as_str()), "{name}: {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7517_s5_the_jwks_is_public_cached_and_has_an_etag() {
    let scene = Scene::new().await;
    let url = scene.broker.url("/.well-known/jwks.json");
    let get = async |held: Option<&str>| {
        let mut request = scene.broker.http.get(&url);
        if let Some(held) = held {
            request = request.header("if-none-match", held);
        }
        Answer::of(request).await
    };
    let answer = get(None).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/jwk-set+json")));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300, must-revalidate"));
    let etag = answer.header("etag").unwrap().to_owned();
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2, "the active key and the next");
    for key in &keys {
        let names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(!names.contains(&private), "{names:?}");
        }
        assert_eq!((text(key, "use"), text(key, "alg"), text(key, "kty")), ("sig", "ES256", "EC"));
    }
    let again = get(Some(&etag)).await;
    assert_eq!((again.status, &*again.body), (304, ""));
    assert_eq!((again.header("etag"), again.header("cache-control")), (Some(&*etag), answer.header("cache-control")));
    assert_eq!(get(Some("\"other\"")).await.status, 200);
    scene.broker.admin_ok("POST", "/admin/v1/keys/rotate", Value::Null).await;
    let rotated = get(Some(&etag)).await;
    assert_eq!(rotated.status, 200);
    assert_ne!(rotated.header("etag"), Some(&*etag));
    assert_eq!(rotated.json()["keys"].as_array().unwrap().len(), 3, "retiring, active, next");
}

// Signing keys and algorithms.

/// Verifies by ring alone, with nothing of ours between the JWKS and the signature.
fn verify_independently(jwks: &Value, token: &str) -> String {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    };
    let header = forge::header(token);
    let key = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).expect("published");
    assert_eq!(key["alg"], header["alg"]);
    let part = |name: &str| BASE64URL.decode(text(key, name)).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (message, signature) = (message.as_bytes(), BASE64URL.decode(signature).unwrap());
    let algorithm = text(&header, "alg").to_owned();
    match &*algorithm {
        "ES256" => {
            let point = [vec![4], part("x"), part("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &signature)
        }
        "EdDSA" => UnparsedPublicKey::new(&ED25519, part("x")).verify(message, &signature),
        "RS256" => RsaPublicKeyComponents { n: part("n"), e: part("e") }.verify(
            &RSA_PKCS1_2048_8192_SHA256,
            message,
            &signature,
        ),
        other => panic!("{other}"),
    }
    .expect("a good signature");
    algorithm
}

async fn jwks(broker: &TestBroker) -> Value {
    broker.http.get(broker.url("/.well-known/jwks.json")).send().await.unwrap().json().await.unwrap()
}

/// `init` made ES256 keys before the setting was there. A rotation brings the algorithm, also one that comes before
/// the first look at the schedule.
async fn algorithm_changes(algorithm: &str) {
    let scene = Scene::with(&[("HALLPASS_KEYS__ALGORITHM", algorithm)]).await;
    let old = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_eq!(verify_independently(&jwks(&scene.broker).await, &old), "ES256");
    scene.broker.admin_ok("POST", "/admin/v1/keys/rotate", Value::Null).await;
    let new = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let published = jwks(&scene.broker).await;
    assert_eq!(verify_independently(&published, &new), algorithm);
    assert_eq!(verify_independently(&published, &old), "ES256");
    for token in [&old, &new] {
        assert_eq!(scene.introspect(token).await["active"], true);
    }
    let gateway = hallpass_verify::Gateway::new(hallpass_verify::GatewaySettings::new(
        scene.broker.running.issuer.clone(),
        scene.exchange(""),
    ));
    gateway.set_jwks(&published.to_string()).unwrap();
    let list = scene.broker.http.get(scene.broker.url("/revocations")).send().await.unwrap().text().await.unwrap();
    gateway.set_revocations(&list, forge::now(&scene.broker)).unwrap();
    gateway.verify(&new, forge::now(&scene.broker)).unwrap();
    gateway.verify(&old, forge::now(&scene.broker)).unwrap();

    let Scene { broker, agent } = scene;
    let scene = Scene { broker: broker.restart().await, agent };
    let after = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_eq!(verify_independently(&jwks(&scene.broker).await, &after), algorithm);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8037_s3_1_eddsa_by_setting_and_rotation() {
    algorithm_changes("EdDSA").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9068_s2_1_rs256_by_setting_and_rotation() {
    algorithm_changes("RS256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn es256_is_what_init_makes_and_what_stays_by_default() {
    algorithm_changes("ES256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_signed_just_before_a_rotation_is_good_until_it_dies() {
    let (clock, scene) = Scene::clocked().await;
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    for _ in 0..2 {
        scene.broker.admin_ok("POST", "/admin/v1/keys/rotate", Value::Null).await;
    }
    assert_eq!(scene.introspect(&token).await["active"], true);
    clock.add_seconds(280);
    assert_eq!(scene.introspect(&token).await["active"], true, "until its last minute");
    assert_eq!(verify_independently(&jwks(&scene.broker).await, &token), "ES256");
    clock.add_seconds(21);
    assert_eq!(scene.introspect(&token).await, json!({ "active": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_retired_key_kills_its_tokens_at_once() {
    let scene = Scene::new().await;
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_eq!(scene.introspect(&token).await["active"], true);
    let kid = text(&forge::header(&token), "kid").to_owned();
    scene.broker.admin_ok("POST", &format!("/admin/v1/keys/{kid}/retire"), json!({ "reason": "stolen" })).await;
    assert_eq!(scene.introspect(&token).await, json!({ "active": false }));
    let call = scene.broker.call(reqwest::Method::GET, "/crm/contacts", &token).send().await.unwrap();
    assert_eq!(call.status(), 401);
    assert!(!jwks(&scene.broker).await.to_string().contains(&kid));
    let new = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_ne!(text(&forge::header(&new), "kid"), kid);
    assert_eq!(scene.introspect(&new).await["active"], true);
    let (status, answer) = scene.broker.admin("POST", &format!("/admin/v1/keys/{kid}/retire"), Value::Null).await;
    assert_eq!((status, text(&answer, "code")), (409, "key_gone"));
    assert_eq!(scene.broker.admin("POST", "/admin/v1/keys/x/retire", Value::Null).await.0, 404);

    let Scene { broker, agent } = scene;
    let scene = Scene { broker: broker.restart().await, agent };
    assert!(!jwks(&scene.broker).await.to_string().contains(&kid), "nor after a restart");
    scene.ask("").await.is_token();
}

// Other people's code.

#[tokio::test(flavor = "multi_thread")]
async fn interop_the_oauth2_crate_gets_and_introspects_tokens() {
    use oauth2::basic::BasicClient;
    use oauth2::{
        AuthType, ClientId, ClientSecret, IntrospectionUrl, Scope, TokenIntrospectionResponse as _, TokenUrl,
    };
    use oauth2::{RequestTokenError, TokenResponse as _};

    let scene = Scene::new().await;
    let auditor = scene.broker.register("auditor", &["auditor", "support"]).await;
    let http = |request: oauth2::HttpRequest| {
        let http = scene.broker.http.clone();
        async move {
            let answer = http.execute(request.try_into()?).await?;
            let mut response = http::Response::builder().status(answer.status());
            *response.headers_mut().unwrap() = answer.headers().clone();
            Ok::<oauth2::HttpResponse, reqwest::Error>(response.body(answer.bytes().await?.to_vec()).unwrap())
        }
    };
    let client = |secret: &str, auth: AuthType| {
        BasicClient::new(ClientId::new(auditor.client_id.clone()))
            .set_client_secret(ClientSecret::new(secret.to_owned()))
            .set_auth_type(auth)
            .set_token_uri(TokenUrl::new(scene.broker.url("/oauth2/token")).unwrap())
            .set_introspection_url(IntrospectionUrl::new(scene.broker.url("/oauth2/introspect")).unwrap())
    };
    for auth in [AuthType::BasicAuth, AuthType::RequestBody] {
        let client = client(&auditor.client_secret, auth);
        let asked = client.exchange_client_credentials().add_scope(Scope::new("crm:contacts.read".into()));
        let token = asked.add_extra_param("task", "interop").request_async(&http).await.unwrap();
        assert_eq!(token.expires_in(), Some(std::time::Duration::from_secs(300)));
        assert!(token.refresh_token().is_none());
        assert_eq!(token.scopes().unwrap().len(), 1);
        let introspected = client.introspect(token.access_token()).request_async(&http).await.unwrap();
        assert!(introspected.active());
        assert_eq!(introspected.client_id().unwrap().as_str(), auditor.client_id);
        assert_eq!(introspected.scopes().unwrap()[0].as_str(), "crm:contacts.read");
    }
    let refused = client(&another_secret(), AuthType::BasicAuth);
    let error = refused.exchange_client_credentials().request_async(&http).await.unwrap_err();
    let RequestTokenError::ServerResponse(response) = error else { panic!("{error:?}") };
    assert_eq!(response.error().as_ref(), "invalid_client");
}

/// As an operator does it: change the setting, start again, `hallpass key rotate`.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_key_rotate_brings_the_algorithm_that_was_set() {
    let mut binary = Binary::init(None);
    binary.serve(None);
    let document = r#"
resources: [ { name: orders, audience: "https://orders.example.com", scopes: [orders.read] } ]
roles: [ { name: support, scopes: ["orders:orders.read"] } ]
"#;
    binary.ok(&["apply", "-f", "-"], document);
    let agent = binary.json(&["agent", "register", "helpdesk", "--role", "support"], "");
    assert!(binary.terminate().success());
    binary.set("HALLPASS_KEYS__ALGORITHM", "EdDSA");
    binary.serve(None);
    binary.json(&["key", "rotate"], "");

    let http = crate::support::broker::client();
    let url = if binary.public.contains("://") { binary.public.clone() } else { format!("http://{}", binary.public) };
    let request = http.post(format!("{url}/oauth2/token"));
    let request = request.basic_auth(text(&agent, "client_id"), Some(text(&agent, "client_secret")));
    let form = [("grant_type", "client_credentials"), ("resource", ORDERS)];
    let answer = Answer::of(request.form(&form)).await.is_token();
    let jwks: Value = http.get(format!("{url}/.well-known/jwks.json")).send().await.unwrap().json().await.unwrap();
    let token = text(&answer, "access_token");
    assert_eq!(verify_independently(&jwks, token), "EdDSA");

    // What `key retire` answers, holds: the token is dead, and its key is gone.
    let kid = text(&forge::header(token), "kid").to_owned();
    binary.json(&["key", "retire", &kid], "");
    let inspected = binary.run(&["token", "inspect", "--json"], token);
    let said = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(!said.contains(r#""active":true"#), "{said}");
    let jwks = http.get(format!("{url}/.well-known/jwks.json")).send().await.unwrap().text().await.unwrap();
    assert!(!jwks.contains(&kid));
}
