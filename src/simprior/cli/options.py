"""Where things go: results to stdout, logs to stderr.

Options that several commands share, as base classes of their dataclasses.

A command inherits the groups that mean something for it, and no others: every flag of a command is
used (``tests/cli/test_flags.py``).

Options that describe a network and its training, made from the settings of a training run.

Options shared by the commands on infinite-width networks, and the kernel they describe.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from tyro.conf import arg

from simprior.analysis.text.numbers import human
from simprior.analysis.text.plaintext import json_text, markdown
from simprior.cli.parse import (
    SETTINGS,
    Integer,
    MaybeCount,
    MaybePath,
    Options,
    Widths,
    choice,
    options,
)
from simprior.errors import DeviceError, InputError
from simprior.runs.text_files import read_matrix
from simprior.training.settings import (
    MODULE,
    NETWORK,
    PROBLEM,
    TRAINING,
    ModuleSettings,
    TrainSettings,
    architecture_of,
    declared,
)
from simprior.training.settings import text as show

__all__ = ["human", "key_values", "markdown", "print_json", "say_unlisted", "set_up_logging"]

if TYPE_CHECKING:
    import numpy as np

    from simprior.modules.spec import Module
    from simprior.network.spec import Network
    from simprior.training.data import Dataset
    from simprior.training.targets import Problem


def set_up_logging(quiet: bool) -> None:
    """Send the ``simprior`` logger to stderr; ``quiet`` leaves nothing but errors."""
    logger = logging.getLogger("simprior")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
    logger.setLevel(logging.ERROR if quiet else logging.INFO)


class _StderrHandler(logging.Handler):
    """Writes to what ``sys.stderr`` is at the moment, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"simprior: {record.getMessage()}"
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)


def say_unlisted(path: Any, counts: Any) -> None:
    """Say on stderr that a table lists part of its samples only, if it does."""
    if not getattr(counts, "unlisted", 0):
        return
    unseen = counts.unseen
    logging.getLogger("simprior").warning(
        "%s lists %s of %s samples: P = count / samples, and the functions not listed have %.4g "
        "(95 %%: %.4g to %.4g) of the probability",
        path,
        f"{counts.samples - counts.unlisted:,}",
        f"{counts.samples:,}",
        unseen.mass,
        unseen.low,
        unseen.high,
    )


def print_json(value: Any) -> None:
    """Print strict JSON; NaN and infinities become null."""
    print(json_text(value))


