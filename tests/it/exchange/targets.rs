//! Paths and queries as real clients send them: encoded slashes, raw marks, line ends as data, no slash at the end; and
//! what records show of them.

use serde_json::{Value, json};

use super::{HEADER, RawUpstream, SECRET, outcome, problem, raw, status_of};
use crate::support::{TestBroker, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// An upstream `crm` with these operations, and a token for all scopes but `admin`.
async fn scene(broker: &TestBroker, base_url: &str, more: &str, operations: &str) -> String {
    let roles = r#"roles: [ { name: support, scopes: ["crm:any", "crm:other"] } ]"#;
    broker
        .apply(&format!(
            "upstreams:\n  - name: crm\n    base_url: {base_url}\n    allow_private: true\n    inject: {HEADER}\n{more}    \
             operations:\n{operations}      - {{ id: other, methods: [PUT], path: /other, scope: other }}\n      - {{ id: \
             any, methods: [PUT], path: /any, scope: any }}\n{roles}\n"
        ))
        .await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    broker.token(&agent).await
}

/// A request with this target, byte for byte: the answer, and the request line that the upstream got.
async fn ask(
    broker: &TestBroker,
    upstream: &RawUpstream,
    method: &str,
    target: &str,
    token: &str,
) -> (u16, String, String) {
    let before = upstream.heads().len();
    let head = format!(
        "{method} /exchange{target} HTTP/1.1\r\nHost: b\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let answer = raw(broker.running.public, head).await;
    let sent = upstream.heads().get(before).map(|head| head.split("\r\n").next().unwrap().to_owned());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let code = serde_json::from_str::<Value>(body).ok().and_then(|body| Some(body["code"].as_str()?.to_owned()));
    (status_of(&answer), code.unwrap_or_default(), sent.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_an_encoded_slash_is_data_where_the_operation_says_so_and_is_sent_as_it_came() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(OK).await;
    let operations = r#"      - { id: package, methods: [GET], path: "/{name}", scope: any, encoded_slash: true }
      - { id: project, methods: [GET], path: "/projects/{id}", scope: any, encoded_slash: true }
      - { id: variables, methods: [GET], path: "/projects/{id}/variables", scope: admin }
      - { id: notes, methods: [GET], path: "/projects/{id}/notes", scope: other }
      - { id: queue, methods: [GET], path: "/queues/%2F/{queue}", scope: any, encoded_slash: true }
      - { id: plain, methods: [GET], path: "/plain/{id}", scope: any }
      - { id: file, methods: [GET], path: "/files/{*rest}", scope: any }
      - { id: secret, methods: [GET], path: "/files/secret/{id}", scope: admin }
      - { id: object, methods: [GET], path: "/b/{bucket}/o/{*rest}", scope: any }
"#;
    let token = scene(&broker, &upstream.url(), "", operations).await;
    for (target, operation, decoded) in [
        ("/@scope%2fname", "package", "/@scope/name"),
        ("/@scope%2Fname", "package", "/@scope/name"),
        ("/projects/group%2Fsub%2fproject", "project", "/projects/group/sub/project"),
        // Another operation to an upstream that decodes; its scope is there, too.
        ("/projects/1%2Fnotes", "project", "/projects/1/notes"),
        ("/queues/%2F/jobs", "queue", "/queues///jobs"),
        ("/queues/%2f/jobs", "queue", "/queues///jobs"),
        ("/files/a%2Fb", "file", "/files/a/b"),
        ("/files/%2fetc", "file", "/files//etc"),
        ("/b/x/o/dir%2Fobject%20one", "object", "/b/x/o/dir/object one"),
        ("/@scope%2fname?write=true%2F", "package", "/@scope/name"),
    ] {
        let (status, code, sent) = ask(&broker, &upstream, "GET", &format!("/crm{target}"), &token).await;
        assert_eq!((status, sent), (200, format!("GET {target} HTTP/1.1")), "{target} {code}");
        let records = broker.records().await;
        let intent = records.iter().rev().find(|one| one["kind"] == "call.intent").unwrap();
        let seen = (intent["target"].as_str(), intent["operation"].as_str(), intent["target_decoded"].as_str());
        assert_eq!(seen, (Some(target), Some(operation), Some(decoded)));
    }
    let calls = upstream.heads().len();
    for (target, wanted) in [
        ("/plain/a%2Fb", "target_encoded_slash"),
        ("/plain/%2F", "target_encoded_slash"),
        ("/b/x%2Fy/o/z", "target_encoded_slash"),
        // As data it is a project, decoded it is what takes another scope.
        ("/projects/1%2Fvariables", "insufficient_scope"),
        ("/files/secret%2Fone", "operation_not_allowed"),
        ("/projects/..%2F..%2Fadmin", "target_dot_segment"),
        ("/projects/a%2F%2e%2e%2Fb", "target_dot_segment"),
        ("/files/a%2f..", "target_dot_segment"),
        ("/files/%2F..%2F", "target_dot_segment"),
        ("/files/..%5cb%2Fc", "target_backslash"),
        ("/files/a%252Fb", "target_double_encoding"),
        ("/files/%252e%252e%2Fb", "target_double_encoding"),
        ("/nowhere/at%2Fall", "operation_not_allowed"),
    ] {
        let (status, code, sent) = ask(&broker, &upstream, "GET", &format!("/crm{target}"), &token).await;
        assert!((400..=403).contains(&status), "{target}: {status}");
        assert_eq!((code.as_str(), sent.as_str()), (wanted, ""), "{target}");
    }
    assert_eq!(upstream.heads().len(), calls);
    let refused = broker.wait_for_record(|one| one["reason"] == "target_encoded_slash").await;
    assert_eq!((refused["kind"].as_str(), refused["target"].as_str()), (Some("call.refused"), Some("/plain/a%2Fb")));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_and_paths_are_taken_as_url_libraries_send_them() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(OK).await;
    let operations = "      - { id: all, methods: [GET], path: \"/{*rest}\", scope: any }\n";
    let token = scene(&broker, &upstream.url(), "", operations).await;
    for target in [
        "/graphql?query=%7B%0A%20%20me%20%7B%0D%0A%09name%0A%7D%7D",
        "/graphql?query={me{name}}",
        "/api/v1/query?query=rate(x{job=\"a\"}[5m])".replace('"', "%22").as_str(),
        "/q?a|b^c`d=[1]\\{}",
        "/q?a=%1b%7f",
        "/a|b/c^d/[0]",
        "/a%7Cb?x=%5C",
        "/q?'=!*()",
    ] {
        let (status, code, sent) = ask(&broker, &upstream, "GET", &format!("/crm{target}"), &token).await;
        assert_eq!((status, sent), (200, format!("GET {target} HTTP/1.1")), "{target} {code}");
        let records = broker.records().await;
        let intent = records.iter().rev().find(|one| one["kind"] == "call.intent").unwrap();
        assert_eq!(intent["target"], target);
    }
    let calls = upstream.heads().len();
    for target in [
        "/q?a=%00",
        "/q?a=\x01",
        "/q?a=\tb",
        "/q?a=\0",
        "/q?a=\x7f",
        "/q?a=\"b\"",
        "/q?a=<b>",
        "/q?a=b c",
        "/q?a=%",
        "/a%0ab",
        "/a%09",
        "/a%0d%0ab",
        "/a\\b",
        "/a%5Cb",
        "/{a}",
        "/a`b",
    ] {
        let (status, _, sent) = ask(&broker, &upstream, "GET", &format!("/crm{target}"), &token).await;
        assert_eq!((status, sent.as_str()), (400, ""), "{target:?}");
    }
    assert_eq!(upstream.heads().len(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_url_itself_is_called_as_it_was_written() {
    let upstream = RawUpstream::answering(OK).await;
    let operations = "      - { id: root, methods: [GET, POST], path: /, scope: any }\n";
    for (base, bare) in [("/mcp", "/mcp"), ("/mcp/", "/mcp/"), ("", "/"), ("/", "/"), ("/a/b", "/a/b")] {
        let broker = TestBroker::start().await;
        let token = scene(&broker, &format!("{}{base}", upstream.url()), "", operations).await;
        let slash = format!("{}/", base.trim_end_matches('/'));
        for (target, wanted) in [
            ("", bare.to_owned()),
            ("/", slash.clone()),
            ("?a=1", format!("{bare}?a=1")),
            ("/?a=1", format!("{slash}?a=1")),
        ] {
            let (status, code, sent) = ask(&broker, &upstream, "POST", &format!("/crm{target}"), &token).await;
            assert_eq!((status, sent), (200, format!("POST {wanted} HTTP/1.1")), "{base} {target} {code}");
            let records = broker.records().await;
            let intent = records.iter().rev().find(|one| one["kind"] == "call.intent").unwrap();
            let whole = format!("{}{}", base.trim_end_matches('/'), intent["target"].as_str().unwrap());
            assert_eq!(whole, wanted, "what is recorded behind the base URL is what was sent");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn get_gives_head_and_a_rest_may_be_empty() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(OK).await;
    let operations = r#"      - { id: one, methods: [GET], path: "/one/{id}", scope: any }
      - { id: make, methods: [POST], path: "/make", scope: any }
      - { id: two, methods: [GET], path: "/two", scope: any }
      - { id: two-head, methods: [HEAD], path: "/two", scope: admin }
      - { id: files, methods: [GET], path: "/files/{*rest}", scope: any }
      - { id: list, methods: [GET], path: "/lists/", scope: other }
      - { id: lists, methods: [GET], path: "/lists/{*rest}", scope: any }
"#;
    let token = scene(&broker, &upstream.url(), "", operations).await;
    for (method, target, operation) in [
        ("HEAD", "/one/7", "one"),
        ("GET", "/files/", "files"),
        ("HEAD", "/files/", "files"),
        ("GET", "/files/a/", "files"),
        ("GET", "/lists/", "list"),
        ("GET", "/lists/x", "lists"),
    ] {
        let (status, _, sent) = ask(&broker, &upstream, method, &format!("/crm{target}"), &token).await;
        assert_eq!((status, sent), (200, format!("{method} {target} HTTP/1.1")), "{method} {target}");
        let records = broker.records().await;
        let intent = records.iter().rev().find(|one| one["kind"] == "call.intent").unwrap();
        assert_eq!((intent["operation"].as_str(), intent["method"].as_str()), (Some(operation), Some(method)));
    }
    for (method, target) in
        [("HEAD", "/make"), ("HEAD", "/two"), ("GET", "/files"), ("HEAD", "/nowhere"), ("POST", "/one/7")]
    {
        let (status, _, sent) = ask(&broker, &upstream, method, &format!("/crm{target}"), &token).await;
        assert_eq!((status, sent.as_str()), (403, ""), "{method} {target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_deny_everything_is_a_mistake_when_it_is_applied() {
    let broker = TestBroker::start().await;
    let apply = |methods: &str, path: &str| {
        let document = format!(
            "upstreams:\n  - name: crm\n    base_url: https://crm.example.com\n    inject: {HEADER}\n    operations:\n      - {{ \
             id: a, methods: {methods}, path: {}, scope: s }}\n",
            json!(path)
        );
        let broker = &broker;
        async move { broker.admin("POST", "/admin/v1/apply", json!({ "document": document, "dry_run": true })).await }
    };
    for (methods, right) in [
        ("[ANY]", "[GET, POST, PUT, PATCH, DELETE]"),
        ("[any]", "[GET, POST, PUT, PATCH, DELETE]"),
        ("['*']", "[GET, POST, PUT, PATCH, DELETE]"),
        ("[ALL]", "[GET, POST, PUT, PATCH, DELETE]"),
        ("[get]", "write GET"),
        ("[GET, Post]", "write POST"),
        ("['GET,POST']", "write [GET, POST]"),
        ("['GET|POST']", "write [GET, POST]"),
        ("['GET POST']", "write [GET, POST]"),
        ("[CONNECT]", "never allowed"),
    ] {
        let (status, answer) = apply(methods, "/v1").await;
        let mistake = &answer["mistakes"][0];
        assert_eq!(
            (status, mistake["at"].as_str()),
            (400, Some("upstreams[0].operations[0].methods")),
            "{methods} {answer}"
        );
        assert!(mistake["fix"].as_str().unwrap().contains(right), "{methods}: {mistake}");
        assert_eq!(answer["mistakes"].as_array().unwrap().len(), 1, "{answer}");
    }
    for (path, right) in [
        ("/v1/*", "/v1/{*rest}"),
        ("/**", "/{*rest}"),
        ("/v1/:id", "/v1/{id}"),
        ("/v1/<id>", "/v1/{id}"),
        ("/v1/{id:int}", "/v1/{id}"),
        ("/v1/[id]", "/v1/{id}"),
        ("/v1/x?y=1", "/v1/x"),
        ("https://crm.example.com/v1/x", "/v1/x"),
        ("GET /v1/x", "/v1/x"),
        ("v1/x", "/v1/x"),
    ] {
        let (status, answer) = apply("[GET]", path).await;
        assert_eq!(status, 400, "{path}");
        let told = answer["mistakes"][0].to_string();
        assert!(told.contains(&format!("write \\\"{right}\\\"")), "{path}: {told}");
        assert_eq!(apply("[GET]", right).await.0, 200, "{right}");
    }
    let (status, answer) = apply("[GET]", "/queues/%2F/{name}").await;
    assert_eq!((status, answer["mistakes"][0]["at"].as_str()), (400, Some("upstreams[0].operations[0].path")));
    assert!(answer["mistakes"][0]["fix"].as_str().unwrap().contains("encoded_slash: true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_was_stored_before_still_starts_the_broker() {
    let broker = TestBroker::start().await;
    let operations = "      - { id: old, methods: [GET], path: /v1/OLD, scope: any }\n";
    scene(&broker, "https://crm.example.com", "", operations).await;
    let url = format!("sqlite:{}", broker.database_file().display());
    let sql = "UPDATE definitions SET body = REPLACE(REPLACE(body, '/v1/OLD', '/v1/*'), '\"GET\"', '\"ANY\"') WHERE name = 'crm'";
    assert_eq!(crate::support::database::execute(&url, sql).await, 1);
    let broker = broker.restart().await;
    let shown = broker.admin_ok("GET", "/admin/v1/upstreams/crm", Value::Null).await;
    assert_eq!(
        (&shown["operations"][0]["path"], &shown["operations"][0]["methods"][0]),
        (&json!("/v1/*"), &json!("ANY"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn which_of_two_operations_fits_does_not_hang_on_their_order() {
    let upstream = RawUpstream::answering(OK).await;
    let operations = [
        "      - { id: literal, methods: [GET], path: \"/a/b\", scope: any }\n",
        "      - { id: left, methods: [GET], path: \"/a/{y}\", scope: any }\n",
        "      - { id: right, methods: [GET], path: \"/{x}/b\", scope: any }\n",
        "      - { id: rest, methods: [GET], path: \"/a/{y}/{*rest}\", scope: any }\n",
        "      - { id: deep, methods: [GET], path: \"/{x}/b/c/d\", scope: any }\n",
    ];
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]] {
        let broker = TestBroker::start().await;
        let lines: String = order.iter().map(|n| operations[*n]).collect();
        let token = scene(&broker, &upstream.url(), "", &lines).await;
        for (target, operation) in
            [("/a/b", "literal"), ("/a/c", "left"), ("/z/b", "right"), ("/a/b/c/d", "rest"), ("/z/b/c/d", "deep")]
        {
            let (status, code, _) = ask(&broker, &upstream, "GET", &format!("/crm{target}"), &token).await;
            assert_eq!(status, 200, "{target} {code}");
            let records = broker.records().await;
            let intent = records.iter().rev().find(|one| one["kind"] == "call.intent").unwrap();
            assert_eq!(intent["operation"], operation, "{target} in {order:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_show_of_query_values_what_the_definition_says() {
    const CANARY: &str = "ada.lovelace@example.com";
    let broker = TestBroker::start().await;
    let upstream = Upstream::echo().await;
    let operations = "      - { id: all, methods: [GET], path: \"/{*rest}\", scope: any }\n      - { id: no, methods: [GET], path: \
                      /no, scope: admin }\n";
    let mut agent_token = String::new();
    let mut seen = Vec::new();
    for (mode, n) in [("hash", 0), ("drop", 1), ("keep", 2)] {
        let more = format!("    audit: {{ query_values: {mode} }}\n");
        if agent_token.is_empty() {
            agent_token = scene(&broker, &upstream.url(), &more, operations).await;
        } else {
            let shown = broker.admin_ok("GET", "/admin/v1/upstreams/crm", Value::Null).await;
            assert!(shown["audit"]["query_values"].is_string() || mode == "drop", "{shown}");
            let document = format!(
                "upstreams:\n  - name: crm\n    base_url: {}\n    allow_private: true\n    inject: {HEADER}\n{more}    \
                 operations:\n{operations}",
                upstream.url()
            );
            broker.admin_ok("POST", "/admin/v1/apply", json!({ "document": document })).await;
        }
        let before = broker.records().await.len();
        for path in [
            format!("/crm/find?email={CANARY}&page=2&uploads"),
            format!("/crm/find?page=2&mail={}", CANARY.replace('@', "%40")),
            format!("/crm/find?{}", CANARY.replace('@', "%40")),
            format!("/crm/no?email={CANARY}"),
        ] {
            let answer = broker.call(reqwest::Method::GET, &path, &agent_token).send().await.unwrap();
            if path.starts_with("/crm/no") {
                assert_eq!(problem(answer, 403).await, "insufficient_scope");
            } else {
                assert_eq!(answer.status(), 200, "{path}");
            }
        }
        outcome(&broker, 3 * n + 2).await;
        let records = broker.records().await.split_off(before);
        let targets: Vec<String> = records.iter().filter_map(|one| Some(one["target"].as_str()?.to_owned())).collect();
        assert_eq!(targets.len(), 7, "three intents with their outcomes, one refusal: {records:#?}");
        let all = json!(records).to_string();
        assert_eq!(all.contains("lovelace"), mode == "keep", "{mode}: {all}");
        seen.push(targets);
    }
    // The upstream got them all the same.
    assert!(upstream.seen().iter().all(|one| one.uri.to_string().contains("lovelace")));

    let hashed = |text: &str, name: &str| {
        let at = text.find(&format!("{name}=[hmac-sha-256:")).unwrap_or_else(|| panic!("{text}"));
        text[at + name.len() + 1..].split(']').next().unwrap().to_owned()
    };
    let (first, second) = (&seen[0][0], &seen[0][2]);
    assert!(first.starts_with("/find?email=[hmac-sha-256:") && first.ends_with("&uploads"), "{first}");
    assert_eq!(hashed(first, "email"), hashed(second, "mail"), "equal values can be matched, however they are written");
    assert_eq!(hashed(first, "page"), hashed(second, "page"));
    assert_ne!(hashed(first, "email"), hashed(first, "page"));
    // It is no plain digest, which anybody could compute for a guess.
    let plain = ring::digest::digest(&ring::digest::SHA256, CANARY.as_bytes());
    let plain = data_encoding::BASE64URL_NOPAD.encode(&plain.as_ref()[..16]);
    assert!(!first.contains(&plain));
    assert_eq!(seen[1][0], "/find?email=[dropped]&page=[dropped]&uploads");
    assert_eq!(seen[2][0], format!("/find?email={CANARY}&page=2&uploads"));
    // Another broker has another key.
    let other = TestBroker::start().await;
    let token = scene(&other, &upstream.url(), "    audit: { query_values: hash }\n", operations).await;
    let path = format!("/crm/find?email={CANARY}");
    assert_eq!(other.call(reqwest::Method::GET, &path, &token).send().await.unwrap().status(), 200);
    let record = other.wait_for_record(|one| one["kind"] == "call.intent").await;
    assert_ne!(hashed(record["target"].as_str().unwrap(), "email"), hashed(first, "email"));
}
