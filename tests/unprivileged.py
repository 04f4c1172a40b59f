"""For tests of what a user may not do: the superuser, whom nothing binds, is nobody meanwhile."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["binding_permissions"]

_NOBODY = 65534


@contextmanager
def binding_permissions() -> Generator[Path]:
    """A directory in which permissions hold for this process, whoever runs it."""
    with TemporaryDirectory() as name:
        place = Path(name)
        if os.geteuid() != 0:
            yield place
            return
        os.chown(place, _NOBODY, -1)
        os.seteuid(_NOBODY)
        try:
            yield place
        finally:
            os.seteuid(0)
