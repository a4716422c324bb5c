"""Networks whose common functions direct sampling knows, of every kind."""

from __future__ import annotations

import numpy as np

from simprior.network.spec import Network

SAMPLED = {
    "one layer": Network(n=3, hidden=(5,)),
    "two layers, pm1": Network(n=3, hidden=(4, 3), encoding="pm1", sigma_w=1.5),
    "three layers, tanh": Network(n=3, hidden=(3, 4, 2), activation="tanh", sigma_b=0.5),
    "no biases": Network(n=3, hidden=(6, 5), sigma_b=0.0),
    "gelu, other sigmas": Network(
        n=2, hidden=(3, 3), activation="gelu", sigma_w=(2.0, 1.0, 0.5), sigma_b=(0.0, 1.0, 0.3)
    ),
    "explicit inputs": Network(
        hidden=(4, 4), inputs=np.array([[0.3, -1.0], [2.0, 0.1], [0.3, -1.0], [-1.0, 0.4]])
    ),
    "step": Network(n=3, hidden=(5, 4), activation="step"),
}
