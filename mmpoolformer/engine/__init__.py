"""Running: command lines, launching, hooks."""
