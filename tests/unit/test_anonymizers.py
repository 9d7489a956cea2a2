"""The four anonymizers: one protocol, the same g after saving and loading, and a Random that does what the paper says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aia_lib.anonymizers import AIA, AIAWithoutTask, Anonymizer, Networks, Original, RandomMask
from aia_lib.config import PROFILES, AdversaryConfig, AutoencoderConfig, FinetuneConfig, SiameseConfig
from aia_lib.faces import Faces, with_attribute
from aia_lib.machine.device import to_images
from aia_lib.machine.files import UserError
from aia_lib.machine.stage import signed
from aia_lib.saving import load_anonymizer, load_pretrained

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
K = 192
"""Numbers in g at 16 pixels."""

TINY = dataclasses.replace(
    PROFILES["fast"],
    size=16,
    autoencoder=AutoencoderConfig(epochs=1, batch_size=16),
    adversary=AdversaryConfig(epochs=1, batch_size=16),
    siamese=SiameseConfig(epochs=1, batch_size=16),
    finetune=FinetuneConfig(epochs=1, batch_size=8),
)


@pytest.fixture(scope="module")
def faces(toy_faces) -> Faces:
    return toy_faces(people=12, images=4, size=16)


@pytest.fixture(scope="module")
def images(faces) -> torch.Tensor:
    return to_images(faces.images, CPU)


@pytest.fixture(scope="module")
def original(faces) -> Original:
    return Original(TINY, device=CPU).fit(faces, progress=False)


@pytest.fixture(scope="module")
def methods(faces, original) -> dict[str, Anonymizer]:
    """All of the paper's, started from one Original."""
    return {
        "Original": original,
        "AIA": AIA(TINY, device=CPU).fit(faces, start=original, progress=False),
        "AIA\\T": AIAWithoutTask(TINY, device=CPU).fit(faces, start=original, progress=False),
        "Random": RandomMask(original),
        "Random, fixed": RandomMask(original, per_image=False, share=0.25, seed=3),
    }


NAMES = ("Original", "AIA", "AIA\\T", "Random", "Random, fixed")


# ----------------------------------------------------------------------------------------------------------------- the protocol


def test_the_pretrained_auto_encoder_is_taken_over_at_another_size(toy_faces):
    """It was trained at 64 pixels; at 32 it rebuilds faces it never saw better than their mean, which untrained weights do not."""
    faces = toy_faces(people=12, images=4, size=32)
    pretrained, short = load_pretrained("original", CPU), dataclasses.replace(TINY, size=32)
    taken = Original(short, device=CPU).fit(faces, start=pretrained, progress=False)
    assert list(taken.history) == ["adversary", "siamese"]
    for name in ("encoder", "decoder"):
        weights, theirs = (getattr(method.networks, name).state_dict() for method in (taken, pretrained))
        assert all(torch.equal(weights[key], theirs[key]) for key in weights)
    x = to_images(faces.images, CPU)
    untrained = Original(short, device=CPU)
    untrained.networks = Networks(32, device=CPU)

    def error(rebuilt):
        return ((rebuilt - x) ** 2).mean().item()

    assert error(taken.decode(taken(x))) < error(x.mean(0)) < error(untrained.decode(untrained(x)))
    with pytest.raises(UserError, match="has not been trained"):
        Original(short, device=CPU).fit(faces, start=Original(short), progress=False)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_an_anonymizer(methods, images, name):
    method = methods[name]
    assert isinstance(method, Anonymizer) and method.name == name.split(",")[0]
    g = method(images)
    assert g.shape == (48, K) and g.dtype == torch.float32 and not g.requires_grad
    assert g.min() >= 0 and g.max() <= 1 and g.std(0).min() > 0
    assert np.prod(method.map_shape) == K and method.map_shape == (12, 4, 4)
    rebuilt = method.decode(g)
    assert rebuilt.shape == images.shape and rebuilt.min() >= 0 and rebuilt.max() <= 1
    assert method.adversary(g).shape == (48,) and method.siamese(g).shape == (48, 128), "the paper regime reads g, too"
    assert method.attribute == "gender"


def test_a_function_is_an_anonymizer_and_a_number_is_not():
    assert isinstance(lambda images: images.flatten(1), Anonymizer)
    assert not isinstance(3, Anonymizer)


