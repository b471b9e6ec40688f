use super::*;

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    pairs.iter().map(pair).collect()
}

/// With an upstream whose secret goes into `X-Key`, and these further lines in its definition.
fn strip(headers: HeaderMap, more: &str) -> (HeaderMap, Vec<HeaderName>) {
    let yaml = format!(
        "name: crm\nbase_url: https://crm.example.com\ninject: {{ kind: header, name: X-Key, credential: k }}\n{more}\n\
         operations: [ {{ id: a, methods: [GET], path: /a, scope: a }} ]\n"
    );
    let upstream = crate::policy::CompiledUpstream::new(serde_saphyr::from_str(&yaml).unwrap()).unwrap();
    strip_request(headers, upstream.headers())
}

#[test]
fn nothing_that_speaks_for_somebody_travels_on() {
    let headers = map(&[
        ("authorization", "Bearer agent"),
        ("cookie", "a=b"),
        ("dpop", "a.b.c"),
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
        ("host", "evil"),
        ("x_api_key", "1"),
        ("range", "bytes=0-3"),
        ("x-forwarded-for", "1.2.3.4"),
        ("te", "trailers"),
        ("x-key", "mine"),
        ("accept", "*/*"),
        ("accept-encoding", "br"),
    ]);
    let (kept, unlisted) = strip(headers, "");
    let names: Vec<_> = kept.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(names, [("accept", "*/*"), ("accept-encoding", "identity")]);
    assert_eq!(unlisted, ["x-hop"], "the others never travel, so nobody need hear of them");
}

#[test]
fn repeated_headers_are_kept_in_order() {
    let (kept, _) = strip(map(&[("prefer", "1"), ("accept", "2"), ("prefer", "3")]), "");
    let values: Vec<_> = kept.get_all("prefer").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(values, ["1", "3"]);
}

#[test]
fn an_answer_brings_no_cookies_and_no_login() {
    let headers = map(&[
        ("set-cookie", "s=1"),
        ("www-authenticate", "Bearer"),
        ("alt-svc", "h3"),
        ("dpop-nonce", "n"),
        ("etag", "x"),
    ]);
    let (kept, _) = strip_answer(headers, None, false);
    assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["etag"]);
}

#[test]
fn a_name_with_the_secret_goes_whatever_became_of_its_case() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let secret = "sk-Live-ABCdef~01 2";
    let needles = Needles::new(&[secret.as_bytes()]);
    let percent = percent_encoding::percent_encode(secret.as_bytes(), percent_encoding::NON_ALPHANUMERIC);
    let mut names = vec![secret.replace(' ', "+"), secret.replace(' ', "%20"), percent.to_string()];
    names.extend(["", "u", "us"].map(|before| URL_SAFE_NO_PAD.encode(format!("{before}{secret}"))));
    names.extend(["", "u", "us"].map(|before| format!("x-{}", URL_SAFE_NO_PAD.encode(format!("{before}{secret}zz")))));
    for name in names {
        let (kept, redactions) =
            strip_answer(map(&[(&name.to_lowercase(), "1"), ("etag", "x")]), Some(&needles), false);
        assert_eq!((kept.len(), redactions), (1, 1), "{name}");
    }
    assert_eq!(strip_answer(map(&[("sk-live-abcdef", "1")]), Some(&needles), false).1, 0);
}

#[test]
fn an_upgrade_is_refused_and_an_offer_of_http_is_passed_over() {
    let wants = |pairs: &[(&str, &str)]| wants_another_protocol(&map(pairs));
    for yes in [
        &[("connection", "Upgrade"), ("upgrade", "websocket")][..],
        &[("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket")],
        &[("connection", "upgrade"), ("upgrade", "h2c, websocket")],
        &[("connection", "upgrade"), ("upgrade", "h2c"), ("upgrade", "spdy/3.1")],
        &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")],
    ] {
        assert!(wants(yes), "{yes:?}");
    }
    for no in [
        &[][..],
        &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")],
        &[("connection", "upgrade"), ("upgrade", "TLS/1.2, HTTP/2.0")],
        &[("connection", "close"), ("upgrade", "websocket")],
        &[("connection", "upgrade")],
    ] {
        assert!(!wants(no), "{no:?}");
    }
}

