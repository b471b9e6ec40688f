//! Agents that are stopped, and secrets that are rotated.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_suspended_agent_gets_nothing_until_it_is_resumed_and_a_revoked_one_never_again() {
    let scene = Scene::new().await;
    let old = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let admin = async |what: &str| {
        scene.broker.admin("POST", &format!("/admin/v1/agents/helpdesk/{what}"), Value::Null).await.0
    };
    assert_eq!(admin("suspend").await, 200);
    scene.ask("").await.is_error(401, "invalid_client");
    assert_eq!(scene.introspect(&old).await, json!({ "active": false }));
    assert_eq!(admin("resume").await, 200);
    let new = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    assert_eq!(scene.introspect(&new).await["active"], true);
    assert_eq!(scene.introspect(&old).await, json!({ "active": false }), "what was taken back stays so");
    assert_eq!(admin("revoke").await, 200);
    scene.ask("").await.is_error(401, "invalid_client");
    assert_eq!(scene.introspect(&new).await, json!({ "active": false }));
    for what in ["resume", "suspend", "rotate-secret"] {
        assert_eq!(admin(what).await, 409, "{what}");
    }
}

/// Each is told what it is, and what helps: a new token does not help whose agent is suspended.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_agent_is_told_apart_from_a_revoked_one_everywhere() {
    let scene = Scene::new().await;
    let old = text(&scene.ask("").await.is_token(), "access_token").to_owned();
    let admin = async |what: &str| {
        scene.broker.admin_ok("POST", &format!("/admin/v1/agents/helpdesk/{what}"), Value::Null).await;
    };
    let call = async |token: &str| {
        let answer = scene.broker.call(reqwest::Method::GET, "/crm/contacts", token).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        answer.json::<Value>().await.unwrap()
    };
    let why = async |token: &str| {
        let body = json!({ "token": token });
        scene.broker.admin_ok("POST", "/admin/v1/tokens/inspect", body).await["why_not"].as_str().unwrap().to_owned()
    };
    let as_actor = async |token: &str| {
        let helper = match scene.broker.admin("GET", "/admin/v1/agents/helper", Value::Null).await {
            (404, _) => scene.broker.register("helper", &["support"]).await,
            _ => {
                let path = "/admin/v1/agents/helper/rotate-secret";
                let answer = scene.broker.admin_ok("POST", path, Value::Null).await;
                let of = |name: &str| text(&answer, name).to_owned();
                TestAgent { client_id: of("client_id"), client_secret: of("client_secret") }
            }
        };
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ];
        let answer = scene.endpoint("/oauth2/token", &helper, &form).await;
        text(&answer.is_error(400, "invalid_request").json(), "error_description").to_owned()
    };
    let recorded = async |kind: &str, reason: &str| {
        scene.broker.wait_for_record(|record| record["kind"] == kind && record["reason"] == reason).await
    };

    admin("suspend").await;
    let answer = scene.ask("").await.is_error(401, "invalid_client").json();
    assert_eq!(answer["code"], "agent_suspended");
    assert!(text(&answer, "error_description").contains("resume"), "{answer}");
    recorded("token.refused", "agent_suspended").await;
    let answer = call(&old).await;
    assert_eq!(answer["code"], "agent_suspended");
    assert!(
        text(&answer, "detail").contains("resume") && !text(&answer, "detail").contains("get a new one"),
        "{answer}"
    );
    recorded("call.refused", "agent_suspended").await;
    assert!(why(&old).await.contains("suspended"));
    assert!(as_actor(&old).await.contains("suspended"));
    // Who does not know the secret learns nothing.
    let id = &scene.agent.client_id;
    let stranger = scene.authorized(Some(&basic(id, &another_secret())), "").await;
    assert_eq!(stranger.is_error(401, "invalid_client").json()["code"], "invalid_client");

    // Back again: the agent is fine, and what it had before is not.
    admin("resume").await;
    let answer = call(&old).await;
    assert_eq!(answer["code"], "token_revoked");
    assert!(text(&answer, "detail").contains("get a new one"), "{answer}");
    let new = text(&scene.ask("").await.is_token(), "access_token").to_owned();

    admin("revoke").await;
    let answer = scene.ask("").await.is_error(401, "invalid_client").json();
    assert_eq!(answer["code"], "agent_revoked");
    assert!(text(&answer, "error_description").contains("register a new one"), "{answer}");
    for token in [&old, &new] {
        let answer = call(token).await;
        assert_eq!(answer["code"], "agent_revoked");
        assert!(text(&answer, "detail").contains("register a new one"), "{answer}");
    }
    recorded("call.refused", "agent_revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_works_beside_the_new_one_for_the_grace_and_no_longer() {
    let (clock, scene) = Scene::clocked().await;
    let path = "/admin/v1/agents/helpdesk/rotate-secret";
    let answer = scene.broker.admin_ok("POST", path, json!({ "grace_seconds": 60 })).await;
    let id = &scene.agent.client_id;
    let (old, new) = (&scene.agent.client_secret, text(&answer, "client_secret"));
    assert_ne!(old, new);
    for secret in [old, new] {
        scene.authorized(Some(&basic(id, secret)), "").await.is_token();
    }
    clock.add_seconds(61);
    scene.authorized(Some(&basic(id, old)), "").await.is_error(401, "invalid_client");
    scene.authorized(Some(&basic(id, new)), "").await.is_token();

    // A second rotation does not bring the first secret back, and no grace means none.
    let answer = scene.broker.admin_ok("POST", path, json!({ "grace_seconds": 0 })).await;
    let newest = text(&answer, "client_secret");
    for secret in [old, new] {
        scene.authorized(Some(&basic(id, secret)), "").await.is_error(401, "invalid_client");
    }
    scene.authorized(Some(&basic(id, newest)), "").await.is_token();
    let Scene { broker, agent } = scene;
    let scene = Scene { broker: broker.restart().await, agent };
    scene
        .authorized(Some(&basic(&scene.agent.client_id, &scene.agent.client_secret)), "")
        .await
        .is_error(401, "invalid_client");
    scene.authorized(Some(&basic(&scene.agent.client_id, newest)), "").await.is_token();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rotations_within_the_grace_leave_two_secrets() {
    let (_clock, scene) = Scene::clocked().await;
    let path = "/admin/v1/agents/helpdesk/rotate-secret";
    let second = scene.broker.admin_ok("POST", path, json!({ "grace_seconds": 600 })).await;
    let third = scene.broker.admin_ok("POST", path, json!({ "grace_seconds": 600 })).await;
    let id = &scene.agent.client_id.clone();
    for secret in [text(&second, "client_secret"), text(&third, "client_secret")] {
        scene.authorized(Some(&basic(id, secret)), "").await.is_token();
    }
    let first = &scene.agent.client_secret.clone();
    scene.authorized(Some(&basic(id, first)), "").await.is_error(401, "invalid_client");
    let agent = scene.agent.clone();
    let scene = Scene { broker: scene.broker.restart().await, agent };
    scene.authorized(Some(&basic(id, first)), "").await.is_error(401, "invalid_client");
    scene.authorized(Some(&basic(id, text(&second, "client_secret"))), "").await.is_token();
}

// RFC 7009: revocation.
