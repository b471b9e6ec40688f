//! Whether a call may be made, asked before it is recorded and once more before the secret leaves.

use std::sync::Arc;

use hallpass_verify::Refusal;

use crate::audit::Recorded;
use crate::broker::Broker;
use crate::broker::failure::{CallError, Denied};
use crate::broker::record::Facts;
use crate::credential::Chosen;
use crate::error::Error;
use crate::model::{AgentStatus, TargetError};
use crate::policy::{self, Candidate, Denial, Permit};

impl Broker {
    /// The policy's word, with the agent's roles as they are now.
    pub(super) fn decide(&self, facts: &Facts, candidate: Candidate) -> Result<Permit, Denied> {
        let claims = &facts.claims;
        let Some(agent) = &facts.agent else {
            return Err(Denied::unrecorded(CallError::Token(self.registry.why_stopped(&claims.client_id))));
        };
        let definitions = self.registry.definitions();
        let gives = |scope: &str| definitions.gives(agent, scope);
        let (denial, candidate) = match policy::decide(claims, agent, gives, candidate) {
            Ok(permit) => return Ok(permit),
            Err(denied) => *denied,
        };
        let event = self.event_of_candidate(facts, &candidate);
        let error = match denial {
            Denial::AgentNotActive => CallError::Token(self.registry.why_stopped(&claims.client_id)),
            Denial::MissingScope(scope) => CallError::MissingScope(scope),
            Denial::NotBound => CallError::NotBound,
            Denial::EncodedSlash => Error::invalid(denial.code(), TargetError::EncodedSlash.to_string()).into(),
            Denial::NoOperation => {
                let may = |scope: &str| claims.scope.contains(scope) && gives(scope);
                let view = policy::View::new(candidate.upstream(), may);
                CallError::NoOperation(view.hint(candidate.method(), &candidate.target().match_path()))
            }
        };
        Err(Denied::of(event, error))
    }

    /// The credentials that it goes out with.
    pub(super) fn choose(&self, permit: &Permit) -> Result<Chosen, Error> {
        Chosen::for_call(permit.upstream(), &self.registry, self.world.now())
    }

    /// Everything that an admin may have taken back while the intent was on its way to disk, asked once more before the
    /// secret leaves (P3): token, session, agent, role, upstream, credential. `since` is the version of all rights from
    /// before they were asked first: while it is the same, only a credential can have changed. Gives the version that
    /// they were found good at now.
    pub(super) fn still_permitted(
        &self,
        recorded: &Recorded<Permit>,
        chosen: &Chosen,
        since: u64,
    ) -> Result<u64, CallError> {
        // Before it is asked: what changes after it was asked is a newer version.
        let version = self.registry.rights().version();
        if version != since {
            self.still_has_right(recorded.get())?;
        }
        if !chosen.is_still(&self.registry, self.world.now())? {
            let text = "the upstream's credential was just changed; try again";
            return Err(Error::unavailable("credential_changed", text).into());
        }
        Ok(version)
    }

    fn still_has_right(&self, permit: &Permit) -> Result<(), CallError> {
        let claims = permit.claims();
        if let Some(by) = self.registry.revoked().find(claims) {
            return Err(CallError::Token(Refusal::Revoked(by)));
        }
        let agent = self.registry.agent(&claims.client_id).filter(|agent| agent.status == AgentStatus::Active);
        let Some(agent) = agent else {
            return Err(CallError::Token(self.registry.why_stopped(&claims.client_id)));
        };
        let definitions = self.registry.definitions();
        let scope = &permit.operation().scope;
        if !definitions.gives(&agent, scope) {
            return Err(CallError::MissingScope(scope.clone()));
        }
        let upstream = permit.upstream();
        if !definitions.upstream(upstream.name()).is_some_and(|now| Arc::ptr_eq(now, upstream)) {
            let text = "the upstream's definition was just changed; try again";
            return Err(Error::unavailable("upstream_changed", text).into());
        }
        Ok(())
    }
}
