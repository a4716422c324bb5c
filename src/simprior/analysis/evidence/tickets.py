"""Experiment ``tickets``: is it the mask of a sparse network that matters, or where it came from?

A mask keeps a share of the weights of a layer. It is drawn at random, or it keeps the largest
weights of a trained network (a lottery ticket, Frankle & Carbin 2019), or it is that one with its
places shuffled within each layer, which must be as good as a random one. Masked networks start at
the weights that the trained network started at, and are trained alike. Beside their errors stand
what their priors are: the complexity of the functions of random weights behind the same mask, and
ln P(C(S)) of random masks at infinite width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.paired import mean_of, slope_of
from simprior.analysis.study.sections import AsComputed, check_each
from simprior.boolean.complexity import lz76_packed
from simprior.boolean.truthtable import pack
from simprior.checks import Choice, Integer, Number, Whole
from simprior.errors import InputError
from simprior.network.parameters import flat_layers, flat_size, shapes_of
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.routes.evidence import log_evidence
from simprior.training.targets import Problem

if TYPE_CHECKING:
    from simprior.analysis.flatness.ensemble import Ensemble

RANDOM, MAGNITUDE, SHUFFLED = "random", "magnitude", "magnitude, shuffled"
KINDS = (RANDOM, MAGNITUDE, SHUFFLED)
ALL = 0
"""The layer that stands for all of them; others are counted from 1, the output layer last."""
FRANKLE, OWN = "Frankle & Carbin 2019", "docs/architecture-priors.md"
GUESS = "own conjecture"
_NAME = "random tickets"
Columns = dict[str, np.ndarray]


class Ticket(NamedTuple):
    """A way to mask: which layer, how much is kept, which weights."""

    layer: int
    density: float
    kind: str


@dataclass(frozen=True)
class Tickets(AsComputed):
    """Masked networks on ``datasets`` training sets of ``train`` of the 2^n inputs (+-1).

    ``density``: shares of the weights that a mask keeps, of each layer that is masked: of all
    together, and of each hidden layer alone; ``at`` is that of the findings. ``members`` networks a
    data set are trained for ``steps`` steps of Adam at rate ``lr`` on the whole training set.
    ``draws`` random weights behind each mask measure its prior. Weights that are kept are
    multiplied by 1 / sqrt(density).
    """

    n: int = 7
    target: str = "majority:3"
    train: int = 48
    width: int = 40
    depth: int = 2
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    density: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05)
    at: float = 0.2
    datasets: int = 16
    members: int = 4
    steps: int = 300
    lr: float = 0.01
    draws: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        Whole(2, 12, remedy)("n", self.n)
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        Integer(1, None, remedy)("depth", self.depth)
        check_each(self, Integer(1, None, remedy), "members", "steps", "draws")
        Number(0, open=True, remedy=remedy)("lr", self.lr)
        check_each(self, Number(0, 1, open=True, remedy=remedy), "density")
        if len(set(self.density)) < max(2, len(self.density)):
            what = f"density={list(self.density)}"
            raise InputError(what, "two or more below 1, each once", remedy)
        Choice([str(density) for density in self.density], remedy)("at", str(self.at))
        self.problem(0)

    @property
    def network(self) -> Network:
        """The network without a mask."""
        return Network(
            n=self.n,
            hidden=(self.width,) * self.depth,
            sigma_w=self.sigma_w,
            sigma_b=self.sigma_b,
            encoding="pm1",
        )

    def problem(self, dataset: int) -> Problem:
        """The problem of a data set."""
        seed = rng.seed_from(self.seed, "tickets/data", dataset)
        return Problem(self.network, self.target, train=self.train, seed=seed)

    def pieces(self) -> list[int]:
        """The data sets."""
        return list(range(self.datasets))

    @property
    def tickets(self) -> list[Ticket]:
        """All ways to mask."""
        return [
            Ticket(layer, density, kind)
            for layer in range(self.depth + 1)
            for density in self.density
            for kind in KINDS
        ]

    def compute(self, piece: int) -> Columns:
        """A row a ticket, and one without a mask (layer ``ALL``, density 1, kind "dense").

        Columns: dataset, layer, density, kind, error (outside S) and fitted, means over the
        members; lz (bits, mean over random weights behind the masks), log_evidence (nats, of S at
        infinite width; nan but for random masks and the dense network).
        """
        from simprior.runs.tasks import one_torch_thread

        problem = self.problem(piece)
        start, fresh = self._weights(piece)
        source = rng.generator(self.seed, "tickets/masks", piece)
        with one_torch_thread():
            trained = self._trained(problem, start, np.ones_like(start))
            masks = [np.ones_like(start)]
            masks += [self.mask(ticket, trained, source) for ticket in self.tickets]
            ends = np.concatenate(
                [trained] + [self._trained(problem, start * mask, mask > 0) for mask in masks[1:]]
            )
            rows = self._measured(problem, ends, masks, fresh)
        tickets = [Ticket(ALL, 1.0, "dense"), *self.tickets]
        evidence = [self._log_evidence(problem, ticket) for ticket in tickets]
        return {
            "dataset": np.full(len(tickets), piece),
            "layer": np.array([ticket.layer for ticket in tickets]),
            "density": np.array([ticket.density for ticket in tickets]),
            "kind": np.array([ticket.kind for ticket in tickets], object),
            **rows,
            "log_evidence": np.array(evidence),
        }

    def _weights(self, piece: int) -> tuple[np.ndarray, np.ndarray]:
        """(members, p) weights at the start, and (draws, members, p) others of the same law."""
        shapes = shapes_of(self.network)
        source = rng.generator(self.seed, "tickets/weights", piece)
        drawn = source.standard_normal((self.draws + 1, self.members, flat_size(shapes)))
        for one in drawn:
            for weights, biases in flat_layers(one, shapes):
                np.multiply(weights, self.sigma_w / math.sqrt(weights.shape[1]), out=weights)
                np.multiply(biases, self.sigma_b, out=biases)
        return drawn[0], drawn[1:]

    def mask(self, ticket: Ticket, trained: np.ndarray, source: np.random.Generator) -> np.ndarray:
        """(members, p) factors of the weights: 0, 1 / sqrt(density), and 1 where there is no mask.

        The share kept is exact in each layer, but that at least one weight is kept.
        """
        out, shapes = np.ones_like(trained), shapes_of(self.network)
        pairs = zip(flat_layers(out, shapes), flat_layers(trained, shapes), strict=True)
        for layer, ((factor, _), (w, _)) in enumerate(pairs, 1):
            if ticket.layer not in (ALL, layer):
                continue
            size = np.abs(w).reshape(len(w), -1)
            if ticket.kind != MAGNITUDE:
                size = source.random(size.shape)  # places shuffled, or drawn: the same law
            kept = max(1, round(ticket.density * size.shape[1]))
            order = np.argsort(-size, axis=1, kind="stable")[:, :kept]
            chosen = np.zeros_like(size)
            np.put_along_axis(chosen, order, math.sqrt(size.shape[1] / kept), axis=1)
            factor[...] = chosen.reshape(factor.shape)
        return out

    def _trained(self, problem: Problem, start: np.ndarray, free: np.ndarray) -> np.ndarray:
        """(members, p) weights after training those that are ``free``, from ``start``."""
        import torch

        ensemble = self._ensemble(problem, start)
        moved = torch.from_numpy(np.asarray(free, float))
        w = ensemble.parameters.clone()
        adam = torch.optim.Adam([w], lr=self.lr)
        for _ in range(self.steps):
            w.grad = ensemble.gradients(w) * moved
            adam.step()
        return np.asarray(w.numpy())

    def _ensemble(self, problem: Problem, weights: np.ndarray) -> Ensemble:
        from simprior.analysis.flatness.ensemble import Ensemble

        return Ensemble.of_given(weights, self.network, problem, "ce")

    def _measured(
        self, problem: Problem, ends: np.ndarray, masks: list[np.ndarray], fresh: np.ndarray
    ) -> Columns:
        """Columns error, fitted and lz, a value a mask."""
        tables = self._ensemble(problem, ends).classes(problem.inputs).numpy()
        wrong = tables != (problem.target > 0)
        outside = np.setdiff1d(np.arange(wrong.shape[1]), problem.fitted_index)
        shape = (len(masks), self.members)
        errors = wrong[:, outside].mean(axis=1).reshape(shape)
        fitted = (~wrong[:, problem.fitted_index]).all(axis=1).reshape(shape)
        complexity = []
        for mask in masks:
            drawn = (fresh * mask).reshape(-1, fresh.shape[2])
            words = pack(self._ensemble(problem, drawn).classes(problem.inputs).numpy())
            complexity.append(lz76_packed(words, wrong.shape[1]).mean())
        found = {"error": errors.mean(axis=1), "fitted": fitted.mean(axis=1)}
        return found | {"lz": np.array(complexity)}

    def _log_evidence(self, problem: Problem, ticket: Ticket) -> float:
        """ln P(C(S)) of infinitely wide networks with random masks, nats; else nan."""
        if ticket.kind not in (RANDOM, "dense"):
            return math.nan
        shares = [
            ticket.density if ticket.layer in (ALL, layer) else 1.0
            for layer in range(1, self.depth + 2)
        ]
        network = replace(problem.network, density=tuple(shares))
        masked = Problem(
            network, problem.target, train=problem.train_index.tolist(), seed=problem.seed
        )
        return log_evidence(masked, draws=1024).value

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Means over data sets with intervals: a row a ticket."""
        rows = []
        for key, part in frame.groupby(["layer", "density", "kind"], sort=True):
            row: dict[str, Any] = dict(zip(("layer", "density", "kind"), key, strict=True))
            for name in ("error", "lz", "log_evidence"):
                values = part[name].to_numpy(float)
                known = np.isfinite(values).all()
                found = mean_of(values) if known else None
                row[name] = found.value if found else math.nan
                row[f"{name}_low"] = found.low if found else math.nan
                row[f"{name}_high"] = found.high if found else math.nan
            rows.append(row | {"fitted": part["fitted"].mean()})
        return pd.DataFrame(rows)

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """Contrasts at the density ``at``; slopes along log2 of the density that is taken away."""
        densities = sorted(self.density, reverse=True)
        sparse = -np.log2(densities)

        def values(name: str, layer: int, kind: str) -> np.ndarray:
            """(N, K) over data sets and densities."""
            at = frame[(frame["layer"] == layer) & (frame["kind"] == kind)]
            table = at.pivot(index="dataset", columns="density", values=name)
            return np.asarray(table[densities], float)

        def dense(name: str) -> np.ndarray:
            at = frame[frame["kind"] == "dense"].sort_values("dataset")
            return np.asarray(at[name], float)[:, None]

        error = {kind: values("error", ALL, kind) for kind in KINDS}
        complexity = {kind: values("lz", ALL, kind) for kind in (RANDOM, MAGNITUDE)}
        rows = [
            ("error: random - magnitude masks, all layers",
             error[RANDOM] - error[MAGNITUDE], "optimiser", 1, FRANKLE),
            ("LZ complexity of the prior (bits): magnitude - random masks, all layers",
             complexity[MAGNITUDE] - complexity[RANDOM], "optimiser", -1, GUESS),
            ("error: random masks of layer 1 - dense",
             values("error", 1, RANDOM) - dense("error"), "prior", -1, OWN),
            ("ln P(C(S)) (nats): random masks of layer 1 - dense",
             values("log_evidence", 1, RANDOM) - dense("log_evidence"), "prior", 1, OWN),
            ("LZ complexity of the prior (bits): random masks of layer 1 - dense",
             values("lz", 1, RANDOM) - dense("lz"), "prior", -1, OWN),
        ]  # fmt: skip
        if self.depth > 1:
            claim = "error: random masks of layer 1 - of layer 2"
            gap = values("error", 1, RANDOM) - values("error", 2, RANDOM)
            rows.append((claim, gap, "prior", -1, OWN))
        rows.append(
            ("error: magnitude masks shuffled within layers - random masks, all layers",
             error[SHUFFLED] - error[RANDOM], "control", 0, "exact")
        )  # fmt: skip
        place, at = densities.index(self.at), f"density {self.at:g}"
        return [
            Finding(_NAME, f"{claim}, {at}", mean_of(table[:, place]), source, sign, literature,
                    slope_of(sparse, table), "-log2 density")
            for claim, table, source, sign, literature in rows
        ]  # fmt: skip
