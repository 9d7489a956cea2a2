"""Transport of templates: what it makes equal, what it leaves, and that an attacker who succeeds before fails after."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from aia_lib.audit import audit, stored
from aia_lib.cli import main
from aia_lib.config import AuditConfig
from aia_lib.datasets import load_faces
from aia_lib.datasets.templates import write_templates
from aia_lib.defences import CertifiedNoise, Discriminants, Erased, Sample, Transport, auc_bound, template_protection
from aia_lib.defences.transport import _affine, _slide
from aia_lib.faces import Faces
from aia_lib.machine.files import UserError
from aia_lib.saving import load_anonymizer

QUICK = AuditConfig(epochs=1, min_steps=20, bootstrap=50, pairs=2000, attackers=("logistic", "svm_rbf"), controls=False)


def templates(people: int = 1000, images: int = 2, numbers: int = 16, seed: int = 0) -> Faces:
    """People whose templates differ by the label in mean *and* covariance, so that no line tells all; "young" moves the second axis."""
    rng = np.random.default_rng(seed)
    gender, young = rng.integers(0, 2, (2, people))
    spread = np.where(gender[:, None] == 1, np.r_[np.full(numbers // 2, 1.6), np.full(numbers - numbers // 2, 0.6)], 1.0)
    place = spread * rng.normal(size=(people, numbers))
    place[:, 0] += 3 * gender
    place[:, 1] += 3 * young
    person = np.repeat(np.arange(people), images)
    vectors = (place[person] + 0.25 * rng.normal(size=(len(person), numbers))).astype(np.float32)
    labels = {"gender": gender[person], "young": young[person]}
    return Faces(vectors, person, labels, "gender", "a trial", "none")


@pytest.fixture(scope="module")
def faces() -> Faces:
    return templates()


@pytest.fixture(scope="module")
def protected(faces) -> Erased:
    return Erased(None, (Discriminants(12, ridge=1.0, within_labels=True), Transport())).fit(faces.split().train)


def leak(method, faces: Faces) -> tuple[float, float]:
    report = audit(method, faces, seeds=1, config=QUICK, progress=False)
    return report.retrained["leak_auc"], report.retrained["utility_auc_same"]


def test_fresh_attackers_read_the_label_before_and_after_leace_and_hardly_after_transport(faces, protected):
    raw, verified = leak(stored, faces)
    erased, _ = leak(Erased(None, ("leace",)).fit(faces.split().train), faces)
    left, kept = leak(protected, faces)
    assert raw > 0.9 and erased > 0.8  # what is not linear is not LEACE's business
    assert left < 0.65 and kept > 0.95 * verified


def test_the_people_it_was_fitted_on_have_equal_means_and_covariances(faces):
    train = faces.split().train
    method = Transport(rounds=0).fit(sample := Sample.of(stored, train))
    moved = method(sample.g.float(), torch.from_numpy(np.asarray(train.images))).double().numpy()
    labels = train.labels()

    def apart(g: np.ndarray) -> float:
        one, other = (np.cov(g[labels == value].T) for value in (1, 0))
        return np.linalg.norm(one - other) / np.linalg.norm(one + other)

    assert apart(np.asarray(sample.g)) > 0.3 and apart(moved) < 0.15
    gap = [np.linalg.norm(g[labels == 1].mean(0) - g[labels == 0].mean(0)) for g in (np.asarray(sample.g), moved)]
    assert gap[0] > 2 and gap[1] < 0.2 * gap[0]


def test_the_affine_step_is_the_optimal_transport_of_gaussians():
    rng = np.random.default_rng(0)
    scales = torch.tensor([[2.0, 0.5], [1.0, 1.0]], dtype=torch.float64)
    group = torch.arange(2).repeat_interleave(20_000)
    g = scales[group] * torch.from_numpy(rng.normal(size=(len(group), 2)))
    target = scales.square().mean(0)
    maps = torch.stack([torch.diag((target / scale.square()).sqrt()) for scale in scales])  # between diagonal Gaussians
    moved = _affine(g, group, torch.zeros(2, 2, dtype=torch.float64), maps)
    assert all(torch.allclose(moved[group == j].var(0), target, rtol=0.05) for j in (0, 1))


def test_on_an_axis_a_whole_slide_carries_both_groups_to_one_distribution():
    rng = np.random.default_rng(0)
    g = torch.from_numpy(np.concatenate([rng.normal(size=(4000, 1)), rng.exponential(size=(4000, 1))]))
    group = torch.arange(2).repeat_interleave(4000)
    grid = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    quantiles = torch.stack([torch.quantile(g[group == j], grid, dim=0).T for j in (0, 1)])
    moved = _slide(g, group, torch.eye(1, dtype=torch.float64), quantiles, quantiles.mean(0) - quantiles)
    before, after = (wasserstein_distance(x[group == 0, 0], x[group == 1, 0]) for x in (g, moved))
    assert before > 0.7 and after < 0.05 * before
    assert wasserstein_distance(moved[:4000, 0], g[:4000, 0]) == pytest.approx(before / 2, rel=0.1)  # each goes half the way


def test_the_amount_is_a_place_on_the_way(faces, protected):
    some = torch.from_numpy(np.asarray(faces.images[:50]))
    moved = {}
    for amount in (0.0, 0.5, 1.0):
        protected.erasers[1].settings["amount"] = amount
        moved[amount] = protected(some)
    assert torch.equal(moved[0.0], protected.erasers[0](some, some))
    assert torch.allclose(moved[0.5], (moved[0.0] + moved[1.0]) / 2, atol=1e-5)


def test_it_is_saved_and_loaded(tmp_path, faces, protected):
    protected.save(tmp_path)
    loaded = load_anonymizer(tmp_path)
    some = torch.from_numpy(np.asarray(faces.images[:50]))
    assert torch.equal(loaded(some), protected(some)) and loaded.attribute == "gender" and loaded.name == protected.name
    assert torch.equal(loaded.unprotected(some), some)


def test_the_same_seed_gives_the_same_transport(faces, protected):
    again = Erased(None, (Discriminants(12, ridge=1.0, within_labels=True), Transport())).fit(faces.split().train)
    some = torch.from_numpy(np.asarray(faces.images[:50]))
    assert torch.equal(again(some), protected(some))


def test_certified_noise_goes_on_top(tmp_path, faces, protected):
    some = torch.from_numpy(np.asarray(faces.images[:50]))
    certified = CertifiedNoise(protected, mu=1.0, seed=5).fit(faces.split().train, fit_base=False)
    assert torch.equal(certified(some), certified(some)) and not torch.equal(certified(some), protected(some))
    assert leak(certified, faces)[0] < auc_bound(1.0) + 0.05 < 0.9 < leak(stored, faces)[0]
    certified.save(tmp_path)
    assert torch.equal(load_anonymizer(tmp_path)(some), certified(some))


def test_two_attributes_are_hidden_together(faces):
    both = Erased(None, (Transport(rounds=10),)).fit(faces.split().train, ("gender", "young"))
    for attribute in ("gender", "young"):
        report = audit(both, faces, attribute, seeds=1, config=QUICK, progress=False)
        assert report.retrained["leak_auc"] < 0.7
    assert audit(stored, faces, "young", seeds=1, config=QUICK, progress=False).retrained["leak_auc"] > 0.85


@pytest.fixture
def files(tmp_path, faces) -> tuple[str, str, str]:
    """Labelled templates, a model's folder, and a file to write."""
    table = {"vectors": faces.images, "identity": faces.identity, **faces.attributes, "camera": np.arange(len(faces)) % 2}
    write_templates(tmp_path / "my.npz", table)
    return str(tmp_path / "my.npz"), str(tmp_path / "model"), str(tmp_path / "out.npz")


