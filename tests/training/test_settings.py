"""One declaration of the settings of a training run: flags, files, and the keywords of sp.train."""

from __future__ import annotations

import inspect
from dataclasses import asdict

import pytest

from simprior import Module, Network, train
from simprior.cli.train import Train
from simprior.errors import InputError
from simprior.training.settings import (
    NETWORK,
    PROBLEM,
    READERS,
    TRAINING,
    NetworkSettings,
    TrainSettings,
    declared,
    settings,
    text,
)
from simprior.training.targets import Problem

RUN = {"device", "workers", "out", "resume", "overwrite", "executor", "executor_options"}
HOOKS = {"progress", "complement"}


def test_the_keywords_of_train_are_the_settings() -> None:
    known = inspect.signature(train).parameters
    assert set(known) == {"problem", *TRAINING, *RUN, *HOOKS}
    for name in TRAINING:
        assert known[name].default == getattr(TrainSettings, name), name


def test_the_keywords_of_a_problem_are_the_settings() -> None:
    known = inspect.signature(Problem).parameters
    drawn = {"seed"} | (set(PROBLEM) - {"data_seed"})
    assert set(known) == {"network", "inputs", "labels", "train_index", *drawn}
    for name in drawn - {"seed"}:
        assert known[name].default == getattr(TrainSettings, name), name


def test_the_network_has_these_keywords() -> None:
    refused = {"dropout"}  # whatever its value
    assert set(NETWORK) == set(inspect.signature(Network).parameters) - refused
    assert Network().to_dict() == {**Network(**asdict(NetworkSettings())).to_dict()}


def test_the_flags_have_the_defaults_of_the_settings() -> None:
    spec, known = Train(), declared()
    for name, setting in known.items():
        assert getattr(spec, name) == getattr(TrainSettings, name)
        assert isinstance(setting.kind, tuple) or setting.kind in READERS


@pytest.mark.parametrize("name", [*NETWORK, *TRAINING])
def test_a_file_may_give_every_default_as_text(name: str) -> None:
    value = getattr(TrainSettings, name)
    found = settings({name: value if name in ("target", "data") else text(value)})
    if name in TRAINING and name != "target":
        assert found.keywords[name] == value


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(InputError, match="setting learning-rate: expected one of n, hidden, "):
        settings({"learning_rate": 0.1})


def test_settings_describe_a_module_as_well() -> None:
    found = settings({"architecture": "lstm", "option": "width=3,pool=mean", "n": 3}).network
    assert found == Module("lstm", n=3, options={"width": 3, "pool": "mean"})
    layered = settings({"architecture": "mlp", "hidden": "5,5", "residual": "true"}).network
    assert layered.options["residual"] is True and layered.options["hidden"] == (5, 5)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"architecture": "mlp", "module": "a:b"}, "one of --module and --architecture"),
        ({"architecture": "lstm", "hidden": "3"}, "hidden=3 with architecture=lstm"),
        ({"architecture": "mlp", "hidden": "3", "option": "hidden=4"}, "one of the two"),
        ({"residual": True}, "residual=true without a module"),
        ({"residual": "perhaps"}, "residual=perhaps: expected true or false"),
    ],
)
def test_settings_that_do_not_go_together(cell: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(cell)
