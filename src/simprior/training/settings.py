"""The settings of a training run: :class:`TrainSettings` declares each of them, once.

A field has the name of the keyword of ``sp.train``, a default, a kind, and a line of help. The
command line makes its flags from these fields, and :func:`settings` reads the values that a TOML
file or a cell of a grid gives them (with ``-`` or ``_`` in the names): of their own type, or as
the text that the flag takes (``"40,40"``, ``"1e5"``). What is left out has the default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from simprior.checks import Choice, unknown
from simprior.errors import InputError
from simprior.network.activations import ACTIVATIONS
from simprior.network.density import refuse_dropout
from simprior.numerics.random import derive
from simprior.runs.text_files import read_matrix

if TYPE_CHECKING:
    from simprior.modules.spec import Module
    from simprior.network.spec import Network

LOG_STEPS = (0, *(1 << k for k in range(24)))
"""The steps that ``record = "log"`` means: 0 and the powers of 2."""
SWITCHES = {"true": True, "false": False}
"""The texts of a setting that is on or off."""
_FILES = ("data", "inputs", "prior_from")


@dataclass(frozen=True)
class Setting:
    """What a field declares beside its type and its default.

    ``kind`` is a key of ``READERS``, or the words to choose from; ``help`` is a line for the flag.
    """

    kind: str | tuple[str, ...]
    help: str


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network and the law of its parameters: the keywords of :class:`simprior.Network`."""

    n: Annotated[int, Setting("whole", "input bits, 1 to 16")] = 7
    hidden: Annotated[
        tuple[int, ...], Setting("widths", 'widths of the hidden layers; "" is a perceptron')
    ] = (40, 40)
    activation: Annotated[
        str, Setting("word", f"{', '.join(ACTIVATIONS)}, or package.module:function")
    ] = "relu"
    sigma_w: Annotated[
        float | tuple[float, ...],
        Setting("numbers", "standard deviation of weights times sqrt(fan-in), one or one a layer"),
    ] = 1.0
    sigma_b: Annotated[
        float | tuple[float, ...],
        Setting("numbers", "standard deviation of biases, one or one a layer"),
    ] = 1.0
    encoding: Annotated[str, Setting(("01", "pm1"), "bits as 0 and 1, or as -1 and 1")] = "01"
    weight_dist: Annotated[
        str, Setting(("gaussian", "uniform"), "law of weights and biases (same variance)")
    ] = "gaussian"
    density: Annotated[
        float | tuple[float, ...],
        Setting("numbers", "share of weights that random masks keep, one or one a layer"),
    ] = 1.0
    rescale: Annotated[
        bool, Setting("truth", "masks: weights kept times 1/sqrt(density); true or false")
    ] = True
    inputs: Annotated[
        Any,
        Setting("inputs", "explicit inputs in place of all bit strings: .npy or .csv, one a row"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ModuleSettings:
    """A torch module in place of the fully connected network: see :class:`simprior.Module`.

    They go with those settings of the network that a module has as well.
    """

    module: Annotated[
        str | None,
        Setting("word?", "package.module:function that returns a torch module (m, n) -> (m,)"),
    ] = None
    architecture: Annotated[
        str | None,
        Setting(
            "word?", "a shipped module: mlp, transformer, lstm, cnn, cnn2d (docs: architectures)"
        ),
    ] = None
    option: Annotated[
        dict[str, Any] | None,
        Setting("texts", "options of the architecture or module, e.g. d_model=32,layers=2"),
    ] = None
    norm: Annotated[
        str, Setting(("none", "layer", "rms"), "architecture mlp: normalisation of layers")
    ] = "none"
    residual: Annotated[
        bool, Setting("switch", "architecture mlp: each layer adds to the one before")
    ] = False
    init: Annotated[
        str,
        Setting(("simprior", "own"), "modules: parameters by sigma_w, sigma_b, or their own law"),
    ] = "simprior"


@dataclass(frozen=True, kw_only=True)
class ProblemSettings(NetworkSettings):
    """A network and what it is to learn: the keywords of :class:`simprior.Problem`."""

    target: Annotated[
        str | None,
        Setting(
            "word?",
            "function to learn: bits, hex, a name, random, random:T (T ones), lz:K, net:W "
            "(a random network of width W)",
        ),
    ] = None
    data: Annotated[
        str | None,
        Setting(
            "word?",
            "real data: digits, mnist5k, breast-cancer, or a file (.csv .tsv .parquet .arff, "
            "MNIST, CIFAR)",
        ),
    ] = None
    classes: Annotated[
        str | None,
        Setting("word?", "label 0 and label 1: 3,8 or 0-4:5-9 or even:odd or benign:malignant"),
    ] = None
    label: Annotated[
        str | None,
        Setting(
            "word?", "column with the labels of a table, unless called label, class, target or y"
        ),
    ] = None
    missing: Annotated[str, Setting(("refuse", "drop"), "rows of a table with missing values")] = (
        "refuse"
    )
    scale: Annotated[
        str | None,
        Setting(
            "word?",
            "range (pixels by their largest value, columns of a table by that of the training "
            "set) or standard (mean and deviation of the training set)",
        ),
    ] = None
    train: Annotated[int, Setting("sizes", "size of the training set")] = 64
    test: Annotated[int, Setting("count", "held-out examples of real data")] = 100
    corrupt: Annotated[
        float, Setting("number", "share of training labels replaced by coin flips")
    ] = 0.0
    attack: Annotated[
        int, Setting("whole", "mislabelled points outside the training set to be fitted as well")
    ] = 0
    robust: Annotated[
        float,
        Setting(
            "radius",
            "bits: labels are fitted on all strings within so many flips, too; training on data: "
            "radius of the box in which inputs are attacked",
        ),
    ] = 0
    data_seed: Annotated[
        int | None, Setting("whole?", "seed of target, split, corruption, attack (default: --seed)")
    ] = None


@dataclass(frozen=True, kw_only=True)
class TrainSettings(ProblemSettings):
    """What determines the result of a training run; the keywords of :func:`simprior.train`."""

    runs: Annotated[int, Setting("count", "networks to train, e.g. 1e5")] = 1000
    optimizer: Annotated[
        str,
        Setting(
            "word",
            "sgd, momentum, nesterov, gd, adam, adamw, rmsprop, adagrad, adadelta, sgld, "
            "entropy-sgd, advsgd, guess-and-check",
        ),
    ] = "adam"
    lr: Annotated[
        float | None, Setting("number?", "learning rate (default: that of torch.optim)")
    ] = None
    options: Annotated[
        dict[str, Any] | None,
        Setting("options", "options of the optimiser, e.g. weight_decay=0.01,beta1=0.8"),
    ] = None
    loss: Annotated[
        str, Setting(("ce", "mse", "mse01", "hinge"), "mse: targets -1, 1; mse01: 0, 1")
    ] = "ce"
    batch_size: Annotated[int, Setting("count", "examples a step")] = 32
    stop: Annotated[str, Setting("word", "first-fit, epochs:N (after it), loss:X, or steps:N")] = (
        "first-fit"
    )
    max_epochs: Annotated[int, Setting("count", "a member is given up after this many epochs")] = (
        1000
    )
    check: Annotated[
        int, Setting("whole", "steps between looks at the training error; 0 is once an epoch")
    ] = 0
    pretrain: Annotated[
        int, Setting("whole", "bad initialisation: epochs on random labels, at most; 0 is none")
    ] = 0
    init_scale: Annotated[
        float, Setting("number", "factor on the initial weights, apart from the prior's sigma_w")
    ] = 1.0
    robust_steps: Annotated[
        int, Setting("count", "robust, on data: gradient steps of an attack")
    ] = 10
    seed: Annotated[int, Setting("whole", "root of all random numbers, 0 to 2^63 - 1")] = 0
    record: Annotated[
        tuple[int, ...], Setting("steps", "steps at which trajectories are recorded")
    ] = ()
    record_runs: Annotated[int, Setting("count", "members whose trajectories are recorded")] = 100
    engine: Annotated[
        str, Setting(("auto", "compiled", "torch"), "compiled kernel, or batched torch")
    ] = "auto"
    members: Annotated[
        int, Setting("whole", "members at once in the torch engine; 0 is the default of the device")
    ] = 0


def declared(kind: type = TrainSettings) -> dict[str, Setting]:
    """What the settings of a class declare, by name, in their order."""
    hints = get_type_hints(kind, include_extras=True)
    return {n: hint.__metadata__[0] for n, hint in hints.items() if hasattr(hint, "__metadata__")}


NETWORK = tuple(declared(NetworkSettings))
"""Names of the settings of the network."""
MODULE = tuple(declared(ModuleSettings))
"""Names of the settings of a torch module in its place."""
PROBLEM = tuple(name for name in declared(ProblemSettings) if name not in NETWORK)
"""Names of the settings of the problem, which are keywords of ``sp.Problem``."""
TRAINING = tuple(name for name in declared() if name not in NETWORK)
"""Names of the settings of the training, which are keywords of ``sp.train``."""


@dataclass(frozen=True)
class Settings:
    """One training run: its network, its target, and the other keywords of ``training.train``."""

    network: Network | Module
    target: Any
    keywords: dict[str, Any]

    @property
    def runs(self) -> int:
        """Members of the ensemble."""
        return int(self.keywords["runs"])


def text(value: Any) -> str:
    """A value as a flag would take it: ``40,40``, ``true``, ``none``, ``beta1=0.9,eps=1e-08``."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_quoted(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ",".join(text(entry) for entry in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _quoted(entry: Any) -> str:
    """A value of a table: a text that holds commas is in quotes."""
    return f'"{entry}"' if isinstance(entry, str) and "," in entry else text(entry)


def settings(cell: Mapping[str, Any], seed: int = 0) -> Settings:
    """The training run that ``cell`` describes.

    A cell without a seed gets one from ``seed``: the same for all runs, or, where cells have a
    ``data_seed``, the same for all runs on one data set.

    Raises :class:`InputError` for an unknown name or a value of the wrong form.
    """
    values: dict[str, Any] = {"runs": TrainSettings.runs}
    for key, value in cell.items():
        name = key.replace("-", "_")
        if name == "dropout":
            refuse_dropout(value)
        if name not in _READERS:
            flags = [known.replace("_", "-") for known in _READERS]
            flag = name.replace("_", "-")
            raise unknown(f"setting {flag}", flag, flags, "remove it")
        try:
            values[name] = _READERS[name](value)
        except (TypeError, ValueError, OverflowError, KeyError):
            expected = str(_READERS[name].__doc__)
            raise InputError(f"{name}={text(value)}", expected, "correct the file") from None
    values.setdefault("seed", _own_seed(values, seed))
    names = [name for name in (*NETWORK, *MODULE) if name in values]
    network = architecture_of({name: values.pop(name) for name in names})
    return Settings(network, values.pop("target", None), values)


def architecture_of(values: Mapping[str, Any]) -> Network | Module:
    """The network, or the torch module, that settings of both describe, by their names.

    A setting with its default counts as left out.

    Raises
    ------
    InputError
        A setting that means nothing for what is described, or :class:`simprior.Network`'s and
        :class:`simprior.Module`'s own errors.
    """
    from simprior.network.spec import Network

    given = {name: value for name, value in values.items() if _differs(name, value)}
    paths = [name for name in ("module", "architecture") if name in given]
    if len(paths) == 2:
        remedy = "pass for example --architecture mlp, or --module mynets:make"
        raise InputError("module and architecture", "one of --module and --architecture", remedy)
    if paths:
        return _module(paths[0], given)
    for name in MODULE:
        if name in given:
            what, remedy = f"{name}={text(given[name])} without a module", f"leave {name} out"
            raise InputError(what, "--architecture or --module", f"{remedy}, or add one")
    return Network(**given)


def _module(kind: str, given: dict[str, Any]) -> Module:
    """The module of the settings ``given`` (used up), whose factory the setting ``kind`` names."""
    from simprior.modules.spec import FLAGGED, NORMS, SHIPPED, Module

    path = given.pop(kind)
    if kind == "architecture" and path not in SHIPPED:
        raise unknown(f"architecture={path!r}", path, SHIPPED)
    options = dict(given.pop("option", {}))
    for name in FLAGGED if path == "mlp" else ():
        if name in given and name in options:
            what = f"{name}={text(given[name])} and option {name}={text(options[name])}"
            raise InputError(what, "one of the two", f"leave {name} out of option")
        options.setdefault(name, given.pop(name, _usual(name)))
    if path == "mlp":
        Choice(NORMS, "pass norm=layer")("norm", options["norm"])
    law = {name: given.pop(name) for name in _OF_BOTH if name in given}
    for name, value in given.items():
        what, remedy = f"{name}={text(value)} with {kind}={path}", f"pass --option {name}=..."
        raise InputError(what, "flags that the module takes", f"{remedy} if it has such an option")
    for name in ("sigma_w", "sigma_b", "weight_dist"):
        if isinstance(law.get(name), tuple):
            what = f"{name}={text(law[name])} with {kind}={path}"
            raise InputError(what, "one number each", "torch modules have one for all layers")
        if law.get("init") == "own" and name in law:
            what = f"{name}={text(law[name])} with init=own"
            remedy = f"leave {name} out, or leave init out"
            raise InputError(what, "init=simprior with it", remedy)
    return Module(path, options=options, **law)


_OF_BOTH = tuple("n sigma_w sigma_b encoding weight_dist inputs init density rescale".split())


def _usual(name: str) -> Any:
    """The default of a setting of the network or module."""
    return getattr(NetworkSettings if name in NETWORK else ModuleSettings, name)


def _differs(name: str, value: Any) -> bool:
    """Whether a setting of the network or module has another value than its default."""
    usual = _usual(name)
    return value is not None if usual is None else bool(value != usual)


def _own_seed(values: Mapping[str, Any], seed: int) -> int:
    """Seed of a run that gives none: with a ``data_seed``, one for each data set.

    Runs on different data sets are then independent of each other, initial weights included. Runs
    on one data set that differ otherwise (optimiser, size, attack points) start from equal weights.
    """
    if values.get("data_seed") is None:
        return seed
    names = ("data_seed", "target", "data", "classes")
    key = "/".join(str(values.get(name)) for name in names)
    return int.from_bytes(derive(seed, f"train/data/{key}")[:7], "little")


def files_read(values: Any) -> dict[str, str]:
    """{path: SHA-256} of every file or run that settings name as ``data``, ``inputs``,
    ``prior_from``, at any depth; of a run directory, the hash of its manifest."""
    from simprior.runs.files import sha256_file
    from simprior.runs.manifest import MANIFEST

    found: dict[str, str] = {}
    if isinstance(values, Mapping):
        for key, value in values.items():
            named = value if isinstance(value, list | tuple) else [value]
            for entry in named if str(key).replace("-", "_") in _FILES else ():
                path = Path(str(entry))
                path = path / MANIFEST if (path / MANIFEST).is_file() else path
                if path.is_file():
                    found[str(entry)] = sha256_file(path)[0]
                elif path.is_dir():
                    found |= {f"{entry}/{f.name}": sha256_file(f)[0] for f in _image_files(path)}
            found |= files_read(value)
    elif isinstance(values, list | tuple):
        for value in values:
            found |= files_read(value)
    return found


def _image_files(folder: Path) -> list[Path]:
    """What a folder of images would be read from."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    return [f for f in files if "idx" in f.name or ".bin" in f.suffixes]


def _whole(value: Any) -> int:
    """a whole number such as 100 or 1e5"""
    number = float(value)
    if isinstance(value, bool) or number != int(number):
        raise ValueError
    return value if isinstance(value, int) else int(number)


def _maybe_whole(value: Any) -> int | None:
    """a whole number, or none"""
    return None if _is_none(value) else _whole(value)


def _number(value: Any) -> float:
    """a finite number"""
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    return number


def _radius(value: Any) -> float:
    """a number of flips, or the radius of a box"""
    number = _number(value)
    return int(number) if number == int(number) else number


def _maybe_number(value: Any) -> float | None:
    """a number, or none"""
    return None if _is_none(value) else _number(value)


def _word(value: Any) -> str:
    """a text"""
    if not isinstance(value, str | int):
        raise TypeError
    return str(value)


def _maybe_word(value: Any) -> str | None:
    """a text, or none"""
    return None if _is_none(value) else _word(value)


def _widths(value: Any) -> tuple[int, ...]:
    """widths such as [40, 40] or "40,40" """
    return tuple(_whole(part) for part in _parts(value))


def _numbers(value: Any) -> float | tuple[float, ...]:
    """a number, or a list with one number a layer"""
    values = tuple(_number(part) for part in _parts(value))
    return values[0] if len(values) == 1 else values


def _indices(value: Any) -> int | tuple[int, ...]:
    """a size, or a list of indices"""
    return tuple(_whole(v) for v in value) if isinstance(value, list | tuple) else _whole(value)


def _steps(value: Any) -> tuple[int, ...]:
    """steps such as [0, 10, 100], or "log" """
    if isinstance(value, str) and value.strip().lower() == "log":
        return LOG_STEPS
    return tuple(sorted({_whole(part) for part in _parts(value)}))


def _options(value: Any) -> dict[str, Any] | None:
    """a table such as {weight_decay = 0.01}"""
    found = _pairs(value)
    if isinstance(value, Mapping) or found is None:
        return found
    return {name: _number(entry) for name, entry in found.items()}


def _texts(value: Any) -> dict[str, Any] | None:
    """a table such as {layers = 2, pool = "last"}"""
    found = _pairs(value)
    if isinstance(value, Mapping) or found is None:
        return found
    return {name: number_or_text(entry) for name, entry in found.items()}


def _pairs(value: Any) -> dict[str, Any] | None:
    """A table, or ``name=value`` pairs with commas between."""
    if _is_none(value):
        return None
    if isinstance(value, Mapping):
        return dict(value)
    pairs = [part.partition("=") for part in _parts(value)]
    if any(not sign for _, sign, _ in pairs):
        raise ValueError
    return {name.strip(): entry.strip() for name, _, entry in pairs}


def number_or_text(entry: str) -> Any:
    """A whole number, a number, true or false, or else the text itself."""
    for read in (int, float):
        try:
            return read(entry)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(entry.lower(), entry)


def _switch(value: Any) -> bool:
    """true or false"""
    found = SWITCHES.get(str(value).strip().lower())
    if found is None:
        raise ValueError
    return found


def _inputs(value: Any) -> Any:
    """a matrix with one input a row, or a .npy or .csv file of one"""
    import numpy as np

    if _is_none(value):
        return None
    if not isinstance(value, str):
        return np.asarray(value, np.float64)
    path = Path(value)
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), np.float64)
        return np.array(read_matrix(path), np.float64)
    except (OSError, EOFError) as error:
        raise ValueError from error


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() == "none")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str):
        bare = value.strip().strip("()")
        return [] if bare.lower() in {"", "none"} else [part.strip() for part in bare.split(",")]
    return [value]


READERS: Mapping[str, Callable[[Any], Any]] = {
    "whole": _whole,
    "count": _whole,
    "whole?": _maybe_whole,
    "number": _number,
    "number?": _maybe_number,
    "radius": _radius,
    "numbers": _numbers,
    "word": _word,
    "word?": _maybe_word,
    "widths": _widths,
    "sizes": _indices,
    "steps": _steps,
    "options": _options,
    "texts": _texts,
    "switch": _switch,
    "truth": _switch,
    "inputs": _inputs,
}
"""How the values of each kind of setting are read; the docstring says what is expected."""
_READERS = {
    name: READERS.get(str(one.kind), _word)
    for name, one in (declared() | declared(ModuleSettings)).items()
}
