"""Audit MyMethod: all questions, compared with Original, and a privacy card.

python audit_my_method.py              as long as it takes, three seeds
python audit_my_method.py --quick      one seed, few steps: to see that everything works
"""

import argparse
import dataclasses
import json
from pathlib import Path

from my_method import FACES, MyMethod, Original
from sklearn.ensemble import ExtraTreesClassifier

from aia_lib import DeepConfig, audit, get_profile, load_faces
from aia_lib.attackers import ATTACKERS

parser = argparse.ArgumentParser()
parser.add_argument("--quick", action="store_true")
quick = parser.parse_args().quick

faces = load_faces(**FACES)
config, deep, seeds = get_profile("book").audit, DeepConfig(), 3
if quick:
    config = dataclasses.replace(config, attackers=("logistic", "mlp"), epochs=2, min_steps=30, pairs=600, bootstrap=200)
    deep, seeds = dataclasses.replace(deep, decoder_steps=10, shares=(0.25, 0.5, 1.0)), 1

# An attacker of your own beside those of the audit: the strongest you can think of, for somebody else will think of it.
attackers = {name: name for name in config.attackers or ATTACKERS} | {"trees": ExtraTreesClassifier(200)}

original = Original()
before = audit(original, faces, seeds=seeds, config=config, attackers=attackers)
report = audit(MyMethod(faces=faces), faces, seeds=seeds, config=config, attackers=attackers, original=original, deep=deep)
print(report)

card = report.card(original=before, description="What my method does, in a sentence.", contact="me@example.org")
card.save("card.html")
Path("audit.json").write_text(json.dumps(report.to_dict(), indent=1))
print("\nWith Original beside it: card.html, and the figures in audit.json")
