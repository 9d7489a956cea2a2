"""Defences that are meant to survive an audit by attackers trained afresh: anonymizers, and wrappers that harden any anonymizer.

* `Compact`: k numbers an image, trained to verify; adversaries of several kinds in an ensemble that is renewed (maximum entropy), and
  distribution matching.
* `Erased`: any anonymizer, or templates as they are, and closed forms that take the attribute out: `ScoreErasure`, `Transport`, `Leace`,
  and the `Discriminants` that are worth keeping.
* `template_protection`: the recommended one for templates.
* `CertifiedNoise`: any anonymizer, clipped and blurred: a bound on every attacker's AUC.
* `HardenedAIA`: the recommended combination.

All have `fit(faces, attribute)`, where `attribute` is one name or several, are functions of images, and are saved with `save(folder)`
and loaded with `saving.load_anonymizer(folder)`.
"""

from __future__ import annotations

from .compact import Compact
from .erased import Erased, template_protection
from .erasers import Discriminants, Leace, Sample, ScoreErasure
from .hardened import HardenedAIA
from .noise import CertifiedNoise, auc_bound, balanced_accuracy_bound, mu_for_auc
from .score import AttributeScore
from .transport import Transport

__all__ = [
    "AttributeScore",
    "CertifiedNoise",
    "Compact",
    "Discriminants",
    "Erased",
    "HardenedAIA",
    "Leace",
    "Sample",
    "ScoreErasure",
    "Transport",
    "auc_bound",
    "balanced_accuracy_bound",
    "mu_for_auc",
    "template_protection",
]
