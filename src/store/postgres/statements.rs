//! The statements of a group's transaction. Each takes arrays, one element for each row, so that a group of any size
//! is the same few statements.

use tokio_postgres::{Client, Error, Statement};

/// `place` is the row's number in the arrays, which are sorted: rows are locked in that order.
const LOCK_ORDER_ROWS: &str = "
    SELECT wanted.place, r.body, r.inbox, r.due, r.cause, r.decided_at, r.inbox_from
    FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS wanted (order_id, owner, place)
    JOIN orderflow.order_rows r ON r.order_id = wanted.order_id AND r.owner = wanted.owner
    ORDER BY wanted.place FOR UPDATE OF r";

const LOCK_PENDING: &str = "
    SELECT wanted.place, p.step, p.outbox, p.intent, p.at
    FROM unnest($1::text[], $2::text[], $3::text[])
        WITH ORDINALITY AS wanted (function, source, id, place)
    JOIN orderflow.pending p
        ON p.function = wanted.function AND p.source = wanted.source AND p.id = wanted.id
    ORDER BY wanted.place FOR UPDATE OF p";

const LOCK_SHARED_ROWS: &str = "
    SELECT wanted.place, s.body
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (owner, key, place)
    JOIN orderflow.shared_rows s ON s.owner = wanted.owner AND s.key = wanted.key
    ORDER BY wanted.place FOR UPDATE OF s";

// A row that somebody else inserted meanwhile is an error, which has the group run again.
const INSERT_ORDER_ROWS: &str = "
    INSERT INTO orderflow.order_rows
        (order_id, owner, body, inbox, due, cause, decided_at, inbox_from)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::bigint[],
        $6::bytea[], $7::bigint[], $8::bigint[])";

const UPDATE_ORDER_ROWS: &str = "
    UPDATE orderflow.order_rows r
    SET body = new.body, inbox = new.inbox, due = new.due, cause = new.cause,
        decided_at = new.decided_at, inbox_from = new.inbox_from
    FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::bigint[],
        $6::bytea[], $7::bigint[], $8::bigint[])
        AS new (order_id, owner, body, inbox, due, cause, decided_at, inbox_from)
    WHERE r.order_id = new.order_id AND r.owner = new.owner";

const INSERT_SHARED_ROWS: &str = "
    INSERT INTO orderflow.shared_rows (owner, key, body)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])";

const UPDATE_SHARED_ROWS: &str = "
    UPDATE orderflow.shared_rows s SET body = new.body
    FROM unnest($1::text[], $2::text[], $3::bytea[]) AS new (owner, key, body)
    WHERE s.owner = new.owner AND s.key = new.key";

const INSERT_PENDING: &str = "
    INSERT INTO orderflow.pending (function, source, id, step, outbox, intent, at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::bytea[],
        $6::bytea[], $7::bigint[])";

const UPDATE_PENDING: &str = "
    UPDATE orderflow.pending p
    SET step = new.step, outbox = new.outbox, intent = new.intent, at = new.at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::bytea[],
        $6::bytea[], $7::bigint[]) AS new (function, source, id, step, outbox, intent, at)
    WHERE p.function = new.function AND p.source = new.source AND p.id = new.id";

const DELETE_PENDING: &str = "
    DELETE FROM orderflow.pending p
    USING unnest($1::text[], $2::text[], $3::text[]) AS done (function, source, id)
    WHERE p.function = done.function AND p.source = done.source AND p.id = done.id";

const SAVE_ORDERS: &str = "
    INSERT INTO orderflow.orders (order_id, status, placed_at)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[])
    ON CONFLICT (order_id) DO UPDATE
    SET status = excluded.status, placed_at = excluded.placed_at";

const PARK: &str = "
    INSERT INTO orderflow.parked (id, function, event_id, order_id, reason, body, at)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[],
        $6::bytea[], $7::bigint[])
    ON CONFLICT (id) DO NOTHING";

/// The statements as one connection knows them.
pub(super) struct Statements {
    pub(super) lock_order_rows: Statement,
    pub(super) lock_pending: Statement,
    pub(super) lock_shared_rows: Statement,
    pub(super) insert_order_rows: Statement,
    pub(super) update_order_rows: Statement,
    pub(super) insert_shared_rows: Statement,
    pub(super) update_shared_rows: Statement,
    pub(super) insert_pending: Statement,
    pub(super) update_pending: Statement,
    pub(super) delete_pending: Statement,
    pub(super) save_orders: Statement,
    pub(super) park: Statement,
}

impl Statements {
    /// Prepares all of them in one round trip.
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let (
            lock_order_rows,
            lock_pending,
            lock_shared_rows,
            insert_order_rows,
            update_order_rows,
            insert_shared_rows,
            update_shared_rows,
            insert_pending,
            update_pending,
            delete_pending,
            save_orders,
            park,
        ) = tokio::try_join!(
            client.prepare(LOCK_ORDER_ROWS),
            client.prepare(LOCK_PENDING),
            client.prepare(LOCK_SHARED_ROWS),
            client.prepare(INSERT_ORDER_ROWS),
            client.prepare(UPDATE_ORDER_ROWS),
            client.prepare(INSERT_SHARED_ROWS),
            client.prepare(UPDATE_SHARED_ROWS),
            client.prepare(INSERT_PENDING),
            client.prepare(UPDATE_PENDING),
            client.prepare(DELETE_PENDING),
            client.prepare(SAVE_ORDERS),
            client.prepare(PARK),
        )?;
        Ok(Self {
            lock_order_rows,
            lock_pending,
            lock_shared_rows,
            insert_order_rows,
            update_order_rows,
            insert_shared_rows,
            update_shared_rows,
            insert_pending,
            update_pending,
            delete_pending,
            save_orders,
            park,
        })
    }
}
