"""Services around services: trying again, another model, a shared rate, a circuit breaker, a meter.

    retrying  fallback      one answer out of several attempts      ┐ _attempts: what they share
    throttled               a request waits for its share of a      │ _around: what passes through
                            limit (rate_limiter)                    │ _watched: a stream, and what
    circuit_breaker         a provider that is unwell is left alone │ became of it
    metered                 what each attempt used is written down  ┘

Each is an `LLMService` around another one, and they compose in any order, but that `Metered` stands
inside what tries again. The usual one is
`Retrying(Throttled(CircuitBreaker(Metered(service, ledger)), limiter))`: each attempt waits for its
own share, one that the breaker refuses gives its share back, and those that are made are written
down. An `AgentLoop` has a retry law of its own and takes everything but `Retrying`.
"""