def key_values(values: Mapping[str, Any]) -> str:
    """Aligned ``key  value`` lines."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{key:<{width}}  {human(value)}" for key, value in values.items())


@dataclass(frozen=True, kw_only=True)
class Output:
    """Options of every command."""

    config: Annotated[
        MaybePath, arg(help="TOML file with values for the flags; flags override")
    ] = None
    json: Annotated[bool, arg(help="print the result as JSON")] = False
    quiet: Annotated[bool, arg(help="no logs and no progress on stderr")] = False

    def chosen(self, names: str) -> dict[str, Any]:
        """The values of some flags, by the names of their fields, which ``names`` has as words."""
        return {name: getattr(self, name) for name in names.split()}

    def print_result(self, values: Any, *parts: Any) -> None:
        """Print a result: with ``--json`` ``values``, else ``parts`` with empty lines between.

        A part is a table (frames without columns are left out), a mapping (``key  value`` lines),
        or a text. Frames among ``values`` become lists of records.
        """
        if self.json:
            print_json(_records(values))
        else:
            print("\n\n".join(_text(part) for part in parts if not _is_empty(part)))

    def command_line(self, command: str, paths: Sequence[Any], names: str) -> str:
        """The command that gives a result, for the notes in its files: the arguments ``paths`` and
        the flags ``names``, except those without a value."""
        words = ["simprior", command, *map(str, paths)]
        known = options(cast(Any, type(self)))
        for name, value in self.chosen(names).items():
            if known[name].switch:
                words += [known[name].flag] if value else []
            elif value is not None and (value != () or known[name].default):
                words += [known[name].flag, show(value)]
        return shlex.join(words)


def _records(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _records(entry) for key, entry in value.items()}
    return value.to_dict(orient="records") if hasattr(value, "to_dict") else value


def _is_empty(part: Any) -> bool:
    return hasattr(part, "columns") and not len(part.columns)


def _text(part: Any) -> str:
    if isinstance(part, str):
        return part
    return key_values(part) if isinstance(part, Mapping) else frame_text(part)


def frame_text(frame: Any) -> str:
    """A frame as a Markdown table."""
    return markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist())


@dataclass(frozen=True, kw_only=True)
class Reading(Output):
    """Options of the commands that read run directories."""

    no_verify: Annotated[
        bool,
        arg(help="use files, huge ones say, without comparing their SHA-256 with the manifest"),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Seeded(Output):
    """The seed."""

    seed: Annotated[Integer, arg(help="root of all random numbers, 0 to 2^63 - 1")] = 0


@dataclass(frozen=True, kw_only=True)
class Device(Output):
    """Where arrays are computed."""

    device: Annotated[str, choice("auto", "cpu", "cuda"), arg(help="where to compute")] = "auto"


@dataclass(frozen=True, kw_only=True)
class Workers(Output):
    """Threads or processes of this machine."""

    workers: Annotated[MaybeCount, arg(help="threads or processes (default: available cores)")] = (
        None
    )

    def worker_count(self) -> int:
        """``--workers``, or the default."""
        from simprior.runs.tasks import available_cores

        return self.workers or available_cores()


@dataclass(frozen=True, kw_only=True)
class Cluster(Workers):
    """Threads or processes of this machine, or jobs of a cluster."""

    workers: Annotated[
        MaybeCount, arg(help="threads, processes or cluster jobs (default: available cores)")
    ] = None
    executor: Annotated[
        str, choice("local", "slurm", "dask"), arg(help="where the workers run")
    ] = "local"
    executor_options: Annotated[
        Options, arg(help="for slurm (sbatch's option names) or dask (Client's keywords)")
    ] = None

    def worker_count(self) -> int:
        """``--workers``, or the default; bad executor options are refused here, first."""
        from simprior.runs.tasks import check_executor

        check_executor(self.executor, self.executor_options)
        return super().worker_count()


@dataclass(frozen=True, kw_only=True)
class RunDirectory(Output):
    """Where the result is written."""

    out: Annotated[MaybePath, arg(help="run directory; refused if not empty")] = None
    overwrite: Annotated[bool, arg(help="remove an earlier run in --out first")] = False

    def say_written(self) -> None:
        """Say on stderr where the result is, if it was written."""
        if self.out is not None:
            logging.getLogger("simprior").info("written to %s", self.out)


@dataclass(frozen=True, kw_only=True)
class Resumable(RunDirectory):
    """Where the result is written piece by piece."""

    resume: Annotated[bool, arg(help="continue an interrupted run, bit for bit")] = False


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Resumable, Cluster, Device):
    """Options of the commands that compute something into a run directory, without a seed."""

    def run_options(self) -> dict[str, Any]:
        """The keywords with which library functions take these options, but for the device."""
        chosen = self.chosen("out resume overwrite executor executor_options")
        return chosen | {"workers": self.worker_count()}


@dataclass(frozen=True, kw_only=True)
class RunOptions(ComputeOptions, Seeded):
    """Options of the commands that compute something random into a run directory."""


_LAW = "hidden activation sigma_w sigma_b encoding density rescale"
BITS = TrainSettings.n


def flags(names: Iterable[str], settings: type = TrainSettings) -> Any:
    """A base class of options: the flags of some settings of a class, by their names."""
    known = declared(settings)
    found = []
    for name in names:
        kind, default = known[name].kind, getattr(settings, name)
        hint = Annotated[str, choice(*kind)] if isinstance(kind, tuple) else SETTINGS[kind]
        found.append((name, Annotated[hint, arg(help=known[name].help)], field(default=default)))
    return make_dataclass("Flags", found, bases=(Output,), frozen=True, kw_only=True)


TrainingOptions: Any = flags([name for name in TRAINING if name != "seed"])
"""Everything that determines a training run, but for its network and its seed."""
ProblemOptions: Any = flags(PROBLEM)
"""What is to be learned: a target or data, the training set, corruption and attack points."""
DataSource: Any = flags("data classes label missing corrupt scale".split())
"""Where real data come from and how they are read."""
_Architecture: Any = flags(["n", *_LAW.split(), "inputs"])
_Law: Any = flags(["weight_dist"])


@dataclass(frozen=True, kw_only=True)
class ArchitectureOptions(_Architecture):
    """Architecture, variances and inputs."""

    def build_network(self, inputs: np.ndarray | None = None) -> Network:
        """The network, on ``inputs`` if given. Raises :class:`InputError`."""
        from simprior.network.spec import Network

        if inputs is None and self.inputs is not None:
            inputs = load_inputs(self.inputs)
        law = self.chosen(_LAW)
        if hasattr(self, "weight_dist"):
            law["weight_dist"] = self.weight_dist
        if inputs is None or self.n != BITS:
            law["n"] = self.n
        return Network(inputs=inputs, **law)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(_Law, ArchitectureOptions):
    """The same with the law of the parameters."""


_Module: Any = flags(MODULE, ModuleSettings)


@dataclass(frozen=True, kw_only=True)
class ModuleOptions(_Module):
    """A torch module in place of the fully connected network, beside the flags of the latter."""

    def build_architecture(self, inputs: np.ndarray | None = None) -> Network | Module:
        """The network or module, on ``inputs`` if given. Raises :class:`InputError`."""
        names = [name for name in (*NETWORK, *MODULE) if hasattr(self, name)]
        values = {name: getattr(self, name) for name in names}
        if inputs is None and values["inputs"] is not None:
            inputs = load_inputs(values["inputs"])
        return architecture_of(values | {"inputs": inputs})


def build_problem(spec: Any) -> Problem:
    """The problem that the flags describe: those of the network and of :data:`ProblemOptions`.

    With ``--from RUN`` (of simprior train) it is that of the run, and flags that describe another
    one are refused; ``--data`` and ``--label`` then say where its data file is.
    """
    from simprior.training.replay import problem_of_run
    from simprior.training.targets import Problem

    seed = spec.seed if spec.data_seed is None else spec.data_seed
    if getattr(spec, "from_", None) is None:
        task = spec.chosen(" ".join(name for name in PROBLEM if name != "data_seed"))
        if task["target"] is None and task["data"] is None:
            raise InputError("no target", "a function", "pass for example --target x1")
        return Problem(spec.build_architecture(), seed=seed, **task)
    for name in (*NETWORK, *MODULE, *PROBLEM):
        usual = ModuleSettings if name in MODULE else TrainSettings
        value = getattr(spec, name, None)
        if name not in ("data", "label") and hasattr(spec, name) and value != getattr(usual, name):
            raise InputError(
                f"{name}={show(value)} with --from", "the problem of the run", f"leave {name} out"
            )
    return problem_of_run(spec.from_, spec.data, spec.label)


def load_inputs(text: str) -> np.ndarray:
    """An (m, d) matrix from a ``.npy`` or ``.csv`` file, or written out as ``[[0, 1], [1, 0]]``."""
    import numpy as np

    path, expected = Path(text), "a .npy or .csv file with one input a row"
    try:
        if text.lstrip().startswith("["):
            return np.asarray(json.loads(text), dtype=np.float64)
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        if path.suffix == ".csv":
            return np.array(read_matrix(path), dtype=np.float64)
    except (OSError, ValueError, TypeError, EOFError, UserWarning, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"inputs={text}", expected, f"it cannot be read ({reason})") from None
    raise InputError(f"inputs={text}", expected, "save it in one of these two forms")


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
class KernelOptions(ModuleOptions):
    """A torch module, and how its kernel is sampled."""

    kernel_draws: Annotated[
        MaybeCount,
        arg(help="modules without a closed kernel: networks that it is sampled from (1200)"),
    ] = None


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
            f"device={spec.device!r}: expected auto or cpu: estimators of ln P and posteriors run "
            "on the CPU; leave --device out"
        )


def load_data(spec: DataOptions) -> Dataset:
    """The data set that the flags describe."""
    from simprior.training.data import load_dataset

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


def prior_config(spec: PriorOptions, network: Network | Module) -> dict[str, Any]:
    """What determines the prior, with the names of the flags; a valid ``--config`` again."""
    from simprior.network.spec import MASK_FIELDS, Network

    found = network.to_dict()
    keys = ["n", "hidden", "activation", "sigma_w", "sigma_b", "encoding"]
    keys += [name for name in MASK_FIELDS if name in found]
    if not isinstance(network, Network):
        network.check_storable()
        keys = [key for key in found if key not in ("inputs", "laws")]
        keys += ["kernel_draws"]
        found["kernel_draws"] = getattr(spec, "kernel_draws", None)
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
