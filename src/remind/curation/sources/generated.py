"""Clips from a video generator: run any command that turns a prompt file into mp4s, and list what it made.

The contract: the command gets a prompt file (JSON lines, see `generator_prompts.Prompt`) and a folder, and writes
`<folder>/<prompt_id>.mp4` for every line. A folder of clips belongs to one generator, named in its `generator.json`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.curation.generator_prompts import Prompt, read_prompts, save_prompts
from remind.curation.item import FileMedia, SourceItem
from remind.curation.outside_command import CommandEnd, run_command
from remind.data.video_io import decode
from remind.errors import InputError, VideoError

_INFO, _WORK, _REJECTED = "generator.json", ".generating", "rejected"
Text = Annotated[str, Field(max_length=2000)]


class Generator(BaseModel):
    """Who made a folder of clips, and on what terms.

    Args:
        name: e.g. `helios`.
        version: of the weights or the service.
        url, licence, permission: where it is, the terms of its output, a permission that was given; empty if unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    version: Text = ""
    url: Text = ""
    licence: Text = ""
    permission: Text = ""


@dataclass(frozen=True)
class GenerationReport:
    """What came of a run; every prompt is in `already`, `made`, `damaged` or `missing`.

    Args:
        already: prompt ids whose clip was there before.
        made: prompt ids whose clip was read to its end and accepted; also clips that a killed run had left.
        damaged: prompt ids whose file is no whole video, with the reason; the file is in `rejected/`.
        missing: prompt ids without a file.
        extra: files that no prompt asked for; what the command wrote is in `rejected/`, the rest is left alone.
        end: how the command ended; None if there was nothing to ask for.
    """

    already: tuple[str, ...]
    made: tuple[str, ...]
    damaged: dict[str, str]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    end: CommandEnd | None

    @property
    def complete(self) -> bool:
        """Every prompt has its clip."""
        return not (self.missing or self.damaged)

    def summary(self) -> str:
        """In one line: `3 made, 1 missing; the command ended with 1: out of memory`."""
        counts = {"already there": self.already, "damaged": self.damaged, "missing": self.missing, "extra": self.extra}
        line = ", ".join([f"{len(self.made)} made", *(f"{len(ids)} {name}" for name, ids in counts.items() if ids)])
        if self.end is None or not (self.end.timed_out or self.end.exit_code):
            return line
        how = "ran out of time" if self.end.timed_out else f"ended with {self.end.exit_code}"
        last = self.end.log_tail.splitlines()[-1:]
        return f"{line}; the command {how}" + "".join(f": {text[:200]}" for text in last)


def run_generator(command: Sequence[str], prompts: Path, out_dir: Path, timeout_s: float, *,
                  generator: Generator) -> GenerationReport:  # fmt: skip
    """Have a command make the clips that are not there yet.

    The command writes into a folder of its own. When it has ended, well or badly, every clip that can be read to its
    last frame is moved to `<out_dir>/<prompt_id>.mp4`: a clip that is there is whole, whoever was killed when. Whole
    clips of a run that was killed are taken over by the next one and not asked for again.

    Args:
        command: program and arguments, run without a shell; `{prompts}` and `{out}` in them are replaced by paths.
        prompts: a prompt file.
        out_dir: made if missing; its parent must exist.
        timeout_s: for the whole run, > 0; then the command and all it started are ended.
        generator: what is run; a folder with another generator's clips is refused.

    Raises:
        InputError: a command that cannot be started or lacks a placeholder, a bad prompt file, a folder that cannot be
            written, is another generator's or is in use by another run.
    """
    _check_placeholders(command)
    wanted = read_prompts(prompts)
    declare_generator(out_dir, generator)
    work = out_dir / _WORK
    clips = work / "clips"
    with _folder_errors(out_dir):
        clips.mkdir(parents=True, exist_ok=True)
        with _only_run_in(work) as lock:
            already = [p.prompt_id for p in wanted if _clip_path(out_dir, p).is_file()]
            left = _collect(clips, wanted, out_dir)  # by a run that was killed
            asked = [p for p in wanted if p.prompt_id not in {*already, *left.made}]
            end, new = None, _Collected((), {}, ())
            if asked:
                save_prompts(asked, work / "prompts.jsonl")
                places = {"{prompts}": (work / "prompts.jsonl").resolve(), "{out}": clips.resolve()}
                filled = [re.sub(r"\{prompts\}|\{out\}", lambda m: str(places[m[0]]), part) for part in command]
                # The command holds the lock too: should it outlive us, no other run writes beside it.
                end = run_command(filled, work / "generator.log", timeout_s, keep_open=(lock,))
                new = _collect(clips, wanted, out_dir)
    made = (*left.made, *new.made)
    there = {*already, *made}
    damaged = {key: reason for key, reason in (left.damaged | new.damaged).items() if key not in there}
    missing = tuple(p.prompt_id for p in wanted if p.prompt_id not in there | damaged.keys())
    extra = tuple(sorted({*left.extra, *new.extra, *_strays(out_dir, wanted)}))
    return GenerationReport(tuple(already), made, damaged, missing, extra, end)


