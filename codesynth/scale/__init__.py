"""Parts of a job: how far they are, putting them together, running them on a Ray cluster."""
