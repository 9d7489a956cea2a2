"""Write what is derived from one place into the files that show it.

The repository's address comes from _config.yml, the version from aia_lib/__init__.py, the picture and the tables of the README and the book
from the recorded runs in results/. Derived text stands between two lines that hold `sync: NAME begin` and `sync: NAME end`; in notebooks
it is the cell whose metadata say {"sync": "install"}.

    python tools/sync.py            write what is stale
    python tools/sync.py --check    write nothing; name what is stale and exit with status 1
    python tools/sync.py --checkpoints RUN    put the methods of the finished `aia run --data embedded` in RUN into aia_lib/checkpoints
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from aia_lib import __version__, ledger
from aia_lib.files import UserError, atomic_write, sha256, write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
RUN = "celeba10k-64"
STRANGER = "folder-32"
"""A set that the recommended method was not made for, given as a folder."""
HARDENED = "celeba10k-32"
"""The run on photographs in which the recommended method stands beside the paper's."""
PICTURES = {"book/static/regimes.svg": RUN, "book/static/hardened.svg": HARDENED}
"""What is drawn of which run."""
RUNS = {"celeba": (RUN, "celeba"), "hardened": (HARDENED, None), "embedded": ("embedded-64", None)}
"""The runs that book/results.md shows: the first word of its blocks' names -> the record, and which of the paper's tables is beside it."""
SHEET = "book/static/contact_sheet.png"
SHEET_PEOPLE, SHEET_IMAGES = 12, 10
CARD = "book/_static/social.png"
CARD_PEOPLE = 8


def repository() -> tuple[str, str]:
    """The repository's address and branch, as _config.yml states them."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    return config["url"].rstrip("/"), config["branch"]


def blocks() -> dict[str, dict[str, str]]:
    """The derived text of each file, by block."""
    url, branch = repository()
    name = url.rsplit("/", 1)[1]
    slug = url.split("://", 1)[1].split("/", 1)[1]
    clone = f"```bash\ngit clone {url}\ncd {name}\n"
    install = f'```bash\npip install "aia-book @ git+{url}"\n```\n'
    owner = slug.split("/", 1)[0]
    pages = f"https://{owner}.github.io/{name}/"
    claims = frontier()
    return {
        "_config.yml": {
            "pages": f'    ogp_site_url: "{pages}"\n    ogp_image: "{pages}_static/social.png"\n',
        },
        "README.md": {
            "links": f"[Try it on Colab](https://colab.research.google.com/github/{slug}/blob/{branch}/notebooks/00_quickstart.ipynb)\n"
            f"· [Source]({url}) · [Report a problem]({url}/issues)\n",
            "results": results(),
            "hardened": hardened(claims),
            "commands": clone + "make test                                     # sets up .venv, then runs all tests\n"
            "make book                                     # executes every chapter on the embedded faces, then builds the book\n```\n",
            "install": install,
        },
        "book/intro.md": {"story": story(), "install": install},
        "book/how_to_use.md": {
            "install": install,
            "clone": clone
            + "make setup      # .venv with the pinned packages and the library\nmake test       # everything works here\n```\n",
        },
        "book/reading_the_paper.md": {"gender_only": gender_only()},
        "book/results.md": {**book_results(), "frontier": claims, **measured(), "deep": deep(), "stranger": stranger(), "sweeps": sweeps()},
        "book/related_systems.md": {"frontier": claims},
        "book/data_card_embedded.md": data_card(),
        "CONTRIBUTING.md": {"clone": clone + "make setup\nmake test\n.venv/bin/pre-commit install\n```\n"},
        "CITATION.cff": {"address": f'version: {__version__}\nrepository-code: "{url}"\n'},
        "pyproject.toml": {
            "urls": f'Homepage = "{url}"\nIssues = "{url}/issues"\nChangelog = "{url}/blob/{branch}/CHANGELOG.md"\n',
        },
    }


def results() -> str:
    """The README's picture and table, from the recorded run."""
    if RUN not in ledger.names():
        return f"No run is recorded yet. `make sync` draws the picture and the table here from `results/{RUN}.json`.\n"
    report = ledger.load(RUN)
    origin = report["provenance"]
    seeds = ", ".join(str(seed) for seed in origin["seeds"])
    return (
        "![For each method: what its own adversary and the worst fresh attacker read of gender, beside what is left of verification.]"
        "(book/static/regimes.svg)\n\n"
        f"{ledger.table(report, paper='celeba')}\n"
        f"{ledger.TABLE_NOTE}\n\n"
        f"Made by `{origin['command']}` (seeds {seeds}) in {origin['seconds'] / 60:.0f} minutes on {origin['device']};\n"
        f"every figure is in [results/{RUN}.json](results/{RUN}.json).\n"
    )


