"""Where a chunk looks, in groups: the first chunk, other anchors, the chunk just before, and the rest of the past.

The first chunk is an anchor and, in causal attention, also a sink: it draws attention whatever it shows (StreamingLLM,
arXiv:2309.17453). The two are told apart by a twin: the same scene, cut at the same chunk, with nothing to recall. What
a group draws there is place and habit; what it draws beyond that, in the interrupted clip, is recall. Our choice.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from remind.errors import InputError
from remind.evaluation.kv_importance import KVImportance
from remind.frame_graph import FrameGraph

Group = Literal["first", "other_anchors", "previous", "rest"]
GROUPS: tuple[Group, ...] = get_args(Group)


def group_of(chunk: int, query: int, graph: FrameGraph) -> Group:
    """The group of an earlier chunk; every one has exactly one."""
    if chunk == 0:
        return "first"
    if chunk in graph.anchors:
        return "other_anchors"
    return "previous" if chunk == query - 1 else "rest"


def group_shares(importance: KVImportance, graph: FrameGraph, query: int) -> dict[Group, dict[str, float]]:
    """Of a chunk's attention to the past, the share of each group: `mass`, and `over_token_share`, 1 = an even spread.

    Groups without a readable chunk are left out. Shares of the groups sum to one.

    Args:
        importance: of clips with this graph.
        query: a generated chunk.

    Raises:
        InputError: a chunk that was not generated, or that has no past.
    """
    row = importance.history()[query]
    readable = np.flatnonzero(np.isfinite(row))
    if not len(readable):
        raise InputError("nothing is known of where this chunk looked", got=f"chunk {query}",
                         expected="a generated one with a past")  # fmt: skip
    members: dict[Group, list[int]] = {}
    for chunk in readable.tolist():
        members.setdefault(group_of(chunk, query, graph), []).append(chunk)
    return {
        group: {"mass": float(row[members[group]].sum()),
                "over_token_share": float(row[members[group]].mean() * len(readable))}
        for group in GROUPS if group in members
    }  # fmt: skip
