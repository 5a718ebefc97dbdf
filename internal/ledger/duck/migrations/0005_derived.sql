-- Most events happen in the quarter of an hour in which they are received, and many have no value in a dimension. Rows are
-- kept only for the others; occurred_15m and dim_15m, which had a row for each, are views with the same sums.

CREATE TABLE moved_15m AS FROM cells LIMIT 0;
INSERT INTO moved_15m
SELECT lane, max(flush) AS flush, bucket, tenant, type, goal, class, campaign, banner, affiliate, revenue, payout,
       sum(n)::BIGINT AS n, sum(amount)::BIGINT AS amount, sum(events)::BIGINT AS events
FROM (FROM occurred_15m UNION ALL
      SELECT lane, flush, bucket, tenant, type, goal, class, campaign, banner, affiliate, revenue, payout, -n, -amount, -events FROM exact_15m)
GROUP BY lane, bucket, tenant, type, goal, class, campaign, banner, affiliate, revenue, payout
HAVING sum(n) <> 0 OR sum(amount) <> 0 OR sum(events) <> 0;
DROP TABLE occurred_15m;

-- The cells by quarter of an hour of the events' own time.
CREATE VIEW occurred_15m AS
FROM exact_15m
UNION ALL
FROM moved_15m;

ALTER TABLE dim_15m RENAME TO values_15m;
DELETE FROM values_15m WHERE value = CASE dim WHEN 3 THEN '' ELSE 'unknown' END;

-- The cells split by a dimension: rows of values, and for the rest the cells less these. A rest that nobody has is a
-- group whose events come to 0.
CREATE VIEW dim_15m AS
FROM values_15m
UNION ALL
SELECT dim, CASE dim WHEN 3 THEN '' ELSE 'unknown' END AS value, lane, flush, bucket, tenant, type, goal, class, campaign,
       banner, affiliate, revenue, payout, -n AS n, -amount AS amount, -events AS events
FROM values_15m
UNION ALL
SELECT d.dim, d.value, c.lane, c.flush, c.bucket, c.tenant, c.type, c.goal, c.class, c.campaign, c.banner, c.affiliate,
       c.revenue, c.payout, c.n, c.amount, c.events
FROM exact_15m c CROSS JOIN (VALUES (1::UTINYINT, 'unknown'), (2::UTINYINT, 'unknown'), (3::UTINYINT, '')) d(dim, value);
