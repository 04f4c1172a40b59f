"""How long each stage of an exchange may take, and the stopwatch that says which stage ran out."""

from __future__ import annotations

from msgspec import Struct

from llm_client.errors import ConfigError, Phase, Timeout

__all__ = ["Deadlines", "Stopwatch"]


class Deadlines(Struct, frozen=True, kw_only=True):
    """Seconds that each stage of an exchange may take; `math.inf` switches one off.

    Attributes:
        pool: waiting until one of the transport's connections is free.
        connect: name resolution, TCP and TLS for a new connection.
        write: handing the request over to the network.
        first_byte: from then until the first byte of the answer's body. Headers do not end it: many
            servers send them at once and think afterwards.
        idle: between any two later bytes. Keep-alive comments count as bytes.
        total: the whole exchange, waiting for a connection and reading to the end included.

    Raises:
        ConfigError: one of them is not a positive number.
    """

    pool: float = 60.0
    connect: float = 10.0
    write: float = 30.0
    first_byte: float = 180.0
    idle: float = 90.0
    total: float = 600.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            seconds: object = getattr(self, name)
            if not _is_positive(seconds):
                raise ConfigError(f"deadline {name!r} must be a positive number, not {seconds!r}")

    @classmethod
    def within(cls, seconds: float) -> Deadlines:
        """The defaults, with `total` set to `seconds` and no other deadline beyond it."""
        usual = cls()
        return cls(
            pool=min(usual.pool, seconds),
            connect=min(usual.connect, seconds),
            write=min(usual.write, seconds),
            first_byte=min(usual.first_byte, seconds),
            idle=min(usual.idle, seconds),
            total=seconds,
        )


def _is_positive(value: object) -> bool:
    # NaN is not over 0.
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


class Stopwatch:
    """Where one exchange stands: what has been sent and received, and when its patience ends.

    Holds no timer. Whoever is about to wait asks `expiry` how long it may; so a wait costs one
    cancel scope, whichever of the deadlines is the nearest.
    """

    __slots__ = ("answered", "body_begun", "deadlines", "ends", "phase", "sent", "since")

    def __init__(self, deadlines: Deadlines, now: float) -> None:
        self.deadlines = deadlines
        self.ends = now + deadlines.total
        self.since = now
        self.phase: Phase = "pool"
        self.sent = False
        """Some of the request has (or may have) left this machine."""
        self.answered = False
        """At least one byte came back."""
        self.body_begun = False
        """At least one byte of the answer's body came back."""

    def enter(self, phase: Phase, now: float) -> float:
        """Notes that `phase` begins; returns the time by which it must be over."""
        self.phase = phase
        self.since = now
        return self.expiry(now)

    def expiry(self, now: float) -> float:
        """The time by which the present wait must be over.

        Idle time is counted from `now`, every other phase from its beginning.
        """
        begun = now if self.phase == "idle" else self.since
        return min(self.ends, begun + getattr(self.deadlines, self.phase))

    def timeout(self, now: float, peer: str) -> Timeout:
        """The error for the deadline that has just passed while waiting for `peer`."""
        phase: Phase = "total" if now >= self.ends else self.phase
        seconds: float = getattr(self.deadlines, phase)
        return Timeout(
            f"{_WAITED_FOR[phase].format(peer=peer)} within {seconds:g} s; "
            f"the deadline is Deadlines.{phase}",
            phase=phase,
            seconds=seconds,
            sent=self.sent,
        )


_WAITED_FOR: dict[Phase, str] = {
    "pool": "no connection to {peer} became free",
    "connect": "no connection to {peer} could be made",
    "write": "{peer} did not take the request",
    "first_byte": "{peer} did not begin its answer",
    "idle": "{peer} fell silent in the middle of its answer, and sent nothing",
    "total": "{peer} did not complete its answer",
}
