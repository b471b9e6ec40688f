//! The whole of a gateway's check, against genuine tokens whose private keys nobody has (`testdata/make.py` made them)
//! and against tokens that are signed here with whatever claims a case needs.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::*;

pub(crate) const ISSUER: &str = "https://broker.example";
pub(crate) const AUDIENCE: &str = "https://broker.example/exchange";
pub(crate) const NOW: Seconds = 1_000_000;
const JWKS: &str = include_str!("../testdata/jwks.json");
const LIST: &str = include_str!("../testdata/revocations.jwt");
const GENUINE: [&str; 3] = [
    include_str!("../testdata/eddsa.jwt"),
    include_str!("../testdata/es256.jwt"),
    include_str!("../testdata/rs256.jwt"),
];

/// A key of the tests, of whatever seed.
pub(crate) struct Signer(Ed25519KeyPair);

impl Signer {
    pub(crate) fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&header(), claims)
    }

    pub(crate) fn list(&self, kid: &str, claims: &Value) -> String {
        self.sign(&json!({ "typ": REVOCATIONS_TYP, "alg": "EdDSA", "kid": kid }), claims)
    }
}

pub(crate) fn jwks(keys: &[Value]) -> KeySet {
    KeySet::from_json(&json!({ "keys": keys }).to_string()).unwrap()
}

fn header() -> Value {
    json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "k1" })
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "ag_1", "client_id": "ag_1", "aud": AUDIENCE, "iat": NOW, "exp": NOW + 300,
        "jti": "tk_1", "scope": "crm:read crm:write", "sid": "se_1",
    })
}

pub(crate) fn list_claims(revoked: Value) -> Value {
    json!({ "iss": ISSUER, "iat": NOW, "version": 2, "max_age": 20, "revoked": revoked })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object.as_object_mut().unwrap().insert(name.to_owned(), value);
    object
}

fn check(verifier: &TokenVerifier, keys: &KeySet, token: &str, now: Seconds) -> Result<Claims, Refusal> {
    verifier.verify(token, keys, &RevocationSet::default(), |aud| aud == AUDIENCE, &Possession::NONE, now)
}

fn refused(token: &str) -> Option<Refusal> {
    let keys = jwks(&[Signer::new(1).jwk("k1")]);
    check(&TokenVerifier::new(ISSUER, 5, 10), &keys, token, NOW).err()
}

fn one(entry: RevocationEntry) -> RevocationSet {
    std::iter::once(entry).collect()
}

#[test]
fn each_algorithm_verifies_by_its_own_key_and_no_other() {
    let keys = KeySet::from_json(JWKS).unwrap();
    assert_eq!((keys.len(), keys.is_empty()), (3, false));
    for (token, kid) in GENUINE.into_iter().zip(["key-eddsa", "key-es256", "key-rs256"]) {
        let verifier = TokenVerifier::new(ISSUER, 5, 10);
        let claims = check(&verifier, &keys, token, NOW).unwrap();
        assert_eq!((claims.kid(), claims.sub.as_str()), (kid, "ag_one"));
        assert_eq!(claims.scope.to_string(), "crm:contacts.read crm:contacts.write");
        assert!(keys.contains(kid) && claims.aud.contains(AUDIENCE) && !claims.aud.contains("https://x.example"));

        // One bit of the signature.
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[9] ^= 1;
        let altered = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(check(&verifier, &keys, &altered, NOW).err(), Some(Refusal::BadSignature), "{kid}");
    }
    assert!(KeySet::default().is_empty() && !KeySet::default().contains("key-eddsa"));
}

