//! Proof of possession: the key that a token is bound to (RFC 7800 `cnf`), and what the caller proved to hold.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::{ProvenKey, Refusal};

/// `cnf`: the keys that the bearer of a token must prove to hold. A method that this version does not know makes the
/// token malformed: what cannot be checked must not be passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// SHA-256 thumbprint of a client certificate (RFC 8705 §3.1).
    #[serde(rename = "x5t#S256", default, skip_serializing_if = "Option::is_none")]
    pub x5t_s256: Option<CertificateThumbprint>,
    /// SHA-256 thumbprint of a DPoP key (RFC 9449 §6.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<KeyThumbprint>,
}

/// base64url(SHA-256(DER of a certificate)) (RFC 8705 §3.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertificateThumbprint(String);

impl CertificateThumbprint {
    /// Of a certificate in DER. Whether the caller holds its private key is for TLS to say.
    pub fn of_der(certificate: &[u8]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate)))
    }

    /// As it stands in `cnf`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// base64url(SHA-256(canonical public JWK)) (RFC 7638).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyThumbprint(String);

impl KeyThumbprint {
    pub(crate) fn of_digest(digest: &[u8]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(digest))
    }

    /// As it stands in `cnf`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the caller of one request proved, besides having the token's text.
#[derive(Debug, Clone, Default)]
pub struct Possession {
    /// The client certificate of the TLS connection that the request came on.
    pub certificate: Option<CertificateThumbprint>,
    /// The key of a DPoP proof that was verified for this very request and token. Present exactly when the token came
    /// as `Authorization: DPoP` (RFC 9449 §7.1).
    pub proof: Option<ProvenKey>,
}

impl Possession {
    /// Nothing but the token: good for tokens that are bound to no key.
    pub const NONE: Self = Self { certificate: None, proof: None };
}

/// Whether what was proved is what the token asks for.
///
/// # Errors
/// [`Refusal::Bound`] if a key was not proved, or another one was (RFC 8705 §3, RFC 9449 §7.1); [`Refusal::NotBound`]
/// if a token without a key came with a proof: whoever strips `cnf` from nothing must not seem to have proved anything.
pub(crate) fn check(cnf: Option<&Confirmation>, possession: &Possession) -> Result<(), Refusal> {
    let (x5t, jkt) = cnf.map_or((None, None), |cnf| (cnf.x5t_s256.as_ref(), cnf.jkt.as_ref()));
    if cnf.is_some() && x5t.is_none() && jkt.is_none() {
        return Err(Refusal::Malformed);
    }
    if x5t.is_some() && x5t != possession.certificate.as_ref() {
        return Err(Refusal::Bound);
    }
    match (jkt, possession.proof.as_ref().map(ProvenKey::thumbprint)) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(Refusal::NotBound),
        (Some(_), None) => Err(Refusal::Bound),
        (Some(wanted), Some(proved)) if wanted == proved => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::Bound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyThumbprint {
        KeyThumbprint(text.into())
    }

    fn certificate(text: &str) -> CertificateThumbprint {
        CertificateThumbprint(text.into())
    }

    #[test]
    fn rfc8705_appendix_a_the_thumbprint_of_the_example() {
        let der = "MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzEN\
                   MAsGA1UEAwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/co\
                   ZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWU\
                   VeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=";
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, der).unwrap();
        assert_eq!(CertificateThumbprint::of_der(&der).as_str(), "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0");
    }

    #[test]
    fn rfc8705_a_certificate_bound_token_needs_that_certificate() {
        let cnf = Confirmation { x5t_s256: Some(certificate("a")), jkt: None };
        let with = |certificate| check(Some(&cnf), &Possession { certificate, proof: None });
        assert_eq!(with(Some(certificate("a"))), Ok(()));
        assert_eq!(with(Some(certificate("b"))), Err(Refusal::Bound));
        assert_eq!(with(None), Err(Refusal::Bound));
    }

    #[test]
    fn rfc9449_s7_a_dpop_bound_token_needs_a_proof_by_that_key() {
        let cnf = Confirmation { x5t_s256: None, jkt: Some(key("a")) };
        let with = |proof: Option<KeyThumbprint>| {
            check(Some(&cnf), &Possession { certificate: None, proof: proof.map(ProvenKey::of) })
        };
        assert_eq!(with(Some(key("a"))), Ok(()));
        assert_eq!(with(Some(key("b"))), Err(Refusal::Bound));
        assert_eq!(with(None), Err(Refusal::Bound));
    }

    #[test]
    fn both_keys_are_needed_where_both_are_named() {
        let cnf = Confirmation { x5t_s256: Some(certificate("c")), jkt: Some(key("k")) };
        let with = |certificate, proof: Option<KeyThumbprint>| {
            check(Some(&cnf), &Possession { certificate, proof: proof.map(ProvenKey::of) })
        };
        assert_eq!(with(Some(certificate("c")), Some(key("k"))), Ok(()));
        assert_eq!(with(Some(certificate("c")), None), Err(Refusal::Bound));
        assert_eq!(with(None, Some(key("k"))), Err(Refusal::Bound));
    }

    #[test]
    fn a_token_without_a_key_is_for_bearers_and_a_proof_with_it_is_refused() {
        assert_eq!(check(None, &Possession::NONE), Ok(()));
        assert_eq!(check(None, &Possession { certificate: Some(certificate("c")), proof: None }), Ok(()));
        assert_eq!(
            check(None, &Possession { certificate: None, proof: Some(ProvenKey::of(key("k"))) }),
            Err(Refusal::NotBound)
        );
        assert_eq!(check(Some(&Confirmation::default()), &Possession::NONE), Err(Refusal::Malformed));
    }

    #[test]
    fn rfc7800_a_confirmation_method_that_is_not_known_is_not_passed_over() {
        assert!(serde_json::from_str::<Confirmation>(r#"{"jkt":"a","kid":"b"}"#).is_err());
    }
}
