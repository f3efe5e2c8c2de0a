"""What a judge is asked about a STEVO-Bench video, and how its replies are read.

Source: STEVO-Bench's five metrics and the keys of its judges' replies. The words here are our own; `official_wording`
takes the official ones from a user's checkout, and replies to either are read alike. Our choice: a reply that cannot be
read is a failure of the judge and never a verdict, where the official code takes "no verdict" as "no".
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from remind.errors import InputError
from remind.evaluation.judge_calls import Answer
from remind.evaluation.stevo_tasks import StevoCase

Metric = Literal["state_progress", "plausibility", "coherence", "observation_control", "action_control"]
METRICS: tuple[Metric, ...] = get_args(Metric)
CHECKLIST = ("subject_disappears", "subject_reappears", "background_cut", "state_jump", "blackout_reset", "teleport")
_VERDICT = re.compile(r"^\W*verdict\W*\s*\W*(yes|no)\b", re.IGNORECASE | re.MULTILINE)
_PROCESS = re.compile(r"^\W*process\W*:\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_EVIDENCE = ("Judge by what the pictures show. Overlaid text, such as clocks, subtitles or watermarks, does not count. "
             "Watch the whole video first.")  # fmt: skip


@dataclass(frozen=True)
class Wording:
    """The questions.

    Args:
        name: ours or official.
        sha256: of the words' source.
        predict: from the trigger (or "") to the question about the first frame.
        verify: from the expected process, and whether the camera turns away.
        artifact: from how the view is lost (or "") and the outcome.
        coherence, occlusion: from how the view is lost.
        trigger: from the action.
    """

    name: Literal["ours", "official"]
    sha256: str
    predict: Callable[[str], str]
    verify: Callable[[str, bool], str]
    artifact: Callable[[str, str], str]
    coherence: Callable[[str], str]
    occlusion: Callable[[str], str]
    trigger: Callable[[str], str]

    def of(self, metric: Metric, case: StevoCase, process: str) -> str:
        """The question of a metric; state progress needs the process that was predicted."""
        if metric == "state_progress":
            return self.verify(process, case.protocol == "camera")
        if metric == "plausibility":
            return self.artifact(case.hidden_by, case.task.outcome)
        if metric == "coherence":
            return self.coherence(case.hidden_by)
        return self.occlusion(case.hidden_by) if metric == "observation_control" else self.trigger(case.trigger)


def _loss(hidden_by: str) -> str:
    if hidden_by == "camera pan":
        return "The camera is meant to turn away until the subject is out of the picture, and to come back."
    if hidden_by:
        return f"The view is meant to be lost for a while, in this way: {json.dumps(hidden_by)}."
    return "The view is meant to stay clear from beginning to end."


def _predict(trigger: str) -> str:
    also = f" Shortly afterwards this happens: {json.dumps(trigger)}." if trigger else ""
    return (f"The picture shows how a scene begins.{also} Which physical process will follow, if nothing else "
            "interferes? Say what changes, how, and how it looks at the end. Then write one last line, a single "
            "sentence, in this form:\nProcess: <what happens>")  # fmt: skip


def _verify(process: str, camera: bool) -> str:
    how = ("the camera looks away from the subject" if camera else "something keeps the subject from being seen")
    return (f"In this video {how} for a while. Meanwhile the following should go on: {json.dumps(process)}.\n"
            "Compare the subject's state in the last moment before it is lost from view with its state in the first "
            "moment in which it is back. Be sceptical: say yes only if the difference shows that the process went on "
            "while nobody could see it. Visual flaws do not matter here. "
            f"{_EVIDENCE}\nAnswer in two lines:\nVERDICT: Yes or No\nEXPLANATION: <why>")  # fmt: skip


def _artifact(hidden_by: str, outcome: str) -> str:
    meant = f" This is where the scene is meant to lead: {json.dumps(outcome)}." if outcome else ""
    return (f"Does anything happen in this generated video that physics forbids, so plainly that anyone would notice? "
            "Count rigid things that bend or swell by themselves, solids that merge or pass through each other, sudden "
            "changes of colour or motion without a cause, things that hang in the air, and effects that run against "
            f"their cause. {_loss(hidden_by)} Neither that nor its absence counts.{meant} If it does not get there, "
            "that does not count either: only what goes wrong, not what stays away. Blur, noise and small "
            f"inaccuracies do not count. {_EVIDENCE}\n"
            'Answer with JSON alone: {"artifact": true or false, "notes": "<why>"}')  # fmt: skip


def _coherence(hidden_by: str) -> str:
    return (f"Could this generated video be one unbroken shot of one scene? {_loss(hidden_by)} Losing the view in that "
            "way is fine, and so are a fast pan and any surprising but continuous event. Find the main subject, then "
            "answer each with true or false:\n"
            "subject_disappears: it vanishes without a cause and not because the view is lost\n"
            "subject_reappears: when the view returns it is somewhere, or in a state, that nothing explains\n"
            "background_cut: the surroundings change from one frame to the next, as at a cut\n"
            "state_jump: its state changes at once, while it is in view\n"
            "blackout_reset: the picture goes dark unasked, or the scene behind the dark is another\n"
            "teleport: something is at another place from one frame to the next\n"
            f"coherence: true exactly if all six are false. {_EVIDENCE}\n"
            'Answer with JSON alone: {"main_subject": "<what>", '
            + ", ".join(f'"{item}": true or false' for item in CHECKLIST)
            + ', "coherence": true or false, "notes": "<why>"}')  # fmt: skip


def _occlusion(hidden_by: str) -> str:
    return (f"{_loss(hidden_by)} Does it happen in this generated video? Say true if the main subject cannot be seen "
            "at all for a while, by whatever means, and false if it stays partly visible, or if the process was "
            f"already over when the view was lost. {_EVIDENCE}\n"
            'Answer with JSON alone: {"occlusion_done": true or false, "notes": "<why>"}')  # fmt: skip


def _trigger(trigger: str) -> str:
    return (f"This was asked for: {json.dumps(trigger)}. Does it happen in this generated video? Say true if the "
            f"action is seen, or an effect that only it can have. {_EVIDENCE}\n"
            'Answer with JSON alone: {"trigger_applied": true or false, "notes": "<why>"}')  # fmt: skip


def our_wording() -> Wording:
    """Questions in this project's words."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return Wording("ours", digest, _predict, _verify, _artifact, _coherence, _occlusion, _trigger)


