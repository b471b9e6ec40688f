//! Upstreams, roles and resources, compiled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hallpass_verify::ScopeSet;
use url::Url;

use crate::error::{Error, Result};
use crate::model::{Agent, Change, DefinitionKind, Resource, Role, TrustDomain, TrustedIssuer, Upstream};
use crate::policy::{CompiledUpstream, Known, PublicHost};
use crate::store::StoredDefinition;

/// One consistent state of all definitions.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    upstreams: BTreeMap<String, Arc<CompiledUpstream>>,
    roles: BTreeMap<String, Arc<Role>>,
    resources: BTreeMap<String, Arc<Resource>>,
    issuers: BTreeMap<String, Arc<TrustedIssuer>>,
    trust_domains: BTreeMap<String, Arc<TrustDomain>>,
    /// By host name: the upstreams that it leads to, each at ports of its own.
    public_hosts: HashMap<String, Vec<(PublicHost, Arc<CompiledUpstream>)>>,
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

    fn put(&mut self, kind: DefinitionKind, name: &str, body: &str) -> Result<(), String> {
        match kind {
            DefinitionKind::Upstream => {
                let upstream: Upstream = serde_json::from_str(body).map_err(|error| error.to_string())?;
                let compiled = CompiledUpstream::new(upstream)
                    .map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
                self.upstreams.insert(name.to_owned(), Arc::new(compiled));
            }
            DefinitionKind::Role => {
                let role: Role = serde_json::from_str(body).map_err(|error| error.to_string())?;
                self.roles.insert(name.to_owned(), Arc::new(role));
            }
            DefinitionKind::Resource => {
                let resource: Resource = serde_json::from_str(body).map_err(|error| error.to_string())?;
                self.resources.insert(name.to_owned(), Arc::new(resource));
            }
            DefinitionKind::Issuer => {
                let issuer: TrustedIssuer = serde_json::from_str(body).map_err(|error| error.to_string())?;
                self.issuers.insert(name.to_owned(), Arc::new(issuer));
            }
            DefinitionKind::TrustDomain => {
                let domain: TrustDomain = serde_json::from_str(body).map_err(|error| error.to_string())?;
                self.trust_domains.insert(name.to_owned(), Arc::new(domain));
            }
        }
        Ok(())
    }

    fn remove(&mut self, kind: DefinitionKind, name: &str) {
        match kind {
            DefinitionKind::Upstream => _ = self.upstreams.remove(name),
            DefinitionKind::Role => _ = self.roles.remove(name),
            DefinitionKind::Resource => _ = self.resources.remove(name),
            DefinitionKind::Issuer => _ = self.issuers.remove(name),
            DefinitionKind::TrustDomain => _ = self.trust_domains.remove(name),
        }
    }

    /// An upstream by its name.
    pub fn upstream(&self, name: &str) -> Option<&Arc<CompiledUpstream>> {
        self.upstreams.get(name)
    }

    /// All upstreams, by name.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<CompiledUpstream>> {
        self.upstreams.values()
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

    /// A role by its name.
    pub fn role(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.get(name)
    }

    /// All roles, by name.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values()
    }

    /// A resource by its name.
    pub fn resource(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(name)
    }

    /// All resources, by name.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// A registered issuer of foreign tokens by its name.
    pub fn issuer(&self, name: &str) -> Option<&Arc<TrustedIssuer>> {
        self.issuers.get(name)
    }

    /// All registered issuers, by name.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<TrustedIssuer>> {
        self.issuers.values()
    }

    /// A registered SPIFFE trust domain.
    pub fn trust_domain(&self, name: &str) -> Option<&Arc<TrustDomain>> {
        self.trust_domains.get(name)
    }

    /// All registered SPIFFE trust domains, by name.
    pub fn trust_domains(&self) -> impl Iterator<Item = &Arc<TrustDomain>> {
        self.trust_domains.values()
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

    /// What a new document may refer to.
    pub fn known(&self) -> Known {
        let mut known = Known::default();
        for (name, upstream) in &self.upstreams {
            known.apis.insert(name.clone(), true);
            known.scopes.insert(name.clone(), upstream.scopes().map(str::to_owned).collect());
            known.base_hosts.insert(name.clone(), upstream.base().host.clone());
            if !upstream.public_hosts().is_empty() {
                known.public_hosts.insert(name.clone(), upstream.public_hosts().to_vec());
            }
        }
        for (name, resource) in &self.resources {
            known.apis.insert(name.clone(), false);
            let scopes: BTreeSet<_> = resource.scopes.iter().map(|scope| format!("{name}:{scope}")).collect();
            known.scopes.insert(name.clone(), scopes);
            known.audiences.insert(name.clone(), resource.audience.clone());
        }
        known.roles.extend(self.roles.keys().cloned());
        known.issuers.extend(self.issuers.keys().cloned());
        known.trust_domains.extend(self.trust_domains.keys().cloned());
        known
    }
}
