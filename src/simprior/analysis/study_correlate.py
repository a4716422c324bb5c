"""The stage ``[correlate]`` of a study: coefficients of a table, as ``simprior correlate`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simprior.analysis.result_runs import ROWS, correlate_into
from simprior.analysis.study_frames import select, stage_frame

__all__ = ["ROWS", "correlate_stage"]


def correlate_stage(
    study: Path, sources: Sequence[str], config: Mapping[str, Any], out: Path, *, seed: int,
    note: str, resume: bool = False, overwrite: bool = False, quiet: bool = True,
) -> list[str]:  # fmt: skip
    """Correlate the rows of stages below ``study`` into the run directory ``out``.

    ``config`` has the keywords of :func:`simprior.analysis.correlation.correlate`, and ``where``
    (:func:`simprior.analysis.study_frames.select`). The rows that were used are kept with the run.
    Returns its notes: what was refused, and why. Raises :class:`InputError`, :class:`StoreError`.
    """
    where = dict(config.get("where", {}))
    options = {"seed": seed, **{k: v for k, v in config.items() if k != "where"}}
    frame = select(stage_frame(study, sources).drop(columns="stage"), where, seed)
    source = {"from": list(sources), "where": where}
    found = correlate_into(
        frame, options, source, out, note, resume=resume, overwrite=overwrite, quiet=quiet
    )
    return list(found.notes)