def unrecorded(run: str) -> str:
    """What stands where a recorded run would be shown."""
    return f"No run is recorded yet in `results/{run}.json`.\n"


def hardened(claims: str) -> str:
    """The README's picture, `claims` and table of the method that the library recommends."""
    if HARDENED not in ledger.names():
        return claims
    report = ledger.load(HARDENED)
    return (
        "![For each method, the recommended one among them: what its own adversary and the worst fresh attacker read of gender, "
        "beside what is left of verification.](book/static/hardened.svg)\n\n"
        f"{claims}\n"
        f"{ledger.table(report)}\n"
        f"Made by `{report['provenance']['command']}`; every figure is in [results/{HARDENED}.json](results/{HARDENED}.json).\n"
    )


def frontier() -> str:
    """Three claims on the same photographs: the paper's regime, the same method under fresh attackers, the recommended method."""
    if HARDENED not in ledger.names():
        return unrecorded(HARDENED)
    report = ledger.load(HARDENED)
    methods = report["methods"]
    before, after = (methods[name]["paper"] for name in ("Original", "AIA"))
    lines = [
        f"* **AIA, paper regime.** Its own adversary's AUC goes from {before['privacy_auc']:.3f} to {after['privacy_auc']:.3f}, "
        f"that of its own Siamese network from {before['utility_auc']:.3f} to {after['utility_auc']:.3f}.\n"
    ]
    fresh = {"AIA": "AIA, fresh attackers and a fresh verifier", "HardenedAIA": "HardenedAIA, the same attackers and verifier"}
    for name, words in fresh.items():
        r, start = methods[name]["retrained"], methods["Original"]["retrained"]
        lines.append(
            f"* **{words}.** The worst attacker's AUC goes from {with_ci(start, 'leak_auc')} to {with_ci(r, 'leak_auc')}, verification's "
            f"from {with_ci(start, 'utility_auc_same')} to {with_ci(r, 'utility_auc_same')}: leak removed "
            f"{ledger.percent(ledger.leak_removed(report, name))}, utility kept {ledger.percent(ledger.utility_kept(report, name))}.\n"
        )
    return "".join(lines)


def story() -> str:
    """The result in three sentences, for the book's first page."""
    if RUN not in ledger.names():
        return unrecorded(RUN)
    report = ledger.load(RUN)
    original, aia = (report["methods"][name] for name in ("Original", "AIA"))
    own = [ledger.percent(method["paper"]["privacy_accuracy"], 1) for method in (original, aia)]
    leak = [with_ci(method["retrained"], "leak_auc") for method in (original, aia)]
    removed, kept = ledger.percent(ledger.leak_removed(report, "AIA")), ledger.percent(ledger.utility_kept(report, "AIA"))
    return (
        f"> At α = {report['settings']['finetune']['alpha']} and β = {report['settings']['finetune']['beta']} AIA lowers the accuracy of "
        f"the adversary that is trained with it from {own[0]} to {own[1]}. The best of the attackers that were trained afterwards reads "
        f"gender with an AUC of {leak[1]}; from the auto-encoder without protection it was {leak[0]}{overlap(original, aia)}. "
        f"Of the leak {removed} is gone, of the utility {kept} is kept.\n"
    )


def overlap(original: dict, method: dict) -> str:
    """A remark where the intervals of two methods' leaks overlap."""
    (low, high), (other_low, other_high) = (which["retrained"]["leak_auc_ci"] for which in (original, method))
    return " (the intervals overlap)" if low <= other_high and other_low <= high else ""


def gender_only() -> str:
    """What the true labels alone reach as a verifier, for the book's page on the paper."""
    if RUN not in ledger.names():
        return unrecorded(RUN)
    report = ledger.load(RUN)
    accuracy = report["methods"]["Original"]["controls"]["gender_only_verification_accuracy"]
    return (
        f"Measured on the test pairs of the recorded run `{RUN}`, with the labels of CelebA themselves as the “verifier”: "
        f"{ledger.percent(accuracy, 1)}.\n"
    )


def with_ci(figures: dict, key: str) -> str:
    """A figure with its 95 % interval where it has one."""
    return ledger.with_interval(figures[key], figures.get(f"{key}_ci"))


def stranger() -> str:
    """The table of the run on a set that nothing was chosen on."""
    if STRANGER not in ledger.names():
        return unrecorded(STRANGER)
    report = ledger.load(STRANGER)
    origin = report["provenance"]
    data = origin["data"]
    return (
        f"{together(ledger.table(report))}\nMade by `{origin['command']}` (seed {origin['seeds'][0]}): {data['images']:,} images of "
        f"{data['people']:,} people; every figure is in [results/{STRANGER}.json](../results/{STRANGER}.json).\n"
    )


