"""The stage ``[sensitivity]`` of a study: settings of ``simprior sensitivity`` by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simprior.analysis.hamming.nearest import Search
from simprior.analysis.hamming.records import SensitivitySettings
from simprior.analysis.study import unknown
from simprior.errors import InputError
from simprior.training.settings import NETWORK, settings

_OWN = ("classifier", "networks", "strings", "paths", "gp_draws", "seed")
_SEARCH = ("beam", "candidates", "budget")


def sensitivity_study(values: Mapping[str, Any], seed: int = 0) -> SensitivitySettings:
    """The study that these settings describe. Raises :class:`InputError`."""
    values = {key.replace("-", "_"): value for key, value in values.items()}
    law = tuple(name for name in NETWORK if name not in ("n", "inputs"))
    for key in values:
        if key not in ("n", *law, *_OWN, *_SEARCH):
            raise unknown("key of [sensitivity]", key, ("n", *law, *_OWN, *_SEARCH))
    if "n" not in values:
        raise InputError("[sensitivity] without n", "lengths of strings", "add n = [100, 200]")
    n = values["n"]
    network = settings({k: v for k, v in values.items() if k in law}).network
    return SensitivitySettings(
        n=tuple(n) if isinstance(n, list) else (n,), network=network,
        search=Search(**{k: v for k, v in values.items() if k in _SEARCH}),
        **{"seed": seed, **{k: v for k, v in values.items() if k in _OWN}},
    )  # fmt: skip