def test_commands_fit_protect_and_audit(tmp_path, faces, files, capsys):
    mine, model, out = files
    assert main(["harden", "--root", mine, "--components", "12", "--out", out, "--model", model]) == 0
    words = capsys.readouterr().out
    assert "2,000 protected templates" in words and f"aia audit {model} --data templates --root {mine} --attribute gender" in words
    protected = load_faces("templates", out)
    method = template_protection(12).fit(load_faces("templates", mine).split().train)
    assert np.allclose(protected.images, method(torch.from_numpy(faces.images)).numpy(), atol=1e-4)
    assert np.array_equal(protected.labels("camera"), np.arange(2000) % 2) and protected.size == 12

    write_templates(tmp_path / "new.npz", {"vectors": faces.images[:7]})  # nobody knows whose they are, nor a label
    assert main(["protect", "--model", model, "--root", str(tmp_path / "new.npz"), "--out", str(tmp_path / "new-protected.npz")]) == 0
    with np.load(tmp_path / "new-protected.npz") as new:
        assert np.allclose(new["vectors"], protected.images[:7], atol=1e-4)
    raw, left = (audit(what, faces, seeds=1, config=QUICK, progress=False) for what in (stored, load_anonymizer(model)))
    assert raw.retrained["leak_auc"] > 0.9 > 0.68 > left.retrained["leak_auc"]


