#![allow(clippy::disallowed_methods, reason = "keys of the tests, made here, need randomness")]

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::*;
use crate::tests::{self as tokens, AUDIENCE, ISSUER, Signer};
use crate::{Gateway, GatewaySettings, RevocationSet, TokenVerifier};

const NOW: Seconds = 1_800_000_000;
const URL: &str = "https://hp.example.com/exchange/crm/v1/contacts";
const TOKEN: &str = "header.claims.signature";

/// RFC 9449 §4.1, Figure 1 and §5, Figure 3.
const RFC_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

struct Holder {
    ed: bool,
    pkcs8: Vec<u8>,
}

impl Holder {
    fn es256() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self { ed: false, pkcs8: pkcs8.as_ref().to_vec() }
    }

    fn ed25519() -> Self {
        Self { ed: true, pkcs8: Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec() }
    }

    fn ec(&self) -> EcdsaKeyPair {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8, &SystemRandom::new()).unwrap()
    }

    fn jwk(&self) -> Value {
        if self.ed {
            let key = Ed25519KeyPair::from_pkcs8(&self.pkcs8).unwrap();
            return json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.public_key()) });
        }
        let point = self.ec().public_key().as_ref().to_vec();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]) })
    }

    fn header(&self) -> Value {
        json!({ "typ": "dpop+jwt", "alg": if self.ed { "EdDSA" } else { "ES256" }, "jwk": self.jwk() })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = if self.ed {
            Ed25519KeyPair::from_pkcs8(&self.pkcs8).unwrap().sign(message.as_bytes()).as_ref().to_vec()
        } else {
            self.ec().sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn claims() -> Value {
    let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, TOKEN.as_bytes()));
    json!({ "jti": "one", "htm": "GET", "htu": URL, "iat": NOW, "ath": ath })
}

