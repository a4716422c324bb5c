"""``simprior posterior``: draw functions from the Bayesian posterior given a training set."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.options import (
    Device,
    PriorOptions,
    Resumable,
    Seeded,
    Workers,
    check_device,
    kernel,
    prior_config,
)
from simprior.cli.parse import Count, MaybeCount, MaybeText, Number, choice
from simprior.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.network.spec import Network
    from simprior.runs.directory import RunDir

_GP = {"gp": "exact", "ep": "ep"}
_FLAGS = {
    "gp": "",
    "ep": "",
    "rejection": "max_draws",
    "slice": "chains thin burn_in",
    "hmc": "chains thin burn_in beta",
    "nuts": "chains thin burn_in beta",
}
"""The flags of their own that methods have."""


@dataclass(frozen=True, kw_only=True)
class Posterior(PriorOptions, Resumable, Workers, Device, Seeded):
    """Draw functions from P_B(f|S): the prior, given that its signs on a random training set S are
    those of the target.

    Infinite width: gp draws exactly from the truncated Gaussian; ep is the Gaussian approximation
    used in the literature, which violates S (the share that does is reported). Finite width:
    rejection keeps prior draws that agree with S (exact); slice is elliptical slice sampling of the
    parameters; hmc and nuts use a soft likelihood of inverse temperature beta. Chains say whether
    they converged.
    """

    target: Annotated[MaybeText, arg(help="the target function: bits, hex or a name")] = None
    train: Annotated[Count, arg(help="size of the training set, drawn by --seed")] = 64
    method: Annotated[str, choice(*_FLAGS), arg(help="how the posterior is sampled")] = "gp"
    max_draws: Annotated[Count, arg(help="rejection: networks to draw at most")] = 10**9
    chains: Annotated[MaybeCount, arg(help="slice, hmc, nuts: independent chains")] = None
    thin: Annotated[Count, arg(help="slice, hmc, nuts: sweeps between draws")] = 1
    burn_in: Annotated[MaybeCount, arg(help="slice, hmc, nuts: sweeps before the first draw")] = (
        None
    )
    beta: Annotated[Number, arg(help="hmc, nuts: inverse temperature of the likelihood")] = 10.0
    samples: Annotated[Count, arg(help="functions to draw, e.g. 1e5")] = 10**5
    top: Annotated[Count, arg(help="functions to print")] = 20


SPEC = Posterior


def run(spec: Posterior) -> int:
    """Draw, print the most frequent functions and what is known about the draws."""
    check_device(spec)
    if spec.target is None:
        raise InputError("no target", "a function", "pass for example --target x1")
    counts = _counts(spec)
    report = counts.info["posterior"]
    frame, totals = counts.to_frame(top=spec.top), counts.summary()
    shown = {k: v for k, v in report.items() if k != "statistics" and v not in ("", None)}
    spec.print_result({"table": frame, "summary": totals | report}, frame, totals | shown)
    if "chains" in _FLAGS[spec.method] and not report["converged"]:
        logging.getLogger("simprior").warning("not converged: %s", report.get("reason"))
    if spec.method == "gp" and not report["reliable"]:
        logging.getLogger("simprior").warning(
            "the intervals are not reliable: Pareto k-hat of the proposals is %.2f, above 0.7",
            report["pareto_k"] if report["pareto_k"] is not None else float("nan"),
        )
    spec.say_written()
    return 0


def _counts(spec: Posterior) -> FunctionCounts:
    from simprior.boolean.sampling.chains import stored_posterior
    from simprior.boolean.truthtable import parse_functions
    from simprior.runs.tasks import progress_bar
    from simprior.training.targets import draw_training_set

    network = spec.build_network()
    if spec.out is not None:
        network.check_storable()
    bits = 0 if network.inputs is not None else None
    target = parse_functions(spec.target, network.m, bits)[0]
    index = draw_training_set(network.m, spec.train, spec.seed)
    config = {"network": prior_config(spec, network)}
    config |= spec.chosen("target train method samples seed") | method_options(spec)
    total = spec.max_draws if spec.method == "rejection" else spec.samples
    unit = "net" if spec.method == "rejection" else "function"

    def about(counts: FunctionCounts) -> dict[str, Any]:
        p, low, high = counts.share(target)
        share = {"target_p": p, "target_p_low": low, "target_p_high": high}
        about = {"target": spec.target, "train": spec.train, **share}
        return about | {"train_index": index.tolist()}

    with progress_bar(total, unit, quiet=spec.quiet) as progress:
        run: dict[str, Any] = {"workers": spec.worker_count(), "progress": progress}

        def draw(store: RunDir | None) -> FunctionCounts:
            return _draw(spec, network, index, target, run | {"store": store})

        if spec.out is not None:
            state = spec.chosen("resume overwrite")
            state["options"] = {"workers": spec.worker_count()}
            return stored_posterior(draw, spec.out, config, about=about, **state)
        counts = draw(None)
    counts.info["posterior"] |= about(counts)
    counts.info["posterior"].pop("train_index")
    return counts


def method_options(spec: Posterior) -> dict[str, Any]:
    """The flags that the method uses, those given only."""
    values = spec.chosen(_FLAGS[spec.method])
    return {name: value for name, value in values.items() if value is not None}


def _draw(
    spec: Posterior, network: Network, index: np.ndarray, target: np.ndarray, run: dict[str, Any]
) -> FunctionCounts:
    """Counts by the chosen method; ``run``: workers, progress, store."""
    if spec.method in _GP:
        from simprior.gp.posterior import sample_posterior

        n, method = (0 if network.inputs is not None else None), _GP[spec.method]
        K, labels = kernel(network), target[index]
        return sample_posterior(K, index, labels, spec.samples, spec.seed, method, n=n, **run)
    from simprior.training import posterior as mcmc

    function = getattr(mcmc, f"{spec.method}_posterior")
    options = method_options(spec) | run
    counts: FunctionCounts = function(
        network, index, None, spec.samples, spec.seed, target=target, **options
    )
    return counts
