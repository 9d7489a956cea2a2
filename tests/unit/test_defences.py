"""The defences: one protocol, the same g after saving and resuming, and each does what its docstring says, with its control beside it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC
from torch import nn

from aia_lib.anonymizers import Anonymizer, Networks, Original
from aia_lib.defences import (
    AttributeScore,
    CertifiedNoise,
    Compact,
    Discriminants,
    Erased,
    HardenedAIA,
    Leace,
    Sample,
    ScoreErasure,
    auc_bound,
    balanced_accuracy_bound,
    mu_for_auc,
)
from aia_lib.defences.base import release
from aia_lib.defences.compact import closeness, distribution_gap, verification_loss
from aia_lib.defences.networks import CompactEncoder, ConditionalDecoder, Memory, Partners, VectorAdversary, augment
from aia_lib.defences.settings import CompactConfig, HardenedConfig
from aia_lib.faces import Faces
from aia_lib.losses import adversary_loss
from aia_lib.machine.device import to_images
from aia_lib.machine.files import UserError
from aia_lib.machine.stage import Stage, signed
from aia_lib.saving import load_anonymizer

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
TINY = CompactConfig(k=8, width=4, epochs=1, min_steps=8, batch_size=16, decoder_epochs=1, renew_every=3, adversary_steps=1)


@pytest.fixture(scope="module")
def faces(toy_faces) -> Faces:
    return toy_faces(people=16, images=4, size=16)


@pytest.fixture(scope="module")
def images(faces) -> torch.Tensor:
    return to_images(faces.images, CPU)


def pixelate(images: torch.Tensor) -> torch.Tensor:
    """A method without weights: 16 numbers an image."""
    return F.adaptive_avg_pool2d(images, 4).flatten(1)


MAKERS = {
    "maximum entropy": lambda: Compact(TINY, device=CPU),
    "no adversaries": lambda: Compact(TINY, device=CPU, privacy="none", impostors="same"),
    "leace": lambda: Erased(Compact(TINY, device=CPU), ("leace",)),
    "score": lambda: Erased(Compact(TINY, device=CPU), ("score",)),
    "discriminants": lambda: Erased(Compact(TINY, device=CPU), (Discriminants(8),)),
    "noise": lambda: CertifiedNoise(Compact(TINY, device=CPU), mu=1.5),
    "recommended": lambda: HardenedAIA(HardenedConfig(TINY, mu=2.0), device=CPU),
}


@pytest.fixture(scope="module")
def methods(faces) -> dict[str, Anonymizer]:
    return {name: make().fit(faces, progress=False) for name, make in MAKERS.items()}


# ----------------------------------------------------------------------------------------------------------------- the protocol


@pytest.mark.parametrize("name", MAKERS)
def test_each_is_an_anonymizer(methods, images, name):
    method = methods[name]
    assert isinstance(method, Anonymizer) and method.name and method.attribute == "gender"
    g = method(images)
    assert g.dtype == torch.float32 and len(g) == 64 and not g.requires_grad and g.isfinite().all() and g.std(0).min() > 0
    assert g.shape[1] == 8
    if name == "discriminants":
        assert not hasattr(method, "decode"), "a decoder of another shape is none"
    else:
        rebuilt = method.decode(g)
        assert rebuilt.shape == images.shape and rebuilt.min() >= 0 and rebuilt.max() <= 1


@pytest.mark.parametrize("name", MAKERS)
def test_g_does_not_depend_on_the_other_images_of_the_batch(methods, images, name):
    method = methods[name]
    whole, single = method(images), torch.cat([method(image[None]) for image in images[:5]])
    torch.testing.assert_close(single, whole[:5], atol=2e-5, rtol=0)
    order = torch.arange(63, -1, -1)
    torch.testing.assert_close(method(images[order]), whole[order], atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_method_gives_the_same_g(methods, images, name, tmp_path):
    method = methods[name]
    method.save(tmp_path / "a" / "b")
    loaded = load_anonymizer(tmp_path / "a" / "b", CPU)
    assert type(loaded) is type(method) and loaded.name == method.name and loaded.attribute == "gender"
    g = method(images)
    assert torch.equal(loaded(images), g)
    if hasattr(method, "decode"):
        assert torch.equal(loaded.decode(g), method.decode(g))
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "anonymizer.json").read_bytes() == (tmp_path / "a" / "b" / "anonymizer.json").read_bytes()


@pytest.mark.parametrize("name", ["maximum entropy", "recommended"])
def test_the_same_seed_gives_the_same_g_and_another_seed_another(methods, faces, images, name):
    again = MAKERS[name]().fit(faces, progress=False)
    assert torch.equal(again(images), methods[name](images))
    other = Compact(TINY, seed=1, device=CPU).fit(faces, progress=False)
    assert not torch.equal(other(images), methods["maximum entropy"](images))


@pytest.mark.parametrize("name", ["maximum entropy", "no adversaries", "recommended"])
@pytest.mark.parametrize("killed_after", [2, 5])
def test_a_killed_training_goes_on_where_it_was(methods, faces, images, name, killed_after, tmp_path, monkeypatch):
    log = Stage.log

    def die(self, **values):
        log(self, **values)
        if self.name == "compact":
            die.steps += 1
            if die.steps == killed_after + 1:
                raise RuntimeError("killed")

    die.steps = 0
    with monkeypatch.context() as patch:
        patch.setattr("aia_lib.machine.stage.SAVE_EVERY", 0.0)
        patch.setattr(Stage, "log", die)
        with pytest.raises(RuntimeError, match="killed"):
            MAKERS[name]().fit(faces, folder=tmp_path, progress=False)
    assert json.loads((tmp_path / "compact.json").read_text())["step"] == killed_after
    resumed = MAKERS[name]().fit(faces, folder=tmp_path, progress=False)
    torch.testing.assert_close(resumed(images), methods[name](images), atol=1e-5, rtol=0)
    finished = (tmp_path / "compact.json").read_bytes()
    again = MAKERS[name]().fit(faces, folder=tmp_path, progress=False)
    assert (tmp_path / "compact.json").read_bytes() == finished, "what is finished is not trained again"
    assert torch.equal(again(images), resumed(images))


def test_a_checkpoint_of_other_settings_is_not_taken_up(faces, tmp_path):
    Compact(TINY, device=CPU).fit(faces, folder=tmp_path, progress=False)
    with pytest.raises(UserError, match="beta was 3.0, is 5.0"):
        Compact(TINY, device=CPU, beta=5.0).fit(faces, folder=tmp_path, progress=False)


def test_erasers_wrap_the_papers_methods_and_any_function(faces, images, tmp_path):
    original = Original(device=CPU)
    original.networks, original.attribute = Networks(16, device=CPU), "gender"  # untrained: this is about shapes
    erased = Erased(original, ("leace",)).fit(faces, fit_base=False)
    assert erased(images).shape == original(images).shape and erased.name == "Original + leace"
    assert erased.decode(erased(images)).shape == images.shape
    erased.save(tmp_path)
    assert torch.equal(load_anonymizer(tmp_path, CPU)(images), erased(images))
    bare = Erased(pixelate, ("score", "leace")).fit(faces)
    assert bare(images).shape == (64, 16)
    assert erased.unprotected is original and CertifiedNoise(bare, mu=1.0).unprotected is pixelate
    assert not hasattr(HardenedAIA(device=CPU), "unprotected")  # before it is fitted
    with pytest.raises(UserError, match="cannot be saved"):
        bare.save(tmp_path / "function")


def test_a_damaged_or_mixed_folder_is_refused(methods, tmp_path):
    with pytest.raises(UserError, match="no saved anonymizer"):
        load_anonymizer(tmp_path, CPU)
    methods["leace"].save(tmp_path)
    methods["no adversaries"].save(tmp_path / "base")
    with pytest.raises(UserError, match="not the one that was saved"):
        load_anonymizer(tmp_path, CPU)


# ---------------------------------------------------------------------------------------------------------- networks and losses


def test_verification_loss_is_the_cross_entropy_of_finding_the_person():
    torch.manual_seed(0)
    z, identity = torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 2])
    unit = F.normalize(z)
    expected = []
    for i, j in ((0, 1), (1, 0), (2, 3), (3, 2)):
        impostors = [k for k in range(5) if identity[k] != identity[i]]
        logits = torch.stack([unit[i] @ unit[k] / 0.1 for k in [j, *impostors]])
        expected.append(-F.log_softmax(logits, dim=0)[0])
    torch.testing.assert_close(verification_loss(z, identity), torch.stack(expected).mean())
    far = torch.ones(5, 5)
    far[:, 4] = far[4, :] = 0  # an impostor that does not count has no pull
    moved = z.clone()
    moved[4] += 5
    torch.testing.assert_close(verification_loss(z, identity, far), verification_loss(moved, identity, far), atol=1e-4, rtol=0)
    assert not torch.isclose(verification_loss(z, identity), verification_loss(moved, identity), atol=1e-4)
    assert verification_loss(z, torch.arange(5)) == 0, "no genuine pair, nothing to learn"


def test_impostors_are_free_of_the_same_label_or_alike():
    labels, quantile = torch.tensor([[1.0], [1], [0]]), torch.tensor([[0.9], [0.5], [0.45]])
    assert closeness("free", labels, quantile) is None
    assert closeness("same", labels, quantile).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    matched = closeness("matched", labels, quantile)
    assert matched[1, 2] > 0.9 > matched[0, 1] > matched[0, 2] > 0


def test_distribution_gap_is_zero_on_average_where_nothing_differs_and_sees_what_means_do_not():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    same = [float(distribution_gap(torch.randn(200, 4, generator=generator), labels)) for _ in range(20)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(20) + 1e-4 and min(same) < 0
    wide = torch.randn(200, 4, generator=generator) * (1 + 2 * labels[:, None])
    assert distribution_gap(wide, labels) > 5 * max(same)
    unknown = torch.full((200,), -1)
    assert distribution_gap(wide, unknown) == 0


def test_kinds_of_adversary_differ_in_what_they_can_learn():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(600, 4, generator=generator)
    labels = (z[:, 0] * z[:, 1] > 0).float()  # XOR of two signs
    accuracy = {}
    for kind in VectorAdversary.KINDS:
        torch.manual_seed(0)
        adversary = VectorAdversary(4, kind)
        optimizer = torch.optim.Adam(adversary.parameters(), 1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            adversary_loss(adversary(z), labels).backward()
            optimizer.step()
        accuracy[kind] = float(((adversary(z) > 0) == (labels > 0)).float().mean())
    assert accuracy.pop("linear") < 0.65 and min(accuracy.values()) > 0.85, accuracy


def test_the_compact_encoder_lies_on_a_sphere_and_does_not_see_light_or_mirrors():
    torch.manual_seed(0)
    encoder = CompactEncoder(16, 8, 4).eval()
    images = torch.rand(5, 1, 16, 16)
    z = encoder(images)
    torch.testing.assert_close(z.norm(dim=1), torch.full((5,), 8**0.5))
    torch.testing.assert_close(encoder(images.flip(3)), z, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder(0.3 + 0.5 * images), z, atol=0.05, rtol=0)
    assert (encoder(images.flip(2)) - z).abs().max() > 0.1, "upside down is another image"
    encoder.train()
    assert (encoder(images.flip(3)) - encoder(images)).abs().max() > 1e-3, "in training it sees them"
    encoder.eval()
    for size in (20, 32, 64, 96):
        assert CompactEncoder(size, 8, 4).eval()(torch.rand(2, 1, size, size)).shape == (2, 8)
        assert ConditionalDecoder(size, 8)(torch.randn(2, 8)).shape == (2, 1, size, size)


def test_augmentation_changes_each_image_its_own_way_and_repeats_itself(images):
    seen = augment(images, np.random.default_rng(0))
    assert seen.shape == images.shape and seen.min() >= 0 and seen.max() <= 1
    assert torch.equal(seen, augment(images, np.random.default_rng(0)))
    assert (seen - images).abs().mean((1, 2, 3)).min() > 0.005
    twice = augment(images[:1].expand(8, -1, -1, -1), np.random.default_rng(0))
    assert (twice[1:] - twice[:1]).abs().mean((1, 2, 3)).min() > 0.005


def test_partners_are_other_images_of_the_same_person():
    identity = np.array([3, 5, 3, 7, 5, 3])
    partners = Partners(identity)
    rng, rows = np.random.default_rng(0), np.arange(6)
    drawn = np.stack([partners(rows, rng) for _ in range(50)])
    assert (identity[drawn] == identity).all()
    assert (drawn[:, identity != 7] != rows[identity != 7]).all() and (drawn[:, 3] == 3).all()
    assert {*drawn[:, 0]} == {2, 5}, "each of the others comes"


# ------------------------------------------------------------------------------------------------------------------ adversaries


def test_renewed_adversaries_start_again_and_the_others_do_not(faces):
    still = dataclasses.replace(TINY, adversary_learning_rate=1e-12, adversaries=("mlp", "mlp", "rbf"), epochs=2, min_steps=8)  # 8 steps

    def trained(renew_every: int) -> list[torch.Tensor]:
        method = Compact(dataclasses.replace(still, renew_every=renew_every), device=CPU)
        method._build(16)
        before = [adversary.output.weight.detach().clone() for adversary in method.adversaries]
        method.fit(faces, progress=False)
        return [adversary.output.weight.detach() - old for adversary, old in zip(method.adversaries, before, strict=True)]

    moved = [float(change.abs().max()) for change in trained(3)]  # at steps 3 and 6: the first two, in turn
    assert moved[0] > 1e-3 and moved[1] > 1e-3 and moved[2] < 1e-6, moved
    assert max(float(change.abs().max()) for change in trained(0)) < 1e-6


def test_the_privacy_loss_makes_adversaries_undecided(toy_faces):
    many = toy_faces(people=40, images=4, size=16)
    common = dict(
        k=8, width=8, epochs=1, min_steps=120, batch_size=32, decoder_epochs=0, matching=0.0, alpha=0.1, augment=False, dropout=0.0
    )
    leak = {}
    for privacy in ("none", "maxent"):
        method = Compact(CompactConfig(**common, privacy=privacy, impostors="free", beta=10.0, adversary_steps=2), device=CPU)
        z = method.fit(many, progress=False)(to_images(many.images, CPU)).numpy()
        leak[privacy] = roc_auc_score(many.labels(), LogisticRegression(max_iter=500).fit(z, many.labels()).decision_function(z))
    assert leak["none"] > 0.9 and leak["maxent"] < leak["none"] - 0.1, leak


# ---------------------------------------------------------------------------------------------------------------------- erasers


def blank(labels: np.ndarray) -> Faces:
    """Faces that show nothing, one person an image: for erasers that read g alone."""
    n = len(labels)
    return Faces(np.zeros((n, 1, 16, 16), np.uint8), np.arange(n), {"gender": labels}, "gender", "made up", "CC0")


def sample_of(g: np.ndarray, labels: np.ndarray) -> Sample:
    return Sample(torch.from_numpy(g).double(), labels[:, None], np.arange(len(g)), blank(labels))


def auc_of(model, train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> float:
    model.fit(train, labels)
    scores = model.decision_function(test) if hasattr(model, "decision_function") else model.predict_proba(test)[:, 1]
    auc = roc_auc_score(test_labels, scores)
    return max(auc, 1 - auc)


def test_equal_means_are_about_losses_not_about_ranks():
    """E - 1 and 1 - E, with E exponential, have equal means; the plain line's AUC is 1 - 3 exp(-2) all the same, after LEACE too."""
    labels, rng = (np.arange(20_000) % 2).astype(np.int8), np.random.default_rng(0)
    waits = rng.exponential(size=20_000)
    skewed = np.where(labels == 1, waits - waits[labels == 1].mean(), waits[labels == 0].mean() - waits)
    g = np.stack([skewed, labels + rng.normal(size=20_000)], axis=1).astype(np.float32)
    clean = Leace().fit(sample_of(g, labels))(torch.from_numpy(g), torch.zeros(20_000, 1, 1, 1)).numpy()
    linear = LogisticRegression(C=100).fit(clean, labels)
    assert abs(linear.predict_proba(clean)[:, 1] - 0.5).max() < 0.02, "no line has a lower loss than a constant"
    auc = roc_auc_score(labels, clean[:, 0])
    assert max(auc, 1 - auc) == pytest.approx(1 - 3 * math.exp(-2), abs=0.015)