fn with(mut value: Value, name: &str, member: impl Into<Value>) -> Value {
    value[name] = member.into();
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

fn dpop() -> Dpop {
    Dpop::new(DpopSettings::default())
}

fn check(dpop: &Dpop, proofs: &[&str], now: Seconds) -> Result<Proof, ProofRefusal> {
    dpop.check(&DpopRequest { proofs, method: "GET", url: URL, certificate: None }, Some(TOKEN), now)
}

#[test]
fn rfc9449_s5_the_example_proof_verifies_at_its_time() {
    let request = DpopRequest {
        proofs: &[RFC_PROOF],
        method: "POST",
        url: "https://server.example.com/token",
        certificate: None,
    };
    let dpop = dpop();
    let proof = dpop.check(&request, None, 1_562_262_616).unwrap();
    assert_eq!(proof.key().as_str(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    assert_eq!(proof.spend(1_562_262_616).unwrap().thumbprint(), proof.key());
    assert_eq!(proof.spend(1_562_262_617), Err(ProofRefusal::Replayed));
    assert_eq!(dpop.check(&request, None, 1_562_262_616 + 61).unwrap_err(), ProofRefusal::WrongTime);
    assert_eq!(dpop.check(&request, Some(TOKEN), 1_562_262_616).unwrap_err(), ProofRefusal::WrongToken);
}

#[test]
fn a_good_proof_is_taken_by_each_kind_of_key() {
    for holder in [Holder::es256(), Holder::ed25519()] {
        let proof = holder.sign(&holder.header(), &claims());
        assert!(check(&dpop(), &[&proof], NOW).is_ok());
    }
    let ed = Holder::ed25519();
    let proof = ed.sign(&with(ed.header(), "alg", "Ed25519"), &claims());
    assert!(check(&dpop(), &[&proof], NOW).is_ok(), "RFC 9864's name");
    let holder = Holder::es256();
    let fraction = holder.sign(&with(holder.header(), "kid", "mine"), &with(claims(), "iat", NOW as f64 + 0.5));
    assert!(check(&dpop(), &[&fraction], NOW + 1).is_ok());
}

#[test]
fn rfc9449_s4_3_each_defect_is_refused() {
    use ProofRefusal::*;
    let (holder, other, ed) = (Holder::es256(), Holder::es256(), Holder::ed25519());
    let (head, body) = (holder.header(), claims());
    let mut private = holder.jwk();
    private["d"] = "AAAA".into();
    let key_of = |kty: &str| with(holder.header(), "jwk", json!({ "kty": kty, "k": "AAAA" }));
    let table = [
        ("typ JWT", with(head.clone(), "typ", "JWT"), body.clone(), WrongType),
        ("no typ", without(head.clone(), "typ"), body.clone(), WrongType),
        ("typ of a token", with(head.clone(), "typ", "at+jwt"), body.clone(), WrongType),
        ("none", with(head.clone(), "alg", "none"), body.clone(), WrongAlgorithm),
        ("HS256", with(head.clone(), "alg", "HS256"), body.clone(), WrongAlgorithm),
        ("HS256 with its key", with(key_of("oct"), "alg", "HS256"), body.clone(), WrongAlgorithm),
        ("a shared key", key_of("oct"), body.clone(), BadKey),
        ("no jwk", without(head.clone(), "jwk"), body.clone(), BadKey),
        ("kid instead of jwk", with(without(head.clone(), "jwk"), "kid", "k"), body.clone(), BadKey),
        ("private jwk", with(head.clone(), "jwk", private), body.clone(), BadKey),
        ("jku", with(head.clone(), "jku", "https://evil.example.com/jwks"), body.clone(), BadKey),
        ("x5u", with(head.clone(), "x5u", "https://evil.example.com/x"), body.clone(), BadKey),
        ("x5c", with(head.clone(), "x5c", json!(["AAAA"])), body.clone(), BadKey),
        ("crit", with(head.clone(), "crit", json!(["b64"])), body.clone(), Malformed),
        ("another's jwk", with(head.clone(), "jwk", other.jwk()), body.clone(), BadSignature),
        ("a key of another type", with(head.clone(), "jwk", ed.jwk()), body.clone(), WrongAlgorithm),
        ("ES256 key as EdDSA", with(head.clone(), "alg", "EdDSA"), body.clone(), WrongAlgorithm),
        ("ES256 key as RS256", with(head.clone(), "alg", "RS256"), body.clone(), WrongAlgorithm),
        ("htm", head.clone(), with(body.clone(), "htm", "POST"), WrongMethod),
        ("htm in lower case", head.clone(), with(body.clone(), "htm", "get"), WrongMethod),
        ("no htm", head.clone(), without(body.clone(), "htm"), Malformed),
        ("htu", head.clone(), with(body.clone(), "htu", "https://hp.example.com/exchange/crm/v1"), WrongUrl),
        ("htu of another", head.clone(), with(body.clone(), "htu", URL.replace("hp.", "evil.")), WrongUrl),
        ("no htu", head.clone(), without(body.clone(), "htu"), Malformed),
        ("ath", head.clone(), with(body.clone(), "ath", "AAAA"), WrongToken),
        ("no ath", head.clone(), without(body.clone(), "ath"), WrongToken),
        ("old", head.clone(), with(body.clone(), "iat", NOW - 61), WrongTime),
        ("future", head.clone(), with(body.clone(), "iat", NOW + 6), WrongTime),
        ("far future", head.clone(), with(body.clone(), "iat", i64::MAX), WrongTime),
        ("beyond all numbers", head.clone(), with(body.clone(), "iat", 1e300), WrongTime),
        ("iat as text", head.clone(), with(body.clone(), "iat", NOW.to_string()), Malformed),
        ("no iat", head.clone(), without(body.clone(), "iat"), Malformed),
        ("no jti", head.clone(), without(body.clone(), "jti"), Malformed),
        ("empty jti", head.clone(), with(body.clone(), "jti", ""), Malformed),
        ("long jti", head.clone(), with(body.clone(), "jti", "j".repeat(257)), Malformed),
        ("too long", with(head.clone(), "pad", "p".repeat(8192)), body.clone(), Malformed),
    ];
    for (what, header, claims, refusal) in table {
        let proof = holder.sign(&header, &claims);
        assert_eq!(check(&dpop(), &[&proof], NOW).unwrap_err(), refusal, "{what}");
    }
    let good = holder.sign(&head, &body);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let flipped = signature.chars().rev().collect::<String>();
    for (what, proof) in [
        ("no signature", format!("{signed}.")),
        ("another signature", format!("{signed}.{}", &flipped.replace('_', "-")[..86])),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{good}.")),
        ("padding", format!("{good}=")),
        ("two in one header", format!("{good}, {good}")),
        ("a claim twice", holder.sign_text(&head.to_string(), &body.to_string().replacen('{', r#"{"jti":"two","#, 1))),
        ("nonsense", "x".into()),
        ("nothing", String::new()),
        ("not ASCII", "ü.ü.ü".into()),
    ] {
        let refusal = check(&dpop(), &[&proof], NOW).unwrap_err();
        assert!(matches!(refusal, Malformed | BadSignature), "{what}: {refusal:?}");
    }
    assert_eq!(check(&dpop(), &[], NOW).unwrap_err(), Missing);
    assert_eq!(check(&dpop(), &[&good, &good], NOW).unwrap_err(), Several);
    assert!(check(&dpop(), &[&good], NOW).is_ok());
}

#[test]
fn rfc7517_s4_a_proofs_key_is_used_for_what_it_says_it_is_for() {
    for (holder, own, other) in [(Holder::es256(), "ES256", "EdDSA"), (Holder::ed25519(), "Ed25519", "ES256")] {
        let proof = |name: &str, value: Value| {
            let header = with(holder.header(), "jwk", with(holder.jwk(), name, value));
            check(&dpop(), &[&holder.sign(&header, &claims())], NOW).map(drop)
        };
        for (name, value) in [("alg", json!(own)), ("use", json!("sig")), ("key_ops", json!(["verify"]))] {
            assert_eq!(proof(name, value.clone()), Ok(()), "{name} {value}");
        }
        for alg in [other, "RS256", "ECDH-ES", "none", ""] {
            assert_eq!(proof("alg", json!(alg)), Err(ProofRefusal::WrongAlgorithm), "{alg}");
        }
        for (name, value) in
            [("use", json!("enc")), ("key_ops", json!(["sign"])), ("key_ops", json!(["verify", "deriveKey"]))]
        {
            assert_eq!(proof(name, value.clone()), Err(ProofRefusal::BadKey), "{name} {value}");
        }
        assert_eq!(proof("key_ops", json!("verify")), Err(ProofRefusal::Malformed));
    }
}

#[test]
fn rfc9449_s8_a_nonce_is_asked_for_and_taken() {
    let nonces = DpopNonces::new(&[7; 32]);
    let dpop = Dpop::new(DpopSettings { nonces: Some(nonces.clone()), ..DpopSettings::default() });
    let holder = Holder::es256();
    let said = |nonce: Option<&str>| {
        let claims = nonce.map_or_else(claims, |nonce| with(claims(), "nonce", nonce));
        check(&dpop, &[&holder.sign(&holder.header(), &claims)], NOW).map(|_| ())
    };
    assert_eq!(said(None), Err(ProofRefusal::UseNonce));
    assert_eq!(said(Some("made-up")), Err(ProofRefusal::UseNonce));
    assert_eq!(said(Some(&nonces.current(NOW - 300))), Err(ProofRefusal::UseNonce));
    assert_eq!(said(Some(&nonces.current(NOW - 60))), Ok(()));
    assert_eq!(said(Some(&dpop.nonce(NOW).unwrap())), Ok(()));
    assert_eq!(ProofRefusal::UseNonce.code(), "use_dpop_nonce");
    assert_eq!(ProofRefusal::Replayed.code(), "invalid_dpop_proof");
}

#[test]
fn a_proof_from_before_the_memory_began_is_asked_for_anew() {
    let dpop = Dpop::new(DpopSettings { since: NOW, ..DpopSettings::default() });
    let holder = Holder::es256();
    let made = |iat: Seconds| holder.sign(&holder.header(), &with(claims(), "iat", iat));
    assert_eq!(check(&dpop, &[&made(NOW - 1)], NOW + 1).unwrap_err(), ProofRefusal::UseNonce);
    assert!(check(&dpop, &[&made(NOW)], NOW + 1).is_ok());
}

#[test]
fn a_proof_can_be_spent_as_long_as_it_is_taken_and_only_once() {
    let (dpop, holder) = (dpop(), Holder::ed25519());
    let proof = holder.sign(&holder.header(), &with(claims(), "iat", NOW + 5));
    assert!(check(&dpop, &[&proof], NOW).unwrap().spend(NOW).is_ok());
    for later in [0, 1, 30, 60, 65] {
        let again = check(&dpop, &[&proof], NOW + later).unwrap();
        assert_eq!(again.spend(NOW + later), Err(ProofRefusal::Replayed), "{later}");
    }
    assert_eq!(check(&dpop, &[&proof], NOW + 66).unwrap_err(), ProofRefusal::WrongTime);
    assert_eq!(dpop.remembered(), 1);
    let other = Holder::ed25519();
    let same_jti = other.sign(&other.header(), &claims());
    assert!(check(&dpop, &[&same_jti], NOW).unwrap().spend(NOW).is_ok(), "jti is unique for each key");
}

/// Made with OpenSSL by a key that nobody has kept.
#[test]
fn proofs_by_rsa_keys_are_taken_and_their_padding_is_not_exchangeable() {
    let (rs256, ps256) = (include_str!("vectors/rs256.jwt").trim(), include_str!("vectors/ps256.jwt").trim());
    let said = |proof: &str| {
        let (method, url) = ("POST", "https://server.example.com/token");
        dpop().check(&DpopRequest { proofs: &[proof], method, url, certificate: None }, None, NOW)
    };
    for proof in [rs256, ps256] {
        assert_eq!(said(proof).unwrap().key().as_str(), "m-yFA1LGuR7xpIMK6qfs4PEgD5pMeEELRNl1mfCXQvI");
    }
    let (_, signature) = ps256.rsplit_once('.').unwrap();
    let (signed, _) = rs256.rsplit_once('.').unwrap();
    assert_eq!(said(&format!("{signed}.{signature}")).unwrap_err(), ProofRefusal::BadSignature);
}

#[test]
fn rfc9449_s7_1_a_bound_token_is_let_in_by_its_own_key_and_once_for_each_proof() {
    let (broker, holder, thief) = (Signer::new(1), Holder::es256(), Holder::es256());
    let (keys, verifier, dpop, now) =
        (tokens::jwks(&[broker.jwk("k1")]), TokenVerifier::new(ISSUER, 5, 10), dpop(), tokens::NOW);
    let jkt = |holder: &Holder| {
        serde_json::from_value::<Jwk>(holder.jwk()).unwrap().public().unwrap().thumbprint().as_str().to_owned()
    };
    let bound = broker.token(&with(tokens::claims(), "cnf", json!({ "jkt": jkt(&holder) })));
    let bearer = broker.token(&tokens::claims());
    let proof = |by: &Holder, token: &str, jti: &str| {
        let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
        by.sign(&by.header(), &json!({ "jti": jti, "htm": "GET", "htu": URL, "iat": now, "ath": ath }))
    };
    let said = |token: &str, proof: &str| {
        let request = DpopRequest { proofs: &[proof], method: "GET", url: URL, certificate: None };
        let revoked = RevocationSet::default();
        let claims = verifier.verify_dpop(token, (&keys, &revoked), |_| true, &dpop, &request, now);
        claims.map(|claims| claims.jti.clone()).map_err(|refusal| (refusal.code(), refusal.reason()))
    };
    let good = proof(&holder, &bound, "1");
    assert_eq!(said(&bound, &good).as_deref(), Ok("tk_1"));
    assert_eq!(said(&bound, &good), Err(("invalid_dpop_proof", "dpop_replayed")));
    assert_eq!(said(&bound, &proof(&holder, &bound, "2")).as_deref(), Ok("tk_1"));
    assert_eq!(said(&bound, &proof(&thief, &bound, "1")), Err(("token_bound", "token_bound")));
    assert_eq!(said(&bearer, &proof(&holder, &bearer, "3")), Err(("token_not_bound", "token_not_bound")));
    assert_eq!(said(&bound, &proof(&holder, &bearer, "4")), Err(("invalid_dpop_proof", "dpop_wrong_token")));
    assert_eq!(dpop.remembered(), 2, "only what came with a good token is remembered");
    // A certificate in `cnf` is asked for as well, and here there is none.
    let both = with(tokens::claims(), "cnf", json!({ "jkt": jkt(&holder), "x5t#S256": "AA" }));
    let both = broker.token(&both);
    assert_eq!(said(&both, &proof(&holder, &both, "5")), Err(("token_bound", "token_bound")));
}

#[test]
fn a_gateway_takes_a_proof_with_a_fresh_list_and_for_its_own_audience_only() {
    let (broker, holder, now) = (Signer::new(1), Holder::ed25519(), tokens::NOW);
    let nonces = DpopNonces::new(&[7; 32]);
    let gateway = |audience: &str| {
        let mut settings = GatewaySettings::new(ISSUER, audience);
        settings.dpop.nonces = Some(nonces.clone());
        let gateway = Gateway::new(settings);
        gateway.set_jwks(&json!({ "keys": [broker.jwk("k1")] }).to_string()).unwrap();
        gateway
    };
    let jkt = serde_json::from_value::<Jwk>(holder.jwk()).unwrap().public().unwrap().thumbprint();
    let token = broker.token(&with(tokens::claims(), "cnf", json!({ "jkt": jkt.as_str() })));
    let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
    let said = |gateway: &Gateway, now: Seconds| {
        let nonce = gateway.dpop_nonce(now).unwrap();
        let claims = json!({ "jti": "1", "htm": "GET", "htu": URL, "iat": now, "ath": ath, "nonce": nonce });
        let proof = holder.sign(&holder.header(), &claims);
        let request = DpopRequest { proofs: &[&proof], method: "GET", url: URL, certificate: None };
        gateway.verify_dpop(&token, &request, now).map(|claims| claims.jti.clone()).map_err(DpopRefusal::code)
    };
    let list = broker.list("k1", &tokens::list_claims(json!([])));
    let (ours, others) = (gateway(AUDIENCE), gateway("https://x.example"));
    assert_eq!(said(&ours, now), Err("revocation_list_stale"), "it has heard nothing yet");
    for gateway in [&ours, &others] {
        gateway.set_revocations(&list, now).unwrap();
    }
    assert_eq!(said(&ours, now).as_deref(), Ok("tk_1"));
    assert_eq!(said(&ours, now), Err("invalid_dpop_proof"), "a gateway remembers what was spent");
    assert_eq!(said(&others, now), Err("token_wrong_audience"));
    assert_eq!(said(&ours, now + 21), Err("revocation_list_stale"));
}

#[test]
fn each_reason_has_a_name_of_its_own() {
    use ProofRefusal::*;
    let all = [
        Missing,
        Several,
        Malformed,
        WrongType,
        WrongAlgorithm,
        BadKey,
        BadSignature,
        WrongMethod,
        WrongUrl,
        WrongTime,
        WrongToken,
        UseNonce,
        Replayed,
        TooMany,
    ];
    let names: std::collections::BTreeSet<_> = all.iter().map(|refusal| refusal.reason()).collect();
    assert_eq!(names.len(), all.len());
    assert!(names.iter().all(|name| name.starts_with("dpop_")));
    assert_eq!(
        (DpopRefusal::from(UseNonce).code(), DpopRefusal::from(TooMany).code()),
        (UseNonce.code(), TooMany.code())
    );
}

#[test]
fn a_proof_is_good_up_to_its_limits_and_not_beyond() {
    let holder = Holder::es256();
    let of = |claims: &Value| check(&dpop(), &[&holder.sign(&holder.header(), claims)], NOW).map(drop);
    // `iat`: 5 s ahead, 60 s old.
    for (iat, wanted) in
        [(5, Ok(())), (6, Err(ProofRefusal::WrongTime)), (-60, Ok(())), (-61, Err(ProofRefusal::WrongTime))]
    {
        assert_eq!(of(&with(claims(), "iat", NOW + iat)), wanted, "{iat}");
    }
    assert_eq!(of(&with(claims(), "jti", "j".repeat(MAX_JTI_BYTES))), Ok(()));
    assert_eq!(of(&with(claims(), "jti", "j".repeat(MAX_JTI_BYTES + 1))), Err(ProofRefusal::Malformed));
    // The whole of it: base64url makes lengths in steps, so two numbers are turned until one fits.
    let long = |length: usize| {
        let pads = (5_500..6_200).flat_map(|pad| (1..4).map(move |kid| (pad, kid)));
        let proofs = pads.map(|(pad, kid)| {
            let header = with(holder.header(), "kid", "k".repeat(kid));
            holder.sign(&header, &with(claims(), "pad", "p".repeat(pad)))
        });
        proofs.into_iter().find(|proof| proof.len() == length).unwrap()
    };
    assert!(check(&dpop(), &[&long(8 * 1024)], NOW).is_ok());
    assert_eq!(check(&dpop(), &[&long(8 * 1024 + 1)], NOW).unwrap_err(), ProofRefusal::Malformed);
}
