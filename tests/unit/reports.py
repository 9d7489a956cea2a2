"""A made-up report in the ledger's format, for the tests of ledger, plots and report. Its numbers are plausible, not measured."""

from __future__ import annotations

import copy

ATTACKERS = ("logistic", "svm_rbf", "mlp", "mlp_deep", "cnn", "boosting", "gallery_knn", "cnn_reconstruction")


def _method(paper: tuple[float, float, float, float] | None, leak: float, same: float) -> dict:
    strongest_first = ("cnn", *(name for name in ATTACKERS if name != "cnn"))
    scores = {name: round(max(0.5, leak - 0.013 * i * (1 + 0.4 * (i % 3))), 4) for i, name in enumerate(strongest_first)}
    retrained = {
        "leak_auc": leak,
        "leak_auc_ci": [round(leak - 0.014, 4), round(min(1, leak + 0.013), 4)],
        "worst_attacker": "cnn",
        "attackers": scores,
        "leak_balanced_accuracy": round(0.5 + 0.72 * (leak - 0.5), 4),
        "utility_auc": round(same + 0.05, 4),
        "utility_auc_same": same,
        "utility_auc_same_ci": [round(same - 0.02, 4), round(same + 0.02, 4)],
        "utility_accuracy": round(0.5 + 0.75 * (same - 0.45), 4),
        "eer": round(1 - same, 4),
        "tar_at_far_1e-2": round(0.4 * (same - 0.5), 4),  # as records have it that are older than FNMR@FMR
        "eer_same": round(1.02 - same, 4),
    }
    regime = None
    if paper is not None:
        regime = dict(zip(("privacy_accuracy", "privacy_auc", "utility_accuracy", "utility_auc"), paper, strict=True))
    seeds = []
    for seed, shift in enumerate((-0.01, 0.0, 0.01)):
        one = copy.deepcopy(retrained)
        one["leak_auc"] = round(leak + shift, 4)
        seeds.append({"seed": seed, "paper": copy.deepcopy(regime), "retrained": one})
    return {
        "paper": regime,
        "retrained": retrained,
        "controls": {"majority_accuracy": 0.58, "gender_only_verification_accuracy": 0.747, "shuffled_labels_auc": 0.51},
        "notes": ["cnn_reconstruction left out: there is no decoder."],
        "seeds": seeds,
    }


def made_up_report() -> dict:
    """Four methods, three seeds; a fresh dict at each call."""
    return {
        "provenance": {
            "command": "aia run --data celeba --root ../data/celeba --size 64 --seeds 3",
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "versions": {
                "python": "3.11.7",
                "torch": "2.4.0",
                "torchvision": "0.19.0",
                "numpy": "2.0.0",
                "scikit-learn": "1.5.0",
                "aia-book": "0.1.0",
            },
            "device": "cpu (x86_64, 2 cores)",
            "seconds": 1512.4,
            "seeds": [0, 1, 2],
            "date": "2030-01-31T12:00:00+00:00",
            "data": {
                "source": "celeba",
                "images": 10000,
                "people": 5429,
                "size": 64,
                "attribute": "gender",
                "licence": "non-commercial research",
            },
        },
        "settings": {"profile": "book", "alpha": 0.5, "beta": 0.5, "attribute": "gender"},
        "methods": {
            "Original": _method((0.851, 0.925, 0.742, 0.815), 0.931, 0.742),
            "Random": _method((0.548, 0.562, 0.553, 0.571), 0.872, 0.601),
            "AIA\\T": _method((0.561, 0.583, 0.668, 0.724), 0.904, 0.668),
            "AIA": _method((0.602, 0.631, 0.719, 0.788), 0.917, 0.711),
        },
    }
