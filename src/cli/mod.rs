//! The command line: one file per noun. Exit codes: 0 done, 1 refused or failed (an output that cannot be written is a
//! failure, but for a reader who has gone away), 2 usage, 3 broker unreachable.

mod agent;
mod apply;
mod audit;
mod catalog;
mod client;
mod completions;
mod credential;
mod definition;
mod https;
mod init;
mod key;
mod log;
mod login;
mod output;
mod quickstart;
mod records;
mod saved;
mod serve;
mod session;
mod status;
mod token;
mod token_get;
mod upstream;

use std::ffi::OsStr;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::{Config, Overrides};
use crate::error::Error;
use crate::model::{Resource, Role, TrustDomain, TrustedIssuer};
use client::AdminClient;
use output::Output;
use saved::Saved;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 refused or failed, 2 usage, 3 broker unreachable.";

/// A credential broker and short-lived token issuer for AI agents.
#[derive(Debug, Parser)]
#[command(name = "hallpass", version, about, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    /// The configuration file [default: ./hallpass.toml]
    #[arg(long, global = true, env = "HALLPASS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

/// Which broker, where it is not the one of a configuration on this machine.
#[derive(Debug, Args)]
struct Remote {
    /// The admin listener of a broker elsewhere, https://HOST:PORT
    #[arg(long, global = true, env = "HALLPASS_SERVER", value_name = "URL", help_heading = "Another machine's broker")]
    server: Option<String>,
    /// CA certificates (PEM) to trust for it beside the public ones
    #[arg(
        long,
        global = true,
        env = "HALLPASS_SERVER_CA",
        value_name = "FILE",
        help_heading = "Another machine's broker"
    )]
    server_ca: Option<PathBuf>,
    /// An admin's certificate (PEM) to show there, instead of a login
    #[arg(
        long,
        global = true,
        env = "HALLPASS_ADMIN_CERT",
        value_name = "FILE",
        requires = "admin_key",
        help_heading = "Another machine's broker"
    )]
    admin_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(
        long,
        global = true,
        env = "HALLPASS_ADMIN_KEY",
        value_name = "FILE",
        requires = "admin_cert",
        help_heading = "Another machine's broker"
    )]
    admin_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a throw-away broker, a demo API, one agent
    Quickstart(quickstart::Quickstart),
    /// Make a broker: master key, first signing keys, database, configuration
    Init(init::Init),
    /// Serve
    Serve(serve::Serve),
    /// Declare upstreams, resources, roles and agents from a YAML document
    Apply(apply::Apply),
    /// Log in at a broker's admin listener; the commands after it go there
    Login(login::Login),
    /// End that login
    Logout(login::Logout),
    /// What the broker is doing
    Status,
    /// Agents: who may ask for tokens
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Sessions: bounded runs of agents
    #[command(subcommand)]
    Session(session::Session),
    /// Tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Upstreams: APIs behind the broker
    #[command(subcommand)]
    Upstream(upstream::Upstream),
    /// Roles: named sets of scopes
    #[command(subcommand)]
    Role(definition::Definition),
    /// Resources: APIs behind gateways that verify tokens by themselves
    #[command(subcommand)]
    Resource(definition::Definition),
    /// Issuers of foreign tokens: workload identities, people
    #[command(subcommand)]
    Issuer(definition::Definition),
    /// SPIFFE trust domains
    #[command(subcommand)]
    TrustDomain(definition::Definition),
    /// Credentials: the secrets of upstreams
    #[command(subcommand)]
    Credential(credential::Credential),
    /// Signing keys
    #[command(subcommand)]
    Key(key::Key),
    /// The audit log
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Print the completions of a shell
    Completions(completions::Completions),
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// It failed.
    Failed(String),
    /// The broker refused it.
    Refused(Refusal),
    /// The broker does not answer.
    Unreachable(String),
    /// The command line is wrong in a way that clap cannot see.
    Usage(String),
}

/// What the broker says of a refusal.
#[derive(Debug)]
struct Refusal {
    /// For people.
    text: String,
    /// For programs.
    code: String,
    /// With the code `credential_in_use`: the names of the upstreams that take the credential.
    used_by: Vec<String>,
}

