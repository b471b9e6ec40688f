//! The path template of an operation: `/v1/contacts/{id}`, `/files/{*rest}`.

mod spelling;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::target::{MAX_PATH, Target, match_form};

pub use spelling::misspelled;

/// A path template in the syntax of matchit 0.8: whole segments `{name}`, `{*name}` as the last one, and literals that
/// are canonical as [`Target`] has it. A literal that is not could never match, so its rule would silently be none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Template(String);

impl Template {
    /// Reads a template; the error says what is wrong with it and how to write it instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        match check(text) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(why) => Err(match spelling::respelled(text) {
                Some(right) => format!("{why}; write {right:?}"),
                None => why,
            }),
        }
    }

    /// The template, as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The routes that it stands for, as matchit reads them. The first is what it says; the others are there unless
    /// another operation says them: `{*rest}` without anything in it (`/files/`), and literals as an upstream sees them
    /// that decodes before it matches.
    pub fn routes(&self) -> Vec<String> {
        let decoded = self.0.split('/').map(decoded_segment).collect::<Vec<_>>().join("/");
        let mut routes = vec![match_form(&self.0).into_owned(), decoded];
        if self.has_rest() {
            let empty = |route: &String| Some(format!("{}/", route.rsplit_once('/')?.0));
            routes.extend(routes.iter().filter_map(empty).collect::<Vec<_>>());
        }
        let mut seen = HashSet::new();
        routes.retain(|route| seen.insert(route.clone()));
        routes
    }

    /// Whether it ends with `{*rest}`.
    pub fn has_rest(&self) -> bool {
        self.0.rsplit('/').next().is_some_and(|last| last.starts_with("{*"))
    }

    /// Whether one of its literals has an encoded slash.
    pub fn has_encoded_slash(&self) -> bool {
        self.0.contains("%2F") || self.0.contains("%2f")
    }
}

/// A literal decoded, all but its slashes; a placeholder as it is.
fn decoded_segment(segment: &str) -> String {
    if segment.starts_with('{') {
        return segment.to_owned();
    }
    let form = match_form(segment);
    let pieces = form.split("%2F").map(|piece| percent_decode_str(piece).decode_utf8_lossy());
    pieces.collect::<Vec<_>>().join("%2F").replace('{', "{{").replace('}', "}}")
}

fn check(text: &str) -> Result<(), String> {
    if text.len() > MAX_PATH {
        return Err(format!("a path template may have {MAX_PATH} bytes, this one has {}; shorten it", text.len()));
    }
    if text.contains("://") {
        return Err(format!("path template {text:?} is a URL; what is below base_url belongs here"));
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err(format!("path template {text:?} does not begin with a slash"));
    };
    if text.contains('?') {
        return Err(format!("path template {text:?} has a query; only paths are matched, drop all from the \"?\" on"));
    }
    let mut names = HashSet::new();
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        check_segment(segment, last, &mut names).map_err(|why| format!("path template {text:?}: {why}"))?;
    }
    Ok(())
}

fn check_segment<'a>(segment: &'a str, last: bool, names: &mut HashSet<&'a str>) -> Result<(), String> {
    if !segment.contains(['{', '}']) {
        return check_literal(segment, last);
    }
    let Some(inner) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return Err(format!(
            "in {segment:?} a placeholder is only a part; it must be a whole segment, like \"{{id}}\""
        ));
    };
    let name = match inner.strip_prefix('*') {
        Some(_) if !last => {
            return Err(format!("{segment:?} takes all that follows; move it to the end, or drop the \"*\""));
        }
        Some(name) => name,
        None => inner,
    };
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !starts || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(format!("{segment:?} has no good name; use letters, digits and \"_\", and no digit first"));
    }
    if !names.insert(name) {
        return Err(format!("the name {name:?} is there twice; give every placeholder its own"));
    }
    Ok(())
}

fn check_literal(segment: &str, last: bool) -> Result<(), String> {
    if segment.is_empty() && !last {
        return Err("it has an empty segment (two slashes in a row); write one slash".to_owned());
    }
    let path = format!("/{segment}");
    match Target::parse(&path, None) {
        Ok(target) if target.path() == path => Ok(()),
        Ok(target) => {
            let canonical = target.path().trim_start_matches('/');
            Err(format!("the segment {segment:?} is not in canonical form; write {canonical:?}"))
        }
        Err(why) => Err(format!("the segment {segment:?} can match no request: {why}")),
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.0
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
