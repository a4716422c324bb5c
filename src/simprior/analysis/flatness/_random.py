"""Random directions that belong to (seed, run, network id): the same in any chunk or subset."""

from __future__ import annotations

import numpy as np
import torch

from simprior import rng
from simprior.analysis.flatness.ensemble import Ensemble

Tensor = torch.Tensor


def normals(ensemble: Ensemble, seed: int, stream: str, count: int) -> Tensor:
    """(N, count, P) independent standard normals."""
    shape = (count, ensemble.size)
    name = f"flatness/{ensemble.stream}{stream}"
    parts = [rng.generator(seed, name, int(i)).standard_normal(shape) for i in ensemble.ids]
    return torch.from_numpy(np.stack(parts)).to(ensemble.device)


def signs(ensemble: Ensemble, seed: int, stream: str, count: int) -> Tensor:
    """(N, count, P) independent signs -1 or +1."""
    numbers = count * ensemble.size
    parts = []
    name = f"flatness/{ensemble.stream}{stream}"
    for i in ensemble.ids:
        bits = rng.generator(seed, name, int(i)).bytes(-(-numbers // 8))
        parts.append(np.unpackbits(np.frombuffer(bits, np.uint8), count=numbers))
    out = np.stack(parts).reshape(len(parts), count, ensemble.size) * 2.0 - 1.0
    return torch.from_numpy(out).to(ensemble.device)


def unit_directions(ensemble: Ensemble, seed: int, stream: str, count: int) -> Tensor:
    """(N, count, P) independent directions, uniform on the unit sphere."""
    drawn = normals(ensemble, seed, stream, count)
    return drawn / drawn.norm(dim=2, keepdim=True)
