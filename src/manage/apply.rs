//! `apply`: makes the definitions what a document says, shows what that changes, and changes nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use similar::TextDiff;
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::manage::{Admin, Details, Manager, Refused, changed, definitions, unrecorded};
use crate::model::public::{self, NotPublic};
use crate::model::{Agent, AgentStatus, Change, DefinitionKind, Event, Identity};
use crate::policy::{AgentSpec, Known, Manifest, Mistake, parse_manifest, sections, validate_manifest};
use crate::secret::random_id;

/// A document to apply.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// YAML, as `hallpass apply` takes it.
    pub document: String,
    /// What the files hold that the document names (`ca_file`, `bundle_file`), by the name that is written there.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Whether nothing is changed.
    #[serde(default)]
    pub dry_run: bool,
    /// Remove what is there and stands under none of the document's sections of its kind. Agents stay.
    #[serde(default)]
    pub prune: bool,
}

/// What a document changed, or would change.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// Whether something was changed.
    pub applied: bool,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// What is different.
    pub changes: Vec<Difference>,
}

/// One thing that becomes different.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Of what: `upstream`, `resource`, `role`, `issuer`, `trust_domain` or `agent`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `create`, `change` or `remove`.
    pub change: String,
    /// A unified diff, for people.
    pub diff: String,
    /// For the record.
    #[serde(skip)]
    before: Option<Value>,
    #[serde(skip)]
    after: Option<Value>,
}

/// Makes the definitions and agents what a document says.
///
/// # Errors
/// The document has mistakes, an agent in it is revoked, or nothing can be recorded.
pub async fn apply(admin: Admin, input: Apply) -> Result<Applied, Refused> {
    // Before it is read: what the reader says of a mistake shows the lines around it.
    if public::holds_private_key(&input.document) {
        return Err(mistaken(vec![private_key_in("document")]));
    }
    let mut manifest = parse_manifest(&input.document).map_err(|mistake| mistaken(vec![mistake]))?;
    let missing = inline_files(&mut manifest, &input.files);
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let pruned = if input.prune { pruned(manager, &manifest, &sections(&input.document)) } else { Vec::new() };
    let mut known = known_without(manager, &pruned);
    known.issuer = Some(manager.issuer_url.to_string());
    let mistakes = match validate_manifest(&manifest, &known) {
        Ok(_) => missing,
        Err(found) => missing.into_iter().chain(found).collect(),
    };
    if !mistakes.is_empty() {
        return Err(mistaken(mistakes));
    }
    for agent in &mut manifest.agents {
        agent.identity.keep_public();
    }
    Ok(do_apply(&admin, &manifest, pruned, input.dry_run).await?)
}

fn mistaken(mistakes: Vec<Mistake>) -> Refused {
    let count = mistakes.len();
    let message = format!("the document has {count} mistake{}; nothing was changed", if count == 1 { "" } else { "s" });
    let details = Details { mistakes, ..Details::default() };
    Refused { error: Error::invalid("document_invalid", message), details }
}

fn inline_files(manifest: &mut Manifest, files: &BTreeMap<String, String>) -> Vec<Mistake> {
    let mut missing = Vec::new();
    let named = manifest
        .upstreams
        .iter_mut()
        .enumerate()
        .map(|(n, one)| (format!("upstreams[{n}]"), &one.ca_file, &mut one.ca_pem));
    let named = named.chain(
        manifest
            .issuers
            .iter_mut()
            .enumerate()
            .map(|(n, one)| (format!("issuers[{n}]"), &one.ca_file, &mut one.ca_pem)),
    );
    let named = named.chain(
        manifest
            .trust_domains
            .iter_mut()
            .enumerate()
            .map(|(n, one)| (format!("trust_domains[{n}]"), &one.ca_file, &mut one.ca_pem)),
    );
    for (at, ca_file, ca_pem) in named {
        let mistake = |field: &str, problem: &str, fix: &str| Mistake {
            at: format!("{at}.{field}"),
            problem: problem.to_owned(),
            fix: fix.to_owned(),
        };
        if ca_pem.is_some() {
            missing.push(mistake("ca_pem", "it is filled in by 'hallpass apply'", "write ca_file: PATH"));
        }
        if let Some(name) = ca_file {
            match files.get(name).map(|file| public::certificates(file.as_bytes())) {
                Some(Ok(pem)) if crate::broker::check_ca(&pem).is_ok() => *ca_pem = Some(pem),
                Some(Err(NotPublic { problem, fix })) => missing.push(mistake("ca_file", problem, fix)),
                _ => missing.push(mistake(
                    "ca_file",
                    "it could not be read, or holds a certificate that no TLS connection can be checked with",
                    "name a PEM file of CA certificates beside the document",
                )),
            }
        }
    }
    for (n, domain) in manifest.trust_domains.iter_mut().enumerate() {
        if domain.bundle.is_some() {
            missing.push(Mistake {
                at: format!("trust_domains[{n}].bundle"),
                problem: "it is filled in by 'hallpass apply'".into(),
                fix: "write bundle_file: PATH".into(),
            });
        }
        match domain.bundle_file.as_ref().and_then(|name| files.get(name)).map(|file| public::bundle(file.as_bytes())) {
            Some(Ok(bundle)) => domain.bundle = Some(bundle),
            Some(Err(NotPublic { problem, fix })) => missing.push(Mistake {
                at: format!("trust_domains[{n}].bundle_file"),
                problem: problem.into(),
                fix: fix.into(),
            }),
            None => domain.bundle = None,
        }
    }
    missing
}

