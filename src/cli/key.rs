//! `hallpass key …`.

use clap::Subcommand;

use crate::cli::client::segment;
use crate::cli::output::rfc3339;
use crate::cli::{Context, Outcome};
use crate::manage::Reason;
use crate::manage::keys::KeyList;

/// Signing keys.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// The keys: next (published, not used), active, retiring (until its last token has expired)
    List,
    /// Sign with the next key from now on; tokens that the old one signed stay valid until they expire
    Rotate,
    /// Emergency: remove a key at once; every token that it signed is refused
    Retire {
        /// The key's id, from 'hallpass key list'
        // A kid is base64url, so one in 64 begins with a hyphen.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// The reason, for the audit log
        #[arg(long)]
        reason: Option<String>,
    },
}

impl Key {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let answer: KeyList = match self {
            Self::List => client.get("/admin/v1/keys").await?,
            Self::Rotate => client.act("/admin/v1/keys/rotate").await?,
            Self::Retire { kid, reason } => {
                client.post(&format!("/admin/v1/keys/{}/retire", segment(&kid)), &Reason { reason }).await?
            }
        };
        context.output.show(&answer, |output, answer| {
            let columns =
                ["kid", "algorithm", "state", "revoked", "created_at", "activated_at", "retiring_at", "gone_at"];
            output.table(&answer.keys, &columns, "no keys");
            if let Some(warning) = &answer.warning {
                output.note(&format!("note: {} ({})", warning.text, rfc3339(warning.until)));
            }
        });
        Ok(())
    }
}
