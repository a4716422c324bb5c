"""Experiment ``grokking``: what comes late when networks generalise long after they fitted?

Power et al. (2022): with weight decay a network may fit its examples at once and generalise much
later. Ensembles are trained by full-batch AdamW for a fixed number of steps; of each member the
step of the fit and the step of generalisation are recorded. The delay is their ratio. It is
censored for members that never generalise, which are counted, not dropped.

An *arm* is a target with a weight decay and a factor on the initial weights. In each data set all
arms have the same training inputs and the same initial draws. Along the way functions are measured:
error, Lempel-Ziv complexity, sensitivity, and ln P(f) under several infinitely wide networks, since
one kernel must not decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.paired import Estimate, mean_of, slope_of
from simprior.analysis.evidence.survival import median_of_groups
from simprior.analysis.measure.prior import Prior
from simprior.analysis.study.sections import AsComputed, check_each, check_once
from simprior.boolean.complexity import lz76_packed
from simprior.boolean.sensitivity import sensitivity_packed
from simprior.boolean.truthtable import pack
from simprior.checks import Choice, Number, Whole
from simprior.errors import InputError
from simprior.gp.orthant import METHODS
from simprior.gp.posterior import sample_posterior
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.training.records import TrainResult
from simprior.training.targets import Problem
from simprior.training.train import train

CURVE, FIT, END, RANDOM, POSTERIOR = "curve", "fit", "end", "random function", "posterior"
"""Moments that rows are of: a step of the curve; the fit; the last step; and, once a data set, a
uniformly random function, and (with its kernel) the posterior of each infinitely wide network."""
CONTROL = "random"
"""Target of the control: labels without structure, so there is nothing to generalise to."""
POWER, LIU, KUMAR = "Power et al. 2022", "Liu et al. 2023", "Kumar et al. 2024"
MINGARD = "Mingard et al. 2021"
_NAME = "grokking"
_TIMES, _CURVE, _EVERY = 160, 24, 3
_POSTERIOR_DRAWS = 1000
_ARM = ["target", "decay", "scale"]
Columns = dict[str, np.ndarray]


class Arm(NamedTuple):
    """A target, a weight decay, and a factor on the initial weights."""

    target: str
    decay: float
    scale: float


class Piece(NamedTuple):
    """One arm on one data set."""

    arm: Arm
    dataset: int


@dataclass(frozen=True)
class Grokking(AsComputed):
    """Delay of generalisation over ``datasets`` training sets, ``members`` networks on each.

    ``train`` of the 2^n inputs (+-1) are labelled by ``target``, an expression such as parity:2 or
    junta:0110. Networks have ``depth`` hidden layers of ``width``. AdamW with rate ``lr`` takes
    ``steps`` full-batch steps at each weight ``decay`` (two or more; the largest is that of the
    findings). ``init_scale`` are factors on the initial weights, the first one that of most arms.
    A network generalises at the first recorded step from its fit on where at most ``tolerance`` of
    the inputs outside S are wrong; some 160 steps are recorded, at equal ratios.

    ``kernels`` are texts depth:sigma_b, the first that of the trained networks at infinite width;
    ``estimator`` is the method of ln P(f), for the first ``log_p_members`` of each data set.
    """

    n: int = 8
    target: str = "parity:2"
    train: int = 60
    width: int = 100
    depth: int = 1
    sigma_w: float = 3.0
    sigma_b: float = 0.1
    decay: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0)
    init_scale: tuple[float, ...] = (1.0, 0.5, 2.0)
    lr: float = 0.003
    steps: int = 20000
    tolerance: float = 0.01
    datasets: int = 16
    members: int = 8
    kernels: tuple[str, ...] = ("1:0.1", "2:0.1", "4:0.1", "1:1")
    estimator: str = "ep"
    log_p_members: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        for name, low in (("width", 1), ("depth", 0), ("members", 1), ("log_p_members", 1)):
            Whole(low, 10**6, remedy)(name, getattr(self, name))
        Whole(2, 14, remedy)("n", self.n)
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        Whole(10, 10**8, remedy)("steps", self.steps)
        Number(0, 0.5, remedy=remedy)("tolerance", self.tolerance)
        Number(0, open=True, remedy=remedy)("lr", self.lr)
        Choice(METHODS)("estimator", self.estimator)
        check_once(self, "decay", "init_scale", "kernels")
        check_each(self, Number(0, remedy=remedy), "decay")
        check_each(self, Number(0, open=True, remedy=remedy), "init_scale")
        if len(self.decay) < 2:
            what = f"decay={list(self.decay)}"
            raise InputError(what, "two or more to compare", "pass for example [0.0, 1.0]")
        if self.target.partition(":")[0] == CONTROL:
            remedy = "pass for example parity:2"
            raise InputError(f"target={self.target!r}", "a target with structure", remedy)
        for name in self.kernels:
            self.kernel_network(name)
        self._problem(self.target, 0)

    def kernel_network(self, name: str) -> Network:
        """The network, at any width, whose infinitely wide limit is the kernel ``name``."""
        depth, _, sigma_b = name.partition(":")
        try:
            hidden, bias = (1,) * Whole(0, 100)("depth", int(depth)), float(sigma_b)
        except ValueError:
            raise InputError(f"kernel {name!r}", "depth:sigma_b", "write 2:0.1") from None
        return self._network(hidden, bias)

    def _network(self, hidden: tuple[int, ...], sigma_b: float) -> Network:
        return Network(
            n=self.n, hidden=hidden, sigma_w=self.sigma_w, sigma_b=sigma_b, encoding="pm1"
        )

    def _problem(self, target: str, dataset: int) -> Problem:
        """A training set: its inputs depend on the data set alone."""
        seed = self._seed("data", dataset)
        network = self._network((self.width,) * self.depth, self.sigma_b)
        return Problem(network, target, train=self.train, seed=seed)

    def _seed(self, name: str, dataset: int) -> int:
        return rng.seed_from(self.seed, f"grokking/{name}", dataset)

    @property
    def base(self) -> Arm:
        """The arm of most findings: the largest weight decay, the first initial scale."""
        return Arm(self.target, max(self.decay), self.init_scale[0])

    @property
    def free(self) -> Arm:
        """The same with the smallest weight decay."""
        return self.base._replace(decay=min(self.decay))

    @property
    def control(self) -> Arm:
        """The same on random labels."""
        return self.base._replace(target=CONTROL)

    def arms(self) -> list[Arm]:
        """All weight decays at the first initial scale, the other scales at the smallest decay, and
        the control."""
        found = [self.base._replace(decay=decay) for decay in self.decay]
        found += [self.free._replace(scale=scale) for scale in self.init_scale[1:]]
        return [*found, self.control]

    @property
    def curve_steps(self) -> np.ndarray:
        """Steps of the curves: 0, and some at equal ratios."""
        return _spread(self.steps, _CURVE)

    @property
    def recorded(self) -> np.ndarray:
        """Steps at which functions are recorded: those of the curves, and more between them."""
        return np.union1d(self.curve_steps, _spread(self.steps, _TIMES))

    def pieces(self) -> list[Piece]:
        """What is computed one by one."""
        return [Piece(arm, d) for d in range(self.datasets) for arm in self.arms()]

    def compute(self, piece: Piece) -> Columns:
        """A row a member and moment.

        Columns: target, decay, scale, dataset, member, moment, step; fit and generalised (steps of
        the member, -1: never), train_error, error (share of wrong outputs outside S), lz76,
        sensitivity (average), and for each kernel ``log_p KERNEL`` (nats; NaN where not asked for).
        """
        arm, dataset = piece
        problem = self._problem(arm.target, dataset)
        trained = self._train(problem, piece)
        rows, words = self._rows(trained)
        if arm == self.base:
            random = rng.generator(self.seed, "grokking/random", dataset)
            extra = pack(random.integers(2, size=(1, problem.m)).astype(np.uint8))
            words = np.concatenate([words, extra])
            rows = _with_row(rows, moment=RANDOM, member=0)
        wanted = self._wants_log_p(arm, rows)
        rows["lz76"] = lz76_packed(words, problem.m)
        rows["sensitivity"] = sensitivity_packed(words, problem.m)["average_sensitivity"]
        for name in self.kernels:
            values = np.full(len(words), math.nan)
            if wanted.any():
                prior = Prior(self.kernel_network(name), self.seed, method=self.estimator)
                values[wanted] = prior.log_p(words[wanted])["log_p"]
            rows[f"log_p {name}"] = values
        if arm == self.base:
            for name in self.kernels:
                error = self._posterior_error(problem, name)
                rows = _with_row(rows, moment=f"{POSTERIOR} {name}", member=0, error=error)
        count = len(rows["moment"])
        said = {"target": np.full(count, arm.target, object), "decay": np.full(count, arm.decay)}
        said |= {"scale": np.full(count, arm.scale), "dataset": np.full(count, dataset)}
        return said | rows

    def _train(self, problem: Problem, piece: Piece) -> TrainResult:
        return train(
            problem,
            runs=self.members,
            optimizer="adamw",
            lr=self.lr,
            options={"weight_decay": piece.arm.decay},
            batch_size=self.train,
            stop=f"steps:{self.steps}",
            check=1,
            init_scale=piece.arm.scale,
            seed=self._seed("members", piece.dataset),
            record=self.recorded.tolist(),
            record_runs=self.members,
        )

    def _rows(self, trained: TrainResult) -> tuple[Columns, np.ndarray]:
        """Rows of the members of an ensemble, and the functions they are of."""
        frame, steps = trained.trajectories, self.recorded
        shape = (trained.runs, len(steps))
        error = frame["test_error"].to_numpy().reshape(shape)
        fit = trained.first_fit
        late = (fit[:, None] >= 0) & (steps >= fit[:, None])
        general = late & (error <= self.tolerance)
        generalised = np.where(general.any(axis=1), steps[general.argmax(axis=1)], -1)
        at_fit = np.where(late.any(axis=1), late.argmax(axis=1), len(steps) - 1)
        curve = np.searchsorted(steps, self.curve_steps)
        moments = np.array([CURVE] * len(curve) + [FIT, END], object)
        place = np.array([[*curve, first, len(steps) - 1] for first in at_fit])
        member = np.repeat(np.arange(trained.runs), len(moments))
        flat = member * len(steps) + place.ravel()
        rows: Columns = {
            "member": member,
            "moment": np.tile(moments, trained.runs),
            "step": steps[place.ravel()],
            "fit": fit[member],
            "generalised": generalised[member],
            "train_error": frame["train_error"].to_numpy()[flat],
            "error": error.ravel()[flat],
        }
        return rows, trained.trajectory["words"][flat]

    def _wants_log_p(self, arm: Arm, rows: Columns) -> np.ndarray:
        """Which rows get ln P(f): fit and end of the two arms compared, and some of a curve."""
        if arm not in (self.base, self.free):
            return np.zeros(len(rows["moment"]), bool)
        wanted = np.isin(rows["moment"], [FIT, END, RANDOM])
        if arm == self.base:
            some = self.curve_steps[::-_EVERY]
            wanted |= (rows["moment"] == CURVE) & np.isin(rows["step"], some)
        return np.asarray(wanted & (rows["member"] < self.log_p_members))

    def _posterior_error(self, problem: Problem, name: str) -> float:
        """Mean error outside S of posterior draws under a kernel (expectation propagation)."""
        K = Prior(self.kernel_network(name)).K
        drawn = sample_posterior(
            np.asarray(K),
            problem.train_index,
            problem.labels,
            _POSTERIOR_DRAWS,
            problem.seed,
            "ep",
            target=problem.target,
            n=self.n,
        )
        return float(drawn.info["posterior"]["error"])

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row an arm: how many fitted and generalised, when, and what functions they had.

        ``delay`` is the median of the product-limit estimate, with an interval from redrawing data
        sets; it is infinite where less than half generalised. ``log_delay`` is the mean of
        ln(delay) up to the last step. Of other moments and kernels: medians over members.
        """
        rows: list[dict[str, Any]] = []
        for arm in self.arms():
            of = _of_arm(frame, arm)
            ends = of[of["moment"] == END]
            times, seen = delays(ends, self.steps)
            delay = median_of_groups(times, seen, ends["dataset"].to_numpy(), self.seed)
            log_delay = mean_of(_means(ends.assign(log_delay=np.log(times)), "log_delay"))
            row = {
                **arm._asdict(),
                "members": len(ends),
                "unfitted": int((ends["fit"] < 0).sum()),
                "censored": int((~seen).sum()),
                "fit": float(np.median(np.where(ends["fit"] < 0, np.inf, ends["fit"]))),
                "generalised": float(
                    np.median(np.where(ends["generalised"] < 0, np.inf, ends["generalised"]))
                ),
                **{"delay": delay.value, "delay_low": delay.low, "delay_high": delay.high},
                **{"log_delay": log_delay.value, "log_delay_low": log_delay.low},
                "log_delay_high": log_delay.high,
            }
            for moment in (FIT, END, RANDOM, *(f"{POSTERIOR} {name}" for name in self.kernels)):
                part = of[of["moment"] == moment]
                for name in ("error", *(f"log_p {kernel}" for kernel in self.kernels)):
                    row[f"{name}, {moment}"] = float(part[name].median())
            rows.append(row)
        return pd.DataFrame(rows).dropna(axis=1, how="all")

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """Contrasts of delays, of errors, and of ln P(f) under each kernel; and the control."""
        found = [self._decay_finding(frame)]
        if len(self.init_scale) > 1:
            found.append(self._scale_finding(frame))
        return found + self._error_findings(frame) + self._log_p_findings(frame)

    def _decay_finding(self, frame: pd.DataFrame) -> Finding:
        """Delay without weight decay minus that with it, and its slope over the decays above 0."""
        low, high = min(self.decay), max(self.decay)
        arms = [self.base._replace(decay=decay) for decay in sorted(self.decay)]
        table, censored = self._log_delays(frame, arms)
        claim = f"ln delay, {self.target}: weight decay {low:g} - {high:g}"
        claim += f" (censored: {censored[0]}, {censored[-1]})"
        positive = [k for k, arm in enumerate(arms) if arm.decay > 0]
        slope = None
        if len(positive) > 1:
            x = np.log10([arms[k].decay for k in positive])
            slope = slope_of(x, table[:, positive])
        effect = mean_of(table[:, 0] - table[:, -1])
        return _finding(claim, effect, "optimiser", 1, POWER, slope, "log10 weight decay")

    def _scale_finding(self, frame: pd.DataFrame) -> Finding:
        """Delay of the largest initial scale minus that of the smallest, and its slope."""
        arms = [self.free._replace(scale=scale) for scale in sorted(self.init_scale)]
        table, censored = self._log_delays(frame, arms)
        claim = f"ln delay, {self.target}: initial weights x {arms[-1].scale:g} - "
        claim += f"x {arms[0].scale:g}, decay {self.free.decay:g}"
        claim += f" (censored: {censored[-1]}, {censored[0]})"
        slope = slope_of(np.log2([arm.scale for arm in arms]), table)
        effect = mean_of(table[:, -1] - table[:, 0])
        return _finding(claim, effect, "optimiser", 1, LIU, slope, "log2 initial scale")

    def _log_delays(self, frame: pd.DataFrame, arms: list[Arm]) -> tuple[np.ndarray, list[str]]:
        """(N, K) mean ln(delay) of each data set and arm, and how many members were censored.

        What never generalised counts as if it did at the last step: a contrast with an arm that
        has more of it is too small.
        """
        values, censored = [], []
        for arm in arms:
            ends = _of_arm(frame, arm)
            ends = ends[ends["moment"] == END]
            times, seen = delays(ends, self.steps)
            values.append(_means(ends.assign(log_delay=np.log(times)), "log_delay"))
            censored.append(f"{(~seen).sum()} of {len(seen)}")
        return np.stack(values, axis=1), censored

    def _error_findings(self, frame: pd.DataFrame) -> list[Finding]:
        """Error at the fit minus that at the end, also on random labels; and, by kernel, that at
        the end minus that of the infinitely wide posterior."""
        claim = f"error outside S, {self.target}: "
        fit, end = (self._values(frame, moment, "error") for moment in (FIT, END))
        found = [_finding(f"{claim}fit - end", mean_of(fit - end), "optimiser", 1, POWER)]
        for name in self.kernels:
            effect = mean_of(end - self._values(frame, f"{POSTERIOR} {name}", "error"))
            text = f"{claim}end - posterior, {_in_words(name)}"
            found.append(_finding(text, effect, "optimiser", -1, KUMAR))
        control = _of_arm(frame, self.control)
        none = _means(control[control["moment"] == FIT], "error")
        none = none - _means(control[control["moment"] == END], "error")
        claim = f"error outside S, random labels, |S| = {self.train}: fit - end"
        return [*found, _finding(claim, mean_of(none), "control", 0, "exact")]

    def _log_p_findings(self, frame: pd.DataFrame) -> list[Finding]:
        """ln P(f) at the end minus that at the fit, and that of random functions, by kernel.

        A kernel under which a function has no finite ln P is left out; the overview shows it.
        """
        found = []
        for name in self.kernels:
            column = f"log_p {name}"
            at = {moment: self._values(frame, moment, column) for moment in (FIT, END, RANDOM)}
            if not all(np.isfinite(values).all() for values in at.values()):
                continue
            for moment in (FIT, RANDOM):
                claim = f"ln P(f), {self.target}, {_in_words(name)}: end - {moment}"
                effect = mean_of(at[END] - at[moment])
                found.append(_finding(claim, effect, "prior", 1, MINGARD))
        return found

    def _values(self, frame: pd.DataFrame, moment: str, column: str) -> np.ndarray:
        """(N,) means over the members of each data set at a moment of the base arm."""
        of = _of_arm(frame, self.base)
        return _means(of[of["moment"] == moment], column)