fn private_key_in(at: &str) -> Mistake {
    Mistake {
        at: at.into(),
        problem: "it holds a private key, which would be stored and shown in the clear".into(),
        fix: "take it out, and consider that key lost; secrets are stored with 'hallpass credential put'".into(),
    }
}

/// A definition that goes because the document does not name it.
struct Pruned {
    kind: DefinitionKind,
    name: String,
    was: Value,
}

/// What `--prune` removes: of each kind that the document has a section of, all that the section does not name.
fn pruned(manager: &Manager, manifest: &Manifest, sections: &BTreeSet<String>) -> Vec<Pruned> {
    let has = |section: &str| sections.contains(section);
    fn of<'a, T: Serialize>(
        kind: DefinitionKind,
        section: Option<Vec<&str>>,
        there: impl Iterator<Item = (&'a str, T)>,
    ) -> Vec<Pruned> {
        let Some(named) = section else { return Vec::new() };
        let gone = there.filter(|(name, _)| !named.contains(name));
        let value = |was: T| serde_json::to_value(was).unwrap_or_default();
        gone.map(|(name, was)| Pruned { kind, name: name.to_owned(), was: value(was) }).collect()
    }
    let definitions = manager.registry.definitions();
    let Manifest { upstreams, resources, roles, issuers, trust_domains, agents: _ } = manifest;
    let mut all = of(
        DefinitionKind::Upstream,
        has("upstreams").then(|| upstreams.iter().map(|one| one.name.as_str()).collect()),
        definitions.upstreams().map(|one| (&**one.name(), one.definition())),
    );
    all.extend(of(
        DefinitionKind::Resource,
        has("resources").then(|| resources.iter().map(|one| one.name.as_str()).collect()),
        definitions.resources().map(|one| (one.name.as_str(), one)),
    ));
    all.extend(of(
        DefinitionKind::Role,
        has("roles").then(|| roles.iter().map(|one| one.name.as_str()).collect()),
        definitions.roles().map(|one| (one.name.as_str(), one)),
    ));
    all.extend(of(
        DefinitionKind::Issuer,
        has("issuers").then(|| issuers.iter().map(|one| one.name.as_str()).collect()),
        definitions.issuers().map(|one| (one.name.as_str(), one)),
    ));
    all.extend(of(
        DefinitionKind::TrustDomain,
        has("trust_domains").then(|| trust_domains.iter().map(|one| one.name.as_str()).collect()),
        definitions.trust_domains().map(|one| (one.name.as_str(), one)),
    ));
    all
}

/// What the document may refer to: nothing that goes.
fn known_without(manager: &Manager, pruned: &[Pruned]) -> Known {
    let mut known = manager.registry.definitions().known();
    for Pruned { kind, name, .. } in pruned {
        match kind {
            DefinitionKind::Upstream | DefinitionKind::Resource => {
                known.apis.remove(name);
                known.scopes.remove(name);
                known.audiences.remove(name);
                known.public_hosts.remove(name);
                known.base_hosts.remove(name);
            }
            DefinitionKind::Role => _ = known.roles.remove(name),
            DefinitionKind::Issuer => _ = known.issuers.remove(name),
            DefinitionKind::TrustDomain => _ = known.trust_domains.remove(name),
        }
    }
    known
}