def book_results() -> dict[str, str]:
    """The blocks of book/results.md, of all `RUNS`."""
    filled = {}
    for prefix, (name, paper) in RUNS.items():
        if name in ledger.names():
            tables = run_blocks(ledger.load(name), name, paper)
        else:
            tables = dict.fromkeys(RUN_BLOCKS, unrecorded(name))
        filled |= {f"{prefix}_{block}": text for block, text in tables.items()}
    return filled


RUN_BLOCKS = ("facts", "table", "reading", "attackers", "verification", "controls", "seeds")
"""What `run_blocks` makes of a run."""


def run_blocks(report: dict, name: str, paper: str | None) -> dict[str, str]:
    """A recorded run as the tables and the sentences that book/results.md shows."""
    methods, origin = report["methods"], report["provenance"]
    return {
        "facts": facts(report, name),
        "table": f"{together(ledger.table(report, paper=paper))}\n{ledger.TABLE_NOTE}\n\nMade by `{origin['command']}`.\n",
        "reading": reading(report),
        "attackers": attackers(methods),
        "verification": verification(methods),
        "controls": controls(methods),
        "seeds": seeds(methods),
    }


UNMEASURED = "Not measured yet.\n"


def benchmark(name: str) -> dict | None:
    """A recorded benchmark, with its provenance; None while it is not recorded."""
    return ledger.side_record("benchmarks", name)


def made_by(*records: dict) -> str:
    """The sentence below a table of benchmarks."""
    commands = ", ".join(dict.fromkeys(f"`{record['provenance']['command']}`" for record in records))
    devices = " and ".join(dict.fromkeys(record["provenance"]["device"] for record in records))
    return f"\nMade by {commands} on {devices}.\n"


def measured() -> dict[str, str]:
    """The blocks of book/results.md that show benchmarks."""
    shown = {
        "ablation": (ablation, ("ablation-celeba",)),
        "fewer_people": (fewer_people, ("ablation-celeba",)),
        "attributes": (attributes, ("attributes-celeba",)),
        "errors": (errors, ("attributes-celeba",)),
        "speed": (speed, ("autoencoder", "training", "loading", "sweep")),
        "audits": (audits, ("audit",)),
        "memory": (memory, ("memory",)),
        "growth": (growth, ("growth",)),
    }
    filled = {}
    for block, (table, names) in shown.items():
        records = [benchmark(name) for name in names]
        whole = [record for record in records if record is not None]
        if len(whole) == len(names):
            filled[block] = table(*(record["figures"] for record in whole)) + made_by(*whole)
        else:
            filled[block] = UNMEASURED
    return filled


def ablation(figures: dict) -> str:
    """What the recommended method leaks and keeps without each of its parts."""
    return markdown(
        ["Method", "Leak AUC ↓", "Worst attacker", "Utility AUC ↑", "Leak removed ↑", "Utility kept ↑"],
        [
            [name, auc(row["leak"]), f"`{row['worst_attacker']}`", auc(row["utility"]), *shares(row)]
            for name, row in figures["methods"].items()
        ],
    )


def fewer_people(figures: dict) -> str:
    """The same for all parts, over the number of people that it was fitted on."""
    return markdown(
        ["People to learn from", "Images", "Leak AUC ↓", "Utility AUC ↑", "Leak removed ↑", "Utility kept ↑"],
        [
            [f"{row['people']:,}", f"{row['images']:,}", auc(row["leak"]), auc(row["utility"]), *shares(row)]
            for row in figures["fewer_people"]
        ],
    )


def shares(row: dict) -> list[str]:
    """Leak removed and utility kept; a dash for Original, which they are shares of."""
    return [ledger.percent(row[key]) if key in row else "–" for key in ("leak_removed", "utility_kept")]


def attributes(figures: dict) -> str:
    """The leak of each attribute, and utility, over what the method was told to hide; bold where it was."""
    rows = []
    for name, row in figures["methods"].items():
        cells = [auc(row["attributes"][of]["leak"]) for of in figures["attributes"]]
        cells = [f"**{cell}**" if of in row["hidden"] else cell for of, cell in zip(figures["attributes"], cells, strict=True)]
        rows.append([name, *cells, auc(row["attributes"][figures["attributes"][0]]["utility_same"])])
    return markdown(["Method", *figures["attributes"], "Utility AUC ↑"], rows)


def errors(figures: dict) -> str:
    """False match and false non-match rates in the two groups of the first attribute, at one threshold."""
    rows = []
    for name, row in figures["methods"].items():
        of = row["errors"]
        cells = [
            f"{ledger.percent(own[key], 1)} [{ledger.percent(own[f'{key}_ci'][0], 1)}, {ledger.percent(own[f'{key}_ci'][1], 1)}]"
            for key in ("fmr", "fnmr")
            for own in (of["rates"]["0"], of["rates"]["1"])
        ]
        rows.append([name, *cells])
    first = figures["attributes"][0]
    return markdown(["Method", *(f"{error}, {first} = {value}" for error in ("FMR", "FNMR") for value in (0, 1))], rows)


