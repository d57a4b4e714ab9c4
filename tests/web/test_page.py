"""The page in headless Chromium, driven by Playwright.

The tests are skipped where no Chromium is installed.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fgseg
from fgseg.datasets.scenes import open_scenes
from fgseg.evaluation.html_report import write_pictures
from fgseg.evaluation.runner import run_task
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.evaluation.tasks.settings import settings_for
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image
from fgseg.images.writing import write_image

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT = 120_000  # milliseconds; long enough for a busy machine
browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(browser_path is None, reason=f"no browser found: none of {', '.join(BROWSERS)}")


@pytest.fixture(scope="module")
def address():
    """The address of a server with small limits, so that tests can exceed them."""
    command = [sys.executable, "-m", "fgseg", "serve", "--port", "0", "--model", "mini"]
    command += ["--max-megabytes", "1", "--max-megapixels", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser_path, headless=True, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the page; afterwards checks that nothing was loaded from elsewhere and that no script failed."""
    requested, failed, contexts = [], [], []

    def opened(width=1280, height=900):
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        page = context.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda line: failed.append(line.text) if line.type == "error" else None)
        page.goto(address)
        page.locator(".fg-choose").first.wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [url for url in requested if not url.startswith((f"{address}/", "data:", "blob:"))] == []
    # Chromium reports a refused image in its console; this is expected.
    assert [text for text in failed if "status of 400" not in text] == []


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A red square on blue, 80 x 120 pixels."""
    image = np.empty((80, 120, 3), np.uint8)
    image[:] = (30, 60, 200)
    image[20:60, 20:60] = (200, 30, 30)
    path = tmp_path_factory.mktemp("pictures") / "square.png"
    write_image(path, image)
    return path


def upload(page, path):
    page.locator(".fg-file").set_input_files(path)
    page.locator(".fg-name", has_text=path.name).wait_for()


def run(page, prompts):
    page.fill("#fg-prompts textarea", prompts)
    page.click("#fg-run")
    page.locator(".fg-layer", has_text=prompts.split("\n")[-1].split(",")[0]).wait_for()


def source(page):
    return page.get_attribute(".fg-picture", "src")


def point(page, x, y):
    box = page.locator(".fg-canvas").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def numbers(page):
    """Scores by prompt, as the legend shows them."""
    rows = page.locator(".fg-layer:has(.fg-number)").all()
    return {row.locator(".fg-word").inner_text(): row.locator(".fg-number").inner_text() for row in rows}


def test_upload_prompt_overlay_point_box_heatmap_and_downloads(open_page, photo, tmp_path):
    page = open_page()
    assert page.locator(".fg-welcome").is_visible()
    upload(page, photo)
    bare = source(page)
    run(page, "red\nblue")
    assert source(page) != bare
    assert re.search(r"2 of 2 prompts found.*Encoding the image: \d+ ms", page.inner_text("#fg-note"))
    assert "px" in page.inner_text("#fg-regions")

    page.mouse.click(*point(page, 0.33, 0.5))
    page.locator(".fg-number").first.wait_for()
    at_red = numbers(page)
    assert float(at_red["red"]) > 0.5 > float(at_red["blue"])
    assert re.search(r"at 39, \d+", page.inner_text(".fg-legend p"))
    assert page.locator(".fg-cross").count() == 1

    page.mouse.move(*point(page, 0.7, 0.1))
    page.mouse.down()
    page.mouse.move(*point(page, 0.8, 0.5), steps=3)
    page.mouse.move(*point(page, 0.95, 0.9), steps=3)
    page.mouse.up()
    page.locator(".fg-legend p", has_text=re.compile(r"from 8[34], \d+ to 11[34], ")).wait_for()
    assert page.locator(".fg-frame").is_visible()
    in_blue = numbers(page)
    assert float(in_blue["blue"].split()[0]) > 0.5 > float(in_blue["red"].split()[0])
    assert "peak" in in_blue["blue"]

    masks = source(page)
    page.locator(".fg-layer", has_text="red").click()
    page.locator(".fg-layer[aria-pressed=true]", has_text="red").wait_for()
    assert source(page) != masks
    assert page.locator(".fg-ramp").is_visible()

    page.fill("#fg-prompts textarea", "purple")
    page.click("#fg-run")
    page.locator("#fg-note", has_text="kept from before, 0 ms").wait_for()
    run(page, "red\nblue")

    files = {}
    for name in ("labels.png", "overlay.png", "coco.json"):
        with page.expect_download() as download:
            page.click(f".fg-link[download='{name}']")
        files[name] = tmp_path / name
        download.value.save_as(files[name])
    expected = fgseg.load("mini").segment(str(photo), ["red", "blue"])
    # Another process: the last bit of a score may differ.
    assert (read_label_png(files["labels.png"]) == expected.labels).mean() > 0.999
    assert read_image(files["overlay.png"]).shape == expected.overlay().shape
    document = json.loads(files["coco.json"].read_text(encoding="utf-8"))
    assert [category["name"] for category in document["categories"]] == ["red", "blue"]


def test_a_click_segments_an_example_and_changed_options_segment_it_again(open_page):
    page = open_page()
    page.click("[data-name='coffee.png']")
    page.locator(".fg-link").first.wait_for()
    assert page.input_value("#fg-prompts textarea") == "red\nwhite\nbrown, tan"
    for change in (
        lambda: page.get_by_label("Masks may overlap").check(),
        lambda: page.get_by_label("number input for Opacity").fill("0.9"),
        lambda: page.get_by_label("number input for Threshold").fill("0.9"),
    ):
        before = source(page)
        change()
        page.keyboard.press("Tab")
        page.wait_for_function("before => document.querySelector('.fg-picture').src !== before", arg=before)


def test_an_image_can_be_pasted_and_dropped(open_page, photo):
    page = open_page()
    script = """([event, bytes, name]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, { type: 'image/png' }));
        document.dispatchEvent(event === 'drop' ? new DragEvent('drop', { dataTransfer: data, bubbles: true })
            : new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
    }"""
    for event in ("paste", "drop"):
        page.evaluate(script, [event, list(photo.read_bytes()), f"{event}.png"])
        page.locator(".fg-name", has_text=f"{event}.png").wait_for()


def test_errors_stay_on_the_page_until_the_next_request(open_page, photo, tmp_path):
    page = open_page()
    error = page.locator("[role=alert]")
    page.click("#fg-run")
    error.filter(has_text="drop one, paste one, or choose an example").wait_for()

    text = tmp_path / "notes.txt"
    text.write_text("hello")
    page.locator(".fg-file").set_input_files(text)
    error.filter(has_text="not an image that can be read").wait_for()

    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(bytes(1_200_000))
    page.locator(".fg-file").set_input_files(heavy)
    error.filter(has_text="This file has 1.2 MB. At most 1 MB").wait_for()

    wide = tmp_path / "wide.png"
    write_image(wide, np.zeros((1001, 1000, 3), np.uint8))
    page.locator(".fg-file").set_input_files(wide)
    error.filter(has_text="over the limit of 1").wait_for()

    upload(page, photo)
    for prompts, message in (("xyzzy", "never seen the word"), ("\n".join(["red"] * 33), "at most 32, got 33")):
        page.fill("#fg-prompts textarea", prompts)
        page.click("#fg-run")
        error.filter(has_text=message).wait_for()
    shown = page.inner_text("body")
    assert "Traceback" not in shown
    assert str(ROOT) not in shown
    run(page, "red")
    assert error.count() == 0


def test_a_narrow_screen_scrolls_only_vertically_and_shows_the_result(open_page, photo):
    page = open_page(width=390, height=800)
    upload(page, photo)
    page.locator("#fg-run").scroll_into_view_if_needed()
    run(page, "red\nblue")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.wait_for_function("document.querySelector('.fg-canvas').getBoundingClientRect().bottom > 0")
    box = page.locator(".fg-canvas").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_the_page_can_be_used_with_the_keyboard_alone(open_page):
    page = open_page()

    def tab_to(selector):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"the Tab key never reaches {selector}")

    tab_to("[data-name='astronaut.png']")
    page.keyboard.press("Enter")
    page.locator(".fg-link").first.wait_for()
    tab_to("#fg-prompts textarea")
    page.keyboard.press("Control+a")
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    page.keyboard.type("blue")
    page.keyboard.press("Shift+Enter")
    page.locator("#fg-note", has_text="kept from before").wait_for()  # the example's own prompts have "blue" as well
    assert page.locator(".fg-layer .fg-word").all_inner_texts() == ["All masks", "red", "blue"]
    page.evaluate("document.activeElement.blur()")
    tab_to(".fg-canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".fg-number").first.wait_for()
    assert page.locator(".fg-frame").is_visible()
    page.keyboard.press("Escape")
    page.locator(".fg-number").first.wait_for(state="detached")
    tab_to(".fg-layer:not([aria-pressed=true])")
    page.keyboard.press("Enter")
    page.locator(".fg-ramp").wait_for()
    tab_to(".fg-link[download='labels.png']")


def test_two_users_see_their_own_images(open_page, photo):
    first, second = open_page(), open_page()
    upload(first, photo)
    second.click("[data-name='rocket.jpg']")
    second.locator(".fg-link").first.wait_for()
    run(first, "red")
    assert "square.png" in first.inner_text(".fg-name")
    assert "rocket.jpg" in second.inner_text(".fg-name")
    own, other = (page.get_attribute(".fg-link >> nth=0", "href") for page in (first, second))
    assert own != other


def test_closing_a_page_drops_its_image(open_page, photo, address):
    page = open_page()
    upload(page, photo)
    run(page, "red")
    link = f"{address}/{page.get_attribute('.fg-link >> nth=0', 'href')}"
    other = open_page()
    assert other.request.get(link).status == 200
    page.close()
    for _ in range(300):
        if other.request.get(link).status == 404:
            return
        other.wait_for_timeout(100)
    raise AssertionError("the picture is still there")


def test_the_page_of_a_benchmark_shows_photo_truth_and_prediction_without_a_network(browser, tmp_path):
    seg = fgseg.load("mini", device="cpu", dtype="float32")
    dataset = open_scenes("scenes-colors", count=3, side=96)
    task = SegmentationTask(seg, dataset, settings_for(seg, dataset))
    written = write_pictures(task, run_task(task, tmp_path), tmp_path)
    (path,) = (path for path in written if path.suffix == ".html")
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, requested, failed = context.new_page(), [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda line: failed.append(line.text))
    page.goto(path.as_uri())
    assert page.locator("h1").inner_text() == "mini on scenes-colors"
    captions = page.locator("figcaption").all_inner_texts()
    assert captions == ["photo", "truth", "prediction"] * 3
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 50)")
    assert page.evaluate("document.images.length") == 1 + len(captions)  # the chart is the first
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()
    assert [url for url in requested if url != path.as_uri() and not url.startswith("data:")] == []
    assert failed == []
