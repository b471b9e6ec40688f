//! An entry: what is known of one API, and the document for `hallpass apply` that is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalog::fill::{fill, places};
use crate::catalog::{Mistake, provider};
use crate::model::{Manifest, Role};

/// What is known of an API beside its definition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its name, for people.
    pub title: String,
    /// One sentence about it.
    pub about: String,
    /// Its documentation.
    pub docs: String,
    /// Where the facts were read.
    pub source: Vec<String>,
    /// The provider whose access tokens it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Which kind of key it takes, and what to mind when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_hint: Option<String>,
    /// A regular expression: the form that an SDK wants of a key before it sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk_key_shape: Option<String>,
    /// Environment variables of SDKs, and what each holds: `key`, `base_url`, or the text as it stands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sdk_env: BTreeMap<String, String>,
    /// What differs by tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Variable>,
    /// The kinds of placements that it takes beyond one of the simple ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// The cheapest harmless call.
    pub test: TestCall,
}

/// A `{{name}}` in an entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// A value that can be applied.
    pub example: String,
    /// What it is.
    pub about: String,
}

/// A kind of placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// The signature of AWS, version 4.
    Sigv4,
    /// A segment of the path.
    Path,
}

impl Need {
    /// What it is, for people.
    pub fn what(self) -> &'static str {
        match self {
            Self::Sigv4 => "a signature of AWS (sigv4)",
            Self::Path => "a key in the path (path)",
        }
    }
}

/// The cheapest harmless call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestCall {
    /// Its operation.
    pub operation: String,
    /// The upstream, where the entry has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The path with its parameters filled in, where the template has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Further headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// A ready definition of one API.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its name, which is that of its first upstream.
    pub name: &'static str,
    /// What is known beside the definition.
    #[serde(rename = "catalog")]
    pub head: Head,
    /// As they are written. No [`crate::model::Upstream`]: a variable is no host, and a placement may be one that this version
    /// does not have.
    upstreams: Vec<Value>,
    roles: Vec<Role>,
    #[serde(skip)]
    text: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    catalog: Head,
    upstreams: Vec<Value>,
    #[serde(default)]
    roles: Vec<Role>,
}

/// What an admin wants of an entry.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Values of its variables.
    pub values: BTreeMap<String, String>,
    /// Another name, for a second tenant of the same API.
    pub name: Option<String>,
    /// Another name of its credential.
    pub credential: Option<String>,
}

/// What is applied.
#[derive(Debug, Clone)]
pub struct Document {
    /// For `hallpass apply`.
    pub yaml: String,
    /// The upstreams in it.
    pub upstreams: Vec<String>,
    /// The roles in it.
    pub roles: Vec<String>,
}