@pytest.mark.parametrize("name", NAMES)
def test_g_does_not_depend_on_the_other_images_of_the_batch(methods, images, name):
    method = methods[name]
    whole, single = method(images), torch.cat([method(image[None]) for image in images[:5]])
    torch.testing.assert_close(single, whole[:5], atol=1e-6, rtol=0)
    order = torch.arange(47, -1, -1)
    torch.testing.assert_close(method(images[order]), whole[order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_anonymizer_gives_the_same_g(methods, images, name, tmp_path):
    method = methods[name]
    method.save(tmp_path / "a" / "b")
    loaded = load_anonymizer(tmp_path / "a" / "b", CPU)
    assert type(loaded) is type(method) and loaded.name == method.name
    g = method(images)
    assert torch.equal(loaded(images), g)
    for read in ("decode", "adversary", "siamese"):
        assert torch.equal(getattr(loaded, read)(g), getattr(method, read)(g)), read
    assert loaded.attribute == method.attribute and loaded.history == method.history and loaded.seed == method.seed
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "anonymizer.json").read_bytes() == (tmp_path / "a" / "b" / "anonymizer.json").read_bytes()


def test_a_loaded_aia_knows_its_settings(faces, original, tmp_path):
    AIA(TINY, device=CPU, alpha=0.25, beta=2, adversary="frozen").fit(faces, start=original, progress=False).save(tmp_path)
    finetune = load_anonymizer(tmp_path, CPU).profile.finetune
    assert finetune == dataclasses.replace(TINY.finetune, alpha=0.25, beta=2, adversary="frozen")


def test_one_trained_with_a_profile_of_the_users_own_is_loaded(faces, images, tmp_path):
    mine = dataclasses.replace(TINY, name="mine", adversary=AdversaryConfig(kind="mlp", epochs=1))
    original = Original(mine, device=CPU).fit(faces, progress=False)
    original.save(tmp_path)
    loaded = load_anonymizer(tmp_path, CPU)
    assert loaded.profile.name == "mine" and loaded.profile.size == 16
    assert torch.equal(loaded.adversary(loaded(images)), original.adversary(original(images)))


def test_the_image_attachment_is_saved_with_the_networks(faces, images, tmp_path):
    profile = dataclasses.replace(TINY, finetune=dataclasses.replace(TINY.finetune, attach="image"))
    aia = AIA(profile, device=CPU).fit(faces, progress=False)
    aia.save(tmp_path)
    loaded = load_anonymizer(tmp_path, CPU)
    g = aia(images)
    assert loaded.networks.attach == "image" and torch.equal(loaded.adversary(g), aia.adversary(g))
    assert aia.adversary(g).shape == (48,) and aia.networks.seen(g).shape == images.shape, "they read the reconstruction of g"
    assert not torch.equal(aia.adversary(g), aia.adversary(g.roll(1, 0)))


# -------------------------------------------------------------------------------------------------------------- AIA and AIA\T


def test_without_the_task_it_is_called_aia_without_t():
    assert AIA(TINY).name == AIA(TINY, alpha=0.1).name == "AIA"
    assert AIA(TINY, alpha=0).name == AIA(TINY, alpha=0.0).name == AIAWithoutTask(TINY).name == "AIA\\T"
    assert AIAWithoutTask(TINY, beta=3).profile.finetune == dataclasses.replace(TINY.finetune, alpha=0.0, beta=3)


def test_fine_tuning_does_not_change_the_original_it_starts_from(faces, original, images):
    g, tensors = original(images), {key: value.clone() for key, value in original.networks.tensors().items()}
    aia = AIA(TINY, device=CPU).fit(faces, start=original, progress=False)
    assert torch.equal(original(images), g)
    assert all(torch.equal(value, tensors[key]) for key, value in original.networks.tensors().items())
    assert set(original.history) == {"autoencoder", "adversary", "siamese"} and "finetune" in aia.history
    assert not torch.equal(aia(images), g), "the control: the AIA is another"


def test_an_aia_fits_its_own_original_where_none_is_given(faces, methods, images):
    alone = AIA(TINY, device=CPU).fit(faces, progress=False)
    assert torch.equal(alone(images), methods["AIA"](images)) and alone.history == methods["AIA"].history


def test_the_siamese_of_aia_without_task_is_trained_on_its_finished_g(faces, methods, original):
    aia_t, aia = methods["AIA\\T"].networks.siamese, methods["AIA"].networks.siamese
    weights = [dict(siamese.state_dict())["head.1.weight"] for siamese in (aia_t, aia, original.networks.siamese)]
    assert not torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])
    assert methods["AIA\\T"].history["siamese"] != original.history["siamese"]
    assert methods["AIA"].history["siamese"] == original.history["siamese"]


