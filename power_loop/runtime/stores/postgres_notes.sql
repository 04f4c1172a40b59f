-- What agents remember across sessions, and how it is found.

CREATE TABLE @notes (
  id text COLLATE "C" PRIMARY KEY,
  place text NOT NULL,                 -- one word for the owner
  scope text NOT NULL,                 -- whether that is the person, the agent or the session
  person text NOT NULL,                -- in whose run it was written
  agent text NOT NULL,
  session text NOT NULL,
  kind text NOT NULL,
  created double precision NOT NULL,   -- seconds since the epoch
  run text NOT NULL,
  text text NOT NULL,
  search tsvector NOT NULL             -- its words, as the client has them: see `words`
);
CREATE INDEX ON @notes (place, kind, created, id);
CREATE INDEX ON @notes (person, created, id);
CREATE INDEX ON @notes (created, id);
CREATE INDEX ON @notes (session) WHERE scope = 'session';
-- Without the list of what is to be indexed later: a search would have to read it.
CREATE INDEX ON @notes USING gin (search) WITH (fastupdate = off);

CREATE FUNCTION @delete_notes_of_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM @notes WHERE scope = 'session' AND session = OLD.id;
  RETURN NULL;
END $$;
CREATE TRIGGER delete_notes AFTER DELETE ON @sessions
  FOR EACH ROW EXECUTE FUNCTION @delete_notes_of_session();

-- False if the owner has p_limit of the kind, and the oldest is not to give way.
CREATE FUNCTION @add_note(p_id text, p_place text, p_scope text, p_person text, p_agent text,
  p_session text, p_kind text, p_created float8, p_run text, p_text text, p_words text[],
  p_limit bigint, p_fifo boolean) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  excess bigint := 0;
BEGIN
  IF p_limit IS NOT NULL THEN  -- of two that add the last one, the second counts the first's
    PERFORM pg_advisory_xact_lock(hashtextextended('@channel ' || p_place, 0));
  END IF;
  PERFORM 1 FROM @notes WHERE id = p_id;
  IF FOUND THEN RETURN true; END IF;
  IF p_limit IS NOT NULL THEN
    SELECT count(*) - p_limit + 1 INTO excess FROM @notes WHERE place = p_place AND kind = p_kind;
  END IF;
  IF excess > 0 THEN
    IF NOT p_fifo THEN RETURN false; END IF;
    DELETE FROM @notes WHERE id IN (SELECT id FROM @notes WHERE place = p_place AND kind = p_kind
      ORDER BY created, id LIMIT excess);
  END IF;
  INSERT INTO @notes VALUES (p_id, p_place, p_scope, p_person, p_agent, p_session, p_kind,
      p_created, p_run, p_text, array_to_tsvector(p_words))
    ON CONFLICT (id) DO NOTHING;
  RETURN true;
END $$;
