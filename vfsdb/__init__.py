"""vfsdb: a filesystem in two ourdb stores, for Python programs."""
