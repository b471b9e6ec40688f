//! One statement for both engines: the text with `$1` placeholders, and its values.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::model::{Change, Rewrapped};
use crate::world::Millis;

/// A value to bind. Portable: these are all the column types there are.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    MaybeText(Option<String>),
    Int(i64),
    MaybeInt(Option<i64>),
    Bool(bool),
    Bytes(Vec<u8>),
    MaybeBytes(Option<Vec<u8>>),
}

/// A statement and what it binds.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: Cow<'static, str>,
    pub(super) values: Vec<Value>,
}

impl Statement {
    pub(super) fn new(sql: &'static str, values: Vec<Value>) -> Self {
        Self { sql: Cow::Borrowed(sql), values }
    }
}

/// A statement with its values bound, for either engine.
macro_rules! bound {
    ($statement:expr) => {{
        let statement: $crate::store::statement::Statement = $statement;
        // The text is ours: a constant, or a constant repeated for more rows. Values are always bound.
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement.sql));
        for value in statement.values {
            use $crate::store::statement::Value;
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::MaybeText(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
                Value::MaybeInt(number) => query.bind(number),
                Value::Bool(flag) => query.bind(flag),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::MaybeBytes(bytes) => query.bind(bytes),
            };
        }
        query
    }};
}
pub(super) use bound;

fn text(value: impl AsRef<str>) -> Value {
    Value::Text(value.as_ref().to_owned())
}

/// Plain types of ours always serialise.
fn json(value: &impl serde::Serialize) -> Value {
    Value::Text(serde_json::to_string(value).unwrap_or_default())
}

fn maybe_json(value: Option<&impl serde::Serialize>) -> Value {
    Value::MaybeText(value.and_then(|value| serde_json::to_string(value).ok()))
}

fn maybe_text(value: Option<&str>) -> Value {
    Value::MaybeText(value.map(str::to_owned))
}

