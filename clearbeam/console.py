"""How commands speak: results on stdout; one-line errors, warnings and progress on stderr."""

from __future__ import annotations

import os
import select
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from typer.core import TyperGroup

Result = TypeVar("Result")

BAD_INPUT = 2  # the exit code for whatever the user can put right
INTERRUPTED = 130  # the exit code after Ctrl-C, as of any program that it ended
DEBUG = "CLEARBEAM_DEBUG"  # set it to see the traceback behind an error line

out = Console(highlight=False)
if not out.is_terminal:
    out.width = 160  # a file has no edge to fold tables at
err = Console(stderr=True, highlight=False)
_subject: ContextVar[str] = ContextVar("subject", default="")


class OneLineErrors(TyperGroup):
    """A command group that ends bad input with one line on stderr and exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; see `typer.core.TyperGroup.main`."""
        standalone = kwargs.pop("standalone_mode", True)
        kwargs["standalone_mode"] = False  # else typer itself prints errors, in boxes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            try:
                code = super().main(*args, **kwargs)
            except Exception as error:
                if not standalone or not _is_bad_input(error) or os.environ.get(DEBUG):
                    raise
                say_error(error)
                code = BAD_INPUT
        if standalone:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Run the command. A broken pipe is no error if it is that of the output (`| head`)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            if _nobody_reads(sys.stdout):
                raise
            raise ChildProcessError("a process that this one works with has died") from None


def _nobody_reads(stream: TextIO) -> bool:
    """Whether what is written there comes to nobody; taken for so where there is no telling."""
    try:
        poll = select.poll()
        poll.register(stream, 0)
    except (AttributeError, OSError):  # Windows; no real file
        return True
    return bool(poll.poll(0))


def _is_bad_input(error: Exception) -> bool:
    """Whether the user can put it right. A usage error of the parser knows how to format itself."""
    kinds = (ValueError, OSError, ImportError, MemoryError)
    return isinstance(error, kinds) or hasattr(error, "format_message")


def say_error(error: Exception) -> None:
    """Print `error: ...` on stderr, in one line."""
    _say(f"error: {_about(_one_line(error))}")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"warning: {_about(' '.join(str(message).split()))}")


def _say(line: str) -> None:
    """Print a line on stderr, above a progress bar if there is one, and never fold it."""
    err.print(line, markup=False, soft_wrap=True)


def _one_line(error: Exception) -> str:
    if hasattr(error, "format_message"):
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def _about(text: str) -> str:
    """`text` after the name of the file it is about, unless it says that itself."""
    name = _subject.get()
    return f"{name}: {text}" if name and name not in text else text


@contextmanager
def about(name: str) -> Iterator[None]:
    """Name the file that errors and warnings are about, within the block."""
    token = _subject.set(name)
    try:
        yield
    finally:
        _subject.reset(token)


def reported(name: str, work: Callable[[], Result]) -> Result | None:
    """What the work on a file gives; None where its input is bad, which is said on stderr."""
    with about(name):
        try:
            return work()
        except (ValueError, OSError) as error:
            if os.environ.get(DEBUG):
                raise
            say_error(error)
            return None


def progress(*columns: str) -> Progress:
    """A progress bar with the time left, drawn on stderr when that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *(TextColumn(column) for column in columns),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )


@contextmanager
def stoppable(again: str = "the same command goes on") -> Iterator[None]:
    """Answer Ctrl-C with a line that says what is next, and end with the exit code for it."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"stopped; {again}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def scoring(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows (done, total) under a progress bar, while systems are scored.

    A system that fails names itself and the clip in a RuntimeError: here it is bad input.
    """
    with progress() as bar:
        task = bar.add_task(title, total=None)
        try:
            yield lambda done, total: bar.update(task, completed=done, total=total)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