def delays(ends: pd.DataFrame, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(delay, whether it is known) of members, from their steps ``fit`` and ``generalised``.

    The delay is generalised / fit (at least 1). A member that did not generalise by the last of the
    ``steps`` has a delay above steps / fit; of one that never fitted nothing is known: above 1.
    """
    fit, generalised = ends["fit"].to_numpy(float), ends["generalised"].to_numpy(float)
    seen = generalised >= 0
    until = np.where(seen, generalised, steps)
    ratio = np.maximum(until, 1.0) / np.maximum(fit, 1.0)
    return np.where(fit >= 0, np.maximum(ratio, 1.0), 1.0), seen


def _spread(steps: int, number: int) -> np.ndarray:
    """0, and whole numbers from 1 to ``steps`` at about equal ratios."""
    return np.unique([0, *np.rint(np.geomspace(1, steps, number)).astype(np.int64)])


def _with_row(rows: Columns, **values: Any) -> Columns:
    """The columns with one more row; of what has no value -1 (whole numbers) or NaN."""
    found = {}
    for name, column in rows.items():
        blank = -1 if column.dtype.kind in "iu" else math.nan
        extra = np.array([values.get(name, blank)], column.dtype)
        found[name] = np.concatenate([column, extra])
    return found


def _in_words(kernel: str) -> str:
    """A kernel as claims have it."""
    depth, _, bias = kernel.partition(":")
    return f"kernel of depth {depth}, sigma_b {bias}"


def _of_arm(frame: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    """Rows of an arm."""
    same = [frame[name] == value for name, value in zip(_ARM, arm, strict=True)]
    return frame[np.logical_and.reduce(same)]


def _means(part: pd.DataFrame, column: str) -> np.ndarray:
    """(N,) means of a column over the rows of each data set; blanks do not count."""
    return part.groupby("dataset")[column].mean().to_numpy(float)


def _finding(
    claim: str,
    effect: Estimate,
    source: str,
    expected: int,
    literature: str,
    slope: Estimate | None = None,
    along: str = "",
) -> Finding:
    return Finding(_NAME, claim, effect, source, expected, literature, slope, along)
