//! Who asks: client secrets, two ways to send them, and the form that they come in (RFC 6749 §2.3, §3.2).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s2_3_both_methods_work_and_two_at_once_are_an_error() {
    let scene = Scene::new().await;
    let (id, secret) = (&scene.agent.client_id, &scene.agent.client_secret);
    let in_body = format!("client_id={id}&client_secret={secret}");
    scene.authorized(Some(&basic(id, secret)), "").await.is_token();
    scene.authorized(None, &in_body).await.is_token();
    scene.authorized(Some(&basic(id, secret)), &format!("client_id={id}")).await.is_token();
    scene.authorized(Some(&basic(id, secret)), &in_body).await.is_error(400, "invalid_request");
    scene.authorized(Some("Bearer x"), &in_body).await.is_error(400, "invalid_request");
    scene.authorized(Some(&basic(id, secret)), "client_id=ag_other").await.is_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s2_3_1_basic_is_form_urlencoded_inside_and_decoded_strictly() {
    let scene = Scene::new().await;
    let (id, secret) = (&scene.agent.client_id, &scene.agent.client_secret);
    let percent = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    scene.authorized(Some(&basic(&percent(id), &percent(secret))), "").await.is_token();
    scene.authorized(Some(&basic(id, secret).replace("Basic ", "bAsIc ")), "").await.is_token();
    for bad in [
        basic(&format!("{id}%"), secret),
        basic(id, &format!("{secret}%2")),
        basic(id, &format!("{secret}%zz")),
        basic(id, &format!("%ff{secret}")),
        basic(id, &format!("{secret}+")),
        basic(&id.to_uppercase(), secret),
        basic("", secret),
        basic(id, ""),
        format!("Basic {}", STANDARD.encode(id)),
        format!("Basic {}", STANDARD.encode(b"\xff:\xff")),
        "Basic !!!".to_owned(),
        "Basic".to_owned(),
        "Basic ".to_owned(),
        format!("Digest {}", STANDARD.encode(format!("{id}:{secret}"))),
    ] {
        scene.authorized(Some(&bad), "").await.is_error(401, "invalid_client");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s5_2_basic_failure_is_401_with_challenge() {
    let scene = Scene::new().await;
    let wrong = basic(&scene.agent.client_id, &another_secret());
    scene.authorized(Some(&wrong), "").await.is_error(401, "invalid_client");
    scene.authorized(None, "").await.is_error(401, "invalid_client");
    scene.authorized(None, &format!("client_id={}", scene.agent.client_id)).await.is_error(401, "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_id_and_a_wrong_secret_are_answered_byte_for_byte_alike() {
    let scene = Scene::new().await;
    scene.broker.register("suspended", &[]).await;
    let suspended = scene.broker.register("gone", &["support"]).await;
    scene.broker.admin_ok("POST", "/admin/v1/agents/gone/suspend", Value::Null).await;
    let unknown = "ag_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut answers = Vec::new();
    for (id, secret) in [
        (scene.agent.client_id.as_str(), another_secret()),
        (scene.agent.client_id.as_str(), "nonsense".to_owned()),
        (scene.agent.client_id.as_str(), suspended.client_secret.clone()),
        (unknown, another_secret()),
        (unknown, scene.agent.client_secret.clone()),
        ("helpdesk", scene.agent.client_secret.clone()),
        // Whoever knows its secret is told that it is suspended, and nobody else.
        (suspended.client_id.as_str(), another_secret()),
        (suspended.client_id.as_str(), scene.agent.client_secret.clone()),
    ] {
        for in_body in [false, true] {
            let answer = if in_body {
                scene.authorized(None, &format!("client_id={id}&client_secret={secret}")).await
            } else {
                scene.authorized(Some(&basic(id, &secret)), "").await
            };
            answer.is_error(401, "invalid_client");
            let own_id = answer.header("x-request-id").unwrap().to_owned();
            let mut headers: Vec<String> = answer
                .headers
                .iter()
                .filter(|(name, _)| *name != "date")
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap().replace(&own_id, "ID")))
                .collect();
            headers.sort();
            answers.push((headers, answer.body.replace(&own_id, "ID")));
        }
    }
    for one in &answers {
        assert_eq!(one, &answers[0]);
    }
}

/// Go's x/oauth2 finds out by trying which method a server takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_probes_basic_and_then_the_body_gets_its_token() {
    let scene = Scene::new().await;
    let (id, secret) = (&scene.agent.client_id, &scene.agent.client_secret);
    for _ in 0..20 {
        scene.authorized(Some(&basic(id, &format!("{secret}x"))), "").await.is_error(401, "invalid_client");
    }
    scene.authorized(None, &format!("client_id={id}&client_secret={secret}")).await.is_token();
}

