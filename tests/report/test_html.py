from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim import api
from neurosim.engine.events import TRACE_DTYPE
from neurosim.errors import DataError
from neurosim.network import Network
from neurosim.report.html import write_report
from neurosim.report.html.timeline import merged
from neurosim.trace import StoredRun, load_run

bokeh = pytest.importorskip("bokeh", reason="the timeline needs bokeh")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[StoredRun]:
    """A recorded run in wavefront and one in free without a trace, of one network."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(5)
    net = Network("small </script> net", steps=2, class_names=["a<b", "c"])
    x = net.lif("first", net.conv2d("conv", net.spikes_input("in", (2, 6, 6)), rng.normal(size=(4, 2, 3, 3)), padding=1))
    net.output(net.linear("head", net.flatten("flat", net.lif("second", net.avg_pool("pool", x, 2), threshold=0.3)), rng.normal(size=(2, 36))))
    events = (rng.random((3, 2, 2, 6, 6)) < 0.4).astype(np.uint8)
    np.savez(folder / "data.npz", events=events, label=np.array([0, 1, 0]))
    made = []
    for sync in ("wavefront", "free"):
        program = api.build(net, "tiny", sync, ["noc.axon_in=2"])
        record = folder / f"{sync}.parquet" if sync == "wavefront" else None
        run = api.simulate(program, folder / "data.npz", engine="reference", record=record)
        made.append(load_run(run.save(folder / sync)))
    return made


def test_the_page_holds_every_section_and_loads_nothing(runs: list[StoredRun], tmp_path: Path) -> None:
    page = write_report(runs[:1], tmp_path / "one.html").read_text("utf-8")
    for title in ("What ran", "Findings", "Floor plan", "Latency", "Energy", "Beside GPUs", "Accuracy", "Timeline", "Tables"):
        assert f"<h2>{title}</h2>" in page
    assert "small &lt;/script&gt; net" in page
    assert "a&lt;b" in page
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # Bokeh's own text names addresses that it never asks
    assert not re.search(r"(src|href|url)\W{0,2}(https?:)?//", markup)
    assert (tmp_path / "one.html").stat().st_size < 5_000_000


def test_the_headings_of_tables_are_printed(runs: list[StoredRun], tmp_path: Path) -> None:
    page = write_report(runs[:1], tmp_path / "one.html").read_text("utf-8")
    (hidden,) = re.findall(r"@media print.*?([^{};]+)\{ display: none", page)
    assert {selector.strip() for selector in hidden.split(",")} == {"#theme", ".copy", ".plot .bk-toolbar"}
    assert re.search(r'<th scope="col"[^>]*><button[^>]*class="sort"', page)


def test_runs_stand_side_by_side(runs: list[StoredRun], tmp_path: Path) -> None:
    page = write_report(runs, tmp_path / "two.html").read_text("utf-8")
    assert "<h2>Side by side</h2>" in page
    assert page.count('class="run"') == 2
    assert "No trace was recorded" in page  # of the second
    with pytest.raises(DataError, match="at least one run directory"):
        write_report([], tmp_path / "none.html")


def test_services_close_together_are_one_bar() -> None:
    rows = np.zeros(5, TRACE_DTYPE)
    rows["server"] = [0, 0, 0, 1, 1]
    rows["time"], rows["end"] = [0, 100, 100_000, 0, 50_000], [90, 190, 100_050, 10, 50_010]
    rows["synops"] = [1, 2, 3, 4, 5]
    rows["blocked"] = [40, 0, 0, 0, 10]
    single = merged(rows, 5)
    assert (single.gap_ps, single.count.tolist()) == (0, [1] * 5)
    four = merged(rows, 4)
    assert four.count.tolist() == [2, 1, 1, 1]
    assert four.start.tolist() == [0, 100_000, 0, 50_000]
    assert four.end.tolist() == [190, 100_050, 10, 50_010]
    assert four.busy.tolist() == [140, 50, 10, 0]  # a wait for room is no work
    assert four.blocked.tolist() == [40, 0, 0, 10]
    assert four.synops.tolist() == [3, 3, 4, 5]
    assert merged(rows, 1).count.tolist() == [3, 2]  # no fewer than servers


@pytest.fixture
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"):
        options.add_argument(argument)
    options.add_argument("--window-size=1280,1600")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    from selenium.webdriver.chrome.service import Service

    window = selenium.Chrome(options=options, service=Service(driver))
    yield window
    window.quit()


@pytest.mark.slow
def test_a_browser_shows_it_without_errors_or_requests(runs: list[StoredRun], browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get(write_report(runs, tmp_path / "page.html").as_uri())
    browser.implicitly_wait(5)
    assert browser.find_elements(By.CSS_SELECTOR, ".bk-Figure")  # the timeline is drawn
    tiles = browser.find_elements(By.CSS_SELECTOR, "details[open] .tile")
    panel = browser.find_element(By.ID, "panel-0")
    tiles[0].click()
    assert panel.text.startswith(f"core {tiles[0].get_attribute('data-core').split('-')[1]} (kept")
    assert "energy per sample" in panel.text
    first = browser.find_element(By.CSS_SELECTOR, "details[open] table tr.pinned")
    assert first.text.split()[0] == tiles[0].get_attribute("data-core").split("-")[1]
    tiles[0].send_keys(Keys.ENTER)  # lets go
    tiles[0].send_keys(Keys.ARROW_RIGHT)
    moved = browser.switch_to.active_element
    assert moved.get_attribute("data-core") != tiles[0].get_attribute("data-core")
    assert panel.text.startswith(f"core {moved.get_attribute('data-core').split('-')[1]}")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = "return [...document.querySelectorAll(arguments[0])].map((e) => getComputedStyle(e).display !== 'none')"
    printed = {kind: set(browser.execute_script(shown, kind)) for kind in (".sort", ".copy")}
    assert printed == {".sort": {True}, ".copy": {False}}  # the headings of tables are buttons
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.find_element(By.ID, "theme").click()
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != ground
    heads = browser.find_elements(By.CSS_SELECTOR, "details[open] .sort")
    heads[-1].click()
    assert heads[-1].find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
