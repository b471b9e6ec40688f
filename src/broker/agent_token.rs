//! The agent's token: where in a request it is looked for, and which of several values counts.
//!
//! SDKs send a key in two headers at once, an empty header, or a placeholder beside the key. So what counts is what a value
//! says of itself: one with our `iss` and the type of our tokens is a token of ours, good or not. One such value is the
//! token, however often it is there. Two that differ are refused, and a bad one is not passed over for a good one: an
//! attacker who could add a header would choose who the agent is. Everything else in those places is left out.

use std::fmt;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::model::authorization::{basic, scheme};
use crate::model::{Injection, Target, Upstream};

/// Headers in which APIs commonly take a key, where SDKs put it a second time. They are no place for the token where the
/// upstream's definition does not name them; beside it they hold the same one, or are refused.
const KEY_HEADERS: [HeaderName; 7] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("apikey"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-access-token"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("private-token"),
];

/// Where a value stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `Authorization: DPoP`, where a proof beside it counts (RFC 9449 §7.1), and nowhere else.
    Proof,
    /// `Authorization`, under any other scheme.
    Authorization,
    /// Another header.
    Header(HeaderName),
    /// A query parameter.
    Query(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proof | Self::Authorization => f.write_str("Authorization"),
            Self::Header(name) => write!(f, "{name}"),
            Self::Query(name) => write!(f, "the query parameter '{name}'"),
        }
    }
}

/// A token, as it came.
pub(super) struct AgentToken {
    pub(super) text: Zeroizing<String>,
    pub(super) place: Place,
    /// Whether there was nothing else that could have been meant.
    is_alone: bool,
    /// Whether it stood in another header or in the query, alone or a second time.
    is_sent_along: bool,
}

impl AgentToken {
    fn new(text: &str, place: Place) -> Self {
        let is_sent_along = !matches!(place, Place::Proof | Place::Authorization);
        Self { text: Zeroizing::new(text.to_owned()), place, is_alone: false, is_sent_along }
    }

    /// Whether it came as `Authorization: DPoP`.
    pub(super) fn by_proof(&self) -> bool {
        self.place == Place::Proof
    }

    /// Whether it stood in `Authorization` and nowhere else. HTTP clients hold that header back when a redirect leads to
    /// another host. All others, and a query, they send along.
    pub(super) fn only_in_authorization(&self) -> bool {
        !self.is_sent_along
    }

    /// Where it stood, for whoever may not know which of several values a refusal is about.
    pub(super) fn where_it_stood(&self) -> Option<String> {
        let is_plain = self.is_alone && matches!(self.place, Place::Proof | Place::Authorization);
        (!is_plain).then(|| self.place.to_string())
    }
}

/// What was found.
pub(super) enum Found {
    /// Nothing at all.
    Nothing,
    /// What counts.
    Token(AgentToken),
    /// Tokens of ours that differ.
    Differ(Vec<AgentToken>),
}

