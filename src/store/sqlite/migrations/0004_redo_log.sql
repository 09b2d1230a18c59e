-- Whose the records of the redo log are, and how many of them have been applied.
CREATE TABLE redo (holder INTEGER NOT NULL, applied INTEGER NOT NULL);
INSERT INTO redo VALUES (0, 0);
