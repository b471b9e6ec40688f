//! Credentials: put, rotate, list, revoke, remove. A value comes in here and never goes out.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::manage::value::check_value;
use crate::manage::{Admin, Details, Reason, Refused, Removed, changed, unrecorded};
use crate::model::{Change, Credential, CredentialVersion, Event, EventKind, check_name};
use crate::policy::CompiledUpstream;
use crate::secret::{SecretBytes, random_id};
use crate::vault::{Label, Purpose};
use crate::world::Millis;

/// A credential's value.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutCredential {
    /// The value, in base64 (RFC 4648 §4).
    #[schema(value_type = String)]
    pub value_base64: Zeroizing<String>,
    /// Store it although it is too short to be redacted from answers.
    #[serde(default)]
    pub allow_short: bool,
    /// Store it although it looks as if it held more than the key.
    #[serde(default)]
    pub as_is: bool,
    /// The credential must be there already.
    #[serde(default)]
    pub rotate: bool,
    /// For how many seconds the version before stays usable: 0 to 2592000. Default: 0, with `rotate` 86400.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2_592_000)]
    pub grace_seconds: Option<i64>,
}

/// A value that was stored.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialStored {
    /// The credential's name.
    pub name: String,
    /// The value's version.
    pub version: u32,
    /// For how many seconds the versions before stay usable, at most.
    pub old_versions_valid_for_seconds: i64,
}

/// All credentials.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialList {
    /// By name.
    pub credentials: Vec<CredentialView>,
}

/// A credential; never its value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialView {
    /// Its name.
    pub name: String,
    /// Those that are usable.
    pub versions: Vec<VersionView>,
    /// Whether it is taken out of answers; one that is too short is not.
    pub redacted: bool,
    /// When it was revoked, in unix milliseconds.
    pub revoked_at: Option<Millis>,
    /// The upstreams that take it.
    pub used_by: Vec<String>,
}

/// A version of a credential.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// Counts from 1.
    pub version: u32,
    /// When it was put, in unix milliseconds.
    pub created_at: Millis,
    /// When it stops to be usable, in unix milliseconds; null: never.
    pub expires_at: Option<Millis>,
}

/// A credential that was revoked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialRevoked {
    /// Its name.
    pub name: String,
    /// Always true.
    pub revoked: bool,
}

/// Whether it goes although it is in use.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Force {
    /// Remove it although an upstream uses it.
    #[serde(default)]
    pub force: bool,
}

/// Stores a value: of a new credential, or as a new version of one that is there.
///
/// # Errors
/// Its name or value is bad, it is revoked, there is none to rotate, or nothing can be recorded.
pub async fn put(admin: Admin, name: String, input: PutCredential) -> Result<CredentialStored> {
    let manager = &admin.manager;
    check_name("credential", &name).map_err(|problem| Error::invalid("bad_name", problem))?;
    let value = STANDARD.decode(input.value_base64.as_bytes()).map(SecretBytes::new);
    let value = value.map_err(|_| Error::invalid("bad_value", "value_base64 is not base64"))?;
    check_value(&value, input.allow_short, input.as_is)?;
    let grace = input.grace_seconds.unwrap_or(if input.rotate { 86_400 } else { 0 });
    if !(0..=30 * 86_400).contains(&grace) {
        return Err(Error::invalid("bad_grace", "grace_seconds is 0 to 2592000 (30 days)"));
    }
    let _turn = manager.one_at_a_time.lock().await;
    let now = manager.world.now();
    let there = manager.registry.credential(&name);
    if there.is_none() && input.rotate {
        return Err(unknown(&name));
    }
    if there.as_ref().is_some_and(|credential| credential.revoked_at.is_some()) {
        return Err(Error::conflict(
            "credential_revoked",
            "this credential is revoked; remove it first, then put the new one",
        ));
    }
    let (id, version) = match &there {
        Some(credential) => (credential.id.clone(), credential.current().map_or(1, |one| one.version + 1)),
        None => (random_id("cr_", manager.world.entropy.as_ref()).into(), 1),
    };
    let label = Label { purpose: Purpose::Credential, id: &id, version };
    let sealed = manager.vault.load().seal(manager.world.entropy.as_ref(), label, &value)?;
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
            name: name.as_str().into(),
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
    manager.ledger.commit(vec![event], changes).await.map_err(unrecorded)?;
    Ok(CredentialStored { name, version: number, old_versions_valid_for_seconds: grace })
}