#[test]
fn rfc7517_s5_keys_of_another_kind_are_passed_over() {
    let good = Signer::new(1).jwk("k1");
    let keys = jwks(&[
        good.clone(),
        with(good.clone(), "alg", json!("HS256")),
        with(with(good.clone(), "kid", json!("k2")), "alg", json!("ES256")),
        json!({ "kty": "oct", "k": "AAAA", "kid": "k3", "alg": "HS256" }),
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": good["x"] }),
    ]);
    // RFC 7517 §4.2, §4.3: what it is meant for, where it says so.
    for (name, value, is_good) in [
        ("use", json!("sig"), true),
        ("use", json!("enc"), false),
        ("use", json!("other"), false),
        ("key_ops", json!(["verify"]), true),
        ("key_ops", json!(["sign"]), false),
        ("key_ops", json!([]), false),
        ("key_ops", json!(["verify", "encrypt"]), false),
    ] {
        assert_eq!(jwks(&[with(good.clone(), name, value.clone())]).len(), usize::from(is_good), "{name} {value}");
    }
    // RFC 7518 §3.4: ES256 is for P-256.
    let all: Value = serde_json::from_str(JWKS).unwrap();
    let p256 = all["keys"].as_array().unwrap().iter().find(|key| key["crv"] == "P-256").unwrap().clone();
    assert_eq!(jwks(std::slice::from_ref(&p256)).len(), 1);
    assert!(jwks(&[with(p256, "crv", json!("P-384"))]).is_empty());
    assert_eq!(keys.len(), 1);
    assert!(keys.contains("k1") && !keys.contains("k2") && !keys.contains("k3"));
    assert!(matches!(KeySet::from_json("{}"), Err(KeySetError::Malformed(_))));
}

#[test]
fn a_token_must_look_like_one() {
    let signer = Signer::new(1);
    let good = signer.token(&claims());
    assert_eq!(refused(&good), None);
    for (header, refusal) in [
        (with(header(), "typ", json!("JWT")), Refusal::WrongType),
        (with(header(), "typ", json!("text/at+jwt")), Refusal::WrongType),
        (with(header(), "typ", json!("application/jwt")), Refusal::WrongType),
        (with(header(), "typ", json!(REVOCATIONS_TYP)), Refusal::WrongType),
        (json!({ "alg": "EdDSA", "kid": "k1" }), Refusal::WrongType),
        (json!({ "alg": "EdDSA", "typ": "at+jwt" }), Refusal::UnknownKey),
        (with(header(), "kid", json!("k2")), Refusal::UnknownKey),
        (with(header(), "alg", json!("none")), Refusal::WrongAlgorithm),
        (with(header(), "alg", json!("ES256")), Refusal::WrongAlgorithm),
        (with(header(), "alg", json!("HS256")), Refusal::WrongAlgorithm),
        (with(header(), "crit", json!(["exp"])), Refusal::Malformed),
        (with(header(), "jwk", signer.jwk("k1")), Refusal::Malformed),
        (with(header(), "jku", json!("https://evil.example/jwks")), Refusal::Malformed),
        (with(header(), "x5u", json!("https://evil.example/cert")), Refusal::Malformed),
        (with(header(), "x5c", json!(["MIIB"])), Refusal::Malformed),
    ] {
        assert_eq!(refused(&signer.sign(&header, &claims())), Some(refusal), "{header}");
    }
    // RFC 7515 §4.1.9: the type may be written in full, and in any case.
    assert_eq!(refused(&signer.sign(&with(header(), "typ", json!("Application/AT+JWT")), &claims())), None);
    for text in ["", "a.b", "a.b.c", "..", &format!("{good}."), &format!("x{good}"), &good.replace('.', " ")] {
        assert_eq!(refused(text), Some(Refusal::Malformed), "{text}");
    }
    assert_eq!(refused(&Signer::new(2).token(&claims())), Some(Refusal::BadSignature));
    assert_eq!(refused(&signer.token(&json!({ "iss": ISSUER }))), Some(Refusal::Malformed));
    assert_eq!(refused(&signer.token(&with(claims(), "scope", json!("a  b")))), Some(Refusal::Malformed));
    assert_eq!(refused(&signer.token(&with(claims(), "iss", json!("https://x.example")))), Some(Refusal::WrongIssuer));
    assert_eq!(refused(&signer.token(&with(claims(), "cnf", json!({ "jkt": "x" })))), Some(Refusal::Bound));
    assert_eq!(refused(&signer.token(&with(claims(), "aud", json!("x")))), Some(Refusal::WrongAudience));
    assert_eq!(refused(&signer.token(&with(claims(), "aud", json!(["x", AUDIENCE])))), None);
}

