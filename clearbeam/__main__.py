"""`python -m clearbeam` is `clearbeam`."""

from clearbeam.cli import app

app(prog_name="clearbeam")
