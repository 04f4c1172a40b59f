"""What is counted, in whole units, so that nothing is lost or won by rounding."""

from __future__ import annotations

from msgspec import structs

from power_loop.session.spent import Spent

__all__ = [
    "LIMITED",
    "NOTHING",
    "Amounts",
    "amounts_of",
    "in_units",
    "out_of_units",
    "spent_of",
    "told",
]

Amounts = dict[str, int]
"""Units by the name of the limit they count for."""

# A trillionth of a dollar is the price of one token where a million cost a millionth of a dollar.
_UNITS = {"cost": 10**12, "wall_seconds": 10**9, "working_seconds": 10**9}

_FIELDS = Spent.__struct_fields__
LIMITED = (*_FIELDS, "tokens")
"""The names of all that can be limited."""

NOTHING = Spent()


def in_units(name: str, value: float) -> int:
    """`value` in the units that `name` is counted in."""
    per = _UNITS.get(name)
    return int(value) if per is None else round(value * per)


def out_of_units(name: str, units: int) -> float:
    """What `units` of `name` are to people."""
    per = _UNITS.get(name)
    return units if per is None else units / per


def amounts_of(spent: Spent) -> Amounts:
    """`spent` in units; what is zero is left out."""
    found = {name: value for name, value in structs.asdict(spent).items() if value}
    for name in _UNITS:
        if name in found:
            found[name] = in_units(name, found[name])
    if tokens := spent.tokens:
        found["tokens"] = tokens
    return found


def spent_of(amounts: Amounts) -> Spent:
    """The opposite of `amounts_of`."""
    return Spent(
        amounts.get("rounds", 0),
        amounts.get("llm_calls", 0),
        amounts.get("tool_calls", 0),
        amounts.get("children", 0),
        amounts.get("input_tokens", 0),
        amounts.get("output_tokens", 0),
        out_of_units("cost", amounts.get("cost", 0)),
        out_of_units("wall_seconds", amounts.get("wall_seconds", 0)),
        out_of_units("working_seconds", amounts.get("working_seconds", 0)),
    )


def told(name: str, units: int) -> str:
    """`units` of `name` as text: 12,000 or $0.015 or 3.5 s."""
    if name == "cost":
        # As many digits as tell small prices apart, without those that say nothing.
        dollars, cents = f"{units / _UNITS[name]:,.9f}".rstrip("0").split(".")
        return f"${dollars}.{cents.ljust(2, '0')}"
    if name in _UNITS:
        return f"{units / _UNITS[name]:,.3f}".rstrip("0").rstrip(".") + " s"
    return f"{units:,}"
