"""What a sampling run is made of: the job and its tasks (ranges of hidden draws).

These are the types that the samplers take; they know no sampler.
"""

from __future__ import annotations

from dataclasses import dataclass

from simprior.activations import code_of
from simprior.boolean.dnf import RandomDNF
from simprior.boolean.symmetry import Symmetry, symmetries
from simprior.network import Network

STREAM = "networks"


@dataclass(frozen=True)
class Job:
    """What determines the samples of a run."""

    model: Network | RandomDNF
    samples: int
    seed: int
    heads: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    keep_shift: int = 0
    pool: bool = False
    replicate: int = 0  # samples of a full task: pooled standard errors compare tasks

    @property
    def iid(self) -> bool:
        """Whether the samples are independent (no hidden layers shared)."""
        return self.heads == 1 or isinstance(self.model, RandomDNF) or self.model.depth == 0

    @property
    def replicates(self) -> float:
        """Full tasks among the samples (a part counts as that), at least one."""
        return max(1.0, self.samples / self.replicate)

    @property
    def compiled(self) -> bool:
        """Whether the compiled kernel does the job (else torch does)."""
        builtin = isinstance(self.model, RandomDNF) or code_of(self.model) is not None
        return builtin and self.dtype == "float32" and self.device == "cpu"


@dataclass(frozen=True)
class Task:
    """Hidden draws ``first .. stop - 1`` of a job; ``samples`` of the run's samples."""

    index: int
    first: int
    stop: int
    samples: int

    @property
    def name(self) -> str:
        """Name of the shard."""
        return f"{self.index:06d}"

    @property
    def range(self) -> dict[str, int]:
        """Which draws it is of: its shard is registered with them."""
        return {"first": self.first, "stop": self.stop, "samples": self.samples}

    @property
    def size(self) -> int:
        """Units of progress: networks."""
        return self.samples


def symmetry_of(model: Network | RandomDNF) -> Symmetry:
    """Exact symmetries of the prior of ``model``; a DNF's law has all of them."""
    if isinstance(model, RandomDNF):
        why = "literals are drawn alike for every variable and sign; the global sign is fair"
        return Symmetry(True, True, True, (why,))
    return symmetries(model)
