"""Random masks on the weights of torch modules: by numpy, in samplers, training and kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import simprior as sp
from simprior import InputError
from simprior.gp.architectures import kernel
from simprior.gp.sampled import SampledKernel
from simprior.modules.draws import Draws

MASKED = sp.Module("mlp", n=3, options={"hidden": (4, 4)}, density=(0.5, 0.8, 0.6))
SEED = 5


def test_a_density_is_part_of_the_spec() -> None:
    dense = sp.Module("mlp", n=3, options={"hidden": (4, 4)})
    assert replace(dense, density=1.0, rescale=False) == dense
    assert dense.to_dict().keys().isdisjoint({"density", "rescale"})
    assert sp.Module.from_dict(MASKED.to_dict()) == MASKED != dense
    assert len({replace(MASKED, rescale=r).digest() for r in (True, False)} | {dense.digest()}) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"density": 0.0}, "above 0 and at most 1"),
        ({"density": (0.5, 0.5)}, "one a tensor of weights"),
        ({"density": 0.5, "init": "own"}, "init=own"),
        ({"rescale": 1}, "True or False"),
    ],
)
def test_bad_masks_are_one_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        sp.Module("mlp", n=3, options={"hidden": (4, 4)}, **options).tensors()  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_shares_and_variances_of_weights() -> None:
    """Kept shares within 4.5 binomial errors (false alarms: 3 in 10^5), variances of all weights
    sigma_w^2/fan_in (4.5 standard errors of a mean of squares)."""
    draws = Draws(MASKED.built, 8, SEED, "cpu", "float32")
    count = 4096
    body, heads = draws.body(0, count), draws.heads(0, count)
    weights = [tensor.name for tensor in MASKED.tensors() if tensor.law == "weight"]
    for name, share in zip(weights, (0.5, 0.8, 0.6), strict=True):
        values = body.get(name, heads.weights).numpy()
        kept = float((values != 0).mean())
        assert abs(kept - share) < 4.5 * np.sqrt(share * (1 - share) / values.size)
        squares = values.astype(float) ** 2 * values.shape[-1]  # fan-in
        assert abs(squares.mean() - 1) < 4.5 * squares.std() / np.sqrt(values.size)
    for tensor in MASKED.tensors():
        if tensor.law == "bias":
            assert bool((body.get(tensor.name, heads.biases) != 0).all())


def test_a_module_is_the_masked_network() -> None:
    """P of all functions of n=3 that are frequent enough: a Network and the module of the same law,
    60,000 independent networks each; largest |z| of up to 256 below 4.9 (2 in 10^4 for all)."""
    network = sp.Network(n=3, hidden=(4, 4), density=(0.5, 0.8, 0.6))
    a, b = (sp.sample(model, 60_000, seed=SEED, heads=1) for model in (network, MASKED))
    p, q = (_table(x) for x in (a, b))
    functions = [f for f in p.keys() | q.keys() if p.get(f, 0) + q.get(f, 0) >= 40]
    x, y = (np.array([table.get(f, 0) for f in functions], float) for table in (p, q))
    assert np.abs((x - y) / np.sqrt(x + y)).max() < 4.9
    assert len(functions) > 40


def _table(counts: sp.FunctionCounts) -> dict[str, int]:
    frame = counts.to_frame(top=None)
    return dict(zip(frame["function"], frame["count"], strict=True))


def test_heads_share_hidden_masks_and_splits_change_nothing() -> None:
    one = sp.sample(MASKED, 3000, seed=1, heads=10)
    two = sp.sample(MASKED, 3000, seed=1, heads=10, workers=2)
    assert one.to_frame(top=None).equals(two.to_frame(top=None))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "sgld"])
def test_masked_weights_stay_zero_in_training(optimizer: str) -> None:
    from simprior.training.module_members import ModuleSource
    from simprior.training.replay import retrain

    problem = sp.Problem(MASKED, target="x1", train=6, seed=0)
    found = sp.train(problem, runs=4, optimizer=optimizer, lr=0.05, max_epochs=20, seed=2)
    _, _, again = retrain(found, np.arange(4), problem=problem)
    source = ModuleSource(problem.network, 2)
    for member in range(4):
        mask = source.mask(member).flat()
        start = source.parameters(member).flat()
        assert ((start == 0) == (mask == 0)).all() and 0 < (mask == 0).sum() < mask.size
        assert (again.parameters[member][mask == 0] == 0).all()
        assert (again.parameters[member][mask == 1] != start[mask == 1]).any()


def test_kernels_of_masked_modules_are_sampled() -> None:
    """The kernel with masks of the first layer, against outputs of masked networks: entries within
    4.5 combined standard errors (36 entries: false alarms 3 in 10^4)."""
    wide = sp.Module("mlp", n=3, options={"hidden": (64,)}, density=(0.3, 0.5))
    found = kernel(wide, draws=1200, seed=3)
    assert isinstance(found, SampledKernel)
    draws = Draws(wide.built, 1, 9, "cpu", "float64")
    x = torch.from_numpy(wide.input_matrix())
    with torch.no_grad():
        parameters = draws.body(0, 20_000)
        heads = draws.heads(0, 20_000)
        z = heads.outputs(wide.features(parameters, x))[:, 0].numpy()
    products = z[:, :, None] * z[:, None, :]
    error = np.hypot(products.std(axis=0) / np.sqrt(len(z)), found.stderr)
    assert (np.abs(products.mean(axis=0) - found.K) < 4.5 * error).all()


def test_slice_sampling_and_measures_refuse_masks() -> None:
    problem = sp.Problem(MASKED, target="x1", train=4, seed=0)
    with pytest.raises(InputError, match="density 1 for slice sampling"):
        sp.posterior(problem, "slice", samples=10)
    trained = sp.train(problem, runs=2, optimizer="adam", lr=0.05, max_epochs=5, seed=2)
    with pytest.raises(InputError, match="density 1"):
        sp.measure(trained, measures="hessian")
