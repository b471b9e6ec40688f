//! Revocation and introspection (RFC 7009, RFC 7662).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rfc7009_s2_an_agent_revokes_its_own_token_only() {
    let scene = Scene::new().await;
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let other = scene.broker.register("other", &["support"]).await;
    scene.endpoint("/oauth2/revoke", &other, &[("token", &token)]).await.is_error(400, "unauthorized_client");
    assert_eq!(scene.introspect(&token).await["active"], true);

    // A wrong hint is only a hint.
    let form = [("token", token.as_str()), ("token_type_hint", "refresh_token")];
    for _ in 0..2 {
        let answer = scene.endpoint("/oauth2/revoke", &scene.agent, &form).await;
        assert_eq!((answer.status, &*answer.body), (200, ""), "{answer:?}");
    }
    assert_eq!(scene.introspect(&token).await, json!({ "active": false }));
    let jti = text(&forge::payload(&token), "jti").to_owned();
    let record = scene.broker.wait_for_record(|record| record["kind"] == "revocation" && record["token"] == *jti).await;
    assert_eq!(record["agent_name"], "helpdesk");
    // The session and its other tokens go on.
    let sid = text(&forge::payload(&token), "sid").to_owned();
    scene.ask(&format!("session_id={sid}")).await.is_token();
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7009_s2_2_an_unknown_token_is_200_and_a_missing_one_an_error() {
    let scene = Scene::new().await;
    let claims = forge::claims(&scene.broker, &scene.agent.client_id, "crm:contacts.read");
    let now = forge::now(&scene.broker);
    let dead = forge::with(forge::with(claims.clone(), "exp", now - 1), "iat", now - 300);
    for unknown in [
        "x".to_owned(),
        "a.b.c".to_owned(),
        forge::by_foreign_key("k", &claims),
        forge::by_broker(&scene.broker, "at+jwt", &dead),
    ] {
        let answer = scene.endpoint("/oauth2/revoke", &scene.agent, &[("token", &unknown)]).await;
        assert_eq!(answer.status, 200, "{unknown}: {answer:?}");
    }
    scene.endpoint("/oauth2/revoke", &scene.agent, &[]).await.is_error(400, "invalid_request");
    scene.endpoint("/oauth2/revoke", &scene.agent, &[("token", "")]).await.is_error(400, "invalid_request");
    let nobody = TestAgent { client_id: scene.agent.client_id.clone(), client_secret: another_secret() };
    scene.endpoint("/oauth2/revoke", &nobody, &[("token", "x")]).await.is_error(401, "invalid_client");
    let list = scene.broker.http.get(scene.broker.url("/revocations")).send().await.unwrap().text().await.unwrap();
    assert_eq!(forge::payload(&list)["revoked"], json!([]), "what is unknown or dead fills no list");
}

// RFC 7662: introspection.

#[tokio::test(flavor = "multi_thread")]
async fn rfc7662_s2_1_only_who_may_introspect_does_by_secret_or_by_token() {
    let scene = Scene::new().await;
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let form = [("token", token.as_str()), ("token_type_hint", "access_token")];
    scene.endpoint("/oauth2/introspect", &scene.agent, &form).await.is_error(400, "unauthorized_client");

    let auditor = scene.broker.register("auditor", &["auditor"]).await;
    let by_secret = scene.endpoint("/oauth2/introspect", &auditor, &form).await;
    let bearer = scene.broker.token(&auditor).await;
    let request = scene.broker.http.post(scene.broker.url("/oauth2/introspect"));
    let by_token = Answer::of(request.bearer_auth(&bearer).form(&form)).await;
    let claims = forge::payload(&token);
    for answer in [&by_secret, &by_token] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let json = answer.is_token();
        assert_eq!(json["active"], true);
        assert_eq!(json["token_type"], "Bearer");
        for name in ["iss", "sub", "client_id", "aud", "exp", "iat", "jti", "scope", "sid"] {
            assert_eq!(json[name], claims[name], "{name}");
        }
    }
    scene.endpoint("/oauth2/introspect", &auditor, &[]).await.is_error(400, "invalid_request");

    // The role is gone, the token is still there: what counts is what the agent may do now.
    scene.broker.apply("agents: [ { name: auditor, roles: [support] } ]").await;
    let request = scene.broker.http.post(scene.broker.url("/oauth2/introspect"));
    let answer = Answer::of(request.bearer_auth(&bearer).form(&form)).await;
    assert_eq!((answer.status, text(&answer.json(), "error")), (403, "insufficient_scope"));
    scene.endpoint("/oauth2/introspect", &auditor, &form).await.is_error(400, "unauthorized_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7662_s4_a_token_for_an_api_behind_a_gateway_is_active_too() {
    let scene = Scene::new().await;
    let (_, answer) = scene.broker.token_request(&scene.agent, &[("resource", ORDERS)]).await;
    let introspected = scene.introspect(text(&answer, "access_token")).await;
    assert_eq!((&introspected["active"], &introspected["aud"]), (&json!(true), &json!(ORDERS)));
    let crm = scene.exchange("/crm");
    let (_, answer) = scene.broker.token_request(&scene.agent, &[("resource", &crm)]).await;
    assert_eq!(scene.introspect(text(&answer, "access_token")).await["active"], true);
}

// RFC 8414, RFC 7517: metadata and keys.

/// An admin who takes a token back by its id learns whether there was anything to take back.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_or_was_never_issued_is_not_said_to_be_revoked() {
    let (clock, scene) = Scene::clocked().await;
    let revoke = async |body: Value| scene.broker.admin("POST", "/admin/v1/tokens/revoke", body).await;
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let jti = text(&forge::payload(&token), "jti").to_owned();
    let before = scene.broker.records().await.len();
    for bad in ["tk_nope", "nonsense", "tk_AAAAAAAAAAAAAAAAAAAAAAAAAA", "tk_zzzzzzzzzzzzzzzzzzzzzzzzz0"] {
        let (status, answer) = revoke(json!({ "jti": bad })).await;
        assert_eq!((status, text(&answer, "code")), (400, "token_id_malformed"), "{bad}");
    }
    // Of this moment, and of times to come.
    let now = scene.broker.running.state.world.now();
    for made in [now, now - 60_000, now + 86_400_000] {
        let id = hallpass::secret::ordered_id("tk_", made, &hallpass::world::SystemEntropy);
        let (status, answer) = revoke(json!({ "jti": id })).await;
        assert_eq!((status, text(&answer, "code")), (404, "token_unknown"));
    }
    assert_eq!(scene.broker.records().await.len(), before, "nothing was changed, and nothing is said to be");
    // Five minutes later it has expired; a quarter of an hour later its id says so itself.
    clock.add_seconds(301);
    let (status, answer) = revoke(json!({ "token": token })).await;
    assert_eq!((status, &answer["revoked"], &answer["expired"]), (200, &json!(false), &json!(true)), "{answer}");
    clock.add_seconds(700);
    let (status, answer) = revoke(json!({ "jti": jti })).await;
    assert_eq!((status, &answer["revoked"], &answer["expired"]), (200, &json!(false), &json!(true)), "{answer}");
    // One among many records, and twice.
    let token = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    for _ in 0..30 {
        scene.ask("").await.is_token();
    }
    let jti = json!({ "jti": text(&forge::payload(&token), "jti") });
    assert_eq!(revoke(jti.clone()).await.1["revoked"], true);
    assert_eq!(revoke(jti).await.1["already"], true);
    assert_eq!(scene.introspect(&token).await, json!({ "active": false }));
}
