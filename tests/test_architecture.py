"""The import rule of docs/architecture.md, held by import-linter, and other promises about the folders."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import remind

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "remind"


def test_rooms_import_downwards_only() -> None:
    """As `make lint` does it; its output names the forbidden import and the path to it."""
    code = "import importlinter.cli as c, sys; sys.exit(c.lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_no_room_for_odds_and_ends() -> None:
    assert [p for p in SOURCE.rglob("*.py") if p.stem in ("utils", "util", "helpers", "common", "misc")] == []


def _environment_readers() -> list[Path]:
    return [p for p in SOURCE.rglob("*.py") if re.search(r"os\.environ|getenv", p.read_text())]


def test_from_models_down_nothing_reads_the_environment() -> None:
    low = ("errors", "clip", "geometry", "frame_graph", "flow", "sequence_plan", "models", "world")
    rooms = [p.relative_to(SOURCE).parts[0].removesuffix(".py") for p in _environment_readers()]
    assert set(rooms) & set(low) == set()


def test_every_module_says_what_it_is() -> None:
    texts = {path: path.read_text() for path in SOURCE.rglob("*.py")}
    silent = [p for p, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))]
    assert silent == []


def test_every_room_is_a_package() -> None:
    """A folder without __init__.py imports by accident and is missed by tools."""
    rooms = {path.parent for path in SOURCE.rglob("*.py")}
    assert [room for room in rooms if not (room / "__init__.py").is_file()] == []


def test_docs_name_no_file_that_is_not_there() -> None:
    """Paths in backticks from a top-level folder on must exist, but on a line that says `planned`."""
    tops = ("src/", "tests/", "docs/", "benchmarks/", "experiments/")
    missing = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for quoted in line.split("`")[1::2]:
                name = quoted.split("::")[0]
                a_path = name.startswith(tops) and not set(name) & set(" *<{")
                if a_path and "planned" not in line:
                    missing += [] if (ROOT / name).exists() else [f"{page.name}:{number}: {name}"]
    assert missing == []


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert remind.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version} " in (ROOT / "CHANGELOG.md").read_text()
