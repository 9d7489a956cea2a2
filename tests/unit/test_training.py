"""Training: what the stages learn, that a seed fixes every bit, and that a run killed at any moment ends as if it had not been."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import multiprocessing
import os
import resource
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_array_equal

from aia_lib.anonymizers import AIA, Networks
from aia_lib.config import PROFILES, AdversaryConfig, AutoencoderConfig, FinetuneConfig, Profile, SiameseConfig
from aia_lib.faces import Faces
from aia_lib.losses import LOG2
from aia_lib.machine import device, stage
from aia_lib.machine.device import build, derive_seed, pick_device, seeded, to_images
from aia_lib.machine.files import UserError
from aia_lib.machine.stage import Checkpoint, Stage
from aia_lib.models import CNNAdversary, Decoder, Encoder
from aia_lib.saving import load_anonymizer
from aia_lib.statistics import roc_auc
from aia_lib.training import FaceBatches, PairBatches, finetune, train_adversary, train_autoencoder, train_siamese

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")

LEARN = dataclasses.replace(
    PROFILES["fast"],
    size=16,
    autoencoder=AutoencoderConfig(epochs=2),
    adversary=AdversaryConfig(epochs=6),
    siamese=SiameseConfig(epochs=4),
    finetune=FinetuneConfig(epochs=3, batch_size=16, learning_rate=3e-3),
)
"""Enough to learn something from drawn faces."""

TINY = dataclasses.replace(
    PROFILES["fast"],
    size=16,
    autoencoder=AutoencoderConfig(epochs=2, batch_size=16),
    adversary=AdversaryConfig(epochs=2, batch_size=16),
    siamese=SiameseConfig(epochs=2, batch_size=16),
    finetune=FinetuneConfig(epochs=2, batch_size=8, adversary_steps=2),
)
"""Six steps a stage on 48 images: nothing is learned, everything is done."""


@pytest.fixture(scope="module")
def few(toy_faces) -> Faces:
    """48 images of 12 people."""
    return toy_faces(people=12, images=4, size=16)


@pytest.fixture(scope="module")
def parts(toy_faces) -> tuple[Faces, Faces]:
    """Faces to train on, and faces of other people to test on."""
    faces = toy_faces(people=90, images=6, size=16)
    return faces.subset(faces.identity < 60), faces.subset(faces.identity >= 60)


@pytest.fixture(scope="module")
def learned(parts) -> tuple[Networks, dict[str, stage.History]]:
    """Networks after stages 1 to 3 of LEARN, and the stages' histories. Tests copy the networks before they change them."""
    nets = Networks(16, device=CPU)
    return nets, three_stages(parts[0], nets, LEARN)


def three_stages(faces: Faces, nets: Networks, profile: Profile, **settings) -> dict[str, stage.History]:
    settings = {"progress": False, **settings}

    def read(images: torch.Tensor) -> torch.Tensor:
        return nets.seen(nets.encode(images))

    return {
        "autoencoder": train_autoencoder(faces, nets.encoder, nets.decoder, profile.autoencoder, **settings),
        "adversary": train_adversary(faces, nets.adversary, read, profile.adversary, **settings),
        "siamese": train_siamese(faces, nets.siamese, read, profile.siamese, **settings),
    }


def fine_tuned(faces: Faces, nets: Networks, profile: Profile = TINY, **changes) -> tuple[Networks, stage.History]:
    """A copy of `nets` after stage 4 with some settings changed, and its history."""
    nets = copy.deepcopy(nets)
    config = dataclasses.replace(profile.finetune, **changes)
    history = finetune(faces, *nets.modules().values(), config, profile.adversary, profile.siamese, progress=False)
    return nets, history


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def images_of(faces: Faces) -> torch.Tensor:
    return to_images(faces.images, CPU)


def auc(logits: torch.Tensor, faces: Faces) -> float:
    return roc_auc(logits.numpy(), faces.labels() == 1)


