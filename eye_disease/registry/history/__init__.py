"""Every transition of a version between stages: recorded, moved under a lock, shown."""
