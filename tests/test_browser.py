"""What a user sees in MLflow, in a real browser on a real server."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import contextmanager

import pytest

from tests.support import free_port, serving, train

pytestmark = pytest.mark.browser
CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"


@pytest.fixture(scope="module")
def browser():
    missing = [path for path in (CHROMIUM, DRIVER) if not shutil.which(path)]
    if missing:
        reason = f"no {' and no '.join(missing)} (Debian packages chromium and chromium-driver)"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium() as driver:
        yield driver


@contextmanager
def chromium():
    """A browser without a screen, which asks nothing of the network by itself."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tempfile.mkdtemp()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1500,1100",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.implicitly_wait(0)
    try:
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(folder, what was printed) of a small sweep."""
    folder = tmp_path_factory.mktemp("browser")
    done = train(folder, "-m", "samples=1,2,3", "batches=2", "batch_size=64", "sampling.step=1e-3")
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def page(swept):
    """(address of the server, link that the sweep printed)."""
    folder, done = swept
    link = re.search(r"then open (\S+)", done.stdout)[1]
    port = free_port()
    with serving(["mlflow", "ui", "--port", str(port), "--workers", "1"], folder, port):
        yield f"http://127.0.0.1:{port}", link.replace("127.0.0.1:5000", f"127.0.0.1:{port}")


def open_page(browser, address):
    """Loads it anew; a change behind the # alone would not."""
    browser.get("about:blank")
    browser.get(address)


def text_of(browser, *wanted, seconds=60):
    """The page's text once it holds all that is wanted."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def all_there(driver):
        text = driver.find_element(By.TAG_NAME, "body").text
        return text if all(word in text for word in wanted) else False

    return WebDriverWait(browser, seconds).until(all_there, message=f"never saw all of {wanted}")


def charts_of(browser):
    """The charts that the page shows: of each the number of its lines, their colours, and the title
    of its horizontal axis. What shines through is MLflow's: each line once more, before smoothing."""
    script = """
      const solid = t => [t.line && t.line.color, t.marker && t.marker.color]
        .find(c => typeof c == 'string' && c.length == 7);
      return [...document.querySelectorAll('.js-plotly-plot')].map(plot => {
        const lines = plot.data.filter(t => (t.y || []).length && solid(t));
        const axis = plot.layout.xaxis && plot.layout.xaxis.title;
        return [lines.length, [...new Set(lines.map(solid))], axis && axis.text];
      })"""
    return browser.execute_script(script)


def follow(browser, text):
    """Clicks on a link, and turns to the tab that it opens."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    before = set(browser.window_handles)
    browser.find_element(By.LINK_TEXT, text).click()
    WebDriverWait(browser, 10).until(lambda b: set(b.window_handles) - before)
    (new,) = set(browser.window_handles) - before
    browser.switch_to.window(new)


def test_the_printed_link_answers(browser, page):
    """Without a click: which estimator is better, and at which N."""
    from selenium.webdriver.support.ui import WebDriverWait

    _, link = page
    open_page(browser, link)
    runs = ["STE", "sr-STE", "ste batch 1", "sr_ste N="]
    titles = ["gain over STE", "held-out gain over", "loss after the best", "trials/loss after"]
    text = text_of(browser, "Which step is better", "Newest report", *titles, *runs)
    assert "the loss after sr-STE's best step is" in text.replace("The loss", "the loss")
    assert "5 matching runs" in text
    WebDriverWait(browser, 60).until(lambda b: sum(lines > 0 for lines, _, _ in charts_of(b)) >= 4)
    charts = charts_of(browser)
    assert [x for _, _, x in charts][:3] == ["N", "N", "N"]
    lines, colours, _ = charts[0]
    assert lines == 2
    assert len(colours) == 2 and "#000000" in colours


def test_one_click_leads_to_the_report(browser, page):
    _, link = page
    open_page(browser, link)
    text_of(browser, "Newest report")
    follow(browser, "Newest report")
    text_of(browser, "report.html", "results.csv")
    assert browser.current_url.endswith("/artifacts/report.html")


def test_the_list_of_runs_has_estimators_and_launches_with_their_studies_folded(browser, page):
    server, _ = page
    open_page(browser, f"{server}/#/experiments/1/runs?workflowType=machine_learning")
    text = text_of(browser, "multirun: samp", "sr-STE")
    assert "batch 2" not in text


def test_a_study_s_page(browser, page, swept):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{swept[0]}/mlflow.db")
    runs = {r.info.run_name: r for r in client.search_runs(["1"])}
    server, _ = page
    of = runs["sr_ste N=3 batch 2"].info.run_id
    open_page(browser, f"{server}/#/experiments/1/runs/{of}?workflowType=machine_learning")
    text = text_of(browser, "loss after the best step", "gain over the baseline", "StochasticRounding")
    assert "version.torch" not in text
    follow(browser, "The baseline on the same batch")
    text_of(browser, "ste batch 2")


def test_the_report_needs_nothing_but_itself(browser, swept, tmp_path):
    """Alone in a folder, as someone would be sent it: all pictures are there, nothing is fetched."""
    shutil.copy(next(swept[0].glob("multirun/*/report.html")), tmp_path / "sent.html")
    open_page(browser, f"file://{tmp_path}/sent.html")
    text = text_of(
        browser,
        "gives no test; this command gives one",
        "More figures",
        "Loss curves",
        "How to read this",
    )
    assert "sr-STE" in text
    pictures = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt.length])"
    )
    assert len(pictures) >= 3
    assert all(done and width > 200 and words > 20 for done, width, words in pictures)
    (chart,) = charts_of(browser)
    assert chart[0] >= 2 and chart[2] == "learning rate"
    assert (
        browser.execute_script("return document.querySelectorAll('#curves-controls select').length") == 4
    )
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    # No line is wider than the page: tables that are scroll by themselves.
    assert browser.execute_script("return document.body.scrollWidth <= window.innerWidth")


def test_the_report_in_mlflow(browser, page, swept):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{swept[0]}/mlflow.db")
    (launch,) = [r for r in client.search_runs(["1"]) if r.data.tags["kind"] == "launch"]
    names = {a.path for a in client.list_artifacts(launch.info.run_id)}
    assert {"report.html", "report", "results.csv", "figure.png"} <= names
    inside = {a.path for a in client.list_artifacts(launch.info.run_id, "report")}
    assert {"report/networks.png", "report/networks.svg", "report/verdicts.csv"} <= inside
    assert "report/verdicts.json" in inside
    server, _ = page
    open_page(browser, f"{server}/#/experiments/1/runs/{launch.info.run_id}/artifacts/report.html")
    text_of(browser, "report.html", "results.csv")
