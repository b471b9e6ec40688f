use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use proptest::prelude::*;
use ring::signature::{self, UnparsedPublicKey};
use serde_json::{Value, json};

use super::*;
use crate::secret::SecretBytes;
use crate::world::SystemEntropy;

const ALL: [Algorithm; 3] = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];

fn generate(algorithm: Algorithm) -> (SecretBytes, SigningKey) {
    SigningKey::generate(algorithm, &SystemEntropy).unwrap()
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64URL.decode(text).unwrap()
}

/// Verifies with nothing but the published JSON, as a stranger would.
fn verifies(jwk: &Value, token: &str) -> bool {
    let member = |name: &str| decoded(jwk[name].as_str().unwrap());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (message, signature) = (message.as_bytes(), decoded(signature));
    match jwk["kty"].as_str().unwrap() {
        "EC" => {
            assert_eq!(jwk["crv"], "P-256");
            let point = [vec![4], member("x"), member("y")].concat();
            UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, &signature).is_ok()
        }
        "OKP" => UnparsedPublicKey::new(&signature::ED25519, member("x")).verify(message, &signature).is_ok(),
        "RSA" => signature::RsaPublicKeyComponents { n: member("n"), e: member("e") }
            .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, &signature)
            .is_ok(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_signed_token_verifies_from_the_published_key_alone() {
    for algorithm in ALL {
        let (pkcs8, key) = generate(algorithm);
        let jwk: Value = serde_json::from_str(&key.public().to_json().unwrap()).unwrap();
        assert_eq!(jwk["kid"], key.kid());
        assert_eq!(jwk["alg"], algorithm.as_str());
        assert!(["d", "p", "q", "dp", "dq", "qi", "k"].iter().all(|private| jwk.get(private).is_none()));

        let claims = json!({"iss": "https://broker.example", "n": 1, "text": "ü"});
        for typ in ["at+jwt", "statuslist+jwt", "we\"ird"] {
            let token = key.sign(typ, &claims).unwrap();
            let parts: Vec<&str> = token.split('.').collect();
            let header: Value = serde_json::from_slice(&decoded(parts[0])).unwrap();
            assert_eq!(header, json!({"typ": typ, "alg": algorithm.as_str(), "kid": key.kid()}));
            assert_eq!(serde_json::from_slice::<Value>(&decoded(parts[1])).unwrap(), claims);
            assert_eq!(decoded(parts[2]).len(), if algorithm == Algorithm::Rs256 { 256 } else { 64 });
            assert!(verifies(&jwk, &token));
            let other = BASE64URL.encode(r#"{"iss":"https://evil.example"}"#);
            assert!(!verifies(&jwk, &[parts[0], &other, parts[2]].join(".")));
        }

        let again = SigningKey::from_pkcs8(algorithm, &pkcs8).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicJwk::parse(&key.public().to_json().unwrap()).unwrap(), *key.public());
        assert!(verifies(&jwk, &again.sign("at+jwt", &claims).unwrap()));
        for other in ALL.into_iter().filter(|other| *other != algorithm) {
            assert!(SigningKey::from_pkcs8(other, &pkcs8).is_err());
        }
        assert_eq!(format!("{key:?}"), format!("SigningKey({algorithm} {}, redacted)", key.kid()));
        assert_eq!(key.is_slow(), algorithm == Algorithm::Rs256);
    }
}

#[test]
fn names_keep_their_texts() {
    for algorithm in ALL {
        assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
        assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.as_str());
    }
    assert_eq!(ALL.map(Algorithm::as_str), ["ES256", "EdDSA", "RS256"]);
    assert_eq!(Algorithm::default(), Algorithm::Es256);
    for refused in ["none", "HS256", "es256", ""] {
        assert_eq!(refused.parse::<Algorithm>(), Err(UnknownAlgorithm));
    }
    for state in [KeyState::Next, KeyState::Active, KeyState::Retiring, KeyState::Gone] {
        assert_eq!(state.as_str().parse::<KeyState>().unwrap(), state);
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    assert!("Active".parse::<KeyState>().is_err());
}

fn entry(key: &SigningKey, state: KeyState, created_at: Millis) -> (KeyRecord, PublicJwk) {
    let record = KeyRecord { state, ..KeyRecord::new(key.kid(), key.algorithm(), created_at) };
    (record, key.public().clone())
}

#[test]
fn a_keyring_publishes_next_active_and_retiring_only() {
    let keys: Vec<Arc<SigningKey>> = (0..5).map(|i| Arc::new(generate(ALL[i % 2]).1)).collect();
    let mut revoked = entry(&keys[4], KeyState::Retiring, 0);
    revoked.0.revoked = true;
    let entries = vec![
        revoked,
        entry(&keys[0], KeyState::Next, 40),
        entry(&keys[1], KeyState::Active, 30),
        entry(&keys[2], KeyState::Retiring, 20),
        entry(&keys[3], KeyState::Gone, 10),
    ];
    let keyring = Keyring::new(Arc::clone(&keys[1]), entries.clone()).unwrap();
    let reversed = Keyring::new(Arc::clone(&keys[1]), entries.into_iter().rev().collect()).unwrap();
    assert_eq!(keyring.jwks(), reversed.jwks());
    assert_eq!(keyring.active().kid(), keys[1].kid());
    let published: Vec<&str> = keyring.records().iter().map(|record| record.kid.as_str()).collect();
    assert_eq!(published, [keys[2].kid(), keys[1].kid(), keys[0].kid()]);

    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(keyring.jwks()).unwrap();
    assert_eq!(set.keys.len(), 3);
    for kid in published {
        assert!(jsonwebtoken::DecodingKey::from_jwk(set.find(kid).unwrap()).is_ok());
    }
    let json: Value = serde_json::from_str(keyring.jwks()).unwrap();
    let token = keyring.active().sign("at+jwt", &json!({})).unwrap();
    assert!(json["keys"].as_array().unwrap().iter().any(|jwk| jwk["kid"] == keys[1].kid() && verifies(jwk, &token)));
}

#[test]
fn a_keyring_that_does_not_fit_together_is_refused() {
    let (one, two) = (Arc::new(generate(Algorithm::Es256).1), Arc::new(generate(Algorithm::EdDsa).1));
    let new = |keys| Keyring::new(Arc::clone(&one), keys).is_ok();
    let active = entry(&one, KeyState::Active, 0);
    assert!(new(vec![active.clone()]));
    assert!(!new(vec![]));
    assert!(!new(vec![entry(&one, KeyState::Next, 0)]));
    assert!(!new(vec![active.clone(), entry(&two, KeyState::Active, 0)]));
    assert!(!new(vec![entry(&two, KeyState::Active, 0)]));
    assert!(!new(vec![(active.0.clone(), two.public().clone())]));
    let wrong_algorithm = KeyRecord { algorithm: Algorithm::Rs256, ..active.0.clone() };
    assert!(!new(vec![(wrong_algorithm, active.1.clone())]));
    let revoked = KeyRecord { revoked: true, ..active.0 };
    assert!(!new(vec![(revoked, active.1)]));
}

const POLICY: Policy =
    Policy { algorithm: Algorithm::Es256, rotate_every_ms: 1_000, publish_ahead_ms: 100, retire_after_ms: 50 };

/// Keys as the schedule sees them: named by a counter.
#[derive(Default)]
struct Shelf {
    records: Vec<KeyRecord>,
    made: usize,
}

impl Shelf {
    fn settle(&mut self, steps: Vec<Step>, now: Millis, policy: &Policy) {
        let made = &mut self.made;
        let generate = |_| {
            *made += 1;
            Ok::<_, Error>(format!("k{made}"))
        };
        self.records = settle(std::mem::take(&mut self.records), steps, now, policy, generate).unwrap();
    }

    fn at(now: Millis) -> Self {
        let mut shelf = Self::default();
        shelf.settle(Vec::new(), now, &POLICY);
        shelf
    }

    fn states(&self) -> String {
        self.records.iter().map(|key| format!("{}={} ", key.kid, key.state)).collect::<String>().trim_end().to_owned()
    }

    fn active(&self) -> &KeyRecord {
        let active: Vec<_> = self.records.iter().filter(|key| key.state == KeyState::Active).collect();
        assert_eq!(active.len(), 1, "{}", self.states());
        active[0]
    }
}

#[test]
fn a_key_goes_through_its_life() {
    let mut shelf = Shelf::at(0);
    assert_eq!(shelf.states(), "k1=active k2=next");
    shelf.settle(Vec::new(), 999, &POLICY);
    assert_eq!(shelf.states(), "k1=active k2=next");
    shelf.settle(Vec::new(), 1_000, &POLICY);
    assert_eq!(shelf.states(), "k1=retiring k2=active k3=next");
    assert_eq!((shelf.records[0].retiring_at, shelf.records[0].gone_at), (Some(1_000), Some(1_050)));
    assert!(shelf.records[0].is_published() && !shelf.records[0].needs_private_half());
    shelf.settle(Vec::new(), 1_049, &POLICY);
    assert_eq!(shelf.states(), "k1=retiring k2=active k3=next");
    shelf.settle(Vec::new(), 1_050, &POLICY);
    assert_eq!(shelf.states(), "k1=gone k2=active k3=next");
    assert!(!shelf.records[0].revoked);
}

#[test]
fn a_next_key_that_is_too_new_is_waited_for() {
    let mut shelf = Shelf::at(0);
    shelf.records[1].created_at = 950;
    assert_eq!(next_ready_at(&shelf.records, &POLICY), Some(1_050));
    assert_eq!(plan(&shelf.records, 1_049, &POLICY), []);
    shelf.settle(Vec::new(), 1_050, &POLICY);
    assert_eq!(shelf.active().kid, "k2");
}

#[test]
fn the_plan_names_its_steps_in_an_order_with_never_two_active_keys() {
    let shelf = Shelf::at(0);
    let expected = [
        Step::Retire { kid: "k1".into(), gone_at: 1_050 },
        Step::Activate("k2".into()),
        Step::Generate(Algorithm::Es256),
    ];
    assert_eq!(plan(&shelf.records, 1_000, &POLICY), expected);
}

#[test]
fn an_admin_rotates_before_the_time() {
    let mut shelf = Shelf::at(0);
    let steps = rotate_now(&shelf.records, 10, &POLICY);
    shelf.settle(steps, 10, &POLICY);
    assert_eq!(shelf.states(), "k1=retiring k2=active k3=next");
    shelf.records.retain(|key| key.state == KeyState::Active);
    let steps = rotate_now(&shelf.records, 20, &POLICY);
    shelf.settle(steps, 20, &POLICY);
    assert_eq!(shelf.states(), "k2=retiring k4=active k5=next");
}

#[test]
fn a_compromised_key_goes_at_once() {
    let mut shelf = Shelf::at(0);
    let steps = retire_now(&shelf.records, "k1", &POLICY).unwrap();
    assert_eq!(steps, [Step::Revoke("k1".into()), Step::Activate("k2".into())]);
    shelf.settle(steps, 10, &POLICY);
    assert_eq!(shelf.states(), "k1=gone k2=active k3=next");
    assert!(shelf.records[0].revoked && !shelf.records[0].is_published() && !shelf.records[0].needs_private_half());
    assert_eq!(shelf.records[0].gone_at, Some(10));

    let steps = retire_now(&shelf.records, "k3", &POLICY).unwrap();
    shelf.settle(steps, 20, &POLICY);
    assert_eq!(shelf.states(), "k1=gone k2=active k3=gone k4=next");

    shelf.settle(rotate_now(&shelf.records, 30, &POLICY), 30, &POLICY);
    let steps = retire_now(&shelf.records, "k2", &POLICY).unwrap();
    shelf.settle(steps, 31, &POLICY);
    assert_eq!(shelf.states(), "k1=gone k2=gone k3=gone k4=active k5=next");

    assert_eq!(retire_now(&shelf.records, "k2", &POLICY).unwrap_err().code, "key_gone");
    assert_eq!(retire_now(&shelf.records, "k9", &POLICY).unwrap_err().code, "key_not_found");

    // Without a next key, one is made.
    shelf.records.retain(|key| key.kid == "k4");
    let steps = retire_now(&shelf.records, "k4", &POLICY).unwrap();
    shelf.settle(steps, 40, &POLICY);
    assert_eq!(shelf.states(), "k4=gone k6=active k7=next");
}

#[test]
fn another_algorithm_comes_with_the_next_key() {
    let mut shelf = Shelf::at(0);
    let policy = Policy { algorithm: Algorithm::EdDsa, ..POLICY };
    shelf.settle(Vec::new(), 950, &policy);
    assert_eq!(shelf.states(), "k1=active k2=gone k3=next");
    assert_eq!(shelf.records[2].algorithm, Algorithm::EdDsa);
    shelf.settle(Vec::new(), 1_000, &policy);
    assert_eq!(shelf.active().kid, "k1", "the new one has not been published for long enough");
    shelf.settle(Vec::new(), 1_050, &policy);
    assert_eq!(shelf.active().algorithm, Algorithm::EdDsa);
}

#[test]
fn two_nodes_that_act_at_once_are_put_right() {
    let mut shelf = Shelf::at(0);
    let key = |kid: &str, state, at| KeyRecord {
        state,
        activated_at: (state == KeyState::Active).then_some(at),
        ..KeyRecord::new(kid, Algorithm::Es256, at)
    };
    shelf.records.extend([key("kA", KeyState::Active, 5), key("kB", KeyState::Next, 5)]);
    shelf.settle(Vec::new(), 10, &POLICY);
    assert_eq!(shelf.states(), "k1=retiring k2=next kA=active kB=gone");
}

#[test]
fn a_policy_under_which_tokens_outlive_their_key_is_refused() {
    assert!(POLICY.check(40, 10).is_ok());
    assert_eq!(POLICY.check(41, 10).unwrap_err().code, "key_policy");
    assert!(Policy { publish_ahead_ms: 1_001, ..POLICY }.check(40, 10).is_err());
    assert!(Policy { publish_ahead_ms: -1, ..POLICY }.check(40, 10).is_err());
    assert!(Policy { rotate_every_ms: 0, publish_ahead_ms: 0, ..POLICY }.check(40, 10).is_err());
    assert!(POLICY.check(Millis::MAX, 10).is_err());
}

#[derive(Debug, Clone)]
enum Event {
    Nothing,
    Rotate,
    Revoke(usize),
    Algorithm(Algorithm),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => Just(Event::Nothing),
        2 => Just(Event::Rotate),
        1 => (0..20_usize).prop_map(Event::Revoke),
        1 => prop::sample::select(ALL.to_vec()).prop_map(Event::Algorithm),
    ]
}

