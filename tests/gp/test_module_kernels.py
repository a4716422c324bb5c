"""Kernels of modules: closed forms against neural-tangents and against wide modules; sampled ones
against closed forms, and ln P from them with an error that holds.

The figures of neural-tangents 0.6.5 (Novak et al. 2020; jax 0.4.30, float64) were computed once by

    D = stax.Dense(1, 1.3, 0.4);  LN = stax.LayerNorm(axis=-1, eps=1e-5)
    C1 = stax.Conv(1, (3,), padding='CIRCULAR', W_std=1.3, b_std=0.4)
    C2 = stax.Conv(1, (3, 3), padding='SAME', W_std=1.3, b_std=0.4)
    serial(D, LN, phi, D, LN, phi, D),  serial(C, phi, C, phi, Flatten() or GlobalAvgPool(), D)

on ``STRINGS`` and ``IMAGES``; each row has K at (0,0) (0,1) (0,2) (1,1) (1,2) (2,2). It refuses
sums of layers that are not Gaussian, so that residual networks are held to Monte Carlo alone.

Comparisons with Monte Carlo are of 15 entries at 4 standard errors: a false alarm in 1,000 cases
(Bonferroni, normal means); seeds are fixed.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

import simprior as sp
from simprior.errors import InputError
from simprior.gp import closed
from simprior.gp.closed import closed_kernel, why_sampled
from simprior.gp.orthant import log_prior
from simprior.gp.sampled import GROUPS, sampled_kernel

STRINGS = np.array([[0.0, 1, 1, 0, 1], [1, 0, 1, 0, 0], [-1.0, 0.5, 0, 2, 1]])
IMAGES = (np.arange(60.0) ** 2 % 7 / 7).reshape(3, 20)  # 4 x 5
LAW = {"sigma_w": 1.3, "sigma_b": 0.4}
PUBLISHED = {
    ("mlp", "layer", "relu"): [
        1.00499159206325,
        0.7767627200347,
        0.74519538258675,
        1.0049915920389,
        0.60643428813697,
        1.00499159209235,
    ],
    ("mlp", "layer", "erf"): [
        0.94510140794849,
        0.57033057947118,
        0.51284424139313,
        0.94510140794452,
        0.21106239110789,
        0.94510140795323,
    ],
    ("cnn", "flat", "relu"): [
        1.13346535,
        0.7805409672958,
        1.03030181491789,
        0.8921249,
        0.72677515393824,
        1.9178218125,
    ],
    ("cnn", "mean", "relu"): [
        0.9460266316973,
        0.81310535578061,
        1.05825887596101,
        0.71900656592908,
        0.92189446776883,
        1.273853880961,
    ],
    ("cnn2d", "flat", "relu"): [
        0.46078624737024,
        0.4382025951147,
        0.42990619155258,
        0.4594029026392,
        0.43870518531067,
        0.4623824143676,
    ],
    ("cnn2d", "mean", "relu"): [
        0.40364505349593,
        0.40320619102761,
        0.40409650982901,
        0.40311220827671,
        0.40387452722738,
        0.40501697446768,
    ],
    ("cnn", "flat", "erf"): [
        0.94112445760254,
        0.56152045164489,
        0.52541234806292,
        0.90285587127853,
        0.18927802841474,
        0.98923222967412,
    ],
    ("cnn", "mean", "erf"): [
        0.67818415631495,
        0.61759921782569,
        0.50421007879538,
        0.58548251614313,
        0.47830092703588,
        0.42867796064331,
    ],
    ("cnn2d", "flat", "erf"): [
        0.69990626844461,
        0.63434312639196,
        0.60271938186566,
        0.69853974154389,
        0.6342004055693,
        0.70090718156938,
    ],
    ("cnn2d", "mean", "erf"): [
        0.53863634066253,
        0.53870485079855,
        0.53875109931213,
        0.53949054306319,
        0.5392022124196,
        0.53980328573969,
    ],
}


def published_module(kind: str, which: str, activation: str) -> sp.Module:
    options = {"activation": activation}
    if kind == "mlp":
        options |= {"hidden": (3, 3), "norm": which}
    else:
        options |= {"channels": (2, 2), "pool": which}
    if kind == "cnn2d":
        options["shape"] = "4x5"
    return sp.Module(kind, inputs=IMAGES if kind == "cnn2d" else STRINGS, options=options, **LAW)


@pytest.mark.parametrize("key", PUBLISHED, ids="-".join)
def test_closed_kernels_are_those_of_neural_tangents(key: tuple[str, str, str]) -> None:
    K = closed_kernel(published_module(*key))
    assert np.array_equal(K, K.T)
    assert np.abs(K[np.triu_indices(3)] - PUBLISHED[key]).max() < 5e-14


@pytest.mark.parametrize("key", [k for k in PUBLISHED if k[0] != "mlp"], ids="-".join)
def test_the_recursion_by_arrays_is_the_compiled_one(
    key: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed, "COMPILED", {})
    K = closed_kernel(published_module(*key))
    assert np.abs(K[np.triu_indices(3)] - PUBLISHED[key]).max() < 5e-14


@pytest.mark.parametrize("activation", ["relu", "tanh", "step"])
def test_a_plain_mlp_has_the_kernel_of_its_network(activation: str) -> None:
    options = {"hidden": (9, 7), "activation": activation}
    module = sp.Module("mlp", n=4, options=options, encoding="pm1", **LAW)
    network = sp.Network(n=4, encoding="pm1", **options, **LAW)
    assert np.array_equal(closed_kernel(module), sp.gp.nngp(network, module.input_matrix()))


WIDE = [
    ("mlp", {"hidden": (1024, 1024), "norm": "layer"}),
    ("mlp", {"hidden": (1024, 1024), "norm": "rms", "activation": "tanh"}),
    ("mlp", {"hidden": (1024, 1024, 1024), "residual": True}),
    ("mlp", {"hidden": (1024, 1024, 1024), "residual": True, "norm": "layer"}),
    ("mlp", {"hidden": (768, 1024, 1024), "residual": True, "activation": "gelu"}),
    ("cnn", {"channels": (512, 512), "pool": "flat", "activation": "tanh"}),
    ("cnn", {"channels": (512, 512), "window": 2, "pool": "mean"}),
    ("cnn2d", {"channels": (256, 256), "window": "2x3", "shape": "4x5", "pool": "flat"}),
    ("cnn2d", {"channels": (256, 256), "window": "3x2", "shape": "4x5", "pool": "mean"}),
]
POINTS = np.random.default_rng(0).standard_normal((5, 20))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), WIDE)
def test_wide_modules_have_the_closed_kernel(kind: str, options: dict[str, object]) -> None:
    module = sp.Module(kind, inputs=POINTS, options=options, **LAW)
    estimate = sampled_kernel(module, 120, seed=1)
    z = (estimate.K - closed_kernel(module)) / estimate.stderr
    assert np.abs(z).max() < 4
    assert np.abs(z).max() > 1e-3  # an estimate, not the closed form itself
    assert estimate.relative_error() < 0.02


@pytest.mark.slow
def test_the_means_of_layers_are_seen() -> None:
    """relu has a mean: residual layers of erf-like size without it would be 20 errors off."""
    module = sp.Module("mlp", inputs=POINTS, options=WIDE[2][1], **LAW)
    estimate = sampled_kernel(module, 120, seed=1)
    plain = closed_kernel(replace(module, options={**WIDE[2][1], "residual": False}))
    assert np.abs((estimate.K - plain) / estimate.stderr).min() > 20


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mlp", {"norm": "layer", "residual": True}),
        ("mlp", {"norm": "rms", "activation": "tanh"}),
        ("cnn", {"channels": (2, 2, 2), "pool": "flat"}),  # two layers see 5 bits of the 6
        ("cnn", {"channels": (2, 2, 2), "pool": "mean", "activation": "gelu"}),
        ("cnn2d", {"pool": "flat", "shape": "2x3", "window": 2}),
    ],
)
def test_closed_kernels_are_positive_definite_and_equal_inputs_have_equal_rows(
    kind: str, options: dict[str, object]
) -> None:
    module = sp.Module(kind, n=6, options=options, encoding="pm1", **LAW)
    K = closed_kernel(module)
    values = np.linalg.eigvalsh(K)
    # `mean` on a circle does not tell rotated strings apart: 14 necklaces of 6 bits
    assert (values > -1e-12 * values[-1]).all()
    assert int((values > 1e-9 * values[-1]).sum()) == (14 if options.get("pool") == "mean" else 64)
    twice = replace(module, inputs=np.concatenate([module.input_matrix()] * 2))
    again = closed_kernel(twice)
    assert np.array_equal(again[:64, :64], again[64:, 64:])
    assert np.array_equal(again[:64], again[64:])


def test_an_input_of_zeros_without_biases_has_no_variance() -> None:
    for kind, options in (("mlp", {"norm": "layer"}), ("cnn", {"pool": "flat"})):
        K = closed_kernel(sp.Module(kind, n=4, options=options, sigma_b=0.0))
        assert not K[0].any()
        assert (K.diagonal()[1:] > 0).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"make": "transformer"}, "no kernel in closed form"),
        ({"make": "lstm"}, "no kernel in closed form"),
        ({"make": "cnn", "options": {"pool": "max"}}, "maximum"),
        ({"make": "mlp", "init": "own"}, "initialiser"),
        ({"make": "mlp", "weight_dist": "uniform"}, "Gaussian"),
        ({"make": "mlp", "laws": {"head.bias": "zero"}}, "laws"),
    ],
)
def test_what_has_no_closed_kernel_says_why(changes: dict[str, object], reason: str) -> None:
    module = sp.Module(**({"n": 4} | changes))
    assert reason in why_sampled(module)
    with pytest.raises(InputError, match=reason):
        closed_kernel(module)


def test_options_out_of_range_are_refused() -> None:
    for options in ({"shape": "3x3"}, {"window": 5}, {"shape": "2x8", "window": "3x3"}):
        with pytest.raises(InputError):
            closed_kernel(sp.Module("cnn2d", n=16, options={"pool": "flat", **options}))
    with pytest.raises(InputError, match="shape"):
        closed_kernel(sp.Module("cnn2d", n=7, options={"pool": "flat"}))


# -- sampled kernels

NO_PLACE = {"position": "none", "d_model": 8, "heads": 2}


def test_sampled_kernels_are_positive_semidefinite_and_follow_from_their_seed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = sp.Module("transformer", n=5, options={"d_model": 8, "layers": 1, "heads": 2})
    found, again = (sampled_kernel(module, 30, seed=3) for _ in range(2))
    assert np.array_equal(found.parts, again.parts)
    assert found.draws == 36 and found.draws % GROUPS == 0 and found.features == 8
    assert not found.singular
    values = np.linalg.eigvalsh(found.K)
    assert values[0] > -1e-13 * values[-1]
    assert np.allclose(found.K, 0.5 * (found.half(0) + found.half(1)))
    some = found.on(np.array([3, 1]))
    assert some.K[0, 1] == found.K[3, 1]
    with caplog.at_level(logging.WARNING, logger="simprior"):
        few = sampled_kernel(sp.Module("mlp", n=7, options={"hidden": (2,)}), 24, seed=0)
    assert few.singular and "singular" in caplog.text
    assert np.linalg.matrix_rank(few.K) <= 24 * 2 + 1


def test_equal_inputs_have_equal_rows_of_sampled_kernels() -> None:
    inputs = np.concatenate([STRINGS, STRINGS[:1]])
    found = sampled_kernel(sp.Module("lstm", inputs=inputs, options={"width": 4}), 24, seed=0)
    assert np.array_equal(found.parts[:, 0], found.parts[:, 3])


@pytest.mark.parametrize(
    ("kind", "options", "classes"),
    [("cnn", {"pool": "mean"}, 8), ("cnn", {"pool": "max"}, 8), ("transformer", NO_PLACE, 6)],
)
def test_inputs_that_a_module_takes_for_the_same_have_equal_rows(
    kind: str, options: dict[str, object], classes: int
) -> None:
    """Strings of 5 bits: 8 up to rotation, 6 up to order."""
    module = sp.Module(kind, n=5, options=options)
    K = sampled_kernel(module, 24, seed=0).K if why_sampled(module) else closed_kernel(module)
    assert len(np.unique(K, axis=0)) == classes
    found = log_prior(["parity", "x1"], K, n=5, draws=256)
    assert np.isfinite(found[0].value) and found[1].value == -np.inf


def test_modules_without_a_last_linear_layer_are_sampled_by_their_outputs() -> None:
    import torch

    def make(n: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(n, 1), torch.nn.Identity())

    ending = sampled_kernel(sp.Module(make, n=3, init="own"), 600, seed=2)
    x = sp.Module(make, n=3).input_matrix()
    want = (x @ x.T + 1.0) / 9.0  # torch: uniform on +-1/sqrt(3), variance 1/9
    z = (ending.K - want) / ending.stderr
    assert np.abs(z[np.triu_indices(8)]).max() < 5  # 36 entries: 2e-5
    curved = sp.Module(lambda n: torch.nn.Sequential(torch.nn.Linear(n, 1), torch.nn.Tanh()), n=3)
    assert curved.last() is None
    assert sampled_kernel(curved, 24).features == 1


def test_modules_that_insist_on_float32_are_sampled_in_it() -> None:
    import torch

    class Single(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dtype is torch.float32
            return super().forward(x)

    def make(n: int) -> torch.nn.Module:
        return torch.nn.Sequential(Single(n, 4), torch.nn.Linear(4, 1))

    found = sampled_kernel(sp.Module(make, n=3), 240, seed=0)
    x = sp.Module(make, n=3).input_matrix()
    z = (found.K - (1 + 1 + x @ x.T / 3)) / found.stderr
    assert np.abs(z[np.triu_indices(8)]).max() < 5  # 36 entries: 2e-5


def test_estimators_without_an_error_for_the_kernel_refuse_a_sampled_one() -> None:
    found = sampled_kernel(sp.Module("mlp", n=3), 24)
    for call in (
        lambda: sp.gp.sample_posterior(found, [0, 1], [0, 1], 10),  # type: ignore[arg-type]
        lambda: sp.gp.log_posterior("x1", found, [0, 1], [0, 1]),  # type: ignore[arg-type]
        lambda: sp.gp.check_psd(found),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match="K="):
            call()


FUNCTIONS = ["0110100110010110", "0101010101010101", "0000000000000001", "0010111011001011"]


def _errors(width: int, draws: int, seeds: range) -> np.ndarray:
    """(seeds, functions) errors over standard errors of ln P, of one hidden layer: its output
    covariance is the NNGP kernel at every width."""
    module = sp.Module("mlp", n=4, options={"hidden": (width,)}, sigma_w=1.5, sigma_b=0.5)
    truth = log_prior(FUNCTIONS, closed_kernel(module), draws=8192, seed=9)
    found = [log_prior(FUNCTIONS, sampled_kernel(module, draws, s), draws=256) for s in seeds]
    return np.array(
        [[(a.value - b.value) / a.stderr for a, b in zip(r, truth, strict=True)] for r in found]
    )


@pytest.mark.slow
def test_the_error_of_ln_p_holds_that_of_the_kernel() -> None:
    z = _errors(64, 48, range(4))
    assert np.abs(z).max() < 4.5  # 16 values: a false alarm in 10,000
    module = sp.Module("mlp", n=4, options={"hidden": (64,)}, sigma_w=1.5, sigma_b=0.5)
    found = log_prior(FUNCTIONS[:1], sampled_kernel(module, 48, 0), draws=256)[0]
    about = found.diagnostics
    assert about["kernel_draws"] == 48 and about["reliable"]
    assert found.stderr > about["kernel_stderr"] > 0.1  # 256 draws alone: below 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("width", "draws"), [(64, 48), (16, 24)])
def test_errors_of_ln_p_are_calibrated(width: int, draws: int) -> None:
    """40 seeds. Errors are meant to be safe: at most one in 20 is beyond 2 standard errors, plus
    4 standard errors of that share (.034 each); means within 4 of theirs (.16)."""
    z = _errors(width, draws, range(40))
    assert (np.abs(z) > 2).mean(axis=0).max() < 0.05 + 4 * 0.034
    assert np.abs(z.mean(axis=0)).max() < 0.64
    assert z.std() > 0.4


def test_singular_kernels_are_not_trusted() -> None:
    module = sp.Module("mlp", n=6, options={"hidden": (2,)}, sigma_w=1.5, sigma_b=0.5)
    found = log_prior(["x1"], sampled_kernel(module, 24), draws=64, n=6)[0]
    assert not found.diagnostics["reliable"]
