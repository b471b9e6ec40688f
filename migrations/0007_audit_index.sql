-- Where a search of the audit log has to look: for each run of records, a Bloom filter of the values that stand in them. Made
-- from the records alone, behind their commits, and never proof of anything: 'hallpass audit verify' does not read it.

-- first, last: a run of whole segments of a node, without gaps to the run before. filter: see src/audit/index/filter.rs.
CREATE TABLE audit_index (
    node     TEXT   NOT NULL,
    first    BIGINT NOT NULL,
    last     BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    filter   BYTEA  NOT NULL,
    PRIMARY KEY (node, first)
);
