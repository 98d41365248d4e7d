"""The experiment's description in MLflow: the newest answer, and where to look."""

DESCRIPTION = (
    "No launch has finished yet. Runs of `kind` launch are launches, with their studies below them; "
    "those of `kind` summary are estimators, with their gains against the number of samples N."
)

EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": DESCRIPTION,
}


def described(headline: str, run_link: str, view_link: str, has_report: bool) -> str:
    """Return the description once a launch has finished: three lines, of which the UI shows the first
    unless asked for more.

    Args: headline: the launch's answer. run_link, view_link: to its run and to its charts. has_report:
        whether the run has a report.
    """
    report = f"[Newest report]({run_link}/artifacts/report.html)"
    return (
        f"{report if has_report else f'[Newest launch]({run_link})'}: **{headline}**\n\n"
        f"[Charts of the newest launch]({view_link}) · [its run]({run_link}) · other launches: filter "
        "by `tags.kind = 'launch'`; a launch's description has its answer and links, its studies are "
        "below it.\n\n"
        "Compare estimators by the runs of `kind` summary: grouping studies by a tag averages only the "
        "first hundred runs that the page has loaded."
    )
