"""Measures of torch modules: against ``Network``, dense autograd, and one network at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nets import Attention, Recurrent, perceptron, relu_net
from torch import nn
from torch.func import functional_call

import simprior as sp
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.flatness.geometry import fisher_rao, hessian_top, hessian_trace
from simprior.analysis.flatness.modules import ModulePasses
from simprior.analysis.measure.registry import measure_weights
from simprior.analysis.strings.search import critical_points
from simprior.cli import main
from simprior.errors import InputError
from simprior.modules.chain import chain_of
from simprior.modules.flat import Layout
from simprior.network.losses import LOSSES
from simprior.network.parameters import flat_size, shapes_of
from simprior.runs.tasks import one_torch_thread
from simprior.training.replay import retrain

OF_ALL = ["sharpness", "hessian", "fisher", "sigma", "norms", "margin", "volume"]
SMALL = {
    "transformer": {"d_model": 4, "layers": 1, "heads": 2, "activation": "gelu"},
    "lstm": {"width": 4},
    "cnn": {"channels": (4,), "activation": "tanh"},
    "mlp": {"hidden": (6, 6), "norm": "layer", "residual": True, "activation": "tanh"},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


def examples(d: int, count: int = 12, real: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((count, d)) if real else rng.integers(0, 2, (count, d)).astype(float)
    return X, (rng.random(count) > 0.5).astype(float)


def ensemble(
    module: sp.Module, networks: int = 3, loss: str = "ce", real: bool = False
) -> Ensemble:
    size = ModulePasses(module).size
    P = 0.6 * np.random.default_rng(1).standard_normal((networks, size))
    return Ensemble(P, module, *examples(module.d, real=real), loss)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("loss", ["ce", "mse01", "hinge"])
def test_an_mlp_is_measured_as_the_network_that_it_is(activation: str, loss: str) -> None:
    """Every measure, also along random directions: equal to rounding."""
    network = sp.Network(n=5, hidden=(8, 6), activation=activation)
    module = sp.Module("mlp", n=5, options={"hidden": (8, 6), "activation": activation})
    P = 0.7 * np.random.default_rng(3).standard_normal((3, flat_size(shapes_of(network))))
    X, y = examples(5, 20)
    plain, mine = Ensemble(P, network, X, y, loss), Ensemble(P, module, X, y, loss)
    wanted, found = (measure_weights(one, OF_ALL, 7) for one in (plain, mine))
    assert list(found) == list(wanted)
    for name in wanted:
        assert found[name] == pytest.approx(wanted[name], rel=1e-8, abs=1e-12, nan_ok=True), name
    options = {"steps": 4, "restarts": 2, "radius": 0.3}
    critical = [critical_points(one, None, **options) for one in (plain, mine)]
    assert np.array_equal(*critical) and critical[0].any() and not critical[0].all()


@pytest.mark.slow
@pytest.mark.parametrize("make", list(SMALL))
@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_curvature_is_that_of_dense_autograd(make: str, loss: str) -> None:
    """The Hessian and Fisher matrix of each network, entry by entry, by torch's own functions."""
    module = sp.Module(make, n=3, options=SMALL[make])
    many = ensemble(module, 2, loss)
    layout = many.passes.layout
    skeleton = module.factory()(n=3, **SMALL[make]).double()

    def losses(p: torch.Tensor) -> torch.Tensor:
        parameters = {name: t[0] for name, t in layout.stacked(p[None]).items()}
        z = functional_call(skeleton, parameters, (many.X,)).reshape(-1)
        return LOSSES[loss].tensors(z, many.y)

    H = torch.stack(
        [torch.autograd.functional.hessian(lambda p: losses(p).mean(), p) for p in many.parameters]
    )
    each = [torch.autograd.functional.jacobian(losses, p) for p in many.parameters]
    scale = float(H.abs().max())
    V = torch.from_numpy(np.random.default_rng(2).standard_normal(many.parameters.shape))
    wanted = torch.einsum("nab,nb->na", H, V)
    assert float((many.hvp(V) - wanted).abs().max()) < 1e-10 * scale * many.size
    gradients = torch.stack([one.mean(0) for one in each])
    assert float((many.gradients() - gradients).abs().max()) < 1e-10
    exact = hessian_trace(many, method="exact").value
    assert exact == pytest.approx(H.diagonal(dim1=1, dim2=2).sum(1).numpy(), abs=1e-10 * scale)
    top = hessian_top(many)
    assert top.value == pytest.approx(torch.linalg.eigvalsh(H)[:, -1].numpy(), abs=1e-9 * scale)
    assert top.converged.all()
    along = torch.stack([one @ p for one, p in zip(each, many.parameters, strict=True)])
    assert fisher_rao(many) == pytest.approx(along.square().mean(1).sqrt().numpy(), rel=1e-10)


