"""What the command line takes, and what it says of itself: options, help and examples of each command."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from .config import PROFILES
from .datasets import SOURCES

MAX_SEEDS = 1000

Options = dict[str, dict[str, Any]]
"""Option or argument to what argparse's add_argument takes of it."""


class Command(NamedTuple):
    """A command: one line, the help, the examples, and its options by the title of their group."""

    summary: str
    text: str
    examples: str
    groups: dict[str, Options] = {}


def seed_list(text: str) -> list[int]:
    """The seeds that --seeds names: "3" is 0, 1 and 2, "4,7" these two. ArgumentTypeError for anything else."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and "," not in text and 0 < numbers[0] <= MAX_SEEDS:
        return list(range(numbers[0]))
    if len(numbers) < 2 or min(numbers) < 0 or max(numbers) >= 2**31 or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seeds, 1 to {MAX_SEEDS}, nor a list such as 0,1,2")
    return numbers


def _option(metavar: str, words: str, **more: Any) -> dict[str, Any]:
    return {"metavar": metavar, "help": words + (" (default %(default)s)" if "default" in more else ""), **more}


def _flag(words: str) -> dict[str, Any]:
    return {"action": "store_true", "help": words}


_DEVICE = _option("NAME", "cuda, mps or cpu (default: the best there is)")


def _how(count: int) -> Options:
    profiles = "fast: 32 pixels, a minute, for tests; book: 64 pixels, for a CPU; full: for a GPU (default AIA_PROFILE, else book)"
    words = f"how many seeds, as 3, or which, as 0,1,2 (default {count})"
    return {
        "--profile": _option("NAME", profiles, choices=tuple(PROFILES)),
        "--device": _DEVICE,
        "--seeds": {"metavar": "N", "help": words, "type": seed_list, "default": list(range(count))},
    }


QUIET = {"--quiet": _flag("no progress bars")}

FACES = {
    "--data": _option("SOURCE", f"one of {', '.join(SOURCES)}", default="embedded"),
    "--root": _option("FOLDER", "where the data set lies; every source but embedded needs it"),
    "--attribute": _option("NAME", "the private attribute, as labelled in the data set", default="gender"),
    "--size": _option("PIXELS", "side of the images, a multiple of 4 (default 64; 32 in the profile fast)", type=int),
    "--limit": _option("N", "use at most N images, of whole people chosen at random (default all)", type=int),
    "--split-seed": _option("S", "seed of the split by identity and of --limit", type=int, default=0),
    **QUIET,
}

SEALED = {"--sealed": _option("SHARE", "of the people, put aside untouched; `aia unseal` opens them", type=float, default=0.0)}

_ADVERSARY = "alternating: the adversary goes on learning; frozen: only the auto-encoder moves (default alternating)"
_LOSS = "what the encoder maximises: literal, as in the paper; capped at an even coin's loss; maxent (default literal)"
_ATTACH = "adversary and Siamese network read g (latent) or its reconstruction (image) (default latent)"
METHOD = {
    "--gamma": _option("G", "weight of the reconstruction (default 1, the paper's)", type=float),
    "--adversary": _option("HOW", _ADVERSARY, choices=("alternating", "frozen")),
    "--adversary-loss": _option("LOSS", _LOSS, choices=("literal", "capped", "maxent")),
    "--attach": _option("WHERE", _ATTACH, choices=("latent", "image")),
}

HELP = "Hide an attribute in face representations, then measure what still leaks."

EXAMPLES = """\
a first hour with CelebA, whose folder is here called CelebA:
  aia data check --data celeba --root CelebA
  aia run --data celeba --root CelebA --profile fast --limit 1500 --out runs/first
  aia attributes photo.jpg --run runs/first

`aia COMMAND --help` explains a command, with examples."""

COMMANDS = {
    "run": Command(
        "the whole paper on one source of faces",
        """\
Trains Original, Random, AIA\\T and AIA on the people of one split, audits each on the
people of three others, in the paper regime (by the adversary and the Siamese network it
was trained with) and in the retrained regime (by attackers and a verifier trained afresh
on what it releases), and writes report, page, figures and trained models into one folder.
Stop a run whenever you like: with --resume it goes on where it was.""",
        """\
