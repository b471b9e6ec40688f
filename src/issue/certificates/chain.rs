//! Whether somebody whom we trust vouches for a certificate (RFC 5280 §6), by webpki.

use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage,
    OwnedCertRevocationList, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
    anchor_from_trusted_cert,
};

use crate::model::public;
use crate::outbound::plain;
use crate::world::Millis;

/// Certificate authorities, and what they have revoked.
#[derive(Default)]
pub struct ClientCas {
    anchors: Vec<TrustAnchor<'static>>,
    crls: Vec<CertRevocationList<'static>>,
    has_crls: bool,
}

impl std::fmt::Debug for ClientCas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCas({} anchors, {} revocation lists)", self.anchors.len(), self.crls.len())
    }
}

impl ClientCas {
    /// These authorities, and no revocation list. `None`: one of them is no CA certificate, and nothing is passed over.
    pub(in crate::issue) fn of_certificates(certificates: &[CertificateDer<'static>]) -> Option<Self> {
        let anchors = certificates.iter().map(|der| anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned()));
        Some(Self::of(anchors.collect::<Result<Vec<_>, _>>().ok()?))
    }

    /// From CA certificates and, where revocation is checked, revocation lists; both PEM.
    ///
    /// # Errors
    /// What is wrong, of one that cannot be read; a file without any.
    pub fn parse(ca: &[u8], crl: Option<&[u8]>) -> Result<Self, String> {
        // The key of a CA that vouches for clients is not for the broker to have: whoever reads its files could make clients.
        let ca = public::certificates(ca).map_err(|error| format!("the CA file cannot be taken: {error}"))?;
        let certificates = CertificateDer::pem_slice_iter(ca.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| format!("the CA file is no PEM: {error}"))?;
        if certificates.is_empty() {
            return Err("the CA file holds no certificate".into());
        }
        let anchor = |der| anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned());
        let anchors = certificates.iter().map(anchor).collect::<Result<Vec<_>, _>>();
        let anchors =
            anchors.map_err(|error| format!("the CA file holds what is no CA certificate: {}", plain(&error)))?;
        let mut crls = Vec::new();
        if let Some(crl) = crl {
            for der in CertificateRevocationListDer::pem_slice_iter(crl) {
                let der = der.map_err(|error| format!("the revocation list is no PEM: {error}"))?;
                let owned = OwnedCertRevocationList::from_der(&der);
                crls.push(CertRevocationList::Owned(
                    owned.map_err(|error| format!("a revocation list is bad: {}", plain(&error)))?,
                ));
            }
            if crls.is_empty() {
                return Err("the revocation list's file holds none".into());
            }
        }
        Ok(Self { anchors, crls, has_crls: crl.is_some() })
    }

    /// These, without revocation lists.
    pub fn of(anchors: Vec<TrustAnchor<'static>>) -> Self {
        Self { anchors, crls: Vec::new(), has_crls: false }
    }
}

/// Checks the chain of `chain`'s first certificate, through the others, to one of `cas`; each within its validity `now`,
/// for client authentication where it says for what.
///
/// Where there are revocation lists, the certificate itself must be covered by one that is not outdated: a list that
/// somebody withholds must not bring a revoked certificate back. Of certificates in between, the lists that there are
/// count.
///
/// # Errors
/// The reason for the audit log.
pub(in crate::issue) fn verify(
    chain: &[CertificateDer<'static>],
    cas: &ClientCas,
    now: Millis,
) -> Result<(), &'static str> {
    let (leaf, intermediates) = chain.split_first().ok_or("no_client_certificate")?;
    let leaf = EndEntityCert::try_from(leaf).map_err(reason)?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now).unwrap_or(0)));
    let check = |policy: Option<(RevocationCheckDepth, UnknownStatusPolicy)>| {
        let crls = cas.crls.iter().collect::<Vec<_>>();
        let options = match policy {
            None => None,
            Some((depth, unknown)) => {
                let options = RevocationOptionsBuilder::new(&crls).map_err(|_| "client_certificate_status_unknown")?;
                let options = options.with_depth(depth).with_status_policy(unknown);
                Some(options.with_expiration_policy(ExpirationPolicy::Enforce).build())
            }
        };
        let usage = KeyUsage::client_auth();
        let path = leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &cas.anchors, intermediates, now, usage, options, None);
        path.map(|_| ()).map_err(reason)
    };
    if !cas.has_crls {
        return check(None);
    }
    check(Some((RevocationCheckDepth::EndEntity, UnknownStatusPolicy::Deny)))?;
    check(Some((RevocationCheckDepth::Chain, UnknownStatusPolicy::Allow)))
}

fn reason(error: Error) -> &'static str {
    match error {
        Error::CertExpired { .. } => "client_certificate_expired",
        Error::CertNotValidYet { .. } => "client_certificate_not_yet_valid",
        Error::CertRevoked => "client_certificate_revoked",
        Error::UnknownRevocationStatus | Error::CrlExpired { .. } => "client_certificate_status_unknown",
        Error::CaUsedAsEndEntity => "client_certificate_is_a_ca",
        Error::RequiredEkuNotFoundContext(_) => "client_certificate_not_for_clients",
        // The second: somebody else's CA of the same name.
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => "client_certificate_of_unknown_ca",
        _ => "client_certificate_invalid",
    }
}
