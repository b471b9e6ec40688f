//! Unit tests: each way to write a URL, and where it leads.

use serde_json::json;

use super::*;
use crate::model::Upstream;

const ISSUER: &str = "https://hallpass.example.com";
const HERE: &str = "https://hallpass.example.com/exchange/crm";

fn upstream(base_url: &str, inject: &serde_json::Value) -> CompiledUpstream {
    let definition = json!({
        "name": "crm", "base_url": base_url, "inject": inject,
        "operations": [{ "id": "all", "methods": ["GET"], "path": "/{*rest}", "scope": "any" }],
    });
    let definition: Upstream = serde_json::from_value(definition).unwrap();
    CompiledUpstream::new(definition).unwrap()
}

fn header() -> serde_json::Value {
    json!({ "kind": "header", "name": "X-Api-Key", "credential": "k" })
}

/// Links of a call of `path`; `by_authorization`: where the token came.
fn links(base_url: &str, path: &str, by_authorization: bool) -> Links {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    Links {
        upstream: Arc::new(upstream(base_url, &header())),
        asked: Target::parse(path, query).unwrap(),
        issuer: ISSUER.into(),
        reached: Reached { public_host: None, by_authorization },
    }
}

/// What becomes of one header.
fn becomes(links: &Links, name: &str, value: &[u8]) -> Option<String> {
    let mut headers = HeaderMap::new();
    headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap());
    let (kept, _) = links.rewrite(headers, None);
    kept.get(name).map(|value| value.as_bytes().iter().map(|byte| char::from(*byte)).collect())
}

#[test]
fn what_is_below_the_base_leads_to_the_broker() {
    let with_prefix = "https://api.example.com/v1";
    for (base, url, expected) in [
        ("https://api.example.com", "https://api.example.com/a?b=c#d", "/a?b=c#d"),
        ("https://api.example.com", "https://api.example.com", "/"),
        ("https://api.example.com", "HTTPS://API.Example.COM:443/A", "/A"),
        ("https://api.example.com", "https://api.example.com./a", "/a"),
        ("https://api.example.com.", "https://api.example.com/a", "/a"),
        ("https://api.example.com", "https://api.ex%61mple.com/a", "/a"),
        ("https://api.example.com:8443", "https://api.example.com:8443/a", "/a"),
        ("http://127.0.0.1:80", "http://127.0.0.1/a", "/a"),
        ("http://127.0.0.1:8080", "http://127.1:8080/a", "/a"),
        ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080/a", "/a"),
        ("https://xn--bcher-kva.example", "https://b\u{fc}cher.example/a", "/a"),
        ("https://api.example.com", "//api.example.com/a", "/a"),
        ("https://api.example.com", "/a", "/a"),
        ("https://api.example.com", "a?page=2", "/x/a?page=2"),
        ("https://api.example.com", "../a", "/a"),
        ("https://api.example.com", "?page=2", "/x/y?page=2"),
        ("https://api.example.com", "#z", "/x/y?q=1#z"),
        ("https://api.example.com", "", "/x/y?q=1"),
        ("https://api.example.com", "./a/../b/%2e%2E/c", "/x/c"),
        ("https://api.example.com", "/%61%7e%2d", "/a~-"),
        ("https://api.example.com", "/caf\u{e9} d", "/caf%C3%A9%20d"),
        ("https://api.example.com", "/a;b//c%2Fd", "/a;b//c%2Fd"),
        (with_prefix, "https://api.example.com/v1/a", "/a"),
        (with_prefix, "https://api.example.com/v1", ""),
        (with_prefix, "https://api.example.com/v1?a=b", "?a=b"),
        (with_prefix, "https://api.example.com/v1/", "/"),
        (with_prefix, "https://api.example.com/%761/a", "/a"),
        (with_prefix, "https://api.example.com/v2/../v1/a", "/a"),
        (with_prefix, "a", "/x/a"),
        (with_prefix, "/v1/a", "/a"),
    ] {
        let found = becomes(&links(base, "/x/y?q=1", false), "location", url.as_bytes());
        assert_eq!(found, Some(format!("{HERE}{expected}")), "{base} {url:?}");
    }
}

