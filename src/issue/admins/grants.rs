//! Who has which admin role.

use hallpass_verify::ForeignClaims;

use crate::issue::authenticate::names;
use crate::issue::certificates::Leaf;
use crate::model::{AdminRole, AuthMethod};

/// A role, and by what somebody has it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The role.
    pub role: AdminRole,
    /// As the audit log names whoever has it by a certificate: the value that the settings name.
    pub value: String,
    by: By,
}

#[derive(Debug, Clone)]
enum By {
    /// A claim of the ID token; by slashes it reaches inside.
    Claim(String),
    /// A name in the certificate.
    Certificate(AuthMethod),
}

impl Grant {
    /// `name` is `cert.subject_dn`, `cert.san_email`, `cert.san_uri` or `cert.san_dns`, or else a claim. None: it is
    /// another name that begins with `cert.`.
    pub fn new(role: AdminRole, name: &str, value: &str) -> Option<Self> {
        let of = |wanted: &str| (name == wanted).then(|| value.to_owned());
        let method = AuthMethod::TlsClientAuth {
            subject_dn: of("cert.subject_dn"),
            san_dns: of("cert.san_dns"),
            san_uri: of("cert.san_uri"),
            san_ip: None,
            san_email: of("cert.san_email"),
        };
        let by = match name.strip_prefix("cert.") {
            None => By::Claim(name.to_owned()),
            Some("subject_dn" | "san_dns" | "san_uri" | "san_email") => By::Certificate(method),
            Some(_) => return None,
        };
        Some(Self { role, value: value.to_owned(), by })
    }

    /// Whether these claims give it.
    pub(super) fn is_in(&self, claims: &ForeignClaims) -> bool {
        match &self.by {
            By::Claim(claim) if claim == "email" && !email_is_verified(claims) => false,
            By::Claim(claim) => claims.matches(claim, &self.value),
            By::Certificate(_) => false,
        }
    }

    /// Whether this certificate gives it.
    pub(super) fn is_on(&self, leaf: &Leaf) -> bool {
        matches!(&self.by, By::Certificate(name) if names(name, leaf))
    }
}

/// OpenID Connect Core §5.7: an address may be anybody's until it is verified; left out is not verified.
pub(super) fn email_is_verified(claims: &ForeignClaims) -> bool {
    claims.get("email_verified").is_some_and(|verified| verified.as_bool() == Some(true))
}
