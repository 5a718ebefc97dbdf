-- Whether a campaign believes the order id and the amount of its conversion pixel; of those that are here already, as their
-- last change says.
CREATE TABLE with_pixel_orders AS
SELECT c.*, coalesce(json_extract_string(h."after", '$.pixel_orders') = 'true', false) AS pixel_orders
FROM campaigns c LEFT JOIN (
    SELECT DISTINCT ON (tenant, id) tenant, id, "after" FROM changes WHERE kind = 'campaign' AND "after" <> ''
    ORDER BY tenant, id, seq DESC, item DESC) h ON h.tenant = c.tenant AND h.id = c.id;
DROP TABLE campaigns;
ALTER TABLE with_pixel_orders RENAME TO campaigns;
