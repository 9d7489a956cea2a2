"""Settings: every contradiction is named when the settings are built."""

from __future__ import annotations

import dataclasses
import json

import pytest

from aia_lib.config import (
    PROFILES,
    SPLIT_FRACTIONS,
    AdversaryConfig,
    AuditConfig,
    AutoencoderConfig,
    FinetuneConfig,
    Profile,
    SiameseConfig,
    as_dict,
    check_size,
    get_profile,
)
from aia_lib.machine.files import UserError
from aia_lib.machine.workfolder import settings_differences

CONFIGS = (AutoencoderConfig, AdversaryConfig, SiameseConfig, FinetuneConfig, AuditConfig)
WHOLE = {"epochs", "batch_size", "adversary_steps", "min_steps", "pairs", "impostor_pairs", "bootstrap"}
POSITIVE = {"learning_rate", "margin"}
NOT_NEGATIVE = {"alpha", "beta", "gamma"}
CHOICES = {
    "kind": ("cnn", "mlp"),
    "impostors": ("free", "same"),
    "adversary": ("alternating", "frozen"),
    "adversary_loss": ("literal", "capped", "maxent"),
    "attach": ("latent", "image"),
}


def fields(names: set[str]) -> list[tuple[type, str]]:
    return [(config, field.name) for config in CONFIGS for field in dataclasses.fields(config) if field.name in names]


def test_every_setting_is_checked_by_a_test_here():
    checked = WHOLE | POSITIVE | NOT_NEGATIVE | set(CHOICES)
    left = {field.name for config in CONFIGS for field in dataclasses.fields(config)} - checked
    assert left == {"attackers", "controls"}, "attackers are checked by the audit, which knows their names; controls is a flag"


@pytest.mark.parametrize(("config", "name"), fields(WHOLE))
@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), "2", None, True])
def test_counts_are_whole_numbers(config, name, value):
    with pytest.raises(UserError, match=rf"^{config.__name__}\.{name} must be a whole number of at least 1, not {value!r}\.$"):
        config(**{name: value})
    assert getattr(config(**{name: 3}), name) == 3


@pytest.mark.parametrize(("config", "name"), fields(POSITIVE))
@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf"), "1"])
def test_rates_and_margins_are_positive(config, name, value):
    with pytest.raises(UserError, match=rf"^{config.__name__}\.{name} must be a positive number, not {value!r}\.$"):
        config(**{name: value})
    assert getattr(config(**{name: 0.01}), name) == 0.01


@pytest.mark.parametrize("name", sorted(NOT_NEGATIVE))
@pytest.mark.parametrize("value", [-0.5, -1, float("nan"), float("inf"), float("-inf"), "0.5", None])
def test_weights_are_finite_and_not_negative(name, value):
    with pytest.raises(UserError, match=rf"^FinetuneConfig\.{name} must be a finite number that is not negative, not {value!r}"):
        FinetuneConfig(**{name: value})
    for fine in (0, 0.0, 0.5, 3):
        assert getattr(FinetuneConfig(**{name: fine}), name) == fine


@pytest.mark.parametrize(("config", "name"), fields(set(CHOICES)))
def test_options_are_among_those_there_are(config, name):
    for choice in CHOICES[name]:
        assert getattr(config(**{name: choice}), name) == choice
    listed = ", ".join(CHOICES[name])
    for value in ("", "Frozen", None, 1):
        with pytest.raises(UserError, match=rf"^{config.__name__}\.{name} must be one of {listed}, not {value!r}"):
            config(**{name: value})


@pytest.mark.parametrize("size", [0, -4, 4, 12, 15, 18, 63, 65, 64.0, "64", None, True])
def test_sizes_that_do_not_fit_are_named(size):
    with pytest.raises(UserError, match=f"multiple of 4 and at least 16 pixels, not {size!r};"):
        check_size(size)
    with pytest.raises(UserError, match="multiple of 4"):
        Profile(size=size)


@pytest.mark.parametrize("size", [16, 20, 32, 64, 128])
def test_sizes_that_fit(size):
    assert check_size(size) == size == Profile(size=size).size


def test_settings_do_not_change_and_a_changed_copy_is_checked_again():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FinetuneConfig().alpha = 1.0
    with pytest.raises(UserError, match="alpha must be"):
        dataclasses.replace(FinetuneConfig(), alpha=-1)


def test_the_defaults_are_the_papers():
    finetune = FinetuneConfig()
    assert (finetune.alpha, finetune.beta, finetune.gamma) == (0.5, 0.5, 1.0)
    assert (finetune.adversary_loss, finetune.attach) == ("literal", "latent")
    assert SiameseConfig().margin == 2.0
    assert sum(SPLIT_FRACTIONS) == pytest.approx(1)


def test_profiles_by_name_and_from_the_environment(monkeypatch):
    monkeypatch.delenv("AIA_PROFILE", raising=False)
    assert get_profile() is PROFILES["book"] and get_profile().size == 64
    assert get_profile("full").name == "full"
    monkeypatch.setenv("AIA_PROFILE", "fast")
    assert get_profile() is PROFILES["fast"] and get_profile().size == 32
    assert get_profile("book") is PROFILES["book"], "what is asked for goes before the environment"
    monkeypatch.setenv("AIA_PROFILE", "quick")
    with pytest.raises(UserError, match="There is no profile 'quick'; choose one of fast, book, full"):
        get_profile()
    assert all(profile.name == name for name, profile in PROFILES.items())


def test_as_dict_is_what_json_gives_back():
    profile = dataclasses.replace(PROFILES["fast"], audit=AuditConfig(attackers=("logistic", "mlp")))
    plain = as_dict(profile)
    assert plain == json.loads(json.dumps(plain))
    assert plain["audit"]["attackers"] == ["logistic", "mlp"], "inside, too: a report in memory equals the one in the file"
    assert plain["finetune"]["alpha"] == 0.5 and plain["size"] == 32
    assert FinetuneConfig(**plain["finetune"]) == profile.finetune


def test_settings_that_differ_are_named_each_by_its_place():
    before = {"faces": "a" * 64, "attribute": "gender", **as_dict(PROFILES["fast"])}
    assert settings_differences(before, json.loads(json.dumps(before))) == []
    now = {**before, "finetune": {**before["finetune"], "beta": 0.7}, "attribute": "glasses"}
    assert settings_differences(before, now) == ["attribute was 'gender', is 'glasses'", "finetune.beta was 0.5, is 0.7"]
    assert settings_differences({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) == ["a.c was None, is 2"]
    assert settings_differences(before, {**before, "faces": "b" * 64}) == [
        "other faces: another data set, --limit or --size, or images or labels have changed"
    ]
