"""Experiment ``robust``: are robust functions more complex, and what do they cost?

Training strings are the codewords of a Hamming code, with labels of coin flips. The balls of one
flip around them tile all strings, so that the function that is robust to one flip is unique. It is
compared with the labels of the codewords alone, and with the same labels at random places: by ln P
under the prior, by its sensitivity to flips, and by the width of networks that half of the time fit
it (Nakkiran 2019; Bubeck & Sellke 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.evidence.findings import Finding
from simprior.analysis.evidence.half_fit import half_fit, log2_sizes
from simprior.analysis.evidence.paired import mean_of, slope_of
from simprior.analysis.study.sections import AsComputed, check_each, check_once
from simprior.boolean.balls import hamming_code
from simprior.boolean.sensitivity import average_sensitivity, sensitivity_packed
from simprior.checks import Integer, Number, Whole
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.routes.evidence import evidence_of
from simprior.routes.posterior import posterior
from simprior.routes.robust import Event, on_strings, robust_events
from simprior.training.targets import problem_on
from simprior.training.train import train

Columns = dict[str, np.ndarray]
PARTS = ("strings", "balls", "places")
TRAINED, DRAWN = "trained on strings", "posterior draws"
NAKKIRAN, BUBECK, OWN = "Nakkiran 2019", "Bubeck & Sellke 2021", "own prototype"
_NAME = "robustness"


@dataclass(frozen=True)
class Robust(AsComputed):
    """Balls of one flip around the codewords of the Hamming code of length ``n`` (3 or 7).

    ``depth`` are hidden layers, the first that of the findings and of trained networks; ``width``
    those among which half of the networks begin to fit, ``wide`` that of networks whose functions
    are looked at; ``members`` networks are trained a width and set. ``draws`` are those of each
    ln P, and of the posterior. ``optimizer``, ``lr`` and ``max_epochs`` train.
    """

    n: int = 7
    depth: tuple[int, ...] = (2, 1, 4, 8)
    width: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20)
    wide: int = 40
    members: int = 16
    datasets: int = 24
    draws: int = 1000
    sigma_w: float = 1.0
    sigma_b: float = 1.0
    optimizer: str = "adam"
    lr: float = 0.01
    max_epochs: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        remedy = "correct the file"
        if self.n not in (3, 7):
            raise InputError(f"n={self.n}", "3 or 7, whose Hamming codes tile all strings", remedy)
        Whole(2, 10**6, remedy)("datasets", self.datasets)
        Whole(256, 10**7, remedy)("draws", self.draws)
        check_each(self, Whole(1, 10**6, remedy), "wide", "members", "max_epochs")
        check_each(self, Number(0, remedy=remedy), "sigma_w", "sigma_b")
        Number(0, open=True, remedy=remedy)("lr", self.lr)
        check_once(self, "depth", "width")
        check_each(self, Integer(1, 10**4, remedy), "depth", "width")
        if len(self.width) < 2 or list(self.width) != sorted(self.width):
            raise InputError(f"width={list(self.width)}", "increasing widths", remedy)

    def pieces(self) -> list[int]:
        """Numbers of the data sets: each is computed by itself."""
        return list(range(self.datasets))

    def compute(self, piece: int) -> Columns:
        """Rows of one data set: dataset, measure, part, depth, width, value, stderr.

        ``logp``: ln P of a part at a depth, in nats, at infinite width (width 0); there are two
        random places, ``places`` and ``places again``. ``fitted``: share of the networks of a
        width that fit a part. ``sensitivity``: mean number of flips that change the output, of the
        robust function, of the one at random places, and of functions that fit the strings alone.
        """
        events = self.events(piece)
        rows = [*self._logp(events, piece), *self._sensitivity(events, piece)]
        rows += self._fitted(events, piece)
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        columns |= {name: columns[name].astype(object) for name in ("measure", "part")}
        return {"dataset": np.full(len(rows), piece), **columns}

    def events(self, dataset: int) -> list[Event]:
        """Strings, balls, and two random places of a data set. Its labels are coin flips."""
        strings = hamming_code(self.n)
        labels = rng.generator(self.seed, "robust/labels", dataset).integers(2, size=len(strings))
        seed = self._seed("places", dataset)
        return robust_events(strings, labels.astype(np.uint8), self.n, places=2, seed=seed)

    def _seed(self, name: str, dataset: int) -> int:
        return rng.seed_from(self.seed, f"robust/{name}", dataset)

    def _network(self, depth: int, width: int) -> Network:
        hidden = (width,) * depth
        return Network(n=self.n, hidden=hidden, sigma_w=self.sigma_w, sigma_b=self.sigma_b)

    def _logp(self, events: list[Event], dataset: int) -> list[dict[str, Any]]:
        rows = []
        for depth in self.depth:
            network = self._network(depth, 1)
            for part, event in zip((*PARTS, "places again"), events, strict=True):
                on_them = on_strings(network, event.index)
                seed = self._seed("logp", dataset)
                found = evidence_of(on_them, event.labels, seed=seed, draws=self.draws)
                rows.append(_row("logp", part, depth, 0, found.value, found.stderr))
        return rows

    def _trained(self, event: Event, width: int, dataset: int) -> Any:
        """The networks of a width, of the first depth, trained on an event."""
        problem = problem_on(self._network(self.depth[0], width), event.index, event.labels)
        return train(
            problem,
            runs=self.members,
            optimizer=self.optimizer,
            lr=self.lr,
            max_epochs=self.max_epochs,
            seed=self._seed("train", dataset),
        )

    def _fitted(self, events: list[Event], dataset: int) -> list[dict[str, Any]]:
        return [
            _row("fitted", event.part, self.depth[0], width, float(found.fitted.mean()))
            for width in self.width
            for event in events[: len(PARTS)]
            for found in [self._trained(event, width, dataset)]
        ]

    def _sensitivity(self, events: list[Event], dataset: int) -> list[dict[str, Any]]:
        depth, m, rows = self.depth[0], 1 << self.n, []
        for event in events[1 : len(PARTS)]:
            table = np.zeros(m, np.uint8)
            table[event.index] = event.labels
            value = float(average_sensitivity(table[None])[0])
            rows.append(_row("sensitivity", event.part, depth, 0, value))
        strings = events[0]
        trained = self._trained(strings, self.wide, dataset)
        problem = problem_on(self._network(depth, self.wide), strings.index, strings.labels)
        drawn = posterior(problem, samples=self.draws, seed=self._seed("posterior", dataset))
        for part, words, count, width in (
            (TRAINED, trained.words[trained.fitted], None, self.wide),
            (DRAWN, drawn.words, drawn.count, 0),
        ):
            each = sensitivity_packed(words, m)["average_sensitivity"]
            value = float(np.average(each, weights=count)) if len(each) else np.nan
            rows.append(_row("sensitivity", part, depth, width, value))
        return rows

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row a measure and part: mean over data sets, or half-fit width, with its interval.

        ``above``: data sets whose part no width of the range fits half of the time; ``below``:
        those of which the least width does.
        """
        rows = []
        kept = frame[frame["measure"] != "fitted"]
        for key, part in kept.groupby(["measure", "part", "depth"], sort=False):
            found = mean_of(part["value"].to_numpy(float))
            row = dict(zip(("measure", "part", "depth"), key, strict=True))
            rows.append({**row, "value": found.value, "low": found.low, "high": found.high})
        for name in PARTS:
            half = half_fit(np.array(self.width), self._shares(frame, name), seed=self.seed)
            row = {"measure": "half-fit width", "part": name, "depth": self.depth[0]}
            row |= {"value": half.value, "low": half.low, "high": half.high}
            rows.append({**row, "below": half.below, "above": half.above})
        return pd.DataFrame(rows)

    def _shares(self, frame: pd.DataFrame, part: str) -> np.ndarray:
        """(N, K) share of the networks that fit ``part``, by data set and width."""
        at = frame[(frame["measure"] == "fitted") & (frame["part"] == part)]
        table = at.pivot(index="dataset", columns="width", values="value")
        return np.asarray(table[list(self.width)])

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """Costs in ln P, sensitivities and half-fit widths, and random places as the control."""
        return [*self._costs(frame), *self._complexity(frame), *self._widths(frame)]

    def _costs(self, frame: pd.DataFrame) -> list[Finding]:
        at = frame[frame["measure"] == "logp"]
        depths = list(self.depth)

        def logp(part: str) -> np.ndarray:
            """(N, depths) ln P of a part."""
            one = at[at["part"] == part]
            table = one.pivot(index="dataset", columns="depth", values="value")
            return np.asarray(table[depths])

        found = []
        for claim, values, source, sign, literature in (
            ("labels alone - robust", logp("strings") - logp("balls"), "prior", 1, NAKKIRAN),
            ("robust - random places", logp("balls") - logp("places"), "prior", 1, OWN),
            (
                "random places - others",
                logp("places") - logp("places again"),
                "control",
                0,
                "exact",
            ),
        ):
            slope = slope_of(np.log2(depths), values) if len(depths) > 1 else None
            text = f"ln P (nats): {claim}, depth {depths[0]}"
            effect = mean_of(values[:, 0])
            found.append(
                Finding(_NAME, text, effect, source, sign, literature, slope, "log2 depth")
            )
        return found

    def _complexity(self, frame: pd.DataFrame) -> list[Finding]:
        at = frame[frame["measure"] == "sensitivity"]
        table = at.pivot(index="dataset", columns="part", values="value")
        found = []
        for other, source in ((DRAWN, "posterior"), (TRAINED, "posterior")):
            values = (table["balls"] - table[other]).dropna().to_numpy()
            missing = len(table) - len(values)
            text = f"sensitivity (flips): robust - {other}"
            text += f" ({missing} data sets that no network fitted left out)" if missing else ""
            if len(values) > 1:
                found.append(Finding(_NAME, text, mean_of(values), source, 1, NAKKIRAN))
        return found

    def _widths(self, frame: pd.DataFrame) -> list[Finding]:
        sizes = np.array(self.width)
        logs = {part: log2_sizes(sizes, self._shares(frame, part)) for part in PARTS}
        found = []
        for more, less, literature in (("balls", "strings", BUBECK), ("places", "balls", OWN)):
            outside = logs[more][1] + logs[less][1]
            text = f"log2 half-fit width: {more} - {less}"
            text += f" ({outside} of {2 * self.datasets} outside the widths)" if outside else ""
            effect = mean_of(logs[more][0] - logs[less][0])
            found.append(Finding(_NAME, text, effect, "prior", 1, literature))
        return found


def _row(
    measure: str, part: str, depth: int, width: int, value: float, stderr: float = 0.0
) -> dict[str, Any]:
    return {
        "measure": measure,
        "part": part,
        "depth": depth,
        "width": width,
        "value": value,
        "stderr": stderr,
    }
