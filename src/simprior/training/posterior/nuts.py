"""The No-U-Turn sampler of pyro (extra ``[bayes]``) on the soft posterior, to check HMC against."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from simprior.boolean.sampling.chains import Piece
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.prepare import check_samples
from simprior.checks import NETWORK, Number, Updates, Whole, checked
from simprior.errors import InputError
from simprior.network.density import refuse_density
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress, RunOptions, one_torch_thread
from simprior.training.posterior.chains import TrainingSet, make_training_set
from simprior.training.posterior.driver import Length, draw_chains, length_of
from simprior.training.posterior.soft import BETA, GRADIENTS, SHORTEST, Likelihood, SoftTarget

_FEWEST = 4


@checked(network=NETWORK, accept=Number(0, 1, open=True), workers=Whole(1), progress=Updates())
def nuts_posterior(
    network: Network,
    train_index: Sequence[int] | np.ndarray,
    labels: Any = None,
    samples: int | float = 10**3,
    seed: int = 0,
    *,
    target: Any = None,
    beta: float = BETA,
    noise: float | None = None,
    chains: int = 4,
    thin: int = 1,
    burn_in: int | None = None,
    accept: float = 0.8,
    max_depth: int = 10,
    workers: int = 1,
    progress: Progress | None = None,
    store: RunDir | None = None,
) -> FunctionCounts:
    """Draw functions from the posterior under the soft likelihood by pyro's NUTS.

    Parameters as in :func:`simprior.training.posterior.soft.hmc_posterior`; trajectories have up to
    2^``max_depth`` leapfrog steps (Hoffman & Gelman 2014). Chains run one after the other, each a
    task, and adapt a diagonal mass matrix in ``burn_in`` iterations. With ``store`` a chain is kept
    when it is finished.

    Returns
    -------
    FunctionCounts
        As of ``hmc_posterior``; ``acceptance`` and ``divergent`` are pyro's.

    Raises
    ------
    InputError
        Also if pyro is not installed.
    """
    refuse_density(network, GRADIENTS)
    _import_pyro()
    how, given = RunOptions.of(locals()), make_training_set(network.m, train_index, labels, target)
    samples, seed = check_samples(samples), rng.check_seed(seed)
    likelihood = Likelihood.of(beta, noise)
    length = length_of(
        network, samples, chains, thin, burn_in, shortest=SHORTEST, max_depth=max_depth
    )
    if length.draws * thin < _FEWEST:
        raise InputError(
            f"samples={samples} by {chains} chains",
            f"at least {_FEWEST} draws a chain",
            "draw more --samples, or by fewer --chains",
        )

    def describe(ends: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "method": "nuts",
            **likelihood.describe(),
            "thin": thin,
            "burn_in": length.burn_in,
            "acceptance": float(np.mean([end["rate"] for end in ends])),
            "divergent": sum(int(end["divergent"]) for end in ends),
        }

    advance = partial(_run, network, given, likelihood, seed, length, accept, max_depth)
    return draw_chains(advance, network, given, length, describe, how, store)


def run_nuts(
    potential: Any,
    start: np.ndarray,
    draws: int,
    warmup: int,
    seed: int,
    *,
    accept: float = 0.8,
    max_depth: int = 10,
) -> tuple[np.ndarray, float, int]:
    """One chain: (draws, D) positions, mean acceptance, number of divergences.

    ``potential`` maps a (D,) tensor to minus the log-density. torch's global generator, which pyro
    uses, is left as it was.
    """
    import torch

    pyro = _import_pyro()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyro.set_rng_seed(seed % 2**32)
        nuts = pyro.infer.NUTS(
            potential_fn=lambda sites: potential(sites["u"]),
            target_accept_prob=accept,
            max_tree_depth=max_depth,
        )
        run = pyro.infer.MCMC(
            nuts,
            num_samples=draws,
            warmup_steps=warmup,
            num_chains=1,
            disable_progbar=True,
            initial_params={"u": torch.from_numpy(np.array(start, float))},
        )
        run.run()
        found = run.get_samples()["u"].numpy()
        diagnostics = run.diagnostics()
    rate = float(np.mean(list(diagnostics["acceptance rate"].values())))
    return found, rate, sum(len(v) for v in diagnostics["divergences"].values())


def _import_pyro() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyro
            import pyro.infer
    except ImportError:
        raise InputError(
            "method='nuts'", "pyro to be installed", "pip install 'simprior[bayes]', or use hmc"
        ) from None
    return pyro


def _run(
    network: Network,
    given: TrainingSet,
    likelihood: Likelihood,
    seed: int,
    length: Length,
    accept: float,
    max_depth: int,
    chain: int,
    kept: Any = None,
    seconds: float = math.inf,
) -> Piece:
    """All of chain number ``chain``: pyro's sampler does not hand over its state on the way."""
    with one_torch_thread():
        target = SoftTarget(network, given, likelihood)
        source = rng.generator(seed, "nuts", chain)
        start = source.standard_normal(target.size)
        found, rate, divergent = run_nuts(
            lambda u: -target.log_density(u[None])[0],
            start,
            length.draws * length.thin,
            length.burn_in,
            int(source.integers(2**32)),
            accept=accept,
            max_depth=max_depth,
        )
        words = target.functions(found[length.thin - 1 :: length.thin])
    return Piece(words, {"rate": rate, "divergent": divergent}, True)
