"""Networks of one architecture as one (N, P) tensor: outputs, losses, gradients, Hessian products.

Everything that :mod:`simprior.analysis.flatness` measures is computed for all networks of an
:class:`Ensemble` at once, in float64, in chunks that bound the memory. A network's numbers do not
depend on the others, on the chunks (up to the rounding of sums) or on the order of the networks:
random directions belong to (seed, its id).

Parameters are the rows of a tensor in the flat layout of :mod:`simprior.network.parameters`. Inputs
are (k, d), the same for all networks. Derivatives are written out in place of autograd
(:class:`Passes`): back-propagation, and Pearlmutter's R-operator (Neural Computation 1994). What
depends on the point alone is kept in a :class:`Point`, so that each further Hessian product costs
six matrix products a layer.

:func:`rescale` gives relu layers other weights and the same function (Dinh et al., ICML 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from simprior.checks import Number
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.network.activations import has_gradient
from simprior.network.callables import differentiable, tensor_derivatives
from simprior.network.density import refuse_density
from simprior.network.losses import LOSSES, check_loss, threshold
from simprior.network.parameters import Parameters, flat_layers, flat_size, forward, shapes_of
from simprior.network.spec import Network
from simprior.training.draws import Source
from simprior.training.records import TrainResult
from simprior.training.targets import Problem

if TYPE_CHECKING:
    from simprior.training.module_members import ModuleSource
    from simprior.training.spec import TrainSpec


def rescale(
    parameters: torch.Tensor, network: Network | Module, alpha: Any, layer: int = 0
) -> torch.Tensor:
    """(N, P) parameters with hidden layer ``layer`` times alpha and the next weights over alpha.

    W_l, b_l -> alpha W_l, alpha b_l and W_(l+1) -> W_(l+1) / alpha, other parameters as they are.
    A power of two only changes exponents, so that every product and sum of the next layer is the
    same to the last bit (barring overflow and subnormal numbers).

    Raises
    ------
    InputError
        The activation is not relu, alpha is not a finite number > 0, there is no such layer, or
        the network is a torch module.
    """
    if not isinstance(network, Network):
        what = f"rescaling layers of make={network.make_name}"
        raise InputError(what, "a Network with relu layers", "leave alpha out")
    if network.activation != "relu":
        raise InputError(
            f"rescaling with activation={network.activation_name}",
            "relu",
            "leave alpha out: other activations are not positively homogeneous",
        )
    positive = Number(
        0, open=True, remedy="pass for example alpha=4", expected="a finite factor > 0"
    )
    positive("alpha", alpha)
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < network.depth:
        span = f"a hidden layer, 0 to {network.depth - 1}" if network.depth else "a hidden layer"
        raise InputError(
            f"layer={layer!r} of a network with {network.depth} hidden layers",
            span,
            "only a hidden layer followed by another layer can be rescaled",
        )
    shapes = list(zip(network.fan_ins, (*network.hidden, 1), strict=True))
    start = sum((f + 1) * k for f, k in shapes[:layer])
    middle = start + (shapes[layer][0] + 1) * shapes[layer][1]
    end = middle + shapes[layer + 1][0] * shapes[layer + 1][1]
    out = parameters.clone()
    out[:, start:middle] *= alpha
    out[:, middle:end] /= alpha
    return out


Tensor = torch.Tensor
Layer = tuple[Tensor, Tensor]
NEED = "the measures of trained weights"


@dataclass(frozen=True, eq=False)
class Point:
    """What a pass leaves for derivatives; lists run over affine layers 0..depth.

    ``layers``: (W, b); ``inputs``: the (N, k, fan_in) inputs h of each layer; ``first``,
    ``second``: phi', phi'' of the hidden layers (None: zero); ``deltas``: (N, k, width) dz/du of
    every layer; ``behind``: dz/dh of the hidden layers; ``z``, ``slope``, ``bend``: (N, k) output
    and the loss' two derivatives there.
    """

    layers: list[Layer]
    inputs: list[Tensor]
    first: list[Tensor]
    second: list[Tensor | None]
    deltas: list[Tensor]
    behind: list[Tensor]
    z: Tensor
    slope: Tensor
    bend: Tensor


class AnyPasses(Protocol):
    """What is asked of the passes of one architecture, for networks at the rows of (N, p) tensors.

    A point is what its own :meth:`point` gives.
    """

    @property
    def size(self) -> int:
        """Number p of parameters."""

    @property
    def units(self) -> int:
        """Numbers kept an example and network."""

    def arranged(self, P: Tensor) -> Tensor:
        """Rows of the layout of trained members as rows of this one."""

    def layers(self, P: Tensor) -> list[Layer] | None:
        """(N, fan_in, width) and (N, 1, width) of every layer; None if it has no such layers."""

    def weights(self, P: Tensor) -> list[Tensor]:
        """(N, ...) every tensor of weights, without biases."""

    def outputs(self, P: Tensor, X: Tensor) -> Tensor:
        """(N, m) outputs z of the inputs (m, d)."""

    def outputs_on(self, P: Tensor, x: Tensor) -> Tensor:
        """(N, m) outputs of networks on inputs of their own, (N, m, d)."""

    def input_slopes(self, P: Tensor, x: Tensor) -> Tensor:
        """(N, m, d) gradients of the outputs in the inputs (N, m, d)."""

    def point(self, P: Tensor, X: Tensor, y: Tensor, loss: str) -> Any:
        """The networks at P, ready for derivatives; ``y`` is (k,) or (N, k)."""

    def take(self, p: Any, rows: Tensor, X: Tensor) -> Any:
        """The point of some of its networks."""

    def gradient(self, p: Any) -> Tensor:
        """(N, p) gradients of the mean loss at a point."""

    def tangent(self, p: Any, V: Tensor) -> Tensor:
        """(N, k) directional derivatives of z along V (N, p)."""

    def hvp(self, p: Any, V: Tensor) -> Tensor:
        """(N, p) products of each network's Hessian of the mean loss with its row of V."""


