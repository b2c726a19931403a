"""Filters: each says whether a row is accepted, or why not."""

from codesynth.filters.agreement import Agreement
from codesynth.filters.contamination import ContaminationFilter
from codesynth.filters.groups import GroupWindow
from codesynth.filters.novelty import NoveltyFilter
from codesynth.filters.pairs import Pairs
from codesynth.filters.quota import Quota
from codesynth.filters.selection import Selection

__all__ = [
    "Agreement",
    "ContaminationFilter",
    "GroupWindow",
    "NoveltyFilter",
    "Pairs",
    "Quota",
    "Selection",
]
