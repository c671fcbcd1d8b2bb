"""The folder of a data set: shards of mixtures, each of them there whole or not at all.

    OUT/dataset.json              what is made here: seed and scene
    OUT/0003/0003141/record.json  a mixture, its files beside it; 1000 to a shard
    OUT/0003/.0003142.<id>.part   one being made; it gets its name in one step when it is whole
    OUT/manifest.jsonl            all records, written when all are there

Whatever is killed when, a name says that the thing is whole, and the same call makes the rest.
"""

from __future__ import annotations

import json
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from simulate.corpus import is_manifest, load_corpus, write_corpus
from simulate.disk import tidying, write_text
from simulate.parsing import from_json
from simulate.scene_config import SceneConfig
from simulate.workers import for_each

_SHARD = 1000
_RECORD = "record.json"

Config = TypeVar("Config", bound=SceneConfig)
Progress = Callable[[float, int], None]
Make = Callable[[Config, Path, int, int], object]


def check_numbers(count: int, jobs: int) -> None:
    """Raise ValueError for a data set of nothing, or nobody to make it."""
    if count < 1 or jobs < 1:
        raise ValueError(f"expected count >= 1 and jobs >= 1, found {count} and {jobs}")


def complete(
    make: Make[Config],
    config: Config,
    out: Path,
    count: int,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
    cluster: str | None = None,
) -> Path:
    """Have `make(config, out, seed, index)` make what is missing; returns the manifest of all.

    jobs, cluster: see `for_each`. progress: called with (done, count), at first with what is there.
    Raises ValueError when `out` holds something else.
    """
    claim(out, config, seed)
    listed = with_listed_corpora(out, config)
    todo = missing(out, count)
    done = count - len(todo)
    if progress:
        progress(done, count)
    for _ in for_each(partial(make, listed, out, seed), todo, jobs, cluster):
        done += 1
        if progress:
            progress(done, count)
    return write_manifest(out, count)


def claim(out: Path, config: SceneConfig, seed: int) -> None:
    """Note in the folder what is made there; refuse to mix two data sets in one folder."""
    text = json.dumps({"seed": seed, "scene": config.model_dump(mode="json")}, indent=1) + "\n"
    note = out / "dataset.json"
    if note.is_file():
        if note.read_text(encoding="utf-8") != text:
            raise ValueError(f"expected {out} to hold this scene and seed, found another data set")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_text(note, text)


def with_listed_corpora(out: Path, config: Config) -> Config:
    """`config` with every corpus that takes long to read listed once, in a manifest in `out`.

    Else each worker would go through all of its files; and a corpus that grows between two runs
    would make another data set of the second.
    """
    listed = {}
    for content in ("speech", "noise"):
        corpus = getattr(config, content)
        if not is_manifest(corpus):
            manifest = out / f"{content}.jsonl"
            if not manifest.is_file():
                write_corpus(load_corpus(corpus), manifest)
            listed[content] = str(manifest.resolve())
    return config.model_copy(update=listed)


def folder_of(out: Path, index: int) -> Path:
    """Where the mixture `index` is."""
    return out / f"{index // _SHARD:04d}" / f"{index:07d}"


def missing(out: Path, count: int) -> list[int]:
    """Those of the first `count` mixtures that are not there."""
    return [i for i in range(count) if not _is_whole(folder_of(out, i))]


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` in one step; on failure nothing is left.

    Its name is its own, so that a process that outlives its killed parent cannot write into what a
    later one makes.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    with tidying(partial(shutil.rmtree, temporary, ignore_errors=True)):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            temporary.rename(folder)
        except OSError:
            # Another run was first; what it made has the same bytes.
            if not _is_whole(folder):
                raise


def write_record(folder: Path, record: dict, unreadable: Sequence[str] = ()) -> None:
    """Write the record of the mixture in `folder`, with the recordings that could not be read."""
    told = {"unreadable": [*unreadable]} if unreadable else {}
    write_text(folder / _RECORD, json.dumps(record | told) + "\n")


def write_manifest(out: Path, count: int) -> Path:
    """Join the records of the first `count` mixtures; clear away what killed runs left.

    Raises ValueError for a record that something else has damaged.
    """
    lines = [_read_record(folder_of(out, i)) for i in range(count)]
    write_text(out / "manifest.jsonl", "".join(lines))
    for torn in out.glob("[0-9]*/.*.part"):
        shutil.rmtree(torn, ignore_errors=True)
    return out / "manifest.jsonl"


def _read_record(folder: Path) -> str:
    text = (folder / _RECORD).read_bytes()
    try:
        from_json(text).keys()
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"expected a whole record in {folder}, found {error}; it is made again if deleted"
        ) from None
    return text.decode()


def tell_unreadable(manifest: Path) -> None:
    """Warn once of all recordings of a data set that could not be read."""
    drawn_anew, names = 0, set()
    with manifest.open(encoding="utf-8") as lines:
        for line in lines:
            if '"unreadable": [' in line:
                drawn_anew += 1
                names |= set(map(str, json.loads(line)["unreadable"]))
    if names:
        shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        warnings.warn(
            f"skipped recordings that cannot be read ({len(names)}): {shown}; mixtures drawn anew "
            f"for it, and naming them in their records: {drawn_anew}",
            stacklevel=3,
        )


def _is_whole(folder: Path) -> bool:
    return (folder / _RECORD).is_file()
