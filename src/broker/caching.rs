//! What a cache may keep of an answer: one that serves others, nothing.
//!
//! A shared cache holds back answers to requests with `Authorization` (RFC 9111 §3.5) unless they say `public` or
//! `s-maxage`. It does not know that `X-Api-Key` or a query parameter carries a token, and would give one agent's answer
//! to another, past every check and past the audit log. So every answer is `private`, also one that said nothing.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};

/// Makes an answer one for its reader alone.
pub(super) fn keep_private(headers: &mut HeaderMap) {
    if headers.keys().any(is_targeted) {
        let named: Vec<_> = headers.keys().filter(|name| is_targeted(name)).cloned().collect();
        for name in named {
            headers.remove(name);
        }
    }
    let private = HeaderValue::from_static("private");
    let value = match headers.contains_key(CACHE_CONTROL) {
        false => private,
        true => HeaderValue::from_str(&private_directives(headers)).unwrap_or(private),
    };
    headers.insert(CACHE_CONTROL, value);
}

/// Takes out of trailers what would speak to a cache.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    let named: Vec<_> = trailers.keys().filter(|name| is_targeted(name) || **name == CACHE_CONTROL).cloned().collect();
    for name in named {
        trailers.remove(name);
    }
}

/// Speaks to shared caches alone, and overrules `Cache-Control` there: `CDN-Cache-Control` and all that end so (RFC 9213
/// §2.2), Edge Architecture's `Surrogate-Control`, Akamai's `Edge-Control`, nginx's `X-Accel-Expires`.
fn is_targeted(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "surrogate-control" | "edge-control" | "x-accel-expires")
        || name.strip_suffix("-cache-control").is_some_and(|before| !before.is_empty())
}

/// All directives (RFC 9111 §5.2.2) but those that let a shared cache keep the answer.
fn private_directives(headers: &HeaderMap) -> String {
    let mut kept = "private".to_owned();
    let mut add = |directive: &str| {
        kept.push_str(", ");
        kept.push_str(directive);
    };
    for value in headers.get_all(CACHE_CONTROL) {
        let Ok(text) = value.to_str() else {
            add("no-store");
            continue;
        };
        for directive in split(text) {
            let name = directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
            match &*name {
                "" if directive.trim().is_empty() => {}
                // `private="Set-Cookie"` makes only that header private.
                "public" | "s-maxage" | "private" => {}
                // A cache that splits at each comma reads `public` in `x="a, public"`. Without its list, `no-cache` is
                // about the whole answer.
                "no-cache" if directive.contains('"') => add("no-cache"),
                _ if directive.contains('"') => {}
                _ if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) => {
                    add(directive.trim());
                }
                // `no-store; max-age=0`: what was meant may be stricter than what is understood.
                _ => add("no-store"),
            }
        }
    }
    kept
}

/// Splits at the commas that do not stand in quotes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        let is_end = c == ',' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        is_end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `Cache-Control` of an answer with these headers, and how many other headers are left.
    fn kept(pairs: &[(&str, &str)]) -> (String, usize) {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        keep_private(&mut headers);
        let values: Vec<_> = headers.get_all(CACHE_CONTROL).iter().map(|value| value.to_str().unwrap()).collect();
        (values.join(" | "), headers.len() - values.len())
    }

    #[test]
    fn every_answer_is_private_whatever_it_said() {
        for (said, becomes) in [
            ("public, max-age=60", "private, max-age=60"),
            ("Public,S-MaxAge=60,MUST-REVALIDATE", "private, MUST-REVALIDATE"),
            ("s-maxage=\"60\", max-age=1", "private, max-age=1"),
            ("public", "private"),
            ("private, max-age=60", "private, max-age=60"),
            ("private=\"Set-Cookie\", max-age=60", "private, max-age=60"),
            ("no-store", "private, no-store"),
            ("no-cache=\"Set-Cookie, X-A\", immutable", "private, no-cache, immutable"),
            ("x=\"a, public, b\", max-age=1", "private, max-age=1"),
            ("x=\"a\\\", public\", max-age=1", "private, max-age=1"),
            ("x=\"a\\\\\", public, max-age=1", "private, max-age=1"),
            ("x=\"a, public", "private"),
            (" , ,public ,, max-age = 5", "private, max-age = 5"),
            ("no-store; public", "private, no-store"),
            ("s-maxage =60, public = 1", "private"),
            ("", "private"),
        ] {
            assert_eq!(kept(&[("cache-control", said)]), (becomes.to_owned(), 0), "{said}");
        }
        assert_eq!(kept(&[]).0, "private");
        let lines = [("cache-control", "public"), ("etag", "x"), ("cache-control", "max-age=5, s-maxage=7")];
        assert_eq!(kept(&lines), ("private, max-age=5".to_owned(), 1));
    }

    #[test]
    fn what_speaks_to_shared_caches_alone_goes() {
        for name in [
            "cdn-cache-control",
            "cloudflare-cdn-cache-control",
            "x-litespeed-cache-control",
            "surrogate-control",
            "edge-control",
            "x-accel-expires",
        ] {
            assert_eq!(kept(&[(name, "max-age=60"), ("etag", "x")]), ("private".to_owned(), 1), "{name}");
        }
        assert_eq!(kept(&[("x-cache", "hit"), ("expires", "0"), ("vary", "a")]).1, 3);
    }
}
