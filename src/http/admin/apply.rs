//! `apply`: makes the definitions what a document says, shows what that changes, and changes nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as AxumState;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use similar::TextDiff;

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::{Admin, Input, json as reply, unrecorded};
use crate::http::reply::Problem;
use crate::model::public::{self, NotPublic};
use crate::model::{Agent, AgentStatus, Change, DefinitionKind, Event, Identity};
use crate::policy::{AgentSpec, Manifest, Mistake, parse_manifest, validate_manifest};
use crate::secret::random_id;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Apply {
    /// YAML.
    document: String,
    /// What the document's `ca_file`s hold, by the name that is written there: the CLI reads them.
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    dry_run: bool,
}

/// One thing that would become different.
#[derive(Debug, Serialize)]
struct Difference {
    kind: &'static str,
    name: String,
    change: &'static str,
    diff: String,
}

pub(in crate::http) async fn apply(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Input(input): Input<Apply>,
) -> Result<Response, Problem> {
    // Before it is read: what the reader says of a mistake shows the lines around it.
    if public::holds_private_key(&input.document) {
        return Ok(mistaken(&admin, vec![private_key_in("document")]));
    }
    let mut manifest = match parse_manifest(&input.document) {
        Ok(manifest) => manifest,
        Err(mistake) => return Ok(mistaken(&admin, vec![mistake])),
    };
    let missing = inline_files(&mut manifest, &input.files);
    let _turn = state.one_admin_at_a_time.lock().await;
    let known = state.registry.definitions().known();
    let mistakes = match validate_manifest(&manifest, &known) {
        Ok(_) => missing,
        Err(found) => missing.into_iter().chain(found).collect(),
    };
    if !mistakes.is_empty() {
        return Ok(mistaken(&admin, mistakes));
    }
    for agent in &mut manifest.agents {
        agent.identity.keep_public();
    }
    let applied = do_apply(&state, &admin, &manifest, input.dry_run).await;
    applied.map_err(|error| admin.problem(error))
}

fn mistaken(admin: &Admin, mistakes: Vec<Mistake>) -> Response {
    let count = mistakes.len();
    let body = json!({
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "document_invalid",
        "detail": format!("the document has {count} mistake{}; nothing was changed", if count == 1 { "" } else { "s" }),
        "mistakes": mistakes,
        "request_id": &*admin.request,
    });
    (StatusCode::BAD_REQUEST, [(http::header::CONTENT_TYPE, "application/problem+json")], axum::Json(body))
        .into_response()
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

async fn do_apply(state: &State, admin: &Admin, manifest: &Manifest, dry_run: bool) -> Result<Response> {
    let mut differences = Vec::new();
    let mut changes = Vec::new();
    let mut events: Vec<Event> = Vec::new();
    let definitions = state.registry.definitions();
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
        agent(state, spec, &mut differences, &mut changes)?;
    }
    for difference in &differences {
        let action = format!("apply: {} {}", difference.change, difference.kind);
        events.push(admin.event(&action, &difference.name));
    }
    let applied = !dry_run && !differences.is_empty();
    if applied {
        state.ledger.commit(events, changes).await.map_err(unrecorded)?;
    }
    Ok(reply(&json!({ "applied": applied, "dry_run": dry_run, "changes": differences })))
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
    let change = if old.is_some() { "change" } else { "create" };
    differences.push(Difference { kind: kind.as_str(), name: name.to_owned(), change, diff: diff(old, new)? });
    changes.push(Change::PutDefinition { kind, name: name.to_owned(), body });
    Ok(())
}

fn agent(state: &State, spec: &AgentSpec, differences: &mut Vec<Difference>, changes: &mut Vec<Change>) -> Result<()> {
    let there = state.registry.find_agent(&spec.name);
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
            id: random_id("ag_", state.world.entropy.as_ref()).into(),
            name: spec.name.as_str().into(),
            status: AgentStatus::Active,
            roles: spec.roles.clone(),
            secrets: Vec::new(),
            identity: spec.identity.clone(),
            created_at: state.world.now(),
        },
    };
    let change = if there.is_some() { "change" } else { "create" };
    differences.push(Difference { kind: "agent", name: spec.name.clone(), change, diff: diff(old.as_ref(), spec)? });
    changes.push(Change::PutAgent(Arc::new(agent)));
    Ok(())
}

/// A unified diff of the two as JSON, for people.
fn diff<T: Serialize>(old: Option<&T>, new: &T) -> Result<String> {
    let text = |value: &T| -> Result<String> {
        let value: Value = serde_json::to_value(value).map_err(Error::internal)?;
        serde_json::to_string_pretty(&value).map_err(Error::internal)
    };
    let old = old.map(text).transpose()?.unwrap_or_default();
    let new = text(new)?;
    let lines = TextDiff::from_lines(&old, &new);
    Ok(lines.unified_diff().context_radius(2).missing_newline_hint(false).to_string())
}