def fresh_adversarys_auc(nets: Networks, train: Faces, test: Faces, seed: int = 5) -> float:
    """What an adversary trained afresh on g reads off the g of other people."""
    fresh = build(lambda: CNNAdversary(nets.map_shape), CPU, seed)
    train_adversary(train, fresh, nets.encode, LEARN.adversary, seed=seed, progress=False)
    with torch.no_grad():
        return auc(fresh.eval()(nets.encode(images_of(test))), test)


def with_labels(faces: Faces, values: np.ndarray) -> Faces:
    return dataclasses.replace(faces, attributes={"gender": values.astype(np.int8)})


def shuffled_between_people(faces: Faces) -> Faces:
    codes, people = np.unique(faces.identity, return_inverse=True)
    return with_labels(faces, np.random.default_rng(0).permutation(faces.person_labels())[people])


# -------------------------------------------------------------------------------------------------- what the stages learn


def test_each_stage_lowers_its_loss_and_notes_one_mean_an_epoch(learned, parts):
    nets, histories = learned
    _, histories["finetune"] = fine_tuned(parts[0], nets, LEARN, beta=0.0)
    for trained, loss, others in (
        ("autoencoder", "reconstruction", set()),
        ("adversary", "adversary", {"accuracy"}),
        ("siamese", "siamese", set()),
        ("finetune", "total", {"reconstruction", "siamese", "adversary", "accuracy"}),
    ):
        history = histories[trained]
        assert history.keys() == {loss, *others}
        assert {len(values) for values in history.values()} == {getattr(LEARN, trained).epochs}
        assert history[loss][-1] < history[loss][0], trained
    assert histories["adversary"]["accuracy"][-1] > histories["adversary"]["accuracy"][0]
    assert histories["finetune"]["accuracy"][-1] > 0.8, "an adversary that nobody works against goes on reading"
    assert histories["finetune"]["reconstruction"][-1] < histories["autoencoder"]["reconstruction"][-1]


def test_the_adversary_reads_gender_off_an_untouched_g_and_nothing_off_shuffled_labels(learned, parts):
    train, test = parts
    nets, _ = learned
    before = weights(nets.encoder)
    assert auc(nets.infer(nets.encode(images_of(test))), test) > 0.9
    assert fresh_adversarys_auc(nets, train, test) > 0.9
    assert 0.25 < fresh_adversarys_auc(nets, shuffled_between_people(train), test) < 0.75, "the control"
    assert same(weights(nets.encoder), before), "the adversary's training does not move what it reads"


def test_the_siamese_network_tells_people_apart(learned, parts):
    nets, _ = learned
    test = parts[1]
    pairs = test.pairs(300)
    z = nets.embed(nets.encode(images_of(test)))
    distance = (z[pairs.a] - z[pairs.b]).norm(dim=1)
    assert roc_auc(distance.numpy(), pairs.different == 1) > 0.7


def test_a_literal_frozen_adversary_is_fooled_and_hides_nothing(learned, parts):
    """The paper's failure: the encoder makes the one adversary it knows sure of wrong answers. The labels are there for the next one."""
    train, test = parts
    nets, _ = learned
    x, y = images_of(test), torch.from_numpy(test.labels()).float()
    before = nets.infer(nets.encode(x))
    after_nets, history = fine_tuned(train, nets, LEARN, adversary="frozen", adversary_loss="literal", beta=1.0)
    after = after_nets.infer(after_nets.encode(x))

    assert auc(before, test) > 0.9
    assert auc(after, test) < auc(before, test) - 0.2, "the frozen adversary no longer reads gender ..."
    assert F.binary_cross_entropy_with_logits(after, y) > 2 * LOG2 > F.binary_cross_entropy_with_logits(before, y), (
        "... it is not undecided, which would cost log 2, but sure of wrong answers"
    )
    terms = {key: np.array(values) for key, values in history.items()}
    assert terms["adversary"][-1] > 2 * LOG2 and terms["total"][-1] < terms["total"][0], "which is what Eq. 8 pays for"
    np.testing.assert_allclose(terms["total"], terms["reconstruction"] + 0.5 * terms["siamese"] - 1.0 * terms["adversary"], rtol=1e-4)
    assert fresh_adversarys_auc(after_nets, train, test) > 0.8, "a fresh adversary reads gender off the same g"
    control = fresh_adversarys_auc(after_nets, shuffled_between_people(train), test)
    assert control < 0.75, "and not because it could read anything"


