"""Networks from elsewhere as parameters: names, order, stacking, files; and every refusal."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import simprior as sp
from simprior.errors import InputError
from simprior.network.parameters import Parameters
from simprior.network.states import flat_parameters, read_safetensors, read_states

NET = sp.Network(n=4, hidden=(5, 3))
SIZE = 5 * 5 + 6 * 3 + 4
DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16"}


def mlp(seed: int = 0, hidden: tuple[int, ...] = (5, 3), activation: Any = nn.ReLU) -> nn.Module:
    """A network of torch, with its own initial weights."""
    torch.manual_seed(seed)
    widths = [4, *hidden]
    layers: list[nn.Module] = []
    for fan_in, width in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, width), activation()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], metadata: Any = None) -> Path:
    """A file of the format, written from its description (independent of the reader)."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        offsets = [len(data), len(data) + array.nbytes]
        kind = DTYPES.get(str(array.dtype), "I64")
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def expected(module: nn.Module) -> np.ndarray:
    parts = []
    for name, tensor in module.state_dict().items():
        parts.append((tensor.T if name.endswith("weight") else tensor).numpy().ravel())
    return np.concatenate(parts).astype(np.float64)


def test_every_form_gives_the_same_parameters(tmp_path: Path) -> None:
    model = mlp()
    flat = expected(model)[None]
    assert flat.shape == (1, SIZE)
    file = write_safetensors(tmp_path / "a.safetensors", arrays(model), {"format": "pt"})
    torch.save(model.state_dict(), tmp_path / "a.pt")
    own = Parameters.from_flat(flat[0].astype(np.float32), NET)
    for form in (model, model.state_dict(), arrays(model), own, file, str(tmp_path / "a.pt")):
        assert np.array_equal(flat_parameters(form, NET), flat), type(form)


def test_the_flat_layout_computes_what_torch_computes() -> None:
    from simprior.analysis.flatness.ensemble import Ensemble

    model = mlp(3).double()
    X = torch.from_numpy(sp.boolean.truthtable.input_matrix(NET))
    ensemble = Ensemble(
        torch.from_numpy(flat_parameters(model, NET)), NET, X[:2], torch.zeros(2), "ce"
    )
    with torch.no_grad():
        assert ensemble.outputs(X)[0].numpy() == pytest.approx(model(X)[:, 0].numpy(), abs=1e-12)


def test_several_networks_by_list_by_stack_and_by_files(tmp_path: Path) -> None:
    models = [mlp(seed) for seed in range(3)]
    flat = np.stack([expected(model) for model in models])
    stacked = {
        name: np.stack([arrays(model)[name] for model in models]) for name in arrays(models[0])
    }
    file = write_safetensors(tmp_path / "stacked.safetensors", stacked)
    torch.save([model.state_dict() for model in models], tmp_path / "list.pt")
    pair = [write_safetensors(tmp_path / "one.safetensors", arrays(models[0])), tmp_path / "two.pt"]
    torch.save({k: torch.from_numpy(v[1:]) for k, v in stacked.items()}, pair[1])
    for form in (models, stacked, file, tmp_path / "list.pt", pair):
        assert np.array_equal(flat_parameters(form, NET), flat)


def test_layers_are_ordered_by_number_and_by_shape(tmp_path: Path) -> None:
    deep = sp.Network(n=4, hidden=(5,) * 11)
    model = mlp(1, (5,) * 11)  # its layers are called 0, 2, ..., 22: as text 10 precedes 2
    file = write_safetensors(tmp_path / "deep.safetensors", arrays(model))
    assert np.array_equal(flat_parameters(file, deep)[0], expected(model))
    plain = mlp(2)
    names = {"0": "hidden.a", "2": "hidden.b", "4": "head"}  # head comes first in a sorted file
    state = {names[k[0]] + k[1:]: v for k, v in arrays(plain).items()}
    file = write_safetensors(tmp_path / "named.safetensors", state)
    assert np.array_equal(flat_parameters(file, NET)[0], expected(plain))


