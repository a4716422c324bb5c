"""What a training run leaves: one row a member, function counts of those that fitted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.complexity import differences, lz76_packed, ones_packed
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.rows import inputs_of, key_columns, words_from_columns, write_rows
from simprior.boolean.truthtable import from_hex, to_hex, unpack
from simprior.display import Shown, estimate
from simprior.errors import StoreError
from simprior.numerics.estimate import clopper_pearson, mean_stderr, sample_sd
from simprior.runs.directory import RunDir, RunInfo, load_run, write_table
from simprior.runs.files import whole_in
from simprior.runs.reading import damaged, verification

if TYPE_CHECKING:
    import pandas as pd

RUNS, COUNTS, TRAJECTORIES = "runs.parquet", "counts.parquet", "trajectories.parquet"
Complement = Callable[["TrainResult", RunDir], None]


@dataclass(frozen=True)
class ProblemRecord:
    """What is on record of every problem, by the names of ``targets.Problem.describe``.

    ``target`` is the truth table of the true labels as hex, ``labels`` a text of 0 and 1, ``n`` the
    number of bits of an input (0: real data), ``m`` the number of inputs.
    """

    name: str
    n: int
    m: int
    text: str
    target: str
    seed: int
    corrupt: float
    train_index: list[int]
    attack_index: list[int]
    labels: str
    majority_error: float

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ProblemRecord:
        """From a description, which may have settings of the data as well."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def fitted_index(self) -> list[int]:
        """The inputs trained on: training set and attack set."""
        return [*self.train_index, *self.attack_index]

    @property
    def table(self) -> np.ndarray:
        """(m,) uint8 true labels."""
        return np.asarray(unpack(from_hex(self.target, self.m), self.m)[0])

    @property
    def test_mask(self) -> np.ndarray:
        """(m,) bool: the inputs that are neither in the training set nor in the attack set."""
        mask = np.ones(self.m, bool)
        mask[self.fitted_index] = False
        return mask

    def test_errors(self, words: np.ndarray) -> np.ndarray:
        """(F,) share of the held-out inputs on which packed functions differ from the target."""
        mask = self.test_mask
        if not mask.any():
            return np.full(len(words), math.nan)
        return differences(words, self.table, mask) / mask.sum()