def test_leace_brings_linear_attackers_to_chance_and_only_them():
    rng = np.random.default_rng(0)
    labels = (np.arange(800) % 2).astype(np.int8)
    g = rng.normal(size=(800, 6)).astype(np.float32) @ rng.normal(size=(6, 6)).astype(np.float32)
    g += np.outer(labels, rng.normal(size=6)).astype(np.float32)
    g[:, 0] *= 1 + 2 * labels  # a leak that is not linear
    eraser = Leace().fit(sample_of(g, labels))
    clean = eraser(torch.from_numpy(g), torch.zeros(800, 1, 1, 1)).numpy()
    linear = LogisticRegression(C=100, max_iter=2000)
    assert auc_of(linear, g, labels, g, labels) > 0.75, "it could be read before"
    linear.fit(clean, labels)
    assert np.abs(linear.coef_ * clean.std(0)).max() < 0.02 and abs(linear.predict_proba(clean)[:, 1] - 0.5).max() < 0.05
    assert np.abs(clean[labels == 1].mean(0) - clean[labels == 0].mean(0)).max() < 1e-4 * g.std()
    assert auc_of(SVC(), clean, labels, clean, labels) > 0.75, "what is not linear is not its business"
    direction = np.linalg.matrix_rank(clean - g - (clean - g).mean(0), tol=1e-2)
    assert direction == 1, "one direction is lost, no more"


