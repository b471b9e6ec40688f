//! The document that `hallpass apply` takes: upstreams, resources, roles and agents in YAML, without any secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{INTROSPECT_SCOPE, Identity, Resource, Role, TrustDomain, TrustedIssuer, Upstream, check_name};
use crate::policy::CompiledUpstream;
use crate::policy::public_host::{self, PublicHost};
use crate::policy::uri::canonical;
use crate::policy::{identity, spelling};

/// A larger document is refused unread.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// An agent as a document declares it. A new one gets its secret by `hallpass agent rotate-secret`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// What it may prove itself with, besides a client secret.
    #[serde(default, skip_serializing_if = "Identity::is_empty")]
    pub identity: Identity,
}

/// The whole document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// APIs behind the broker.
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// APIs behind gateways.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Named sets of scopes.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Issuers of foreign tokens: workload identities, people.
    #[serde(default)]
    pub issuers: Vec<TrustedIssuer>,
    /// SPIFFE trust domains.
    #[serde(default)]
    pub trust_domains: Vec<TrustDomain>,
    /// Agents.
    #[serde(default)]
    pub agents: Vec<AgentSpec>,
}

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
#[derive(Debug, Default)]
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
pub fn validate_manifest(manifest: &Manifest, known: &Known) -> Result<Vec<CompiledUpstream>, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut compiled = Vec::new();
    let mut known_scopes = known.scopes.clone();
    let mut seen = BTreeSet::new();
    for (n, upstream) in manifest.upstreams.iter().enumerate() {
        let at = format!("upstreams[{n}]");
        if !seen.insert(upstream.name.as_str()) {
            mistakes.push(twice(&at, &upstream.name));
        }
        if known.apis.get(&upstream.name) == Some(&false) {
            mistakes.push(taken(&at, &upstream.name, "resource"));
        }
        spelling::check(&at, upstream, &mut mistakes);
        match CompiledUpstream::new(upstream.clone()) {
            Ok(one) => {
                known_scopes.insert(upstream.name.clone(), one.scopes().map(str::to_owned).collect());
                compiled.push(one);
            }
            Err(inner) => {
                // Its scopes still count, so that one mistake does not make ten.
                let scopes = upstream.operations.iter().map(|op| format!("{}:{}", upstream.name, op.scope));
                known_scopes.insert(upstream.name.clone(), scopes.collect());
                mistakes.extend(inner.into_iter().map(|one| Mistake { at: format!("{at}.{}", one.at), ..one }));
            }
        }
    }
    public_host::check_all(manifest, known, &mut mistakes);
    let mut audiences = known.audiences.clone();
    for (n, resource) in manifest.resources.iter().enumerate() {
        let at = format!("resources[{n}]");
        if !seen.insert(resource.name.as_str()) {
            mistakes.push(twice(&at, &resource.name));
        }
        if known.apis.get(&resource.name) == Some(&true) {
            mistakes.push(taken(&at, &resource.name, "upstream"));
        }
        check_resource(&at, resource, &mut mistakes);
        // Two spellings of one URI are one audience: a token request may use another spelling than the definition does.
        let canonical = |audience: &str| canonical(audience).unwrap_or_else(|| audience.to_owned());
        let own = canonical(&resource.audience);
        let other = audiences.iter().find(|(name, audience)| canonical(audience) == own && **name != resource.name);
        if let Some((other, _)) = other {
            mistakes.push(Mistake {
                at: format!("{at}.audience"),
                problem: format!("resource '{other}' has this audience already"),
                fix: "give each resource its own audience".into(),
            });
        }
        audiences.insert(resource.name.clone(), resource.audience.clone());
        known_scopes
            .insert(resource.name.clone(), resource.scopes.iter().map(|s| format!("{}:{s}", resource.name)).collect());
    }
    let mut roles = known.roles.clone();
    roles.extend(manifest.roles.iter().map(|role| role.name.clone()));
    let mut seen_roles = BTreeSet::new();
    for (n, role) in manifest.roles.iter().enumerate() {
        let at = format!("roles[{n}]");
        if !seen_roles.insert(role.name.as_str()) {
            mistakes.push(twice(&at, &role.name));
        }
        name_mistake(&at, "role", &role.name, &mut mistakes);
        for (m, scope) in role.scopes.iter().enumerate() {
            let there = scope == INTROSPECT_SCOPE || known_scopes.values().any(|scopes| scopes.contains(scope));
            if !there {
                mistakes.push(Mistake {
                    at: format!("{at}.scopes[{m}]"),
                    problem: format!("no upstream or resource has the scope '{}'", scope.escape_debug()),
                    fix: "write UPSTREAM:SCOPE of an operation that is declared here or was applied before".into(),
                });
            }
        }
    }
    let trusted = identity::check_trust(manifest, known, &mut mistakes);
    let mut seen_agents = BTreeSet::new();
    for (n, agent) in manifest.agents.iter().enumerate() {
        let at = format!("agents[{n}]");
        if !seen_agents.insert(agent.name.as_str()) {
            mistakes.push(twice(&at, &agent.name));
        }
        name_mistake(&at, "agent", &agent.name, &mut mistakes);
        for (m, role) in agent.roles.iter().enumerate().filter(|(_, role)| !roles.contains(*role)) {
            mistakes.push(Mistake {
                at: format!("{at}.roles[{m}]"),
                problem: format!("there is no role '{}'", role.escape_debug()),
                fix: "declare it under roles".into(),
            });
        }
        identity::check_identity(&format!("{at}.identity"), &agent.identity, &trusted, &mut mistakes);
    }
    if mistakes.is_empty() { Ok(compiled) } else { Err(mistakes) }
}

fn check_resource(at: &str, resource: &Resource, mistakes: &mut Vec<Mistake>) {
    name_mistake(at, "resource", &resource.name, mistakes);
    if resource.name == "hallpass" {
        mistakes.push(taken(at, "hallpass", "built-in"));
    }
    // RFC 8707 §2: an absolute URI without a fragment.
    let audience = url::Url::parse(&resource.audience);
    if !audience.is_ok_and(|url| url.fragment().is_none() && url.has_host()) {
        mistakes.push(Mistake {
            at: format!("{at}.audience"),
            problem: format!("'{}' is no absolute URI without a fragment", resource.audience.escape_debug()),
            fix: "write for example https://orders.example.com".into(),
        });
    }
    for (m, scope) in resource.scopes.iter().enumerate() {
        if scope.is_empty() || scope.contains(':') || !hallpass_verify::ScopeSet::is_token(scope) {
            mistakes.push(Mistake {
                at: format!("{at}.scopes[{m}]"),
                problem: format!("'{}' is no scope", scope.escape_debug()),
                fix: "write for example orders.read; the resource's name is put before it".into(),
            });
        }
    }
}

pub(super) fn name_mistake(at: &str, what: &str, name: &str, mistakes: &mut Vec<Mistake>) {
    if let Err(problem) = check_name(what, name) {
        mistakes.push(Mistake { at: format!("{at}.name"), problem, fix: "rename it".into() });
    }
}

pub(super) fn twice(at: &str, name: &str) -> Mistake {
    Mistake {
        at: format!("{at}.name"),
        problem: format!("'{}' is there twice", name.escape_debug()),
        fix: "leave one of them out, or rename it".into(),
    }
}

fn taken(at: &str, name: &str, by: &str) -> Mistake {
    Mistake {
        at: format!("{at}.name"),
        problem: format!("'{}' is the name of a {by} already", name.escape_debug()),
        fix: "rename it: scopes begin with this name".into(),
    }
}