/// What a change does to the tables. Sessions are left to [`super::commit`], which writes many rows at once.
pub(super) fn statements(change: &Change, now: Millis) -> Vec<Statement> {
    match change {
        Change::PutAgent(agent) => {
            let roles = serde_json::Value::from(agent.roles.clone()).to_string();
            let mut all = vec![Statement::new(
                "INSERT INTO agents (id, name, status, roles, created_at, identity) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (id) DO UPDATE SET status = excluded.status, roles = excluded.roles, \
                 identity = excluded.identity",
                vec![
                    text(&agent.id),
                    text(&agent.name),
                    text(agent.status.as_str()),
                    text(roles),
                    Value::Int(agent.created_at),
                    json(&agent.identity),
                ],
            )];
            all.extend(agent.secrets.iter().map(|secret| add_secret(&agent.id, secret)));
            all
        }
        Change::RemoveAgent { id, .. } => vec![
            Statement::new("DELETE FROM client_secrets WHERE agent_id = $1", vec![text(id)]),
            Statement::new("DELETE FROM agents WHERE id = $1", vec![text(id)]),
        ],
        Change::AddSecret { agent_id, secret, others_end } => vec![
            Statement::new(
                "UPDATE client_secrets SET expires_at = $1 \
                 WHERE agent_id = $2 AND expires_at IS NOT NULL AND expires_at > $1",
                vec![Value::Int(secret.created_at), text(agent_id)],
            ),
            Statement::new(
                "UPDATE client_secrets SET expires_at = $1 WHERE agent_id = $2 AND expires_at IS NULL",
                vec![Value::Int(*others_end), text(agent_id)],
            ),
            add_secret(agent_id, secret),
        ],
        Change::PutDefinition { kind, name, body } => vec![Statement::new(
            "INSERT INTO definitions (kind, name, body, updated_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at",
            vec![text(kind.as_str()), text(name), text(body), Value::Int(now)],
        )],
        Change::RemoveDefinition { kind, name } => vec![Statement::new(
            "DELETE FROM definitions WHERE kind = $1 AND name = $2",
            vec![text(kind.as_str()), text(name)],
        )],
        Change::PutCredential(credential) => {
            let mut all = vec![Statement::new(
                "INSERT INTO credentials (id, name, allow_short, created_at, revoked_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (id) DO UPDATE SET allow_short = excluded.allow_short, revoked_at = excluded.revoked_at",
                vec![
                    text(&credential.id),
                    text(&credential.name),
                    Value::Bool(credential.allow_short),
                    Value::Int(credential.created_at),
                    Value::MaybeInt(credential.revoked_at),
                ],
            )];
            all.extend(credential.versions.iter().map(|version| add_version(&credential.id, version)));
            all
        }
        Change::AddCredentialVersion { credential_id, version, others_end } => vec![
            Statement::new(
                "UPDATE credential_versions SET expires_at = $1 \
                 WHERE credential_id = $2 AND (expires_at IS NULL OR expires_at > $1)",
                vec![Value::Int(*others_end), text(credential_id)],
            ),
            add_version(credential_id, version),
        ],
        Change::RemoveCredential { id, .. } => vec![
            Statement::new("DELETE FROM credential_versions WHERE credential_id = $1", vec![text(id)]),
            Statement::new("DELETE FROM credentials WHERE id = $1", vec![text(id)]),
        ],
        Change::PutKey(key) => vec![Statement::new(
            "INSERT INTO signing_keys (kid, algorithm, state, created_at, activated_at, retiring_at, gone_at, revoked, \
             public_jwk, wrapped_key, ciphertext) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             ON CONFLICT (kid) DO UPDATE SET state = excluded.state, activated_at = excluded.activated_at, \
             retiring_at = excluded.retiring_at, gone_at = excluded.gone_at, revoked = excluded.revoked, \
             wrapped_key = excluded.wrapped_key, ciphertext = excluded.ciphertext",
            vec![
                text(&key.kid),
                text(&key.algorithm),
                text(&key.state),
                Value::Int(key.created_at),
                Value::MaybeInt(key.activated_at),
                Value::MaybeInt(key.retiring_at),
                Value::MaybeInt(key.gone_at),
                Value::Bool(key.revoked),
                text(&key.public_jwk),
                Value::MaybeBytes(key.sealed.as_ref().map(|sealed| sealed.wrapped_key.clone())),
                Value::MaybeBytes(key.sealed.as_ref().map(|sealed| sealed.ciphertext.clone())),
            ],
        )],
        Change::PutBrokerSecret { id, sealed } => vec![Statement::new(
            "INSERT INTO broker_secrets (id, wrapped_key, ciphertext, created_at) VALUES ($1, $2, $3, $4)",
            vec![
                text(id),
                Value::Bytes(sealed.wrapped_key.clone()),
                Value::Bytes(sealed.ciphertext.clone()),
                Value::Int(now),
            ],
        )],
        Change::Rewrap(keys) => keys.iter().map(rewrap).collect(),
        Change::PutSession(_) => Vec::new(),
        Change::EndSession { id, at } => vec![Statement::new(
            "UPDATE sessions SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL",
            vec![Value::Int(*at), text(id)],
        )],
        Change::PutRevocation(revocation) => vec![Statement::new(
            "INSERT INTO revocations (kind, subject, cut, keep_until, created_at, reason) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (kind, subject) DO UPDATE SET \
             cut = CASE WHEN excluded.cut > revocations.cut THEN excluded.cut ELSE revocations.cut END, \
             keep_until = CASE WHEN excluded.keep_until > revocations.keep_until THEN excluded.keep_until \
             ELSE revocations.keep_until END",
            vec![
                text(revocation.kind.as_str()),
                text(&revocation.subject),
                Value::Int(revocation.cut),
                Value::Int(revocation.keep_until),
                Value::Int(revocation.created_at),
                text(&revocation.reason),
            ],
        )],
        Change::KeepAssertions { since } => vec![Statement::new(
            "INSERT INTO used_assertions (digest, agent_id, expires_at) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING",
            vec![Value::Bytes(Vec::new()), text(""), Value::Int(*since)],
        )],
        Change::Prune { before } => [
            "DELETE FROM revocations WHERE keep_until < $1",
            "DELETE FROM sessions WHERE expires_at < $1",
            "DELETE FROM client_secrets WHERE expires_at IS NOT NULL AND expires_at < $1",
            "DELETE FROM credential_versions WHERE expires_at IS NOT NULL AND expires_at < $1",
            "DELETE FROM used_assertions WHERE agent_id <> '' AND expires_at < $1",
            "DELETE FROM used_proofs WHERE expires_at < $1",
        ]
        .map(|sql| Statement::new(sql, vec![Value::Int(*before)]))
        .into(),
    }
}

