"""Functions of torch modules, counted: against ``Network``, exactly and in law, and the same bits
whatever the workers, the split and the interruptions."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from nets import Recurrent, customised, perceptron, relu_net
from scipy.special import stdtrit

import simprior as sp
from simprior.boolean.complexity import lz76
from simprior.boolean.sampling.complexity_sums import ComplexitySums
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.module_engine import functions_of
from simprior.boolean.sampling.nonconstant import NonConstant
from simprior.boolean.sampling.prepare import make_job as checked_job
from simprior.boolean.sampling.sample import sample, split
from simprior.boolean.sampling.tasks import Counting
from simprior.boolean.sampling.torch_engine import draw_parameters
from simprior.boolean.truthtable import bit_matrix, unpack
from simprior.errors import InputError, SimpriorError
from simprior.modules.build import evaluation

SMALL = {"hidden": (12, 12)}
module_of_sample = sys.modules[sample.__module__]
make_job = partial(checked_job, modules=True)


def equal(a: FunctionCounts, b: FunctionCounts) -> bool:
    columns = ("words", "count", "clusters", "sumsq")
    same = all(np.array_equal(getattr(a.rows, c), getattr(b.rows, c)) for c in columns)
    return same and a.summary() == b.summary() and np.array_equal(a.ones, b.ones)


def test_a_module_with_the_weights_of_a_network_gives_its_functions() -> None:
    """All parameters of 200 networks of the compiled sampler, put into the module: equal tables."""
    network = sp.Network(n=5, hidden=(9, 7))
    module = sp.Module("mlp", n=5, options={"hidden": (9, 7)})
    rows = [draw_parameters(network, 3, number) for number in range(200)]
    names = ("hidden.0", "hidden.1", "head")
    parameters = {}
    for layer, name in enumerate(names):
        weights = np.stack([row.weights[layer].T for row in rows])
        parameters[f"{name}.weight"] = torch.from_numpy(weights.copy())
        biases = np.stack([row.biases[layer] for row in rows])
        parameters[f"{name}.bias"] = torch.from_numpy(biases)
    x = torch.from_numpy(module.input_matrix()).float()
    with evaluation():
        z = module.apply(parameters, x).numpy()
    counts = sp.sample(network, 200, seed=3, heads=1)
    mine = FunctionCounts.from_counts(
        sp.boolean.truthtable.pack(z > 0), np.ones(200, int), m=32, n=5
    )
    assert np.array_equal(mine.words, counts.words)
    assert np.array_equal(mine.count, counts.count)


def differences(module: sp.Module, network: sp.Network, samples: int, top: int) -> np.ndarray:
    """Differences of P(f) of the commonest functions in standard errors, clustered."""
    a, b = sp.sample(module, samples, seed=1), sp.sample(network, samples, seed=2)
    rows = a.find(b.tables(top))
    assert (rows >= 0).all()
    error = np.hypot(a.stderr[rows], b.stderr[:top])
    return (a.p[rows] - b.p[:top]) / error


def test_a_module_and_a_network_have_the_same_prior() -> None:
    """The 12 commonest functions of 3 bits: 4 standard errors, 12 looks: a false alarm in 1,300."""
    module = sp.Module("mlp", n=3, options=SMALL)
    gaps = differences(module, sp.Network(n=3, hidden=(12, 12)), 40_000, 12)
    assert np.abs(gaps).max() < 4.0


@pytest.mark.slow
@pytest.mark.parametrize("make", ["mlp", relu_net])
def test_a_module_and_a_network_have_the_same_prior_of_7_bits(make) -> None:
    """The 30 commonest functions: 4 standard errors, a false alarm in 500."""
    gaps = differences(sp.Module(make, n=7), sp.Network(n=7), 1_000_000, 30)
    assert np.abs(gaps).max() < 4.0


@pytest.mark.parametrize("heads", [1, 5])
def test_the_split_into_tasks_changes_nothing(heads: int) -> None:
    job = make_job(sp.Module("mlp", n=4, options=SMALL), 997, 4, heads)
    job = replace(job, replicate=997)
    whole = Counting(job).compute(split(job, 1 << 20)[0])
    for size in (64, 128):
        parts = [Counting(job).compute(task) for task in split(job, size)]
        tallies = [part.tally for part in parts]
        ones = sum(t.ones for t in tallies)
        assert np.array_equal(ones, whole.tally.ones)
        given = [t.nonconstant for t in tallies]
        assert sum(given[1:], given[0]) == whole.tally.nonconstant


def test_any_range_of_hidden_draws_gives_its_functions() -> None:
    job = make_job(sp.Module("cnn", n=4, options={"channels": 3}), 600, 4, 3)
    whole = np.concatenate([w for _, w in functions_of(job, 0, 200)])
    for first, stop in ((0, 1), (63, 65), (100, 199)):
        found = list(functions_of(job, first, stop))
        assert found[0][0] == first
        part = np.concatenate([w for _, w in found])
        assert np.array_equal(part, whole[3 * first : 3 * stop])


@pytest.mark.slow
@pytest.mark.parametrize("make", ["nets:relu_net", relu_net])
def test_workers_and_the_split_change_nothing(make, tmp_path, monkeypatch) -> None:
    module = sp.Module(make, n=4)
    plain = sp.sample(module, 3000, seed=5, heads=2)
    monkeypatch.setattr(module_of_sample, "task_draws", lambda job, memory: 256)  # 6 tasks
    stored = sp.sample(module, 3000, seed=5, heads=2, out=tmp_path / "run")
    assert equal(plain, stored)
    two = sp.sample(module, 3000, seed=5, heads=2, workers=2, out=tmp_path / "two")
    assert equal(plain, two)
    again = sp.sample(module, 3000, seed=5, heads=2, out=tmp_path / "run", resume=True)
    assert equal(plain, again)
    loaded = sp.load(tmp_path / "run")
    assert equal(plain, loaded)
    assert loaded.info["model"] == module


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, monkeypatch) -> None:
    module = sp.Module("mlp", n=4, options=SMALL)
    plain = sp.sample(module, 2000, seed=6, heads=2)
    monkeypatch.setattr(module_of_sample, "task_draws", lambda job, memory: 128)

    class Stop:
        seen = 0

        def update(self, number: int) -> None:
            self.seen += number
            if self.seen > 700:
                raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SimpriorError)):
        sp.sample(module, 2000, seed=6, heads=2, out=tmp_path / "run", progress=Stop())
    resumed = sp.sample(module, 2000, seed=6, heads=2, out=tmp_path / "run", resume=True)
    assert equal(plain, resumed)


def test_heads_of_one_hidden_draw_are_a_cluster() -> None:
    """Clustered standard errors are true: the spread of P(f) over 60 seeds, its ratio to the mean
    of the standard errors within 0.7 to 1.4 (the spread of 60 has an error of 9 %)."""
    module = sp.Module("mlp", n=2, options={"hidden": 3})
    runs = [sp.sample(module, 2000, seed=seed, heads=20) for seed in range(60)]
    for function in ("0000", "0011", "0111"):
        rows = [int(run.find(function)[0]) for run in runs]
        p = np.array([run.p[row] for run, row in zip(runs, rows, strict=True)])
        error = np.array([run.stderr[row] for run, row in zip(runs, rows, strict=True)])
        assert 0.7 < p.std(ddof=1) / error.mean() < 1.4
    shares = [run.constant_share() for run in runs]
    p = np.array([share[0] for share in shares])
    width = np.array([share[2] - share[1] for share in shares]).mean() / 3.92
    assert 0.7 < p.std(ddof=1) / width < 1.4


def test_the_number_of_heads() -> None:
    assert make_job(sp.Module("mlp", n=5), 10**6, 0).heads > 1
    assert make_job(sp.Module(perceptron, n=3), 10**6, 0).heads == 1
    assert make_job(sp.Module(customised, n=3, init="own"), 10**6, 0).heads == 1
    with pytest.raises(InputError, match="not that of one linear layer: expected heads 1"):
        make_job(sp.Module(perceptron, n=3), 100, 0, 4)
    with pytest.raises(InputError, match="own initialiser draws whole modules"):
        make_job(sp.Module(customised, n=3, init="own"), 100, 0, 4)


def test_modules_that_draw_themselves(caplog) -> None:
    caplog.set_level("INFO", "simprior")
    module = sp.Module(customised, n=3, init="own")
    counts = sp.sample(module, 100, seed=1)
    assert counts.iid and counts.count.sum() == 100
    assert "a second" in caplog.text and "initialisers" in caplog.text
    assert equal(counts, sp.sample(module, 100, seed=1))


def test_what_vmap_cannot_follow_is_sampled_too(caplog) -> None:
    caplog.set_level("INFO", "simprior")
    counts = sp.sample(sp.Module(Recurrent, n=3), 64, seed=1, heads=4)
    assert counts.count.sum() == 64
    assert "one network at a time" in caplog.text


def test_explicit_inputs_precision_and_encoding() -> None:
    rows = bit_matrix(3)[[1, 4, 7, 2, 2]]
    counts = sp.sample(sp.Module("mlp", inputs=rows), 500, seed=1)
    assert (counts.m, counts.n) == (5, 0)
    tables = counts.tables()
    assert (tables[:, 3] == tables[:, 4]).all()
    module = sp.Module("mlp", n=3, options=SMALL)
    single, double = (sp.sample(module, 500, heads=1, dtype=d) for d in ("float32", "float64"))
    both = set(map(tuple, single.tables())) & set(map(tuple, double.tables()))
    assert len(both) > 0.9 * max(len(single), len(double))
    other = sp.sample(replace(module, encoding="pm1"), 500, heads=1)
    assert not np.array_equal(other.ones, single.ones)


def test_what_modules_do_not_have() -> None:
    module = sp.Module("mlp", n=3)
    with pytest.raises(InputError, match="pool with a torch module"):
        sp.sample(module, 100, pool=True)
    with pytest.raises(InputError, match="a Network with one of the activations"):
        sp.sample(module, 100, watch=["x1"])
    with pytest.raises(InputError, match="expected a Network or a RandomDNF"):
        checked_job(module, 100, 0)
    with pytest.raises(InputError, match="module"):
        sp.sample(sp.Module(lambda n: relu_net(n, 3), n=3), 100, out="nowhere")


def test_sums_over_hidden_draws_against_plain_loops() -> None:
    """P(constant) and the mean complexity given non-constant, with the variance by its formula."""
    job = make_job(sp.Module("mlp", n=4, options=SMALL), 1203, 4, 10)
    words = np.concatenate([w for _, w in functions_of(job, 0, 121)])[:1203]
    found = NonConstant.of(words[:500], 16, 10) + NonConstant.of(words[500:], 16, 10)
    tables = unpack(words, 16)
    complexity, inner = lz76(tables), (tables.min(axis=1) != tables.max(axis=1))
    groups = np.arange(1203) // 10
    n = np.bincount(groups, inner)
    total = np.bincount(groups, inner * complexity)
    assert found.draws == 121 and found.count == inner.sum()
    assert found.constant_squares == (np.bincount(groups, ~inner) ** 2).sum()
    mean, low, high = found.lz76(16)
    assert mean == pytest.approx(complexity[inner].mean())
    residual = total - mean * n
    clusters = np.ceil(n.sum() ** 2 / (n**2).sum())
    assert 50 < clusters < 121
    error = np.sqrt((residual**2).sum() * clusters / (clusters - 1)) / n.sum()
    assert low is not None and high is not None
    assert (high - low) / 2 == pytest.approx(stdtrit(clusters - 1, 0.975) * error, rel=1e-9)
    counts = sp.sample(job.model, 1203, seed=4, heads=10)
    summary = counts.summary()
    assert summary["p_constant"] == pytest.approx(1 - inner.mean())
    assert summary["lz76_nonconstant"] == pytest.approx(mean)


def test_nothing_but_constants() -> None:
    words = np.zeros((4, 1), np.uint64)
    assert NonConstant.of(words, 8, 2).lz76(8) == (None, None, None)
    assert NonConstant.of(words[:0], 8, 2) == NonConstant()


def test_constants_of_a_network() -> None:
    """Independent networks: the binomial interval. Shared layers: never narrower than the sum of
    the two constants would allow."""
    one = sp.sample(sp.Network(n=3), 5000, seed=1, heads=1)
    p, low, high = one.constant_share()
    ends = one.ones[[0, 8], 0].sum()
    assert p == ends / 5000 and low < p < high
    many = sp.sample(sp.Network(n=3, hidden=(4,)), 6400, seed=1, heads=64)
    p, low, high = many.constant_share()
    assert low < p < high
    assert high - low > one.constant_share()[2] - one.constant_share()[1]


@pytest.mark.parametrize(
    "module",
    [
        sp.Module("mlp", n=4, options={"hidden": (5, 5), "norm": "rms", "residual": True}),
        sp.Module("transformer", n=5, options={"d_model": 8}, sigma_b=0.1, encoding="pm1"),
        sp.Module("nets:relu_net", n=3, init="own"),
        sp.Module(relu_net, inputs=[[0.5, 1.0]], laws={"0.weight": "weight"}),
    ],
)
def test_specs_of_modules_and_back(module: sp.Module) -> None:
    assert sp.Module.from_dict(module.to_dict()).to_dict() == module.to_dict()
    assert len({module, sp.Module.from_dict(module.to_dict())}) == 1
    with pytest.raises(InputError, match="did you mean sigma_w"):
        sp.Module.from_dict({**module.to_dict(), "sigmaw": 1})


def test_functions_of_one_name_are_not_one_module() -> None:
    makes = [lambda n, width=width: relu_net(n, width) for width in (3, 5)]
    first, second = (sp.Module(make, n=3) for make in makes)
    assert first != second
    assert first.tensors()[0].shape != second.tensors()[0].shape


def test_complexity_of_modules_is_measured_as_that_of_networks(tmp_path) -> None:
    """Of all 90 hidden draws, and of 30 of them; P(constant) and LZ76 are of all in either case."""
    module = sp.Module("mlp", n=4, options=SMALL)
    options = {"seed": 6, "heads": 10}
    plain = sp.sample(module, 900, **options)
    whole = sp.sample(module, 900, complexity=1000, **options)
    part = sp.sample(module, 900, complexity=30, out=tmp_path / "run", **options)
    for counts, draws in ((whole, 90), (part, 30)):
        assert {name: counts.summary()[name] for name in plain.summary()} == plain.summary()
        frame = counts.complexity_frame()
        assert frame["value"][1] == plain.summary()["lz76_nonconstant"]
        assert frame["draws"].tolist() == [90, 90] + [draws] * (len(frame) - 2)
    assert whole.complexity is not None
    assert whole.complexity.given("words") == plain.nonconstant.lz76(16)
    words = np.concatenate([w for _, w in functions_of(make_job(module, 900, 6, 10), 0, 30)])
    assert part.complexity == ComplexitySums(16, 4, 10).measured(words)
