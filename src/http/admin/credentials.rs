//! Credentials: put, rotate, list, revoke, remove. A value comes in here and never goes out.

use std::sync::Arc;

use axum::extract::{Path, Query, State as AxumState};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::http::State;
use crate::http::admin::value::check_value;
use crate::http::admin::{Admin, Input, Reason, changed, json as reply, unrecorded};
use crate::http::reply::Problem;
use crate::model::{Change, Credential, CredentialVersion, Event, EventKind, SealedColumns, check_name};
use crate::policy::CompiledUpstream;
use crate::secret::{SecretBytes, random_id};
use crate::vault::{Label, Purpose};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Put {
    value_base64: Zeroizing<String>,
    #[serde(default)]
    allow_short: bool,
    /// Store it although it looks as if it held more than the key.
    #[serde(default)]
    as_is: bool,
    /// The credential must be there already.
    #[serde(default)]
    rotate: bool,
    /// For how long the version before stays usable.
    #[serde(default)]
    grace_seconds: Option<i64>,
}

pub(in crate::http) async fn put(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
    Input(input): Input<Put>,
) -> Result<Response, Problem> {
    do_put(&state, &admin, &name, input).await.map_err(|error| admin.problem(error))
}

async fn do_put(state: &State, admin: &Admin, name: &str, input: Put) -> Result<Response> {
    check_name("credential", name).map_err(|problem| Error::invalid("bad_name", problem))?;
    let value = STANDARD.decode(input.value_base64.as_bytes()).map(SecretBytes::new);
    let value = value.map_err(|_| Error::invalid("bad_value", "value_base64 is not base64"))?;
    check_value(&value, input.allow_short, input.as_is)?;
    let grace = input.grace_seconds.unwrap_or(if input.rotate { 86_400 } else { 0 });
    if !(0..=30 * 86_400).contains(&grace) {
        return Err(Error::invalid("bad_grace", "grace_seconds is 0 to 2592000 (30 days)"));
    }
    let _turn = state.one_admin_at_a_time.lock().await;
    let now = state.world.now();
    let there = state.registry.credential(name);
    if there.is_none() && input.rotate {
        return Err(unknown(name));
    }
    if there.as_ref().is_some_and(|credential| credential.revoked_at.is_some()) {
        return Err(Error::conflict(
            "credential_revoked",
            "this credential is revoked; remove it first, then put the new one",
        ));
    }
    let (id, version) = match &there {
        Some(credential) => (credential.id.clone(), credential.current().map_or(1, |one| one.version + 1)),
        None => (random_id("cr_", state.world.entropy.as_ref()).into(), 1),
    };
    let label = Label { purpose: Purpose::Credential, id: &id, version };
    let sealed = state.vault.load().seal(state.world.entropy.as_ref(), label, &value)?;
    let sealed = SealedColumns { wrapped_key: sealed.wrapped_key, ciphertext: sealed.ciphertext };
    let version = CredentialVersion { version, sealed, created_at: now, expires_at: None };
    let number = version.version;
    let mut changes = Vec::new();
    match &there {
        Some(credential) => {
            if credential.allow_short != input.allow_short {
                let flagged = Credential { allow_short: input.allow_short, ..Credential::clone(credential) };
                changes.push(Change::PutCredential(Arc::new(flagged)));
            }
            let others_end = now + grace * 1000;
            changes.push(Change::AddCredentialVersion { credential_id: id, version, others_end });
        }
        None => changes.push(Change::PutCredential(Arc::new(Credential {
            id,
            name: name.into(),
            allow_short: input.allow_short,
            created_at: now,
            revoked_at: None,
            versions: vec![version],
        }))),
    }
    let action = if input.rotate { "credential rotate" } else { "credential put" };
    let mut event = admin.event(action, &format!("{name}@{number}"));
    let after: Vec<u32> = there.iter().flat_map(|credential| versions(credential)).chain([number]).collect();
    let state_of = |versions: &[u32], is_short: bool| json!({ "versions": versions, "redacted": !is_short });
    let before = there.as_ref().map(|credential| state_of(&versions(credential), credential.allow_short));
    changed::tell(&mut event, before.as_ref(), Some(&state_of(&after, input.allow_short)));
    state.ledger.commit(vec![event], changes).await.map_err(unrecorded)?;
    Ok(reply(&json!({ "name": name, "version": number, "old_versions_valid_for_seconds": grace })))
}

