"""The estimators by their names, and which of them answer a question."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simprior.analysis.rare import extrapolate, moments, weighted
from simprior.analysis.rare.given import BLOCK
from simprior.analysis.rare.laws import MOST_BITS, BitLaw
from simprior.analysis.rare.particles import along_chains
from simprior.analysis.rare.question import Question, finding
from simprior.errors import InputError
from simprior.numerics.estimate import LogProb


@dataclass(frozen=True)
class Effort:
    """How much work an estimator may do.

    ``samples`` of plain and importance sampling and of ``gld``; ``particles`` in each of ``runs``
    independent runs of ``splitting`` and ``mhis``, with blocks of ``moves`` Metropolis steps a rung
    (None: twice the entries of an input, at least 20). Importance sampling checks its error with
    one run of ``particles``.
    """

    samples: int = 100_000
    particles: int = 500
    runs: int = 16
    moves: int | None = None


_Estimate = Callable[[Question, Effort, np.random.Generator], LogProb]


@dataclass(frozen=True)
class Method:
    """An estimator. ``kind``: ``exact``, ``unbiased`` (of P, with a true standard error), or
    ``approximation``. ``lacks`` says why it cannot answer a question; empty if it can."""

    kind: str
    estimate: _Estimate
    lacks: Callable[[Question], str] = lambda question: ""


def exact(question: Question) -> LogProb:
    """ln P by enumeration of all strings, or of a normal output."""
    law = question.law
    if not isinstance(law, BitLaw):
        found = moments.gaussian(question)
        return finding("exact", found.value, 0.0, ess=math.inf)
    hits, total = 0, 1 << law.size
    for start in range(0, total, BLOCK):
        states = law.strings(start, min(start + BLOCK, total))
        hits += int((question.scores(states) > 0).sum())
    value = math.log(hits) - law.size * math.log(2.0) if hits else -math.inf
    return finding("exact", value, 0.0, ess=math.inf)


def _not_exact(question: Question) -> str:
    law = question.law
    if isinstance(law, BitLaw):
        return "" if law.size <= MOST_BITS else f"{law.size} bits are more than {MOST_BITS}"
    return "" if moments.is_exact(question) else "the output is not normal"


def _no_layers(question: Question) -> str:
    return "" if question.given.plain is not None else "it needs a fully connected network"


def _no_hidden(question: Question) -> str:
    plain = question.given.plain
    return _no_layers(question) or ("" if plain and plain.hidden else "there is no hidden layer")


def _no_slopes(question: Question) -> str:
    return "" if question.given.has_slopes() else "outputs have no gradient in the inputs"


def _tilted(method: Callable[..., LogProb]) -> _Estimate:
    return lambda q, e, source: method(q, e.samples, e.particles, source)


def _chains(name: str) -> _Estimate:
    return lambda q, e, source: along_chains(name, q, e.particles, e.runs, e.moves, source)


METHODS: dict[str, Method] = {
    "exact": Method("exact", lambda q, e, source: exact(q), _not_exact),
    "sampling": Method("unbiased", lambda q, e, s: weighted.sampling(q, e.samples, s)),
    "tilt": Method("unbiased", _tilted(weighted.tilt)),
    "itgis": Method("unbiased", _tilted(weighted.itgis), _no_slopes),
    "mhis": Method("unbiased", _chains("mhis")),
    "splitting": Method("unbiased", _chains("splitting")),
    "gaussian": Method("approximation", lambda q, e, s: moments.gaussian(q), _no_layers),
    "gld": Method("approximation", lambda q, e, s: extrapolate.gld(q, e.samples, s)),
    "qld": Method("approximation", lambda q, e, s: extrapolate.qld(q, e.samples, s), _no_hidden),
}
"""Estimators in the order of the table."""


def chosen(question: Question, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The methods ``names``; None for all that can answer.

    Raises :class:`InputError` for one that cannot, and says why.
    """
    if names is None:
        return tuple(name for name, method in METHODS.items() if not method.lacks(question))
    for name in names:
        reason = METHODS[name].lacks(question)
        if reason:
            what = f"method={name} of {question.given.name} under {question.law.name}: {reason}"
            raise InputError(what, "methods that apply", f"leave {name} out")
    return names