impl Failure {
    fn text(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.text,
            Self::Failed(text) | Self::Unreachable(text) | Self::Usage(text) => text,
        }
    }

    /// The same with a sentence before it.
    fn behind(self, before: &str) -> Self {
        let text = |why: String| format!("{before}: {why}");
        match self {
            Self::Failed(why) => Self::Failed(text(why)),
            Self::Refused(refusal) => Self::Refused(Refusal { text: text(refusal.text), ..refusal }),
            Self::Unreachable(why) => Self::Unreachable(text(why)),
            Self::Usage(why) => Self::Usage(text(why)),
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

type Outcome = Result<(), Failure>;

/// What every command gets.
struct Context {
    config: Option<PathBuf>,
    remote: Remote,
    output: Output,
}

impl Context {
    fn file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from("hallpass.toml"))
    }

    /// The configuration, or all that is wrong with it.
    fn load(&self, overrides: Overrides) -> Result<Config, Failure> {
        let file = self.file();
        if !is_there(&file)? {
            return Err(Failure::Failed(format!(
                "there is no configuration at {}; run 'hallpass init', or give --config FILE or HALLPASS_CONFIG",
                file.display()
            )));
        }
        crate::config::load(Some(&file), environment(), overrides).map_err(|mistakes| {
            let list: String = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
            let count = mistakes.len();
            Failure::Failed(format!(
                "the configuration has {count} mistake{}:{list}",
                if count == 1 { "" } else { "s" }
            ))
        })
    }

    /// Which broker: the one that `--server` or `--config` names; else the one that the environment names; else that of the
    /// configuration in this folder, or the one where somebody logged in last, whichever there is. Where there are both,
    /// nobody guesses: the folder may be one where somebody else put a configuration, to be told what is for the broker.
    fn place(&self) -> Result<Place, Failure> {
        let config = self.config.as_deref().map(|file| is_on_the_line(file.as_os_str(), "HALLPASS_CONFIG"));
        let server = self.remote.server.as_deref().map(|url| is_on_the_line(OsStr::new(url), "HALLPASS_SERVER"));
        match (config, server) {
            (Some(config), Some(server)) if config == server => {
                let text =
                    "which broker? a configuration and a server are both named; give one of --config and --server";
                return Err(Failure::Usage(text.into()));
            }
            // What is written for this command counts more than what stands in the environment for all.
            (Some(true), Some(false)) => return Ok(Place::Here(Box::new(self.load(Overrides::default())?))),
            _ => {}
        }
        if let Some(server) = &self.remote.server {
            return Ok(Place::Elsewhere(self.elsewhere(server)?));
        }
        if self.remote.admin_cert.is_some() {
            return Err(Failure::Usage("--admin-cert is for a broker elsewhere; name it by --server".into()));
        }
        if self.config.is_some() {
            return Ok(Place::Here(Box::new(self.load(Overrides::default())?)));
        }
        if !is_there(&self.file())? {
            let nowhere =
                "there is no configuration here and no login; give --config FILE, or run 'hallpass login URL'";
            let saved = Saved::load()?.ok_or_else(|| Failure::Failed(nowhere.into()))?;
            return Ok(Place::Elsewhere(logged_in(saved, None)?));
        }
        // Whether it is over does not matter: an hour later the folder is no better. One that cannot be used is none.
        if let Ok(Some(Saved { server, .. })) = Saved::load() {
            return Err(Failure::Usage(format!(
                "which broker? your login is at {server}, and {file} is here; give --server {server} or --config {file}, \
                 or forget the login ('hallpass logout')",
                file = self.file().display()
            )));
        }
        Ok(Place::Here(Box::new(self.load(Overrides::default())?)))
    }

    /// The broker's admin interface.
    fn client(&self) -> Result<AdminClient, Failure> {
        Ok(match self.place()? {
            Place::Here(config) => AdminClient::new(config.listen.admin_socket),
            Place::Elsewhere(client) => client,
        })
    }

    /// A broker on another machine: by a certificate, if one is given, else by the login there.
    fn elsewhere(&self, server: &str) -> Result<AdminClient, Failure> {
        let Remote { server_ca, admin_cert, admin_key, .. } = &self.remote;
        let server = client::canonical(server)?;
        let ca_pem = server_ca.as_deref().map(https::ca_file).transpose()?;
        if let (Some(certificate), Some(key)) = (admin_cert, admin_key) {
            let shown = https::Shown { certificate, key };
            return AdminClient::remote(&server, https::client(ca_pem.as_deref(), Some(shown))?, None);
        }
        let saved = Saved::load()?.filter(|saved| saved.server == server);
        let nobody = || Failure::Failed(format!("nobody is logged in at {server}; run 'hallpass login {server}'"));
        logged_in(saved.ok_or_else(nobody)?, ca_pem)
    }
}

