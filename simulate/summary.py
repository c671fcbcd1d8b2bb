"""What a data set holds, at a glance: how its quantities are spread, in numbers and a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

_BINS = 24
_BLOCKS = " ▁▂▃▄▅▆▇█"
_INK = "#2e6f95"
_NAMED = 6  # of the most frequent contents


def _of_talkers(key: str) -> Callable[[dict], list]:
    return lambda record: [talker.get(key) for talker in record.get("talkers", [])]


_QUANTITIES: dict[str, Callable[[dict], list]] = {
    "RT60 (s)": lambda r: [r.get("rt60_s")],
    "volume (m3)": lambda r: (
        [float(np.prod(r["room_size_m"])) or None] if "room_size_m" in r else []
    ),
    "SNR (dB)": lambda r: [r.get("snr_db")],
    "azimuth (deg)": _of_talkers("azimuth_deg"),
    "distance (m)": _of_talkers("distance_m"),
    "talkers": lambda r: [len(r["talkers"])] if "talkers" in r else [],
    "microphones": lambda r: [len(r["mics_m"])] if "mics_m" in r else [],
    "duration (s)": lambda r: [r.get("seconds")],
    "overlap ratio": lambda r: [r.get("overlap_ratio")],
}


def quantities(records: Iterable[dict]) -> dict[str, np.ndarray]:
    """Values of every quantity by its name and unit, as far as the records know it.

    A quantity of talkers has a value for each of them, the others one for each mixture.
    """
    found: dict[str, list[float]] = {name: [] for name in _QUANTITIES}
    for record in records:
        for name, read in _QUANTITIES.items():
            found[name] += [float(v) for v in read(record) if isinstance(v, (int, float))]
    kept = {name: np.asarray(values) for name, values in found.items()}
    return {name: v[np.isfinite(v)] for name, v in kept.items() if np.isfinite(v).any()}


def rows(records: Sequence[dict]) -> list[tuple[str, ...]]:
    """A row of words for each quantity: name, lowest, median, mean, highest, histogram."""
    return [
        (name, *(f"{v:.3g}" for v in (x.min(), np.median(x), x.mean(), x.max())), histogram_line(x))
        for name, x in quantities(records).items()
    ]


def contents(records: Sequence[dict]) -> list[str]:
    """A line each for arrays, noises and speakers: what there is, in how many of the mixtures."""
    arrays = Counter(r["array"]["name"] for r in records)
    noises = Counter(kind for r in records for kind in set(r["noises"]))
    speakers = Counter(name for r in records for name in {t["speaker"] for t in r["talkers"]})
    return [
        f"{what} ({len(found)}): {_most_common(found)}"
        for what, found in (("arrays", arrays), ("noises", noises), ("speakers", speakers))
    ]


def _most_common(found: Counter[str]) -> str:
    named = [f"{name or 'unknown'} {n}" for name, n in found.most_common(_NAMED)]
    return ", ".join(named + ["..."] * (len(found) > _NAMED))


def gigabytes(records: Sequence[dict], references: Collection[str], all_mics: bool) -> float:
    """Size of the data set as WAV files of 24 bits, in 10^9 bytes; FLAC takes less."""
    total = 0.0
    for record in records:
        n_mics, n_talkers = len(record["mics_m"]), len(record["talkers"])
        each = {"noise": n_mics if all_mics else 1, "dry": n_talkers}
        talkers = n_talkers * (n_mics if all_mics else 1)
        channels = n_mics + sum(each.get(name, talkers) for name in references)
        total += 3 * channels * record["seconds"] * record["fs"]
    return total / 1e9


def histogram_line(values: np.ndarray, width: int = 16) -> str:
    """A histogram of `values`, (n,), as one line of block characters; the tallest is full."""
    counts, _ = np.histogram(values, _edges(values, width))
    steps = np.ceil(counts / counts.max() * (len(_BLOCKS) - 1)).astype(int)
    return "".join(_BLOCKS[step] for step in steps)


def plot_summary(records: Iterable[dict], path: Path) -> None:
    """Draw a histogram of every quantity of the records as a PNG, complete or not at all.

    Equal records give equal bytes.
    """
    from matplotlib.figure import Figure  # half a second that nothing else here needs

    panels = quantities(records)
    columns = min(4, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(3 * columns, 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, values) in zip(axes, panels.items(), strict=False):
        axis.hist(values, _edges(values, _BINS), color=_INK)
        axis.set_xlabel(name)
        if np.all(values == np.round(values)):
            axis.locator_params(axis="x", integer=True, min_n_ticks=1)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"median {np.median(values):.3g}", fontsize=9, loc="left")
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    temporary = path.with_name(f".{path.name}.part")
    figure.savefig(temporary, format="png", dpi=110)
    temporary.replace(path)


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Borders of the bins; a single value gets a bin around it, counts get one each."""
    low, high = float(values.min()), float(values.max())
    if np.all(values == np.round(values)) and high - low < bins:
        return np.arange(low - 0.5, high + 1)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return np.array([low - 0.5, high + 0.5])
    return np.linspace(low, high, bins + 1)
