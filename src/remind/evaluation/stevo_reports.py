"""Official STEVO-Bench report folders: reading anyone's, and writing ours.

    FOLDER/per_task/ID/{control,artifact,coherence,se}_report.json, or KIND_report__JUDGE.json of later versions
    FOLDER/summary.json

Source: the repository's formats. A field that is null or missing is a task without that metric.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remind.errors import InputError
from remind.evaluation.eval_run import EvalRun, Record, read_json, write_json
from remind.evaluation.judge_calls import FAILED
from remind.evaluation.stevo_questions import METRICS, Metric
from remind.evaluation.stevo_tasks import StevoCase

_FIELDS: dict[Metric, tuple[str, str]] = {
    "state_progress": ("se", "state_evol"), "plausibility": ("artifact", "artifact"),
    "coherence": ("coherence", "coherence"), "observation_control": ("control", "occlusion_done"),
    "action_control": ("control", "trigger_applied"),
}  # fmt: skip
_VOTES: dict[Metric, tuple[str, str]] = {
    "state_progress": ("responses", "state_evol"), "plausibility": ("responses", "artifact"),
    "coherence": ("responses", "coherence"), "observation_control": ("occlusion_responses", "occlusion_done"),
    "action_control": ("trigger_responses", "trigger_applied"),
}  # fmt: skip


def reports_sha256(folder: Path) -> str:
    """Of all report files of a folder.

    Raises:
        InputError: no reports there.
    """
    files = sorted((folder / "per_task").glob("*/*_report*.json"))
    if not files:
        raise InputError("no official reports are there", got=folder, expected="FOLDER/per_task/ID/*_report.json")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def import_reports(run: EvalRun, cases: Sequence[StevoCase], folder: Path, *, judge: str = "") -> tuple[str, ...]:
    """A record for each task from official reports.

    Args:
        judge: of later versions, the name in KIND_report__JUDGE.json; needed where there are several.

    Returns:
        Tasks with reports that the task folder does not have.

    Raises:
        InputError: no reports, or several judges'.
    """
    per_task = folder / "per_task"
    there = {path.name for path in per_task.iterdir() if path.is_dir()} if per_task.is_dir() else set()
    if not there:
        raise InputError("no official reports are there", got=folder, expected="FOLDER/per_task/ID/*_report.json")
    for case in cases:
        about: dict[str, Any] = {"task": case.task.id, "level": case.task.level, "category": case.task.category,
                 "distractor": case.distractor, "protocol": case.protocol, "prompt": case.prompt}  # fmt: skip
        if case.id not in there:
            run.write(Record(case.id, "failed", {}, about, "missing"))
            continue
        found, problem = _reports(per_task / case.id, judge)
        if problem:
            run.write(Record(case.id, "failed", {}, about | {"why": problem}, "damaged report"))
            continue
        scores: dict[str, Any] = {metric: _value(metric, found) for metric in METRICS}
        votes = {metric: _said(metric, found) for metric in METRICS}
        about = about | {"votes": {metric: list(said) for metric, said in votes.items() if said},
                  "video": str(found.get("control", found.get("se", {})).get("wm_video", "")),
                  "judge": str(next(iter(found.values()), {}).get("model", ""))}  # fmt: skip
        if all(scores[metric] is None for metric in METRICS):
            run.write(Record(case.id, "failed", {}, about, "not judged"))
            continue
        scores |= {"asked_votes": sum(map(len, votes.values())), FAILED: 0, "triggered": bool(case.trigger)}
        run.write(Record(case.id, "scored", scores, about))
    return tuple(sorted(there - {case.id for case in cases}))


def _reports(folder: Path, judge: str) -> tuple[dict[str, dict[str, Any]], str]:
    """A task's reports by kind, or what is wrong with one."""
    found: dict[str, dict[str, Any]] = {}
    for kind in sorted({kind for kind, _ in _FIELDS.values()}):
        plain = folder / f"{kind}_report.json"
        tagged = sorted(folder.glob(f"{kind}_report__{judge or '*'}.json"))
        if not plain.exists() and len(tagged) > 1:
            raise InputError("reports of several judges are there", got=[path.stem for path in tagged],
                             fix="name one with --report-judge")  # fmt: skip
        path = plain if plain.exists() and not judge else next(iter(tagged), plain)
        if not path.exists():
            continue
        try:
            found[kind] = read_json(path)
        except InputError as error:
            return {}, str(error)
    return found, ""


def _value(metric: Metric, found: Mapping[str, Mapping[str, Any]]) -> bool | None:
    kind, field = _FIELDS[metric]
    value = found.get(kind, {}).get(field)
    if not isinstance(value, bool):
        return None
    return not value if metric == "plausibility" else value


def _said(metric: Metric, found: Mapping[str, Mapping[str, Any]]) -> tuple[bool, ...]:
    name, field = _VOTES[metric]
    responses = found.get(_FIELDS[metric][0], {}).get(name)
    said = [item.get(field) for item in responses if isinstance(item, dict)] if isinstance(responses, list) else []
    return tuple(value != (metric == "plausibility") for value in said if isinstance(value, bool))


def write_reports(folder: Path, records: Mapping[str, Record]) -> None:
    """Our verdicts as official reports, so that their summary and human evaluation can read them.

    A metric without a verdict is left out of its report, as theirs are before judging.
    """
    tasks = []
    for name, record in records.items():
        if record.status != "scored":
            continue
        tasks.append({"task_id": name, "task_level": record.about.get("level")})
        for kind in sorted({kind for kind, _ in _FIELDS.values()}):
            report: dict[str, Any] = {"task_id": name, "provider": "remind", "model": record.about.get("judge", ""),
                                      "wm_video": record.about.get("video", ""), "notes": ""}  # fmt: skip
            for metric in (metric for metric in METRICS if _FIELDS[metric][0] == kind):
                value, field = record.scores.get(metric), _FIELDS[metric][1]
                flipped = metric == "plausibility"
                report[field] = None if value is None else value != flipped
                said = record.about.get("votes", {}).get(metric, [])
                report[_VOTES[metric][0]] = [{field: vote != flipped} for vote in said if vote is not None]
                tasks[-1][field] = report[field]
            write_json(folder / "per_task" / name / f"{kind}_report.json", report)
    write_json(folder / "summary.json", {"num_tasks": len(tasks), "overall": {}, "by_level": {}, "tasks": tasks})
