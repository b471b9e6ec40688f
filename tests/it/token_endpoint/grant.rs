//! What is asked for: scopes, audiences, sessions, and what the audit log says of it (RFC 6749 §3.3, RFC 8707, RFC 9068).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s3_3_scope_is_all_of_the_roles_by_default_and_never_more() {
    let scene = Scene::new().await;
    assert_eq!(text(&scene.ask("").await.is_token(), "scope"), EXCHANGE_SCOPES);
    for asked in ["crm:contacts.read", "wiki:pages.read", "crm:contacts.read+wiki:pages.read"] {
        let answer = scene.ask(&format!("scope={asked}")).await.is_token();
        assert_eq!(text(&answer, "scope"), asked.replace('+', " "));
        assert_eq!(claims(&answer)["scope"], *asked.replace('+', " "));
    }
    let answer = scene.ask("scope=wiki:pages.read+crm:contacts.read+wiki:pages.read").await.is_token();
    assert_eq!(text(&answer, "scope"), "crm:contacts.read wiki:pages.read");
    for more in [
        "crm:contacts.delete",
        "crm:contacts.read+crm:contacts.delete",
        "hallpass:introspect",
        "contacts.read",
        "crm:*",
        "CRM:contacts.read",
        "orders:orders.read",
        "+crm:contacts.read",
        "crm:contacts.read++wiki:pages.read",
        "crm:contacts.read%0Awiki:pages.read",
        "crm:contacts.read%22",
        "%C3%A9",
    ] {
        scene.ask(&format!("scope={more}")).await.is_error(400, "invalid_scope");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s5_2_an_agent_without_roles_gets_invalid_scope() {
    let scene = Scene::new().await;
    let nobody = scene.broker.register("nobody", &[]).await;
    let (status, answer) = scene.broker.token_request(&nobody, &[]).await;
    assert_eq!((status, text(&answer, "error")), (400, "invalid_scope"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s5_1_the_answer_is_not_stored_and_says_everything() {
    let scene = Scene::new().await;
    let answer = scene.ask("").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("pragma"), Some("no-cache"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.is_token();
    assert_eq!(json["token_type"], "Bearer");
    assert_eq!(json["expires_in"], 300);
    assert_eq!(json["session_expires_in"], 3600);
    assert!(text(&json, "session_id").starts_with("se_"));
    // §4.4.3
    assert!(json.get("refresh_token").is_none());
}

// RFC 9068: the token.

#[tokio::test(flavor = "multi_thread")]
async fn rfc9068_s2_the_token_has_the_type_and_the_claims() {
    let scene = Scene::new().await;
    let before = forge::now(&scene.broker);
    let answer = scene.ask("").await.is_token();
    let after = forge::now(&scene.broker);
    let header = forge::header(text(&answer, "access_token"));
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(header["alg"], "ES256");
    assert_eq!(header["kid"], *scene.broker.running.state.manager.registry.keys().active_kid());
    let claims = claims(&answer);
    assert_eq!(claims["iss"], *scene.broker.running.issuer);
    assert_eq!(claims["sub"], *scene.agent.client_id);
    assert_eq!(claims["client_id"], *scene.agent.client_id);
    assert_eq!(claims["aud"], *scene.exchange(""));
    assert_eq!(claims["scope"], EXCHANGE_SCOPES);
    assert_eq!(claims["sid"], answer["session_id"]);
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!((before..=after).contains(&iat), "{iat}");
    assert_eq!(exp - iat, 300);
    assert!(text(&claims, "jti").starts_with("tk_"));
    let mut names: Vec<_> = claims.as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["aud", "client_id", "exp", "iat", "iss", "jti", "scope", "sid", "sub"]);

    let another = scene.ask("").await.is_token();
    assert_ne!(self::claims(&another)["jti"], claims["jti"]);
    assert_ne!(another["session_id"], answer["session_id"]);
}

// RFC 8707: resource.

#[tokio::test(flavor = "multi_thread")]
async fn rfc8707_s2_resource_narrows_audience_and_scope() {
    let scene = Scene::new().await;
    for (resources, aud, scope) in [
        (vec![scene.exchange("")], json!(scene.exchange("")), EXCHANGE_SCOPES),
        (vec![scene.exchange("/crm")], json!(scene.exchange("/crm")), "crm:contacts.read crm:contacts.write"),
        (vec![scene.exchange("/wiki")], json!(scene.exchange("/wiki")), "wiki:pages.read"),
        (vec![ORDERS.to_owned()], json!(ORDERS), "orders:orders.read"),
        (vec![ORDERS.to_owned(), ORDERS.to_owned()], json!(ORDERS), "orders:orders.read"),
        (
            vec![scene.exchange("/wiki"), scene.exchange("/crm")],
            json!([scene.exchange("/wiki"), scene.exchange("/crm")]),
            "crm:contacts.read crm:contacts.write wiki:pages.read",
        ),
    ] {
        let form: Vec<_> = resources.iter().map(|resource| ("resource", resource.as_str())).collect();
        let (status, answer) = scene.broker.token_request(&scene.agent, &form).await;
        assert_eq!(status, 200, "{resources:?}: {answer}");
        assert_eq!(claims(&answer)["aud"], aud, "{resources:?}");
        assert_eq!(text(&answer, "scope"), scope, "{resources:?}");
        assert_eq!(claims(&answer)["scope"], scope, "{resources:?}");
    }
    // The API behind the gateway could send such a token on to the exchange endpoint.
    let (wiki, orders) = (scene.exchange("/wiki"), ORDERS.to_owned());
    let (status, answer) =
        scene.broker.token_request(&scene.agent, &[("resource", &wiki), ("resource", &orders)]).await;
    assert_eq!((status, text(&answer, "error")), (400, "invalid_target"));
    // A scope of another audience does not go into the token.
    let wiki = scene.exchange("/wiki");
    for (resource, scope) in
        [(wiki.as_str(), "crm:contacts.read"), (ORDERS, "wiki:pages.read"), (ORDERS, "orders:orders.write")]
    {
        let form = [("resource", resource), ("scope", scope)];
        let (status, answer) = scene.broker.token_request(&scene.agent, &form).await;
        assert_eq!((status, text(&answer, "error")), (400, "invalid_scope"), "{resource} {scope}");
    }
}

/// `new URL("https://orders.example.com")` writes a slash at the end.
#[tokio::test(flavor = "multi_thread")]
async fn rfc3986_s6_2_another_spelling_of_a_resource_is_that_resource_and_aud_is_the_registered_one() {
    let scene = Scene::new().await;
    let upper = |text: String| text.replacen("http://", "HTTP://", 1);
    for (spelling, aud) in [
        (format!("{ORDERS}/"), ORDERS.to_owned()),
        ("HTTPS://orders.example.com".to_owned(), ORDERS.to_owned()),
        ("https://Orders.Example.COM:443/".to_owned(), ORDERS.to_owned()),
        ("https://orders.example.com:".to_owned(), ORDERS.to_owned()),
        (upper(scene.exchange("")), scene.exchange("")),
        (upper(scene.exchange("/crm")), scene.exchange("/crm")),
        (scene.exchange("/%63rm"), scene.exchange("/crm")),
    ] {
        for name in ["resource", "audience"] {
            let (status, answer) = scene.broker.token_request(&scene.agent, &[(name, &spelling)]).await;
            assert_eq!(status, 200, "{spelling}: {answer}");
            assert_eq!(claims(&answer)["aud"], *aud, "{spelling}");
        }
    }
    // Both spellings are one audience, and one of an API alone.
    let slash = format!("{ORDERS}/");
    let (_, answer) = scene.broker.token_request(&scene.agent, &[("resource", ORDERS), ("resource", &slash)]).await;
    assert_eq!(claims(&answer)["aud"], ORDERS);
    let document = format!("resources: [ {{ name: twin, audience: \"{slash}\", scopes: [read] }} ]");
    let body = json!({ "document": document });
    let (status, answer) = scene.broker.admin("POST", "/admin/v1/apply", body).await;
    assert_eq!((status, &answer["mistakes"][0]["at"]), (400, &json!("resources[0].audience")), "{answer}");
}

/// Clients of other servers say `audience` with any grant; passed over, they would get a token for another audience.
#[tokio::test(flavor = "multi_thread")]
async fn audience_is_taken_like_resource_and_an_unknown_one_is_refused() {
    let scene = Scene::new().await;
    let crm = scene.exchange("/crm");
    for (form, aud) in [
        (vec![("audience", ORDERS)], json!(ORDERS)),
        (vec![("audience", &*crm)], json!(crm)),
        (vec![("audience", ORDERS), ("resource", ORDERS)], json!(ORDERS)),
    ] {
        let (status, answer) = scene.broker.token_request(&scene.agent, &form).await;
        assert_eq!(status, 200, "{form:?}: {answer}");
        assert_eq!(claims(&answer)["aud"], aud);
    }
    for unknown in ["https://other.example.com", "orders", "crm", "*"] {
        let (status, answer) = scene.broker.token_request(&scene.agent, &[("audience", unknown)]).await;
        assert_eq!((status, text(&answer, "error")), (400, "invalid_target"), "{unknown}");
    }
    let (status, answer) = scene.broker.token_request(&scene.agent, &[("audience", ORDERS), ("resource", &crm)]).await;
    assert_eq!((status, text(&answer, "error")), (400, "invalid_target"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s5_2_invalid_scope_names_the_scopes_and_says_what_helps() {
    let scene = Scene::new().await;
    for (asked, named, not_named, hint) in [
        ("crm:contacts.read+crm:contacts.delete", "crm:contacts.delete", "crm:contacts.read ", "roles"),
        ("crm:a+crm:b", "crm:a crm:b", "+", "roles"),
        ("orders:orders.read", "orders:orders.read", "\\", "resource"),
        ("crm:contacts.read,wiki:pages.read", "crm:contacts.read,wiki:pages.read", "\\", "single spaces, not by ','"),
        ("crm:contacts.read%3Bwiki:pages.read", "crm:contacts.read;", "\\", "single spaces, not by ';'"),
        ("crm:contacts.read|wiki:pages.read", "crm:contacts.read", "\\", "single spaces, not by '|'"),
        ("crm:contacts.read%2Bwiki:pages.read", "crm:contacts.read", "\\", "single spaces, not by '+'"),
        ("crm:contacts.read%2520wiki:pages.read", "crm:contacts.read", "\\", "single spaces, not by '%20'"),
        ("crm:contacts.read++wiki:pages.read", "", "\\", "separated by single spaces"),
        ("crm:contacts.read%0Awiki:pages.read", "", "\\", "separated by single spaces"),
        ("crm:contacts.read%09wiki:pages.read", "", "\\", "separated by single spaces"),
        ("%5B%22crm:contacts.read%22%5D", "", "\\", "separated by single spaces"),
    ] {
        let answer = scene.ask(&format!("scope={asked}")).await;
        let said = text(&answer.is_error(400, "invalid_scope").json(), "error_description").to_owned();
        assert!(said.contains(named) && said.contains(hint) && !said.contains(not_named), "{asked}: {said}");
    }
    let many: Vec<_> = (0..500).map(|n| format!("crm:{n}{}", "x".repeat(100))).collect();
    let answer = scene.ask(&format!("scope={}", many.join("+"))).await;
    let said = text(&answer.is_error(400, "invalid_scope").json(), "error_description").to_owned();
    assert!(said.len() < 1500 && said.contains("and more"), "{}", said.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8707_s2_an_unknown_resource_is_invalid_target() {
    let scene = Scene::new().await;
    for unknown in [
        "https://other.example.com".to_owned(),
        format!("{ORDERS}#fragment"),
        format!("{ORDERS}?x=1"),
        format!("{ORDERS}//"),
        "https://orders.example.com:8443".to_owned(),
        "https://orders.example.com\\".to_owned(),
        " https://orders.example.com".to_owned(),
        "https://user@orders.example.com/".to_owned(),
        "orders".to_owned(),
        "/exchange/crm".to_owned(),
        scene.exchange("/"),
        scene.exchange("/nobody"),
        scene.exchange("/crm/"),
        scene.exchange("/crm#x"),
        scene.exchange("/crm/contacts"),
        scene.exchange("/../exchange/crm"),
        scene.exchange("crm"),
        scene.broker.running.issuer.clone(),
    ] {
        let (status, answer) = scene.broker.token_request(&scene.agent, &[("resource", &unknown)]).await;
        assert_eq!((status, text(&answer, "error")), (400, "invalid_target"), "{unknown}");
        let mixed = [("resource", ORDERS), ("resource", unknown.as_str())];
        let (status, answer) = scene.broker.token_request(&scene.agent, &mixed).await;
        assert_eq!((status, text(&answer, "error")), (400, "invalid_target"), "one good, one {unknown}");
    }
    let many: Vec<_> = (0..50).map(|_| ("resource", ORDERS)).collect();
    let (status, answer) = scene.broker.token_request(&scene.agent, &many).await;
    assert_eq!((status, text(&answer, "error")), (400, "invalid_target"));
}

// Sessions.

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_for_its_own_agent_only() {
    let scene = Scene::new().await;
    let first = scene.ask("").await.is_token();
    let sid = text(&first, "session_id");
    let second = scene.ask(&format!("session_id={sid}&scope=wiki:pages.read")).await.is_token();
    assert_eq!(text(&second, "session_id"), sid);
    assert_eq!(claims(&second)["sid"], sid);
    assert_ne!(claims(&second)["jti"], claims(&first)["jti"]);

    let other = scene.broker.register("other", &["support"]).await;
    let (status, theirs) = scene.broker.token_request(&other, &[("session_id", sid)]).await;
    assert_eq!((status, text(&theirs, "error")), (400, "invalid_grant"));
    let unknown = scene.ask("session_id=se_aaaaaaaaaaaaaaaaaaaaaaaaaa").await;
    unknown.is_error(400, "invalid_grant");
    // Somebody else's session and none are told apart by nothing.
    assert_eq!(theirs["error_description"], unknown.json()["error_description"]);
    scene.ask(&format!("session_id={sid}&session_expires_in=60")).await.is_error(400, "invalid_request");
    scene.ask(&format!("session_id={sid}x")).await.is_error(400, "invalid_grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_sessions_end_caps_its_tokens_and_an_ended_one_does_not_go_on() {
    let (clock, scene) = Scene::clocked().await;
    let first = scene.ask("session_expires_in=120").await.is_token();
    assert!((119..=120).contains(&first["session_expires_in"].as_i64().unwrap()), "{first}");
    assert!((119..=120).contains(&first["expires_in"].as_i64().unwrap()), "{first}");
    let end = claims(&first)["exp"].as_i64().unwrap();
    let sid = text(&first, "session_id");

    clock.add_seconds(60);
    let second = scene.ask(&format!("session_id={sid}")).await.is_token();
    assert_eq!(claims(&second)["exp"], end, "never past the session's end");
    assert!(second["expires_in"].as_i64().unwrap() <= 60, "{second}");
    assert_eq!(scene.introspect(text(&second, "access_token")).await["active"], true);

    clock.add_seconds(61);
    scene.ask(&format!("session_id={sid}")).await.is_error(400, "invalid_grant");
    assert_eq!(scene.introspect(text(&second, "access_token")).await, json!({ "active": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_revoked_session_does_not_go_on() {
    let scene = Scene::new().await;
    let answer = scene.ask("").await.is_token();
    let sid = text(&answer, "session_id");
    scene.broker.admin_ok("POST", &format!("/admin/v1/sessions/{sid}/revoke"), Value::Null).await;
    scene.ask(&format!("session_id={sid}")).await.is_error(400, "invalid_grant");
    assert_eq!(scene.introspect(text(&answer, "access_token")).await, json!({ "active": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn session_expires_in_has_its_bounds() {
    let scene = Scene::new().await;
    for bad in
        ["0", "-1", "86401", "1.5", "abc", "60s", "0x10", "99999999999999999999", "9223372036854775807", "%20 60"]
    {
        scene.ask(&format!("session_expires_in={bad}")).await.is_error(400, "invalid_request");
    }
    for (good, seconds) in [("2", 2), ("86400", 86_400)] {
        let answer = scene.ask(&format!("session_expires_in={good}")).await.is_token();
        assert_eq!(answer["session_expires_in"], seconds);
        assert!(answer["expires_in"].as_i64().unwrap() <= seconds.min(300), "{answer}");
        assert!(answer["expires_in"].as_i64().unwrap() > 0, "{answer}");
    }
    let short = Scene::with(&[
        ("HALLPASS_TOKENS__SESSION_SECONDS", "60"),
        ("HALLPASS_TOKENS__SESSION_MAX_SECONDS", "120"),
        ("HALLPASS_TOKENS__LIFETIME_SECONDS", "10"),
    ])
    .await;
    let answer = short.ask("").await.is_token();
    assert_eq!((&answer["session_expires_in"], &answer["expires_in"]), (&json!(60), &json!(10)));
    short.ask("session_expires_in=121").await.is_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn task_and_purpose_are_in_the_audit_log() {
    let scene = Scene::new().await;
    let answer = scene.ask("task=ticket+4711&purpose=support+%C3%A9t%C3%A9").await.is_token();
    let jti = text(&claims(&answer), "jti").to_owned();
    let record = scene.broker.wait_for_record(|record| record["token"] == *jti).await;
    assert_eq!(record["kind"], "token.issued");
    assert_eq!(record["decision"], "allow");
    assert_eq!((text(&record, "task"), text(&record, "purpose")), ("ticket 4711", "support été"));
    assert_eq!(record["agent_name"], "helpdesk");
    assert_eq!(record["session"], answer["session_id"]);
    assert_eq!(record["scope"], answer["scope"]);

    // In the same session they stay, unless the request says otherwise.
    let sid = text(&answer, "session_id");
    for (more, task) in [("", "ticket 4711"), ("&task=other", "other")] {
        let again = scene.ask(&format!("session_id={sid}{more}")).await.is_token();
        let jti = text(&claims(&again), "jti").to_owned();
        let record = scene.broker.wait_for_record(|record| record["token"] == *jti).await;
        assert_eq!((text(&record, "task"), text(&record, "purpose")), (task, "support été"));
    }
    for bad in [format!("task={}", "x".repeat(201)), "purpose=a%0Ab".to_owned(), "task=%00".to_owned()] {
        scene.ask(&bad).await.is_error(400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_recorded_with_its_reason_and_without_any_secret() {
    let scene = Scene::new().await;
    let secret = another_secret();
    let stranger = "x\"\n\u{e9}".repeat(100);
    let answer = scene.authorized(None, &format!("client_id={}&client_secret={secret}", percent(&stranger))).await;
    answer.is_error(401, "invalid_client");
    let id = answer.header("x-request-id").unwrap().to_owned();
    let record = scene.broker.wait_for_record(|record| record["request"] == *id).await;
    assert_eq!((text(&record, "kind"), text(&record, "reason")), ("token.refused", "unknown_client"));
    assert!(text(&record, "object").starts_with("claimed:x"), "{record}");
    assert!(text(&record, "object").len() < 100, "{record}");
    let answer = scene.ask("scope=crm:contacts.delete").await;
    let id = answer.header("x-request-id").unwrap().to_owned();
    let record = scene.broker.wait_for_record(|record| record["request"] == *id).await;
    assert_eq!((text(&record, "reason"), text(&record, "agent_name")), ("invalid_scope", "helpdesk"));
    let all = format!("{:?}", scene.broker.records().await);
    assert!(!all.contains(&secret) && !all.contains(&scene.agent.client_secret));
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

// Agents over time.
