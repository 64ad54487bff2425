"""What the served model is measured against; each module runs in a process of its own."""
