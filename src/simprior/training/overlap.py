"""Inputs that occur more than once: in the training and in the test part, or with both labels."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """Inputs that occur more than once: test inputs among the training inputs, how many of those
    with another label, and training inputs with both labels."""

    duplicates: int = 0
    disagree: int = 0
    contradictions: int = 0

    def describe(self) -> dict[str, int]:
        """Plain values for manifests."""
        return {"test_in_train": self.duplicates, "contradictions": self.contradictions}

    def report(self, name: str, train: int, test: int) -> None:
        """Say it in the log: as a warning if there are any."""
        log = logging.getLogger("simprior")
        log.log(
            logging.WARNING if self.duplicates else logging.INFO,
            "%s: %d training and %d test inputs, %d test inputs are training inputs too%s",
            name,
            train,
            test,
            self.duplicates,
            f" ({self.disagree} of them with another label)" if self.disagree else "",
        )
        if self.contradictions:
            log.warning(
                "%s: %d inputs to be fitted occur with both labels, which no function fits",
                name,
                self.contradictions,
            )


def find_overlap(
    X_train: np.ndarray, y_train: np.ndarray, X_test: np.ndarray, y_test: np.ndarray
) -> Overlap:
    """Which inputs, as the network sees them, occur more than once."""
    labels: dict[bytes, int] = {}
    for key, label in zip(_keys(X_train), y_train.tolist(), strict=True):
        labels[key] = labels.get(key, 0) | 1 << label
    both = sum(seen == 3 for seen in labels.values())
    same = disagree = 0
    for key, label in zip(_keys(X_test), y_test.tolist(), strict=True):
        if key in labels:
            same += 1
            disagree += not labels[key] >> label & 1
    return Overlap(same, disagree, both)


def _keys(X: np.ndarray) -> Iterator[bytes]:
    """A digest of each row; 0.0 and -0.0 are one."""
    for row in X:
        yield hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest()
