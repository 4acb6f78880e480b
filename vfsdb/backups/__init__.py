"""Hot, incremental, verified backups of a whole filesystem."""
