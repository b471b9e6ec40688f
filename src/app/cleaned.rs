//! What earlier versions stored of admins' files as they came, reduced to what the files were asked for.
//!
//! A CA file could bring its private key along: into the database, and on every screen that showed the definition.

use std::sync::Arc;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::{Agent, Change, Event, EventKind, public};
use crate::store::{Everything, Store};

/// The reason in the record of a private key that was stored.
const REMOVED: &str = "private_key_removed";

/// Reduces what was loaded; gives the changes that do the same to the database, and the records that tell of them.
pub(super) fn reduce(everything: &mut Everything) -> Result<(Vec<Event>, Vec<Change>)> {
    let (mut events, mut changes) = (Vec::new(), Vec::new());
    for definition in &mut everything.definitions {
        let Some((body, had_key)) = reduced(&definition.body)? else { continue };
        definition.body.clone_from(&body);
        let (kind, name) = (definition.kind, definition.name.clone());
        events.push(record_of(kind.as_str(), &name, had_key));
        changes.push(Change::PutDefinition { kind, name, body });
    }
    for agent in everything.agents.iter_mut().filter(|agent| !agent.identity.methods.is_empty()) {
        let mut identity = agent.identity.clone();
        identity.keep_public();
        if identity != agent.identity {
            agent.identity = identity;
            events.push(record_of("agent", &agent.name, false));
            changes.push(Change::PutAgent(Arc::new(Agent::clone(agent))));
        }
    }
    Ok((events, changes))
}

/// A definition's JSON without what its files held besides, and whether that was a private key. `None`: it is as it
/// should be.
fn reduced(body: &str) -> Result<Option<(String, bool)>> {
    let mut value: Value = serde_json::from_str(body).map_err(Error::internal)?;
    let mut had_key = false;
    let mut changed = false;
    if let Some(Value::String(stored)) = value.get_mut("ca_pem") {
        let (kept, key) = public::certificates_of_stored(stored);
        // Without a certificate and without a key it is nothing that a file ever held; the upstream's check will tell.
        if kept != *stored && (key || !kept.is_empty()) {
            (*stored, had_key, changed) = (kept, key, true);
        }
    }
    if let Some(Value::String(stored)) = value.get_mut("bundle") {
        let key = serde_json::from_str(stored).is_ok_and(|bundle| public::has_private_key(&bundle));
        let kept = if key { Ok("{\"keys\":[]}".to_owned()) } else { public::bundle(stored.as_bytes()) };
        if let Ok(kept) = kept.map_err(drop)
            && kept != *stored
        {
            (*stored, had_key, changed) = (kept, had_key || key, true);
        }
    }
    Ok(changed.then(|| (value.to_string(), had_key)))
}

fn record_of(kind: &str, name: &str, had_key: bool) -> Event {
    if had_key {
        tracing::warn!(
            kind,
            name,
            "a private key was stored with a file of this definition, in the clear; it was removed. Consider that key \
             lost: replace it, and take backups of the database for what holds it"
        );
    }
    let mut event = Event::new(EventKind::Broker);
    event.action = Some("clean stored file".into());
    event.object = Some(format!("{kind} {name}").into());
    event.reason = had_key.then(|| REMOVED.into());
    event
}

/// Whether this record tells of a private key.
pub(super) fn had_private_key(event: &Event) -> bool {
    event.reason.as_deref() == Some(REMOVED)
}

/// A row that was overwritten stays in the pages of the file until they are used again: whoever copies the file reads it.
pub(super) async fn wipe(store: &Store) {
    if let Err(error) = store.wipe_deleted_definitions().await {
        tracing::error!(
            %error,
            "the private key that was removed may still be in the database's files: stop the broker and run VACUUM on the \
             database (sqlite3 FILE VACUUM, or psql -c 'VACUUM FULL definitions')"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        let made = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let clean = public::certificates(cert.as_bytes()).unwrap();
        let body = |pem: &str| json!({ "name": "crm", "ca_pem": pem }).to_string();
        assert_eq!(reduced(&body(&clean)).unwrap(), None);
        assert_eq!(reduced(&body(&format!("# x\n{clean}"))).unwrap(), Some((body(&clean), false)));
        assert_eq!(reduced(&body(&format!("{key}{clean}"))).unwrap(), Some((body(&clean), true)));
        assert_eq!(reduced(&body("x")).unwrap(), None);
        assert_eq!(reduced(r#"{"name":"crm"}"#).unwrap(), None);

        let domain = |bundle: &str| json!({ "bundle": bundle, "name": "a" }).to_string();
        assert_eq!(reduced(&domain(r#"{"keys":[]}"#)).unwrap(), None);
        let private = r#"{"keys":[{"kty":"EC","d":"AA"}]}"#;
        assert_eq!(reduced(&domain(private)).unwrap(), Some((domain(r#"{"keys":[]}"#), true)));
    }
}