def test_fitting_writes_checkpoints_that_the_next_call_resumes_from(faces, tmp_path, images, monkeypatch):
    first = AIAWithoutTask(TINY, device=CPU).fit(faces, folder=tmp_path, progress=False)
    second = AIA(TINY, device=CPU).fit(faces, folder=tmp_path, progress=False)
    stages = {path.stem for path in tmp_path.glob("*.json")}
    assert stages == {"autoencoder", "adversary", "siamese", "finetune", "finetune-without-task", "siamese-without-task"}
    monkeypatch.setattr("aia_lib.machine.stage.Stage.log", lambda *_, **__: pytest.fail("trained again"))
    for made, method in ((first, AIAWithoutTask), (second, AIA)):
        assert torch.equal(method(TINY, device=CPU).fit(faces, folder=tmp_path, progress=False)(images), made(images))
    with pytest.raises(UserError, match="finetune.json is of other settings .beta was 0.5, is 0.7"):
        AIA(TINY, device=CPU, beta=0.7).fit(faces, folder=tmp_path, progress=False)


def test_another_attribute_can_be_hidden(faces):
    glasses = AIA(TINY, device=CPU).fit(faces, "glasses", progress=False)
    gender = AIA(TINY, device=CPU).fit(faces, progress=False)
    assert glasses.attribute == "glasses" and faces.attribute == "gender"
    assert glasses.history["autoencoder"] == gender.history["autoencoder"] and glasses.history["adversary"] != gender.history["adversary"]
    assert with_attribute(faces, None) is with_attribute(faces, "gender") is faces
    with pytest.raises(UserError, match="no attribute 'age' .* there are: gender, glasses"):
        Original(TINY).fit(faces, "age")


# ----------------------------------------------------------------------------------------------------------------- Random


def replaced(mask: RandomMask, images: torch.Tensor) -> torch.Tensor:
    """Where g differs from Original's, bool (N, k)."""
    return mask(images) != mask.base(images)


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 1])
@pytest.mark.parametrize("per_image", [True, False])
def test_exactly_a_share_of_each_row_is_replaced_and_the_rest_untouched(original, images, share, per_image):
    mask = RandomMask(original, per_image=per_image, share=share)
    places = replaced(mask, images)
    assert (places.sum(1) == share * K).all()
    g = mask(images)
    assert torch.equal(g[~places], original(images)[~places])
    assert g.min() >= 0 and g.max() <= 1
    assert len({tuple(row.tolist()) for row in places}) == (len(images) if per_image and 0 < share < 1 else 1)


def test_the_new_values_are_uniform_whatever_the_image(original, images):
    mask = RandomMask(original)
    new = mask(images)[replaced(mask, images)]  # (48 * 96,)
    quantiles = torch.quantile(new, torch.linspace(0, 1, 11))
    torch.testing.assert_close(quantiles, torch.linspace(0, 1, 11), atol=0.03, rtol=0)
    old = original(images)[replaced(mask, images)]
    assert abs(np.corrcoef(new, old)[0, 1]) < 0.05


def test_an_image_always_gets_the_same_mask_and_another_seed_another(original, images):
    mask = RandomMask(original)
    g = mask(images)
    assert torch.equal(mask(images), g), "fresh noise at every call would average out"
    assert torch.equal(RandomMask(original)(images), g)
    assert torch.equal(replaced(mask, images[7:9]), replaced(mask, images)[7:9]), "in whatever batch it comes"
    for per_image in (True, False):
        seeds = [replaced(RandomMask(original, per_image, seed=seed), images) for seed in (0, 1)]
        assert not torch.equal(*seeds)
    brighter = (images + 1 / 255).clamp(max=1)
    assert not torch.equal(replaced(mask, brighter), replaced(mask, images)), "one grey level more is another image"


def test_the_fixed_mask_replaces_the_same_places_by_other_values(original, images):
    mask = RandomMask(original, per_image=False)
    places = replaced(mask, images)
    assert (places == places[0]).all()
    new = mask(images)[:, places[0]]  # (48, 96)
    assert new.std(0).min() > 0.2, "each image has its own values there"


