"""The audit: what fresh attackers read off a representation, and what a fresh verifier still recognises.

    report = audit(anonymizer, faces, attribute="gender", seeds=3)
    print(report)

It knows nothing of how the anonymizer was made; what else it may offer is declared on `anonymizers.Anonymizer`. The people of the split
`attack` train the attackers and the verifier, those of `val` make every choice (which attacker is the worst, when training stops,
thresholds, the orientation of a score), those of `test` are read once. Two regimes are reported and never mixed: the *paper regime* (the
adversary and the Siamese network that were trained together with the anonymizer) and the *retrained regime* (all of it trained afresh).

`audit(deep=True)` asks more: bits, more data, other attributes, rebuilt faces, an attacker who knows the defence. `interaction_audit`
attacks several attributes together; `parity_gap` and `group_rates` say what a leak means for decisions and whom a verifier's errors fall
on. `report.compare(other)` gives the differences of two audits with paired intervals, and `report.card()` is a privacy card: what may be
claimed and what not.
"""

from __future__ import annotations

from .audit_report import AuditReport
from .creep import stored
from .deep import DeepConfig
from .fairness import group_rates, parity_gap
from .interaction import interaction_audit
from .protocol import audit, enough_people
from .released import represent

__all__ = [
    "AuditReport",
    "DeepConfig",
    "audit",
    "enough_people",
    "group_rates",
    "interaction_audit",
    "parity_gap",
    "represent",
    "stored",
]
