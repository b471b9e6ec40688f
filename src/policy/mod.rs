//! Who may do what. Pure: no I/O, no time, no state of its own.
//!
//! [`classify`] finds out which operation is asked for, [`decide`] whether it may be done. It is the only maker of a [`Permit`];
//! without one, nothing goes on to the vault.

pub mod address;
mod compiled;
mod headers;
mod identity;
mod kind;
mod manifest;
mod nearest;
mod placement;
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
pub use placement::{Basic, Bearer, CompiledPlacement, Form, Header, Need, Query, Slot};
pub use public_host::PublicHost;
pub use routes::{Fit, OperationView};
pub use uri::canonical as canonical_uri;

/// What is asked for: a method and a target of one upstream, and which of its operations that is.
#[derive(Debug)]
pub struct Candidate {
    upstream: Arc<CompiledUpstream>,
    method: Arc<str>,
    target: Target,
    /// The operation, or why it is none.
    operation: Result<OperationView, Denial>,
    /// The scope of the operation that the target would be if an encoded slash were a slash.
    also: Option<Arc<str>>,
}

impl Candidate {
    /// Where to.
    pub fn upstream(&self) -> &Arc<CompiledUpstream> {
        &self.upstream
    }

    /// The method.
    pub fn method(&self) -> &Arc<str> {
        &self.method
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// The proof that a call was allowed: this agent, this operation, this very target. Only [`decide`] builds one. A clone is
/// about the same call.
#[derive(Debug, Clone)]
pub struct Permit(Arc<Allowed>);

#[derive(Debug)]
struct Allowed {
    claims: Arc<Claims>,
    agent_name: Arc<str>,
    upstream: Arc<CompiledUpstream>,
    operation: OperationView,
    method: Arc<str>,
    target: Target,
}

impl Permit {
    /// The token's claims.
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }

    /// The agent's name.
    pub fn agent_name(&self) -> &Arc<str> {
        &self.0.agent_name
    }

    /// Where to.
    pub fn upstream(&self) -> &Arc<CompiledUpstream> {
        &self.0.upstream
    }

    /// Which operation.
    pub fn operation(&self) -> &OperationView {
        &self.0.operation
    }

    /// The method that was allowed.
    pub fn method(&self) -> &Arc<str> {
        &self.0.method
    }

    /// The target that was allowed: what is sent is built from this and nothing else (P8).
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// What must be at hand before its request can be built: what the placements have to see, or the operation.
    pub fn need(&self) -> Need {
        self.0.upstream.need().max(self.0.operation.need)
    }

    /// Whether the same call would be allowed by another definition of its upstream, or to an agent as it is now.
    pub fn is_still(
        &self,
        agent: &Agent,
        roles_give: impl Fn(&str) -> bool,
        upstream: &Arc<CompiledUpstream>,
    ) -> Result<(), Denial> {
        let Allowed { claims, method, target, .. } = &*self.0;
        let candidate = classify(upstream.clone(), method.clone(), target.clone());
        decide(claims, agent, roles_give, candidate).map(drop).map_err(|denied| denied.0)
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

/// Finds out which operation of an upstream a method and a target are.
pub fn classify(upstream: Arc<CompiledUpstream>, method: Arc<str>, target: Target) -> Candidate {
    let (operation, also) = match fitting(&upstream, &method, &target) {
        Ok((operation, also)) => (Ok(operation), also),
        Err(denial) => (Err(denial), None),
    };
    Candidate { upstream, method, target, operation, also }
}

/// Decides on one call. `roles_give` says whether the agent's roles give a scope now: a role that was narrowed counts
/// at once, not when the token dies.
///
/// # Errors
/// Why not, and what was asked for.
pub fn decide(
    claims: &Arc<Claims>,
    agent: &Agent,
    roles_give: impl Fn(&str) -> bool,
    candidate: Candidate,
) -> Result<Permit, Box<(Denial, Candidate)>> {
    if agent.status != AgentStatus::Active {
        return Err(Box::new((Denial::AgentNotActive, candidate)));
    }
    if candidate.upstream.definition().require_bound && claims.cnf.is_none() {
        return Err(Box::new((Denial::NotBound, candidate)));
    }
    let operation = match &candidate.operation {
        Ok(operation) => operation.clone(),
        Err(denial) => return Err(Box::new((denial.clone(), candidate))),
    };
    let may = |scope: &str| claims.scope.contains(scope) && roles_give(scope);
    // Should the definition be wrong about encoded slashes, the agent still gets nothing that it may not have anyway:
    // `/projects/1%2Fvariables` takes the scope of `/projects/{id}/variables`, too.
    let missing = candidate.also.iter().chain([&operation.scope]).find(|scope| !may(scope)).cloned();
    if let Some(scope) = missing {
        return Err(Box::new((Denial::MissingScope(scope), candidate)));
    }
    let Candidate { upstream, method, target, .. } = candidate;
    let (claims, agent_name) = (claims.clone(), agent.name.clone());
    Ok(Permit(Arc::new(Allowed { claims, agent_name, upstream, operation, method, target })))
}

/// The operation that a target is, however its upstream may read it; and the scope of the one that it is beside that, if an
/// encoded slash in it may be a slash.
fn fitting(
    upstream: &CompiledUpstream,
    method: &str,
    target: &Target,
) -> Result<(OperationView, Option<Arc<str>>), Denial> {
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
    let is_data = operation.encoded_slash && target.has_encoded_slash();
    let also = is_data.then(|| upstream.operation(method, &target.decoded_path())).flatten();
    Ok((operation.clone(), also.map(|other| other.scope.clone())))
}
