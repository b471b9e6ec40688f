//! `hallpass init`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::{Context, Outcome};

/// Make a broker: master key, first signing keys, database, configuration. Overwrites nothing.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The folder to write into
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Use PostgreSQL instead of SQLite: postgres://user@host/name
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl Init {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let environment = crate::cli::environment();
        let config = crate::app::init_within(&self.dir, self.database_url.as_deref(), environment).await?;
        let keys = self.dir.join("keys").join("master.key");
        context.output.show(&json!({ "config": config, "master_key": keys }), |output, _| {
            output.line(&format!("configuration  {}", config.display()));
            output.line(&format!(
                "master key     {}  (back it up apart from the database: without it nothing opens)",
                keys.display()
            ));
            output.line(&format!("next           hallpass serve --config {}", config.display()));
        });
        Ok(())
    }
}
