//! No list but the broker's own is taken, and a list means what its lines say.

use hallpass_verify::{
    Gateway, GatewaySettings, Refusal, RevocationClaims, RevocationEntry, RevocationList, RevocationSet,
};

use crate::fixtures::{AUDIENCE, CLAIMS, ISSUED, ISSUER, JWKS, KEYS, LIST, TOKENS, assemble, signed_part};

/// A list's text, or one to be put together from its parts (see [`assemble`]), or an array of its lines.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.starts_with('[') {
        return lines(text);
    }
    let list = assemble(text);
    let genuine = signed_part(&list) == signed_part(LIST);
    let verified = RevocationList::verify(&list, &KEYS, ISSUER, 5, ISSUED);
    assert!(verified.is_err() || genuine, "a list that nobody signed is good");
    if let Ok(list) = &verified {
        assert!(list.fresh(30, ISSUED + 30).is_ok() && list.fresh(30, ISSUED + 31).is_err());
        assert!(list.fresh(5, ISSUED + 6).is_err(), "the gateway's own bound counts too");
    }

    let gateway = Gateway::new(GatewaySettings::new(ISSUER, AUDIENCE));
    gateway.set_jwks(JWKS).unwrap();
    assert_eq!(gateway.set_revocations(&list, ISSUED).is_ok(), verified.is_ok());
    let verdict = gateway.verify(TOKENS[1].1, ISSUED);
    match verified {
        Ok(_) => assert!(verdict.is_ok()),
        Err(_) => assert_eq!(verdict.map(drop), Err(Refusal::ListStale), "without a list nothing is good"),
    }
}

fn lines(json: &str) {
    let claims = format!(r#"{{"iss":"","iat":0,"version":0,"max_age":0,"revoked":{json}}}"#);
    let Ok(claims) = serde_json::from_str::<RevocationClaims>(&claims) else { return };
    let hit = claims.revoked.iter().any(|line| match line {
        RevocationEntry::Token { jti } => *jti == CLAIMS.jti,
        RevocationEntry::Session { sid } => *sid == CLAIMS.sid,
        RevocationEntry::Agent { client_id, before } => *client_id == CLAIMS.client_id && CLAIMS.iat < *before,
        RevocationEntry::Key { kid } => kid == CLAIMS.kid(),
    });
    let backwards: RevocationSet = claims.revoked.iter().rev().cloned().collect();
    let again = serde_json::to_string(&claims.revoked).unwrap();
    assert_eq!(serde_json::from_str::<Vec<RevocationEntry>>(&again).unwrap(), claims.revoked);
    let set: RevocationSet = claims.revoked.into_iter().collect();
    assert_eq!(set.find(&CLAIMS).is_some(), hit);
    assert_eq!((set.find(&CLAIMS), set.len()), (backwards.find(&CLAIMS), backwards.len()), "their order matters");
}
