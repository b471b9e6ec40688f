use super::*;
use crate::vault::{Label, MasterKey, Purpose};
use crate::world::SystemEntropy;

const NOW: Millis = 1_000;

/// Here nothing was recorded, and nothing leaves.
struct Tests;

impl MayOpenCredentials for Tests {}

fn vault() -> Vault {
    Vault::new(MasterKey::generate(&SystemEntropy).unwrap(), Vec::new())
}

/// Version by version: the secret and when it ends.
fn credential(vault: &Vault, name: &str, versions: &[(&str, Option<Millis>)]) -> Arc<Credential> {
    let id: Arc<str> = format!("cr_{name}").into();
    let version = |(version, (secret, expires_at)): (u32, &(&str, Option<Millis>))| {
        let label = Label { purpose: Purpose::Credential, id: &id, version };
        let sealed = vault.seal(&SystemEntropy, label, &SecretBytes::new(secret.as_bytes().to_vec())).unwrap();
        CredentialVersion { version, sealed, created_at: 0, expires_at: *expires_at }
    };
    let versions = (1..).zip(versions).map(version).collect();
    let (name, id) = (name.into(), id.clone());
    Arc::new(Credential { id, name, allow_short: false, created_at: 0, revoked_at: None, versions })
}

fn choose(credential: &Arc<Credential>, pinned: Option<u32>) -> Result<Stored> {
    Stored::choose(Some(credential.clone()), pinned, "crm", NOW)
}

/// What goes in, and what is looked for beside it.
fn opened(stored: &Stored, vault: &Vault) -> (String, Vec<String>) {
    let text = |secret: &SecretBytes| String::from_utf8(secret.expose().to_vec()).unwrap();
    let material = stored.open(&Tests, vault).unwrap();
    (text(&material.secret), material.others.iter().map(text).collect())
}

#[test]
fn the_newest_version_is_chosen_or_the_pinned_one_while_it_is_good() {
    let vault = vault();
    let key = credential(&vault, "key", &[("old", Some(NOW)), ("pinned", Some(NOW + 1)), ("new", None)]);
    let label = |pinned| choose(&key, pinned).map(|one| one.label().to_string()).map_err(|error| error.code);
    assert_eq!(label(None).as_deref(), Ok("key@3"));
    assert_eq!(label(Some(2)).as_deref(), Ok("key@2"));
    let expired = Err("credential_expired".to_owned());
    for gone in [1, 4] {
        let label = label(Some(gone)).map_err(str::to_owned);
        assert_eq!(label, expired, "a pin never falls back to another version");
    }
    // What may still be echoed is looked for, too.
    assert_eq!(opened(&choose(&key, None).unwrap(), &vault), ("new".into(), vec!["pinned".into()]));
    assert_eq!(opened(&choose(&key, Some(2)).unwrap(), &vault), ("pinned".into(), vec!["new".into()]));
}

#[test]
fn what_is_not_there_or_not_good_says_so() {
    let vault = vault();
    let code = |credential: Option<Arc<Credential>>| Stored::choose(credential, None, "crm", NOW).unwrap_err().code;
    assert_eq!(code(None), "credential_missing");
    assert_eq!(code(Some(credential(&vault, "key", &[]))), "credential_expired");
    let key = credential(&vault, "key", &[("new", None)]);
    let revoked = Arc::new(Credential { revoked_at: Some(1), ..Credential::clone(&key) });
    assert_eq!(code(Some(revoked)), "credential_revoked");
}

#[test]
fn the_same_choice_is_the_same_version_of_the_same_credential() {
    let vault = vault();
    let both = [("a", None), ("b", None)];
    let (one, other) = (credential(&vault, "one", &both), credential(&vault, "other", &both));
    let again = Arc::new(Credential { id: "cr_again".into(), ..Credential::clone(&one) });
    let chosen = |credential, version| choose(credential, Some(version)).unwrap();
    let first = chosen(&one, 1);
    assert!(first.is_same(&chosen(&one, 1)));
    assert!(!first.is_same(&chosen(&one, 2)) && !first.is_same(&chosen(&other, 1)));
    assert!(!first.is_same(&chosen(&again, 1)), "removed and put again under its name");
}

#[test]
fn one_credentials_version_does_not_open_as_anothers() {
    let vault = vault();
    let key = credential(&vault, "key", &[("first", Some(NOW + 1)), ("second", None)]);
    let moved = Arc::new(Credential { id: "cr_other".into(), ..Credential::clone(&key) });
    let error = choose(&moved, None).unwrap().open(&Tests, &vault).err().map(|error| error.code);
    assert_eq!(error, Some("vault_tampered"));
}
