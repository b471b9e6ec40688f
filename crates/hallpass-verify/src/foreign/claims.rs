//! The claims of a token that others signed, read by name.

use std::fmt;

use serde_json::{Map, Value};

use crate::{Refusal, Seconds};

/// What somebody else signed. Only [`ForeignToken::verify`] builds it; times and audience are not checked yet.
#[derive(Clone)]
pub struct ForeignClaims(pub(super) Map<String, Value>);

impl fmt::Debug for ForeignClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignClaims").field("iss", &self.text("iss")).finish_non_exhaustive()
    }
}

impl ForeignClaims {
    /// A claim.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// `aud` (RFC 7519 §4.1.3): text, or an array of texts. Empty if it is missing or anything else.
    pub fn audience(&self) -> Vec<&str> {
        match self.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) if all.iter().all(Value::is_string) => {
                all.iter().filter_map(Value::as_str).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A NumericDate (RFC 7519 §2), which may have a fraction. Missing is `Ok(None)`; nonsense is refused.
    pub fn time(&self, name: &str) -> Result<Option<Seconds>, Refusal> {
        /// Year 9999: beyond it, a sum of times could overflow somewhere.
        const MOST: f64 = 253_402_300_799.0;
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let seconds = value.as_f64().filter(|seconds| (0.0..=MOST).contains(seconds));
                // In range, so the cast only cuts the fraction off.
                seconds.map(|seconds| Some(seconds as Seconds)).ok_or(Refusal::Malformed)
            }
        }
    }

    /// `exp` (required), `nbf` and `iat` against the clock. Leeway is for the start only; an end is an end. Answers `exp`.
    pub fn check_times(&self, now: Seconds, leeway: Seconds) -> Result<Seconds, Refusal> {
        let exp = self.time("exp")?.ok_or(Refusal::Malformed)?;
        if now >= exp {
            return Err(Refusal::Expired);
        }
        let latest = now.saturating_add(leeway);
        let is_early = |time: Option<Seconds>| time.is_some_and(|time| time > latest);
        if is_early(self.time("nbf")?) || is_early(self.time("iat")?) {
            return Err(Refusal::NotYetValid);
        }
        Ok(exp)
    }

    /// Whether a claim is this text: by its name as it stands, else inside by slashes
    /// (`kubernetes.io/serviceaccount/name`). Numbers and booleans are compared as text; of an array, one element must be
    /// it.
    pub fn matches(&self, path: &str, wanted: &str) -> bool {
        find(&self.0, path).is_some_and(|value| match value {
            Value::Array(all) => all.iter().any(|one| is(one, wanted)),
            one => is(one, wanted),
        })
    }
}

fn find<'a>(within: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    // Names may have slashes themselves: `https://example.com/team`, `kubernetes.io`.
    within.get(path).or_else(|| {
        path.match_indices('/').find_map(|(at, _)| {
            let (outer, inner) = (path.get(..at)?, path.get(at + 1..)?);
            find(within.get(outer)?.as_object()?, inner)
        })
    })
}

fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(flag) => flag.to_string() == wanted,
        _ => false,
    }
}
