"""The tables and figures of book/results.ipynb and of the data card, drawn from the ledger: functions take a recorded run, or its name.

Functions return IPython's Markdown or SVG, which a cell shows. As a program it executes the page and puts the outputs into it, for those
who read it on GitHub; the site executes it anew.

    python tools/results_page.py
"""

from __future__ import annotations

import functools
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import nbformat
from IPython.display import SVG, Markdown

from aia_lib import ledger
from aia_lib.machine.files import UserError, sha256, with_interval, write_text
from aia_lib.report.ledger import markdown_table, percent
from aia_lib.statistics import carried

PAGE = Path(__file__).resolve().parents[1] / "book" / "results.ipynb"


def set_for_print(text: str) -> str:
    """Minus signs in the place of hyphens, and no line break between a number and its unit or within an interval."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", text)
    return re.sub(r"(?<=[\d%]),? (?=%|[−-]?\d+\.\d+(\s%)?\])", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def shown(make: Callable[..., str]) -> Callable[..., Markdown]:
    """`make` as a function that returns what a notebook shows."""
    return functools.wraps(make)(lambda *args, **options: Markdown(set_for_print(make(*args, **options))))


def figure(figures: Mapping, key: str) -> str:
    """A figure with its 95 % interval where it has one."""
    return with_interval(figures[key], figures.get(f"{key}_ci"))


def auc(values: list[float]) -> str:
    """An AUC that is recorded as [value, low, high]."""
    return with_interval(values[0], values[1:])


def share(values: list[float]) -> str:
    """A share that is recorded as [value, low, high]."""
    value, low, high = (percent(number, 1) for number in values)
    return f"{value} [{low}, {high}]"


def recorded_beside(folder: str, name: str) -> dict:
    """What is recorded in results/<folder>/<name>.json.

    Raises:
        UserError: nothing is.
    """
    found = ledger.side_record(folder, name)
    if found is None:
        raise UserError(f"results/{folder}/{name}.json is missing.")
    return found


def benchmark(*names: str) -> tuple[list[dict], str]:
    """The figures of these benchmarks, and the sentence that says how they were made."""
    records = [recorded_beside("benchmarks", name) for name in names]
    commands = ", ".join(dict.fromkeys(f"`{found['provenance']['command']}`" for found in records))
    devices = " and ".join(dict.fromkeys(found["provenance"]["device"] for found in records))
    return [found["figures"] for found in records], f"\nMade by {commands} on {devices}.\n"


# A recorded run -------------------------------------------------------------------------------------------------------


def source(name: str) -> str:
    """What the picture of the run `name` is drawn from, as it says in its own metadata."""
    return f"drawn from results/{name}.json, sha256 {sha256(ledger.results_root() / f'{name}.json')}"


def picture(name: str) -> SVG:
    """Both regimes of the run `name`. The same run gives the same bytes, except with another matplotlib."""
    import matplotlib

    from aia_lib import plots

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawn = plots.regimes(ledger.load(name))
        drawn.savefig(file, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None, "Description": source(name)})
    return SVG(file.getvalue().decode())


@shown
def regimes_table(report: dict, paper: str | None = None, note: bool = True) -> str:
    """Table 1 in both regimes, what its columns mean, and the command that made it."""
    explained = f"{ledger.TABLE_NOTE}\n\n" if note else ""
    return f"{ledger.table(report, paper=paper)}\n{explained}Made by `{report['provenance']['command']}`.\n"


@shown
def facts(name: str) -> str:
    """Faces, people, settings and machine of the run `name`."""
    report = ledger.load(name)
    origin, tuned = report["provenance"], report["settings"]["finetune"]
    data, parts = origin["data"], next(iter(report["methods"].values()))["data"]
    rest = {what: data[what] - sum(parts[f"{part}_{what}"] for part in ("attack", "val", "test")) for what in ("images", "people")}
    split = {"train": (rest["images"], rest["people"])}
    split |= {part: (parts[f"{part}_images"], parts[f"{part}_people"]) for part in ("attack", "val", "test")}
    rows = {
        "Faces": f"{data['images']:,} images of {data['people']:,} people, grey, {data['size']} × {data['size']} pixels",
        "Images (people) of each split": "; ".join(f"{part} {images:,} ({people:,})" for part, (images, people) in split.items()),
        "Private attribute": f"{data['attribute']}, as labelled in the data set",
        "Setting": f"α = {tuned['alpha']}, β = {tuned['beta']}, {tuned['adversary']} adversary, profile `{report['settings']['name']}`",
        "Seeds": ", ".join(map(str, origin["seeds"])),
        "Made": f"{origin['date'][:10]}, in {origin['seconds'] / 60:.0f} minutes on {origin['device']}",
        "With": ", ".join(f"{key} {value}" for key, value in origin["versions"].items() if value),
        "Licence of the faces": data["licence"],
        "Record": f"[results/{name}.json](../results/{name}.json)",
    }
    return markdown_table(["What", "Value"], [list(row) for row in rows.items()], (0, 1))


@shown
def reading(report: dict) -> str:
    """What the two regimes say about each method that has a co-trained adversary, one line each."""
    original, lines = report["methods"]["Original"], []
    for name, method in report["methods"].items():
        if name == "Original" or method["paper"] is None:
            continue
        points = 100 * (method["paper"]["privacy_accuracy"] - original["paper"]["privacy_accuracy"])
        before, after = (which["retrained"]["leak_auc"] for which in (original, method))
        paired = "no paired difference was recorded"
        if leak := report.get("differences", {}).get(name, {}).get("Original", {}).get("leak_auc"):
            before, after = leak["before"], leak["after"]
            paired = f"strongest of all; paired difference {figure(leak, 'change')}, {'' if leak['supported'] else 'not '}supported"
        lines.append(
            f"* **{name}** moves the accuracy of the paper regime's adversary by {points:+.1f} points, and the AUC of the worst fresh "
            f"attacker from {before:.3f} to {after:.3f} ({paired}). "
            f"Leak removed: {percent(ledger.leak_removed(report, name))}. Utility kept: {percent(ledger.utility_kept(report, name))}.\n"
        )
    return "".join(lines)


@shown
def attackers_table(report: dict) -> str:
    """The AUC of every attacker on every method."""
    methods = report["methods"].values()

    def cell(method: dict, attacker: str) -> str:
        value = method["retrained"]["attackers"].get(attacker)
        text = "–" if value is None else f"{value:.3f}"
        return f"**{text}**" if attacker == method["retrained"]["worst_attacker"] else text

    names = dict.fromkeys(attacker for method in methods for attacker in method["retrained"]["attackers"])
    rows = [[f"`{attacker}`", *(cell(method, attacker) for method in methods)] for attacker in names]
    rows.append(["worst, chosen on val", *(figure(method["retrained"], "leak_auc") for method in methods)])
    rows.append(["co-trained adversary", *(f"{method['paper']['privacy_auc']:.3f}" if method["paper"] else "–" for method in methods)])
    return markdown_table(["Attacker", *report["methods"]], rows) + "\nBold: the attacker with the best AUC on val over all seeds.\n"


@shown
def verification(report: dict) -> str:
    """A fresh verifier on every method, against both kinds of impostors."""
    most, parts = report["settings"]["audit"]["pairs"] // 2, []

    def cell(of: dict, rate: str, kind: str) -> str:
        """A record that does not say how many impostor pairs it has had `most` at the most, which carry some rates only."""
        counts = f"impostor_pairs{kind}" in of or carried(float(rate), most)
        return ledger.fnmr(of if counts else {f"impostor_pairs{kind}": most}, rate, kind)

    figures = {name: method["retrained"] for name, method in report["methods"].items()}
    for kind, words in (("_same", "Impostors with the same label as the person"), ("", "Impostors drawn freely")):
        rates = {rate: [cell(of, rate, kind) for of in figures.values()] for rate in ledger.FMRS}
        refused = {rate: cells[0] for rate, cells in rates.items() if cells[0].startswith("not measured") and len(set(cells)) == 1}
        shown = {rate: cells for rate, cells in rates.items() if rate not in refused}
        head = ["Method", "AUC ↑", "Accuracy ↑", "EER ↓", *(f"FNMR at FMR {ledger.FMRS[rate]} ↓" for rate in shown)]
        rows = [
            [name, figure(of, f"utility_auc{kind}"), *(percent(of[key + kind], 1) for key in ("utility_accuracy", "eer")), *errors]
            for (name, of), *errors in zip(figures.items(), *shown.values(), strict=True)
        ]
        left_out = "".join(f"\nFNMR at FMR {ledger.FMRS[rate]} is {why}.\n" for rate, why in refused.items())
        parts.append(f"{words}:\n\n{markdown_table(head, rows)}{left_out}")
    return "\n".join(parts)


CONTROLS = {
    "majority_accuracy": "Always the more frequent label: accuracy",
    "shuffled_labels_auc": "Labels shuffled between people: worst AUC of two attackers",
    "gender_only_verification_accuracy": "“Same label means same person”, free impostors: accuracy",
    "untrained_encoder_auc": "Encoder with random weights: worst AUC of two attackers",
}


@shown
def controls(report: dict) -> str:
    """What there would be to find if there were nothing, or nothing learned."""

    def cell(key: str, value: float | None) -> str:
        return f"{value:.3f}" if value is not None and key.endswith("auc") else percent(value, 1)

    methods = report["methods"].values()
    rows = [[words, *(cell(key, method.get("controls", {}).get(key)) for method in methods)] for key, words in CONTROLS.items()]
    return markdown_table(["Control", *report["methods"]], rows)


@shown
def seeds_table(report: dict) -> str:
    """The figures of each seed by itself."""
    head = ["Method", "Worst attacker", "Seed", "Own adversary: accuracy", "Leak AUC", "Utility AUC, same label"]
    rows = []
    for name, method in report["methods"].items():
        for of in method["seeds"]:
            fresh, own = of["retrained"], (of.get("paper") or {}).get("privacy_accuracy")
            figures = [str(of["seed"]), percent(own, 1), f"{fresh['leak_auc']:.3f}", f"{fresh['utility_auc_same']:.3f}"]
            rows.append([name, f"`{fresh['worst_attacker']}`", *figures])
    return markdown_table(head, rows, (0, 1))


@shown
def stranger(name: str) -> str:
    """The table of a run on a set that nothing was chosen on."""
    report = ledger.load(name)
    origin = report["provenance"]
    faces = f"{origin['data']['images']:,} images of {origin['data']['people']:,} people"
    made = f"Made by `{origin['command']}` (seed {origin['seeds'][0]}): {faces}"
    return f"{ledger.table(report)}\n{made}; every figure is in [results/{name}.json](../results/{name}.json).\n"


# The recommended method -----------------------------------------------------------------------------------------------

SHARES = ["Leak removed ↑", "Utility kept ↑"]


def worth(row: dict) -> list[str]:
    """Leak removed and utility kept; a dash for Original, which they are shares of."""
    return [percent(row.get(key)) for key in ("leak_removed", "utility_kept")]


@shown
def ablation() -> str:
    """What the recommended method leaks and keeps without each of its parts."""
    (figures,), made = benchmark("ablation-celeba")
    rows = [[name, auc(of["leak"]), f"`{of['worst_attacker']}`", auc(of["utility"]), *worth(of)] for name, of in figures["methods"].items()]
    return markdown_table(["Method", "Leak AUC ↓", "Worst attacker", "Utility AUC ↑", *SHARES], rows) + made


@shown
def fewer_people() -> str:
    """The same for all parts, over the number of people that it was fitted on."""
    (figures,), made = benchmark("ablation-celeba")
    rows = [[f"{of['people']:,}", f"{of['images']:,}", auc(of["leak"]), auc(of["utility"]), *worth(of)] for of in figures["fewer_people"]]
    return markdown_table(["People to learn from", "Images", "Leak AUC ↓", "Utility AUC ↑", *SHARES], rows) + made


@shown
def deep(name: str) -> str:
    """What the deep audit `name` found."""
    found = recorded_beside("audits", name)
    origin, leak, of = found["provenance"], found["figures"]["retrained"], found["figures"]["deep"]
    bits, rebuilt, knows, creep = (of[part] for part in ("information", "reconstruction", "adaptive", "creep"))
    others = {name: change for name, change in creep["attributes"].items() if name != creep["private"]}
    easier = [name for name, change in others.items() if change["change_ci"][0] > 0]
    most = max(others, key=lambda name: others[name]["change"])
    points = of["curve"]["points"]
    people = "" if "attack_people" in points[0] else ", those of *val* not counted"  # as they were until the curve counted all labels
    rows = {
        f"The worst of {len(leak['attackers'])} fresh attackers (`{leak['worst_attacker']}`)": f"AUC {figure(leak, 'leak_auc')}",
        f"An attacker who knows the defence (`{knows['worst_attacker']}`)": f"AUC {figure(knows, 'leak_auc')}; "
        f"gain {figure(knows, 'gain')}",
        f"The same attacks with fewer people{people}": ", ".join(f"{at['leak_auc']:.3f} ({at['people']:,})" for at in points),
        "Information on gender, at least": f"{figure(bits, 'information_bits')} of {bits['entropy_bits']:.3f} bits an image",
        "Faces rebuilt from it, recognised among people of the same label": f"AUC {figure(rebuilt, 'match_auc_same')}; "
        f"real against real {rebuilt['real_auc_same']:.3f}",
        "The same faces, beside the mean face": f"PSNR {rebuilt['psnr']:.1f} dB; {rebuilt['mean_face_psnr']:.1f} dB",
        f"Other attributes that became easier to read, of {len(others)}": f"{len(easier)}; most changed `{most}`, "
        f"{figure(others[most], 'change')}",
    }
    made = f"\nMade by `{origin['command']}` on {origin['device']}; {origin['model']}.\n"
    return markdown_table(["Question", "Answer"], [list(row) for row in rows.items()], (0, 1)) + made


@shown
def attributes() -> str:
    """The leak of each attribute, and utility, over what the method was told to hide; bold where it was."""
    (figures,), made = benchmark("attributes-celeba")
    names, rows = figures["attributes"], []
    for method, of in figures["methods"].items():
        leaks = {name: auc(of["attributes"][name]["leak"]) for name in names}
        cells = [f"**{leak}**" if name in of["hidden"] else leak for name, leak in leaks.items()]
        rows.append([method, *cells, auc(of["attributes"][names[0]]["utility_same"])])
    return markdown_table(["Method", *names, "Utility AUC ↑"], rows) + made


@shown
def errors() -> str:
    """False match and false non-match rates in the two groups of the first attribute, at one threshold."""
    (figures,), made = benchmark("attributes-celeba")

    def cell(rates: dict, key: str) -> str:
        return share([rates[key], *rates[f"{key}_ci"]])

    kinds = [(key, group) for key in ("fmr", "fnmr") for group in ("0", "1")]
    head = [f"{key.upper()}, {figures['attributes'][0]} = {group}" for key, group in kinds]
    rows = [[name, *(cell(of["errors"]["rates"][group], key) for key, group in kinds)] for name, of in figures["methods"].items()]
    return markdown_table(["Method", *head], rows) + made


# Templates ------------------------------------------------------------------------------------------------------------


@shown
def front(name: str) -> str:
    """Leak at each level and genuine pairs refused, of templates as they are and protected; bold is the setting chosen on val."""
    (figures,), made = benchmark(name)
    chosen = figures["chosen"]
    rows = {"as they are": figures["stored"], "without a linear trace (LEACE)": figures["leace"]}
    for row in figures["front"]:
        here = all(row[key] == chosen[key] for key in ("components", "amount"))
        words = f"{row['components']} components" + (f", moved by {row['amount']:g}" if row["amount"] < 1 else "")
        rows[f"**{words}**" if here else words] = chosen if here else row
    return _front_table(rows, "Templates") + made


@shown
def front_beyond(name: str) -> str:
    """The chosen setting with fewer people to learn from, for two attributes at once, and for templates of another source."""
    (figures,), made = benchmark(name)
    rows = {f"learned from {row['fitted_on']:,} people": row for row in figures["people"]}
    rows |= {f"two attributes hidden: {attribute}": row for attribute, row in figures.get("second", {}).items()}
    rows |= {f"{row['released']}, learned from {row['learned_from']}": row for row in figures.get("transfer", {}).values()}
    return _front_table(rows, "What was protected, and how") + made


@shown
def rivals(name: str) -> str:
    """Published protections beside ours: leak, verification by a fresh verifier, and the seconds that fitting took."""
    (figures,), made = benchmark(name)
    rows = [
        [method, auc(of["leak"]), auc(of["strongest_leak"]), auc(of["utility"]), share(of["fnmr_at_fmr_1_percent"])]
        + [f"{of['seconds_to_fit']:.0f}"]
        for method, of in figures["methods"].items()
    ]
    head = ["Method", "Leak: one image ↓", "Strongest of all levels ↓", "Utility AUC ↑", "Refused at FMR 1 % ↓", "Seconds to fit"]
    return markdown_table(head, rows) + made


def _front_table(rows: Mapping[str, Mapping], what: str) -> str:
    cells = [
        [
            words,
            *(auc(row[level]) for level in ("image", "pair", "person")),
            share(row["refused_at_1e-2"]),
            percent(row["accepted_on_val"]),
        ]
        for words, row in rows.items()
    ]
    head = [what, "Leak: one image ↓", "two images ↓", "all of a person ↓", "Refused at FMR 1 % ↓", "Accepted by distance, val ↑"]
    return markdown_table(head, cells)


# Sweeps, speed and growth ---------------------------------------------------------------------------------------------


@shown
def sweeps() -> str:
    """The recorded sweeps, a row each."""
    from aia_lib.sweep import recorded

    head = ["Sweep", "Images", "Pixels", "Adversary", "Settings", "Seeds", "Minutes", "Hypervolume: paper", "Retrained"]
    rows = []
    for name, sweep in recorded().items():
        origin, settings = sweep.report["provenance"], sweep.report["settings"]
        row = [f"[{name}](../results/sweeps/{name}/report.json)", f"{origin['data']['images']:,}", str(origin["data"]["size"])]
        row += [settings["finetune"]["adversary"], str(len(sweep.report["methods"]) - 1), str(len(origin["seeds"]))]
        rows.append([*row, f"{origin['seconds'] / 60:.0f}", *(f"{sweep.hypervolume(regime):.3f}" for regime in ("paper", "retrained"))])
    return markdown_table(head, rows)


STAGES = {"adversary": "training the adversary", "siamese": "training the Siamese network", "finetune": "adversarial fine-tuning"}


@shown
def speed() -> str:
    """How many times as quick the library is as what it is measured beside, within one run."""
    (autoencoder, training, loading, sweep), made = benchmark("autoencoder", "training", "loading", "sweep")
    plain, theirs = "plain PyTorch, as from the paper", "torchvision’s CelebA with a `DataLoader`"
    rows = [["training the auto-encoder", plain, autoencoder["size"], autoencoder["ratio"]]]
    for stage, devices in training["stages"].items():
        for device, of in devices.items():
            rows.append([STAGES[stage] + ("" if device == "cpu" else f" ({device})"), plain, training["size"], of["ratio"]])
    rows += [
        [f"reading {loading['images']:,} images from the cache", theirs, loading["size"], loading["ratio_torchvision_to_cached"]],
        ["the same for the first time, which writes the cache", theirs, loading["size"], loading["ratio_torchvision_to_raw"]],
        [f"a sweep of {sweep['points']} points", "separate runs", sweep["size"], sweep["ratio"]],
    ]
    for device, of in sweep["finetuning"].items():
        rows += [[f"fine-tuning {name}, a point ({device})", "each alone", sweep["size"], ratio] for name, ratio in of["ratio"].items()]
    cells = [[what, beside, str(size), f"{ratio:.2f}"] for what, beside, size, ratio in rows]
    return markdown_table(["What", "Beside", "Pixels", "Times as quick"], cells, (0, 1)) + made


@shown
def audits() -> str:
    """Seconds of an audit over N and k; then one with all attackers, and the deep ones."""
    (figures,), made = benchmark("audit")
    rows = [
        [f"{of['images']:,}", f"{of['k']:,}", str(of["attackers"]), questions, f"{of['seconds']:.1f}"]
        for questions, some in (("leak, utility", [*figures["rows"], figures["complete"]]), ("all", figures.get("deep", [])))
        for of in some
    ]
    return markdown_table(["Images", "Numbers in g", "Attackers", "Questions", "Seconds"], rows, (3,)) + made


@shown
def memory() -> str:
    """Peak resident memory of each job over the number of images, in megabytes."""
    (figures,), made = benchmark("memory")
    head, rows = over_images(figures["rows"], lambda of: f"{of['peak_megabytes']:,}")
    return markdown_table(head, list(rows.values())) + made


@shown
def growth() -> str:
    """Seconds of each job over the number of images, and the slope on logarithmic axes."""
    (figures,), made = benchmark("growth")
    head, rows = over_images(figures["rows"], lambda of: f"{of['seconds']:.3g}" if of["seconds"] < 100 else f"{of['seconds']:.0f}")
    slopes = {job: next(iter(of.values())) for job, of in figures["slopes"].items()}
    return markdown_table([*head, "Slope"], [[*row, f"{slopes[job]:.2f}"] for job, row in rows.items()]) + made


JOBS = {
    "nothing": "the imports alone",
    "autoencoder": "auto-encoder, an epoch",
    "adversary": "adversary, an epoch",
    "siamese": "Siamese network, an epoch",
    "finetune": "fine-tuning, an epoch",
}


def over_images(rows: list[dict], cell: Callable[[dict], str]) -> tuple[list[str], dict[str, list[str]]]:
    """The head of a table with a column a number of images, and its rows by job, as measured on the CPU."""
    counts = sorted({of["images"] for of in rows})
    cells = {(of["job"], of["images"]): cell(of) for of in rows if of.get("device", "cpu") == "cpu"}
    jobs = dict.fromkeys(of["job"] for of in rows)
    lines = {job: [JOBS.get(job, job), *(cells.get((job, count), "–") for count in counts)] for job in jobs}
    return ["Job", *(f"{count:,}" for count in counts)], lines


# The data card of the embedded faces ----------------------------------------------------------------------------------


def embedded_facts() -> str:
    """What the set itself is, as a list."""
    from aia_lib.datasets.embedded import SHIPPED, SHIPPED_COMMAND, manifest

    of = manifest()
    size = sum(path.stat().st_size for path in SHIPPED.iterdir()) / 1e6
    return (
        f"* {of['identities']:,} people, {of['images']} images each, {of['size']} × {of['size']} pixels, grey; "
        f"{size:.1f} MB with masks and parameters\n"
        f"* made by `{SHIPPED_COMMAND}`\n"
        f"* SHA-256 of all decoded images: `{of['sha256']['images']}`\n"
    )


READERS = {"cnn": "gender, convolutional network", "logistic": "gender, logistic regression"}
VERIFIERS = {"siamese": "the paper's Siamese network", "lda": "linear discriminant analysis"}
IMPOSTORS = {"free": "free impostors", "same": "impostors with the same label"}


@shown
def difficulty() -> str:
    """How well gender is read off the embedded faces, and how well people are told apart."""
    found = recorded_beside("benchmarks", "difficulty-embedded")
    figures, origin = found["figures"], found["provenance"]
    rows = [[words, auc(figures["attribute_auc"]["all"][reader])] for reader, words in READERS.items()]
    for kind, verifier in VERIFIERS.items():
        of = figures["verification_auc"][kind]
        rows += [[f"verification, {verifier}, {words}", auc(of[impostors])] for impostors, words in IMPOSTORS.items()]
    made = f"Embedded faces: `{origin['command']}`, {origin['date'][:10]}."
    note = f"Measured on people that no reader was trained on, with 95 % intervals over people. {made}\n"
    return f"{markdown_table(['Test AUC', 'Embedded faces'], rows)}\n{note}"


@shown
def regions() -> str:
    """What single regions of the embedded faces give away, each shown alone."""
    figures = recorded_beside("benchmarks", "difficulty-embedded")["figures"]
    of, share = figures["attribute_auc"], figures["share_of_pixels"]
    names = {name: (name, percent(share[name], 1)) for name in sorted(share, key=lambda name: -of[name]["cnn"][0])}
    names |= {name: (f"{name} alone, black and white", "–") for name in sorted(of) if name.endswith(", outline")}
    names = {"all, region_size": ("the whole image", percent(1.0, 1)), **names}
    rows = [[*words, auc(of[name]["cnn"]), auc(of[name]["logistic"])] for name, words in names.items()]
    head = ["Pixels of", "Share of the image", "Convolutional network", "Logistic regression"]
    note = f"AUC of gender at {figures['region_size']} pixels; all that is not the region is grey, so its outline is seen too.\n"
    return f"{markdown_table(head, rows)}\n{note}"


# The page -------------------------------------------------------------------------------------------------------------


def page_outputs(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """What each output shows: its Markdown; of a picture, what it says that it was drawn from."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            drawn = re.search(r"drawn from results/\S+ sha256 \w+", "".join(data.get("image/svg+xml", "")))
            yield data["text/markdown"] if "text/markdown" in data else drawn[0] if drawn else output.output_type


def main() -> int:
    from chapters import execute

    notebook = nbformat.read(PAGE, as_version=4)
    execute(notebook, folder=PAGE.parent)
    write_text(PAGE, nbformat.writes(notebook) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"results_page: {error}")
