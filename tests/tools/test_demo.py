"""The page, as a user sees it: in a browser."""

import base64
import json
import os
import re
import shutil
import socket
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from PIL import Image
from skimage import data

TOOL = Path(__file__).parents[2] / "tools" / "demo.py"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """The folder below which the page keeps its files while it runs."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def page(tiny_checkpoint, temporary):
    """The address of a running page, which leaves no file behind when it ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--device", "cpu", "--port", port, "--working-size", 64]
    options += ["--max-megapixels", 0.1, "--max-megabytes", 1]
    run = Forked(TOOL, tiny_checkpoint, *options, TMPDIR=str(temporary))
    try:
        wait(lambda: run.stdout.endswith("\n") or not run.process.is_alive())
        address = f"http://127.0.0.1:{port}/"
        assert run.stdout == f"The page is at {address} (end with Ctrl-C).\n"
        yield address
    finally:
        run.process.terminate()
        run.process.join(30)
    assert not list(temporary.glob("spynco_demo_*"))


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        missing = "chromium and chromedriver are needed: apt-get install chromium chromium-driver"
        # Where the project is checked, the page has to be.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    options.page_load_strategy = "eager"
    for argument in (
        "--headless=new",
        "--window-size=1280,900",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


def wait(found, seconds=60):
    """What a function finds once it finds something."""
    for _ in range(seconds * 10):
        result = found()
        if result:
            return result
        time.sleep(0.1)
    raise AssertionError(f"nothing after {seconds} s")


def drop(browser, page, path):
    """Open the page and drop a file on it, with the browser's own drag and drop event."""
    browser.get(page)
    zone = wait(lambda: browser.find_elements("css selector", "#upload button"))[0]
    browser.execute_script(
        """
        const [zone, name, data] = arguments;
        const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, {type: 'image/png'}));
        zone.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true}));
        """,
        zone,
        path.name,
        base64.b64encode(path.read_bytes()).decode(),
    )


def pictures(browser):
    """Titles of the pictures shown that have been decoded."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.spynco figure img')]"
        ".filter(i => i.complete && i.naturalWidth).map(i => i.alt)"
    )


def test_a_dropped_picture_comes_out_in_colour(browser, page, temporary, tmp_path):
    photo = data.chelsea()[:200, :300]
    Image.fromarray(photo).save(tmp_path / "cat.png")
    drop(browser, page, tmp_path / "cat.png")
    titles = wait(lambda: pictures(browser))
    assert list(temporary.glob("spynco_demo_*/*"))  # or the end of the page proves nothing
    assert titles == ["grey", "G₃", "G₂", "G₁", "real"]

    # The slider uncovers the colour.
    slider = browser.find_element("css selector", ".spynco input[type=range]")
    after = browser.find_element("css selector", ".spynco .after")
    for value in ("20", "90"):
        browser.execute_script(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            slider,
            value,
        )
        assert after.value_of_css_property("clip-path") == f"inset(0px 0px 0px {value}%)"
    figures = browser.find_elements("css selector", ".spynco figure img")
    assert after.get_attribute("src") == figures[3].get_attribute("src")
    figures[4].click()
    assert after.get_attribute("src") == figures[4].get_attribute("src")

    # Every output can be downloaded, at full size.
    links = browser.find_elements("css selector", "#download a[download]")
    assert [link.get_attribute("download") for link in links] == [
        "cat.G1.png",
        "cat.G2.png",
        "cat.G3.png",
    ]
    # Their names can be read whole: nothing is cut off.
    names = browser.find_elements("css selector", "#download .stem")
    assert [name.text for name in names] == ["cat.G1", "cat.G2", "cat.G3"]
    assert all(
        browser.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", name)
        for name in names
    )
    with urllib.request.urlopen(links[0].get_attribute("href")) as answer:
        result = np.asarray(Image.open(answer)).astype(float)
    weights = np.array([0.299, 0.587, 0.114])
    assert result.shape == photo.shape
    assert abs(result @ weights - photo @ weights).max() <= 0.51
    assert (result.max(2) - result.min(2)).mean() > 3

    # A click says which colour is where; by default a red, here in the middle.
    source = figures[3].get_attribute("src")
    browser.find_element("css selector", "#hints img").click()
    # Each is asked for in one call, since the page may replace an element between two.
    look = "return document.querySelector('.spynco figure:nth-child(4) img')?.src"
    wait(lambda: browser.execute_script(look) not in (None, source))
    link = browser.execute_script("return document.querySelector('#download a[download]').href")
    with urllib.request.urlopen(link) as answer:
        red, green, blue = np.asarray(Image.open(answer))[100, 150].astype(float)
    assert red > green + 20 and abs(green - blue) < 3

    # Nothing was fetched from elsewhere: what gradio's page asks for is blocked.
    asked, blocked = {}, set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        parameters = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            asked[parameters["requestId"]] = parameters["request"]["url"]
        elif parameters.get("blockedReason") == "csp":
            blocked.add(parameters["requestId"])
    fetched = [url for request, url in asked.items() if request not in blocked]
    assert any(url.startswith(page) for url in fetched)
    assert all(re.match(f"{page}|data:|blob:", url) for url in fetched), fetched


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "text.png",
            "text.png: this is not a picture of a kind that is read, or is damaged; save it as "
            "PNG, or remove it.",
        ),
        ("cut.png", "cut.png: the picture cannot be decoded"),
        ("large.png", "400×300 pixels are more than the 0.1 million that are taken here."),
        ("heavy.png", "exceeds the maximum allowed size"),
    ],
)
def test_what_is_refused_says_why(browser, page, tmp_path, name, message):
    path = tmp_path / name
    Image.fromarray(data.camera()[:300, :400]).save(path)
    if name == "text.png":
        path.write_text("hello")
    elif name == "cut.png":
        Image.fromarray(data.camera()[:200, :300]).save(path)
        path.write_bytes(path.read_bytes()[:9000])
    elif name == "heavy.png":
        path.write_bytes(path.read_bytes() + bytes(1 << 20))
    drop(browser, page, path)
    toast = wait(lambda: browser.find_elements("css selector", ".toast-body"))[0]
    wait(lambda: message in toast.text)
    assert not pictures(browser)


def test_only_this_computer_reaches_it(page):
    """The port is not bound at the machine's other addresses."""
    port = int(page.rsplit(":", 1)[1].strip("/"))
    listening = [
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"  # listening
    ]
    mine = [address for address in listening if int(address.split(":")[1], 16) == port]
    assert mine == [f"0100007F:{port:04X}"]
