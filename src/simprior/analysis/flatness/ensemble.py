"""Trained networks of one architecture as one (N, P) tensor: losses, gradients, functions.

Everything that :mod:`simprior.analysis.flatness` measures is computed for all networks of an
:class:`Ensemble` at once, in float64, in chunks that bound the memory. A network's numbers do not
depend on the others, on the chunks (up to the rounding of sums) or on the order of the networks:
random directions belong to (seed, its id).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simprior.analysis.flatness._passes import Passes
from simprior.errors import InputError
from simprior.network import Network
from simprior.parameters import Parameters
from simprior.training.draws import Source
from simprior.training.losses import LOSSES, check_loss, threshold
from simprior.training.records import TrainResult
from simprior.training.targets import Problem

Tensor = torch.Tensor
MEMORY = 1 << 24
"""Bytes of temporary numbers at once: about what caches hold; more is slower on CPUs."""
_BLOCK = 16


@dataclass(frozen=True, eq=False)
class Ensemble:
    """N networks and the examples they were fitted to.

    ``parameters`` (N, P) float64 in the order of ``Parameters.flat``; ``X`` (k, d) float64 and
    ``y`` (k,) or (N, k) labels 0/1: everything fitted, attack points included; ``loss`` a name of
    ``training.losses``; ``ids`` (N,) integers that own each network's random directions (member
    numbers), together with the text ``stream`` (the seeds of their run); ``initial`` (N, P)
    parameters before training, if known; ``memory`` bytes of temporary numbers.
    """

    parameters: Tensor
    network: Network
    X: Tensor
    y: Tensor
    loss: str
    device: str = "cpu"
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    initial: Tensor | None = None
    memory: int = MEMORY
    stream: str = ""

    def __post_init__(self) -> None:
        check_loss(self.loss)
        for name in ("parameters", "X", "y"):
            object.__setattr__(self, name, _tensor(getattr(self, name), self.device))
        ids = np.asarray(self.ids, np.int64)
        object.__setattr__(self, "ids", ids if len(ids) else np.arange(len(self.parameters)))
        _check(self)

    @classmethod
    def of_run(
        cls, run: TrainResult | Path | str, members: Sequence[int] | np.ndarray | None = None, *,
        workers: int = 1, problem: Problem | None = None, device: str = "cpu",
    ) -> Ensemble:  # fmt: skip
        """Chosen members of a training run (default: all that fitted), trained again exactly.

        No weights are stored on disk: members are a function of (seed, member, steps), see
        ``training.members.retrain_members``; the functions found are checked against the record.

        Raises
        ------
        InputError
            No such members, or inputs that the run does not record (pass ``problem``).
        NumericalError
            A member ended at another function than recorded.
        """
        from simprior.training.replay import load_result, retrain

        result = load_result(run)
        chosen = np.flatnonzero(result.fitted) if members is None else np.asarray(members, np.int64)
        if not len(chosen):
            raise InputError(
                f"a run with {int(result.fitted.sum())} fitted of {result.runs} members",
                "members that fitted, or others by number", "train longer (--max-epochs, --lr)",
            )  # fmt: skip
        spec, problem, found = retrain(result, chosen, problem=problem, workers=workers)
        source = Source(spec.network, spec.seed)
        start = np.stack([source.parameters(int(i)).flat() for i in chosen]).astype(np.float64)
        return cls(
            _tensor(found.parameters), spec.network,
            _tensor(problem.train_inputs.astype(np.float32)), _tensor(problem.labels), spec.loss,
            device, chosen,
            None if spec.optimizer.rule == "guess" else _tensor(start, device),
            stream=f"{spec.seed}/{result.problem['seed']}/",
        )  # fmt: skip

    @classmethod
    def of_parameters(
        cls, parameters: Sequence[Parameters], network: Network, X: Any, y: Any, loss: str = "ce",
        device: str = "cpu",
    ) -> Ensemble:  # fmt: skip
        """Networks given by their parameters; examples (k, d), labels (k,) or (N, k)."""
        if not len(parameters):
            raise InputError("parameters=[]", "at least one network", "pass a list of Parameters")
        flat = np.stack([np.asarray(p.flat(), np.float64) for p in parameters])
        return cls(_tensor(flat), network, _tensor(X), _tensor(y), loss, device)

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def size(self) -> int:
        """P, parameters of a network."""
        return int(self.parameters.shape[1])

    @property
    def examples(self) -> int:
        """k, examples to fit."""
        return len(self.X)

    @cached_property
    def passes(self) -> Passes:
        """The batched passes of the architecture."""
        return Passes(self.network)

    def subset(self, rows: Any) -> Ensemble:
        """The networks in ``rows`` (indices, a slice, or a mask)."""
        rows = np.arange(len(self))[rows]
        keep = torch.from_numpy(rows).to(self.device)
        y = self.y[keep] if self.y.ndim == 2 else self.y
        start = None if self.initial is None else self.initial[keep]
        return replace(
            self, parameters=self.parameters[keep], y=y, ids=self.ids[rows], initial=start
        )

    def labels(self, rows: Tensor | slice | None = None) -> Tensor:
        """Labels (1 or N, k) of the networks in ``rows``."""
        if self.y.ndim == 1:
            return self.y.unsqueeze(0)
        return self.y if rows is None else self.y[rows]

    def chunk(self, numbers: int) -> int:
        """Networks at a time when each needs ``numbers`` float64 of temporary space."""
        return max(1, int(self.memory // (8 * max(numbers, 1))))

    @property
    def pass_numbers(self) -> int:
        """Numbers a forward and backward pass of one network keeps."""
        return self.examples * (6 * self.passes.units + self.network.d) + 3 * self.size

    def chunks(self, numbers: int | None = None) -> Iterator[slice]:
        """Slices of the networks that fit the memory (default: for a pass)."""
        step = self.chunk(self.pass_numbers if numbers is None else numbers)
        for at in range(0, len(self), step):
            yield slice(at, min(at + step, len(self)))

    def outputs(self, X: Any = None, parameters: Tensor | None = None) -> Tensor:
        """(N, m) outputs z of every network on the inputs (m, d) (default: those fitted)."""
        inputs = self.X if X is None else _tensor(X, self.device)
        P = self.parameters if parameters is None else parameters
        step = self.chunk(len(inputs) * (2 * self.passes.units + self.network.d))
        parts = [self.passes.outputs(P[at : at + step], inputs) for at in range(0, len(P), step)]
        return torch.cat(parts) if parts else inputs.new_zeros(0, len(inputs))

    def losses(self, parameters: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """(R,) mean losses at ``parameters`` (R, P), those of the networks ``rows`` (R,).

        Without ``rows`` row i belongs to network i.
        """
        z = self.outputs(None, parameters)
        return LOSSES[self.loss].tensors(z, self.labels(rows)).mean(1)

    def errors(self, parameters: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """(R,) share of the examples misclassified; arguments as for :meth:`losses`."""
        z = self.outputs(None, parameters)
        wrong = ((z > threshold(self.loss)) != (self.labels(rows) > 0.5)) | torch.isnan(z)
        return wrong.double().mean(1)

    def classes(self, X: Any = None, parameters: Tensor | None = None) -> Tensor:
        """(N, m) bool classes of the inputs: the networks' functions on them."""
        return self.outputs(X, parameters) > threshold(self.loss)

    def value_and_gradients(
        self, parameters: Tensor | None = None, rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(R,) mean losses and (R, P) gradients; arguments as for :meth:`losses`.

        Raises :class:`InputError` for an activation without gradients.
        """
        P = self.parameters if parameters is None else parameters
        values, out = P.new_empty(len(P)), torch.empty_like(P)
        step = self.chunk(self.pass_numbers)
        for at in range(0, len(P), step):
            part = slice(at, at + step)
            y = self.labels(part if rows is None else rows[part])
            point = self.passes.point(P[part], self.X, y, self.loss)
            values[part] = LOSSES[self.loss].tensors(point.z, y).mean(1)
            out[part] = self.passes.gradient(point)
        return values, out

    def gradients(self, parameters: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """(R, P) gradients of the mean loss; arguments as for :meth:`losses`."""
        return self.value_and_gradients(parameters, rows)[1]

    def hvp(self, vectors: Tensor, parameters: Tensor | None = None) -> Tensor:
        """(N, P) Hessian of each network's mean loss times its row of ``vectors`` (N, P)."""
        P = self.parameters if parameters is None else parameters
        out = torch.empty_like(P)
        step = self.chunk(2 * self.pass_numbers)
        for at in range(0, len(P), step):
            part = slice(at, at + step)
            y = self.labels(part)
            point = self.passes.point(P[part], self.X, y, self.loss)
            out[part] = self.passes.hvp(point, vectors[part])
        return out

    def rescaled(self, alpha: float, layer: int = 0) -> Ensemble:
        """The same functions from other weights: hidden layer ``layer`` (weights and biases) times
        ``alpha``, the weights of the next layer over ``alpha``, later biases as they are.

        relu(alpha u) = alpha relu(u) for alpha > 0 (Dinh et al., ICML 2017, section 3); for powers
        of two every output is the same to the last bit. Raises :class:`InputError` unless the
        activation is relu, ``alpha`` is finite and > 0, and there is such a hidden layer.
        """
        from simprior.analysis.flatness.rescale import rescale

        return replace(self, parameters=rescale(self.parameters, self.network, alpha, layer))

    def per_chunk(
        self, measure: Callable[[Ensemble], dict[str, Tensor]], numbers: int
    ) -> dict[str, np.ndarray]:
        """``measure`` of each block of networks, joined: a (N, ...) array a name.

        ``numbers`` float64 are kept a network; a block takes ``_BLOCK`` times the memory of a pass.
        """
        step = max(1, _BLOCK * self.memory // (8 * numbers))
        parts = [measure(self.subset(slice(at, at + step))) for at in range(0, len(self), step)]
        return {k: torch.cat([p[k] for p in parts]).cpu().numpy() for k in parts[0]}


def _tensor(value: Any, device: str = "cpu") -> Tensor:
    """A float64 tensor on ``device``; arrays are copied (they may be read-only)."""
    if not isinstance(value, Tensor):
        value = torch.from_numpy(np.array(value, np.float64))
    return value.to(device, torch.float64)


def _check(ensemble: Ensemble) -> None:
    P, X, y = ensemble.parameters, ensemble.X, ensemble.y
    wanted = ensemble.passes.size
    if P.ndim != 2 or P.shape[1] != wanted or not len(P):
        raise InputError(
            f"parameters of shape {tuple(P.shape)}", f"(N, {wanted}) with N >= 1",
            "pass one row a network, in the order of Parameters.flat()",
        )  # fmt: skip
    if X.ndim != 2 or X.shape[1] != ensemble.network.d or not len(X):
        raise InputError(
            f"X of shape {tuple(X.shape)}", f"(k, {ensemble.network.d}) with k >= 1",
            "pass the inputs that were fitted",
        )  # fmt: skip
    shapes = ((len(X),), (len(P), len(X)))
    if tuple(y.shape) not in shapes or not bool(((y == 0) | (y == 1)).all()):
        raise InputError(
            f"y of shape {tuple(y.shape)}", f"labels 0/1 of shape {shapes[0]} or {shapes[1]}",
            "pass one label an example",
        )  # fmt: skip
    finite = torch.isfinite(P).all(1)
    if not bool(finite.all()) or not bool(torch.isfinite(X).all()):
        bad = int((~finite).sum())
        raise InputError(
            f"{bad} networks with weights that are not finite", "finite weights and inputs",
            "leave out members whose training diverged",
        )  # fmt: skip
    if len(ensemble.ids) != len(P) or not math.isfinite(ensemble.memory):
        raise InputError(f"{len(ensemble.ids)} ids", f"{len(P)}", "pass one a network")
