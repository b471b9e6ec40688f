//! Upstreams: list, show, remove, test. They are declared by `apply`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::manage::{Admin, Manager, Removed, changed, unrecorded};
use crate::model::{Change, DefinitionKind, Upstream};
use crate::policy::CompiledUpstream;

/// An upstream in short.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UpstreamSummary {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub base_url: String,
    /// The credential that it takes, or all of them, with commas between; null: none.
    pub credential: Option<String>,
    /// Whether that credential, or each of them, is stored and not revoked.
    pub credential_stored: Option<bool>,
    /// How many operations it has.
    pub operations: usize,
}

/// All upstreams.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UpstreamList {
    /// By name.
    pub upstreams: Vec<UpstreamSummary>,
}

/// Whether an upstream can be reached.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UpstreamTested {
    /// Its name.
    pub name: String,
    /// Whether a connection came about.
    pub reachable: bool,
    /// How long that took, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
    /// Why not, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// All upstreams.
///
/// # Errors
/// None.
pub async fn list(admin: Admin) -> Result<UpstreamList> {
    let registry = &admin.manager.registry;
    let definitions = registry.definitions();
    let view = |upstream: &Arc<CompiledUpstream>| {
        let credentials: Vec<&str> = upstream.definition().inject.credentials().collect();
        let is_stored = |name: &&str| registry.credential(name).is_some_and(|one| one.revoked_at.is_none());
        let takes_any = !credentials.is_empty();
        UpstreamSummary {
            name: upstream.name().to_string(),
            base_url: upstream.definition().base_url.clone(),
            credential: takes_any.then(|| credentials.join(", ")),
            credential_stored: takes_any.then(|| credentials.iter().all(is_stored)),
            operations: upstream.definition().operations.len(),
        }
    };
    Ok(UpstreamList { upstreams: definitions.upstreams().map(view).collect() })
}

/// One upstream, as it was declared.
///
/// # Errors
/// There is none.
pub async fn show(admin: Admin, name: String) -> Result<Upstream> {
    Ok(find(&admin.manager, &name)?.definition().clone())
}

/// Removes an upstream: calls to it are refused from now on.
///
/// # Errors
/// There is none, or nothing can be recorded.
pub async fn remove(admin: Admin, name: String) -> Result<Removed> {
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let upstream = find(manager, &name)?;
    let mut event = admin.event("upstream remove", &name);
    changed::tell(&mut event, Some(upstream.definition()), None);
    let change = Change::RemoveDefinition { kind: DefinitionKind::Upstream, name: name.clone() };
    manager.ledger.commit(vec![event], vec![change]).await.map_err(unrecorded)?;
    Ok(Removed { name, removed: true })
}

/// Looks an upstream up, connects and checks its TLS; sends no request.
///
/// # Errors
/// There is none. That it cannot be reached is an answer and no error.
pub async fn test(admin: Admin, name: String) -> Result<UpstreamTested> {
    let upstream = find(&admin.manager, &name)?;
    let started = crate::world::monotonic();
    let outcome = admin.manager.broker.test_upstream(&upstream).await;
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(match outcome {
        Ok(()) => UpstreamTested { name, reachable: true, milliseconds: Some(millis), code: None, why: None },
        // To the admin the whole chain of causes: no request was sent, so there is no secret in it.
        Err(error) => {
            let (code, why) = (Some(error.code.to_owned()), Some(error.to_string()));
            UpstreamTested { name, reachable: false, milliseconds: None, code, why }
        }
    })
}

fn find(manager: &Manager, name: &str) -> Result<Arc<CompiledUpstream>> {
    manager.registry.definitions().upstream(name).cloned().ok_or_else(|| {
        Error::not_found(
            "upstream_unknown",
            format!("there is no upstream '{}'; see 'hallpass upstream list'", name.escape_debug()),
        )
    })
}
