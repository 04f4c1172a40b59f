"""What is learnt from providers about how far estimates are off."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import msgspec
from msgspec import Struct, field

__all__ = ["Calibration"]

_KEPT = 15
_LEAST, _MOST = 0.25, 4.0
_NOTHING = 1.0


class Calibration(Struct, frozen=True):
    """By which factor the estimates for each model are to be corrected.

    The factor is the median of the last 15 observations, so that a few of them that are far off
    (hidden prompts, an image of unknown size) move nothing; and it is never below 0.25 or above 4.
    A value: `observe` gives a new one, and msgspec writes and reads it.

    Attributes:
        ratios: reported tokens by estimated ones, the newest last, for each model.
    """

    ratios: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    def observe(self, model: str, estimated: int, reported: int) -> Calibration:
        """With what a provider counted where `estimated` had been estimated. Counts that are not
        positive say nothing."""
        if estimated <= 0 or reported <= 0:
            return self
        known = (*self.ratios.get(model, ()), reported / estimated)[-_KEPT:]
        return msgspec.structs.replace(self, ratios={**self.ratios, model: known})

    def factor(self, model: str, *, trust: int = 0) -> float:
        """What an estimate for `model` is to be multiplied with; 1 if nothing is known. That it is
        right as it is weighs as much as `trust` observations."""
        known = self.ratios.get(model)
        return min(max(median((*known, *[_NOTHING] * trust)), _LEAST), _MOST) if known else _NOTHING
