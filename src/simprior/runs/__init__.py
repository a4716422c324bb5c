"""Run directories and the running of tasks in threads, in processes and on clusters.

May import: errors, checks. Never network, numerics, boolean, gp, training, analysis, cli.

``directory`` opens a run directory for writing, ``reading`` reads it and compares hashes,
``manifest`` says what a manifest holds, ``wipe`` removes exactly what a run wrote, ``files`` and
``toml`` write single files whole or not at all, ``delimited`` reads CSV. ``tasks`` maps a function
over tasks (``pool`` is the loop; ``local`` has the pools of this machine, ``cluster`` and ``slurm``
others; ``threads`` says how many threads a call has, and its libraries), and ``sharded`` is the one
loop over the shards of a run: resume, progress, merge.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
