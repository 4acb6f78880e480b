"""Earlier states of a filesystem: snapshots, reading at a moment, differences, what became of a path, and restoring."""