def test_leace_leaves_out_images_without_a_label():
    rng = np.random.default_rng(0)
    labels = (np.arange(300) % 3 - 1).astype(np.int8)
    g = rng.normal(size=(300, 3)) + labels[:, None] * np.array([2.0, 0, 0])
    clean = Leace().fit(sample_of(g, labels))(torch.from_numpy(g).float(), torch.zeros(300, 1, 1, 1)).numpy()
    assert np.abs(clean[labels == 1].mean(0) - clean[labels == 0].mean(0)).max() < 1e-4


def test_discriminants_keep_what_tells_people_apart_and_not_what_varies_most():
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(200), 4)
    who = rng.normal(size=(200, 2))[person]  # what a person's images share
    g = np.concatenate([who + 0.5 * rng.normal(size=(800, 2)), 5 * rng.normal(size=(800, 6))], axis=1).astype(np.float32)
    mixed = g @ np.linalg.qr(rng.normal(size=(8, 8)))[0].astype(np.float32)
    labels = (person % 2).astype(np.int8)
    sample = dataclasses.replace(sample_of(mixed, labels), identity=person)
    kept = Discriminants(2).fit(sample)(torch.from_numpy(mixed), torch.zeros(800, 1, 1, 1)).numpy()
    assert kept.shape == (800, 2)
    explained = LinearRegression().fit(kept, g[:, :2]).score(kept, g[:, :2])
    assert explained > 0.95, "the two coordinates in which people differ, however they were turned"
    within = np.concatenate([kept[person == p] - kept[person == p].mean(0) for p in range(200)])
    np.testing.assert_allclose(within.T @ within / 600, np.eye(2), atol=0.1)  # but for the ridge

    alone = dataclasses.replace(sample, identity=np.arange(800))  # nobody twice: principal components
    largest = Discriminants(6).fit(alone)(torch.from_numpy(mixed), torch.zeros(800, 1, 1, 1)).numpy()
    assert LinearRegression().fit(largest, g[:, 2:]).score(largest, g[:, 2:]) > 0.95
    assert Discriminants(20).fit(sample)(torch.from_numpy(mixed), torch.zeros(800, 1, 1, 1)).shape == (800, 8), "no more than there are"
    for wrong in (0, 2.0):
        with pytest.raises(UserError, match="components must be a whole number"):
            Discriminants(wrong)


