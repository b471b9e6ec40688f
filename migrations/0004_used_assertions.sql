-- Client assertions that were used (RFC 7523 section 3: a jti is good once), until they end: what was used before a restart is
-- not good after it. digest: half a SHA-256 of client and jti. The row without an agent says since when they are kept.
CREATE TABLE used_assertions (
    digest     BYTEA  NOT NULL PRIMARY KEY,
    agent_id   TEXT   NOT NULL,
    expires_at BIGINT NOT NULL
);
