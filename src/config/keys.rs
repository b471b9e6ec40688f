//! Every setting there is: its path, its form, its default, its limits and one line about it.
//!
//! The reader, the environment and the template all follow this one table, so none of them can fall behind.

/// One setting.
#[derive(Debug)]
pub(super) struct Key {
    /// `table.name`, or `name` at the top of the file.
    pub(super) path: &'static str,
    /// What may be written there.
    pub(super) kind: Kind,
    /// One line for the template, without unit range and default.
    pub(super) about: &'static str,
}

/// What may be written at a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// A text.
    Text { default: Option<&'static str>, example: &'static str },
    /// A whole number from `min` to `max`.
    Integer { default: u64, min: u64, max: u64 },
    /// `true` or `false`.
    Boolean { default: bool },
    /// One of a few words.
    Choice { default: &'static str, of: &'static [&'static str] },
    /// A program and its arguments; never shown in a mistake, as arguments may be secret.
    Command { example: &'static str },
}

impl Key {
    /// The environment variable that sets it: `listen.public` is `HALLPASS_LISTEN__PUBLIC`.
    pub(super) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.path.replace('.', "__").to_ascii_uppercase())
    }

    /// Its table, empty at the top of the file, and its name there.
    pub(super) fn split(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').unwrap_or(("", self.path))
    }

    /// Which values it may have, where these are few or have limits.
    pub(super) fn limits(&self) -> Option<String> {
        match &self.kind {
            Kind::Integer { min, max, .. } => Some(format!("{min} to {max}")),
            Kind::Boolean { .. } => Some("true or false".to_owned()),
            Kind::Choice { of, .. } => Some(of.join(", ")),
            Kind::Text { .. } | Kind::Command { .. } => None,
        }
    }

    /// What to write instead of something of the wrong form.
    pub(super) fn fix(&self) -> String {
        match &self.kind {
            Kind::Text { example, .. } => format!("write a text, for example \"{example}\""),
            Kind::Integer { min, max, .. } => format!("write a whole number from {min} to {max}"),
            Kind::Boolean { .. } => "write true or false".to_owned(),
            Kind::Choice { of, .. } => format!("write one of {}", of.join(", ")),
            Kind::Command { example } => format!("write the program and its arguments, for example {example}"),
        }
    }
}

/// What the name of each environment variable of ours begins with.
pub(super) const VARIABLE_PREFIX: &str = "HALLPASS_";

/// The setting at `path`.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether there is a table of that name.
pub(super) fn is_table(name: &str) -> bool {
    KEYS.iter().any(|key| !name.is_empty() && key.split().0 == name)
}

/// The known path that somebody who wrote `path` most likely meant: the same name in another table, or a close spelling.
pub(super) fn closest(path: &str) -> Option<&'static str> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let elsewhere = KEYS.iter().map(|key| key.path).find(|known| known.rsplit('.').next() == Some(name));
    elsewhere.or_else(|| {
        let near = KEYS.iter().map(|key| (distance(path, key.path), key.path)).min()?;
        (near.0 <= 1 + path.len() / 6).then_some(near.1)
    })
}

/// The setting that a name without our two underscores may stand for: `master_key` (`vault.master_key_file`),
/// `listen_anything` (a setting of `[listen]`).
pub(super) fn begins_like(name: &str) -> Option<&'static str> {
    KEYS.iter().map(|key| (key.split(), key.path)).find_map(|((table, last), path)| {
        let rest = last.strip_prefix(name).is_some_and(|rest| rest.starts_with('_')) && name.contains('_');
        let of_table = !table.is_empty() && name.strip_prefix(table).is_some_and(|rest| rest.starts_with('_'));
        (rest || of_table).then_some(path)
    })
}

/// The known table whose name is spelled nearly like `name`.
pub(super) fn closest_table(name: &str) -> Option<&'static str> {
    let tables = KEYS.iter().map(|key| key.split().0).filter(|table| !table.is_empty());
    let near = tables.map(|table| (distance(name, table), table)).min()?;
    (near.0 <= 1 + name.len() / 6).then_some(near.1)
}