#[test]
fn each_rule_strips_by_itself() {
    let kept = |name: &str, more: &str| strip(map(&[(name, "1")]), more).0.contains_key(name);
    for name in ["te", "cookie", "host", "x-forwarded-anything", "accept-charset", "x-key", "range", "if-range", "a_b"]
    {
        assert!(!kept(name, "") && !kept(name, "headers: all"), "{name}");
    }
    for name in ["x-keys", "x-http2", "forwarded-by"] {
        assert!(!kept(name, "") && kept(name, "headers: all") && kept(name, &format!("headers: [{name}]")), "{name}");
    }
    for name in ["accept", "if-none-match", "content-type"] {
        assert!(kept(name, ""), "{name}");
    }
    assert!(kept("range", "allow_range: true") && kept("if-range", "allow_range: true"));
    assert!(!kept("te", "allow_range: true"));
    // Case and spaces in `Connection` do not matter.
    let all = map(&[("connection", " X-A ,x-b"), ("x-a", "1"), ("x-b", "1"), ("x-c", "1")]);
    let (kept, _) = strip(all, "headers: [X-A, X-B, X-C]");
    assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-c", "accept-encoding"]);
}

#[test]
fn a_constant_replaces_all_that_the_agent_sent_under_its_name() {
    let sent = map(&[("accept", "1"), ("accept", "2"), ("x-team", "red")]);
    let (kept, unlisted) = strip(sent, "set_headers: { X-Team: blue, Accept: a/b }");
    let pairs: Vec<_> = kept.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(pairs, [("accept", "a/b"), ("x-team", "blue"), ("accept-encoding", "identity")]);
    assert!(unlisted.is_empty());
}

#[test]
fn a_request_is_as_long_as_it_may_be_and_says_so_once() {
    use http_body_util::{BodyExt as _, Full};
    let check = |headers: &[(&str, &str)], body: &'static str| {
        let body = Full::new(bytes::Bytes::from_static(body.as_bytes())).map_err(|never| match never {});
        check_request(&map(headers), &CallBody::Stream(body.boxed_unsync()), 4).map_err(|error| error.code)
    };
    assert_eq!((check(&[], ""), check(&[("content-length", "4")], "four")), (Ok(()), Ok(())));
    assert_eq!(check(&[], "fives"), Err("request_too_large"));
    assert_eq!(check(&[("content-length", "4"), ("content-length", "4")], "four"), Err("duplicate_header"));
}

#[test]
fn p1_an_answers_headers_are_searched_names_and_values() {
    let needles = Needles::new(&[b"sk-live-1234"]);
    let headers = map(&[
        ("location", "/?k=sk-live-1234"),
        ("x-hex", "736b2d6c6976652d31323334"),
        ("x-sk-live-1234", "1"),
        ("sk-live-1234", "2"),
        ("etag", "x"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("te", "x"),
        ("authorization", "x"),
        ("content-encoding", "gzip"),
    ]);
    let (kept, redactions) = strip_answer(headers.clone(), Some(&needles), true);
    let pairs: Vec<_> = kept.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let gone = "[redacted by hallpass]";
    assert_eq!(pairs, [("location", &*format!("/?k={gone}")), ("x-hex", gone), ("etag", "x")]);
    assert_eq!(redactions, 4);
    // What was not decoded is still encoded, and where there is nothing to look for nothing is looked for.
    let (kept, redactions) = strip_answer(headers, None, false);
    assert!(kept.contains_key("content-encoding") && kept["location"] == "/?k=sk-live-1234");
    assert_eq!((kept.len(), redactions), (6, 0));
}

#[test]
fn p1_what_cannot_be_searched_is_named() {
    for good in [
        &[][..],
        &[("transfer-encoding", "Chunked"), ("content-type", "text/plain; charset=\"utf-8\"")],
        &[("content-type", "application/octet-stream")],
        &[("content-type", "text/plain; charset=iso-8859-1")],
        &[("content-type", "text/plain; charset=UTF-16LE")],
        &[("content-type", "text/plain; charset = \"ISO-10646-UCS-2\"")],
        &[("content-type", "text/plain"), ("content-type", "text/html; charset=utf-32")],
    ] {
        assert_eq!(searchable(&map(good)), Ok(()), "{good:?}");
    }
    for bad in [
        &[("transfer-encoding", "gzip, chunked")][..],
        &[("transfer-encoding", "gzip")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        &[("im", "feed")],
        &[("content-type", "text/plain; charset = utf-7")],
        &[("content-type", "text/plain; charset=utf-8"), ("content-type", "text/plain; charset=utf-7")],
        &[("content-type", "text/plain; charset=utf-8; charset=hz-gb-2312")],
        &[("content-type", "text/plain; charset=no-such-set")],
        &[("content-type", "text/plain; Charset=\"utf-7\"")],
        &[("content-type", "text/plain;charset='ibm037'")],
    ] {
        assert!(searchable(&map(bad)).is_err(), "{bad:?}");
    }
}
