"""What is wrong with a set of labelled photos, before anybody trains on it: `eye-disease audit`."""
