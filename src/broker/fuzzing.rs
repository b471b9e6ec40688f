//! A door for `fuzz/` to what reads hostile bytes here and is private. Behind the feature `fuzzing`, off by default.

use http::header::HeaderMap;

use crate::broker::head;
use crate::broker::scrub::Needles;
use crate::policy::CompiledUpstream;

/// What of an agent's headers travels on to the upstream.
pub fn request_headers(headers: HeaderMap, upstream: &CompiledUpstream) -> HeaderMap {
    head::strip_request(headers, upstream.headers()).0
}

/// What of an upstream's headers travels back to the agent, and how many redactions that took.
pub fn answer_headers(headers: HeaderMap, needles: &Needles, decoded: bool) -> (HeaderMap, u64) {
    head::strip_answer(headers, Some(needles), decoded)
}

/// Whether an answer with these headers can be searched for the secret.
pub fn searchable(headers: &HeaderMap) -> bool {
    head::searchable(headers).is_ok()
}
