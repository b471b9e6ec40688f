//! Upstreams.

use crate::model::{Definition as _, Manifest, Upstream};
use crate::policy::kind::{Kind, each, taken};
use crate::policy::{CompiledUpstream, Known, Mistake, public_host, spelling};

impl Kind for Upstream {
    type Compiled = CompiledUpstream;
    const GRANTS: bool = true;

    fn compile(self) -> Result<CompiledUpstream, Vec<Mistake>> {
        CompiledUpstream::new(self)
    }

    fn declared(compiled: &CompiledUpstream) -> &Self {
        compiled.definition()
    }

    fn learn(compiled: &CompiledUpstream, known: &mut Known) {
        let name = &**compiled.name();
        known.apis.insert(name.to_owned(), true);
        known.scopes.insert(name.to_owned(), compiled.scopes().map(str::to_owned).collect());
        known.base_hosts.insert(name.to_owned(), compiled.base().host.clone());
        if !compiled.public_hosts().is_empty() {
            known.public_hosts.insert(name.to_owned(), compiled.public_hosts().to_vec());
        }
    }

    fn forget(name: &str, known: &mut Known) {
        known.apis.remove(name);
        known.scopes.remove(name);
        known.public_hosts.remove(name);
        known.base_hosts.remove(name);
    }

    fn check(document: &Manifest, before: &Known, known: &mut Known, mistakes: &mut Vec<Mistake>) {
        for (at, upstream) in each(Self::SECTION, &document.upstreams, mistakes) {
            if before.apis.get(&upstream.name) == Some(&false) {
                mistakes.push(taken(&at, &upstream.name, "resource"));
            }
            spelling::check(&at, upstream, mistakes);
            let scopes = match CompiledUpstream::new(upstream.clone()) {
                Ok(one) => one.scopes().map(str::to_owned).collect(),
                Err(inner) => {
                    mistakes.extend(inner.into_iter().map(|one| Mistake { at: format!("{at}.{}", one.at), ..one }));
                    // Its scopes still count, so that one mistake does not make ten.
                    upstream.operations.iter().map(|op| format!("{}:{}", upstream.name, op.scope)).collect()
                }
            };
            known.scopes.insert(upstream.name.clone(), scopes);
        }
        public_host::check_all(document, before, mistakes);
    }
}
