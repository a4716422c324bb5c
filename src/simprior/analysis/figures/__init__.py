"""Figures: every kind of figure, how it looks, and how it is written to files.

May import: the modules of ``analysis`` that make tables and records, and all layers below. Never
``study``, ``report`` or ``cli``: they use this package.

Tables (DataFrames), ``FunctionCounts`` or a ``Comparison`` come in; a matplotlib Figure, one column
wide, goes out. No window is opened and the caller's settings of matplotlib are left alone.

* ``style``: sizes, colours, ticks, names of columns, and the writer of PDF and PNG. ``marks``:
  points with bars, legends, small print. ``means``: means of networks with their intervals.
* ``counts``, ``compare``, ``generalisation``, ``gp``, ``strings``: the figures themselves.
* ``registry``: the list of all kinds.

A new kind of figure is one new module here: a function decorated with ``registry.kind``. If
``simprior plot`` shall draw it of the runs of a command, another one, decorated with
``registry.drawings``, says so. Every module of this package is imported when the list of kinds is
first asked for.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
