-- Views for people. They are exact at every moment: the coarse ones add the cells that are not rolled up yet.

CREATE VIEW classes AS
SELECT id::UTINYINT AS id, name FROM (VALUES
    (1, 'valid'), (2, 'duplicate'), (3, 'expired'), (4, 'unknown_campaign'), (5, 'unknown_banner'),
    (6, 'unknown_affiliate'), (7, 'late'), (8, 'future'), (9, 'undecided')) AS c(id, name);

-- One row per id, so that a join never multiplies counts. Custom ids are per tenant; where two tenants gave one id
-- different names, both stand in the name. event_kinds has them apart.
CREATE VIEW event_types AS
SELECT id::USMALLINT AS id, string_agg(DISTINCT name, ' / ' ORDER BY name) AS name FROM (
    SELECT id, CASE WHEN name = '' THEN key ELSE name END AS name FROM event_kinds
    UNION ALL
    SELECT id, name FROM (VALUES (1, 'impression'), (2, 'click'), (3, 'conversion')) AS b(id, name)
    WHERE id NOT IN (SELECT id FROM event_kinds)
) GROUP BY id;

-- The classic counter table: what counted, per minute, tenant and type. The count is the sum of increments.
CREATE VIEW counters AS
SELECT make_timestamp(bucket::BIGINT * 60000000) AS time_bucket, tenant, type AS event_type,
       sum(n)::DECIMAL(30, 0) * 0.000001::DECIMAL(6, 6) AS count
FROM cells WHERE class = 1 GROUP BY bucket, tenant, type;

CREATE VIEW exact_15m AS
FROM cells_15m
UNION ALL
SELECT c.lane, c.flush, c.bucket - ((c.bucket % 15) + 15) % 15 AS bucket, c.tenant, c.type, c.goal, c.class, c.campaign, c.banner,
       c.affiliate, c.revenue, c.payout, c.n, c.amount, c.events
FROM cells c LEFT JOIN rollup_state r ON r.lane = c.lane WHERE c.flush > coalesce(r.rolled_flush, 0);

CREATE VIEW exact_1h AS
FROM cells_1h
UNION ALL
SELECT c.lane, c.flush, c.bucket - ((c.bucket % 60) + 60) % 60 AS bucket, c.tenant, c.type, c.goal, c.class, c.campaign, c.banner,
       c.affiliate, c.revenue, c.payout, c.n, c.amount, c.events
FROM cells c LEFT JOIN rollup_state r ON r.lane = c.lane WHERE c.flush > coalesce(r.rolled_flush, 0);
