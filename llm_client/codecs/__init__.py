"""One wire protocol per module, each a `Codec`; modules with an underscore are their insides."""
