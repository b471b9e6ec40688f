-- Who an agent is, and on whose behalf it acts.

-- identity: JSON; what an agent may prove itself with besides client secrets, and whether its tokens must be bound.
ALTER TABLE agents ADD COLUMN identity TEXT NOT NULL DEFAULT '{}';

-- parent: the session that this one hangs under. cnf: JSON, the keys that opened it, which every token in it is bound to.
-- delegation: JSON, on whose behalf it acts, and how far at most.
ALTER TABLE sessions ADD COLUMN parent TEXT;
ALTER TABLE sessions ADD COLUMN cnf TEXT;
ALTER TABLE sessions ADD COLUMN delegation TEXT;
