"""Fits how talkers are counted to a separation network, and says how often it is right.

    python benchmarks/count_talkers.py DATA ... [--model separate] [--write]

DATA are data sets of 1 to 3 talkers of the valid split. `--write` keeps the rule beside the
weights, where the separator finds it. Counts of clips are those of rules that never saw them.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]

from typing import Annotated

import numpy as np
import typer


def main(
    data: Annotated[list[Path], typer.Argument(help="data sets of 1 to 3 talkers")],
    model: Annotated[str, typer.Option(help="weights, by name or path")] = "separate",
    write: Annotated[bool, typer.Option("--write", help="keep the rule")] = False,
) -> None:
    """Fit, score, print, and perhaps write."""
    import torch

    from clearbeam.console import out, progress, say_error
    from clearbeam.training.counting import counted, fit_rule, heard_by, unseen
    from multichannel.data import records_of
    from separation.weights import count_rule, find_separation, load_separation, write_count_rule

    torch.set_num_threads(1)
    try:
        path = find_separation(model)
        records = [record for folder in data for record in records_of(folder)]
        with progress() as bar:
            task = bar.add_task("clips", total=len(records))
            seen = lambda done: bar.update(task, completed=done)  # noqa: E731
            heard = heard_by(load_separation(path), records, seen)
        rule = fit_rule(heard)
        before = counted(heard, count_rule(path))
        if write:
            write_count_rule(path, rule)
    except (ValueError, OSError) as error:
        say_error(error)
        raise typer.Exit(2) from None
    truth = heard.n_talkers
    out.print(f"{rule}{', written' if write else ''}")
    for name, found in (("rule that was there", before), ("new rule, unseen clips", unseen(heard))):
        out.print(f"{name}: right in {np.mean(found == truth):.1%} of {len(truth)} clips")
        for n in np.unique(truth):
            row = np.bincount(found[truth == n], minlength=4)[1:]
            out.print(f"  {n} talking: counted as 1, 2, ... in {', '.join(map(str, row))}")


if __name__ == "__main__":
    typer.run(main)
