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
use crate::model::{
    self, Agent, AgentSpec, AgentStatus, Change, Declared, DefinitionKind, Event, FileKind, Identity, Manifest,
    NamedFile, each_definition,
};
use crate::policy::{Known, Mistake, parse_manifest, sections, validate_manifest};
use crate::registry::{Definitions, Registered};
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
    let there = manager.registry.definitions();
    let pruned = if input.prune { pruned(&there, &manifest, &sections(&input.document))? } else { Vec::new() };
    // What the document may refer to: nothing that goes.
    let mut known = there.known();
    pruned.iter().for_each(|one| (one.forget)(&one.name, &mut known));
    known.issuer = Some(manager.issuer_url.to_string());
    let mistakes = match validate_manifest(&manifest, &known) {
        Ok(()) => missing,
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

/// Puts what is in the files that the document names into the document.
fn inline_files(manifest: &mut Manifest, files: &BTreeMap<String, String>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (at, NamedFile { field, name, kind, filled_in, place }) in manifest.files() {
        let mut mistake = |field: &str, problem: &str, fix: &str| {
            mistakes.push(Mistake { at: format!("{at}.{field}"), problem: problem.to_owned(), fix: fix.to_owned() });
        };
        if place.take().is_some() {
            mistake(filled_in, "it is filled in by 'hallpass apply'", &format!("write {field}: PATH"));
        }
        let Some(name) = name else { continue };
        match (files.get(name).map(|file| kind.keep(file.as_bytes())), kind) {
            (Some(Err(NotPublic { problem, fix })), _) => mistake(field, problem, fix),
            (Some(Ok(pem)), FileKind::CaCertificates) if crate::broker::check_ca(&pem).is_ok() => *place = Some(pem),
            (_, FileKind::CaCertificates) => mistake(
                field,
                "it could not be read, or holds a certificate that no TLS connection can be checked with",
                "name a PEM file of CA certificates beside the document",
            ),
            (Some(Ok(bundle)), FileKind::SpiffeBundle) => *place = Some(bundle),
            (None, FileKind::SpiffeBundle) => {
                mistake(field, "it could not be read", "name a SPIFFE bundle (a JWKS) beside the document");
            }
        }
    }
    mistakes
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
    forget: fn(&str, &mut Known),
}

/// What `--prune` removes: of each kind that the document has a section of, all that the section does not name.
fn pruned(definitions: &Definitions, document: &Manifest, sections: &BTreeSet<String>) -> Result<Vec<Pruned>> {
    fn of<T: Registered>(
        definitions: &Definitions,
        document: &Manifest,
        sections: &BTreeSet<String>,
        all: &mut Vec<Pruned>,
    ) -> Result<()> {
        if !sections.contains(T::SECTION) {
            return Ok(());
        }
        let named: BTreeSet<&str> = T::of(document).iter().map(Declared::name).collect();
        for (name, one) in T::table(definitions).iter().filter(|(name, _)| !named.contains(name.as_str())) {
            let was = serde_json::to_value(T::declared(one)).map_err(Error::internal)?;
            all.push(Pruned { kind: T::KIND, name: name.clone(), was, forget: T::forget });
        }
        Ok(())
    }
    let mut all = Vec::new();
    macro_rules! each {
        ($($kind:ident $one:ident $section:ident $type:ident;)*) => {
            $(of::<model::$type>(definitions, document, sections, &mut all)?;)*
        };
    }
    each_definition!(each);
    Ok(all)
}

async fn do_apply(admin: &Admin, manifest: &Manifest, pruned: Vec<Pruned>, dry_run: bool) -> Result<Applied> {
    let manager = &*admin.manager;
    let mut differences = Vec::new();
    let mut changes = Vec::new();
    let mut events: Vec<Event> = Vec::new();
    let definitions = manager.registry.definitions();
    macro_rules! each {
        ($($kind:ident $one:ident $section:ident $type:ident;)*) => {
            $(define::<model::$type>(&definitions, manifest, &mut differences, &mut changes)?;)*
        };
    }
    each_definition!(each);
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
    for Pruned { kind, name, was, forget: _ } in pruned {
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

/// Notes what a document makes of the definitions of one kind.
fn define<T: Registered>(
    definitions: &Definitions,
    document: &Manifest,
    differences: &mut Vec<Difference>,
    changes: &mut Vec<Change>,
) -> Result<()> {
    for new in T::of(document) {
        let (kind, name) = (T::KIND, new.name());
        let old = T::table(definitions).get(name).map(|old| T::declared(old));
        if old == Some(new) {
            continue;
        }
        differences.push(Difference {
            kind: kind.as_str().to_owned(),
            name: name.to_owned(),
            change: if old.is_some() { "change" } else { "create" }.to_owned(),
            diff: diff(old, Some(new))?,
            before: old.map(serde_json::to_value).transpose().map_err(Error::internal)?,
            after: Some(serde_json::to_value(new).map_err(Error::internal)?),
        });
        let body = serde_json::to_string(new).map_err(Error::internal)?;
        changes.push(Change::PutDefinition { kind, name: name.to_owned(), body });
    }
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
