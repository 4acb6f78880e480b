"""Engines behind the protocols of `vfsdb.database`."""