#[test]
fn what_is_not_below_the_base_leads_elsewhere() {
    let base = "https://api.example.com/v1";
    for (url, left) in [
        ("https://api.example.com/v10/a", None),
        ("https://api.example.com/v1%2Fa", None),
        ("https://api.example.com/V1/a", None),
        ("https://api.example.com/", None),
        ("https://api.example.com", None),
        ("https://api.example.com/v1/../v2", None),
        ("https://api.example.com/v1/%2e%2e/v2", None),
        ("http://api.example.com/v1/a", None),
        ("https://api.example.com:444/v1/a", None),
        ("https://api.example.com.evil.example/v1/a", None),
        ("https://evil-api.example.com/v1/a", None),
        ("https://user@api.example.com/v1/a", None),
        ("https://@api.example.com/v1/a", None),
        ("https://user:pass@api.example.com/v1/a", None),
        ("https://api.example.com@evil.example/v1/a", None),
        ("https://other.example/[redacted by hallpass]?a=b c", None),
        ("mailto:a@b", Some("mailto:a@b")),
        ("//other.example/a", None),
        ("/login", Some("https://api.example.com/login")),
        ("../../login", Some("https://api.example.com/login")),
        ("https://o%74her.example/a", Some("https://other.example/a")),
    ] {
        let expected = Some(left.unwrap_or(url).to_owned());
        assert_eq!(becomes(&links(base, "/x/y", true), "location", url.as_bytes()), expected, "{url}");
        assert_eq!(becomes(&links(base, "/x/y", false), "location", url.as_bytes()), None, "{url}");
    }
    // The broker is asked by https and the upstream by http: `//` would become another scheme.
    let found = becomes(&links("http://api.example.com", "/", true), "location", b"//other.example/a");
    assert_eq!(found.as_deref(), Some("http://other.example/a"));
}

#[test]
fn what_clients_read_in_two_ways_and_what_leads_to_the_broker_itself_is_left_out() {
    for url in [
        &b"https:\\\\api.example.com\\a"[..],
        b"https://api.example.com\\@evil.example/",
        b"https://evil.example\\@api.example.com/",
        b"\\\\evil.example/a",
        b"/\\evil.example/a",
        b"https:api.example.com/a",
        b"https:/api.example.com/a",
        b"https:///api.example.com/a",
        b"///api.example.com/a",
        b"//",
        b"https://",
        b"ht\ttps://api.example.com/a",
        b"/a\tb",
        b"https://[redacted by hallpass]/a",
        b"https://api.example.com:99999/a",
        b"https://hallpass.example.com/exchange/other/a",
        b"https://HALLPASS.example.com./exchange/other/a",
        b"//hallpass.example.com/oauth2/token",
        b"http://hallpass.example.com:8080/",
        b"https://sub.hallpass.example.com/",
    ] {
        let found = becomes(&links("https://api.example.com", "/x", true), "location", url);
        assert_eq!(found, None, "{:?}", String::from_utf8_lossy(url));
    }
    let found = becomes(&links("https://api.example.com", "/x", true), "location", b"https://nothallpass.example.com/");
    assert_eq!(found.as_deref(), Some("https://nothallpass.example.com/"));
}

