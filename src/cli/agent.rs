//! `hallpass agent …`.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::client::{AdminClient, segment};
use crate::cli::output::rfc3339;
use crate::cli::{Context, Failure, Outcome};
use crate::manage::Reason;
use crate::manage::agents::{
    AgentDetail, AgentList, AgentRemoved, AgentView, Register, Registered, RotateSecret, Rotated,
};
use crate::manage::certificates::{AuthorityCertificate, CertificateIssued, CertificateRequest};
use crate::manage::held::InForce;
use crate::model::{AuthMethod, Identity, public};

/// Agents: who may ask for tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Agent {
    /// Register an agent; prints its client id and, once, its secret
    Register {
        /// Its name
        name: String,
        /// A role; repeatable
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Its tokens must be bound to a key (DPoP or a client certificate)
        #[arg(long)]
        require_bound: bool,
        #[command(flatten)]
        proofs: Proofs,
    },
    /// All agents
    List,
    /// One agent
    Show {
        /// Name or client id
        name: String,
    },
    /// Stop an agent until it is resumed: its tokens are refused from now on
    Suspend {
        /// Name or client id
        name: String,
        /// The reason, for the audit log
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let a suspended agent ask for new tokens again
    Resume {
        /// Name or client id
        name: String,
    },
    /// Stop an agent for good
    Revoke {
        /// Name or client id
        name: String,
        /// The reason, for the audit log
        #[arg(long)]
        reason: Option<String>,
    },
    /// Remove an agent: stopped for good, and forgotten; its records stay
    Remove {
        /// Name or client id
        name: String,
    },
    /// Issue a certificate of 24 hours, by this broker's own CA, for the key of a certification request
    IssueCert {
        /// Name or client id
        name: String,
        /// The certification request, PEM (- for standard input)
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        /// Write the certificate here instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// The certificate of this broker's own CA
    Ca,
    /// Give an agent a new secret, printed once; the old one stays valid for a while
    RotateSecret {
        /// Name or client id
        name: String,
        /// For how many seconds the old secret stays valid [default: tokens.secret_grace_seconds]
        #[arg(long, value_name = "SECONDS")]
        grace: Option<i64>,
    },
}

/// What it may prove itself with besides a secret.
#[derive(Debug, Args)]
pub(super) struct Proofs {
    /// A file with its public keys (a JWKS): it signs client assertions (private_key_jwt)
    #[arg(long, value_name = "FILE", conflicts_with = "jwks_uri")]
    jwks: Option<PathBuf>,
    /// Where its public keys are, instead of a file
    #[arg(long, value_name = "URL")]
    jwks_uri: Option<String>,
    /// Its SPIFFE ID, of a trust domain that `apply` declared; repeatable
    #[arg(long, value_name = "ID")]
    spiffe: Vec<String>,
    /// Tokens of an issuer that `apply` declared, with these claims and, if it is not this broker's own, this audience:
    /// issuer=NAME,CLAIM=VALUE,…[,audience=AUD]; repeatable
    #[arg(long, value_name = "issuer=NAME,CLAIM=VALUE")]
    federated: Vec<String>,
    /// Make no client secret
    #[arg(long)]
    no_secret: bool,
}

impl Proofs {
    fn methods(&self) -> Result<Vec<AuthMethod>, Failure> {
        let mut methods = Vec::new();
        if let Some(path) = &self.jwks {
            let failed =
                |error: &dyn std::fmt::Display| Failure::Failed(format!("{} is no JWKS file: {error}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
            let jwks: Value = serde_json::from_str(&text).map_err(|error| failed(&error))?;
            let jwks = public::key_set(&jwks).map_err(|error| failed(&error))?;
            methods.push(AuthMethod::PrivateKeyJwt { jwks: Some(jwks), jwks_uri: None, allow_private: false });
        }
        if let Some(uri) = &self.jwks_uri {
            methods.push(AuthMethod::PrivateKeyJwt { jwks: None, jwks_uri: Some(uri.clone()), allow_private: false });
        }
        methods.extend(self.spiffe.iter().map(|id| AuthMethod::Spiffe { id: id.clone() }));
        for text in &self.federated {
            methods.push(federated(text)?);
        }
        Ok(methods)
    }
}

/// `issuer=NAME,CLAIM=VALUE,…`; the first `=` of each part ends its name.
fn federated(text: &str) -> Result<AuthMethod, Failure> {
    let (mut issuer, mut audience, mut claims) = (None, None, BTreeMap::new());
    for part in text.split(',') {
        let Some((name, value)) = part.split_once('=') else {
            return Err(Failure::Usage(format!(
                "--federated: '{}' is no NAME=VALUE; write for example issuer=k8s,sub=system:serviceaccount:shop:bot",
                part.escape_debug()
            )));
        };
        match name {
            "issuer" => issuer = Some(value.to_owned()),
            "audience" => audience = Some(value.to_owned()),
            _ => _ = claims.insert(name.to_owned(), value.to_owned()),
        }
    }
    let issuer = issuer.ok_or_else(|| Failure::Usage("--federated: which issuer? write issuer=NAME,…".into()))?;
    Ok(AuthMethod::Federated { issuer, audience, claims })
}

impl Agent {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let of = |name: &str, verb: &str| format!("/admin/v1/agents/{}{verb}", segment(name));
        match self {
            Self::Register { name, roles, require_bound, proofs } => {
                let identity = Identity { methods: proofs.methods()?, require_bound, ..Identity::default() };
                let (no_secret, hold) = (proofs.no_secret, !proofs.no_secret);
                let otherwise = format!("{name} is not registered");
                let body = Register { name, roles, identity, no_secret, hold };
                let mut answer: Registered = client.post("/admin/v1/agents", &body).await?;
                // Nothing that people or programs need.
                let held = answer.hold.take();
                context.output.show(&answer, secret);
                in_force_once_shown(context, &client, held, &otherwise).await?;
            }
            Self::List => {
                let answer: AgentList = client.get("/admin/v1/agents").await?;
                context.output.show(&answer, |output, answer| {
                    let columns = ["name", "client_id", "status", "roles", "created_at"];
                    output.table(&answer.agents, &columns, "no agents yet: 'hallpass agent register NAME --role ROLE'");
                });
            }
            Self::Show { name } => {
                let answer: AgentDetail = client.get(&of(&name, "")).await?;
                context.output.show(&answer, |output, answer| output.fields(answer));
            }
            Self::Suspend { name, reason } => {
                let answer: AgentView = client.post(&of(&name, "/suspend"), &Reason { reason }).await?;
                context.output.show(&answer, |output, _| {
                    output.line(&format!("{name} is suspended; its tokens are refused from now on"))
                });
            }
            Self::Resume { name } => {
                let answer: AgentView = client.act(&of(&name, "/resume")).await?;
                context.output.show(&answer, |output, _| output.line(&format!("{name} may ask for new tokens")));
            }
            Self::Revoke { name, reason } => {
                let answer: AgentView = client.post(&of(&name, "/revoke"), &Reason { reason }).await?;
                context.output.show(&answer, |output, _| {
                    output.line(&format!("{name} is revoked for good; its tokens are refused from now on"))
                });
            }
            Self::Remove { name } => {
                let answer: AgentRemoved = client.delete(&of(&name, "")).await?;
                context.output.show(&answer, |output, _| output.line(&format!("{name} is removed")));
            }
            Self::IssueCert { name, csr, out } => {
                let request = read(&csr).map_err(|error| {
                    Failure::Failed(format!("the certification request {} cannot be read: {error}", csr.display()))
                })?;
                let csr = public::certification_request(request.as_bytes())
                    .map_err(|error| Failure::Failed(format!("{}: {error}", csr.display())))?;
                let body = CertificateRequest { csr };
                let answer: CertificateIssued = client.post(&of(&name, "/certificate"), &body).await?;
                if let Some(path) = &out {
                    std::fs::write(path, &answer.certificate).map_err(|error| {
                        Failure::Failed(format!(
                            "{} cannot be written: {error}; the certificate is lost, ask for another",
                            path.display()
                        ))
                    })?;
                }
                context.output.show(&answer, |output, answer| match &out {
                    Some(path) => {
                        let end = rfc3339(answer.expires_at);
                        output.line(&format!("{} holds the certificate of {name}, good until {end}", path.display()));
                    }
                    None => output.line(answer.certificate.trim_end()),
                });
            }
            Self::Ca => {
                let answer: AuthorityCertificate = client.get("/admin/v1/client-ca").await?;
                context.output.show(&answer, |output, answer| output.line(answer.certificate.trim_end()));
            }
            Self::RotateSecret { name, grace } => {
                let body = RotateSecret { grace_seconds: grace, hold: true };
                let mut answer: Rotated = client.post(&of(&name, "/rotate-secret"), &body).await?;
                let held = answer.agent.hold.take();
                context.output.show(&answer, |output, answer| {
                    secret(output, &answer.agent);
                    output.line(&format!("the old secret is valid until {}", rfc3339(answer.old_secret_valid_until)));
                });
                in_force_once_shown(context, &client, held, &format!("{name} keeps the secret that it has")).await?;
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<String> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// A secret that nobody saw must not be in force: it would be shown once, to nobody, and the old one would end.
async fn in_force_once_shown(
    context: &Context,
    client: &AdminClient,
    held: Option<String>,
    otherwise: &str,
) -> Outcome {
    let Some(held) = held else { return Ok(()) };
    if let Some(error) = context.output.broken() {
        return Err(Failure::Failed(format!(
            "the new secret could not be shown ({error}), so it is not in force: {otherwise}"
        )));
    }
    match client.act(&format!("/admin/v1/held/{}/confirm", segment(&held))).await {
        Ok(InForce { .. }) => Ok(()),
        Err(failure) => Err(failure.behind(&format!("the secret that was shown is not in force, {otherwise}"))),
    }
}

fn secret(output: &crate::cli::Output, answer: &Registered) {
    output.line(&format!("issuer         {}", answer.issuer));
    output.line(&format!("client_id      {}", answer.agent.client_id));
    if let Some(secret) = &answer.client_secret {
        output.line(&format!("client_secret  {}  (shown once; Hallpass keeps only a digest)", secret.expose()));
    }
}
