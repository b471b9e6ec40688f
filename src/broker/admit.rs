//! Whether there is room for one more call.

use std::sync::Arc;

use hallpass_verify::Claims;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::Broker;
use crate::broker::failure::{Denied, Often};
use crate::broker::record::Facts;
use crate::error::Error;
use crate::policy::Candidate;

/// A call's place among those in flight, given back with its outcome.
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

impl Broker {
    /// A place among the calls in flight.
    pub(super) fn admit(&self, facts: &Facts, candidate: &Candidate) -> Result<Place, Denied> {
        self.place(&facts.claims)
            .map_err(|error| Denied::of(self.event_of_candidate(facts, candidate), error).often(Often::SampledUnwaited))
    }

    /// One agent gets only its share, so that it cannot stop the others by calls that it never reads the answers of.
    fn place(&self, claims: &Claims) -> Result<Place, Error> {
        let busy = |text: &str| Error::unavailable("too_many_calls", text);
        let there = self.own_places.get(claims.client_id.as_str()).map(|own| own.clone());
        let own = there.unwrap_or_else(|| {
            let own = self.own_places.entry(claims.client_id.as_str().into());
            own.or_insert_with(|| Arc::new(Semaphore::new(self.settings.max_calls_per_agent))).clone()
        });
        let own = own.try_acquire_owned();
        let own = own.map_err(|_| busy("this agent has too many calls in flight; let some of them end first"))?;
        let shared = self.places.clone().try_acquire_owned();
        let shared = shared.map_err(|_| busy("too many calls are in flight; try again in a moment"))?;
        Ok(Place { _own: own, _shared: shared })
    }
}
