//! Requests that two readers would read in two ways: other forms of target, headers that are there twice, a token in
//! two places, headers that would not travel.

use hallpass::app::Surroundings;
use proptest::prelude::*;

use super::{SECRET, Scene, with_scene};
use crate::exchange::{raw, status_of};
use crate::support::{Engine, TestBroker};

const ANY: &str = "      - { id: any, methods: [GET, POST], path: \"/{*rest}\", scope: any }\n      - { id: root, \
                   methods: [GET, POST], path: /, scope: any }\n";
const SCOPE: &str = "\"crm:any\"";

#[tokio::test(flavor = "multi_thread")]
async fn only_a_target_in_origin_form_below_a_known_upstream_is_sent() {
    let scene = Scene::new(ANY, SCOPE).await;
    let host = scene.broker.running.public.to_string();
    for (target, code) in [
        // `Host: b` is beside each.
        (format!("http://{host}/exchange/crm/a"), "host_differs"),
        (format!("HTTPS://{host}/exchange/crm/a"), "host_differs"),
        ("http://b/exchange/crm/a".to_owned(), "target_not_ours"),
        ("http://evil/exchange/crm/a".to_owned(), "target_not_ours"),
        ("ftp://b/exchange/crm/a".to_owned(), "target_not_ours"),
        ("http://user@evil/exchange/crm/a".to_owned(), "host_invalid"),
        (format!("http://user@{host}/exchange/crm/a"), "host_invalid"),
        ("//evil/exchange/crm/a".to_owned(), "no_such_route"),
        ("//exchange/crm/a".to_owned(), "no_such_route"),
        ("/exchange//crm/a".to_owned(), "upstream_unknown"),
        ("/exchange/crm%2fa".to_owned(), "upstream_unknown"),
        ("/exchange/crm%20/a".to_owned(), "upstream_unknown"),
        ("/exchange/CRM/a".to_owned(), "upstream_unknown"),
        ("/exchange/cr%6D/a".to_owned(), "upstream_unknown"),
        ("/exchange/crm;x/a".to_owned(), "upstream_unknown"),
        ("/exchange/./crm/a".to_owned(), "upstream_unknown"),
        ("/exchange/../exchange/crm/a".to_owned(), "upstream_unknown"),
        ("/Exchange/crm/a".to_owned(), "no_such_route"),
        ("/%65xchange/crm/a".to_owned(), "no_such_route"),
        ("*".to_owned(), "no_such_route"),
        ("evil:443".to_owned(), "target_authority_form"),
        ("exchange/crm/a".to_owned(), ""),
        ("?/exchange/crm/a".to_owned(), ""),
        (String::new(), ""),
    ] {
        for method in ["GET", "POST"] {
            let outcome = scene.ask(method, target.as_bytes()).await;
            outcome.keeps_the_promise().unwrap();
            assert_eq!(outcome.code, code, "{method} {target:?}: {outcome:?}");
        }
    }
    for (method, target) in [("CONNECT", "evil:443"), ("CONNECT", "/exchange/crm/a"), ("TRACE", "/exchange/crm/a")] {
        let outcome = scene.ask(method, target.as_bytes()).await;
        outcome.keeps_the_promise().unwrap();
        assert!((400..500).contains(&outcome.status), "{outcome:?}");
    }
    assert_eq!(scene.ask("GET", b"/exchange/crm/a").await.status, 204);
}

