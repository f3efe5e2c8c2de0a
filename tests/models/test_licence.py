import json
import logging
from pathlib import Path

import pytest
import torch

from remind.models import CausalVideoDiT, DiTConfig, load_checkpoint
from remind.models.checkpoint import load_run, save_checkpoint
from remind.models.licence import UNSTATED, checkpoint_licence


def test_a_model_card_states_it(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlibrary: x\nlicense: apache-2.0\n---\n# A model\nlicense: mit\n")
    assert checkpoint_licence(tmp_path) == "apache-2.0"


def test_a_card_without_front_matter_states_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A model\nlicense: mit\n")
    assert checkpoint_licence(tmp_path) == UNSTATED


def test_a_licence_file_is_named_by_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("\n   Some Licence 1.0\nThe rest\n")
    (tmp_path / "w.safetensors").touch()
    assert checkpoint_licence(tmp_path / "w.safetensors") == "Some Licence 1.0 (LICENSE)"


def test_a_transformer_folder_has_the_licence_of_its_pipeline(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "README.md").write_text("---\r\nlicense: cc-by-nc-4.0\r\n---\r\n")
    (tmp_path / "transformer").mkdir()
    assert checkpoint_licence(tmp_path / "transformer") == "cc-by-nc-4.0"
    (tmp_path / "model_index.json").unlink()
    assert checkpoint_licence(tmp_path / "transformer") == UNSTATED


@pytest.mark.parametrize("content", [b"\xff\xfe---\nlicense: \x1b[31mred", b"---\nlicense: \n---", b"", b"{"])
def test_hostile_and_empty_files_state_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "README.md").write_bytes(content)
    (tmp_path / "config.json").write_bytes(content)
    assert checkpoint_licence(tmp_path) == UNSTATED


def test_no_terminal_codes_and_no_novels_come_through(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: \x1b[31mred" + "d" * 1000 + "\n---\n")
    found = checkpoint_licence(tmp_path)
    assert "\x1b" not in found
    assert len(found) <= 200


def test_both_loaders_say_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = DiTConfig(dim=24, ffn_dim=48, num_heads=2, num_layers=1, freq_dim=16, text_dim=8, text_len=4)
    torch.manual_seed(0)
    save_checkpoint(tmp_path, config, CausalVideoDiT(config).state_dict(), {"licence": "CC0-1.0"})
    assert json.loads((tmp_path / "config.json").read_text())["licence"] == "CC0-1.0"
    with caplog.at_level(logging.INFO, logger="remind"):
        load_run(tmp_path)
        load_checkpoint(tmp_path)
    assert [r.getMessage() for r in caplog.records if "licence" in r.getMessage()] == [
        f"{tmp_path}: licence: CC0-1.0"] * 2
