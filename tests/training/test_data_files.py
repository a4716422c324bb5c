"""Files as users bring them: each is read right, or refused in one line that names the cause."""

from __future__ import annotations

import gzip
import logging
import struct

import numpy as np
import pandas as pd
import pytest

from simprior import Network
from simprior.errors import InputError
from simprior.training import table_files
from simprior.training.data import load_dataset, parse_classes
from simprior.training.images import find_overlap, read_images
from simprior.training.loaders import Examples, load_file, read_data
from simprior.training.replay import problem_of
from simprior.training.targets import Problem, problem_from_arrays

ROWS = "".join(f"{i / 8},{i % 5},{i % 3}\n" for i in range(12))
TABLE = "a,b,label\n" + ROWS
X = np.array([[i / 8, i % 5] for i in range(12)])
Y = np.arange(12) % 3


def said(caplog: pytest.LogCaptureFixture) -> str:
    """The one line that the last reader said."""
    return caplog.records[-1].getMessage()


@pytest.fixture(autouse=True)
def _listen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="simprior")


READ = {
    "windows line ends": (TABLE.replace("\n", "\r\n"), None),
    "old mac line ends": (TABLE.replace("\n", "\r"), None),
    "byte order mark": ("\ufeff" + TABLE, None),
    "utf-16": (TABLE.encode("utf-16"), None),
    "gzip": (gzip.compress(TABLE.encode()), None),
    "semicolons": (TABLE.replace(",", ";"), None),
    "tabs": (TABLE.replace(",", "\t"), None),
    "bars": (TABLE.replace(",", "|"), None),
    "blanks behind commas": (TABLE.replace(",", ", "), None),
    "quoted": ("".join('"' + r.replace(",", '","') + '"\n' for r in TABLE.split()), None),
    "comments above": ("# one, two\n\n#three\n" + TABLE, None),
    "another case": (TABLE.replace("label", "Class"), None),
    "label named": (TABLE.replace("label", "kind"), "kind"),
    "a hash in a name": (TABLE.replace("a,b", "a#1,#b"), None),
    "no names": (ROWS, "3"),
    "no names, last": (ROWS, "last"),
    "no names below comments": ("# a,b,label\n" + ROWS, "last"),
    "whole counts as floats": (TABLE.replace(",2\n", ",2.0\n"), None),
    "delimiter at the end": (TABLE.replace("\n", ",\n"), None),
    "row names": (",".join(["", "a", "b", "label\n"])
                  + "".join(f"r{i},{r}\n" for i, r in enumerate(ROWS.split())), None),
    "row numbers": ("n,a,b,label\n"
                    + "".join(f"{i + 5},{r}\n" for i, r in enumerate(ROWS.split())), None),
    "an id": ("a,b,label,ID\n"
              + "".join(f"{r},{i * 7919 % 1000}\n" for i, r in enumerate(ROWS.split())), None),
    "names that count": (",".join(map(str, range(20))) + "\n" + "".join(
        f"{r.rpartition(',')[0]},{'0,' * 17}{r[-1]}\n" for r in ROWS.split()), "19"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_csv_is_read(tmp_path, name: str) -> None:
    content, label = READ[name]
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "t.csv").write_bytes(data)
    x, y = load_file(tmp_path / "t.csv", label)
    assert np.array_equal(x[:, :2], X) and np.array_equal(y, Y)
    assert x.shape[1] == (19 if name == "names that count" else 2)


REFUSED = {
    "not utf-8": ("a,label\n1,caf\xe9\n".encode("latin1"), None, "line 2 is not in UTF-8"),
    "empty": ("", None, "empty"),
    "comments only": ("# a\n# b\n", None, "empty"),
    "names only": ("a,b,label\n", None, "no rows"),
    "zeros": (b"a,label\n1\0,2\n", None, "no text"),
    "a damaged archive": (b"\x1f\x8bxxxx", None, "readable"),
    "a spreadsheet": (b"PK\x03\x04xxxx", None, "no text"),
    "blanks": (TABLE.replace(",", " "), None, "no comma"),
    "decimal commas": (TABLE.replace(",", ";").replace(".", ","), None, "with a comma"),
    "thousands": ('a,b,label\n"1,234",2,0\n3,4,1\n', None, "'1,234' in line 2"),
    "an open quote": ('a,b,label\n1,2,"x\n3,4,z\n', None, "line 3"),
    "a short row": (TABLE + "1,2\n", None, "line 14 has 2 values"),
    "a long row": (TABLE + "1,2,3,4\n", None, "line 14 has 4 values"),
    "names of R": ("a,b,label\n" + ROWS.replace("\n", ",1\n"), None, "row names without a name"),
    "a name twice": (TABLE.replace("a,b", "a,a"), None, "2 columns are called 'a'"),
    "two labels": (TABLE.replace("b,", "class,"), None, "--label"),
    "no label": (TABLE.replace("label", "c"), None, "--label c"),
    "a wrong label": (TABLE, "lable", "did you mean label"),
    "no names, no label": (ROWS, None, "1 to 3, first or last"),
    "names or data": ("0,1,2\n" + ROWS, "2", "could be names or data"),
    "a nameless column": (TABLE.replace(",b,", ",,"), None, "column 2 has no name"),
    "a date": (TABLE + "2020-01-01,2,0\n", None, "'2020-01-01' in line 14"),
    "an underscore": (TABLE + "1_0,2,0\n", None, "'1_0' in line 14"),
    "a unit": (TABLE + "5%,2,0\n", None, "'5%' in line 14"),
    "names again": (TABLE + TABLE, None, "'a' in line 14"),
    "a comment below": (TABLE + "# 1,2,0\n", None, "only whole lines above"),
    "a comment in a row": (TABLE + "1 # x,2,0\n", None, "only whole lines above"),
    "a comment behind a label": (TABLE + "1,2,0 # x\n", None, "'0 # x'"),
    "a letter for a number": (TABLE + "1,2,O\n", None, "numbers but for 1, such as 'O'"),
    "an infinite feature": (TABLE + "1e400,2,0\n", None, "'a' has infinite"),
    "an infinite label": (TABLE + "1,2,inf\n", None, "not finite"),
    "a label beyond 2^63": (TABLE + "1,2,9223372036854775808\n", None, "whole numbers beyond"),
    "a label of 1e9999999": (TABLE + "1,2,1e99999999999999999999\n", None, "whole numbers beyond"),
    "row numbers only": ("n,label\n" + "".join(f"{i},{i % 2}\n" for i in range(9)), None, "'n'"),
    "a missing feature": (TABLE + "?,2,1\n,2,1\n", None, "missing in 2 .*'a' 2.*--missing drop"),
    "continuous": (
        "a,label\n" + "".join(f"{i % 7},{i * 0.37}\n" for i in range(200)), None, "continuous",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_csv_is_refused_in_one_line(tmp_path, name: str) -> None:
    content, label, message = REFUSED[name]
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_data(tmp_path / "t.csv", label)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("mark", ["?", "", "NaN", "NA", "None", "nan", "null", "<NA>"])
def test_missing_labels_are_counted(tmp_path, mark: str, caplog) -> None:
    """Classes 2 and 10, one label missing: before, 10 became class 0, 2 class 1, '?' class 2."""
    rows = "".join(f"{i / 4},{10 if i % 2 else 2}\n" for i in range(10))
    (tmp_path / "t.csv").write_text(f"a,label\n{rows}7,{mark}\n")
    with pytest.raises(InputError, match=r"1 label missing .*of 11 rows.*--missing drop"):
        load_file(tmp_path / "t.csv")
    x, y = load_file(tmp_path / "t.csv", missing="drop")
    assert len(x) == 10 and y.tolist() == [2, 10] * 5
    assert "classes: 2 (5), 10 (5); 1 row dropped" in said(caplog)
    with pytest.raises(InputError, match="missing='skip'"):
        load_file(tmp_path / "t.csv", missing="skip")


@pytest.mark.parametrize(
    "labels",
    [
        pd.array([2, 10, None] * 4, dtype="Int64"),
        pd.Categorical([2, 10, None] * 4),
        pd.array(["2", "10", None] * 4, dtype="string"),
        np.array([2, 10, np.nan] * 4),
    ],
    ids=["nullable", "categorical", "string", "float"],
)
def test_missing_labels_of_parquet(tmp_path, labels) -> None:
    pd.DataFrame({"a": X[:, 0], "label": labels}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"4 labels missing .*of 12 rows"):
        load_file(tmp_path / "t.parquet")
    _, y = load_file(tmp_path / "t.parquet", missing="drop")
    assert y.tolist() == [2, 10] * 4


def test_labels(tmp_path, caplog) -> None:
    def classes(labels: list[object]) -> list[int]:
        frame = pd.DataFrame({"a": np.arange(len(labels)) % 4, "label": labels})
        frame.to_csv(tmp_path / "t.csv", index=False)
        return load_file(tmp_path / "t.csv")[1].tolist()

    assert classes([-1, 1, 10, 2] * 3) == [-1, 1, 10, 2] * 3
    assert classes(["5.0", "10", "5"] * 3) == [5, 10, 5] * 3
    assert classes(["b", "C", "a"] * 3) == [2, 0, 1] * 3
    assert "3 classes: 0=C (3), 1=a (3), 2=b (3)" in said(caplog)
    assert classes([1.5, 0.5, 10.5] * 4) == [1, 0, 2] * 4  # few numbers that recur, in order
    assert "0=0.5 (4), 1=1.5 (4), 2=10.5 (4)" in said(caplog)
    assert classes(["C", "C#"] * 3) == [0, 1] * 3
    assert classes(["#b", "a"] * 3) == [0, 1] * 3
    assert classes([True, False] * 3) == [1, 0] * 3


def test_class_sets_of_negative_numbers_and_words() -> None:
    known = np.array([-3, -1, 0, 1])
    assert parse_classes("-1:1", known) == ([-1], [1])
    assert parse_classes("-1,1", known) == ([-1], [1])
    assert parse_classes("-1-0:1,-3", known) == ([-1, 0], [-3, 1])
    words = np.arange(3)
    assert parse_classes("malignant:benign", words, ("benign", "malignant", "x")) == ([1], [0])
    assert parse_classes("MALIGNANT : benign,x", words, ("benign", "malignant", "x")) == (
        [1],
        [0, 2],
    )
    assert parse_classes('"a,b":c-1', words, ("a,b", "a:b", "c-1")) == ([0], [2])
    assert parse_classes("0:2", words, ("b", "c", "d")) == ([0], [2])
    assert parse_classes("2:10", words, ("10", "2", "x")) == ([1], [0])  # names, not places
    for text in ("0:1", "even:odd", "y:x"):
        with pytest.raises(InputError, match="known classes"):
            parse_classes(text, words, ("10", "2", "x"))
    with pytest.raises(InputError, match="from -3 to 1"):
        parse_classes("0-999999999999999:1", known)


def test_a_first_row_of_data_and_words(tmp_path, caplog) -> None:
    """iris.data: no names, and the label is a word."""
    rows = "5.1,3.5,Iris-setosa\n4.9,3.0,Iris-setosa\n7,3.2,Iris-virginica\n6.4,3,Iris-virginica\n"
    (tmp_path / "iris.csv").write_text(rows)
    x, y = load_file(tmp_path / "iris.csv", "last")
    assert x.tolist() == [[5.1, 3.5], [4.9, 3.0], [7, 3.2], [6.4, 3]] and y.tolist() == [0, 0, 1, 1]
    assert "the first row is data" in said(caplog)


def test_what_is_said(tmp_path, caplog) -> None:
    frame = pd.DataFrame({"a": X[:, 0], "kind": ["u", "v"] * 6, "target": X[:, 1]})
    frame.to_csv(tmp_path / "t.csv")
    found = read_data(tmp_path / "t.csv", "kind")
    assert said(caplog) == (
        "t.csv: 12 examples, 2 features, label column 'kind', 2 classes: 0=u (6), 1=v (6); "
        "column 1 (without a name) dropped: row names; column 'target' is a feature"
    )
    assert found.describe()["class_counts"] == {"u": 6, "v": 6}
    assert found.describe()["label"] == "kind" and len(found.describe()["notes"]) == 2


def test_fast_and_slow_reading_agree(tmp_path, monkeypatch) -> None:
    random = np.random.default_rng(1)
    cells = ["", "?", "1_0", "inf", "nan", "True", " 7 ", "1e5", "x", "0x1", "+3", "1,5", "1e400"]
    outcomes = []
    for k, cell in enumerate([*cells, "1,2\n3", "\n", "-0"]):
        rows = [[repr(float(v)) for v in random.normal(size=3)] + [str(i % 3)] for i in range(20)]
        rows[7][k % 4] = cell
        text = "a,b,c,label\n" + "\n".join(map(",".join, rows)) + "\n"
        both = []
        for large in (0, 1 << 40):
            monkeypatch.setattr(table_files, "_LARGE", large)
            folder = tmp_path / f"{k}-{large}"
            folder.mkdir()
            (folder / "t.csv").write_text(text)
            try:
                both.append([v.tolist() for v in load_file(folder / "t.csv")])
            except InputError as error:
                both.append(str(error).replace(str(folder), ""))
        assert both[0] == both[1]
        outcomes.append(isinstance(both[0], str))
    assert 3 <= sum(outcomes) <= len(outcomes) - 3


ARFF = """% a comment
@relation 'two words'
@attribute "the width" REAL
@attribute height numeric
@attribute Class {'a b', "c", d}
@data
% another
1.5, 2, 'a b'
{0 2.5, 2 d}

{1 3}
-1,?,"c"
"""


def test_arff(tmp_path) -> None:
    (tmp_path / "t.arff").write_text(ARFF)
    with pytest.raises(InputError, match=r"features missing in 1 .*'height' 1"):
        load_file(tmp_path / "t.arff")
    found = read_data(tmp_path / "t.arff", missing="drop")
    assert found.X.tolist() == [[1.5, 2], [2.5, 0], [0, 3]]
    assert [found.class_name(c) for c in found.y] == [
        "a b",
        "d",
        "a b",
    ]  # left out: the first value
    (tmp_path / "n.arff").write_text(
        "@attribute x real\n@attribute y {10,2,-1}\n@data\n1,10\n2,-1\n"
    )
    assert load_file(tmp_path / "n.arff")[1].tolist() == [10, -1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Class", "kind", "--label kind"),
        ("{1 3}", "{1 3}, {2}", "line 11: a weight"),
        ("{1 3}", "{7 3}", "line 11: index 7"),
        ("{1 3}", "1,2", "line 11: 2 values for 3"),
        ("{1 3}", "1,2,e", "'e' is no value that attribute 'Class' declares"),
        ("height numeric", "height relational", "'relational'"),
        ("height numeric", "height date 'yyyy'", "dates"),
        ("height", "'the width'", "2 columns are called"),
        ("@data", "data", "line 6"),
    ],
)
def test_bad_arff_is_one_line(tmp_path, old: str, new: str, message: str) -> None:
    (tmp_path / "t.arff").write_text(ARFF.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        load_file(tmp_path / "t.arff", missing="drop")
    assert "\n" not in str(caught.value)


def idx(array: np.ndarray, code: int = 8) -> bytes:
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


IMAGES = np.random.default_rng(0).integers(100, size=(50, 3, 3), dtype=np.uint8)
LABELS = np.arange(50, dtype=np.uint8) % 2


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images.idx3-ubyte"])
def test_a_file_and_its_archive_are_read_once(tmp_path, name: str, caplog) -> None:
    """torchvision keeps X and X.gz side by side: 24 of 50 test inputs were training inputs."""
    for part, data in (("images", idx(IMAGES)), ("labels", idx(LABELS))):
        file = name.replace("images", part).replace("idx3", "idx3" if part == "images" else "idx1")
        (tmp_path / file).write_bytes(data)
        (tmp_path / f"{file.replace('.', '-')}.gz").write_bytes(gzip.compress(data))
    x, y = load_file(tmp_path)
    assert np.array_equal(x, IMAGES.reshape(50, 9) / 255) and np.array_equal(y, LABELS)
    assert f"train-images-idx3-ubyte.gz left out (it is {name} again)" in said(caplog)
    problem = Problem(Network(), data=str(tmp_path), train=20, test=30)
    assert problem.source["test_in_train"] == 0


def test_pixels_are_divided_by_255(tmp_path) -> None:
    """Not by what is largest in the file, test rows included; columns of zeros stay 0."""
    images = IMAGES.copy()
    images[:, 0, 0] = 0
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    problem = Problem(Network(), data=str(tmp_path), train=20, test=30, seed=1)
    given = {tuple(row) for row in images.reshape(50, 9).tolist()}
    assert {tuple(row) for row in np.rint(problem.inputs * 255).tolist()} == given
    assert np.allclose(problem.inputs * 255, np.rint(problem.inputs * 255), atol=1e-10)


def test_qmnist_and_several_data_sets(tmp_path) -> None:
    rows = np.zeros((50, 8), ">i4")
    rows[:, 0], rows[:, 1] = LABELS, 7
    (tmp_path / "qmnist-test-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "qmnist-test-labels-idx2-int.gz").write_bytes(gzip.compress(idx(rows, 12)))
    assert np.array_equal(load_file(tmp_path)[1], LABELS)
    (tmp_path / "emnist-letters-train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    with pytest.raises(InputError, match="several data sets: emnist-letters, qmnist"):
        load_file(tmp_path)
    (tmp_path / "emnist-letters-train-labels-idx1-ubyte").write_bytes(idx(rows, 12))
    file = tmp_path / "emnist-letters-train-images-idx3-ubyte"
    assert np.array_equal(load_file(file)[1], LABELS)
    with pytest.raises(InputError, match="label='x' of image files"):
        load_file(file, label="x")
    for images, labels in ((IMAGES.astype(">f4"), 13), (IMAGES[:0], 8)):
        file.write_bytes(idx(images, labels))
        with pytest.raises(InputError, match="readable data file"):
            load_file(file)
    assert read_images(tmp_path, []) is None


def table(tmp_path, frame: pd.DataFrame) -> str:
    frame.to_csv(tmp_path / "t.csv", index=False)
    return str(tmp_path / "t.csv")


def test_scales_know_the_training_set_only(tmp_path) -> None:
    """Test rows have no say, and constants stay 0: the deviation of a constant 0.1 is 1e-17."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.normal(size=(60, 3)) * [1, 10, 100], columns=["u", "v", "w"])
    frame["tenth"], frame["zero"], frame["label"] = 0.1, 0.0, np.arange(60) % 2
    path = table(tmp_path, frame)
    raw = frame[["u", "v", "w", "tenth", "zero"]].to_numpy()
    for scale in ("range", "standard"):
        data = load_dataset(path, train=20, scale=scale, seed=4)
        train, test = raw[data.train_index], raw[data.test_index]
        if scale == "range":
            top = np.abs(train).max(axis=0)
            top[4] = 1
            assert np.allclose(data.X_train, train / top) and np.allclose(data.X_test, test / top)
            assert np.abs(data.X_test).max() > 1
            continue
        assert np.allclose(data.X_train[:, :3].mean(axis=0), 0)
        assert np.allclose(data.X_train[:, :3].std(axis=0), 1)
        want = (test - train.mean(axis=0))[:, :3] / train.std(axis=0)[:3]
        assert np.allclose(data.X_test[:, :3], want)
        assert not data.X_train[:, 3:].any() and not data.X_test[:, 3:].any()
    with pytest.raises(InputError, match="scale='minmax'"):
        Problem(Network(), data=path, train=20, test=20, scale="minmax")


def test_duplicates_are_counted_for_every_source(tmp_path, caplog) -> None:
    x = np.repeat(np.arange(30.0), 2)[:, None] * [1.0, 3.0]
    path = table(tmp_path, pd.DataFrame({"u": x[:, 0], "v": x[:, 1], "y": np.arange(60) // 2 % 2}))
    problem = Problem(Network(), data=path, train=30, test=30, seed=0)
    seen = {tuple(row) for row in problem.inputs[:30]}
    expected = sum(tuple(row) in seen for row in problem.inputs[30:])
    assert expected > 5 and problem.source["test_in_train"] == expected
    assert caplog.records[-1].levelno == logging.WARNING
    assert f"{expected} test inputs are training inputs too" in said(caplog)
    data = load_dataset(path, train=30, seed=0)
    assert data.describe()["test_in_train"] == expected
    for name in ("digits", "breast-cancer"):
        data = load_dataset(name, train=100)
        assert data.describe()["test_in_train"] == 0 and caplog.records[-1].levelno == logging.INFO
        assert "100 training and" in said(caplog) and "0 test inputs" in said(caplog)
    x = np.array([[0.0], [1.0], [-0.0], [2.0]])
    arrays = problem_from_arrays(Network(), "toy", x[:2], np.array([0, 1]), x[2:], np.array([1, 0]))
    assert arrays.source["test_in_train"] == 1  # -0.0 is 0.0
    assert "(1 of them with another label)" in said(caplog)


def test_contradictions_are_reported() -> None:
    x = np.array([[0.0], [0.0], [1.0]])
    twice = find_overlap(x, np.array([0, 1, 1]), x[:1], np.array([1]))
    assert (twice.contradictions, twice.duplicates, twice.disagree) == (1, 1, 0)


def test_runs_of_built_in_data_need_no_settings() -> None:
    """Their records are as they were, so that earlier runs can be resumed and measured."""
    assert Problem(Network(), data="digits", classes="3,8").settings == {}
    assert Problem(Network(), data="digits", classes="3,8", scale="standard").settings == {
        "scale": "standard"
    }


def test_earlier_records_of_files_have_no_settings(tmp_path) -> None:
    frame = pd.DataFrame({"u": X[:, 0], "v": X[:, 1], "label": np.arange(12) % 2})
    problem = Problem(Network(), data=table(tmp_path, frame), train=4, test=4)

    class Result:
        problem: dict[str, object]
        config: dict[str, object] = {}  # noqa: RUF012

    Result.problem = {k: v for k, v in problem.describe().items() if k not in problem.settings}
    assert problem_of(Result(), problem) is problem
    Result.problem = problem.describe() | {"scale": "standard"}
    with pytest.raises(InputError, match="scale"):
        problem_of(Result(), problem)


def test_one_class_and_too_many(tmp_path) -> None:
    frame = pd.DataFrame({"a": X[:, 0], "label": 1})
    with pytest.raises(InputError, match=r"1 classes \(1\)"):
        load_dataset(table(tmp_path, frame), train=5)
    frame["label"] = ["x", "y", "a:b"] * 4
    with pytest.raises(InputError, match=r"3 classes .*--classes \"a:b\":x"):
        load_dataset(table(tmp_path, frame), train=5)
    assert load_dataset(table(tmp_path, frame), train=5, classes="x:y").classes == "x:y"
    assert isinstance(read_data(tmp_path / "t.csv"), Examples)