pub(in crate::http) async fn list(AxumState(state): AxumState<State>, _: Admin) -> Response {
    let now = state.world.now();
    let definitions = state.registry.definitions();
    let view = |credential: &Arc<Credential>| {
        let uses = |one: &CompiledUpstream| {
            one.definition().inject.credential().is_some_and(|(name, _)| *name == *credential.name)
        };
        let used_by = definitions.upstreams().filter(|one| uses(one));
        let versions = credential.usable(now).map(|version| {
            json!({ "version": version.version, "created_at": version.created_at, "expires_at": version.expires_at })
        });
        json!({
            "name": &*credential.name,
            "versions": versions.collect::<Vec<_>>(),
            "redacted": !credential.allow_short,
            "revoked_at": credential.revoked_at,
            "used_by": used_by.map(|one| one.name().to_string()).collect::<Vec<_>>(),
        })
    };
    let credentials: Vec<Value> = state.registry.credentials().iter().map(view).collect();
    reply(&json!({ "credentials": credentials }))
}

pub(in crate::http) async fn revoke(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
    Input(reason): Input<Reason>,
) -> Result<Response, Problem> {
    let revoked = async {
        let reason = reason.checked()?;
        let _turn = state.one_admin_at_a_time.lock().await;
        let credential = state.registry.credential(&name).ok_or_else(|| unknown(&name))?;
        let mut event = Event::new(EventKind::Revocation);
        let base = admin.event("credential", &name);
        (event.admin, event.action, event.object) = (base.admin, base.action, base.object);
        (event.request, event.client) = (base.request, base.client);
        event.reason = reason.map(Arc::from);
        let now = state.world.now();
        let state_of = |at: Option<i64>| json!({ "revoked_at": at, "versions": versions(&credential) });
        changed::tell(&mut event, Some(&state_of(credential.revoked_at)), Some(&state_of(Some(now))));
        let revoked = Credential { revoked_at: Some(now), ..Credential::clone(&credential) };
        state.ledger.commit(vec![event], vec![Change::PutCredential(Arc::new(revoked))]).await.map_err(unrecorded)
    };
    revoked.await.map_err(|error| admin.problem(error))?;
    Ok(reply(&json!({ "name": name, "revoked": true })))
}

pub(in crate::http) async fn remove(
    AxumState(state): AxumState<State>,
    admin: Admin,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<Response, Problem> {
    let removed = async {
        let _turn = state.one_admin_at_a_time.lock().await;
        let credential = state.registry.credential(&name).ok_or_else(|| unknown(&name))?;
        if credential.revoked_at.is_none() {
            let definitions = state.registry.definitions();
            let users = definitions
                .upstreams()
                .filter(|one| one.definition().inject.credential().is_some_and(|(used, _)| used == name));
            let users: Vec<&str> = users.map(|one| &**one.name()).collect();
            if !users.is_empty() && !force {
                let text = format!(
                    "credential '{name}' is in use by upstream {}, and its value cannot be brought back; point that upstream at \
                     another one first, or remove it all the same (--yes)",
                    users.join(", ")
                );
                return Err(Error::conflict("credential_in_use", text));
            }
        }
        let mut event = admin.event("credential remove", &name);
        changed::tell(&mut event, Some(&json!({ "versions": versions(&credential) })), None);
        let change = Change::RemoveCredential { id: credential.id.clone(), name: credential.name.clone() };
        state.ledger.commit(vec![event], vec![change]).await.map_err(unrecorded)
    };
    removed.await.map_err(|error| admin.problem(error))?;
    Ok(reply(&json!({ "name": name, "removed": true })))
}

/// Whether it goes although it is in use.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Force {
    #[serde(default)]
    force: bool,
}

/// A record names versions, never values.
fn versions(credential: &Credential) -> Vec<u32> {
    credential.versions.iter().map(|one| one.version).collect()
}

fn unknown(name: &str) -> Error {
    Error::not_found(
        "credential_unknown",
        format!("there is no credential '{}'; see 'hallpass credential list'", name.escape_debug()),
    )
}
