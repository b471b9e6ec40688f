//! Roles, resources, issuers and trust domains: list, show, remove. They are declared by `apply`.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::manage::{Admin, Manager, changed, unrecorded};
use crate::model::{Agent, Change, DefinitionKind, Resource, Role, TrustDomain, TrustedIssuer};
use crate::registry::Definitions;

/// A kind of definition that has no more to it than being listed, shown and removed.
pub trait Noun: 'static {
    /// What was declared.
    type Item: Serialize + 'static;
    /// What an admin sees of one.
    type View: Serialize + DeserializeOwned + ToSchema + Send + 'static;
    /// What an admin sees of all.
    type List: Serialize + DeserializeOwned + ToSchema + Send + 'static + From<Vec<Self::View>> + Into<Vec<Self::View>>;
    /// As it is stored.
    const KIND: DefinitionKind;
    /// One, for people.
    const ONE: &'static str;
    /// The section of a document, and the member of [`Noun::List`].
    const SECTION: &'static str;
    /// The command, and the member of the path.
    const COMMAND: &'static str;

    /// All of them, by name.
    fn all(definitions: &Definitions) -> Vec<(&str, &Self::Item)>;

    /// What an admin sees of one.
    fn view(manager: &Manager, item: &Self::Item) -> Self::View;

    /// What else changes when it goes.
    fn with_it(_manager: &Manager, _name: &str) -> Vec<Change> {
        Vec::new()
    }
}

/// A list's answer: one member with all of them.
macro_rules! list {
    ($(#[$doc:meta])* $list:ident { $member:ident: $view:ty }) => {
        $(#[$doc])*
        #[derive(Debug, Serialize, Deserialize, ToSchema)]
        pub struct $list {
            /// By name.
            pub $member: Vec<$view>,
        }

        impl From<Vec<$view>> for $list {
            fn from($member: Vec<$view>) -> Self {
                Self { $member }
            }
        }

        impl From<$list> for Vec<$view> {
            fn from(list: $list) -> Self {
                list.$member
            }
        }
    };
}

list! {
    /// All roles.
    RoleList { roles: RoleView }
}
list! {
    /// All resources.
    ResourceList { resources: Resource }
}
list! {
    /// All issuers of foreign tokens.
    IssuerList { issuers: TrustedIssuer }
}
list! {
    /// All SPIFFE trust domains.
    TrustDomainList { trust_domains: TrustDomain }
}

/// A role, and who holds it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    /// Its name.
    pub name: String,
    /// The scopes that it gives.
    pub scopes: Vec<String>,
    /// The names of the agents that hold it.
    pub agents: Vec<String>,
}

/// A definition that is no more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DefinitionRemoved {
    /// Its name.
    pub name: String,
    /// Always true.
    pub removed: bool,
    /// The names of the agents that held it.
    pub taken_from: Vec<String>,
}

/// Roles.
#[derive(Debug)]
pub struct Roles;
/// Resources.
#[derive(Debug)]
pub struct Resources;
/// Issuers of foreign tokens.
#[derive(Debug)]
pub struct Issuers;
/// SPIFFE trust domains.
#[derive(Debug)]
pub struct TrustDomains;

impl Noun for Roles {
    type Item = Role;
    type View = RoleView;
    type List = RoleList;
    const KIND: DefinitionKind = DefinitionKind::Role;
    const ONE: &'static str = "role";
    const SECTION: &'static str = "roles";
    const COMMAND: &'static str = "role";

    fn all(definitions: &Definitions) -> Vec<(&str, &Role)> {
        definitions.roles().map(|one| (one.name.as_str(), &**one)).collect()
    }

    fn view(manager: &Manager, role: &Role) -> RoleView {
        let mut holders = manager.registry.agents();
        holders.retain(|agent| agent.roles.contains(&role.name));
        let agents = holders.iter().map(|agent| agent.name.to_string()).collect();
        RoleView { name: role.name.clone(), scopes: role.scopes.clone(), agents }
    }

    /// It is taken from those who hold it: else another role of this name would give itself to them.
    fn with_it(manager: &Manager, name: &str) -> Vec<Change> {
        without_roles(manager, &[name])
    }
}

/// Takes these roles from all agents that hold one of them.
pub(super) fn without_roles(manager: &Manager, gone: &[&str]) -> Vec<Change> {
    let stays = |role: &String| !gone.contains(&role.as_str());
    let mut holders = manager.registry.agents();
    holders.retain(|agent| !agent.roles.iter().all(stays));
    let without = |agent: Arc<Agent>| {
        let roles = agent.roles.iter().filter(|role| stays(role)).cloned().collect();
        Change::PutAgent(Arc::new(Agent { roles, ..Agent::clone(&agent) }))
    };
    holders.into_iter().map(without).collect()
}

