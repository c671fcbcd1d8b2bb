"""Score systems on meetings: who talked when, what was given to somebody else, and which words.

    noisy              the reference mic as if it were one talker: its activity alone
    cacgmm             the windows of ours with the spatial mixture model alone, told how many talk
    clearbeam          the shipped chain; clearbeam-told is told how many talk
    clearbeam:MODEL    the same with the weights of that name or path; clearbeam-told:MODEL

All rates are shares of the true speech, without a collar, where two at once count twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import multichannel
import separation
from clearbeam import wer
from clearbeam.audio import Recording
from clearbeam.clips import REFERENCE_MIC, ClipFiles, list_clips
from clearbeam.diarisation import diarisation_error
from clearbeam.evaluate import Progress, check_reports, one_thread, remembered, write_reports
from clearbeam.ledger import Row, fingerprint
from clearbeam.report import Column, Report
from clearbeam.scores import Speed
from clearbeam.separate import SHIPPED, SPATIAL, Job, Settings, load_separator
from clearbeam.systems import no_such_system
from clearbeam.talker_files import Talkers, write_talkers
from clearbeam.transcribe import EMBEDDED, Recogniser, load_recogniser
from separation.separate import model_files
from separation.windows import Sound
from simulate.disk import scratch_folder
from simulate.meeting_text import Said

TASK = "meeting"
COLUMNS = {
    name: Column(name, title, 1)
    for name, title in {
        "der": "DER (%)",
        "missed": "missed (%)",
        "false": "false alarm (%)",
        "confused": "confused (%)",
        "talkers": "talkers counted",
        "cpwer": "cpWER (%)",
        "orcwer": "ORC-WER (%)",
    }.items()
}
OURS, SYSTEMS = ("clearbeam", "clearbeam-told"), ("noisy", "cacgmm")
DEFAULT_SYSTEMS = (*SYSTEMS, "clearbeam")
_CODE = (
    "audio",
    "diarisation",
    "meetings",
    "pieces",
    "separate",
    "talker_files",
    "transcribe",
    "wer",
)


def evaluate_meetings(
    dataset: str | Path,
    systems: Sequence[str] | None = None,
    *,
    jobs: int = 1,
    limit: int | None = None,
    metrics: Sequence[str] | None = None,
    baseline: str = "noisy",
    recogniser: str = EMBEDDED,
    json_path: str | Path | None = None,
    markdown_path: str | Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """`evaluate_dataset` for meetings, whose truth is the `seglst` of their records.

    metrics: names of `COLUMNS`; by default all but those of words, for which every segment is given
    to the `recogniser` (see `clearbeam.transcribe`). The rest is as there.
    """
    chosen = _columns(metrics)
    names = list(dict.fromkeys([baseline, *(systems or DEFAULT_SYSTEMS)]))
    files_of = {name: system_files(name) for name in names}
    hearer = recogniser if set(chosen) & set(wer.RATES) else None
    meetings = list_clips(dataset, limit, "seglst")
    ledger = check_reports(jobs, json_path, markdown_path)
    rooms = [Path(room.__path__[0]) for room in (multichannel, separation)]
    code = [Path(__file__).with_name(f"{name}.py") for name in _CODE]
    keys = {
        (one.name, name): fingerprint(
            TASK, name, hearer or "", one.stamp(), *rooms, *code, *files_of[name]
        )
        for one in meetings
        for name in names
    }
    work = partial(_score, tuple(chosen), hearer)
    rows = remembered(keys, meetings, work, ledger, chosen, jobs, progress)
    columns = tuple(COLUMNS[name] for name in chosen)
    conditions = {one.name: one.conditions for one in meetings}
    report = Report(str(dataset), TASK, columns, tuple(names), baseline, tuple(rows), conditions)
    write_reports(report, json_path, markdown_path)
    return report


def _columns(names: Sequence[str] | None) -> list[str]:
    """The columns called so; raises ValueError for no such, ImportError without meeteval."""
    if names is None:
        return [name for name in COLUMNS if name not in wer.RATES]
    for name in names:
        if name not in COLUMNS:
            raise ValueError(f"expected metrics among {', '.join(COLUMNS)}, found {name}")
        if name in wer.RATES:
            wer.require()
    return list(dict.fromkeys(names))


def system_files(name: str) -> list[Path]:
    """The weights behind a system; raises ValueError where there is no such."""
    if name in SYSTEMS:
        return []
    front, _, model = name.partition(":")
    if front in OURS:
        return model_files(model or SHIPPED)
    raise no_such_system(name, (*SYSTEMS, *OURS))


def segments_of(path: Path) -> list[Said]:
    """The segments of a SegLST file, in seconds; raises ValueError where it is none."""
    try:
        return [
            Said(s["speaker"], float(s["start_time"]), float(s["end_time"]), s.get("words", ""))
            for s in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected segments (SegLST) in {path}, found {error!r}") from None


def scores(found: Sequence[Said], truth: Sequence[Said], names: Sequence[str]) -> dict[str, float]:
    """The columns `names` of what was found in a meeting."""
    error = diarisation_error(found, truth)
    parts = {kind: getattr(error, f"{kind}_s") for kind in ("missed", "false", "confused")}
    values = {kind: 100 * seconds / error.speech_s for kind, seconds in parts.items()}
    values |= {"der": 100 * error.rate, "talkers": float(len({said.speaker for said in found}))}
    for rate in set(names) & set(wer.RATES):
        values[rate] = 100 * wer.word_error_rate(found, truth, rate)
    return {name: values[name] for name in names}


def _score(
    names: Sequence[str], recogniser: str | None, todo: tuple[ClipFiles, list[str]]
) -> list[Row]:
    """The rows of a meeting for some systems."""
    meeting, systems = todo
    truth = segments_of(meeting.images[0])
    hearer = None if recogniser is None else load_recogniser(recogniser)
    return [_row(meeting, truth, system, names, hearer) for system in systems]


def _row(
    meeting: ClipFiles,
    truth: Sequence[Said],
    system: str,
    names: Sequence[str],
    recogniser: Recogniser | None,
) -> Row:
    recording = Recording([meeting.mixture])
    n_talkers = len({said.speaker for said in truth})
    with scratch_folder() as folder, one_thread():
        start = time.process_time()
        try:
            talkers = _run(system, recording, n_talkers, folder, recogniser)
        except Exception as error:
            raise RuntimeError(f"{system} failed on meeting {meeting.name}: {error!r}") from error
        compute_s = time.process_time() - start
    speed = Speed(compute_s, recording.n_samples / recording.sample_rate)
    return Row(meeting.name, system, scores(talkers.segments, truth, names), speed)


def _run(
    system: str, recording: Recording, told: int, folder: Path, recogniser: Recogniser | None
) -> Talkers:
    if system == "noisy":
        streams = [_reference(recording)]
        rate = recording.sample_rate
        return write_talkers(streams, rate, recording, folder / "out", recogniser=recogniser)
    front, _, model = system.partition(":")
    model = SPATIAL if system == "cacgmm" else model or SHIPPED
    settings = Settings(None if front == "clearbeam" else told)
    job = Job(load_separator(model, "cpu"), model, settings, recogniser)
    return job.run(recording, folder)


def _reference(recording: Recording) -> Iterator[Sound]:
    return (block[REFERENCE_MIC] for block in recording.blocks())
