"""Which jobs of a launch are still to run."""

from collections.abc import Collection, Sequence
from pathlib import Path

from srste.launch.progress import reporter
from srste.note2021.log import NOTE_LOG
from srste.store.manifest import Contents
from srste.store.pretraining_file import read_pretraining


def unfinished(
    root: Path, contents: Contents, stored: Collection[str], numbers: Sequence[int]
) -> list[int]:
    """Return the jobs that lack the record of a study, their log or the file of their pretraining;
    stored records are reported as reused.

    Args: stored: the keys of the studies with a sound record. numbers: of the jobs in question.
    """
    there = frozenset(stored)
    pretrained = {key for key in contents.pretrainings if read_pretraining(root, key) is not None}
    jobs = []
    for number in numbers:
        job = contents.jobs[number]
        for key in there.intersection(job.studies):
            reporter().study_done(key, reused=True)
        complete = there.issuperset(job.studies) and (root / job.folder / NOTE_LOG).exists()
        if not complete or (job.pretraining and job.pretraining not in pretrained):
            jobs.append(number)
            if job.pretraining:
                pretrained.add(job.pretraining)  # by the first such job
    return jobs
