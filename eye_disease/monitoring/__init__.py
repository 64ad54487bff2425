"""The drift job: judges the windows of every served version and tells MLflow, people and commands."""
