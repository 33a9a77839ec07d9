"""How the programs exit on a signal, and how a process is frozen. Imports no other module of this folder."""

import contextlib
import os
import signal
import sys
import time

import psutil

STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]  # Ctrl+C, kill, a closed terminal


def freeze(process):
    """Send SIGSTOP and wait until the psutil.Process has stopped: it stays connected, but is silent."""
    process.suspend()
    while process.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)


def on_stop_signals(handler):
    for number in STOP_SIGNALS:
        signal.signal(number, handler)


def stop_once(signum, frame):
    """Handle a signal: raise KeyboardInterrupt, and ignore later signals while the program cleans up."""
    on_stop_signals(lambda signum, frame: None)
    raise KeyboardInterrupt


@contextlib.contextmanager
def exiting_cleanly(
    expected_error, goodbye="Stopped; nothing that was started is still running.", exit_code=130
):
    """Exit with goodbye and exit_code after a signal, or with the message and code 1 after expected_error."""
    on_stop_signals(stop_once)
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{goodbye}", flush=True)
        os._exit(exit_code)  # exit now: don't wait for what a producer still tries to deliver
    except expected_error as error:
        sys.exit(str(error))
    finally:
        on_stop_signals(signal.SIG_IGN)  # a late signal would kill the interpreter while it exits
