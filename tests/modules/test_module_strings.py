"""Sensitivity of random torch modules on strings, held to truth tables and to any split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nets import relu_net
from scipy.stats import t as student

import simprior as sp
from simprior.analysis.strings import run as strings_run
from simprior.analysis.strings.modules import ModuleDraws
from simprior.analysis.strings.networks import Source, Spec
from simprior.analysis.strings.predictions import distance_floor, flip_law
from simprior.analysis.strings.run import measure_network
from simprior.analysis.strings.search import first_change, nearest_distances
from simprior.analysis.strings.settings import StringsSettings
from simprior.analysis.study.stages import strings_settings
from simprior.boolean.truthtable import bit_matrix
from simprior.cli import main
from simprior.errors import InputError
from simprior.modules.build import evaluation

SMALL = {
    "transformer": {"d_model": 8, "layers": 1, "heads": 2},
    "lstm": {"width": 8},
    "cnn": {"channels": (6,)},
    "mlp": {"hidden": (10, 10), "norm": "layer"},
}


def module(make: str, **more: object) -> sp.Module:
    return sp.Module(make, options=SMALL[make], sigma_b=0.02, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", list(SMALL))
@pytest.mark.parametrize("encoding", ["01", "pm1"])
def test_every_number_follows_from_the_truth_table(make: str, encoding: str) -> None:
    """Distance, single flips and flips of 12 networks: all 2^6 strings of each are evaluated."""
    n, law = 6, module(make, encoding=encoding)
    settings = StringsSettings(n=(n,), module=law, strings=3, networks=12, seed=4)
    source = Source(Spec(n, law), 4)
    index = {tuple(row): i for i, row in enumerate(bit_matrix(n).astype(int).tolist())}
    differs = 0
    for k in range(12):
        rows = measure_network(settings, source, k)
        network = source.draw(k)
        table = (network.outputs(bit_matrix(n).astype(np.int8)) > 0).astype(np.uint8)
        distance = nearest_distances(table[None])[0]
        strings, orders = source.rng("strings", k), source.rng("orders", k)
        for row in rows:
            bits = strings.integers(0, 2, n)
            at = index[tuple(bits.tolist())]
            assert row["distance"] == distance[at] and row["certified"]
            near = [table[at ^ (1 << bit)] for bit in range(n)]
            assert row["sensitivity"] == sum(near != table[at])
            order = orders.permutation(n)
            path = [at ^ sum(1 << (n - 1 - bit) for bit in order[: i + 1]) for i in range(n)]
            changed = np.flatnonzero(table[path] != table[at])
            assert row["flips"] == (changed[0] + 1 if len(changed) else n)
        differs += 0 < table.sum() < len(table)
    assert differs > 1


def test_outputs_are_those_of_the_stacked_module() -> None:
    """One network at a time, or 5 at once with heads: equal to float32 rounding of sums."""
    law, n = module("transformer"), 40
    draws = ModuleDraws(law, n, 3)
    x = np.random.default_rng(0).integers(0, 2, (20, n)).astype(np.int8)
    networks = [draws.draw(k)._parameters for k in range(5)]
    block = {name: torch.stack([one[name] for one in networks]) for name in networks[0]}
    with evaluation():
        together = draws.module.apply(block, torch.from_numpy(x.astype(np.float32))).numpy()
    alone = np.stack([draws.draw(k).outputs(x) for k in range(5)])
    assert np.abs(alone - together).max() < 1e-5 * np.abs(together).max()
    again = ModuleDraws(law, n, 3)
    assert np.array_equal(again.draw(4).outputs(x), alone[4])
    other = ModuleDraws(law, 41, 3).draw(4)
    assert not torch.equal(
        other._parameters["head.weight"], draws.draw(4)._parameters["head.weight"]
    )


def test_effects_are_the_changes_of_the_output() -> None:
    centred = ModuleDraws(module("lstm"), 9, 1).draw(0).at(np.array([0, 1] * 4 + [0]))
    state = centred.flip(centred.root, np.array([2]))
    state = centred.flip(state, np.array([5]))
    effects = centred.effects(state)[0]
    base = centred.outputs(state)[0]
    for bit in range(9):
        change = centred.outputs(centred.flip(state, np.array([bit])))[0] - base
        wanted = -change if bit in (2, 5) else change
        assert effects[bit] == pytest.approx(wanted, abs=1e-6)
    order = np.random.default_rng(1).permutation(9)
    states = centred.path(centred.root, order)
    assert np.array_equal(states[-1], 1 - centred.root[0])
    assert (np.abs(np.diff(states, axis=0)).sum(axis=1) == 1).all()
    assert 0 <= first_change(centred, order) <= 9


STUDY = StringsSettings(n=(7, 12), module=module("lstm"), networks=5, strings=2, budget=50)


@pytest.mark.slow
def test_rows_do_not_depend_on_workers_chunks_or_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = sp.sensitivity(STUDY)
    pool = sp.sensitivity(STUDY, out=tmp_path / "a", workers=2)
    monkeypatch.setattr(strings_run, "CHUNK", 2)
    chunks = sp.sensitivity(STUDY)
    for other in (pool, chunks, strings_run.load(tmp_path / "a")):
        pd.testing.assert_frame_equal(here.rows, other.rows)
        pd.testing.assert_frame_equal(here.summary, other.summary)
    config = json.loads((tmp_path / "a" / "manifest.json").read_text())["config"]
    assert config["modules"]["architecture"] == "lstm" and "network" not in config
    assert "no Gaussian process" in here.notes[-1]
    assert here.summary["gp_flips"].isna().all()
    plain = sp.sensitivity(STUDY.module, n=(7, 12), networks=5, strings=2, budget=50)
    pd.testing.assert_frame_equal(here.rows, plain.rows)
    means = here.rows.groupby(["n", "network"])["sensitivity"].mean().groupby("n").mean()
    assert here.summary["sensitivity"].to_numpy() == pytest.approx(means.to_numpy())
    assert main(["plot", str(tmp_path / "a"), "--out", str(tmp_path / "figures"), "--quiet"]) == 0


@pytest.mark.slow
def test_flips_of_a_module_are_those_of_a_network() -> None:
    """Mean flips of mlp modules and of the infinitely wide network at n = 12.

    Wide networks: 300 of width 256 differ from the limit by less than their error. 4.5 standard
    errors of both: a false alarm once in 100,000 seeds (t with 299 degrees of freedom).
    """
    law = sp.Module("mlp", options={"hidden": (256,)}, sigma_b=0.2, encoding="pm1")
    found = sp.sensitivity(law, n=12, networks=300, paths=4, budget=0, seed=5).summary.iloc[0]
    network = sp.Network(hidden=(256,), sigma_b=0.2, encoding="pm1")
    limit = flip_law(Spec(12, network), 20_000)
    error = float(np.hypot(found["flips_stderr"], limit.stderr))
    assert abs(found["flips"] - limit.mean) < student.isf(5e-6, 299) * error
    assert found["distance"] > distance_floor(Spec(12, network)) - 4.5 * found["distance_stderr"]


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none"])
def test_long_strings(position: str) -> None:
    law = sp.Module("transformer", options={**SMALL["transformer"], "position": position})
    found = sp.sensitivity(law, n=64, networks=1, beam=1, candidates=2, budget=0)
    assert (found.rows["n"] == 64).all() and len(found.rows) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": "transformer"}, "sp.Module"),
        ({"module": sp.Module("lstm"), "sigma_b": 1.0}, "sigma_b=1.0 with a module"),
        ({"module": sp.Module("lstm"), "classifier": "uniform"}, "classifier='uniform'"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        StringsSettings(**options)  # type: ignore[arg-type]


def test_refusals_of_what_is_not_known(tmp_path: Path) -> None:
    for wrong in ({"network": 3}, {"workers": 0}, {"n": None}, {"networks": 2.5}, {"out": 3}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            sp.sensitivity(sp.Module("lstm"), **wrong)
    with pytest.raises(InputError, match="an sp"):
        sp.sensitivity(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="with a network"):
        sp.sensitivity(sp.Module("lstm"), hidden=(3,))
    with pytest.raises(InputError, match="Gaussian process is known"):
        flip_law(Spec(9, sp.Module("lstm")))
    with pytest.raises(InputError, match="window"):
        sp.sensitivity(sp.Module("cnn", options={"window": 9}), n=5, networks=1)
    local = sp.Module(lambda n: relu_net(n, 6))
    with pytest.raises(InputError, match="make"):
        sp.sensitivity(local, n=9, networks=1, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert len(sp.sensitivity(local, n=(9, 30), networks=2, budget=0).rows) == 4


def shown(capsys: pytest.CaptureFixture[str], *line: str) -> dict[str, object]:
    assert main(["sensitivity", *line, "--quiet", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["table"][0]


def test_the_command_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--n 9 --networks 4 --budget 20 --seed 3 --workers 1".split()
    option = ["--option", "width=8", "--sigma-b", "0.02"]
    found = shown(capsys, "--architecture", "lstm", *option, *flags)
    law = module("lstm", encoding="pm1")
    wanted = sp.sensitivity(law, n=9, networks=4, budget=20, seed=3).summary.iloc[0]
    for name in ("distance", "flips", "sensitivity", "not_found"):
        assert found[name] == pytest.approx(wanted[name])
    mlp = shown(capsys, "--architecture", "mlp", "--hidden", "5", "--norm", "rms", *flags)
    law = sp.Module("mlp", options={"hidden": (5,), "norm": "rms"}, sigma_b=0, encoding="pm1")
    wanted = sp.sensitivity(law, n=9, networks=4, budget=20, seed=3).summary.iloc[0]
    assert mlp["sensitivity"] == pytest.approx(wanted["sensitivity"])
    stage = {"n": [9], "architecture": "mlp", "hidden": "5", "norm": "rms", "networks": 4}
    options = {**law.options, "activation": "relu", "residual": False}
    assert strings_settings(stage).module == replace(law, options=options)
    assert strings_settings({"n": 9, "architecture": "lstm", "init": "own"}).module is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--norm layer", "without a module"),
        ("--architecture lstm --hidden 30", "hidden=30 with architecture=lstm"),
        ("--architecture lstm --classifier uniform", "classifier='uniform' with a module"),
        ("--architecture lstm --sigma-w 1,2,3", "one number each"),
        ("--architecture rnn", "rnn"),
        ("--architecture lstm --option depth=3", "depth"),
        ("--module mynets:none", "mynets"),
        ("--architecture lstm --init own --sigma-b 2", "init=own"),
    ],
)
def test_refused_flags(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensitivity", "--n", "9", "--networks", "2", *line.split()]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
