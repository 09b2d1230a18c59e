-- Old inboxes are found by walking over the rows, a stretch at a time: cheaper than an index that every decision writes to.
DROP INDEX state_by_inbox;
-- Zeros that make a row's size a multiple of some hundred bytes, so that it can be updated where it stands.
ALTER TABLE state ADD COLUMN slack BLOB;
