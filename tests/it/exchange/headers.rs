//! Headers: what travels, what never does, in both directions.

use reqwest::Method;

use super::{HEADER, RawUpstream, SECRET, crm, raw, status_of};
use crate::support::{TestBroker, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_sees_exactly_what_may_travel() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let token = crm(&broker, &upstream.url(), HEADER, "headers: [X-Many, X-Empty, x-latin, X-Hop]").await;
    let stripped = "Connection: close, X-Hop, X-Other-Hop\r\nX-Hop: 1\r\nX-Other-Hop: 2\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X-T\r\n\
        Upgrade: websocket\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nCookie: a=b\r\nCookie2: x\r\nApi-Key: 1\r\n\
        X-Auth-Token: 1\r\nX-Goog-Api-Key: 1\r\nX-Amz-Security-Token: 1\r\nPrivate-Token: 1\r\nClient-Cert: :AA==:\r\n\
        X-Forwarded-Client-Cert: By=x\r\nForwarded: for=1.2.3.4\r\nVia: 1.1 evil\r\nX-Forwarded-For: 1.2.3.4\r\n\
        X-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /admin\r\n\
        X-Real-IP: 1.2.3.4\r\nX-Original-URL: /admin\r\nX-Original-URI: /admin\r\nX-Rewrite-URL: /admin\r\n\
        X-Original-Host: evil\r\nX-HTTP-Method-Override: DELETE\r\nX-HTTP-Method: DELETE\r\n\
        X-Method-Override: DELETE\r\nAccept-Encoding: br\r\nX_Api_Key: mine\r\nContent_Length: 5\r\n\
        Range: bytes=0-3\r\nIf-Range: \"x\"\r\nX-Unknown: 1\r\nSudo: root\r\nX-Hallpass-Source: agent\r\n";
    let kept = "Accept: text/plain\r\nX-Many: 1\r\nx-many: 2\r\nX-MANY: 3\r\nIf-None-Match: \"etag\"\r\nX-Empty:\r\n\
        User-Agent: test/1\r\nX-Latin: caf\u{e9}\r\nContent-Type: a/b\r\n";
    let request = format!(
        "GET /exchange/crm/a HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer {token}\r\n{stripped}{kept}\r\n"
    );
    // Latin-1, as obs-text (RFC 9110 §5.5).
    let bytes: Vec<u8> = request.chars().map(|c| c as u8).collect();
    let answer = raw(broker.running.public, bytes).await;
    assert_eq!(status_of(&answer), 200, "{answer}");

    let head = upstream.heads().remove(0);
    let mut lines: Vec<String> = head.trim_end().split("\r\n").map(str::to_ascii_lowercase).collect();
    assert_eq!(lines.remove(0), "get /a http/1.1");
    lines.sort();
    let host = format!("host: {}", upstream.address);
    let secret = format!("x-api-key: {}", SECRET.to_ascii_lowercase());
    let mut expected = vec![
        "accept-encoding: identity",
        "accept: text/plain",
        "content-type: a/b",
        &host,
        "if-none-match: \"etag\"",
        "user-agent: test/1",
        &secret,
        "x-empty: ",
        "x-latin: caf\u{e9}",
        "x-many: 1",
        "x-many: 2",
        "x-many: 3",
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_sees_exactly_what_may_travel() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(
        "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Set-Cookie: s=1\r\nSet-Cookie: t=2\r\nSet-Cookie2: u\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
         Proxy-Authenticate: Basic\r\nAuthentication-Info: x\r\nAlt-Svc: h3=\":443\"\r\nUpgrade: h2c\r\n\
         Clear-Site-Data: \"*\"\r\nStrict-Transport-Security: max-age=1\r\nX-Api-Key: theirs\r\n\
         Authorization: Bearer theirs\r\nX-Request-Id: of-the-upstream\r\nX-Many: 1\r\nx-many: 2\r\n\
         Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nETag: \"e\"\r\nLink: <b>; rel=next\r\nLocation: /b\r\n\
         Content-Type: a/b\r\nAccept-Ranges: bytes\r\nX-Hallpass-Source: broker\r\n\r\nok",
    )
    .await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let request = format!(
        "GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let answer = raw(broker.running.public, request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "2\r\nok\r\n0\r\n\r\n");
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    assert_eq!(lines.remove(0), "HTTP/1.1 200 OK");
    // The request id is ours, and there is one.
    let ids: Vec<_> = lines.iter().filter(|line| line.starts_with("x-request-id:")).collect();
    assert!(ids.len() == 1 && ids[0].starts_with("x-request-id: rq_"), "{ids:?}");
    lines.retain(|line| !line.starts_with("x-request-id:"));
    lines.sort_unstable();
    let here = broker.url("/exchange/crm");
    assert_eq!(
        lines,
        [
            "cache-control: private",
            "connection: close",
            "content-type: a/b",
            "date: Thu, 01 Jan 1970 00:00:00 GMT",
            "etag: \"e\"",
            &format!("link: <{here}/b>; rel=next"),
            &format!("location: {here}/b"),
            "transfer-encoding: chunked",
            "x-hallpass-source: upstream",
            "x-hallpass-upstream-request-id: of-the-upstream",
            "x-many: 1",
            "x-many: 2",
        ]
    );
}

/// What stock clients sent to a server that wrote it down: blocks of `name: value`, each with whose they are.
const SDKS: &str = include_str!("sdk_headers.txt");

/// What some of them send and an upstream must not get from them.
const KEYS_OF_THEIR_OWN: [&str; 2] = ["private-token", "x-goog-api-key"];

#[tokio::test(flavor = "multi_thread")]
async fn what_stock_sdks_send_is_standard() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), "{ kind: bearer, credential: crm-key }", "").await;
    let mut clients = 0;
    for block in SDKS.split("\n# ").map(|block| block.trim_start_matches("# ")) {
        let (whose, lines) = block.split_once('\n').unwrap();
        let headers: Vec<_> = lines.lines().filter_map(|line| line.split_once(": ")).collect();
        let mut request = broker.call(Method::POST, "/crm/a", &token);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        assert_eq!(request.send().await.unwrap().status(), 200, "{whose}");
        let seen = upstream.seen().pop().unwrap();
        for (name, value) in headers {
            let got = seen.headers.get(name).map(|value| value.to_str().unwrap());
            let expected = (!KEYS_OF_THEIR_OWN.contains(&name)).then_some(value);
            assert_eq!(got, expected, "{whose}: {name}");
        }
        clients += 1;
    }
    assert!(clients > 30, "the file was not read");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_speaks_for_another_user_reaches_the_upstream_unless_its_name_is_listed() {
    let of_others = [
        "Sudo",
        "es-security-runas-user",
        "X-Remote-User",
        "Remote-User",
        "X-WebAuth-User",
        "X-MS-Client-Principal",
        "X-MS-Client-Principal-Id",
        "X-SSL-Client-Cert",
        "X-SSL-Client-Verify",
        "Impersonate-User",
        "On-Behalf-Of",
        "Stripe-Account",
        "X-Goog-User-Project",
        "X-Auth-Request-User",
        "X-Scope-OrgID",
        "Api-Key",
        "X-Auth-Token",
        "Private-Token",
        "Job-Token",
        "X-Goog-Api-Key",
        "Ocp-Apim-Subscription-Key",
        "X-Vault-Token",
    ];
    let never = ["Proxy", "X-Forwarded-User", "X-Original-User", "X-HTTP-Method-Override", "Cookie", "X_Remote_User"];
    for (more, passes) in [("", false), ("headers: standard", false), ("headers: all", false), ("LIST", true)] {
        let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
        let more = more.replace("LIST", &format!("headers: [{}]", of_others.join(", ")));
        let token = crm(&broker, &upstream.url(), HEADER, &more).await;
        let sent = of_others.iter().chain(&never).map(|name| format!("{name}: admin-canary\r\n")).collect::<String>();
        let request = format!(
            "GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nX-Team: blue\r\nAuthorization: Bearer {token}\r\n{sent}\r\n"
        );
        assert_eq!(status_of(&raw(broker.running.public, request).await), 200);
        let seen = upstream.seen().remove(0).headers;
        let canaries = seen.values().filter(|value| *value == "admin-canary").count();
        assert_eq!(canaries, if passes { of_others.len() } else { 0 }, "{more}: {seen:?}");
        assert_eq!(seen.contains_key("x-team"), more == "headers: all", "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn constant_headers_win_over_the_agents() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let more = "set_headers: { X-Team: blue, Accept: a/b, OpenAI-Organization: org-1 }";
    let token = crm(&broker, &upstream.url(), HEADER, more).await;
    let request = broker.call(Method::GET, "/crm/a", &token).header("x-team", "red").header("accept", "c/d");
    let request = request.header("openai-organization", "org-2").header("openai-organization", "org-3");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let seen = upstream.seen().remove(0).headers;
    for (name, value) in [("x-team", "blue"), ("accept", "a/b"), ("openai-organization", "org-1")] {
        assert_eq!(seen.get_all(name).iter().collect::<Vec<_>>(), [value]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_says_what_is_wrong_with_headers_and_where() {
    let broker = TestBroker::start().await;
    for (more, at) in [
        ("headers: [Sudo, Host]", "upstreams[0].headers[1]"),
        ("headers: [X-Forwarded-For]", "upstreams[0].headers[0]"),
        ("headers: ['X-*']", "upstreams[0].headers[0]"),
        ("headers: everything", "document"),
        ("set_headers: { Host: a }", "upstreams[0].set_headers.Host"),
        ("set_headers: { X-Team: sk-live-0123456789abcdef }", "upstreams[0].set_headers.X-Team"),
        ("set_headers: { Private-Token: a }", "upstreams[0].set_headers.Private-Token"),
    ] {
        let document = super::document("http://127.0.0.1:1", HEADER, more);
        let (status, answer) =
            broker.admin("POST", "/admin/v1/apply", serde_json::json!({ "document": document })).await;
        assert_eq!((status, &answer["mistakes"][0]["at"]), (400, &at.into()), "{more}: {answer}");
        assert!(!answer["mistakes"][0]["fix"].as_str().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_only_where_the_definition_says_so() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "allow_range: true").await;
    let request = broker.call(Method::GET, "/crm/a", &token).header("range", "bytes=0-3").header("if-range", "\"x\"");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let seen = upstream.seen().remove(0);
    assert_eq!(
        (&seen.headers["range"], &seen.headers["if-range"]),
        (&"bytes=0-3".parse().unwrap(), &"\"x\"".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_refused_by_its_name_and_recorded() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let ask = |headers: &str| {
        let request =
            format!("GET /exchange/crm/socket HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        raw(broker.running.public, request)
    };
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = ask(handshake).await;
    assert!(status_of(&answer) == 501 && answer.contains("upgrade_not_supported"), "{answer}");
    assert!(answer.contains("WebSocket"), "{answer}");
    let record = broker.wait_for_record(|one| one["kind"] == "call.refused").await;
    assert_eq!((&record["reason"], &record["upstream"]), (&"upgrade_not_supported".into(), &"crm".into()));
    assert!(upstream.seen().is_empty());
    // What curl --http2 offers is answered as it is.
    let offer =
        "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    assert_eq!(status_of(&ask(offer).await), 200);
    assert!(!upstream.seen()[0].headers.contains_key("upgrade"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_request_id_is_searched_for_the_secret() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nRequest-Id: r-{SECRET}\r\n\r\n"
    ))
    .await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    assert_eq!(answer.headers()["x-hallpass-upstream-request-id"], "r-[redacted by hallpass]");
    assert_eq!(answer.headers()["x-hallpass-source"], "upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_cannot_name_the_injected_header_away() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let request = format!(
        "GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nConnection: close, X-Api-Key, Host, Content-Length\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    assert_eq!(status_of(&raw(broker.running.public, request).await), 200);
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.headers["x-api-key"], SECRET);
    assert_eq!(seen.headers["host"], upstream.address.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_continue_is_answered_here_and_does_not_travel() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let request = format!(
        "POST /exchange/crm/a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\
         Authorization: Bearer {token}\r\n\r\nbody"
    );
    let answer = raw(broker.running.public, request).await;
    assert!(answer.contains(" 200 OK"), "{answer}");
    let seen = upstream.seen().remove(0);
    assert!(!seen.headers.contains_key("expect"));
    assert_eq!(seen.body, "body");
    assert_eq!(seen.headers["content-length"], "4");
}