fn add_secret(agent_id: &str, secret: &crate::model::StoredSecret) -> Statement {
    Statement::new(
        "INSERT INTO client_secrets (agent_id, digest, created_at, expires_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (agent_id, digest) DO NOTHING",
        vec![
            text(agent_id),
            Value::Bytes(secret.digest.to_vec()),
            Value::Int(secret.created_at),
            Value::MaybeInt(secret.expires_at),
        ],
    )
}

fn add_version(credential_id: &str, version: &crate::model::CredentialVersion) -> Statement {
    Statement::new(
        "INSERT INTO credential_versions (credential_id, version, wrapped_key, ciphertext, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (credential_id, version) DO NOTHING",
        vec![
            text(credential_id),
            Value::Int(i64::from(version.version)),
            Value::Bytes(version.sealed.wrapped_key.clone()),
            Value::Bytes(version.sealed.ciphertext.clone()),
            Value::Int(version.created_at),
            Value::MaybeInt(version.expires_at),
        ],
    )
}

fn rewrap(key: &Rewrapped) -> Statement {
    match key {
        Rewrapped::Credential { id, version, wrapped_key } => Statement::new(
            "UPDATE credential_versions SET wrapped_key = $1 WHERE credential_id = $2 AND version = $3",
            vec![Value::Bytes(wrapped_key.clone()), text(id), Value::Int(i64::from(*version))],
        ),
        Rewrapped::Key { kid, wrapped_key } => Statement::new(
            "UPDATE signing_keys SET wrapped_key = $1 WHERE kid = $2",
            vec![Value::Bytes(wrapped_key.clone()), text(kid)],
        ),
        Rewrapped::Broker { id, wrapped_key } => Statement::new(
            "UPDATE broker_secrets SET wrapped_key = $1 WHERE id = $2",
            vec![Value::Bytes(wrapped_key.clone()), text(id)],
        ),
    }
}

/// As SQLite gets it: each `$n` is a `?` with a value of its own. The driver asks SQLite for the name of each parameter,
/// for which SQLite goes through a list of all that have one: by numbers, time would grow with the square of the rows.
pub(super) fn unnumbered(statement: Statement) -> Statement {
    // Texts are constants with no `$` but these.
    let mut pieces = statement.sql.split('$');
    let mut sql = String::with_capacity(statement.sql.len());
    sql.push_str(pieces.next().unwrap_or_default());
    let mut numbers = Vec::with_capacity(statement.values.len());
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
        let (number, rest) = piece.split_at(end);
        numbers.push(number.parse::<usize>().unwrap_or(0));
        sql.push('?');
        sql.push_str(rest);
    }
    // Where each is named once and in order, as in nearly all, they are moved: a commit's records are not copied.
    let values = if numbers.iter().copied().eq(1..=statement.values.len()) {
        statement.values
    } else {
        let value = |number: usize| statement.values.get(number.checked_sub(1)?).cloned();
        numbers.into_iter().map(|number| value(number).unwrap_or(Value::MaybeInt(None))).collect()
    };
    Statement { sql: Cow::Owned(sql), values }
}

/// Several statements in one text, which SQLite takes and PostgreSQL does not; all [`unnumbered`].
pub(super) fn joined(statements: Vec<Statement>) -> Statement {
    let mut sql = String::with_capacity(statements.iter().map(|statement| statement.sql.len() + 2).sum());
    let mut values = Vec::with_capacity(statements.iter().map(|statement| statement.values.len()).sum());
    for statement in statements {
        if !sql.is_empty() {
            sql.push_str("; ");
        }
        sql.push_str(&statement.sql);
        values.extend(statement.values);
    }
    Statement { sql: Cow::Owned(sql), values }
}

