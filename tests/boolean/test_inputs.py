"""Inputs: order, encodings, explicit matrices, names."""

import numpy as np
import pytest

from simprior.boolean.truthtable import bit_matrix, describe, function_names, input_matrix, named
from simprior.errors import InputError
from simprior.network.spec import Network


@pytest.mark.parametrize("n", [1, 3, 7, 10])
def test_rows_spell_their_index_msb_first(n):
    bits = bit_matrix(n)
    assert bits.shape == (2**n, n) and bits.dtype == np.float64
    for i in (0, 1, 2**n // 3, 2**n - 1):
        assert "".join(str(int(b)) for b in bits[i]) == format(i, f"0{n}b")


def test_pm1_maps_zero_to_minus_one():
    assert np.array_equal(bit_matrix(4, "pm1"), np.where(bit_matrix(4) == 0, -1.0, 1.0))


@pytest.mark.parametrize("n", [0, 17, 2.5, True, "7"])
def test_bad_n_is_named(n):
    with pytest.raises(InputError, match="n="):
        bit_matrix(n)


def test_bad_encoding_is_named():
    with pytest.raises(InputError, match="encoding='10'"):
        bit_matrix(3, "10")


def test_input_matrix_follows_the_network():
    assert np.array_equal(input_matrix(Network(n=3, encoding="pm1")), bit_matrix(3, "pm1"))
    explicit = np.array([[0.5, -1.0], [2.0, 0.0], [1.0, 1.0]])
    got = input_matrix(Network(inputs=explicit))
    assert np.array_equal(got, explicit)
    got[0, 0] = 9.0  # a fresh array: the network's own stays as it was
    assert input_matrix(Network(inputs=explicit))[0, 0] == 0.5


RULES = {
    "const0": lambda x, i: 0,
    "const1": lambda x, i: 1,
    "x1": lambda x, i: x[0],
    "x5": lambda x, i: x[4],
    "parity": lambda x, i: sum(x) % 2,
    "majority": lambda x, i: sum(x) > len(x) / 2,
    "and": lambda x, i: min(x),
    "needle": lambda x, i: min(x),
    "or": lambda x, i: max(x),
    "and2": lambda x, i: x[0] * x[1],
    "xor2": lambda x, i: (x[0] + x[1]) % 2,
    "mux": lambda x, i: x[1] if x[0] else x[2],
    "ip": lambda x, i: sum(x[k] * x[k + 1] for k in range(0, len(x) - 1, 2)) % 2,
    "prime": lambda x, i: i > 1 and all(i % d for d in range(2, i)),
    "mod3": lambda x, i: i % 3 == 0,
}


@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("name", sorted(RULES))
def test_named_functions_by_their_definition(name, n):
    rows = [tuple(int(c) for c in format(i, f"0{n}b")) for i in range(2**n)]
    expected = [int(RULES[name](x, i)) for i, x in enumerate(rows)]
    assert named(name, n).tolist() == expected


def test_every_listed_name_has_a_table_and_a_meaning():
    for n in (1, 2, 3, 8):
        for name in function_names(n):
            assert set(named(name, n).tolist()) <= {0, 1} and describe(name)


def test_unknown_name_lists_names_and_near_matches():
    with pytest.raises(InputError, match=r"parity.*did you mean parity\?"):
        named("partiy", 5)
    with pytest.raises(InputError, match="mux"):  # mux needs three bits; listed names do not
        named("mux", 2)
