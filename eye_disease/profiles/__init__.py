"""Mergeable summaries of records and the statistics that compare them. Imports neither TensorFlow nor mlflow."""
