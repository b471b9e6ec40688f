-- DPoP proofs that were used (RFC 9449 section 11.1), until they end: a proof is good once, on whichever node it is shown.
-- digest: half a SHA-256 of key and jti.
CREATE TABLE used_proofs (
    digest     BYTEA  NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
