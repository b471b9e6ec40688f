-- Portable columns only: TEXT ids and JSON, BIGINT unix milliseconds, BOOLEAN, BYTEA. One text for SQLite and PostgreSQL.

CREATE TABLE agents (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    status     TEXT   NOT NULL,
    roles      TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);

-- HMAC-SHA-256 of client secrets; two may be valid while one is being rotated.
CREATE TABLE client_secrets (
    agent_id   TEXT   NOT NULL REFERENCES agents (id),
    digest     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (agent_id, digest)
);

-- What `apply` declares: upstreams, roles, resources; body is JSON.
CREATE TABLE definitions (
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    body       TEXT   NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE credentials (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    allow_short BOOLEAN NOT NULL,
    created_at  BIGINT  NOT NULL,
    revoked_at  BIGINT
);

-- wrapped_key and ciphertext are sealed for exactly this id and version: moved elsewhere they do not open.
CREATE TABLE credential_versions (
    credential_id TEXT   NOT NULL REFERENCES credentials (id),
    version       BIGINT NOT NULL,
    wrapped_key   BYTEA  NOT NULL,
    ciphertext    BYTEA  NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT,
    PRIMARY KEY (credential_id, version)
);

-- The private half is there only while the key is `next` or `active`.
CREATE TABLE signing_keys (
    kid          TEXT    NOT NULL PRIMARY KEY,
    algorithm    TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    created_at   BIGINT  NOT NULL,
    activated_at BIGINT,
    retiring_at  BIGINT,
    gone_at      BIGINT,
    revoked      BOOLEAN NOT NULL,
    public_jwk   TEXT    NOT NULL,
    wrapped_key  BYTEA,
    ciphertext   BYTEA
);

-- The broker's own random keys (client-secret HMAC, audit-head MAC), under the same envelope.
CREATE TABLE broker_secrets (
    id          TEXT   NOT NULL PRIMARY KEY,
    wrapped_key BYTEA  NOT NULL,
    ciphertext  BYTEA  NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE sessions (
    id         TEXT   NOT NULL PRIMARY KEY,
    agent_id   TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    task       TEXT,
    purpose    TEXT,
    revoked_at BIGINT
);

-- cut: for an agent, tokens with iat (unix seconds) below it are refused. keep_until: when the entry cannot matter any more.
CREATE TABLE revocations (
    kind       TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    cut        BIGINT NOT NULL,
    keep_until BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    reason     TEXT   NOT NULL,
    PRIMARY KEY (kind, subject)
);

-- body is the record, byte for byte as it was hashed: hash = SHA-256(body), and body names the hash before it.
CREATE TABLE audit_records (
    node TEXT   NOT NULL,
    seq  BIGINT NOT NULL,
    body TEXT   NOT NULL,
    hash BYTEA  NOT NULL,
    PRIMARY KEY (node, seq)
);

-- The end of each chain, under a MAC that a thief of the database cannot make: a cut tail shows.
CREATE TABLE audit_heads (
    node TEXT   NOT NULL PRIMARY KEY,
    seq  BIGINT NOT NULL,
    hash BYTEA  NOT NULL,
    mac  BYTEA  NOT NULL
);

CREATE TABLE audit_checkpoints (
    node TEXT   NOT NULL,
    seq  BIGINT NOT NULL,
    at   BIGINT NOT NULL,
    jws  TEXT   NOT NULL,
    PRIMARY KEY (node, seq)
);
