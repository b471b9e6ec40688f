-- One row per commit and node instead of a row per record. What stood in audit_records is packed into segments when the broker
-- starts, and the table is dropped then: that takes long for a large log, so it is done in pieces and not here.

-- records: for each record, its length (4 bytes, big-endian) and its JSON, byte for byte as it was hashed. hash: SHA-256 of the
-- last record, where the chain ends with this segment. root: the Merkle root of the records (RFC 6962). The key is the first
-- number: a place in the chain can be taken only once.
CREATE TABLE audit_segments (
    node     TEXT   NOT NULL,
    first    BIGINT NOT NULL,
    last     BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    records  BYTEA  NOT NULL,
    hash     BYTEA  NOT NULL,
    root     BYTEA  NOT NULL,
    PRIMARY KEY (node, first)
);
