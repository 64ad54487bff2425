"""Model versions: registered, gated, moved through stages, rolled back."""