# -------------------------------------------------------------------------------------------------- who moves, and what is read


def test_frozen_networks_do_not_move_and_alternating_ones_do(few):
    nets = Networks(16, device=CPU)
    start = {name: weights(module) for name, module in nets.modules().items()}
    for mode, move in (("frozen", False), ("alternating", True)):
        after, _ = fine_tuned(few, nets, adversary=mode)
        assert not same(weights(after.encoder), start["encoder"]) and not same(weights(after.decoder), start["decoder"])
        assert same(weights(after.adversary), start["adversary"]) is not move
        assert same(weights(after.siamese), start["siamese"]) is not move, "its running means and variances too"
        for module in after.modules().values():
            assert all(parameter.requires_grad for parameter in module.parameters()) and not module.training, "ready for what comes next"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", [{}, {"alpha": 0.0}, {"attach": "image", "adversary_loss": "maxent"}], ids=str)
def test_the_encoders_step_spares_the_adversarys_gradients_and_ends_in_the_same_bits(few, monkeypatch, precision, changes):
    bf16 = precision == "bfloat16"
    monkeypatch.setattr("aia_lib.training.autocast", lambda *_: torch.autocast("cpu", torch.bfloat16, enabled=bf16))
    config = dataclasses.replace(TINY.finetune, epochs=1, batch_size=4, **changes)  # two steps, two of the adversary in each
    faces = few.subset(slice(0, 16))  # bfloat16 takes many times as long where the processor has none

    def trained() -> tuple[Networks, int]:
        nets, computed = Networks(16, config.attach, device=CPU), []
        nets.adversary.output.weight.register_post_accumulate_grad_hook(computed.append)
        finetune(faces, *nets.modules().values(), config, TINY.adversary, TINY.siamese, progress=False)
        return nets, len(computed)

    spared, count = trained()
    with monkeypatch.context() as patch:
        patch.setattr(CNNAdversary, "requires_grad_", lambda adversary, on=True: adversary)
        whole, more = trained()
    assert (count, more) == (4, 6), "the control computes one for each step of the encoder, too"
    assert same(spared.tensors(), whole.tensors())
    assert all(parameter.requires_grad for parameter in spared.adversary.parameters())


def test_without_the_task_the_siamese_takes_no_part(few):
    nets, other = Networks(16, device=CPU), Networks(16, device=CPU)
    with torch.no_grad():
        for parameter in other.siamese.parameters():
            parameter.add_(0.1)
    (a, history), (b, _) = (fine_tuned(few, start, alpha=0.0, epochs=1) for start in (nets, other))
    assert same(weights(a.encoder), weights(b.encoder)) and same(weights(a.adversary), weights(b.adversary))
    assert same(weights(a.siamese), weights(nets.siamese)) and history["siamese"] == [0.0]
    (a, _), (b, _) = (fine_tuned(few, start, alpha=0.5, epochs=1) for start in (nets, other))
    assert not same(weights(a.encoder), weights(b.encoder)), "the control: with the task it does"


def test_each_weight_of_equation_8_counts(few):
    nets = Networks(16, device=CPU)
    encoders = [
        weights(fine_tuned(few, nets, epochs=1, **changes)[0].encoder)
        for changes in ({}, {"alpha": 1.0}, {"beta": 1.0}, {"gamma": 2.0}, {"adversary_loss": "maxent"})
    ]
    for i, one in enumerate(encoders):
        assert not any(same(one, other) for other in encoders[i + 1 :])


