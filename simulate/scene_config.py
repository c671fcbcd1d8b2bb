"""What a scene config may say: each quantity of a scene a value, a list or a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from simulate.arrays import MOST_MICS, Kind
from simulate.config import Frozen, find_config, nearest, read_yaml
from simulate.corpus import BUILTIN
from simulate.directivity import PATTERNS
from simulate.quantity import Choice, Quantity, Uniform, bounds
from simulate.room_config import Names, RoomConfig

LONGEST_S = 3600.0  # of a scene
MOST_SOURCES = 100.0  # talkers, or noises of one kind

Method = Annotated[
    Literal["exact", "fast", "hybrid", "ray"],
    BeforeValidator(lambda name: "exact" if name == "image" else name),
]


class RandomArrayConfig(Frozen):
    """Arrays drawn anew for each mixture."""

    kinds: list[Kind] = Field(["linear", "circular", "planar", "irregular"], min_length=1)
    mics: Quantity = Choice(choice=[2, 3, 4, 5, 6, 7, 8])
    aperture_m: Quantity = Uniform(uniform=(0.02, 0.4))


class ArrayConfig(Frozen):
    """`names` of arrays (or YAML paths), one drawn for each mixture; else `random` arrays."""

    names: list[str] = Field([])
    random: RandomArrayConfig | None = None
    height_m: Quantity = Uniform(uniform=(0.7, 1.5))
    min_wall_m: float = Field(0.5, ge=0)
    rotate: bool = True

    @model_validator(mode="after")
    def _one_of(self) -> ArrayConfig:
        if bool(self.names) == (self.random is not None):
            raise ValueError("expected either names or random, found both or neither")
        return self


class MotionConfig(Frozen):
    """Sources that walk: the kinds of way, one drawn for each; the speed; how many of them walk.

    line: to one place; arc: about the array; waypoints: from place to place. facing: "ahead" for
    talkers who face where they walk, "start" for as they stood. step_m: how far apart responses are
    computed on the way.
    """

    kind: list[Literal["line", "arc", "waypoints"]] = Field(["waypoints"], min_length=1)
    speed_m_s: Quantity = Uniform(uniform=(0.5, 1.5))
    probability: float = Field(1, ge=0, le=1)
    facing: Literal["start", "ahead"] = "start"
    step_m: float = Field(0.01, ge=1e-4)


class TalkerConfig(Frozen):
    """How many talk, and where: distance from the array, height of the mouth, space to walls.

    facing_deg: how far they turn away from the array (0: they face it), none for talkers who speak
    alike to every side. sir_db: level of the first talker over each other one at microphone 0, none
    for what their distances make of it. motion: some walk.
    """

    count: Quantity = 1
    distance_m: Quantity = Uniform(uniform=(0.5, 3))
    height_m: Quantity = Uniform(uniform=(1.1, 1.8))
    min_wall_m: float = Field(0.3, ge=0)
    min_angle_deg: float = Field(0, ge=0, le=180)
    silence_s: Quantity = Uniform(uniform=(0.1, 0.5))
    facing_deg: Quantity | None = None
    sir_db: Quantity | None = None
    motion: MotionConfig | None = None


class MeasuredConfig(Frozen):
    """A measured room: `responses`, a jsonl manifest, a folder of FLAC, WAV and SOFA files, or one.

    Each FLAC or WAV holds the responses from one place to all microphones, a SOFA file those from
    many. `array` names the array that they were measured with, where it is known.
    """

    responses: str
    array: str | None = None


class MicConfig(Frozen):
    """Microphones that are not ideal; each quantity is drawn for each microphone.

    pattern: one or more of omni, subcardioid, cardioid, supercardioid, hypercardioid, figure8, one
    drawn for a whole array; facing: outward, up, or an azimuth in the room. gain_db, phase_deg:
    mismatch. rate_offset_ppm: of a clock against that of microphone 0. dead, clipping:
    probabilities; clip_db: how far below its peak a microphone clips. self_noise_db: level of each
    microphone's own noise against the talkers at microphone 0 (-40: 40 dB below them).
    Microphone 0 is the reference: never dead, never clipping, its clock is the time.
    """

    pattern: Names = Field(["omni"])
    facing: Literal["outward", "up"] | float = "outward"
    gain_db: Quantity = 0
    phase_deg: Quantity = 0
    rate_offset_ppm: Quantity = 0
    dead: float = Field(0, ge=0, le=1)
    clipping: float = Field(0, ge=0, le=1)
    clip_db: Quantity = 6
    self_noise_db: Quantity | None = None

    @field_validator("pattern")
    @classmethod
    def _known(cls, patterns: list[str]) -> list[str]:
        for name in patterns:
            if name not in PATTERNS:
                raise ValueError(f"unknown pattern {name}: {nearest(name, [*PATTERNS])}")
        return patterns


class NoisePart(Frozen):
    """One kind of noise: how often there is one, from how many sources, its relative level."""

    probability: float = Field(1, ge=0, le=1)
    level_db: Quantity = 0
    sources: Quantity = 1


class DiffusePart(NoisePart):
    """Noise from everywhere (spherical), or from all around at one height (cylindrical)."""

    field: Literal["spherical", "cylindrical"] = "spherical"


class PlacedPart(NoisePart):
    """Noise from places in the room; motion: some of its sources walk."""

    motion: MotionConfig | None = None


class NoiseMix(Frozen):
    """diffuse: from everywhere; point: at a place in the room; babble: talkers around the room.

    appliance: made by rule, and at a place too: a fridge, a vacuum cleaner and others.
    """

    diffuse: DiffusePart | None = DiffusePart()
    point: PlacedPart | None = None
    babble: PlacedPart | None = None
    appliance: PlacedPart | None = None


class SceneConfig(Frozen):
    """A distribution of scenes, as read from YAML.

    room, array, talkers, noise_mix: what is where; mics: what is not ideal about the microphones;
    measured: a measured room in place of room, array and where the talkers stand.
    snr_db: reverberant talkers over noise at microphone 0, which counts the microphone's own noise
    only with snr_counts_mics; level_dbfs: RMS of the mixture there. early_ms: how long after the
    direct path still counts as early. method: see `room_impulse_responses`; exact may be called
    image too. speech, noise: manifests, or "builtin"; split: the part of them to use. references,
    reference_mics: what a data set holds beside the mixture.
    """

    room: RoomConfig = RoomConfig()
    array: ArrayConfig = ArrayConfig(names=["circular_6mic"])
    talkers: TalkerConfig = TalkerConfig()
    noise_mix: NoiseMix = NoiseMix()
    mics: MicConfig | None = None
    measured: MeasuredConfig | None = None
    snr_db: Quantity = Choice(choice=[0, 5, 10])
    snr_counts_mics: bool = False
    level_dbfs: Quantity = Uniform(uniform=(-35, -20))
    duration_s: Quantity = 4
    early_ms: float = Field(50, gt=0)
    method: Method = "exact"
    speech: str = BUILTIN
    noise: str = BUILTIN
    split: str | None = None
    fs: int = Field(16000, ge=8000, le=192000)
    references: Sequence[Literal["direct", "early", "image", "noise", "dry"]] = [
        "early",
        "image",
        "noise",
    ]
    reference_mics: Literal["all", "first"] = "all"

    @model_validator(mode="after")
    def _sensible(self) -> SceneConfig:
        if all(part is None for _, part in self.noise_mix):
            raise ValueError("expected at least one part in noise_mix, found none")
        sizes = ("length_m", "width_m", "height_m", "rt60_s")
        positive = {f"room.{name}": getattr(self.room, name) for name in sizes}
        positive["talkers.count"] = self.talkers.count
        positive["talkers.distance_m"] = self.talkers.distance_m
        positive["duration_s"] = self.duration_s
        for name, quantity in positive.items():
            if quantity is not None and not bounds(quantity)[0] > 0:
                raise ValueError(f"expected {name} above 0, found {bounds(quantity)[0]:g}")
        self._check_sizes()
        self._check_together()
        return self

    def _check_sizes(self) -> None:
        """No scene is so long, or so full, that nobody could have meant it."""
        random = self.array.random
        sizes: dict[str, tuple[Any, float]] = {"duration_s": (self.duration_s, LONGEST_S)}
        sizes["talkers.count"] = (self.talkers.count, MOST_SOURCES)
        sizes["array.random.mics"] = (0 if random is None else random.mics, MOST_MICS)
        for kind, part in self.noise_mix:
            sizes[f"noise_mix.{kind}.sources"] = (0 if part is None else part.sources, MOST_SOURCES)
        for name, (quantity, most) in sizes.items():
            if bounds(quantity)[1] > most:
                raise ValueError(
                    f"expected {name} of at most {most:g}, found {bounds(quantity)[1]:g}"
                )

    def _check_together(self) -> None:
        """Keys that each are right and cannot go together."""
        directional = self.mics is not None and self.mics.pattern != ["omni"]
        walks = [getattr(part, "motion", None) for _, part in self.noise_mix]
        placed = (self.talkers.motion, self.talkers.facing_deg, *walks)
        if self.measured is not None and (directional or any(v is not None for v in placed)):
            raise ValueError(
                "expected motion, talkers.facing_deg and mics.pattern in simulated rooms, "
                "found them with a measured one"
            )
        if bounds(self.room.scattering)[1] > 0 and self.method not in ("hybrid", "ray"):
            raise ValueError(
                f"expected method hybrid or ray for room.scattering, found {self.method}"
            )
        own = None if self.mics is None else self.mics.self_noise_db
        if self.snr_counts_mics and own is not None and -bounds(own)[1] <= bounds(self.snr_db)[1]:
            raise ValueError(
                "expected mics.self_noise_db below -snr_db, where snr_counts_mics, "
                f"found up to {bounds(own)[1]:g} with an SNR up to {bounds(self.snr_db)[1]:g}"
            )

    @classmethod
    def load(cls, path: str | Path) -> SceneConfig:
        """Read a scene YAML by path or shipped name; paths in it are relative to its folder.

        Raises ValueError, in one line, for an unknown name or a file that does not fit.
        """
        path = find_scene(path)
        config = read_yaml(path, cls)

        def located(value: str) -> str:
            return str((path.parent / value).resolve())

        names = [located(n) if n.endswith((".yaml", ".yml")) else n for n in config.array.names]
        files = {
            key: located(value)
            for key, value in (("speech", config.speech), ("noise", config.noise))
            if value != BUILTIN
        }
        array = config.array.model_copy(update={"names": names})
        config = config.model_copy(update={"array": array, **files})
        if config.measured is None:
            return config
        measured = {"responses": located(config.measured.responses)}
        if str(config.measured.array).endswith((".yaml", ".yml")):
            measured["array"] = located(str(config.measured.array))
        return config.model_copy(update={"measured": config.measured.model_copy(update=measured)})


def find_scene(name: str | Path) -> Path:
    """The YAML of a shipped scene (`quickstart`) or a path; ValueError names the nearest scenes."""
    return find_config("scenes", name)
