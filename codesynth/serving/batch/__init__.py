"""The Batch API: requests in files, answered within a day, for half the price."""

from codesynth.serving.batch.client import BatchClient
from codesynth.serving.batch.engine import BatchOptions
from codesynth.serving.batch.serving import BatchServing, SkippingServing

__all__ = ["BatchClient", "BatchOptions", "BatchServing", "SkippingServing"]
