"""What a session's file holds beside the rollout; nothing of it is trusted."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remind.frame_graph import Interruption


class SessionFacts(BaseModel):
    """Beside the rollout: what is said, what is planned, and what the frames looked like."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prompt: str = Field(max_length=100_000)
    negative_prompt: str = Field(max_length=100_000)
    fov_deg: float = Field(ge=5, le=170)
    allow_camera_jumps: bool
    num_frames: int = Field(ge=0, le=10**7)
    interruptions: tuple[Interruption, ...] = Field(max_length=10_000)
    clean_light: tuple[float, ...] = Field(max_length=100)
    clean_volume: tuple[float, ...] = Field(max_length=100)
    seen_degraded: tuple[int, ...] = Field(max_length=10**6)
    """Chunks that looked hidden or away, whatever was planned."""

    @model_validator(mode="after")
    def _looks_agree(self) -> SessionFacts:
        if len(self.clean_light) != len(self.clean_volume):
            raise ValueError("clean_light and clean_volume are of the same frames")
        return self
