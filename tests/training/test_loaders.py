"""Local files in the formats of OpenML and torchvision, written here."""

from __future__ import annotations

import gzip
import math
import pickle
import struct

import numpy as np
import pandas as pd
import pytest

from simprior.boolean.truthtable import unpack
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.training.loaders import load_file, read_idx
from simprior.training.replay import problem_from_file
from simprior.training.train import train

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(256, size=(9, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 3, 8, 3, 8, 1, 3, 8, 3], np.uint8)


def idx(array: np.ndarray) -> bytes:
    head = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def test_idx_files(tmp_path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    with gzip.open(tmp_path / "t10k-images-idx3-ubyte.gz", "wb") as handle:
        handle.write(idx(IMAGES[:2]))
    with gzip.open(tmp_path / "t10k-labels-idx1-ubyte.gz", "wb") as handle:
        handle.write(idx(LABELS[:2]))
    x, y = load_file(tmp_path / "train-images-idx3-ubyte")
    assert np.array_equal(x, IMAGES.reshape(9, 12) / 255) and np.array_equal(y, LABELS)
    x, y = load_file(tmp_path)  # both parts, t10k first
    assert x.shape == (11, 12) and np.array_equal(y, [*LABELS[:2], *LABELS])


def test_damaged_idx_files(tmp_path) -> None:
    path = tmp_path / "a-images-idx3-ubyte"
    for data in (b"", b"\x00\x00\x09\x01", idx(IMAGES)[:-1], idx(IMAGES)[:9], idx(IMAGES) + b"x"):
        path.write_bytes(data)
        with pytest.raises(InputError, match="readable data file"):
            read_idx(path)
    path.write_bytes(idx(IMAGES))
    with pytest.raises(InputError, match="a-labels-idx1-ubyte"):
        load_file(path)
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(idx(LABELS[:4]))
    with pytest.raises(InputError, match="with labels"):
        load_file(path)
    gz = tmp_path / "b-images-idx3-ubyte.gz"
    gz.write_bytes(gzip.compress(idx(IMAGES))[:-9])
    (tmp_path / "b-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    with pytest.raises(InputError, match="readable data file"):
        load_file(gz)


@pytest.mark.parametrize("labels", [1, 2])
def test_cifar_binary(tmp_path, labels: int) -> None:
    pixels = RANDOM.integers(256, size=(5, 3072), dtype=np.uint8)
    classes = RANDOM.integers(10, size=(5, labels), dtype=np.uint8)
    records = np.concatenate([classes, pixels], axis=1)
    (tmp_path / "data_batch_1.bin").write_bytes(records[:3].tobytes())
    (tmp_path / "data_batch_2.bin").write_bytes(records[3:].tobytes())
    x, y = load_file(tmp_path)
    assert np.array_equal(x, pixels / 255) and np.array_equal(y, classes[:, -1])


def test_pickles_are_never_opened(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(Evil()))
    for path in (tmp_path, tmp_path / "data_batch_1"):
        with pytest.raises(InputError, match="pickle"):
            load_file(path)
    (tmp_path / "x.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="CIFAR records"):
        load_file(tmp_path / "x.bin")


ARFF = """@RELATION toy
@ATTRIBUTE width REAL
@ATTRIBUTE height NUMERIC
@ATTRIBUTE class {yes,no}
@DATA
1.5,2,yes
2.5,-1,no
0,4,no
"""


def test_openml_tables(tmp_path) -> None:
    (tmp_path / "toy.arff").write_text(ARFF)
    x, y = load_file(tmp_path / "toy.arff")
    assert x.tolist() == [[1.5, 2], [2.5, -1], [0, 4]] and y.tolist() == [1, 0, 0]
    frame = pd.DataFrame({"kind": [7, 9, 7], "a": [1, 2, 3], "b": [0.5, 1.5, 2.5]})
    frame.to_csv(tmp_path / "toy.csv", index=False)
    frame.to_parquet(tmp_path / "toy.parquet")
    for name in ("toy.csv", "toy.parquet"):
        x, y = load_file(tmp_path / name, label="kind")
        assert x.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]] and y.tolist() == [7, 9, 7]


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("a.csv", "", None),
        ("a.csv", "x,y\n", None),
        ("a.csv", "x,y\n1,0\n", "z"),
        ("a.csv", "x,y\n,0\n", None),
        ("a.csv", "x,y\nred,0\n", None),
        ("a.csv", "x,kind\n1,0\n", None),
        ("a.arff", "@DATA\n1,2\n", None),
        ("a.parquet", "PAR1", None),
        ("a.txt", "1 2 3", None),
    ],
)
def test_bad_tables_are_one_line(tmp_path, name: str, text: str, label: str | None) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        load_file(tmp_path / name, label)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"no/such\.csv"):
        load_file("no/such.csv")


def test_training_on_a_file(tmp_path) -> None:
    """Rows keep their classes on the way to the errors, and the networks learn from them.

    Had the networks learned nothing of the classes, the mean error over 200 held-out examples
    would be 1/2 with a standard deviation of at most 0.5 / sqrt(200) (that of one network): below
    the limit, 4.5 of those lower, with probability 3e-6.
    """
    x = RANDOM.normal(size=(240, 3))
    kind = np.where(x[:, 0] > 0, "b", "a")
    pd.DataFrame({"u": x[:, 0], "v": x[:, 1], "w": x[:, 2], "kind": kind}).to_csv(
        tmp_path / "t.csv", index=False
    )
    path = str(tmp_path / "t.csv")
    result = train(
        Network(hidden=(20,)), data=path, label="kind", train=40, test=200, runs=10, lr=0.02
    )
    assert result.fitted.all() and result.m == 240
    problem = problem_from_file(result, path)  # the label column is on record
    assert problem.settings["label"] == "kind" and problem.settings["classes"] == "a:b"
    # the training part has its largest value at 1 in each column: any row tells the scale
    inputs = problem.inputs
    assert (np.abs(inputs[:40]).max(axis=0) == 1).all()
    rows = np.argsort(x[:, 0])
    tops = x[rows[[0, -1]]] / inputs[np.argsort(inputs[:, 0])[[0, -1]]]
    assert tops[0] == pytest.approx(tops[1], rel=1e-12)
    row = np.abs(inputs[:, None] * tops[0] - x).sum(axis=2).argmin(axis=1)
    assert sorted(row) == list(range(240))
    wrong = unpack(result.words, 240) != (kind[row] == "b")
    assert not wrong[:, :40].any()
    assert result.test_error == pytest.approx(wrong[:, 40:].mean(axis=1), abs=1e-12)
    assert result.test_error.mean() < 0.5 - 4.5 * 0.5 / math.sqrt(200)
    with pytest.raises(InputError, match="classes"):
        train(Network(), data=path, label="kind", classes="0:5", train=40, test=15, runs=2)
