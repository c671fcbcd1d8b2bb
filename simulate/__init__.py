"""Rooms, arrays and talkers -> array mixtures with their references (numpy only)."""

from simulate.arrays import ArrayGeometry, list_arrays, load_array
from simulate.corpus import load_corpus
from simulate.dataset import read_manifest, write_dataset
from simulate.render import Mixture, render
from simulate.scene import Scene, sample_scene
from simulate.scene_config import SceneConfig

__all__ = [
    "ArrayGeometry",
    "Mixture",
    "Scene",
    "SceneConfig",
    "list_arrays",
    "load_array",
    "load_corpus",
    "read_manifest",
    "render",
    "sample_scene",
    "write_dataset",
]
