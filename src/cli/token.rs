//! `hallpass token …`. A token is read from standard input, never from the command line, which others can see.

use std::io::IsTerminal as _;

use clap::Subcommand;
use zeroize::Zeroizing;

use crate::cli::token_get::Get;
use crate::cli::{Context, Failure, Outcome};
use crate::manage::tokens::{TokenInspected, TokenRevoked, WhichToken};

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
                let body = WhichToken { token: Some(read()?), ..WhichToken::default() };
                let answer: TokenInspected = client.post("/admin/v1/tokens/inspect", &body).await?;
                context.output.show(&answer, |output, answer| {
                    output.fields(&answer.claims);
                    match &answer.why_not {
                        None => output.line("good"),
                        Some(why) => output.line(&format!("not good: {why}")),
                    }
                });
            }
            Self::Revoke { id, jti, reason } => {
                let client = context.client()?;
                let jti = jti.or(id);
                let token = if jti.is_none() { Some(read()?) } else { None };
                let body = WhichToken { token, jti, reason };
                let answer: TokenRevoked = client.post("/admin/v1/tokens/revoke", &body).await?;
                context.output.show(&answer, |output, answer| {
                    let what = match (answer.already, answer.expired) {
                        (true, _) => "was revoked already: it is refused",
                        (_, true) => "has expired already: it is refused anyway, and nothing was changed",
                        _ => "is refused from now on",
                    };
                    output.line(&format!("{} {what}", answer.jti));
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
