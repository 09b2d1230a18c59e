-- State: each service's own row of an order ("billing", "0199…"), and rows that orders share ("inventory", "KB-87").
CREATE TABLE state (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (owner, key)
) WITHOUT ROWID;

-- What lists of orders show.
CREATE TABLE orders (
    order_id TEXT NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    placed_at INTEGER NOT NULL -- microseconds since 1970
) WITHOUT ROWID;
CREATE INDEX orders_by_time ON orders (placed_at, order_id);
CREATE INDEX orders_by_status ON orders (status, placed_at, order_id);

-- Every delivery that was decided on.
CREATE TABLE inbox (
    function TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    order_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (function, source, id)
) WITHOUT ROWID;

-- Events that were committed and are still to be published.
CREATE TABLE outbox (
    function TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    step INTEGER NOT NULL,
    events BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (function, source, id, step)
);

-- Effects that were committed and whose outcome is still to be decided on.
CREATE TABLE intents (
    function TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    step INTEGER NOT NULL,
    intent BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (function, source, id)
);

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