#[test]
fn rfc8288_s3_every_target_of_a_list() {
    let up = "https://api.example.com";
    for (value, expected) in [
        (format!("<{up}/a?page=2>; rel=\"next\""), format!("<{HERE}/a?page=2>; rel=\"next\"")),
        (
            format!("<{up}/a?p=1,2>; rel=\"prev next\"; title=\"a, b; c\", <b>;rel=last ,, </c?d=e,f> ; REL = first"),
            format!(
                "<{HERE}/a?p=1,2>; rel=\"prev next\"; title=\"a, b; c\", <{HERE}/b>; rel=last, <{HERE}/c?d=e,f>; REL=first"
            ),
        ),
        (format!("<{up}/a>; title=\"\\\"; <b>\"; x;;y=1;"), format!("<{HERE}/a>; x; y=1")),
        (format!("<{up}/a>; title=\"1 < 2\"; type=text/html"), format!("<{HERE}/a>; title=\"1 < 2\"; type=text/html")),
        (
            format!("<{up}/a>; title=\"x\\\", <https://evil.example/>; rel=next\"; rel=next"),
            format!("<{HERE}/a>; rel=next"),
        ),
        (format!("<{up}/a>; anchor=\"{up}/b\"; rel=next"), format!("<{HERE}/a>; anchor=\"{HERE}/b\"; rel=next")),
        (format!("<https://other.example/>; rel=next, <{up}/a>"), format!("<{HERE}/a>")),
        (format!("<{up}/a>; anchor=\"https://other.example/\", <{up}/b>"), format!("<{HERE}/b>")),
        (format!("<{up}/a>; title*=UTF-8''%e4"), format!("<{HERE}/a>; title*=UTF-8''%e4")),
        ("<>; rel=self".to_owned(), format!("<{HERE}/x>; rel=self")),
        // From something malformed on, nothing.
        (format!("<{up}/a>; rel=next, {up}/b; rel=last, <{up}/c>"), format!("<{HERE}/a>; rel=next")),
        (format!("<{up}/a>; rel=next, <{up}/b"), format!("<{HERE}/a>; rel=next")),
        (format!("<{up}/a>; rel=next, <{up}/b>; rel=\"last, <{up}/c>"), format!("<{HERE}/a>; rel=next")),
        (format!("<{up}/a>; rel=next, <{up}/b>x, <{up}/c>"), format!("<{HERE}/a>; rel=next")),
        (format!("<{up}/a>; rel=next, <{up}/b>; =x, <{up}/c>"), format!("<{HERE}/a>; rel=next")),
    ] {
        assert_eq!(becomes(&links(up, "/x", false), "link", value.as_bytes()), Some(expected), "{value}");
    }
    for nothing in ["<https://other.example/>; rel=next", "https://api.example.com/a; rel=next", "<<a>>", ",", "x"] {
        assert_eq!(becomes(&links(up, "/x", false), "link", nothing.as_bytes()), None, "{nothing}");
    }
    let foreign = "<https://other.example/a b>; rel=next; title=\"\u{e9}\", <http://user@other.example/>";
    let left = becomes(&links(up, "/x", true), "link", foreign.as_bytes());
    let bytes: String = foreign.bytes().map(char::from).collect();
    assert_eq!(left, Some(bytes));
}

#[test]
fn each_header_with_a_url_that_clients_follow() {
    let up = "https://api.example.com";
    let (held, left) = (links(up, "/x", false), links(up, "/x", true));
    for name in [
        "location",
        "Content-Location",
        "operation-location",
        "azure-asyncoperation",
        "x-goog-upload-url",
        "x-goog-upload-control-url",
        "sourcemap",
        "x-sourcemap",
    ] {
        assert_eq!(becomes(&held, name, b"/a"), Some(format!("{HERE}/a")), "{name}");
        assert_eq!(becomes(&held, name, b"https://other.example/"), None, "{name}");
        assert_eq!(
            becomes(&left, name, b"https://other.example/").as_deref(),
            Some("https://other.example/"),
            "{name}"
        );
    }
    for name in ["uri", "base", "content-base", "link-template", "x-accel-redirect", "x-sendfile", "x-reproxy-url"] {
        assert_eq!(becomes(&left, name, b"/a"), None, "{name}");
    }
    for (value, expected) in [
        (&b"5"[..], Some("5".to_owned())),
        (b"5;", Some("5;".to_owned())),
        (b"0; url=https://api.example.com/a", Some(format!("0; url={HERE}/a"))),
        (b"0.5,URL = '/a'", Some(format!("0.5; url={HERE}/a"))),
        (b"3;url=\"/a b\"", Some(format!("3; url={HERE}/a%20b"))),
        (b"3; /a", Some(format!("3; url={HERE}/a"))),
        (b"3; url=https://other.example/", None),
        (b"3; url='/a", None),
        (b"3; url='/a' x", None),
        (b"3 /a", None),
        (b"url=/a", None),
        (b"", None),
    ] {
        assert_eq!(becomes(&held, "refresh", value), expected, "{}", String::from_utf8_lossy(value));
    }
    let foreign = "3; url='https://other.example/'";
    assert_eq!(becomes(&left, "refresh", foreign.as_bytes()).as_deref(), Some(foreign));
    // Of other headers: what is nothing but a URL below the base.
    assert_eq!(becomes(&held, "x-next-page", b"https://api.example.com/a"), Some(format!("{HERE}/a")));
    for other in ["/a", "https://other.example/", "https://api.example.com/a https://api.example.com/b", "httpd"] {
        assert_eq!(becomes(&held, "x-next-page", other.as_bytes()).as_deref(), Some(other), "{other}");
    }
    for origin in ["access-control-allow-origin", "timing-allow-origin"] {
        assert_eq!(becomes(&held, origin, up.as_bytes()).as_deref(), Some(up), "{origin}");
    }
}

