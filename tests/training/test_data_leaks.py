"""Files that were read without a word, and wrong: numbers of rows as a feature, a row as names."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.table_files import read_file
from simprior.boolean.import_files import read_functions
from simprior.errors import InputError
from simprior.training.loaders import read_data
from simprior.training.table_files import read_table


def noise(rows: int = 60) -> pd.DataFrame:
    """Features of pure noise, sorted by class."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame(random.normal(size=(rows, 3)).round(2), columns=list("abc"))
    return frame.assign(y=np.repeat([0, 1], rows // 2))


def test_a_numbering_with_gaps_is_no_feature(tmp_path: Path) -> None:
    """Rows filtered, then written with the index as a named column: it gives the class away."""
    frame = noise()[np.random.default_rng(2).random(60) > 0.1]
    frame.to_csv(tmp_path / "gaps.csv", index_label="n")
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "shuffled.csv", index_label="n")
    frame.rename_axis("n").to_parquet(tmp_path / "gaps.parquet")
    for name in ("gaps.csv", "shuffled.csv", "gaps.parquet"):
        with pytest.raises(InputError, match=r"'n' comes first.*may number the rows"):
            read_table(tmp_path / name, None)
    later = frame.assign(n=frame.index)[["a", "n", "b", "c", "y"]]
    later.to_csv(tmp_path / "feature.csv", index=False)  # as the message says
    assert read_table(tmp_path / "feature.csv", None).names == ["a", "n", "b", "c"]


def test_whole_numbers_that_repeat_or_are_few_are_features(tmp_path: Path) -> None:
    frame = noise().assign(a=np.arange(60) // 2)
    frame.to_csv(tmp_path / "repeat.csv", index=False)
    assert read_table(tmp_path / "repeat.csv", None).names == list("abc")
    pd.DataFrame({"a": [3, 1, 4, 7], "y": [0, 1, 0, 1]}).to_csv(tmp_path / "few.csv", index=False)
    assert read_table(tmp_path / "few.csv", None).names == ["a"]


def test_numbers_that_count_up_by_chance_are_not_names(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("5,6,7,cat\n1,2,9,dog\n3,4,1,cow\n3,4,1,dog\n")
    with pytest.raises(InputError, match="could be names or data"):
        read_table(tmp_path / "h.csv", "last")
    (tmp_path / "named.csv").write_text("5,6,7,label\n1,2,9,dog\n3,4,1,cow\n3,4,1,dog\n")
    found = read_table(tmp_path / "named.csv", None)
    assert len(found.labels) == 3
    assert "the first row is names, 3 of them numbers" in found.notes


def test_the_index_of_a_parquet_file_is_not_lost(tmp_path: Path) -> None:
    frame = noise()
    frame.set_index("a").to_parquet(tmp_path / "named.parquet")
    assert read_table(tmp_path / "named.parquet", None).names == ["a", "b", "c"]
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "shuffled.parquet")
    assert read_table(tmp_path / "shuffled.parquet", None).notes == [
        "index (without a name) dropped: row names"
    ]
    frame.to_parquet(tmp_path / "plain.parquet")
    assert read_table(tmp_path / "plain.parquet", None).notes == []


def cifar(records: int, labels: int, seed: int) -> bytes:
    data = np.random.default_rng(seed).integers(0, 10, (records, 3072 + labels), np.uint8)
    return data.tobytes()


def test_two_label_systems_are_not_joined(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(cifar(4, 1, 0))
    (tmp_path / "train.bin").write_bytes(cifar(4, 2, 1))
    with pytest.raises(InputError, match="CIFAR-10 and of CIFAR-100"):
        read_data(tmp_path)


def test_a_compressed_copy_must_be_one(tmp_path: Path) -> None:
    data = cifar(4, 1, 0)
    (tmp_path / "data_batch_1.bin").write_bytes(data)
    (tmp_path / "data_batch_1.bin.gz").write_bytes(gzip.compress(data))
    assert len(read_data(tmp_path).X) == 4
    (tmp_path / "data_batch_1.bin.gz").write_bytes(gzip.compress(cifar(4, 1, 1)))
    with pytest.raises(InputError, match=r"data_batch_1\.bin beside it holds other data"):
        read_data(tmp_path)


def functions(tmp_path: Path, text: str, samples: int | None = None) -> tuple[list[int], int]:
    (tmp_path / "f.csv").write_text(text)
    found = read_functions(
        tmp_path / "f.csv", n=3, m=None, order="standard", columns=None, samples=samples
    )
    return found.count.tolist(), found.samples


def test_the_column_called_count_is_the_count(tmp_path: Path) -> None:
    both = "function,frequency,count\n11101000,7,500\n00000000,3,400\n"
    assert functions(tmp_path, both) == ([500, 400], 900)
    with pytest.raises(InputError, match="'frequency' and 'counts': expected one column for count"):
        functions(tmp_path, both.replace(",count\n", ",counts\n"))


def test_the_column_called_samples_is_used(tmp_path: Path) -> None:
    text = "function,samples,count\n11101000,1000,3\n00000000,1000,2\n"
    assert functions(tmp_path, text) == ([3, 2], 1000)
    assert functions(tmp_path, text, 2000) == ([3, 2], 2000)
    for wrong in ("900,3", "4,3"):
        with pytest.raises(InputError, match="column samples of"):
            functions(tmp_path, text.replace("1000,3", wrong).replace("1000,2", "4,2"))


def test_row_names_are_no_measure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise().to_csv(tmp_path / "m.csv")
    with caplog.at_level(logging.INFO, "simprior"):
        assert list(read_file(tmp_path / "m.csv").columns) == ["a", "b", "c", "y"]
    assert "column 1 (without a name) dropped: row names" in caplog.text
