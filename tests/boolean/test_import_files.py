"""Files made elsewhere: hex of EDA tools, PLA, BLIF, columns; what ``simprior table`` writes."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simprior.analysis.text import tables
from simprior.boolean.import_files import Imported, read_functions
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import from_bits, from_hex, named, pack, to_bits, to_hex, unpack
from simprior.errors import InputError
from simprior.network.spec import Network

Function = Callable[..., int]


def read(tmp_path: Path, text: str | bytes, name: str = "f.txt", **options: object) -> Imported:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_functions(path, **options)  # type: ignore[arg-type]


def refused(tmp_path: Path, text: str | bytes, name: str = "f.txt", **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text, name, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))
    return str(caught.value)


def our_table(function: Function, n: int) -> np.ndarray:
    """Outputs in our order: x1 is the most significant bit of an input's number."""
    return np.array([function(*x) for x in itertools.product((0, 1), repeat=n)], np.uint8)


def number(function: Function, n: int) -> int:
    """The whole number of ABC and kitty: bit i is the output where x1 is bit 0 of i, x2 bit 1..."""
    return sum(function(*((i >> k) & 1 for k in range(n))) << i for i in range(1 << n))


# ---------------------------------------------------------------- the orders


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7])
def test_reversed_hex_and_bits_against_evaluation_point_by_point(n: int) -> None:
    source = random.Random(n)
    random_table = {x: source.randint(0, 1) for x in itertools.product((0, 1), repeat=n)}
    functions: list[Function] = [
        lambda *x: x[0],
        lambda *x: x[-1],
        lambda *x: int(sum(x) > n / 2),
        lambda *x: random_table[x],
    ]
    for function in functions:
        value, table = number(function, n), our_table(function, n)
        digits = max(1, (1 << n) // 4)
        bits = f"{value:0{1 << n}b}"
        for text in (f"0x{value:0{digits}x}", f"{value:0{digits}X}"):
            np.testing.assert_array_equal(
                unpack(from_hex(text, 1 << n, "reversed"), 1 << n)[0], table
            )
        np.testing.assert_array_equal(unpack(from_bits(bits, 1 << n, "reversed"), 1 << n)[0], table)
        words = pack(table)
        assert to_hex(words, 1 << n, "reversed") == [f"0x{value:0{digits}x}"]
        assert to_bits(words, 1 << n, "reversed") == [bits]


def test_reversed_hex_of_known_functions() -> None:
    """0xaa... is the first variable, 0xe8 majority: the constants of ABC's and kitty's manuals."""
    known = {"aa": "x1", "cc": "x2", "f0": "x3", "e8": "majority", "96": "parity"}
    for text, name in known.items():
        np.testing.assert_array_equal(unpack(from_hex(text, 8, "reversed"), 8)[0], named(name, 3))
    assert unpack(from_hex("0x8000", 16, "reversed"), 16)[0].tolist() == [0] * 15 + [1]
    assert unpack(from_hex("2", 2, "reversed"), 2)[0].tolist() == [0, 1]
    for text, m in (("4", 2), ("0x123456789abcdef01234567", 96)):
        with pytest.raises(InputError, match=r"zero bits before|hex digits|power of 2"):
            from_hex(text, m, "reversed")


def test_import_of_reversed_hex(tmp_path: Path) -> None:
    found = read(tmp_path, "0xe8 5\nAA 3\n3 f0\n", n=3, order="reversed")
    expected = np.stack([named(name, 3) for name in ("majority", "x1", "x3")])
    np.testing.assert_array_equal(unpack(found.words, 8), expected)
    assert found.count.tolist() == [5, 3, 3] and (found.m, found.n) == (8, 3)


# ---------------------------------------------------------------- columns, counts, files


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("0101 .3 7\n1111 .1 2\n", ("function", "_", "count")),
        ("0101,a b,7\n1111,,2\n", ("function", "_", "count")),
        ("f;x;n\n0101;;7\n1111;y;2\n", ("function", "_", "count")),
        ('7\t"a,b"\t"0101"\n2\t-\t1111\n', ("count", "_", "function")),
        ("rank,Function,entropy,COUNT\n1,0101,.5,7\n2,1111,,2\n", None),
        ("function count\n0101 7\n1111 2\n", None),
        ("state,count\n5,3\n", None),
        ("0101 7.0\n1111 2e0\n", None),
        ("0101 5\n1111 2\n0101 2.000000000000000000e+00\n", None),
    ],
)
def test_columns_and_headers(
    tmp_path: Path, text: str, columns: tuple[str, ...] | None
) -> None:  # fmt: skip
    found = read(tmp_path, text, n=2, columns=columns)
    counts = FunctionCounts.from_counts(found.words, found.count, m=4, n=2)
    if text.startswith("state"):
        assert to_bits(found.words, 4) == ["0101"] and found.count.tolist() == [3]
        return
    assert to_bits(counts.words, 4) == ["0101", "1111"] and counts.count.tolist() == [7, 2]
    header = text.startswith(("f;x", "rank", "function"))
    assert ("is a header" in found.report) == header
    assert ("repeated on 1 line: counts added" in found.report) == (len(found.words) == 3)