@pytest.fixture(scope="module")
def striped() -> tuple[Faces, np.ndarray]:
    """Images whose lower half is brighter where the label is 1, more or less; and numbers that spread more with it."""
    rng = np.random.default_rng(0)
    n = 1200
    labels = (np.arange(n) % 2).astype(np.int8)
    strength = labels * 2.0 - 1 + rng.normal(0, 0.5, n)
    picture = rng.normal(110, 20, (n, 1, 16, 16))
    picture[:, :, 8:] += 12 * strength[:, None, None, None]
    faces = Faces(picture.clip(0, 255).astype(np.uint8), np.arange(n) // 2 * 2 + labels, {"gender": labels}, "gender", "stripes", "CC0")
    g = rng.normal(size=(n, 4)) * (1 + 0.8 * np.tanh(strength))[:, None] + np.outer(strength, [1.0, -0.5, 0, 0])
    return faces, g.astype(np.float32)


def test_score_erasure_matches_spread_as_well_as_means_on_other_people(striped):
    faces, g = striped
    labels = faces.labels()
    images = to_images(faces.images, CPU)
    train, rest = np.arange(600), np.arange(600, 1200)
    attack, test = rest[:400], rest[400:]
    sample = Sample(torch.from_numpy(g[train]).double(), labels[train, None], faces.identity[train], faces.subset(train))
    leaks = {}
    for name, erasers in {
        "none": (),
        "leace": (Leace(),),
        "score": (ScoreErasure(),),
    }.items():
        clean = torch.from_numpy(g)
        for eraser in erasers:
            clean = eraser.fit(sample)(clean, images)
        clean = clean.numpy()
        leaks[name] = auc_of(SVC(), clean[attack], labels[attack], clean[test], labels[test])
    assert leaks["none"] > 0.9 and leaks["leace"] > 0.9, leaks
    assert leaks["score"] < leaks["leace"] - 0.15 and leaks["score"] < 0.78, leaks


def test_the_attribute_score_judges_no_image_of_a_person_that_it_learned_from(striped):
    faces, _ = striped
    score = AttributeScore().fit(faces)
    assert 0.85 < roc_auc_score(faces.labels(), score.train_scores)
    shuffled = np.random.default_rng(0).permutation(faces.labels())
    chance = AttributeScore().fit(dataclasses.replace(faces, attributes={"gender": shuffled}))
    assert abs(roc_auc_score(shuffled, chance.train_scores) - 0.5) < 0.06, "out of fold, labels at random cannot be told"
    by_heart = chance(to_images(faces.images, CPU)).numpy()
    assert roc_auc_score(shuffled, by_heart) > 0.75, "the same models on people they know"
    places = score.train_quantiles
    assert (
        places.min() >= 0
        and places.max() <= 1
        and np.corrcoef(places, np.linspace(0, 1, 1200)[np.argsort(np.argsort(score.train_scores))])[0, 1] > 0.99
    )


def test_of_many_images_the_score_learns_from_enough_and_the_rest_is_new_to_it(striped, monkeypatch):
    faces, _ = striped
    monkeypatch.setattr("aia_lib.defences.base.ENOUGH", 500)
    score = AttributeScore().fit(faces)
    assert score.train_scores.shape == (1200,) and roc_auc_score(faces.labels(), score.train_scores) > 0.85
    shuffled = np.random.default_rng(0).permutation(faces.labels())
    chance = AttributeScore().fit(dataclasses.replace(faces, attributes={"gender": shuffled}))
    assert abs(roc_auc_score(shuffled, chance.train_scores) - 0.5) < 0.06
    assert len(Sample.of(pixelate, faces).g) == 500 and len(release(pixelate, faces)) == 1200


# ------------------------------------------------------------------------------------------------------------------------ noise


def test_no_attacker_beats_the_certificate_and_the_best_one_comes_near():
    two = torch.zeros(4000, 1, 16, 16)
    two[::2] = 1.0
    two[:, 0, 0, :12] = torch.from_numpy(np.unpackbits(np.arange(4000, dtype=">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]).float()
    labels = (np.arange(4000) % 2 == 0).astype(np.int8)
    faces = blank(labels)

    def apart(images: torch.Tensor) -> torch.Tensor:  # two groups at the ends of the ball: the worst case
        return (images[:, 0, 8, :3] - 0.5) * 1000

    mu = 1.2
    noise = CertifiedNoise(apart, mu=mu, clip=2.0).fit(dataclasses.replace(faces, images=(two * 255).byte().numpy()))
    assert noise.sigma == pytest.approx(2 * 2.0 / mu)
    g = noise(two).numpy()
    best = roc_auc_score(labels, g.sum(1))  # the likelihood ratio: everything along the line between the two centres
    error = 3 * 0.5 / math.sqrt(2000)
    assert best < auc_bound(mu) + error, (best, auc_bound(mu))
    assert best > auc_bound(mu) - error and auc_bound(mu) < 0.81, "the bound is near what is reached, not a formality"
    assert ((g.sum(1) > 0) == labels).mean() == pytest.approx(balanced_accuracy_bound(mu), abs=error)
    assert auc_of(SVC(), g[:2000], labels[:2000], g[2000:], labels[2000:]) < auc_bound(mu) + error
    assert roc_auc_score(labels, apart(two).sum(1)) == 1, "without noise, everything is known"
    # Two people, one at each end: pairs that share their first image, half of them genuine, are told apart within the same bound.
    first, second = np.arange(4000), np.random.default_rng(0).permutation(4000)
    genuine, end = labels[first] == labels[second], 2.0 * labels - 1
    along, clean = g.sum(1), apart(two).sum(1).numpy()
    known_first, both_released = (roc_auc_score(genuine, x[first] * along[second]) for x in (end, along))
    assert auc_bound(mu) - error < known_first < auc_bound(mu) + error and both_released < known_first
    assert roc_auc_score(genuine, clean[first] * clean[second]) == 1, "without noise, everybody is verified"


def test_what_the_certificate_covers_is_one_query(methods, faces, images):
    base = methods["leace"]
    noise = CertifiedNoise(base, mu=1.0).fit(faces, fit_base=False)
    assert torch.equal(noise(images), noise(images)), "asking again gives the same: nothing averages out"
    near = images.clone()
    near[:, :, 0, 0] = (near[:, :, 0, 0] + 0.5) % 1
    assert (noise(near) - noise(images)).std() > noise.sigma, "another pixel is another query"
    centred = base(images) - noise.tensors["centre"]
    clean = noise.tensors["centre"] + centred * (noise.clip / centred.norm(dim=1, keepdim=True)).clamp(max=1)
    one = noise(images)
    mean = torch.stack([CertifiedNoise(base, mu=1.0, seed=2**127 + i).fit(faces, fit_base=False)(images) for i in range(30)]).mean(0)
    assert (mean - clean).std() < 0.3 * (one - clean).std(), "m queries with noise of their own are worth mu m^1/2"
    assert (one - clean).std() == pytest.approx(noise.sigma, rel=0.2), "who does not know the seed cannot subtract the noise"


def test_bounds_are_those_of_the_docstring():
    assert auc_bound(1.0) == pytest.approx(0.76025, abs=1e-5) and balanced_accuracy_bound(1.0) == pytest.approx(0.69146, abs=1e-5)
    assert auc_bound(mu_for_auc(0.6)) == pytest.approx(0.6)
    for auc in (0.5, 1.0, 0.2):
        with pytest.raises(UserError, match="between 0.5 and 1"):
            mu_for_auc(auc)


# ---------------------------------------------------------------------------------------------------------- conditional decoder


def test_the_conditional_decoder_uses_what_it_is_told(striped):
    faces, _ = striped
    z = torch.randn(len(faces), 4, generator=torch.Generator().manual_seed(0))  # knows nothing of the image
    images, condition = to_images(faces.images, CPU), torch.from_numpy(2.0 * faces.labels() - 1)
    unlabelled = dataclasses.replace(faces, attributes={"gender": np.full(len(faces), -1, np.int8)})
    losses = {}
    for what, part in (("nothing", unlabelled), ("label", faces)):
        method = Compact(CompactConfig(decoder_epochs=3, batch_size=32), device=CPU)
        method._build_decoder(16, 4, 1)
        method._fit_decoder(part, ("gender",), z, method.config, None, False)
        decoder = method.decoder

        def loss(said: torch.Tensor | None, decoder: nn.Module = decoder) -> float:
            with torch.no_grad():
                return float(F.binary_cross_entropy_with_logits(decoder(z, said), images))

        losses[what] = loss(condition if what == "label" else None)
    assert loss(-condition) > loss(condition) + 0.002, "told the wrong label it draws the other one's face"
    assert loss(condition) < loss(None) < loss(-condition), "told nothing it draws what lies between"
    assert losses["label"] < losses["nothing"] - 0.0005, losses


# ---------------------------------------------------------------------------------------------------------- several attributes

BOTH = ("gender", "glasses")


@pytest.mark.parametrize("name", ["maximum entropy", "no adversaries", "score", "recommended"])
def test_one_attribute_in_a_tuple_is_that_attribute_bit_for_bit(methods, faces, images, name, tmp_path):
    single = MAKERS[name]().fit(faces, ("gender",), folder=tmp_path, progress=False)
    assert single.attribute == "gender" and torch.equal(single(images), methods[name](images))
    single.save(tmp_path / "single")
    methods[name].save(tmp_path / "plain")
    files = [sorted(path for path in (tmp_path / kind).rglob("*") if path.is_file()) for kind in ("single", "plain")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    state = json.loads((tmp_path / "plain" / "anonymizer.json").read_text())
    assert state["attribute"] == "gender", "as it was written before there could be several"
    checkpoint = json.loads((tmp_path / "compact.json").read_text())
    again = MAKERS[name]().fit(faces, "gender", folder=tmp_path, progress=False)
    assert checkpoint["settings"]["attribute"] == "gender" and torch.equal(again(images), methods[name](images)), "it is taken up again"


@pytest.fixture(scope="module")
def hidden_both(faces) -> dict[str, Anonymizer]:
    return {name: make().fit(faces, BOTH, progress=False) for name, make in MAKERS.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_a_method_that_hides_two_attributes_is_an_anonymizer_and_is_saved(hidden_both, methods, images, name, tmp_path):
    method = hidden_both[name]
    g = method(images)
    assert method.attribute == BOTH
    assert len(g) == 64 and g.isfinite().all() and g.std(0).min() > 0
    assert g.shape[1] == 8
    assert not torch.equal(g, methods[name](images)), "the second attribute has a part in it"
    torch.testing.assert_close(torch.cat([method(image[None]) for image in images[:3]]), g[:3], atol=2e-5, rtol=0)
    method.save(tmp_path)
    loaded = load_anonymizer(tmp_path, CPU)
    assert torch.equal(loaded(images), g) and tuple(loaded.attribute) == BOTH
    if hasattr(method, "decode"):
        labels = torch.tensor([[1.0, -1.0]]).expand(64, 2)
        decoder = getattr(method, "decoder", None) or method.base.decoder
        assert torch.equal(loaded.decode(g), method.decode(g))
        assert not torch.equal(decoder(g, labels), decoder(g, -labels)), "the decoder is told both"
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "anonymizer.json").read_bytes() == (tmp_path / "anonymizer.json").read_bytes()


def test_each_attribute_has_adversaries_of_its_own(hidden_both, images):
    method = hidden_both["maximum entropy"]
    kinds = [adversary.kind for adversary in method.adversaries]
    assert kinds == [*TINY.adversaries, *TINY.adversaries]


def test_the_renewed_adversary_is_one_of_each_attribute(faces):
    settings = dataclasses.replace(
        TINY, adversary_learning_rate=1e-12, adversaries=("mlp", "mlp", "rbf"), epochs=2, min_steps=8, renew_every=3
    )
    method = Compact(settings, device=CPU)
    method._build(16, 2)
    before = [adversary.output.weight.detach().clone() for adversary in method.adversaries]
    method.fit(faces, BOTH, progress=False)  # 8 steps: renewed at 3 and 6
    moved = [float((a.output.weight.detach() - old).abs().max()) for a, old in zip(method.adversaries, before, strict=True)]
    assert min(moved[i] for i in (0, 1, 3, 4)) > 1e-3 and max(moved[2], moved[5]) < 1e-6, moved


def test_memory_draws_balanced_rows_of_the_attribute_that_is_asked_for():
    memory = Memory(8, 2, attributes=2)
    labels = torch.tensor([[1.0, -1], [0, -1], [1, 0], [1, 1]])
    memory.add(torch.arange(8.0).reshape(4, 2), labels)
    rng = np.random.default_rng(0)
    for attribute, known in ((0, {0, 1, 2, 3}), (1, {2, 3})):
        z, drawn = memory.draw(400, rng, attribute)
        rows = (z[:, 0] / 2).long()
        assert set(rows.tolist()) == known and float(drawn.mean()) == 0.5
        assert torch.equal(drawn, labels[rows, attribute])


def test_impostors_are_alike_along_every_attribute():
    labels, quantile = torch.tensor([[1.0, 0], [1, 1], [1, 0]]), torch.tensor([[0.9, 0.1], [0.9, 0.5], [0.7, 0.1]])
    assert closeness("same", labels, quantile).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    each = [closeness("matched", labels[:, [i]], quantile[:, [i]]) for i in (0, 1)]
    torch.testing.assert_close(closeness("matched", labels, quantile), each[0] * each[1])


def test_two_attributes_killed_and_resumed(hidden_both, faces, images, tmp_path, monkeypatch):
    def die(self, **values):
        if self.name == "compact" and die.left == 0:
            raise RuntimeError("killed")
        die.left -= 1

    die.left = 4
    with monkeypatch.context() as patch:
        patch.setattr("aia_lib.machine.stage.SAVE_EVERY", 0.0)
        patch.setattr(Stage, "log", die)
        with pytest.raises(RuntimeError, match="killed"):
            MAKERS["recommended"]().fit(faces, BOTH, folder=tmp_path, progress=False)
    resumed = MAKERS["recommended"]().fit(faces, BOTH, folder=tmp_path, progress=False)
    torch.testing.assert_close(resumed(images), hidden_both["recommended"](images), atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="attribute was"):
        MAKERS["recommended"]().fit(faces, "gender", folder=tmp_path, progress=False)


def test_images_without_a_label_take_no_part_in_hiding_that_attribute(faces, images):
    glasses = faces.labels("glasses").copy()
    glasses[:10] = -1
    some = dataclasses.replace(faces, attributes={**faces.attributes, "glasses": glasses})
    wrong = glasses.copy()
    wrong[:10] = -1 - wrong[:10]  # -1 and 0 are not the same: as a label of 0 these ten would take part
    other = dataclasses.replace(faces, attributes={**faces.attributes, "glasses": wrong})
    method = HardenedAIA(HardenedConfig(TINY), device=CPU).fit(some, BOTH, progress=False)
    assert method(images).isfinite().all()
    assert not torch.equal(HardenedAIA(HardenedConfig(TINY), device=CPU).fit(other, BOTH, progress=False)(images), method(images))
    none = dataclasses.replace(faces, attributes={**faces.attributes, "glasses": np.full(64, -1, np.int8)})
    with pytest.raises(UserError, match="'glasses' = 0: there is nothing to hide"):
        Compact(TINY, device=CPU).fit(none, BOTH, progress=False)
    with pytest.raises(UserError, match="'glasses' = 0: an eraser needs two images of each label"):
        Erased(pixelate).fit(none, BOTH)


def test_wrappers_fit_what_they_wrap_for_all_attributes_or_for_the_first(faces):
    class OneAttribute:
        def fit(self, faces, attribute=None, **options):
            self.hid = faces.attribute if attribute is None else attribute
            return self

        def __call__(self, images):
            return pixelate(images)

    for wrap in (lambda base: Erased(base, ("leace",)), lambda base: CertifiedNoise(base)):
        base = OneAttribute()
        assert wrap(base).fit(faces, ("glasses", "gender")).attribute == ("glasses", "gender") and base.hid == "glasses"
        inner = Erased(OneAttribute(), ("leace",))
        wrap(inner).fit(faces, BOTH)
        assert inner.attribute == BOTH
    for bad in ((), ("gender", "gender"), ("gender", 3)):
        with pytest.raises(UserError, match="a name or several different names"):
            Erased(pixelate).fit(faces, bad)
    with pytest.raises(UserError, match="no attribute 'age'"):
        HardenedAIA().fit(faces, ("gender", "age"))


def coins(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two labels that agree in 70 % of the images, int8 (N, 2), and a generator's normal numbers (N, 6)."""
    rng = np.random.default_rng(seed)
    first = (np.arange(n) % 2).astype(np.int8)
    return np.stack([first, np.where(rng.random(n) < 0.7, first, 1 - first)], axis=1).astype(np.int8), rng.normal(size=(n, 6))


def sample_of_both(g: np.ndarray, labels: np.ndarray) -> Sample:
    faces = dataclasses.replace(blank(labels[:, 0]), attributes={"gender": labels[:, 0], "young": labels[:, 1]})
    return Sample(torch.from_numpy(g).double(), labels, np.arange(len(g)), faces, attributes=("gender", "young"))


def test_leace_of_two_attributes_defeats_linear_attackers_of_each_even_those_who_know_the_other():
    labels, noise = coins(1500)
    a, b = 2.0 * labels.T - 1
    g = noise + 0.8 * np.stack([a, b, a * b, a + b, 0 * a, 0 * a], axis=1)
    labels[::7, 1] = -1
    known = labels[:, 1] >= 0
    nothing = torch.zeros(len(g), 1, 1, 1)
    clean = Leace().fit(sample_of_both(g, labels))(torch.from_numpy(g).float(), nothing).numpy()
    gender_only = Leace().fit(sample_of(g, labels[:, 0]))(torch.from_numpy(g).float(), nothing).numpy()
    linear = LogisticRegression(C=100, max_iter=2000)
    asked = {"gender": (labels[:, 0], np.ones(len(g), bool)), "young": (labels[:, 1], known)}
    asked |= {f"gender | young = {v}": (labels[:, 0], labels[:, 1] == v) for v in (0, 1)}
    asked |= {f"young | gender = {v}": (labels[:, 1], known & (labels[:, 0] == v)) for v in (0, 1)}
    for what, (target, rows) in asked.items():
        read = {name: auc_of(linear, x[rows], target[rows], x[rows], target[rows]) for name, x in (("g", g), ("all", clean))}
        means = [clean[rows & (target == value)].mean(0) for value in (0, 1)]
        limit = 1e-4 if " | " not in what else 0.05  # a pair's product leaves out images without one of its labels
        assert read["g"] > 0.85 and np.abs(means[1] - means[0]).max() < limit, (what, read)
    assert auc_of(linear, gender_only[known], labels[known, 1], gender_only[known], labels[known, 1]) > 0.75, (
        "hiding one is not hiding both"
    )


@pytest.fixture(scope="module")
def two_stripes() -> tuple[Faces, np.ndarray]:
    """Images whose upper half is brighter with one attribute and whose lower half with another, correlated one; numbers moved by both."""
    rng = np.random.default_rng(0)
    n = 2400
    strength = rng.normal(size=(n, 2))
    strength[:, 1] = 0.6 * strength[:, 0] + 0.8 * strength[:, 1]
    labels = (strength + rng.normal(0, 0.5, (n, 2)) > 0).astype(np.int8)
    picture = rng.normal(110, 12, (n, 1, 16, 16))
    picture[:, :, :6] += 14 * strength[:, 0, None, None, None]
    picture[:, :, 6:11] += 14 * strength[:, 1, None, None, None]
    g = rng.normal(size=(n, 5)) * (1 + 0.4 * np.tanh(strength[:, :1]))
    g += strength[:, :1] * np.array([1.0, 0.5, 0, 0, 0]) + strength[:, 1:] * np.array([0, 0.7, 1.0, 0, 0])
    g[:, 3] += 0.8 * strength[:, 0] * strength[:, 1]
    attributes = {"gender": labels[:, 0], "young": labels[:, 1]}
    return Faces(picture.clip(0, 255).astype(np.uint8), np.arange(n), attributes, "gender", "stripes", "CC0"), g.astype(np.float32)


def test_discriminants_leave_as_much_to_tell_people_by_whatever_number_of_attributes_is_hidden():
    """LEACE takes out m (m + 1) / 2 directions: of eight numbers it would leave none for m = 4."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (2000, 4)).astype(np.int8)
    g = rng.normal(size=(2000, 24)) + labels @ rng.normal(size=(4, 24))
    for names in (("a",), ("a", "b"), ("a", "b", "c", "d")):
        some = labels[:, : len(names)]
        faces = dataclasses.replace(blank(some[:, 0]), attributes=dict(zip(names, some.T, strict=True)), attribute="a")
        sample = Sample(torch.from_numpy(g), some, np.arange(2000) // 2, faces, attributes=names)
        images = torch.zeros(2000, 1, 1, 1)
        left = Discriminants(8).fit(sample)(torch.from_numpy(g).float(), images)
        erased = Leace().fit(dataclasses.replace(sample, g=left.double()))(left, images)
        assert torch.linalg.matrix_rank(erased - erased.mean(0), rtol=1e-3) == 7, names


def test_score_erasure_of_two_attributes_undoes_neither(two_stripes):
    faces, g = two_stripes
    images = to_images(faces.images, CPU)
    train, attack, test = np.arange(1200), np.arange(1200, 2000), np.arange(2000, 2400)

    def sample(g: torch.Tensor, *names: str) -> Sample:
        part = faces.subset(train)
        return Sample(
            g[train].double(), part.label_table(names), part.identity, dataclasses.replace(part, attribute=names[0]), attributes=names
        )

    plain = torch.from_numpy(g)
    in_turn = ScoreErasure().fit(sample(plain, "gender"))(plain, images)
    in_turn = ScoreErasure().fit(sample(in_turn, "young"))(in_turn, images)
    both = ScoreErasure().fit(sample(plain, "gender", "young"))
    together = both(plain, images)
    assert [both.tensors[f"step{i}.axes"].tolist() for i in range(5)] == [[0], [1], [0], [1], [0, 1]]
    targets = {name: faces.labels(name) for name in ("gender", "young")}
    targets["agree"] = (targets["gender"] == targets["young"]).astype(np.int8)
    leaks = {
        how: {name: auc_of(SVC(), x.numpy()[attack], labels[attack], x.numpy()[test], labels[test]) for name, labels in targets.items()}
        for how, x in (("g", plain), ("one after the other", in_turn), ("together", together))
    }
    assert min(leaks["g"].values()) > 0.62 and leaks["g"]["gender"] > 0.8, leaks
    assert leaks["together"]["gender"] < leaks["one after the other"]["gender"] - 0.03, leaks
    assert max(leaks["together"].values()) < 0.63, leaks


def test_score_erasure_goes_without_the_joint_step_where_people_are_few(two_stripes):
    faces, g = two_stripes
    few = faces.subset(np.arange(120))
    labels = few.label_table(("gender", "young"))
    eraser = ScoreErasure().fit(Sample(torch.from_numpy(g[:120]).double(), labels, few.identity, few, attributes=("gender", "young")))
    assert "step3.anchors" in eraser.tensors and "step4.anchors" not in eraser.tensors
    clean = eraser(torch.from_numpy(g), to_images(faces.images, CPU))
    assert clean.isfinite().all() and clean.shape == (2400, 5)


def test_no_decision_made_from_certified_noise_has_a_larger_parity_gap_than_its_bound():
    """The gap of any decision is at most 2 Phi(mu / 2) - 1, the total variation distance of N(0, 1) and N(mu, 1)."""
    rng = np.random.default_rng(0)
    bound = 2 * balanced_accuracy_bound(1.0) - 1
    assert 2 * balanced_accuracy_bound(1e-6) - 1 < 1e-6
    labels = np.arange(40_000) % 2
    g = labels + rng.normal(size=40_000)  # centres 2 C = 1 apart, sigma = 1: mu = 1, the worst case
    for threshold, attains in ((0.5, True), (-0.5, False), (1.5, False)):
        gap = (g > threshold)[labels == 1].mean() - (g > threshold)[labels == 0].mean()
        assert gap < bound + 0.015 and (gap > bound - 0.015) == attains


# --------------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, r"CompactConfig\.k must be a whole number of at least 1, not 0"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and less than 1, not 1\.0"),
        ({"average": -0.1}, r"average must be at least 0 and less than 1"),
        ({"beta": -1.0}, r"beta must be a finite number that is not negative"),
        ({"temperature": 0}, r"temperature must be a positive number"),
        ({"impostors": "twins"}, r"impostors must be one of free, same, matched, not 'twins'"),
        ({"privacy": "yes"}, r"privacy must be one of maxent, none"),
        ({"adversaries": ("mlp", "oracle")}, r"adversaries must be a tuple of names out of linear, .*'oracle'"),
        ({"adversaries": ()}, r"adversaries is empty, but privacy='maxent' needs at least one"),
        ({"renew_every": -1}, r"renew_every must be a whole number"),
        ({"batch_size": 2}, r"batch_size must be at least 4, not 2"),
        ({"erasers": ("bleach",)}, r"erasers must be a tuple of names out of score, leace, discriminants"),
        ({"mu": -1.0}, r"mu must be a finite number that is not negative"),
        ({"colour": 1}, r"CompactConfig has no setting of that name .*its settings are k, width"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        HardenedAIA(**settings)


def test_bad_arguments_are_refused(methods, faces, images):
    for make, message in [
        (lambda: Erased(pixelate, ("bleach",)), "no eraser 'bleach'; there are score, leace, discriminants"),
        (lambda: CertifiedNoise(pixelate, mu=0), "mu must be a positive number, not 0"),
        (lambda: CertifiedNoise(pixelate, clip=-1), "clip must be"),
        (lambda: Compact(TINY)(images), "has not been fitted: call fit"),
        (lambda: Erased(pixelate)(images), "has not been fitted"),
        (lambda: CertifiedNoise(pixelate)(images), "has not been fitted"),
        (lambda: HardenedAIA()(images), "has not been fitted"),
        (lambda: HardenedAIA().save("nowhere"), "has not been fitted"),
        (lambda: methods["no adversaries"](torch.rand(2, 1, 32, 32)), r"images of shape \(N, 1, 16, 16\), not \(2, 1, 32, 32\)"),
        (lambda: Compact(TINY).fit(faces, "age"), "no attribute 'age'"),
        (lambda: Compact(TINY).fit(blank(np.ones(64, np.int8))), "'gender' = 0: there is nothing to hide"),
    ]:
        with pytest.raises(UserError, match=message):
            make()


def rewritten(folder: Path, change: Callable[[dict], None]) -> None:
    """Write the settings that are saved in `folder` as an older version would have."""
    index = folder / "anonymizer.json"
    state = json.loads(index.read_text())
    change(state)
    index.write_text(json.dumps(signed(state)))


def test_settings_of_older_versions_are_read_where_they_did_nothing(methods, images, tmp_path):
    methods["maximum entropy"].save(tmp_path)
    rewritten(tmp_path, lambda state: state["config"].update(gamma=0.0, kl=0.0, mirror=True, conditional=True))
    assert torch.equal(load_anonymizer(tmp_path, CPU)(images), methods["maximum entropy"](images))
    for change, message in (
        ({"gamma": 1.0}, r"CompactConfig\.gamma = 1\.0 is of an older version .* train it again"),
        ({"gamma": 0.0, "kl": 0.1}, r"CompactConfig\.kl = 0\.1 is of an older version"),
        ({"kl": 0.0, "privacy": "reversal"}, "privacy must be one of maxent, none, not 'reversal'"),
    ):
        rewritten(tmp_path, lambda state, change=change: state["config"].update(change))
        with pytest.raises(UserError, match=message):
            load_anonymizer(tmp_path, CPU)

    methods["noise"].save(tmp_path / "noise")
    rewritten(tmp_path / "noise", lambda state: state.update(fresh=False, own_key=True))
    assert torch.equal(load_anonymizer(tmp_path / "noise", CPU)(images), methods["noise"](images))
    for change, message in (({"own_key": False}, "own_key = False"), ({"fresh": True, "own_key": True}, "fresh = True")):
        rewritten(tmp_path / "noise", lambda state, change=change: state.update(change))
        with pytest.raises(UserError, match=f"CertifiedNoise.{message} is of an older version"):
            load_anonymizer(tmp_path / "noise", CPU)

    methods["score"].save(tmp_path / "score")
    rewritten(tmp_path / "score", lambda state: state["erasers"][0].update(anchors=0, covariance=True))
    assert torch.equal(load_anonymizer(tmp_path / "score", CPU)(images), methods["score"](images))
    rewritten(tmp_path / "score", lambda state: state["erasers"][0].update(anchors=4))
    with pytest.raises(UserError, match=r"ScoreErasure\.anchors = 4 is of an older version"):
        load_anonymizer(tmp_path / "score", CPU)
    rewritten(tmp_path / "score", lambda state: state["erasers"][0].update(kind="kernel"))
    with pytest.raises(UserError, match="not an anonymizer that this version of aia_lib can read .*kernel"):
        load_anonymizer(tmp_path / "score", CPU)
