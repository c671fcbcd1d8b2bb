"""`python -m clearbeam` is `clearbeam`."""

import io
import os
import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C before it is even loaded ends it without a word."""
    _fill_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # better a question mark than a lost table
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from clearbeam.cli import app
    from clearbeam.console import INTERRUPTED
    from simulate.workers import leave

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, leave)
    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app(prog_name="clearbeam")
    except KeyboardInterrupt:  # between what answers it
        sys.exit(INTERRUPTED)


def _fill_standard_streams() -> None:
    """Where stdin, stdout or stderr is closed, keep the next file that is opened from its number.

    What libraries written in C have to say would go into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


if __name__ == "__main__":
    main()
