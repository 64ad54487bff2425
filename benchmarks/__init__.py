"""Measurements of this project against named peers, as ratios within one run."""
