-- A swath database, version 1. Every scan appends; nothing is ever updated but its own row in "scan".

-- One row a scan. Status "running" without a living process means that it crashed.
CREATE TABLE scan (
  scan_id            INTEGER PRIMARY KEY,
  scan_uuid          TEXT NOT NULL UNIQUE,
  tool               TEXT NOT NULL,
  version            TEXT NOT NULL,
  status             TEXT NOT NULL,     -- running, complete, interrupted, failed
  started_us         INTEGER NOT NULL,  -- microseconds since the Unix epoch, UTC
  finished_us        INTEGER,
  plan_digest        TEXT,
  order_version      TEXT,
  seed               TEXT,              -- decimal: up to 64 bits without sign
  shard              INTEGER,
  shards             INTEGER,
  passes             INTEGER,
  targets            INTEGER,           -- of all shards together
  shard_targets      INTEGER,
  excluded_addresses TEXT,
  ports              TEXT,
  probes             TEXT,
  rate_pps           REAL,              -- null: as fast as the link can
  wait_s             REAL,
  interface          TEXT,
  link               TEXT,
  planned            INTEGER,           -- from here on: the closing figures, null while running
  sent               INTEGER,
  excluded_later     INTEGER,
  pending            INTEGER,
  failed             INTEGER,
  unsent             INTEGER,
  frames_seen        INTEGER,
  not_ours           INTEGER,
  invalid            INTEGER,
  duplicate          INTEGER,
  accepted           INTEGER,
  kernel_drops       INTEGER,
  housekeeping       INTEGER,
  reached_pps        INTEGER,
  rows_out           INTEGER,           -- rows of this scan in "observation"
  manifest           TEXT NOT NULL      -- all of it, JSON
);

-- One row a validated reply, in the order of arrival.
CREATE TABLE observation (
  scan_id   INTEGER NOT NULL,  -- scan
  ts_us     INTEGER NOT NULL,  -- when the reply arrived, microseconds since the Unix epoch, UTC
  ip        TEXT    NOT NULL,
  ip4       INTEGER,           -- the address as a number, for ranges; null for IPv6
  port      INTEGER NOT NULL,  -- for ICMP the message type
  proto     INTEGER NOT NULL,  -- IANA protocol number; proto_name
  state     INTEGER NOT NULL,  -- state_name
  reason    INTEGER NOT NULL,  -- reason_name
  proof     INTEGER NOT NULL,  -- proof_name
  pass      INTEGER NOT NULL,  -- from 0
  ttl       INTEGER NOT NULL,
  win       INTEGER NOT NULL,  -- TCP window, not scaled
  mss       INTEGER,           -- null: no such option
  wscale    INTEGER,           -- null: no such option
  opts_hash INTEGER,           -- hash of the TCP option layout; null: no options
  ipid      INTEGER,           -- null for IPv6
  rtt_us    INTEGER,           -- null: the probe carried no time
  responder TEXT               -- who answered; null: the target itself
);

CREATE TABLE proto_name  (proto  INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE state_name  (state  INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE reason_name (reason INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE proof_name  (proof  INTEGER PRIMARY KEY, name TEXT NOT NULL);

-- Every open service once a scan. Facts are the smallest over its replies; "observation" has each.
CREATE VIEW open_service AS
SELECT scan_id, ip, min(ip4) AS ip4, port, proto,
       min(ts_us) AS first_us, max(ts_us) AS last_us, count(*) AS replies,
       max(proof) AS proof, min(ttl) AS ttl, min(win) AS win, min(mss) AS mss, min(wscale) AS wscale,
       min(opts_hash) AS opts_hash, min(rtt_us) AS rtt_us
FROM observation WHERE state = 1
GROUP BY scan_id, ip, port, proto;

-- "observation" in words.
CREATE VIEW observation_text AS
SELECT o.scan_id,
       strftime('%Y-%m-%dT%H:%M:%S', o.ts_us / 1000000, 'unixepoch') || printf('.%06dZ', o.ts_us % 1000000) AS ts,
       o.ip, o.port, coalesce(p.name, 'ip-proto-' || o.proto) AS proto,
       s.name AS state, coalesce(r.name, 'unknown-response') AS reason,
       o.ttl, o.win, o.mss, o.wscale, CASE WHEN o.opts_hash IS NOT NULL THEN printf('%08x', o.opts_hash) END AS opts, o.ipid, o.rtt_us, o.responder,
       g.name AS proof, o.pass
FROM observation o
LEFT JOIN proto_name p USING (proto)
LEFT JOIN state_name s USING (state)
LEFT JOIN reason_name r USING (reason)
LEFT JOIN proof_name g USING (proof);