def speed(autoencoder: dict, training: dict, loading: dict, sweeping: dict) -> str:
    """How many times as quick the library is as what it is measured beside, within one run."""
    plain = "plain PyTorch, as from the paper"
    rows = [["training the auto-encoder", plain, autoencoder["size"], autoencoder["ratio"]]]
    words = {"adversary": "training the adversary", "siamese": "training the Siamese network", "finetune": "adversarial fine-tuning"}
    for stage, of in training["stages"].items():
        for device, own in of.items():
            where = "" if device == "cpu" else f" ({device})"
            rows.append([words[stage] + where, plain, training["size"], own["ratio"]])
    theirs = "torchvision’s CelebA with a `DataLoader`"
    rows.append([f"reading {loading['images']:,} images from the cache", theirs, loading["size"], loading["ratio_torchvision_to_cached"]])
    rows.append(["the same for the first time, which writes the cache", theirs, loading["size"], loading["ratio_torchvision_to_raw"]])
    rows.append([f"a sweep of {sweeping['points']} points", "separate runs", sweeping["size"], sweeping["ratio"]])
    for device, of in sweeping["finetuning"].items():
        for name, ratio in of["ratio"].items():
            rows.append([f"fine-tuning {name}, a point ({device})", "each alone", sweeping["size"], ratio])
    cells = [[what, beside, str(size), f"{ratio:.2f}"] for what, beside, size, ratio in rows]
    return markdown(["What", "Beside", "Pixels", "Times as quick"], cells, texts=2)


def audits(figures: dict) -> str:
    """Seconds of an audit over N and k."""
    rows = [[f"{row['images']:,}", f"{row['k']:,}", str(row["attackers"]), f"{row['seconds']:.1f}"] for row in figures["rows"]]
    full = figures["complete"]
    rows.append([f"{full['images']:,}", f"{full['k']:,}", str(full["attackers"]), f"{full['seconds']:.1f}"])
    return markdown(["Images", "Numbers in g", "Attackers", "Seconds"], rows, texts=0)


def memory(figures: dict) -> str:
    """Peak resident memory of each job over the number of images, in megabytes."""
    return over_images(figures["rows"], lambda row: f"{row['peak_megabytes']:,}")


def growth(figures: dict) -> str:
    """Seconds of each job over the number of images, and the slope on logarithmic axes."""
    slopes = {job: next(iter(of.values())) for job, of in figures["slopes"].items()}
    return over_images(figures["rows"], lambda row: f"{row['seconds']:.3g}" if row["seconds"] < 100 else f"{row['seconds']:.0f}", slopes)


JOBS = {
    "nothing": "the imports alone",
    "autoencoder": "auto-encoder, an epoch",
    "adversary": "adversary, an epoch",
    "siamese": "Siamese network, an epoch",
    "finetune": "fine-tuning, an epoch",
}


def over_images(rows: list[dict], cell: Callable[[dict], str], slopes: dict[str, float] | None = None) -> str:
    """A table with a row a job and a column a number of images."""
    counts = sorted({row["images"] for row in rows})
    found = {(row["job"], row["images"]): cell(row) for row in rows if row.get("device", "cpu") == "cpu"}
    lines = [
        [JOBS.get(job, job), *(found.get((job, count), "–") for count in counts), *([f"{slopes[job]:.2f}"] if slopes else [])]
        for job in dict.fromkeys(row["job"] for row in rows)
    ]
    return markdown(["Job", *(f"{count:,}" for count in counts), *(["Slope"] if slopes else [])], lines)


def deep() -> str:
    """What the deep audit found of the recommended method."""
    record = ledger.side_record("audits", f"{HARDENED}-hardened")
    if record is None:
        return UNMEASURED
    figures = record["figures"]
    leak, found = figures["retrained"], figures["deep"]
    told, curve, rebuilt, knows = (found[part] for part in ("information", "curve", "reconstruction", "adaptive"))
    others = {name: own for name, own in found["creep"]["attributes"].items() if name != found["creep"]["private"]}
    creep = sorted(others.items(), key=lambda item: -item[1]["change"])
    easier = [name for name, own in creep if own["change_ci"][0] > 0]
    name, most = creep[0]
    rows = [
        [f"The worst of {len(leak['attackers'])} fresh attackers (`{leak['worst_attacker']}`)", f"AUC {with_ci(leak, 'leak_auc')}"],
        [
            f"An attacker who knows the defence (`{knows['worst_attacker']}`)",
            f"AUC {with_ci(knows, 'leak_auc')}; gain {ledger.with_interval(knows['gain'], knows['gain_ci'])}",
        ],
        ["The same attacks with fewer people", ", ".join(f"{p['leak_auc']:.3f} ({p['people']:,})" for p in curve["points"])],
        ["Information on gender, at least", f"{with_ci(told, 'information_bits')} of {told['entropy_bits']:.3f} bits an image"],
        [
            "Faces rebuilt from it, recognised among people of the same label",
            f"AUC {with_ci(rebuilt, 'match_auc_same')}; real against real {rebuilt['real_auc_same']:.3f}",
        ],
        ["The same faces, beside the mean face", f"PSNR {rebuilt['psnr']:.1f} dB; {rebuilt['mean_face_psnr']:.1f} dB"],
        [
            f"Other attributes that became easier to read, of {len(creep)}",
            f"{len(easier)}; most changed `{name}`, {ledger.with_interval(most['change'], most['change_ci'])}",
        ],
    ]
    origin = record["provenance"]
    made = f"\nMade by `{origin['command']}` on {origin['device']}; {origin['model']}.\n"
    return markdown(["Question", "Answer"], rows, texts=2) + made


