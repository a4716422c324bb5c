"""Network specification: every bad field is named in one line; round trips; digests."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from simprior.boolean.sampling.torch_engine import draw_parameters
from simprior.errors import InputError
from simprior.modules.architecture import Architecture
from simprior.network.spec import ACTIVATIONS, Network, import_activation

SIGMA_W = "a finite standard deviation > 0; pass for example sigma_w=1.0"
SIGMA_B = "a finite standard deviation >= 0; pass for example sigma_b=1.0"
BITS = "an integer from 1 to 16; pass for example n=7"
WIDTHS = (
    "positive integers, one a hidden layer; "
    "pass for example hidden=(40, 40), or () for a perceptron"
)
NAMES = "relu, tanh, erf, gelu, sin, linear, step"
IMPORT = (
    f"one of {NAMES} or an import path module:function; "
    "check the spelling, e.g. torch.nn.functional:silu"
)
MATRIX = "a finite (m, d) matrix with m, d >= 1; one row an input, one column a coordinate"
COUNT = (
    "one number or 3 (one a layer, the output layer included); "
    "give a single standard deviation or one for each layer"
)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n", 0, f"n=0: expected {BITS}"),
        ("n", 17, f"n=17: expected {BITS}"),
        ("n", -3, f"n=-3: expected {BITS}"),
        ("n", 7.0, f"n=7.0: expected {BITS}"),
        ("n", True, f"n=True: expected {BITS}"),
        ("n", "7", f"n='7': expected {BITS}"),
        ("hidden", (40, 0), f"hidden=(40, 0): expected {WIDTHS}"),
        ("hidden", (-1,), f"hidden=(-1,): expected {WIDTHS}"),
        ("hidden", (4.5,), f"hidden=(4.5,): expected {WIDTHS}"),
        ("hidden", "40", f"hidden='40': expected {WIDTHS}"),
        ("hidden", (True,), f"hidden=(True,): expected {WIDTHS}"),
        ("sigma_w", -1.0, f"sigma_w=-1.0: expected {SIGMA_W}"),
        ("sigma_w", 0, f"sigma_w=0: expected {SIGMA_W}"),
        ("sigma_w", math.nan, f"sigma_w=nan: expected {SIGMA_W}"),
        ("sigma_w", math.inf, f"sigma_w=inf: expected {SIGMA_W}"),
        ("sigma_w", "1", f"sigma_w='1': expected {SIGMA_W}"),
        ("sigma_w", None, f"sigma_w=None: expected {SIGMA_W}"),
        ("sigma_w", (1.0, 2.0), f"sigma_w=(1.0, 2.0): expected {COUNT}"),
        ("sigma_w", (1.0, 2.0, -1.0), f"sigma_w=-1.0: expected {SIGMA_W}"),
        ("sigma_b", -0.5, f"sigma_b=-0.5: expected {SIGMA_B}"),
        ("sigma_b", math.nan, f"sigma_b=nan: expected {SIGMA_B}"),
        ("sigma_b", (1.0,) * 4, f"sigma_b=(1.0, 1.0, 1.0, 1.0): expected {COUNT}"),
        ("activation", "foo", f"activation='foo': expected {IMPORT}"),
        ("activation", "no.such.module:f", f"activation='no.such.module:f': expected {IMPORT}"),
        ("activation", "math:pi", f"activation='math:pi': expected {IMPORT}"),
        ("activation", "math", f"activation='math': expected {IMPORT}"),
        ("activation", ":f", f"activation=':f': expected {IMPORT}"),
        (
            "activation", 3,
            f"activation=3: expected one of {NAMES} or a callable; "
            "pass a name or an elementwise function",
        ),
        ("encoding", "10", "encoding='10': expected one of 01, pm1; pass encoding='01'"),
        (
            "weight_dist", "cauchy",
            "weight_dist='cauchy': expected one of gaussian, uniform; pass weight_dist='gaussian'",
        ),
        ("inputs", [1.0, 2.0], f"inputs of shape (2,): expected {MATRIX}"),
        ("inputs", [[1.0], [math.nan]], f"inputs of shape (2, 1): expected {MATRIX}"),
        ("inputs", np.zeros((0, 3)), f"inputs of shape (0, 3): expected {MATRIX}"),
        ("inputs", np.zeros((3, 0)), f"inputs of shape (3, 0): expected {MATRIX}"),
        (
            "inputs", [[1, 2], [3]],
            "inputs=[[1, 2], [3]]: expected an array of numbers; "
            "rows of equal length, numbers only",
        ),
        ("inputs", "abc", "inputs='abc': expected real numbers; convert inputs to a float array"),
    ],
)  # fmt: skip
def test_bad_fields(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        Network(**{field: value})
    assert str(error.value) == message


SPECS = [
    Network(),
    Network(n=1, hidden=()),
    Network(n=5, hidden=(3, 1, 7), sigma_w=(1.0, 2.0, 0.5, 1.5), sigma_b=(0.0, 0.1, 0.2, 0.3)),
    Network(n=np.int64(4), hidden=np.array([3, 2]), sigma_w=np.float64(2), sigma_b=0),
    Network(activation="erf", encoding="pm1", weight_dist="uniform"),
    Network(activation="math:tanh", hidden=[4]),
    Network(inputs=[[0.0, 1.5], [-2.0, 0.0], [0.0, 0.0]], hidden=(2,)),
]


@pytest.mark.parametrize("network", SPECS, ids=range(len(SPECS)))
def test_round_trip_through_json(network: Network) -> None:
    back = Network.from_dict(json.loads(json.dumps(network.to_dict())))
    assert back == network and hash(back) == hash(network)
    assert back.to_dict() == network.to_dict() and back.digest() == network.digest()


def test_digests_tell_specs_apart() -> None:
    base = Network()
    changed = [
        replace(base, n=6), replace(base, hidden=(40,)), replace(base, activation="tanh"),
        replace(base, sigma_w=1.1), replace(base, sigma_b=0.9), replace(base, encoding="pm1"),
        replace(base, weight_dist="uniform"), replace(base, sigma_w=(1.0, 1.0, 1.1)),
    ]  # fmt: skip
    assert len({n.digest() for n in [base, *changed]}) == len(changed) + 1
    assert base != changed[0] and base != "a network"
    # lists, tuples and arrays of the same numbers are the same network
    assert Network(hidden=[40, 40], sigma_w=1) == base
    assert len({s.digest() for s in SPECS}) == len(SPECS)


def test_from_dict_refuses_unknown_keys() -> None:
    with pytest.raises(InputError, match=r"^network.width=3: expected one of .*; remove it$"):
        Network.from_dict({"width": 3})


def test_derived_quantities() -> None:
    n = Network(n=5, hidden=(3, 8), sigma_w=(1.0, 2.0, 3.0), sigma_b=0.5)
    assert (n.m, n.d, n.depth, n.fan_ins) == (32, 5, 2, (5, 3, 8))
    assert n.sigma_ws == (1.0, 2.0, 3.0) and n.sigma_bs == (0.5,) * 3
    x = Network(inputs=[[1.0, 2.0]] * 70)
    assert (x.n, x.m, x.d) == (2, 70, 2)


def test_spec_is_frozen_and_keeps_its_own_inputs() -> None:
    mine = np.ones((2, 2))
    network = Network(inputs=mine)
    mine[0, 0] = 5.0
    assert network.inputs is not None and network.inputs[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        network.inputs[0, 0] = 2.0
    with pytest.raises(FrozenInstanceError):
        network.n = 3  # type: ignore[misc]


def test_activations() -> None:
    for name in ACTIVATIONS:
        assert Network(activation=name).activation_callable() is None
    assert import_activation("math:tanh") is math.tanh
    assert Network(activation="math:tanh").activation_callable() is math.tanh
    custom = Network(activation=math.tanh)
    assert custom.activation_callable() is math.tanh and custom.activation_name == "math:tanh"


@pytest.mark.parametrize("hidden", [(), (5,), (6, 4)])
def test_a_network_is_an_architecture(hidden: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    network = Network(n=3, hidden=hidden, sigma_w=1.5, sigma_b=0.5)
    assert isinstance(network, Architecture)
    drawn = [draw_parameters(network, 0, number) for number in range(4)]
    stacked = {}
    for layer in range(network.depth + 1):
        stacked[f"{layer}.weight"] = torch.tensor(np.stack([d.weights[layer].T for d in drawn]))
        stacked[f"{layer}.bias"] = torch.tensor(np.stack([d.biases[layer] for d in drawn]))
    for tensor in network.tensors():
        assert stacked[tensor.name].shape[1:] == tensor.shape
    scales = [t.deviation for t in network.tensors() if t.law == "weight"]
    assert scales == [1.5 / math.sqrt(fan_in) for fan_in in network.fan_ins]
    x = torch.tensor(network.input_matrix(), dtype=torch.float32)
    h = network.input_matrix()[None]
    for layer, width in enumerate((*hidden, 1)):
        w = np.stack([one.weights[layer] for one in drawn])
        b = np.stack([one.biases[layer] for one in drawn])
        h = (np.maximum(h, 0.0) if layer else h) @ w + b[:, None]
        assert h.shape == (4, 8, width)
    assert np.allclose(network.apply(stacked, x), h[..., 0], atol=1e-5)
    last = network.last()
    features = network.features(stacked, x)
    assert features.shape == (4, 8, last.fan_in)
    ends = features @ stacked[last.weight].transpose(1, 2) + stacked[last.bias][:, None]
    assert torch.equal(ends[..., 0], network.apply(stacked, x))


def test_masked_weights_are_not_drawn_tensor_by_tensor() -> None:
    with pytest.raises(InputError, match="expected density 1 for parameters that are drawn"):
        Network(n=3, hidden=(4,), density=0.5).tensors()
