//! `hallpass token …`. A token is read from standard input, never from the command line, which others can see.

use std::io::IsTerminal as _;

use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::token_get::Get;
use crate::cli::{Context, Failure, Outcome};

/// Tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Get an access token as an agent, and print it: for scripts
    Get(Get),
    /// What a token says, and whether it is valid; the token comes from standard input
    Inspect,
    /// Refuse one token from now on: by its id, or the token itself from standard input
    Revoke {
        /// Its id (`jti`, tk_…); never the token, which others could read from the command line
        #[arg(value_name = "JTI", conflicts_with = "jti")]
        id: Option<String>,
        /// The same as JTI
        #[arg(long, value_name = "JTI")]
        jti: Option<String>,
        /// The reason, for the audit log
        #[arg(long)]
        reason: Option<String>,
    },
}

impl Token {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Get(get) => get.run(context).await?,
            Self::Inspect => {
                let client = context.client()?;
                let answer = client.post("/admin/v1/tokens/inspect", &json!({ "token": read()?.as_str() })).await?;
                context.output.show(&answer, |output, answer| {
                    output.fields(&answer["claims"]);
                    match answer["why_not"].as_str() {
                        None => output.line("good"),
                        Some(why) => output.line(&format!("not good: {why}")),
                    }
                });
            }
            Self::Revoke { id, jti, reason } => {
                let client = context.client()?;
                let jti = jti.or(id);
                let body = match &jti {
                    Some(jti) => json!({ "jti": jti, "reason": reason }),
                    None => json!({ "token": read()?.as_str(), "reason": reason }),
                };
                let answer = client.post("/admin/v1/tokens/revoke", &body).await?;
                context.output.show(&answer, |output, answer| {
                    let jti = answer["jti"].as_str().unwrap_or_default();
                    let what = match (answer["already"] == true, answer["expired"] == true) {
                        (true, _) => "was revoked already: it is refused",
                        (_, true) => "has expired already: it is refused anyway, and nothing was changed",
                        _ => "is refused from now on",
                    };
                    output.line(&format!("{jti} {what}"));
                });
            }
        }
        Ok(())
    }
}

fn read() -> Result<Zeroizing<String>, Failure> {
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password("token: ").map(Zeroizing::new).map_err(Failure::from);
    }
    let text = std::io::read_to_string(std::io::stdin()).map(Zeroizing::new)?;
    if text.trim().is_empty() {
        return Err(Failure::Usage("give the token on standard input".into()));
    }
    Ok(Zeroizing::new(text.trim().to_owned()))
}