@pytest.mark.slow
def test_hutchinson_has_true_errors() -> None:
    """200 estimates of an LSTM's trace: their spread is what they say, their mean the trace.

    A standard deviation of 200 values is known to 5 %: 4.5 of those is a factor of 1.25, and the
    mean lies within 4.5 standard errors; together a false alarm once in 70,000 seeds.
    """
    many = ensemble(sp.Module("lstm", n=3, options=SMALL["lstm"]), 1)
    exact = hessian_trace(many, method="exact").value[0]
    found = [hessian_trace(many, seed, method="hutchinson", draws=16) for seed in range(200)]
    gaps = np.array([one.value[0] - exact for one in found])
    said = np.sqrt(np.mean([one.stderr[0] ** 2 for one in found]))
    assert abs(gaps.mean()) < 4.5 * gaps.std() / 200**0.5
    assert 1 / 1.25 < gaps.std() / said < 1.25
    assert hessian_trace(many).method == "exact"
    large = sp.Module("transformer", n=3, options={"d_model": 8, "layers": 1, "heads": 2})
    assert hessian_trace(ensemble(large, 1), draws=4).method == "hutchinson"


def test_a_network_is_measured_alike_in_any_company() -> None:
    """Rounding only: alone, with others, and where vmap cannot follow (torch's own LSTM)."""
    many = ensemble(sp.Module("lstm", n=4, options=SMALL["lstm"]), 5)
    whole = measure_weights(many, ["sharpness", "hessian", "fisher", "norms"], 2)
    alone = measure_weights(many.subset([3]), ["sharpness", "hessian", "fisher", "norms"], 2)
    for name, values in whole.items():
        assert alone[name] == pytest.approx(values[3:4], rel=1e-7, nan_ok=True), name
    slow = ensemble(sp.Module(Recurrent, n=4), 2)
    found = measure_weights(slow, ["hessian", "fisher", "norms", "margin"], 2)
    assert np.isfinite(found["hessian_trace"]).all() and np.isnan(found["path_norm"]).all()


class Odd(nn.Module):
    """Linear layers with something between that is no function of single units."""

    def __init__(self, n: int, kind: str) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(n, 6), nn.Linear(6, 6), nn.Linear(6, 1)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.one(x).relu()
        u = self.two(h)
        if self.kind == "residual":
            return self.head(h + u.relu())
        if self.kind == "softmax":
            return self.head(u.softmax(dim=1))
        if self.kind == "twice":
            return self.head(self.two(u.relu()).relu())
        return self.head(u.relu())


@pytest.mark.parametrize(
    ("make", "chain"),
    [
        (perceptron, True),
        (relu_net, True),
        (lambda n: Odd(n, "plain"), True),
        (lambda n: Odd(n, "residual"), False),
        (lambda n: Odd(n, "softmax"), False),
        (lambda n: Odd(n, "twice"), False),
        (Attention, False),
    ],
)
def test_norms_of_paths_are_those_of_chains(make: Callable[[int], nn.Module], chain: bool) -> None:
    module = sp.Module(make, n=4)
    x = torch.from_numpy(module.input_matrix())
    assert (chain_of(module.built, x) is not None) is chain
    found = measure_weights(ensemble(module), ["norms"])
    assert np.isfinite(found["path_norm"]).all() == chain
    assert np.isfinite(found["spectral_norm"]).all() == chain
    assert (found["frobenius_norm"] > 0).all()


def test_the_frobenius_norm_is_of_weights_and_embeddings() -> None:
    module = sp.Module("transformer", n=4, options=SMALL["transformer"], init="own")
    many = ensemble(module, 2)
    parts = many.passes.layout.stacked(many.parameters)
    weights = [t for name, t in parts.items() if t.ndim == 3]
    wanted = torch.stack([w.square().sum((1, 2)) for w in weights]).sum(0).sqrt()
    names = [name for name, t in parts.items() if t.ndim == 3]
    assert not any("norm" in name or "bias" in name for name in names)
    assert measure_weights(many, ["norms"])["frobenius_norm"] == pytest.approx(wanted.numpy())


