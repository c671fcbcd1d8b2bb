"""Scene configs: quantities in every form, mistakes told in one line, paths beside the YAML."""

from pathlib import Path

import numpy as np
import pytest

from simulate import SceneConfig, sample_scene
from simulate.config import config_dir
from simulate.quantity import Choice, Normal, Uniform

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def load(tmp_path, text: str) -> SceneConfig:
    file = tmp_path / "scene.yaml"
    file.write_text(text)
    return SceneConfig.load(file)


@pytest.mark.parametrize("name", ["enhance_6mic", "train_enhance", "quickstart"])
def test_shipped_scenes_work_with_what_is_built_in(name):
    config = SceneConfig.load(name)
    scene = sample_scene(config, 0, 0)
    assert config.speech == config.noise == "builtin" and scene.method == config.method
    assert SceneConfig.load(config_dir("scenes") / f"{name}.yaml") == config


def test_the_evaluation_scene_is_the_stated_condition():
    scenes = [sample_scene(SceneConfig.load("enhance_6mic"), 0, i) for i in range(30)]
    assert {s.array.name for s in scenes} == {"circular_6mic"}
    assert {s.snr_db for s in scenes} == {0, 5, 10}
    assert all(0.2 <= s.rt60_s <= 0.6 and len(s.talkers) == 1 for s in scenes)
    assert all({n.kind for n in s.noises} == {"diffuse", "point"} for s in scenes)


def test_training_scenes_cover_arrays_rooms_and_noises():
    scenes = [sample_scene(SceneConfig.load("train_enhance"), 0, i) for i in range(150)]
    assert {s.array.n_mics for s in scenes} == set(range(2, 9))
    assert {s.array.name.split("_")[1] for s in scenes} == {
        "linear",
        "circular",
        "planar",
        "irregular",
    }
    aperture = [s.array.aperture_m() for s in scenes]
    assert min(aperture) < 0.06 and max(aperture) > 0.36
    assert {n.kind for s in scenes for n in s.noises} == {"diffuse", "point", "babble"}
    rt60_s, snr_db = [s.rt60_s for s in scenes], [s.snr_db for s in scenes]
    assert min(rt60_s) < 0.2 and max(rt60_s) > 0.7 and min(snr_db) < 0 and max(snr_db) > 15


@pytest.mark.skipif(not SHARED.is_dir(), reason="no corpora beside the checkout")
def test_corpora_can_be_named_by_the_caller():
    corpora = {"speech": str(SHARED / "speech.jsonl"), "noise": str(SHARED / "noise.jsonl")}
    config = SceneConfig.load("train_enhance").model_copy(update=corpora)
    scene = sample_scene(config, 0, 0)
    assert all(Path(s.path).is_file() for t in scene.talkers for s in t.segments)


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("snr_db: 3", 3.0),
        ("snr_db: [0, 5]", [0.0, 5.0]),
        ("snr_db: {uniform: [0, 5]}", Uniform(uniform=(0, 5))),
        ("snr_db: {normal: [5, 2]}", Normal(normal=(5, 2))),
        ("snr_db: {choice: [0, 5]}", Choice(choice=[0, 5])),
    ],
)
def test_a_quantity_is_a_value_a_list_or_a_distribution(tmp_path, text, quantity):
    assert load(tmp_path, text).snr_db == quantity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("snr: 3", "unknown key snr: did you mean snr_db"),
        ("room: {lenght_m: 3}", "unknown key room.lenght_m: did you mean length_m"),
        (
            "noise_mix: {point: {levle_db: 3}}",
            "unknown key noise_mix.point.levle_db: did you mean level_db",
        ),
        ("array: {random: {mic: 3}}", "unknown key array.random.mic: did you mean mics"),
        ("snr_db: {unifrom: [0, 5]}", "snr_db.*unknown key unifrom: did you mean uniform"),
        ("snr_db: {uniform: [5, 0]}", r"snr_db.*expected uniform: \[low, high\]"),
        ("snr_db: {uniform: [5]}", "snr_db"),
        ("snr_db: loud", "snr_db"),
        ("snr_db: []", "snr_db"),
        ("snr_db: .nan", "snr_db"),
        ("duration_s: {uniform: [-1, 2]}", "expected duration_s above 0, found -1"),
        ("room: {rt60_s: 0}", "expected room.rt60_s above 0, found 0"),
        ("array: {names: []}", "expected either names or random"),
        ("noise_mix: {diffuse: null}", "expected at least one part in noise_mix"),
        ("method: quick", "method: .*'exact', 'fast', 'hybrid' or 'ray'"),
        ("room: {materials: brikwork}", "unknown material brikwork: did you mean brickwork"),
        (
            "room: {materials: {all: brickwork, eest: x}}",
            "room.materials.eest: did you mean west or east",
        ),
        ("room: {materials: {walls: brickwork}}", "expected a material for floor, found none"),
        ("room: {materials: brickwork, rt60_s: 1}", "either rt60_s or materials, found both"),
        ("room: {rt60_s: null}", "either rt60_s or materials, found neither"),
        ("{room: {scattering: 2}, method: ray}", "expected scattering from 0 to 1, found 2 to 2"),
        ("room: {scattering: 0.1}", "expected method hybrid or ray for room.scattering"),
        ("noise_mix: {diffuse: {motion: {}}}", "unknown key noise_mix.diffuse.motion"),
        ("- 1", "valid dictionary"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, text)
    assert "\n" not in str(error.value) and "scene.yaml" in str(error.value)


def test_an_unknown_scene_is_told_the_nearest_ones():
    with pytest.raises(ValueError, match="unknown scene quickstat: did you mean quickstart"):
        SceneConfig.load("quickstat")


def test_a_missing_yaml_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"found no file .*none\.yaml"):
        SceneConfig.load(tmp_path / "none.yaml")


def test_paths_in_a_scene_are_relative_to_its_folder(tmp_path):
    text = "speech: data/speech.jsonl\nnoise: ../noise.jsonl\narray: {names: [mine.yaml, grid_3x3]}"
    config = load(tmp_path, text)
    assert config.speech == str(tmp_path / "data/speech.jsonl")
    assert config.noise == str(tmp_path.parent / "noise.jsonl")
    assert config.array.names == [str(tmp_path / "mine.yaml"), "grid_3x3"]


def test_a_config_survives_yaml_of_itself(tmp_path):
    import yaml

    config = SceneConfig.load("train_enhance")
    assert load(tmp_path, yaml.safe_dump(config.model_dump(mode="json"))) == config


def test_draws_do_not_depend_on_other_draws():
    config = SceneConfig.load("quickstart")
    alone = sample_scene(config, 0, 5)
    for index in range(5):
        sample_scene(config, 0, index)
    np.random.seed(1)
    assert sample_scene(config, 0, 5) == alone
