"""Check and repair of filesystems, from the records up: nothing is asked of the core.

`fsck` checks the store at a path, and with ``repair=True`` mends it; `check` checks stores that are open.
"""
