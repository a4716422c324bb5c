"""Random classifiers of n-bit strings, and a classifier centred at one string.

A *centred* classifier knows its start string x and works in flips: a state is what the first layer
needs to know of a set of flipped bits. For a network it is the pre-activation of the first layer,
linear in the input, so that flipping bit i adds one row of a matrix; only the layers after it are
evaluated anew. For a uniformly random classifier it is a 64-bit hash.

All arithmetic of networks is float32, in this order; the class of an output is 1 iff it is > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from simprior.checks import Choice, Integer
from simprior.modules.spec import Module
from simprior.network.activations import entry_of
from simprior.network.callables import array_function
from simprior.network.density import thresholds
from simprior.network.spec import Network
from simprior.numerics.compiled import BLOCK, fill, thin
from simprior.numerics.random import generator, philox_key

if TYPE_CHECKING:
    from simprior.analysis.strings.modules import ModuleDraws, RandomModule

STREAM = "sensitivity"
MOST_BITS = 1 << 17
CLASSIFIERS = ("network", "uniform")
_STEP = 0.25  # difference quotients of the activation, in units of the spread of its inputs


class Centred(Protocol):
    """A classifier seen from a start string of ``n`` bits; ``root`` (1, ...) is its own state."""

    n: int
    root: np.ndarray

    def flip(self, states: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """States (B, ...) after flipping bit ``bits[b]`` of state b; shapes broadcast."""

    def unflip(self, states: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`flip`."""

    def path(self, state: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """(B, ...) states after flipping bits[0], then bits[1], ..., from one state (1, ...)."""

    def outputs(self, states: np.ndarray) -> np.ndarray:
        """(B,) float outputs; the class is 1 iff the output is > 0."""

    def effects(self, states: np.ndarray) -> np.ndarray:
        """(B, n) estimated change of the output when each bit is flipped (unflipped: minus it)."""


@dataclass(frozen=True)
class Spec:
    """A law of random classifiers of ``n``-bit strings.

    ``network`` gives widths, activation, sigmas, encoding and weight law, or is any torch module;
    its own inputs do not matter. ``classifier`` is ``"network"``, or ``"uniform"``: every string
    gets an independent fair bit (the network is then without effect).

    Raises
    ------
    InputError
        ``n`` is not an integer from 2 to 2^17, or the classifier is unknown.
    """

    n: int
    network: Network | Module
    classifier: str = "network"

    def __post_init__(self) -> None:
        expected = f"integers from 2 to {MOST_BITS}"
        Integer(2, MOST_BITS, "pass for example --n 100,200", expected)("n", self.n)
        remedy = "pass for example classifier='network'"
        Choice(CLASSIFIERS, remedy)("classifier", self.classifier)


class Source:
    """Draws classifier k of the law ``spec``; its memory is used again by the next draw.

    Numbers of network k depend on (seed, n, k) only.
    """

    def __init__(self, spec: Spec, seed: int) -> None:
        self.spec, self._seed = spec, seed
        self._draws = _draws_of(spec, seed)

    def rng(self, what: str, index: int) -> np.random.Generator:
        """Generator of the start strings (``strings``) or flip orders (``orders``) of network k."""
        return generator(self._seed, f"{STREAM}/{self.spec.n}/{what}", index)

    def draw(self, index: int) -> RandomNetwork | UniformClassifier | RandomModule:
        """Classifier ``index``. A network is valid until the next call."""
        if self._draws is None:
            return UniformClassifier(self.spec.n, self.rng("classifier", index))
        return self._draws.draw(index)


def _draws_of(spec: Spec, seed: int) -> NetworkDraws | ModuleDraws | None:
    """What draws the networks of a law; None if its classifiers are no networks."""
    if spec.classifier == "uniform":
        return None
    if isinstance(spec.network, Network):
        return NetworkDraws(spec.network, spec.n, seed)
    from simprior.analysis.strings.modules import ModuleDraws

    return ModuleDraws(spec.network, spec.n, seed)


class NetworkDraws:
    """Draws fully connected networks on strings of ``n`` bits, by their numbers."""

    def __init__(self, network: Network, n: int, seed: int) -> None:
        self._network, self._fan_ins = network, (n, *network.hidden)
        self._key = np.uint64(philox_key(seed, f"{STREAM}/{n}"))
        self._buffer = np.zeros(32, np.uint64)
        self._words = self._buffer.view(np.uint32)
        self._activation = activation(network)
        shapes = zip(self._fan_ins, (*network.hidden, 1), strict=True)
        sizes = [(f + 1) * w for f, w in shapes]
        self._memory = [np.empty(-(-size // BLOCK) * BLOCK, np.float32) for size in sizes]

    def draw(self, index: int) -> RandomNetwork:
        """Network ``index``, valid until the next call."""
        network = self._network
        weights, biases = [], []
        uniform = network.weight_dist == "uniform"
        kept = thresholds(network.densities)
        sigmas = zip(network.sigma_ws, network.sigma_bs, self._fan_ins, strict=True)
        for layer, (sigma_w, sigma_b, fan_in) in enumerate(sigmas):
            out = self._memory[layer]
            root = math.sqrt(network.densities[layer]) if network.rescale else 1.0
            scale = np.float32(sigma_w / np.sqrt(fan_in) / root)
            fill(
                out,
                len(out) // BLOCK,
                self._buffer,
                self._words,
                0,
                layer,
                np.uint64(index),
                self._key,
                scale,
                uniform,
            )
            width = network.hidden[layer] if layer < network.depth else 1
            size = fan_in * width
            thin(
                out,
                size,
                self._buffer,
                self._words,
                0,
                layer,
                np.uint64(index),
                self._key,
                kept[layer],
            )
            weights.append(out[:size].reshape(fan_in, width))
            biases.append(
                out[size : size + width] * np.float32(sigma_b * np.sqrt(fan_in) / sigma_w * root)
            )
        return RandomNetwork(
            tuple(weights), tuple(biases), self._activation, network.encoding == "pm1"
        )


@dataclass(frozen=True, eq=False)
class RandomNetwork:
    """Parameters of one network: ``weights[l]`` (fan_in, width), ``biases[l]`` (width,), float32;
    z = h @ weights[l] + biases[l], the output has width 1."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    activation: Callable[[np.ndarray], np.ndarray]
    signed: bool

    def at(self, bits: np.ndarray) -> CentredNetwork:
        """Centre the network at the string ``bits``, (n,) of 0 and 1."""
        return CentredNetwork(self, bits)


class CentredNetwork:
    """A network seen from a start string; states are (B, w) first pre-activations."""

    def __init__(self, network: RandomNetwork, bits: np.ndarray) -> None:
        self.n, self._network = len(bits), network
        bits = bits.astype(np.float32)
        x = 2.0 * bits - 1.0 if network.signed else bits
        step = (1.0 - 2.0 * bits) * (2.0 if network.signed else 1.0)
        first = network.weights[0]
        self.root = (x.astype(np.float32) @ first + network.biases[0])[None]
        self._rows = step.astype(np.float32)[:, None] * first

    def flip(self, states: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """See :class:`Centred`."""
        return np.asarray(states + self._rows[bits])

    def unflip(self, states: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """See :class:`Centred`."""
        return np.asarray(states - self._rows[bits])

    def path(self, state: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """See :class:`Centred`."""
        out = self._rows[bits]
        np.cumsum(out, axis=0, out=out)
        out += state
        return out

    def outputs(self, states: np.ndarray) -> np.ndarray:
        """See :class:`Centred`."""
        z = states
        for w, b in zip(self._network.weights[1:], self._network.biases[1:], strict=True):
            z = self._network.activation(z) @ w
            z += b
        return np.asarray(z[:, 0])

    def effects(self, states: np.ndarray) -> np.ndarray:
        """Gradient along each flip; derivatives of the activation are central differences over a
        quarter of the spread of the pre-activations, which also serves ``step``."""
        net, z = self._network, states
        slopes = []
        for w, b in zip(net.weights[1:], net.biases[1:], strict=True):
            reach = np.float32(_STEP) * np.sqrt(np.mean(z * z, axis=1, keepdims=True))
            reach = np.maximum(reach, np.float32(1e-20)).astype(np.float32)
            slopes.append((net.activation(z + reach) - net.activation(z - reach)) / (2 * reach))
            z = net.activation(z) @ w + b
        back = np.ones((len(states), 1), np.float32)
        for w, slope in zip(net.weights[:0:-1], slopes[::-1], strict=True):
            back = (back @ w.T) * slope
        return np.asarray(back @ self._rows.T)


class UniformClassifier:
    """Every string of ``n`` bits has an independent fair class (up to 64-bit hash collisions).

    The class is a bit of a mixed exclusive-or of one random key a bit (Zobrist hashing; the
    finaliser is that of splitmix64, Steele, Lea & Flood 2014).
    """

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self._keys = rng.integers(0, 2**64, size=n, dtype=np.uint64, endpoint=False)
        self._salt = rng.integers(0, 2**64, dtype=np.uint64, endpoint=False)

    def at(self, bits: np.ndarray) -> CentredUniform:
        """Centre the classifier at the string ``bits``, (n,) of 0 and 1."""
        start = np.bitwise_xor.reduce(self._keys[bits.astype(bool)], initial=self._salt)
        return CentredUniform(self._keys, start)


class CentredUniform:
    """A uniform classifier seen from a start string; states are (B,) hashes."""

    def __init__(self, keys: np.ndarray, start: np.uint64) -> None:
        self.n, self._keys = len(keys), keys
        self.root = np.array([start], np.uint64)

    def flip(self, states: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """See :class:`Centred`."""
        return np.asarray(states ^ self._keys[bits])

    unflip = flip

    def path(self, state: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """See :class:`Centred`."""
        return np.asarray(np.bitwise_xor.accumulate(self._keys[bits]) ^ state)

    def outputs(self, states: np.ndarray) -> np.ndarray:
        """See :class:`Centred`; outputs are +1 and -1."""
        with np.errstate(over="ignore"):
            h = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.where((h >> np.uint64(63)) != 0, 1.0, -1.0).astype(np.float32)

    def effects(self, states: np.ndarray) -> np.ndarray:
        """No bit is more promising than another."""
        return np.zeros((len(states), self.n), np.float32)


def activation(network: Network) -> Callable[[np.ndarray], np.ndarray]:
    """The activation as a float32 numpy function; raises as :func:`array_function` does."""
    function = array_function(network)
    if entry_of(network) is not None:
        return function
    return lambda z: np.asarray(function(z.astype(np.float64)), np.float32)