def test_adversary_and_siamese_can_read_the_reconstruction(few):
    nets = Networks(16, attach="image", device=CPU)
    assert nets.adversary.shape == nets.siamese.shape == (1, 16, 16)
    three_stages(few, nets, TINY)
    start = weights(nets.decoder)
    after, history = fine_tuned(few, nets, attach="image", gamma=0.0, epochs=1)
    assert all(math.isfinite(value) for values in history.values() for value in values)
    assert not same(weights(after.decoder), start), "the adversary's gradient comes through the decoder"
    after, _ = fine_tuned(few, Networks(16, device=CPU), gamma=0.0, epochs=1)
    assert same(weights(after.decoder), weights(Networks(16, device=CPU).decoder)), "the control: it does not when g is read"


def test_more_adversary_steps_make_a_better_informed_adversary(few):
    nets = Networks(16, device=CPU)
    losses = [fine_tuned(few, nets, beta=0.0, adversary_steps=steps)[1]["adversary"][-1] for steps in (1, 6)]
    assert losses[1] < losses[0]


def test_missing_labels_are_tolerated_and_do_not_count(few):
    labels = few.labels().copy()
    labels[::3] = -1
    nets = Networks(16, device=CPU)
    histories = three_stages(with_labels(few, labels), nets, TINY)
    _, histories["finetune"] = fine_tuned(with_labels(few, labels), nets)
    assert all(math.isfinite(value) for history in histories.values() for values in history.values() for value in values)
    unlabelled = Networks(16, device=CPU)
    before = weights(unlabelled.adversary)
    history = train_adversary(
        with_labels(few, np.full(len(few), -1)), unlabelled.adversary, unlabelled.encode, TINY.adversary, progress=False
    )
    assert same(weights(unlabelled.adversary), before) and history == {"adversary": [0.0, 0.0], "accuracy": [0.0, 0.0]}


def test_an_adversary_left_frozen_by_an_interruption_can_be_trained_again(few):
    nets = Networks(16, device=CPU)
    nets.adversary.requires_grad_(False)
    nets.siamese.requires_grad_(False)
    before = weights(nets.adversary), weights(nets.siamese)
    three_stages(few, nets, TINY)
    assert not same(weights(nets.adversary), before[0]) and not same(weights(nets.siamese), before[1])


# ------------------------------------------------------------------------------------------------------------------ the seed


def test_a_seed_fixes_every_bit_on_the_cpu(few):
    def run(seed: int) -> AIA:
        return AIA(TINY, seed=seed, device=CPU).fit(few, progress=False)

    torch.manual_seed(1)
    first = run(0)
    torch.manual_seed(2)  # what was drawn before plays no part
    state = torch.get_rng_state()
    again, other = run(0), run(1)
    assert torch.equal(torch.get_rng_state(), state), "and what is drawn after is as if there had been no training"
    assert first.history == again.history != other.history
    assert same(first.networks.tensors(), again.networks.tensors())
    learned = [key for key, value in first.networks.tensors().items() if value.is_floating_point()]
    assert not any(torch.equal(first.networks.tensors()[key], other.networks.tensors()[key]) for key in learned)


def test_seeds_are_the_same_on_every_machine():
    assert derive_seed(0, "autoencoder", "order", 3) == 1428548111
    assert len({derive_seed(*parts) for parts in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1))}) == 5
    with seeded(0, "a"):
        drawn = torch.rand(3)
    with seeded(0, "a"):
        assert torch.equal(torch.rand(3), drawn)


# ------------------------------------------------------------------------------------------------------ batches, pairs, devices


def a_stage(images: int, batch_size: int, epochs: int = 2, **settings) -> Stage:
    return Stage("stage", {}, {}, images=images, batch_size=batch_size, epochs=epochs, seed=0, settings={}, progress=False, **settings)


