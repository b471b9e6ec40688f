//! What a record says of an admin's change: what was there before, and what is there now.

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::Event;

/// Texts above this many bytes stand in the record as their digest: a bundle of certificates is in the definition.
const MAX_TEXT: usize = 1024;

/// Writes into the record what changes. Of two states only the fields that differ are kept. No state holds a secret: a
/// credential's is the numbers of its versions.
pub(super) fn tell<T: Serialize>(event: &mut Event, before: Option<&T>, after: Option<&T>) {
    let value = |state: Option<&T>| state.and_then(|state| serde_json::to_value(state).ok()).map(short);
    let (mut before, mut after) = (value(before), value(after));
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (&mut before, &mut after) {
        keep_differences(before, after);
    }
    event.before = before.map(Box::new);
    event.after = after.map(Box::new);
}

fn keep_differences(before: &mut Map<String, Value>, after: &mut Map<String, Value>) {
    let same: Vec<String> =
        before.iter().filter(|(name, value)| after.get(*name) == Some(value)).map(|(name, _)| name.clone()).collect();
    for name in same {
        before.remove(&name);
        after.remove(&name);
    }
}

/// The same with long texts as digests.
fn short(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > MAX_TEXT => {
            Value::String(format!("sha-256:{}", HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref())))
        }
        Value::Array(all) => Value::Array(all.into_iter().map(short).collect()),
        Value::Object(all) => Value::Object(all.into_iter().map(|(name, value)| (name, short(value))).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::EventKind;

    #[test]
    fn only_what_differs_is_told_and_long_texts_are_digests() {
        let told = |before: Option<Value>, after: Option<Value>| {
            let mut event = Event::new(EventKind::Admin);
            tell(&mut event, before.as_ref(), after.as_ref());
            (event.before.map(|one| *one), event.after.map(|one| *one))
        };
        let one = json!({ "name": "crm", "base_url": "https://a.example.com", "scopes": ["x"] });
        let two = json!({ "name": "crm", "base_url": "https://b.example.com", "scopes": ["x"], "new": 1 });
        let differ = (
            Some(json!({ "base_url": "https://a.example.com" })),
            Some(json!({ "base_url": "https://b.example.com", "new": 1 })),
        );
        assert_eq!(told(Some(one.clone()), Some(two)), differ);
        assert_eq!(told(None, Some(one.clone())), (None, Some(one.clone())));
        assert_eq!(told(Some(one.clone()), None), (Some(one), None));
        let (_, after) = told(None, Some(json!({ "ca_pem": "x".repeat(2000), "deep": [{ "pem": "y".repeat(2000) }] })));
        let after = after.unwrap();
        assert!(after["ca_pem"].as_str().unwrap().starts_with("sha-256:"), "{after}");
        assert!(after["deep"][0]["pem"].as_str().unwrap().starts_with("sha-256:"), "{after}");
    }
}
