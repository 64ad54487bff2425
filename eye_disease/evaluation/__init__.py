"""Figures and plots of a classifier on labelled photos, shared by training, the registration gate and monitoring."""
