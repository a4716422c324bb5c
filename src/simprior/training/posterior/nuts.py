"""The No-U-Turn sampler of pyro (extra ``[bayes]``) on the soft posterior, to check HMC against."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from simprior.boolean.sampling.chains import Piece, check_rows, run_chains
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.prepare import check_samples
from simprior.boolean.truthtable import n_words
from simprior.checks import NETWORK, Number, Updates, Whole, checked
from simprior.errors import InputError, check_fits
from simprior.network.spec import Network, check_size
from simprior.numerics import random as rng
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress
from simprior.training.posterior.chains import TrainingSet, counts_of_chains, make_training_set
from simprior.training.posterior.slice import check_at_least
from simprior.training.posterior.soft import BETA, Likelihood, SoftTarget

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
    _import_pyro()
    given = make_training_set(network.m, train_index, labels, target)
    samples, seed = check_samples(samples), rng.check_seed(seed)
    likelihood = Likelihood.of(beta, noise)
    for name, value, low in (
        ("chains", chains, 1),
        ("thin", thin, 1),
        ("burn_in", burn_in, 0),
        ("max_depth", max_depth, 1),
    ):
        check_at_least(name, value, low)
    check_size(network)
    check_fits(f"samples={samples}", 8.0 * samples * n_words(network.m), "draw fewer --samples")
    draws = -(-samples // chains)
    if draws * thin < _FEWEST:
        raise InputError(
            f"samples={samples} by {chains} chains",
            f"at least {_FEWEST} draws a chain",
            "draw more --samples, or by fewer --chains",
        )
    warmup = max(200, thin * draws // 2) if burn_in is None else burn_in
    found = run_chains(
        partial(_run, network, given, likelihood, seed, draws, warmup, thin, accept, max_depth),
        chains,
        network.m,
        store,
        workers=workers,
        progress=progress,
    )
    words, ends = [w for w, _ in found], [end for _, end in found]
    check_rows(words, draws, "chain")
    info = {
        "method": "nuts",
        **likelihood.describe(),
        "thin": thin,
        "burn_in": warmup,
        "acceptance": float(np.mean([end["rate"] for end in ends])),
        "divergent": sum(int(end["divergent"]) for end in ends),
    }
    bits = 0 if network.inputs is not None else network.n
    return counts_of_chains(np.stack(words), given, bits, info)


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
    draws: int,
    warmup: int,
    thin: int,
    accept: float,
    max_depth: int,
    chain: int,
    kept: Any = None,
    seconds: float = math.inf,
) -> Piece:
    """All of chain number ``chain``: pyro's sampler does not hand over its state on the way."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        target = SoftTarget(network, given, likelihood)
        source = rng.generator(seed, "nuts", chain)
        start = source.standard_normal(target.size)
        found, rate, divergent = run_nuts(
            lambda u: -target.log_density(u[None])[0],
            start,
            draws * thin,
            warmup,
            int(source.integers(2**32)),
            accept=accept,
            max_depth=max_depth,
        )
        words = target.functions(found[thin - 1 :: thin])
    finally:
        torch.set_num_threads(threads)
    return Piece(words, {"rate": rate, "divergent": divergent}, True)