def test_the_transposed_layout_is_that_of_networks() -> None:
    layout = Layout(sp.Module("cnn", n=4, options=SMALL["cnn"]).tensors(), transposed=True)
    P = torch.arange(2.0 * layout.size).reshape(2, -1)
    assert torch.equal(layout.flat(layout.stacked(P)), P)
    first = layout.tensors[0]
    assert torch.equal(layout.stacked(P)[first.name][0, 0], P[0, : first.size : first.shape[0]])


# -- networks from elsewhere -----------------------------------------------------------------

NETS = {"width": 6}


def mine(n: int, width: int = 6) -> nn.Module:
    return relu_net(n, width)


@pytest.fixture(scope="module")
def problem() -> sp.Problem:
    return sp.Problem(sp.Network(n=5), "x1", train=12, seed=3)


def trained(module: sp.Module, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return module.factory()(n=module.n, **(module.options or {}))


def test_modules_of_a_user_are_measured(problem: sp.Problem, tmp_path: Path) -> None:
    law = sp.Module("transformer", n=5, options=SMALL["transformer"])
    models = [trained(law, seed) for seed in range(3)]
    groups = "lz,entropy,sensitivity,hessian,fisher,norms,margin,sigma"
    options = {"architecture": law, "seed": 2}
    table = sp.measure(problem, groups, networks=models, **options)
    assert len(table) == 3 and (table["architecture"].str.startswith("transformer ")).all()
    for row, model in zip(table.itertuples(), models, strict=True):
        z = model(torch.from_numpy(problem.inputs).float()).detach().reshape(-1).numpy()
        words = sp.boolean.truthtable.pack((z > 0).astype(np.uint8)[None])
        assert row.function == sp.boolean.truthtable.to_hex(words, 32)[0]
        labels = (z > 0)[problem.fitted_index]
        assert row.train_error == pytest.approx(np.mean(labels != problem.labels))
    assert table["spectral_norm"].isna().all() and (table["frobenius_norm"] > 0).all()
    file = tmp_path / "mine.pt"
    torch.save([model.state_dict() for model in models], file)
    again = sp.measure(problem, groups, networks=file, **options)
    same = [name for name in table if not name.startswith(("run", "sigma"))]
    pd.testing.assert_frame_equal(table[same], again[same])
    out = sp.measure(problem, groups, networks=file, out=tmp_path / "m", workers=2, **options)
    pd.testing.assert_frame_equal(out, again)


def test_modules_on_data_are_measured() -> None:
    digits = sp.Problem(sp.Network(), data="digits", classes="3,8", train=20, test=10)
    law = sp.Module(mine, options=NETS)
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(mine(64))
    groups = "lz,sensitivity,norms,fisher"
    table = sp.measure(digits, groups, networks=models, architecture=law)
    network = sp.Network(hidden=(6, 6))
    like = sp.Problem(network, data="digits", classes="3,8", train=20, test=10)
    wanted = sp.measure(like, groups, networks=models)
    for name in ("lz76", "box_csr", "path_norm", "fisher_rao", "test_error"):
        assert table[name].tolist() == pytest.approx(wanted[name].tolist(), rel=1e-8), name
    assert table["function"].tolist() == wanted["function"].tolist()


def refused(problem: sp.Problem, message: str, **options: object) -> None:
    with pytest.raises(InputError, match=message) as caught:
        sp.measure(problem, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_refusals(problem: sp.Problem) -> None:
    law = sp.Module(mine, n=5, options=NETS)
    good = trained(law, 0)
    refused(problem, "sp.Module", networks=[good], architecture=mine)
    refused(problem, "without networks", architecture=law)
    other = relu_net(5, 9)
    refused(problem, r"'0.weight' of networks\[1\]", networks=[good, other], architecture=law)
    state = dict(good.state_dict())
    refused(problem, "without '0.bias'", networks=_without(state, "0.bias"), architecture=law)
    more = state | {"9.weight": torch.zeros(3)}
    refused(problem, "'9.weight' in networks", networks=more, architecture=law)
    nan = state | {"0.bias": torch.full((6,), torch.nan)}
    refused(problem, "not finite", networks=nan, architecture=law)
    tanh = nn.Sequential(*(nn.Tanh() if isinstance(p, nn.ReLU) else p for p in good))
    refused(problem, "are not those of its weights", networks=[tanh], architecture=law)
    several = {"networks": [good], "architecture": law}
    refused(problem, "relative is not known", measures="relative", **several)
    refused(problem, "rescaling layers", measures="norms", alphas=(1, 4), **several)
    step = sp.Module("mlp", n=5, options={"activation": "step"})
    refused(problem, "gradient", measures="hessian", networks=[trained(step, 1)], architecture=step)
    tokens = sp.Module("transformer", options=SMALL["transformer"])
    real = Ensemble(np.zeros((1, ModulePasses(tokens).size)), tokens, *examples(7), "ce")
    with pytest.raises(InputError, match="tokens"):
        critical_points(real)


def _without(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key != name}


# -- trained runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [False, True])
def test_runs_of_modules_are_measured(data: bool, tmp_path: Path) -> None:
    options = {"hidden": (8, 6), "norm": "layer"}
    law = sp.Module("mlp", n=7 if data else 5, options=options)
    task = {"data": "digits", "classes": "3,8", "test": 10} if data else {"target": "x1"}
    law = sp.Module("mlp", options=options) if data else law
    job = {"train": 10, "runs": 4, "lr": 0.02, "seed": 6, **task}
    sp.train(law, out=tmp_path / "run", **job)
    groups = "lz,hessian,fisher,norms,margin,sensitivity"
    table = sp.measure(tmp_path / "run", groups, seed=2)
    result = sp.load(tmp_path / "run")
    fitted = np.flatnonzero(result.fitted)
    assert table["member"].tolist() == fitted.tolist() and (table["train_error"] == 0).all()
    assert (table["distance_norm"] > 0).all() and (table["hessian_trace"] > 0).all()
    assert (table["architecture"] == "mlp hidden=8x6,norm=layer").all()
    assert set(table["optimizer"]) == {"adam"} and ("box_csr" in table) == data
    spec, _, found = retrain(result, fitted)
    parts = Layout(spec.network.tensors()).stacked(torch.from_numpy(found.parameters))
    torch.save({name: t.clone() for name, t in parts.items()}, tmp_path / "mine.pt")
    line = ["measure", "--networks", str(tmp_path / "mine.pt"), "--like", str(tmp_path / "run")]
    more = ["--measures", groups, "--seed", "2", "--out", str(tmp_path / "m"), "--quiet"]
    assert main([*line, *more, "--workers", "1"]) == 0
    again = sp.load(tmp_path / "m")
    for name in ("fisher_rao", "frobenius_norm", "margin", "lz76", "test_error", "hessian_top"):
        assert again[name].to_numpy() == pytest.approx(table[name].to_numpy(), rel=1e-6), name
    assert again["architecture"].tolist() == table["architecture"].tolist()
    assert main(["measure", str(tmp_path / "run"), "--measures", "relative", "--quiet"]) == 2


@pytest.mark.parametrize("make", ["mlp", "lstm"])
def test_prior_of_trained_modules_is_that_of_their_kernel(make: str) -> None:
    """Closed (mlp with layer norm) and sampled (lstm): the value and error of ``sp.log_prior``."""
    options = {"hidden": (6, 6), "norm": "layer"} if make == "mlp" else {"width": 3}
    module = sp.Module(make, n=3, options=options)
    problem = sp.Problem(module, target="x1", train=6, seed=0)
    run = sp.train(problem, runs=3, optimizer="adam", lr=0.05, max_epochs=30, seed=2)
    table = sp.measure(run, measures=["prior", "bound"], seed=4, draws=512)
    assert run.fitted.any()  # the others are left out
    tables = sp.boolean.truthtable.unpack(run.words[run.fitted], 8)
    expected = sp.log_prior(problem.network, tables, seed=4, draws=512)
    assert table["log_p"].tolist() == [one.value for one in expected]
    assert table["log_p_stderr"].tolist() == [one.stderr for one in expected]
    evidence = sp.log_evidence(problem, seed=4, draws=512)
    assert table["log_evidence"].tolist() == pytest.approx([evidence.value] * len(table), abs=1e-9)
