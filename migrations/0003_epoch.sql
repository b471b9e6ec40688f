-- Counters of the database that never fall, on whichever node or backup it is served.

-- revocations: the version of the revocation list. Each revocation raises it in its own transaction.
CREATE TABLE epochs (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO epochs (name, value) VALUES ('revocations', 0);
