"""A profile with which everything is done and nothing is learned: for the tests of what is around the trainings."""

from __future__ import annotations

from aia_lib.config import AdversaryConfig, AuditConfig, AutoencoderConfig, FinetuneConfig, Profile, SiameseConfig

TINY = Profile(
    name="fast",
    size=16,
    autoencoder=AutoencoderConfig(epochs=1),
    adversary=AdversaryConfig(epochs=1),
    siamese=SiameseConfig(epochs=1),
    finetune=FinetuneConfig(epochs=1, batch_size=16),
    audit=AuditConfig(attackers=("logistic",), epochs=1, min_steps=5, pairs=200, impostor_pairs=3000, bootstrap=50, controls=False),
)
"""A run takes seconds. Named as the profile that it stands in for."""
