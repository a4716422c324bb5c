"""Random masks on weights: the spec, the samplers, and that nothing ignores them silently."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import simprior as sp
from simprior import finite, gp
from simprior.analysis.figures.style import model_label
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.strings.networks import Source, Spec
from simprior.boolean.complexity import lz76_packed, ones_packed
from simprior.boolean.sampling.job import Job
from simprior.boolean.sampling.tasks import count_range
from simprior.boolean.sampling.torch_engine import draw_parameters
from simprior.boolean.symmetry import symmetries
from simprior.boolean.truthtable import input_matrix, pack, to_hex, unpack
from simprior.cli import main
from simprior.network.states import flat_parameters
from simprior.numerics.random import generator
from simprior.runs.directory import load_run
from simprior.training.posterior import rejection_posterior
from simprior.training.targets import teacher_target

MASKED = sp.Network(n=3, hidden=(4, 3), density=(0.5, 0.8, 0.6))
INDEX, LABELS = [0, 1, 5], [0, 1, 1]


def problem(network: sp.Network = MASKED) -> sp.Problem:
    return sp.Problem(network, "x1", train=4)


def test_a_density_of_one_leaves_the_spec_as_it_was() -> None:
    dense = sp.Network(n=3, hidden=(4,))
    same = sp.Network(n=3, hidden=(4,), density=(1, 1.0), rescale=False)
    assert same == dense and same.digest() == dense.digest()
    assert same.to_dict().keys().isdisjoint({"density", "rescale"})
    assert dense.digest() == "d063e61f938135e91ae94bd577ddd93825e3ebfdac4738f463aeb5d77cbb6c10"


def test_a_density_is_part_of_the_spec() -> None:
    values = MASKED.to_dict()
    assert values["density"] == [0.5, 0.8, 0.6] and values["rescale"] is True
    assert sp.Network.from_dict(values) == MASKED
    digests = {
        replace(MASKED, density=density, rescale=rescale).digest()
        for density in (1.0, 0.5, (0.5, 0.8, 0.6))
        for rescale in (True, False)
    }
    assert len(digests) == 5  # without masks there is nothing to rescale


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("density", 0, "above 0 and at most 1"),
        ("density", 1.5, "above 0 and at most 1"),
        ("density", float("nan"), "above 0 and at most 1"),
        ("density", True, "above 0 and at most 1"),
        ("density", "half", "above 0 and at most 1"),
        ("density", (0.5, 1), "one number or 3"),
        ("rescale", 1, "True or False"),
        ("dropout", 0.1, "draws units anew"),
    ],
)
def test_bad_masks_are_refused_in_one_line(field: str, value: object, said: str) -> None:
    with pytest.raises(sp.InputError, match=said) as caught:
        sp.Network(n=3, hidden=(4, 3), **{field: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{field}=") and "\n" not in str(caught.value)


REFUSING: dict[str, Callable[[], object]] = {
    "smc": lambda: finite.log_prior_finite(MASKED, ["x1"]),
    "exchange": lambda: finite.log_prior_by(MASKED, ["x1"], "exchange"),
    "first-order": lambda: finite.log_prior_by(MASKED, ["x1"], "first-order"),
    "auto": lambda: finite.log_prior_by(MASKED, ["x1"], "auto"),
    "conditional without biases": lambda: finite.log_prior_by(
        replace(MASKED, sigma_b=0.0), ["x1"], "conditional"
    ),
    "evidence at finite width": lambda: sp.log_evidence(problem(), width="finite"),
    "smc posterior": lambda: finite.smc_posterior(MASKED, INDEX, LABELS, 10),
    "slice": lambda: sp.posterior(problem(), "slice", samples=10),
    "hmc": lambda: sp.posterior(problem(), "hmc", samples=100),
    "nuts": lambda: sp.posterior(problem(), "nuts", samples=100),
    "features": lambda: sp.posterior(problem(), "features", samples=10),
    "flatness": lambda: Ensemble(
        np.zeros((1, 39)), MASKED, input_matrix(MASKED), np.zeros(8), "ce"
    ),
    "networks from elsewhere": lambda: flat_parameters(draw_parameters(MASKED, 0, 0), MASKED),
    "kernel of a perceptron": lambda: gp.nngp(sp.Network(n=3, hidden=(), density=0.5), np.eye(3)),
    "ntk of a perceptron": lambda: gp.ntk(sp.Network(n=3, hidden=(), density=0.5), np.eye(3)),
}


@pytest.mark.parametrize("name", REFUSING)
def test_what_knows_no_masks_refuses_them(name: str) -> None:
    with pytest.raises(sp.InputError, match=r"^density=.*: expected density 1 for .*; ") as caught:
        REFUSING[name]()
    assert "\n" not in str(caught.value)


def simulated(network: sp.Network, count: int, seed: int) -> np.ndarray:
    """(count,) functions of n bits as numbers, by numpy alone."""
    source = generator(seed, "test/density")
    h = np.broadcast_to(input_matrix(network), (count, network.m, network.d))
    widths = (*network.hidden, 1)
    for layer, (fan_in, width) in enumerate(zip(network.fan_ins, widths, strict=True)):
        w = source.standard_normal((count, fan_in, width)) * network.sigma_ws[layer]
        w *= source.random(w.shape) < network.densities[layer]
        w /= math.sqrt(fan_in * (network.densities[layer] if network.rescale else 1.0))
        b = source.standard_normal((count, 1, width)) * network.sigma_bs[layer]
        z = h @ w + b
        h = np.maximum(z, 0.0)
    return pack((z[:, :, 0] > 0).astype(np.uint8))[:, 0]


def shares(words: np.ndarray, of: np.ndarray) -> np.ndarray:
    return np.array([(words == word).mean() for word in of])


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        MASKED,
        replace(MASKED, rescale=False, sigma_w=2.0, density=0.7),
        sp.Network(n=3, hidden=(), density=0.5),
        sp.Network(n=3, hidden=(30,), density=(1, 0.1), encoding="pm1", sigma_b=0.3),
    ],
)
@pytest.mark.parametrize("heads", [1, 16])
def test_the_sampler_agrees_with_a_simulation(network: sp.Network, heads: int) -> None:
    """Each function within 5 standard errors: for at most 256 of them, false alarms in 1.5e-4."""
    count = 100_000
    frame = sp.sample(network, count, seed=3, heads=heads, mirror=False).to_frame(None)
    words = simulated(network, count, seed=4)
    names = dict(zip(to_hex(np.unique(words)[:, None], network.m), np.unique(words), strict=True))
    common = frame[frame["p"] > 1e-3]
    found = shares(words, np.array([names.get(f, np.uint64(1)) for f in common["function"]]))
    spread = np.hypot(common["stderr"], np.sqrt(found * (1 - found) / count))
    assert len(common) > 8
    assert (np.abs(common["p"] - found) < 5 * spread).all()


@pytest.mark.parametrize("heads", [1, 80])
def test_the_masks_are_those_of_the_parameters_that_can_be_looked_at(heads: int) -> None:
    """Shares within 5 standard errors: false alarms in 4e-6."""
    drawn = [draw_parameters(MASKED, 0, number, heads) for number in range(400)]
    for layer, density in enumerate(MASKED.densities):
        kept = np.stack([one.weights[layer] != 0 for one in drawn]).ravel()
        assert abs(kept.mean() - density) < 5 * math.sqrt(density * (1 - density) / kept.size)
        assert all((one.biases[layer] != 0).all() for one in drawn)
    assert not np.array_equal(drawn[0].weights[0] == 0, drawn[1].weights[0] == 0)
    if heads > 1:
        assert len(np.unique(drawn[0].weights[-1] != 0, axis=1).T) > 1  # a mask a head


@pytest.mark.parametrize("heads", [1, 16])
def test_tasks_and_precision_change_no_network(heads: int) -> None:
    job = Job(MASKED, 512 * heads, 5, heads)
    whole = count_range(job, 0, 512).result(512 * heads, 512, job.iid)[0]
    parts = [count_range(job, a, a + 256).result(256 * heads, 256, job.iid)[0] for a in (0, 256)]
    for word, count in zip(whole.words, whole.count, strict=True):
        assert count == sum(p.count[(p.words == word).all(axis=1)].sum() for p in parts)
    double = count_range(replace(job, dtype="float64"), 0, 512).result(512 * heads, 512, job.iid)[0]
    assert np.array_equal(np.sort(double.words[:, 0]), np.sort(whole.words[:, 0]))


def test_networks_on_long_strings_have_masks() -> None:
    """Shares and mean squares within 5 standard errors: false alarms in 4e-6."""
    network = sp.Network(hidden=(30,), density=(0.1, 0.5), sigma_w=2.0, sigma_b=0.5)
    source = Source(Spec(50, network), 0)
    for layer, fan_in in enumerate((50, 30)):
        w = np.stack([np.array(source.draw(k).weights[layer]) for k in range(200)])
        b = np.stack([np.array(source.draw(k).biases[layer]) for k in range(200)])
        kept, density = w != 0, network.densities[layer]
        assert (b != 0).all()
        assert abs(kept.mean() - density) < 5 * math.sqrt(density * (1 - density) / kept.size)
        for values, size in ((w[kept], 2.0 / math.sqrt(fan_in * density)), (b, 0.5)):
            assert abs((values**2).mean() / size**2 - 1) < 5 * math.sqrt(2 / values.size)


def test_watching_agrees_with_counting() -> None:
    """Within 5 standard errors each: false alarms in 3e-6."""
    counts = sp.sample(MASKED, 100_000, seed=1).to_frame().set_index("function")
    names = list(counts.index[:5])
    watched = sp.watch(MASKED, names, 100_000, seed=2)
    gap = np.abs(watched.p - counts.loc[names, "p"].to_numpy())
    assert (gap < 5 * np.hypot(watched.stderr, counts.loc[names, "stderr"])).all()


def test_a_masked_output_without_bias_breaks_negation() -> None:
    assert symmetries(MASKED).negate
    assert not symmetries(replace(MASKED, sigma_b=0.0, activation="tanh")).negate


def wide(**fields: object) -> tuple[float, float, float, float]:
    """P(constant) and LZ given non-constant, with their standard errors: relu 40, 40, n = 7."""
    network = sp.Network(n=7, hidden=(40, 40), **fields)  # type: ignore[arg-type]
    counts = sp.sample(network, 100_000, seed=11, heads=1)
    ones = ones_packed(counts.words, network.m)
    constant = (ones == 0) | (ones == network.m)
    p = float(counts.p[constant].sum())
    lz = lz76_packed(counts.words[~constant], network.m)
    weight = counts.count[~constant]
    mean = float((lz * weight).sum() / weight.sum())
    spread = math.sqrt(float(((lz - mean) ** 2 * weight).sum()) / weight.sum() ** 2)
    return p, math.sqrt(p * (1 - p) / counts.samples), mean, spread


@pytest.mark.slow
def test_hidden_masks_hardly_change_p_constant_and_first_ones_do() -> None:
    """{0,1} inputs, sigma_b = 1; the published values are rounded to their last digit.

    4 standard errors on each of 6 comparisons: false alarms in 4e-4.
    """
    dense, hidden, first = wide(), wide(density=(1, 0.5, 1)), wide(density=(0.05, 1, 1))
    assert abs(dense[0] - 0.731) < 4 * dense[1] + 5e-4
    assert abs(hidden[0] - dense[0]) < 0.01
    assert abs(hidden[0] - 0.729) < 4 * hidden[1] + 5e-4
    assert abs(first[0] - 0.820) < 4 * first[1] + 5e-4
    assert abs(dense[2] - 67.8) < 4 * dense[3] + 0.05
    assert abs(first[2] - 46.5) < 4 * first[3] + 0.05


def masked_flags(*arguments: str) -> list[str]:
    return [*arguments, "--n", "3", "--hidden", "4,3", "--density", "0.5,1,1", "--quiet"]


def test_commands_take_masks_and_their_files_name_them(tmp_path: Path) -> None:
    out, flags = tmp_path / "run", ("--rescale", "false", "--samples", "1000")
    assert main([*masked_flags("sample", "--out", str(out)), *flags]) == 0
    network = load_run(out).config["network"]
    assert network["density"] == [0.5, 1.0, 1.0] and network["rescale"] is False
    assert main(["sample", "--config", str(out / "config.toml"), "--quiet"]) == 0
    assert sp.load(out).info["model"].density == (0.5, 1.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sample", "--dropout", "0.1"), "draws units anew"),
        (("sample", "--density", "0"), "above 0 and at most 1"),
        (("sample", "--density", "0.1,1"), "one number or 3"),
        (("sample", "--rescale", "perhaps"), "true or false"),
        (
            ("sample", "--architecture", "mlp", "--density", "0.5,1"),
            "one number, or 3: one a tensor",
        ),
        (("sample", "--architecture", "lstm", "--init", "own", "--density", "0.5"), "init=own"),
        (
            (
                "posterior",
                "--target",
                "x1",
                "--train",
                "4",
                "--method",
                "slice",
                "--density",
                "0.5",
            ),
            "slice",
        ),
        (("logp", "--hidden", "", "--functions", "x1", "--density", "0.5"), "perceptron"),
    ],
)
def test_commands_refuse_bad_masks(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--n", "3"]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


def test_rejection_keeps_masked_networks() -> None:
    """The networks are those of ``sample`` with this seed: the same kept functions, one by one."""
    counts = sp.sample(MASKED, 50_000, seed=2, heads=1)
    kept = rejection_posterior(MASKED, INDEX, LABELS, 10**9, 2, max_draws=50_000, heads=1)
    tables = unpack(counts.words, MASKED.m)
    fits = (tables[:, INDEX] == LABELS).all(axis=1)
    expected = dict(zip(counts.words[fits, 0].tolist(), counts.count[fits].tolist(), strict=True))
    assert dict(zip(kept.words[:, 0].tolist(), kept.count.tolist(), strict=True)) == expected


HONOURING: dict[str, Callable[[sp.Network], object]] = {
    "sample": lambda net: sp.sample(net, 2000).to_frame()["count"].tolist(),
    "sample, float64": lambda net: (
        sp.sample(net, 500, dtype="float64").to_frame()["count"].tolist()
    ),
    "watch": lambda net: sp.watch(net, ["x1"], 2000).p.tolist(),
    "train": lambda net: sp.train(net, "x1", train=4, runs=20).words.tolist(),
    "train, torch": lambda net: sp.train(
        net, "x1", train=4, runs=20, engine="torch"
    ).words.tolist(),
    "target": lambda net: teacher_target(net, 20, 1).tolist(),
    "rejection": lambda net: sp.posterior(problem(net), "rejection", samples=50).words.tolist(),
    "gp": lambda net: sp.posterior(problem(net), "gp", samples=200).words.tolist(),
    "nngp": lambda net: gp.nngp(net, input_matrix(net)).tolist(),
    "ntk": lambda net: gp.ntk(net, input_matrix(net)).tolist(),
    "output kernel": lambda net: gp.kernels.output_kernel(
        replace(net, rescale=False), np.eye(2), 1
    ).tolist(),
    "empirical nngp": lambda net: gp.empirical_nngp(net, np.eye(3), samples=5)[0].tolist(),
    "empirical ntk": lambda net: gp.empirical_ntk(net, np.eye(3), samples=5)[0].tolist(),
    "conditional": lambda net: (
        finite.log_prior_by(net, ["const0"], "conditional", draws=20)[0].value
    ),
    "evidence": lambda net: sp.log_evidence(problem(net)).value,
    "bound": lambda net: str(sp.bound(problem(net))),
    "sensitivity": lambda net: Source(Spec(5, net), 0).draw(0).weights[0].tolist(),
    "label": model_label,
}


@pytest.mark.parametrize("name", HONOURING)
def test_what_takes_masks_uses_them(name: str) -> None:
    network = replace(MASKED, hidden=(20, 10))
    assert HONOURING[name](network) != HONOURING[name](replace(network, density=1.0))
