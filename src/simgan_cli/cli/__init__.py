"""The command line: parse, resolve, print, call. No mathematics, and no torch until a command runs."""

import sys
from types import TracebackType


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an exception that nothing handled; Ctrl-C during the program's imports needs no traceback."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _report  # before those imports
