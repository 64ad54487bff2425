"""From labelled photos and a network to a model package."""