def test_a_model_of_everybody_has_seen_all(files):
    mine, model, out = files
    assert main(["harden", "--root", mine, "--everybody", "--attribute", "gender,young", "--out", out, "--model", model]) == 0
    assert load_anonymizer(model).attribute == ("gender", "young")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--out": "out.txt"}, "written to an .npz file; {out} has another name"),
        ({"--root": "none.npz"}, "none.npz: there is no such file"),
        ({"--attribute": "smile"}, "There is no attribute 'smile'"),
        ({"--attribute": "gender,smile"}, "There is no attribute 'smile'"),
        ({"--components": "0"}, "Discriminants.components must be a whole number"),
        ({"--amount": "2"}, "amount must lie between 0 (leave g as it is) and 1"),
        ({"--limit": "20"}, "Too few"),
    ],
)
def test_what_is_wrong_with_a_call_is_one_line_and_writes_nothing(tmp_path, files, capsys, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    mine, model, out = files
    options = {"--root": mine, "--model": model, "--out": out} | change
    assert main(["harden", *(word for option in options.items() for word in option)]) == 2
    line = capsys.readouterr().err.strip()
    assert words.format(out=options["--out"]) in line and "\n" not in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.npz"]


def test_templates_of_another_length_and_files_that_exist_are_refused(tmp_path, faces, files, capsys):
    mine, model, out = files
    call = ["harden", "--root", mine, "--out", out, "--model", model]
    assert main(call) == 0 and main(call) == 2
    assert f"{out} exists" in capsys.readouterr().err
    assert main([*call[:-3], str(tmp_path / "b.npz"), *call[-2:]]) == 2
    assert f"--model {model} exists" in capsys.readouterr().err
    write_templates(tmp_path / "short.npz", {"vectors": faces.images[:, :5]})
    assert main(["protect", "--model", model, "--root", str(tmp_path / "short.npz"), "--out", str(tmp_path / "c.npz")]) == 2
    assert "fitted for templates of 16 numbers, not for inputs of shape (5,)" in capsys.readouterr().err
    assert not (tmp_path / "c.npz").exists()


def test_what_cannot_be_is_one_line(faces):
    for amount in (-0.1, 1.5, "much", float("nan"), True):
        with pytest.raises(UserError, match="amount must lie between 0"):
            Transport(amount)
    with pytest.raises(UserError, match="rounds"):
        Transport(rounds=-1)
    with pytest.raises(UserError, match="ridge must be a positive number"):
        Discriminants(8, ridge=0)
    few = faces.subset(np.flatnonzero(faces.labels() == 0))
    with pytest.raises(UserError, match="an eraser needs two images of each label"):
        Erased(None, (Transport(),)).fit(few)
