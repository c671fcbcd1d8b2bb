"""Corpora as they are published: LibriSpeech, VCTK, any folder of sound, Lhotse manifests."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from pathlib import Path

import soundfile

from simulate.parsing import from_json
from simulate.recordings import LONGEST_S, Utterance, part_of

SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")
_VCTK_AUDIO = ("wav48_silence_trimmed", "wav48", "wav16", "wav")


def read_folder(folder: Path) -> list[Utterance]:
    """Recordings of a folder, in the order of their names.

    A LibriSpeech tree, `[SUBSET/]SPEAKER/CHAPTER/` with `*.trans.txt`, has speakers, texts, and the
    subset as split. A VCTK tree, `wav48.../SPEAKER/` beside `txt/SPEAKER/`, has speakers and texts,
    and of two microphones the first. Any other folder: what lies in a subfolder has its name as
    speaker and as kind, and a `.txt` beside a recording is its text.
    Files of sound that cannot be read are left out, each with a warning.
    """
    if next(folder.rglob("*.trans.txt"), None) is not None:
        return list(_librispeech(folder))
    audio = next((folder / name for name in _VCTK_AUDIO if (folder / name).is_dir()), None)
    if audio is not None and (folder / "txt").is_dir():
        return list(_vctk(audio, folder / "txt"))
    return list(_plain(folder))


def read_lhotse(manifest: Path) -> list[Utterance]:
    """Recordings of a Lhotse manifest of cuts or of recordings (jsonl, jsonl.gz), channel 0 each.

    A cut has the speaker and text of its first supervision. Relative paths are taken from the
    working folder, as Lhotse does, or else from the manifest's.
    Raises ValueError, naming the line, for anything else.
    """
    opened = gzip.open if manifest.suffix == ".gz" else open
    found = []
    try:
        with opened(manifest, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    found.append(_lhotse_line(line, f"{manifest}, line {number}", manifest.parent))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a Lhotse manifest, found {manifest} ({error})") from None
    return found


def _librispeech(root: Path) -> Iterator[Utterance]:
    for listing in sorted(root.rglob("*.trans.txt")):
        chapter = listing.parent
        above = chapter.relative_to(root).parts[:-2]
        # Where the tree given is one subset, its own name is the split.
        subset = above[-1] if above else root.name
        for line in listing.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            path = next((p for s in SUFFIXES if (p := chapter / f"{name}{s}").is_file()), None)
            seconds = _seconds(path) if path else None
            if seconds:
                yield Utterance(str(path), seconds, chapter.parent.name, text, subset)


def _vctk(audio: Path, texts: Path) -> Iterator[Utterance]:
    for path in _sounds(audio):
        name = path.stem.removesuffix("_mic1")
        seconds = None if name.endswith("_mic2") else _seconds(path)
        if seconds:
            speaker = path.parent.name
            yield Utterance(str(path), seconds, speaker, _text(texts / speaker / f"{name}.txt"))


def _plain(root: Path) -> Iterator[Utterance]:
    for path in _sounds(root):
        seconds = _seconds(path)
        if seconds:
            group = path.parent.name if path.parent != root else ""
            text = _text(path.with_suffix(".txt"))
            yield Utterance(str(path), seconds, group, text, kind=group)


def _sounds(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _seconds(path: Path) -> float | None:
    """Duration; None, with a warning, for what cannot be read."""
    try:
        info = soundfile.info(path)
        # A file whose length its header does not tell claims an absurd one.
        if 0 < info.frames < LONGEST_S * info.samplerate:
            return round(info.frames / info.samplerate, 4)
        why = f"{info.frames} samples"
    except (OSError, soundfile.SoundFileError) as error:
        why = " ".join(str(error).split())
    warnings.warn(f"left out of the corpus: {path} ({why})", stacklevel=2)
    return None


def _text(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split()) if path.is_file() else ""


def _lhotse_line(line: str, where: str, folder: Path) -> Utterance:
    try:
        item = from_json(line)
        recording = item.get("recording", item)
        (source,) = (s for s in recording["sources"] if 0 in s["channels"])
        if source["type"] != "file" or item.get("channel", 0) not in (0, [0]):
            raise ValueError("a recording that is not channel 0 of a file")
        seconds, start_s = float(item["duration"]), float(item.get("start", 0))
        if not (0 < seconds < LONGEST_S and 0 <= start_s < LONGEST_S):
            raise ValueError(f"{seconds:g} seconds from {start_s:g} s on")
        supervision = next(iter(item.get("supervisions") or [{}]))
        return Utterance(
            part_of(_located(source["source"], folder), start_s),
            seconds,
            str(supervision.get("speaker") or ""),
            str(supervision.get("text") or ""),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: expected a cut or recording of Lhotse, found {error!r}"
        ) from None


def _located(source: str, folder: Path) -> str:
    path = Path(source)
    beside = folder / path
    return str(beside if not path.exists() and beside.exists() else path.resolve())
