"""The command line as a whole: help, version, refusals, and the small commands."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import warnings

import pytest
import typer
from cli import refused, run, succeeded, tree
from typer.testing import CliRunner

from clearbeam import __version__, console
from clearbeam.__main__ import main
from clearbeam.cli import app
from clearbeam.console import OneLineErrors, about

COMMANDS = [command.name for command in app.registered_commands]


def test_version():
    assert succeeded("--version").stdout == f"clearbeam {__version__}\n"


def test_no_command_shows_the_help():
    for name in COMMANDS:
        assert name in succeeded().stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command):
    text = succeeded(command, "--help").stdout
    assert f"clearbeam {command}" in text
    assert "Example" in text


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["enhence"], "enhence.*[Dd]id you mean"),
        (["--loud"], "--loud"),
        (["enhance"], "INPUT"),
        (["enhance", "x.wav", "--look", "left"], "--look"),
        (["enhance", "x.wav", "--device", "tpu"], "tpu"),
        (["simulate", "quickstart"], "--out"),
        (["simulate", "quickstart", "--out", "x", "--count", "0"], "--count"),
        (["arrays", "circular_6mics"], "unknown array circular_6mics.*circular_6mic"),
        (["arrays", "--plot", "x.png"], "NAME"),
        (["arrays", "circular_6mic", "--plot", "x.txt"], r"\.png"),
        (["arrays", "nothing.yaml"], "nothing.yaml"),
        (["evaluate", "nowhere"], "nowhere"),
        (["evaluate", "nowhere", "--task", "dance"], "dance"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, args, match):
    monkeypatch.chdir(tmp_path)
    refused(match, *args)
    assert tree(tmp_path) == set()


def failing_app(error: Exception | None = None, message: str = "") -> typer.Typer:
    app = typer.Typer(cls=OneLineErrors)

    @app.callback()
    def main() -> None: ...

    @app.command()
    def work() -> None:
        with about("a.wav"):
            if message:
                warnings.warn(message, stacklevel=1)
                warnings.warn("an old function", DeprecationWarning, stacklevel=1)
        if error:
            raise error

    return app


@pytest.mark.parametrize(
    "error",
    [
        ValueError("expected one\n  thing, found\n another"),
        FileNotFoundError(2, "No such file or directory", "x"),
        ImportError("expected the package y"),
    ],
)
def test_what_the_user_can_put_right_is_one_line(error):
    result = CliRunner().invoke(failing_app(error), ["work"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_a_broken_pipe_is_an_error_unless_it_is_that_of_the_output(monkeypatch):
    app = failing_app(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    result = CliRunner().invoke(app, ["work"])
    assert (result.exit_code, result.stderr) == (1, "")
    monkeypatch.setattr(console, "_nobody_reads", lambda stream: False)
    result = CliRunner().invoke(app, ["work"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "a process that this one works with has died" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="there is no telling")
def test_it_is_known_whether_somebody_reads_the_output():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        assert not console._nobody_reads(stream)
        os.close(reader)
        assert console._nobody_reads(stream)


def test_our_own_mistakes_are_not_dressed_up():
    result = CliRunner().invoke(failing_app(ZeroDivisionError()), ["work"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_the_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("CLEARBEAM_DEBUG", "1")
    result = CliRunner().invoke(failing_app(ValueError("why")), ["work"])
    assert isinstance(result.exception, ValueError)


def test_warnings_are_one_line_about_a_file():
    result = CliRunner().invoke(failing_app(message="mic 3 holds\n NaN"), ["work"])
    assert result.exit_code == 0
    assert result.stderr == "warning: a.wav: mic 3 holds NaN\n"


def test_it_is_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "clearbeam", "enhance", "nothing.wav"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr == "error: expected an audio file, found nothing at nothing.wav\n"
    assert done.stdout == ""


def test_a_terminal_without_our_characters_gets_others(tmp_path):
    words = ["simulate", "quickstart", "--count", "3", "--dry-run", "--out", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", "clearbeam", *words], capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"duration (s)" in done.stdout and done.stdout.isascii()


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_while_it_is_loaded_ends_it_without_a_word():
    begin = """if True:
        import os, signal, sys, types
        class Cli(types.ModuleType):
            def __getattr__(self, name):
                os.kill(os.getpid(), signal.SIGINT)  # while clearbeam.cli is imported from
                raise AttributeError(name)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.modules["clearbeam.cli"] = Cli("clearbeam.cli")
        from clearbeam.__main__ import main
        main()"""
    done = subprocess.run(
        [sys.executable, "-c", begin], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_that_nothing_answers_is_an_exit_code(monkeypatch):
    def press(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clearbeam.cli.app", press)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(SystemExit, match="130"):
            main()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from clearbeam.cli import app; app(['--help'], standalone_mode=False);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == 0


def test_arrays_lists_every_array():
    from simulate import list_arrays

    lines = succeeded("arrays").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list_arrays()


def test_arrays_tells_what_one_can_do(tmp_path):
    picture = tmp_path / "array.png"
    text = succeeded("arrays", "linear_4mic", "--look", 90, "--plot", picture).stdout
    assert "aperture 15.0 cm" in text
    assert "directivity index" in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_arrays_takes_a_file_of_one_microphone(tmp_path):
    (tmp_path / "one.yaml").write_text("name: one\npositions_m: [[0, 0, 0.1]]\n")
    picture = tmp_path / "one.png"
    assert "microphones: 1" in succeeded("arrays", tmp_path / "one.yaml", "--plot", picture).stdout
    assert picture.is_file()


def test_an_array_file_with_a_misspelt_key_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("name: a\nposition_m: [[0, 0, 0]]\n")
    refused("position_m.*positions_m", "arrays", tmp_path / "a.yaml")


def test_evaluate_puts_systems_side_by_side(tmp_path):
    succeeded("simulate", "quickstart", "--out", tmp_path / "data", "--count", 2)
    scores = tmp_path / "scores.json"
    result = run("evaluate", tmp_path / "data", "--system", "noisy", "--system", "oracle-mvdr",
                 "--limit", 1, "--json", scores)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert all(line.startswith("warning: ") for line in result.stderr.splitlines())
    assert "oracle-mvdr" in result.stdout and "SI-SDR" in result.stdout
    assert json.loads(scores.read_text())["clips"] == 1
    refused("systom", "evaluate", tmp_path / "data", "--system", "systom")
