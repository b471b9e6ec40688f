//! `[admin]`: admins who come over the network, and what they may do.

use url::Url;

use super::issuer::is_loopback;
use super::mistake::shown;
use super::read::Reader;
use super::sources::{certificates, key_pair, readable};
use super::validate::{address, file, overlap, seconds};
use super::{Admin, AdminGrant, AdminLogin, Listen, Tls};
use crate::model::{AdminRole, DistinguishedName};

const LISTEN: &str = "admin.listen";
const ISSUER: &str = "admin.issuer";
const CLIENT_ID: &str = "admin.client_id";
const CA: &str = "admin.client_ca_file";

/// Who has which role: setting and role, the least role first.
const GRANTS: [(&str, AdminRole); 4] = [
    ("admin.viewers", AdminRole::Viewer),
    ("admin.approvers", AdminRole::Approver),
    ("admin.operators", AdminRole::Operator),
    ("admin.owners", AdminRole::Owner),
];

/// What a certificate can be known by, in the order of the settings' documentation.
const CERTIFICATE_NAMES: [&str; 4] = ["cert.subject_dn", "cert.san_email", "cert.san_uri", "cert.san_dns"];

/// The admin listener, if there is one.
pub(super) fn admin(reader: &mut Reader, listen: Option<&Listen>, public: Option<&Tls>) -> Option<Admin> {
    if !reader.is_given(LISTEN) {
        let others = [ISSUER, CLIENT_ID, CA, "admin.cert_file", "admin.key_file"];
        let others = others.into_iter().chain(GRANTS.map(|(key, _)| key));
        if let Some(other) = others.into_iter().find(|other| reader.is_given(other)) {
            let fix =
                "set the address of the admin listener, for example \"0.0.0.0:8602\", or remove the rest of [admin]";
            reader.mistake(LISTEN, format!("is missing beside {other}"), fix);
        }
        return None;
    }
    let address = address(reader, LISTEN, "0.0.0.0:8602");
    if let (Some(address), Some(listen)) = (address, listen) {
        let taken = [Some(listen.public), listen.ops].into_iter().flatten().find(|other| overlap(address, *other));
        if let Some(other) = taken {
            reader.mistake(LISTEN, format!("{address} is taken by the listener {other}"), "write another port");
        }
    }
    let is_own = reader.is_given("admin.cert_file") || reader.is_given("admin.key_file");
    let own = key_pair(reader, "admin.cert_file", "admin.key_file", "set both, or remove both to use those of [tls]");
    let own = own.or_else(|| public.filter(|_| !is_own).cloned());
    if !is_own && !reader.is_given("tls.cert_file") && !reader.is_given("tls.key_file") {
        let fix =
            "set admin.cert_file and admin.key_file, or those of [tls]: an admin's token never travels in the clear";
        reader.mistake(LISTEN, "has no certificate", fix);
    }
    let certificates = certificates(reader, CA, "admin.client_crl_file");
    let login = login(reader);
    if !reader.is_given(ISSUER) && !reader.is_given(CA) {
        let fix = "set admin.issuer (OpenID Connect) or admin.client_ca_file (certificates)";
        reader.mistake(LISTEN, "nobody could prove who they are there", fix);
    }
    let grants = grants(reader);
    Some(Admin { listen: address?, tls: own?, certificates, login, grants })
}

/// Login by OpenID Connect.
fn login(reader: &mut Reader) -> Option<AdminLogin> {
    if !reader.is_given(ISSUER) {
        if reader.is_given(CLIENT_ID) {
            reader.mistake(ISSUER, format!("is missing beside {CLIENT_ID}"), "set both, or remove both");
        }
        return None;
    }
    let issuer = reader.text(ISSUER)?;
    let is_good = Url::parse(&issuer).is_ok_and(|url| {
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        let is_bare = url.query().is_none() && url.fragment().is_none();
        is_safe && is_bare && url.username().is_empty() && url.password().is_none()
    });
    if !is_good {
        let fix = "write it exactly as its discovery document does, for example \"https://login.example.com\"";
        reader.mistake(ISSUER, format!("{} is no https URL of an issuer", shown(&issuer)), fix);
    }
    if !reader.is_given(CLIENT_ID) {
        let fix = "register a public client with the device flow there, and write its client_id";
        reader.mistake(CLIENT_ID, format!("is missing beside {ISSUER}"), fix);
    }
    let key = "admin.issuer_ca_file";
    let ca_file = file(reader, key).filter(|path| readable(reader, key, path).is_some());
    Some(AdminLogin {
        issuer: issuer.to_string(),
        ca_file,
        allow_private: reader.boolean("admin.issuer_allow_private"),
        client_id: reader.text(CLIENT_ID)?.to_string(),
        scope: reader.text("admin.scope")?.to_string(),
        name_claim: reader.text("admin.name_claim")?.to_string(),
        lifetime: seconds(reader, "admin.login_seconds"),
    })
}

/// Who has which role, the greatest role first.
fn grants(reader: &mut Reader) -> Vec<AdminGrant> {
    let mut all = Vec::new();
    for (key, role) in GRANTS.into_iter().rev() {
        let Some(text) = reader.text(key) else { continue };
        if text.split(';').all(|one| one.trim().is_empty()) {
            reader.mistake(key, "names nobody", "write who has this role, or remove it");
        }
        for one in text.split(';').map(str::trim).filter(|one| !one.is_empty()) {
            match grant(one, role) {
                Ok(grant) => {
                    let (needed, what) =
                        if grant.is_of_certificate() { (CA, "certificates") } else { (ISSUER, "claims of a login") };
                    if !reader.is_given(needed) {
                        let problem = format!("{} is about {what}, and {needed} is not set", shown(one));
                        reader.mistake(key, problem, format!("set {needed}, or remove this entry"));
                    }
                    all.push(grant);
                }
                Err(problem) => {
                    let fix = "write CLAIM=VALUE or cert.san_email=VALUE, several with ; in between, for example \"groups=platform; cert.san_email=ada@example.com\"";
                    reader.mistake(key, format!("{} {problem}", shown(one)), fix);
                }
            }
        }
    }
    if all.is_empty() && !GRANTS.iter().any(|(key, _)| reader.is_given(key)) {
        let fix = "set admin.owners, admin.operators, admin.approvers or admin.viewers";
        reader.mistake(LISTEN, "nobody would have a role there", fix);
    }
    all
}

fn grant(text: &str, role: AdminRole) -> Result<AdminGrant, &'static str> {
    let (name, value) = text.split_once('=').ok_or("has no =")?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || value.is_empty() {
        return Err("has nothing on one side of its =");
    }
    // In whatever case: what was meant for a certificate must not become the name of a claim.
    if name.to_ascii_lowercase().starts_with("cert.") && !CERTIFICATE_NAMES.contains(&name) {
        return Err(
            "names nothing of a certificate; there are cert.subject_dn, cert.san_email, cert.san_uri, cert.san_dns",
        );
    }
    if name == "cert.subject_dn" && DistinguishedName::parse(value).is_none() {
        return Err("is no distinguished name (RFC 4514), as in cert.subject_dn=CN=ada,O=Example");
    }
    Ok(AdminGrant { role, name: name.to_owned(), value: value.to_owned() })
}

impl AdminGrant {
    /// Whether it is about a certificate; else about a claim of an ID token.
    pub fn is_of_certificate(&self) -> bool {
        self.name.starts_with("cert.")
    }
}
