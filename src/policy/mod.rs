//! Who may do what. Pure: no I/O, no time, no state of its own.
//!
//! [`decide`] is the only maker of a [`Permit`]; without one, nothing goes on to the vault.

pub mod address;
mod compiled;
mod headers;
mod identity;
mod kind;
mod manifest;
mod nearest;
mod public_host;
mod routes;
mod spelling;
#[cfg(test)]
mod tests;
mod uri;

use std::sync::Arc;

use hallpass_verify::Claims;

use crate::model::{Agent, AgentStatus, Target, TargetError};

pub use compiled::{BaseUrl, CompiledUpstream};
pub use headers::{HeaderPass, Passing};
pub use identity::{check_identity, is_as_safe, is_fetchable};
pub use kind::{Kind, grants};
pub use manifest::{Known, Mistake, parse_manifest, sections, validate_manifest};
pub use nearest::{Hint, View, nearest_name};
pub use public_host::PublicHost;
pub use routes::{Fit, OperationView};
pub use uri::canonical as canonical_uri;

/// The proof that a call was allowed: this agent, this operation, this very target. Only [`decide`] builds one.
#[derive(Debug)]
pub struct Permit {
    claims: Claims,
    agent_name: Arc<str>,
    upstream: Arc<CompiledUpstream>,
    operation: OperationView,
    method: Arc<str>,
    target: Target,
}

impl Permit {
    /// The token's claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The agent's name.
    pub fn agent_name(&self) -> &Arc<str> {
        &self.agent_name
    }

    /// Where to.
    pub fn upstream(&self) -> &Arc<CompiledUpstream> {
        &self.upstream
    }

    /// Which operation.
    pub fn operation(&self) -> &OperationView {
        &self.operation
    }

    /// The method that was allowed.
    pub fn method(&self) -> &Arc<str> {
        &self.method
    }

    /// The target that was allowed: what is sent is built from this and nothing else (P8).
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// Why a call is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The agent is suspended or revoked.
    AgentNotActive,
    /// The upstream takes only tokens that are bound to a key, and this one is not (P5).
    NotBound,
    /// No operation of the upstream has this method and path: deny is the default (P8).
    NoOperation,
    /// An encoded slash where the operation has a single segment.
    EncodedSlash,
    /// The operation takes a scope that the token does not have, or that the agent's roles no longer give.
    MissingScope(Arc<str>),
}

impl Denial {
    /// A stable code for programs and the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AgentNotActive => "agent_not_active",
            Self::NotBound => "token_binding_required",
            Self::NoOperation => "operation_not_allowed",
            Self::EncodedSlash => TargetError::EncodedSlash.code(),
            Self::MissingScope(_) => "insufficient_scope",
        }
    }
}

/// Decides on one call. `roles_give` says whether the agent's roles give a scope now: a role that was narrowed counts
/// at once, not when the token dies.
pub fn decide(
    claims: &Claims,
    agent: &Agent,
    roles_give: impl Fn(&str) -> bool,
    upstream: &Arc<CompiledUpstream>,
    method: &str,
    target: Target,
) -> Result<Permit, (Denial, Target)> {
    if agent.status != AgentStatus::Active {
        return Err((Denial::AgentNotActive, target));
    }
    if upstream.definition().require_bound && claims.cnf.is_none() {
        return Err((Denial::NotBound, target));
    }
    let may = |scope: &str| claims.scope.contains(scope) && roles_give(scope);
    let operation = match fitting(upstream, method, &target, may) {
        Ok(operation) => operation.clone(),
        Err(denial) => return Err((denial, target)),
    };
    if !may(&operation.scope) {
        return Err((Denial::MissingScope(operation.scope), target));
    }
    Ok(Permit {
        claims: claims.clone(),
        agent_name: agent.name.clone(),
        upstream: upstream.clone(),
        operation,
        method: method.into(),
        target,
    })
}

/// The operation that a target is, however its upstream may read it. `may`: whether the token and the roles give a scope.
fn fitting<'a>(
    upstream: &'a CompiledUpstream,
    method: &str,
    target: &Target,
    may: impl Fn(&str) -> bool,
) -> Result<&'a OperationView, Denial> {
    let path = target.match_path();
    let Fit { operation, slash_in_segment } = upstream.fit(method, &path).ok_or(Denial::NoOperation)?;
    if slash_in_segment && !operation.encoded_slash {
        return Err(Denial::EncodedSlash);
    }
    // `/things%3Adelete` matches `/{thing}`, but an upstream that decodes before it routes runs `/things:delete`.
    // What is one operation as written and another as decoded is ambiguous, and refused (P8). Where the definition says
    // that an encoded slash is data, it is data to this upstream.
    let reading = if operation.encoded_slash { target.decoded_path_but_slashes() } else { target.decoded_path() };
    if reading != path && upstream.operation(method, &reading).is_none_or(|other| other.id != operation.id) {
        return Err(Denial::NoOperation);
    }
    // Should the definition be wrong about that, the agent still gets nothing that it may not have anyway:
    // `/projects/1%2Fvariables` takes the scope of `/projects/{id}/variables`, too.
    if operation.encoded_slash && target.has_encoded_slash() {
        let other = upstream.operation(method, &target.decoded_path());
        if let Some(other) = other.filter(|other| !may(&other.scope)) {
            return Err(Denial::MissingScope(other.scope.clone()));
        }
    }
    Ok(operation)
}
