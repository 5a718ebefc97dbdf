-- Ranges of batches that are lost for good, as a repair has acknowledged them. What was sent then may be missing.
CREATE TABLE downtime (
    tenant USMALLINT NOT NULL, id UINTEGER NOT NULL,
    lane INTEGER NOT NULL, first_seq UBIGINT NOT NULL, last_seq UBIGINT NOT NULL,
    from_ms BIGINT NOT NULL, to_ms BIGINT NOT NULL, -- unix milliseconds
    events BIGINT NOT NULL -- that the replaced ledger had counted there; -1: not known
);
