//! `hallpass key …`.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::client::segment;
use crate::cli::output::time;
use crate::cli::{Context, Outcome};

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
        let answer = match self {
            Self::List => client.get("/admin/v1/keys").await?,
            Self::Rotate => client.post("/admin/v1/keys/rotate", &json!({})).await?,
            Self::Retire { kid, reason } => {
                client.post(&format!("/admin/v1/keys/{}/retire", segment(&kid)), &json!({ "reason": reason })).await?
            }
        };
        context.output.show(&answer, |output, answer: &Value| {
            let columns =
                ["kid", "algorithm", "state", "revoked", "created_at", "activated_at", "retiring_at", "gone_at"];
            output.table(&answer["keys"], &columns, "no keys");
            if let Some(text) = answer.pointer("/warning/text").and_then(Value::as_str) {
                output.note(&format!(
                    "note: {text} ({})",
                    time(answer.pointer("/warning/until").unwrap_or(&Value::Null))
                ));
            }
        });
        Ok(())
    }
}
