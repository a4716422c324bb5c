"""Options shared by the commands on infinite-width networks, and the kernel they describe."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.common import Device, Seeded
from simprior.cli.network_options import ArchitectureOptions, DataSource
from simprior.cli.values import MaybeCount, Widths
from simprior.errors import DeviceError, InputError

if TYPE_CHECKING:
    import numpy as np

    from simprior.network import Network
    from simprior.training.datasets import Dataset

METHOD_HELP = (
    "tilted (exact, with a standard error), smc, ep, ep-probit, laplace, closed, minimax, "
    "liness, mc"
)
SPLIT_KEYS = "data classes label train corrupt scale balanced"


@dataclass(frozen=True, kw_only=True)
class PriorOptions(ArchitectureOptions):
    """The infinitely wide network and its inputs."""

    hidden: Annotated[
        Widths, arg(help='hidden layers; the widths do not matter here; "" is a perceptron')
    ] = (40, 40)


@dataclass(frozen=True, kw_only=True)
class DataOptions(DataSource, PriorOptions, Seeded):
    """Real data in place of bit strings."""

    balanced: Annotated[bool, arg(help="as many training examples of either label")] = False
    train: Annotated[
        MaybeCount, arg(help="training examples (default, and if there are fewer: all)")
    ] = None


def check_device(spec: Device) -> None:
    """Refuse ``--device cuda``: the estimators run on the CPU, and no flag is ignored."""
    if spec.device == "cuda":
        raise DeviceError(
            f"device={spec.device!r}: expected auto or cpu, the Gaussian-process estimators run on "
            "the CPU; leave --device out"
        )


def kernel(network: Network, workers: int = 1) -> np.ndarray:
    """(m, m) covariance on the network's inputs, after checking that its size fits in memory."""
    from simprior.boolean.inputs import input_matrix
    from simprior.gp.kernels import nngp
    from simprior.gp.memory import check_memory

    check_memory(network.m, workers)
    return nngp(network, input_matrix(network))


def load_data(spec: DataOptions) -> Dataset:
    """The data set that the flags describe."""
    from simprior.training.datasets import load_dataset

    assert spec.data is not None
    if spec.inputs is not None:
        raise InputError(f"inputs={spec.inputs} and data={spec.data}", "one of the two", "drop one")
    options = spec.chosen("classes train seed corrupt scale balanced label missing")
    data = load_dataset(spec.data, clip=True, **options)
    if spec.train is not None and data.m < spec.train:
        few = f"{data.name} {data.classes} has{' in balance' if spec.balanced else ''}"
        logging.getLogger("simprior").warning(
            "train=%d is more than %s: using all %d examples", spec.train, few, data.m
        )
    return data


def check_no_data(spec: DataOptions) -> None:
    """Refuse options that only mean something together with ``--data``."""
    given: dict[str, Any] = {"classes": spec.classes, "scale": spec.scale, "train": spec.train}
    given |= {"balanced": spec.balanced or None, "corrupt": spec.corrupt or None}
    given |= {"label": spec.label, "missing": None if spec.missing == "refuse" else spec.missing}
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name}={value}", "data to apply it to", "add --data digits")


def prior_config(spec: PriorOptions, network: Network) -> dict[str, Any]:
    """What determines the prior, with the names of the flags; a valid ``--config`` again."""
    found = network.to_dict()
    keys = ["n", "hidden", "activation", "sigma_w", "sigma_b", "encoding"]
    if network.inputs is None or spec.inputs is not None:
        keys.append("inputs")
    return {key: found[key] for key in keys if found[key] is not None}


def data_config(spec: DataOptions, data: Dataset) -> dict[str, Any]:
    """What determines the data set, with the names of the flags.

    ``train`` is the number of training examples that there are, which may be fewer than asked for.
    """
    found = {key: value for key, value in spec.chosen(SPLIT_KEYS).items() if value is not None}
    if spec.missing != "refuse":
        found["missing"] = spec.missing
    return found | ({} if spec.train is None else {"train": data.m})
