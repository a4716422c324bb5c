"""Where to compute: cpu, cuda, or whichever there is."""

from __future__ import annotations

from simprior.checks import shown
from simprior.errors import DeviceError, InputError

DEVICES = ("cpu", "cuda", "auto")


def resolve_device(device: str) -> str:
    """``cpu`` or ``cuda``; :class:`DeviceError` when CUDA is asked for and there is none."""
    if not isinstance(device, str) or device not in DEVICES:
        raise InputError(
            f"device={shown(device)}", f"one of {', '.join(DEVICES)}", "pass --device cpu"
        )
    if device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise DeviceError(
            "device='cuda': expected a CUDA device that torch can use, found none; "
            "pass --device cpu"
        )
    return "cpu"
