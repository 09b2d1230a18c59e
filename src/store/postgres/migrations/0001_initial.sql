-- What each service knows of each order, with the inbox of what was decided on it. Rows are rewritten with every
-- event: free room on the page, and no index on what changes, let PostgreSQL do that without touching an index (HOT).
-- Rows of some kilobytes stay on their page instead of being compressed and moved to another table.
CREATE TABLE orderflow.order_rows (
    order_id uuid NOT NULL,
    owner text NOT NULL,
    body bytea,                 -- NULL as long as nothing but the inbox is known
    inbox text NOT NULL,        -- one delivery per line: function, source and id
    due bigint,                 -- when the owner wants to look at the order again, microseconds since 1970
    cause bytea,                -- what caused that
    decided_at bigint NOT NULL, -- the last decision, microseconds since 1970
    inbox_from bigint,          -- when the inbox began or was last looked at, likewise; NULL when it is forgotten
    PRIMARY KEY (order_id, owner)
) WITH (fillfactor = 60, toast_tuple_target = 8160);
CREATE INDEX order_rows_by_due ON orderflow.order_rows (due) WHERE due IS NOT NULL;
CREATE INDEX order_rows_by_inbox ON orderflow.order_rows (inbox_from) WHERE inbox_from IS NOT NULL;

-- Rows that orders share, such as the stock of an article.
CREATE TABLE orderflow.shared_rows (
    owner text NOT NULL,
    key text NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (owner, key)
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000);

-- What lists of orders show.
CREATE TABLE orderflow.orders (
    order_id uuid NOT NULL PRIMARY KEY,
    status text NOT NULL,
    placed_at bigint NOT NULL -- microseconds since 1970
);
CREATE INDEX orders_by_time ON orderflow.orders (placed_at, order_id);
CREATE INDEX orders_by_status ON orderflow.orders (status, placed_at, order_id);

-- What was committed and is still owed, one row per delivery: the outbox and the intent. Rows come and go with every
-- event, so what is left of them is swept up early.
CREATE TABLE orderflow.pending (
    function text NOT NULL,
    source text NOT NULL,
    id text NOT NULL,
    step integer NOT NULL, -- of the last decision
    outbox bytea,          -- events to be published, one per line
    intent bytea,          -- the effect whose outcome is to be decided on
    at bigint NOT NULL,    -- microseconds since 1970
    PRIMARY KEY (function, source, id)
) WITH (fillfactor = 60, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX pending_by_time ON orderflow.pending (at);

-- What can never succeed. It is for people and is never removed.
CREATE TABLE orderflow.parked (
    id uuid NOT NULL PRIMARY KEY,
    function text NOT NULL,
    event_id text,
    order_id uuid,
    reason text NOT NULL,
    body bytea NOT NULL,
    at bigint NOT NULL -- microseconds since 1970
);
CREATE INDEX parked_by_order ON orderflow.parked (order_id);
