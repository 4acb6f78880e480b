"""Speed and memory of ourdb beside other engines: `python benchmarks/run.py`."""
