"""The pictures show what they are given, say it in words too, read in grey, and leave matplotlib as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from reports import made_up_report
from scipy.stats import norm

from aia_lib import plots
from aia_lib.explain import CamResult
from aia_lib.machine.files import UserError
from aia_lib.report import face_plots, tradeoff_plots
from aia_lib.statistics import Scored


def sweep(seeds: int = 3) -> pd.DataFrame:
    """A made-up sweep: five values of beta and of alpha around 0.5."""
    rng = np.random.default_rng(0)
    rows = []
    for alpha, beta in {(0.5, b / 4) for b in range(5)} | {(a / 4, 0.5) for a in range(5)}:
        for seed in range(seeds):
            for regime, metric, value in (
                ("paper", "leak_auc", 0.92 - 0.3 * beta),
                ("retrained", "leak_auc", 0.93 - 0.02 * beta),
                ("paper", "utility_auc", 0.65 + 0.1 * alpha),
                ("retrained", "utility_auc_same", 0.62 + 0.1 * alpha),
            ):
                row = {"alpha": alpha, "beta": beta, "seed": seed, "regime": regime, "metric": metric}
                rows.append({**row, "value": value + rng.normal(0, 0.01)})
    return pd.DataFrame(rows)


def cam(raw: float, logit: float, count: int = 3) -> CamResult:
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    blob = np.repeat(np.exp(-4 * (x**2 + y**2))[None], count, 0).astype(np.float32)
    return CamResult(raw=blob * raw, normalised=blob, logit=np.full(count, logit, np.float32))


def distances(d: float, seed: int) -> Scored:
    """Distances of 400 genuine pairs and 3,000 impostor pairs, Gaussians d apart."""
    different = np.repeat([False, True], [400, 3000])
    people = np.arange(2 * len(different)).reshape(-1, 2)
    people[~different, 1] = people[~different, 0]
    return Scored(np.random.default_rng(seed).normal(size=len(different)) + d * different, different, people)


FACES = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16)).astype(np.uint8)
CAMS = {"evidence in the image": cam(1.0, 2.0), "evidence in the reconstruction": cam(0.001, 0.0)}
SCORES = {"genuine": np.linspace(0, 1, 50), "impostors": np.linspace(0.5, 2, 70)}
READ = {"before": np.array([[0.9, 0.2], [0.1, 0.5], [0.0, 1.0]]), "after": np.array([[0.6, 0.3], [0.4, 0.5], [1.0, 0.0]])}
HISTORY = {"autoencoder": {"reconstruction": [0.7, 0.6]}, "AIA": {"total": [0.4], "adversary": [0.6], "accuracy": [0.7]}}

DRAW: dict[str, Callable[[], plots.Picture]] = {
    "regimes": lambda: plots.regimes(made_up_report()),
    "attackers": lambda: plots.attackers(made_up_report()),
    "tradeoff_curve": lambda: tradeoff_plots.tradeoff_curve(sweep()),
    "faces_grid": lambda: face_plots.faces_grid({"photograph": FACES, "AIA": FACES[:, 0] / 255}, ["a", "b", "c"]),
    "gradcam_panel": lambda: face_plots.gradcam_panel(FACES, FACES, CAMS, positive="male"),
    "attribute_bars": lambda: face_plots.attribute_bars(
        FACES / 255, FACES, READ, ["male (as labelled)", "Eyeglasses"], ["a.png", "b$1$.png", "c.png"]
    ),
    "training_curves": lambda: plots.training_curves(HISTORY),
    "score_histograms": lambda: plots.score_histograms(SCORES, threshold=0.7, title="Scores"),
    "det": lambda: plots.det({"Original": [distances(2.0, 0), distances(2.0, 1)], "AIA": [distances(1.0, 0)]}, title="DET"),
    "roc": lambda: plots.roc({"AIA": ([0, 0.5, 1], [0, 0.9, 1], [9, 9, 9]), "Random": ([0, 1], [0, 1])}, title="ROC"),
}


@pytest.mark.parametrize("name", DRAW)
def test_every_picture_has_words_is_readable_and_touches_nothing(name: str, tmp_path: Path) -> None:
    from matplotlib import pyplot

    before, figures = dict(matplotlib.rcParams), pyplot.get_fignums()
    picture = DRAW[name]()
    path = plots.save_picture(picture, tmp_path / f"{name}.png")
    assert dict(matplotlib.rcParams) == before and pyplot.get_fignums() == figures
    assert len(picture.alt) > 40
    with Image.open(path) as image:
        assert image.info["Description"].startswith(picture.alt[:20]) and "Software" not in image.info
        assert 600 < image.width < 2600
        pixels = np.asarray(image.convert("L"))
    assert pixels.std() > 5  # something is drawn
    first = path.read_bytes()
    assert plots.save_picture(DRAW[name](), path).read_bytes() == first  # the same data give the same bytes
    assert picture._repr_png_().startswith(b"\x89PNG")
    for axes in picture.axes:
        for text in [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label, axes.title]:
            assert not text.get_text() or text.get_fontsize() >= 10


@pytest.mark.parametrize("name", DRAW)
def test_words_and_numbers_lie_inside_the_picture(name: str) -> None:
    picture = DRAW[name]()
    picture.savefig(Path("/dev/null"), format="png") if Path("/dev/null").exists() else picture.canvas.draw()
    box = picture.get_tightbbox()
    assert box.x0 > -0.05 and box.y0 > -0.05
    assert box.x1 < picture.get_figwidth() + 0.05 and box.y1 < picture.get_figheight() + 0.05


def test_series_differ_without_colour() -> None:
    labelled = [line for line in tradeoff_plots.tradeoff_curve(sweep(1)).axes[0].get_lines() if not line.get_label().startswith("_")]
    assert len(labelled) == 4
    assert len({line.get_marker() for line in labelled}) == len({str(line.get_linestyle()) for line in labelled}) == 4
    curves = plots.roc({str(i): ([0, 1], [0, 1]) for i in range(4)}).axes[0].get_lines()[:4]
    assert len({str(line.get_linestyle()) for line in curves}) == 4
    patches = {patch.get_hatch() for patch in plots.score_histograms(SCORES).axes[0].patches}
    assert len(patches) == 2
    for looks in (plots.COLOURS, plots.MARKERS, plots.LINES, plots.HATCHES):
        assert len(set(looks)) == len(looks)


def test_det_curves_of_gaussians_are_straight_and_end_where_no_thirty_impostors_carry_them() -> None:
    picture = plots.det({"d = 2": [distances(2.0, seed) for seed in range(4)]})
    x, y = picture.axes[0].get_lines()[0].get_data()
    assert norm.cdf(x.min()) == pytest.approx(30 / 3000) and norm.cdf(x.max()) == pytest.approx(0.5)
    middle = x > norm.ppf(0.05)
    assert np.polyfit(x[middle], y[middle], 1) == pytest.approx([-1, -2], abs=0.2)  # probit(FNMR) = -d - probit(FMR)
    assert "d = 2: 0.2" in picture.alt
    with pytest.raises(UserError, match="at least 60 impostor pairs, not 10"):
        few = distances(1.0, 0)
        plots.det({"few": [Scored(few.scores[:410], few.positive[:410], few.people[:410])]})


def test_regimes_draws_both_regimes_at_their_values() -> None:
    report = made_up_report()
    report["methods"]["AIA"]["paper"] = None
    left, right = plots.regimes(report).axes
    circles = [line.get_xdata()[0] for line in left.get_lines() if line.get_marker() == "o"]
    squares = [line.get_xdata()[0] for line in left.get_lines() if line.get_marker() == "s"]
    assert circles == [0.925, 0.562, 0.583] and squares == [0.931, 0.872, 0.904, 0.917]
    assert [line.get_xdata()[0] for line in right.get_lines() if line.get_marker() == "s"] == [0.742, 0.601, 0.668, 0.711]
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["Original", "Random", "AIA\\T", "AIA"]
    assert left.yaxis_inverted()  # the first method stands on top
    alt = plots.regimes(report).alt
    assert "Original: AUC 0.93 for its own adversary, 0.93 for the worst fresh attacker (cnn), utility 0.74" in alt
    assert "AIA: 0.92 for the worst" in alt


def test_attackers_fills_the_worst_only() -> None:
    report = made_up_report()
    del report["methods"]["Random"]["retrained"]["attackers"]["cnn_reconstruction"]
    axes = plots.attackers(report).axes[0]
    dots = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert len(dots) == 4 * 8 - 1
    assert sum(line.get_markerfacecolor() != "white" for line in dots) == 4


def test_tradeoff_means_bands_and_bad_tables() -> None:
    rows = sweep()
    picture = tradeoff_plots.tradeoff_curve(rows)
    assert len(picture.axes) == 2 and "beta" in picture.alt and "alpha" in picture.alt
    lines = {line.get_label(): line for line in picture.axes[0].get_lines()}
    line = lines["attribute, worst fresh attacker"]
    cut = rows[(rows.alpha == 0.5) & (rows.regime == "retrained") & (rows.metric == "leak_auc")]
    np.testing.assert_allclose(line.get_ydata(), cut.groupby("beta").value.mean())
    low, high = tradeoff_plots._t_interval(np.array([0.5, 0.6, 0.7]))
    assert low == pytest.approx(0.6 - 4.3027 * 0.1 / 3**0.5, abs=1e-4) and high == pytest.approx(0.6 + 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert len(tradeoff_plots.tradeoff_curve(rows[rows.alpha == 0.5]).axes) == 1
    for table, words in (
        (rows[(rows.alpha == 0.5) & (rows.beta == 0.5)], "Nothing to draw"),
        (rows[:0], "Nothing to draw"),
    ):
        with pytest.raises(UserError, match=words):
            tradeoff_plots.tradeoff_curve(table)


def test_gradcam_panel_keeps_the_true_scale() -> None:
    """A useless classifier is dark beside a good one, and alone where the good one's scale is given."""

    def maps(picture: plots.Picture) -> list:
        return [image for axes in picture.axes for image in axes.images if image.get_cmap().name == "inferno"]

    both = face_plots.gradcam_panel(FACES, FACES, CAMS)
    limits = {image.get_clim() for image in maps(both)}
    assert limits == {(0.0, float(cam(1.0, 2.0).raw.max()))}
    brightest = [image.get_array().max() / image.get_clim()[1] for image in maps(both)]
    assert max(brightest[:3]) == pytest.approx(1) and max(brightest[3:]) < 0.01
    alone = face_plots.gradcam_panel(FACES, None, {"useless": cam(0.001, 0.0)}, scale=1.0)
    assert all(image.get_clim() == (0, 1) for image in maps(alone))
    texts = [axes.get_xlabel() for axes in alone.axes]
    assert any("max 0.00" in text and "P(1) = 0.50" in text for text in texts)
    nothing = face_plots.gradcam_panel(FACES, None, {"nothing": cam(0.0, 0.0)})
    assert all(image.get_clim() == (0, 1) for image in maps(nothing))
    for arguments in ((FACES[:2], None), (FACES, FACES[:2])):
        with pytest.raises(UserError, match="do not fit"):
            face_plots.gradcam_panel(*arguments, {"image": cam(1.0, 1.0)})


