"""One step of many members at once on a (E, p) tensor of parameters, as in ``_update`` (torch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from simprior.training.optimizers import Optimizer

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
        P -= step * m / (v.sqrt() * inverse + eps)

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
