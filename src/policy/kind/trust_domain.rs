//! SPIFFE trust domains.

use crate::model::{Definition as _, Manifest, TrustDomain};
use crate::policy::identity::{check_url, is_trust_domain};
use crate::policy::kind::{Kind, each};
use crate::policy::{Known, Mistake};

impl Kind for TrustDomain {
    type Compiled = Self;
    const GRANTS: bool = false;

    fn compile(self) -> Result<Self, Vec<Mistake>> {
        Ok(self)
    }

    fn declared(compiled: &Self) -> &Self {
        compiled
    }

    fn learn(domain: &Self, known: &mut Known) {
        known.trust_domains.insert(domain.name.clone());
    }

    fn forget(name: &str, known: &mut Known) {
        known.trust_domains.remove(name);
    }

    fn check(document: &Manifest, _: &Known, known: &mut Known, mistakes: &mut Vec<Mistake>) {
        for (at, domain) in each(Self::SECTION, &document.trust_domains, mistakes) {
            if !is_trust_domain(&domain.name) {
                mistakes.push(Mistake {
                    at: format!("{at}.name"),
                    problem: format!("'{}' is no SPIFFE trust domain", domain.name.escape_debug()),
                    fix: "write for example prod.example.com: lower-case letters, digits, '.', '-' and '_'".into(),
                });
            }
            if domain.bundle_file.is_some() == domain.bundle_endpoint.is_some() {
                mistakes.push(Mistake {
                    at: at.clone(),
                    problem: "a trust domain has one source of its bundle".into(),
                    fix: "write either bundle_file or bundle_endpoint".into(),
                });
            }
            if let Some(endpoint) = &domain.bundle_endpoint {
                check_url(&format!("{at}.bundle_endpoint"), endpoint, mistakes);
            }
            known.trust_domains.insert(domain.name.clone());
        }
    }
}
