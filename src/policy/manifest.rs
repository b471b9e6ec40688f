//! Reads and checks the document that `hallpass apply` takes: definitions and agents in YAML, without any secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::Manifest;
use crate::policy::public_host::PublicHost;
use crate::policy::{identity, kind};

/// A larger document is refused unread.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// One mistake in a document: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mistake {
    /// The field, for example `upstreams[0].base_url`, or line and column.
    pub at: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.at, self.problem, self.fix)
    }
}

/// What is there already, so that a document need not repeat it.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Scopes in full, by the upstream or resource that they belong to.
    pub scopes: BTreeMap<String, BTreeSet<String>>,
    /// Names of upstreams (true) and resources (false).
    pub apis: BTreeMap<String, bool>,
    /// Role names.
    pub roles: BTreeSet<String>,
    /// Names of registered issuers.
    pub issuers: BTreeSet<String>,
    /// Registered SPIFFE trust domains.
    pub trust_domains: BTreeSet<String>,
    /// Audiences of resources, by resource.
    pub audiences: BTreeMap<String, String>,
    /// Host names of upstreams at the public listener, by upstream.
    pub public_hosts: BTreeMap<String, Vec<PublicHost>>,
    /// The hosts that upstreams are dialled at, by upstream.
    pub base_hosts: BTreeMap<String, String>,
    /// The broker's own URL.
    pub issuer: Option<String>,
}

/// Reads the YAML.
///
/// # Errors
/// What the YAML reader says, with line and column.
pub fn parse_manifest(yaml: &str) -> Result<Manifest, Mistake> {
    let mistake = |problem: String| Mistake {
        at: "document".into(),
        problem,
        fix: "see 'hallpass apply --help' for the form of the document".into(),
    };
    if yaml.len() > MAX_BYTES {
        return Err(mistake(format!("larger than {MAX_BYTES} bytes")));
    }
    if yaml.trim().is_empty() {
        return Err(mistake("empty".into()));
    }
    serde_saphyr::from_str(yaml).map_err(|error| {
        // Without the words for those who program with the reader, and the types of our own source.
        let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        mistake(in_words_of_the_document(&text))
    })
}

/// The reader names types of our source where a mapping or a list belongs; the document's author knows none of them.
fn in_words_of_the_document(text: &str) -> String {
    let mut text = text.to_owned();
    for (theirs, ours) in [("sequence start", "a list"), ("mapping start", "a mapping"), ("a sequence", "a list")] {
        text = text.replace(theirs, ours);
    }
    for kind in ["struct ", "internally tagged enum ", "adjacently tagged enum ", "untagged enum ", "enum "] {
        while let Some(at) = text.find(&format!("expected {kind}")) {
            let begin = at + "expected ".len();
            let name = text.get(begin + kind.len()..).unwrap_or_default();
            let end = begin + kind.len() + name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            text.replace_range(begin..end, "a mapping");
        }
    }
    text
}

/// The document's sections, also empty ones: what `apply --prune` looks at. None of a document that cannot be read.
pub fn sections(yaml: &str) -> BTreeSet<String> {
    let all: Result<BTreeMap<String, Option<serde::de::IgnoredAny>>, _> = serde_saphyr::from_str(yaml);
    all.unwrap_or_default().into_iter().filter(|(_, section)| section.is_some()).map(|(name, _)| name).collect()
}

/// Checks a document whole, against what is there already.
///
/// # Errors
/// Every mistake in it.
pub fn validate_manifest(manifest: &Manifest, known: &Known) -> Result<(), Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let known = kind::check_all(manifest, known, &mut mistakes);
    let mut seen = BTreeSet::new();
    for (n, agent) in manifest.agents.iter().enumerate() {
        let at = format!("agents[{n}]");
        if !seen.insert(agent.name.as_str()) {
            mistakes.push(kind::twice(&at, &agent.name));
        }
        kind::check_its_name(&at, "agent", &agent.name, &mut mistakes);
        for (m, role) in agent.roles.iter().enumerate().filter(|(_, role)| !known.roles.contains(*role)) {
            mistakes.push(Mistake {
                at: format!("{at}.roles[{m}]"),
                problem: format!("there is no role '{}'", role.escape_debug()),
                fix: "declare it under roles".into(),
            });
        }
        identity::check_identity(&format!("{at}.identity"), &agent.identity, &known, &mut mistakes);
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}
