//! What stands in a client's own certificate.

use std::collections::BTreeSet;
use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::model::DistinguishedName;
use crate::world::Millis;

/// A client's own certificate, read. Who vouches for all this is another question: [`super::verify`].
#[derive(Debug)]
pub(in crate::issue) struct Leaf {
    /// None where it holds something that is no text.
    pub(in crate::issue) subject: Option<DistinguishedName>,
    pub(in crate::issue) dns: Vec<String>,
    pub(in crate::issue) uris: Vec<String>,
    pub(in crate::issue) ips: Vec<IpAddr>,
    pub(in crate::issue) emails: Vec<String>,
    /// `digitalSignature`, and neither `keyCertSign` nor `cRLSign`.
    pub(in crate::issue) only_signs_messages: bool,
    pub(in crate::issue) not_before: Millis,
    pub(in crate::issue) not_after: Millis,
}

impl Leaf {
    /// Reads one that may be used by a client.
    ///
    /// # Errors
    /// The reason for the audit log: it cannot be read, says something twice, or is a CA's (P5: whoever has a CA's key
    /// can be anybody; it is not what an agent should hold, let alone show).
    pub(in crate::issue) fn read(der: &[u8]) -> Result<Self, &'static str> {
        let malformed = "client_certificate_malformed";
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| malformed)?;
        if !rest.is_empty() {
            return Err(malformed);
        }
        if certificate.basic_constraints().map_err(|_| malformed)?.is_some_and(|constraints| constraints.value.ca) {
            return Err("client_certificate_is_a_ca");
        }
        let usage = certificate.key_usage().map_err(|_| malformed)?.map(|usage| usage.value);
        let millis = |seconds: i64| seconds.saturating_mul(1000);
        let mut leaf = Self {
            subject: subject(&certificate),
            dns: Vec::new(),
            uris: Vec::new(),
            ips: Vec::new(),
            emails: Vec::new(),
            only_signs_messages: usage
                .is_some_and(|usage| usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign()),
            not_before: millis(certificate.validity().not_before.timestamp()),
            not_after: millis(certificate.validity().not_after.timestamp()),
        };
        let names = certificate.subject_alternative_name().map_err(|_| malformed)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => leaf.dns.push((*name).to_owned()),
                GeneralName::URI(uri) => leaf.uris.push((*uri).to_owned()),
                GeneralName::RFC822Name(email) => leaf.emails.push((*email).to_owned()),
                GeneralName::IPAddress(octets) => leaf.ips.push(address(octets).ok_or(malformed)?),
                GeneralName::Invalid(..) => return Err(malformed),
                _ => {}
            }
        }
        Ok(leaf)
    }

    /// # Errors
    /// The reason for the audit log.
    pub(in crate::issue) fn is_valid_at(&self, now: Millis) -> Result<(), &'static str> {
        match now {
            now if now < self.not_before => Err("client_certificate_not_yet_valid"),
            // `notAfter` is the last second that counts (RFC 5280 §4.1.2.5).
            now if now >= self.not_after.saturating_add(1000) => Err("client_certificate_expired"),
            _ => Ok(()),
        }
    }

    /// The URI, if there is exactly one.
    pub(in crate::issue) fn only_uri(&self) -> Option<&str> {
        match self.uris.as_slice() {
            [uri] => Some(uri),
            _ => None,
        }
    }
}

fn subject(certificate: &X509Certificate<'_>) -> Option<DistinguishedName> {
    let relative = |name: &x509_parser::x509::RelativeDistinguishedName<'_>| {
        let pair = |one: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            Some((one.attr_type().to_id_string(), one.as_str().ok()?.to_owned()))
        };
        name.iter().map(pair).collect::<Option<BTreeSet<_>>>()
    };
    certificate.subject().iter().map(relative).collect::<Option<Vec<_>>>().map(DistinguishedName::from_certificate)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}