def sweeps() -> str:
    """The recorded sweeps, a row each."""
    from aia_lib.sweep import recorded

    rows = []
    for name, sweep in recorded().items():
        report = sweep.report
        origin, adversary = report["provenance"], report["settings"]["finetune"]["adversary"]
        volume = [f"{sweep.hypervolume(regime):.3f}" for regime in ("paper", "retrained")]
        rows.append(
            [
                f"[{name}](../results/sweeps/{name}/report.json)",
                f"{origin['data']['images']:,}",
                str(origin["data"]["size"]),
                adversary,
                str(len(report["methods"]) - 1),
                str(len(origin["seeds"])),
                f"{origin['seconds'] / 60:.0f}",
                *volume,
            ]
        )
    head = ["Sweep", "Images", "Pixels", "Adversary", "Settings", "Seeds", "Minutes", "Hypervolume: paper", "Retrained"]
    return markdown(head, rows) if rows else "No sweep is recorded yet.\n"


def data_card() -> dict[str, str]:
    """What the data card of the embedded faces says in numbers: of the set itself, and of how hard it is beside CelebA."""
    from aia_lib.datasets.embedded import SHIPPED as folder
    from aia_lib.datasets.embedded import SHIPPED_COMMAND, manifest

    of = manifest()
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    facts = (
        f"* {of['identities']:,} people, {of['images']} images each, {of['size']} × {of['size']} pixels, grey; "
        f"{size:.1f} MB with masks and parameters\n"
        f"* made by `{SHIPPED_COMMAND}`\n"
        f"* SHA-256 of all decoded images: `{of['sha256']['images']}`\n"
    )
    records = {name: benchmark(f"difficulty-{name}") for name in ("embedded", "celeba10k")}
    found = {name: record for name, record in records.items() if record is not None}
    if "embedded" not in found:
        return {"facts": facts, "difficulty": UNMEASURED, "regions": UNMEASURED}
    figures = {name: record["figures"] for name, record in found.items()}
    heads = {"embedded": "Embedded faces", "celeba10k": "CelebA, 10,000 images"}
    head = ["Test AUC", *(heads[name] for name in found)]
    rows = []
    for reader, words in (("cnn", "gender, convolutional network"), ("logistic", "gender, logistic regression")):
        rows.append([words, *(auc(figures[name]["attribute_auc"]["all"][reader]) for name in found)])
    for kind, words in (("siamese", "the paper's Siamese network"), ("lda", "linear discriminant analysis")):
        for impostors, which in (("free", "free impostors"), ("same", "impostors with the same label")):
            rows.append([f"verification, {words}, {which}", *(auc(figures[name]["verification_auc"][kind][impostors]) for name in found)])
    own = figures["embedded"]
    regions = own["attribute_auc"]
    of_regions = [
        [name, ledger.percent(own["share_of_pixels"][name], 1), auc(regions[name]["cnn"]), auc(regions[name]["logistic"])]
        for name in sorted(own["share_of_pixels"], key=lambda name: -regions[name]["cnn"][0])
    ]
    for name in sorted(name for name in regions if name.endswith(", outline")):
        of_regions.append([f"{name} alone, black and white", "–", auc(regions[name]["cnn"]), auc(regions[name]["logistic"])])
    whole = regions["all, region_size"]
    of_regions.insert(0, ["the whole image", ledger.percent(1.0, 1), auc(whole["cnn"]), auc(whole["logistic"])])
    made = "; ".join(
        f"{heads[name]}: `{record['provenance']['command']}`, {record['provenance']['date'][:10]}" for name, record in found.items()
    )
    return {
        "facts": facts,
        "difficulty": markdown(head, rows)
        + f"\nMeasured on people that no reader was trained on, with 95 % intervals over people. {made}.\n",
        "regions": markdown(["Pixels of", "Share of the image", "Convolutional network", "Logistic regression"], of_regions)
        + f"\nAUC of gender at {own['region_size']} pixels; all that is not the region is grey, so its outline is seen too.\n",
    }


