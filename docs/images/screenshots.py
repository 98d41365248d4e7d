"""Screenshots of what a launch shows, by a real browser: python docs/images/screenshots.py [FOLDER]

Runs a launch of seven networks in a temporary folder, serves its MLflow store, and writes mlflow.png,
report.png into FOLDER, by default the folder of this script. Needs the packages of
`pip install .[test]`, Chromium and its driver.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.support import free_port, serving  # noqa: E402
from tests.test_browser import chromium, open_page, text_of  # noqa: E402

LAUNCH = [
    "-m", "estimator=sr_ste,tilted_ste,same_angle", "samples=1,2,3,5", "seed=0,1,...,6", "batches=3",
    "batch_size=256", "sampling.step=1e-3", "heldout=500",
]  # fmt: skip


def main() -> None:
    into = Path(sys.argv[1] if sys.argv[1:] else Path(__file__).parent).resolve()
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        command = [sys.executable, str(ROOT / "train.py"), *LAUNCH]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        port = free_port()
        link = re.search(r"then open (\S+)", done.stdout)[1].replace(":5000", f":{port}")
        browser.set_window_size(1500, 1150)
        with serving(["mlflow", "ui", "--port", str(port), "--workers", "1"], folder, port):
            open_page(browser, link)
            text_of(browser, "Which step is better", "Newest report", "trials/loss after")
            for button in browser.find_elements("css selector", "button[aria-label='Close']"):
                button.click()  # MLflow's Assistant
            time.sleep(5)
            browser.save_screenshot(str(into / "mlflow.png"))
        page = next(folder.glob("multirun/*/report.html"))
        open_page(browser, page.as_uri())
        text_of(browser, "Loss curves")
        time.sleep(3)
        browser.save_screenshot(str(into / "report.png"))


if __name__ == "__main__":
    main()
