//! What the broker says of an upstream's answer, in headers of its own.

use http::header::{ACCEPT_RANGES, HeaderMap, HeaderName, HeaderValue};

/// Says whose word an answer is: an agent that cannot tell its own 401 from the upstream's renews a good token in a loop.
const SOURCE: HeaderName = HeaderName::from_static("x-hallpass-source");

/// What the upstream calls this request; `X-Request-Id` is what we call it.
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-hallpass-upstream-request-id");

/// Under which names upstreams say it, the most usual first.
const REQUEST_IDS: [&str; 12] = [
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "x-amzn-request-id",
    "x-amz-request-id",
    "x-ms-request-id",
    "apim-request-id",
    "x-github-request-id",
    "x-slack-req-id",
    "x-correlation-id",
    "correlation-id",
    "cf-ray",
];

/// Adds what the broker says of an upstream's answer, to headers that were stripped and searched.
pub(super) fn mark_answer(headers: &mut HeaderMap, allow_range: bool) {
    if let Some(id) = REQUEST_IDS.iter().find_map(|name| headers.get(*name)).cloned() {
        headers.insert(UPSTREAM_REQUEST_ID, id);
    }
    headers.insert(SOURCE, HeaderValue::from_static("upstream"));
    if !allow_range {
        // The agent's Range does not travel, so what the upstream offers does not hold.
        headers.remove(ACCEPT_RANGES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::head::strip_answer;
    use crate::broker::scrub::Needles;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn an_answer_says_whose_it_is_and_what_the_upstream_calls_it() {
        let marked = |pairs: &[(&str, &str)], allow_range| {
            let needles = Needles::new(&[b"sk-live-1234"]);
            let (mut kept, _) = strip_answer(map(pairs), Some(&needles), false);
            mark_answer(&mut kept, allow_range);
            let mut all: Vec<_> =
                kept.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            all.sort_unstable();
            all
        };
        let source = "x-hallpass-source: upstream";
        assert_eq!(marked(&[("X-Hallpass-Source", "broker"), ("x-hallpass-new", "1")], false), [source]);
        assert_eq!(marked(&[("accept-ranges", "bytes")], false), [source]);
        assert_eq!(marked(&[("accept-ranges", "bytes")], true), ["accept-ranges: bytes", source]);
        let id = |id: &str| format!("x-hallpass-upstream-request-id: {id}");
        for name in REQUEST_IDS {
            let all = marked(&[(name, "theirs"), ("x-hallpass-upstream-request-id", "forged")], false);
            assert!(all.contains(&id("theirs")) && all.len() == 3, "{all:?}");
        }
        assert!(marked(&[("cf-ray", "ray"), ("request-id", "req_1")], false).contains(&id("req_1")));
        let echoed = marked(&[("x-request-id", "sk-live-1234")], false);
        assert!(echoed.contains(&id("[redacted by hallpass]")), "{echoed:?}");
    }
}
