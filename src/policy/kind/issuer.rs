//! Issuers of foreign tokens.

use crate::model::{Definition as _, Manifest, TrustedIssuer};
use crate::policy::identity::{check_url, is_as_safe, is_fetchable};
use crate::policy::kind::{Kind, check_its_name, each};
use crate::policy::{Known, Mistake};

impl Kind for TrustedIssuer {
    type Compiled = Self;
    const GRANTS: bool = false;

    fn compile(self) -> Result<Self, Vec<Mistake>> {
        Ok(self)
    }

    fn declared(compiled: &Self) -> &Self {
        compiled
    }

    fn learn(issuer: &Self, known: &mut Known) {
        known.issuers.insert(issuer.name.clone());
    }

    fn forget(name: &str, known: &mut Known) {
        known.issuers.remove(name);
    }

    fn check(document: &Manifest, _: &Known, known: &mut Known, mistakes: &mut Vec<Mistake>) {
        for (at, issuer) in each(Self::SECTION, &document.issuers, mistakes) {
            check_its_name(&at, "issuer", &issuer.name, mistakes);
            check_url(&format!("{at}.issuer"), &issuer.issuer, mistakes);
            if let Some(uri) = &issuer.jwks_uri {
                check_url(&format!("{at}.jwks_uri"), uri, mistakes);
                if is_fetchable(uri) && !is_as_safe(uri, &issuer.issuer) {
                    mistakes.push(Mistake {
                        at: format!("{at}.jwks_uri"),
                        problem: "it is an http URL, and the issuer is an https one".into(),
                        fix: "write an https URL: whoever answers there decides which keys are the issuer's".into(),
                    });
                }
            }
            known.issuers.insert(issuer.name.clone());
        }
    }
}
