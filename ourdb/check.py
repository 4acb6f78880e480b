"""What looks at a store from outside: `verify`, `repair`, `dump_log`, and what they report."""

from __future__ import annotations

from ourdb.logdump import dump_log
from ourdb.repair import repair
from ourdb.report import Finding, LogLine, RepairReport, VerifyReport
from ourdb.verify import verify

__all__ = ["Finding", "LogLine", "RepairReport", "VerifyReport", "dump_log", "repair", "verify"]