def test_random_fits_a_base_where_it_has_none(faces, images, original):
    mask = RandomMask(profile=TINY, device=CPU)
    with pytest.raises(UserError, match="This RandomMask has not been trained"):
        mask(images)
    mask.fit(faces, progress=False)
    assert torch.equal(mask(images), RandomMask(original)(images))
    assert mask.base.networks is not original.networks and RandomMask(original).fit(faces).base is original, "and leaves a fitted one alone"


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_random_refuses_shares_that_are_none(share):
    with pytest.raises(UserError, match="share must be between 0 and 1"):
        RandomMask(profile=TINY, share=share)


# ------------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("make", [Original, AIA, AIAWithoutTask, lambda profile: RandomMask(profile=profile)])
def test_one_that_was_not_trained_says_so(make, tmp_path, images):
    method = make(TINY)
    for use in (
        lambda: method(images),
        lambda: method.decode(torch.zeros(1, K)),
        lambda: method.map_shape,
        lambda: method.save(tmp_path / "a"),
    ):
        with pytest.raises(UserError, match=f"This {type(method).__name__} has not been trained: call fit"):
            use()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("shape", [(2, 1, 20, 20), (2, 3, 16, 16), (1, 16, 16), (2, 1, 16, 20)])
@pytest.mark.parametrize("name", ["Original", "Random"])
def test_images_of_another_shape_are_refused(methods, name, shape):
    with pytest.raises(UserError, match=r"images of shape \(N, 1, 16, 16\), not .*; load the faces with size=16"):
        methods[name](torch.zeros(shape))


def test_a_setting_that_does_not_exist_is_named():
    with pytest.raises(UserError, match="no setting of that name .*'gama'.*; its settings are alpha, beta, gamma, adversary"):
        AIA(TINY, gama=2.0)
    with pytest.raises(UserError, match="beta must be a finite number that is not negative, not -1"):
        AIA(TINY, beta=-1)


def test_a_start_that_does_not_fit_is_refused(faces, original, toy_faces):
    with pytest.raises(UserError, match="start was trained on images of 16 x 16 pixels, these have 20 x 20"):
        AIA(TINY, device=CPU).fit(toy_faces(people=4, images=2, size=20), start=original, progress=False)
    with pytest.raises(UserError, match="start was trained with attach='latent', this AIA has 'image'"):
        AIA(TINY, device=CPU, attach="image").fit(faces, start=original, progress=False)
    with pytest.raises(UserError, match="This Original has not been trained"):
        AIA(TINY, device=CPU).fit(faces, start=Original(TINY), progress=False)


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(signed({**json.loads(path.read_text()), **changes})))


def test_what_cannot_be_loaded_is_named(original, tmp_path):
    with pytest.raises(UserError, match="There is no saved anonymizer in .*nowhere: anonymizer.json is missing"):
        load_anonymizer(tmp_path / "nowhere")
    original.save(tmp_path)
    index = tmp_path / "anonymizer.json"
    saved = index.read_text()
    for key in ("kind", "arguments", "networks"):
        index.write_text(json.dumps(signed({k: v for k, v in json.loads(saved).items() if k != key})))
        with pytest.raises(UserError, match=f"anonymizer.json is not an anonymizer that this version of aia_lib can read .*{key}"):
            load_anonymizer(tmp_path, CPU)
    index.write_text(saved)
    edit(index, kind="Blur")
    with pytest.raises(UserError, match="anonymizer.json is not an anonymizer that this version of aia_lib can read .*Blur"):
        load_anonymizer(tmp_path, CPU)
    index.write_text(saved)
    edit(index, networks={"size": 20, "attach": "latent", "adversary": "cnn"})
    with pytest.raises(UserError, match="anonymizer.json does not fit the adversary: size mismatch"):
        load_anonymizer(tmp_path, CPU)
    index.write_text(saved)
    (weights,) = tmp_path.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="anonymizer.json is damaged .*SHA-256 of .* differs"):
        load_anonymizer(tmp_path, CPU)
    weights.write_bytes(content[:100])
    with pytest.raises(UserError, match="anonymizer.json is damaged"):
        load_anonymizer(tmp_path, CPU)