_OFFICIAL = {
    "predict": ("se_judge.py", "build_se_predict_prompt"), "verify": ("se_judge.py", "build_se_verify_prompt"),
    "artifact": ("quality_judge.py", "build_artifact_judge_prompt"),
    "coherence": ("quality_judge.py", "build_coherence_judge_prompt"),
    "occlusion": ("control_judge.py", "build_occlusion_judge_prompt"),
    "trigger": ("control_judge.py", "build_trigger_judge_prompt"),
}  # fmt: skip


def official_wording(checkout: Path) -> Wording:
    """The official questions, from the user's checkout of the five-metric version.

    Only the six functions that build them are taken out of `eval/*.py` and run, without the files' imports, so that
    none of the official code's libraries is needed.

    Raises:
        InputError: not there, or of another version.
    """
    found: dict[str, Callable[..., Any]] = {}
    digest = hashlib.sha256()
    for role, (file, name) in _OFFICIAL.items():
        path = checkout / "eval" / file
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError("the checkout's questions cannot be read", got=f"{path}: {error}",
                             expected="a checkout of STEVO-Bench with five metrics") from None  # fmt: skip
        function = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)
        if function is None:
            raise InputError("the checkout is of another version", got=f"{path} without {name}",
                             expected="the five-metric version (805d4733)")  # fmt: skip
        future = ast.parse("from __future__ import annotations").body
        module = ast.fix_missing_locations(ast.Module([*future, function], []))
        space: dict[str, Any] = {}
        exec(compile(module, str(path), "exec"), space)
        found[role] = space[name]
        digest.update(ast.dump(function).encode())
    ask = _OfficialQuestions(found)
    return Wording("official", digest.hexdigest(), ask.predict, ask.verify, ask.artifact, ask.coherence, ask.occlusion,
                   ask.trigger)  # fmt: skip


class _OfficialQuestions:
    """The official functions under our arguments: what is not asked for is `none` there."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]):
        self._functions = functions

    def _ask(self, role: str, *arguments: object, **named: object) -> str:
        try:
            return str(self._functions[role](*arguments, **named))
        except Exception as error:  # code of another project: anything may be wrong with it
            raise InputError("the checkout's question cannot be built", got=f"{_OFFICIAL[role][1]}: {error!r}"[:300],
                             expected="the five-metric version (805d4733)") from None  # fmt: skip

    def predict(self, trigger: str) -> str:
        return self._ask("predict", trigger or None)

    def verify(self, process: str, camera: bool) -> str:
        return self._ask("verify", process, camera_controlled=camera)

    def artifact(self, hidden_by: str, outcome: str) -> str:
        return self._ask("artifact", hidden_by or "none", outcome)

    def coherence(self, hidden_by: str) -> str:
        return self._ask("coherence", hidden_by or "none")

    def occlusion(self, hidden_by: str) -> str:
        return self._ask("occlusion", hidden_by or "none")

    def trigger(self, trigger: str) -> str:
        return self._ask("trigger", trigger or "none")


_KEYS: dict[Metric, str] = {"plausibility": "artifact", "coherence": "coherence",
                            "observation_control": "occlusion_done", "action_control": "trigger_applied"}  # fmt: skip


def read_vote(metric: Metric, answer: Answer) -> bool | None:
    """One reply's verdict, True for the better; None if it holds none."""
    if metric == "state_progress":
        said = {found.lower() for found in _VERDICT.findall(answer.text or "")}
        return said == {"yes"} if len(said) == 1 else None
    value = (answer.parsed or {}).get(_KEYS[metric])
    if not isinstance(value, bool):
        return None
    return not value if metric == "plausibility" else value


def contradicts(answer: Answer) -> bool:
    """Whether a reply about coherence calls coherent what its own checklist calls broken, or the other way round.

    The verdict counts, as in the official rules; how often this happens is reported.
    """
    said = answer.parsed or {}
    ticked = [said.get(item) for item in CHECKLIST]
    if not all(isinstance(item, bool) for item in ticked) or not isinstance(said.get("coherence"), bool):
        return False
    return said["coherence"] is any(ticked)


def read_process(answer: Answer) -> str | None:
    """The predicted process: the last line that begins with `Process:`, else all that was said; None if nothing."""
    if not answer.text or not answer.text.strip():
        return None
    lines = _PROCESS.findall(answer.text)
    return lines[-1].strip() if lines else answer.text.strip()
