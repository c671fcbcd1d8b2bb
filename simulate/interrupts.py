"""Ctrl-C, where it must wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c_after() -> Iterator[None]:
    """Ctrl-C, where it is an exception, comes after the block."""
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not raises or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if pressed.is_set():
            raise KeyboardInterrupt


@contextmanager
def no_ctrl_c_for_children() -> Iterator[None]:
    """Ctrl-C comes after the block, and never to processes started inside.

    A terminal sends it to all of them; so only the first one answers, and stops the others.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with ctrl_c_after():  # another thread may still take the signal, and this one the exception
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
