"""The sampler of torch modules: blocks of hidden draws, each with its heads.

A block has always the same hidden draws (its number times its size, and on) and is evaluated as a
whole, whichever of them are asked for: so results do not depend on tasks or interruptions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import numpy as np
import torch

from simprior.boolean.sampling.job import Job
from simprior.boolean.sampling.nonconstant import NonConstant
from simprior.boolean.sampling.rows import Counter, count_words
from simprior.boolean.truthtable import pack
from simprior.errors import NumericalError
from simprior.modules.build import Built, evaluation, users_code
from simprior.modules.draws import Draws
from simprior.modules.spec import Module

_LOG = logging.getLogger("simprior")
_announced: set[int] = set()


def count_modules(job: Job, first: int, stop: int, counter: Counter) -> None:
    """Count the functions of the hidden draws ``first .. stop - 1`` of ``job``.

    Raises
    ------
    InputError, NumericalError
        The module cannot be used; its outputs are not finite.
    """
    assert isinstance(job.model, Module)
    found = NonConstant()
    for number, words in functions_of(job, first, stop):
        wanted = words[: job.samples - number * job.heads]
        at = (number - first) * (job.heads if job.iid else 1)
        count_words(wanted, job.heads, at, counter)
        found = found + NonConstant.of(wanted, job.model.m, job.heads)
        if counter.measuring is not None:
            counter.measuring.add(number, wanted)
    counter.nonconstant = found


def functions_of(job: Job, first: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first hidden draw, (draws * heads, W) packed functions), a block or a part of one at a
    time."""
    assert isinstance(job.model, Module)
    built, m = job.model.built, job.model.m
    draws = Draws(built, job.heads, job.seed, job.device, job.dtype)
    size = draws.at_once
    x = torch.from_numpy(job.model.input_matrix()).to(job.device, draws.dtype)
    for block in range(first // size, -(-stop // size)):
        start = block * size
        with evaluation(), users_code(job.model.make_name, x):
            began = time.perf_counter()
            z = _outputs(built, draws, x, start)
            if built.drawn_whole:
                _say_rate(built, size / (time.perf_counter() - began))
        if not bool(torch.isfinite(z).all()):
            raise NumericalError(
                f"{job.model.make_name} gave NaN or infinity: expected finite outputs; lower "
                "sigma_w and sigma_b, or use dtype float64"
            )
        z = z[max(0, first - start) : stop - start].reshape(-1, m)
        yield max(start, first), pack((z > 0).cpu().numpy())


def _outputs(built: Built, draws: Draws, x: torch.Tensor, start: int) -> torch.Tensor:
    """(draws, heads, m) outputs of a block."""
    parameters = draws.body(start)
    if built.last is None or built.drawn_whole:
        return built.apply(parameters, x).unsqueeze(1)
    return draws.heads(start).outputs(built.features(parameters, x))


def _say_rate(built: Built, rate: float) -> None:
    """Say once that modules are made one by one, and how fast that is."""
    if id(built) not in _announced:
        _announced.add(id(built))
        _LOG.warning(
            "the modules draw their own parameters in a way that is not one of torch's known "
            "initialisers: each is made by itself, about %.0f a second",
            rate,
        )
