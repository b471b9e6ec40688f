//! `hallpass credential …`. A value comes from standard input, a file or a prompt, never from the command line, which
//! every user of the machine can read.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::client::{AdminClient, segment};
use crate::cli::output::confirm;
use crate::cli::{Context, Failure, Outcome};
use crate::manage::credentials::{CredentialList, CredentialRevoked, CredentialStored, CredentialView, PutCredential};
use crate::manage::rewrap::{Rewrap, Rewrapped};
use crate::manage::{Reason, Removed};
use crate::world::Millis;

/// Credentials: the secrets of upstreams.
#[derive(Debug, Subcommand)]
pub(super) enum Credential {
    /// Store a credential, or a new version of it; the value comes from standard input
    Put(Put),
    /// All credentials; never their values
    List,
    /// Store a new version; the one before stays usable for a while (pin it as NAME@VERSION in the upstream)
    Rotate(Put),
    /// Refuse every call that needs it from now on; the credential itself is kept for the record
    Revoke {
        /// Its name
        name: String,
        /// The reason, for the audit log
        #[arg(long)]
        reason: Option<String>,
    },
    /// Delete a credential with all its versions; asks where an upstream uses it
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Put everything under a new master key, while the broker serves
    Rewrap {
        /// The new master key, where it comes from a variable or a command; '-' reads standard input
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Put {
    /// Its name
    name: String,
    /// Read the value from here
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Accept a value under 8 bytes, which is too short to be redacted from answers
    #[arg(long)]
    allow_short: bool,
    /// Accept a value that looks as if it held more than the key: white space, quotes, a scheme word, a name in front
    #[arg(long)]
    as_is: bool,
    /// For how many seconds the version before stays usable [default: put 0, rotate 86400]
    #[arg(long, value_name = "SECONDS")]
    grace: Option<i64>,
}

impl Credential {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        match self {
            Self::Put(put) => put.send(context, &client, false).await,
            Self::Rotate(put) => put.send(context, &client, true).await,
            Self::List => {
                let answer: CredentialList = client.get("/admin/v1/credentials").await?;
                context.output.show(&answer, |output, answer| {
                    let rows: Vec<Row<'_>> = answer.credentials.iter().map(Row::of).collect();
                    let columns = ["name", "versions", "redacted", "revoked_at", "used_by"];
                    output.table(&rows, &columns, "no credentials yet: 'hallpass credential put NAME'");
                });
                Ok(())
            }
            Self::Revoke { name, reason } => {
                let path = format!("/admin/v1/credentials/{}/revoke", segment(&name));
                let answer: CredentialRevoked = client.post(&path, &Reason { reason }).await?;
                context.output.show(&answer, |output, _| {
                    output.line(&format!("{name} is revoked; calls that take it are refused"))
                });
                Ok(())
            }
            Self::Remove { name, yes } => {
                let path = format!("/admin/v1/credentials/{}", segment(&name));
                let forced = format!("{path}?force=true");
                // The broker refuses what is in use. Somebody at a terminal is asked.
                let answer: Removed = match client.delete(if yes { &forced } else { &path }).await {
                    Err(Failure::Refused(refusal))
                        if refusal.code == "credential_in_use" && confirm(&in_use(&name, &refusal.used_by))? =>
                    {
                        client.delete(&forced).await?
                    }
                    answer => answer?,
                };
                context.output.show(&answer, |output, _| output.line(&format!("{name} is removed")));
                Ok(())
            }
            Self::Rewrap { new_key_file } => {
                let key = match new_key_file {
                    None => None,
                    Some(file) if file.as_os_str() == "-" => Some(std::io::read_to_string(std::io::stdin())?),
                    Some(file) => Some(std::fs::read_to_string(file)?),
                };
                let body = Rewrap { master_key: key.map(Zeroizing::new) };
                let answer: Rewrapped = client.post("/admin/v1/rewrap", &body).await?;
                context.output.show(&answer, rewrapped);
                Ok(())
            }
        }
    }
}

fn in_use(name: &str, used_by: &[String]) -> String {
    let upstreams = used_by.join(", ");
    format!("{name} is in use by upstream {upstreams}, and its value cannot be brought back. Remove it all the same?")
}

/// A line of the list.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    versions: String,
    redacted: bool,
    revoked_at: Option<Millis>,
    used_by: &'a [String],
}

impl<'a> Row<'a> {
    fn of(one: &'a CredentialView) -> Self {
        let versions: Vec<String> = one.versions.iter().map(|one| one.version.to_string()).collect();
        Self {
            name: &one.name,
            versions: versions.join(", "),
            redacted: one.redacted,
            revoked_at: one.revoked_at,
            used_by: &one.used_by,
        }
    }
}

fn rewrapped(output: &crate::cli::Output, answer: &Rewrapped) {
    let Rewrapped { master_key, old_master_key, rewrapped, file } = answer;
    output.line(&format!("{rewrapped} data keys are under the new master key {master_key}"));
    match file {
        Some(file) => {
            output.line(&format!("new  {file}  (back it up now)"));
            output.line(&format!("old  {file}.old-{old_master_key}  (backups from before need it; then destroy it)"));
        }
        None => output.line("now change the variable or command that the configuration names, before the next start"),
    }
}

impl Put {
    async fn send(self, context: &Context, client: &AdminClient, rotate: bool) -> Outcome {
        let value = self.value()?;
        let body = PutCredential {
            value_base64: Zeroizing::new(STANDARD.encode(value.as_slice())),
            allow_short: self.allow_short,
            as_is: self.as_is,
            rotate,
            grace_seconds: self.grace,
        };
        let path = format!("/admin/v1/credentials/{}", segment(&self.name));
        let answer: CredentialStored = client.post(&path, &body).await?;
        context.output.show(&answer, |output, answer| {
            output.line(&format!("{} is stored, version {}", self.name, answer.version));
        });
        Ok(())
    }

    /// The value without the line break that editors and `echo` put behind it.
    fn value(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut value = Zeroizing::new(Vec::new());
        match &self.from_file {
            Some(file) => {
                let mut file = std::fs::File::open(file)
                    .map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", file.display())))?;
                file.read_to_end(&mut value)?;
            }
            None if std::io::stdin().is_terminal() => {
                let typed = Zeroizing::new(rpassword::prompt_password(format!("value of {}: ", self.name))?);
                value.extend_from_slice(typed.as_bytes());
            }
            None => _ = std::io::stdin().read_to_end(&mut value)?,
        }
        if value.last() == Some(&b'\n') {
            value.pop();
            if value.last() == Some(&b'\r') {
                value.pop();
            }
        }
        Ok(value)
    }
}