@pytest.mark.parametrize(("images", "batch_size"), [(10, 3), (10, 10), (10, 32), (1, 1)])
def test_an_epoch_shows_each_image_at_most_once(images, batch_size):
    stage = a_stage(images, batch_size)
    shown = {0: [], 1: []}
    for step in stage:
        rows = stage.rows(step)
        assert len(rows) == min(images, batch_size)
        shown[step // stage.steps_per_epoch].extend(rows)
    for rows in shown.values():
        assert len(rows) == len(set(rows)) > images - batch_size, "what is left out is less than a batch"
    assert images == 1 or shown[0] != shown[1], "in another order"


def test_a_history_is_the_mean_of_what_was_logged():
    stage = a_stage(images=8, batch_size=2, epochs=3)
    for step in stage:
        stage.log(step=torch.tensor(float(step)), half=step / 2)
    assert stage.history == {"step": [1.5, 5.5, 9.5], "half": [0.75, 2.75, 4.75]}


@pytest.mark.parametrize("impostors", ["free", "same"])
def test_half_of_an_epochs_training_pairs_are_genuine(few, impostors):
    stage = a_stage(images=len(few), batch_size=16)
    draw = PairBatches(few, stage, 16, impostors)
    epochs = []
    for epoch in range(2):
        steps = [draw(step) for step in range(epoch * stage.steps_per_epoch, (epoch + 1) * stage.steps_per_epoch)]
        a, b, different = (np.concatenate(values) for values in zip(*steps, strict=True))
        assert len(a) == 48 and different.sum() == 24
        assert_array_equal(few.identity[a] != few.identity[b], different == 1)
        if impostors == "same":
            assert_array_equal(few.labels()[a], few.labels()[b])
        epochs.append((a, b))
    assert not np.array_equal(epochs[0][0], epochs[1][0]), "each epoch draws its own"
    again = draw(0)[0]
    assert_array_equal(again, epochs[0][0][:16], "and the same ones whenever it is asked")


def test_few_genuine_pairs_come_round_again(toy_faces):
    faces = toy_faces(people=8, images=2, size=16)  # 8 genuine pairs
    faces = dataclasses.replace(faces, images=np.asarray(faces.images))
    draw = PairBatches(faces, a_stage(images=60, batch_size=60), 60, "free")
    a, b, different = draw(0)
    assert len(a) == 60 and (different == 0).sum() == 30
    assert_array_equal(faces.identity[a] != faces.identity[b], different == 1)


def test_images_are_numbers_from_0_to_1_and_files_read_late_are_the_same(few, tmp_path):
    pixels = np.array([0, 51, 255], dtype=np.uint8).reshape(3, 1, 1, 1)
    assert to_images(pixels, CPU).flatten().tolist() == pytest.approx([0, 0.2, 1])
    mapped = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.uint8, shape=few.images.shape)
    mapped[:] = few.images
    on_disk = dataclasses.replace(few, images=mapped)
    rows = np.array([5, 0, 47])
    for late in (on_disk, on_disk.subset(np.arange(48))):
        assert torch.equal(FaceBatches(late, CPU).images(rows), FaceBatches(few, CPU).images(rows))
    assert FaceBatches(few, CPU).images(rows).is_contiguous(memory_format=torch.channels_last)


def test_devices_by_name():
    assert pick_device("cpu") == CPU and pick_device().type in ("cpu", "cuda", "mps")
    for name in ("gpu", "cuda:99", ""):
        with pytest.raises(UserError, match=f"There is no device '{name}' here"):
            pick_device(name)


# ----------------------------------------------------------------------------------------------------------- killed and resumed

# Processes are forked from a server that has imported torch already and computed nothing: a restart costs no import.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "aia_lib.run"])


def in_a_process(target, *arguments, limit: float = 600) -> multiprocessing.Process:
    """Run `target(connection, *arguments)` in a process of its own, for `limit` seconds after it says that it is ready; then kill it."""
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=target, args=(theirs, *arguments))
    process.start()
    theirs.close()
    assert ours.poll(600) and ours.recv() == "ready"
    process.join(limit)
    if process.exitcode is None:
        process.kill()
    process.join()
    return process


