"""The report's words: what each interruption and measure is, and what the numbers cannot say."""

from __future__ import annotations

MODEL_WORDS: dict[str, str] = {
    "remind": (
        "Trained on interrupted clips with protected anchors and gaps; continues after the interruption."
    ),
    "matched": (
        "Same network, same steps, same interrupted clips and cameras, but trained on all history "
        "as it is: the fair baseline."
    ),
    "base": "Same network and steps, trained on clean clips, without cameras.",
    "remind_anchor_knocked_out": (
        "ReMind with its anchor chunks, and every other chunk that shows the state, removed from memory "
        "and all later memory written again without them: if it remembers, it must fall."
    ),
    "freeze": "Control: the world stops when it is last seen.",
    "reset": "Control: the world jumps back to its first frame.",
    "copy_anchor": "Control: the last clear picture, repeated.",
    "middle": (
        "Control: the middle of the state's range, whatever was seen: what ignorance reaches. Progress above 0 "
        "is no evidence of memory by itself; progress above this, and a small error, is."
    ),
    "linear": (
        "Control: a line through the states measured before the interruption, drawn on and "
        "rendered. It knows the scene's geometry; no video model does."
    ),
    "oracle": "Control: the truth.",
}

KIND_WORDS: dict[str, str] = {
    "light_toggle": "The lights go out until every pixel is black, then come back.",
    "occluder": "A panel slides in front of the camera, covers everything, then leaves.",
    "camera_loop": "The camera turns away until the object is out of the frame, then turns back.",
    "zoom": "The camera closes in and opens again. It hides nothing, so it is reported apart.",
    "lookaway": "The view turns away within a wider picture, then turns back.",
    "cardboard": "A slanted sheet of cardboard covers the view, then is taken away. Never trained on.",
    "curtain": "A curtain closes over the view, then opens. Never trained on.",
    "flicker": "The lights stutter until every pixel is black, then stutter back on. Never trained on.",
    "blink": "The view closes to black like an eye, then opens. Never trained on.",
}

GROUP_WORDS: dict[str, str] = {
    "translational": "something moves across",
    "monotonic_state": "something fills, melts, burns or grows",
    "deformation": "something changes its shape",
    "lighting_weather": "light or weather changes",
    "interaction": "one thing moves another",
    "periodic": "something turns round and round",
    "discrete": "something opens after a signal",
}

# title, key in the summary, definition
MEASURES: tuple[tuple[str, str, str], ...] = (
    (
        "State progress",
        "state_progress",
        "How far the hidden change was carried on: mean over the clear frames after the "
        "interruption of (measured state - last seen state), divided by the same mean of the true "
        "state. 0 = the world stood still, 1 = the truth; clipped to [-1, 2]. A frame that shows no state (see Shown) "
        "counts as a world that stood still. Only clips in which "
        "at least a quarter of the state's range passes out of sight. Scenes that turn and scenes "
        "that switch are left out here and reported apart.",
    ),
    (
        "Within 15 %",
        "within_15",
        "Share of the same clips whose measured state stays, on average, within 15 % of the true change.",
    ),
    (
        "Error after",
        "after_error",
        "Mean distance between the measured and the true state over the clear frames after the interruption, "
        "as a share of the state's range (of a turn for turning scenes); all scenes count. A frame that shows no "
        "state counts as a world that stood still.",
    ),
    (
        "Shown",
        "shown",
        "Share of the frames after the interruption that show some state of the scene, right or wrong: a state "
        "explains them better than halfway between what the scene's hidden view reaches and what true frames reach "
        "through the codec.",
    ),
    (
        "Plausible",
        "plausible",
        "Share of clips whose object is explained by some state of the scene (its residual below a "
        "limit set on codec round trips) and never moves faster than three times the true rate. A "
        "world that stands still is plausible.",
    ),
    (
        "Coherent",
        "coherent",
        "Share of clips whose background, where the state shows nothing, stays near the truth (PSNR "
        "above a limit set on codec round trips) without a cut or jump.",
    ),
    (
        "Background PSNR",
        "background_psnr",
        "Decibels between generated and true background after the interruption; identical pictures "
        "count as 60.",
    ),
    (
        "Observation",
        "observation_control",
        "Share of clips in which at least 80 % of the frames asked to be hidden are hidden, and the "
        "view comes back. Empty where the hidden frames were given.",
    ),
    (
        "Action",
        "action_control",
        "Share of scenes with a trigger that show, after the interruption, that it happened. Scenes "
        "without a trigger are not counted.",
    ),
)

CAVEATS: tuple[str, ...] = (
    "The scenes are rendered. Their states and cameras are known exactly, which is why memory can "
    "be measured here rather than judged; nothing is said about real footage.",
    "State progress reads only the frames after the interruption that the schedule leaves clear. "
    "What a model imagines while the view is lost is not scored, since nobody can see it.",
    "In most scenes the state changes at a constant rate. The linear control, which measures that "
    "rate with the scene's own geometry, is therefore close to the truth by construction: it is a "
    "ceiling, not a rival.",
    "Intervals are 95 % bootstrap intervals over clips. They hold for scenes like these and for "
    "this one trained model; they do not cover another training seed.",
    "A share that is 0 or 1 gets Wilson's interval, since resampling equal values would claim certainty.",
    "In turning scenes a phase is known only up to whole turns, and the reading nearest to the "
    "truth is taken. A frozen world can then seem to make progress, so `in phase` (mean error of at "
    "most 0.1 turns) is the number to read.",
    "Where nothing is generated before the trigger, the trigger lies in the given prefix: then the "
    "action measure asks only whether its consequence is still there.",
    "Attention says where a model looked, not what it used. The knocked-out row is the causal test.",
)
