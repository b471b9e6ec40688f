//! Certificates that are renewed while the broker runs: files are looked at again, and what is broken changes nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::app::tls::{client_cas, server_certificate};
use crate::config::{ClientCertificates, Tls};
use crate::error::Result;
use crate::issue::ClientCas;
use crate::listen::ServerCertificate;

/// What tells one content of a file from the next without reading it: modification time, size, inode.
type Stamp = Option<(i64, i64, u64, u64)>;

/// Files, and what they looked like when they were last read.
struct Watched {
    files: Vec<PathBuf>,
    stamps: Vec<Stamp>,
}

impl Watched {
    fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let files: Vec<_> = files.into_iter().collect();
        let stamps = stamps(&files);
        Self { files, stamps }
    }

    /// Whether one of them changed since the last time that this was asked.
    fn changed(&mut self) -> bool {
        // Taken before the files are read: what changes meanwhile is seen the next time.
        let now = stamps(&self.files);
        let changed = now != self.stamps;
        self.stamps = now;
        changed
    }

    fn shown(&self) -> String {
        self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let seen = std::fs::metadata(file).ok()?;
        Some((seen.mtime(), seen.mtime_nsec(), seen.size(), seen.ino()))
    };
    files.iter().map(stamp).collect()
}

/// What is reloaded when its files change.
#[derive(Default)]
pub(super) struct Reload {
    servers: Vec<(Watched, Tls, Arc<ServerCertificate>)>,
    clients: Vec<(Watched, ClientCertificates, Arc<ArcSwap<ClientCas>>)>,
}

impl Reload {
    /// The certificate that a listener shows.
    pub(super) fn server(&mut self, tls: &Tls, certificate: Arc<ServerCertificate>) {
        let watched = Watched::new([tls.cert_file.clone(), tls.key_file.clone()]);
        self.servers.push((watched, tls.clone(), certificate));
    }

    /// Those who vouch for its clients.
    pub(super) fn clients(&mut self, files: &ClientCertificates, cas: Arc<ArcSwap<ClientCas>>) {
        let watched = Watched::new(files.ca_file.iter().chain(&files.crl_file).cloned());
        self.clients.push((watched, files.clone(), cas));
    }

    /// Reads everything again.
    pub(super) fn again(&mut self) {
        let watched = self.servers.iter_mut().map(|(watched, ..)| watched);
        for watched in watched.chain(self.clients.iter_mut().map(|(watched, ..)| watched)) {
            watched.stamps.clear();
        }
        self.tick();
    }

    /// Reads again what has changed.
    pub(super) fn tick(&mut self) {
        for (watched, tls, certificate) in &mut self.servers {
            if watched.changed() {
                tell(watched, server_certificate(tls).map(|new| certificate.put(new)));
            }
        }
        for (watched, files, cas) in &mut self.clients {
            if watched.changed() {
                tell(watched, client_cas(files).map(|new| cas.store(Arc::new(new))));
            }
        }
    }
}

fn tell(watched: &Watched, outcome: Result<()>) {
    let files = watched.shown();
    match outcome {
        Ok(()) => {
            ::metrics::counter!("hallpass_certificate_reloads_total", "outcome" => "done").increment(1);
            tracing::info!(files, "certificates were read again");
        }
        Err(error) => {
            ::metrics::counter!("hallpass_certificate_reloads_total", "outcome" => "failed").increment(1);
            tracing::error!(%error, files, "changed certificates cannot be used; what was read before stays in force");
        }
    }
}
