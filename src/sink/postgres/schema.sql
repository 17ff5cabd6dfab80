-- A swath schema, version 1. Every scan appends a partition of its own; nothing is ever updated but its row in "scan".
CREATE SCHEMA IF NOT EXISTS swath;

CREATE TABLE swath.schema_version (version int NOT NULL);
INSERT INTO swath.schema_version VALUES (1);

-- One row a scan. Status "running" without rows_out: it runs, or crashed, or its spool was not replayed yet.
CREATE TABLE swath.scan (
  scan_id   int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scan_uuid uuid   NOT NULL UNIQUE,
  status    text   NOT NULL,             -- running, complete, interrupted, failed
  shard     int    NOT NULL,             -- which part of the plan; "vantage" of its rows
  rows_in   bigint NOT NULL DEFAULT 0,   -- rows so far; grows in the transaction that adds them
  rows_out  bigint,                      -- rows of the scan, once all are here
  manifest  jsonb  NOT NULL              -- all there is to know
);

-- One row a validated reply. (scan_id, ip, port, proto, vantage) names what was observed.
CREATE TABLE swath.observation (
  scan_id   int         NOT NULL,
  vantage   smallint    NOT NULL,        -- the shard that saw it
  ts        timestamptz NOT NULL,        -- when the reply arrived
  ip        inet        NOT NULL,
  port      int         NOT NULL,        -- for ICMP the message type
  proto     smallint    NOT NULL,        -- IANA protocol number; proto_name
  state     smallint    NOT NULL,        -- state_name
  reason    smallint    NOT NULL,        -- reason_name
  proof     smallint    NOT NULL,        -- proof_name
  pass      smallint    NOT NULL,        -- from 0
  ttl       smallint    NOT NULL,
  win       int         NOT NULL,        -- TCP window, not scaled
  mss       int,                         -- null: no such option
  wscale    smallint,                    -- null: no such option
  opts_hash bigint,                      -- hash of the TCP option layout; null: no options
  ipid      int,                         -- null for IPv6
  rtt_us    bigint,                      -- null: the probe carried no time
  responder inet                         -- who answered; null: the target itself
) PARTITION BY LIST (scan_id);

-- Bytes that targets sent: banners and parts of them.
CREATE TABLE swath.attachment (
  scan_id int         NOT NULL REFERENCES swath.scan,
  ip      inet        NOT NULL,
  port    int         NOT NULL,
  proto   smallint    NOT NULL,
  ts      timestamptz NOT NULL,
  key     text        NOT NULL,
  bytes   bytea       NOT NULL
);
CREATE UNIQUE INDEX attachment_once ON swath.attachment (scan_id, ip, port, proto, ts, key, sha256(bytes));

CREATE TABLE swath.proto_name  (proto  smallint PRIMARY KEY, name text NOT NULL);
CREATE TABLE swath.state_name  (state  smallint PRIMARY KEY, name text NOT NULL);
CREATE TABLE swath.reason_name (reason smallint PRIMARY KEY, name text NOT NULL);
CREATE TABLE swath.proof_name  (proof  smallint PRIMARY KEY, name text NOT NULL);

-- Every open service once a scan and vantage.
CREATE VIEW swath.open_service AS
SELECT scan_id, vantage, ip, port, proto, min(ts) AS first_seen, max(ts) AS last_seen, count(*) AS replies,
       max(proof) AS proof, min(ttl) AS ttl, min(win) AS win, min(mss) AS mss, min(opts_hash) AS opts_hash
FROM swath.observation WHERE state = 1
GROUP BY scan_id, vantage, ip, port, proto;

-- "observation" in words.
CREATE VIEW swath.observation_text AS
SELECT o.scan_id, o.vantage, o.ts, host(o.ip) AS ip, o.port, coalesce(p.name, 'ip-proto-' || o.proto) AS proto,
       s.name AS state, coalesce(r.name, 'unknown-response') AS reason, o.ttl, o.win, o.mss, o.wscale,
       lpad(to_hex(o.opts_hash), 8, '0') AS opts, o.ipid, o.rtt_us, host(o.responder) AS responder, g.name AS proof, o.pass
FROM swath.observation o
LEFT JOIN swath.proto_name p USING (proto)
LEFT JOIN swath.state_name s USING (state)
LEFT JOIN swath.reason_name r USING (reason)
LEFT JOIN swath.proof_name g USING (proof);