def auc(values: list[float]) -> str:
    """An AUC with its interval."""
    return together(ledger.with_interval(values[0], values[1:]))


def sheet_source() -> str:
    """What the contact sheet shows, as it says in its own metadata."""
    from aia_lib.datasets.embedded import manifest

    return f"the first {SHEET_PEOPLE} people of the embedded faces, sha256 {manifest()['sha256']['images']}"


def draw_sheet(source: str) -> None:
    """Write the contact sheet: a row a person. Rendered heads, so it may be shown."""
    import numpy as np
    from PIL import Image, PngImagePlugin

    from aia_lib import load_faces

    faces = load_faces("embedded", progress=False)
    rows = np.concatenate([np.flatnonzero(faces.identity == person)[:SHEET_IMAGES] for person in range(SHEET_PEOPLE)])
    tiles = np.asarray(faces.images)[rows, 0].reshape(SHEET_PEOPLE, SHEET_IMAGES, faces.size, faces.size)
    sheet = tiles.transpose(0, 2, 1, 3).reshape(SHEET_PEOPLE * faces.size, SHEET_IMAGES * faces.size)
    about = PngImagePlugin.PngInfo()
    about.add_text("Description", source)
    with atomic_write(ROOT / SHEET) as file:
        Image.fromarray(sheet).save(file, format="PNG", optimize=True, pnginfo=about)


def card_source() -> str | None:
    """What the picture that links to the book show was drawn from, as it says in its own metadata; None while no run is recorded."""
    path, title = ledger.results_root() / f"{RUN}.json", yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    return f"“{title}”; {sheet_source()}; results/{RUN}.json, sha256 {sha256(path)}" if path.is_file() else None


def described(path: Path) -> str | None:
    """The description in a PNG's metadata; None where it has none, or there is no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.info.get("Description")
    except (FileNotFoundError, UnidentifiedImageError):
        return None


def draw_card(source: str) -> None:
    """Write the social card, 1200 x 630: the book's title, rendered people, and the result in two bars a method."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib.figure import Figure

    from aia_lib import load_faces, plots

    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    faces = load_faces("embedded", progress=False)
    first = [np.flatnonzero(faces.identity == person)[0] for person in range(CARD_PEOPLE)]
    strip = np.concatenate(list(np.asarray(faces.images)[first, 0]), axis=1)
    methods = ledger.load(RUN)["methods"]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="white")
        figure.text(0.05, 0.87, title, fontsize=26, fontweight="bold")
        figure.text(0.05, 0.80, "A hands-on book on privacy-preserving face representations", fontsize=18, color=plots.GREY)
        picture = figure.add_axes((0.05, 0.52, 0.9, 0.24))
        picture.imshow(strip, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="bicubic")
        picture.set_axis_off()
        bars = figure.add_axes((0.27, 0.15, 0.68, 0.31))
        rows = np.arange(2)
        own = [methods[name]["paper"]["privacy_auc"] for name in ("Original", "AIA")]
        fresh = [methods[name]["retrained"]["leak_auc"] for name in ("Original", "AIA")]
        bars.barh(rows - 0.19, own, 0.36, color=plots.BLUE, label="its own adversary")
        bars.barh(rows + 0.19, fresh, 0.36, color=plots.VERMILLION, label="attackers trained afterwards")
        bars.set(xlim=(0.5, 1), ylim=(1.5, -0.5), yticks=rows)
        bars.set_yticklabels(["no protection", "AIA"], fontsize=18)
        bars.tick_params(axis="x", labelsize=14)
        bars.set_xlabel("AUC of gender, as labelled, on 10,000 CelebA images", fontsize=16)
        figure.legend(loc="lower left", bbox_to_anchor=(0.02, 0.01), fontsize=14, ncols=1, frameon=False)
        with atomic_write(ROOT / CARD) as file:
            figure.savefig(file, format="png", metadata={"Software": None, "Description": source})


def ship(run: Path) -> None:
    """Write what `load_pretrained` loads: the methods of a run's first seed as float16, and a manifest that says how they were made."""
    from aia_lib.anonymizers import PRETRAINED, load_anonymizer
    from aia_lib.audit import AuditReport
    from aia_lib.run import FOLDERS

    report = ledger.read(run / "report.json")
    origin = report["provenance"]
    if origin["data"]["source"] != "embedded":
        raise UserError(f"The run in {run} is on {origin['data']['source']!r}; what ships is trained on the embedded faces.")
    seed = origin["seeds"][0]
    methods = {}
    for name in PRETRAINED:
        method = {"original": "Original", "aia": "AIA"}[name]
        source, folder = run / f"seed-{seed}", ROOT / "aia_lib" / "checkpoints" / name
        load_anonymizer(source / FOLDERS[method]).save(folder, half=True)
        index = json.loads((folder / "anonymizer.json").read_text(encoding="utf-8"))
        audited = AuditReport.load(source / f"audit-{FOLDERS[method]}.npz").to_dict()
        methods[name] = {"file": f"{name}/{index['file']}", "sha256": index["sha256"], "paper": audited["paper"]}
        methods[name]["leak_auc"] = audited["retrained"]["leak_auc"]
    manifest = {"provenance": {**ledger.clean(report)["provenance"], "seeds": [seed]}, "settings": report["settings"], "methods": methods}
    write_json(ROOT / "aia_lib" / "checkpoints" / "manifest.json", manifest)


