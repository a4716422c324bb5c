"""What posterior methods there are, their likelihoods and options; no method's code is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simprior.checks import Choice, shown, unknown
from simprior.errors import InputError

_CHAINS = ("chains", "thin", "burn_in")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "gp": (),
    "ep": (),
    "features": (),
    "rejection": ("max_draws",),
    "slice": (*_CHAINS, "start"),
    "smc": ("particles", "runs", "max_particles", "thin"),
    "hmc": (*_CHAINS, "beta"),
    "nuts": (*_CHAINS, "beta"),
}
"""The options of their own that methods have."""
METHODS = tuple(OPTIONS)
LIKELIHOODS: Mapping[str, tuple[str, ...]] = {
    "step": ("gp", "ep", "features", "rejection", "slice", "smc"),
    "logistic": ("hmc", "nuts"),
    "squared": ("gp", "features", "hmc", "nuts"),
}
"""Likelihoods, and the methods that know them; the first that a method has is its default."""
OF_MODULES = ("rejection", "slice")
"""Methods that draw torch modules as well as networks."""
DEFAULTS: Mapping[str, Any] = {"max_draws": 10**9, "thin": 1, "beta": 10.0, "noise": 0.1}
"""Defaults that the record of a run names."""


def check_method(
    method: Any, likelihood: str | None, noise: float | None, options: Mapping[str, Any]
) -> str:
    """The likelihood. Raises :class:`InputError` for a method, a likelihood or an option that do
    not go together."""
    Choice(METHODS)("method", method)
    known = [name for name, methods in LIKELIHOODS.items() if method in methods]
    if likelihood is None:
        likelihood = known[0]
    Choice(tuple(LIKELIHOODS))("likelihood", likelihood)
    if likelihood not in known:
        others = ", ".join(LIKELIHOODS[likelihood])
        raise InputError(
            f"likelihood={likelihood!r} with method={method!r}",
            f"{' or '.join(known)}",
            f"use it with {others}",
        )
    if noise is not None and likelihood != "squared":
        raise InputError(
            f"noise={noise} with likelihood={likelihood!r}",
            "the squared likelihood",
            "leave noise out, or pass likelihood='squared'",
        )
    if likelihood == "squared" and options.get("beta") is not None:
        raise InputError("beta with likelihood='squared'", "noise in its place", "leave beta out")
    for name, value in options.items():
        if value is not None and name not in OPTIONS[method]:
            if not any(name in other for other in OPTIONS.values()):
                raise unknown(f"option {name}={shown(value)}", name, OPTIONS[method] or ("none",))
            having = [other for other, own in OPTIONS.items() if name in own]
            raise InputError(
                f"{name}={shown(value)} with method={method!r}",
                f"one of the methods {', '.join(having)}",
                f"leave {name} out",
            )
    return likelihood
