//! Certificate authorities and certificates, made as tests want them.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// A certificate authority of somebody's own.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    pub(crate) der: Vec<u8>,
}

/// A certificate with its key.
pub(crate) struct Holder {
    pub(crate) pem: String,
    pub(crate) key: String,
    pub(crate) der: Vec<u8>,
    pub(crate) serial: SerialNumber,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    /// A client's certificate, good from an hour ago for a day unless `change` says otherwise.
    pub(crate) fn holder(&self, change: impl FnOnce(&mut CertificateParams)) -> Holder {
        let (params, key) = client(change);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Holder::new(&certificate, &key, params)
    }

    /// Its revocation list, good for an hour from `at`.
    pub(crate) fn crl(&self, revoked: &[&Holder], at: OffsetDateTime) -> String {
        let entry = |holder: &&Holder| RevokedCertParams {
            serial_number: holder.serial.clone(),
            revocation_time: at,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: at,
            next_update: at + Duration::hours(1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Holder {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair, params: CertificateParams) -> Self {
        let (pem, der) = (certificate.pem(), certificate.der().to_vec());
        Self { pem, der, key: key.serialize_pem(), serial: params.serial_number.unwrap() }
    }

    /// One that nobody but its own key vouches for.
    pub(crate) fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = client(change);
        let certificate = params.self_signed(&key).unwrap();
        Self::new(&certificate, &key, params)
    }

    /// A certificate that somebody else issued for this key.
    pub(crate) fn with(&self, pem: &str) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
        Self { pem: pem.to_owned(), key: self.key.clone(), der, serial: self.serial.clone() }
    }

    /// A certification request for its key, which asks for what nobody should get.
    pub(crate) fn csr(&self) -> String {
        let key = KeyPair::from_pem(&self.key).unwrap();
        let mut params = CertificateParams::new(vec!["bank.example.com".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "somebody else");
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    pub(crate) fn identity(&self) -> reqwest::Identity {
        reqwest::Identity::from_pem(format!("{}{}", self.key, self.pem).as_bytes()).unwrap()
    }

    /// As RFC 9440 writes it.
    pub(crate) fn header(&self) -> String {
        use base64::Engine as _;
        format!(":{}:", base64::engine::general_purpose::STANDARD.encode(&self.der))
    }
}

fn client(change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, "bot");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from(KeyPair::generate().unwrap().public_key_raw()[1..9].to_vec()));
    (params.not_before, params.not_after) = (now - Duration::hours(1), now + Duration::days(1));
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

pub(crate) fn email(text: &str) -> SanType {
    SanType::Rfc822Name(text.try_into().unwrap())
}
