"""Every column of a measures table: its label, unit, group, what it needs, and its source.

Axes, table headers, the report and the documentation take their words from here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a column is.

    ``label`` without unit; ``unit`` ("1" for pure numbers); ``group`` the name for ``--measures``;
    ``weights``: needs trained weights, not only a function; ``moves``: changes when a relu layer is
    rescaled although the function does not; ``source``: paper or definition; ``log``: the natural
    logarithm of the quantity that the source defines.
    """

    label: str
    unit: str
    group: str
    weights: bool = False
    moves: bool = False
    source: str = ""
    log: bool = False


_LZ = "Dingle, Camargo & Louis 2018, eq. 5"
_WALSH = "O'Donnell 2014, Analysis of Boolean Functions, ch. 1-3"
_FRANCO = "Franco & Anthony 2006"
_VALLE = "Valle-Perez, Camargo & Louis 2019"

_FUNCTION = {
    "log_p": Measure("ln P(f)", "nats", "prior", source=_VALLE, log=True),
    "log_p_sampled": Measure("ln P(f), sampled", "nats", "prior", source=_VALLE, log=True),
    "log_evidence": Measure("ln P(C(S))", "nats", "bound", source=_VALLE, log=True),
    "bound": Measure("PAC-Bayes bound on the error", "1", "bound", source=_VALLE),
    "lz76": Measure("LZ complexity", "bits", "lz", source=_LZ),
    "lz76_truncated": Measure("LZ complexity (truncated)", "bits", "lz", source="Mingard 2025"),
    "entropy": Measure("entropy of the outputs", "bits", "entropy", source="Shannon 1948"),
    "ones": Measure("number of ones", "1", "entropy", source="T(f)"),
    "dnf_terms": Measure("terms of the minimal DNF", "1", "dnf", source="Quine 1952"),
    "dnf_literals": Measure("literals of the minimal DNF", "1", "dnf", source="Quine 1952"),
    "cnf_clauses": Measure("clauses of the minimal CNF", "1", "dnf", source="Quine 1952"),
    "cnf_literals": Measure("literals of the minimal CNF", "1", "dnf", source="Quine 1952"),
    "dnf_exact": Measure("DNF and CNF are minimal", "0 or 1", "dnf"),
    "gc1": Measure("generalisation complexity, distance 1", "1", "gc", source=_FRANCO),
    "gc2": Measure("generalisation complexity, distance 2", "1", "gc", source=_FRANCO),
    "gc": Measure("generalisation complexity", "1", "gc", source=_FRANCO),
    "csr": Measure("critical sample ratio", "1", "csr", source="Arpit et al. 2017"),
    "box_csr": Measure(
        "critical sample ratio in a box", "1", "sensitivity", weights=True,
        source="Arpit et al. 2017",
    ),
    "walsh_linf": Measure("largest Walsh coefficient", "1", "walsh", source=_WALSH),
    "walsh_l1": Measure("L1 norm of the Walsh spectrum", "1", "walsh", source=_WALSH),
    "walsh_degree": Measure("Walsh degree", "1", "walsh", source=_WALSH),
    "walsh_mean_degree": Measure("mean Walsh degree", "1", "walsh", source=_WALSH),
    "average_sensitivity": Measure("average sensitivity", "1", "sensitivity", source=_WALSH),
    "max_sensitivity": Measure("sensitivity", "1", "sensitivity", source="Cook et al. 1986"),
    "block_sensitivity": Measure("block sensitivity", "1", "sensitivity", source="Nisan 1991"),
    "noise_stability": Measure("noise stability", "1", "sensitivity", source=_WALSH),
}  # fmt: skip
_LOSS = "unit of the loss"
_JIANG = "Jiang et al. 2020, appendix C"
_WEIGHTS = {
    "keskar": Measure("Keskar sharpness", "%", "sharpness", True, True,
                      "Keskar et al. 2017, metric 2.1"),
    "sam": Measure("SAM sharpness", _LOSS, "sharpness", True, True, "Foret et al. 2021, eq. 1"),
    "random_sharpness": Measure("random-direction sharpness", _LOSS, "sharpness", True, True,
                                "mean rise over a sphere"),
    "hessian_top": Measure("largest Hessian eigenvalue", _LOSS, "hessian", True, True,
                           "largest eigenvalue of the Hessian of the loss"),
    "hessian_trace": Measure("trace of the Hessian", _LOSS, "hessian", True, True,
                             "trace of the Hessian of the loss"),
    "fisher_rao": Measure("Fisher-Rao norm", _LOSS, "fisher", True, False,
                          "Liang et al. 2019, definition 2"),
    "sigma_flatness": Measure("PAC-Bayes flatness, σ", "unit of the weights", "sigma", True, True,
                              _JIANG),
    "frobenius_norm": Measure("Frobenius norm", "unit of the weights", "norms", True, True, _JIANG),
    "spectral_norm": Measure("ln product of spectral norms", "1", "norms", True, False,
                             "first factor of Bartlett et al. 2017, eq. 1.2", log=True),
    "path_norm": Measure("ln path norm", "1", "norms", True, False, "Neyshabur et al. 2015",
                         log=True),
    "distance_norm": Measure("distance from initialisation", "unit of the weights", "norms", True,
                             True, _JIANG),
    "margin": Measure("output margin, 10 % quantile", "unit of the output", "margin", True, False,
                      _JIANG),
    "relative_flatness": Measure("relative flatness", _LOSS, "relative", True, False,
                                 "Petzka et al. 2021, definition 3"),
    "log_volume": Measure("ln local volume", "nats", "volume", True, True, "Wu, Zhu & E 2017; "
                          "Scherlis & Belrose 2025", log=True),
}  # fmt: skip

MEASURES: dict[str, Measure] = {**_FUNCTION, **_WEIGHTS}
"""Columns by name. ``walsh_weight_k`` and ``influence_i`` are added for up to 16 bits."""

for _k in range(17):
    MEASURES[f"walsh_weight_{_k}"] = Measure(f"Walsh weight of degree {_k}", "1", "walsh",
                                             source=_WALSH)  # fmt: skip
    if _k:
        MEASURES[f"influence_{_k}"] = Measure(f"influence of bit {_k}", "1", "influence",
                                              source=_WALSH)  # fmt: skip

DEFAULT = ("prior", "sharpness", "sensitivity", "lz", "norms")
"""Groups measured if none are named."""
FUNCTION_GROUPS = ("lz", "entropy", "dnf", "gc", "csr", "walsh", "sensitivity", "influence")
WEIGHT_GROUPS = (
    "sharpness", "hessian", "fisher", "sigma", "norms", "margin", "relative", "volume",
)  # fmt: skip
GROUPS = ("prior", "bound", *FUNCTION_GROUPS, *WEIGHT_GROUPS)
"""What ``--measures`` accepts, besides ``all``."""
BITS_ONLY = frozenset({"dnf", "gc", "csr", "walsh", "influence"})
"""Groups that are defined for functions of all bit strings only."""