def test_functions_without_counts_count_once(tmp_path: Path) -> None:
    found = read(tmp_path, "a,0101\nb,0101\n", n=2, columns=("_", "function"))
    assert found.count.tolist() == [1, 1] and "every line counts once" in found.report


@pytest.mark.parametrize("text", ["0101 5\n1111 2\n", "function,count\n0101,5\n1111,2\n"])
def test_gzip_and_byte_order_mark(tmp_path: Path, text: str) -> None:
    for content in (gzip.compress(text.encode()), b"\xef\xbb\xbf" + text.encode()):
        found = read(tmp_path, content, "f.dat", n=2)
        assert to_bits(found.words, 4) == ["0101", "1111"] and found.count.tolist() == [5, 2]
    said = refused(tmp_path, gzip.compress(text.encode() * 99)[:-20], n=2)
    assert "expected a whole file" in said


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        (
            "0101 5.5\n",
            {},
            "line 1: '0101 5.5': expected a function of 0 and 1 (or",
        ),
        ("0101 -5\n", {}, "line 1"),
        ("0101 0\n", {}, "line 1"),
        ("0101 " + "9" * 5000 + "\n", {}, "line 1"),
        ("0101 1e300\n", {}, "line 1"),
        ("0101 nan\n", {}, "line 1"),
        ("1000 1100\n1010 1000\n", {}, "--columns function,count"),
        ("8 5\nf 3\n", {"columns": ("function", "count", "_")}, "expected 3 columns, not 2"),
        ("1 2 3\n", {}, "name them, for example --columns function,_,count"),
        ("aa,bb,cc\n0101,1,2\n", {}, "expected a header with function and count"),
        ("function,p\n0101,.5\n", {}, "expected a header with function and count"),
        ("0101 5\n", {"columns": ("count",)}, "expected function once"),
        ("0101 5\n", {"columns": ("function", "weight")}, "expected function once"),
        ("0101 5\n", {"n": 3}, "pass --n 2 if all functions have 4 outputs"),
        ("0xfff 5\n", {"n": 3}, "pass --m 12 if all functions have 12 outputs"),
        ("0101 5\n", {"m": 4}, "expected one of the two"),
        ("0101 5\n", {"samples": 4}, "expected at least the sum of counts, 5"),
        ("%x\n", {}, "not LaTeX"),
        ("\n# nothing\n", {}, "at least one line"),
        ("\x00\xff", {}, "at least one line"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, text: str, options: dict[str, object], says: str
) -> None:
    assert says in refused(tmp_path, text, **{"n": 2, **options})


def test_functions_of_any_length(tmp_path: Path) -> None:
    source = np.random.default_rng(3)
    table = source.integers(0, 2, (5, 96), np.uint8)
    bits = ["".join(map(str, row)) for row in table]
    for texts in (bits, to_hex(pack(table), 96)):
        found = read(tmp_path, "".join(f"{text} 2\n" for text in texts), m=96)
        np.testing.assert_array_equal(unpack(found.words, 96), table)
        assert (found.m, found.n, found.samples) == (96, 0, 10)
    assert "power of 2" in refused(tmp_path, f"{bits[0]} 1\n", m=96, order="reversed")


# ---------------------------------------------------------------- what simprior table writes


@pytest.fixture(scope="module")
def counts() -> FunctionCounts:
    from simprior.boolean.sampling.sample import sample

    return sample(Network(n=4, hidden=(5,)), samples=3000, seed=1, heads=1)


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "parquet"])
def test_round_trip(tmp_path: Path, counts: FunctionCounts, form: str) -> None:
    path = tmp_path / f"t.{form}"
    tables.write(counts.to_frame(None), path, form, "simprior table r --format csv --out t")
    found = read_functions(path, n=4)
    np.testing.assert_array_equal(found.words, counts.words)
    np.testing.assert_array_equal(found.count, counts.count)
    assert found.samples == 3000
    tables.write(counts.to_frame(10), path, form, "simprior table r --format csv --out t")
    if form == "markdown":  # six digits of p do not tell the number of samples
        with pytest.raises(InputError, match="pass it: --samples"):
            read_functions(path, n=4)
        assert read_functions(path, n=4, samples=3000).samples == 3000
        return
    part = read_functions(path, n=4)
    assert part.samples == 3000 and part.count.tolist() == counts.count[:10].tolist()
    with pytest.raises(InputError, match="samples=4000: expected 3000"):
        read_functions(path, n=4, samples=4000)


