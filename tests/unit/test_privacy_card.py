"""The privacy card: claims have the verdicts that their intervals give them, and the card stands by itself in every format."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_faces, write_celeba
from test_audit_validation import QUICK, Given, gaussian, numbered_faces
from test_report import Page

from aia_lib import cli, ledger
from aia_lib.audit import AuditReport, DeepConfig, audit
from aia_lib.audit.claims import Limits, claims
from aia_lib.config import PROFILES, AuditConfig, Profile
from aia_lib.faces import Faces
from aia_lib.machine.files import UserError

PARTS = ("information", "curve", "creep", "reconstruction", "adaptive")
DEEP = DeepConfig(PARTS, attackers=("logistic",), shares=(0.25, 0.5, 1.0), decoder_steps=8, queries=2)


class Method(Given):
    """The label at a distance, and who it is, plainly."""

    def __init__(self, faces: Faces, distance: float, name: str, people: float = 1.0) -> None:
        own = np.random.default_rng(1).normal(size=(faces.people, 6))[faces.identity]
        noise = np.random.default_rng(2).normal(0, 0.3, size=own.shape)
        super().__init__(np.concatenate([gaussian(faces, distance, 3), people * own + noise], axis=1))
        self.name = name


@pytest.fixture(scope="module")
def faces() -> Faces:
    return numbered_faces(200, 4)


@pytest.fixture(scope="module")
def original(faces: Faces) -> AuditReport:
    return audit(Method(faces, 3.0, "Original"), faces, seeds=2, config=QUICK, progress=False)


@pytest.fixture(scope="module")
def report(faces: Faces) -> AuditReport:
    """Hides much of the label, keeps the people; its own adversary reads a number that says nothing."""
    config = dataclasses.replace(QUICK, controls=True)
    method = Method(faces, 1.2, "mine <&| *it*")
    method.adversary, method.siamese = lambda g: g[:, 3], lambda g: g[:, 1:7]
    return audit(method, faces, seeds=2, config=config, deep=DEEP, progress=False)


def verdicts(report: AuditReport, *more: object) -> dict[str, str]:
    return {claim.key: claim.verdict for claim in claims(report, *more)}


def test_each_claim_has_the_verdict_of_its_interval(report: AuditReport, original: AuditReport) -> None:
    found = verdicts(report, original)
    assert found == {
        "sound": "supported",
        "hidden": "not supported",
        "own_adversary": "not supported",
        "less": "supported",
        "verifies": "supported",
        "keeps": "supported",
        "no_information": "not supported",
        "more_data": found["more_data"],
        "creep": "not tested",  # there is no other attribute
        "rebuilt": found["rebuilt"],
        "knowing": found["knowing"],
        "guarantee": "not tested",
    }
    reasons = {claim.key: claim.reason for claim in report.claims(original)}
    r = report.retrained
    assert f"{r['leak_auc']:.3f} [{r['leak_auc_ci'][0]:.3f}, {r['leak_auc_ci'][1]:.3f}]" in reasons["hidden"]
    assert "of the leak removed" in reasons["less"] and "of the utility kept" in reasons["keeps"]
    assert f"{report.controls['shuffled_labels_auc']:.3f}" in reasons["sound"]
    assert "bits an image" in reasons["no_information"]


def test_lines_can_be_drawn_elsewhere_and_an_interval_across_the_line_is_called_too_wide(report: AuditReport) -> None:
    low, high = report.retrained["leak_auc_ci"]
    assert verdicts(report, None, Limits(hidden=high))["hidden"] == "supported"
    (hidden,) = (claim for claim in report.claims(limits=Limits(hidden=(low + high) / 2)) if claim.key == "hidden")
    assert hidden.verdict == "not supported" and "too wide to tell" in hidden.reason
    (hidden,) = (claim for claim in report.claims(limits=Limits(hidden=0.5)) if claim.key == "hidden")
    assert hidden.verdict == "not supported" and "too wide" not in hidden.reason
    for wrong, words in (({"hidden": 0.4}, "hidden is an AUC"), ({"slack": -1.0}, "slack is a difference")):
        with pytest.raises(UserError, match=words):
            Limits(**wrong)


def test_what_was_not_measured_is_not_tested(original: AuditReport) -> None:
    found = verdicts(original)
    assert {key for key, verdict in found.items() if verdict == "not tested"} == {
        "sound",
        "own_adversary",
        "less",
        "keeps",
        "more_data",
        "creep",
        "rebuilt",
        "knowing",
        "guarantee",
    }
    assert all("ask with deep=True" in claim.reason for claim in original.claims() if claim.key in ("more_data", "creep", "knowing"))


def test_noise_hides_everything_and_verifies_nobody(faces: Faces, original: AuditReport) -> None:
    noise = Given(np.random.default_rng(0).normal(size=(len(faces), 8)))
    report = audit(noise, faces, seeds=2, config=QUICK, deep=dataclasses.replace(DEEP, parts=("information",)), progress=False)
    found = verdicts(report, original, Limits(hidden=0.65))
    assert found["hidden"] == found["less"] == "supported"
    assert found["verifies"] == found["keeps"] == "not supported"
    assert found["no_information"] == "not tested"  # attackers cannot show that there is none


def test_labels_that_belong_to_nobody_in_particular_fail_the_control(report: AuditReport) -> None:
    broken = dataclasses.replace(report, controls={**report.controls, "shuffled_labels_auc": 0.9})
    (sound,) = (claim for claim in broken.claims() if claim.key == "sound")
    assert sound.verdict == "not supported" and "one person under two names" in sound.reason


def test_audits_of_other_faces_are_not_compared(report: AuditReport, original: AuditReport) -> None:
    with pytest.raises(UserError, match="different faces or attributes"):
        report.claims(dataclasses.replace(original, attribute="glasses"))


# The card -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def origin() -> dict:
    return ledger.provenance("aia audit /home/somebody/mine:method --deep", [0, 1], "numbered images", 3.0)


def test_the_card_says_the_same_in_all_formats(report: AuditReport, original: AuditReport, origin: dict, tmp_path: Path) -> None:
    card = report.card(original, description="Adds <noise> & hopes.", contact="privacy@example.org", provenance=origin)
    texts = {}
    for ending in (".json", ".md", ".html"):
        path = card.save(tmp_path / f"cards/card{ending}")
        texts[ending] = path.read_text(encoding="utf-8")
        assert "somebody" not in texts[ending]
    data = json.loads(texts[".json"])
    assert data == json.loads(json.dumps(card.to_dict())) and data["kind"] == "privacy card"
    assert [claim["key"] for claim in data["claims"]] == list(verdicts(report, original))
    leak = next(row for row in data["figures"] if row["figure"] == "leak, worst fresh attacker")
    assert [leak["value"], leak["low"], leak["high"]] == [report.retrained["leak_auc"], *report.retrained["leak_auc_ci"]]

    page = Page(texts[".html"])
    words = {".html": page.words, ".md": texts[".md"].replace("\\", "")}
    for text in words.values():
        for claim in card.claims:
            assert claim.text in text and claim.reason in text
        assert "✔ supported" in text and "✘ not supported" in text and "○ not tested" in text
        assert f"{report.retrained['leak_auc']:.3f}" in text and "mine <&| *it*" in text and "Adds <noise> & hopes." in text
        assert "A leak is a lower bound" in text and "privacy@example.org" in text and origin["date"] in text
        assert "attack" in text and f"{report.data['attack_people']:,}" in text and "shuffled labels, AUC" in text
        assert "warm start was not tried" in text


def test_the_biometric_section_says_what_was_measured_against_what(report: AuditReport, original: AuditReport) -> None:
    rows = {row["metric"]: row for row in report.card(original).biometrics}
    r, o = report.retrained, original.retrained
    error, before = 1 - r["leak_balanced_accuracy"], 1 - o["leak_balanced_accuracy"]
    gain = (error - before) / before - (r["eer_same"] - o["eer_same"]) / o["eer_same"]
    assert rows["privacy gain less identity loss (PIC)"]["value"] == pytest.approx(gain)
    assert rows["suppression rate of the attacker's accuracy"]["value"] == pytest.approx(1 - r["leak_balanced_accuracy"] / (1 - before))
    rate = rows["FNMR at FMR 10 %, impostors with the same label"]
    assert [rate["value"], rate["low"], rate["high"]] == [r["fnmr_at_fmr_1e-1_same"], *r["fnmr_at_fmr_1e-1_same_ci"]]
    refused = rows["FNMR at FMR 0.01 %, any impostors"]
    assert refused["value"] is refused["low"] is None and re.fullmatch(
        r"not measured: only \d impostor pairs? carr(y|ies) it", refused["note"]
    )
    assert 0.3 < rows["linkability of two releases, same label (D_sys)"]["value"] < 1
    bits = rows["expected disclosure, of 0.721 in all"]
    assert bits["low"] < bits["value"] < bits["high"] and 0 < bits["value"] < o["disclosure_bits"] < 0.721
    assert any(metric.startswith("worst disclosure, category ") for metric in rows)
    assert not any("PIC" in row["metric"] or "suppression" in row["metric"] for row in report.card().biometrics)  # nothing to compare with
    findings = {row["property"]: row["finding"] for row in report.card().protection}
    assert list(findings) == ["Irreversibility", "Unlinkability", "Renewability"]
    assert findings["Irreversibility"].startswith("measured") and findings["Renewability"].startswith("not measured")
    assert original.card().protection[0]["finding"].startswith("not measured: faces were not rebuilt")
    same = {row["metric"]: row for row in original.card(original).biometrics}
    assert same["privacy gain less identity loss (PIC)"]["value"] == 0 == same["suppression rate of the attacker's accuracy"]["value"]
    text = report.card(original).to_markdown()
    assert "## Biometric performance" in text and refused["note"] in text and "ISO/IEC 24745" in text


def test_a_method_is_compared_with_what_it_is_without_protection(faces: Faces, tmp_path: Path) -> None:
    method, bare = Method(faces, 1.2, "weak", people=0.35), Method(faces, 3.0, "bare")
    plain = audit(method, faces, seeds=2, config=QUICK, progress=False)
    method.unprotected = bare
    report = audit(method, faces, seeds=2, config=QUICK, progress=False)
    r = report.retrained
    assert {key: value for key, value in r.items() if "unprotected" not in key} == plain.retrained  # it changes nothing else
    assert r["kept_of_unprotected_same"] == pytest.approx((r["utility_auc_same"] - 0.5) / (r["unprotected_utility_auc_same"] - 0.5))
    low, high = r["kept_of_unprotected_same_ci"]
    assert low < r["kept_of_unprotected_same"] < high < 1
    assert "kept, same label" in str(report) and any("of its own unprotected" in row["figure"] for row in report.card().figures)
    report.save(tmp_path / "audit.npz")
    assert AuditReport.merge([AuditReport.load(tmp_path / "audit.npz")]).retrained == r
    method.unprotected = method  # the control: without protection nothing is lost
    same = audit(method, faces, seeds=1, config=QUICK, progress=False).retrained
    assert same["kept_of_unprotected"] == pytest.approx(1, abs=0.02)


def test_the_page_stands_by_itself_and_can_be_read_by_all(report: AuditReport) -> None:
    text = report.card().to_html()
    page = Page(text)
    assert not page.all("script") and not page.all("link") and not page.all("img") and "url(" not in text and "@import" not in text
    assert not [a for _, a in page.tags for key in ("src", "href") if key in a]
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1 and "prefers-color-scheme: dark" in text
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    tables = len(page.all("table"))
    assert tables >= 5 and tables == sum(div.get("role") == "region" and bool(div.get("aria-label")) for div in page.all("div"))


def test_the_markdown_tables_are_whole(report: AuditReport) -> None:
    lines = report.card().to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    for line in rows:
        cells = line.replace("\\|", "").count("|") - 1
        head = next(other for other in reversed(lines[: lines.index(line) + 1]) if not lines[lines.index(other) - 1].startswith("|"))
        assert cells == head.replace("\\|", "").count("|") - 1
    assert len(rows) > 25


def test_a_card_in_another_format_is_refused(report: AuditReport, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"card\.pdf: a privacy card is written as \.md, \.html, \.json"):
        report.card().save(tmp_path / "card.pdf")
    assert not list(tmp_path.iterdir())


# The command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny = Profile(name="fast", size=16, audit=AuditConfig(attackers=("logistic",), epochs=1, pairs=200, bootstrap=50, controls=False))
    monkeypatch.setitem(PROFILES, "fast", tiny)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card_method.py").write_text(
        "import torch.nn.functional as F\n"
        "def coarse(images): return F.avg_pool2d(images, 8).flatten(1)\n"
        "def fine(images): return F.avg_pool2d(images, 2).flatten(1)\n"
    )
    return write_celeba(tmp_path / "celeba", draw_faces(100, 3, 64, 0))


def test_aia_audit_writes_a_card(celeba: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "celeba", "--root", str(celeba), "--profile", "fast", "--quiet"]
    call = ["audit", "card_method:coarse", *data, "--original", "card_method:fine", "--card", "cards/card.html", "--out", "audit.json"]
    assert cli.main(call) == 0
    out = capsys.readouterr().out
    assert "CLAIMS, compared with fine" in out and "It leaks less than fine" in out and "card: cards/card.html" in out
    page = Page((tmp_path / "cards" / "card.html").read_text(encoding="utf-8"))
    assert "Privacy card: coarse" in page.words and "--original card_method:fine" in page.words and str(celeba) not in page.words
    assert "deep" not in json.loads((tmp_path / "audit.json").read_text())
    for wrong, words in (
        (["--card", "card.pdf"], "card.pdf: a privacy card is written as"),
        (["--card", "cards"], "--card cards is a folder"),
        (["--original", "card_method:nothing"], "nothing"),
    ):
        assert cli.main(["audit", "card_method:coarse", *data, *wrong]) == 2
        assert words in capsys.readouterr().err