impl Entry {
    pub(super) fn parse(name: &'static str, text: &'static str) -> Result<Self, Mistake> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| Mistake::malformed(name, &error))?;
        Ok(Self { name, head: file.catalog, upstreams: file.upstreams, roles: file.roles, text })
    }

    /// How many operations it has.
    pub fn operations(&self) -> usize {
        let of = |upstream: &Value| upstream.get("operations").and_then(Value::as_array).map_or(0, Vec::len);
        self.upstreams.iter().map(of).sum()
    }

    /// What it takes that this version does not have. Whether it does, the reader of documents says: once it takes such a
    /// placement, the entry can be applied, and no list here has to be kept.
    pub fn lacks(&self) -> Vec<Need> {
        if self.head.needs.is_empty() {
            return Vec::new();
        }
        let examples = self.head.variables.iter().map(|one| (one.name.clone(), one.example.clone())).collect();
        let document = self.filled(&examples, &Choice::default());
        if serde_json::from_value::<Manifest>(document).is_ok() { Vec::new() } else { self.head.needs.clone() }
    }

    /// What goes into its credential, for people.
    pub fn key_hint(&self) -> String {
        let Head { title, docs, key_hint, provider: of, .. } = &self.head;
        let of_provider = || Some(format!("An access token of {}.", provider(of.as_deref()?).ok()?.title));
        key_hint.clone().or_else(of_provider).unwrap_or_else(|| format!("A key of {title}, see {docs}"))
    }

    /// The names of its credentials.
    pub fn credentials(&self) -> BTreeSet<&str> {
        let placements = self.upstreams.iter().filter_map(|upstream| upstream.get("inject"));
        let each = placements.flat_map(|inject| inject.as_array().map_or(std::slice::from_ref(inject), Vec::as_slice));
        each.filter_map(|placement| placement.get("credential")?.as_str()).collect()
    }

    /// The document for `hallpass apply`.
    ///
    /// # Errors
    /// This version cannot serve the entry, a variable has no value or a wrong one, or a name cannot be chosen.
    pub fn document(&self, choice: &Choice) -> Result<Document, Mistake> {
        let lacks = self.lacks();
        if !lacks.is_empty() {
            let what: Vec<&str> = lacks.iter().map(|need| need.what()).collect();
            return Err(Mistake::Waits { title: self.head.title.clone(), what: what.join(" and ") });
        }
        self.check_values(&choice.values)?;
        if choice.credential.is_some() && self.credentials().len() != 1 {
            let names: Vec<&str> = self.credentials().into_iter().collect();
            let which = if names.is_empty() { "none".to_owned() } else { names.join(" and ") };
            return Err(Mistake::Value(format!(
                "--credential names the one credential of an entry, and {} takes {which}",
                self.head.title
            )));
        }
        let document = self.filled(&choice.values, choice);
        let names = |section: &str| -> Vec<String> {
            let all = document.get(section).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            all.iter().filter_map(|one| Some(one.get("name")?.as_str()?.to_owned())).collect()
        };
        let (upstreams, roles) = (names("upstreams"), names("roles"));
        let yaml = serde_saphyr::to_string(&document).map_err(|error| Mistake::malformed(self.name, &error))?;
        Ok(Document { yaml, upstreams, roles })
    }

    /// Every variable has a value that fits its place, and nothing else has one.
    fn check_values(&self, values: &BTreeMap<String, String>) -> Result<(), Mistake> {
        let title = &self.head.title;
        let variables = &self.head.variables;
        if let Some(name) = values.keys().find(|name| !variables.iter().any(|one| one.name == **name)) {
            let there: Vec<&str> = variables.iter().map(|one| one.name.as_str()).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(Mistake::Value(format!("{title} has no variable '{name}'; its variables: {there}")));
        }
        let missing: Vec<String> = variables
            .iter()
            .filter(|one| !values.contains_key(&one.name))
            .map(|one| {
                let about = one.about.trim_end_matches('.');
                format!("--set {}=VALUE, for example {} ({about})", one.name, one.example)
            })
            .collect();
        if !missing.is_empty() {
            return Err(Mistake::Value(format!("{title} has variables without a value: {}", missing.join("; "))));
        }
        let upstreams = Value::Array(self.upstreams.clone());
        for Variable { name, example, .. } in variables {
            let value = values.get(name).map_or("", String::as_str);
            if let Some(place) = places(&upstreams, name).into_iter().find(|place| !place.allows(value)) {
                return Err(Mistake::Value(format!(
                    "'{}' cannot be the variable '{name}' of {title}, which takes {}, for example '{example}'",
                    value.escape_debug(),
                    place.takes()
                )));
            }
        }
        Ok(())
    }

    fn filled(&self, values: &BTreeMap<String, String>, choice: &Choice) -> Value {
        let mut upstreams = self.upstreams.clone();
        let mut roles = self.roles.clone();
        for upstream in &mut upstreams {
            if let Some(Value::String(name)) = upstream.get_mut("name") {
                *name = self.renamed(name, choice);
            }
            let credential = upstream.get_mut("inject").and_then(|inject| inject.get_mut("credential"));
            if let (Some(credential), Some(other)) = (credential, &choice.credential) {
                *credential = json!(other);
            }
            fill(upstream, values);
        }
        for role in &mut roles {
            role.name = self.renamed(&role.name, choice);
            for scope in &mut role.scopes {
                if let Some((upstream, own)) = scope.split_once(':') {
                    *scope = format!("{}:{own}", self.renamed(upstream, choice));
                }
            }
        }
        json!({ "upstreams": upstreams, "roles": roles })
    }

    /// A name that begins with the entry's, under the name that was chosen.
    fn renamed(&self, name: &str, choice: &Choice) -> String {
        match (name.strip_prefix(self.name), &choice.name) {
            (Some(rest), Some(other)) if rest.is_empty() || rest.starts_with('-') => format!("{other}{rest}"),
            _ => name.to_owned(),
        }
    }

    /// For a person to read and to change: the definitions as they are written, with what else is known as comments.
    pub fn shown(&self) -> String {
        let Self { head, text, .. } = self;
        // Formatting into a string does not fail.
        let mut out = String::new();
        let mut line = |words: &str| _ = writeln!(out, "{}", format!("# {words}").trim_end()).is_ok();
        let begin = text.split("catalog:\n").next().unwrap_or_default();
        begin.lines().for_each(|comment| line(comment.trim_start_matches(['#', ' '])));
        line(&head.about);
        if !self.credentials().is_empty() {
            line(&format!("Key: {}", self.key_hint()));
        }
        if let Some(shape) = &head.sdk_key_shape {
            line(&format!("SDKs take a key of this form alone: {shape}"));
        }
        for (name, what) in &head.sdk_env {
            line(&format!("For SDKs: {name}: {what}"));
        }
        if let Some(provider) = &head.provider {
            line(&format!("OAuth provider: {provider}"));
        }
        for one in &head.variables {
            line(&format!("{{{{{}}}}} is to be replaced, for example by {}: {}", one.name, one.example, one.about));
        }
        for need in self.lacks() {
            line(&format!("This version cannot serve it: it lacks {}.", need.what()));
        }
        head.source.iter().for_each(|source| line(&format!("Source: {source}")));
        let definitions = text.find("\nupstreams:\n").and_then(|at| text.get(at + 1..)).unwrap_or(text);
        out.push_str(definitions);
        out
    }
}
