"""Numbers and tables as text: Markdown, CSV, LaTeX, JSON and HTML, all from one data frame.

``numbers`` writes a number, an estimate with its error, or an interval, in each of the notations
(LaTeX mathematics, siunitx, HTML, a terminal). ``plaintext`` (Markdown and JSON) and ``html`` write
whole tables; ``tables`` writes LaTeX, chooses among them and writes files.

May import: errors, runs and one another. This package knows no run, no measure and
no figure, and imports nothing else of ``simprior.analysis``. Frames come from the modules that
compute (which never import this package); the text goes to ``report``, ``study``, the modules
that write run directories, and the command line.
"""

from __future__ import annotations

from simprior._attach import attach

__getattr__, __dir__, __all__ = attach(__name__)
