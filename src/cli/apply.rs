//! `hallpass apply -f FILE.yaml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use serde_json::Value;

use crate::cli::catalog::{FromCatalog, tell_next};
use crate::cli::{Context, Failure, Outcome, https};
use crate::manage::apply::{Applied, Apply as Body, Difference};
use crate::model::public;

/// Declare upstreams, resources, roles and agents from a YAML document. Shows what changes; applying it again changes
/// nothing. What the document does not name stays as it is.
#[derive(Debug, Args)]
#[command(after_help = FORM, group = ArgGroup::new("document").required(true).args(["file", "from_catalog"]))]
pub(super) struct Apply {
    /// The document; '-' reads standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    catalog: FromCatalog,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove upstreams, resources, roles, issuers and trust domains that the document's section of their kind does not name;
    /// agents stay ('hallpass agent remove')
    #[arg(long, conflicts_with = "from_catalog")]
    prune: bool,
}

const FORM: &str = "\
The document:
  upstreams:
    - name: crm
      base_url: https://crm.example.com
      allow_private: false            # loopback and private ranges
      inject: { kind: header, name: X-Api-Key, credential: crm-key }   # or one of:
        # { kind: bearer, credential: NAME }
        # { kind: header, name: Authorization, prefix: \"Token \", credential: NAME }   # prefix: optional
        # { kind: basic, username: USER, credential: NAME }
        # { kind: query, name: PARAMETER, credential: NAME }            # NAME@2 pins a version
        # [ {…}, {…} ]                                                  # several, each in a place of its own
      operations:
        - { id: list-contacts, methods: [GET], path: /v1/contacts, scope: contacts.read }
        - { id: get-contact,   methods: [GET], path: \"/v1/contacts/{id}\", scope: contacts.read }
        - { id: get-file,      methods: [GET], path: \"/files/{*rest}\", scope: files.read }
          # {name}: one whole segment; {*rest}: all that follows, also nothing; no other wildcards. GET gives HEAD.
        - { id: get-project,   methods: [GET], path: \"/projects/{id}\", scope: projects.read, encoded_slash: true }   # id: group%2Fproject
      timeouts: { connect_seconds: 5, response_seconds: 300, idle_seconds: 300 }   # optional
      limits: { max_request_bytes: 1048576, max_response_bytes: 1048576, max_connections: 50 }         # optional
      http2: auto                     # optional: never, or prior_knowledge (an http upstream that speaks nothing else)
      ca_file: crm-ca.pem             # optional: trust this CA instead of the public ones
      allow_range: false              # optional: let agents ask for byte ranges
      authorization_schemes: [token]  # optional: take the agent's token under these too, as in 'Authorization: token …'
      headers: standard               # optional: which of the agent's headers pass: standard, all, or [X-Team, Sudo] beside the standard ones
      set_headers: { X-Team: blue }   # optional: headers of every call, in place of the agent's; no secrets
      audit: { query_values: keep }   # optional: what records show of values in queries: keep, hash or drop
      public_hosts: [crm.hallpass.example.com]   # optional: this upstream's own host names here, NAME or NAME:PORT
    - name: geocoder
      base_url: https://geo.example.com
      inject: none                    # the upstream takes no secret
      operations: [ { id: find, methods: [GET], path: /find, scope: find } ]
  resources: [ { name: orders, audience: \"https://orders.example.com\", scopes: [orders.read] } ]
  roles:  [ { name: support, scopes: [\"crm:contacts.read\", \"orders:orders.read\"] } ]
  issuers: [ { name: k8s, issuer: \"https://k8s.example.com\" } ]   # optional: jwks_uri, ca_file, allow_private, subject_audiences
  trust_domains: [ { name: prod.example.com, bundle_file: bundle.json } ]   # or bundle_endpoint; optional: ca_file, allow_private
  agents:
    - { name: helpdesk, roles: [support] }   # a new agent gets its secret by 'agent rotate-secret', or proves itself by:
    - name: bot
      roles: [support]
      identity:
        methods:
          - { method: federated, issuer: k8s, claims: { sub: \"system:serviceaccount:shop:bot\" } }   # optional: audience
          - { method: spiffe, id: \"spiffe://prod.example.com/bot\" }
          - { method: private_key_jwt, jwks_uri: \"https://bot.example.com/jwks\" }   # or jwks: { keys: [...] }
          - { method: tls_client_auth, san_uri: \"https://bot.example.com/\" }   # or subject_dn, san_dns, san_ip, san_email
          - { method: self_signed_tls_client_auth, jwks: { keys: [...] } }   # each with x5c
        require_bound: false            # optional, also of an upstream: take only tokens that are bound to a key
        may_act_for: [helpdesk]         # optional: exchange tokens of these agents
        may_act_for_people_of: [k8s]    # optional: exchange tokens of these issuers' people
Every field, with its meaning and default: docs/yaml.md";

impl Apply {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        // What the catalog says, first: it needs no broker.
        let ready = self.catalog.from_catalog.as_deref().map(|name| self.catalog.document(name)).transpose()?;
        let client = context.client()?;
        let (document, files) = match &ready {
            Some((_, ready)) => (ready.yaml.clone(), BTreeMap::new()),
            None => written(self.file.as_deref().unwrap_or(Path::new("-")))?,
        };
        let body = Body { document, files, dry_run: self.dry_run, prune: self.prune };
        let answer: Applied = client.post("/admin/v1/apply", &body).await?;
        context.output.show(&answer, |output, answer| {
            let changes = &answer.changes;
            for Difference { change, kind, name, diff, .. } in changes {
                output.line(&format!("{change} {kind} '{name}'"));
                for line in diff.lines() {
                    output.line(&format!("    {line}"));
                }
            }
            output.line(&match (changes.len(), self.dry_run) {
                (0, _) => "nothing to change".to_owned(),
                (n, true) => format!("{n} to change; nothing was changed (--dry-run)"),
                (n, false) => format!("{n} changed"),
            });
        });
        match &ready {
            Some((entry, ready)) if !self.dry_run && !context.output.json => {
                tell_next(context, &client, entry, ready).await
            }
            _ => Ok(()),
        }
    }
}

/// A document that an admin wrote, with the files that it names.
fn written(file: &Path) -> Result<(String, BTreeMap<String, String>), Failure> {
    let document = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(file)
            .map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", file.display())))?
    };
    no_private_key(&document)?;
    let files = files_beside(&document, file.parent().unwrap_or(Path::new(".")))?;
    Ok((document, files))
}

/// Secrets are not for a document: what is in it is stored, shown and sent in the clear.
fn no_private_key(document: &str) -> Result<(), Failure> {
    // As any YAML, so that a mistake in the document hides no key from this.
    let keys = serde_saphyr::from_str::<Value>(document).is_ok_and(|value| public::has_private_key(&value));
    if keys || public::holds_private_key(document) {
        let text = "the document holds a private or symmetric key, so it was not sent; write public keys alone, and \
                    store secrets with 'hallpass credential put'";
        return Err(Failure::Failed(text.into()));
    }
    Ok(())
}

/// The files that the document names, read beside it, and of each what it is named for alone. What is malformed in the
/// document is for the broker to say.
fn files_beside(document: &str, folder: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let Ok(mut manifest) = crate::policy::parse_manifest(document) else { return Ok(BTreeMap::new()) };
    let named = manifest.files().into_iter().filter_map(|(_, file)| Some((file.name?, file.kind)));
    named
        .map(|(name, kind)| {
            let kept = https::public_file(&folder.join(name), |file| kind.keep(file))?;
            Ok((name.to_owned(), kept))
        })
        .collect()
}
