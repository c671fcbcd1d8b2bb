"""Data sets described to other toolkits: Lhotse manifests and Kaldi data directories.

Both say the same: a recording is a mixture with all of its microphones, and a supervision (Lhotse)
or utterance (Kaldi) is what one talker says in it, from the first word to the last; in a meeting,
one turn.
"""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import soundfile

from simulate.dataset import read_manifest
from simulate.disk import write_text

_REFERENCES = ("image", "early", "direct", "noise", "dry")


class _Said(NamedTuple):
    """What one talker says in one go."""

    id: str
    speaker: str
    start_s: float
    end_s: float
    text: str
    talker: dict


def export_lhotse(dataset: str | Path, out: str | Path) -> Path:
    """Write `recordings`, `supervisions` and `cuts` (.jsonl.gz) of a data set; returns the cuts.

    The cuts are MultiCuts with all microphones. References are with them as `custom` fields
    `image`, `early`, `direct`, `noise`, `dry`: recordings, or lists of them, one a talker.
    Raises ValueError for a folder without data set.
    """
    out, records = Path(out), list(read_manifest(dataset))
    out.mkdir(parents=True, exist_ok=True)
    recordings = [_recording(r["id"], r["paths"]["mixture"]) for r in records]
    supervisions = [_supervisions(r) for r in records]
    flat = [s for of_one in supervisions for s in of_one]
    cuts = [_cut(*parts) for parts in zip(records, recordings, supervisions, strict=True)]
    _write_lines(out / "recordings.jsonl.gz", recordings)
    _write_lines(out / "supervisions.jsonl.gz", flat)
    return _write_lines(out / "cuts.jsonl.gz", cuts)


def export_kaldi(dataset: str | Path, out: str | Path, mic: int = 0) -> Path:
    """Write a Kaldi data directory of one microphone of a data set; returns the directory.

    wav.scp (through sox, because a mixture has many channels), reco2dur, segments, text, utt2spk,
    spk2utt, each sorted as Kaldi wants it. An utterance without known words has an empty text.
    Raises ValueError for a folder without data set.
    """
    out, records = Path(out), list(read_manifest(dataset))
    out.mkdir(parents=True, exist_ok=True)
    wav, seconds, segments, text, speaker_of = {}, {}, {}, {}, {}
    for record in records:
        name = record["id"]
        path = shlex.quote(record["paths"]["mixture"])
        seconds[name] = f"{record['seconds']:.4f}"
        wav[name] = f"sox {path} -t wav - remix {mic + 1} |"
        for said in _said(record):
            speaker = _word(said.speaker or f"{name}-{record['talkers'].index(said.talker) + 1}")
            # Kaldi sorts utterances like their speakers only where the one begins with the other.
            utterance = f"{speaker}-{said.id}"
            segments[utterance] = f"{name} {said.start_s:.4f} {said.end_s:.4f}"
            text[utterance] = " ".join(said.text.split())
            speaker_of[utterance] = speaker
    utterances: dict[str, str] = {}
    for utterance, speaker in sorted(speaker_of.items(), key=_by_bytes):
        utterances[speaker] = f"{utterances.get(speaker, '')} {utterance}".strip()
    tables = {
        "wav.scp": wav,
        "reco2dur": seconds,
        "segments": segments,
        "text": text,
        "utt2spk": speaker_of,
    }
    for file, table in (tables | {"spk2utt": utterances}).items():
        lines = (f"{key} {value}".rstrip() for key, value in sorted(table.items(), key=_by_bytes))
        write_text(out / file, "".join(f"{line}\n" for line in lines))
    return out


def _said(record: dict) -> list[_Said]:
    """What is said in a mixture or meeting, by talker or by time."""
    talkers = record["talkers"]
    if "seglst" in record["paths"]:
        of_name = {_word(talker["speaker"]): talker for talker in talkers}
        turns = json.loads(Path(record["paths"]["seglst"]).read_text(encoding="utf-8"))
        said = [(of_name[t["speaker"]], t["start_time"], t["end_time"], t["words"]) for t in turns]
    else:
        said = [(t, t["start_s"], t["end_s"], t["text"]) for t in talkers]
    digits = max(1, len(str(len(said))))
    return [
        _Said(f"{record['id']}-{number:0{digits}d}", t["speaker"], start_s, end_s, text, t)
        for number, (t, start_s, end_s, text) in enumerate(said, 1)
    ]


def _by_bytes(item: tuple[str, str]) -> bytes:
    """Order of the C locale, which Kaldi insists on."""
    return item[0].encode()


def _word(name: str) -> str:
    return "_".join(name.split())


def _recording(name: str, path: str) -> dict:
    info = soundfile.info(path)
    channels = list(range(info.channels))
    return {
        "id": name,
        "sources": [{"type": "file", "channels": channels, "source": path}],
        "sampling_rate": info.samplerate,
        "num_samples": info.frames,
        "duration": info.frames / info.samplerate,
        "channel_ids": channels,
    }


def _supervisions(record: dict) -> list[dict]:
    return [
        {
            "id": said.id,
            "recording_id": record["id"],
            "start": said.start_s,
            "duration": round(said.end_s - said.start_s, 4),
            "channel": list(range(len(record["mics_m"]))),
            "text": said.text,
            "speaker": said.speaker,
            "custom": {
                key: said.talker[key] for key in ("position_m", "azimuth_deg", "distance_m")
            },
        }
        for said in _said(record)
    ]


def _cut(record: dict, recording: dict, supervisions: Sequence[dict]) -> dict:
    references = {name: record["paths"][name] for name in _REFERENCES if name in record["paths"]}
    known = ("array", "mics_m", "room_size_m", "rt60_s", "snr_db")
    return {
        "id": record["id"],
        "start": 0.0,
        "duration": recording["duration"],
        "channel": recording["channel_ids"],
        "supervisions": list(supervisions),
        "recording": recording,
        "custom": {key: record[key] for key in known if key in record}
        | {name: _references(f"{record['id']}-{name}", v) for name, v in references.items()},
        "type": "MultiCut" if len(recording["channel_ids"]) > 1 else "MonoCut",
    }


def _references(name: str, value: str | list[str]) -> dict | list[dict]:
    if isinstance(value, str):
        return _recording(name, value)
    return [_recording(f"{name}{number}", path) for number, path in enumerate(value, 1)]


def _write_lines(path: Path, items: Sequence[dict]) -> Path:
    """A gzip of JSON lines; without a time stamp, so equal data sets give equal bytes."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.writelines(f"{line}\n".encode() for line in _as_json(items))
    temporary.replace(path)
    return path


def _as_json(items: Sequence[dict]) -> Iterator[str]:
    return (json.dumps(item) for item in items)
