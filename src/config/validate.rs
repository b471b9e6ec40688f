//! Turns what was read into typed settings, and checks what no single value shows by its form.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hallpass_verify::ForeignAlgorithm;
use ipnet::IpNet;

use super::admin::admin;
use super::issuer::issuer;
use super::mistake::shown;
use super::read::Reader;
use super::sources::{certificates, database, key_pair, outbound, vault};
use super::{
    Audit, CLIENT_AUTH_METHODS, ClientAuth, Config, Database, Delegation, Dpop, Exchange, Keys, Listen, Log, LogFormat,
    LogLevel, Overrides, Revocations, Tokens,
};

/// What `sockaddr_un` holds, less its closing NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Checks everything and notes every mistake in `reader`. None only if there was one.
pub(super) fn validate(reader: &mut Reader, overrides: Overrides) -> Option<Config> {
    let node = node(reader);
    let listen = listen(reader, overrides);
    let tls = key_pair(reader, "tls.cert_file", "tls.key_file", "set both, or remove both for plain HTTP");
    let client_certificates = certificates(reader, "tls.client_ca_file", "tls.client_crl_file");
    let admin = admin(reader, listen.as_ref(), tls.as_ref());
    let issuer = issuer(reader, listen.as_ref(), overrides);
    let target = database(reader);
    let vault = vault(reader);
    let outbound = outbound(reader);
    let tokens = tokens(reader);
    let dpop = dpop(reader);
    let client_auth = client_auth(reader);
    let keys = keys(reader);
    let revocations = revocations(reader);
    let audit = audit(reader);
    Some(Config {
        issuer,
        insecure_http: reader.boolean("insecure_http"),
        node: node?,
        listen: listen?,
        tls,
        client_certificates,
        admin,
        database: Database { target: target?, max_connections: size(reader, "database.max_connections") },
        vault: vault?,
        tokens,
        dpop,
        delegation: Delegation { max_depth: size(reader, "delegation.max_depth") },
        client_auth: client_auth?,
        keys: keys?,
        revocations,
        audit,
        exchange: exchange(reader),
        outbound: outbound?,
        log: log(reader)?,
        not_ours: reader.take_not_ours(),
    })
}

pub(super) fn seconds(reader: &Reader, path: &'static str) -> Duration {
    Duration::from_secs(reader.integer(path))
}

/// A number whose limits lie within `T`; the key's table says so.
fn size<T: TryFrom<u64> + Default>(reader: &Reader, path: &'static str) -> T {
    T::try_from(reader.integer(path)).unwrap_or_default()
}

/// The path at `path`, seen from the directory of the settings.
pub(super) fn file(reader: &Reader, path: &'static str) -> Option<PathBuf> {
    reader.text(path).map(|text| reader.resolve(&text))
}

fn node(reader: &mut Reader) -> Option<String> {
    let node = reader.text("node")?;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if node.len() <= 32 && node.bytes().all(allowed) {
        return Some(node.to_string());
    }
    let problem = format!("{} is no name of a node", shown(&node));
    reader.mistake("node", problem, "write 1 to 32 of a-z, 0-9 and -, for example \"node-1\"");
    None
}

pub(super) fn address(reader: &mut Reader, path: &'static str, example: &str) -> Option<SocketAddr> {
    let text = reader.text(path)?;
    // The parser says no more than that it is none.
    let address = text.parse().ok();
    if address.is_none() {
        let problem = format!("{} is no socket address", shown(&text));
        reader.mistake(path, problem, format!("write IP:PORT, for example {example}"));
    }
    address
}

fn listen(reader: &mut Reader, overrides: Overrides) -> Option<Listen> {
    // Checked even where the command line overrides it: it is wrong in the file all the same.
    let written = address(reader, "listen.public", "127.0.0.1:8600");
    let public = overrides.listen.or(written);
    let ops_given = reader.is_given("listen.ops");
    let ops = address(reader, "listen.ops", "127.0.0.1:8601");
    match (public, ops) {
        (Some(public), Some(ops)) if overlap(public, ops) => {
            let problem = format!("{ops} is taken by the public listener {public}");
            reader.mistake("listen.ops", problem, "write another port");
        }
        (Some(public), None) if public.port() == u16::MAX && !ops_given => {
            let problem = "the public listener has the last port, so there is no next one";
            reader.mistake("listen.ops", problem, "set it, for example \"127.0.0.1:8601\"");
        }
        _ => {}
    }
    let admin_socket = file(reader, "listen.admin_socket")?;
    if admin_socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        let problem = format!("the path is {} bytes long", admin_socket.as_os_str().len());
        let fix = format!("write one of at most {MAX_SOCKET_PATH_BYTES} bytes, the directory included");
        reader.mistake("listen.admin_socket", problem, fix);
    }
    Some(Listen {
        public: public?,
        ops,
        admin_socket,
        max_connections: size(reader, "listen.max_connections"),
        header_timeout: seconds(reader, "listen.header_timeout_seconds"),
        max_header_bytes: size(reader, "listen.max_header_bytes"),
        drain: seconds(reader, "listen.drain_seconds"),
        http2: reader.boolean("listen.http2"),
        limit_untrusted: reader.boolean("listen.limit_untrusted"),
        trusted_proxies: trusted_proxies(reader),
    })
}

/// Addresses and networks, separated by commas.
fn trusted_proxies(reader: &mut Reader) -> Vec<IpNet> {
    let key = "listen.trusted_proxies";
    let Some(text) = reader.text(key) else { return Vec::new() };
    let mut networks = Vec::new();
    for one in text.split(',').map(str::trim) {
        let network = one.parse::<IpNet>().or_else(|_| one.parse::<IpAddr>().map(IpNet::from));
        // Whoever trusts everybody's word on who they are has no authentication.
        match network {
            Ok(network) if network.prefix_len() > 0 => networks.push(network),
            _ => {
                let problem = format!("{} is no address or network of proxies", shown(one));
                reader.mistake(key, problem, "write them with commas, for example \"10.0.0.0/8, 192.0.2.7\"");
            }
        }
    }
    networks
}

