//! Links and redirects: followed through the broker, by stock clients, and past it by nobody.

use std::process::Output;

use http::{HeaderValue, Response, StatusCode};
use reqwest::Method;

use super::{HEADER, RawUpstream, SECRET, crm, raw, status_of};
use crate::support::upstream::{AnswerBody, text};
use crate::support::{Seen, TestBroker, Upstream};

/// An API of three pages that names itself by its own address, as upstreams do, with redirects of several kinds.
pub(super) async fn pages() -> Upstream {
    Upstream::start(|seen| {
        let own = format!("http://{}", seen.headers["host"].to_str().unwrap());
        match (seen.uri.path(), seen.uri.query().unwrap_or_default()) {
            ("/items", query) => {
                let page: u32 = query.split("page=").nth(1).map_or(1, |page| page.parse().unwrap());
                let mut answer = text(StatusCode::OK, &format!("[{page}]"));
                let mut links = vec![format!("<{own}/items?page=1>; rel=\"first\"; title=\"one, two\"")];
                if page < 3 {
                    links.push(format!("<{own}/items?page={}>; rel=\"next\"", page + 1));
                }
                answer.headers_mut().insert("link", links.join(", ").parse().unwrap());
                answer
            }
            ("/absolute", _) => redirect(302, &format!("{own}/items")),
            ("/relative", _) => redirect(307, "/items"),
            ("/nested/sibling", _) => redirect(308, "../items"),
            ("/network-path", _) => redirect(301, &format!("{}/items", own.replace("http:", ""))),
            ("/away", query) => redirect(302, query),
            _ => text(StatusCode::NOT_FOUND, "nothing here"),
        }
    })
    .await
}

fn redirect(status: u16, to: &str) -> Response<AnswerBody> {
    let mut answer = text(StatusCode::from_u16(status).unwrap(), "over there");
    answer.headers_mut().insert("location", HeaderValue::from_str(to).unwrap());
    answer
}

/// Whether every request came from the broker: with the secret, and without the agent's token.
pub(super) fn all_came_through(seen: &[Seen], token: &str) {
    for one in seen {
        assert_eq!(one.headers["x-api-key"], SECRET, "{one:?}");
        let text = format!("{one:?}");
        assert!(!text.contains(token), "the token reached the upstream: {text}");
    }
}

/// Says loudly what was not tried.
fn skipped(program: &str) {
    use std::io::Write as _;
    assert!(std::env::var_os("HALLPASS_TEST_REQUIRE_INTEROP").is_none(), "{program} is not installed");
    drop(writeln!(std::io::stderr(), "\n## NOT INSTALLED: {program}. Links were not followed by it."));
}