#[test]
fn the_parameter_that_carries_the_secret_is_not_handed_out() {
    let mut links = links("https://api.example.com", "/x?page=1", false);
    links.upstream = Arc::new(upstream(
        "https://api.example.com",
        &json!({ "kind": "query", "name": "api_key", "credential": "k" }),
    ));
    for (url, expected) in [
        ("/a?page=2&api_key=%5Bredacted%5D&b", "/a?page=2&b"),
        ("/a?Api%5FKey=short", "/a"),
        ("/a?page=2;api_key=short&b=1", "/a?b=1"),
        ("/a?my_api_key=1", "/a?my_api_key=1"),
        ("?page=2", "/x?page=2"),
    ] {
        assert_eq!(becomes(&links, "location", url.as_bytes()), Some(format!("{HERE}{expected}")), "{url}");
    }
}

#[test]
fn p1_a_secret_that_parsing_puts_together_is_found() {
    let links = links("https://api.example.com", "/x", false);
    let needles = Needles::new(&[b"sk-live/12345"]);
    let mut headers = HeaderMap::new();
    headers.append("location", HeaderValue::from_static("/a?k=1"));
    headers.append("content-location", HeaderValue::from_static("/sk-live/./12345"));
    headers.append("link", HeaderValue::from_static("</sk-live/x/../12345>; rel=next"));
    headers.append("etag", HeaderValue::from_static("x"));
    let (kept, redactions) = links.rewrite(headers, Some(&needles));
    assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["location", "etag"]);
    assert_eq!(redactions, 2);
}

#[test]
fn repeated_headers_each_by_themselves_and_in_order() {
    let links = links("https://api.example.com", "/x", false);
    let mut headers = HeaderMap::new();
    for value in ["</a>", "<https://other.example/>", "</b>, </c>"] {
        headers.append("link", HeaderValue::from_static(value));
    }
    let (kept, _) = links.rewrite(headers, None);
    let values: Vec<_> = kept.get_all("link").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(values, [format!("<{HERE}/a>"), format!("<{HERE}/b>, <{HERE}/c>")]);
}

#[test]
fn trailers_have_no_links() {
    let mut trailers = HeaderMap::new();
    for name in ["link", "location", "refresh", "grpc-status", "x-sendfile"] {
        trailers.append(name, HeaderValue::from_static("1"));
    }
    strip_trailers(&mut trailers);
    assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-status"]);
}

#[test]
fn by_its_own_host_name_an_upstream_is_linked_there() {
    let mut links = links("https://api.example.com/v1", "/x", false);
    links.reached.public_host = Some("https://crm.hallpass.example.com:8443".into());
    let found = becomes(&links, "location", b"/v1/a?b=c");
    assert_eq!(found.as_deref(), Some("https://crm.hallpass.example.com:8443/a?b=c"));
}