/// Whether one of two listeners would find its port taken by the other.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let ips = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && ips
}

fn tokens(reader: &mut Reader) -> Tokens {
    let (session, longest) = ("tokens.session_seconds", "tokens.session_max_seconds");
    if reader.integer(longest) < reader.integer(session) {
        let problem = format!("{} is less than {session}, {}", reader.integer(longest), reader.integer(session));
        reader.mismatch(longest, session, problem, "raise it, or lower the other".to_owned());
    }
    Tokens {
        lifetime: seconds(reader, "tokens.lifetime_seconds"),
        session: seconds(reader, session),
        session_max: seconds(reader, longest),
        leeway: seconds(reader, "tokens.leeway_seconds"),
        secret_grace: seconds(reader, "tokens.secret_grace_seconds"),
    }
}

fn dpop(reader: &Reader) -> Dpop {
    Dpop {
        require_nonce: reader.boolean("dpop.require_nonce"),
        window: seconds(reader, "dpop.window_seconds"),
        replay_entries: size(reader, "dpop.replay_entries"),
    }
}

fn client_auth(reader: &mut Reader) -> Option<ClientAuth> {
    let method = |word: &str| CLIENT_AUTH_METHODS.contains(&word).then(|| word.to_owned());
    let methods = words(reader, "client_auth.methods", &CLIENT_AUTH_METHODS.join(", "), method);
    let names = ForeignAlgorithm::ALL.map(ForeignAlgorithm::as_str).join(", ");
    let assertion_algorithms = words(reader, "client_auth.assertion_algorithms", &names, ForeignAlgorithm::parse);
    Some(ClientAuth { methods: methods?, assertion_algorithms: assertion_algorithms? })
}

/// One or more words with spaces in between, each of them known.
fn words<T: PartialEq>(
    reader: &mut Reader,
    path: &'static str,
    known: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    let text = reader.text(path)?;
    let fix = format!("write one or more of {known}, with spaces in between");
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        match parse(word) {
            Some(one) if !found.contains(&one) => found.push(one),
            Some(_) => {}
            None => {
                reader.mistake(path, format!("{} is not known", shown(word)), fix);
                return None;
            }
        }
    }
    if found.is_empty() {
        reader.mistake(path, "nothing is left", fix);
        return None;
    }
    Some(found)
}

fn keys(reader: &mut Reader) -> Option<Keys> {
    let (rotate, ahead) = ("keys.rotate_days", "keys.publish_ahead_hours");
    let rotate_hours = reader.integer(rotate).saturating_mul(24);
    if reader.integer(ahead) >= rotate_hours {
        let problem = format!("{} hours are not less than {rotate}, {rotate_hours} hours", reader.integer(ahead));
        reader.mismatch(ahead, rotate, problem, "lower it, or raise the other".to_owned());
    }
    Some(Keys {
        algorithm: reader.text("keys.algorithm")?.parse().ok()?,
        rotate: Duration::from_secs(rotate_hours.saturating_mul(3600)),
        publish_ahead: Duration::from_secs(reader.integer(ahead).saturating_mul(3600)),
    })
}

fn revocations(reader: &mut Reader) -> Revocations {
    let (every, age) = ("revocations.sign_every_seconds", "revocations.max_age_seconds");
    if reader.integer(age) <= reader.integer(every) {
        let problem = format!("{} is not more than {every}, {}", reader.integer(age), reader.integer(every));
        reader.mismatch(age, every, problem, "raise it, or lower the other".to_owned());
    }
    Revocations { sign_every: seconds(reader, every), max_age: seconds(reader, age) }
}

fn audit(reader: &mut Reader) -> Audit {
    let (batch, waiting) = ("audit.max_batch", "audit.max_waiting");
    if reader.integer(waiting) < reader.integer(batch) {
        let problem = format!("{} is less than {batch}, {}", reader.integer(waiting), reader.integer(batch));
        reader.mismatch(waiting, batch, problem, "raise it, or lower the other".to_owned());
    }
    Audit {
        checkpoint_every_records: reader.integer("audit.checkpoint_every_records"),
        checkpoint_every: seconds(reader, "audit.checkpoint_every_seconds"),
        max_batch: size(reader, batch),
        max_waiting: size(reader, waiting),
    }
}

fn exchange(reader: &Reader) -> Exchange {
    Exchange {
        connect_timeout: seconds(reader, "exchange.connect_timeout_seconds"),
        response_timeout: seconds(reader, "exchange.response_timeout_seconds"),
        idle_timeout: seconds(reader, "exchange.idle_timeout_seconds"),
        max_request_bytes: reader.integer("exchange.max_request_bytes"),
        max_response_bytes: reader.integer("exchange.max_response_bytes"),
        max_calls: size(reader, "exchange.max_calls"),
        max_calls_per_agent: size(reader, "exchange.max_calls_per_agent"),
        max_connections: size(reader, "exchange.max_connections"),
        max_connections_per_upstream: size(reader, "exchange.max_connections_per_upstream"),
        token_cache: size(reader, "exchange.token_cache"),
    }
}

fn log(reader: &Reader) -> Option<Log> {
    let format = match reader.text("log.format")?.as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Human,
    };
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let level = reader.text("log.level")?;
    Some(Log { format, level: levels.into_iter().find(|known| known.as_str() == level.as_str())? })
}