/// Takes everything that could be the agent's token out of the headers and the target, and gives what counts: in
/// `Authorization` (`Bearer`, `DPoP`, either half of `Basic`, a scheme that the upstream names), where the upstream's own key
/// would have gone. `is_ours` says whether a text says of itself that it is a token
/// of ours; it is asked only where there is more than one.
///
/// # Errors
/// A place that is there twice: which of the two would count, nobody knows.
pub(super) fn take(
    headers: &mut HeaderMap,
    target: Option<&mut Target>,
    upstream: Option<&Upstream>,
    is_ours: impl Fn(&str) -> bool,
) -> Result<Found, Error> {
    let mut found: Vec<AgentToken> = Vec::with_capacity(1);
    let mut add = |text: &str, place: Place| {
        if !text.trim().is_empty() {
            found.push(AgentToken::new(text, place));
        }
    };
    let injection = upstream.map(|upstream| &upstream.inject);
    let own_header = match injection {
        Some(Injection::Header { name, prefix, .. }) => {
            HeaderName::from_bytes(name.as_bytes()).ok().map(|name| (name, prefix.as_str()))
        }
        _ => None,
    };
    if let Some(value) = headers.remove(AUTHORIZATION) {
        let prefix = own_header.as_ref().filter(|(name, _)| *name == AUTHORIZATION).map(|(_, prefix)| *prefix);
        let schemes = upstream.map_or(&[][..], |upstream| &upstream.authorization_schemes);
        in_authorization(&value, prefix, schemes, &mut add);
    }
    if let Some((name, prefix)) = own_header.filter(|(name, _)| *name != AUTHORIZATION) {
        if headers.get_all(&name).iter().nth(1).is_some() {
            return Err(Error::invalid("duplicate_header", format!("{name} is there twice; send it once")));
        }
        if let Some(value) = headers.remove(&name) {
            let text = value.to_str().unwrap_or_default();
            add(without_prefix(text, prefix), Place::Header(name));
        }
    }
    if let (Some(Injection::Query { name, .. }), Some(target)) = (injection, target) {
        let taken = target.take_query(name).map_err(|error| Error::invalid(error.code(), error.to_string()))?;
        if let Some(text) = taken.map(Zeroizing::new) {
            add(&text, Place::Query(name.clone()));
        }
    }
    let mut beside = Vec::new();
    for name in KEY_HEADERS {
        let is_token = |value: &HeaderValue| value.to_str().is_ok_and(&is_ours);
        if headers.get_all(&name).iter().any(is_token) {
            if headers.get_all(&name).iter().nth(1).is_some() {
                return Err(Error::invalid("duplicate_header", format!("{name} is there twice; send it once")));
            }
            let value = headers.remove(&name);
            let text = value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
            beside.push(AgentToken::new(text, Place::Header(name)));
        }
    }
    if !beside.is_empty() && found.iter().any(|one| is_ours(&one.text)) {
        found.append(&mut beside);
    }
    Ok(choose(found, is_ours))
}

/// One that is alone is the token. Of several, those that are ours; of none that is, the first, so that it is named.
fn choose(mut found: Vec<AgentToken>, is_ours: impl Fn(&str) -> bool) -> Found {
    if let [only] = found.as_mut_slice() {
        only.is_alone = true;
    }
    if found.len() > 1 && found.iter().any(|one| is_ours(&one.text)) {
        found.retain(|one| is_ours(&one.text));
        // The same text in two places is one token. Under DPoP it has to be proven, wherever else it stands.
        found.sort_by_key(|one| one.place != Place::Proof);
        let mut different: Vec<AgentToken> = Vec::with_capacity(1);
        for one in found {
            match different.iter_mut().find(|there| *there.text == *one.text) {
                Some(there) => there.is_sent_along |= one.is_sent_along,
                None => different.push(one),
            }
        }
        found = different;
        if found.len() > 1 {
            return Found::Differ(found);
        }
    }
    found.into_iter().next().map_or(Found::Nothing, Found::Token)
}

/// `prefix`: of a placement that is this header.
fn in_authorization(value: &HeaderValue, prefix: Option<&str>, schemes: &[String], add: &mut impl FnMut(&str, Place)) {
    if let Some(token) = scheme(value, "DPoP") {
        return add(token, Place::Proof);
    }
    let named = ["Bearer"].into_iter().chain(schemes.iter().map(String::as_str));
    if let Some(token) = named.into_iter().find_map(|name| scheme(value, name)) {
        return add(token, Place::Authorization);
    }
    if let Some((user, password)) = basic(value) {
        // The password first: `agent:TOKEN` is how it is meant. Stripe's clients send the key as user, with no password.
        add(&password, Place::Authorization);
        return add(&user, Place::Authorization);
    }
    if let (Some(prefix), Ok(text)) = (prefix, value.to_str()) {
        add(without_prefix(text, prefix), Place::Authorization);
    }
}

/// What stands behind a placement's prefix, or all of it. Mostly the prefix is a scheme, which has no case.
fn without_prefix<'a>(text: &'a str, prefix: &str) -> &'a str {
    match text.split_at_checked(prefix.len()) {
        Some((before, rest)) if before.eq_ignore_ascii_case(prefix) => rest.trim_matches(' '),
        _ => text,
    }
}

