//! The agent's token: where in a request it is looked for, and which of several values counts.
//!
//! SDKs send a key in two headers at once, an empty header, or a placeholder beside the key. So what counts is what a value
//! says of itself: one with our `iss` and the type of our tokens is a token of ours, good or not. One such value is the
//! token, however often it is there. Two that differ are refused, and a bad one is not passed over for a good one: an
//! attacker who could add a header would choose who the agent is. Everything else in those places is left out.

use std::fmt;

use http::header::{AUTHORIZATION, Entry, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::model::Target;
use crate::model::authorization::{basic, scheme};
use crate::policy::{CompiledPlacement, CompiledUpstream, Form, HeaderPass, Passing, Slot};

/// Headers in which APIs commonly take a key, where SDKs put it a second time. They are no place for the token where the
/// upstream's definition does not name them; a token of ours that they hold beside it is looked at all the same.
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
    /// Whether it stood in another header or in the query, alone or once more.
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

    /// Whether it stood in `Authorization` and nowhere else, `rest` being the headers that are left. Many HTTP clients hold
    /// that header back when a redirect leads to another host; all others, and a query, they send along.
    pub(super) fn only_in_authorization(&self, rest: &HeaderMap) -> bool {
        !self.is_sent_along && !rest.values().any(|value| is_in(&self.text, value.as_bytes()))
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
/// would have gone, in any of its places. A header may be there more than once: each value of it counts as one in a place of its own. `is_ours`
/// says whether a text says of itself that it is a token of ours; it is asked only where there is more than one, or more
/// than one word.
///
/// # Errors
/// A query parameter that is there twice: what would be left of the query, servers read in two ways.
pub(super) fn take(
    headers: &mut HeaderMap,
    target: Option<&mut Target>,
    upstream: Option<&CompiledUpstream>,
    is_ours: impl Fn(&str) -> bool,
) -> Result<Found, Error> {
    let mut found: Vec<AgentToken> = Vec::with_capacity(1);
    let mut add = |text: &str, place: Place| {
        if !text.trim().is_empty() {
            found.push(AgentToken::new(text, place));
        }
    };
    let placements = upstream.map_or(&[][..], CompiledUpstream::placements);
    let slots = placements.iter().map(CompiledPlacement::slot);
    let own_prefix = placements.iter().find_map(|one| prefix_of(one).filter(|(name, _)| **name == AUTHORIZATION));
    let schemes = upstream.map_or(&[][..], |upstream| &upstream.definition().authorization_schemes);
    for value in removed(headers, &AUTHORIZATION) {
        in_authorization(&value, own_prefix.map(|(_, prefix)| prefix), schemes, &mut add);
    }
    for (name, prefix) in placements.iter().filter_map(prefix_of).filter(|(name, _)| **name != AUTHORIZATION) {
        for value in removed(headers, name) {
            let text = without_prefix(value.to_str().unwrap_or_default(), prefix);
            add(without_scheme(text, &is_ours), Place::Header(name.clone()));
        }
    }
    if let Some(target) = target {
        for name in slots.filter_map(parameter) {
            let taken = target.take_query(name).map_err(|error| Error::invalid(error.code(), error.to_string()))?;
            if let Some(text) = taken.map(Zeroizing::new) {
                add(&text, Place::Query(name.to_owned()));
            }
        }
    }
    let mut beside = Vec::new();
    for name in KEY_HEADERS {
        let ours = |value: &HeaderValue| {
            let text = without_scheme(value.to_str().ok()?, &is_ours);
            is_ours(text).then(|| AgentToken::new(text, Place::Header(name.clone())))
        };
        let there = beside.len();
        beside.extend(headers.get_all(&name).iter().filter_map(ours));
        if beside.len() > there {
            headers.remove(&name);
        }
    }
    if !beside.is_empty() && found.iter().any(|one| is_ours(&one.text)) {
        found.append(&mut beside);
    }
    Ok(choose(found, is_ours))
}

/// The header of a placement that is one, and what stands before the key there.
fn prefix_of(placement: &CompiledPlacement) -> Option<(&HeaderName, &str)> {
    match placement.form() {
        Form::Header(header) => Some((&header.name, &header.prefix)),
        Form::Bearer(_) | Form::Basic(_) | Form::Query(_) => None,
    }
}

fn parameter(slot: Slot<'_>) -> Option<&str> {
    match slot {
        Slot::Parameter(name) => Some(name),
        Slot::Header(_) => None,
    }
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

/// Takes every value of a header out.
fn removed(headers: &mut HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    match headers.entry(name) {
        Entry::Occupied(there) => there.remove_entry_mult().1.collect(),
        Entry::Vacant(_) => Vec::new(),
    }
}

/// The token of ours behind a scheme word: `X-Api-Key: Bearer TOKEN`. Anything else as it is.
fn without_scheme(text: &str, is_ours: impl Fn(&str) -> bool) -> &str {
    let rest = text.split_once(' ').map(|(_, rest)| rest.trim_matches(' '));
    rest.filter(|rest| is_ours(rest)).unwrap_or(text)
}

fn is_in(token: &str, text: &[u8]) -> bool {
    memchr::memmem::find(text, token.as_bytes()).is_some()
}

/// Refuses a request that carries the agent's token in yet another place, from where it would travel on. What `pass` does not
/// let through stays here, whatever it holds.
pub(super) fn stays_here(token: &str, headers: &HeaderMap, pass: &HeaderPass, target: &Target) -> Result<(), Error> {
    let travels = |name: &HeaderName| pass.of(name) == Passing::Pass;
    if headers.iter().any(|(name, value)| is_in(token, value.as_bytes()) && travels(name))
        || is_in(token, target.path_and_query().as_bytes())
    {
        return Err(Error::invalid(
            "token_misplaced",
            "the token is in a header or parameter that would travel on to the upstream",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