def declare_generator(out_dir: Path, generator: Generator) -> None:
    """Say whose clips a folder holds: `run_generator` does it, and for clips made elsewhere you do.

    Raises:
        InputError: the folder is another generator's or cannot be written.
    """
    with _folder_errors(out_dir):
        out_dir.mkdir(exist_ok=True)
        path = out_dir / _INFO
        if path.exists():
            if (old := read_generator(out_dir)) != generator:
                raise InputError("the folder holds clips of another generator, version or licence", got=out_dir,
                                 expected=old.model_dump_json(), fix="choose another folder")  # fmt: skip
            return
        temporary = path.with_name(f".{_INFO}.{os.getpid()}.part")
        temporary.write_text(json.dumps(generator.model_dump(), indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)


def read_generator(out_dir: Path) -> Generator:
    """Whose clips a folder holds.

    Raises:
        InputError: the folder does not say, or not in a way that can be read.
    """
    path = out_dir / _INFO
    try:
        return Generator.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError("the folder does not say which generator made its clips", got=f"{path}: {error.strerror}",
                         fix="run the generator through ReMind, or call declare_generator") from None  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path.name}: not as expected",
                         got=f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}") from None  # fmt: skip


@dataclass(frozen=True)
class GeneratedSource:
    """The clips of a prompt file, made by a generator.

    Args:
        out_dir: folder of `<prompt_id>.mp4` and `generator.json`.
        prompts: the prompt file they were made from.
    """

    out_dir: Path
    prompts: Path
    name: str = "generated"

    def items(self) -> Iterator[SourceItem]:
        """Every prompt's clip in the order of the file; one that is missing is listed, and fails when it is read.

        Raises:
            InputError: no folder, no `generator.json`, a bad prompt file, or clips that no prompt asked for.
        """
        wanted, generator = read_prompts(self.prompts), read_generator(self.out_dir)
        if strays := _strays(self.out_dir, wanted):
            raise InputError("clips that no prompt asked for", got=f"{len(strays)}, the first {strays[0]}",
                             expected="<prompt_id>.mp4 alone",
                             fix="rename or remove them, or give the prompts they were made from")  # fmt: skip
        for prompt in wanted:
            yield SourceItem(
                item_id=f"{prompt.prompt_id}.mp4",
                source=self.name,
                media=FileMedia(str(_clip_path(self.out_dir, prompt))),
                caption=prompt.prompt,
                tags=(prompt.event_type,),
                url=generator.url,
                author=generator.name,
                licence=generator.licence,
                permission=generator.permission,
                facts={"generator": generator.name, "generator_version": generator.version,
                       "prompt_id": prompt.prompt_id, "prompt": prompt.prompt, "seed": prompt.seed},
            )  # fmt: skip


@dataclass(frozen=True)
class _Collected:
    made: tuple[str, ...]
    damaged: dict[str, str]
    extra: tuple[str, ...]


def _collect(clips: Path, wanted: Sequence[Prompt], out_dir: Path) -> _Collected:
    """Move whole clips to their place and everything else to `rejected/`."""
    ids = {f"{p.prompt_id}.mp4": p.prompt_id for p in wanted}
    made, damaged, extra = [], {}, []
    for path in sorted(clips.iterdir()):
        if path.name not in ids:
            extra.append(path.name)
        elif (reason := _why_not_whole(path)) is not None:
            damaged[ids[path.name]] = reason
        else:
            os.replace(path, out_dir / path.name)
            made.append(ids[path.name])
            continue
        _reject(path, out_dir / _REJECTED)
    return _Collected(tuple(made), damaged, tuple(extra))


def _why_not_whole(path: Path) -> str | None:
    if not stat.S_ISREG(path.lstat().st_mode):
        return "not a plain file"
    try:
        frames = sum(1 for _ in decode(path))
    except VideoError as error:
        return str(error)
    return None if frames > 1 else f"{frames} frames"


def _reject(path: Path, folder: Path) -> None:
    """What lies there under the same name gives way."""
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    os.replace(path, target)


def _strays(out_dir: Path, wanted: Sequence[Prompt]) -> list[str]:
    """mp4s in the folder itself that no prompt asked for."""
    names = {f"{p.prompt_id}.mp4" for p in wanted}
    with _folder_errors(out_dir):
        return sorted(p.name for p in out_dir.iterdir() if p.suffix.lower() == ".mp4" and p.name not in names)


def _clip_path(out_dir: Path, prompt: Prompt) -> Path:
    return out_dir / f"{prompt.prompt_id}.mp4"


def _check_placeholders(command: Sequence[str]) -> None:
    for placeholder in ("{prompts}", "{out}"):
        if isinstance(command, str) or not any(placeholder in part for part in command):
            raise InputError(f"the command must be a list of program and arguments with {placeholder}",
                             got=repr(command), expected='e.g. ["python", "generate.py", "{prompts}", "{out}"]',
                             fix="say where the prompt file and the output folder go")  # fmt: skip


@contextmanager
def _only_run_in(work: Path) -> Iterator[int]:
    """Hold the folder's lock; gives its file descriptor."""
    with (work / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("a generator is at work in this folder", got=work.parent,
                             fix="wait for it, or end it") from None  # fmt: skip
        yield lock.fileno()


@contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError("the folder of generated clips cannot be used", got=f"{folder}: {error.strerror}",
                         expected="one that can be read and written, with a parent that exists") from None  # fmt: skip
