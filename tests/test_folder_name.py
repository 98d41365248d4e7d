"""The folder of a launch, named by what determines its results, and a study's key."""

from __future__ import annotations

from hydra import compose, initialize_config_dir

from srste.launch import preflight
from srste.launch.command_line import read
from srste.launch.folders import folder_name, register_resolvers
from srste.launch.job_config import Job
from srste.launch.job_values import job_values
from tests.support import CONF


class TestFolderName:
    def name(self, *typed):
        return folder_name(read(typed, CONF).result_settings)

    def test_readable_and_the_same_for_the_same_result(self):
        name = self.name("estimator=sr_ste", "samples=1,2,...,10")
        assert name.startswith("estimator=sr_ste_samples=1,2,...,10_")
        for same in (
            ("samples=1,2,...,10", "estimator=sr_ste"),
            ("estimator=sr_ste", "samples=1,2,3,4,5,6,7,8,9,10"),
            ("estimator=sr_ste", "samples=1,2,...,10", "tracking=none", "resume=false"),
            ("estimator=sr_ste", "samples=1,2,...,10", "hydra.verbose=true", "cache=/tmp/x"),
        ):
            assert self.name(*same) == name

    def test_another_one_for_another_result(self):
        names = {self.name(*t)[-8:] for t in ((), ("samples=1",), ("samples=2",), ("seed=1",),
                                                ("--config-name=other",))}  # fmt: skip
        assert len(names) == 5

    def test_never_a_path(self):
        assert "/" not in self.name("data.x=../../etc/passwd")


def test_the_key_covers_what_determines_the_result_and_nothing_else():
    def key(*overrides):
        register_resolvers()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            job = Job(job_values(compose("config", list(overrides))))
        identity = job.study_identity(1, job.config["estimator"], job.estimator.stochastic)
        return preflight.key_of(identity)

    same = key()
    for irrelevant in ("batches=3", "tracking=none", "cache=x", "resume=false", "tracking.uri=x"):
        assert key(irrelevant) == same, irrelevant
    relevant = [
        "samples=2",
        "seed=1",
        "batch_size=7",
        "model.width=8",
        "model.bias=true",
        "data=relu_teacher",
        "pretraining=adam",
        "sampling=tpe",
        "sampling.step=1e-4",
        "estimator=ste",
        "estimator.draws=independent",
        "estimator/surrogate=tanh",
        "estimator/normalisation=row",
    ]
    assert len({key(r) for r in relevant} | {same}) == len(relevant) + 1
    assert key("estimator=ste", "samples=5") == key("estimator=ste")
