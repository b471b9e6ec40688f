//! Reading everything at start, for the registry. Hot paths never come here.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};

use crate::model::{
    Agent, AgentStatus, Credential, CredentialVersion, DefinitionKind, Revocation, RevocationKind, Sealed, Session,
    StoredKey, StoredSecret, UsedAssertion,
};
use crate::store::{Result, Store, StoreError, on_db};
use crate::world::Millis;

/// A definition as it is stored.
#[derive(Debug, Clone)]
pub struct StoredDefinition {
    /// Of what.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// Its JSON.
    pub body: String,
}

/// All that the registry holds.
#[derive(Debug, Default)]
pub struct Everything {
    /// Agents with their client secrets.
    pub agents: Vec<Agent>,
    /// Upstreams, roles, resources.
    pub definitions: Vec<StoredDefinition>,
    /// Credentials with their versions.
    pub credentials: Vec<Credential>,
    /// Signing keys.
    pub keys: Vec<StoredKey>,
    /// The broker's own secrets, by id.
    pub broker_secrets: BTreeMap<String, Sealed>,
    /// Sessions that have not ended.
    pub sessions: Vec<Session>,
    /// Revocations that can still matter.
    pub revocations: Vec<Revocation>,
    /// The epoch of the revocation list.
    pub epoch: i64,
    /// Client assertions that were used and have not ended.
    pub used_assertions: Vec<UsedAssertion>,
    /// Since when they are kept; none: they never were.
    pub assertions_since: Option<Millis>,
}

#[derive(sqlx::FromRow)]
struct AgentRow {
    id: String,
    name: String,
    status: String,
    roles: String,
    created_at: Millis,
    identity: String,
}

#[derive(sqlx::FromRow)]
struct SecretRow {
    agent_id: String,
    digest: Vec<u8>,
    created_at: Millis,
    expires_at: Option<Millis>,
}

#[derive(sqlx::FromRow)]
struct CredentialRow {
    id: String,
    name: String,
    allow_short: bool,
    created_at: Millis,
    revoked_at: Option<Millis>,
}

#[derive(sqlx::FromRow)]
struct VersionRow {
    credential_id: String,
    version: i64,
    wrapped_key: Vec<u8>,
    ciphertext: Vec<u8>,
    created_at: Millis,
    expires_at: Option<Millis>,
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    kid: String,
    algorithm: String,
    state: String,
    created_at: Millis,
    activated_at: Option<Millis>,
    retiring_at: Option<Millis>,
    gone_at: Option<Millis>,
    revoked: bool,
    public_jwk: String,
    wrapped_key: Option<Vec<u8>>,
    ciphertext: Option<Vec<u8>>,
}

#[derive(sqlx::FromRow)]
struct SessionRow {
    id: String,
    agent_id: String,
    created_at: Millis,
    expires_at: Millis,
    task: Option<String>,
    purpose: Option<String>,
    revoked_at: Option<Millis>,
    parent: Option<String>,
    cnf: Option<String>,
    delegation: Option<String>,
}

#[derive(sqlx::FromRow)]
struct RevocationRow {
    kind: String,
    subject: String,
    cut: i64,
    keep_until: Millis,
    created_at: Millis,
    reason: String,
}

impl Store {
    /// Reads all that can matter at `now`.
    pub async fn load(&self, now: Millis) -> Result<Everything> {
        Ok(Everything {
            agents: self.agents().await?,
            definitions: self.definitions().await?,
            credentials: self.credentials().await?,
            keys: self.signing_keys().await?,
            broker_secrets: self.broker_secrets().await?,
            sessions: self.sessions(now).await?,
            epoch: self.epoch().await?,
            revocations: self.revocations(now).await?,
            used_assertions: self.used_assertions(now).await?,
            assertions_since: self.assertions_since().await?,
        })
    }

