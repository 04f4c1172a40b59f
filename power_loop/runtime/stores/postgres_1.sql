-- Schema of a power_loop store on PostgreSQL. `@name` stands for the schema and prefix in use.
--
-- Every change is one function call, and every function locks the row of its session first: what it
-- then reads of that session nobody else can change. A client holds no lock between two statements
-- of its own, so one that is stopped or cut off keeps nobody waiting. What is refused is answered by
-- a code, not by an error, so that many calls can share one transaction.

CREATE TABLE @meta (
  key text PRIMARY KEY,
  value bigint NOT NULL
);

CREATE SEQUENCE @sids;
CREATE SEQUENCE @fences;

CREATE TABLE @sessions (
  sid bigint PRIMARY KEY,              -- never given out twice
  id text COLLATE "C" NOT NULL UNIQUE,
  root bigint NOT NULL,
  parent bigint,
  seq bigint NOT NULL DEFAULT 0,       -- number of the last record
  tree_seq bigint NOT NULL DEFAULT 0,  -- records of the whole tree, counted at its root
  created double precision NOT NULL,   -- seconds since the epoch
  updated double precision NOT NULL,
  status text NOT NULL DEFAULT 'new',
  title text NOT NULL DEFAULT '',
  metadata jsonb NOT NULL
);
CREATE INDEX ON @sessions (updated);
CREATE INDEX ON @sessions (parent) WHERE parent IS NOT NULL;

CREATE TABLE @records (
  sid bigint NOT NULL,
  seq bigint NOT NULL,                 -- from 1, without gaps
  root bigint NOT NULL,
  tree_seq bigint NOT NULL,
  at double precision NOT NULL,
  run text NOT NULL,
  round integer NOT NULL,
  crc bigint NOT NULL,                 -- CRC-32 of the other columns and the body
  body bytea NOT NULL,                 -- canonical JSON: what is hashed and replayed
  PRIMARY KEY (sid, seq)
);
CREATE UNIQUE INDEX ON @records (root, tree_seq);

CREATE TABLE @leases (
  sid bigint PRIMARY KEY,
  fence bigint NOT NULL,
  claim text NOT NULL,                 -- tells a repeated claim from a second one
  holder text NOT NULL,                -- one open store of one process
  owner text NOT NULL,                 -- that process, as JSON
  ttl double precision NOT NULL,       -- seconds
  expires timestamptz NOT NULL         -- on the clock of this server, which all hosts share
);
CREATE INDEX ON @leases (holder);

CREATE TABLE @inbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sid bigint NOT NULL,
  body bytea NOT NULL
);
CREATE INDEX ON @inbox (sid);

CREATE TABLE @posted (
  sid bigint NOT NULL,
  key text COLLATE "C" NOT NULL,
  item bigint NOT NULL,
  PRIMARY KEY (sid, key)
);

