//! An upstream's answer, and an agent's request: what must not travel does not, and what travels holds no secret (P1).

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hallpass::broker::fuzzing::{answer_headers, request_headers, searchable};
use hallpass::broker::scrub::{Coding, MAX_CODINGS, Needles, decoded, plan};
use hallpass::policy::CompiledUpstream;
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyDataStream, StreamBody};

use crate::scrub::{expand, scrub};
use crate::spec::{SPELLINGS, spelled};

const SECRET: &[u8] = b"sk-live/4\"eC39+HqLyj";
/// Of a bomb only the beginning is read.
const MOST: usize = 128 * 1024;

/// The least strict rule that there is.
static UPSTREAM: LazyLock<CompiledUpstream> = LazyLock::new(|| {
    let definition = serde_json::json!({
        "name": "crm",
        "base_url": "https://crm.example.com",
        "inject": { "kind": "header", "name": "X-Injected", "credential": "k" },
        "headers": "all",
        "operations": [{ "id": "a", "methods": ["GET"], "path": "/a", "scope": "a" }],
    });
    let definition = serde_json::from_value(definition).expect("a definition");
    CompiledUpstream::new(definition).expect("without a mistake")
});

/// Header lines, an empty line, a body; control characters stand for the secret as in the target `scrub`.
pub fn run(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 2..]));
    let head = expand(head, SECRET, b"");
    let headers: HeaderMap = head.split(|byte| *byte == b'\n').filter_map(header).collect();
    travels_on(headers.clone());
    travels_back(&headers);

    let values = headers.get_all(http::header::CONTENT_ENCODING).iter();
    let Ok(codings) = plan(values.map(|value| value.to_str().unwrap_or("?"))) else { return };
    assert!(codings.len() <= MAX_CODINGS);
    let needles = Arc::new(Needles::new(&[SECRET]));
    let whole = read(body, body.len().max(1), &codings);
    let pieces = read(body, 7, &codings);
    if let (Ok(whole), Ok(pieces)) = (&whole, &pieces) {
        assert_eq!(whole, pieces, "how the body is cut changes what is in it");
        let clean = scrub(&needles, whole.chunks(113));
        assert!(needles.scrub_value(whole).is_none_or(|value| value == clean));
        assert!(spellings().all(|one| !holds(&clean, &one)), "the secret is left");
    }
    // Of a long one perhaps only one of the two got as far as the error.
    let long = |read: &Result<Vec<u8>, ()>| read.as_ref().is_ok_and(|all| all.len() == MOST);
    // In a stack the outer coding may have come to its end before what is broken behind it in the inner one was reached.
    assert!(whole.is_ok() == pieces.is_ok() || codings.len() > 1 || long(&whole) || long(&pieces));
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
}

fn travels_on(headers: HeaderMap) {
    let given = headers.clone();
    let kept = request_headers(headers, &UPSTREAM);
    for (name, value) in &kept {
        let name = name.as_str();
        let never = [
            "authorization",
            "connection",
            "content-length",
            "cookie",
            "host",
            "keep-alive",
            "proxy-authorization",
            "range",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "x-api-key",
            "x-injected",
            "expect",
            "via",
        ];
        assert!(!never.contains(&name) && !name.contains('_') && !name.starts_with("x-forwarded-"), "{name}");
        assert!(name == "accept-encoding" || given.get_all(name).iter().any(|one| one == value), "{name} is new");
        assert!(!named_by_connection(&given, name), "{name} is hop-by-hop");
    }
    assert_eq!(kept.get_all(ACCEPT_ENCODING).iter().collect::<Vec<_>>(), ["identity"]);
}

fn travels_back(headers: &HeaderMap) {
    let (kept, redactions) = answer_headers(headers.clone(), &Needles::new(&[SECRET]), true);
    for (name, value) in &kept {
        let never = [
            "connection",
            "content-encoding",
            "content-length",
            "keep-alive",
            "set-cookie",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "www-authenticate",
        ];
        assert!(!never.contains(&name.as_str()) && !named_by_connection(headers, name.as_str()), "{name}");
        assert!(spellings().all(|one| !holds(value.as_bytes(), &one) && !holds(name.as_str().as_bytes(), &one)));
        assert!(redactions > 0 || headers.get_all(name).iter().any(|one| one == value), "{name} is new");
    }
    if searchable(headers) {
        let codings = headers.get_all("transfer-encoding");
        assert!(codings.iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked")));
    }
}

fn named_by_connection(headers: &HeaderMap, name: &str) -> bool {
    let values = headers.get_all("connection").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(name))
}

fn spellings() -> impl Iterator<Item = Vec<u8>> {
    (0..SPELLINGS).filter(|how| !(9..=10).contains(how)).map(|how| spelled(SECRET, how))
}

fn holds(data: &[u8], what: &[u8]) -> bool {
    data.windows(what.len()).any(|window| window == what)
}

fn read(body: &[u8], chunk: usize, codings: &[Coding]) -> Result<Vec<u8>, ()> {
    let chunks: Vec<Result<Frame<Bytes>, Infallible>> =
        body.chunks(chunk).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
    let mut out = BodyDataStream::new(decoded(StreamBody::new(stream::iter(chunks)), codings));
    futures_util::FutureExt::now_or_never(async {
        let mut all = Vec::new();
        while let Some(piece) = out.next().await {
            all.extend_from_slice(&piece.map_err(drop)?);
            if all.len() >= MOST {
                all.truncate(MOST);
                break;
            }
        }
        Ok(all)
    })
    .expect("nothing here waits")
}
