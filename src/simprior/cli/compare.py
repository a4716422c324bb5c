"""``simprior compare``: how alike two runs' distributions over functions are."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from simprior.cli.options import Reading, RunDirectory, Seeded, say_unlisted
from simprior.cli.parse import Count, MaybeText, Number, Texts
from simprior.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from simprior.analysis.compare.comparison import Comparison
    from simprior.boolean.sampling.counts import FunctionCounts

TABLE, PAIRS, ERRORS = "compare.csv", "pairs.parquet", "errors.csv"
_SETTINGS = "min_count bootstrap splits level seed"
_COLUMNS = "name value stderr low high matched noise_ceiling_a noise_ceiling_b".split()


@dataclass(frozen=True, kw_only=True)
class Compare(RunDirectory, Seeded, Reading):
    """Compare the distributions over functions of two runs: distances, correlations, test errors.

    It begins with a sentence on whether they differ. Every number has an interval and, beside it,
    what parts of one and the same run show at the same size (noise ceiling). The same run twice is
    dealt out in two halves. The target and the training set are read from the runs where they
    record them.
    """

    a: Annotated[Positional[Path], arg(help="a run directory")]
    b: Annotated[Positional[Path], arg(help="another one, on the same inputs")]
    min_count: Annotated[
        Count, arg(help="effective count on both sides from which log-probabilities are used")
    ] = 10
    bootstrap: Annotated[Count, arg(help="bootstrap replicates")] = 200
    splits: Annotated[Count, arg(help="random divisions for the noise ceilings")] = 16
    level: Annotated[Number, arg(help="confidence level")] = 0.95
    target: Annotated[MaybeText, arg(help="target function: bits, hex or a name")] = None
    train_index: Annotated[
        MaybeText, arg(help="inputs trained on, with commas; the others are the test set")
    ] = None
    labels: Annotated[Texts, arg(help='names of the two runs, for example "SGD,Bayes"')] = None
    title: Annotated[MaybeText, arg(help="title of the table and of the figures")] = None
    plot: Annotated[bool, arg(help="draw figures into OUT/figures, or A/figures")] = False


SPEC = Compare


def run(spec: Compare) -> int:
    """Load, compare, print the table, write what was asked for."""
    if spec.out is not None:
        from simprior.runs.wipe import check_occupied

        check_occupied(spec.out, "compare", resume=False, overwrite=spec.overwrite)
    labels = _labels(spec)
    comparison = _compare(spec)
    if labels is not None:
        comparison = replace(comparison, labels=labels)
    frame = comparison.to_frame()
    summary = {"a": str(spec.a), "b": str(spec.b), **comparison.summary()}
    if spec.title is not None:
        summary["title"] = spec.title
    written = list(_write(spec, comparison))  # before a reader of stdout can go away
    spec.print_result(
        {"table": frame, "summary": summary},
        *([spec.title] if spec.title is not None else []),
        comparison.verdict,
        frame[_COLUMNS].astype(object).map(_shown),
        "\n".join(f"- {note}" for note in comparison.notes),
    )
    for path in written:
        logging.getLogger("simprior").info("written: %s", path)
    return 0


def _labels(spec: Compare) -> tuple[str, str] | None:
    """The two names of ``--labels``."""
    if spec.labels is None:
        return None
    if len(spec.labels) != 2:
        what = f"labels={','.join(spec.labels)}"
        raise InputError(what, "two names with a comma between", "pass for example SGD,Bayes")
    return spec.labels[0], spec.labels[1]


def _shown(value: Any) -> Any:
    import math

    return "" if isinstance(value, float) and math.isnan(value) else value


def _compare(spec: Compare) -> Comparison:
    from simprior.analysis.compare.comparison import compare

    a = _load(spec.a)
    b = a if spec.a.resolve() == spec.b.resolve() else _load(spec.b)
    if b.m != a.m:
        found, expected = f"{spec.b}: functions on m={b.m} inputs", f"m={a.m}, as in {spec.a}"
        raise InputError(found, expected, "compare runs on the same inputs")
    target, mask, remarks = _task(spec, a.m)
    comparison = compare(a, b, target=target, test_mask=mask, **spec.chosen(_SETTINGS))
    return replace(comparison, remarks=(*comparison.remarks, *remarks))


def _load(path: Path) -> FunctionCounts:
    from simprior.boolean.sampling.counts import FunctionCounts

    counts = FunctionCounts.load(path)
    say_unlisted(path, counts)
    recorded = _recorded(path)
    if "ess" in recorded:
        counts.info["posterior"] = {"ess": recorded["ess"], **(counts.info.get("posterior") or {})}
    return counts


def _recorded(path: Path) -> dict[str, Any]:
    """What a run says about its target and training set, and its effective sample size.

    From its configuration, its results and ``posterior.json``, the later over the earlier. Inputs
    of an attack set were trained on and are no test inputs.
    """
    from simprior.runs.directory import load_run

    run = load_run(path)
    found: dict[str, Any] = {}
    sources = [run.config, dict(run.config.get("problem") or {}), run.results]
    if "posterior.json" in run.files:
        sources.append(run.read_json("posterior.json"))
    for source in sources:
        found |= {key: source[key] for key in ("target", "train_index", "ess") if key in source}
    found = {key: value for key, value in found.items() if value is not None}
    attack = sources[1].get("attack_index") or []
    if attack and "train_index" in found:
        found["train_index"] = [*found["train_index"], *attack]
    return found


def _task(spec: Compare, m: int) -> tuple[Any, np.ndarray | None, list[str]]:
    """Target and mask of the test inputs, from the flags, else as the runs recorded them; and what
    is to be said where the runs record different ones."""
    from simprior.analysis.compare.comparison import remark_on_targets

    remarks: list[str] = []
    known = [_recorded(spec.a), _recorded(spec.b)]
    target: Any = spec.target
    index: Any = None if spec.train_index is None else _parse_index(spec.train_index)
    if target is None:
        targets = [entry["target"] for entry in known if isinstance(entry.get("target"), str)]
        target = targets[0] if targets else None
        if len(set(targets)) > 1:
            remarks.append(remark_on_targets(targets[0], targets[1]))
    if target is None:
        if index is not None:
            raise InputError("train_index without a target", "both", "pass --target too")
        return None, None, remarks
    if index is None:
        sets = [entry["train_index"] for entry in known if "train_index" in entry]
        index = sets[0] if sets else None
        if any(sorted(other) != sorted(index) for other in sets):
            remarks.append(
                "The runs have different training sets; the first is left out of the errors."
            )
    for remark in remarks:
        logging.getLogger("simprior").warning(remark[0].lower() + remark[1:].rstrip("."))
    return target, None if index is None else _mask(index, m), remarks


def _parse_index(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        what = f"train_index={text[:40]!r}"
        raise InputError(what, "whole numbers with commas between", "check the commas") from None


def _mask(index: list[int], m: int) -> np.ndarray:
    import numpy as np

    wrong = [i for i in index if not 0 <= i < m]
    if wrong:
        what = f"train_index={wrong[0]}"
        raise InputError(what, f"inputs from 0 to {m - 1}", "check the training set")
    mask = np.ones(m, bool)
    mask[index] = False
    return mask


def _write(spec: Compare, comparison: Comparison) -> list[Path]:
    """Tables into ``--out``; figures there or into the first run."""
    if spec.out is None and not spec.plot:
        return []
    from simprior.runs.directory import RunDir

    flags = f"{_SETTINGS} target train_index labels title"
    subject = spec.command_line("compare", [spec.a, spec.b], flags)
    if spec.out is None:
        with RunDir.attach(spec.a) as store:
            prefix = f"compare-{spec.b.name}-"
            files = _figures(spec, comparison, spec.a / "figures", subject, prefix)
            for file in files:
                store.add_file(file.relative_to(spec.a))
            store.save()
        return files
    config = {"a": str(spec.a), "b": str(spec.b), **spec.chosen(_SETTINGS)}
    chosen = spec.chosen("target labels title")
    config |= {name: value for name, value in chosen.items() if value is not None}
    with RunDir.open(spec.out, "compare", config, overwrite=spec.overwrite) as store:
        files = _tables(spec.out, comparison, subject)
        if spec.plot:
            files += _figures(spec, comparison, spec.out / "figures", subject)
        for file in files:
            store.add_file(file.relative_to(spec.out))
        tv = comparison["total_variation"]
        limits = {"total_variation_low": tv.low, "total_variation_high": tv.high}
        store.finish(limits | {"verdict": comparison.verdict, "notes": comparison.notes})
        store.save()
    return files


def _figures(
    spec: Compare, comparison: Comparison, folder: Path, subject: str, prefix: str = ""
) -> list[Path]:
    """Draw the figures, with the names of the runs and the title that were asked for."""
    from simprior.analysis.figures.compare import compare_figures
    from simprior.analysis.figures.registry import title_of
    from simprior.analysis.figures.style import write_figures

    labels = _labels(spec) or (spec.a.name or "A", spec.b.name or "B")
    if comparison.split and spec.labels is None:
        labels = f"{labels[0]} (1)", f"{labels[1]} (2)"
    drawn = []
    for name, figure in compare_figures(comparison, labels):
        if spec.title is not None:
            figure.suptitle(spec.title, fontsize=7, x=0.02, ha="left")
        drawn.append((f"{prefix}{name}", spec.title or title_of(f"compare-{name}"), figure))
    return write_figures(drawn, folder, subject)


def _tables(folder: Path, comparison: Comparison, note: str) -> list[Path]:
    from simprior.analysis.text.tables import write

    files = write(comparison.to_frame(), folder / TABLE, "csv", note, caption=comparison.verdict)
    files += write(comparison.pairs(), folder / PAIRS, "parquet", note)
    if comparison.errors is not None:
        files += write(comparison.errors, folder / ERRORS, "csv", note)
    return files
