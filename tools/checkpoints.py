"""Write aia_lib/checkpoints, what `load_pretrained` loads: the methods of a run's first seed as float16, and how they were made.

python tools/checkpoints.py RUN      the folder of a finished run on the embedded faces
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aia_lib import ledger
from aia_lib.audit import AuditReport
from aia_lib.machine.files import UserError, write_json
from aia_lib.run import FOLDERS
from aia_lib.saving import PRETRAINED, load_anonymizer

CHECKPOINTS = Path(__file__).resolve().parents[1] / "aia_lib" / "checkpoints"


def ship(run: Path) -> None:
    """Write the checkpoints and their manifest from the folder of a run.

    Raises:
        UserError: the folder holds no report, or one of other faces than the embedded ones.
    """
    report = ledger.read(run / "report.json")
    origin = report["provenance"]
    if origin["data"]["source"] != "embedded":
        raise UserError(f"The run in {run} is on {origin['data']['source']!r}; what ships is trained on the embedded faces.")
    seed, methods = origin["seeds"][0], {}
    for name in PRETRAINED:
        method = {"original": "Original", "aia": "AIA"}[name]
        source, folder = run / f"seed-{seed}", CHECKPOINTS / name
        load_anonymizer(source / FOLDERS[method]).save(folder, half=True)
        index = json.loads((folder / "anonymizer.json").read_text(encoding="utf-8"))
        audited = AuditReport.load(source / f"audit-{FOLDERS[method]}.npz").to_dict()
        methods[name] = {"file": f"{name}/{index['file']}", "sha256": index["sha256"], "paper": audited["paper"]}
        methods[name]["leak_auc"] = audited["retrained"]["leak_auc"]
    manifest = {"provenance": {**report["provenance"], "seeds": [seed]}, "settings": report["settings"], "methods": methods}
    write_json(CHECKPOINTS / "manifest.json", manifest)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="checkpoints.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished `aia run --data embedded`")
    ship(parser.parse_args(arguments).run)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"checkpoints: {error}")
