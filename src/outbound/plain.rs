//! What a TLS library says of a certificate, in words for people: some of it are names out of its source.

use std::error::Error;
use std::io;

use rustls::{CertificateError, InvalidMessage};

/// What went wrong, with what to do where that is known; else what the library says.
pub fn plain(error: &(dyn Error + 'static)) -> String {
    of_tls_within(error).unwrap_or_else(|| error.to_string())
}

/// The same, if it is about TLS at all.
pub fn of_tls_within(error: &(dyn Error + 'static)) -> Option<String> {
    let mut one = Some(error);
    while let Some(error) = one {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(of_tls(tls));
        }
        if let Some(webpki) = error.downcast_ref::<webpki::Error>() {
            return Some(of_certificate(webpki));
        }
        // The source of an I/O error is not the error in it, but what is behind that.
        one = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn of_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => of_verification(error),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what answers there does not speak TLS; is it http, or another port?".into()
        }
        rustls::Error::InconsistentKeys(_) => "the private key is not the one of the certificate".into(),
        rustls::Error::NoCertificatesPresented => "it showed no certificate".into(),
        rustls::Error::PeerIncompatible(_) => format!("it speaks no TLS 1.2 or 1.3 that we speak, too ({error})"),
        rustls::Error::AlertReceived(alert) => format!("the other side ended the handshake ({alert:?})"),
        other => other.to_string(),
    }
}

fn of_verification(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => {
            "the certificate is from a CA that is not trusted (UnknownIssuer); name that CA by the setting for CA files"
                .into()
        }
        E::Expired | E::ExpiredContext { .. } => {
            format!("the certificate has expired, or the clock of this machine is wrong ({error})")
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            format!("the certificate is not valid yet, or the clock of this machine is wrong ({error})")
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            format!("the certificate is for another name ({error}); write the name that is in it")
        }
        E::BadEncoding => "the certificate is not one as X.509 writes it".into(),
        E::Revoked => "the certificate is revoked".into(),
        E::BadSignature => "the certificate's signature is wrong: another CA of the same name made it".into(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            format!("the certificate is not for this use ({error}); it takes the extended key usage for it")
        }
        E::Other(other) => plain(&*other.0),
        other => other.to_string(),
    }
}

fn of_certificate(error: &webpki::Error) -> String {
    use webpki::Error as E;
    match error {
        E::CaUsedAsEndEntity => "the certificate is a CA's, and a server or client must not show that as its own; issue one for \
                                 it that says CA:FALSE"
            .into(),
        E::EndEntityUsedAsCa => {
            "the certificate is no CA's (it says CA:FALSE), so it vouches for nobody; give the CA's certificate".into()
        }
        E::UnknownIssuer => "the certificate is from a CA that is not trusted".into(),
        E::BadDer | E::BadDerTime | E::TrailingData(_) => "it is no certificate as X.509 writes it".into(),
        E::UnsupportedCertVersion => "the certificate is not of version 3 of X.509; issue another".into(),
        E::MalformedExtensions => "an extension of the certificate is malformed".into(),
        E::UnsupportedCriticalExtension => {
            "the certificate has an extension that must not be passed over (critical) and is not known".into()
        }
        E::UnsupportedSignatureAlgorithmContext(_) | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "the certificate is signed by an algorithm that is not taken; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 \
             bits and more with SHA-256"
                .into()
        }
        other => format!("the certificate cannot be used ({other})"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn names_out_of_a_librarys_source_are_sentences() {
        let other = |error: webpki::Error| {
            let inner = CertificateError::Other(rustls::OtherError(Arc::new(error)));
            io::Error::other(rustls::Error::InvalidCertificate(inner))
        };
        let text = plain(&other(webpki::Error::CaUsedAsEndEntity));
        assert!(text.contains("is a CA's") && !text.contains("CaUsed"), "{text}");
        let text = plain(&webpki::Error::EndEntityUsedAsCa);
        assert!(text.contains("no CA's"), "{text}");
        let text = plain(&io::Error::other(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)));
        assert!(text.contains("does not speak TLS"), "{text}");
        assert_eq!(plain(&io::Error::other("no route")), "no route");
    }
}
