"""HMC over a network's parameters under a soft likelihood.

Gradients need a likelihood that is not a step. Here the label y_j = +-1 of input j has probability
sigmoid(beta y_j z_j), z the output of the network and beta the inverse temperature: as beta grows
this tends to the 0-1 likelihood, and so does the posterior over functions; at any finite beta some
draws disagree with S (``violating``) and large margins are favoured a little. Parameters are
sampled as standard normals u; weights are sigma_w u / sqrt(fan-in), biases sigma_b u.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior import rng
from simprior.activations import has_gradient
from simprior.boolean.blocks import Clock, Piece, check_rows, run_chains
from simprior.boolean.counts import FunctionCounts
from simprior.boolean.inputs import input_matrix
from simprior.boolean.prepare import check_samples
from simprior.boolean.truthtable import n_words, pack
from simprior.callables import differentiable
from simprior.checks import NETWORK, Choice, Number, Updates, Whole, checked
from simprior.engine import Progress
from simprior.errors import InputError
from simprior.memory import check_fits
from simprior.network import Network, check_size
from simprior.parameters import flat_layers, flat_size, forward, shapes_of
from simprior.store import RunDir
from simprior.training.mcmc.chains import counts_of_chains
from simprior.training.mcmc.hmc import HMCRun, chain_major
from simprior.training.mcmc.slice_sampling import check_at_least
from simprior.training.mcmc.training_set import TrainingSet, make_training_set

if TYPE_CHECKING:
    import torch

BETA = 10.0
GROUP = 8  # chains integrated together; a constant, so that results do not depend on workers


class SoftTarget:
    """Log-density of u (C, D) given S, its gradient, and the functions of u.

    ln p(u|S) = -|u|^2 / 2 + sum over S of ln sigmoid(beta y_j z_j(u)), up to a constant.
    """

    def __init__(self, network: Network, given: TrainingSet, beta: float) -> None:
        import torch

        gaussian = Choice(("gaussian",), "use rejection for other laws", "gaussian")
        gaussian("weight_dist", network.weight_dist)
        if not has_gradient(network):
            raise InputError(
                f"activation={network.activation_name!r}",
                "an activation with a gradient",
                "use slice sampling",
            )
        self.beta = check_beta(beta)
        x = torch.from_numpy(input_matrix(network))
        self._all, self._train = x, x[torch.from_numpy(given.index)]
        self._sign = torch.from_numpy(2.0 * given.bits.astype(float) - 1.0)
        self._act = differentiable(network, "a soft likelihood")
        self._shapes = shapes_of(network)
        fans = zip(network.fan_ins, network.sigma_ws, strict=True)
        self._scales = [sigma_w / math.sqrt(fan_in) for fan_in, sigma_w in fans]
        self._bias_scales = network.sigma_bs
        self.size = flat_size(self._shapes)

    def output(self, u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """z (C, rows of x) of the networks u (C, D)."""
        standard = flat_layers(u, self._shapes)
        scales = zip(standard, self._scales, self._bias_scales, strict=True)
        layers = [(w * scale, b * bias) for (w, b), scale, bias in scales]
        return forward(x.expand(len(u), *x.shape), layers, self._act).squeeze(2)

    def log_density(self, u: torch.Tensor) -> torch.Tensor:
        """(C,) log-densities, differentiable."""
        import torch

        margins = self.beta * self._sign * self.output(u, self._train)
        return torch.nn.functional.logsigmoid(margins).sum(dim=1) - 0.5 * (u * u).sum(dim=1)

    def __call__(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-densities (C,) and gradients (C, D), the form that ``hmc.run_hmc`` takes."""
        import torch

        leaf = torch.from_numpy(np.ascontiguousarray(u)).requires_grad_(True)
        value = self.log_density(leaf)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach().numpy(), grad.numpy()

    def functions(self, u: np.ndarray) -> np.ndarray:
        """(C, W) packed functions on all inputs."""
        import torch

        with torch.no_grad():
            z = self.output(torch.from_numpy(np.ascontiguousarray(u)), self._all)
        return pack((z > 0).numpy().astype(np.uint8))


@dataclass(frozen=True)
class _Group:
    """Chains ``first .. stop - 1``, integrated together."""

    first: int
    stop: int


