//! What is particular to each kind of definition: a file for each. All that is the same for them is made from the sections of
//! [`Manifest`].

mod issuer;
mod resource;
mod role;
mod trust_domain;
mod upstream;

use std::collections::BTreeSet;
use std::fmt;

use crate::model::{Declared, Definition, DefinitionKind, Manifest, check_name, each_definition};
use crate::policy::{Known, Mistake};

/// A kind of definition.
pub trait Kind: Definition {
    /// One as it is held in memory.
    type Compiled: fmt::Debug + Send + Sync;
    /// Whether a change of one may end the right of a call that is in flight.
    const GRANTS: bool;

    /// Makes one ready to be held in memory.
    ///
    /// # Errors
    /// What is wrong with it.
    fn compile(self) -> Result<Self::Compiled, Vec<Mistake>>;

    /// One as it was declared.
    fn declared(compiled: &Self::Compiled) -> &Self;

    /// Adds one to what a document may refer to.
    fn learn(compiled: &Self::Compiled, known: &mut Known);

    /// Takes one out of what a document may refer to.
    fn forget(name: &str, known: &mut Known);

    /// Notes what is wrong with those of a document. `before` is what was there before the document; `known` is what may be
    /// referred to with it, the document's sections above this one among it. Adds its own section to that.
    fn check(document: &Manifest, before: &Known, known: &mut Known, mistakes: &mut Vec<Mistake>);
}

/// Whether a change of a definition of this kind may end the right of a call that is in flight.
pub fn grants(kind: DefinitionKind) -> bool {
    macro_rules! of {
        ($($kind:ident $one:ident $section:ident $type:ident;)*) => {
            match kind {
                $(DefinitionKind::$kind => <crate::model::$type as Kind>::GRANTS,)*
            }
        };
    }
    each_definition!(of)
}

/// Notes what is wrong with the definitions of a document; what may be referred to with it.
pub(super) fn check_all(document: &Manifest, before: &Known, mistakes: &mut Vec<Mistake>) -> Known {
    let mut known = before.clone();
    macro_rules! check {
        ($($kind:ident $one:ident $section:ident $type:ident;)*) => {
            $(<crate::model::$type as Kind>::check(document, before, &mut known, mistakes);)*
        };
    }
    each_definition!(check);
    known
}

/// Those of a section, each with its place in the document. One that is there twice is noted.
fn each<'a, T: Declared>(section: &str, all: &'a [T], mistakes: &mut Vec<Mistake>) -> Vec<(String, &'a T)> {
    let mut seen = BTreeSet::new();
    let mut placed = Vec::with_capacity(all.len());
    for (n, one) in all.iter().enumerate() {
        let at = format!("{section}[{n}]");
        if !seen.insert(one.name()) {
            mistakes.push(twice(&at, one.name()));
        }
        placed.push((at, one));
    }
    placed
}

pub(super) fn check_its_name(at: &str, what: &str, name: &str, mistakes: &mut Vec<Mistake>) {
    if let Err(problem) = check_name(what, name) {
        mistakes.push(Mistake { at: format!("{at}.name"), problem, fix: "rename it".into() });
    }
}

pub(super) fn twice(at: &str, name: &str) -> Mistake {
    Mistake {
        at: format!("{at}.name"),
        problem: format!("'{}' is there twice", name.escape_debug()),
        fix: "leave one of them out, or rename it".into(),
    }
}

fn taken(at: &str, name: &str, by: &str) -> Mistake {
    Mistake {
        at: format!("{at}.name"),
        problem: format!("'{}' is the name of a {by} already", name.escape_debug()),
        fix: "rename it: scopes begin with this name".into(),
    }
}
