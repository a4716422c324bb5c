"""Rare outputs of one network: every estimator in one table, off from the best by so many nats."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.rare.given import Given, find_given
from simprior.analysis.rare.laws import LAWS, SIDES, BitLaw, GaussianLaw, Law
from simprior.analysis.rare.methods import METHODS, Effort, chosen
from simprior.analysis.rare.question import Question
from simprior.checks import (
    ARCHITECTURE,
    RUN_OPTIONS,
    Choice,
    File,
    Integer,
    Maybe,
    Numbers,
    Text,
    Whole,
    checked,
    shown,
    unknown,
)
from simprior.display import Shown, estimate
from simprior.errors import InputError
from simprior.gp.orthant import Columns, run_batches
from simprior.modules.spec import Module
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.runs.tasks import Progress, RunOptions, one_thread

TABLE = "rare.parquet"
_PILOT = 4096
_ODDS = 5.0  # standard errors between two methods that are both trusted
_TEXTS = ("event", "method", "kind", "note")


@dataclass(frozen=True, repr=False)
class RareOutputs(Shown):
    """What :func:`rare` found.

    ``table``: a row a threshold and method: threshold, event (``above``: z > threshold, ``below``:
    z <= threshold), method, kind (``exact``, ``unbiased``, ``approximation``), logp (nats) with
    stderr and 95 % limits low, high, log10, ess, evaluations (of the network), off (nats from the
    reference of the threshold) with off_stderr, reliable, and note (why not).
    """

    table: pd.DataFrame
    summary: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """How rare the output is, and which approximation is off by how much, in a sentence."""
        return str(self.summary["verdict"])

    def lines(self) -> list[str]:
        """What was asked; the verdict."""
        return [f"RareOutputs of {self.summary['network']} under {self.summary['law']}",
                self.verdict]  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table


@checked(
    **RUN_OPTIONS,
    network=Maybe(ARCHITECTURE),
    member=Maybe(Whole()),
    threshold=Numbers(),
    event=Choice(SIDES),
    samples=Integer(100, 10**10, "pass for example --samples 100000"),
    particles=Integer(10, 10**6, "pass for example --particles 500"),
    runs=Integer(2, 10**6, "pass for example --runs 16"),
    moves=Maybe(Integer(1, 10**6, "pass for example --moves 50")),
    data=Maybe(File()),
    label=Maybe(Text()),
)
def rare(
    given: Any,
    *,
    network: Network | Module | None = None,
    member: int | None = None,
    law: Any = "bits",
    threshold: float | Sequence[float] = 0.0,
    event: str = "rare",
    methods: Sequence[str] | str | None = None,
    samples: int = 100_000,
    particles: int = 500,
    runs: int = 16,
    moves: int | None = None,
    data: str | None = None,
    label: str | None = None,
    seed: int = 0,
    workers: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> RareOutputs:
    """The probability of a rare output of one given network over random inputs, by many methods.

    Parameters
    ----------
    given, network, member, data, label
        The network: a run of training and a ``member`` of it, networks from elsewhere and the
        ``network`` that says how to read them, or a random draw of a Network or Module
        (:func:`simprior.analysis.rare.given.find_given`).
    law : str or (m, d) array
        Of the inputs: ``bits`` (uniform), ``gaussian`` (standard normal), or ``data`` (Gaussian
        with the mean and covariance of the inputs of the network; or of those given).
    threshold : float or several
        Of the output z.
    event : str
        ``above`` (z > threshold), ``below`` (z <= threshold), or the ``rare`` one of the two, by
        4,096 draws. With threshold 0 these are the classes 1 and 0.
    methods : str or list of str
        Names in ``analysis.rare.methods.METHODS``; default: all that apply.
    samples, particles, runs, moves
        :class:`simprior.analysis.rare.methods.Effort`.
    seed, workers, out, resume, overwrite, executor, executor_options, progress
        As in :func:`simprior.sample`.

    Returns
    -------
    RareOutputs
        The reference of a threshold is the exact value where there is one, else the trusted
        unbiased estimate with the smallest standard error.

    Raises
    ------
    InputError, NumericalError, StoreError, Interrupted
        Among them: a method that does not apply, with the reason.
    """
    given_values, how = locals(), RunOptions.of(locals())
    effort = Effort(samples, particles, runs, moves)
    names = _names(methods)
    rng.check_seed(seed)
    thresholds = Numbers()("threshold", threshold)
    if len(set(thresholds)) < len(thresholds):
        what = f"threshold={shown(thresholds)}"
        raise InputError(what, "each threshold once", "leave the copies out")
    with one_thread():
        found = find_given(given, network, member, seed, data=data, label=label)
        inputs = law_of(law, found)
        table = Table(found, inputs, thresholds, event, names, effort, seed)
        table.check()
    if out is not None:
        found.network.check_storable()
    columns = run_batches(
        "rare",
        table.compute,
        table.pieces(),
        table.digest_of,
        how,
        config=_config(given_values, found, inputs, effort),
        join=table.join,
        table=TABLE,
        totals=partial(_summary, found, inputs),
    )
    frame = pd.DataFrame(columns)
    return RareOutputs(frame, _summary(found, inputs, columns))


def law_of(law: Any, given: Given) -> Law:
    """The law that a name, or data (m, d), means for a network. Raises :class:`InputError`."""
    if not isinstance(law, str):
        found = GaussianLaw.like(law)
        if len(found.mean) != given.d:
            what = f"a law like data of {len(found.mean)} columns"
            raise InputError(what, f"{given.d}, as the network reads", "pass inputs of the network")
        return found
    if law not in LAWS:
        raise unknown(f"law={law!r}", law, LAWS)
    if law == "bits":
        return BitLaw(given.d, given.network.encoding == "pm1")
    if law == "gaussian":
        return GaussianLaw.standard(given.d)
    return GaussianLaw.like(given.data)


def _names(methods: Any) -> tuple[str, ...] | None:
    if methods is None:
        return None
    names = tuple(methods.split(",")) if isinstance(methods, str) else tuple(methods)
    for name in names:
        if name not in METHODS:
            raise unknown(f"methods={shown(name)}", str(name), METHODS)
    if len(set(names)) < max(len(names), 1):
        what = f"methods={','.join(names)}"
        raise InputError(what, "each method once, at least one", "pass for example splitting,mhis")
    return names


def _config(given: Mapping[str, Any], found: Given, law: Law, effort: Effort) -> dict[str, Any]:
    names = _names(given["methods"])
    return {
        "network": found.network.to_dict() | {"inputs": None},
        "parameters": found.digest(),
        "from": found.name,
        "law": law.name,
        "law_digest": law.digest(),
        "threshold": list(Numbers()("threshold", given["threshold"])),
        "event": given["event"],
        "methods": None if names is None else list(names),
        "seed": given["seed"],
        **asdict(effort),
    }


@dataclass(frozen=True, eq=False)
class Table:
    """All questions and methods of one call; ``names`` are methods, None for all that apply."""

    given: Given
    law: Law
    thresholds: tuple[float, ...]
    event: str
    names: tuple[str, ...] | None
    effort: Effort
    seed: int

    def check(self) -> None:
        """Raise :class:`InputError` if a method does not apply."""
        chosen(self.question(self.thresholds[0], True), self.names)

    def question(self, threshold: float, above: bool) -> Question:
        """The question of a threshold."""
        return Question(self.given, self.law, threshold, above)

    def pieces(self) -> list[tuple[float, bool, str]]:
        """(threshold, above, method) of every row, in order."""
        methods = chosen(self.question(self.thresholds[0], True), self.names)
        with one_thread():
            above = dict(zip(self.thresholds, self._sides(), strict=True))
        return [(t, above[t], method) for t in self.thresholds for method in methods]

    def _sides(self) -> list[bool]:
        """Whether the event of each threshold is above it."""
        if self.event != "rare":
            return [self.event == "above"] * len(self.thresholds)
        states = self.law.draw(_PILOT, rng.generator(self.seed, "rare/side"))
        z = self.given.outputs(self.law.inputs(states))
        return [bool((z > t).mean() <= 0.5) for t in self.thresholds]

    def compute(self, piece: tuple[float, bool, str]) -> Columns:
        """The row of a threshold and method."""
        threshold, above, name = piece
        question = self.question(threshold, above)
        source = rng.generator(self.seed, f"rare/{name}/{threshold!r}/{above}")
        found = METHODS[name].estimate(question, self.effort, source)
        exact = name == "gaussian" and found.stderr == 0
        row: dict[str, Any] = {
            "threshold": threshold,
            "event": "above" if above else "below",
            "method": name,
            "kind": "exact" if exact else METHODS[name].kind,
            "logp": found.value,
            "stderr": found.stderr,
            "low": found.diagnostics["low"],
            "high": found.diagnostics["high"],
            "log10": found.log10,
            "ess": found.ess,
            "evaluations": question.evaluations,
            "reliable": found.diagnostics["reliable"],
            "note": found.diagnostics["note"],
        }
        return {k: np.array([v], object if k in _TEXTS else None) for k, v in row.items()}

    def digest_of(self, piece: tuple[float, bool, str]) -> str:
        """SHA-256 (hex) of everything that determines a row."""
        about = (self.given.digest(), self.law.digest(), piece, self.effort, self.seed)
        return hashlib.sha256(repr(about).encode()).hexdigest()

    def join(self, columns: Columns) -> Columns:
        """The whole table, with what each row is off from the reference of its threshold."""
        frame = pd.DataFrame(columns)
        frame["off"], frame["off_stderr"] = math.nan, math.nan
        for _, part in frame.groupby("threshold"):
            best = reference(part)
            if best is None or not math.isfinite(part.loc[best, "logp"]):
                continue
            error = np.hypot(part["stderr"].fillna(0.0), part.loc[best, "stderr"])
            frame.loc[part.index, "off"] = part["logp"] - part.loc[best, "logp"]
            frame.loc[part.index, "off_stderr"] = error
            if part.loc[best, "stderr"] > 0:
                frame.loc[best, "off_stderr"] = math.nan
        return {str(name): frame[name].to_numpy() for name in frame}


def reference(part: pd.DataFrame) -> Any:
    """The index of the row that the others of a threshold are held to; None if there is none."""
    sure = part[part["kind"] == "exact"]
    if len(sure):
        return sure.index[0]
    usable = part[(part["kind"] == "unbiased") & part["reliable"] & part["stderr"].notna()]
    return usable["stderr"].idxmin() if len(usable) else None


def _summary(given: Given, law: Law, columns: Columns) -> dict[str, Any]:
    frame = pd.DataFrame(columns)
    parts = [part for _, part in frame.groupby("threshold", sort=False)]
    return {
        "network": given.name,
        "law": law.name,
        "evaluations": int(frame["evaluations"].sum()),
        "notes": [note for part in parts for note in _at_odds(part)],
        "unreliable": int((~frame["reliable"].astype(bool)).sum()),
        "verdict": " ".join(map(_sentence, parts)),
    }


def _at_odds(part: pd.DataFrame) -> list[str]:
    """Which trusted estimates of a threshold differ by more than ``_ODDS`` standard errors."""
    trusted = part[(part["kind"] != "approximation") & part["reliable"] & (part["stderr"] >= 0)]
    trusted = trusted[np.isfinite(trusted["logp"])]
    return [
        f"threshold {a.threshold:g}: {a.method} and {b.method} differ by {a.logp - b.logp:+.3g}"
        for a, b in combinations(trusted.itertuples(), 2)
        if abs(a.logp - b.logp) > _ODDS * math.hypot(a.stderr, b.stderr)
    ]


def _sentence(part: pd.DataFrame) -> str:
    """What was found at one threshold."""
    first = part.iloc[0]
    sign = ">" if first["event"] == "above" else "<="
    event = f"P(z {sign} {first['threshold']:g})"
    best = reference(part)
    if best is None:
        limits = part.loc[part["method"] == "sampling", "high"]
        known = f"; ln P < {limits.min():.4g} (sampling, 97.5 %)" if len(limits) else ""
        return f"{event}: no method has an estimate to be trusted{known}."
    row = part.loc[best]
    if row["logp"] == -math.inf:
        return f"{event}: no input gives it (exact)."
    said = f"ln {event} = {estimate(row['logp'], stderr=row['stderr'])} ({row['method']})"
    others = part[(part["kind"] == "approximation") & part["off"].notna()]
    off = ", ".join(f"{r.method} {r.off:+.2g}" for r in others.itertuples())
    return f"{said}; approximations off by (nats): {off}." if off else f"{said}."