CREATE FUNCTION @as_jsonb(p_body bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
  RETURN convert_from(p_body, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception THEN
  RETURN NULL;  -- jsonb cannot hold U+0000
END $$;

-- What listeners are told by: a session's id may be longer than a notification.
CREATE FUNCTION @topic(p_session text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT left(encode(sha256(convert_to(p_session, 'UTF8')), 'hex'), 32)
$$;

-- For people: the same records, to be queried.
CREATE VIEW @events AS
  SELECT s.id AS session, r.seq, t.id AS root, r.tree_seq, to_timestamp(r.at) AS at, r.run, r.round,
    @as_jsonb(r.body) ->> 'type' AS type, @as_jsonb(r.body) AS event
  FROM @records r JOIN @sessions s USING (sid) LEFT JOIN @sessions t ON t.sid = r.root;

CREATE FUNCTION @create_session(p_id text, p_parent text, p_metadata jsonb, p_at float8)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  new_sid bigint;
  above record;
BEGIN
  PERFORM 1 FROM @sessions WHERE id = p_id;
  IF FOUND THEN RETURN 'ok'; END IF;
  IF p_parent IS NOT NULL THEN
    SELECT sid, root INTO above FROM @sessions WHERE id = p_parent FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN 'missing'; END IF;
  END IF;
  new_sid := nextval('@sids');
  IF p_parent IS NULL THEN
    INSERT INTO @sessions (sid, id, root, created, updated, metadata)
      VALUES (new_sid, p_id, new_sid, p_at, p_at, p_metadata) ON CONFLICT (id) DO NOTHING;
  ELSE
    INSERT INTO @sessions (sid, id, root, parent, created, updated, metadata)
      VALUES (new_sid, p_id, above.root, above.sid, p_at, p_at, p_metadata)
      ON CONFLICT (id) DO NOTHING;
  END IF;
  RETURN 'ok';
END $$;

-- p_dead: a fence whose owner the caller knows to be dead.
CREATE FUNCTION @claim_session(p_session text, p_ttl float8, p_owner text, p_holder text,
  p_claim text, p_dead bigint, p_steal boolean,
  OUT code text, OUT o_sid bigint, OUT o_seq bigint, OUT o_fence bigint, OUT o_owner text)
LANGUAGE plpgsql AS $$
DECLARE
  held record;
BEGIN
  SELECT sid, seq INTO o_sid, o_seq FROM @sessions WHERE id = p_session FOR NO KEY UPDATE;
  IF NOT FOUND THEN code := 'missing'; RETURN; END IF;
  SELECT fence, claim, owner, expires <= clock_timestamp() AS over INTO held
    FROM @leases WHERE sid = o_sid;
  IF FOUND THEN
    o_fence := held.fence;
    IF held.claim = p_claim THEN code := 'ok'; RETURN; END IF;
    IF NOT p_steal OR NOT (held.over OR held.fence = p_dead) THEN
      code := 'busy';
      o_owner := held.owner;
      RETURN;
    END IF;
  END IF;
  IF o_seq <> coalesce((SELECT max(seq) FROM @records WHERE sid = o_sid), 0) THEN
    code := 'damaged';
    RETURN;
  END IF;
  code := 'ok';
  o_fence := nextval('@fences');
  INSERT INTO @leases VALUES (o_sid, o_fence, p_claim, p_holder, p_owner, p_ttl,
      clock_timestamp() + p_ttl * interval '1 second')
    ON CONFLICT (sid) DO UPDATE SET fence = excluded.fence, claim = excluded.claim,
      holder = excluded.holder, owner = excluded.owner, ttl = excluded.ttl,
      expires = excluded.expires;
END $$;

CREATE FUNCTION @renew_lease(p_session text, p_fence bigint) RETURNS boolean
LANGUAGE sql AS $$
  WITH renewed AS (
    UPDATE @leases SET expires = clock_timestamp() + ttl * interval '1 second'
    WHERE fence = p_fence AND sid = (SELECT sid FROM @sessions WHERE id = p_session)
    RETURNING 1)
  SELECT EXISTS (SELECT 1 FROM renewed)
$$;

CREATE FUNCTION @renew_leases(p_holder text) RETURNS TABLE (fence bigint, ttl float8)
LANGUAGE sql AS $$
  UPDATE @leases l SET expires = clock_timestamp() + l.ttl * interval '1 second'
  WHERE l.holder = p_holder RETURNING l.fence, l.ttl
$$;

CREATE FUNCTION @release_lease(p_session text, p_fence bigint) RETURNS void
LANGUAGE sql AS $$
  DELETE FROM @leases
  WHERE fence = p_fence AND sid = (SELECT sid FROM @sessions WHERE id = p_session)
$$;

-- p_again: the caller does not know whether an earlier call with the same arguments has landed.
CREATE FUNCTION @append_records(p_session text, p_fence bigint, p_expected bigint, p_at float8[],
  p_run text[], p_round integer[], p_crc bigint[], p_body bytea[], p_take bigint[],
  p_final boolean, p_leaving bigint[], p_status text, p_title text, p_again boolean,
  OUT code text, OUT o_seq bigint, OUT o_tree bigint)
LANGUAGE plpgsql AS $$
DECLARE
  n integer := cardinality(p_body);
  s record;
  v_root bigint;
  v_tree bigint;
  missing bigint;
BEGIN
  SELECT root INTO v_root FROM @sessions WHERE id = p_session AND root <> sid;
  IF FOUND THEN  -- in this order, as everybody does
    PERFORM 1 FROM @sessions WHERE sid = v_root FOR NO KEY UPDATE;
  END IF;
  SELECT sid, root, seq, tree_seq, title INTO s FROM @sessions WHERE id = p_session
    FOR NO KEY UPDATE;
  IF NOT FOUND THEN code := 'fenced'; RETURN; END IF;
  IF p_again AND n > 0 THEN
    SELECT r.seq, r.tree_seq INTO o_seq, o_tree FROM @records r
      WHERE r.sid = s.sid AND r.seq = p_expected + n AND r.crc = p_crc[n] AND r.body = p_body[n];
    IF FOUND THEN code := 'ok'; RETURN; END IF;
  END IF;
  PERFORM 1 FROM @leases WHERE sid = s.sid AND fence = p_fence;
  IF NOT FOUND THEN code := 'fenced'; RETURN; END IF;
  IF s.seq <> p_expected THEN
    code := 'conflict';
    o_seq := s.seq;
    RETURN;
  END IF;
  IF cardinality(p_take) > 0 AND NOT (p_again AND n = 0) THEN
    SELECT t.id INTO missing FROM unnest(p_take) t(id)
      WHERE NOT EXISTS (SELECT 1 FROM @inbox i WHERE i.sid = s.sid AND i.id = t.id) LIMIT 1;
    IF FOUND THEN
      code := 'no_item';
      o_seq := missing;
      RETURN;
    END IF;
  END IF;
  IF p_leaving IS NOT NULL THEN
    PERFORM 1 FROM @inbox WHERE sid = s.sid AND id <> ALL (p_take || p_leaving);
    IF FOUND THEN code := 'undelivered'; RETURN; END IF;
  END IF;
  v_tree := s.tree_seq;
  IF s.root <> s.sid THEN
    SELECT tree_seq INTO v_tree FROM @sessions WHERE sid = s.root;
  END IF;
  IF n > 0 THEN
    INSERT INTO @records
      SELECT s.sid, p_expected + u.n, s.root, v_tree + u.n, u.at, u.run, u.round, u.crc, u.body
      FROM unnest(p_at, p_run, p_round, p_crc, p_body) WITH ORDINALITY
        AS u(at, run, round, crc, body, n);
    UPDATE @sessions SET seq = p_expected + n, updated = p_at[n],
        tree_seq = CASE root WHEN sid THEN v_tree + n ELSE 0 END,
        status = coalesce(p_status, status),
        title = CASE title WHEN '' THEN p_title ELSE title END
      WHERE sid = s.sid;
    IF s.root <> s.sid THEN
      UPDATE @sessions SET tree_seq = v_tree + n WHERE sid = s.root;
    END IF;
    PERFORM pg_notify('@channel', 'r' || @topic(p_session) || ':' || (p_expected + n));
  END IF;
  IF cardinality(p_take) > 0 THEN
    DELETE FROM @inbox WHERE sid = s.sid AND id = ANY (p_take);
  END IF;
  IF p_final THEN DELETE FROM @leases WHERE sid = s.sid; END IF;
  code := 'ok';
  o_seq := p_expected + n;
  o_tree := v_tree + n;
END $$;

CREATE FUNCTION @post_item(p_session text, p_body bytea, p_key text,
  OUT code text, OUT o_id bigint, OUT o_owner text, OUT o_over boolean)
LANGUAGE plpgsql AS $$
DECLARE
  v_sid bigint;
BEGIN
  SELECT sid INTO v_sid FROM @sessions WHERE id = p_session FOR NO KEY UPDATE;
  IF NOT FOUND THEN code := 'missing'; RETURN; END IF;
  SELECT owner, expires <= clock_timestamp() INTO o_owner, o_over FROM @leases WHERE sid = v_sid;
  IF p_key IS NOT NULL THEN
    SELECT item INTO o_id FROM @posted WHERE sid = v_sid AND key = p_key;
    IF FOUND THEN code := 'duplicate'; RETURN; END IF;
  END IF;
  INSERT INTO @inbox (sid, body) VALUES (v_sid, p_body) RETURNING id INTO o_id;
  IF p_key IS NOT NULL THEN
    INSERT INTO @posted VALUES (v_sid, p_key, o_id);
  END IF;
  PERFORM pg_notify('@channel', 'i' || @topic(p_session));
  code := 'ok';
END $$;

-- p_dead: fences whose owners the caller knows to be dead.
CREATE FUNCTION @delete_session(p_session text, p_cascade boolean, p_dead bigint[],
  OUT code text, OUT o_count bigint, OUT o_id text, OUT o_owner text, OUT o_fence bigint)
LANGUAGE plpgsql AS $$
DECLARE
  top record;
  doomed bigint[];
  child bigint;
  below bigint[];
  v_tree bigint;
BEGIN
  SELECT sid, root INTO top FROM @sessions WHERE id = p_session;
  IF NOT FOUND THEN code := 'missing'; RETURN; END IF;
  -- Nobody can come to be below what is locked: creating a child locks its parent.
  PERFORM 1 FROM @sessions WHERE sid = top.root FOR UPDATE;
  doomed := ARRAY[top.sid];
  IF p_cascade THEN doomed := @sessions_below(top.sid); END IF;
  PERFORM 1 FROM @sessions WHERE sid = ANY (doomed) ORDER BY sid FOR UPDATE;
  SELECT s.id, l.owner, l.fence INTO o_id, o_owner, o_fence
    FROM @leases l JOIN @sessions s USING (sid)
    WHERE l.sid = ANY (doomed) AND l.expires > clock_timestamp() AND l.fence <> ALL (p_dead) LIMIT 1;
  IF FOUND THEN code := 'busy'; RETURN; END IF;
  IF NOT p_cascade THEN
    SELECT tree_seq INTO v_tree FROM @sessions WHERE sid = top.root;
    FOR child IN SELECT sid FROM @sessions WHERE parent = top.sid LOOP
      below := @sessions_below(child);
      UPDATE @sessions SET root = child WHERE sid = ANY (below);
      UPDATE @records SET root = child WHERE sid = ANY (below);
      UPDATE @sessions SET parent = NULL, tree_seq = v_tree WHERE sid = child;
    END LOOP;
  END IF;
  DELETE FROM @records WHERE sid = ANY (doomed);
  DELETE FROM @inbox WHERE sid = ANY (doomed);
  DELETE FROM @posted WHERE sid = ANY (doomed);
  DELETE FROM @leases WHERE sid = ANY (doomed);
  PERFORM pg_notify('@channel', 'd' || @topic(id)) FROM @sessions WHERE sid = ANY (doomed);
  DELETE FROM @sessions WHERE sid = ANY (doomed);
  code := 'ok';
  o_count := cardinality(doomed);
END $$;

CREATE FUNCTION @sessions_below(p_sid bigint) RETURNS bigint[] LANGUAGE sql STABLE AS $$
  WITH RECURSIVE below(sid) AS (
    VALUES (p_sid) UNION SELECT s.sid FROM @sessions s JOIN below ON s.parent = below.sid)
  SELECT array_agg(sid) FROM below
$$;
