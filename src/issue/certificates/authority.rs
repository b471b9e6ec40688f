//! A small certificate authority for those who have none: certificates of a day, for agents of this broker and for
//! nothing else.
//!
//! ```text
//! client-ca = length of the key (4 bytes, big-endian) ‖ PKCS#8 ‖ certificate (DER)       sealed as a broker secret
//! ```

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use webpki::anchor_from_trusted_cert;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use crate::error::{Error, Result};
use crate::issue::certificates::ClientCas;
use crate::keyring::{Algorithm, SigningKey};
use crate::model::public;
use crate::secret::SecretBytes;
use crate::world::{Entropy, Millis};

/// The id of the broker secret that holds the authority's key and certificate.
pub const CLIENT_CA: &str = "client-ca";

/// How long an issued certificate is good.
pub const CERTIFICATE_MILLIS: Millis = 24 * 3600 * 1000;

/// A certificate that was just issued. Nothing in it is secret.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// PEM.
    pub pem: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Its last moment.
    pub expires_at: Millis,
}

/// The broker's own authority.
pub struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    pem: String,
    cas: ClientCas,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// A new one, to be sealed and stored.
    pub fn generate(entropy: &dyn Entropy, now: Millis) -> Result<SecretBytes> {
        let (pkcs8, _) = SigningKey::generate(Algorithm::Es256, entropy)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Hallpass client CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // What it vouches for ends with the broker's key; a date of its own would only be a day on which all agents stop.
        (params.not_before, params.not_after) = (moment(now)?, moment(now)? + Duration::days(36_500));
        params.serial_number = Some(serial(entropy));
        let certificate = params.self_signed(&key_pair(pkcs8.expose())?).map_err(Error::internal)?;
        let length = u32::try_from(pkcs8.len()).map_err(Error::internal)?;
        Ok(SecretBytes::new([&length.to_be_bytes()[..], pkcs8.expose(), certificate.der()].concat()))
    }

    /// One that was stored.
    pub fn open(stored: &SecretBytes) -> Result<Self> {
        let short = || Error::internal("the stored client CA is cut off");
        let (length, rest) = stored.expose().split_first_chunk::<4>().ok_or_else(short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(Error::internal)?;
        let (pkcs8, certificate) = rest.split_at_checked(length).ok_or_else(short)?;
        let certificate = CertificateDer::from(certificate.to_vec());
        let anchor = anchor_from_trusted_cert(&certificate).map_err(Error::internal)?.to_owned();
        let issuer = rcgen::Issuer::from_ca_cert_der(&certificate, key_pair(pkcs8)?).map_err(Error::internal)?;
        Ok(Self { issuer, pem: pem("CERTIFICATE", &certificate), cas: ClientCas::of(vec![anchor]) })
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// It alone, to check a chain against.
    pub fn cas(&self) -> &ClientCas {
        &self.cas
    }

    /// The URI that names an agent in its certificate.
    pub fn uri(client_id: &str) -> String {
        format!("urn:hallpass:agent:{client_id}")
    }

    /// A certificate for the key in a certification request (RFC 2986), which must be signed by that key: nobody gets a
    /// certificate for somebody else's. Whatever else the request asks for is not looked at.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn issue(
        &self,
        client_id: &str,
        csr: &str,
        not_before: Millis,
        entropy: &dyn Entropy,
    ) -> Result<IssuedCertificate> {
        let bad = |why: &str| Error::invalid("bad_csr", format!("{why}; make one with openssl req -new -key KEY.pem"));
        let csr = public::certification_request(csr.as_bytes())
            .map_err(|error| Error::invalid("bad_csr", error.to_string()))?;
        let der = CertificateSigningRequestDer::from_pem_slice(csr.as_bytes());
        let der = der.map_err(|_| bad("this is no certification request in PEM"))?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| bad("the certification request cannot be read"))?;
        if !rest.is_empty() || request.verify_signature().is_err() {
            return Err(bad(
                "the certification request is not signed by its own key, or by an algorithm that is too weak",
            ));
        }
        let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw);
        let key = key.map_err(|_| bad("keys of this kind get no certificate: use P-256, P-384, Ed25519 or RSA"))?;

        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(client_id);
        let uri = Ia5String::try_from(Self::uri(client_id)).map_err(Error::internal)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let serial = serial(entropy);
        params.serial_number = Some(serial.clone());
        let expires_at = (not_before + CERTIFICATE_MILLIS) / 1000 * 1000;
        (params.not_before, params.not_after) = (moment(not_before)?, moment(expires_at)?);
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::internal)?;
        let serial = data_encoding::HEXLOWER.encode(&serial.to_bytes());
        Ok(IssuedCertificate { pem: pem("CERTIFICATE", certificate.der()), serial, expires_at })
    }
}

fn key_pair(pkcs8: &[u8]) -> Result<KeyPair> {
    let der = PrivatePkcs8KeyDer::from(pkcs8);
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(Error::internal)
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// 127 random bits: positive, and never zero (RFC 5280 §4.1.2.2).
fn serial(entropy: &dyn Entropy) -> SerialNumber {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes);
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    SerialNumber::from_slice(&bytes)
}

fn moment(at: Millis) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at / 1000).map_err(Error::internal)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