class Passes:
    """The passes of one architecture."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.shapes = shapes_of(network)
        self._size = flat_size(self.shapes)
        self.activation = differentiable(network, NEED)

    @property
    def size(self) -> int:
        """Number p of parameters."""
        return self._size

    def arranged(self, P: Tensor) -> Tensor:
        """Rows of the layout of trained members, which is that of these passes."""
        return P

    @property
    def units(self) -> int:
        """Units of all layers together: numbers kept an example and network."""
        return sum(k for _, k in self.shapes)

    def derivatives(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]:
        """(u, phi(u)) -> (phi'(u), phi''(u) or None), at a kink as torch's autograd has it.

        Raises :class:`InputError` for ``step``, which has no useful gradient.
        """
        if not has_gradient(self.network):
            raise InputError(
                f"activation={self.network.activation_name!r}",
                "an activation with a gradient",
                "leave out measures that need gradients (sharpness, hessian, fisher, relative)",
            )
        return tensor_derivatives(self.network, NEED)

    def layers(self, P: Tensor) -> list[Layer]:
        """Views (N, fan_in, width) and (N, 1, width) of every layer."""
        return flat_layers(P, self.shapes)

    def outputs(self, P: Tensor, X: Tensor) -> Tensor:
        """(N, m) outputs z of the inputs (m, d)."""
        return forward(X.expand(len(P), -1, -1), self.layers(P), self.activation)[:, :, 0]

    def _on(self, P: Tensor, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """(N, m) outputs on inputs (N, m, d), and (u, phi(u)) of the hidden layers."""
        layers = self.layers(P)
        hidden, h = [], x
        for i, (w, b) in enumerate(layers):
            h = b + h @ w
            if i < len(layers) - 1:
                u, h = h, self.activation(h)
                hidden.append((u, h))
        return h[:, :, 0], hidden

    def outputs_on(self, P: Tensor, x: Tensor) -> Tensor:
        """(N, m) outputs of networks on inputs of their own, (N, m, d)."""
        return self._on(P, x)[0]

    def input_slopes(self, P: Tensor, x: Tensor) -> Tensor:
        """(N, m, d) gradients of the outputs in the inputs (N, m, d).

        Raises :class:`InputError` for an activation without gradient.
        """
        derive, layers = self.derivatives(), self.layers(P)
        _, hidden = self._on(P, x)
        back = layers[-1][0].mT.expand(-1, x.shape[1], -1)
        for (w, _), (u, h) in zip(layers[-2::-1], hidden[::-1], strict=True):
            back = (derive(u, h)[0] * back) @ w.mT
        return back

    def point(self, P: Tensor, X: Tensor, y: Tensor, loss: str) -> Point:
        """Forward and backward pass at P; ``y`` is (k,) or (N, k)."""
        derive = self.derivatives()
        layers, inputs = self.layers(P), [X.expand(len(P), -1, -1)]
        first: list[Tensor] = []
        second: list[Tensor | None] = []
        for w, b in layers[:-1]:
            u = torch.baddbmm(b, inputs[-1], w)
            h = self.activation(u)
            d1, d2 = derive(u, h)
            inputs.append(h)
            first.append(d1)
            second.append(d2)
        z = torch.baddbmm(layers[-1][1], inputs[-1], layers[-1][0])[:, :, 0]
        deltas: list[Tensor] = [torch.ones_like(z).unsqueeze(2)]
        behind: list[Tensor] = []
        for i in range(len(layers) - 1, 0, -1):
            w = layers[i][0]
            e = w.mT.expand(-1, len(X), -1) if i == len(layers) - 1 else torch.bmm(deltas[0], w.mT)
            behind.insert(0, e)
            deltas.insert(0, first[i - 1] * e)
        slope, bend = LOSSES[loss].derivatives(z, y)
        return Point(layers, inputs, first, second, deltas, behind, z, slope, bend)

    def gradient(self, p: Point) -> Tensor:
        """(N, P) gradients of the mean loss at a point."""
        scale = (p.slope / p.z.shape[1]).unsqueeze(2)
        out = torch.empty(len(p.z), self.size, dtype=p.z.dtype, device=p.z.device)
        for (w, b), h, delta in zip(self.layers(out), p.inputs, p.deltas, strict=True):
            scaled = delta * scale
            w.copy_(torch.bmm(h.mT, scaled))
            b.copy_(scaled.sum(1, keepdim=True))
        return out

    def tangent(self, p: Point, V: Tensor) -> Tensor:
        """(N, k) directional derivatives of z along V (N, P)."""
        return self._tangents(p, V)[0]

    def _tangents(self, p: Point, V: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Directional derivatives along V (N, P): of z (N, k), of each u, of each layer's input."""
        dots: list[Tensor] = []
        inputs: list[Tensor] = []
        h_dot: Tensor | None = None
        for i, ((w, _), (v, c)) in enumerate(zip(p.layers, self.layers(V), strict=True)):
            u_dot = torch.baddbmm(c, p.inputs[i], v)
            if h_dot is not None:
                inputs.append(h_dot)
                u_dot = torch.baddbmm(u_dot, h_dot, w)
            dots.append(u_dot)
            if i < len(p.first):
                h_dot = p.first[i] * u_dot
        return dots[-1][:, :, 0], dots, inputs

    def take(self, p: Point, rows: Tensor, X: Tensor) -> Point:
        """The point of some of its networks."""

        def each(items: list[Tensor]) -> list[Tensor]:
            return [t[rows] for t in items]

        layers = [(w[rows], b[rows]) for w, b in p.layers]
        second = [None if t is None else t[rows] for t in p.second]
        parts = (each(p.inputs), each(p.first), second, each(p.deltas), each(p.behind))
        return Point(layers, *parts, p.z[rows], p.slope[rows], p.bend[rows])

    def weights(self, P: Tensor) -> list[Tensor]:
        """(N, fan_in, width) weights of every layer."""
        return [w for w, _ in self.layers(P)]

    def hvp(self, p: Point, V: Tensor) -> Tensor:
        """(N, P) products of each network's Hessian of the mean loss with its row of V."""
        k = p.z.shape[1]
        z_dot, u_dots, h_dots = self._tangents(p, V)
        scale = (p.slope / k).unsqueeze(2)
        delta_dot = (p.bend * z_dot / k).unsqueeze(2)
        out = torch.empty_like(V)
        pieces, directions = self.layers(out), self.layers(V)
        for i in range(len(p.layers) - 1, -1, -1):
            w, b = pieces[i]
            product = torch.bmm(p.inputs[i].mT, delta_dot)
            if i:
                product = torch.baddbmm(product, h_dots[i - 1].mT, p.deltas[i] * scale)
            w.copy_(product)
            b.copy_(delta_dot.sum(1, keepdim=True))
            if i:
                delta_dot = self._back(p, i, delta_dot, scale, directions[i][0], u_dots[i - 1])
        return out

    def _back(
        self, p: Point, i: int, delta_dot: Tensor, scale: Tensor, V: Tensor, u_dot: Tensor
    ) -> Tensor:
        """Derivative of dL/du of hidden layer i - 1 along the direction."""
        e_dot = torch.bmm(delta_dot, p.layers[i][0].mT)
        e_dot = torch.baddbmm(e_dot, p.deltas[i] * scale, V.mT)
        out = p.first[i - 1] * e_dot
        bend = p.second[i - 1]
        if bend is not None:
            out += bend * u_dot * (p.behind[i - 1] * scale)
        return out


def _source_of(spec: TrainSpec) -> Source | ModuleSource:
    """The random choices of the members of a run."""
    start = spec.start
    if isinstance(start, Network):
        return Source(start, spec.seed)
    from simprior.training.module_members import ModuleSource

    return ModuleSource(start, spec.seed)


def passes_of(network: Network | Module) -> AnyPasses:
    """The passes of an architecture."""
    if isinstance(network, Network):
        return Passes(network)
    from simprior.analysis.flatness.modules import ModulePasses

    return ModulePasses(network)


MEMORY = 1 << 24
"""Bytes of temporary numbers at once: about what caches hold; more is slower on CPUs."""
_BLOCK = 16


@dataclass(frozen=True, eq=False)
class Ensemble:
    """N networks and the examples they were fitted to.

    ``network`` is a :class:`Network` or a :class:`Module`; ``parameters`` (N, P) float64 in the
    order of ``Parameters.flat``, or of :class:`ModulePasses`; ``X`` (k, d) float64 and
    ``y`` (k,) or (N, k) labels 0/1: everything fitted, attack points included; ``loss`` a name of
    ``training.losses``; ``ids`` (N,) integers that own each network's random directions (member
    numbers), together with the text ``stream`` (the seeds of their run); ``initial`` (N, P)
    parameters before training, if known; ``memory`` bytes of temporary numbers.
    """

    parameters: Tensor
    network: Network | Module
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
        cls,
        run: TrainResult | Path | str,
        members: Sequence[int] | np.ndarray | None = None,
        *,
        workers: int = 1,
        problem: Problem | None = None,
        device: str = "cpu",
    ) -> Ensemble:
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
                "members that fitted, or others by number",
                "train longer (--max-epochs, --lr)",
            )
        spec, problem, found = retrain(result, chosen, problem=problem, workers=workers)
        source = _source_of(spec)
        start = np.stack([source.parameters(int(i)).flat() for i in chosen])
        arranged = passes_of(spec.network).arranged
        return cls(
            arranged(_tensor(found.parameters)),
            spec.network,
            _tensor(problem.train_inputs.astype(np.float32)),
            _tensor(problem.labels),
            spec.loss,
            device,
            chosen,
            None if spec.optimizer.rule == "guess" else arranged(_tensor(start)).to(device),
            stream=f"{spec.seed}/{result.problem['seed']}/",
        )

    @classmethod
    def of_given(
        cls,
        parameters: np.ndarray,
        network: Network | Module,
        problem: Problem,
        loss: str,
        device: str = "cpu",
        ids: Sequence[int] | np.ndarray = (),
        stream: str = "",
    ) -> Ensemble:
        """Networks from elsewhere: (N, P) parameters, with the examples of ``problem``.

        Inputs are rounded to float32, as those of networks that are trained here.
        """
        X = _tensor(problem.train_inputs.astype(np.float32))
        y = _tensor(problem.labels)
        numbers = np.asarray(ids, np.int64)
        return cls(_tensor(parameters), network, X, y, loss, device, numbers, stream=stream)

    @classmethod
    def of_parameters(
        cls,
        parameters: Sequence[Parameters],
        network: Network,
        X: Any,
        y: Any,
        loss: str = "ce",
        device: str = "cpu",
    ) -> Ensemble:
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
    def passes(self) -> AnyPasses:
        """The batched passes of the architecture."""
        return passes_of(self.network)

    def subset(self, rows: Any) -> Ensemble:
        """The networks in ``rows`` (indices, a slice, or a mask)."""
        rows = np.arange(len(self))[rows]
        keep = torch.from_numpy(rows).to(self.device)
        y = self.y[keep] if self.y.ndim == 2 else self.y
        start = None if self.initial is None else self.initial[keep]
        part = replace(
            self, parameters=self.parameters[keep], y=y, ids=self.ids[rows], initial=start
        )
        part.__dict__["passes"] = self.passes  # those of modules were tested, once
        return part

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
    refuse_density(ensemble.network, NEED, "measure their functions (measures='lz')")
    P, X, y = ensemble.parameters, ensemble.X, ensemble.y
    wanted = ensemble.passes.size
    if P.ndim != 2 or P.shape[1] != wanted or not len(P):
        raise InputError(
            f"parameters of shape {tuple(P.shape)}",
            f"(N, {wanted}) with N >= 1",
            "pass one row a network, in the order of Parameters.flat()",
        )
    if X.ndim != 2 or X.shape[1] != ensemble.network.d or not len(X):
        raise InputError(
            f"X of shape {tuple(X.shape)}",
            f"(k, {ensemble.network.d}) with k >= 1",
            "pass the inputs that were fitted",
        )
    shapes = ((len(X),), (len(P), len(X)))
    if tuple(y.shape) not in shapes or not bool(((y == 0) | (y == 1)).all()):
        raise InputError(
            f"y of shape {tuple(y.shape)}",
            f"labels 0/1 of shape {shapes[0]} or {shapes[1]}",
            "pass one label an example",
        )
    finite = torch.isfinite(P).all(1)
    if not bool(finite.all()) or not bool(torch.isfinite(X).all()):
        bad = int((~finite).sum())
        raise InputError(
            f"{bad} networks with weights that are not finite",
            "finite weights and inputs",
            "leave out members whose training diverged",
        )
    if len(ensemble.ids) != len(P) or not math.isfinite(ensemble.memory):
        raise InputError(f"{len(ensemble.ids)} ids", f"{len(P)}", "pass one a network")
