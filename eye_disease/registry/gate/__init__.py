"""The gate before Production: a version is served, tested and judged on labelled photos."""
