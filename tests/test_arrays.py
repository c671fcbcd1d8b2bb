"""Arrays: named ones have the dimensions they claim, mistakes are told, random ones fit."""

import numpy as np
import pytest

from simulate import ArrayGeometry, list_arrays, load_array
from simulate.arrays import random_array

MICS = {
    "laptop_2mic": 2,
    "linear_4mic": 4,
    "square_4mic": 4,
    "circular_6mic": 6,
    "circular_6plus1": 7,
    "circular_8mic": 8,
    "grid_3x3": 9,
}


def test_every_named_array_ships():
    assert set(list_arrays()) >= set(MICS)


@pytest.mark.parametrize("name", MICS)
def test_named_arrays_are_centred_and_say_where_they_come_from(name):
    array = load_array(name)
    assert array.name == name and array.n_mics == MICS[name]
    assert array.description and array.source
    np.testing.assert_allclose(array.as_array().mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "radius_m"),
    [("circular_6mic", 0.0463), ("circular_6plus1", 0.0425), ("circular_8mic", 0.1)],
)
def test_circles_have_their_radius_and_even_angles(name, radius_m):
    p = load_array(name).as_array()
    ring = p[np.linalg.norm(p, axis=1) > 1e-6]
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), radius_m, atol=2e-6)
    angle = np.unwrap(np.arctan2(ring[:, 1], ring[:, 0]))
    np.testing.assert_allclose(np.diff(angle), 2 * np.pi / len(ring), atol=1e-4)


def test_an_unknown_name_is_told_the_nearest_ones():
    with pytest.raises(
        ValueError, match=r"unknown array circular_6mics: did you mean.*circular_6mic"
    ):
        load_array("circular_6mics")


def test_a_misspelt_key_is_told_the_nearest_one(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\npositons_m: [[0, 0, 0]]\n")
    with pytest.raises(
        ValueError, match="unknown key positons_m: did you mean positions_m"
    ) as error:
        load_array(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "positions", ["[]", "[[0, 0]]", "[[0, 0, .nan]]", "[[a, 0, 0]]", "nothing", ""]
)
def test_positions_that_are_not_positions_are_refused_in_one_line(tmp_path, positions):
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\npositions_m: {positions}\n")
    with pytest.raises(ValueError, match="positions_m") as error:
        load_array(str(file))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_yaml_is_refused_in_one_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: [unclosed\n")
    with pytest.raises(ValueError, match="not readable as YAML") as error:
        load_array(file)
    assert "\n" not in str(error.value)


def test_any_yaml_of_positions_is_an_array(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\npositions_m: [[0, 0, 0], [0.3, 0, 0.4]]\n")
    array = load_array(file)
    assert array == ArrayGeometry(name="mine", positions_m=[(0, 0, 0), (0.3, 0, 0.4)])
    assert array.aperture_m() == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["linear", "circular", "planar", "irregular"])
@pytest.mark.parametrize("n_mics", [2, 3, 5, 8])
def test_random_arrays_have_the_asked_mics_and_aperture(kind, n_mics):
    rng = np.random.default_rng(n_mics)
    for aperture_m in (0.02, 0.4):
        array = random_array(kind, n_mics, aperture_m, rng)
        assert array.n_mics == n_mics
        assert array.aperture_m() == pytest.approx(aperture_m, abs=5e-6)
        p = array.as_array()
        gaps = np.linalg.norm(p[:, None] - p[None], axis=-1) + np.eye(n_mics)
        assert gaps.min() > 0, "two microphones in one place"


def test_a_random_array_of_one_microphone_sits_at_the_origin():
    array = random_array("linear", 1, 0.1, np.random.default_rng(0))
    assert array.positions_m == [(0, 0, 0)]


def test_an_unknown_kind_is_told_the_nearest_one():
    with pytest.raises(ValueError, match="did you mean circular"):
        random_array("circle", 4, 0.1, np.random.default_rng(0))