/// Levenshtein's edit distance, one row at a time.
fn distance(from: &str, to: &str) -> usize {
    // Nothing we know is this long, and the work grows with the product of the lengths.
    if from.len() > 100 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(to.chars()) {
            let here = (diagonal + usize::from(a != b)).min(*cell + 1).min(left + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

const fn text(path: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { path, kind: Kind::Text { default: Some(default), example: default }, about }
}

const fn optional(path: &'static str, example: &'static str, about: &'static str) -> Key {
    Key { path, kind: Kind::Text { default: None, example }, about }
}

const fn integer(path: &'static str, default: u64, min: u64, max: u64, about: &'static str) -> Key {
    Key { path, kind: Kind::Integer { default, min, max }, about }
}

const fn boolean(path: &'static str, default: bool, about: &'static str) -> Key {
    Key { path, kind: Kind::Boolean { default }, about }
}

const fn choice(path: &'static str, default: &'static str, of: &'static [&'static str], about: &'static str) -> Key {
    Key { path, kind: Kind::Choice { default, of }, about }
}

/// Every setting, in the order of the template; those of one table stand together.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    optional("issuer", "https://hallpass.example.com",
        "The URL that agents and gateways know this broker by; without it, the public listener's address"),
    boolean("insecure_http", false,
        "Allow an http issuer that is not loopback: whoever is on the network in between can read every token"),
    text("node", "node-1", "This node's name, 1 to 32 of a-z, 0-9 and -; each node of one database needs its own"),

    text("listen.public", "127.0.0.1:8600", "Address of the public listener, IP:PORT"),
    optional("listen.ops", "127.0.0.1:8601",
        "Address of metrics and health, IP:PORT; without it, 127.0.0.1 and the port after the public one"),
    text("listen.admin_socket", "data/admin.sock",
        "Unix socket of the admin interface; like every path here relative to this file's directory"),
    integer("listen.max_connections", 10_000, 1, 1_000_000, "Connections open at once; further ones are closed"),
    integer("listen.header_timeout_seconds", 10, 1, 120, "Seconds in which a request's head, and a form, must have arrived"),
    integer("listen.max_header_bytes", 32_768, 8_192, 1_048_576, "Bytes that a request's head may have"),
    integer("listen.drain_seconds", 20, 0, 3_600, "Seconds that calls in flight get to finish when the broker stops"),
    boolean("listen.http2", true, "Speak HTTP/2 beside HTTP/1.1"),
    boolean("listen.limit_untrusted", true,
        "Connections that have shown no good token, secret or certificate leave a thread free for those that have"),
    optional("listen.trusted_proxies", "10.0.0.0/8, 192.0.2.7",
        "Proxies whose Client-Cert (a client's certificate) and X-Forwarded-For (whose wrong secrets count) are heard"),

    optional("tls.cert_file", "keys/tls.crt", "Certificate chain in PEM; with key_file it turns TLS on"),
    optional("tls.key_file", "keys/tls.key", "Private key in PEM, readable by its owner alone (chmod 600)"),
    optional("tls.client_ca_file", "keys/client-ca.crt",
        "CA certificates in PEM that vouch for agents' certificates (tls_client_auth)"),
    optional("tls.client_crl_file", "keys/client-ca.crl",
        "Their revocation lists in PEM; then a certificate that none of them covers, or only an outdated one, is refused"),

    optional("admin.listen", "0.0.0.0:8602",
        "Address of the listener for admins elsewhere, IP:PORT, always TLS; without it there is the unix socket alone"),
    optional("admin.cert_file", "keys/admin.crt", "Its certificate chain in PEM; without it, that of [tls]"),
    optional("admin.key_file", "keys/admin.key", "Its private key in PEM, readable by its owner alone (chmod 600)"),
    optional("admin.issuer", "https://login.example.com",
        "The OpenID Connect issuer where admins log in (hallpass login), exactly as it calls itself"),
    optional("admin.client_id", "hallpass-cli", "The public client, with the device flow, that admins log in by; each broker has its own"),
    text("admin.scope", "openid email profile",
        "What is asked for at the login, so that the claims below are in the ID token"),
    text("admin.name_claim", "email",
        "The claim that names a person in the audit log, beside sub; an email only if it is verified"),
    integer("admin.login_seconds", 3_600, 60, 28_800, "Seconds that a login lasts"),
    optional("admin.issuer_ca_file", "keys/issuer-ca.crt",
        "CA certificates in PEM to trust for the issuer, instead of the public ones"),
    boolean("admin.issuer_allow_private", false, "Whether the issuer may be at a loopback or private address"),
    optional("admin.client_ca_file", "keys/admin-ca.crt", "CA certificates in PEM that vouch for admins' certificates"),
    optional("admin.client_crl_file", "keys/admin-ca.crl", "Their revocation lists in PEM"),
    optional("admin.viewers", "groups=auditors; cert.san_email=eve@example.com",
        "Who may look: CLAIM=VALUE, or cert.san_email (san_uri, san_dns, subject_dn) =VALUE; several with ; in between"),
    optional("admin.approvers", "groups=on-call", "Who may stop things, too: suspend agents, revoke sessions and tokens"),
    optional("admin.operators", "groups=platform", "Who may run the broker, too: agents, upstreams, roles, credentials"),
    optional("admin.owners", "sub=248289761001", "Who may do everything, signing keys and master key included"),

    text("database.url", "sqlite:data/hallpass.db",
        "Where data is kept: sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME"),
    optional("database.url_file", "keys/database.url", "A file that holds the URL, instead of url"),
    integer("database.max_connections", 8, 1, 1_000, "Connections to the database at once"),

    text("vault.master_key_file", "keys/master.key", "The master key's file; give this or one of the next two"),
    optional("vault.master_key_env", "HALLPASS_MASTER_KEY",
        "The name of an environment variable that holds the master key, instead"),
    Key { path: "vault.master_key_command", about: "A program (no shell) that prints the master key, instead",
        kind: Kind::Command { example: "[\"/usr/local/bin/fetch-key\", \"hallpass\"]" } },
    optional("vault.previous_master_key_file", "keys/master.key.old",
        "The master key before this one, while what it locks is rewrapped"),

    integer("tokens.lifetime_seconds", 300, 10, 900, "Seconds that an access token lives"),
    integer("tokens.session_seconds", 3_600, 60, 86_400, "Seconds that a session lasts when none are asked for"),
    integer("tokens.session_max_seconds", 86_400, 60, 86_400,
        "Seconds that a session may ask for, at least session_seconds"),
    integer("tokens.leeway_seconds", 5, 0, 60, "Seconds by which the clocks of others may differ from ours"),
    integer("tokens.secret_grace_seconds", 86_400, 0, 2_592_000,
        "Seconds that a client's old secret still works after `rotate-secret`"),

    boolean("dpop.require_nonce", true,
        "Ask for a nonce of ours in each DPoP proof: a proof that was made ahead of its time is no use"),
    integer("dpop.window_seconds", 60, 5, 300, "Seconds that a DPoP proof may be old"),
    integer("dpop.replay_entries", 1_000_000, 1_000, 100_000_000,
        "Used DPoP proofs that are remembered, at about 50 bytes each; further ones are refused"),

    integer("delegation.max_depth", 4, 0, 15,
        "Token exchanges on one way from a person, or an agent's own session, down; 0: none at all"),

    text("client_auth.methods",
        "client_secret private_key_jwt tls_client_auth self_signed_tls_client_auth spiffe federated",
        "How agents may prove who they are; what is left out is refused, whatever is registered for an agent"),
    text("client_auth.assertion_algorithms", "EdDSA ES256 PS256",
        "How client assertions may be signed: EdDSA, ES256, ES384, PS256, RS256, RS512"),

    choice("keys.algorithm", "ES256", &["ES256", "EdDSA", "RS256"], "How tokens are signed"),
    integer("keys.rotate_days", 30, 1, 365, "Days that a signing key signs"),
    integer("keys.publish_ahead_hours", 24, 1, 8_759,
        "Hours that the next key is published before it signs, less than rotate_days"),

    integer("revocations.sign_every_seconds", 5, 1, 30, "Seconds between two signings of the revocation list"),
    integer("revocations.max_age_seconds", 30, 5, 300,
        "Seconds after which a gateway must refuse to rely on its list, more than sign_every_seconds"),

    integer("audit.checkpoint_every_records", 10_000, 1, 1_000_000, "Records after which a checkpoint is signed"),
    integer("audit.checkpoint_every_seconds", 60, 1, 3_600, "Seconds after which one is signed in any case"),
    integer("audit.max_batch", 1_024, 1, 65_536, "Records in one transaction"),
    integer("audit.max_waiting", 20_000, 1, 1_000_000,
        "Records that may wait for their transaction, at least max_batch; further calls are refused"),

    integer("exchange.connect_timeout_seconds", 5, 1, 60, "Seconds to reach an upstream"),
    integer("exchange.response_timeout_seconds", 300, 1, 3_600, "Seconds until an upstream's response head"),
    integer("exchange.idle_timeout_seconds", 300, 1, 3_600, "Seconds between two pieces of a body"),
    integer("exchange.max_request_bytes", 10_737_418_240, 1_024, 1_099_511_627_776, "Bytes of a request's body"),
    integer("exchange.max_response_bytes", 10_737_418_240, 1_024, 1_099_511_627_776, "Bytes of a response's body"),
    integer("exchange.max_calls", 5_000, 1, 1_000_000, "Brokered calls in flight at once; further ones are refused"),
    integer("exchange.max_calls_per_agent", 500, 1, 1_000_000, "Brokered calls of one agent in flight at once"),
    integer("exchange.max_connections", 6_000, 1, 1_000_000, "Connections to all upstreams at once"),
    integer("exchange.max_connections_per_upstream", 5_000, 1, 1_000_000,
        "Connections to one upstream at once, where its definition does not say"),
    integer("exchange.token_cache", 100_000, 1, 10_000_000, "Verified tokens that are remembered, in entries"),

    optional("outbound.proxy", "http://proxy.example.com:3128",
        "The proxy on the way to upstreams and issuers: http://HOST:PORT, or environment for HTTPS_PROXY, HTTP_PROXY, NO_PROXY"),
    optional("outbound.proxy_file", "keys/proxy.url", "A file that holds the proxy's URL, where it has a password, instead of proxy"),
    optional("outbound.no_proxy", "10.0.0.0/8, .corp.example.com",
        "Hosts, domains and networks that are reached without the proxy, with commas in between"),

    choice("log.format", "human", &["human", "json"], "How the log is written"),
    choice("log.level", "info", &["error", "warn", "info", "debug", "trace"], "How much of it"),
];
