"""Responses in SOFA files make rooms as those in FLAC and WAV do."""

import numpy as np
import pytest

from simulate import Scene, SceneConfig, render, sample_scene
from simulate.measured import list_responses, read_response, response_rt60

h5py = pytest.importorskip("h5py")
FS = 16000
RT60_S = 0.3


def responses(shape: tuple[int, ...], fs: float = FS) -> np.ndarray:
    """Clicks at sample 80 with tails that decay by 60 dB in RT60_S: (*shape, samples)."""
    t = np.arange(round(0.4 * fs)) / fs
    rng = np.random.default_rng(0)
    rir = 0.02 * rng.standard_normal((*shape, t.size)) * 10 ** (-3 * t / RT60_S)
    rir[..., :80] = 0
    rir[..., 80] = 0.5 + 0.01 * np.arange(np.prod(shape)).reshape(shape)
    return rir


def write(path, ir: np.ndarray, fs: float = FS, convention: str = "SingleRoomDRIR", **data):
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("SOFA")
        file.attrs["SOFAConventions"] = np.bytes_(convention)
        file.attrs["DataType"] = np.bytes_("FIR" if ir.ndim == 3 else "FIR-E")
        file["Data.IR"], file["Data.SamplingRate"] = ir, np.array([fs])
        for name, value in data.items():
            file[name.replace("_", ".")] = np.asarray(value, float)
    return path


def scene(path, **changes) -> Scene:
    data = {"duration_s": 1, "measured": {"responses": str(path)}, "noise_mix": {"point": {}}}
    return sample_scene(SceneConfig.model_validate(data | changes), 0, 0)


@pytest.mark.parametrize("convention", ["SingleRoomDRIR", "SingleRoomSRIR", "GeneralFIR"])
def test_every_measurement_is_a_place_and_every_receiver_a_microphone(tmp_path, convention):
    ir = responses((3, 2))
    path = write(tmp_path / "a.sofa", ir, convention=convention)
    found = list_responses(str(path))
    assert (
        len(found) == 3 and {r.n_mics for r in found} == {2} and len({r.room for r in found}) == 1
    )
    for response, expected in zip(found, ir, strict=True):
        np.testing.assert_allclose(read_response(response.path, FS), expected, atol=1e-7)
    drawn = scene(path, talkers={"count": 2})
    assert drawn.rt60_s == response_rt60(drawn.talkers[0].responses[0], FS)
    mix = render(drawn)
    assert np.abs(mix.image.sum(axis=0) + mix.noise - mix.mixture).max() <= 1e-6
    assert len({t.responses[0] for t in drawn.talkers}) == 2


def test_every_emitter_is_a_place_of_its_own(tmp_path):
    ir = responses((1, 2, 4))
    found = list_responses(str(write(tmp_path / "b.sofa", ir, convention="MultiSpeakerBRIR")))
    for e, response in enumerate(found):
        np.testing.assert_allclose(read_response(response.path, FS), ir[0, :, e], atol=1e-7)
    assert len(found) == 4


def test_places_heard_by_a_listener_who_moved_are_not_heard_together(tmp_path):
    turned = {"ListenerView": [[1, 0, 0], [1, 0, 0], [0, 1, 0]]}
    path = write(tmp_path / "c.sofa", responses((3, 2)), **turned)
    assert [r.room for r in list_responses(str(path))].count(list_responses(str(path))[0].room) == 2
    with pytest.raises(ValueError, match="expected a room with 3 responses, found at most 2"):
        scene(path, talkers={"count": 3})


def test_delays_count_in_whole_samples_and_parts_of_them(tmp_path):
    ir = np.zeros((1, 2, 400))
    n = np.arange(400)
    ir[:] = np.exp(-((n - 100) ** 2) / 50)
    path = write(tmp_path / "d.sofa", ir, Data_Delay=[[7, 12.5]])
    x = read_response(list_responses(str(path))[0].path, FS)
    np.testing.assert_allclose(x[0, :400], np.exp(-((n - 107) ** 2) / 50), atol=1e-6)
    np.testing.assert_allclose(x[1, :400], np.exp(-((n - 112.5) ** 2) / 50), atol=1e-6)


def test_another_rate_is_resampled(tmp_path):
    path = write(tmp_path / "e.sofa", responses((1, 2), 48000), 48000)
    assert scene(path).rt60_s == pytest.approx(RT60_S, rel=0.1)


def test_what_is_no_sofa_file_of_responses_is_told_in_one_line(tmp_path):
    text, other, flat = (tmp_path / f"{name}.sofa" for name in ("text", "other", "flat"))
    text.write_text("no HDF5")
    with h5py.File(other, "w") as file:
        file.attrs["DataType"] = np.bytes_("TF")
    write(flat, np.ones((2, 3))[..., None][..., 0])
    for path, message in (
        (text, r"expected a SOFA file, found .*text\.sofa"),
        (other, r"FIR responses with Data\.IR, found .*other\.sofa \(DataType TF\)"),
        (flat, r"expected Data\.IR of 3 or 4 axes, found \(2, 3\)"),
        (tmp_path / "none.sofa", r"expected a SOFA file, found .*none\.sofa"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            scene(path)
        assert "\n" not in str(error.value)