examples:
  a first look, in some minutes:
    aia run --data celeba --root CelebA --profile fast --limit 1500 --seeds 1
  the paper's table over three seeds; then, the recommended method as a fifth row:
    aia run --data celeba --root CelebA --seeds 3 --out runs/celeba
    aia run --data celeba --root CelebA --seeds 3 --out runs/celeba --resume --harden
  three deals of the people, and a tenth of them sealed until `aia unseal` opens them:
    aia run --data celeba --root CelebA --folds 3 --sealed 0.1 --out runs/folds
  your own faces, and another attribute to hide:
    aia run --data folder --root my_faces --attribute glasses --beta 1""",
        {
            "the faces": FACES,
            "the method (Eq. 8 of the paper)": {
                "--alpha": _option("A", "weight of the task (default 0.5)", type=float),
                "--beta": _option("B", "weight of the adversary (default 0.5)", type=float),
                **METHOD,
            },
            "how long, and where to": {
                **_how(3),
                "--folds": _option("N", "deal the people out N times, and train and audit anew in each", type=int, default=1),
                **SEALED,
                "--out": _option("FOLDER", "where everything is written", default="runs/aia"),
                "--resume": _flag("go on with the run that --out holds"),
                "--harden": _flag("also the method that this library recommends, HardenedAIA"),
            },
        },
    ),
    "sweep": Command(
        "the trade-off: many weights, each audited",
        """\
Trains AIA at every point of a grid of alpha and beta (Eq. 8 of the paper), audits each in
both regimes, and writes one table (sweep.parquet), report and figures into one folder. A
range is start:stop:step, a list as 0,0.5,1, or a number. The grid cross varies alpha with
beta at 0.5, and the other way round, as the paper does; full takes every pair.

Stop a sweep whenever you like: the same command goes on where it was, and does again
what failed. More weights and seeds can be added that way; no other setting may change.""",
        """\
examples:
  aia sweep --profile fast --limit 3000 --alpha 0:1:0.25 --beta 0:1:0.25 --seeds 1
  the paper's Fig. 2 over three seeds, and the setting to take if 0.6 may leak:
    aia sweep --data celeba --root CelebA --size 32 --max-leak 0.6 --out runs/fig2""",
        {
            "the faces": FACES,
            "the method (Eq. 8 of the paper)": {
                "--alpha": _option("RANGE", "weights of the task", default="0:1:0.1"),
                "--beta": _option("RANGE", "weights of the adversary", default="0:1:0.1"),
                "--grid": _option("HOW", "cross, the paper's Fig. 2, or full", choices=("cross", "full"), default="cross"),
                **METHOD,
            },
            "how long, and where to": {
                **_how(3),
                "--engine": _option("NAME", "where the points are done: local, in processes here, or ray", default="local"),
                "--workers": _option("N", "points at once (default: one for each core)", type=int),
                "--ray-address": _option(
                    "HOST:PORT",
                    "a Ray cluster's head node, or auto for the Ray that runs here (default RAY_ADDRESS, else Ray is started here)",
                ),
                "--stack": _option("P", "train P points as one program (default: 1, on a GPU 24)", type=int),
                "--max-leak": _option("AUC", "name the setting with the most utility that leaks at most this", type=float),
                "--out": _option("FOLDER", "where everything is written", default="runs/sweep"),
            },
        },
    ),
    "unseal": Command(
        "open the sealed people of a run, once",
        """\
Audits the saved methods of a finished `aia run --sealed 0.1` on the people that were
sealed in it: the same attackers, trained and chosen as in the run. It adds the figures to
sealed.json in the run's folder, with the date, the commit and how often these people had
been opened before. Each opening counts: what is changed after one has no sealed test.""",
        """\
examples:
  aia unseal runs/folds --data celeba --root CelebA""",
        {
            "": {"run": _option("RUN", "the folder of a finished run")},
            "the faces, as they were given to the run": FACES,
            "how": {"--device": _DEVICE},
        },
    ),
    "audit": Command(
        "what a representation still gives away",
        """\
Freezes an anonymizer, trains fresh attackers and a fresh verifier on what it releases,
and prints what they reach on people whom nobody has trained on.

ANONYMIZER is a folder that `aia run` or save() wrote, or module:object: a Python function
(or a class that takes no arguments), looked for in the current folder first, from images,
float32 (N, 1, H, W) in [0, 1], to representations, float (N, k). One that has learned
something must have learned from the people of load_faces(...).split().train alone, with
the same source, root, size, attribute, limit and seed (--split-seed) as here; with --fold
and --sealed, from those of load_faces(...).split(fold=K, sealed=SHARE).train.""",
        """\
