"""Where to compute: cpu, cuda, or whichever there is."""

from __future__ import annotations

from simprior.checks import Choice
from simprior.errors import DeviceError

DEVICES = ("cpu", "cuda", "auto")


def resolve_device(device: str) -> str:
    """``cpu`` or ``cuda``; :class:`DeviceError` when CUDA is asked for and there is none."""
    if Choice(DEVICES, "pass --device cpu")("device", device) == "cpu":
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
