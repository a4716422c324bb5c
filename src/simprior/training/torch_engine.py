"""Ensembles with torch: for CUDA, and for activations given as callables.

E members are trained at once with batched matrix products, on an (E, p) tensor of parameters; each
has its own order, state and number of steps, and a member that is done is replaced by the next one,
so that the batch stays full. The steps are those of :mod:`simprior.training.updates`, and the
members those of the compiled kernel (same initial parameters, minibatches and noise) up to float32
rounding.

Chosen members can be run again, each for its own number of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from simprior.boolean.truthtable import n_words, pack
from simprior.modules.spec import Module
from simprior.network.callables import tensor_function
from simprior.network.losses import LOSSES
from simprior.network.parameters import flat_layers, flat_size, forward, shapes_of
from simprior.network.spec import Network
from simprior.training.box import LOOKING, TESTING, TRAINING, Box, is_wrong
from simprior.training.draws import Parameters, Source
from simprior.training.spec import Members, Optimizer, Stop, TrainSpec
from simprior.training.targets import Problem

Noise = Callable[[], torch.Tensor]


class Rule:
    """The optimiser of E members; ``state`` is a list of (E, p) tensors, ``t`` (E,) their steps."""

    def __init__(self, optimizer: Optimizer, members: int, size: int, device: str) -> None:
        self.rule, self.lr, self.o = optimizer.rule, float(optimizer.lr or 0), optimizer.options
        self.state = [torch.zeros(members, size, device=device) for _ in range(3)]
        self.t = torch.zeros(members, dtype=torch.float64, device=device)

    @property
    def noisy(self) -> bool:
        """Whether steps need normal numbers."""
        return self.rule in ("sgld", "entropy")

    def shown(self, P: torch.Tensor) -> torch.Tensor:
        """The parameters of the networks: P, or the outer ones of Entropy-SGD."""
        return self.state[0] if self.rule == "entropy" else P

    def reset(self, rows: torch.Tensor, P: torch.Tensor) -> None:
        """Fresh state for the members in ``rows``."""
        self.t[rows] = 0
        start = float(self.o.get("initial_accumulator_value", 0.0))
        for k, state in enumerate(self.state):
            state[rows] = start if k == 0 else 0.0
            if self.rule == "entropy" and k < 2:
                state[rows] = P[rows]

    def keep(self, rows: torch.Tensor) -> None:
        """Forget all members but those in ``rows``."""
        self.state, self.t = [state[rows] for state in self.state], self.t[rows]

    @torch.no_grad()
    def step(self, P: torch.Tensor, G: torch.Tensor, noise: Noise) -> None:
        """Update P in place from the gradients G (overwritten)."""
        self.t += 1
        decay = float(self.o["weight_decay"])
        if self.rule == "adamw":
            P *= 1 - self.lr * decay
        elif decay:
            G += decay * P
        getattr(self, f"_{self.rule}")(P, G, noise)

    def _sgd(self, P: torch.Tensor, G: torch.Tensor, _: Any) -> None:
        momentum = float(self.o["momentum"])
        if momentum == 0:
            P -= self.lr * G
            return
        keep = torch.where(self.t == 1, 1.0, 1.0 - float(self.o["dampening"])).float()[:, None]
        buffer = self.state[0].mul_(momentum).add_(keep * G)
        P -= self.lr * (G + momentum * buffer if self.o["nesterov"] else buffer)

    def _adam(self, P: torch.Tensor, G: torch.Tensor, _: Any) -> None:
        b1, b2, eps = (float(self.o[k]) for k in ("beta1", "beta2", "eps"))
        m = self.state[0].mul_(b1).add_(G, alpha=1 - b1)
        v = self.state[1].mul_(b2).addcmul_(G, G, value=1 - b2)
        if self.o["amsgrad"]:
            v = torch.maximum(self.state[2], v, out=self.state[2])
        step = (self.lr / (1 - b1**self.t)).float()[:, None]
        inverse = (1 / torch.sqrt(1 - b2**self.t)).float()[:, None]
        P -= (step * m).div_(v.sqrt().mul_(inverse).add_(eps))

    _adamw = _adam

    def _rmsprop(self, P: torch.Tensor, G: torch.Tensor, _: Any) -> None:
        alpha, eps = float(self.o["alpha"]), float(self.o["eps"])
        v = self.state[0].mul_(alpha).addcmul_(G, G, value=1 - alpha)
        if self.o["centered"]:
            mean = self.state[2].mul_(alpha).add_(G, alpha=1 - alpha)
            v = (v - mean * mean).clamp_(min=0)
        buffer = self.state[1].mul_(float(self.o["momentum"])).add_(G / (v.sqrt() + eps))
        P -= self.lr * buffer

    def _adagrad(self, P: torch.Tensor, G: torch.Tensor, _: Any) -> None:
        rate = (self.lr / (1 + (self.t - 1) * float(self.o["lr_decay"]))).float()[:, None]
        total = self.state[0].addcmul_(G, G)
        P -= rate * G / (total.sqrt() + float(self.o["eps"]))

    def _adadelta(self, P: torch.Tensor, G: torch.Tensor, _: Any) -> None:
        rho, eps = float(self.o["rho"]), float(self.o["eps"])
        v = self.state[0].mul_(rho).addcmul_(G, G, value=1 - rho)
        move = (self.state[1] + eps).sqrt() / (v + eps).sqrt() * G
        self.state[1].mul_(rho).addcmul_(move, move, value=1 - rho)
        P -= self.lr * move

    def _sgld(self, P: torch.Tensor, G: torch.Tensor, noise: Noise) -> None:
        P += (2 * self.lr * float(self.o["temperature"])) ** 0.5 * noise() - self.lr * G

    def _entropy(self, P: torch.Tensor, G: torch.Tensor, noise: Noise) -> None:
        inner, gamma, alpha = (float(self.o[k]) for k in ("inner_lr", "gamma", "alpha"))
        x, mean = self.state[0], self.state[1]
        P += inner**0.5 * float(self.o["noise"]) * noise() - inner * (G - gamma * (x - P))
        mean.mul_(1 - alpha).add_(P, alpha=alpha)
        due = (self.t % float(self.o["inner_steps"]) == 0)[:, None]
        x.copy_(torch.where(due, x - self.lr * (x - mean), x))
        mean.copy_(torch.where(due, x, mean))
        P.copy_(torch.where(due, x, P))


MEMBERS = {"cpu": 256, "cuda": 4096}
_STAGE = 1 << 62


class Batch:
    """Forward pass of E networks whose parameters are the rows of an (E, p) tensor.

    ``at_once`` of them are trained together on ``device``.
    """

    least_rows = 64
    """How many inputs are attacked at once, at least."""

    def __init__(self, network: Network, device: str) -> None:
        self.at_once = MEMBERS[device]
        self.shapes = shapes_of(network)
        self.size = flat_size(self.shapes)
        self.activation = tensor_function(network)

    def together(self, count: int) -> int:
        """How many are taken together where ``count`` are wanted: any number."""
        return count

    def __call__(self, P: torch.Tensor, x: torch.Tensor, _: np.ndarray) -> torch.Tensor:
        """Pre-activations (E, B) of inputs (E, B, d) or (1, B, d)."""
        layers = flat_layers(P, self.shapes)
        return forward(x.expand(len(P), -1, -1), layers, self.activation)[:, :, 0]


def forward_and_choices(spec: TrainSpec, size: int, device: str) -> tuple[Any, Any]:
    """What passes inputs through E members, and what makes their random choices."""
    start = spec.start
    if isinstance(start, Network):
        return Batch(start, device), Source(start, spec.seed)
    from simprior.training.module_members import ModuleBatch, ModuleSource

    net = ModuleBatch(start, spec.batch(size), device)
    return net, ModuleSource(start, spec.seed)


def period_of(network: Network | Module) -> int:
    """What slot and number of a member must differ by a multiple of: 16 numbers of 4 bytes fill a
    line of the cache, which rounding of modules depends on."""
    return 1 if isinstance(network, Network) else 16


def places(slots: np.ndarray, period: int) -> np.ndarray:
    """New numbers for ``slots``: as small as they can be if slot and number are to differ by a
    multiple of ``period``; equal remainders keep their order."""
    rest = slots % period
    order, counts = np.argsort(rest, kind="stable"), np.bincount(rest, minlength=period)
    rank = np.empty(len(slots), np.int64)
    rank[order] = np.arange(len(slots)) - (np.cumsum(counts) - counts)[rest[order]]
    return np.asarray(rank * period + rest)


class Ensemble:
    """E slots, each training one member at a time, until all of a range are done."""

    def __init__(
        self, spec: TrainSpec, problem: Problem, first: int, count: int, device: str, members: int
    ) -> None:
        self.spec, self.problem, self.device = spec, problem, device
        self.first, self.count = first, count
        self.period = period_of(spec.network)
        self.net, self.source = forward_and_choices(spec, problem.size, device)
        self.slots = self.net.together(min(members or self.net.at_once, count))
        self.rule = Rule(spec.optimizer, self.slots, self.net.size, device)
        self.x, self.everything = self._float(problem.train_inputs), self._float(problem.inputs)
        self.labels = self._float(problem.labels)
        self.losses, self.cut = LOSSES[spec.loss].tensors, LOSSES[spec.loss].threshold
        size, batch = problem.size, spec.batch(problem.size)
        self.size, self.batch, self.epoch_steps = size, batch, -(-size // batch)
        self.check, self.limit = spec.check or self.epoch_steps, spec.max_steps(size)
        self.P = torch.zeros(self.slots, self.net.size, device=device)
        self.kept = torch.ones_like(self.P) if spec.network.masked else None
        self.y = self.labels.repeat(self.slots, 1)
        self.orders = np.tile(np.arange(size), (self.slots, 1))
        self.member = np.full(self.slots, -1)
        self.step = np.zeros(self.slots, np.int64)
        self.fit = np.full(self.slots, -1)
        self.stage = np.ones(self.slots, np.int64)
        self.coming = np.arange(self.period)
        w = n_words(problem.m)
        whole = lambda: np.zeros(count, np.int64)  # noqa: E731
        self.words, self.loss = np.zeros((count, w), np.uint64), np.zeros(count)
        self.steps, self.first_fit, self.errors = whole(), whole(), whole()
        self.rows: list[dict[str, np.ndarray]] = []
        self.wanted = np.ones(count, bool)
        self.box: Box | None = None
        self.robust_errors = whole() if spec.robust else None
        if spec.robust:
            self.box = Box(spec, problem, device, max(batch, self.net.least_rows))

    def _float(self, values: Any) -> torch.Tensor:
        """On the device, in float32."""
        return torch.tensor(np.asarray(values), dtype=torch.float32, device=self.device)

    def run(self) -> None:
        """Train all members of the range."""
        self.fill(np.arange(self.slots))
        while (self.member >= 0).any():
            self.record()
            done = self.look()
            if len(done):
                self.fill(done)
                self.compact()
                continue
            self.advance()

    def compact(self) -> None:
        """Drop idle slots once they are half of all: no member is left to fill them."""
        busy = np.flatnonzero(self.member >= 0)
        if not len(busy):
            return
        places_of = places(busy, self.period)
        size = self.net.together(int(places_of.max()) + 1)
        if 2 * size > self.slots:
            return
        used = np.full(size, np.flatnonzero(self.member < 0)[0])
        used[places_of] = busy
        rows = torch.from_numpy(used).to(self.device)
        self.slots, self.P, self.y = size, self.P[rows], self.y[rows]
        self.orders, self.member, self.step = self.orders[used], self.member[used], self.step[used]
        self.fit, self.stage = self.fit[used], self.stage[used]
        self.rule.keep(rows)
        if self.kept is not None:
            self.kept = self.kept[rows]

    def fill(self, slots: np.ndarray) -> None:
        """Give ``slots`` their next member or stage; without one they stay idle (member -1)."""
        for slot in slots:
            again = self.member[slot] >= 0 and self.stage[slot] == 0
            if not again:
                self.member[slot] = self._next(slot)
                self.stage[slot] = 0 if self.spec.pretrain else 1
                if self.member[slot] < 0:
                    continue
                start = self.source.parameters(int(self.member[slot])).flat()
                self.P[slot] = torch.from_numpy(start)
                if self.kept is not None:
                    mask = self.source.mask(int(self.member[slot])).flat()
                    self.kept[slot] = torch.from_numpy(mask)
            else:
                self.stage[slot] = 1
                self.P[slot] = self.rule.shown(self.P)[slot]
            labels = self.labels
            if self.stage[slot] == 0:
                drawn = self.source.labels(int(self.member[slot]), self.size)
                labels = torch.from_numpy(drawn).to(self.device)
            self.y[slot] = labels
            self.step[slot], self.fit[slot] = 0, -1
        self.rule.reset(torch.from_numpy(slots).to(self.device), self.P)

    def _next(self, slot: int) -> int:
        """The next member for a slot, or -1."""
        rest = slot % self.period
        number = int(self.coming[rest])
        self.coming[rest] += self.period
        return self.first + number if number < self.count and self.wanted[number] else -1

    def _key(self, slot: Any) -> int:
        return max(int(self.member[slot]), 0) + (0 if self.stage[slot] else _STAGE)

    @torch.no_grad()
    def evaluate(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(errors, mean loss) of the members in ``slots`` on everything to be fitted."""
        rows, at = self._company(slots)
        used = np.isin(np.arange(len(rows)), at)
        P, y = self.rule.shown(self.P)[rows], self.y[rows]
        wrong, losses = self._judge(P, self.x, y, used, rows, LOOKING)
        mean = losses.double().mean(dim=1)
        return wrong.sum(dim=1).cpu().numpy()[at], mean.cpu().numpy()[at]

    def _judge(
        self, P: torch.Tensor, x: torch.Tensor, y: torch.Tensor, used: np.ndarray,
        rows: np.ndarray, purpose: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """(E, B) wrong or not, and losses, of the members in the slots ``rows`` on inputs (B, d)
        with labels (E, B); where these are attacked, of the worst points that were found."""
        z = self.net(P, x[None], used)
        wrong = is_wrong(z, y, self.cut)
        if self.box is None:
            return wrong, self.losses(z, y)
        losses, size = [], self.box.size
        for part, at in enumerate(range(0, len(x), size)):
            inside = slice(at, at + size)
            worst, met = self._attacked(
                P, x[None, inside], y[:, inside], used, rows, (purpose, part)
            )
            z = self.net(P, worst, used)
            wrong[:, inside] |= met | is_wrong(z, y[:, inside], self.cut)
            losses.append(self.losses(z, y[:, inside]))
        return wrong, torch.cat(losses, dim=1)

    def _attacked(
        self, P: torch.Tensor, x: torch.Tensor, y: torch.Tensor, used: np.ndarray,
        rows: np.ndarray, purpose: tuple[int, int],
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Worst points and errors met (:meth:`Box.attack`); pre-training is not attacked."""
        assert self.box is not None
        keys = self.source.names([self._key(slot) for slot in rows])
        start = self.box.starts(keys, self.step[rows], *purpose)
        robust = torch.from_numpy((self.stage[rows] == 1).astype(np.float32)).to(self.device)
        return self.box.attack(self.net, P, x, y, used, self.cut, robust, start)

    @torch.no_grad()
    def functions(self, slots: np.ndarray) -> np.ndarray:
        """(F, W) packed functions of the members in ``slots``."""
        rows, at = self._company(slots)
        used = np.isin(np.arange(len(rows)), at)
        z = self.net(self.rule.shown(self.P)[rows], self.everything[None], used)
        return pack((z > self.cut).to(torch.uint8).cpu().numpy()[at])

    def _company(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slots that are evaluated together with ``slots``, and where the latter are among them."""
        at = places(slots, self.period)
        rows = np.full(self.net.together(int(at.max()) + 1), slots[0])
        rows[at] = slots
        return rows, at

    def record(self) -> None:
        """Keep the trajectory points of this step."""
        wanted = np.array(self.spec.record, np.int64)
        chosen = (self.member >= 0) & (self.stage == 1) & np.isin(self.step, wanted)
        slots = np.flatnonzero(chosen & (self.member < self.spec.record_runs))
        if len(slots):
            errors, mean = self.evaluate(slots)
            self.rows.append(
                {
                    "run": self.member[slots].copy(),
                    "step": self.step[slots].copy(),
                    "words": self.functions(slots),
                    "errors": errors,
                    "loss": mean,
                }
            )

    def look(self) -> np.ndarray:
        """Check the members that are due; returns the slots that are done with their stage."""
        limit = np.where(self.stage == 0, self.spec.pretrain * self.epoch_steps, self.limit)
        last = self.step >= limit
        due = np.flatnonzero((self.member >= 0) & (last | (self.step % self.check == 0)))
        if not len(due):
            return due
        errors, mean = self.evaluate(due)
        good = errors == 0
        self.fit[due] = np.where(good & (self.fit[due] < 0), self.step[due], self.fit[due])
        kind, value = self.spec.stop.kind, self.spec.stop.value
        enough = good & (self.stage[due] == 0)
        if kind == "first-fit":
            enough = good
        elif kind == "epochs":
            enough |= good & (self.step[due] >= self.fit[due] + value * self.epoch_steps)
        elif kind == "loss":
            enough |= good & (mean <= value)
        over = enough | last[due]
        self.keep(due[over & (self.stage[due] == 1)], errors, mean, due)
        return np.asarray(due[over])

    def keep(
        self, slots: np.ndarray, errors: np.ndarray, mean: np.ndarray, due: np.ndarray
    ) -> None:
        """Write down what the members in ``slots`` found."""
        if not len(slots):
            return
        row, at = self.member[slots] - self.first, np.searchsorted(due, slots)
        self.words[row] = self.functions(slots)
        self.steps[row], self.first_fit[row] = self.step[slots], self.fit[slots]
        self.errors[row], self.loss[row] = errors[at], mean[at]
        if self.robust_errors is not None:
            self.robust_errors[row] = self._errors_outside(slots)

    @torch.no_grad()
    def _errors_outside(self, slots: np.ndarray) -> np.ndarray:
        """(F,) held-out inputs in whose boxes the members in ``slots`` were found to be wrong."""
        rows, at = self._company(slots)
        used, outside = np.isin(np.arange(len(rows)), at), self.problem.test_index
        x, y = (self._float(part[outside]) for part in (self.problem.inputs, self.problem.target))
        P = self.rule.shown(self.P)[rows]
        wrong, _ = self._judge(P, x, y.repeat(len(rows), 1), used, rows, TESTING)
        return np.asarray(wrong.sum(dim=1).cpu().numpy()[at])

    def minibatches(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(E, B) examples of this step and their weights (0 past the end of an epoch)."""
        place = self.step % self.epoch_steps * self.batch
        columns = place[:, None] + np.arange(self.batch)
        weight = (columns < self.size) & (self.member >= 0)[:, None]
        if self.spec.optimizer.power:
            chosen = self._by_loss()
            weight = np.ones_like(weight)
        else:
            if self.batch < self.size:
                for slot in np.flatnonzero((place == 0) & (self.member >= 0)):
                    epoch = int(self.step[slot] // self.epoch_steps)
                    self.orders[slot] = self.source.order(self._key(slot), epoch, self.size)
            columns = np.minimum(columns, self.size - 1)
            chosen = np.take_along_axis(self.orders, columns, axis=1)
        share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1)
        to = lambda a: torch.from_numpy(a).to(self.device)  # noqa: E731
        return to(chosen), to(share.astype(np.float32))

    @torch.no_grad()
    def _by_loss(self) -> np.ndarray:
        each = self.losses(self.net(self.P, self.x[None], self.member >= 0), self.y)
        weights = each.clamp(min=1e-12).pow(round(1000 * self.spec.optimizer.power) / 1000)
        table = weights.cpu().numpy()
        return np.stack(
            [
                self.source.weighted(self._key(slot), int(self.step[slot]), table[slot], self.batch)
                for slot in range(self.slots)
            ]
        )

    def advance(self) -> None:
        """One step of every member."""
        chosen, share = self.minibatches()
        P = self.P.detach().requires_grad_()
        if self.batch == self.size and not self.spec.optimizer.power:
            x, y = self.x[None], self.y
        else:
            x, y = self.x[chosen], torch.gather(self.y, 1, chosen)
        if self.box is not None:
            rows = np.arange(self.slots)
            x, _ = self._attacked(P.detach(), x, y, self.member >= 0, rows, (TRAINING, 0))
        with torch.enable_grad():
            z = self.net(P, x, self.member >= 0)
            total = (self.losses(z, y) * share).sum()
            (gradient,) = torch.autograd.grad(total, P)
        self.step += 1
        if self.kept is not None:
            gradient = gradient * self.kept
        self.rule.step(self.P, gradient, self._noise)

    def _noise(self) -> torch.Tensor:
        drawn = [
            self.source.noise(self._key(s), int(self.step[s])).flat() for s in range(self.slots)
        ]
        noise = torch.from_numpy(np.stack(drawn)).to(self.device)
        return noise if self.kept is None else noise * self.kept


def arithmetic(spec: TrainSpec, device: str) -> AbstractContextManager[None]:
    """How the products of an ensemble are computed: in float32, and of modules by one thread."""
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
    if isinstance(spec.network, Network):
        return nullcontext()
    from simprior.modules.build import evaluation

    return evaluation()


def train_with_torch(
    spec: TrainSpec, problem: Problem, first: int, count: int, device: str, members: int = 0
) -> Members:
    """The members of the range, ``members`` of them at a time (0: by device)."""
    with arithmetic(spec, device):
        done = Ensemble(spec, problem, first, count, device, members)
        done.run()
    return Members(
        done.words, done.steps, done.first_fit, done.errors, done.loss, _sorted(done.rows, spec),
        done.robust_errors,
    )  # fmt: skip


def _sorted(rows: list[dict[str, np.ndarray]], spec: TrainSpec) -> dict[str, np.ndarray]:
    if not rows:
        return {}
    joined = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
    order = np.lexsort((joined["step"], joined["run"]))
    return {k: v[order] for k, v in joined.items()}


class _Chosen:
    """The random choices of ``members[i]`` under the name i."""

    def __init__(self, source: Source, members: np.ndarray) -> None:
        self._source, self._members = source, members

    def _real(self, key: int) -> int:
        stage = key & _STAGE
        return int(self._members[key ^ stage]) + stage

    def names(self, keys: list[int]) -> list[int]:
        return [self._real(key) for key in keys]

    def parameters(self, member: int) -> Parameters:
        return self._source.parameters(self._real(member))

    def mask(self, member: int) -> Parameters:
        return self._source.mask(self._real(member))

    def labels(self, member: int, size: int) -> np.ndarray:
        return self._source.labels(self._real(member), size)

    def order(self, key: int, epoch: int, size: int) -> np.ndarray:
        return self._source.order(self._real(key), epoch, size)

    def weighted(self, key: int, step: int, weights: np.ndarray, count: int) -> np.ndarray:
        return self._source.weighted(self._real(key), step, weights, count)

    def noise(self, key: int, step: int) -> Parameters:
        return self._source.noise(self._real(key), step)


class Replay(Ensemble):
    """An ensemble whose member i is ``members[i]``, done after ``steps[i]`` steps.

    They have the places ``at`` among its members, where slots must differ by a period.
    """

    def __init__(
        self, spec: TrainSpec, problem: Problem, members: np.ndarray, steps: np.ndarray, device: str
    ) -> None:
        period = period_of(spec.network)
        self.at = places(members, period)
        count = int(self.at.max()) + 1
        super().__init__(spec, problem, 0, count, device, count if period == 1 else 0)
        self.wanted = np.isin(np.arange(count), self.at)
        chosen, self.limits = np.zeros((2, count), np.int64)
        chosen[self.at], self.limits[self.at] = members, steps
        self.source: Any = _Chosen(self.source, chosen)
        self.found = np.zeros((count, self.net.size), np.float32)
        self.robust_errors = None

    def look(self) -> np.ndarray:
        """Slots whose pre-training fits or is over, or whose training has had its steps."""
        used, first = self.member >= 0, self.stage == 0
        limit = np.where(
            first, self.spec.pretrain * self.epoch_steps, self.limits[np.maximum(self.member, 0)]
        )
        last = self.step >= limit
        due = np.flatnonzero(used & (last | (first & (self.step % self.check == 0))))
        if not len(due):
            return due
        errors, mean = self.evaluate(due)
        over = last[due] | ((errors == 0) & first[due])
        done = due[over & ~first[due]]
        self.keep(done, errors, mean, due)
        if len(done):
            self.found[self.member[done]] = self.rule.shown(self.P)[done].cpu().numpy()
        return np.asarray(due[over])


def retrain_with_torch(
    spec: TrainSpec, problem: Problem, members: np.ndarray, steps: np.ndarray, device: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(parameters, words, errors, loss) of ``members`` after ``steps`` steps."""
    spec = replace(spec, stop=Stop("steps", max(int(steps.max()), 1)), record=(), record_runs=0)
    with arithmetic(spec, device):
        done = Replay(spec, problem, members, steps, device)
        done.run()
    return tuple(part[done.at] for part in (done.found, done.words, done.errors, done.loss))
