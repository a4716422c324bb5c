"""Experiment ``double-descent-trained``: the second descent where all layers are learned.

Networks of one hidden layer learn S, some labels of which are wrong. With few units they cannot fit
it, with many they all can; the *threshold* is the width at which half of the networks fit. Compared
on the same S, at every width: networks trained for a fixed number of steps, whether they fit or
not, and draws of the Bayesian posterior of a network of that width. Its likelihood is the 0-1 one,
where there are networks that fit, and also, where labels are wrong, the logistic one, which is
tempered. Of each there is the error of a single network, and that of the majority vote of many,
which is the posterior predictive of draws.

Source: Nakkiran et al. 2020 (the peak, and that wrong labels raise it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.evidence.double_descent import OWN
from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.half_fit import crossing
from simprior.analysis.evidence.paired import mean_of, slope_of
from simprior.analysis.study.sections import AsComputed, check_each, check_rising
from simprior.boolean.truthtable import parse_functions, unpack
from simprior.checks import Integer, Number, Whole
from simprior.errors import InputError, NumericalError
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.training.posterior.slice import slice_posterior
from simprior.training.posterior.soft import hmc_posterior
from simprior.training.targets import problem_on
from simprior.training.train import train

SGD, ADAM = "sgd", "adam"
STEP, SOFT = "posterior, 0-1", "posterior, soft"
METHODS = (SGD, ADAM, STEP, SOFT)
RANDOM = "random"
"""The labels of the control, coin flips."""
NAKKIRAN = "Nakkiran et al. 2020"
_NAME = "double descent, trained"
_STREAM = "double-descent-trained"
_LEAPFROG = 8
Columns = dict[str, np.ndarray]


def wrong_labels(share: float) -> str:
    """What tables call the target's labels with a ``share`` of wrong ones."""
    return f"{share:g} wrong"