proptest! {
    /// Tokens are signed at every moment, and each lives for `retire_after`, the longest that the policy allows.
    #[test]
    fn one_key_signs_and_none_leaves_before_its_last_token(
        events in proptest::collection::vec((1..700_i64, event()), 1..60),
        rotate_every_ms in 1..2_000_i64,
        ahead in 0..100_i64,
        retire_after_ms in 0..3_000_i64,
    ) {
        let publish_ahead_ms = rotate_every_ms * ahead / 100;
        let mut policy = Policy { algorithm: Algorithm::Es256, rotate_every_ms, publish_ahead_ms, retire_after_ms };
        let mut shelf = Shelf::default();
        let mut now = 0;
        shelf.settle(Vec::new(), now, &policy);
        let mut last_signed: BTreeMap<String, Millis> = BTreeMap::new();
        for (wait, event) in events {
            now += wait;
            // The active key signs until the very moment of the change.
            last_signed.insert(shelf.active().kid.clone(), now);
            let before = shelf.active().kid.clone();
            let mut forced = false;
            let steps = match event {
                Event::Nothing => Vec::new(),
                Event::Rotate => { forced = true; rotate_now(&shelf.records, now, &policy) }
                Event::Revoke(i) => {
                    forced = true;
                    let kid = shelf.records[i % shelf.records.len()].kid.clone();
                    retire_now(&shelf.records, &kid, &policy).unwrap_or_default()
                }
                Event::Algorithm(algorithm) => { policy.algorithm = algorithm; Vec::new() }
            };
            shelf.settle(steps, now, &policy);

            prop_assert_eq!(plan(&shelf.records, now, &policy), vec![], "settled");
            let active = shelf.active();
            prop_assert!(!active.revoked);
            let next: Vec<_> = shelf.records.iter().filter(|key| key.state == KeyState::Next).collect();
            prop_assert_eq!(next.len(), 1);
            prop_assert_eq!(next[0].algorithm, policy.algorithm);
            if active.kid != before && !forced {
                prop_assert!(active.created_at + publish_ahead_ms <= now, "published ahead");
            }
            for key in &shelf.records {
                if let Some(last) = last_signed.get(&key.kid) && !key.revoked && !key.is_published() {
                    prop_assert!(last + retire_after_ms <= now, "{} left too early", key.kid);
                }
            }
        }
    }
}
