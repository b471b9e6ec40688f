//! Collecting a body, for what has to see all of it before the call is made.
//!
//! Bodies that wait in memory are how a few agents would stop all others: by many large ones, or by ones that never end. So
//! all of them together take a bounded number of bytes, one agent's a share of it, and each has to be there in time. Bytes
//! are set aside before they are read: all of them where the length was announced. Nobody waits for them, so that two
//! halves of bodies never wait for each other.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::body::{BodyError, CallBody, StreamBody};
use crate::error::{Error, Result};

/// What bounds the bodies that are collected.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct CollectLimits {
    /// Bytes of all of them.
    pub(in crate::broker) process_bytes: usize,
    /// Bytes of one agent's.
    pub(in crate::broker) agent_bytes: usize,
    /// From the first byte that is asked for to the last.
    pub(in crate::broker) deadline: Duration,
}

impl Default for CollectLimits {
    fn default() -> Self {
        Self { process_bytes: 256 * 1024 * 1024, agent_bytes: 64 * 1024 * 1024, deadline: Duration::from_secs(30) }
    }
}

/// Collects bodies within its limits.
#[derive(Debug)]
pub(in crate::broker) struct Collector {
    limits: CollectLimits,
    process: Arc<Semaphore>,
    of_agents: DashMap<Arc<str>, Arc<Semaphore>>,
}

/// The bytes, and what was set aside for them until the last copy of them is gone.
struct Held {
    bytes: BytesMut,
    reserved: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Collector {
    pub(in crate::broker) fn new(limits: CollectLimits) -> Self {
        let process = Arc::new(Semaphore::new(limits.process_bytes));
        Self { limits, process, of_agents: DashMap::new() }
    }

    /// All of a body of at most `max_bytes`. What is empty, or collected, stays as it is.
    ///
    /// # Errors
    /// It is too large or too slow, breaks off, or there is no room for it now.
    pub(in crate::broker) async fn whole(&self, body: CallBody, agent: &str, max_bytes: u64) -> Result<CallBody> {
        let CallBody::Stream(body) = body else { return Ok(body) };
        let collected = tokio::time::timeout(self.limits.deadline, self.collect(body, agent, max_bytes)).await;
        let held = collected.unwrap_or_else(|_| Err(too_slow(self.limits.deadline)))?;
        Ok(if held.bytes.is_empty() { CallBody::Empty } else { CallBody::Whole(Bytes::from_owner(held)) })
    }

    async fn collect(&self, mut body: StreamBody, agent: &str, max_bytes: u64) -> Result<Held> {
        let mut held = Held { bytes: BytesMut::new(), reserved: None };
        if let Some(announced) = body.size_hint().exact() {
            check_size(announced, max_bytes)?;
            let announced = usize::try_from(announced).map_err(|_| no_room())?;
            self.reserve(&mut held, agent, announced)?;
            held.bytes.reserve(announced);
        }
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(broken)?;
            // Trailers end here: they would be headers that nobody checked.
            let Ok(data) = frame.into_data() else { continue };
            let size = held.bytes.len().saturating_add(data.len());
            check_size(size as u64, max_bytes)?;
            let more = size.saturating_sub(held.set_aside());
            self.reserve(&mut held, agent, more)?;
            held.bytes.extend_from_slice(&data);
        }
        Ok(held)
    }

    /// Sets so many more bytes aside.
    fn reserve(&self, held: &mut Held, agent: &str, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let count = u32::try_from(bytes).map_err(|_| no_room())?;
        let own = self.of_agents.get(agent).map(|own| own.clone()).unwrap_or_else(|| {
            let own = self.of_agents.entry(agent.into());
            own.or_insert_with(|| Arc::new(Semaphore::new(self.limits.agent_bytes))).clone()
        });
        let own = own.try_acquire_many_owned(count).map_err(|_| no_room())?;
        let shared = self.process.clone().try_acquire_many_owned(count).map_err(|_| no_room())?;
        match &mut held.reserved {
            Some((there, all)) => {
                there.merge(own);
                all.merge(shared);
            }
            None => held.reserved = Some((own, shared)),
        }
        Ok(())
    }
}

impl Held {
    fn set_aside(&self) -> usize {
        self.reserved.as_ref().map_or(0, |(own, _)| own.num_permits())
    }
}

fn check_size(bytes: u64, max_bytes: u64) -> Result<()> {
    if bytes <= max_bytes {
        return Ok(());
    }
    let text = format!("the body is larger than {max_bytes} bytes, which is this upstream's limit");
    Err(Error::too_large("request_too_large", text))
}

fn no_room() -> Error {
    let text = "too many bodies wait to be checked as a whole; let some of them end, or send a smaller one";
    Error::unavailable("too_many_bodies", text)
}

fn too_slow(deadline: Duration) -> Error {
    let text = format!(
        "the body was not there within {} s, and this call cannot begin without all of it; send it faster, or in parts",
        deadline.as_secs()
    );
    Error::invalid("request_too_slow", text)
}

fn broken(error: BodyError) -> Error {
    Error::invalid("request_broken", "the request's body broke off").because(error)
}

#[cfg(test)]
mod tests;
