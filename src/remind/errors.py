"""The one tree of errors. Each says in one line what is wrong, what was got, what was expected, how to mend it."""


class RemindError(Exception):
    """Base of all errors a user can cause. The command line prints it as one line and exits with code 2.

    Args:
        what: what is wrong, a short clause.
        got: the offending value, as the user would recognise it.
        expected: what would have been right.
        fix: what to do about it, an imperative clause.
    """

    def __init__(self, what: str, *, got: object = None, expected: object = None, fix: str | None = None):
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        line = "; ".join(parts)
        if fix is not None:
            line += f". Fix: {fix}"
        super().__init__(line)
        self.what, self.got, self.expected, self.fix = what, got, expected, fix


class InputError(RemindError):
    """An argument, option or tensor that does not fit."""


class VideoError(RemindError):
    """A video file that cannot be read or written."""


class CameraError(RemindError):
    """Cameras that are missing, malformed or in another convention."""


class GraphError(RemindError):
    """A schedule, frame graph or sequence plan that breaks an invariant."""


class CheckpointError(RemindError):
    """A checkpoint that is damaged, hostile or of another shape."""


class StoreError(RemindError):
    """A clip store that is damaged, of another version or cannot be written."""


class SourceError(RemindError):
    """A source of videos that is not there, damaged, hostile or refuses to answer."""
