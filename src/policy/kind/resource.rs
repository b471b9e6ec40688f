//! Resources: APIs behind gateways.

use std::collections::BTreeSet;

use crate::model::{Definition as _, Manifest, Resource};
use crate::policy::kind::{Kind, check_its_name, each, taken, twice};
use crate::policy::uri::canonical;
use crate::policy::{Known, Mistake};

impl Kind for Resource {
    type Compiled = Self;
    const GRANTS: bool = false;

    fn compile(self) -> Result<Self, Vec<Mistake>> {
        Ok(self)
    }

    fn declared(compiled: &Self) -> &Self {
        compiled
    }

    fn learn(resource: &Self, known: &mut Known) {
        known.apis.insert(resource.name.clone(), false);
        known.scopes.insert(resource.name.clone(), scopes(resource));
        known.audiences.insert(resource.name.clone(), resource.audience.clone());
    }

    fn forget(name: &str, known: &mut Known) {
        known.apis.remove(name);
        known.scopes.remove(name);
        known.audiences.remove(name);
    }

    fn check(document: &Manifest, before: &Known, known: &mut Known, mistakes: &mut Vec<Mistake>) {
        for (at, resource) in each(Self::SECTION, &document.resources, mistakes) {
            if document.upstreams.iter().any(|upstream| upstream.name == resource.name) {
                mistakes.push(twice(&at, &resource.name));
            }
            if before.apis.get(&resource.name) == Some(&true) {
                mistakes.push(taken(&at, &resource.name, "upstream"));
            }
            check_one(&at, resource, mistakes);
            // Two spellings of one URI are one audience: a token request may use another spelling than the definition does.
            let canonical = |audience: &str| canonical(audience).unwrap_or_else(|| audience.to_owned());
            let own = canonical(&resource.audience);
            let mut others = known.audiences.iter().filter(|(name, _)| **name != resource.name);
            if let Some((other, _)) = others.find(|(_, audience)| canonical(audience) == own) {
                mistakes.push(Mistake {
                    at: format!("{at}.audience"),
                    problem: format!("resource '{other}' has this audience already"),
                    fix: "give each resource its own audience".into(),
                });
            }
            known.audiences.insert(resource.name.clone(), resource.audience.clone());
            known.scopes.insert(resource.name.clone(), scopes(resource));
        }
    }
}

fn scopes(resource: &Resource) -> BTreeSet<String> {
    resource.scopes.iter().map(|scope| format!("{}:{scope}", resource.name)).collect()
}

fn check_one(at: &str, resource: &Resource, mistakes: &mut Vec<Mistake>) {
    check_its_name(at, "resource", &resource.name, mistakes);
    if resource.name == "hallpass" {
        mistakes.push(taken(at, "hallpass", "built-in"));
    }
    // RFC 8707 §2: an absolute URI without a fragment.
    let audience = url::Url::parse(&resource.audience);
    if !audience.is_ok_and(|url| url.fragment().is_none() && url.has_host()) {
        mistakes.push(Mistake {
            at: format!("{at}.audience"),
            problem: format!("'{}' is no absolute URI without a fragment", resource.audience.escape_debug()),
            fix: "write for example https://orders.example.com".into(),
        });
    }
    for (m, scope) in resource.scopes.iter().enumerate() {
        if scope.is_empty() || scope.contains(':') || !hallpass_verify::ScopeSet::is_token(scope) {
            mistakes.push(Mistake {
                at: format!("{at}.scopes[{m}]"),
                problem: format!("'{}' is no scope", scope.escape_debug()),
                fix: "write for example orders.read; the resource's name is put before it".into(),
            });
        }
    }
}