def test_bad_data_are_named() -> None:
    cases = [
        (lambda: face_plots.faces_grid({}), "no rows"),
        (lambda: face_plots.faces_grid({"a": FACES, "b": FACES[:2]}), "one length"),
        (lambda: face_plots.faces_grid({"a": FACES}, columns=["x"]), "1 headings for 3"),
        (lambda: face_plots.faces_grid({"a": FACES[0, 0]}), r"\(16, 16\)"),
        (lambda: plots.training_curves({}), "no training history"),
        (lambda: plots.training_curves({"siamese": {}}), "'siamese'"),
        (lambda: plots.score_histograms({"a": [0.1, float("nan")]}), "1 finite of 2"),
        (lambda: plots.score_histograms({"a": []}), "finite scores"),
    ]
    for call, words in cases:
        with pytest.raises(UserError, match=words):
            call()


def test_tensors_are_faces_too() -> None:
    torch = pytest.importorskip("torch")
    assert face_plots.faces_grid({"a": torch.rand(2, 1, 8, 8, requires_grad=True)}).axes


def test_attribute_bars_are_as_long_as_the_probabilities_and_told_apart_without_colour() -> None:
    picture = face_plots.attribute_bars(
        FACES[:1] / 255, FACES[:1], {k: v[:1] for k, v in READ.items()}, ["male (as labelled)", "Eyeglasses"], ["Face 1"]
    )
    bars = picture.axes[2].patches
    assert [round(bar.get_width()) for bar in bars] == [90, 20, 60, 30]
    assert bars[0].get_hatch() == bars[1].get_hatch() != bars[2].get_hatch() == bars[3].get_hatch()
    assert [label.get_text() for label in picture.axes[2].get_yticklabels()] == ["male (as labelled)", "Eyeglasses"]
    assert picture.axes[2].yaxis_inverted()  # the first attribute stands on top
    assert "Face 1: male (as labelled) 90 % to 60 %, Eyeglasses 20 % to 30 %" in picture.alt


@pytest.mark.parametrize(
    "change",
    [
        {"rebuilt": FACES[:2]},
        {"titles": ["a"]},
        {"names": ["one"]},
        {"names": []},
        {"probabilities": {**READ, "after": READ["after"][:2]}},
        {"images": FACES[:0]},
    ],
)
def test_attribute_bars_refuse_what_does_not_fit(change: dict) -> None:
    given = {"images": FACES, "rebuilt": FACES, "probabilities": READ, "names": ["male", "Eyeglasses"], "titles": ["a", "b", "c"]}
    with pytest.raises(UserError):
        face_plots.attribute_bars(**{**given, **change})
