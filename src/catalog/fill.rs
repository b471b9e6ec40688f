//! `{{variable}}` in an entry, and what may stand in its place.
//!
//! A value fills its place and nothing more. `acme.attacker.example/` for the name of a tenant would send the credential to a
//! host that the entry was not written for, so a slash, a question mark, `@` in a host and the like are refused, and the name
//! of a tenant is one label. What the place is follows from where the entry has the variable.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a variable stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// One label of a host's name: `https://{{site}}.example.com`.
    Label,
    /// The end of a host's name: `https://api.{{site}}`.
    Domain,
    /// The whole authority: `https://{{host}}`.
    Host,
    /// Anywhere else: a user name, a region, a segment of a path.
    Word,
}

impl Place {
    /// Whether the value is one of these.
    pub(super) fn allows(self, value: &str) -> bool {
        match self {
            Self::Label => is_label(value),
            Self::Domain => is_domain(value),
            Self::Host => match value.split_once(':') {
                Some((host, port)) => is_domain(host) && is_port(port),
                None => is_domain(value),
            },
            Self::Word => {
                let is_sign = |byte: u8| matches!(byte, b'-' | b'.' | b'_' | b'@' | b'+');
                let is_good = |byte: u8| byte.is_ascii_alphanumeric() || is_sign(byte);
                // Dots alone would be a step in a path.
                (1..=200).contains(&value.len())
                    && value.bytes().all(is_good)
                    && value.bytes().any(|byte| byte.is_ascii_alphanumeric())
            }
        }
    }

    /// What it takes, for people.
    pub(super) fn takes(self) -> &'static str {
        match self {
            Self::Label => "one part of a host name (letters, digits and '-'; no dots)",
            Self::Domain => "a domain name (letters, digits, '-' and '.')",
            Self::Host => "a host name, with ':PORT' or without (letters, digits, '-' and '.')",
            Self::Word => "letters, digits and '-', '.', '_', '@', '+'",
        }
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// All places that a variable has.
pub(super) fn places(value: &Value, name: &str) -> Vec<Place> {
    let mut found = Vec::new();
    look(value, &format!("{{{{{name}}}}}"), false, &mut found);
    found.sort();
    found.dedup();
    found
}

fn look(value: &Value, variable: &str, is_url: bool, found: &mut Vec<Place>) {
    match value {
        Value::String(text) if is_url => found.extend(in_url(text, variable)),
        Value::String(text) if text.contains(variable) => found.push(Place::Word),
        Value::Array(all) => all.iter().for_each(|one| look(one, variable, false, found)),
        Value::Object(all) => {
            all.iter().for_each(|(key, one)| look(one, variable, key == "base_url", found));
        }
        _ => {}
    }
}

fn in_url(url: &str, variable: &str) -> Vec<Place> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut places = Vec::new();
    if path.contains(variable) {
        places.push(Place::Word);
    }
    if let Some((before, after)) = authority.split_once(variable) {
        places.push(match (before, after) {
            ("", "") => Place::Host,
            (before, "") if before.ends_with('.') => Place::Domain,
            _ => Place::Label,
        });
    }
    places
}

/// Puts the values into every text.
pub(super) fn fill(value: &mut Value, values: &BTreeMap<String, String>) {
    match value {
        Value::String(text) if text.contains("{{") => {
            for (name, value) in values {
                // No value holds a brace, so nothing that was filled in is filled again.
                *text = text.replace(&format!("{{{{{name}}}}}"), value);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| fill(one, values)),
        Value::Object(all) => all.values_mut().for_each(|one| fill(one, values)),
        _ => {}
    }
}
