"""What the command line says of itself: help and examples of each command."""

from __future__ import annotations

HELP = """\
Hide an attribute in face representations, then measure what still leaks."""

EXAMPLES = """\
a first hour with CelebA, whose folder is here called CelebA:
  aia data check --data celeba --root CelebA
  aia run --data celeba --root CelebA --profile fast --limit 1500 --out runs/first
  aia attributes photo.jpg --run runs/first

`aia COMMAND --help` explains a command, with examples."""

RUN_HELP = """\
Trains Original, Random, AIA\\T and AIA on the people of one split, audits each on the
people of three others, and writes report.json, table.md, index.html, figures and
all trained models into one folder. Each method is measured twice:

  paper regime      by the adversary and the Siamese network it was trained with
  retrained regime  by attackers and a verifier trained afresh on what it releases

The first tells whether a method beats its own opponent, the second whether it hides
anything. With --harden the method that this library recommends stands beside the
paper's. Stop a run whenever you like: with --resume it goes on where it was."""

RUN_EXAMPLES = """\
examples:
  a first look, in about a minute:
    aia run --data celeba --root CelebA --profile fast --limit 1500
  the paper's table, with its spread over three seeds:
    aia run --data celeba --root CelebA --seeds 3 --out runs/celeba
  the same, after it was stopped:
    aia run --data celeba --root CelebA --seeds 3 --out runs/celeba --resume
  a finished run, and the recommended method as a fifth row:
    aia run --data celeba --root CelebA --seeds 3 --out runs/celeba --resume --harden
  your own faces, and another attribute to hide:
    aia run --data folder --root my_faces --attribute glasses --beta 1"""

AUDIT_HELP = """\
Freezes an anonymizer, trains fresh attackers and a fresh verifier on what it
releases, and prints what they reach on people whom nobody has trained on.

ANONYMIZER is a folder that `aia run` or save() wrote, or module:object, a Python
function of your own (or a class that can be made without arguments):

  images, float32 tensor (N, 1, H, W) in [0, 1]
      -> representations, float (N, k), as a tensor or a numpy array

The module is looked for in the current folder first. Where your function has learned
something, let it learn from the people of the split `train` alone:

  aia_lib.load_faces(...).split().train

with the same source, root, size, attribute, limit and seed (--split-seed) as here."""

AUDIT_EXAMPLES = """\
examples:
  aia audit runs/celeba/seed-0/AIA --data celeba --root CelebA
  aia audit my_method:pixelate --data folder --root my_faces --seeds 3 --out audit.json
  all questions, and a privacy card to hand over with what is released:
    aia audit my_method:pixelate --data folder --root my_faces --deep --card card.html
  the same, compared with another method:
    aia audit my_method:pixelate --root faces --original my_method:pixels --card card.md"""

SWEEP_HELP = """\
Trains AIA at every point of a grid of alpha and beta (Eq. 8 of the paper), audits each
in the paper regime and in the retrained regime, and writes one table (sweep.parquet),
report.json, table.md and figures into one folder: Fig. 2 with its intervals, maps of a
full grid, the Pareto front. A range is start:stop:step, a list as 0,0.5,1, or a number.

  --grid cross   alpha varies while beta is 0.5, and the other way round: the paper's
  --grid full    every alpha with every beta

Stop a sweep whenever you like: the same command goes on where it was, and does again
what failed. More weights and seeds can be added that way; no other setting may change."""

SWEEP_EXAMPLES = """\
examples:
  a first look, in some minutes:
    aia sweep --profile fast --limit 3000 --alpha 0:1:0.25 --beta 0:1:0.25 --seeds 1
  the paper's Fig. 2 over three seeds, and the setting to take if 0.6 may leak:
    aia sweep --data celeba --root CelebA --size 32 --max-leak 0.6 --out runs/fig2
  the whole map:
    aia sweep --profile fast --grid full --seeds 3 --out runs/map"""

DATA_HELP = """\
Looks after data sets. Faces are read from the folder in which the data set was
unpacked, decoded once, and kept in a cache (AIA_CACHE, else ~/.cache/aia). The folder
itself is never written to."""

CHECK_HELP = """\
Reads a data set and says what it holds: images, people, the attributes with their
rates, the split by identity, and all that was skipped. Exit status 2 where `aia run`
could not use it."""

CHECK_EXAMPLES = """\
examples:
  aia data check --data celeba --root CelebA
  aia data check --data folder --root my_faces --attribute glasses --size 32

a folder of your own holds one folder a person, and a table with one line a person:
  my_faces/labels.csv            identity,gender
                                 ada,female
                                 bob,male
  my_faces/ada/1.jpg
  my_faces/bob/1.png"""

PREPARE_HELP = """\
Decodes a data set into the cache, ahead of time. `aia run` does the same when it
needs to; an entry holds for one --size and one --limit."""

PREPARE_EXAMPLES = """\
examples:
  aia data prepare --data celeba --root CelebA --size 64
  aia data prepare --data vggface2 --root VGGFace2 --size 64"""

RENDER_HELP = """\
Renders faces of nobody: heads of real geometry with drawn shape, skin, hair, glasses,
expression, pose and light. The same settings give the same faces, on a CPU bit for
bit. Written in shards: stop it whenever you like, and give the same command to go on.
Needs the extra `render` of aia-book; the first time, some minutes to prepare the head."""

RENDER_EXAMPLES = """\
examples:
  the set that ships with the package:
    aia data render --identities 1000 --out faces
  as large as CelebA:
    aia data render --identities 10177 --images 20 --size 64 --out many
  what it gave, and a first run on it:
    aia data check --data embedded --root faces
    aia run --data embedded --root faces --profile fast --limit 1500"""

DOWNLOAD_HELP = """\
Downloads CelebA (1.4 GB), for non-commercial research under its authors' terms.
Nothing else here uses the network. Needs the extra `download` of aia-book."""

DOWNLOAD_EXAMPLES = """\
examples:
  aia data download celeba --root CelebA
  aia data download celeba --root CelebA --mirror hub     when the drive refuses"""

ATTRIBUTES_HELP = """\
The example on the paper's poster. An attacker that was trained on other people's
representations says which attributes a face has: first from the auto-encoder's
representation (before), then from AIA's (after). Needs the folder of a finished
`aia run`, whose models it uses.

A percentage is how sure the attacker is. How far to believe it says the AUC, measured
on the test people: 1 is always right, 0.5 a coin. Attributes are those that the data
set labels; "gender" is a label that somebody gave to pictures."""

ATTRIBUTES_EXAMPLES = """\
examples:
  aia attributes photo.jpg --run runs/celeba
  aia attributes *.jpg --run runs/celeba --only gender,Smiling,Eyeglasses --out three.png"""
