"""Chapter 02: the auto-encoder, and what its representation holds."""

from __future__ import annotations

import numpy as np

from . import Answer, accept, close, hint, matcher


def _latent_length(answer: Answer) -> str | None:
    """`latent_length(height, width)`: k, the length of g."""
    sizes = [(64, 64), (32, 32), (48, 64), (66, 50)]
    h, w = np.array(sizes).T
    out = [float(answer(*size)) for size in sizes]
    like = matcher(out)
    like(12 * (h // 4) * (w // 4))
    if close(out, 0.75 * h * w):
        return "right where both sides are multiples of 4. What does a pooling of 2 do with an odd row? Try 66 x 50 on the encoder."
    like(12 * h * w, "you have the channels; what happened to height and width on the way?")
    like(12 * (h // 2) * (w // 2), "the image is pooled once in each block. How many blocks are there?")
    like(8 * (h // 4) * (w // 4), "8 is the channels of the first block; what does the second one give?")
    like((h // 4) * (w // 4), "this is one channel of the map. How many does the last block have?")
    hint(all(close(value, 0.75) for value in out[:3]), "this is the share of the pixels. How many numbers is that?")
    return "follow one image through the two blocks and write the shape down after each line."


def _receptive_field(answer: float) -> str | None:
    """Side, in pixels, of the square that one number of g sees: conv 3, pool 2, conv 3, pool 2."""
    value = float(answer)
    hints = {
        4.0: "4 is how far apart the squares of two neighbours lie. They overlap, for convolutions look to the side.",
        3.0: "that is what the first convolution sees. A number of g is a mean of values that each see as much.",
        6.0: "you have one block right. Go on: a step to the side in the second block is how many pixels wide?",
        8.0: "nearly: a convolution of 3 reaches to both sides. And mind how many pixels one step is after the first pooling.",
        7.0: "in the second block one step to the side is two pixels of the image, not one.",
        16.0: "that is how many numbers a side of one channel has at 64 pixels. The question is what one of them sees.",
        100.0: "that is the area; give the side.",
        64.0: "two small convolutions cannot see the whole picture.",
    }
    accept(value == 10)
    return hints.get(value, "go backwards from one number of g: which square of the map before the last pooling does it read, and so on.")


def _psnr(answer: Answer) -> str | None:
    """`psnr(images, rebuilt)`: peak signal-to-noise ratio of each image, in dB; values in [0, 1]."""
    rng = np.random.default_rng(0)
    images = rng.random((3, 1, 8, 8))
    rebuilt = images + np.array([0.1, 0.02, 0.3])[:, None, None, None] * rng.choice([-1.0, 1.0], size=images.shape)
    error = ((images - rebuilt) ** 2).mean((1, 2, 3))
    truth = -10 * np.log10(error)
    out = np.asarray(answer(images, rebuilt), dtype=float)
    if out.shape != (3,):
        if out.size == 1 and np.isclose(out, -10 * np.log10(error.mean())).all():
            return "this is one number for all images together. Take the mean over the pixels of each image, not over the images."
        hint(out.size == 1 and np.isclose(out, truth.mean()).all(), "you averaged at the end. Return one number for each image.")
        return f"return one number for each of the 3 images, shape (3,); yours has shape {out.shape}."
    accept(close(out, truth))
    hint(close(out, -truth), "the sign: a smaller error must give a higher PSNR.")
    hint(close(out, -10 * np.log(error)), "decibels are made with another logarithm.")
    hint(close(out, truth / 2), "10 log10 belongs to the squared error; you took it of its root.")
    hint(close(out, truth * 2), "20 log10 belongs to the root of the squared error.")
    hint(close(out, -np.log10(error)), "that is bel; a decibel is a tenth of it.")
    hint(close(out, truth + 20 * np.log10(255)), "the peak is 1 here, not 255: images lie in [0, 1].")
    return "begin with the mean squared error of each image, then take 10 log10 of peak squared over it."


def _linear_attack(answer: Answer) -> str | None:
    """`linear_attack(g, images, ridge)`: weights (k, pixels) and offset (pixels,) of ridge regression, the offset not penalised."""
    rng = np.random.default_rng(0)
    g, weights, offset = rng.random((60, 8)), rng.normal(size=(8, 20)), 3 + rng.random(20)
    images = g @ weights + offset
    fitted = answer(g, images, 1e-9)
    hint(fitted is None or not isinstance(fitted, tuple) or len(fitted) != 2, "return two arrays, the weights and the offset.")
    w, c = (np.asarray(part, dtype=float) for part in fitted)
    hint(w.shape == (20, 8), "the weights are turned round: g @ weights must give images, so their shape is (k, pixels).")
    if w.shape != (8, 20) or c.size not in (1, 20):
        return f"with g (60, 8) and images (60, 20), weights must be (8, 20) and the offset (20,), not {w.shape} and {c.shape}."
    new = rng.random((30, 8))
    if not close(new @ w + c, new @ weights + offset, 1e-4):
        hint(np.allclose(c, 0), "without an offset: a picture is not black where g is 0. Subtract the means of g and of the images first.")
        if close(new @ w + c - c, new @ weights, 1e-4):
            return "the weights are right, the offset is not: it must send the mean g to the mean image."
        return "on images that are exactly linear in g, new ones are not rebuilt. Compare with the normal equations."
    w, c = (np.asarray(part, dtype=float) for part in answer(g, images, 1e9))
    hint(np.abs(w).max() > 1e-3, "a huge ridge must press the weights to 0; yours ignores it.")
    if not close(np.broadcast_to(c, 20), images.mean(0), 1e-2):
        return "with a huge ridge what is left must be the mean image. Is the offset penalised as well?"
    wide = rng.random((5, 40))
    w, c = (np.asarray(part, dtype=float) for part in answer(wide, rng.random((5, 20)), 1e-3))
    if not (np.isfinite(w).all() and np.isfinite(c).all()):
        return "with fewer images than numbers in g it is not finite. Where does the ridge enter?"
