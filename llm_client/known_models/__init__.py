"""What models can do, as data: declared where it is known, and None where it is not.

    known = capabilities("openai", "gpt-4o")
    known.images                                   # True: it is known to read images
    known.audio                                    # False: it is known not to take sound
    capabilities("compatible", "gpt-4o").images    # None: nobody knows what is called so there

Nothing is guessed from a name: it has to be in the table as a whole, its version aside, and at a
provider that is known to serve its maker's models. What is missing or wrong there can be said in
code or in the environment, or measured (`llm_client.probing`).

    values   what is known of a model, and what the environment says
    served   who serves whose models, and what may stand around their names
    table    a row for each family of models
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_client.known_models.table import declared
from llm_client.known_models.values import ModelCapabilities

__all__ = ["ModelCapabilities", "capabilities", "capabilities_from_env"]


def capabilities(
    provider: str, model: str, overrides: ModelCapabilities | None = None
) -> ModelCapabilities:
    """What is known of `model` at `provider`, a name of `llm_client.PROVIDERS`; all of it is None
    where either is not known. What `overrides` says comes first."""
    known = declared(provider, model)
    return known if overrides is None else known.overridden(overrides)


def capabilities_from_env(
    provider: str, model: str, env: Mapping[str, str] | None = None
) -> ModelCapabilities:
    """What is known of `model` at `provider`, with what the environment says coming first: see
    `ModelCapabilities.from_env`.

    Raises:
        ConfigError: a variable has a value that it cannot have; names every one of them.
    """
    return capabilities(provider, model, ModelCapabilities.from_env(env))
