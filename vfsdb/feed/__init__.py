"""The change feed: what happened to a filesystem, path by path, from the log of its metadata store."""
