"""Chapter 07: a Pareto front by hand, the hypervolume, a setting with a margin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..sweep.tradeoff import REFERENCE, hypervolume, pareto_front
from . import Answer, accept, close, hint


def _front(answer: Answer) -> str | None:
    """The names of the settings that no other one beats."""
    names = np.array(list("ABCDEFGH"))
    leak = np.array([0.60, 0.70, 0.70, 0.75, 0.80, 0.85, 0.90, 0.92])
    utility = np.array([0.62, 0.80, 0.76, 0.80, 0.78, 0.88, 0.92, 0.90])

    def front(x: np.ndarray, y: np.ndarray) -> set[str]:
        return set(names[pareto_front(x, y)])

    out = {str(name).strip().upper() for name in answer if str(name).strip(" ,")}  # "ABC", "A, B" and ["A", "B"] alike
    hint(not out or not out <= set(names), f"name settings out of {''.join(names)}, as in 'ACE'.")
    right = front(leak, utility)
    accept(out == right)
    if out in (front(-leak, utility), front(leak, -utility), front(-leak, -utility)):
        return "which way is better? An attacker should read little (left), a verifier much (up)."
    if out == {names[leak.argmin()], names[utility.argmax()]}:
        return "these are the two ends. Between them, too, there are settings that no single other one beats."
    beaten = [((leak < x) & (utility > y)).any() for x, y in zip(leak, utility, strict=True)]  # only by what is better in both
    strictly = set(names[~np.array(beaten)])
    hint(out == strictly, "a setting is beaten, too, by one that is equal in one figure and better in the other. Look for equal figures.")
    if extra := sorted(out - right):
        return f"{extra[0]} is beaten: another setting leaks no more and verifies no worse."
    if not right - out <= set(names[[leak.argmin(), utility.argmax()]]):
        return "one is missing. Go through the rows by rising leak, and keep each that verifies better than all before it."
    return "an end is missing: the setting with the least leak is on the front however badly it verifies. And the best verifier?"


def _hypervolume(answer: Answer) -> str | None:
    """`hypervolume(leak, utility)`: the area between the front and the reference (1, 0.5)."""
    sets = {
        "one": ([0.7], [0.8]),
        "front": ([0.6, 0.75, 0.9], [0.62, 0.8, 0.93]),
        "unsorted": ([0.9, 0.6, 0.75], [0.93, 0.62, 0.8]),
        "beaten": ([0.6, 0.7, 0.75, 0.9, 0.95], [0.62, 0.6, 0.8, 0.93, 0.7]),
        "useless": ([0.6, 0.55], [0.8, 0.45]),
    }
    out, right = {}, {}
    for name, points in sets.items():
        x, y = np.array(points)
        value = np.asarray(answer(x.copy(), y.copy()), dtype=float)
        hint(value.shape != (), "return one number, the area.")
        out[name], right[name] = float(value), hypervolume(x, y)

    worst, least = REFERENCE
    hint(close(out["one"], (worst - 0.7) * 0.8), "you count down to a utility of 0. Where does the reference lie?")
    if close(out["one"], 0.7 * (0.8 - least)) or close(out["one"], (0.7 - least) * (0.8 - least)):
        return "you measure the area to the left of the setting. Which points is it at least as good as: those that leak less, or more?"
    hint(not close(out["one"], right["one"]), "begin with a single setting: a rectangle from its leak to 1, and from 0.5 to its utility.")
    x, y = np.array(sets["front"])
    boxes = (worst - x) * (y - least)
    hint(close(out["front"], boxes.sum()), "you add the rectangles, but they lie on top of each other; what is covered twice counts once.")
    hint(close(out["front"], boxes.max()), "this is the largest single rectangle. The others cover something besides.")
    if close(out["front"], (worst - x.min()) * (y.max() - least)):
        return "the least leak and the best utility are of different settings: no setting is at that corner."
    corners = np.append(x, worst), np.append(y, y[-1]) - least
    if close(out["front"], float(((corners[1][1:] + corners[1][:-1]) / 2 * np.diff(corners[0])).sum())):
        return "you join the settings by straight lines, as if there were a setting at every point between them. Only the steps are earned."
    if not close(out["front"], right["front"]):
        return "cut the area into slabs: by rising leak, what does each setting add above the best utility so far?"
    hint(not close(out["unsorted"], right["unsorted"]), "right for settings in order of their leak; yours must not depend on their order.")
    if not close(out["beaten"], right["beaten"]):
        return "right on a front; a setting that another one beats must add nothing, and take nothing away."
    if not close(out["useless"], right["useless"]):
        return "a setting that verifies worse than chance is no better than the reference: it adds nothing."


def _choice(answer: Answer) -> str | None:
    """`choice(leak_val, utility_val, margin, max_leak)`: the index of the setting to take, or None."""
    leak = np.array([0.70, 0.58, 0.52, 0.61, 0.56])
    utility = np.array([0.90, 0.72, 0.60, 0.80, 0.66])
    margin = np.full(5, 0.03)
    uneven = np.array([0.03, 0.01, 0.03, 0.03, 0.05])

    def best(kept: np.ndarray) -> int | None:
        return int(np.flatnonzero(kept)[utility[kept].argmax()]) if kept.any() else None

    cases = [(0.60, margin), (0.65, margin), (0.60, uneven), (0.56, margin), (0.50, margin)]
    out = []
    for limit, margins in cases:
        index = answer(leak.copy(), utility.copy(), margins.copy(), limit)
        if index is not None:
            index = np.asarray(index)
            hint(index.shape != () or index.dtype.kind not in "iu", "return one whole number, the setting's index in the arrays, or None.")
            index = int(index)
        out.append(index)

    def rule(kept: Callable, choose: Callable = best) -> list[int | None]:
        return [choose(kept(margins, limit)) for limit, margins in cases]

    def safe(margins: np.ndarray, limit: float) -> np.ndarray:
        return leak + margins <= limit

    right = rule(safe)
    accept(out == right)
    if out == rule(lambda margins, limit: leak <= limit):
        return "the margin plays no part: yours takes a setting that only just keeps the limit on val, and may well break it on new people."
    wrong_sign = rule(lambda margins, limit: leak - margins <= limit)
    hint(out == wrong_sign, "the margin has the wrong sign: it is there to be on the safe side.")
    position = rule(safe, lambda kept: int(utility[kept].argmax()) if kept.any() else None)
    hint(out == position, "you give the place among the settings that are left. Which index has it in the arrays that came in?")
    safest = [int((leak + margins).argmin()) if safe(margins, limit).any() else None for limit, margins in cases]
    hint(out == safest, "the limit is kept, but at a price: among those that keep it, which one is the most useful?")
    hint(out[:-1] == right[:-1] and right[-1] is None, "with a limit of 0.5 no setting here keeps it. What should be recommended then?")
    one_margin = out[2] != right[2] and [*out[:2], *out[3:]] == [*right[:2], *right[3:]]
    hint(one_margin, "each setting has a margin of its own: yours seems to use one for all.")
    return "two steps: keep the settings whose leak with its margin is at most the limit; of these take the most useful, or None."
