"""The result of watch mode: P(f) of given functions and P(t), with errors by hidden draw."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.complexity import lz76_packed, ones_packed
from simprior.boolean.counts_check import inputs_of
from simprior.boolean.truthtable import from_hex, to_hex
from simprior.errors import StoreError
from simprior.estimate import LogProb
from simprior.network import Network
from simprior.store import load_run
from simprior.store_manifest import MANIFEST
from simprior.store_read import damaged, verification
from simprior.store_schema import whole_in

if TYPE_CHECKING:
    import pandas as pd


TRUSTED_DRAWS = 100
"""Effective hidden draws below which intervals are too short: of a narrow deep network, where P(f)
given the hidden layers has heavy tails, 95 % intervals covered 73, 80 and 88 % at 16, 64 and 200
hidden draws (``tests/boolean/test_watch.py``)."""


@dataclass(frozen=True)
class WatchResult:
    """Estimates for the watched functions.

    ``words`` (F, W) packed functions; ``members`` (F,) functions averaged over (class size when
    pooled, else 1); ``p`` and ``stderr`` (F,) the estimate of P(f) of one function and its standard
    error by hidden draw; ``ones_p`` and ``ones_stderr`` (m + 1,) those of P(t).
    """

    m: int
    words: np.ndarray
    members: np.ndarray
    p: np.ndarray
    stderr: np.ndarray
    ones_p: np.ndarray
    ones_stderr: np.ndarray
    samples: int
    draws: int
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def keep(self) -> float:
        """Share of functions kept by their hash: all of them."""
        return 1.0

    @property
    def variance_reduction(self) -> np.ndarray:
        """(F,) binomial variance of plain counting with as many samples over our variance."""
        plain = self.p * (1 - self.p) / self.samples
        known = (self.stderr > 0) & (plain > 0)
        return np.divide(plain, self.stderr**2, out=np.ones_like(plain), where=known)

    @property
    def effective_draws(self) -> np.ndarray:
        """(F,) hidden draws of equal weight, met or not at random, that would have this relative
        error: (p / stderr)^2, 0 where none was met."""
        return _effective(self.p, self.stderr)

    def intervals(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """(low, high): Student's t in ln P (delta method), and at least :meth:`_spikes`;
        [0, 3.7 / draws] where none was met."""
        z = self._factor(level)
        met = self.p > 0
        relative = np.divide(self.stderr, self.p, out=np.full_like(self.p, np.inf), where=met)
        low, high = self._spikes(self.p, self.stderr, level)
        with np.errstate(over="ignore", invalid="ignore"):
            low = np.minimum(low, self.p * np.exp(-z * relative))
            high = np.maximum(high, self.p * np.exp(z * relative))
        return np.where(met, low, 0.0), np.where(met, np.minimum(high, 1.0), self._unmet(level))

    @staticmethod
    def _spikes(p: np.ndarray, stderr: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) if P came from a few hidden draws with much of it each, as many as give this
        relative error: the exact Poisson interval (Garwood 1936) of their number. With few of them
        the spread that was seen says little of those that were not met.
        """
        from scipy.special import gammaincinv

        k = np.clip(_effective(p, stderr), 1e-3, 1e12)
        tail = (1 - level) / 2
        return p * gammaincinv(k, tail) / k, p * gammaincinv(k + 1, 1 - tail) / k

    def _factor(self, level: float) -> float:
        """Quantile of Student's t with a degree of freedom less than hidden draws."""
        from scipy.special import stdtrit

        return float(stdtrit(self.draws - 1, (1 + level) / 2)) if self.draws > 1 else math.inf

    def _unmet(self, level: float) -> float:
        """Upper limit of P of what no hidden draw gave: 3.7 / draws at 95 %."""
        return min(1.0, -math.log((1 - level) / 2) / self.draws)

    @classmethod
    def load(cls, path: Path | str, *, verify: bool = True) -> WatchResult:
        """Result of a complete watch run; ``verify=False`` as in :meth:`FunctionCounts.load`.

        Raises :class:`StoreError` if it is damaged or not complete.
        """
        run = load_run(path)
        with verification(verify), damaged(Path(path) / MANIFEST):
            m, totals, config = run.results["m"], run.results["watch"], run.config
            samples, draws = totals["samples"], totals["hidden_draws"]
            fits = whole_in(samples, 1, 2**62) and whole_in(draws, 1, samples)
            if run.status != "complete" or m != inputs_of(config) or not fits:
                raise StoreError(
                    f"{path}: expected a complete watch run, found one that is {run.status}, with "
                    f"m={m}, samples={samples}, hidden_draws={draws} in manifest.json; make it "
                    "again with --resume or --overwrite"
                )
            model = Network.from_dict(config["network"])
            watch, ones = run.read_table("watch.parquet"), run.read_table("ones.parquet")
            words = from_hex([str(f) for f in watch["function"]], m)
            return cls(
                m, words, watch["members"], watch["p"], watch["stderr"], ones["p"], ones["stderr"],
                samples, draws, info={"model": model, "config": config},
            )  # fmt: skip

    def log_probs(self) -> list[LogProb]:
        """ln P(f) in nats with standard errors (delta method)."""
        out = []
        for p, error in zip(self.p, self.stderr, strict=True):
            value = math.log(p) if p > 0 else -math.inf
            relative = error / p if p > 0 else math.inf
            ess = p * (1 - p) / error**2 if error > 0 else math.nan
            out.append(LogProb(value, relative, ess, "bias-integrated"))
        return out

    def to_frame(self, top: int | None = None, level: float = 0.95) -> pd.DataFrame:
        """Columns function, p, stderr, p_low, p_high, log10_p, variance_reduction, members, ..."""
        import pandas as pd

        low, high = self.intervals(level)
        with np.errstate(divide="ignore"):
            log10 = np.log10(self.p)
        frame = pd.DataFrame({
            "function": to_hex(self.words, self.m), "p": self.p, "stderr": self.stderr,
            "p_low": low, "p_high": high, "log10_p": log10,
            "variance_reduction": self.variance_reduction, "members": self.members,
            "ones": ones_packed(self.words, self.m), "lz76": lz76_packed(self.words, self.m),
        })  # fmt: skip
        return frame if top is None else frame.head(top)

    def ones_frame(self, level: float = 0.95) -> pd.DataFrame:
        """P(t) of the number of ones t: columns t, p, stderr, p_low, p_high."""
        import pandas as pd

        half = self._factor(level) * self.ones_stderr
        few_low, few_high = self._spikes(self.ones_p, self.ones_stderr, level)
        low = np.minimum(np.maximum(self.ones_p - half, 0.0), few_low)
        high = np.maximum(self.ones_p + half, few_high)
        high = np.where(self.ones_p > 0, high, self._unmet(level))
        return pd.DataFrame({
            "t": np.arange(self.m + 1), "p": self.ones_p, "stderr": self.ones_stderr,
            "p_low": low, "p_high": np.minimum(high, 1.0),
        })  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Totals of the run."""
        reduction = self.variance_reduction
        return {
            "samples": self.samples, "hidden_draws": self.draws, "functions": len(self.p),
            "median_variance_reduction": float(np.median(reduction)) if len(reduction) else 1.0,
        }  # fmt: skip


def _effective(p: np.ndarray, stderr: np.ndarray) -> np.ndarray:
    """(p / stderr)^2, 0 where p is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(p > 0, (p / stderr) ** 2, 0.0)
    return found
