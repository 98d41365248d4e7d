"""What a user sees in MLflow, in a real browser on a real server."""

from __future__ import annotations

import os
import re
import shutil
import tempfile

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
    yield driver
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


def test_the_link_opens_the_charts_of_the_first_batch(browser, page):
    from selenium.webdriver.common.by import By

    _, link = page
    open_page(browser, link)
    runs = ["ste batch 1", "sr_ste N=1 batch 1", "sr_ste N=2 batch 1", "sr_ste N=3 batch 1"]
    text = text_of(browser, "Which step is better", "baseline/gain", "trial/lr", *runs)
    assert "multirun: samples=1" in text
    assert "5 matching runs" in text
    assert [text.index(run) for run in runs] == sorted(text.index(run) for run in runs)
    curves = browser.find_elements(By.CSS_SELECTOR, ".js-plotly-plot .scatterlayer .trace")
    assert len(curves) >= 4, "the loss against the learning rate of every run"


def test_the_table_of_all_runs(browser, page):
    server, _ = page
    open_page(browser, f"{server}/#/experiments/1/runs?workflowType=machine_learning")
    text = text_of(browser, "9 matching runs", "multirun: samples=1", "sr_ste N=3 batch 2")
    assert "ste batch 2" in text


def test_a_run_s_page(browser, page):
    from selenium.webdriver.common.by import By

    server, _ = page
    open_page(browser, f"{server}/#/experiments/1/runs?workflowType=machine_learning")
    text_of(browser, "sr_ste N=3 batch 2")
    browser.find_element(By.LINK_TEXT, "sr_ste N=3 batch 2").click()
    text_of(browser, "best/post_loss", "baseline/gain", "estimator.quantiser", "StochasticRounding")


def test_the_report_needs_nothing_but_itself(browser, swept, tmp_path):
    """Alone in a folder, as someone would be sent it: all pictures are there, nothing is fetched."""
    shutil.copy(next(swept[0].glob("multirun/*/report.html")), tmp_path / "sent.html")
    open_page(browser, f"file://{tmp_path}/sent.html")
    text = text_of(browser, "In short", "too few for a verdict", "Figures", "Tables", "How to read this")
    assert "sr-STE" in text
    pictures = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt.length])"
    )
    assert len(pictures) >= 4
    assert all(done and width > 200 and words > 20 for done, width, words in pictures)
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
    server, _ = page
    open_page(browser, f"{server}/#/experiments/1/runs/{launch.info.run_id}/artifacts/report.html")
    text_of(browser, "report.html", "results.csv")
