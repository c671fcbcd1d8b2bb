"""Synthesise the built-in talkers with free synthesisers: `python simulate/talkers/build.py`.

Needs `flite` and `espeak-ng` on the path; users never run this, for the FLAC files it makes are
committed beside it. A voice is a command that writes a WAV file, and a factor by which that file is
then played faster: that raises pitch and formants together, as a shorter vocal tract would, and
turns one good voice into another person.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

HERE = Path(__file__).parent
SAMPLE_RATE = 16_000
PEAK = 0.5
MARGIN_S = 0.05  # kept before the first and after the last sound
SILENCE_DB = -40.0  # relative to the loudest 10 ms


@dataclass(frozen=True)
class Voice:
    """One talker: how to synthesise it, and what it says."""

    name: str
    gender: str
    command: tuple[str, ...]  # writes {out} from the words {text}
    licence: str
    sentences: tuple[str, ...]
    faster: float = 1.0


def flite(voice: str, stretch: float = 1.0) -> tuple[str, ...]:
    """Return the flite command for a voice, its speech `stretch` times slower than usual."""
    return (
        "flite",
        "-voice",
        voice,
        "--setf",
        f"duration_stretch={stretch}",
        "-t",
        "{text}",
        "-o",
        "{out}",
    )


def espeak(voice: str) -> tuple[str, ...]:
    """Return the espeak-ng command for a voice."""
    return ("espeak-ng", "-v", voice, "-s", "160", "-w", "{out}", "{text}")


FLITE = "CMU Flite licence (BSD-like, keep the notice; see README.md)"
ESPEAK = "output of a free synthesiser, dedicated to the public domain (CC0)"

VOICES = (
    Voice(
        "rms",
        "male",
        flite("rms"),
        FLITE,
        (
            "The harbour was quiet when the last ferry turned towards the island.",
            "Please move the small table closer to the window before they arrive.",
            "Nobody noticed that the clock in the kitchen had stopped at noon.",
            "We measured the room twice and wrote both numbers on the wall.",
        ),
    ),
    Voice(
        "slt",
        "female",
        flite("slt"),
        FLITE,
        (
            "My neighbour grows tomatoes on the roof and shares them every August.",
            "Could you turn the music down while I answer this telephone call?",
            "The train to the mountains leaves from platform seven at half past nine.",
            "She opened the letter slowly, as if it might contain a spark.",
        ),
    ),
    Voice(
        "awb",
        "male",
        flite("awb"),
        FLITE,
        (
            "A cold wind came over the hills and rattled every gate in the village.",
            "I would rather walk for an hour than wait ten minutes for a bus.",
            "They painted the boat green, although the owner had asked for blue.",
            "The baker keeps a radio behind the counter and sings along all day.",
        ),
    ),
    Voice(
        "kal",
        "male",
        flite("kal16"),
        FLITE,
        (
            "Set the alarm for six and remind me to water the plants.",
            "The museum is closed on Mondays, but the garden stays open.",
            "Seven bright lanterns hung above the narrow street.",
            "Add flour, two eggs and a spoon of honey to the bowl.",
        ),
    ),
    Voice(
        "robin",
        "female",
        flite("slt", stretch=1.17),
        FLITE,
        (
            "We built a castle out of boxes and the cat moved in at once.",
            "Can we go to the lake if the rain stops before lunch?",
            "My brother hid the last biscuit under a very large hat.",
            "The moon looks bigger tonight than it did yesterday.",
        ),
        faster=1.17,
    ),
    Voice(
        "ada",
        "female",
        espeak("en-us+f2"),
        ESPEAK,
        (
            "The next meeting begins in the large room on the second floor.",
            "Every microphone hears the same voice a little earlier or later.",
            "Take the second road on the left and follow the river.",
            "Our guests forgot an umbrella and a pair of brown gloves.",
        ),
    ),
)


def synthesise(voice: Voice, text: str) -> np.ndarray:
    """Return what `voice` says for `text`: float (samples,) at 16 kHz, trimmed, peak 0.5."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "speech.wav")
        subprocess.run([part.format(text=text, out=out) for part in voice.command], check=True)
        speech, rate = soundfile.read(out)
    speech = trim(soxr.resample(speech, rate * voice.faster, SAMPLE_RATE, quality="VHQ"))
    return speech * PEAK / np.abs(speech).max()


def trim(speech: np.ndarray) -> np.ndarray:
    """Return `speech` (samples,) without its silent beginning and end."""
    step = SAMPLE_RATE // 100
    frames = speech[: speech.size // step * step].reshape(-1, step)
    level_db = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    loud = np.flatnonzero(level_db > level_db.max() + SILENCE_DB) * step
    margin = int(MARGIN_S * SAMPLE_RATE)
    return speech[max(0, loud[0] - margin) : loud[-1] + step + margin]


def main() -> None:
    """Write every utterance and `talkers.jsonl` beside this script."""
    records = []
    for voice in VOICES:
        for number, text in enumerate(voice.sentences, start=1):
            speech = synthesise(voice, text)
            path = f"{voice.name}{number}.flac"
            soundfile.write(HERE / path, speech, SAMPLE_RATE, subtype="PCM_16")
            records.append({
                "path": path, "seconds": round(speech.size / SAMPLE_RATE, 3), "corpus": "builtin",
                "speaker": f"builtin-{voice.name}", "gender": voice.gender, "text": text,
                "licence": voice.licence,
            })  # fmt: skip
    lines = [json.dumps(record) for record in records]
    (HERE / "talkers.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