def train_everything(connection: Connection, faces: Faces, folder: Path, kill_at: int | None = None) -> None:
    """All four stages, with a checkpoint after every step. With `kill_at`, SIGKILL at that one of the moments around a file operation."""
    torch.set_num_threads(1)
    stage.SAVE_EVERY = 0
    if kill_at is not None:
        passed = iter(range(1, kill_at + 1))

        def moment() -> None:
            if next(passed) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def watched(operation):
            def run(*arguments, **keywords):
                moment()
                operation(*arguments, **keywords)
                moment()

            return run

        os.replace, os.fsync, os.unlink = watched(os.replace), watched(os.fsync), watched(os.unlink)
    connection.send("ready")
    AIA(TINY, device=CPU).fit(faces, folder=folder / "checkpoints", progress=False).save(folder / "result")


@pytest.fixture(scope="module")
def undisturbed(few, tmp_path_factory) -> Path:
    """The folder of the run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    AIA(TINY, device=CPU).fit(few, folder=folder / "checkpoints", progress=False).save(folder / "result")
    return folder


def assert_ended_the_same(folder: Path, undisturbed: Path) -> None:
    """The same weights, bit for bit (the JSON files hold their hashes), the same histories, and nothing left behind."""
    for part in ("checkpoints", "result"):
        names = sorted(path.name for path in (undisturbed / part).iterdir())
        left = {path.name for path in (folder / part).iterdir()} - set(names)
        # a stage's last save may be killed after it counts and before the file of the save before is removed
        assert all(name.endswith(".safetensors") for name in left) and len(left) <= 1
        for name in names:
            assert (folder / part / name).read_bytes() == (undisturbed / part / name).read_bytes(), name


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(few, tmp_path, undisturbed):
    rng = np.random.default_rng()  # other moments each time: that is the claim
    killed = 0
    while (
        process := in_a_process(train_everything, few, tmp_path, limit=rng.uniform(0.02, 0.25 + 0.2 * killed) if killed < 6 else 600)
    ).exitcode:
        assert process.exitcode == -signal.SIGKILL
        killed += 1
    assert killed >= 2
    assert_ended_the_same(tmp_path, undisturbed)


def test_a_run_killed_around_every_file_operation_ends_as_if_it_had_not_been(few, tmp_path, undisturbed):
    moments = 10  # of a save: before and after the flush and the renaming of the tensors, the same of the index, and the removal of the old
    for moment in range(1, moments + 1):  # each in the second save of the process, so that each process goes on by at least one step
        assert in_a_process(train_everything, few, tmp_path, moments + moment).exitcode == -signal.SIGKILL
    assert in_a_process(train_everything, few, tmp_path).exitcode == 0
    assert_ended_the_same(tmp_path, undisturbed)


def test_checkpoints_change_nothing(few, undisturbed):
    without = AIA(TINY, device=CPU).fit(few, progress=False)
    saved = load_anonymizer(undisturbed / "result", CPU)
    assert same(without.networks.tensors(), saved.networks.tensors()) and without.history == saved.history


def test_a_finished_stage_is_not_trained_again(few, undisturbed, monkeypatch):
    monkeypatch.setattr(Stage, "log", lambda *a, **k: pytest.fail("a step was taken"))
    again = AIA(TINY, device=CPU).fit(few, folder=undisturbed / "checkpoints", progress=False)
    saved = load_anonymizer(undisturbed / "result", CPU)
    assert same(again.networks.tensors(), saved.networks.tensors()) and again.history == saved.history
    assert not any(module.training for module in again.networks.modules().values())


def autoencoder(faces: Faces, folder: Path | None, hook=None, **changes) -> tuple[dict, stage.History]:
    """Weights and history of stage 1; `hook` is called in each step."""
    encoder, decoder = build(Encoder, CPU, 0, "encoder"), build(lambda: Decoder((12, 4, 4)), CPU, 0, "decoder")
    if hook:
        encoder.register_forward_hook(lambda *_: hook())
    config = dataclasses.replace(TINY.autoencoder, **changes)
    history = train_autoencoder(faces, encoder, decoder, config, folder=folder, progress=False)
    return {**weights(encoder), **{f"decoder.{key}": value for key, value in weights(decoder).items()}}, history


def at_step(number: int, act):
    """A hook that acts once, in step `number`, counted from 1."""
    steps = iter(range(1, 1000))
    return lambda: act() if next(steps) == number else None


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_ctrl_c_saves_the_step_and_a_resumed_run_equals(few, tmp_path, step):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        autoencoder(few, tmp_path, at_step(step, interrupt))
    assert Checkpoint(tmp_path, "autoencoder").load()[1]["step"] == step, "it waited for the end of the step, and no longer"
    assert signal.getsignal(signal.SIGINT) is handler
    taken = []
    resumed = autoencoder(few, tmp_path, lambda: taken.append(1))
    assert len(taken) == 6 - step
    expected = autoencoder(few, None)
    assert same(resumed[0], expected[0]) and resumed[1] == expected[1]


def test_a_second_ctrl_c_acts_at_once(few, tmp_path):
    handler = signal.getsignal(signal.SIGINT)

    def twice() -> None:
        interrupt()
        interrupt()
        pytest.fail("the step went on")

    with pytest.raises(KeyboardInterrupt):
        autoencoder(few, tmp_path, at_step(2, twice))
    assert Checkpoint(tmp_path, "autoencoder").load() is None and signal.getsignal(signal.SIGINT) is handler


def test_an_error_in_a_step_leaves_ctrl_c_as_it_was(few):
    handler = signal.getsignal(signal.SIGINT)

    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        autoencoder(few, None, at_step(2, fail))
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_stage_trains_in_a_thread(few):
    """As in a notebook's widget: signals belong to the main thread and are left alone."""
    results = []
    thread = threading.Thread(target=lambda: results.append(autoencoder(few, None)))
    thread.start()
    thread.join()
    assert same(results[0][0], autoencoder(few, None)[0])


