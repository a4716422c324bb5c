"""Kernels by Monte Carlo: the output covariance of any architecture, with an error that is carried.

The output covariance of a random network is E[z(x) z(x')]. Where the network ends in a linear layer
the mean over that layer is exact, K = sigma_w^2 / k phi(x) phi(x')' + sigma_b^2 with its k inputs
phi, and a draw of what is below gives k products at once. The estimate is an average of such Gram
matrices, and so positive semidefinite. It is unbiased at the widths that the module has; what holds
at infinite width differs from it by O(1/width).

ln P of a function is not linear in K. With an estimate in place of K it is wrong by a bias of
order m^2 / (draws k), besides its noise. :func:`through_groups` has both from groups of draws:

* the value is 2 f(all) - mean f(half), which has no bias of first order in 1/draws (Quenouille
  1956);
* the noise is that of the jackknife over groups (Tukey 1958; Efron & Stein 1981), the other groups
  being kept; its variance is multiplied by (g - 1)/(g - 3), for the few groups that it comes from;
* what is left of the bias, of second order, is told by another combination without first-order
  bias, g f(all) - (g - 1) mean f(all but one group). Their difference counts as an error.

Errors of f itself (importance sampling) are amplified by both, and counted so.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import Kind, Whole, checked
from simprior.display import Shown
from simprior.errors import NumericalError, check_fits
from simprior.gp.covariance import merge_copies
from simprior.gp.finite_width import with_unmet
from simprior.modules.spec import Module
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb

if TYPE_CHECKING:
    import pandas as pd

GROUPS = 12
"""Groups of draws; even, so that halves are whole groups."""
DRAWS = 1200
"""Draws of hidden layers by default."""
MOST_SECOND = 0.5
"""Nats of second-order bias up to which ln P is trusted."""


@dataclass(frozen=True, repr=False)
class SampledKernel(Shown):
    """An (m, m) covariance estimated from networks, and what its error follows from.

    ``parts`` (GROUPS, m, m) are the means over disjoint groups of equally many draws, which are
    independent; ``stderr`` (m, m) is the standard error of an entry of their mean, by the spread
    between draws; ``draws`` are the hidden layers drawn, with ``features`` units each that the last
    layer reads (1 where there is no last linear layer).
    """

    parts: np.ndarray
    stderr: np.ndarray
    draws: int
    features: int

    def __len__(self) -> int:
        return int(self.parts.shape[1])

    @property
    def K(self) -> np.ndarray:
        """(m, m) estimate: the mean over all draws, positive semidefinite."""
        return np.asarray(self.parts.mean(axis=0))

    @property
    def singular(self) -> bool:
        """Whether there are too few draws for a K of full rank (the bias of the output adds 1)."""
        return self.draws * self.features + 1 < len(self)

    def without(self, group: int) -> np.ndarray:
        """(m, m) mean over all draws but those of one group."""
        return np.asarray(np.delete(self.parts, group, axis=0).mean(axis=0))

    def half(self, which: int) -> np.ndarray:
        """(m, m) mean over every other group, from group ``which`` (0 or 1)."""
        return np.asarray(self.parts[which::2].mean(axis=0))

    def on(self, index: np.ndarray) -> SampledKernel:
        """The same on some of the inputs."""
        chosen = np.ix_(np.arange(len(self.parts)), index, index)
        return replace(self, parts=self.parts[chosen], stderr=self.stderr[np.ix_(index, index)])

    def relative_error(self) -> float:
        """Root mean square over entries of stderr / sqrt(K_ii K_jj)."""
        root = np.sqrt(self.parts.mean(axis=0).diagonal())
        scale = np.outer(root, root)
        some = scale > 0
        return (
            float(np.sqrt(np.mean((self.stderr[some] / scale[some]) ** 2))) if some.any() else 0.0
        )

    def lines(self) -> list[str]:
        """Where the estimate comes from, and how good it is."""
        rank = "singular: fewer than m" if self.singular else "at least m"
        return [
            f"SampledKernel: {len(self):,} inputs, {self.draws:,} draws of {self.features:,} "
            f"features ({rank})",
            f"an entry is known to {self.relative_error():.2g} of sqrt(K_ii K_jj)",
        ]

    def to_frame(self) -> pd.DataFrame:
        """A row a pair i <= j: i, j, K, stderr."""
        import pandas as pd

        i, j = np.triu_indices(len(self))
        return pd.DataFrame({"i": i, "j": j, "K": self.K[i, j], "stderr": self.stderr[i, j]})


@checked(module=Kind(("Module",)), draws=Whole(2 * GROUPS))
def sampled_kernel(module: Module, draws: int = DRAWS, seed: int = 0) -> SampledKernel:
    """Estimate the output covariance of a module at its own widths.

    Parameters
    ----------
    module : Module
        Any; its inputs are those of the kernel.
    draws : int
        Hidden layers drawn, rounded up to a multiple of the number of groups.
    seed : int
        Root seed. The numbers are others than those of :func:`simprior.sample` under that seed.

    Returns
    -------
    SampledKernel
        Inputs that the module takes for the same in every draw have bitwise equal rows.

    Raises
    ------
    InputError
        The module cannot be used.
    NumericalError
        A network gives values that are not finite.
    """
    from simprior.modules.build import evaluation, users_code

    rng.check_seed(seed)
    draws = GROUPS * -(-draws // GROUPS)
    inputs, where = np.unique(module.input_matrix() + 0.0, axis=0, return_inverse=True)
    where, m = where.reshape(-1), len(inputs)
    need = 8.0 * (GROUPS + 4) * (m**2 + len(where) ** 2)
    check_fits(f"a sampled kernel of {len(where):,} inputs", need, "take fewer inputs")
    source = _Source(replace(module, n=module.d, inputs=inputs), seed)
    parts, squares = np.zeros((GROUPS, m, m)), np.zeros((m, m))
    with evaluation(), users_code(module.make_name, source.x):
        for number, one in source.grams(draws):
            parts[number % GROUPS] += one
            squares += one * one
    parts /= draws // GROUPS
    mean = parts.mean(axis=0)
    stderr = np.sqrt(np.maximum(squares / draws - mean**2, 0.0) / (draws - 1))
    stderr = with_unmet(mean, stderr, inputs, inputs, draws)
    where = merge_copies(mean)[where]
    every = np.ix_(np.arange(GROUPS), where, where)
    found = SampledKernel(parts[every], stderr[np.ix_(where, where)], draws, source.features)
    _say(module, found)
    return found


class _Source:
    """Gram matrices of a module on its inputs, one a hidden draw."""

    def __init__(self, module: Module, seed: int) -> None:
        import torch

        from simprior.modules.draws import Draws

        built = module.built
        number = int.from_bytes(rng.derive(seed, "kernel", 0)[:7], "little")
        self._built, self._name = built, module.make_name
        x = torch.from_numpy(module.input_matrix())
        dtype = "float64" if _is_double(built.skeleton, x) else "float32"
        self._draws = Draws(built, 1, number, "cpu", dtype)
        self.x = x.to(self._draws.dtype)
        last = None if built.drawn_whole else built.last
        laws = {t.name: (t.deviation or 0.0) * math.sqrt(t.density) for t in built.tensors}
        self._last = last
        self._gain = 1.0 if last is None else laws[last.weight] ** 2
        self._shift = 0.0 if last is None or last.bias is None else laws[last.bias] ** 2
        self.features = 1 if last is None else last.fan_in

    def grams(self, draws: int) -> Any:
        """(number, (m, m) covariance given the hidden layers) of the draws 0 to ``draws`` - 1."""
        size = self._draws.at_once
        for start in range(0, draws, size):
            parameters = self._draws.body(start)
            if self._last is None:
                found = self._built.apply(parameters, self.x).unsqueeze(-1)
            else:
                found = self._built.features(parameters, self.x)
            values = found.double().numpy()
            if not np.isfinite(values).all():
                raise NumericalError(
                    f"{self._name} gave NaN or infinity: expected finite values; lower sigma_w "
                    "and sigma_b"
                )
            for i in range(min(size, draws - start)):
                gram = self._gain * (values[i] @ values[i].T) + self._shift
                yield start + i, 0.5 * (gram + gram.T)


def _is_double(skeleton: Any, x: Any) -> bool:
    """Whether a torch module can be evaluated in float64."""
    try:
        copy.deepcopy(skeleton).double()(x[:1])
    except Exception:  # of a user's module; what is wrong in float32 too is said there
        return False
    return True


def _say(module: Module, found: SampledKernel) -> None:
    log = logging.getLogger("simprior")
    log.info(
        "kernel of %s by Monte Carlo at the widths it has: %s draws, entries to %.2g",
        module.make_name,
        f"{found.draws:,}",
        found.relative_error(),
    )
    if found.singular:
        log.warning(
            "%s draws of %s features are fewer than the %s inputs: the kernel is singular, and "
            "ln P from it is not to be trusted; raise the draws of the kernel",
            f"{found.draws:,}",
            f"{found.features:,}",
            f"{len(found):,}",
        )


@dataclass(frozen=True)
class Jackknife:
    """A number that is a function of K, from a sampled kernel.

    ``value`` is without the bias of first order, ``bias`` what was taken off for it; ``noise`` is
    the standard error that the kernel makes, ``second`` the bias of second order (the module's
    docstring has all of them). All have the number's unit.
    """

    value: float
    bias: float
    noise: float
    second: float

    @classmethod
    def of(cls, whole: float, halves: Sequence[float], others: Sequence[float]) -> Jackknife:
        """From the number given all draws, each half of them, and all but each group."""
        value = 2.0 * whole - float(np.mean(halves))
        rest = np.asarray(others)
        noise = (GROUPS - 1) / GROUPS * float(((rest - rest.mean()) ** 2).sum())
        noise *= (GROUPS - 1) / (GROUPS - 3)
        second = GROUPS * whole - (GROUPS - 1) * float(rest.mean()) - value
        return cls(value, whole - value, math.sqrt(noise), second)


def over_groups(
    kernel: SampledKernel, function: Callable[[np.ndarray], list[Any]]
) -> list[tuple[Any, tuple[Any, ...], tuple[Any, ...]]]:
    """What ``function`` of a covariance lists, from all draws, each half, and all but each group.

    Returns one (whole, halves, others) an entry of its list.
    """
    whole = function(kernel.K)
    halves = [function(kernel.half(which)) for which in range(2)]
    others = [function(kernel.without(group)) for group in range(GROUPS)]
    return list(zip(whole, zip(*halves, strict=True), zip(*others, strict=True), strict=True))


Estimate = Callable[[np.ndarray], list[LogProb]]
"""ln P of some functions, given a covariance; with the same random numbers at every call."""


def through_groups(kernel: SampledKernel, estimate: Estimate) -> list[LogProb]:
    """ln P of functions under a sampled kernel, its own error included (module docstring).

    Returns
    -------
    list of LogProb
        ``stderr`` holds the error of the estimator, that of the kernel and the bias of second
        order. Diagnostics, besides those of the estimate from all draws: ``kernel_draws``,
        ``kernel_stderr`` and ``kernel_bias`` (what was taken off), in nats; ``reliable`` is False,
        and ``reason`` says why, where the second order exceeds half a nat, the kernel is singular,
        or some group makes the function impossible.
    """
    return [_combined(kernel, *column) for column in over_groups(kernel, estimate)]


def _combined(
    kernel: SampledKernel, whole: LogProb, halves: Sequence[LogProb], others: Sequence[LogProb]
) -> LogProb:
    every = (whole, *halves, *others)
    about = dict(whole.diagnostics) | {"kernel_draws": kernel.draws}
    about["seconds"] = sum(one.diagnostics.get("seconds", 0.0) for one in every)
    values = np.array([one.value for one in every])
    if not np.isfinite(values).all():
        return _not_finite(kernel, whole, values, about)
    found = Jackknife.of(whole.value, values[1:3].tolist(), values[3:].tolist())
    own = 4.0 * whole.stderr**2 + sum(one.stderr**2 for one in halves) / 4.0
    about |= {"kernel_stderr": found.noise, "kernel_bias": found.bias}
    about["reliable"] = bool(about.get("reliable", False))
    if kernel.singular:
        about |= {"reliable": False, "reason": "fewer draws of features than inputs"}
    elif abs(found.second) > MOST_SECOND:
        reason = f"{abs(found.second):.2g} nats of second-order bias of the sampled kernel"
        about |= {"reliable": False, "reason": reason}
    stderr = math.sqrt(own + found.noise**2 + found.second**2)
    return replace(whole, value=found.value, stderr=stderr, diagnostics=about)


def _not_finite(
    kernel: SampledKernel, whole: LogProb, values: np.ndarray, about: dict[str, Any]
) -> LogProb:
    """The result where the kernel, or one of some groups, makes a function impossible."""
    if (values == -math.inf).all() and not kernel.singular:
        return replace(whole, diagnostics=about)
    reason = "impossible under the kernel of some of the draws"
    about |= {"reliable": False, "converged": False, "reason": reason}
    return replace(whole, stderr=math.inf, diagnostics=about)
