-- Version 2: what becomes of a session when the one above it is deleted; searching; snapshots.

ALTER TABLE @sessions ADD COLUMN lifecycle text NOT NULL DEFAULT 'linked';

-- What a session comes to up to a record. Derived: it may be deleted at any time.
CREATE TABLE @snapshots (
  sid bigint PRIMARY KEY,
  seq bigint NOT NULL,
  body bytea NOT NULL
);

DROP FUNCTION @create_session(text, text, jsonb, float8);

CREATE FUNCTION @create_session(p_id text, p_parent text, p_lifecycle text, p_metadata jsonb,
  p_at float8)
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
    INSERT INTO @sessions (sid, id, root, created, updated, lifecycle, metadata)
      VALUES (new_sid, p_id, new_sid, p_at, p_at, p_lifecycle, p_metadata)
      ON CONFLICT (id) DO NOTHING;
  ELSE
    INSERT INTO @sessions (sid, id, root, parent, created, updated, lifecycle, metadata)
      VALUES (new_sid, p_id, above.root, above.sid, p_at, p_at, p_lifecycle, p_metadata)
      ON CONFLICT (id) DO NOTHING;
  END IF;
  RETURN 'ok';
END $$;

DROP FUNCTION @delete_session(text, boolean, bigint[]);

-- p_dead: fences whose owners the caller knows to be dead.
CREATE FUNCTION @delete_session(p_session text, p_dead bigint[],
  OUT code text, OUT o_count bigint, OUT o_id text, OUT o_owner text, OUT o_fence bigint)
LANGUAGE plpgsql AS $$
DECLARE
  top record;
  doomed bigint[];
  staying bigint;
  below bigint[];
  v_tree bigint;
BEGIN
  SELECT sid, root INTO top FROM @sessions WHERE id = p_session;
  IF NOT FOUND THEN code := 'missing'; RETURN; END IF;
  -- Nobody can come to be below what is locked: creating a child locks its parent.
  PERFORM 1 FROM @sessions WHERE sid = top.root FOR UPDATE;
  doomed := @sessions_bound_to(top.sid);
  PERFORM 1 FROM @sessions WHERE sid = ANY (doomed) ORDER BY sid FOR UPDATE;
  SELECT s.id, l.owner, l.fence INTO o_id, o_owner, o_fence
    FROM @leases l JOIN @sessions s USING (sid)
    WHERE l.sid = ANY (doomed) AND l.expires > clock_timestamp() AND l.fence <> ALL (p_dead) LIMIT 1;
  IF FOUND THEN code := 'busy'; RETURN; END IF;
  SELECT tree_seq INTO v_tree FROM @sessions WHERE sid = top.root;
  FOR staying IN
    SELECT sid FROM @sessions WHERE parent = ANY (doomed) AND lifecycle = 'detached'
  LOOP
    below := @sessions_below(staying);
    UPDATE @sessions SET root = staying WHERE sid = ANY (below);
    UPDATE @records SET root = staying WHERE sid = ANY (below);
    UPDATE @sessions SET parent = NULL, tree_seq = v_tree WHERE sid = staying;
  END LOOP;
  DELETE FROM @records WHERE sid = ANY (doomed);
  DELETE FROM @inbox WHERE sid = ANY (doomed);
  DELETE FROM @posted WHERE sid = ANY (doomed);
  DELETE FROM @snapshots WHERE sid = ANY (doomed);
  DELETE FROM @leases WHERE sid = ANY (doomed);
  PERFORM pg_notify('@channel', 'd' || @topic(id)) FROM @sessions WHERE sid = ANY (doomed);
  DELETE FROM @sessions WHERE sid = ANY (doomed);
  code := 'ok';
  o_count := cardinality(doomed);
END $$;

CREATE FUNCTION @sessions_bound_to(p_sid bigint) RETURNS bigint[] LANGUAGE sql STABLE AS $$
  WITH RECURSIVE bound(sid) AS (
    VALUES (p_sid) UNION SELECT s.sid FROM @sessions s JOIN bound ON s.parent = bound.sid
      WHERE s.lifecycle <> 'detached')
  SELECT array_agg(sid) FROM bound
$$;

-- Whether a message of a user or of the assistant in a record holds a text; A to Z in either case.
-- p_escaped is the text as it stands in JSON: most records are ruled out by it.
CREATE FUNCTION @says(p_body bytea, p_text text, p_escaped text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT position(lower(p_escaped COLLATE "C")
      IN lower(convert_from(p_body, 'UTF8') COLLATE "C")) > 0
    AND EXISTS (
      SELECT 1 FROM (
        SELECT @as_jsonb(p_body) -> 'message' AS m UNION ALL
        SELECT jsonb_array_elements(coalesce(@as_jsonb(p_body) -> 'input', '[]'))) AS messages
      WHERE m ->> 'role' IN ('user', 'assistant') AND position(lower(p_text COLLATE "C") IN
        lower((SELECT string_agg(part ->> 'text', '' ORDER BY n)
          FROM jsonb_array_elements(m -> 'parts') WITH ORDINALITY AS parts(part, n)
          WHERE part ->> 'type' = 'text') COLLATE "C")) > 0)
$$;