# ---------------------------------------------------------------------------------------------------------------- checkpoints


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def tamper(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "truncated tensors": ("*.safetensors", truncate),
    "one bit changed": ("*.safetensors", tamper),
    "empty tensors": ("*.safetensors", lambda path: path.write_bytes(b"")),
    "missing tensors": ("*.safetensors", Path.unlink),
    "half of the index": ("*.json", truncate),
    "an empty index": ("*.json", lambda path: path.write_text("")),
    "another index": ("*.json", lambda path: path.write_text("{}")),
    "an index that is a list": ("*.json", lambda path: path.write_text("[1]")),
    "an index of other bytes": ("*.json", lambda path: path.write_bytes(b"\xff\xfe\x00")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_not_trained_on(few, tmp_path, damage):
    autoencoder(few, tmp_path)
    pattern, harm = DAMAGES[damage]
    (path,) = tmp_path.glob(pattern)
    harm(path)
    with pytest.raises(UserError, match="is damaged .* Remove that file to make it again") as error:
        autoencoder(few, tmp_path)
    assert str(tmp_path / "autoencoder.json") in str(error.value) and "\n" not in str(error.value)
    for left in tmp_path.glob("autoencoder*"):  # the way out that the message names
        left.unlink()
    autoencoder(few, tmp_path)


def test_a_checkpoint_of_other_settings_is_refused(few, toy_faces, tmp_path):
    autoencoder(few, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"autoencoder.json is of other settings \(learning_rate was 0.001, is 0.01\)"):
        autoencoder(few, tmp_path, learning_rate=0.01)
    with pytest.raises(UserError, match=r"batch_size was 16, is 8; epochs was 2, is 5"):
        autoencoder(few, tmp_path, epochs=5, batch_size=8)
    with pytest.raises(UserError, match="faces was '.*', is '.*'"):
        autoencoder(toy_faces(people=12, images=4, size=16, seed=1), tmp_path)
    with pytest.raises(UserError, match=r"seed was 0, is 1"):
        train_autoencoder(few, Encoder(), Decoder((12, 4, 4)), TINY.autoencoder, seed=1, folder=tmp_path, progress=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before, "and left as it was"


def test_a_checkpoint_of_another_network_is_refused(few, tmp_path):
    autoencoder(few, tmp_path)
    with pytest.raises(UserError, match=r"autoencoder.json is of other settings \(start was"):
        train_autoencoder(few, Encoder(), Decoder((3, 8, 8)), TINY.autoencoder, folder=tmp_path, progress=False)


def test_a_checkpoint_replaces_the_one_before_and_what_killed_saves_left(tmp_path):
    checkpoint = Checkpoint(tmp_path, "stage")
    assert checkpoint.load() is None
    checkpoint.save({"a": torch.arange(3.0)}, step=1)
    (old,) = tmp_path.glob("*.safetensors")
    for leftover in (".stage-0123456789abcdef.safetensors.x1y2.part", ".stage.json.x1y2.part", "stage-0123456789abcdef.safetensors"):
        (tmp_path / leftover).write_bytes(b"half")
    for other in ("stage-two-0123456789abcdef.safetensors", "stage-two.json"):
        (tmp_path / other).write_text("another stage's")
    assert checkpoint.load()[1]["step"] == 1, "leftovers are no problem"
    checkpoint.save({"a": torch.arange(4.0)}, step=2)
    tensors, state = checkpoint.load()
    assert torch.equal(tensors["a"], torch.arange(4.0)) and state["step"] == 2 and not old.exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "stage.json",
        state["file"],
        "stage-two-0123456789abcdef.safetensors",
        "stage-two.json",
    }
    checkpoint.save({"a": torch.arange(4.0)}, step=3)
    assert checkpoint.load()[1]["step"] == 3, "the same tensors again keep their file"


def test_a_checkpoint_keeps_tensors_however_they_lie_in_memory(tmp_path):
    checkpoint = Checkpoint(tmp_path, "stage")
    tensors = {
        "channels_last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "slice": torch.rand(5, 5)[:, ::2],
        "bf16": torch.rand(3).bfloat16(),
        "count": torch.tensor(7),
    }
    checkpoint.save(tensors)
    assert same(checkpoint.load()[0], tensors)


def save_on_a_full_disk(connection: Connection, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    connection.send("ready")
    try:
        Checkpoint(folder, "stage").save({"a": torch.zeros(10_000)}, step=2)
    except UserError as error:
        assert "no space left on the device" in str(error)
        raise SystemExit(3) from error


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    checkpoint = Checkpoint(tmp_path, "stage")
    checkpoint.save({"a": torch.ones(10)}, step=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert in_a_process(save_on_a_full_disk, tmp_path).exitcode == 3
    assert checkpoint.load()[1]["step"] == 1 and sorted(path.name for path in tmp_path.iterdir()) == names


def test_adam_goes_on_with_moments_that_lie_as_the_weights_do(few, tmp_path):
    """The fused kernel goes through memory: moments read back row-major beside channels-last weights would be paired wrongly."""
    with pytest.raises(KeyboardInterrupt):
        autoencoder(few, tmp_path, at_step(2, interrupt))
    encoder, decoder = build(Encoder, CPU, 1), build(lambda: Decoder((12, 4, 4)), CPU, 1)
    optimizer = device.adam([*encoder.parameters(), *decoder.parameters()], 1e-3, CPU)
    settings = json.loads((tmp_path / "autoencoder.json").read_text())["settings"]
    stage = Stage(
        "autoencoder",
        {"encoder": encoder, "decoder": decoder},
        {"adam": optimizer},
        images=48,
        batch_size=16,
        epochs=2,
        seed=0,
        settings=settings,
        folder=tmp_path,
        progress=False,
    )
    assert next(iter(stage)) == 2
    weight = decoder.conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
    assert optimizer.state[weight]["step"] == 2
