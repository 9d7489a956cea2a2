"""Chapter 05: the sign-free AUC, the three gains, gradient reversal."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import LOG2, privacy_gain
from ..statistics import roc_auc
from . import Answer, close, hint, matcher


def _leak(answer: Answer) -> str | None:
    """`leak(val_scores, val_labels, test_scores, test_labels)`: test AUC, oriented on val."""
    rng = np.random.default_rng(6)
    labels, noise = np.arange(200) % 2, rng.normal(size=(2, 200))
    noisy = np.stack([labels + noise[0], noise[1]])  # (2, 200), as all worlds: val and test
    noisy[1] *= 1 if roc_auc(noisy[1], labels) < 0.5 else -1  # reads on val, slightly below 0.5 on test
    worlds = [labels + noise, -labels + noise, noisy]
    on_val, on_test = np.array([[roc_auc(scores, labels) for scores in world] for world in worlds]).T
    right = np.where(on_val >= 0.5, on_test, 1 - on_test)
    like = matcher([float(answer(val, labels, test, labels)) for val, test in worlds])
    like(right)
    like(on_test, "try it on an attacker whose answers are all turned round: yours calls it private.")
    best = np.maximum(on_test, 1 - on_test)
    like(best, "you orient on test, so yours never falls below 0.5, even for noise. Which split makes the choices?")
    like(1 - right, "yours is turned round: an attacker that reads well on both splits must come out above 0.5.")
    like(np.maximum(on_val, 1 - on_val), "this is the AUC on val. Val gives the orientation only; the figure is read on test.")
    return "two steps: find from val whether higher scores speak for label 1, then compute one AUC on test."


def _gain(answer: Answer) -> str | None:
    """`gain(logits, labels, kind)`: what the encoder maximises."""
    logits = torch.tensor([-4.0, -0.5, 0.3, 2.0, 6.0, 1.0, -2.0])
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    out: dict[str, Tensor] = {}
    for kind in ("literal", "capped", "maxent"):
        leaf = logits.clone().requires_grad_(True)
        value = answer(leaf, labels, kind)
        if not isinstance(value, Tensor) or value.ndim:
            return f"for {kind!r} return one torch number, the mean over the images, so that a gradient can flow."
        hint(not value.requires_grad, f"no gradient flows through your {kind!r}: stay within torch operations: no detach, item, numpy.")
        out[kind] = value.detach()

    loss = F.binary_cross_entropy_with_logits(logits, labels)
    right = {kind: privacy_gain(logits, labels, kind) for kind in out}
    literal, capped, maxent = out.values()
    hint(close(literal, -loss), "your literal gain falls when the adversary errs more; the encoder maximises it.")
    hint(not close(literal, right["literal"]), "literal is L_Adv itself: the binary cross entropy of the logits, a mean over the images.")
    if close(capped, loss.clamp(max=LOG2)):
        return "you cap the mean. One image that is far beyond the coin can then pay for others: where does the minimum belong?"
    hint(close(capped, right["literal"]), "your capped gain has no cap.")
    if not close(capped, right["capped"]):
        return "capped: each image's cross entropy, but at most that of a coin. What does a coin pay, in nats?"
    if close(maxent, -right["maxent"]):
        return "the sign of maxent: the encoder maximises your gain, and at the coin it should be highest. Try logits 0 and 10."
    entropy = (F.softplus(-logits) * torch.sigmoid(logits) + F.softplus(logits) * torch.sigmoid(-logits)).mean()
    if close(maxent, entropy):
        return (
            "this is the entropy of the adversary's answer. It has the same best point, but its gradient dies where the adversary is sure; "
            "the chapter takes the cross entropy to an even coin."
        )
    hint(not close(maxent, right["maxent"]), "maxent: put the even coin in the place of the label in the cross entropy. No labels occur.")


def _reverse(answer: Answer) -> str | None:
    """`reverse(g, beta)`: the identity forwards, times -beta backwards."""
    for beta in (0.5, 2.0):
        g = torch.tensor([[0.2, -1.0], [3.0, 0.7]], requires_grad=True)
        out = answer(g, beta)
        hint(not isinstance(out, Tensor) or out.shape != g.shape, "return a tensor of g's shape.")
        hint(not torch.allclose(out, g, 1e-5), "forwards the layer must change nothing: the adversary has to see g itself.")
        hint(not out.requires_grad, "no gradient comes back through your layer; something of g must stay undetached.")
        weights = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
        (out * weights).sum().backward()
        back = g.grad
        hint(back is None, "no gradient comes back through your layer; something of g must stay undetached.")
        if torch.allclose(back, -beta * weights, 1e-5):
            continue
        hint(torch.allclose(back, weights), "the gradient comes back as it was: the encoder would help the adversary.")
        hint(torch.allclose(back, beta * weights), "the gradient is scaled but not turned round.")
        hint(torch.allclose(back, -weights), "turned round, but not scaled: where does beta go?")
        return "for a gradient of 1 behind the layer, which number must arrive before it?"
