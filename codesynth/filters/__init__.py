"""Filters: each says whether a row is accepted, or why not."""

from codesynth.filters.choice import Agreement, GroupWindow, Pairs, Selection
from codesynth.filters.contamination import ContaminationFilter
from codesynth.filters.novelty import NoveltyFilter
from codesynth.filters.quota import Quota

__all__ = [
    "Agreement",
    "ContaminationFilter",
    "GroupWindow",
    "NoveltyFilter",
    "Pairs",
    "Quota",
    "Selection",
]