/// Rows that one INSERT takes at most.
pub(super) const MOST_ROWS: usize = 128;

/// Above so many, rows come in multiples of this.
const FEW_ROWS: usize = 16;

/// `INSERT INTO {head} VALUES ($1, …), (…)` for many rows of `width` columns. The sizes are 1 to 16 and multiples of
/// 16, so that the engines' statement caches hold two dozen texts and not one for each batch size, and all but the
/// largest batches are two statements at most.
pub(super) fn insert_many(head: &'static str, width: usize, rows: Vec<Vec<Value>>) -> Vec<Statement> {
    let mut left = rows.into_iter();
    let mut all = Vec::new();
    loop {
        let remaining = left.len();
        if remaining == 0 {
            return all;
        }
        let take = if remaining < FEW_ROWS { remaining } else { (remaining - remaining % FEW_ROWS).min(MOST_ROWS) };
        let sql = rows_of(head, width, take);
        let values = left.by_ref().take(take).flatten().collect();
        all.push(Statement { sql: Cow::Owned(sql), values });
    }
}

/// `{head} VALUES ($1, …), (…)`.
pub(super) fn rows_of(head: &str, width: usize, rows: usize) -> String {
    let mut sql = String::with_capacity(head.len() + rows * width * 6);
    sql.push_str(head);
    for row in 0..rows {
        sql.push_str(if row == 0 { " VALUES (" } else { ", (" });
        for column in 1..=width {
            if column > 1 {
                sql.push_str(", ");
            }
            // Into a String nothing fails.
            _ = write!(sql, "${}", row * width + column);
        }
        sql.push(')');
    }
    sql
}

pub(super) fn session_row(session: &crate::model::Session) -> Vec<Value> {
    vec![
        text(&session.id),
        text(&session.agent_id),
        Value::Int(session.created_at),
        Value::Int(session.expires_at),
        maybe_text(session.task.as_deref()),
        maybe_text(session.purpose.as_deref()),
        Value::MaybeInt(session.revoked_at),
        maybe_text(session.parent.as_deref()),
        maybe_json(session.cnf.as_ref()),
        maybe_json(session.delegation.as_deref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_named_twice_comes_twice() {
        let one = Statement::new("UPDATE a SET b = $2 WHERE c = $1 AND b > $2", vec![Value::Int(1), Value::Int(2)]);
        let two = insert_many("INSERT INTO d (e)", 1, (3..14).map(|n| vec![Value::Int(n)]).collect());
        let all = joined(std::iter::once(one).chain(two).map(unnumbered).collect());
        let marks = ["(?)"; 11].join(", ");
        assert_eq!(all.sql, format!("UPDATE a SET b = ? WHERE c = ? AND b > ?; INSERT INTO d (e) VALUES {marks}"));
        let values = all.values.iter().map(|value| if let Value::Int(n) = value { *n } else { -1 });
        assert!(values.eq([2, 1, 2].into_iter().chain(3..14)));
    }

    #[test]
    fn rows_of_any_number_come_in_a_few_texts_and_in_order() {
        let mut texts = std::collections::BTreeSet::new();
        for n in 0..500 {
            let statements = insert_many("INSERT INTO a (b)", 1, (0..n).map(|n| vec![Value::Int(n)]).collect());
            assert!(statements.len() <= usize::try_from(n / 128).unwrap() + 2);
            let values = statements.iter().flat_map(|statement| &statement.values);
            let values: Vec<i64> = values.map(|value| if let Value::Int(n) = value { *n } else { -1 }).collect();
            assert_eq!(values, (0..n).collect::<Vec<_>>());
            texts.extend(statements.into_iter().map(|statement| statement.sql));
        }
        assert_eq!(texts.len(), 15 + 8);
    }
}
