"""Which modules are functions of one input, and how they are evaluated."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch
from nets import Attention, Recurrent, Wrong, broken, perceptron, relu_net
from torch import nn

from simprior import Architecture, Module, sample
from simprior.errors import InputError, MemoryShortage
from simprior.modules.build import MOST_AT_ONCE, evaluation
from simprior.modules.draws import Draws


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))


def counting(z: torch.Tensor, module: nn.Module) -> torch.Tensor:
    module.calls += 1.0
    return z


def remembering(z: torch.Tensor, module: nn.Module) -> torch.Tensor:
    module.kept = getattr(module, "kept", 0.0) + 1.0
    return z * module.kept


def random_buffer() -> nn.Module:
    net = nn.Linear(3, 1)
    net.register_buffer("noise", torch.randn(3))
    return net


def empty_layer() -> nn.Module:
    net = nn.Linear(3, 1)
    net.more_weight = nn.Parameter(torch.zeros(0, 3))
    return net


def turning(z: torch.Tensor, _: nn.Module) -> torch.Tensor:
    """All outputs turn over where their sum is positive: a branch on the whole batch."""
    return -z if z.sum() > 0 else z


def turning_now_and_then(z: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """The same, for one in two networks."""
    return turning(z, module) if module.linear.bias > 0 else z


sizes = iter(range(1, 1000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (batch_norm, "BatchNorm1d '1' in training mode"),
        (dropout, "Dropout '1' with dropout in training mode"),
        (lambda: nn.LSTM(3, 1, 2, dropout=0.5), "LSTM '' with dropout in training mode"),
        (lambda: Wrong(3, counting), "whose buffer 'calls' changes"),
        (lambda: Wrong(3, remembering), "gives another output the second time"),
        (lambda: Wrong(3, lambda z, _: z + torch.rand(())), "another output the second time"),
        (lambda: Wrong(3, lambda z, _: z - z.mean()), "depends on the other inputs of a batch"),
        (lambda: Wrong(3, lambda z, _: z.cumsum(0)), "depends on the other inputs of a batch"),
        (lambda: Wrong(3, lambda z, _: z / 0.0), "NaN or infinite"),
        (random_buffer, "buffer 'noise' .* drawn at random"),
        (lambda: nn.Linear(3, next(sizes)), "whose second module has other parameters"),
        (lambda: nn.Linear(3, 2), r"output \(8, 2\) for 8 inputs"),
        (lambda: nn.Linear(4, 1), r"a module that maps \(m, 3\) to"),
        (lambda: nn.LSTM(3, 1), "with output tuple for 8 inputs"),
        (lambda: Wrong(3, lambda z, _: z > 0), "outputs of dtype torch.bool"),
        (lambda: Wrong(3, lambda z, _: sys.exit(3)), "it raised SystemExit: 3"),
        (lambda: nn.LazyLinear(1), "whose parameter 'weight' has no shape yet"),
        (nn.Identity, "a module with parameters"),
        (empty_layer, "whose parameter 'more_weight' is empty: expected at least one unit"),
        (lambda: Wrong(3, turning), "depends on the other inputs of a batch"),
        (lambda: Wrong(3, turning_now_and_then), "depends on the other inputs of a batch"),
        (lambda: "a net", "which returned 'a net': expected a torch.nn.Module"),
        (broken, r"it raised RuntimeError: no such file"),
    ],
)
def test_what_is_no_function_of_one_input_is_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Module(make, n=3).tensors()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_factory_may_make_its_module_of_any_dtype(dtype) -> None:
    Module(lambda: nn.Linear(3, 1, dtype=dtype), n=3).tensors()


def test_a_module_that_fails_for_some_parameters_only() -> None:
    def picky(z: torch.Tensor, _: nn.Module) -> torch.Tensor:
        if z.abs().max() > 3.0:
            raise ValueError("too large")
        return z

    module = Module(lambda: Wrong(3, picky), n=3, sigma_w=2.0)
    with pytest.raises(InputError, match=r"it raised ValueError: too large"):
        sample(module, 300, seed=0)


def test_what_looks_the_same_but_is_a_function_is_taken() -> None:
    for make in (batch_norm, dropout):
        Module(lambda make=make: make().eval(), n=3).tensors()
    Module(lambda: Wrong(3, lambda z, _: z.squeeze(1)), n=3).tensors()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("mlq", "did you mean mlp"),
        ("nets:no_such", "an import path module:function"),
        ("no_such_module:make", "an import path module:function"),
        (3, "a function or class that returns a new"),
        (nn.Linear(3, 1), "wrap the construction"),
    ],
)
def test_a_factory_that_is_none(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Module(make)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 0}, "an integer from 1 to 16"),
        ({"sigma_w": 0}, "sigma_w=0"),
        ({"sigma_w": (1.0, 2.0)}, "sigma_w"),
        ({"sigma_b": -1}, "sigma_b=-1"),
        ({"init": "xavier"}, "one of simprior, own"),
        ({"encoding": "10"}, "one of 01, pm1"),
        ({"options": 3}, "a mapping of names to values"),
        ({"n": 3, "inputs": [[0.0, 1.0]]}, "n=2, the number of columns"),
    ],
)
def test_bad_fields(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Module("mlp", **fields)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        ("mlp", {"norm": "layer", "residual": True}),
        ("mlp", {"norm": "rms", "hidden": (5, 5, 3)}),
        ("transformer", {"d_model": 8, "layers": 1, "heads": 2}),
        ("transformer", {"d_model": 8, "position": "sinusoidal", "pool": "last", "norm": "pre"}),
        ("lstm", {"width": 5, "layers": 2, "pool": "mean"}),
        ("cnn", {"channels": "4x4", "pool": "flat"}),
        ("cnn", {"channels": 4, "pool": "max"}),
        ("cnn2d", {"channels": "4x3", "pool": "flat", "window": 2}),
        ("cnn2d", {"channels": 4, "pool": "max", "shape": "1x4", "window": "1x3"}),
        (relu_net, {}),
        (Attention, {}),
        (Recurrent, {}),
    ],
)
def test_stacked_networks_and_heads_are_those_of_single_modules(make, options: dict) -> None:
    """Outputs of 4 networks with 3 heads, in float64, against the module with their numbers."""
    module = Module(make, n=4, options=options)
    assert isinstance(module, Architecture)
    built, x = module.built, torch.from_numpy(module.input_matrix())
    with evaluation():
        draws = Draws(built, 3, 11, "cpu", "float64")
        body, heads = draws.body(0), draws.heads(0)
        together = heads.outputs(module.features(body, x))
        single = built.make().double()
        last = module.last()
        assert last is not None
        for i in range(4):
            for r in range(3):
                one = {name: t[i] for name, t in body.items()}
                one |= {last.weight: heads.weights[i, r : r + 1], last.bias: heads.biases[i, r]}
                single.load_state_dict(one, strict=False)
                assert torch.allclose(single(x).reshape(-1), together[i, r], atol=1e-10)
                stacked = {name: t[None] for name, t in one.items()}
                assert torch.allclose(module.apply(stacked, x)[0], together[i, r], atol=1e-10)
    assert built.stacked is (make is not Recurrent)


@pytest.mark.parametrize("window", [(3, 3), (2, 3), (1, 4)])
@pytest.mark.parametrize("pool", ["flat", "mean", "max"])
def test_images_are_convolved_as_by_torch(window: tuple[int, int], pool: str) -> None:
    """``cnn2d`` against Conv2d with padding ``same`` and the same weights, in float64."""
    options = {"channels": "3x2", "window": window, "shape": "4x5", "pool": pool}
    module = Module("cnn2d", inputs=np.random.default_rng(0).random((5, 20)), options=options)
    net = module.built.make().double()
    h = torch.from_numpy(module.input_matrix()).reshape(5, 1, 4, 5)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch copies for even windows, and says so
        for layer in net.layers:
            channels = h.shape[1]
            conv = nn.Conv2d(channels, layer.out_features, window, padding="same").double()
            weights = layer.weight.reshape(-1, *window, channels)
            conv.weight.copy_(weights.permute(0, 3, 1, 2))
            conv.bias.copy_(layer.bias)
            h = conv(h).relu()
        flat = h.permute(0, 2, 3, 1).flatten(1, 2)
        pooled = {"flat": flat.flatten(1), "mean": flat.mean(1), "max": flat.amax(1)}[pool]
        got = net(torch.from_numpy(module.input_matrix()))
        assert torch.allclose(got, net.head(pooled), atol=1e-12)


def test_which_modules_have_heads() -> None:
    def last(make) -> object:
        return Module(make, n=3).last()

    assert last(relu_net) is not None
    assert last(perceptron) is None  # there is nothing that heads could share
    assert last(lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1), nn.Tanh())) is None
    assert last(lambda: nn.Sequential(nn.Linear(3, 4), nn.Flatten(), nn.Linear(4, 1))) is not None
    tied = nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    tied[2].weight = tied[1].weight
    assert last(lambda: tied) is None


def test_blocks_are_powers_of_two_that_fit() -> None:
    built = Module("mlp", n=7).built
    assert built.at_once(1) == built.at_once(64) == MOST_AT_ONCE
    assert built.at_once(512) == 64 and built.at_once(2000) == 16
    assert Module("mlp", n=12, options={"hidden": 400}).built.at_once(1) == 2
    assert Module("mlp", n=3, options={"hidden": (1500, 1500)}).built.at_once(1) == 4
    with pytest.raises(MemoryShortage, match="a smaller one, fewer heads"):
        built.at_once(10**9)


def test_evaluation_leaves_torch_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    Module("mlp", n=3, init="own").tensors()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled()
