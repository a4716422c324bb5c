"""Options that say where real data comes from and how it is read, for every command that does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from simprior.cli.common import Output
from simprior.cli.values import MaybeText, Number, choice


@dataclass(frozen=True, kw_only=True)
class DataSource(Output):
    """Real data in place of bit strings."""

    data: Annotated[
        MaybeText,
        arg(
            help="real data: digits, breast-cancer, or a file (.csv .tsv .parquet .arff, MNIST, "
            "CIFAR)"
        ),
    ] = None
    classes: Annotated[
        MaybeText, arg(help="label 0 and label 1: 3,8 or 0-4:5-9 or even:odd or benign:malignant")
    ] = None
    label: Annotated[
        MaybeText,
        arg(help="column with the labels of a table, unless called label, class, target or y"),
    ] = None
    missing: Annotated[
        str, choice("refuse", "drop"), arg(help="rows of a table with missing values")
    ] = "refuse"
    corrupt: Annotated[Number, arg(help="share of training labels replaced by coin flips")] = 0.0
    scale: Annotated[
        MaybeText,
        arg(
            help="range (pixels by their largest value, columns of a table by that of the training "
            "set) or standard (mean and deviation of the training set)"
        ),
    ] = None
