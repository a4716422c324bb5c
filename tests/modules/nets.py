"""Factories that the tests name by import path."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def perceptron(n: int) -> nn.Module:
    return nn.Linear(n, 1)


def relu_net(n: int, width: int = 40) -> nn.Module:
    parts = (nn.Linear(n, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(*parts, nn.Linear(width, 1))


class Wrong(nn.Module):
    """A linear layer and something that makes it no function of one input."""

    def __init__(self, n: int, then: Callable[[torch.Tensor, nn.Module], torch.Tensor]) -> None:
        super().__init__()
        self.linear, self.then = nn.Linear(n, 1), then
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.then(self.linear(x), self)


class Recurrent(nn.Module):
    """torch's own LSTM, which vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 6, batch_first=True), nn.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x.unsqueeze(-1))[0][:, -1])


class Attention(nn.Module):
    """Embeddings, torch's own encoder layer, and a parameter of the class itself."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(2, 8)
        self.pos_embedding = nn.Parameter(torch.zeros(n, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.tokens((x > 0).long()) + self.pos_embedding
        return self.head(self.encoder(h).mean(dim=1))


def recurrent() -> nn.Module:
    return Recurrent()


def customised(n: int) -> nn.Module:
    """A factory that draws its own weights: no known initialiser."""
    module = relu_net(n, 8)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.normal_(0.0, 0.7)
    return module


def broken() -> nn.Module:
    raise RuntimeError("no such file")