examples:
  aia audit runs/celeba/seed-0/AIA --data celeba --root CelebA
  aia audit my_method:pixelate --data folder --root my_faces --seeds 3 --out audit.json
  all questions, compared with another method, and a privacy card to hand over:
    aia audit my_method:pixelate --root faces --deep --original my_method:raw --card a.md""",
        {
            "": {"anonymizer": _option("ANONYMIZER", "a saved anonymizer's folder, or module:object")},
            "the faces": {
                **FACES,
                "--fold": _option("K", "which deal of the people: that of the anonymizer's training", type=int, default=0),
                **SEALED,
            },
            "more questions": {
                "--deep": _flag(
                    "also: several images of a person, bits, more data, other attributes, rebuilding, knowing the defence; slower"
                ),
                "--original": _option("ANONYMIZER", "audit this one, too, and compare"),
                "--elsewhere": _option("SOURCE:FOLDER", "attackers also learn from another data set, such as lfw:lfw-deepfunneled"),
            },
            "how long, and where to": {
                **_how(1),
                "--out": _option("FILE", "write the figures as JSON, too"),
                "--card": _option("FILE", "write a privacy card: which claims hold; .md, .html or .json"),
            },
        },
    ),
    "data": Command(
        "check, prepare, render or download a data set",
        """\
Looks after data sets. Faces are read from the folder in which the data set was
unpacked, decoded once, and kept in a cache (AIA_CACHE, else ~/.cache/aia). The folder
itself is never written to.""",
        "`aia data ACTION --help` has examples.",
    ),
    "data check": Command(
        "read a data set and say what it holds",
        """\
Reads a data set and says what it holds: images, people, the attributes with their
rates, the split by identity, and all that was skipped. Exit status 2 where `aia run`
could not use it.""",
        """\
examples:
  aia data check --data celeba --root CelebA
  aia data check --data folder --root my_faces --attribute glasses --size 32

a folder of your own holds one folder a person, my_faces/ada/1.jpg, and one line a person
in my_faces/labels.csv: identity,gender, then ada,female, and so on""",
        {"the faces": FACES},
    ),
    "data prepare": Command(
        "decode a data set into the cache",
        """\
Decodes a data set into the cache, ahead of time. `aia run` does the same when it needs
to; an entry holds for one --size and one --limit.""",
        """\
examples:
  aia data prepare --data celeba --root CelebA --size 64
  aia data prepare --data vggface2 --root VGGFace2 --size 64""",
        {"the faces": FACES},
    ),
    "data render": Command(
        "render faces of nobody",
        """\
Renders faces of nobody: heads of real geometry with drawn shape, skin, hair, glasses,
expression, pose and light. The same settings give the same faces, on a CPU bit for
bit. Written in shards: stop it whenever you like, and give the same command to go on.
Needs the extra `render` of aia-book; the first time, some minutes to prepare the head.""",
        """\
examples:
  aia data render --identities 1000 --out faces     the set that ships with the package
  aia run --data embedded --root faces --profile fast --limit 1500""",
        {
            "": {
                "--identities": _option("N", "how many people", type=int, required=True),
                "--images": _option("K", "images of each, at least 2", type=int, default=10),
                "--size": _option("PIXELS", "side of the images, a multiple of 8 from 32 to 256", type=int, default=64),
                "--seed": _option("S", "seed of everything that is drawn", type=int, default=0),
                "--out": _option("FOLDER", "where to write the set, or to go on with it", required=True),
                "--workers": _option("N", "processes on the CPU (default: one for each core)", type=int),
                "--device": _option("NAME", "cuda, cpu or auto, the GPU where there is one", default="auto"),
                **QUIET,
            }
        },
    ),
    "data download": Command(
        "download CelebA",
        """\
Downloads CelebA (1.4 GB), for non-commercial research under its authors' terms.
Nothing else here uses the network. Needs the extra `download` of aia-book.""",
        """\
examples:
  aia data download celeba --root CelebA
  aia data download celeba --root CelebA --mirror hub     when the drive refuses""",
        {
            "": {
                "data": _option("SOURCE", "celeba, the only one that can be downloaded", choices=("celeba",)),
                "--root": _option("FOLDER", "where to put it", required=True),
                "--mirror": _option(
                    "NAME", "torchvision: its authors' drive; hub: a hub's copy", choices=("torchvision", "hub"), default="torchvision"
                ),
                **QUIET,
            }
        },
    ),
    "templates": Command(
        "face templates, as real systems store them",
        """\
