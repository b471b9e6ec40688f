//! All definitions, compiled: a table for each kind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hallpass_verify::ScopeSet;
use url::Url;

use crate::error::{Error, Result};
use crate::model::{self, Agent, Change, DefinitionKind, each_definition};
use crate::policy::{CompiledUpstream, Kind, Known, PublicHost};
use crate::store::StoredDefinition;

/// The definitions of one kind, by name.
type Table<T> = BTreeMap<String, Arc<<T as Kind>::Compiled>>;

/// A kind of definition that the registry holds.
pub trait Registered: Kind {
    /// Those of this kind, by name.
    fn table(definitions: &Definitions) -> &BTreeMap<String, Arc<Self::Compiled>>;
}

macro_rules! tables {
    ($($kind:ident $one:ident $section:ident $type:ident;)*) => {
        /// One consistent state of all definitions.
        #[derive(Debug, Clone, Default)]
        pub struct Definitions {
            $($section: Table<model::$type>,)*
            /// By host name: the upstreams that it leads to, each at ports of its own.
            public_hosts: HashMap<String, Vec<(PublicHost, Arc<CompiledUpstream>)>>,
        }

        impl Definitions {
            fn put(&mut self, kind: DefinitionKind, name: &str, body: &str) -> Result<(), String> {
                match kind {
                    $(DefinitionKind::$kind => {
                        self.$section.insert(name.to_owned(), Arc::new(compiled::<model::$type>(body)?));
                    })*
                }
                Ok(())
            }

            fn remove(&mut self, kind: DefinitionKind, name: &str) {
                match kind {
                    $(DefinitionKind::$kind => _ = self.$section.remove(name),)*
                }
            }

            /// What a new document may refer to.
            pub fn known(&self) -> Known {
                let mut known = Known::default();
                $(self.$section.values().for_each(|one| <model::$type as Kind>::learn(one, &mut known));)*
                known
            }

            $(
                #[doc = concat!("The ", stringify!($one), " of this name.")]
                pub fn $one(&self, name: &str) -> Option<&Arc<<model::$type as Kind>::Compiled>> {
                    self.$section.get(name)
                }

                #[doc = concat!("All ", stringify!($section), ", by name.")]
                pub fn $section(&self) -> impl Iterator<Item = &Arc<<model::$type as Kind>::Compiled>> {
                    self.$section.values()
                }
            )*
        }

        $(
            impl Registered for model::$type {
                fn table(definitions: &Definitions) -> &BTreeMap<String, Arc<Self::Compiled>> {
                    &definitions.$section
                }
            }
        )*
    };
}
each_definition!(tables);

/// One as it is stored, compiled.
fn compiled<T: Kind>(body: &str) -> Result<T::Compiled, String> {
    let one: T = serde_json::from_str(body).map_err(|error| error.to_string())?;
    one.compile().map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

impl Definitions {
    pub(super) fn new(stored: &[StoredDefinition]) -> Result<Self> {
        let mut definitions = Self::default();
        for one in stored {
            definitions.put(one.kind, &one.name, &one.body).map_err(|problem| {
                Error::internal(format!("the stored {} '{}' cannot be used: {problem}", one.kind.as_str(), one.name))
            })?;
        }
        definitions.list_public_hosts();
        Ok(definitions)
    }

    pub(super) fn with(&self, change: &Change) -> Self {
        let mut changed = self.clone();
        match change {
            Change::PutDefinition { kind, name, body } => {
                // It was compiled before it was committed, so this cannot fail; if it did, the old one must not stay.
                if let Err(problem) = changed.put(*kind, name, body) {
                    tracing::error!(kind = kind.as_str(), name, problem, "a committed definition cannot be used");
                    changed.remove(*kind, name);
                }
            }
            Change::RemoveDefinition { kind, name } => changed.remove(*kind, name),
            _ => {}
        }
        changed.list_public_hosts();
        changed
    }

    fn list_public_hosts(&mut self) {
        self.public_hosts.clear();
        for upstream in self.upstreams.values() {
            for host in upstream.public_hosts() {
                self.public_hosts.entry(host.name.clone()).or_default().push((host.clone(), upstream.clone()));
            }
        }
    }

    /// Whether any upstream has a host name of its own.
    pub fn has_public_hosts(&self) -> bool {
        !self.public_hosts.is_empty()
    }

    /// The upstream that is reached by this host and port, and its `scheme://host[:port]`. The broker's own host is never
    /// an upstream's: a configuration may have changed since a definition was applied.
    pub fn at_public_host(
        &self,
        issuer: &Url,
        host: &str,
        port: Option<u16>,
    ) -> Option<(&Arc<CompiledUpstream>, String)> {
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if issuer.host_str() == Some(&*name) {
            return None;
        }
        let mut there = self.public_hosts.get(&name)?.iter();
        there.find_map(|(host, upstream)| Some((upstream, host.origin(issuer, host.port_for(issuer, port)?))))
    }

    /// The scopes that an agent's roles give it now.
    pub fn scopes_of(&self, agent: &Agent) -> ScopeSet {
        let roles = agent.roles.iter().filter_map(|name| self.roles.get(name));
        roles.flat_map(|role| role.scopes.iter().cloned()).collect()
    }

    /// Whether an agent's roles give it a scope now.
    pub fn gives(&self, agent: &Agent, scope: &str) -> bool {
        let mut roles = agent.roles.iter().filter_map(|name| self.roles.get(name));
        roles.any(|role| role.scopes.iter().any(|one| one == scope))
    }
}