def test_columns_chosen_by_the_user_are_read_too(tmp_path: Path, counts: FunctionCounts) -> None:
    text = tables.render(counts.to_frame(None)[["count", "function"]], "csv")
    found = read(tmp_path, text, n=4)
    np.testing.assert_array_equal(found.count, counts.count)


def test_classes_and_shared_layers(tmp_path: Path, counts: FunctionCounts) -> None:
    frame = counts.to_frame(None)
    shared = tables.render(frame.assign(design_effect=2.5), "csv")
    assert "design effects up to 2.5 are not kept" in read(tmp_path, shared, n=4).report
    pooled = tables.render(frame.assign(orbit=2.0, p=frame["p"] / 2), "csv")
    assert "counts of symmetry classes" in refused(tmp_path, pooled, n=4)


def test_p_that_is_no_share_is_not_used(tmp_path: Path) -> None:
    found = read(tmp_path, "function,count,p\n0101,5,.9\n1111,2,.8\n", n=2)
    assert found.samples == 7 and "was not used" in found.report


# ---------------------------------------------------------------- PLA

PLA = """# majority
.i 3
.o 1
.ilb a b c
.ob f
.p 3
11- 1
1-1 1
-11 1
.e
"""


def test_pla_of_every_type(tmp_path: Path) -> None:
    expected = named("majority", 3)
    zeros = "00- 0\n0-0 0\n-00 0\n"
    files = {
        "fd": PLA, "f": PLA.replace(".p 3", ".type f"), "spaces": PLA.replace("11- 1", "1 1 -|1"),
        "fr": PLA.replace(".p 3", ".type fr").replace(".e", zeros + ".e"),
        "off rows mean nothing": PLA.replace(".p 3", "").replace(".e", "111 0\n"),
        "no dc in f": PLA.replace(".p 3", ".type f").replace(".e", "000 -\n.e"),
    }  # fmt: skip
    for text in files.values():
        found = read(tmp_path, text, "m.pla")
        np.testing.assert_array_equal(unpack(found.words, 8)[0], expected)
        assert (found.m, found.n, found.count.tolist(), found.samples) == (8, 3, [1], 1)
    assert "f as a function of x1, x2, ... = a, b, c" in read(tmp_path, PLA, "m").report
    first = read(tmp_path, ".i 3\n.o 1\n1-- 1\n", "x.pla.gz")  # x1 is the first input
    np.testing.assert_array_equal(unpack(first.words, 8)[0], named("x1", 3))
    assert not unpack(read(tmp_path, ".i 2\n.o 1\n.e\n", "zero.pla").words, 4).any()


