"""What each parameter is drawn from, by simprior's conventions and by the module's own."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from nets import Attention, Recurrent, customised, relu_net
from torch import nn

from simprior.errors import InputError
from simprior.modules.build import evaluation
from simprior.modules.draws import Draws
from simprior.modules.laws import tensors_of
from simprior.modules.own import own_tensors
from simprior.modules.spec import Module


def laws(module: nn.Module, **given: str) -> dict[str, tuple[str, float]]:
    found = tensors_of(module, 2.0, 0.5, given, False)
    return {t.name: (t.law, t.deviation or t.centre) for t in found}


def test_the_law_of_torch_layers() -> None:
    assert laws(nn.Linear(9, 4)) == {"weight": ("weight", 2.0 / 3.0), "bias": ("bias", 0.5)}
    assert laws(nn.Conv1d(4, 6, 3, groups=2))["weight"] == ("weight", 2.0 / math.sqrt(6))
    assert laws(nn.ConvTranspose1d(4, 6, 3, groups=2))["weight"] == ("weight", 2.0 / math.sqrt(6))
    assert laws(nn.Embedding(5, 3)) == {"weight": ("embedding", 2.0)}
    assert laws(nn.LayerNorm(3)) == {"weight": ("constant", 1.0), "bias": ("constant", 0.0)}
    assert laws(nn.PReLU()) == {"weight": ("constant", 0.25)}
    lstm = laws(nn.LSTM(4, 9))
    assert lstm["weight_ih_l0"] == ("weight", 1.0)
    assert lstm["weight_hh_l0"] == ("weight", 2.0 / 3.0)
    assert lstm["bias_ih_l0"] == lstm["bias_hh_l0"] == ("bias", 0.5)
    attention = laws(Attention(5))
    assert attention["pos_embedding"] == ("embedding", 2.0)
    assert attention["encoder.self_attn.in_proj_weight"] == ("weight", 2.0 / math.sqrt(8))
    assert attention["encoder.self_attn.in_proj_bias"] == ("bias", 0.5)


def test_shared_parameters_are_drawn_once() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    assert set(laws(net)) == {"0.weight", "0.bias", "2.bias"}


def test_laws_given_by_name() -> None:
    net = nn.Module()
    net.mix = nn.Parameter(torch.ones(4, 4))
    with pytest.raises(InputError, match=r"parameter 'mix'.*laws=\{'mix': 'weight'\}"):
        laws(net)
    assert laws(net, mix="weight") == {"mix": ("weight", 1.0)}
    assert laws(net, mix="embedding") == {"mix": ("embedding", 2.0)}
    assert laws(net, mix="constant") == {"mix": ("constant", 1.0)}
    with pytest.raises(InputError, match="one of weight, bias"):
        laws(net, mix="normal")
    with pytest.raises(InputError, match=r"laws\['mux'\]: expected the name of a parameter \(mix"):
        laws(net, mux="weight")


def own(make) -> dict[str, float | None]:
    with evaluation():
        return {t.name: t.deviation for t in own_tensors(make)}


class Layers(nn.Module):
    """One of each layer whose initialiser is known."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv1d(2, 3, 3), nn.Linear(4, 5)
        self.gru, self.embed = nn.GRU(3, 4), nn.Embedding(3, 2)
        self.attention, self.norm = nn.MultiheadAttention(4, 2), nn.LayerNorm(4)


def test_known_initialisers_have_the_law_that_they_draw() -> None:
    """Means, variances and ranges of 500 modules made one by one.

    About 20 tensors, three numbers each: at 5 standard errors a false alarm in 3e4 runs. The
    variance of a uniform (normal) number's square is 4/5 (2) of its variance squared.
    """
    with evaluation():
        tensors = own_tensors(Layers)
        torch.random.default_generator.manual_seed(3)
        made = [dict(Layers().named_parameters()) for _ in range(500)]
    assert all(t.deviation is not None for t in tensors)
    for t in tensors:
        values = torch.stack([one[t.name].detach() for one in made]).double().flatten().numpy()
        assert t.deviation is not None
        if t.deviation == 0:
            assert (values == t.centre).all(), t.name
            continue
        error = t.deviation**2 * math.sqrt((0.8 if t.uniform else 2.0) / len(values))
        assert abs(values.mean()) < 5 * t.deviation / math.sqrt(len(values)), t.name
        assert abs(values.var() - t.deviation**2) < 5 * error, t.name
        if t.uniform:
            assert np.abs(values).max() <= math.sqrt(3.0) * t.deviation * (1 + 1e-6), t.name


