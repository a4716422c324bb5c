"""A stage ``[logp]`` of kind ``multiplier``: what a multiplied kernel hides.

The literature takes ln P of a training set's labels from EP with a probit link, whose unit noise no
network has. Multiplying the kernel by a large number makes that noise small beside it. Each piece
is a random training set of real data: the exact ln P of its labels, EP with the step that a network
ends in, and EP with the probit link for each multiplier. See ``examples/multiplier.toml``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.study.sections import AsComputed, check_once
from simprior.boolean.truthtable import input_matrix, pack, to_hex
from simprior.checks import Number, Whole
from simprior.errors import InputError
from simprior.gp.kernels import nngp
from simprior.gp.orthant import Columns, log_prior
from simprior.network.spec import Network
from simprior.numerics.estimate import sample_sd
from simprior.training.data import load_dataset

_ENOUGH = "write subsets = 8"


@dataclass(frozen=True)
class TrainingSet:
    """Training set number ``subset`` of ``m`` examples."""

    m: int
    subset: int


@dataclass(frozen=True)
class MultiplierStudy(AsComputed):
    """One prior, training sets of several sizes, and the multipliers: a stage of this kind.

    ``data`` and ``classes`` as in :func:`simprior.training.data.load_dataset`; of each size in
    ``train`` there are as many training sets as the entry of ``subsets`` says, drawn by ``seed``,
    ``seed`` + 1, ... The network is fully connected with ``depth`` hidden layers. ``tol`` is the
    standard error wanted of the exact value, in nats.
    """

    data: str = "digits"
    classes: str = "0-4:5-9"
    train: tuple[int, ...] = (122, 407)
    subsets: tuple[int, ...] = (16, 8)
    depth: int = 2
    activation: str = "relu"
    sigma_w: float = math.sqrt(2.0)
    sigma_b: float = 0.0
    multipliers: tuple[float, ...] = (1.0, 10.0, 1e2, 1e3, 1e4, 1e5)
    tol: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.subsets) != len(self.train):
            each = f"one for each of the {len(self.train)} sizes in train"
            raise InputError(f"subsets of {len(self.subsets)} entries", each, "correct the file")
        for count in self.subsets:
            Whole(2, remedy=_ENOUGH)("subsets", count)
        for value in self.multipliers:
            Number(0, open=True, remedy="write multipliers = [1, 1e4]")("multipliers", value)
        Number(0, open=True, remedy="write tol = 0.2")("tol", self.tol)
        Whole(1, remedy="write depth = 2")("depth", self.depth)
        for key in ("train", "multipliers"):
            check_once(self, key)
        self.problem(TrainingSet(max(self.train), 0))  # bad data are refused before the work

    def pieces(self) -> list[TrainingSet]:
        """What is computed one by one."""
        sizes = zip(self.train, self.subsets, strict=True)
        return [TrainingSet(m, subset) for m, count in sizes for subset in range(count)]

    def problem(self, piece: TrainingSet) -> tuple[Network, np.ndarray]:
        """The network on the inputs of a training set, and its (m,) labels."""
        found = load_dataset(
            self.data, classes=self.classes, train=piece.m, seed=self.seed + piece.subset
        )
        network = Network(
            inputs=found.X_train,
            hidden=(1,) * self.depth,
            activation=self.activation,
            sigma_w=self.sigma_w,
            sigma_b=self.sigma_b,
        )
        return network, found.y_train

    def compute(self, piece: TrainingSet) -> Columns:
        """Rows of one training set, one a multiplier.

        Columns: m, subset, function (the labels, hex), ones (labels that are 1), multiplier, exact
        (ln P of ``tilted``), exact_stderr (nats), pareto_k, reliable, ep (step), ep_converged,
        probit (EP with the probit link and the kernel times ``multiplier``), probit_converged,
        difference (probit minus exact, nats).
        """
        network, labels = self.problem(piece)
        K = nngp(network, input_matrix(network))
        exact = log_prior(labels, K, "tilted", n=0, seed=self.seed, tol=self.tol)[0]
        ep = log_prior(labels, K, "ep", n=0)[0]
        scaled = [log_prior(labels, K * c, "ep-probit", n=0)[0] for c in self.multipliers]
        alike: dict[str, Any] = {
            **asdict(piece),
            "function": to_hex(pack(labels[None]), piece.m)[0],
            "ones": int(labels.sum()),
            "exact": exact.value,
            "exact_stderr": exact.stderr,
            "pareto_k": float(exact.diagnostics.get("pareto_k", math.nan)),
            "reliable": bool(exact.diagnostics["reliable"]),
            "ep": ep.value,
            "ep_converged": bool(ep.diagnostics["converged"]),
        }
        probit = np.array([result.value for result in scaled])
        columns = {
            name: np.full(len(probit), value, object if isinstance(value, str) else None)
            for name, value in alike.items()
        }
        return columns | {
            "multiplier": np.array(self.multipliers),
            "probit": probit,
            "probit_converged": np.array([bool(r.diagnostics["converged"]) for r in scaled]),
            "difference": probit - exact.value,
        }


def multiplier_overview(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over the training sets of each size, by multiplier, in nats with standard errors.

    Columns m, multiplier, subsets (those whose exact value is reliable and whose EP converged; the
    others are left out and counted in ``left_out``), exact, exact_stderr (over training sets, with
    the error of each estimate), ep_difference and its stderr (EP with the step minus exact, over
    the same sets), probit, probit_stderr, difference and difference_stderr.
    """
    checks = ("reliable", "ep_converged", "probit_converged")
    good = np.logical_and.reduce([frame[name].astype(bool) for name in checks])
    frame = frame.assign(good=good, ep_difference=frame["ep"] - frame["exact"])
    rows = []
    for (m, multiplier), part in frame.groupby(["m", "multiplier"]):
        kept = part[part["good"]]
        row = {"m": m, "multiplier": multiplier, "subsets": len(kept)}
        row["left_out"] = len(part) - len(kept)
        for name in ("exact", "ep_difference", "probit", "difference"):
            row[name], row[f"{name}_stderr"] = _mean(kept[name].to_numpy(float))
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error; nan where there are too few values to tell."""
    if len(values) < 2:
        return (float(values.mean()) if len(values) else math.nan), math.nan
    return float(values.mean()), float(sample_sd(values)) / math.sqrt(len(values))
