"""Marginal-likelihood PAC-Bayes bounds on the generalisation error, with the error of ln P(C(S)).

Realisable case: the training error is 0 on a sample S of m inputs drawn independently. P(C(S)) is
the prior probability of the functions that agree with S, so ln P(C(S)) of
:func:`simprior.gp.log_prior.log_prior` on the training inputs is all that is needed. A sharper
ln P(C(S)) is a sharper bound; its standard error goes through to the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from simprior.checks import LEVEL, Choice, Maybe, Number, Text, Whole, checked
from simprior.errors import InputError
from simprior.estimate import LogProb

FORMS = ("gibbs", "single")


@dataclass(frozen=True)
class Bound:
    """Upper bound ``error`` on the probability of error, and what it was computed from.

    ``low`` and ``high`` are the bound at the ends of the interval of ln P(C(S)) at ``level`` (a
    larger ln P(C(S)) is a smaller bound); they are equal to ``error`` for an exact value and NaN
    if the error of ln P(C(S)) is unknown. ``exponent`` is the right-hand side, -ln(1 - error).
    """

    error: float
    low: float
    high: float
    exponent: float
    form: str
    m: int
    delta: float
    gamma: float | None
    log_evidence: float
    log_evidence_stderr: float
    level: float

    @property
    def confidence(self) -> float:
        """Probability with which the bound holds (over S, and over f for the single form)."""
        return (1.0 - self.delta) * (1.0 - (self.gamma or 0.0))


@checked(m=Whole(2), form=Text(), delta=LEVEL, gamma=Maybe(LEVEL), level=LEVEL)
def marginal_likelihood_bound(
    log_evidence: float | LogProb,
    m: int,
    delta: float = 0.01,
    *,
    form: str = "gibbs",
    gamma: float | None = None,
    level: float = 0.95,
) -> Bound:
    """PAC-Bayes bound from the marginal likelihood P(C(S)).

    ``form="gibbs"`` (Valle-Perez, Camargo & Louis 2019, section 4, after McAllester 1998 and
    Langford & Seeger 2001): with probability 1 - delta over S, the error averaged over the Bayesian
    posterior is at most eps,

        -ln(1 - eps) = (ln 1/P(C(S)) + ln(2m/delta)) / (m - 1).

    ``form="single"`` (Valle-Perez & Louis 2020, the marginal-likelihood PAC-Bayes bound): with
    probability 1 - delta over S, and 1 - gamma over ONE function f drawn from the posterior, the
    error of f is at most eps,

        -ln(1 - eps) = (ln 1/P(C(S)) + ln m + ln 1/delta + ln 1/gamma) / (m - 1).

    Parameters
    ----------
    log_evidence : float or LogProb
        ln P(C(S)) in nats, <= 0.
    m : int
        Size of the training set, >= 2.
    delta, gamma : float
        In (0, 1); ``gamma`` only for the single form (default: delta).
    level : float
        Of the interval of the bound that follows from the standard error of ln P(C(S)).

    Raises
    ------
    InputError
        A parameter is out of range; the labels have probability 0.
    """
    value, stderr = _evidence(log_evidence)
    _check(m, delta, gamma, form, level)
    if form == "single":
        gamma = delta if gamma is None else gamma
        penalty = math.log(m) - math.log(delta) - math.log(gamma)
    else:
        penalty = math.log(2.0 * m / delta)
    exponent = (penalty - value) / (m - 1.0)
    shift = NormalDist().inv_cdf(0.5 + 0.5 * level) * stderr / (m - 1.0)
    low, high = _error(max(exponent - shift, 0.0)), _error(exponent + shift)
    return Bound(_error(exponent), low, high, exponent, form, m, delta, gamma, value, stderr, level)


def _error(exponent: float) -> float:
    return -math.expm1(-exponent)


def _evidence(log_evidence: float | LogProb) -> tuple[float, float]:
    if isinstance(log_evidence, LogProb):
        value, stderr = log_evidence.value, log_evidence.stderr
    else:
        value, stderr = float(Number(finite=False)("log_evidence", log_evidence)), 0.0
    slack = 5.0 * stderr if math.isfinite(stderr) else 0.1
    if not -math.inf < value <= slack:
        raise InputError(
            f"log_evidence={value:g}", "a finite log-probability (<= 0)",
            "the bounds need labels that the prior can give, and natural logarithms",
        )  # fmt: skip
    return min(value, 0.0), stderr


def _check(m: int, delta: float, gamma: float | None, form: str, level: float) -> None:
    Choice(FORMS, "pass form='gibbs'")("form", form)
    Whole(2, remedy="pass the size of the training set", expected="an integer >= 2")("m", m)
    given = {"delta": delta, "level": level} | ({} if gamma is None else {"gamma": gamma})
    for name, number in given.items():
        Number(0, 1, open=True, remedy="pass 0.01")(name, number)
    if gamma is not None and form == "gibbs":
        raise InputError(f"gamma={gamma!r}", "no gamma for the gibbs form", "pass form='single'")
