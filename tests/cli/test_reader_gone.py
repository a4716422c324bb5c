"""``simprior compare ... | head``: a reader of stdout that goes away loses no result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import simprior as sp


@pytest.mark.slow
def test_compare_is_written_before_it_is_printed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        sp.sample(sp.Network(n=3, hidden=(4,)), samples=2000, heads=1, seed=seed,
                  out=tmp_path / name)  # fmt: skip
    code = (
        "import os, sys\nfrom simprior.cli import main\n"
        "os.close(1)\nr, w = os.pipe()\nos.close(r)\n"
        "os.dup2(w, 1); sys.stdout = open(1, 'w', buffering=1)\n"
        "main(['compare', 'a', 'b', '--bootstrap', '10', '--splits', '2', '--out', 'c'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert sp.load(tmp_path / "c").verdict
