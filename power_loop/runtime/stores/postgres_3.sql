-- Version 3: outputs of tools that are too long for a model's view.

CREATE TABLE @artifacts (
  sid bigint NOT NULL REFERENCES @sessions ON DELETE CASCADE,
  handle text COLLATE "C" NOT NULL,
  chars integer NOT NULL,              -- how many characters the text has
  body text NOT NULL,
  PRIMARY KEY (sid, handle)
);