/// Whether there is such a file. That nobody can tell, for example in a folder that this user may not read, is not a no.
fn is_there(file: &Path) -> Result<bool, Failure> {
    file.try_exists().map_err(|error| {
        let file = file.display();
        let fix = match error.kind() {
            ErrorKind::PermissionDenied => {
                "run this as the broker's user, or give that user access to each folder on the way"
            }
            _ => "name another by --config FILE or HALLPASS_CONFIG",
        };
        Failure::Failed(format!("it cannot be told whether there is a configuration at {file}: {error}; {fix}"))
    })
}

/// The environment for the settings, without what belongs to the command line.
fn environment() -> impl Iterator<Item = (String, String)> {
    let command = Cli::command();
    let ours: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned)).collect();
    crate::config::environment().filter(move |(name, _)| !ours.contains(name))
}

/// Whether a value was given to this command, and not by an environment variable.
fn is_on_the_line(value: &OsStr, variable: &str) -> bool {
    std::env::var_os(variable).is_none_or(|there| there != value)
}

/// Where a broker is.
enum Place {
    /// On this machine, by its configuration.
    Here(Box<Config>),
    /// Behind an admin listener.
    Elsewhere(AdminClient),
}

/// By the login that is kept; `ca_pem` instead of the CAs that were given at the login.
fn logged_in(saved: Saved, ca_pem: Option<String>) -> Result<AdminClient, Failure> {
    let http = https::client(ca_pem.or(saved.ca_pem).as_deref(), None)?;
    AdminClient::remote(&saved.server, http, Some(saved.token))
}

/// Every command and option: what completions and the reference are made from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The command line, and what the environment says where the line does not. A variable that is set to nothing is not set:
/// so shells and service files take one back.
fn parse() -> Result<Cli, clap::Error> {
    let is_set_to_nothing = |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let command = Cli::command()
        .mut_args(|arg| if is_set_to_nothing(&arg) { arg.env(clap::builder::Resettable::Reset) } else { arg });
    let mut matches = command.try_get_matches()?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut Cli::command()))
}

/// Reads the command line and does it.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with exit code 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            return match printed {
                Err(error) if code == 0 && error.kind() != ErrorKind::BrokenPipe => {
                    Output::new(false).error(&unwritable(&error));
                    ExitCode::from(1)
                }
                // Of a mistake in the command line, the code says it even where the text cannot.
                _ => ExitCode::from(code),
            };
        }
    };
    // Fails only if a provider was installed before, and nobody else installs one.
    _ = rustls::crypto::ring::default_provider().install_default().is_ok();
    hallpass_verify::install_crypto();
    let context = Context { config: cli.config, remote: cli.remote, output: Output::new(cli.json) };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            context.output.error(&format!("the runtime cannot be started: {error}"));
            return ExitCode::from(1);
        }
    };
    let outcome = runtime.block_on(run(cli.command, &context));
    // What a library still does on a thread of its own keeps nobody waiting.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    let outcome = outcome.and_then(|()| match context.output.broken() {
        // Whoever reads no further has had enough (`| head`).
        Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Failed(unwritable(error))),
        _ => Ok(()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            context.output.error(failure.text());
            ExitCode::from(failure.code())
        }
    }
}

fn unwritable(error: &std::io::Error) -> String {
    format!(
        "standard output cannot be written ({error}), so not everything was shown; what the command changed stays changed"
    )
}

async fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Quickstart(quickstart) => quickstart.run(context).await,
        Command::Init(init) => init.run(context).await,
        Command::Serve(serve) => serve.run(context).await,
        Command::Apply(apply) => apply.run(context).await,
        Command::Login(login) => login.run(context).await,
        Command::Logout(logout) => logout.run(context).await,
        Command::Status => status::run(context).await,
        Command::Agent(agent) => agent.run(context).await,
        Command::Session(session) => session.run(context).await,
        Command::Token(token) => token.run(context).await,
        Command::Upstream(upstream) => upstream.run(context).await,
        Command::Role(noun) => noun.run::<Role>(context).await,
        Command::Resource(noun) => noun.run::<Resource>(context).await,
        Command::Issuer(noun) => noun.run::<TrustedIssuer>(context).await,
        Command::TrustDomain(noun) => noun.run::<TrustDomain>(context).await,
        Command::Credential(credential) => credential.run(context).await,
        Command::Key(key) => key.run(context).await,
        Command::Audit(audit) => audit.run(context).await,
        Command::Completions(completions) => completions.run(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_may_begin_with_a_hyphen() {
        let line = ["hallpass", "key", "retire", "-K3y", "--reason", "leaked", "--json"];
        let cli = Cli::try_parse_from(line).unwrap();
        assert!(cli.json);
        assert!(matches!(cli.command, Command::Key(key::Key::Retire { kid, reason: Some(_) }) if kid == "-K3y"));
    }
}
