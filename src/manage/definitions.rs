//! Roles, resources, issuers and trust domains: list, show, remove. They are declared by `apply`.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::manage::{Admin, Manager, changed, unrecorded};
use crate::model::{Agent, Change, Resource, Role, TrustDomain, TrustedIssuer};
use crate::registry::Registered;

/// A kind of definition that has no more to it than being listed, shown and removed.
pub trait Noun: Registered {
    /// What an admin sees of one.
    type View: Serialize + DeserializeOwned + ToSchema + Send + 'static;
    /// What an admin sees of all.
    type List: Serialize + DeserializeOwned + ToSchema + Send + 'static + From<Vec<Self::View>> + Into<Vec<Self::View>>;
    /// One, for people.
    const ONE: &'static str;
    /// The command, and the member of the path.
    const COMMAND: &'static str;

    /// What an admin sees of one.
    fn view(manager: &Manager, item: &Self) -> Self::View;

    /// There is none of this name.
    fn unknown(name: &str) -> Error;

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

impl Noun for Role {
    type View = RoleView;
    type List = RoleList;
    const ONE: &'static str = "role";
    const COMMAND: &'static str = "role";

    fn view(manager: &Manager, role: &Self) -> RoleView {
        let mut holders = manager.registry.agents();
        holders.retain(|agent| agent.roles.contains(&role.name));
        let agents = holders.iter().map(|agent| agent.name.to_string()).collect();
        RoleView { name: role.name.clone(), scopes: role.scopes.clone(), agents }
    }

    fn unknown(name: &str) -> Error {
        Error::not_found(
            "role_unknown",
            format!("there is no role '{}'; see 'hallpass role list'", name.escape_debug()),
        )
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

impl Noun for Resource {
    type View = Self;
    type List = ResourceList;
    const ONE: &'static str = "resource";
    const COMMAND: &'static str = "resource";

    fn view(_: &Manager, item: &Self) -> Self {
        item.clone()
    }

    fn unknown(name: &str) -> Error {
        Error::not_found(
            "resource_unknown",
            format!("there is no resource '{}'; see 'hallpass resource list'", name.escape_debug()),
        )
    }
}

impl Noun for TrustedIssuer {
    type View = Self;
    type List = IssuerList;
    const ONE: &'static str = "issuer";
    const COMMAND: &'static str = "issuer";

    fn view(_: &Manager, item: &Self) -> Self {
        item.clone()
    }

    fn unknown(name: &str) -> Error {
        Error::not_found(
            "issuer_unknown",
            format!("there is no issuer '{}'; see 'hallpass issuer list'", name.escape_debug()),
        )
    }
}

impl Noun for TrustDomain {
    type View = Self;
    type List = TrustDomainList;
    const ONE: &'static str = "trust domain";
    const COMMAND: &'static str = "trust-domain";

    fn view(_: &Manager, item: &Self) -> Self {
        item.clone()
    }

    fn unknown(name: &str) -> Error {
        Error::not_found(
            "trust_domain_unknown",
            format!("there is no trust domain '{}'; see 'hallpass trust-domain list'", name.escape_debug()),
        )
    }
}

/// All of a kind.
///
/// # Errors
/// None.
pub async fn list<N: Noun>(admin: Admin) -> Result<N::List> {
    let definitions = admin.manager.registry.definitions();
    let all = N::table(&definitions).values().map(|one| N::view(&admin.manager, N::declared(one)));
    Ok(all.collect::<Vec<_>>().into())
}

/// One of a kind.
///
/// # Errors
/// There is none of this name.
pub async fn show<N: Noun>(admin: Admin, name: String) -> Result<N::View> {
    let found = find::<N>(&admin.manager, &name)?;
    Ok(N::view(&admin.manager, N::declared(&found)))
}

/// Removes one of a kind. Nobody is asked: what goes only takes rights away, and `show -o yaml` keeps it for another day.
///
/// # Errors
/// There is none of this name, or nothing can be recorded.
pub async fn remove<N: Noun>(admin: Admin, name: String) -> Result<DefinitionRemoved> {
    let manager = &admin.manager;
    let _turn = manager.one_at_a_time.lock().await;
    let found = find::<N>(manager, &name)?;
    let mut event = admin.event(&format!("{} remove", N::COMMAND), &name);
    changed::tell(&mut event, Some(N::declared(&found)), None);
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

fn find<N: Noun>(manager: &Manager, name: &str) -> Result<Arc<N::Compiled>> {
    let found = N::table(&manager.registry.definitions()).get(name).cloned();
    found.ok_or_else(|| N::unknown(name))
}
