"""The practice endpoint: answers in the model's place, without a network and without a key."""

from codesynth.serving.offline.endpoint import PracticeEndpoint, read_faults

__all__ = ["PracticeEndpoint", "read_faults"]