A template is the 128 numbers that a pretrained recogniser (dlib's, CC0, which ships)
makes of a picture of a face, to be compared with those of other pictures.""",
        "`aia templates extract --help` has examples.",
    ),
    "templates extract": Command(
        "the templates of a data set, into one file",
        """\
Writes the templates of all pictures of a data set into one .npz: vectors, identity, and
an array for each attribute. Stop it whenever you like: the same command goes on.

The network wants an upright face at a fixed place. For celeba, lfw and embedded that
place is known. Of your own pictures the largest square in the middle is read, unless
--crop says where the faces are, or --align finds them (needs the extra `align`).""",
        """\
examples:
  aia templates extract --data celeba --root CelebA --out celeba.npz
  aia templates extract --data folder --root my_faces --align --out my.npz
  the square of 0.6 of the shorter side whose centre is in the middle, a bit below:
    aia templates extract --data folder --root my_faces --crop 0.6,0.5,0.55 --out my.npz""",
        {
            "": {
                **{name: FACES[name] for name in ("--data", "--root", "--limit", "--split-seed")},
                "--crop": _option("SIDE,X,Y", "the faces' square: its side, of the shorter side, and its centre, of width and height"),
                "--align": _flag("find the face in each picture and turn it upright; pictures without one are left out"),
                "--device": _DEVICE,
                "--out": _option("FILE", "the .npz to write", required=True),
                **QUIET,
            }
        },
    ),
    "harden": Command(
        "hide an attribute in a file of templates",
        """\
Learns from the labelled templates of the split train how to hide an attribute and still
recognise people, saves that, and writes the protected form of all templates in the file.
What was learned needs no label: `aia protect` applies it to others.

The file is an .npz or a .parquet with `vectors` (N, d), `identity`, and the labels 1, 0 and
-1 (missing) of each attribute; any recogniser's vectors will do. It takes seconds. It hides
no identity: people can still be recognised and redrawn; against that, encrypt templates.""",
        """\
examples:
  your own, two attributes at once, and then those of others, of whom no label is known:
    aia harden --root my.npz --attribute gender,Young --out protected.npz --model model
    aia protect --model model --root new.npz --out new-protected.npz""",
        {
            "": {
                "--data": _option("SOURCE", "templates", choices=("templates",), default="templates"),
                "--root": _option("FILE", "an .npz or .parquet (default: the embedded faces' templates)"),
                "--attribute": _option("NAMES", "what to hide, separated by commas", default="gender"),
                **{name: FACES[name] for name in ("--limit", "--split-seed")},
                "--components": _option("K", "numbers that are kept: more recognise better and leak more", type=int, default=24),
                "--amount": _option("A", "how far to hide it, from 0 to 1", type=float, default=1.0),
                "--seed": _option("S", "of everything random in the method", type=int, default=0),
                "--everybody": _flag("learn from all people, for use; an audit then has nobody who is new"),
                "--model": _option("FOLDER", "where what was learned goes", required=True),
                "--out": _option("FILE", "the .npz to write", required=True),
            }
        },
    ),
    "protect": Command(
        "hide what `aia harden` learned to hide in other templates",
        "Writes the protected form of all templates in a file, all else in it as it was. No label is needed.",
        """\
examples:
  aia protect --model model --root new.npz --out new-protected.npz""",
        {
            "": {
                "--model": _option("FOLDER", "what `aia harden` wrote", required=True),
                "--root": _option("FILE", "an .npz or .parquet with `vectors`", required=True),
                "--out": _option("FILE", "the .npz to write", required=True),
            }
        },
    ),
    "attributes": Command(
        "what attackers read off a face, before and after",
        """\
The example on the paper's poster. An attacker that was trained on other people's
representations says which attributes a face has: first from the auto-encoder's
representation (before), then from AIA's (after), with the models of a finished `aia run`.

A percentage is how sure the attacker is. How far to believe it says the AUC on the test
people: 1 is always right, 0.5 a coin. Attributes are labels somebody gave to pictures.""",
        """\
examples:
  aia attributes photo.jpg --run runs/celeba
  aia attributes *.jpg --run runs/celeba --only gender,Smiling,Eyeglasses --out three.png""",
        {
            "": {
                "images": _option("IMAGE", "image files, each with one upright face that fills most of it", nargs="+"),
                "--run": _option("FOLDER", "the folder of a finished `aia run`", required=True),
                "--only": _option("NAMES", "these attributes, separated by commas (default: the private one and those read best)"),
                "--out": _option("FILE", "the picture to write", default="attributes.png"),
            }
        },
    ),
}
