"""Signals that end a command as Ctrl-C does, so that it leaves nothing half written."""

import signal


def end_as_by_ctrl_c() -> None:
    """Make SIGTERM and SIGHUP end this process as Ctrl-C does; SIGHUP stays ignored where it was, below `nohup`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