def together(text: str) -> str:
    """Numbers with their units and intervals, so that no line breaks within them."""
    return re.sub(r"(?<=\d),? (?=%|-?\d+\.\d+\])", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def markdown(head: list[str], rows: list[list[str]], texts: int = 1) -> str:
    """A Markdown table; all columns but the first `texts` are set flush right."""
    lines = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *rows]
    return together("".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines))


def facts(report: dict, name: str) -> str:
    origin = report["provenance"]
    data, settings = origin["data"], report["settings"]
    parts = next(iter(report["methods"].values()))["data"]
    train = {what: data[what] - sum(parts[f"{part}_{what}"] for part in ("attack", "val", "test")) for what in ("images", "people")}
    split = [f"train {train['images']:,} ({train['people']:,})"]
    split += [f"{part} {parts[f'{part}_images']:,} ({parts[f'{part}_people']:,})" for part in ("attack", "val", "test")]
    versions = ", ".join(f"{key} {value}" for key, value in origin["versions"].items() if value)
    tuned = settings["finetune"]
    rows = [
        ["Faces", f"{data['images']:,} images of {data['people']:,} people, grey, {data['size']} × {data['size']} pixels"],
        ["Images (people) of each split", "; ".join(split)],
        ["Private attribute", f"{data['attribute']}, as labelled in the data set"],
        [
            "Setting",
            f"α = {tuned['alpha']}, β = {tuned['beta']}, {tuned['adversary']} adversary, profile `{settings['name']}`",
        ],
        ["Seeds", ", ".join(map(str, origin["seeds"]))],
        ["Made", f"{origin['date'][:10]}, in {origin['seconds'] / 60:.0f} minutes on {origin['device']}"],
        ["With", versions],
        ["Licence of the faces", data["licence"]],
        ["Record", f"[results/{name}.json](../results/{name}.json)"],
    ]
    return markdown(["What", "Value"], rows, texts=2)


def reading(report: dict) -> str:
    """What the two regimes say about each method that has a co-trained adversary, one line each."""
    original = report["methods"]["Original"]
    lines = []
    for name, method in report["methods"].items():
        if name == "Original" or method["paper"] is None:
            continue
        points = 100 * (method["paper"]["privacy_accuracy"] - original["paper"]["privacy_accuracy"])
        before, after = (f"{which['retrained']['leak_auc']:.3f}" for which in (original, method))
        removed, kept = ledger.percent(ledger.leak_removed(report, name)), ledger.percent(ledger.utility_kept(report, name))
        lines.append(
            f"* **{name}** moves the accuracy of the paper regime's adversary by {points:+.1f} points".replace("-", "−")
            + f", and the AUC of the worst fresh attacker from {before} to {after}{overlap(original, method)}. "
            f"Leak removed: {removed}. Utility kept: {kept}.\n"
        )
    return "".join(lines)


def attackers(methods: dict) -> str:
    names = list(dict.fromkeys(attacker for method in methods.values() for attacker in method["retrained"]["attackers"]))
    rows = []
    for attacker in names:
        row = [f"`{attacker}`"]
        for method in methods.values():
            value = method["retrained"]["attackers"].get(attacker)
            cell = "–" if value is None else f"{value:.3f}"
            row.append(f"**{cell}**" if attacker == method["retrained"]["worst_attacker"] else cell)
        rows.append(row)
    rows.append(["worst, chosen on val", *(with_ci(method["retrained"], "leak_auc") for method in methods.values())])
    own = [(method["paper"] or {}).get("privacy_auc") for method in methods.values()]
    rows.append(["co-trained adversary", *("–" if value is None else f"{value:.3f}" for value in own)])
    note = "Bold: the attacker with the best AUC on val over all seeds.\n"
    return markdown(["Attacker", *methods], rows) + "\n" + note


