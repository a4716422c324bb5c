"""The pieces of an estimate: pilots, and runs on the lambdas that pilots found.

What a piece gives depends on the request and the piece alone, so neither workers nor interruptions
change a bit of the result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.finite import smc
from simprior.finite.particles import distinct_inputs
from simprior.network.spec import Network
from simprior.runs.directory import RunDir
from simprior.runs.sharded import Shard, Work

_SCHEME = 3  # 2 drew angles in radians, 1 raised lambda between sweeps only: runs are not mixed


@dataclass(frozen=True)
class Piece:
    """One pilot (``number`` -1) or one run of function ``index``, and what it is annealed with.

    ``digest`` is that of the network, the function and the seed.
    """

    index: int
    digest: str
    particles: int
    power: int
    number: int = -1
    strengths: tuple[float, ...] = ()
    size: int = 1

    @property
    def name(self) -> str:
        """Name of its shard."""
        part = "pilot" if self.number < 0 else f"run-{self.number:05d}"
        return f"{self.index:06d}-p{self.power}-n{self.particles}-{part}"

    @property
    def range(self) -> Mapping[str, Any]:
        """What its shard must have been made with."""
        strengths = hashlib.sha256(repr(self.strengths).encode()).hexdigest()[:16]
        return {"digest": self.digest, "strengths": strengths}


@dataclass(frozen=True, eq=False)
class Annealing(Work[Piece, "smc.Ladder | smc.Run"]):
    """The work: a network, functions (F, m), and what all pieces have in common."""

    network: Network
    tables: np.ndarray
    sweeps: int
    seed: int
    limit: int

    def in_threads(self) -> bool:
        """Particles are moved by compiled code."""
        return True

    def digest(self, index: int) -> str:
        """What identifies the estimate of one function, besides the fields of a piece."""
        text = hashlib.sha256(self.network.digest().encode() + self.tables[index].tobytes())
        text.update(repr((_SCHEME, self.sweeps, self.seed, self.limit)).encode())
        return text.hexdigest()[:16]

    def anneal(self, piece: Piece) -> smc.Anneal:
        """How the network is annealed in a piece."""
        inputs = distinct_inputs(self.network)
        bits = inputs.labels(self.tables[piece.index])
        assert bits is not None  # what inputs alone decide has no pieces
        return smc.Anneal(
            self.network, inputs.X, bits, piece.particles, self.sweeps, piece.power, self.seed,
            self.limit,
        )  # fmt: skip

    def compute(self, piece: Piece) -> smc.Ladder | smc.Run:
        """The pilot or the run."""
        anneal = self.anneal(piece)
        if piece.number < 0:
            return smc.pilot(anneal)
        return smc.run(anneal, np.array(piece.strengths), piece.number)

    def shards(self, piece: Piece, result: smc.Ladder | smc.Run) -> list[Shard]:
        """One table a piece."""
        if isinstance(result, smc.Ladder):
            value = None if math.isinf(result.value) else result.value  # JSON has no infinity
            rest = {"complete": bool(result.complete), "value": value, "seconds": result.seconds}
            return [Shard(piece.name, {"strengths": result.strengths}, rest)]
        columns = {name: np.array([value]) for name, value in vars(result).items()}
        return [Shard(piece.name, columns)]

    def read(self, store: RunDir, piece: Piece) -> smc.Ladder | smc.Run:
        """What :meth:`shards` kept."""
        columns = store.read_shard(piece.name)
        if piece.number >= 0:
            return smc.Run(**{name: float(values[0]) for name, values in columns.items()})
        meta = store.shards[piece.name]["meta"]
        value = -math.inf if meta["value"] is None else float(meta["value"])
        return smc.Ladder(columns["strengths"], meta["complete"], value, meta["seconds"])