#[test]
fn a_token_of_8_kib_is_read_and_a_longer_one_is_not() {
    assert_eq!(MAX_TOKEN_BYTES, 8192);
    let signer = Signer::new(1);
    let padded = |header_pad: usize, pad: usize| {
        let header = with(header(), "cty", json!("a".repeat(header_pad)));
        signer.sign(&header, &with(claims(), "sub", json!("a".repeat(pad))))
    };
    let sized = |len: usize| {
        let about = (len - padded(0, 0).len()) * 3 / 4;
        let pads = (0..3).flat_map(|header| (about - 4..about + 4).map(move |pad| (header, pad)));
        pads.map(|(header, pad)| padded(header, pad)).find(|token| token.len() == len).expect("some padding fits")
    };
    let (longest, longer) = (sized(MAX_TOKEN_BYTES), sized(MAX_TOKEN_BYTES + 1));
    assert_eq!((refused(&longest), refused(&longer)), (None, Some(Refusal::Malformed)));
    assert!(Unverified::parse(&longest, "at+jwt").is_ok());
    assert_eq!(Unverified::parse(&longer, "at+jwt").err(), Some(Refusal::Malformed));
}

#[test]
fn a_token_lives_from_its_iat_within_the_leeway_until_its_exp_and_not_a_second_longer() {
    let (keys, token) = (jwks(&[Signer::new(1).jwk("k1")]), Signer::new(1).token(&claims()));
    for leeway in [5, 0] {
        let at = |now| check(&TokenVerifier::new(ISSUER, leeway, 10), &keys, &token, now).err();
        let earliest = NOW - leeway.max(1);
        assert_eq!(at(earliest - 1), Some(Refusal::NotYetValid));
        assert_eq!((at(earliest), at(NOW), at(NOW + 299)), (None, None, None));
        assert_eq!((at(NOW + 300), at(NOW + 301)), (Some(Refusal::Expired), Some(Refusal::Expired)));
    }
}

#[test]
fn a_token_seen_before_is_asked_all_but_its_signature_again() {
    let (keys, token) = (jwks(&[Signer::new(1).jwk("k1")]), Signer::new(1).token(&claims()));
    let verifier = TokenVerifier::new(ISSUER, 5, 10);
    assert!(check(&verifier, &keys, &token, NOW).is_ok());
    assert_eq!(check(&verifier, &KeySet::default(), &token, NOW).err(), Some(Refusal::UnknownKey));
    assert_eq!(check(&verifier, &keys, &token, NOW + 300).err(), Some(Refusal::Expired));
    let revoked = one(RevocationEntry::Token { jti: "tk_1".into() });
    let verdict = verifier.verify(&token, &keys, &revoked, |_| true, &Possession::NONE, NOW);
    assert_eq!(verdict.err(), Some(Refusal::Revoked(RevokedBy::Token)));
    assert_eq!(
        verifier.verify(&token, &keys, &RevocationSet::default(), |_| false, &Possession::NONE, NOW).err(),
        Some(Refusal::WrongAudience)
    );
    // For the record of a refusal: whose it was, dead or not; but never of one that is no token of ours.
    assert_eq!(verifier.identify(&token, &keys).unwrap().jti, "tk_1");
    assert!(verifier.identify(&Signer::new(2).token(&claims()), &keys).is_err());
}

#[test]
fn each_kind_of_revocation_hits_what_it_names_and_nothing_else() {
    let keys = jwks(&[Signer::new(1).jwk("k1")]);
    let token = check(&TokenVerifier::new(ISSUER, 5, 10), &keys, &Signer::new(1).token(&claims()), NOW).unwrap();
    let agent = |client_id: &str, before| RevocationEntry::Agent { client_id: client_id.into(), before };
    for (entry, by) in [
        (RevocationEntry::Token { jti: "tk_1".into() }, Some(RevokedBy::Token)),
        (RevocationEntry::Token { jti: "tk_2".into() }, None),
        (RevocationEntry::Session { sid: "se_1".into() }, Some(RevokedBy::Session)),
        (RevocationEntry::Session { sid: "tk_1".into() }, None),
        (RevocationEntry::Key { kid: "k1".into() }, Some(RevokedBy::Key)),
        (RevocationEntry::Key { kid: "k2".into() }, None),
        (agent("ag_1", NOW + 1), Some(RevokedBy::Agent)),
        (agent("ag_1", NOW), None),
        (agent("ag_1", NOW - 1), None),
        (agent("ag_2", NOW + 1), None),
    ] {
        assert_eq!(one(entry.clone()).find(&token), by, "{entry:?}");
    }
    let set: RevocationSet = [agent("ag_1", 7), agent("ag_1", 9), agent("ag_1", 8)].into_iter().collect();
    assert_eq!(set.agent_cut("ag_1"), Some(AgentCut { before: 9 }), "the later cut counts");
    assert_eq!((set.agent_cut("ag_2"), set.len(), set.is_empty()), (None, 1, false));
    let kinds = ["jti", "sid", "kid"].map(|kind| json!({ kind: "x" })).into_iter();
    let kinds = kinds.chain([json!({ "jti": "y" }), json!({ "client_id": "x", "before": 1 })]);
    let all: Vec<RevocationEntry> = serde_json::from_value(kinds.collect()).unwrap();
    let all: RevocationSet = all.into_iter().collect();
    assert!(all.len() == 5 && all.has_key("x") && !all.has_key("y"));
    assert!(RevocationSet::default().is_empty() && RevocationSet::default().find(&token).is_none());
}

