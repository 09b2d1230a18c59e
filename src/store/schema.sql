-- State: each service's own row of an order ("billing", "0199…") with the inbox of what was decided on it, and rows
-- that orders share ("inventory", "KB-87").
CREATE TABLE state (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    body BLOB,           -- NULL as long as nothing but the inbox is known
    inbox TEXT NOT NULL, -- one delivery per line: function, source and id
    due INTEGER,         -- when the owner wants to look at the order again, microseconds since 1970
    cause BLOB,          -- what caused that
    PRIMARY KEY (owner, key)
);
CREATE INDEX state_by_due ON state (due) WHERE due IS NOT NULL;

-- What lists of orders show.
CREATE TABLE orders (
    order_id TEXT NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    placed_at INTEGER NOT NULL -- microseconds since 1970
) WITHOUT ROWID;
CREATE INDEX orders_by_time ON orders (placed_at, order_id);
CREATE INDEX orders_by_status ON orders (status, placed_at, order_id);

-- What was committed and is still owed, one row per delivery: the outbox and the intent.
CREATE TABLE pending (
    function TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    step INTEGER NOT NULL, -- of the last decision
    outbox BLOB,           -- events to be published, one per line
    intent BLOB,           -- the effect whose outcome is to be decided on
    at INTEGER NOT NULL,   -- microseconds since 1970
    PRIMARY KEY (function, source, id)
) WITHOUT ROWID;

-- What can never succeed.
CREATE TABLE parked (
    id TEXT NOT NULL PRIMARY KEY,
    function TEXT NOT NULL,
    event_id TEXT,
    order_id TEXT,
    reason TEXT NOT NULL,
    body BLOB NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX parked_by_order ON parked (order_id);
