"""The experiment's description in MLflow: the metrics, artifacts and tags of its runs."""

EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": (
        "One run a study: one estimator, one number of samples, one batch.\n\n"
        "- `best/pre_loss`, `best/post_loss`: loss before the step and after the best one\n"
        "- `best/lr`, `best/decrease`: its learning rate, and by how much the loss fell\n"
        "- `best/exact_lr`, `best/exact_loss`: of the minimum over all learning rates up to lr_max; "
        "`best/attained`: 0 where it is only approached; `best/exact_error`: no loss is lower by more, "
        "rounding aside; `best/regret`: how far above it the best trial "
        "is, `best/regret_fraction`: as a part of the decrease that can be had\n"
        "- `descent/exists`: 0 where no learning rate lowers the loss, which is certified; "
        "`descent/intervals`, `descent/total`: how many ranges of learning rates do, and their length "
        "together; `descent/first_lo`, `descent/first_hi`: the one of the smallest learning rates, "
        "`descent/smallest_...`, `descent/largest_...`: the shortest and the longest\n"
        "- `baseline/gain`: how much lower than the baseline's (STE's) on the batch; > 0 is better\n"
        "- `trial/...`: the trials, step = number of the trial; all of them in `trials.parquet`\n"
        "- `replay/...`: the same step made by the real float32 model\n"
        "- `heldout/pre_loss`, `heldout/post_loss`: the same step on held-out data; `heldout/best_lr`, "
        "`heldout/best_loss`: the best one there\n"
        "- `zero/loss`: of a zero output; `baseline/angle`: to STE's direction, degrees\n\n"
        "With `tracking.granularity=job` one run holds all batches of an estimator at a sample count: "
        "`mean/...` over them, `batch/...` with the batch as the step, `studies.csv`.\n\n"
        "Tags to filter and group by: `estimator`, `samples`, `batch`, `model`, `loss`, `pretraining`, "
        "`sampling`, `seed`, `kind` (study, job, pretraining, launch), `curve`: exact, or evaluated by "
        "forward passes, without `best/exact_...` and `descent/...`, for the reason in `not_exact`."
    ),
}
