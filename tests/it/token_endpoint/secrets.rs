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