def verification(methods: dict) -> str:
    parts = []
    for suffix, words in (("_same", "Impostors with the same label as the person"), ("", "Impostors drawn freely")):
        rows = []
        for name, method in methods.items():
            r = method["retrained"]
            cells = [with_ci(r, f"utility_auc{suffix}")]
            cells += [
                ledger.percent(r[f"{key}{suffix}"], 1)
                for key in ("utility_accuracy", "eer", "tar_at_far_1e-1", "tar_at_far_1e-2", "tar_at_far_1e-3")
            ]
            rows.append([name, *cells])
        head = ["Method", "AUC ↑", "Accuracy ↑", "EER ↓", "TAR at FAR 10 % ↑", "1 % ↑", "0.1 % ↑"]
        parts.append(f"{words}:\n\n{markdown(head, rows)}")
    return "\n".join(parts)


def controls(methods: dict) -> str:
    words = {
        "majority_accuracy": "Always the more frequent label: accuracy",
        "shuffled_labels_auc": "Labels shuffled between people: worst AUC of two attackers",
        "gender_only_verification_accuracy": "“Same label means same person”, free impostors: accuracy",
        "untrained_encoder_auc": "Encoder with random weights: worst AUC of two attackers",
    }
    rows = []
    for key, label in words.items():
        values = [method.get("controls", {}).get(key) for method in methods.values()]
        rows.append([label, *("–" if v is None else f"{v:.3f}" if key.endswith("auc") else ledger.percent(v, 1) for v in values)])
    return markdown(["Control", *methods], rows)


def seeds(methods: dict) -> str:
    rows = []
    for name, method in methods.items():
        for entry in method["seeds"]:
            r, p = entry["retrained"], entry.get("paper") or {}
            rows.append(
                [
                    name,
                    f"`{r['worst_attacker']}`",
                    str(entry["seed"]),
                    ledger.percent(p.get("privacy_accuracy"), 1),
                    f"{r['leak_auc']:.3f}",
                    f"{r['utility_auc_same']:.3f}",
                ]
            )
    return markdown(["Method", "Worst attacker", "Seed", "Own adversary: accuracy", "Leak AUC", "Utility AUC, same label"], rows, texts=2)


def fill(text: str, block: str, content: str) -> str:
    """`text` with `content` between the lines that mark the beginning and the end of `block`."""
    pattern = rf"(^[^\n]*\bsync: {block} begin\b[^\n]*\n).*?(^[^\n]*\bsync: {block} end\b)"
    filled, count = re.subn(pattern, lambda match: match[1] + content + match[2], text, flags=re.DOTALL | re.MULTILINE)
    if count != 1:
        raise UserError(f"there must be one pair of lines `sync: {block} begin` and `sync: {block} end`, not {count}")
    return filled


def fill_notebook(text: str) -> str:
    """The notebook `text` with the cells written that install the library where it is missing."""
    notebook = json.loads(text)
    lines = (
        "import importlib.util\n",
        "\n",
        'if importlib.util.find_spec("aia_lib") is None:  # as on Colab\n',
        f'    %pip install --quiet "aia-book @ git+{repository()[0]}"',
    )
    for cell in notebook["cells"]:
        if cell["metadata"].get("sync") == "install":
            cell["source"] = list(lines)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def derived() -> dict[Path, str]:
    """What each file with derived text should hold, whole."""
    files = {}
    for name, contents in blocks().items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for block, content in contents.items():
            try:
                text = fill(text, block, content)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
        files[ROOT / name] = text
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files[path] = fill_notebook(path.read_text(encoding="utf-8"))
    return files


def picture_source(run: str) -> str | None:
    """What the picture of a run was drawn from, as it says in its own metadata; None while the run is not recorded."""
    path = ledger.results_root() / f"{run}.json"
    return f"drawn from results/{run}.json, sha256 {sha256(path)}" if path.is_file() else None


def draw(picture: Path, run: str, source: str) -> None:
    """Draw a recorded run. The same run gives the same bytes, except with another matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = run
    from aia_lib import plots

    figure = plots.regimes(ledger.load(run))
    with atomic_write(picture) as file:
        figure.savefig(file, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None, "Description": source})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale and exit with status 1")
    parser.add_argument("--checkpoints", type=Path, metavar="RUN", help="the folder of a finished `aia run --data embedded`")
    options = parser.parse_args(arguments)
    if options.checkpoints:
        ship(options.checkpoints)
    check = options.check
    stale = []
    for path, text in derived().items():
        if path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                write_text(path, text)
    for name, run in PICTURES.items():
        source, picture = picture_source(run), ROOT / name
        if source and not (picture.is_file() and source in picture.read_text(encoding="utf-8")):
            stale.append(name)
            if not check:
                draw(picture, run, source)
    shown = sheet_source()
    if described(ROOT / SHEET) != shown:
        stale.append(SHEET)
        if not check:
            draw_sheet(shown)
    shown = card_source()
    if shown and described(ROOT / CARD) != shown:
        stale.append(CARD)
        if not check:
            draw_card(shown)
    for name in stale:
        print(f"{name} is stale: run `make sync`" if check else f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"sync: {error}")
