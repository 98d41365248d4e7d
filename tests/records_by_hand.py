"""Records of networks made by hand, in memory and on disk, for tests of what reads records."""

import dataclasses

import numpy as np

from srste.store import records
from srste.store.files import checksum
from srste.store.records import Baseline
from srste.store.trial_tables import packed
from srste.study.results import Heldout, Probe
from tests.test_records import trials
from tests.test_report import study

GAIN = {1: 0.05, 2: 0.06, 5: 0.07}


def network(seed, generator, pretraining="none", batches=3):
    """STE, sr-STE that is better on the batch and worse held out, and a control that is like STE."""
    made = []
    identity = {"seed": seed, "pretraining": {"name": pretraining, "_target_": "x.P"}}
    for batch in range(1, batches + 1):
        before, ste = 0.7 + 0.01 * generator.normal(), 0.45 + 0.02 * generator.normal()
        base = study("ste", None, batch, ste, before, 0.2, **identity)
        made.append(with_heldout(base, ste + 0.01))
        for name, gain, heldout in (
            ("sr_ste", GAIN, -0.02),
            ("tilted_ste", dict.fromkeys(GAIN, 0.0), 0.0),
        ):
            for n, better in gain.items():
                noise = 0.004 * generator.normal()
                estimator = {"name": name, "_target_": "x.Y"} | (
                    {"control": True} if name != "sr_ste" else {}
                )
                one = study(
                    name, n, batch, ste - better + noise, before, 0.3, estimator=estimator, **identity
                )
                one = dataclasses.replace(
                    one,
                    baseline=Baseline(base.key, "ste", 0.2, ste),
                    angles={"": 30.0 * n, "0.weight": None},
                    probe=Probe(1e-4, before - 1e-4 * generator.random()),
                )
                made.append(with_heldout(one, ste + 0.01 - heldout + 0.004 * generator.normal()))
    return made


def with_heldout(record, post_loss):
    heldout = Heldout(20_000, 0.71, post_loss, 0.15, post_loss - 0.005, True, 0.38)
    return dataclasses.replace(record, heldout=heldout)


def networks(count):
    """The records of so many networks, from one generator."""
    generator = np.random.default_rng(0)
    return [record for seed in range(count) for record in network(seed, generator)]


def written(folder, made):
    """The records on disk, as a launch leaves them; {key: (folder, record)}."""
    table = packed(trials())
    result = {}
    for i, record in enumerate(made):
        stored = dataclasses.replace(record, table=checksum(table))
        records.write(folder / f"{i}", stored, table)
        result[stored.key] = (folder / f"{i}", stored)
    return result