def test_what_a_factory_changes_is_drawn_by_the_factory() -> None:
    assert own(lambda: relu_net(5))["0.weight"] == pytest.approx(1 / math.sqrt(15))
    assert set(own(lambda: customised(5)).values()) == {None}
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
    stack = partial(nn.TransformerEncoder, layer, 2, enable_nested_tensor=False)
    copies = own(stack)  # the same numbers in both layers
    assert set(copies.values()) == {None}


def test_modules_made_one_by_one_are_those_of_the_factory() -> None:
    module = Module(customised, n=4, init="own")
    built = module.built
    assert built.drawn_whole
    with evaluation():
        draws = Draws(built, 1, 5, "cpu", "float32")
        parameters = draws.body(0)
    values = torch.cat([t.flatten() for t in parameters.values()]).numpy()
    size = len(values)  # 64 networks; normal with deviation 0.7: 4 standard errors, 1 in 1.6e4
    assert abs(values.std() - 0.7) < 4 * 0.7 / math.sqrt(2 * size)


@pytest.mark.parametrize("uniform", [False, True])
def test_stacked_draws_have_the_stated_law(uniform: bool) -> None:
    """Mean and variance of every tensor of 640 networks, 5 standard errors."""
    kind = "uniform" if uniform else "gaussian"
    module = Module("mlp", n=5, options={"hidden": (6, 6)}, sigma_w=2.0, weight_dist=kind)
    built = module.built
    draws = Draws(built, 4, 7, "cpu", "float64")
    blocks = [draws.body(64 * i) for i in range(10)]
    laws = {t.name: t for t in built.tensors}
    for name in blocks[0]:
        values = torch.cat([b[name] for b in blocks]).flatten().numpy()
        deviation = laws[name].deviation
        assert deviation is not None
        if deviation == 0:
            continue
        error = deviation**2 * math.sqrt((0.8 if uniform else 2.0) / len(values))
        assert abs(values.mean()) < 5 * deviation / math.sqrt(len(values))
        assert abs(values.var() - deviation**2) < 5 * error
        if uniform:
            assert np.abs(values).max() < math.sqrt(3.0) * deviation * (1 + 1e-6)


def test_other_draws_are_other_numbers() -> None:
    draws = Draws(Module("mlp", n=3).built, 2, 0, "cpu", "float32")
    first, second = draws.body(0), draws.body(64)
    rows = torch.cat([first["hidden.0.weight"], second["hidden.0.weight"]]).flatten(1)
    assert len({tuple(row.tolist()) for row in rows}) == 128
    heads = draws.heads(0)
    rows = torch.cat([heads.weights, heads.biases], dim=2).reshape(-1, 41)
    assert len({tuple(row.tolist()) for row in rows}) == 128


def test_recurrent_layers_of_torch_have_a_law() -> None:
    assert {name for name, _ in Recurrent().named_parameters()} == set(laws(Recurrent()))


def test_the_fan_in_of_weights_of_own_classes_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Its axes may be meant the other way round: (in, out), which no check could tell."""

    class Own(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.weight, self.head = nn.Parameter(torch.zeros(n, 40)), nn.Linear(40, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(x @ self.weight))

    with caplog.at_level("INFO", "simprior"):
        Module(Own, n=3).tensors()
        Module(relu_net, n=3).tensors()
    said = [record.getMessage() for record in caplog.records]
    assert (
        len(said) == 1
        and "parameter weight of shape (3, 40) is drawn as a weight of fan-in 40" in said[0]
    )
