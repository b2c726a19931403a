"""Filters: each says whether a row is accepted, or why not."""

from codesynth.filters.contamination import ContaminationFilter
from codesynth.filters.novelty import NoveltyFilter
from codesynth.filters.quota import Quota
from codesynth.filters.selection import Selection

__all__ = ["ContaminationFilter", "NoveltyFilter", "Quota", "Selection"]