#[test]
fn p3_a_list_of_a_lower_epoch_never_takes_the_place_of_another() {
    let list = |version, issued_at| RevocationList {
        set: RevocationSet::default(),
        issued_at,
        max_age: 30,
        version,
        kid: "k".into(),
    };
    let held = list(7, NOW);
    for (version, iat, may) in [
        (7, NOW, true),
        (7, NOW + 1, true),
        (7, NOW - 1, false),
        (8, NOW - 20, true),
        (6, NOW + 20, false),
        (6, NOW, false),
    ] {
        let outcome = list(version, iat).may_replace(&held);
        assert_eq!(outcome.is_ok(), may, "epoch {version}, iat {iat}: {outcome:?}");
    }
}

#[test]
fn a_list_counts_by_its_signature_issuer_and_time() {
    let keys = KeySet::from_json(JWKS).unwrap();
    let list = RevocationList::verify(LIST, &keys, ISSUER, 5, NOW).unwrap();
    assert_eq!((list.issued_at(), list.version()), (NOW, 7));
    assert_eq!(list.fresh(30, NOW).unwrap().len(), 4);
    let read = |leeway, now| RevocationList::verify(LIST, &keys, ISSUER, leeway, now).map(drop);
    assert_eq!((read(5, NOW - 5), read(0, NOW)), (Ok(()), Ok(())));
    assert_eq!(read(5, NOW - 6), Err(Refusal::NotYetValid), "its age could not be told");
    let other = RevocationList::verify(LIST, &keys, "https://x.example", 5, NOW);
    assert_eq!(other.err(), Some(Refusal::WrongIssuer));
    for text in [GENUINE[0], "a.b.c", ""] {
        assert!(RevocationList::verify(text, &keys, ISSUER, 5, NOW).is_err(), "{text}");
    }

    // The stricter of the two bounds counts, to the second.
    let fresh = |bound, now| list.fresh(bound, now).is_ok();
    assert!(fresh(99, NOW + 30) && !fresh(99, NOW + 31) && fresh(10, NOW + 10) && !fresh(10, NOW + 11));
}

#[test]
fn a_list_of_megabytes_is_read_and_an_endless_one_is_not() {
    let (signer, keys) = (Signer::new(1), jwks(&[Signer::new(1).jwk("k1")]));
    let list = |mib: usize| signer.list("k1", &list_claims(json!([{ "jti": "a".repeat(mib * 1024 * 1024) }])));
    let read = |jwt: &str| RevocationList::verify(jwt, &keys, ISSUER, 5, NOW).map(drop);
    let (long, endless) = (list(1), list(13));
    assert!(long.len() > 1024 * 1024 && endless.len() > 16 * 1024 * 1024);
    assert_eq!((read(&long), read(&endless)), (Ok(()), Err(Refusal::Malformed)));
}

