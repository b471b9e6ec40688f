//! What the operating system lets this process do, and others do with it.

/// The process that holds keys writes no core dump and lets no other process of its user read its memory.
pub fn seal_process() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process could not be made undumpable");
    }
}

/// Each connection is a descriptor, and so is each call to an upstream: take as many as the system lets us have. Many
/// shells give 1,024, and a stranger would need no more to keep everybody else out.
pub fn raise_descriptor_limit(needed: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
    let current = getrlimit(Resource::Nofile).current;
    if current.is_some_and(|current| current < needed) {
        tracing::warn!(
            ?current,
            needed,
            "listen.max_connections and exchange.max_connections are more than files may be open"
        );
    }
}
