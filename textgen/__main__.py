"""The program ``textgen``, also as ``python -m textgen``.

It imports almost nothing by itself: Ctrl-C while the rest is imported must not show a traceback.
"""

import os
import signal
import sys


def main() -> int:
    """The console script; returns the exit code."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        # There is nothing to save yet. An exception might be caught inside an import.
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from textgen.cli import app

    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
