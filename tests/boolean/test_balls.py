"""Balls of bit strings: sizes, labels, the Hamming code, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simprior.boolean.balls import flips_within, hamming_code, read_strings, robust_labels
from simprior.errors import InputError


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 0), (5, 2), (7, 7)])
def test_flips_are_all_of_them_once(n: int, k: int) -> None:
    found = flips_within(n, k)
    assert found[0] == 0 and len(set(found)) == len(found)
    assert len(found) == sum(math.comb(n, j) for j in range(k + 1))
    assert max(int(flip).bit_count() for flip in found) == k


@pytest.mark.parametrize("n", [3, 7])
def test_balls_of_the_code_tile_all_strings(n: int) -> None:
    code = hamming_code(n)
    assert len(code) == (1 << n) // (n + 1)
    labels = np.arange(len(code), dtype=np.uint8) % 2
    index, found = robust_labels(code, labels, 1, n)
    assert np.array_equal(index, np.arange(1 << n))
    apart = [[int(string ^ word).bit_count() for word in code] for string in range(1 << n)]
    assert np.array_equal(found, labels[np.argmin(apart, axis=1)])
    assert (np.sort(apart, axis=1)[:, 0] <= 1).all()


def test_balls_of_one_label_may_overlap() -> None:
    index, labels = robust_labels(np.array([0, 1]), np.array([1, 1]), 1, 3)
    assert index.tolist() == [0, 1, 2, 3, 4, 5] and labels.tolist() == [1] * 6


def test_opposite_labels_are_refused_by_name() -> None:
    with pytest.raises(InputError) as told:
        robust_labels(np.array([0, 5, 31]), np.array([0, 1, 1]), 1, 5)
    text = str(told.value)
    assert "00000 (label 0)" in text and "00101 (label 1)" in text and "2 flips apart" in text
    assert "\n" not in text
    assert len(robust_labels(np.array([0, 7, 31]), np.array([0, 1, 1]), 1, 5)[0]) == 3 * 6 - 2


@pytest.mark.parametrize("k", [-1, 6, 1.5, True, "1"])
def test_numbers_of_flips(k: object) -> None:
    with pytest.raises(InputError, match=r"robust=.*from 0 to n=5"):
        robust_labels(np.array([0]), np.array([1]), k, 5)  # type: ignore[arg-type]


def test_strings_are_read_and_refused() -> None:
    assert read_strings(("101", "000"), 3).tolist() == [5, 0]
    assert read_strings(("hamming",), 7).tolist() == hamming_code(7).tolist()
    for texts, n, said in (
        (("10",), 3, "strings of 3 bits"),
        (("102",), 3, "strings of 3 bits"),
        (("101", "101"), 3, "each string once"),
        (("hamming",), 6, "n=3, 7 or 15"),
    ):
        with pytest.raises(InputError, match=said):
            read_strings(texts, n)
