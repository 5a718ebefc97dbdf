-- The ledger's tables. Columns, units and exactness rules are described in docs/format/ledger.md.
-- There are no primary keys: every table has one writer, the writer's own statements keep rows unique where that
-- matters, and an index would cost more on every flush than it could ever give back.

CREATE TABLE positions (
    lane     INTEGER   NOT NULL,
    epoch    UBIGINT   NOT NULL, -- of the owner
    seq      UBIGINT   NOT NULL, -- last folded sequence
    hash     BLOB      NOT NULL, -- of the batch at seq
    log_time BIGINT    NOT NULL, -- unix milliseconds
    flush    UBIGINT   NOT NULL, -- how many flushes the lane has had
    updated  TIMESTAMP NOT NULL  -- wall clock of the last change, for people only
);

CREATE TABLE cells (
    lane INTEGER NOT NULL, flush UBIGINT NOT NULL,
    bucket INTEGER NOT NULL, -- unix minute
    tenant USMALLINT NOT NULL, type USMALLINT NOT NULL, goal USMALLINT NOT NULL, class UTINYINT NOT NULL,
    campaign UINTEGER NOT NULL, banner UINTEGER NOT NULL, affiliate UINTEGER NOT NULL,
    revenue UINTEGER NOT NULL, payout UINTEGER NOT NULL,
    n BIGINT NOT NULL, amount BIGINT NOT NULL, -- millionths
    events BIGINT NOT NULL
);
CREATE TABLE cells_15m AS FROM cells LIMIT 0;
CREATE TABLE cells_1h AS FROM cells LIMIT 0;
CREATE TABLE occurred_15m AS FROM cells LIMIT 0;

CREATE TABLE dim_15m (
    dim UTINYINT NOT NULL, value VARCHAR NOT NULL,
    lane INTEGER NOT NULL, flush UBIGINT NOT NULL,
    bucket INTEGER NOT NULL,
    tenant USMALLINT NOT NULL, type USMALLINT NOT NULL, goal USMALLINT NOT NULL, class UTINYINT NOT NULL,
    campaign UINTEGER NOT NULL, banner UINTEGER NOT NULL, affiliate UINTEGER NOT NULL,
    revenue UINTEGER NOT NULL, payout UINTEGER NOT NULL,
    n BIGINT NOT NULL, amount BIGINT NOT NULL, events BIGINT NOT NULL
);

-- cells_15m and cells_1h hold a lane's cells up to and with flush rolled_flush, and nothing of later ones.
CREATE TABLE rollup_state (lane INTEGER NOT NULL, rolled_flush UBIGINT NOT NULL);

CREATE TABLE clicks (
    lane INTEGER NOT NULL, flush UBIGINT NOT NULL,
    seq UBIGINT NOT NULL, row_no UINTEGER NOT NULL,
    click_id UUID, event_id VARCHAR NOT NULL,
    time BIGINT NOT NULL, received BIGINT NOT NULL, -- unix milliseconds
    tenant USMALLINT NOT NULL, campaign UINTEGER NOT NULL, banner UINTEGER NOT NULL, affiliate UINTEGER NOT NULL,
    class UTINYINT NOT NULL, country VARCHAR NOT NULL, device VARCHAR NOT NULL, subs VARCHAR NOT NULL
);

CREATE TABLE sales (
    lane INTEGER NOT NULL, flush UBIGINT NOT NULL,
    seq UBIGINT NOT NULL, row_no UINTEGER NOT NULL,
    event_id VARCHAR NOT NULL, order_id VARCHAR NOT NULL,
    click_id UUID, click_time BIGINT NOT NULL,
    time BIGINT NOT NULL, received BIGINT NOT NULL,
    tenant USMALLINT NOT NULL, advertiser UINTEGER NOT NULL,
    campaign UINTEGER NOT NULL, banner UINTEGER NOT NULL, affiliate UINTEGER NOT NULL,
    goal USMALLINT NOT NULL, class UTINYINT NOT NULL,
    revenue UINTEGER NOT NULL, payout UINTEGER NOT NULL,
    n BIGINT NOT NULL, amount BIGINT NOT NULL, subs VARCHAR NOT NULL
);

CREATE TABLE tallies (
    lane INTEGER NOT NULL, flush UBIGINT NOT NULL,
    minute BIGINT NOT NULL, tenant USMALLINT NOT NULL,
    door VARCHAR NOT NULL, reason VARCHAR NOT NULL, n BIGINT NOT NULL
);

-- The projection of the control stream. One row per entity, whatever its status.
CREATE TABLE control_position (seq UBIGINT NOT NULL);
INSERT INTO control_position VALUES (0);

CREATE TABLE tenants (
    id USMALLINT NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL, host VARCHAR NOT NULL,
    time_zone VARCHAR NOT NULL, currency VARCHAR NOT NULL, status VARCHAR NOT NULL
);
CREATE TABLE advertisers (
    tenant USMALLINT NOT NULL, id UINTEGER NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL,
    currency VARCHAR NOT NULL, status VARCHAR NOT NULL
);
CREATE TABLE campaigns (
    tenant USMALLINT NOT NULL, id UINTEGER NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL,
    advertiser UINTEGER NOT NULL, currency VARCHAR NOT NULL, landings VARCHAR NOT NULL, fallback VARCHAR NOT NULL,
    click_window_seconds BIGINT NOT NULL, signed_clicks BOOLEAN NOT NULL, status VARCHAR NOT NULL
);
CREATE TABLE banners (
    tenant USMALLINT NOT NULL, id UINTEGER NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL,
    campaign UINTEGER NOT NULL, image VARCHAR NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    landing VARCHAR NOT NULL, status VARCHAR NOT NULL
);
CREATE TABLE affiliates (
    tenant USMALLINT NOT NULL, id UINTEGER NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL,
    status VARCHAR NOT NULL
);
CREATE TABLE goals (tenant USMALLINT NOT NULL, id UINTEGER NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE event_kinds (tenant USMALLINT NOT NULL, id UINTEGER NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE prices (
    tenant USMALLINT NOT NULL, id UINTEGER NOT NULL, key VARCHAR NOT NULL, version INTEGER NOT NULL,
    side VARCHAR NOT NULL, model VARCHAR NOT NULL,
    rate BIGINT NOT NULL, -- millionths; percent for revshare
    currency VARCHAR NOT NULL, campaign UINTEGER NOT NULL, banner UINTEGER NOT NULL, affiliate UINTEGER NOT NULL,
    goal UINTEGER NOT NULL, status VARCHAR NOT NULL
);
CREATE TABLE changes (
    seq UBIGINT NOT NULL, item UINTEGER NOT NULL, -- control sequence, index within the record
    "at" BIGINT NOT NULL, actor VARCHAR NOT NULL, why VARCHAR NOT NULL, op VARCHAR NOT NULL, kind VARCHAR NOT NULL,
    tenant USMALLINT NOT NULL, id UINTEGER NOT NULL, key VARCHAR NOT NULL,
    before VARCHAR NOT NULL, after VARCHAR NOT NULL -- JSON without secrets; empty when there is none
);