async fn do_apply(admin: &Admin, manifest: &Manifest, pruned: Vec<Pruned>, dry_run: bool) -> Result<Applied> {
    let manager = &*admin.manager;
    let mut differences = Vec::new();
    let mut changes = Vec::new();
    let mut events: Vec<Event> = Vec::new();
    let definitions = manager.registry.definitions();
    for upstream in &manifest.upstreams {
        let old = definitions.upstream(&upstream.name).map(|old| old.definition());
        define(DefinitionKind::Upstream, &upstream.name, old, upstream, &mut differences, &mut changes)?;
    }
    for resource in &manifest.resources {
        let old = definitions.resource(&resource.name).map(AsRef::as_ref);
        define(DefinitionKind::Resource, &resource.name, old, resource, &mut differences, &mut changes)?;
    }
    for role in &manifest.roles {
        let old = definitions.role(&role.name).map(AsRef::as_ref);
        define(DefinitionKind::Role, &role.name, old, role, &mut differences, &mut changes)?;
    }
    for issuer in &manifest.issuers {
        let old = definitions.issuer(&issuer.name).map(AsRef::as_ref);
        define(DefinitionKind::Issuer, &issuer.name, old, issuer, &mut differences, &mut changes)?;
    }
    for domain in &manifest.trust_domains {
        let old = definitions.trust_domain(&domain.name).map(AsRef::as_ref);
        define(DefinitionKind::TrustDomain, &domain.name, old, domain, &mut differences, &mut changes)?;
    }
    for spec in &manifest.agents {
        agent(manager, spec, &mut differences, &mut changes)?;
    }
    let roles: Vec<&str> =
        pruned.iter().filter(|one| one.kind == DefinitionKind::Role).map(|one| one.name.as_str()).collect();
    let mut holders = definitions::without_roles(manager, &roles);
    // Agents that the document declares hold none of them: that was checked.
    holders.retain(
        |change| !matches!(change, Change::PutAgent(one) if manifest.agents.iter().any(|spec| *spec.name == *one.name)),
    );
    changes.extend(holders);
    for Pruned { kind, name, was } in pruned {
        let diff = diff(Some(&was), None)?;
        let (before, after) = (Some(was), None);
        differences.push(Difference {
            kind: kind.as_str().to_owned(),
            name: name.clone(),
            change: "remove".to_owned(),
            diff,
            before,
            after,
        });
        changes.push(Change::RemoveDefinition { kind, name });
    }
    for difference in &differences {
        let action = format!("apply: {} {}", difference.change, difference.kind);
        let mut event = admin.event(&action, &difference.name);
        changed::tell(&mut event, difference.before.as_ref(), difference.after.as_ref());
        events.push(event);
    }
    let applied = !dry_run && !differences.is_empty();
    if applied {
        manager.ledger.commit(events, changes).await.map_err(unrecorded)?;
    }
    Ok(Applied { applied, dry_run, changes: differences })
}

fn define<T: Serialize + PartialEq>(
    kind: DefinitionKind,
    name: &str,
    old: Option<&T>,
    new: &T,
    differences: &mut Vec<Difference>,
    changes: &mut Vec<Change>,
) -> Result<()> {
    if old == Some(new) {
        return Ok(());
    }
    let body = serde_json::to_string(new).map_err(Error::internal)?;
    let change = if old.is_some() { "change" } else { "create" }.to_owned();
    differences.push(Difference {
        kind: kind.as_str().to_owned(),
        name: name.to_owned(),
        change,
        diff: diff(old, Some(new))?,
        before: old.map(serde_json::to_value).transpose().map_err(Error::internal)?,
        after: Some(serde_json::to_value(new).map_err(Error::internal)?),
    });
    changes.push(Change::PutDefinition { kind, name: name.to_owned(), body });
    Ok(())
}

fn agent(
    manager: &Manager,
    spec: &AgentSpec,
    differences: &mut Vec<Difference>,
    changes: &mut Vec<Change>,
) -> Result<()> {
    let there = manager.registry.find_agent(&spec.name);
    let old = there.as_ref().map(|agent| AgentSpec {
        name: agent.name.to_string(),
        roles: agent.roles.clone(),
        identity: Identity { certificates_after: None, ..agent.identity.clone() },
    });
    if old.as_ref() == Some(spec) {
        return Ok(());
    }
    let agent = match &there {
        Some(agent) if agent.status == AgentStatus::Revoked => {
            return Err(Error::conflict(
                "agent_revoked",
                format!("agent '{}' is revoked for good; pick another name", spec.name),
            ));
        }
        Some(agent) => {
            let certificates_after = agent.identity.certificates_after;
            let identity = Identity { certificates_after, ..spec.identity.clone() };
            Agent { roles: spec.roles.clone(), identity, ..Agent::clone(agent) }
        }
        None => Agent {
            id: random_id("ag_", manager.world.entropy.as_ref()).into(),
            name: spec.name.as_str().into(),
            status: AgentStatus::Active,
            roles: spec.roles.clone(),
            secrets: Vec::new(),
            identity: spec.identity.clone(),
            created_at: manager.world.now(),
        },
    };
    let change = if there.is_some() { "change" } else { "create" }.to_owned();
    differences.push(Difference {
        kind: "agent".to_owned(),
        name: spec.name.clone(),
        change,
        diff: diff(old.as_ref(), Some(spec))?,
        before: old.as_ref().map(serde_json::to_value).transpose().map_err(Error::internal)?,
        after: Some(serde_json::to_value(spec).map_err(Error::internal)?),
    });
    changes.push(Change::PutAgent(Arc::new(agent)));
    Ok(())
}

/// A unified diff of the two as JSON, for people.
fn diff<T: Serialize>(old: Option<&T>, new: Option<&T>) -> Result<String> {
    let text = |value: &T| -> Result<String> {
        let value: Value = serde_json::to_value(value).map_err(Error::internal)?;
        serde_json::to_string_pretty(&value).map_err(Error::internal)
    };
    let old = old.map(text).transpose()?.unwrap_or_default();
    let new = new.map(text).transpose()?.unwrap_or_default();
    let lines = TextDiff::from_lines(&old, &new);
    Ok(lines.unified_diff().context_radius(2).missing_newline_hint(false).to_string())
}
