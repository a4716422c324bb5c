"""Names of columns, for axes, ticks, legends and heads of tables."""

from __future__ import annotations

from simprior.analysis.measure_names import MEASURES

_SETTINGS = {
    "pearson": "Pearson $r$",
    "spearman": r"Spearman $\rho$",
    "kendall": r"Kendall $\tau_b$",
    "partial_pearson": "partial $r$",
    "partial_spearman": r"partial $\rho$",
    "p_value": "$p$",
    "p_adjusted": "$p$ (BH)",
    "p_holm": "$p$ (Holm)",
    "partial_p_value": "partial $p$",
    "partial_p_adjusted": "partial $p$ (BH)",
    "partial_p_holm": "partial $p$ (Holm)",
    "test_error": "test error",
    "held_out_error": "error on held-out inputs",
    "total_error": "error over all inputs",
    "train_error": "training error",
    "majority_error": "error of the commoner class",
    "train_size": "training examples",
    "attack": "attack points",
    "corrupt": "share of labels replaced by coin flips",
    "sigma_w": r"$\sigma_w$",
    "sigma_b": r"$\sigma_b$",
    "optimizer": "optimiser",
    "alpha": r"$\alpha$",
    "target": "target",
    "n": "input bits $n$",
    "depth": "hidden layers",
    "width": "width",
    "steps": "steps",
    "data_seed": "data seed",
    "activation": "activation",
    "batch_size": "batch size",
    "lr": "learning rate",
    "options": "options of the optimiser",
    "loss": "loss",
    "p_constant": "P(constant)",
    "functions": "distinct functions",
    "fitted_share": "share fitted",
    "target_lz76": "LZ complexity of the target",
    "target_entropy": "entropy of the target",
    "target_log_p": r"$\ln P$(target)",
}
_UNITS = {"target_lz76": "bits", "target_entropy": "bits", "target_log_p": "nats"}


def name_of(column: str | None) -> str:
    """Short name of a column for ticks and legends."""
    if column is None:
        return ""
    if ", " in column:  # a group of several
        return ", ".join(map(name_of, column.split(", ")))
    known = MEASURES.get(column)
    return str(known.label) if known is not None else _SETTINGS.get(column, column)


def axis_label(column: str) -> str:
    """Name of a column with its unit, for an axis."""
    known = MEASURES.get(column)
    unit = str(known.unit) if known is not None else _UNITS.get(column, "")
    return f"{name_of(column)} ({unit})" if unit and unit not in ("1", "-") else name_of(column)
