-- Sums by UTC day, for reports over weeks and months.
CREATE TABLE cells_1d AS FROM cells LIMIT 0;

-- cells_1d holds a lane's rows of cells_1h up to and with flush rolled_flush, and nothing of later ones. It is never
-- above the lane's rolled_flush in rollup_state.
CREATE TABLE day_state (lane INTEGER NOT NULL, rolled_flush UBIGINT NOT NULL);

CREATE VIEW exact_1d AS
FROM cells_1d
UNION ALL
SELECT h.lane, h.flush, h.bucket - ((h.bucket % 1440) + 1440) % 1440 AS bucket, h.tenant, h.type, h.goal, h.class, h.campaign, h.banner,
       h.affiliate, h.revenue, h.payout, h.n, h.amount, h.events
FROM cells_1h h LEFT JOIN day_state d ON d.lane = h.lane WHERE h.flush > coalesce(d.rolled_flush, 0)
UNION ALL
SELECT c.lane, c.flush, c.bucket - ((c.bucket % 1440) + 1440) % 1440 AS bucket, c.tenant, c.type, c.goal, c.class, c.campaign, c.banner,
       c.affiliate, c.revenue, c.payout, c.n, c.amount, c.events
FROM cells c LEFT JOIN rollup_state r ON r.lane = c.lane WHERE c.flush > coalesce(r.rolled_flush, 0);
