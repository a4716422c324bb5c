"""Chosen members of a torch run again, each for its own number of steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from simprior.training._torch_ensemble import _STAGE, Ensemble
from simprior.training.draws import Parameters, Source
from simprior.training.spec import Stop, TrainSpec
from simprior.training.targets import Problem


class _Chosen:
    """The random choices of ``members[i]`` under the name i."""

    def __init__(self, source: Source, members: np.ndarray) -> None:
        self._source, self._members = source, members

    def _real(self, key: int) -> int:
        stage = key & _STAGE
        return int(self._members[key ^ stage]) + stage

    def parameters(self, member: int) -> Parameters:
        return self._source.parameters(self._real(member))

    def labels(self, member: int, size: int) -> np.ndarray:
        return self._source.labels(self._real(member), size)

    def order(self, key: int, epoch: int, size: int) -> np.ndarray:
        return self._source.order(self._real(key), epoch, size)

    def weighted(self, key: int, step: int, weights: np.ndarray, count: int) -> np.ndarray:
        return self._source.weighted(self._real(key), step, weights, count)

    def noise(self, key: int, step: int) -> Parameters:
        return self._source.noise(self._real(key), step)


class Replay(Ensemble):
    """An ensemble whose member i is ``members[i]``, done after ``steps[i]`` steps."""

    def __init__(
        self, spec: TrainSpec, problem: Problem, members: np.ndarray, steps: np.ndarray, device: str
    ) -> None:
        super().__init__(spec, problem, 0, len(members), device, len(members))
        self.source: Any = _Chosen(self.source, members)
        self.wanted = steps
        self.found = np.zeros((len(members), self.net.size), np.float32)

    def look(self) -> np.ndarray:
        """Slots whose pre-training fits or is over, or whose training has had its steps."""
        used, first = self.member >= 0, self.stage == 0
        limit = np.where(
            first, self.spec.pretrain * self.epoch_steps, self.wanted[np.maximum(self.member, 0)]
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
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
    spec = replace(spec, stop=Stop("steps", max(int(steps.max()), 1)), record=(), record_runs=0)
    done = Replay(spec, problem, members, steps, device)
    done.run()
    return done.found, done.words, done.errors, done.loss