/// Refuses a request that carries the agent's token in yet another place, from where it would travel on.
pub(super) fn stays_here(token: &str, headers: &HeaderMap, target: &Target) -> Result<(), Error> {
    let token_in =
        |text: &[u8]| text.len() >= token.len() && text.windows(token.len()).any(|part| part == token.as_bytes());
    if headers.values().any(|value| token_in(value.as_bytes())) || token_in(target.path_and_query().as_bytes()) {
        return Err(Error::invalid(
            "token_misplaced",
            "the token is in a header or parameter that would travel on to the upstream",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn upstream(inject: &str, more: &str) -> Upstream {
        let text =
            format!(r#"{{ "name": "crm", "base_url": "https://a", "inject": {inject}, "operations": [] {more} }}"#);
        serde_json::from_str(&text).unwrap()
    }

    /// What counts, where tokens of ours begin with `our`; and what is left of the headers.
    fn taken(upstream: &Upstream, pairs: &[(&str, &str)], query: Option<&str>) -> (String, Vec<String>) {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let mut headers: HeaderMap = pairs.iter().map(pair).collect();
        let mut target = Target::parse("/a", query).unwrap();
        let found = take(&mut headers, Some(&mut target), Some(upstream), |text| text.starts_with("our"));
        let text = |one: &AgentToken| format!("{} in {}", *one.text, one.place);
        let found = match found {
            Err(error) => error.code.to_owned(),
            Ok(Found::Nothing) => "nothing".to_owned(),
            Ok(Found::Token(one)) => text(&one) + if one.by_proof() { " by proof" } else { "" },
            Ok(Found::Differ(all)) => all.iter().map(text).collect::<Vec<_>>().join(", "),
        };
        let mut left: Vec<String> = headers.keys().map(|name| name.to_string()).collect();
        left.extend(target.query().map(|query| format!("?{query}")));
        (found, left)
    }

    const HEADER: &str = r#"{ "kind": "header", "name": "X-Crm-Key", "prefix": "Key ", "credential": "c" }"#;

    #[test]
    fn one_token_of_ours_is_the_token_however_often_it_is_there() {
        let crm = upstream(HEADER, "");
        let user = format!("Basic {}", STANDARD.encode("our:"));
        let both = format!("Basic {}", STANDARD.encode("our:our"));
        let password = format!("Basic {}", STANDARD.encode("agent:our"));
        for (pairs, wanted) in [
            (&[("authorization", "Bearer our")][..], "our in Authorization"),
            (&[("authorization", "bEARER  our")], "our in Authorization"),
            (&[("authorization", "DPoP our")], "our in Authorization by proof"),
            (&[("authorization", &user)], "our in Authorization"),
            (&[("authorization", &both)], "our in Authorization"),
            (&[("authorization", &password)], "our in Authorization"),
            (&[("x-crm-key", "our")], "our in x-crm-key"),
            (&[("x-crm-key", "kEY our")], "our in x-crm-key"),
            (&[("x-api-key", "our")], "nothing"),
            (&[("authorization", "Bearer our"), ("x-crm-key", "our")], "our in Authorization"),
            (&[("x-crm-key", "our"), ("authorization", "DPoP our")], "our in Authorization by proof"),
            (&[("authorization", "Bearer our"), ("x-crm-key", "")], "our in Authorization"),
            (&[("authorization", ""), ("x-crm-key", "our")], "our in x-crm-key"),
            (&[("authorization", "Bearer"), ("x-crm-key", "our")], "our in x-crm-key"),
            (&[("authorization", "Bearer x"), ("x-crm-key", "our")], "our in x-crm-key"),
            (&[("authorization", "Bearer our"), ("x-crm-key", "placeholder")], "our in Authorization"),
            (&[("authorization", "Bearer our"), ("x-api-key", "our")], "our in Authorization"),
            (&[("authorization", "Bearer x"), ("private-token", "our")], "x in Authorization"),
            // None is ours: the first is what is refused.
            (&[("authorization", "Bearer x"), ("x-crm-key", "y")], "x in Authorization"),
            (&[("x-crm-key", " ")], "nothing"),
            (&[("authorization", "token our")], "nothing"),
        ] {
            assert_eq!(taken(&crm, pairs, None), (wanted.to_owned(), Vec::new()), "{pairs:?}");
        }
        // A key that is not ours in a header that is no place of this upstream is not looked at, here.
        let (found, left) = taken(&crm, &[("authorization", "Bearer our"), ("x-api-key", "placeholder")], None);
        assert_eq!((found.as_str(), left), ("our in Authorization", vec!["x-api-key".to_owned()]));
    }

    #[test]
    fn a_token_in_authorization_alone_is_told_from_one_that_clients_send_along() {
        let crm = upstream(HEADER, "");
        let query = upstream(r#"{ "kind": "query", "name": "key", "credential": "c" }"#, "");
        let password = format!("Basic {}", STANDARD.encode("agent:our"));
        let is_alone = |upstream: &Upstream, pairs: &[(&str, &str)], query: Option<&str>| {
            let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            let mut headers: HeaderMap = pairs.iter().map(pair).collect();
            let mut target = Target::parse("/a", query).unwrap();
            let ours = |text: &str| text.starts_with("our");
            match take(&mut headers, Some(&mut target), Some(upstream), ours) {
                Ok(Found::Token(token)) => token.only_in_authorization(),
                _ => panic!("no token: {pairs:?}"),
            }
        };
        for value in ["Bearer our", "DPoP our", &*password] {
            let alone = ("authorization", value);
            assert!(is_alone(&crm, &[alone], None) && is_alone(&crm, &[alone, ("x-crm-key", "placeholder")], None));
            for beside in [("x-crm-key", "our"), ("x-api-key", "our")] {
                assert!(!is_alone(&crm, &[alone, beside], None), "{value} {beside:?}");
            }
            assert!(!is_alone(&query, &[alone], Some("key=our")) && is_alone(&query, &[alone], Some("a=b")), "{value}");
        }
        assert!(!is_alone(&crm, &[("x-crm-key", "our")], None) && !is_alone(&query, &[], Some("key=our")));
        assert!(!is_alone(&crm, &[("authorization", "Bearer placeholder"), ("x-crm-key", "our")], None));
    }

    #[test]
    fn two_tokens_of_ours_that_differ_are_both_named() {
        let crm = upstream(HEADER, "");
        let halves = format!("Basic {}", STANDARD.encode("our-1:our-2"));
        for (pairs, wanted) in [
            (
                &[("authorization", "Bearer our-1"), ("x-crm-key", "our-2")][..],
                "our-1 in Authorization, our-2 in x-crm-key",
            ),
            (&[("x-crm-key", "our-1"), ("authorization", "DPoP our-2")], "our-2 in Authorization, our-1 in x-crm-key"),
            (&[("authorization", "Bearer our-1"), ("api-key", "our-2")], "our-1 in Authorization, our-2 in api-key"),
            (&[("authorization", &halves)], "our-2 in Authorization, our-1 in Authorization"),
            (&[("x-crm-key", "our"), ("x-crm-key", "our")], "duplicate_header"),
            (&[("x-api-key", "our"), ("x-api-key", "x")], "duplicate_header"),
        ] {
            assert_eq!(taken(&crm, pairs, None).0, wanted, "{pairs:?}");
        }
    }

    #[test]
    fn a_parameter_is_taken_out_whatever_it_holds() {
        let crm = upstream(r#"{ "kind": "query", "name": "key", "credential": "c" }"#, "");
        let bearer = &[("authorization", "Bearer our")][..];
        for (pairs, query, wanted, left) in [
            (&[][..], "key=our&a=1", "our in the query parameter 'key'", "?a=1"),
            (bearer, "key=our&a=1", "our in Authorization", "?a=1"),
            (bearer, "key=mine&a=1", "our in Authorization", "?a=1"),
            (bearer, "key=&a=1", "our in Authorization", "?a=1"),
            (bearer, "a=1&KEY=our-2", "our in Authorization, our-2 in the query parameter 'key'", "?a=1"),
        ] {
            assert_eq!(taken(&crm, pairs, Some(query)), (wanted.to_owned(), vec![left.to_owned()]), "{query}");
        }
        for query in ["key=our&key=our", "key=our&key=x"] {
            assert_eq!(taken(&crm, &[], Some(query)).0, "target_repeated_parameter", "{query}");
        }
    }

    #[test]
    fn further_schemes_are_those_that_the_upstream_names() {
        let github = upstream(r#"{ "kind": "bearer", "credential": "c" }"#, r#", "authorization_schemes": ["token"]"#);
        for value in ["token our", "Token our", "TOKEN  our", "Bearer our"] {
            assert_eq!(taken(&github, &[("authorization", value)], None).0, "our in Authorization", "{value}");
        }
        assert_eq!(taken(&github, &[("authorization", "tokens our")], None).0, "nothing");
        let raw =
            upstream(r#"{ "kind": "header", "name": "Authorization", "prefix": "Token ", "credential": "c" }"#, "");
        for value in ["Token our", "tOKEN our", "our", "Bearer our"] {
            assert_eq!(taken(&raw, &[("authorization", value)], None).0, "our in Authorization", "{value}");
        }
    }
}
