"""Answers that a specialist should look at, as one local page whose labels `feedback` takes: `drift_job.py worklist`."""
