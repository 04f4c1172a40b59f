"""`python -m power_loop.cli`: the command where no `power-loop` script is installed."""

from __future__ import annotations

import sys

from power_loop.cli.app import main

sys.exit(main())