def test_pla_of_a_random_function_point_by_point(tmp_path: Path) -> None:
    source = random.Random(5)
    cubes = ["".join(source.choice("01-") for _ in range(6)) for _ in range(7)]

    def function(*x: int) -> int:
        return int(any(all(c in ("-", str(v)) for c, v in zip(q, x, strict=True)) for q in cubes))

    text = ".i 6\n.o 1\n" + "".join(f"{cube} 1\n" for cube in cubes)
    np.testing.assert_array_equal(unpack(read(tmp_path, text, "r.pla").words, 64)[0],
                                  our_table(function, 6))  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("11- 1", "11- -", "line 7: '11- -': expected a fully specified function"),
        (".o 1", ".o 2", "line 3: '.o 2': expected one output, not 2"),
        (".ob f", ".ob f g", "expected one output, not 2 (f, g)"),
        (".p 3", ".p 4", "3 terms: expected 4, as .p says"),
        (".p 3", ".type fr", "no output for 4 inputs, such as 000: expected a fully specified"),
        (".p 3", ".type q", "expected one of f, fd, fr, fdr"),
        (".p 3\n11- 1\n1-1 1\n-11 1", ".type fr\n1-- 1\n0-- 0\n-11 0", "both 0 and 1 for 1 inputs"),
        ("11- 1", "11 1", "line 7: '11 1': expected 3 of 0, 1, -"),
        ("11- 1", "1x- 1", "line 7"),
        (".i 3", ".i 17", "expected 1 to 16 inputs"),
        (".i 3", ".i x", "expected .i and a whole number"),
        (".i 3\n", "", "expected .i and .o 1 before the terms"),
        (".ilb a b c", ".ilb a b", "2 names in .ilb: expected 3"),
        (".ilb a b c", ".mv 1 2 3", "expected one of .i .o .p"),
        (".e", ".type fr\n.e", "expected .type before the terms"),
    ],
)
def test_pla_that_is_no_function(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in PLA
    assert says in refused(tmp_path, PLA.replace(old, new), "m.pla")


# ---------------------------------------------------------------- BLIF

BLIF = """# a full adder's carry, and an off-set
.model carry
.inputs a b \\
  c
.outputs f
.names a b and_ab
11 1
.names a b c \\
 rest
1-1 1
-11 1
.names and_ab rest f # the zeros
00 0
.end
"""


def test_blif(tmp_path: Path) -> None:
    found = read(tmp_path, BLIF)
    np.testing.assert_array_equal(unpack(found.words, 8)[0], named("majority", 3))
    assert "= a, b, c" in found.report
    for body, expected in {
        ".names f\n1\n": [1] * 4, ".names f\n": [0] * 4, ".names f\n0\n": [0] * 4,
        ".names a f\n1 1\n": [0, 0, 1, 1], ".names b f\n0 1\n": [1, 0, 1, 0],
        ".names k f\n1 1\n.names k\n1\n": [1] * 4,
    }.items():  # fmt: skip
        text = f".model x\n.inputs a b\n.outputs f\n.area 3\n{body}.end\n"
        assert unpack(read(tmp_path, text, "x.blif").words, 4)[0].tolist() == expected
    same = read(tmp_path, ".model x\n.inputs a b\n.outputs b\n.end\n", "x.blif")
    assert unpack(same.words, 4)[0].tolist() == [0, 1, 0, 1]


def test_blif_with_a_chain_of_signals(tmp_path: Path) -> None:
    """5,000 inverters in a row, last first: no recursion."""
    lines = [f".names s{i} s{i + 1}\n0 1\n" for i in range(5000)]
    text = ".model x\n.inputs s0 t\n.outputs s5000\n" + "".join(reversed(lines)) + ".end\n"
    assert unpack(read(tmp_path, text, "x.blif").words, 4)[0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (".outputs f", ".outputs f g", "2 outputs (f, g): expected one"),
        (".outputs f\n", "", "0 outputs: expected one"),
        (".end", ".latch f q 0\n.end", "line 14: '.latch f q 0': expected one function"),
        (".end", ".subckt m x=a\n.end", "it uses another model"),
        (".end", ".gate nand2 A=a\n.end", "it uses a library of gates"),
        (".end", ".exdc\n.end", "it has don't-cares"),
        (".end", ".names a f\n1 1\n.end", "expected each signal defined once"),
        (".end", ".names a c\n1 1\n.end", "expected inputs without a .names block"),
        (".end", ".model two\n.end", "2 models"),
        ("00 0", "00 0\n11 1", "not both"),
        ("00 0", "00 -", "line 13"),
        ("00 0", "000 0", "expected 2 of 0, 1, -"),
        ("and_ab rest f", "and_ab f f", "depends on itself"),
        ("and_ab rest f", "and_ab what f", "signal 'what'"),
        (".inputs a b", ".inputs a a b", "expected 1 to 16 different ones"),
        ("# a full", "11 1\n#", "line 1: '11 1': expected a .names line before it"),
    ],
)  # fmt: skip
def test_blif_that_is_no_function(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in BLIF
    assert says in refused(tmp_path, BLIF.replace(old, new, 1), "m.blif")


@pytest.mark.parametrize(
    "options", [{"m": 8}, {"order": "reversed"}, {"columns": ("function",)}, {"n": 4}]
)
def test_logic_files_have_their_own_order(tmp_path: Path, options: dict[str, object]) -> None:
    assert "leave --" in refused(tmp_path, PLA, "m.pla", **options)


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_is_read_once(tmp_path: Path, packed: bool) -> None:
    """``simprior import <(zcat counts.gz)``."""
    pipe, text = tmp_path / "pipe", b"0101 5\n1111 2\n"
    os.mkfifo(pipe)
    content = gzip.compress(text) if packed else text
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    found = read_functions(pipe, n=2)
    writer.join()
    assert found.count.tolist() == [5, 2]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="a readable text file"):
            read_functions(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"function": "0101", "count": 5, "p": {"a": 1}}]', None),
        ('[{"function": "0101", "count": 5}, {}]', "line 2"),
        ('[{"function": "0101", "count": true}]', "line 1"),
        ('[{"function": null, "count": 1}]', "line 1: 'None'"),
        ('{"functions": []}', "expected rows with function and count"),
        ("[1, 2]", "expected rows with function and count"),
        ('[{"function": "0101"}]', "columns function: expected function and count among them"),
        ("[" * 10**5, "expected JSON"),
        ('[{"function": "0101", "count": ' + "9" * 6000 + "}]", "expected JSON"),
        ('function,count\n"' + "0" * 200_000 + '",5\n', "line 2"),
    ],
)
def test_json_and_cells_of_any_kind(tmp_path: Path, text: str, says: str | None) -> None:
    if says is None:
        assert read(tmp_path, text, n=2).count.tolist() == [5]
    else:
        assert says in refused(tmp_path, text, n=2)
