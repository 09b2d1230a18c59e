-- When the inbox began or was last looked at (NULL: it is forgotten, or there is none), and when the last decision was
-- made: microseconds since 1970. The index is on the former alone, so that an update need not touch it.
ALTER TABLE state ADD COLUMN inbox_from INTEGER;
ALTER TABLE state ADD COLUMN decided_at INTEGER;
-- When older rows were decided on is not known; the latest that can be is now.
UPDATE state SET inbox_from = unixepoch() * 1000000, decided_at = unixepoch() * 1000000 WHERE inbox <> '';
CREATE INDEX state_by_inbox ON state (inbox_from) WHERE inbox_from IS NOT NULL;

-- Deliveries come and go within milliseconds: one B-tree instead of a table and its index.
CREATE TABLE owed (
    function TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    step INTEGER NOT NULL, -- of the last decision
    outbox BLOB,           -- events to be published, one per line
    intent BLOB,           -- the effect whose outcome is to be decided on
    at INTEGER NOT NULL,   -- microseconds since 1970
    PRIMARY KEY (function, source, id)
) WITHOUT ROWID;
INSERT INTO owed SELECT function, source, id, step, outbox, intent, at FROM pending;
DROP TABLE pending;
ALTER TABLE owed RENAME TO pending;
