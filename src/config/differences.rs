//! What differs between two readings of the settings, for a broker that runs with the first.

use std::fmt::Debug;

use super::{Config, DatabaseTarget};

impl Config {
    /// The settings and tables that differ, by their names in the file.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        // Names of files, numbers, addresses: all of it has a `Debug` that shows the whole value, but for secrets.
        fn differ<T: Debug>(a: &T, b: &T) -> bool {
            format!("{a:?}") != format!("{b:?}")
        }
        let is_same_database = match (&self.database.target, &other.database.target) {
            (DatabaseTarget::Postgres(a), DatabaseTarget::Postgres(b)) => a.expose() == b.expose(),
            (a, b) => !differ(a, b),
        };
        let database = !is_same_database || self.database.max_connections != other.database.max_connections;
        let tls = differ(&self.tls, &other.tls) || differ(&self.client_certificates, &other.client_certificates);
        let all = [
            ("issuer", self.issuer != other.issuer),
            ("insecure_http", self.insecure_http != other.insecure_http),
            ("node", self.node != other.node),
            ("[listen]", differ(&self.listen, &other.listen)),
            ("[tls]", tls),
            ("[admin]", differ(&self.admin, &other.admin)),
            ("[database]", database),
            ("[vault]", differ(&self.vault, &other.vault)),
            ("[tokens]", differ(&self.tokens, &other.tokens)),
            ("[dpop]", differ(&self.dpop, &other.dpop)),
            ("[delegation]", differ(&self.delegation, &other.delegation)),
            ("[client_auth]", differ(&self.client_auth, &other.client_auth)),
            ("[keys]", differ(&self.keys, &other.keys)),
            ("[revocations]", differ(&self.revocations, &other.revocations)),
            ("[audit]", differ(&self.audit, &other.audit)),
            ("[exchange]", differ(&self.exchange, &other.exchange)),
            ("[log]", differ(&self.log, &other.log)),
        ];
        all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}
