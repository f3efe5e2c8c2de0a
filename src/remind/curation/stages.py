"""The stages between a video and a clip: what each depends on, gives and costs, and how a result is found again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from remind.curation.estimators.contract import EstimatorSetupError
from remind.curation.ledger import Result, result_key
from remind.curation.window_annotation import Unanswered
from remind.errors import RemindError, StoreError

Cost = Literal["none", "decode", "encode", "network", "model"]


@runtime_checkable
class StageOptions(Protocol):
    """Options of a build: those that a stage depends on are part of its key."""

    def of(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Some fields, as plain JSON values."""
        ...


@dataclass(frozen=True)
class Stage:
    """A pure function of its inputs and some options.

    Args:
        name: in the ledger and the report.
        version: raise it when its code gives other results.
        inputs, outputs: in words.
        options: fields of the build's options that it depends on.
        cost: what it spends most of.
        retry_safe: running it again costs nothing but time: no request that is paid for or counted.
    """

    name: str
    version: int
    inputs: str
    outputs: str
    options: tuple[str, ...] = ()
    cost: Cost = "none"
    retry_safe: bool = True


FETCH = Stage("fetch", 1, "a source item", "a local file and its sha256", ("limits",), "network", retry_safe=False)
SCAN = Stage("scan", 3, "a file", "windows within shots, and what moves in each",
             ("hw", "num_frames", "fps", "cut_detector", "cut_threshold", "limits"), "decode")  # fmt: skip
ENCODE = Stage("encode", 2, "a window", "rgb.mp4", ("hw", "num_frames", "fps", "crf"), "encode")
ANNOTATE = Stage("annotate", 1, "a window", "what a VLM says of it", ("vlm",), "model", retry_safe=False)
CAMERAS = Stage("cameras", 2, "a window and its source's cameras", "cameras and depth, or why there are none",
                ("hw", "num_frames", "fps", "cameras", "camera_command", "check_cameras"), "model")  # fmt: skip
INTERRUPT = Stage("interrupt", 1, "a window's place in its file, its cameras", "a recipe",
                  ("hw", "view_hw", "num_frames", "interruptions", "seed"))  # fmt: skip
PACK = Stage("pack", 1, "all of the above", "the clip's files", ("crf",))
STAGES: tuple[Stage, ...] = (FETCH, SCAN, ENCODE, ANNOTATE, CAMERAS, INTERRUPT, PACK)
"""In order. Dropping by thresholds is no stage: it is decided anew each time, from the numbers of SCAN and ANNOTATE."""


class Failed(Exception):
    """A stage could not do its work on one unit: quarantined with its reason, the run goes on."""

    def __init__(self, stage: str, unit: str, reason: str):
        super().__init__(f"{stage}: {unit}: {reason}")
        self.stage, self.unit, self.reason = stage, unit, reason


class Memo:
    """Runs stages for one item, taking what the ledger knows already; `new` is what it does not know yet."""

    def __init__(self, item: str, options: StageOptions, tools: dict[str, str], known: Sequence[Result]):
        self.item, self.options, self.tools = item, options, tools
        self._known = {(r.stage, r.key): r for r in known}
        self.new: list[Result] = []

    def run(
        self,
        stage: Stage,
        unit: str,
        inputs: Any,
        compute: Callable[[], Any],
        still_there: Callable[[Any], bool] = lambda payload: True,
    ) -> Any:
        """The stage's payload (plain JSON) for these inputs.

        Args:
            unit: for people: the item, or a window of it.
            inputs: JSON of everything beside the options that decides the result.
            compute: does the work.
            still_there: whether what a known payload points at exists yet.

        Raises:
            Failed: it raised a RemindError, now or in an earlier run.
        """
        key = self.key(stage, inputs)
        known = self._known.get((stage.name, key))
        if known is not None and known.status == "failed":
            raise Failed(stage.name, unit, str(known.payload))
        if known is not None and still_there(known.payload):
            return known.payload
        start = time.perf_counter()
        try:
            payload, status = compute(), "ok"
        except (StoreError, EstimatorSetupError, MemoryError):
            raise  # a full disk or a missing tool is no fault of the item's
        except Unanswered as error:  # nor is a silent server: not written down, so that the next run asks again
            raise Failed(stage.name, unit, str(error)) from None
        except RemindError as error:
            payload, status = str(error), "failed"
        result = Result(stage.name, key, self.item, unit, status, payload, time.perf_counter() - start)  # type: ignore[arg-type]
        self.put(result)
        if status == "failed":
            raise Failed(stage.name, unit, str(payload))
        return payload

    def put(self, result: Result) -> None:
        self.new.append(result)
        self._known[result.stage, result.key] = result

    def key(self, stage: Stage, inputs: Any) -> str:
        tools = self.tools if stage.cost in ("decode", "encode") else {}
        return result_key(stage.name, stage.version, {**self.options.of(stage.options), **tools}, [self.item, inputs])
