"""Which version is served, and the servers and proxy that serve it."""
