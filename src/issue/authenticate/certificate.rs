//! `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 §2), X.509-SVIDs, and certificates that this broker
//! issued itself.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::issue::Issuer;
use crate::issue::certificates::{Authority, ClientCas, Leaf, verify};
use crate::model::{Agent, AuthMethod, DistinguishedName};
use crate::world::Millis;

/// Certificates of a chain that are looked at, at most: each costs a signature.
pub(in crate::issue) const MAX_CHAIN: usize = 10;

const NOT_ITS_OWN: &str = "client_certificate_of_another";

impl Issuer {
    /// Whether this certificate is the agent's, by one of its methods, and which one.
    pub(super) async fn by_certificate(
        &self,
        id: &str,
        chain: &[CertificateDer<'static>],
        now: Millis,
    ) -> Result<(Arc<Agent>, &'static str), &'static str> {
        let agent = self.registry.agent(id).ok_or("unknown_client")?;
        let own = chain.first().filter(|_| chain.len() <= MAX_CHAIN).ok_or("client_certificate_malformed")?;
        let leaf = Leaf::read(own)?;
        leaf.is_valid_at(now)?;
        let mut failed = None;
        if leaf.only_uri() == Some(&Authority::uri(&agent.id)) {
            match self.is_issued_to(&agent, &leaf, chain, now) {
                Ok(()) => return Ok((agent, "tls_client_auth")),
                // A method may name this URI, too, of another CA.
                Err(reason) => failed = Some(reason),
            }
        }
        for method in &agent.identity.methods {
            let checked = match method {
                AuthMethod::TlsClientAuth { .. } if !names(method, &leaf) => Err(NOT_ITS_OWN),
                AuthMethod::TlsClientAuth { .. } => verify(chain, &self.certificates.cas.load(), now),
                AuthMethod::SelfSignedTlsClientAuth { jwks } => is_registered(jwks, own),
                AuthMethod::Spiffe { id } => self.is_svid(id, &leaf, chain, now).await,
                AuthMethod::PrivateKeyJwt { .. } | AuthMethod::Federated { .. } => continue,
            };
            match checked {
                Ok(()) => {
                    let name = method.name();
                    return Ok((agent, name));
                }
                // What is wrong with a certificate of the right name tells more than that another entry names another.
                Err(reason) if failed.is_none_or(|failed| failed == NOT_ITS_OWN) => failed = Some(reason),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or("client_certificate_not_accepted"))
    }

    /// Whether this broker's own authority issued it to this agent, and no suspension has ended it since.
    pub(in crate::issue) fn is_issued_to(
        &self,
        agent: &Agent,
        leaf: &Leaf,
        chain: &[CertificateDer<'static>],
        now: Millis,
    ) -> Result<(), &'static str> {
        if leaf.only_uri() != Some(&Authority::uri(&agent.id)) {
            return Err(NOT_ITS_OWN);
        }
        if agent.identity.certificates_after.is_some_and(|after| leaf.not_before < after) {
            return Err("client_certificate_revoked");
        }
        verify(chain, self.certificates.authority.cas(), now)
    }

    /// SPIFFE X.509-SVID §5.2: a leaf, whose only URI is its SPIFFE ID, of an authority of that trust domain.
    async fn is_svid(
        &self,
        id: &str,
        leaf: &Leaf,
        chain: &[CertificateDer<'static>],
        now: Millis,
    ) -> Result<(), &'static str> {
        if leaf.uris.len() > 1 {
            return Err("svid_of_two_uris");
        }
        if leaf.only_uri() != Some(id) {
            return Err(NOT_ITS_OWN);
        }
        if !leaf.only_signs_messages {
            return Err("svid_of_wrong_key_usage");
        }
        let domain = id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        // Who may vouch for it: the authorities of that trust domain, and nobody else.
        let domain = self.registry.definitions().trust_domain(domain).cloned().ok_or("spiffe_bundle_missing")?;
        let authorities = self.trust.x509_authorities(&domain).await.map_err(|untrusted| untrusted.0)?;
        verify(chain, &ClientCas::of_certificates(&authorities).ok_or("spiffe_bundle_malformed")?, now)
    }
}

/// Whether the certificate has the name that is registered (RFC 8705 §2.1.2).
pub(in crate::issue) fn names(method: &AuthMethod, leaf: &Leaf) -> bool {
    let AuthMethod::TlsClientAuth { subject_dn, san_dns, san_uri, san_ip, san_email } = method else { return false };
    let has = |wanted: &String, names: &[String]| names.iter().filter(|name| *name == wanted).count() == 1;
    match (subject_dn, san_dns, san_uri, san_ip, san_email) {
        (Some(dn), None, None, None, None) => {
            DistinguishedName::parse(dn).is_some_and(|dn| leaf.subject.as_ref() == Some(&dn))
        }
        // Host names have no case (RFC 4343); all the rest is compared as it stands.
        (None, Some(dns), None, None, None) => {
            leaf.dns.iter().filter(|name| name.eq_ignore_ascii_case(dns)).count() == 1
        }
        (None, None, Some(uri), None, None) => has(uri, &leaf.uris),
        (None, None, None, Some(ip), None) => {
            ip.parse::<IpAddr>().is_ok_and(|ip| leaf.ips.iter().filter(|one| **one == ip).count() == 1)
        }
        (None, None, None, None, Some(email)) => has(email, &leaf.emails),
        _ => false,
    }
}

/// Whether this very certificate is registered (RFC 8705 §2.2): whoever made it, it is that one or it is none.
fn is_registered(jwks: &Value, own: &CertificateDer<'static>) -> Result<(), &'static str> {
    let keys = jwks.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let first = keys.iter().filter_map(|key| key.get("x5c")?.as_array()?.first()?.as_str());
    let mut certificates = first.filter_map(|text| STANDARD.decode(text).ok());
    if certificates.any(|der| der == own.as_ref()) { Ok(()) } else { Err(NOT_ITS_OWN) }
}
