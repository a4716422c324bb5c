"""The settings of ``simprior sensitivity``: :class:`StringsSettings` declares each of them, once.

The command line makes its flags from these fields, the stage ``[sensitivity]`` of a recipe has
their names as keys, and the manifest of a run records them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from simprior.checks import Integer, shown
from simprior.errors import InputError, check_fits
from simprior.modules.spec import Module
from simprior.network.spec import MASK_FIELDS, Network
from simprior.numerics.random import check_seed
from simprior.training.settings import Setting

if TYPE_CHECKING:
    from simprior.analysis.strings.networks import Spec
    from simprior.analysis.strings.search import Search

MOST = 10**12
"""Of any number of things asked for; beyond, no run ends."""
LAW = ("hidden", "activation", "sigma_w", "sigma_b", "encoding", "weight_dist", *MASK_FIELDS)
"""Settings that are the law of the networks."""
SEARCH = ("beam", "candidates", "budget")
"""Settings of the search for the nearest string."""


@dataclass(frozen=True, kw_only=True)
class StringsSettings:
    """What is measured: ``networks`` random networks at each length of ``n``.

    Each gets ``strings`` random start strings, each of them ``paths`` random orders of flips.
    ``module``: random torch modules in place of fully connected networks; its own ``n`` and inputs
    do not matter, and the settings of a law are its own.
    Raises :class:`InputError` for a setting out of its range.
    """

    n: tuple[int, ...] = (100, 200, 400)
    hidden: Annotated[
        tuple[int, ...], Setting("widths", 'widths of the hidden layers; "" is a perceptron')
    ] = (1000, 1000)
    activation: Annotated[
        str | Callable[[Any], Any],
        Setting("word", "relu, tanh, erf, gelu, sin, linear, step, or package.module:function"),
    ] = "relu"
    sigma_w: Annotated[
        float | tuple[float, ...],
        Setting("numbers", "weights: standard deviation times sqrt(fan-in)"),
    ] = 1.0
    sigma_b: Annotated[
        float | tuple[float, ...], Setting("numbers", "biases: standard deviation")
    ] = 0.0
    encoding: Annotated[str, Setting(("pm1", "01"), "bits as -1 and 1, or as 0 and 1")] = "pm1"
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
    classifier: Annotated[
        str,
        Setting(
            ("network", "uniform"),
            "uniform: a fair coin for every string, as a check (distance 1, flips 2)",
        ),
    ] = "network"
    networks: Annotated[int, Setting("count", "networks at each length")] = 500
    strings: Annotated[int, Setting("count", "start strings a network")] = 1
    paths: Annotated[int, Setting("count", "orders of flips a start string")] = 1
    beam: Annotated[int, Setting("count", "search: strings kept at each distance")] = 8
    candidates: Annotated[int, Setting("count", "search: bits tried from each of them")] = 32
    budget: Annotated[
        int,
        Setting("whole", "strings to enumerate at most to make a distance exact; 0 is none"),
    ] = 50_000
    gp_draws: Annotated[
        int,
        Setting("whole", "Gaussian sequences a length for the predicted flips; 0 is none"),
    ] = 20_000
    seed: int = 0
    module: Module | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, least in (("networks", 1), ("strings", 1), ("paths", 1), ("gp_draws", 0)):
            expected = f"an integer >= {least} (and <= {MOST:,})"
            remedy = f"pass for example {name}={max(least, 10)}"
            Integer(least, MOST, remedy, expected)(name, getattr(self, name))
        if not self.n or len(set(self.n)) < len(self.n):
            raise InputError(
                f"n={','.join(map(str, self.n)) or 'none'}",
                "lengths of strings, each once",
                "pass for example --n 100,200,400",
            )
        self._check_model()
        object.__setattr__(self, "n", tuple(sorted(self.specs)))
        assert self.search is not None  # checked now
        if isinstance(self.network, Network):
            fan_ins = (max(self.n), *self.network.hidden)
            weights = zip(fan_ins, (*self.network.hidden, 1), strict=True)
            largest = max(4.0 * fan_in * width for fan_in, width in weights)
            what = f"hidden={shown(self.network.hidden)} on {max(self.n)} bits"
            check_fits(what, largest, "pass smaller --hidden or --n")
        rows = self.networks * self.strings * len(self.n)
        check_fits(f"{rows:,} start strings", 64.0 * rows, "pass fewer --networks or --strings")
        check_fits(f"gp_draws={self.gp_draws}", 8.0 * self.gp_draws, "pass fewer --gp-draws")

    def _check_model(self) -> None:
        """Refuse what is no module, and settings of networks beside a module."""
        if self.module is None:
            return
        if not isinstance(self.module, Module):
            what = f"module={shown(self.module)}"
            raise InputError(what, "an sp.Module", "pass for example sp.Module('transformer')")
        for name in (*LAW, "classifier"):
            if getattr(self, name) != getattr(StringsSettings, name):
                what = f"{name}={shown(getattr(self, name))} with a module"
                raise InputError(what, "what the module says", f"leave {name} out")

    @cached_property
    def network(self) -> Network | Module:
        """The law of the networks; its inputs do not matter."""
        if self.module is not None:
            return self.module
        return Network(n=1, **{name: getattr(self, name) for name in LAW})

    @cached_property
    def search(self) -> Search:
        """How hard the nearest string is looked for."""
        from simprior.analysis.strings.search import Search

        return Search(self.beam, self.candidates, self.budget)

    @property
    def specs(self) -> dict[int, Spec]:
        """The law of the classifiers of each length."""
        from simprior.analysis.strings.networks import Spec

        return {n: Spec(n, self.network, self.classifier) for n in self.n}

    @property
    def total(self) -> int:
        """Networks of all lengths."""
        return self.networks * len(self.n)

    def config(self) -> dict[str, Any]:
        """Plain values for the run directory; their names are those of the flags."""
        found = {name: getattr(self, name) for name in NAMES if name not in LAW}
        law = self.network.to_dict()
        if self.module is None:
            known = {"network": {name: law[name] for name in LAW if name in law}}
        else:
            known = {"modules": {k: v for k, v in law.items() if k not in ("n", "inputs")}}
        return {**known, **found, "n": list(self.n)}


NAMES = tuple(one.name for one in fields(StringsSettings) if one.name != "module")
"""Names of the settings that are plain values."""


def module_law(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a network and module ``given`` by name, and the defaults of this command for
    a module: bits as -1 and 1, biases 0, and ``hidden`` where it has hidden layers."""
    usual: dict[str, Any] = {"encoding": StringsSettings.encoding}
    if given.get("init") != "own":
        usual["sigma_b"] = StringsSettings.sigma_b
    if given.get("architecture") == "mlp":
        usual["hidden"] = StringsSettings.hidden
    return usual | dict(given)


def settings_for(
    model: Network | Module, options: Mapping[str, Any]
) -> tuple[StringsSettings, dict[str, Any]]:
    """The settings among ``options`` with the law of ``model``, and the other options.

    ``n`` is one length or several. Raises :class:`InputError`.
    """
    given = {name: value for name, value in options.items() if name in NAMES}
    rest = {name: value for name, value in options.items() if name not in NAMES}
    if "n" in given:
        many = isinstance(given["n"], list | tuple)
        given["n"] = tuple(given["n"]) if many else (given["n"],)
    own = [name for name in given if name in LAW]
    if own:
        what = f"{own[0]}={shown(given[own[0]])} with a network"
        raise InputError(what, "what the network says", f"leave {own[0]} out")
    if isinstance(model, Network):
        law = {name: getattr(model, name) for name in LAW}
        return StringsSettings(**law, **given), rest
    return StringsSettings(module=model, **given), rest