    async fn agents(&self) -> Result<Vec<Agent>> {
        let sql = "SELECT agent_id, digest, created_at, expires_at FROM client_secrets ORDER BY created_at";
        let mut by_agent: BTreeMap<String, Vec<StoredSecret>> = BTreeMap::new();
        let secret = |row: SecretRow| {
            let digest = row.digest.try_into().map_err(|_| corrupt("client secret", &row.agent_id))?;
            let secret = StoredSecret { digest, created_at: row.created_at, expires_at: row.expires_at };
            by_agent.entry(row.agent_id).or_default().push(secret);
            Ok(())
        };
        on_db!(self, pool => each(sqlx::query_as(sql).fetch(pool), secret).await)?;
        let sql = "SELECT id, name, status, roles, created_at, identity FROM agents ORDER BY name";
        let agent = |row: AgentRow| {
            let roles: Vec<String> = serde_json::from_str(&row.roles).map_err(|_| corrupt("agent", &row.id))?;
            Ok(Agent {
                status: AgentStatus::parse(&row.status).ok_or_else(|| corrupt("agent", &row.id))?,
                roles: exact(roles),
                secrets: exact(by_agent.remove(&row.id).unwrap_or_default()),
                identity: serde_json::from_str(&row.identity).map_err(|_| corrupt("agent", &row.id))?,
                created_at: row.created_at,
                name: row.name.into(),
                id: row.id.into(),
            })
        };
        on_db!(self, pool => each(sqlx::query_as(sql).fetch(pool), agent).await)
    }

    async fn definitions(&self) -> Result<Vec<StoredDefinition>> {
        let sql = "SELECT kind, name, body FROM definitions ORDER BY kind, name";
        let rows: Vec<(String, String, String)> = on_db!(self, pool => sqlx::query_as(sql).fetch_all(pool).await)?;
        rows.into_iter()
            .map(|(kind, name, body)| {
                let kind = DefinitionKind::ALL.iter().copied().find(|one| one.as_str() == kind);
                Ok(StoredDefinition { kind: kind.ok_or_else(|| corrupt("definition", &name))?, name, body })
            })
            .collect()
    }

    async fn credentials(&self) -> Result<Vec<Credential>> {
        let sql = "SELECT credential_id, version, wrapped_key, ciphertext, created_at, expires_at \
                   FROM credential_versions ORDER BY credential_id, version";
        let versions: Vec<VersionRow> = on_db!(self, pool => sqlx::query_as(sql).fetch_all(pool).await)?;
        let mut by_credential: BTreeMap<String, Vec<CredentialVersion>> = BTreeMap::new();
        for row in versions {
            let version = CredentialVersion {
                version: u32::try_from(row.version).map_err(|_| corrupt("credential version", &row.credential_id))?,
                sealed: Sealed { wrapped_key: row.wrapped_key, ciphertext: row.ciphertext },
                created_at: row.created_at,
                expires_at: row.expires_at,
            };
            by_credential.entry(row.credential_id).or_default().push(version);
        }
        let sql = "SELECT id, name, allow_short, created_at, revoked_at FROM credentials ORDER BY name";
        let rows: Vec<CredentialRow> = on_db!(self, pool => sqlx::query_as(sql).fetch_all(pool).await)?;
        let credential = |row: CredentialRow| Credential {
            versions: by_credential.remove(&row.id).unwrap_or_default(),
            id: row.id.into(),
            name: row.name.into(),
            allow_short: row.allow_short,
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        };
        Ok(rows.into_iter().map(credential).collect())
    }

    /// The signing keys, gone ones too: their public halves still verify old checkpoints.
    pub async fn signing_keys(&self) -> Result<Vec<StoredKey>> {
        let sql = "SELECT kid, algorithm, state, created_at, activated_at, retiring_at, gone_at, revoked, public_jwk, \
                   wrapped_key, ciphertext FROM signing_keys ORDER BY created_at, kid";
        let rows: Vec<KeyRow> = on_db!(self, pool => sqlx::query_as(sql).fetch_all(pool).await)?;
        let key = |row: KeyRow| StoredKey {
            kid: row.kid,
            algorithm: row.algorithm,
            state: row.state,
            created_at: row.created_at,
            activated_at: row.activated_at,
            retiring_at: row.retiring_at,
            gone_at: row.gone_at,
            revoked: row.revoked,
            public_jwk: row.public_jwk,
            sealed: row
                .wrapped_key
                .zip(row.ciphertext)
                .map(|(wrapped_key, ciphertext)| Sealed { wrapped_key, ciphertext }),
        };
        Ok(rows.into_iter().map(key).collect())
    }

