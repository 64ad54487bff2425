"""What every folder needs and that knows nothing of eyes: paths, locks, processes, MLflow's client."""