/// All credentials; never their values.
///
/// # Errors
/// None.
pub async fn list(admin: Admin) -> Result<CredentialList> {
    let manager = &admin.manager;
    let now = manager.world.now();
    let definitions = manager.registry.definitions();
    let view = |credential: &Arc<Credential>| {
        let uses = |one: &CompiledUpstream| one.definition().inject.uses(&credential.name);
        let used_by = definitions.upstreams().filter(|one| uses(one));
        let versions = credential.usable(now).map(|one| VersionView {
            version: one.version,
            created_at: one.created_at,
            expires_at: one.expires_at,
        });
        CredentialView {
            name: credential.name.to_string(),
            versions: versions.collect(),
            redacted: !credential.allow_short,
            revoked_at: credential.revoked_at,
            used_by: used_by.map(|one| one.name().to_string()).collect(),
        }
    };
    Ok(CredentialList { credentials: manager.registry.credentials().iter().map(view).collect() })
}

/// Refuses every call that needs it from now on; the credential itself is kept for the record.
///
/// # Errors
/// There is none, the reason is bad, or nothing can be recorded.
pub async fn revoke(admin: Admin, name: String, reason: Reason) -> Result<CredentialRevoked> {
    let reason = reason.checked()?;
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let credential = manager.registry.credential(&name).ok_or_else(|| unknown(&name))?;
    let mut event = Event::new(EventKind::Revocation);
    let base = admin.event("credential", &name);
    (event.admin, event.action, event.object) = (base.admin, base.action, base.object);
    (event.request, event.client) = (base.request, base.client);
    event.reason = reason.map(Arc::from);
    let now = manager.world.now();
    let state_of = |at: Option<i64>| json!({ "revoked_at": at, "versions": versions(&credential) });
    changed::tell(&mut event, Some(&state_of(credential.revoked_at)), Some(&state_of(Some(now))));
    let revoked = Credential { revoked_at: Some(now), ..Credential::clone(&credential) };
    manager.ledger.commit(vec![event], vec![Change::PutCredential(Arc::new(revoked))]).await.map_err(unrecorded)?;
    Ok(CredentialRevoked { name, revoked: true })
}

/// Deletes a credential with all its versions.
///
/// # Errors
/// There is none, an upstream uses it and `force` was not said, or nothing can be recorded.
pub async fn remove(admin: Admin, name: String, Force { force }: Force) -> Result<Removed, Refused> {
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let credential = manager.registry.credential(&name).ok_or_else(|| unknown(&name))?;
    if credential.revoked_at.is_none() {
        let definitions = manager.registry.definitions();
        let users = definitions.upstreams().filter(|one| one.definition().inject.uses(&name));
        let users: Vec<String> = users.map(|one| one.name().to_string()).collect();
        if !users.is_empty() && !force {
            let text = format!(
                "credential '{name}' is in use by upstream {}, and its value cannot be brought back; point that upstream at \
                 another one first, or remove it all the same (--yes)",
                users.join(", ")
            );
            let details = Details { used_by: users, ..Details::default() };
            return Err(Refused { error: Error::conflict("credential_in_use", text), details });
        }
    }
    let mut event = admin.event("credential remove", &name);
    changed::tell(&mut event, Some(&json!({ "versions": versions(&credential) })), None);
    let change = Change::RemoveCredential { id: credential.id.clone(), name: credential.name.clone() };
    manager.ledger.commit(vec![event], vec![change]).await.map_err(unrecorded)?;
    Ok(Removed { name, removed: true })
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