@checked(network=NETWORK, accept=Number(0, 1, open=True), workers=Whole(1), progress=Updates())
def hmc_posterior(
    network: Network,
    train_index: Sequence[int] | np.ndarray,
    labels: Any = None,
    samples: int | float = 10**4,
    seed: int = 0,
    *,
    target: Any = None,
    beta: float = BETA,
    chains: int = 32,
    thin: int = 1,
    burn_in: int | None = None,
    leapfrog: int = 16,
    accept: float = 0.8,
    workers: int = 1,
    progress: Progress | None = None,
    store: RunDir | None = None,
) -> FunctionCounts:
    """Draw functions from the posterior under the soft likelihood by HMC.

    Parameters
    ----------
    network : Network
        Gaussian weights; any activation that torch can differentiate.
    train_index, labels, target, samples, seed, chains, thin, workers, progress, store
        As in :func:`simprior.training.mcmc.slice_sampling.slice_posterior`.
    beta : float
        Inverse temperature of the likelihood, in units of 1 / output.
    burn_in : int, optional
        Iterations of the warm-up, in which step sizes adapt; by default half of those recorded, and
        at least 200. Chains start at draws from the prior.
    leapfrog, accept
        See :func:`simprior.training.mcmc.hmc.run_hmc`.

    Returns
    -------
    FunctionCounts
        As of ``slice_posterior``; ``info["posterior"]`` also has ``beta``, ``violating`` (share of
        draws that disagree with S), ``acceptance``, ``step`` and ``divergent``.

    Raises
    ------
    InputError, NumericalError
    """
    given = make_training_set(network.m, train_index, labels, target)
    samples, seed = check_samples(samples), rng.check_seed(seed)
    check_beta(beta)
    for name, value, low in (
        ("chains", chains, 1), ("thin", thin, 1), ("burn_in", burn_in, 0), ("leapfrog", leapfrog, 1)
    ):  # fmt: skip
        check_at_least(name, value, low)
    check_size(network, chains)
    check_fits(f"samples={samples}", 8.0 * samples * n_words(network.m), "draw fewer --samples")
    draws = -(-samples // chains)
    warmup = max(200, thin * draws // 2) if burn_in is None else burn_in
    groups = [_Group(c, min(c + GROUP, chains)) for c in range(0, chains, GROUP)]
    found = run_chains(
        partial(_run, network, given, beta, seed, draws, warmup, thin, leapfrog, accept, groups),
        len(groups), network.m, store, workers=workers, progress=progress,
    )  # fmt: skip
    sizes = [g.stop - g.first for g in groups]
    for (part, _), size in zip(found, sizes, strict=True):
        check_rows([part], draws * size, "chains of group")
    ends = [end for _, end in found]
    words = np.concatenate([
        chain_major(part.reshape(draws, size, -1))
        for (part, _), size in zip(found, sizes, strict=True)
    ])  # fmt: skip
    rates = np.concatenate([end["total"] for end in ends]) / (draws * thin)
    info = {
        "method": "hmc", "beta": float(beta), "thin": thin, "burn_in": warmup,
        "leapfrog": leapfrog, "acceptance": float(rates.mean()),
        "step": float(np.concatenate([end["step"] for end in ends]).mean()),
        "divergent": sum(int(end["divergent"].sum()) for end in ends),
    }  # fmt: skip
    return counts_of_chains(words, given, 0 if network.inputs is not None else network.n, info)


def check_beta(beta: Any) -> float:
    """A finite inverse temperature > 0, else :class:`InputError`."""
    return float(Number(0, open=True, remedy="pass for example beta=10")("beta", beta))


def _run(
    network: Network, given: TrainingSet, beta: float, seed: int, draws: int, warmup: int,
    thin: int, leapfrog: int, accept: float, groups: list[_Group], number: int,
    kept: dict[str, Any] | None = None, seconds: float = math.inf,
) -> Piece:  # fmt: skip
    """Go on with a group of chains: draws (T * C, W), draw after draw."""
    import torch

    group = groups[number]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        target = SoftTarget(network, given, beta)
        sources = [rng.generator(seed, "hmc", c) for c in range(group.first, group.stop)]
        run = HMCRun(target, sources, warmup, draws * thin, leapfrog, accept)
        if kept is None:
            run.begin(np.stack([source.standard_normal(target.size) for source in sources]))
        else:
            run.restore(kept)
        records = run.advance(Clock(seconds), thin, target.functions)
    finally:
        torch.set_num_threads(threads)
    words = np.concatenate([np.empty((0, n_words(network.m)), np.uint64), *records])
    return Piece(words, run.state(), run.done == draws * thin)
