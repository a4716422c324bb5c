"""Which examples are memorised: trained networks against the Bayesian posterior, in one table.

:func:`memorise` compares three values of every example: that of trained networks and of the
posterior over the same random subsets, and that of the posterior with the example left out of all
of S. It also says how well the first two could agree, given their noise, and what removing the most
memorised examples does to the error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.memorise.bayes import leave_one_out, memorised
from simprior.analysis.memorise.subsets import Subsets, bayes_on, gained, trained_on
from simprior.analysis.table_files import keep_table
from simprior.checks import (
    LEVEL,
    RUN_OPTIONS,
    Integer,
    Kind,
    Maybe,
    Number,
    Table,
    Whole,
    checked,
)
from simprior.display import Shown, estimate
from simprior.errors import InputError
from simprior.gp.orthant import Columns, run_batches
from simprior.network.losses import threshold
from simprior.numerics import random as rng
from simprior.numerics.estimate import sample_sd
from simprior.routes.evidence import kernel_of
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress, RunOptions, one_thread
from simprior.training.targets import Problem, problem_on
from simprior.training.train import check_settings

SUBSETS, TABLE = "subsets.parquet", "tables/memorised.parquet"
INFLUENCE, REMOVAL = "tables/influence.parquet", "tables/removal.parquet"
BOOTSTRAP = 2000
ORDERS = ("sgd", "bayes", "random")
RANDOM = 5
"""Random sets that are removed for comparison."""


@dataclass(frozen=True, repr=False)
class Memorised(Shown):
    """What :func:`memorise` found.

    ``examples``: a row an example of S; ``influence``: a row an example and other input;
    ``removal``: a row a share removed and order; ``summary``: correlations, ceilings, means.
    """

    examples: pd.DataFrame
    influence: pd.DataFrame
    removal: pd.DataFrame
    summary: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """How far trained networks memorise what the posterior does, in a sentence."""
        s = self.summary
        agree = estimate(s["pearson"], s["pearson_low"], s["pearson_high"])
        said = (
            f"Trained networks and the Bayesian posterior agree on what is memorised: r = {agree} "
            f"over {len(self.examples)} examples (ceiling {s['ceiling']:.2g}); "
            f"clean examples {s['sgd_clean']:.2g} and {s['bayes_clean']:.2g} on average"
        )
        if s["wrong"]:
            said += f", {s['wrong']} wrong labels {s['sgd_wrong']:.2g} and {s['bayes_wrong']:.2g}"
        return said + "."

    def lines(self) -> list[str]:
        """The verdict."""
        return ["Memorised examples", self.verdict]

    def to_frame(self) -> pd.DataFrame:
        """The table of examples."""
        return self.examples


@checked(
    **RUN_OPTIONS,
    problem=Kind(("Problem",)),
    subsets=Integer(4, 10**7, "pass for example --subsets 400"),
    share=LEVEL,
    members=Whole(1),
    removal_members=Whole(2),
    removal=Maybe(Kind(("tuple", "list"))),
    exact=Whole(0),
    training=Maybe(Table()),
)
def memorise(
    problem: Problem,
    *,
    subsets: int = 400,
    share: float = 0.7,
    members: int = 1,
    removal: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4),
    removal_members: int = 50,
    exact: int = 8,
    training: Mapping[str, Any] | None = None,
    seed: int = 0,
    workers: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Memorised:
    """How far every example of S is memorised, by trained networks and by the posterior.

    Parameters
    ----------
    problem : Problem
        S with its wrong labels; the posterior is that of the infinitely wide network.
    subsets, share, members : int, float, int
        Random subsets of S, the share of S in each, networks trained on each.
    removal, removal_members
        Shares of S to remove (none: empty), the most memorised first, or at random; networks
        trained on what is left.
    exact : int
        Examples, spread over what EP finds, whose leave-one-out value is estimated without EP.
    training : mapping
        Keywords of :func:`simprior.train`: optimizer, lr, options, loss, batch_size, stop,
        max_epochs, check, pretrain.
    seed, workers, out, resume, overwrite, executor, executor_options, progress
        As in :func:`simprior.sample`.

    Raises
    ------
    InputError, NumericalError, StoreError, Interrupted
        Among them: a kernel that is sampled, or a loss whose labels are not signs.
    """
    given, how = locals(), RunOptions.of(locals())
    setup = _setup(given)
    removed = _removals(removal)
    config = {
        **{name: given[name] for name in ("subsets", "share", "members", "seed", "exact")},
        "removal": list(removal),
        "removal_members": removal_members,
        "training": dict(training or {}),
        "problem": problem.describe(),
        "network": problem.network.to_dict(),
    }
    if out is not None:
        problem.network.check_storable()
    columns = run_batches(
        "memorise",
        setup.compute,
        setup.pieces(),
        partial(_digest, problem.digest(), share, members, seed, repr(config["training"])),
        how,
        config=config,
        amount=len,
        table=SUBSETS,
        totals=lambda columns: {},
    )
    with one_thread():
        found = _put_together(setup, columns, removed, removal_members, exact)
    if out is not None:
        _write(found, Path(out))
    return found


def _setup(given: Mapping[str, Any]) -> Subsets:
    problem, training = given["problem"], dict(given["training"] or {})
    k, size = problem.size, round(given["share"] * problem.size)
    if not 1 <= size < k:
        what = f"share={given['share']} of {k} examples"
        raise InputError(what, "at least one example inside and one outside", "pass share=0.7")
    if threshold(training.get("loss", "ce")) != 0:
        what = f"loss={training['loss']!r}"
        raise InputError(what, "labels that are signs of the output", "pass loss='mse'")
    order = np.concatenate([problem.fitted_index, problem.test_index])
    check_settings(
        {"problem": problem_on(problem.network, order[:size], problem.labels[:size]), **training}
    )
    kernel = kernel_of(problem.network, 1, ["ep"])
    if not isinstance(kernel, np.ndarray):
        what = f"the module {problem.network.make_name}, whose kernel is sampled"
        raise InputError(what, "a kernel in closed form", "pass a Network, or an mlp")
    return Subsets(
        problem,
        kernel[np.ix_(order, order)],
        given["subsets"],
        given["share"],
        given["members"],
        given["seed"],
        training,
    )


def _removals(shares: Any) -> tuple[float, ...]:
    check = Number(0, 1, open=True, remedy="pass for example removal=(0.1, 0.2)")
    return tuple(float(check("removal", share)) for share in shares or ())


def _digest(problem: str, *rest: Any) -> str:
    return hashlib.sha256(repr((problem, *rest)).encode()).hexdigest()


def _put_together(
    setup: Subsets, columns: Columns, removed: tuple[float, ...], members: int, exact: int
) -> Memorised:
    k, m = setup.problem.size, len(setup.labels)
    inside, sgd, bayes = (
        np.asarray(columns[name]).reshape(setup.count, m) for name in ("inside", "sgd", "bayes")
    )
    inside = inside[:, :k].astype(bool)
    examples = _examples(setup, inside, sgd, bayes, exact)
    effects = [gained(inside, right[:, k:]) for right in (sgd, bayes)]
    pairs = np.indices((k, m - k)).reshape(2, -1)
    influence = pd.DataFrame({"example": setup.order[pairs[0]], "input": setup.order[k + pairs[1]]})
    for name, (value, error) in zip(("sgd", "bayes"), effects, strict=True):
        influence[name], influence[f"{name}_stderr"] = value.ravel(), error.ravel()
    fitted = float(np.sum(columns["fitted"][::m])) / (setup.count * setup.members)
    summary = {"fitted": fitted, **_summary(setup, examples, inside, sgd[:, :k], bayes[:, :k])}
    return Memorised(examples, influence, _removal(setup, examples, removed, members), summary)


def _examples(
    setup: Subsets, inside: np.ndarray, sgd: np.ndarray, bayes: np.ndarray, exact: int
) -> pd.DataFrame:
    """A row an example: example (row of the inputs), label, wrong (the label is), sgd and
    subset_bayes with standard errors, bayes (left out of S, by EP), exact (without EP)."""
    problem, k = setup.problem, setup.problem.size
    K = setup.kernel[:k, :k]
    left_out = memorised(K, problem.labels)
    frame = pd.DataFrame({"example": problem.fitted_index, "label": problem.labels.astype(int)})
    frame["wrong"] = problem.labels != problem.target[problem.fitted_index]
    for name, right in (("sgd", sgd), ("subset_bayes", bayes)):
        values, errors = (a.diagonal() for a in gained(inside, right[:, :k]))
        frame[name], frame[f"{name}_stderr"] = values, errors
    frame["bayes"] = left_out
    frame["exact"], frame["exact_stderr"] = np.nan, np.nan
    places = np.unique(np.linspace(0, k - 1, min(exact, k)).round().astype(int))
    which = np.argsort(left_out, kind="stable")[places] if exact else np.zeros(0, int)
    if exact:
        values, errors = leave_one_out(K, problem.labels, which, seed=setup.seed)
        frame.loc[which, "exact"], frame.loc[which, "exact_stderr"] = values, errors
    return frame


def _summary(
    setup: Subsets, examples: pd.DataFrame, inside: np.ndarray, sgd: np.ndarray, bayes: np.ndarray
) -> dict[str, Any]:
    """Correlations with their noise ceiling, and means over clean and wrong labels."""
    wrong = examples["wrong"].to_numpy(bool)
    x, y = examples["sgd"].to_numpy(), examples["subset_bayes"].to_numpy()
    clean = ~wrong
    low, high = _interval(x, y, setup.seed)
    reliable = [_reliability(inside, right) for right in (sgd, bayes)]
    found: dict[str, Any] = {
        "pearson": pearson(x, y),
        "pearson_low": low,
        "pearson_high": high,
        "pearson_left_out": pearson(x, examples["bayes"].to_numpy()),
        "pearson_clean": pearson(x[clean], y[clean]),
        "reliability_sgd": reliable[0],
        "reliability_bayes": reliable[1],
        "ceiling": float(np.sqrt(np.prod(np.clip(reliable, 0, 1)))),
        "wrong": int(wrong.sum()),
    }
    for name in ("sgd", "subset_bayes", "bayes"):
        for which, rows in (("clean", clean), ("wrong", wrong)):
            values = examples.loc[rows, name]
            found[f"{name}_{which}"] = float(values.mean()) if rows.any() else float("nan")
    gap = (examples["bayes"] - examples["exact"]).abs()
    return found | {"ep_off_by": float(gap.max()) if gap.notna().any() else float("nan")}


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation of the pairs that are finite; NaN without a spread."""
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if len(x) < 3 or sample_sd(x) == 0 or sample_sd(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _interval(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % interval of the correlation, by resampling examples (percentiles)."""
    source = rng.generator(seed, "memorise/bootstrap")
    drawn = source.integers(len(x), size=(BOOTSTRAP, len(x)))
    found = np.array([pearson(x[rows], y[rows]) for rows in drawn])
    low, high = np.nanquantile(found, [0.025, 0.975]) if np.isfinite(found).any() else (np.nan,) * 2
    return float(low), float(high)


def _reliability(inside: np.ndarray, right: np.ndarray) -> float:
    """Share of the variance over examples that is not noise: the correlation of the values from
    even and from odd subsets, stepped up to all of them (Spearman & Brown)."""
    halves = [gained(inside[i::2], right[i::2])[0].diagonal() for i in (0, 1)]
    r = pearson(*halves)
    return 2 * r / (1 + r)


def _removal(
    setup: Subsets, examples: pd.DataFrame, shares: tuple[float, ...], members: int
) -> pd.DataFrame:
    """Errors on the inputs outside S after removing examples: a row a share and order.

    Columns share, order (most memorised first by ``sgd`` or ``bayes``, or ``random``), wrong_left
    (wrong labels that stay), sgd with standard error (over networks; at random over sets), bayes.
    """
    k = setup.problem.size
    outside = np.arange(k, len(setup.labels))
    rows = []
    for share in (0.0, *shares) if shares else ():
        for order in ORDERS if share else ("random",):
            repeats = RANDOM if order == "random" and share else 1
            errors, bayes, left = [], [], []
            for repeat in range(repeats):
                kept = _kept(setup, examples, order, share, repeat)
                seed = rng.seed_from(setup.seed, f"memorise/{order}/{share}", repeat)
                right, _ = trained_on(setup, kept, members, seed)
                errors.append(1.0 - right[:, outside].mean(1))
                bayes.append(1.0 - bayes_on(setup, kept)[outside].mean())
                left.append(int(examples["wrong"].to_numpy()[kept].sum()))
            means = np.array([e.mean() for e in errors])
            units = means if repeats > 1 else errors[0]
            rows.append(
                {
                    "share": share,
                    "order": order if share else "nothing removed",
                    "wrong_left": float(np.mean(left)),
                    "sgd": float(means.mean()),
                    "sgd_stderr": float(sample_sd(units)) / np.sqrt(len(units)),
                    "bayes": float(np.mean(bayes)),
                }
            )
    names = ("share", "order", "wrong_left", "sgd", "sgd_stderr", "bayes")
    return pd.DataFrame(rows, columns=list(names))


def _kept(
    setup: Subsets, examples: pd.DataFrame, order: str, share: float, repeat: int
) -> np.ndarray:
    """Places in S of the examples that stay, ascending."""
    k = len(examples)
    gone = min(round(share * k), k - 1)
    if order == "random":
        ranked = rng.generator(setup.seed, f"memorise/removed/{share}", repeat).permutation(k)
    else:
        ranked = np.argsort(-np.nan_to_num(examples[order].to_numpy()), kind="stable")
    return np.sort(ranked[gone:])


def _write(found: Memorised, out: Path) -> None:
    tables = {TABLE: found.examples, INFLUENCE: found.influence, REMOVAL: found.removal}
    with RunDir.attach(out) as run:
        for name, frame in tables.items():
            keep_table(run, name, frame)
        run.finish({**found.summary, "verdict": found.verdict})
