//! The path template of an operation: `/v1/contacts/{id}`, `/files/{*rest}`.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::target::{MAX_PATH, Target};

/// A path template in the syntax of matchit 0.8: whole segments `{name}`, `{*name}` as the last one, and literals that
/// are canonical as [`Target`] has it. A literal that is not could never match, so its rule would silently be none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(String);

impl Template {
    /// Reads a template; the error says what is wrong with it and how to write it instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATH {
            return Err(format!("a path template may have {MAX_PATH} bytes, this one has {}; shorten it", text.len()));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("path template {text:?} does not begin with a slash; write \"/{text}\""));
        };
        if text.contains('?') {
            return Err(format!(
                "path template {text:?} has a query; only paths are matched, drop all from the \"?\" on"
            ));
        }
        let mut names = HashSet::new();
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            check_segment(segment, last, &mut names).map_err(|why| format!("path template {text:?}: {why}"))?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The template, as matchit reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_templates() {
        for text in [
            "/",
            "/v1",
            "/v1/",
            "/v1/contacts/{id}",
            "/{a}/{b}",
            "/{a}/x/{b}/",
            "/files/{*rest}",
            "/{*rest}",
            "/v1/things:batchDelete",
            "/~me/a%20b",
            "/caf%C3%A9",
            "/v1/{contact_id2}",
            "/{_}",
            "/a*b",
            "/$metadata",
            "/Users(1)",
            "/x%3By",
            "/%7Bid%7D",
        ] {
            let template = Template::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(template.as_str(), text);
            assert_eq!(template.to_string(), text);
            matchit::Router::new().insert(template.as_str(), ()).unwrap_or_else(|why| panic!("{text}: {why}"));
        }
    }

    #[test]
    fn bad_templates_say_what_to_do() {
        for (text, hint) in [
            ("", "begin with a slash"),
            ("v1/contacts", "\"/v1/contacts\""),
            ("/v1?x=1", "query"),
            ("/v1//x", "empty segment"),
            ("//v1", "empty segment"),
            ("/{id", "whole segment"),
            ("/id}", "whole segment"),
            ("/x{id}", "whole segment"),
            ("/{id}.json", "whole segment"),
            ("/{a}{b}", "no good name"),
            ("/{a}-{b}", "no good name"),
            ("/{{id}}", "no good name"),
            ("/{}", "no good name"),
            ("/{*}", "no good name"),
            ("/{1}", "no good name"),
            ("/{a-b}", "no good name"),
            ("/{é}", "no good name"),
            ("/{**r}", "no good name"),
            ("/{*rest}/x", "move it to the end"),
            ("/{*rest}/", "move it to the end"),
            ("/{id}/x/{id}", "twice"),
            ("/{id}/{*id}", "twice"),
            ("/a/../b", "dot segment"),
            ("/a/%2e", "dot segment"),
            ("/a%2fb", "encoded slash"),
            ("/a;b", "semicolon"),
            ("/a b", "percent-encode"),
            ("/café", "percent-encode"),
            ("/a\\b", "backslash"),
            ("/a#b", "bare ? or #"),
            ("/%zz", "%25"),
            ("/%252e", "encoded twice"),
            ("/%7Eme", "write \"~me\""),
            ("/caf%c3%a9", "write \"caf%C3%A9\""),
        ] {
            let why = Template::parse(text).expect_err(text);
            assert!(why.contains(hint), "{text}: {why}");
        }
    }

    #[test]
    fn a_template_is_as_long_as_a_path_may_be_and_no_longer() {
        let longest = "/a".repeat(MAX_PATH / 2);
        assert_eq!(Template::parse(&longest).map(|template| template.as_str().len()), Ok(MAX_PATH));
        for longer in [format!("{longest}/"), format!("{longest}/{{id}}"), format!("/{}", "a".repeat(MAX_PATH))] {
            assert!(Template::parse(&longer).unwrap_err().contains("shorten it"));
        }
    }

    #[test]
    fn serde_is_a_checked_string() {
        let template: Template = serde_json::from_str(r#""/v1/{id}""#).expect("good");
        assert_eq!(serde_json::to_string(&template).expect("string"), r#""/v1/{id}""#);
        let why = serde_json::from_str::<Template>(r#""/v1/x{id}""#).expect_err("bad").to_string();
        assert!(why.contains("whole segment"), "{why}");
    }

    #[test]
    fn matches_canonical_targets() {
        let mut router = matchit::Router::new();
        for text in ["/v1/contacts", "/v1/contacts/{id}", "/v1/contacts/me", "/files/{*rest}"] {
            router.insert(Template::parse(text).expect(text).as_str(), text).expect(text);
        }
        let at = |raw| router.at(Target::parse(raw, None).expect(raw).path()).ok().map(|found| *found.value);
        assert_eq!(at("/v1/contacts"), Some("/v1/contacts"));
        assert_eq!(at("/v1/contacts/"), None);
        assert_eq!(at("/v1/contacts/7"), Some("/v1/contacts/{id}"));
        assert_eq!(at("/v1/contacts/%6de"), Some("/v1/contacts/me"));
        assert_eq!(at("/v1/contacts/7/x"), None);
        assert_eq!(at("/files/a/b/c"), Some("/files/{*rest}"));
        assert_eq!(at("/files/"), None);
    }
}