    /// The broker's own secrets, by id.
    pub async fn broker_secrets(&self) -> Result<BTreeMap<String, Sealed>> {
        let sql = "SELECT id, wrapped_key, ciphertext FROM broker_secrets";
        let rows: Vec<(String, Vec<u8>, Vec<u8>)> = on_db!(self, pool => sqlx::query_as(sql).fetch_all(pool).await)?;
        let secret = |(id, wrapped_key, ciphertext)| (id, Sealed { wrapped_key, ciphertext });
        Ok(rows.into_iter().map(secret).collect())
    }

    async fn sessions(&self, now: Millis) -> Result<Vec<Session>> {
        let sql = "SELECT id, agent_id, created_at, expires_at, task, purpose, revoked_at, parent, cnf, delegation \
                   FROM sessions WHERE expires_at > $1";
        let session = |row: SessionRow| {
            Ok(Session {
                cnf: read_json(row.cnf.as_deref()).map_err(|_| corrupt("session", &row.id))?,
                delegation: read_json(row.delegation.as_deref())
                    .map_err(|_| corrupt("session", &row.id))?
                    .map(Arc::new),
                parent: row.parent.map(Arc::from),
                id: row.id.into(),
                agent_id: row.agent_id.into(),
                created_at: row.created_at,
                expires_at: row.expires_at,
                task: row.task.map(Arc::from),
                purpose: row.purpose.map(Arc::from),
                revoked_at: row.revoked_at,
            })
        };
        on_db!(self, pool => each(sqlx::query_as(sql).bind(now).fetch(pool), session).await)
    }

    async fn revocations(&self, now: Millis) -> Result<Vec<Revocation>> {
        let sql = "SELECT kind, subject, cut, keep_until, created_at, reason FROM revocations WHERE keep_until >= $1";
        let rows: Vec<RevocationRow> = on_db!(self, pool => sqlx::query_as(sql).bind(now).fetch_all(pool).await)?;
        let revocation = |row: RevocationRow| {
            Ok(Revocation {
                kind: RevocationKind::parse(&row.kind).ok_or_else(|| corrupt("revocation", &row.subject))?,
                subject: row.subject.into(),
                cut: row.cut,
                keep_until: row.keep_until,
                created_at: row.created_at,
                reason: row.reason,
            })
        };
        rows.into_iter().map(revocation).collect()
    }

    async fn used_assertions(&self, now: Millis) -> Result<Vec<UsedAssertion>> {
        let sql = "SELECT digest, agent_id, expires_at FROM used_assertions WHERE agent_id <> '' AND expires_at > $1";
        let used = |(digest, agent_id, expires_at): (Vec<u8>, String, Millis)| {
            let digest = digest.try_into().map_err(|_| corrupt("used assertion of", &agent_id))?;
            Ok(UsedAssertion { digest, agent_id: agent_id.into(), expires_at })
        };
        on_db!(self, pool => each(sqlx::query_as(sql).bind(now).fetch(pool), used).await)
    }

    async fn assertions_since(&self) -> Result<Option<Millis>> {
        let sql = "SELECT expires_at FROM used_assertions WHERE agent_id = ''";
        let row: Option<(Millis,)> = on_db!(self, pool => sqlx::query_as(sql).fetch_optional(pool).await)?;
        Ok(row.map(|(since,)| since))
    }
}

/// Makes something of each row as it comes, so that a hundred thousand rows are not in memory besides.
async fn each<R, T>(rows: impl Stream<Item = sqlx::Result<R>>, mut make: impl FnMut(R) -> Result<T>) -> Result<Vec<T>> {
    rows.map(|row| make(row?)).try_collect().await
}

/// Without the room for three more that a list of one has grown to: a hundred thousand of them stay in memory.
fn exact<T>(mut list: Vec<T>) -> Vec<T> {
    list.shrink_to_fit();
    list
}

/// What is NULL stays away; what is there must be whole: a session must not lose the key that it is bound to.
fn read_json<T: serde::de::DeserializeOwned>(text: Option<&str>) -> serde_json::Result<Option<T>> {
    text.map(serde_json::from_str).transpose()
}

fn corrupt(what: &str, id: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} {id} cannot be read"))
}