def test_bfloat16_and_half_precision(tmp_path: Path) -> None:
    model = mlp(4).half()
    file = write_safetensors(tmp_path / "half.safetensors", arrays(model))
    assert np.array_equal(flat_parameters(file, NET)[0], expected(model))
    value = torch.tensor([1.5, -3.25, 1e-30], dtype=torch.bfloat16)
    raw = value.view(torch.int16).numpy().tobytes()
    header = json.dumps({"x": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    path = tmp_path / "b.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw)
    assert read_safetensors(path)["x"].tolist() == value.double().tolist()


def test_files_of_the_reference_implementation(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.torch")
    model = mlp(5)
    reference.save_file(model.state_dict(), tmp_path / "r.safetensors", {"format": "pt"})
    assert np.array_equal(flat_parameters(tmp_path / "r.safetensors", NET)[0], expected(model))


WRONG = {
    "first layer": (mlp(0, (6, 3)), r"layer 1 .*0\.weight\) of shape \(6, 4\)", r"\(5, 4\)"),
    "second layer": (mlp(0, (5, 4)), r"layer 2 .*2\.weight\) of shape \(4, 5\)", r"\(3, 5\)"),
    "too deep": (mlp(0, (5, 3, 3)), r"layer 3 .*4\.weight\) of shape \(3, 3\)", r"\(1, 3\)"),
    "too shallow": (mlp(0, (5,)), r"layer 2 .*2\.weight\) of shape \(1, 5\)", r"\(3, 5\)"),
    "normalised": (
        nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)),
        "running_mean",
        "affine layers",
    ),
    "no bias": (nn.Sequential(nn.Linear(4, 5, bias=False)), "without a bias", "bias of zeros"),
    "empty": ([], r"networks=\[\]", "at least one"),
    "a number": (3, "networks=3", "torch modules"),
    "an empty state": ({}, "0 layers", "3, as in"),
    "text": ("model.onnx", "model.onnx", "safetensors"),
    "integers": ({"0.weight": np.zeros((5, 4), int)}, "int64", "floating point"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named_in_one_line(name: str) -> None:
    given, found, wanted = WRONG[name]
    with pytest.raises(InputError, match=f"{found}.*{wanted}") as error:
        flat_parameters(given, NET)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_stacks_of_different_lengths_and_weights_that_are_not_finite() -> None:
    state = {name: value[None] for name, value in arrays(mlp()).items()}
    state["4.weight"], state["4.bias"] = np.zeros((2, 1, 3)), np.zeros((2, 1))
    with pytest.raises(InputError, match="1 and 2 networks"):
        flat_parameters(state, NET)
    state = arrays(mlp())
    state["0.bias"] = np.full(5, np.nan)
    with pytest.raises(InputError, match="not finite"):
        flat_parameters([state], NET)


def test_a_module_with_another_activation_or_scale_is_refused() -> None:
    with pytest.raises(InputError, match=r"networks\[1\], whose outputs .* relu 4-5-3-1"):
        flat_parameters([mlp(0), mlp(0, activation=nn.Tanh)], NET)
    assert flat_parameters(mlp(0, activation=nn.Tanh), sp.Network(4, (5, 3), "tanh")).any()

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) / 3

    with pytest.raises(InputError, match="whose outputs"):
        flat_parameters(Scaled(), NET)
    layers = nn.ModuleList([layer for layer in mlp() if isinstance(layer, nn.Linear)])
    assert flat_parameters(layers, NET).shape == (1, SIZE)  # it cannot be called: not checked


def test_a_module_is_left_as_it_was() -> None:
    model = nn.Sequential(*mlp(), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flat_parameters(model, NET)  # dropout is off while its outputs are compared
    assert model.training and model[-1].training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class Evil:
    """What a pickle would run on loading."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("touched"),))


def test_no_code_of_a_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": Evil()}, "evil.pt")
    torch.save(mlp(), "module.pt")
    for file in ("evil.pt", "module.pt"):
        with pytest.raises(InputError, match=f"{file}, which cannot be read") as error:
            read_states(file)
        assert "\n" not in str(error.value)
    assert not Path("touched").exists()
    torch.save(torch.zeros(3), "tensor.pt")
    with pytest.raises(InputError, match="which holds Tensor of shape"):
        read_states("tensor.pt")


def damaged(content: bytes) -> dict[str, bytes]:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    first = next(iter(header))

    def with_entry(**change: Any) -> bytes:
        text = json.dumps({**header, first: {**header[first], **change}}).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + length :]

    twice = b'{"a": {}, "a": {}}'
    return {
        "empty": b"",
        "short": content[:5],
        "cut": content[:-1],
        "cut in the header": content[:20],
        "length": (2**60).to_bytes(8, "little") + content[8:],
        "no json": content[:8] + b"x" * length + content[8 + length :],
        "a list": (2).to_bytes(8, "little") + b"[]",
        "twice": len(twice).to_bytes(8, "little") + twice,
        "dtype": with_entry(dtype="I64"),
        "shape": with_entry(shape=[2, 2]),
        "negative": with_entry(shape=[-5]),
        "huge": with_entry(shape=[2**62, 4]),
        "offsets": with_entry(data_offsets=[10**9, 10**9 + 20]),
        "no offsets": with_entry(data_offsets=None),
        "a text": with_entry(shape="5"),
    }


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", arrays(mlp()))
    for name, content in damaged(path.read_bytes()).items():
        path.write_bytes(content)
        with pytest.raises(InputError, match="which cannot be read") as error:
            read_safetensors(path)
        assert "\n" not in str(error.value), name
    with pytest.raises(InputError, match="No such file"):
        read_safetensors(tmp_path / "none.safetensors")
