"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import signal
from multiprocessing import connection
from threading import Thread


def follow_parent() -> None:
    """Leave Ctrl-C to the main process, and end with it, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
