//! What the story is played on: a folder that goes away, a broker in this process, the demo API.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::app::{Running, Surroundings, init, start};
use crate::cli::Failure;
use crate::cli::client::AdminClient;
use crate::cli::quickstart::demo::DemoApi;
use crate::config::Overrides;
use crate::error::Error;
use crate::secret::random_id;
use crate::world::{Entropy, SystemEntropy};

/// Where a broker listens by default, so that what is printed looks like the README.
const USUAL_PORT: u16 = 8600;

/// A private folder that is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn make(entropy: &dyn Entropy) -> Result<Self, Failure> {
        let parent = std::path::absolute(std::env::temp_dir())?;
        let path = parent.join(random_id("hallpass-", entropy));
        // Not recursive: a folder that is there already, of whomever, is an error.
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            Failure::Failed(format!("the folder {} cannot be made: {error}; set TMPDIR", path.display()))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "the folder could not be removed");
        }
    }
}

/// A broker and an API, ready for an agent.
pub(super) struct Stage {
    pub(super) running: Running,
    pub(super) demo: DemoApi,
    pub(super) admin: AdminClient,
    pub(super) config_file: PathBuf,
    folder: Folder,
}

impl Stage {
    /// `usual_port`: whether to try the default port before taking any free one.
    pub(super) async fn set(usual_port: bool) -> Result<Self, Failure> {
        let folder = Folder::make(&SystemEntropy)?;
        let config_file = init(&folder.0, None).await?;
        let running = match usual_port {
            true => match broker(&config_file, USUAL_PORT).await {
                Err(Failure::Failed(_)) => broker(&config_file, 0).await?,
                other => other?,
            },
            false => broker(&config_file, 0).await?,
        };
        let demo = DemoApi::open(&SystemEntropy).await?;
        let admin = AdminClient::new(running.state.config.listen.admin_socket.clone());
        Ok(Self { running, demo, admin, config_file, folder })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Stops the broker and removes everything.
    pub(super) async fn strike(self) {
        let Self { running, demo, folder, .. } = self;
        running.stop().await;
        drop((demo, folder));
    }
}

async fn broker(config_file: &Path, port: u16) -> Result<Running, Failure> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // Not even the environment: the story is the same wherever it is told.
    let config = crate::config::load(Some(config_file), std::iter::empty(), Overrides { listen: Some(listen) })
        .map_err(|mistakes| {
            let all: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            Failure::Failed(all.join("\n"))
        })?;
    start(config, Surroundings::default()).await.map_err(|error: Error| Failure::from(error))
}
