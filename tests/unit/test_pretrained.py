"""The methods that ship load, and do on the embedded faces what their manifest says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import aia_lib
from aia_lib import UserError, load_faces, load_pretrained
from aia_lib.anonymizers import fitted_networks
from aia_lib.audit import represent
from aia_lib.machine.files import sha256
from aia_lib.saving import PRETRAINED
from aia_lib.statistics import roc_auc

ROOT = Path(aia_lib.__file__).parent / "checkpoints"
MANIFEST = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tested():
    return load_faces("embedded", progress=False).split().test


@pytest.mark.parametrize("name", PRETRAINED)
def test_its_adversary_reads_what_the_manifest_says(name, tested):
    """The whole test split, as in the run that made it; the weights were rounded to float16 in between."""
    method = load_pretrained(name)
    g = torch.from_numpy(represent(method, tested.images))
    auc = roc_auc(method.adversary(g).numpy(), tested.labels())
    recorded = MANIFEST["methods"][name]["paper"]["privacy_auc"]
    assert max(auc, 1 - auc) == pytest.approx(recorded, abs=0.01)
    if name == "original":
        assert auc > 0.85, "before protection the adversary succeeds"


def test_the_original_rebuilds_faces(tested):
    method = load_pretrained("original")
    images = torch.from_numpy(np.asarray(tested.images[:64], dtype=np.float32) / 255)
    error = (method.decode(method(images)) - images).square().mean()
    assert error < images.var() / 10


def test_both_are_of_the_run_that_the_manifest_tells_of():
    assert MANIFEST["provenance"]["data"]["source"] == "embedded" and MANIFEST["provenance"]["seeds"] == [0]
    for name in PRETRAINED:
        assert sha256(ROOT / MANIFEST["methods"][name]["file"]) == MANIFEST["methods"][name]["sha256"]
        assert fitted_networks(load_pretrained(name)).size == 64
    assert sum(path.stat().st_size for path in ROOT.rglob("*.safetensors")) < 10_000_000


def test_a_name_that_does_not_exist():
    with pytest.raises(UserError, match="no pretrained method 'AIA'; there are original, aia"):
        load_pretrained("AIA")