/// Runs a stock client; `None`, said loudly, where it is not installed.
pub(super) async fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = tokio::process::Command::new(program);
    for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    let Ok(Output { status, stdout, stderr }) = command.args(arguments).output().await else {
        skipped(program);
        return None;
    };
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{program} {arguments:?}: {stdout}{stderr}");
    Some(stdout.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_follows_redirects_through_the_broker_and_hands_the_token_to_nobody() {
    let (broker, upstream, other) = (TestBroker::start().await, pages().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let (bearer, key) = (format!("Authorization: Bearer {token}"), format!("X-Api-Key: {token}"));
    let curl = async |path: &str, header: &str| {
        let url = broker.url(&format!("/exchange/crm{path}"));
        run("curl", &["-sL", "-H", header, "-w", " %{http_code}", &url]).await
    };
    for path in ["/absolute", "/relative", "/nested/sibling", "/network-path"] {
        for header in [&bearer, &key] {
            let Some(answer) = curl(path, header).await else { return };
            assert_eq!(answer, "[1] 200", "{path} {header}");
        }
    }
    all_came_through(&upstream.seen(), &token);

    // To somebody else: with the token in a header that curl resends, there is nowhere to go.
    let away = format!("/away?{}/x", other.url());
    assert_eq!(curl(&away, &key).await.unwrap(), "over there 302");
    assert!(other.seen().is_empty());
    // `Authorization` stays with curl.
    assert!(curl(&away, &bearer).await.unwrap().ends_with(" 200"));
    let seen = other.seen();
    assert!(seen.len() == 1 && !format!("{seen:?}").contains(&token), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_pages_and_follows_through_the_broker() {
    let (broker, upstream, other) = (TestBroker::start().await, pages().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let away = format!("/away?{}/x", other.url());
    // Redirects by the standard library, pages by what `requests` and others read of `Link`.
    let standard = r#"
import re, sys, urllib.request, urllib.error
base, token, away = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
def get(url):
    return opener.open(urllib.request.Request(url, headers={"X-Api-Key": token}))
for path in ["/absolute", "/relative", "/network-path"]:
    assert get(base + path).read() == b"[1]", path
try:
    get(base + away)
    sys.exit("followed")
except urllib.error.HTTPError as error:
    assert error.code == 302, error.code
url, seen = base + "/items", []
while url:
    answer = get(url)
    seen.append(answer.read().decode())
    found = re.search(r'<([^<>]+)>;\s*rel="next"', answer.headers["Link"])
    url = found and found.group(1)
print("".join(seen))
"#;
    let base = broker.url("/exchange/crm");
    let Some(pages) = run("python3", &["-c", standard, &base, &token, &away]).await else { return };
    assert_eq!(pages, "[1][2][3]");
    let has_requests = std::process::Command::new("python3").args(["-c", "import requests"]).output().unwrap();
    if has_requests.status.success() {
        let with_requests = r#"
import sys, requests
base, token, away = sys.argv[1:]
for headers in [{"X-Api-Key": token}, {"Authorization": "Bearer " + token}]:
    session = requests.Session()
    session.trust_env = False
    session.headers.update(headers)
    for path in ["/absolute", "/relative", "/nested/sibling"]:
        assert session.get(base + path).text == "[1]", path
    url, seen = base + "/items", []
    while url:
        answer = session.get(url)
        seen.append(answer.text)
        assert answer.links["first"]["title"] == "one, two", answer.links
        url = answer.links.get("next", {}).get("url")
    print("".join(seen))
session = requests.Session()
session.trust_env = False
assert session.get(base + away, headers={"X-Api-Key": token}).status_code == 302
"#;
        let pages = run("python3", &["-c", with_requests, &base, &token, &away]).await.unwrap();
        assert_eq!(pages, "[1][2][3]\n[1][2][3]");
    } else {
        skipped("Python's requests");
    }
    all_came_through(&upstream.seen(), &token);
    assert!(other.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_follows_through_the_broker() {
    let (broker, upstream) = (TestBroker::start().await, pages().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let script = "const [base, token] = process.argv.slice(1); (async () => { \
        for (const path of ['/absolute', '/relative', '/nested/sibling', '/network-path']) { \
          const answer = await fetch(base + path, { headers: { 'X-Api-Key': token } }); \
          console.log(await answer.text(), answer.redirected, answer.url.startsWith(base)); } })();";
    let base = broker.url("/exchange/crm");
    let Some(answer) = run("node", &["-e", script, &base, &token]).await else { return };
    assert_eq!(answer, "[1] true true\n".repeat(4).trim());
    all_came_through(&upstream.seen(), &token);
}

/// The head of an answer to a GET of `/exchange/crm{path}` with these further lines.
async fn head_of(broker: &TestBroker, path: &str, lines: &str) -> String {
    let request = format!("GET /exchange/crm{path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
    let answer = raw(broker.running.public, request).await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase() + "\r\n"
}

/// The values of a header.
fn all<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.split("\r\n").filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_is_the_issuers_whatever_the_caller_says() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nLocation: /a\r\nContent-Location: b\r\n\
         Link: </c>; rel=next\r\nRefresh: 1; url=/d\r\nOperation-Location: /e\r\n\r\nok",
    )
    .await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let here = broker.url("/exchange/crm");
    let lines = format!(
        "Host: evil.example\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n\
         X-Forwarded-Prefix: /evil\r\nForwarded: host=evil.example;proto=https\r\nX-Original-Host: evil.example\r\n\
         Authorization: Bearer {token}\r\n"
    );
    let head = head_of(&broker, "/x/y", &lines).await;
    assert!(!head.contains("evil"), "{head}");
    assert_eq!(all(&head, "location"), [format!("{here}/a")]);
    assert_eq!(all(&head, "content-location"), [format!("{here}/x/b")]);
    assert_eq!(all(&head, "link"), [format!("<{here}/c>; rel=next")]);
    assert_eq!(all(&head, "refresh"), [format!("1; url={here}/d")]);
    assert_eq!(all(&head, "operation-location"), [format!("{here}/e")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_links_are_left_out_where_clients_would_send_the_token_along() {
    let foreign = "https://elsewhere.example/";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nLocation: {foreign}\r\n\
         Content-Location: {foreign}\r\nLink: <{foreign}>; rel=next\r\nRefresh: 1; url={foreign}\r\n\r\nok"
    );
    let names = ["location", "content-location", "link", "refresh"];
    for (inject, outside) in [
        (HEADER, "X-Api-Key: "),
        ("{ kind: query, name: key, credential: crm-key }", "?key="),
        ("{ kind: bearer, credential: crm-key }", ""),
        ("{ kind: basic, username: u, credential: crm-key }", ""),
        ("{ kind: header, name: Authorization, prefix: 'Token ', credential: crm-key }", ""),
    ] {
        let broker = TestBroker::start().await;
        let upstream = RawUpstream::answering(&answer).await;
        let token = crm(&broker, &upstream.url(), inject, "").await;
        let bearer = format!("Host: b\r\nAuthorization: Bearer {token}\r\n");
        let head = head_of(&broker, "/a", &bearer).await;
        for name in names {
            assert!(all(&head, name).iter().all(|value| value.contains(foreign)), "{inject} {name}: {head}");
            assert_eq!(all(&head, name).len(), 1, "{inject} {name}: {head}");
        }
        let head = match outside {
            "" => continue,
            "?key=" => head_of(&broker, &format!("/a?key={token}"), "Host: b\r\n").await,
            header => head_of(&broker, "/a", &format!("Host: b\r\n{header}{token}\r\n")).await,
        };
        for name in names {
            assert!(all(&head, name).is_empty(), "{inject} {name}: {head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_neither_secret_nor_token_of_a_query_comes_back_in_a_link() {
    let broker = TestBroker::start().await;
    // Repeats what it was asked, whole: the secret is in it.
    let upstream = Upstream::start(|seen| {
        let mut answer = text(StatusCode::OK, "ok");
        let own = format!("http://{}{}", seen.headers["host"].to_str().unwrap(), seen.uri);
        for (name, value) in
            [("link", format!("<{own}&page=2>; rel=next")), ("content-location", own.clone()), ("location", own)]
        {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        answer
    })
    .await;
    let token = crm(&broker, &upstream.url(), "{ kind: query, name: key, credential: crm-key }", "").await;
    for secret in [SECRET, "short"] {
        broker.put_credential("crm-key", secret).await;
        let head = head_of(&broker, &format!("/a?x=1&key={token}&y=2"), "Host: b\r\n").await;
        let here = broker.url("/exchange/crm");
        assert!(upstream.seen().last().unwrap().uri.query().unwrap().contains("key="), "the secret was sent");
        assert_eq!(all(&head, "link"), [format!("<{here}/a?x=1&y=2&page=2>; rel=next")]);
        assert_eq!(all(&head, "location"), [format!("{here}/a?x=1&y=2")]);
        assert_eq!(all(&head, "content-location"), [format!("{here}/a?x=1&y=2")]);
        assert!(!head.contains(&token.to_ascii_lowercase()) && !head.contains("redacted"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_leads_into_the_checks_again() {
    let broker = TestBroker::start().await;
    let upstream = Upstream::start(|seen| match seen.uri.path() {
        "/api/v1/start" => redirect(302, "/api/v1/%2e%2e/v1/../v1/next;x"),
        _ => text(StatusCode::OK, "ok"),
    })
    .await;
    let token = crm(&broker, &format!("{}/api/v1", upstream.url()), HEADER, "").await;
    let answer = broker.call(Method::GET, "/crm/start", &token).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(location, broker.url("/exchange/crm/next;x"));
    let refused = broker.http.get(&location).bearer_auth(&token).send().await.unwrap();
    assert_eq!(super::problem(refused, 400).await, "target_path_parameter");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_one_for_a_shared_cache() {
    let broker = TestBroker::start().await;
    let upstream = Upstream::start(|seen| {
        let mut answer = text(StatusCode::OK, "ok");
        if let Some(value) = seen.headers.get("x-say") {
            answer.headers_mut().insert("cache-control", value.clone());
        }
        for name in ["surrogate-control", "cdn-cache-control", "cloudflare-cdn-cache-control", "x-accel-expires"] {
            answer.headers_mut().insert(name, HeaderValue::from_static("max-age=60"));
        }
        answer.headers_mut().insert("expires", HeaderValue::from_static("Thu, 01 Jan 2099 00:00:00 GMT"));
        answer
    })
    .await;
    let token = crm(&broker, &upstream.url(), HEADER, "headers: [X-Say]").await;
    for (said, becomes) in [
        (None, "private"),
        (Some("public, s-maxage=60, max-age=5"), "private, max-age=5"),
        (Some("no-store"), "private, no-store"),
    ] {
        let mut request = broker.http.get(broker.url("/exchange/crm/a")).header("x-api-key", &token);
        if let Some(said) = said {
            request = request.header("x-say", said);
        }
        let answer = request.send().await.unwrap();
        let values: Vec<_> = answer.headers().get_all("cache-control").iter().collect();
        assert_eq!(values, [becomes], "{said:?}");
        for name in ["surrogate-control", "cdn-cache-control", "cloudflare-cdn-cache-control", "x-accel-expires"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_bring_no_links() {
    let broker = TestBroker::start().await;
    let upstream = RawUpstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nTrailer: Link, X-Sum, Cache-Control\r\n\
         \r\n2\r\nok\r\n0\r\nLink: <https://elsewhere.example/>; rel=next\r\nLocation: /a\r\nCache-Control: public\r\n\
         X-Sum: 1\r\n\r\n",
    )
    .await;
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let request = format!(
        "GET /exchange/crm/a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nTE: trailers\r\nX-Api-Key: {token}\r\n\r\n"
    );
    let answer = raw(broker.running.public, request).await.to_ascii_lowercase();
    assert_eq!(status_of(&answer), 200, "{answer}");
    for gone in ["elsewhere", "location:", "public"] {
        assert!(!answer.contains(gone), "{answer}");
    }
}
