"""What the runs say: measures, comparisons, correlations, figures, tables, studies and reports.

May import: errors, checks, numerics, runs, network, boolean, gp, training. Never cli.

Data come from run directories that the layers below have written, or from their results in memory.
They leave as tables (``measure``: a row a network), figures, and pages. ``flatness`` and
``strings`` are the larger families of measures; ``correlate`` asks what predicts the error;
``memorise`` finds the examples that are known only because they were seen; ``rare`` estimates the
probability of rare outputs of one network; ``evidence`` puts findings about deep networks to prior,
posterior and optimiser; ``study`` runs recipes of all of these; ``report`` makes the page.

Statistics turn records into tables; ``figures`` only draws tables; ``text``, ``table_runs`` and
``plot`` write files. matplotlib is used through Figure objects: no window, no global state, the
caller's backend is left alone. Modules are imported on first use.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