// RFC 6749 §3.2: the token endpoint.

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s3_2_post_only() {
    let scene = Scene::new().await;
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        for method in ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
            let request = scene.broker.http.request(method.parse().unwrap(), scene.broker.url(path));
            let request = request.basic_auth(&scene.agent.client_id, Some(&scene.agent.client_secret));
            let answer = Answer::of(request).await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            // RFC 9110 §15.5.6
            assert_eq!(answer.header("allow"), Some("POST"), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s3_2_a_repeated_parameter_is_an_error() {
    let scene = Scene::new().await;
    for repeated in [
        "grant_type=client_credentials",
        "scope=crm:contacts.read&scope=crm:contacts.read",
        "scope=crm:contacts.read&scope=wiki:pages.read",
        "task=a&task=b",
        "session_expires_in=60&session_expires_in=60",
        "unknown=1&unknown=2",
        "sc%6fpe=crm:contacts.read&scope=crm:contacts.read",
    ] {
        scene.ask(repeated).await.is_error(400, "invalid_request");
    }
    let (id, secret) = (&scene.agent.client_id, &scene.agent.client_secret);
    let twice = format!("client_id={id}&client_secret={secret}&client_secret={secret}");
    scene.authorized(None, &twice).await.is_error(400, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s3_2_an_empty_parameter_counts_as_left_out_and_an_unknown_one_is_ignored() {
    let scene = Scene::new().await;
    let everything = "scope=&resource=&session_id=&session_expires_in=&task=&purpose=&client_secret=&client_id=";
    let answer = scene.ask(everything).await.is_token();
    assert_eq!(text(&answer, "scope"), EXCHANGE_SCOPES);
    let answer = scene.ask("scope=&scope=crm:contacts.read&shoe_size=43&&").await.is_token();
    assert_eq!(text(&answer, "scope"), "crm:contacts.read");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s5_2_a_missing_or_unknown_grant_type() {
    let scene = Scene::new().await;
    for missing in ["", "scope=crm:contacts.read", "grant_type="] {
        scene.post(missing).await.is_error(400, "invalid_request");
    }
    for other in ["password", "authorization_code", "Client_Credentials", "client_credentials%20", "x%22%5C%C3%A9"] {
        scene.post(&format!("grant_type={other}")).await.is_error(400, "unsupported_grant_type");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6749_s4_4_2_the_parameters_come_as_a_form_in_the_body() {
    let scene = Scene::new().await;
    let send = async |content_type: Option<&str>, url: &str, body: &str| {
        let mut request = scene.broker.http.post(scene.broker.url(url));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.basic_auth(&scene.agent.client_id, Some(&scene.agent.client_secret));
        Answer::of(request.body(body.to_owned())).await
    };
    let good = "grant_type=client_credentials";
    for right in [FORM, "application/x-www-form-urlencoded; charset=UTF-8", "Application/X-WWW-Form-Urlencoded"] {
        send(Some(right), "/oauth2/token", good).await.is_token();
    }
    let json = r#"{"grant_type":"client_credentials"}"#;
    for (wrong, body) in [
        (None, good),
        (Some("text/plain"), good),
        (Some("application/json"), json),
        (Some("multipart/form-data"), good),
    ] {
        send(wrong, "/oauth2/token", body).await.is_error(400, "invalid_request");
    }
    for url in ["/oauth2/token?grant_type=client_credentials", "/oauth2/token?x=1", "/oauth2/token?"] {
        send(Some(FORM), url, good).await.is_error(400, "invalid_request");
    }
    for broken in ["scope=%", "scope=%zz", "scope=%ff", "%ff=1", "scope=%C3%28"] {
        scene.ask(broken).await.is_error(400, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_64_kib_is_refused_whatever_is_in_it() {
    let scene = Scene::new().await;
    let padding = |length: usize| format!("grant_type=client_credentials&padding={}", "x".repeat(length));
    scene.post(&padding(64 * 1024 - 100)).await.is_token();
    scene.post(&padding(64 * 1024)).await.is_error(400, "invalid_request");

    // Half a megabyte of nonsense: the answer, or a connection that was cut because nobody reads on.
    let nonsense: Vec<u8> = (0..512 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let request = scene.broker.http.post(scene.broker.url(path)).header("content-type", FORM);
        if let Ok(answer) = request.body(nonsense.clone()).send().await {
            assert_eq!(answer.status(), 400, "{path}");
            assert_eq!(answer.headers()["connection"], "close", "{path}: the next request would be lost");
            assert!(answer.text().await.unwrap().contains("invalid_request"), "{path}");
        }
    }
    let short: Vec<u8> = nonsense[..60_000].to_vec();
    let request = scene.token_endpoint().header("content-type", FORM).body(short);
    Answer::of(request).await.is_error(400, "invalid_request");
    scene.ask("").await.is_token();
}

// RFC 6749 §3.3, §5.1: scope and the answer.