#[test]
fn a_gateway_fails_closed() {
    let (signer, thief) = (Signer::new(1), Signer::new(2));
    let keys = json!({ "keys": [signer.jwk("k1"), thief.jwk("stolen")] }).to_string();
    let token = signer.token(&claims());
    let list = |revoked: Value, iat: Seconds, version: u64| {
        let claims = with(with(list_claims(revoked), "iat", json!(iat)), "version", json!(version));
        signer.list("k1", &claims)
    };
    let gateway = Gateway::new(GatewaySettings::new(ISSUER, AUDIENCE));
    assert_eq!(gateway.verify(&token, NOW).err(), Some(Refusal::ListStale), "it has heard nothing yet");
    assert_eq!(gateway.set_revocations(&list(json!([]), NOW, 2), NOW), Err(Refusal::UnknownKey));
    gateway.set_jwks(&keys).unwrap();
    assert!(gateway.set_jwks("no JWKS").is_err());
    gateway.set_revocations(&list(json!([]), NOW, 2), NOW).unwrap();
    assert_eq!(gateway.verify(&token, NOW).unwrap().jti, "tk_1");
    assert_eq!(gateway.verify(&token, NOW + 20).map(drop), Ok(()));
    assert_eq!(gateway.verify(&token, NOW + 21).err(), Some(Refusal::ListStale), "the list's own bound");
    let elsewhere = signer.token(&with(claims(), "aud", json!("https://x.example")));
    assert_eq!(gateway.verify(&elsewhere, NOW).err(), Some(Refusal::WrongAudience));

    // Younger, by its epoch and then by time, replaces; the same does no harm; older does not.
    gateway.set_revocations(&list(json!([{ "jti": "tk_1" }, { "kid": "stolen" }]), NOW, 3), NOW).unwrap();
    assert_eq!(gateway.verify(&token, NOW).err(), Some(Refusal::Revoked(RevokedBy::Token)));
    gateway.set_revocations(&list(json!([{ "jti": "tk_1" }, { "kid": "stolen" }]), NOW, 3), NOW).unwrap();
    assert_eq!(gateway.set_revocations(&list(json!([]), NOW, 2), NOW), Err(Refusal::ListStale));
    assert_eq!(gateway.set_revocations(&list(json!([]), NOW - 1, 3), NOW), Err(Refusal::ListStale));
    assert_eq!(gateway.set_revocations(&list(json!([]), NOW + 1, 2), NOW + 1), Err(Refusal::ListStale));
    let by_thief = thief.list("stolen", &with(list_claims(json!([])), "iat", json!(NOW + 1)));
    assert_eq!(gateway.set_revocations(&by_thief, NOW + 1), Err(Refusal::Revoked(RevokedBy::Key)));
    assert!(gateway.verify(&token, NOW).is_err());
    // The epoch never falls, whatever starts again.
    gateway.set_revocations(&list(json!([]), NOW + 1, 4), NOW + 1).unwrap();
    assert_eq!(gateway.verify(&token, NOW + 1).map(drop), Ok(()));
}

#[test]
fn codes_are_stable_and_each_its_own() {
    use Refusal::*;
    let all = [
        Malformed,
        WrongType,
        WrongAlgorithm,
        UnknownKey,
        BadSignature,
        WrongIssuer,
        WrongAudience,
        Expired,
        NotYetValid,
        Bound,
        ListStale,
        Suspended,
        Revoked(RevokedBy::Token),
        Revoked(RevokedBy::Session),
        Revoked(RevokedBy::Agent),
        Revoked(RevokedBy::Key),
    ];
    let codes: std::collections::BTreeSet<_> = all.iter().map(|refusal| refusal.code()).collect();
    assert_eq!(codes.len(), all.len());
    assert_eq!((Expired.code(), Revoked(RevokedBy::Session).code()), ("token_expired", "session_revoked"));
}

#[test]
fn rfc7519_s4_1_3_aud_travels_as_one_text_or_as_an_array() {
    for (wire, values) in [(json!("a"), &["a"][..]), (json!(["a", "b"]), &["a", "b"]), (json!([]), &[])] {
        let audience: Audience = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(audience.0, values);
        assert_eq!(serde_json::to_value(&audience).unwrap(), wire);
    }
}

#[test]
fn rfc8693_s4_1_an_actor_holds_those_before_it_inside() {
    let actor = Actor::chain(["c", "b", "a"].into_iter()).unwrap();
    assert_eq!(actor.ids().collect::<Vec<_>>(), ["c", "b", "a"]);
    let wire = json!({ "sub": "c", "act": { "sub": "b", "act": { "sub": "a" } } });
    assert_eq!(serde_json::to_value(&actor).unwrap(), wire);
    assert_eq!(serde_json::from_value::<Actor>(wire).unwrap(), actor);
    assert_eq!(Actor::chain(std::iter::empty()), None);
}

#[test]
fn as_many_actors_as_may_be_and_no_more() {
    let with = |count: usize| {
        let mut claims = claims();
        let names: Vec<_> = (0..count).map(|n| format!("ag_{n}")).collect();
        claims["act"] = serde_json::to_value(Actor::chain(names.iter().map(String::as_str))).unwrap();
        refused(&Signer::new(1).token(&claims))
    };
    assert_eq!(with(1), None);
    assert_eq!(with(MAX_ACTORS), None);
    assert_eq!(with(MAX_ACTORS + 1), Some(Refusal::Malformed));
}