@dataclass(frozen=True, eq=False, repr=False)
class TrainResult(Shown):
    """Members of an ensemble after training; row i is member i.

    ``result["x1"]`` is the row of a function among the members that fitted, with its interval;
    ``len`` is the number of members, and iteration goes over their :attr:`records`.

    ``words`` (R, W) packed functions; ``steps`` (R,) done; ``first_fit`` (R,) step of the first
    check with zero training error, or -1; ``errors`` (R,) examples wrong at the end and ``loss``
    (R,) mean loss then, both over everything to be fitted; ``problem`` as
    ``targets.Problem.describe`` gives it, and :attr:`trained_on` with types; ``config`` of the run.
    ``trajectory`` has the columns run, step, words, errors, loss. ``robust_errors`` (R,), of runs
    whose inputs are attacked (:mod:`simprior.training.box`): held-out inputs in whose boxes an
    error was found; ``errors``, ``loss`` and ``fitted`` are of attacked inputs then.
    """

    words: np.ndarray
    steps: np.ndarray
    first_fit: np.ndarray
    errors: np.ndarray
    loss: np.ndarray
    problem: dict[str, Any]
    config: dict[str, Any]
    trajectory: dict[str, np.ndarray] = field(default_factory=dict)
    robust_errors: np.ndarray | None = None

    def __len__(self) -> int:
        return self.runs

    def __iter__(self) -> Iterator[Any]:
        """Rows of :attr:`records` as named tuples."""
        return iter(self.records.itertuples(index=False, name="Member"))

    def __getitem__(self, function: Any) -> Any:
        """The row of a function (:meth:`FunctionCounts.__getitem__`) with its test error."""
        row = self.counts[function]
        row["test_error"] = float(self._errors_of([row["function"]])[0])
        return row

    @cached_property
    def trained_on(self) -> ProblemRecord:
        """The problem."""
        return ProblemRecord.of(self.problem)

    def _errors_of(self, functions: list[str]) -> np.ndarray:
        return self.trained_on.test_errors(from_hex(functions, self.m))

    def to_frame(self, top: int | None = 20) -> pd.DataFrame:
        """:meth:`function_table`: the functions found, with intervals and test errors."""
        return self.function_table(top)

    def lines(self) -> list[str]:
        """What was trained, how much of it fitted with what error, the commonest functions."""
        totals = self.summary()
        on, optimiser = self.trained_on, self.config["optimizer"]
        said = [
            f"TrainResult: {self.runs:,} members by {optimiser} on target {on.text}, "
            f"{len(on.train_index):,} training inputs (m={self.m})",
            f"fitted: {totals['fitted']:,}, share "
            + estimate(totals["fitted_share"], totals["fitted_low"], totals["fitted_high"]),
        ]
        if not totals["fitted"]:
            return said
        error = estimate(totals["test_error"], stderr=totals["test_error_stderr"])
        said[1] += f"; test error {error}"
        if self.robust_error is not None:
            share = estimate(totals["robust_error"], stderr=totals["robust_error_stderr"])
            said[1] += f", in boxes of radius {self.config['robust']:g} at least {share}"
        return [*said, self.counts.lines()[1]]

    @property
    def runs(self) -> int:
        """Number of members trained."""
        return len(self.steps)

    @property
    def fitted(self) -> np.ndarray:
        """(R,) bool: zero training error at the end."""
        return np.asarray(self.errors == 0)

    @property
    def m(self) -> int:
        """Number of inputs of a function."""
        return self.trained_on.m

    @property
    def size(self) -> int:
        """Number of examples to fit."""
        return len(self.trained_on.labels)

    @cached_property
    def counts(self) -> FunctionCounts:
        """Functions found by the members that fitted, as independent samples of P_opt(f|S)."""
        words = self.words[self.fitted]
        ones, n = np.ones(len(words), np.int64), self.trained_on.n
        counts = FunctionCounts.from_counts(words, ones, m=self.m, n=n)
        counts.info["config"] = self.config
        return counts

    @cached_property
    def test_error(self) -> np.ndarray:
        """(R,) share of the inputs outside S and the attack set that are wrong."""
        return self.trained_on.test_errors(self.words)

    @cached_property
    def robust_error(self) -> np.ndarray | None:
        """(R,) share of the held-out inputs in whose boxes an error was found, at least; None if
        inputs were not attacked."""
        if self.robust_errors is None:
            return None
        return self.robust_errors / max(int(self.trained_on.test_mask.sum()), 1)

    @property
    def records(self) -> pd.DataFrame:
        """A row a member: run, fitted, first_fit, steps, epochs, loss, train_error, test_error,
        function (hex); robust_error where inputs were attacked."""
        import pandas as pd

        attacked = {} if self.robust_error is None else {"robust_error": self.robust_error}
        return pd.DataFrame(
            {
                "run": np.arange(self.runs),
                "fitted": self.fitted,
                "first_fit": self.first_fit,
                "steps": self.steps,
                "epochs": self.steps / self._epoch_steps,
                "loss": self.loss,
                "train_error": self.errors / self.size,
                "test_error": self.test_error,
                **attacked,
                "function": to_hex(self.words, self.m),
            }
        )

    @property
    def trajectories(self) -> pd.DataFrame:
        """A row a recorded step of a member: run, step, function, train_error, loss, test_error,
        lz76, ones. A table keyed by ``function``, so that ln P(f) can be joined."""
        import pandas as pd

        if not self.trajectory:
            return pd.DataFrame(columns=["run", "step", "function", "train_error", "loss"])
        words = self.trajectory["words"]
        return pd.DataFrame(
            {
                "run": self.trajectory["run"],
                "step": self.trajectory["step"],
                "function": to_hex(words, self.m),
                "train_error": self.trajectory["errors"] / self.size,
                "loss": self.trajectory["loss"],
                "test_error": self.trained_on.test_errors(words),
                "lz76": lz76_packed(words, self.m),
                "ones": ones_packed(words, self.m),
            }
        )

    def function_table(self, top: int | None = 20) -> pd.DataFrame:
        """The ``top`` commonest functions of the fitted members, with intervals and test errors.

        It has no columns if no member fitted.
        """
        import pandas as pd

        if not self.fitted.any():
            return pd.DataFrame()
        part = self.counts if top is None else self.counts.head(top)
        frame = part.to_frame(top=None)
        frame.insert(3, "test_error", self.trained_on.test_errors(part.words))
        return frame

    @property
    def _epoch_steps(self) -> int:
        if self.config["optimizer"] == "guess-and-check":
            return 1
        full = self.config["optimizer"] == "gd"
        return 1 if full else -(-self.size // min(self.config["batch_size"], self.size))

    def summary(self) -> dict[str, Any]:
        """Totals: runs, share fitted (95 % interval), steps to the first fit, test error."""
        good = self.fitted
        low, high = clopper_pearson(np.array([good.sum()]), self.runs)
        out: dict[str, Any] = {
            "runs": self.runs,
            "fitted": int(good.sum()),
            "not_fitted": int((~good).sum()),
            "fitted_share": float(good.mean()),
            "fitted_low": float(low[0]),
            "fitted_high": float(high[0]),
            "train": len(self.trained_on.train_index),
            "attack": len(self.trained_on.attack_index),
            "majority_error": self.trained_on.majority_error,
        }
        if not good.any():
            return out
        error = self.test_error[good]
        spread = float(sample_sd(error)) if len(error) > 1 else math.nan
        first = self.first_fit[good]
        target = self.counts.find(self.trained_on.target)[0]
        return {
            **out,
            "steps_to_fit_median": float(np.median(first)),
            "steps_to_fit_mean": float(first.mean()),
            "loss_mean": float(self.loss[good].mean()),
            "test_error": float(error.mean()),
            "test_error_stderr": mean_stderr(error),
            "test_error_sd": spread,
            **self._robust_totals(),
            "functions": self.counts.functions,
            "target_found": 0 if target < 0 else int(self.counts.count[target]),
            "unseen_mass": self.counts.unseen.mass,
        }

    def _robust_totals(self) -> dict[str, float]:
        if self.robust_error is None:
            return {}
        error = self.robust_error[self.fitted]
        return {"robust_error": float(error.mean()), "robust_error_stderr": mean_stderr(error)}

    def save_to(self, store: RunDir, complement: Complement | None = None) -> None:
        """Write ``runs.parquet``, ``counts.parquet``, trajectories and what ``complement`` adds,
        and close the run."""
        columns = {
            "run": np.arange(self.runs),
            **key_columns(self.words),
            "fitted": self.fitted,
            "first_fit": self.first_fit,
            "steps": self.steps,
            "errors": self.errors,
            "loss": self.loss,
            "train_error": self.errors / self.size,
            "test_error": self.test_error,
        }
        if self.robust_errors is not None:
            columns["robust_errors"] = self.robust_errors
            columns["robust_error"] = self.robust_error
        write_table(store.path / RUNS, arrow_table(columns))
        store.add_file(RUNS, rows=self.runs)
        counts = self.counts
        write_rows(store.path / COUNTS, counts.rows)
        store.add_file(COUNTS, rows=len(counts))
        if self.trajectory:
            frame = self.trajectories
            write_table(
                store.path / TRAJECTORIES, {k: frame[k].to_numpy(dtype_of(frame[k])) for k in frame}
            )
            store.add_file(TRAJECTORIES, rows=len(frame))
        if complement is not None:
            complement(self, store)
        store.finish(
            {
                **counts.run_totals(),
                "training": self.summary(),
                "target": self.trained_on.text,
                "train_index": sorted(self.trained_on.fitted_index),
            }
        )

    @classmethod
    def load(cls, path: Path | str, *, verify: bool = True) -> TrainResult:
        """A complete run directory of ``simprior train``; ``verify=False`` as in
        :meth:`FunctionCounts.load`. Raises :class:`StoreError`."""
        path = Path(path)
        with verification(verify), damaged(path):
            return cls._load(path)

    @classmethod
    def _load(cls, path: Path) -> TrainResult:
        run = load_run(path)
        if run.command != "train" or run.status != "complete":
            raise run.in_place_of("a complete run of 'simprior train'")
        problem, columns = run.config["problem"], run.read_table(RUNS)
        on = ProblemRecord.of(problem)
        _check_problem(path, on, run)
        trajectory = {}
        if TRAJECTORIES in run.files:
            found = run.read_table(TRAJECTORIES)
            trajectory = {
                "run": found["run"],
                "step": found["step"],
                "loss": found["loss"],
                "words": from_hex(found["function"].tolist(), on.m),
                "errors": np.rint(found["train_error"] * len(on.labels)).astype(np.int64),
            }
        words = words_from_columns(columns, on.m)
        if len(words) != run.config["runs"]:
            raise StoreError(
                f"{path / RUNS}: {len(words)} members in place of the {run.config['runs']} of the "
                "configuration; train again with --overwrite"
            )
        steps, first_fit, errors, loss = (
            columns[name] for name in ("steps", "first_fit", "errors", "loss")
        )
        attacked = columns.get("robust_errors")
        return cls(words, steps, first_fit, errors, loss, problem, run.config, trajectory, attacked)


def _check_problem(path: Path, on: ProblemRecord, run: RunInfo) -> None:
    """Raise :class:`StoreError` unless the sizes in the record of a problem fit together."""
    m, n, inside, examples = on.m, on.n, on.fitted_index, len(on.labels)
    good = whole_in(m, 1, 2**62) and whole_in(n, 0, 62) and (not n or m == inputs_of(run.config))
    if not (
        good
        and run.results["m"] == m
        and examples == len(inside)
        and all(whole_in(i, 0, m - 1) for i in inside)
    ):
        raise StoreError(
            f"{path}: m={m}, n={n}, {len(inside)} inputs trained on and {examples} labels in "
            "manifest.json do not fit together; train again with --overwrite"
        )


def dtype_of(column: Any) -> Any:
    """The dtype in which a column of a frame is written: its own, or object for texts."""
    return object if column.dtype.kind not in "iufb" else column.dtype


def arrow_table(columns: dict[str, Any]) -> Any:
    """A pyarrow table of numpy columns and packed functions."""
    import pyarrow as pa

    return pa.table({k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in columns.items()})
