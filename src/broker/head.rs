//! Headers: what may travel, and what never does.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;

use crate::broker::StreamBody;
use crate::broker::scrub::{Needles, charset};
use crate::error::Error;
use crate::policy::{HeaderPass, Passing};

/// Hop-by-hop (RFC 9110 §7.6.1): about this connection, not about the message.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Credentials: an upstream that sends one in a header of its answer means somebody else's.
const CREDENTIALS: [&str; 15] = [
    "authorization",
    "cookie",
    "cookie2",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
    "x-goog-api-key",
    "x-amz-security-token",
    "private-token",
    "client-cert",
    "client-cert-chain",
    "x-forwarded-client-cert",
    "dpop",
];

/// What an upstream says to a browser or about its own login; for an agent behind the broker it would be wrong.
const ANSWER_ONLY: [&str; 10] = [
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    "authentication-info",
    "proxy-authentication-info",
    "alt-svc",
    "clear-site-data",
    "strict-transport-security",
    // RFC 9449 §9: a nonce for proofs to the upstream. The agent's proofs are for us, and take ours.
    "dpop-nonce",
    "content-length",
];

/// Refuses a request that is ambiguous, or larger than it may be, before anything is recorded or dialled.
pub(super) fn check_request(headers: &HeaderMap, body: &StreamBody, max_bytes: u64) -> Result<(), Error> {
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Error::invalid("duplicate_header", "Content-Length is there twice; send it once"));
    }
    if wants_another_protocol(headers) {
        return Err(Error::not_implemented(
            "upgrade_not_supported",
            "connections are not switched to WebSocket or another protocol here; use the API's plain HTTP form, for example \
             server-sent events",
        ));
    }
    if body.size_hint().lower() > max_bytes {
        return Err(Error::too_large(
            "request_too_large",
            format!("the body is larger than {max_bytes} bytes, which is this upstream's limit"),
        ));
    }
    Ok(())
}

/// Whether the agent means to speak another protocol on this connection. Without its handshake's headers the upstream would
/// answer a request that nobody meant. An offer of another HTTP, or of TLS, may be passed over (RFC 9110 §7.8).
fn wants_another_protocol(headers: &HeaderMap) -> bool {
    if headers.contains_key("sec-websocket-key") {
        return true;
    }
    let mut offered = headers.get_all(header::UPGRADE).iter().peekable();
    if offered.peek().is_none() || !named_by_connection(headers).iter().any(|name| name == "upgrade") {
        return false;
    }
    let is_http = |protocol: &str| {
        let name = protocol.trim().split('/').next().unwrap_or_default();
        ["", "h2c", "http", "tls"].iter().any(|one| name.eq_ignore_ascii_case(one))
    };
    offered.any(|value| value.to_str().map_or(true, |list| !list.split(',').all(is_http)))
}

/// The agent's headers that this upstream gets, and the names of those that its definition does not let through.
pub(super) fn strip_request(headers: HeaderMap, pass: &HeaderPass) -> (HeaderMap, Vec<HeaderName>) {
    let named = named_by_connection(&headers);
    let mut unlisted = Vec::new();
    let mut kept = retain(headers, |name| match pass.of(name) {
        Passing::Pass => !named.iter().any(|one| one == name.as_str()),
        Passing::Never => false,
        Passing::Unlisted => {
            unlisted.push(name.clone());
            false
        }
    });
    for (name, value) in pass.constants() {
        kept.insert(name.clone(), value.clone());
    }
    // Compressed answers would have to be decompressed to be searched for the secret. They are, if one comes.
    kept.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    (kept, unlisted)
}

/// The upstream's headers without all that must not travel, and without the secret. Gives how often it was there.
pub(super) fn strip_answer(headers: HeaderMap, needles: Option<&Needles>, decoded: bool) -> (HeaderMap, u64) {
    let named = named_by_connection(&headers);
    let stripped = |name: &str| {
        HOP_BY_HOP.contains(&name)
            || ANSWER_ONLY.contains(&name)
            // Ours, and so nobody else's.
            || name.starts_with("x-hallpass-")
            || CREDENTIALS.contains(&name)
            || (decoded && name == "content-encoding")
            || named.iter().any(|one| one == name)
    };
    let mut kept = retain(headers, |name| !stripped(name.as_str()));
    let mut redactions = 0;
    if let Some(needles) = needles {
        let named: Vec<_> = kept.keys().filter(|name| needles.in_name(name.as_str().as_bytes())).cloned().collect();
        for name in named {
            kept.remove(name);
            redactions += 1;
        }
        for value in kept.values_mut() {
            if let Some(clean) = needles.scrub_value(value.as_bytes()) {
                redactions += 1;
                *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static("[redacted by hallpass]"));
            }
        }
    }
    (kept, redactions)
}

/// Whether the answer's body is what it seems: compression below HTTP's content codings (`Transfer-Encoding: gzip`),
/// a delta (RFC 3229), or a character set in which ASCII looks otherwise would hide an echoed secret from the search.
pub(super) fn searchable(headers: &HeaderMap) -> Result<(), &'static str> {
    framed(headers)?;
    if headers.contains_key("im") {
        return Err("an instance manipulation (RFC 3229)");
    }
    // Whoever reads the answer may take any one of them.
    let mut labels = headers.get_all(header::CONTENT_TYPE).iter().flat_map(|value| charset::labels(value.as_bytes()));
    if labels.any(|label| !charset::is_searched(&label)) {
        return Err("a character set that is no superset of ASCII, or an unknown one");
    }
    Ok(())
}

/// Whether the body is framed by HTTP alone: what another transfer coding is has to be undone by whoever reads the
/// connection, which is us.
pub(super) fn framed(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut transfer = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked_or_none = transfer.next().is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !chunked_or_none || transfer.next().is_some() {
        return Err("a transfer coding other than chunked");
    }
    Ok(())
}

/// Headers that `Connection` names are hop-by-hop too (RFC 9110 §7.6.1).
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// Moves what `keep` says yes to; nothing is copied.
fn retain(headers: HeaderMap, mut keep: impl FnMut(&HeaderName) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut current = None;
    for (name, value) in headers {
        if name.is_some() {
            current = name;
        }
        if let Some(name) = current.as_ref().filter(|name| keep(name)) {
            kept.append(name.clone(), value);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
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
        names.extend(
            ["", "u", "us"].map(|before| format!("x-{}", URL_SAFE_NO_PAD.encode(format!("{before}{secret}zz")))),
        );
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
        for name in
            ["te", "cookie", "host", "x-forwarded-anything", "accept-charset", "x-key", "range", "if-range", "a_b"]
        {
            assert!(!kept(name, "") && !kept(name, "headers: all"), "{name}");
        }
        for name in ["x-keys", "x-http2", "forwarded-by"] {
            assert!(
                !kept(name, "") && kept(name, "headers: all") && kept(name, &format!("headers: [{name}]")),
                "{name}"
            );
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
            check_request(&map(headers), &body.boxed_unsync(), 4).map_err(|error| error.code)
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
}
