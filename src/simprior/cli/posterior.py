"""``simprior posterior``: draw functions from the Bayesian posterior given a training set."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.cli.gp_options import PriorOptions, check_device, kernel, prior_config
from simprior.cli.output import key_values, markdown, print_json, set_up_logging
from simprior.cli.values import Count, MaybeCount, MaybeText, Number, choice
from simprior.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from simprior.boolean.counts import FunctionCounts
    from simprior.network import Network
    from simprior.store import RunDir

_GP = {"gp": "exact", "ep": "ep"}
_CHAINS = ("slice", "hmc", "nuts")
METHODS = (*_GP, "rejection", *_CHAINS)


@dataclass(frozen=True, kw_only=True)
class Posterior(PriorOptions):
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
    method: Annotated[str, choice(*METHODS), arg(help="how the posterior is sampled")] = "gp"
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
    set_up_logging(spec.quiet)
    spec.check_here()
    check_device(spec)
    if spec.target is None:
        raise InputError("no target", "a function", "pass for example --target x1")
    counts = _counts(spec)
    report = counts.info["posterior"]
    if spec.json:
        records = counts.to_frame(top=spec.top).to_dict(orient="records")
        print_json({"summary": counts.summary() | report, "functions": records})
    else:
        frame = counts.to_frame(top=spec.top)
        print(markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist()))
        print()
        shown = {k: v for k, v in report.items() if k != "statistics" and v not in ("", None)}
        print(key_values(counts.summary() | shown))
    if spec.method in _CHAINS and not report["converged"]:
        logging.getLogger("simprior").warning("not converged: %s", report.get("reason"))
    if spec.method == "gp" and not report["reliable"]:
        logging.getLogger("simprior").warning(
            "the intervals are not reliable: Pareto k-hat of the proposals is %.2f, above 0.7",
            report["pareto_k"] if report["pareto_k"] is not None else float("nan"),
        )
    if spec.out is not None:
        logging.getLogger("simprior").info("written to %s", spec.out)
    return 0


def training_set(spec: Posterior, m: int) -> np.ndarray:
    """Sorted inputs of the training set: ``--train`` of m, without replacement, by ``--seed``."""
    import numpy as np

    from simprior import rng

    if not 1 <= spec.train < m:
        raise InputError(
            f"train={spec.train}", f"1 to {m - 1} of the {m} inputs", "leave some inputs outside"
        )
    order = rng.generator(spec.seed, "posterior/training-set").permutation(m)
    return np.sort(order[: spec.train])


def _counts(spec: Posterior) -> FunctionCounts:
    from simprior.boolean.posterior_store import stored_posterior
    from simprior.boolean.truthtable import parse_functions
    from simprior.engine import progress_bar

    network = spec.build_network()
    if spec.out is not None:
        network.check_storable()
    bits = 0 if network.inputs is not None else None
    target = parse_functions(spec.target, network.m, bits)[0]
    index = training_set(spec, network.m)
    config = {
        "network": prior_config(spec, network), "target": spec.target, "train": spec.train,
        "method": spec.method, "samples": spec.samples, "seed": spec.seed,
        **method_options(spec),
    }  # fmt: skip
    total = spec.max_draws if spec.method == "rejection" else spec.samples
    unit = "net" if spec.method == "rejection" else "function"

    def about(counts: FunctionCounts) -> dict[str, Any]:
        row = int(counts.find(target[None])[0])
        return {
            "target": spec.target, "train": spec.train, **_target_share(counts, row),
            "train_index": index.tolist(),
        }  # fmt: skip

    with progress_bar(total, unit, quiet=spec.quiet) as progress:
        draw = partial(_draw, spec, network, index, target, progress)
        if spec.out is not None:
            return stored_posterior(
                draw, spec.out, config, about=about, resume=spec.resume,
                overwrite=spec.overwrite, options={"workers": spec.worker_count()},
            )  # fmt: skip
        counts = draw(None)
    counts.info["posterior"] |= about(counts)
    counts.info["posterior"].pop("train_index")
    return counts


def _target_share(counts: FunctionCounts, row: int) -> dict[str, float]:
    """P_B(target) with its 95 % interval; ``row`` is -1 if no draw was the target."""
    if row < 0:
        return {"target_p": 0.0, "target_p_low": 0.0, "target_p_high": counts.unmet_bound()}
    low, high = counts.intervals()
    return {
        "target_p": float(counts.p[row]), "target_p_low": float(low[row]),
        "target_p_high": float(high[row]),
    }  # fmt: skip


def method_options(spec: Posterior) -> dict[str, Any]:
    """The flags that the method uses, those given only."""
    used: dict[str, tuple[str, ...]] = {
        "rejection": ("max_draws",),
        "slice": ("chains", "thin", "burn_in"),
        "hmc": ("chains", "thin", "burn_in", "beta"),
        "nuts": ("chains", "thin", "burn_in", "beta"),
    }
    values = {name: getattr(spec, name) for name in used.get(spec.method, ())}
    return {name: value for name, value in values.items() if value is not None}


def _draw(
    spec: Posterior, network: Network, index: np.ndarray, target: np.ndarray, progress: Any,
    store: RunDir | None,
) -> FunctionCounts:  # fmt: skip
    """Counts by the chosen method."""
    if spec.method in _GP:
        from simprior.gp.posterior import sample_posterior

        return sample_posterior(
            kernel(network), index, target[index], spec.samples, spec.seed, _GP[spec.method],
            n=0 if network.inputs is not None else None, workers=spec.worker_count(),
            progress=progress, store=store,
        )  # fmt: skip
    from simprior.training import mcmc

    function = getattr(mcmc, f"{spec.method}_posterior")
    counts: FunctionCounts = function(
        network, index, None, spec.samples, spec.seed, target=target, workers=spec.worker_count(),
        progress=progress, store=store, **method_options(spec),
    )  # fmt: skip
    return counts
