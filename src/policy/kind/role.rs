//! Roles.

use crate::model::{Definition as _, INTROSPECT_SCOPE, Manifest, Role};
use crate::policy::kind::{Kind, check_its_name, each};
use crate::policy::{Known, Mistake};

impl Kind for Role {
    type Compiled = Self;
    const GRANTS: bool = true;

    fn compile(self) -> Result<Self, Vec<Mistake>> {
        Ok(self)
    }

    fn declared(compiled: &Self) -> &Self {
        compiled
    }

    fn learn(role: &Self, known: &mut Known) {
        known.roles.insert(role.name.clone());
    }

    fn forget(name: &str, known: &mut Known) {
        known.roles.remove(name);
    }

    fn check(document: &Manifest, _: &Known, known: &mut Known, mistakes: &mut Vec<Mistake>) {
        for (at, role) in each(Self::SECTION, &document.roles, mistakes) {
            check_its_name(&at, "role", &role.name, mistakes);
            for (m, scope) in role.scopes.iter().enumerate() {
                let there = scope == INTROSPECT_SCOPE || known.scopes.values().any(|scopes| scopes.contains(scope));
                if !there {
                    mistakes.push(Mistake {
                        at: format!("{at}.scopes[{m}]"),
                        problem: format!("no upstream or resource has the scope '{}'", scope.escape_debug()),
                        fix: "write UPSTREAM:SCOPE of an operation that is declared here or was applied before".into(),
                    });
                }
            }
            known.roles.insert(role.name.clone());
        }
    }
}
