"""The kernel of any architecture: in closed form where it is known, by Monte Carlo otherwise."""

from __future__ import annotations

import logging

import numpy as np

from simprior.boolean.truthtable import bit_matrix
from simprior.checks import ARCHITECTURE, Maybe, Whole, checked
from simprior.errors import InputError
from simprior.gp.kernels import nngp
from simprior.gp.sampled import DRAWS, GROUPS, SampledKernel, sampled_kernel
from simprior.modules.spec import Module
from simprior.network.spec import Network

_LOG = logging.getLogger("simprior")


@checked(network=ARCHITECTURE, draws=Maybe(Whole(2 * GROUPS)), seed=Whole(0, 2**63 - 1))
def kernel(
    network: Network | Module, *, draws: int | None = None, seed: int = 0
) -> np.ndarray | SampledKernel:
    """Covariance of the outputs of a random network on its inputs.

    Parameters
    ----------
    network : Network or Module
        Of a ``Network`` and of the shipped architectures that :mod:`simprior.gp.closed` lists it is
        the kernel of infinite width (NNGP), in closed form or by exact recursion. Of any other
        module it is estimated from networks at their own widths (:mod:`simprior.gp.sampled`).
    draws : int, optional
        Networks for the estimate, 1200 by default; more make it better. With a closed form it is
        refused.
    seed : int
        Of the estimate.

    Returns
    -------
    (m, m) float64 array, in squared units of the output, or :class:`SampledKernel`
        Both are what :func:`simprior.gp.log_prior` takes for K.

    Raises
    ------
    InputError, NumericalError
        As :func:`simprior.gp.nngp`; a module that cannot be used.
    """
    if isinstance(network, Network):
        _check_no_draws(draws, "a Network")
        x = network.inputs
        return nngp(network, bit_matrix(network.n, network.encoding) if x is None else x)
    from simprior.gp.closed import closed_kernel, why_sampled

    reason = why_sampled(network)
    if not reason:
        _check_no_draws(draws, network.make_name)
        return closed_kernel(network)
    _LOG.info("%s: %s, so that its kernel is sampled", network.make_name, reason)
    return sampled_kernel(network, DRAWS if draws is None else draws, seed)


def _check_no_draws(draws: int | None, of: str) -> None:
    if draws is not None:
        what = f"draws={draws} of the kernel of {of}"
        raise InputError(what, "a kernel that is sampled", "leave it out: the kernel is exact")
