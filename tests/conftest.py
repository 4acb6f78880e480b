"""Shared settings of all tests: how long Hypothesis searches, and that programs they start can be interrupted."""

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True)
settings.register_profile(
    "torture",
    max_examples=2000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("torture" if os.environ.get("OURDB_TORTURE") else "quick")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for what a shell starts in the background, and programs that are started from here would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
