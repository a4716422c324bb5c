"""The study of widths: the recipe is read, and a small run finds the limit where it must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simprior.errors import InputError
from simprior.gp.study_file import load_study
from simprior.gp.study_width import WidthStudy, fit_width, run_width_study

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_recipe_is_read() -> None:
    study = load_study(EXAMPLES / "width-convergence.toml")
    assert isinstance(study, WidthStudy)
    assert len(study.functions) == len(study.labels) == 16
    assert study.widths == (40, 100, 200, 400, 1600)


def test_unknown_key(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('study = "width"\nwidth = 3\n')
    with pytest.raises(InputError, match="width"):
        load_study(path)


def test_the_gap_falls_as_one_over_width() -> None:
    """Relu networks of three bits: the gap at width 256 is consistent with the fit, c != 0."""
    study = WidthStudy(
        n=3, widths=(8, 32, 256), samples=(400_000,) * 3, heads=(16, 16, 64),
        functions=("const0", "x1"), labels=("constant", "x1"), tol=0.002, seed=1,
    )  # fmt: skip
    frame = run_width_study(study)
    fits = fit_width(frame)
    # 2 functions: c of the constants is known to 5 sigma at least; chi2 above 5 standard deviations
    # of its law (2 degrees of freedom: p < 1e-6 is chi2 > 27.6)
    assert np.isfinite(fits["c"]).all()
    assert (fits["chi2"] < 27.6 + 27.6).all()  # 1/width^2 terms at width 8 are allowed for
    constant = fits[fits["name"] == "constant"].iloc[0]
    assert abs(constant["c"]) > 5 * constant["c_stderr"]
