"""A sweep against the same points one by one, and points trained as one program against points trained by themselves.

*One by one* is what a loop around `aia_lib` does: for each point the three shared stages, the fine-tuning and the audit, one after the
other in one process with all cores. The audits are the sweep's own, so that the ratio is not that of a lighter audit.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
import time

from aia_lib.anonymizers import AIA, Networks
from aia_lib.audit import audit
from aia_lib.config import PROFILES
from aia_lib.datasets import load_faces
from aia_lib.sweep import LocalEngine, SweepConfig, finetune_stack, run_sweep
from aia_lib.sweep.engines import cores
from aia_lib.training import finetune, pick_device

IMAGES = 1500
BETAS = (0.0, 0.5, 1.0)
STACK = 4


def measure(root: str | None, size: int, images: int | None, data: str = "embedded") -> dict:
    """Seconds of a sweep over `BETAS` and of its points one by one, and seconds a point of `finetune_stack` and `finetune`."""
    faces = load_faces(data, root, size=size, limit=images or IMAGES, progress=False)
    profile = dataclasses.replace(PROFILES["fast"], size=size)
    config = SweepConfig(alpha=(0.5,), beta=BETAS, seeds=(0,), profile=profile)
    device, train = pick_device(), faces.split().train

    seconds, found = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = run_sweep(faces, config, folder, engine=LocalEngine(), device=device, progress=False, say=lambda line: None)
        seconds["sweep"] = time.perf_counter() - start
        found["sweep"] = result.settings().set_index("beta")["leak"]
    start = time.perf_counter()
    for beta in BETAS:
        method = AIA(profile, 0, device, alpha=0.5, beta=beta).fit(train, progress=False)
        report = audit(method, faces, seeds=[0], config=config.audit, adversary=method.infer, siamese=method.embed, progress=False)
        found.setdefault("one by one", {})[beta] = report.retrained["leak_auc"]
    seconds["one by one"] = time.perf_counter() - start

    nets = Networks(size, device=device)
    short = dataclasses.replace(profile.finetune, epochs=1)
    configs = [dataclasses.replace(short, beta=index / STACK) for index in range(STACK)]
    stages = profile.adversary, profile.siamese
    a_point: dict[str, float] = {}
    for _ in range(2):  # the second time counts: by then memory is taken and kernels are chosen
        start = time.perf_counter()
        finetune(train, *copy.deepcopy(nets).modules().values(), short, *stages, progress=False)
        a_point["alone"] = time.perf_counter() - start
        start = time.perf_counter()
        finetune_stack(train, nets, configs, *stages, progress=False)
        a_point["in a stack"] = (time.perf_counter() - start) / STACK
    return {
        "images": len(faces),
        "size": size,
        "points": len(BETAS),
        "cores": cores(),
        "device": str(device),
        "sweep_seconds": round(seconds["sweep"], 1),
        "one_by_one_seconds": round(seconds["one by one"], 1),
        "ratio": round(seconds["one by one"] / seconds["sweep"], 2),
        "leak_auc_of_the_sweep": [round(float(found["sweep"][beta]), 4) for beta in BETAS],
        "leak_auc_one_by_one": [round(found["one by one"][beta], 4) for beta in BETAS],
        "stack": STACK,
        "finetuning_seconds_a_point_alone": round(a_point["alone"], 2),
        "finetuning_seconds_a_point_in_a_stack": round(a_point["in a stack"], 2),
        "ratio_of_the_stack": round(a_point["alone"] / a_point["in a stack"], 2),
    }