@dataclass(frozen=True)
class TrainedDoubleDescent(AsComputed):
    """Networks with a hidden layer of each ``width`` (relu), S of ``train`` of the 2^n inputs, +-1.

    ``corrupt`` are increasing shares of wrong labels; the last is that of the findings, the first
    what it is compared with. ``members`` networks are trained for ``steps`` steps by SGD and Adam,
    at rates ``sgd_lr`` and ``adam_lr``. ``draws`` functions are drawn from each posterior by
    ``chains``, after ``burn_in`` sweeps or iterations; ``beta`` is the inverse temperature of the
    logistic likelihood, and ``thin`` the sweeps between two draws under the 0-1 likelihood.
    """

    n: int = 7
    target: str = "majority"
    train: int = 64
    width: tuple[int, ...] = (1, 2, 4, 6, 8, 16, 64)
    corrupt: tuple[float, ...] = (0.0, 0.15)
    datasets: int = 16
    members: int = 8
    steps: int = 4000
    batch_size: int = 32
    sgd_lr: float = 0.1
    adam_lr: float = 0.01
    beta: float = 10.0
    draws: int = 128
    chains: int = 8
    burn_in: int = 400
    thin: int = 20
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(1, 14, remedy)("n", self.n)
        Whole(2, (1 << self.n) - 1, remedy)("train", self.train)
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        check_each(
            self,
            Whole(1, 10**7, remedy),
            "members",
            "steps",
            "batch_size",
            "draws",
            "chains",
            "burn_in",
            "thin",
        )
        check_each(self, Number(0, open=True, remedy=remedy), "sgd_lr", "adam_lr", "beta")
        check_each(self, Number(0, remedy=remedy), "sigma_w", "sigma_b")
        check_each(self, Integer(1, 10**5, remedy), "width")
        check_each(self, Number(0, 1, remedy=remedy), "corrupt")
        check_rising(self, "width", "corrupt")
        if round(self.corrupt[-1] * self.train) < 1:
            what = f"corrupt={list(self.corrupt)}"
            raise InputError(what, "a last share of one wrong label or more", remedy)
        self._truth()

    def _truth(self) -> np.ndarray:
        return parse_functions(self.target, 1 << self.n, self.n)[0]

    def pieces(self) -> list[int]:
        """The data sets, computed one by one."""
        return list(range(self.datasets))

    def network(self, width: int) -> Network:
        """The network of a width."""
        return Network(
            n=self.n, hidden=(width,), sigma_w=self.sigma_w, sigma_b=self.sigma_b, encoding="pm1"
        )

    def labels_of(self, dataset: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(s,) the inputs of S, and their (s,) labels by name; wrong ones are nested."""
        source, truth = rng.generator(self.seed, _STREAM, dataset), self._truth()
        S = np.sort(source.permutation(1 << self.n)[: self.train])
        order, coins = source.permutation(self.train), source.integers(2, size=self.train)
        found = {}
        for share in self.corrupt:
            labels = truth[S].copy()
            labels[order[: round(share * self.train)]] ^= 1
            found[wrong_labels(share)] = labels
        return S, {**found, RANDOM: coins.astype(np.uint8)}

    def compute(self, piece: int) -> Columns:
        """A row a kind of labels, width and method.

        Random labels are learned by trained networks only, and the soft posterior is that of labels
        some of which are wrong.

        Columns: dataset, labels, width, method (of ``METHODS``), error (mean share of wrong labels
        outside S of one network, against the target), vote (that of the majority of all, a tie
        counts one half), fitted (share of networks that fit S), rhat (of the errors of chains). A
        0-1 posterior without a network that fits has NaN, and fitted 0.
        """
        S, kinds = self.labels_of(piece)
        rows = []
        for labels, given in kinds.items():
            for width in self.width:
                row = {"dataset": piece, "labels": labels, "width": width}
                rows += [row | found for found in self._methods(S, given, width, labels, piece)]
        text = ("labels", "method")
        return {
            name: np.array([row[name] for row in rows], object if name in text else None)
            for name in rows[0]
        }

    def _methods(
        self, S: np.ndarray, given: np.ndarray, width: int, labels: str, dataset: int
    ) -> Iterator[dict[str, Any]]:
        """The rows of one network on one S."""
        network, truth = self.network(width), self._truth()
        stream = f"{_STREAM}/{labels}/{width}"
        seed = rng.seed_from(self.seed, stream, dataset)
        some = False
        for method, lr in ((SGD, self.sgd_lr), (ADAM, self.adam_lr)):
            found = train(
                problem_on(network, S, given),
                runs=self.members,
                optimizer=method,
                lr=lr,
                batch_size=self.batch_size,
                stop=f"steps:{self.steps}",
                max_epochs=self.steps,
                seed=seed,
            )
            some = some or bool((found.errors == 0).any())
            yield {"method": method, **scores(found.words, truth, S, given), "rhat": math.nan}
        if labels == RANDOM:
            return
        how: dict[str, Any] = {"target": truth, "chains": self.chains, "burn_in": self.burn_in}
        drawn = None
        if some:
            try:
                drawn = slice_posterior(network, S, given, self.draws, seed, thin=self.thin, **how)
            except NumericalError:  # none of the chains' own starts fits
                drawn = None
        yield {"method": STEP, **_of_draws(drawn, truth, S, given)}
        if (given == truth[S]).all():
            return
        drawn = hmc_posterior(
            network, S, given, self.draws, seed, beta=self.beta, leapfrog=_LEAPFROG, **how
        )
        yield {"method": SOFT, **_of_draws(drawn, truth, S, given)}

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Mean errors over data sets with intervals: a row a kind of labels, method and width.

        ``without``: data sets left out, as no network fits; ``unmixed``: share of the others whose
        chains have an R-hat above 1.05.
        """
        rows = []
        for key, part in frame.groupby(["labels", "method", "width"], sort=True):
            row: dict[str, Any] = dict(zip(("labels", "method", "width"), key, strict=True))
            row["fitted"], known = part["fitted"].mean(), part["rhat"].dropna()
            for name in ("error", "vote"):
                values = part[name].dropna().to_numpy(float)
                mean = mean_of(values) if len(values) > 1 else None
                row[name] = mean.value if mean else math.nan
                row[f"{name}_low"] = mean.low if mean else math.nan
                row[f"{name}_high"] = mean.high if mean else math.nan
            row["without"] = int(part["error"].isna().sum())
            row["unmixed"] = float((known > 1.05).mean()) if len(known) else math.nan
            rows.append(row)
        return pd.DataFrame(rows)

    def threshold(self, frame: pd.DataFrame, labels: str) -> int:
        """The width that is nearest to where half of Adam's networks fit these labels.

        It is found from who fits, not from errors, which the findings compare at it.
        """
        widths, fitted = np.array(self.width), self._table(frame, labels, ADAM, "fitted")
        size = crossing(widths, fitted.mean(axis=0)).size
        return self._nearest(size)

    def _nearest(self, size: float) -> int:
        return min(self.width, key=lambda width: abs(math.log(width / size)))

    def _table(self, frame: pd.DataFrame, labels: str, method: str, value: str) -> np.ndarray:
        """(N, widths) values over data sets."""
        at = frame[(frame["labels"] == labels) & (frame["method"] == method)]
        table = at.pivot(index="dataset", columns="width", values=value)
        return table[list(self.width)].to_numpy(float)

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """What the error does up to the threshold and beyond, by method and labels.

        A peak stands above both sides: above the error at a quarter of the width ("before"), and
        above that of the widest ("end").
        """
        base, wrong = wrong_labels(self.corrupt[0]), wrong_labels(self.corrupt[-1])
        peak = self.threshold(frame, wrong)
        before, end = self._nearest(peak / 4), self.width[-1]
        place = {width: k for k, width in enumerate(self.width)}
        top, beyond = place[peak], list(range(place[peak], len(self.width)))

        def table(method: str, labels: str = wrong, value: str = "error") -> np.ndarray:
            return self._table(frame, labels, method, value)

        def down(*which: str) -> np.ndarray:
            values = table(*which)
            return np.asarray(values[:, top] - values[:, -1])

        def up(*which: str) -> np.ndarray:
            values = table(*which)
            return np.asarray(values[:, top] - values[:, place[before]])

        at, fall = f"error at width {peak}", f"error at width {peak} - {end}"
        rise, predictive = f"error at width {peak} - {before}", f"vote of {SOFT}"
        rows: list[tuple[str, np.ndarray, str, int, str, np.ndarray | None]] = []
        for method in (SGD, ADAM):
            rows.append((f"{rise}: {method}", up(method), "optimiser", 1, NAKKIRAN, None))
            rows.append(
                (f"{fall}: {method}", down(method), "optimiser", 1, NAKKIRAN, table(method))
            )
        for name, which, sign in (
            (STEP, (STEP,), 1),
            (SOFT, (SOFT,), -1),
            (predictive, (SOFT, wrong, "vote"), -1),
        ):
            rows.append((f"{rise}: {name}", up(*which), "posterior", sign, OWN, None))
            rows.append((f"{fall}: {name}", down(*which), "posterior", 1, OWN, table(*which)))
        for method in (SGD, ADAM):
            claim = f"{fall}: {method}, {wrong} - {base}"
            rows.append((claim, down(method) - down(method, base), "optimiser", 1, NAKKIRAN, None))
        for other, sign in ((STEP, -1), (SOFT, 1)):
            values = (table(ADAM) - table(other))[:, top]
            rows.append((f"{at}: {ADAM} - {other}", values, "optimiser", sign, OWN, None))
        claim = f"{fall}: {ADAM}, random labels"
        rows.append((claim, down(ADAM, RANDOM), "control", 0, "exact", None))
        widths = np.log2([self.width[k] for k in beyond])
        found = [_finding(*row, widths, beyond) for row in rows]
        return [one for one in found if one is not None]


def _finding(
    claim: str,
    values: np.ndarray,
    source: str,
    sign: int,
    literature: str,
    curve: np.ndarray | None,
    widths: np.ndarray,
    beyond: list[int],
) -> Finding | None:
    """A contrast with its slope along log2 ``widths``, where ``curve`` (N, widths) is given.

    Data sets of which no network fits are left out, and counted; None if that leaves fewer than 2.
    """
    known = np.isfinite(values)
    if known.sum() < 2:
        return None
    left = f" ({(~known).sum()} data sets without, left out)" if not known.all() else ""
    slope = None
    if curve is not None and len(beyond) > 1:
        whole = curve[:, beyond][known]
        slope = slope_of(widths, whole) if np.isfinite(whole).all() else None
    effect = mean_of(values[known])
    return Finding(_NAME, claim + left, effect, source, sign, literature, slope, "log2 width")


def scores(
    words: np.ndarray,
    truth: np.ndarray,
    S: np.ndarray,
    labels: np.ndarray,
    count: np.ndarray | None = None,
) -> dict[str, float]:
    """Errors outside S of packed functions (F, W), ``count`` (F,) times each, and who fits S.

    ``truth`` (m,) are the true labels, ``labels`` (s,) those to be fitted. ``vote`` is the error
    of the majority, where a tie counts one half.
    """
    tables = unpack(words, len(truth))
    outside = np.setdiff1d(np.arange(len(truth)), S)
    wrong = tables[:, outside] != truth[outside]
    shares = np.average(wrong, axis=0, weights=count)
    votes = (shares > 0.5) + 0.5 * (shares == 0.5)
    fitted = (tables[:, S] == labels).all(axis=1)
    return {
        "error": float(shares.mean()),
        "vote": float(votes.mean()),
        "fitted": float(np.average(fitted, weights=count)),
    }


def _of_draws(drawn: Any, truth: np.ndarray, S: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    if drawn is None:
        return {"error": math.nan, "vote": math.nan, "fitted": 0.0, "rhat": math.nan}
    statistics = drawn.info["posterior"].get("statistics", {})
    rhat = float(statistics.get("error", {}).get("rhat", math.nan))
    return {**scores(drawn.words, truth, S, labels, drawn.count), "rhat": rhat}