impl Noun for Resources {
    type Item = Resource;
    type View = Resource;
    type List = ResourceList;
    const KIND: DefinitionKind = DefinitionKind::Resource;
    const ONE: &'static str = "resource";
    const SECTION: &'static str = "resources";
    const COMMAND: &'static str = "resource";

    fn all(definitions: &Definitions) -> Vec<(&str, &Resource)> {
        definitions.resources().map(|one| (one.name.as_str(), &**one)).collect()
    }

    fn view(_: &Manager, resource: &Resource) -> Resource {
        resource.clone()
    }
}

impl Noun for Issuers {
    type Item = TrustedIssuer;
    type View = TrustedIssuer;
    type List = IssuerList;
    const KIND: DefinitionKind = DefinitionKind::Issuer;
    const ONE: &'static str = "issuer";
    const SECTION: &'static str = "issuers";
    const COMMAND: &'static str = "issuer";

    fn all(definitions: &Definitions) -> Vec<(&str, &TrustedIssuer)> {
        definitions.issuers().map(|one| (one.name.as_str(), &**one)).collect()
    }

    fn view(_: &Manager, issuer: &TrustedIssuer) -> TrustedIssuer {
        issuer.clone()
    }
}

impl Noun for TrustDomains {
    type Item = TrustDomain;
    type View = TrustDomain;
    type List = TrustDomainList;
    const KIND: DefinitionKind = DefinitionKind::TrustDomain;
    const ONE: &'static str = "trust domain";
    const SECTION: &'static str = "trust_domains";
    const COMMAND: &'static str = "trust-domain";

    fn all(definitions: &Definitions) -> Vec<(&str, &TrustDomain)> {
        definitions.trust_domains().map(|one| (one.name.as_str(), &**one)).collect()
    }

    fn view(_: &Manager, domain: &TrustDomain) -> TrustDomain {
        domain.clone()
    }
}

/// All of a kind.
///
/// # Errors
/// None.
pub async fn list<N: Noun>(admin: Admin) -> Result<N::List> {
    let definitions = admin.manager.registry.definitions();
    let all: Vec<N::View> = N::all(&definitions).into_iter().map(|(_, item)| N::view(&admin.manager, item)).collect();
    Ok(all.into())
}

/// One of a kind.
///
/// # Errors
/// There is none of this name.
pub async fn show<N: Noun>(admin: Admin, name: String) -> Result<N::View> {
    let definitions = admin.manager.registry.definitions();
    let found = N::all(&definitions).into_iter().find(|(one, _)| *one == name);
    let (_, item) = found.ok_or_else(|| unknown::<N>(&name))?;
    Ok(N::view(&admin.manager, item))
}

/// Removes one of a kind. Nobody is asked: what goes only takes rights away, and `show -o yaml` keeps it for another day.
///
/// # Errors
/// There is none of this name, or nothing can be recorded.
pub async fn remove<N: Noun>(admin: Admin, name: String) -> Result<DefinitionRemoved> {
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let mut event = admin.event(&format!("{} remove", N::COMMAND), &name);
    {
        let definitions = manager.registry.definitions();
        let found = N::all(&definitions).into_iter().find(|(one, _)| *one == name);
        let (_, item) = found.ok_or_else(|| unknown::<N>(&name))?;
        changed::tell(&mut event, Some(item), None);
    }
    let mut changes = N::with_it(manager, &name);
    let taken_from: Vec<String> = changes
        .iter()
        .filter_map(|change| match change {
            Change::PutAgent(agent) => Some(agent.name.to_string()),
            _ => None,
        })
        .collect();
    changes.push(Change::RemoveDefinition { kind: N::KIND, name: name.clone() });
    manager.ledger.commit(vec![event], changes).await.map_err(unrecorded)?;
    Ok(DefinitionRemoved { name, removed: true, taken_from })
}

fn unknown<N: Noun>(name: &str) -> Error {
    let code = match N::KIND {
        DefinitionKind::Role => "role_unknown",
        DefinitionKind::Resource => "resource_unknown",
        DefinitionKind::Issuer => "issuer_unknown",
        DefinitionKind::TrustDomain => "trust_domain_unknown",
        DefinitionKind::Upstream => "upstream_unknown",
    };
    let text = format!("there is no {} '{}'; see 'hallpass {} list'", N::ONE, name.escape_debug(), N::COMMAND);
    Error::not_found(code, text)
}