/// RFC 9112 §3.2.2: a server takes a whole URL, if it is the server that the URL names.
#[tokio::test(flavor = "multi_thread")]
async fn rfc9112_s3_2_2_a_whole_url_is_taken_with_the_same_checks_where_it_names_us() {
    let scene = Scene::new(ANY, SCOPE).await;
    let (own, port) = (scene.broker.running.public.to_string(), scene.broker.running.public.port());
    let token = format!("Authorization: Bearer {}\r\n", scene.token);
    let local = format!("localhost:{port}");
    for (url, host, status, code) in [
        (format!("http://{own}/exchange/crm/a?b=1"), &own, 204, ""),
        (format!("HTTP://{own}/exchange/crm/a?b=1"), &own, 204, ""),
        (format!("http://LocalHost:{port}/exchange/crm/a?b=1"), &local, 204, ""),
        // A proxy may have ended the TLS.
        (format!("https://{own}/exchange/crm/a?b=1"), &own, 204, ""),
        // Both name us; which one would count, whoever stands before us cannot know.
        (format!("http://{own}/exchange/crm/a"), &local, 400, "host_differs"),
        (format!("http://{own}/exchange/crm/a"), &"evil".to_owned(), 400, "host_differs"),
        (format!("http://{own}/exchange/crm/a"), &format!("127.0.0.1:{}", port ^ 1), 400, "host_differs"),
        // Not ours, whatever `Host` says.
        ("http://evil/exchange/crm/a".to_owned(), &own, 421, "target_not_ours"),
        ("http://127.0.0.1/exchange/crm/a".to_owned(), &own, 421, "target_not_ours"),
        (format!("http://127.0.0.1:{}/exchange/crm/a", port ^ 1), &own, 421, "target_not_ours"),
        (format!("http://127.0.0.2:{port}/exchange/crm/a"), &own, 421, "target_not_ours"),
        (format!("http://{own}.evil/exchange/crm/a"), &own, 400, "host_invalid"),
        (format!("http://{own}x/exchange/crm/a"), &own, 400, "host_invalid"),
        (format!("ftp://{own}/exchange/crm/a"), &own, 421, "target_not_ours"),
        // The same checks.
        (format!("http://{own}/exchange/crm/../a"), &own, 400, "target_dot_segment"),
        (format!("http://{own}/exchange/crm//a"), &own, 400, "target_empty_segment"),
        (format!("http://{own}//exchange/crm/a"), &own, 404, "no_such_route"),
        (format!("http://{own}"), &own, 404, "no_such_route"),
    ] {
        let outcome = scene.send("GET", url.as_bytes(), &format!("Host: {host}\r\n{token}")).await;
        outcome.keeps_the_promise().unwrap();
        assert_eq!((outcome.status, outcome.code.as_str()), (status, code), "{url} {host}: {outcome:?}");
        if status == 204 {
            assert_eq!(outcome.intents[0].1, "/a?b=1", "{url}");
        }
    }
    // Host must be there all the same (RFC 9112 §3.2), in HTTP/1.0 it need not.
    let url = format!("http://{own}/exchange/crm/a");
    assert_eq!(scene.send("GET", url.as_bytes(), &token).await.code, "host_missing");
    let request = |url: &str| format!("GET {url} HTTP/1.0\r\n{token}\r\n").into_bytes();
    assert_eq!(scene.send_raw(request(&url)).await.status, 204);
    assert_eq!(scene.send_raw(request("http://evil/exchange/crm/a")).await.status, 421);
    // The same at the listener for health, which has an address of its own and no issuer's name.
    let ops = scene.broker.running.ops;
    for (named, status) in [(ops.to_string(), 200), (own.clone(), 421)] {
        let request = format!("GET http://{named}/healthz HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n");
        assert_eq!(status_of(&raw(ops, request).await), status, "{named}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_url_may_name_the_issuer_whatever_the_listener_is_bound_to() {
    let settings = [("HALLPASS_ISSUER", "https://hp.example.com/a")];
    let broker = TestBroker::start_with(Engine::Sqlite, Surroundings::default(), &settings).await.unwrap();
    let status = async |url: &str, host: &str| {
        let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        status_of(&raw(broker.running.public, request).await)
    };
    for (url, host, wanted) in [
        ("https://hp.example.com/.well-known/jwks.json", "hp.example.com", 200),
        ("https://HP.example.com:443/.well-known/jwks.json", "hp.example.com", 200),
        ("http://hp.example.com/.well-known/jwks.json", "hp.example.com", 200),
        ("http://hp.example.com:80/.well-known/jwks.json", "hp.example.com", 421),
        ("https://hp.example.com:8443/.well-known/jwks.json", "hp.example.com", 421),
        ("https://hp.example.com:443x/.well-known/jwks.json", "hp.example.com", 400),
        ("https://hp.example.com.evil.org/.well-known/jwks.json", "hp.example.com", 421),
        ("https://hp.example.com/.well-known/jwks.json", "evil.org", 400),
    ] {
        assert_eq!(status(url, host).await, wanted, "{url} {host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_twice_and_would_be_sent_is_refused() {
    let scene = Scene::new(ANY, SCOPE).await;
    let token = format!("Authorization: Bearer {}\r\n", scene.token);
    let key = format!("X-Api-Key: {}\r\n", scene.token);
    let host = "Host: b\r\n";
    for (headers, code) in [
        (format!("Host: b\r\nHost: b\r\n{token}"), "duplicate_header"),
        (format!("Host: b\r\n{token}hOST: evil\r\n"), "duplicate_header"),
        (format!("{host}{token}Content-Type: a/b\r\nContent-Type: c/d\r\n"), "duplicate_header"),
        (format!("{host}{token}X-Note: {}\r\n", scene.token), "token_misplaced"),
        (token.clone(), "host_missing"),
        (format!("Host: user@b\r\n{token}"), "host_invalid"),
        (format!("Host: b, evil\r\n{token}"), "host_invalid"),
        (format!("Host: b:80x\r\n{token}"), "host_invalid"),
        (format!("Host: b:99999\r\n{token}"), "host_invalid"),
        (format!("Host: b/../evil\r\n{token}"), "host_invalid"),
        (format!("Host: \r\n{token}"), "host_invalid"),
        (host.to_owned(), "token_missing"),
    ] {
        let outcome = scene.send("GET", b"/exchange/crm/a", &headers).await;
        outcome.keeps_the_promise().unwrap();
        assert_eq!(outcome.code, code, "{headers:?}: {outcome:?}");
        assert_eq!(outcome.status, if code == "token_missing" { 401 } else { 400 }, "{headers:?}");
    }
    // Two lengths: refused by the parser or by the door, in any case unsent. If they are alike the parser makes one of
    // them (RFC 9110 §8.6 leaves the choice), and one is sent.
    let post = async |lengths: &str| {
        let request = format!("POST /exchange/crm/a HTTP/1.1\r\n{host}{token}{lengths}Connection: close\r\n\r\nab");
        let outcome = scene.send_raw(request.into_bytes()).await;
        outcome.keeps_the_promise().unwrap();
        outcome.status
    };
    for differ in [
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: 2\r\nContent-Length: +2\r\n",
    ] {
        assert_eq!(post(differ).await, 400, "{differ:?}");
    }
    assert!(matches!(post("Content-Length: 2\r\ncontent-length: 2\r\n").await, 204 | 400));
    for head in scene.upstream.heads() {
        assert!(head.to_lowercase().matches("content-length").count() <= 1, "{head:?}");
    }
    let query = format!("/exchange/crm/a?t={}", scene.token);
    let outcome = scene.send("GET", query.as_bytes(), &format!("{host}{token}")).await;
    assert_eq!((outcome.status, outcome.code.as_str()), (400, "token_misplaced"));
    outcome.keeps_the_promise().unwrap();
    // Each place alone is good, and the same token twice; what stands beside it does not travel.
    for headers in [
        token.clone(),
        key.clone(),
        format!("{token}{token}"),
        format!("{token}authorization: Basic eDp5\r\n"),
        format!("{token}Authorization: \r\n"),
        format!("{key}{key}"),
        format!("X-Api-Key:\r\n{key}"),
        format!("X-Api-Key: Bearer {}\r\n", scene.token),
        format!("{token}Cookie: session={}\r\n", scene.token),
    ] {
        let outcome = scene.send("GET", b"/exchange/crm/a", &format!("{host}{headers}")).await;
        assert_eq!(outcome.status, 204, "{headers:?}: {outcome:?}");
        outcome.keeps_the_promise().unwrap();
    }
    for head in scene.upstream.heads() {
        let head = head.to_lowercase();
        assert!(!head.contains(&scene.token.to_lowercase()) && !head.contains("cookie"), "{head:?}");
        assert!(!head.contains("authorization") && head.matches("x-api-key:").count() == 1, "{head:?}");
    }
    // Elsewhere than in a brokered call nobody chooses between two.
    for path in ["/revocations", "/oauth2/introspect", "/nothing"] {
        let request = format!("POST {path} HTTP/1.1\r\n{host}{token}{token}Connection: close\r\n\r\n");
        let answer = raw(scene.broker.running.public, request).await;
        assert!(status_of(&answer) == 400 && answer.contains("duplicate_header"), "{path}: {answer}");
    }
}

/// The token as a query parameter, beside others that may be read as the same one.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_could_carry_two_tokens_is_refused_and_the_rest_of_it_travels_as_it_is() {
    let scene = Scene::with(ANY, SCOPE, "{ kind: query, name: api_key, credential: crm-key }").await;
    let token = scene.token.clone();
    let host = "Host: b\r\n";
    for (query, code) in [
        (format!("api_key={token}&api_key={token}"), "target_repeated_parameter"),
        (format!("api_key={token}&API_KEY=x"), "target_repeated_parameter"),
        (format!("api_key=x&a=1&api%5Fkey={token}"), "target_repeated_parameter"),
        (format!("api_key={token}&a=1;api_key=x"), "target_repeated_parameter"),
        (format!("api_key={token};a=1"), "target_semicolon_parameter"),
        (format!("a=1;api_key={token}"), "target_semicolon_parameter"),
        (format!("api_key={token}&a={token}"), "token_misplaced"),
        ("a=1".to_owned(), "token_missing"),
    ] {
        let outcome = scene.send("GET", format!("/exchange/crm/a?{query}").as_bytes(), host).await;
        outcome.keeps_the_promise().unwrap();
        assert_eq!(outcome.code, code, "{query}: {outcome:?}");
    }
    // The same token in both places is one token, and is left out of what is sent.
    let both = format!("{host}Authorization: Bearer {token}\r\n");
    let outcome = scene.send("GET", format!("/exchange/crm/a?api_key={token}").as_bytes(), &both).await;
    assert_eq!((outcome.status, outcome.intents[0].1.as_str()), (204, "/a"), "{outcome:?}");

    let asked = format!("/exchange/crm/a?b=%7e&api_key={token}&b=2&c[]=/../");
    let outcome = scene.send("GET", asked.as_bytes(), host).await;
    assert_eq!(outcome.status, 204, "{outcome:?}");
    assert_eq!(outcome.intents[0].1, "/a?b=%7e&b=2&c[]=/../");
    assert_eq!(outcome.sent[0].1, format!("{}/a?b=%7e&b=2&c[]=/../&api_key={SECRET}", super::BASE));
}

/// Any mixture of headers that are about the connection, speak for somebody, or name another method, path or host: the
/// upstream sees none of them, and all of the others.
#[test]
fn no_header_travels_by_which_the_upstream_would_do_something_else_than_was_checked() {
    const HELD: &[&str] = &[
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Cookie",
        "X-Auth-Token",
        "Forwarded",
        "Via",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Original-URL",
        "X-Original-Method",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X_Http_Method_Override",
        "X-Real-IP",
        "Range",
        "Expect-Not_Hyphen",
        "Content_Length",
    ];
    const TRAVELS: &[&str] = &["X-Note", "Accept", "User-Agent", "If-Match", "X-Hop-Not", "Content-Type", "Priority"];
    let held = prop::collection::btree_set(prop::sample::select(HELD), 0..8);
    let travels = prop::collection::btree_set(prop::sample::select(TRAVELS), 0..5);
    // `Connection` names headers too; those are about the connection then, whatever they are called.
    let named = prop::option::of(prop::sample::select(TRAVELS));
    let case = (held, travels, named, any::<bool>()).prop_shuffle_headers();
    with_scene(150, Scene::new(ANY, SCOPE), case, async |scene, (lines, expected)| {
        let before = scene.upstream.heads().len();
        let request = format!(
            "GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {}\r\n{}\r\n",
            scene.token,
            lines.iter().map(|line| format!("{line}\r\n")).collect::<String>()
        );
        let answer = raw(scene.broker.running.public, request).await;
        prop_assert_eq!(status_of(&answer), 204, "{}", answer);
        let head = scene.upstream.heads()[before].clone();
        let mut names: Vec<String> =
            head.trim_end().split("\r\n").skip(1).map(|line| line.split(':').next().unwrap().to_lowercase()).collect();
        names.retain(|name| !["host", "x-api-key", "accept-encoding"].contains(&name.as_str()));
        names.sort();
        prop_assert_eq!(names, expected);
        Ok(())
    });
}

trait Shuffle: Strategy + Sized {
    fn prop_shuffle_headers(self) -> BoxedStrategy<(Vec<String>, Vec<String>)>;
}

type Names = std::collections::BTreeSet<&'static str>;

impl<S> Shuffle for S
where
    S: Strategy<Value = (Names, Names, Option<&'static str>, bool)> + 'static,
{
    /// The header lines in any order, and the names that must arrive.
    fn prop_shuffle_headers(self) -> BoxedStrategy<(Vec<String>, Vec<String>)> {
        let lines = self.prop_flat_map(|(held, travels, named, upper)| {
            let shown = |name: &str| if upper { name.to_uppercase() } else { name.to_owned() };
            let of = |name: &&str| (**name != *"Connection").then(|| format!("{}: 1", shown(name)));
            let mut lines: Vec<String> = held.iter().chain(&travels).filter_map(of).collect();
            lines.push(format!(
                "{}: close{}",
                shown("Connection"),
                named.map(|n| format!(", {n}")).unwrap_or_default()
            ));
            let arrive = travels.iter().filter(|one| Some(**one) != named).map(|one| one.to_lowercase());
            let mut arrive: Vec<String> = arrive.collect();
            arrive.sort();
            (Just(lines).prop_shuffle(), Just(arrive))
        });
        lines.boxed()
    }
}
