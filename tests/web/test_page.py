"""The page in headless Chromium, driven by Playwright.

The tests are skipped where no Chromium is installed. The accessibility checker axe-core is not a part of this
repository: `npm install axe-core` in its root, or AXE_CORE=/path/to/axe.min.js, adds its test.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fgseg
from fgseg.datasets.scenes import open_scenes
from fgseg.evaluation.html_report import write_pictures
from fgseg.evaluation.runner import run_task
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.evaluation.tasks.settings import settings_for
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image
from fgseg.images.writing import write_image
from fgseg.scenes.composition import scene
from fgseg.web.limits import GUIDE_NAMES
from fgseg.web.models import downloads

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
AXE = Path(os.environ.get("AXE_CORE", ROOT / "node_modules/axe-core/axe.min.js"))
LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]
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

    def opened(width=1280, height=900, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
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


def color(page, x, y, canvas=".fg-fill"):
    """(red, green, blue, alpha) of the masks at a point in fractions of the image."""
    script = """([name, x, y]) => {
        const canvas = document.querySelector(name);
        const at = [Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1];
        return [...canvas.getContext('2d').getImageData(...at).data];
    }"""
    return page.evaluate(script, [canvas, x, y])


def wait_for_color(page, x, y, is_shown):
    for _ in range(200):
        if bool(color(page, x, y)[3]) == is_shown:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"expected {'a' if is_shown else 'no'} mask at {x}, {y}, got {color(page, x, y)}")


def example(page, name):
    page.click(f"[data-name='{name}']")
    page.locator(".fg-link").first.wait_for()


def point(page, x, y):
    box = page.locator(".fg-canvas").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def numbers(page):
    """Scores by prompt, as the legend shows them."""
    rows = page.locator(".fg-layer:has(.fg-number)").all()
    return {row.locator(".fg-word").inner_text(): row.locator(".fg-number").inner_text() for row in rows}


RED, BLUE = (0.33, 0.5), (0.8, 0.5)  # points of the photo


def test_upload_prompt_masks_point_box_heatmap_and_downloads(open_page, photo, tmp_path):
    page = open_page()
    assert page.locator(".fg-welcome").is_visible()
    upload(page, photo)
    run(page, "red\nblue")
    wait_for_color(page, *RED, True)
    assert color(page, *RED) != color(page, *BLUE)
    assert re.search(r"2 of 2 prompts found.*Encoding the image: \d+ ms", page.inner_text("#fg-note"))
    assert "px" in page.inner_text("#fg-regions")

    page.mouse.click(*point(page, *RED))
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

    page.get_by_role("button", name="Heatmap of red").click()
    page.locator(".fg-heat[src]").wait_for()
    assert page.locator(".fg-ramp").is_visible()
    assert not page.locator(".fg-fill").is_visible()
    assert "under the heatmap of red" in page.get_attribute(".fg-canvas", "aria-label")
    page.get_by_role("button", name="All masks").click()
    page.locator(".fg-heat").wait_for(state="hidden")
    assert page.locator(".fg-fill").is_visible()

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


def test_a_prompt_can_be_shown_alone_hidden_and_cut_out(open_page, photo, tmp_path):
    page = open_page()
    upload(page, photo)
    run(page, "red\nblue")
    wait_for_color(page, *RED, True)
    alone = page.locator(".fg-layer", has_text="red")
    alone.click()
    wait_for_color(page, *BLUE, False)
    assert color(page, *RED)[3]
    assert alone.get_attribute("aria-pressed") == "true"

    with page.expect_download() as download:
        page.get_by_role("link", name="Cut-out of red (PNG)").click()
    download.value.save_as(tmp_path / "cutout.png")
    with Image.open(tmp_path / "cutout.png") as picture:
        cut = np.asarray(picture)
    mask = fgseg.load("mini").segment(str(photo), ["red", "blue"]).masks["red"]
    assert ((cut[..., 3] == 255) == mask).mean() > 0.999
    assert cut[40, 40].tolist() == [200, 30, 30, 255]

    alone.click()
    wait_for_color(page, *BLUE, True)
    page.get_by_role("button", name="Hide the mask of red").click()
    wait_for_color(page, *RED, False)
    assert color(page, *BLUE)[3]
    page.get_by_label("Masks may overlap").check()
    page.wait_for_function("document.querySelector('#fg-note').textContent.includes('kept from before')")
    wait_for_color(page, *RED, False)  # what is hidden stays hidden while the prompts stay
    run(page, "blue\nred")
    wait_for_color(page, *RED, True)


@pytest.mark.parametrize("mode", ["One prompt per pixel", "Masks may overlap"])
def test_class_and_presence_are_under_the_pointer_without_a_request(open_page, photo, mode):
    page = open_page()
    page.get_by_label(mode).check()
    upload(page, photo)
    run(page, "red\nblue\ncrimson")
    wait_for_color(page, *BLUE, True)
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.mouse.move(*point(page, *BLUE))
    page.locator(".fg-readout", has_text=re.compile(r"^blue (0\.[5-9]\d|1\.00)$")).wait_for()
    page.mouse.move(*point(page, *RED))
    others = ", also (red|crimson)" if mode == "Masks may overlap" else ""
    page.locator(".fg-readout", has_text=re.compile(rf"^(red|crimson) (0\.[5-9]\d|1\.00){others}$")).wait_for()
    page.mouse.move(5, 5)
    page.locator(".fg-readout").wait_for(state="hidden")
    assert requested == []


def test_regions_are_listed_by_area_and_a_click_outlines_one(open_page, photo):
    page = open_page()
    upload(page, photo)
    run(page, "red\nblue\nsnow")
    rows = page.locator("#fg-regions tbody tr")
    areas = [int(text.split()[0].replace(",", "")) for text in rows.locator("td:nth-child(2)").all_inner_texts()[:-1]]
    assert areas == sorted(areas, reverse=True)
    assert "blue" in rows.first.inner_text()  # by area, not in the order of the prompts
    assert rows.last.inner_text().split() == ["snow", "not", "found"]
    row = rows.filter(has_text="red").first
    outline = "document.querySelector('.fg-outline path').getBBox()"
    row.locator("td").nth(2).click()
    left, top, right, bottom = map(int, re.findall(r"\d+", row.locator("td").nth(2).inner_text()))
    box = page.evaluate(f"(({{x, y, width, height}}) => [x, y, x + width, y + height])({outline})")
    assert box == [left, top, right, bottom]
    assert row.locator(".fg-region").get_attribute("aria-pressed") == "true"
    row.locator(".fg-region").press("Enter")
    assert page.evaluate(f"{outline}.width") == 0
    rows.first.locator(".fg-region").press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 2


def test_the_image_can_be_zoomed_and_moved(open_page, photo):
    page = open_page()
    upload(page, photo)
    run(page, "red\nblue")
    whole = page.locator(".fg-canvas").bounding_box()
    seen = page.locator(".fg-viewport").bounding_box()
    fixed = point(page, *RED)
    page.mouse.move(*fixed)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    page.wait_for_function("document.querySelector('.fg-canvas').style.width === '400%'")
    assert page.locator(".fg-viewport").bounding_box() == seen
    np.testing.assert_allclose(point(page, *RED), fixed, atol=12)  # scroll bars take some pixels
    page.mouse.click(*fixed)
    page.locator(".fg-legend p", has_text=re.compile(r"at (39|40), (39|40)")).wait_for()

    page.get_by_role("button", name="Move").click()
    before = page.locator(".fg-canvas").bounding_box()
    page.mouse.move(*fixed)
    page.mouse.down()
    page.mouse.move(fixed[0] + 50, fixed[1] + 30, steps=2)
    page.mouse.up()
    after = page.locator(".fg-canvas").bounding_box()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == (50, 30)

    page.locator(".fg-canvas").press("0")
    assert page.locator(".fg-canvas").bounding_box() == whole
    page.locator(".fg-canvas").press("+")
    assert page.locator(".fg-canvas").bounding_box()["width"] == pytest.approx(1.5 * whole["width"], abs=20)
    page.get_by_role("button", name="Zoom out").click()
    assert page.locator(".fg-canvas").bounding_box() == whole


def test_the_words_of_the_embedded_model_are_listed_before_a_word_fails(open_page, photo):
    page = open_page()
    words = page.locator("#fg-words")
    assert "mini knows only colours, patterns, shapes, materials." in words.inner_text()
    assert "fgseg serve --model fg-clip-base" in words.inner_text()
    page.fill("#fg-prompts textarea", "red\n")
    for word in ("blue", "brick wall", "red"):
        words.get_by_role("button", name=word).first.press("Enter")
    words.get_by_role("button", name="brick wall").press("ArrowLeft")
    assert page.evaluate("document.activeElement.textContent") == "stone wall"
    assert page.input_value("#fg-prompts textarea") == "red\nblue\nbrick wall"
    upload(page, photo)  # the server receives the words as well
    page.locator(".fg-layer", has_text="brick wall").wait_for()


def test_an_example_brings_its_words_and_comes_into_view_and_options_segment_it_again(open_page):
    page = open_page(width=390, height=800)
    page.fill("#fg-prompts textarea", "purple")
    page.locator("[data-name='outdoors.png']").scroll_into_view_if_needed()
    example(page, "outdoors.png")
    assert page.input_value("#fg-prompts textarea") == "road\npavement\ngrass\ntree"
    page.wait_for_function("document.querySelector('.fg-viewport').getBoundingClientRect().top >= 0")
    page.wait_for_function("document.querySelector('.fg-viewport').getBoundingClientRect().bottom <= innerHeight")

    def regions():
        return page.locator(".fg-region").count()

    def change(field, value):
        before = page.inner_html("#fg-regions")
        field.fill(value)
        page.keyboard.press("Tab")
        page.wait_for_function("old => document.querySelector('#fg-regions').innerHTML !== old", arg=before)

    count = regions()
    change(page.get_by_label("number input for Smallest region"), "1")
    assert 4 <= regions() < count
    assert page.locator("#fg-regions").inner_text().count("px") == regions()
    change(page.get_by_label("number input for Threshold"), "0.99")
    with page.expect_request(re.compile("/queue/join")):
        page.get_by_label("Masks may overlap").check()

    requested = []
    page.on("request", lambda request: requested.append(request.url) if "/queue/join" in request.url else None)
    page.get_by_label("number input for Opacity").fill("0.9")
    page.keyboard.press("Tab")
    page.wait_for_function("getComputedStyle(document.querySelector('.fg-fill')).opacity === '0.9'")
    assert requested == []


@pytest.fixture(scope="module")
def scenery(tmp_path_factory):
    """A drawn scene, whose masks every way to sharpen them changes."""
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    write_image(path, scene(43, (96, 128)).image)
    return path


def open_sharper(page):
    page.get_by_role("button", name="Sharper masks").click()
    page.get_by_label("Alike pixels").wait_for()


def wait_for_labels(page, address, folder, expected):
    """Wait until the label map that the page offers is the expected one; the last bit of a score may differ."""
    for _ in range(300):
        link = page.get_attribute(".fg-link[download='labels.png']", "href")
        (folder / "labels.png").write_bytes(page.request.get(f"{address}/{link}").body())
        if (read_label_png(folder / "labels.png") == expected.labels).mean() > 0.995:
            return
        page.wait_for_timeout(100)
    raise AssertionError("the page never offered the expected labels")


WORDS = ["red", "blue", "green", "yellow", "white", "black", "brown"]
SHARPER = [  # the controls, one after another, and what the Segmenter is asked for
    (["Alike pixels"], {"propagate": "pixels"}),
    (["Superpixels"], {"propagate": "pixels", "region_map": "superpixels", "vote": True}),
    (["self"], {"recipe": "proxy", "propagate": "pixels", "region_map": "superpixels", "vote": True}),
    (["Mix patches within regions (corr)", "None"], {"recipe": "corr", "region_map": "superpixels", "vote": True}),
]


def test_every_way_to_sharper_masks_gives_what_the_segmenter_gives(open_page, scenery, address, tmp_path):
    page = open_page()
    upload(page, scenery)
    run(page, "\n".join(WORDS))
    open_sharper(page)
    before = fgseg.load("mini").segment(str(scenery), WORDS).labels
    for names, options in SHARPER:
        for name in names:
            page.get_by_label(name, exact=True).first.check()
        loaded = {"recipe": options["recipe"], "guide": "self"} if "recipe" in options else {}
        how = {name: value for name, value in options.items() if name != "recipe"}
        expected = fgseg.load("mini", **loaded).segment(str(scenery), WORDS, **how)
        assert (expected.labels != before).mean() > 0.01
        wait_for_labels(page, address, tmp_path, expected)
        before = expected.labels


def test_regions_without_a_vote_are_refused_on_the_page_with_a_sentence(open_page, photo):
    page = open_page()
    upload(page, photo)
    run(page, "red\nblue")
    open_sharper(page)
    page.get_by_label("Regions vote").uncheck()
    page.get_by_label("Superpixels").check()
    page.locator("[role=alert]", has_text="nothing uses the regions unless they vote").wait_for()
    page.get_by_label("Regions vote").check()
    page.locator("#fg-note", has_text="prompts found").wait_for()


def test_guides_and_mask_models_that_are_not_here_show_the_size_of_their_download(open_page):
    page = open_page()
    open_sharper(page)
    shown = page.inner_text("#fg-sharper")
    sizes = downloads()
    for name, size in sizes.items():
        assert f"{'EoMT' if name == 'eomt' else name}, {size}" in shown
    for name in GUIDE_NAMES:
        assert name in shown


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
    error.filter(has_text="notes.txt: not an image that can be read").wait_for()

    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(bytes(1_200_000))
    page.locator(".fg-file").set_input_files(heavy)
    error.filter(has_text="heavy.png: this file has 1.2 MB. At most 1 MB").wait_for()

    wide = tmp_path / "wide.png"
    write_image(wide, np.zeros((1001, 1000, 3), np.uint8))
    page.locator(".fg-file").set_input_files(wide)
    error.filter(has_text=re.compile("^wide.png: .* over the limit of 1")).wait_for()

    upload(page, photo)
    for prompts, message in (
        ("xyzzy", "run fgseg serve --model fg-clip-base"),
        ("\n".join(["red"] * 33), "at most 32, got 33"),
    ):
        page.fill("#fg-prompts textarea", prompts)
        page.click("#fg-run")
        error.filter(has_text=message).wait_for()
    shown = page.inner_text("body")
    assert "Traceback" not in shown
    assert str(ROOT) not in shown
    run(page, "red")
    assert error.count() == 0


def test_a_phone_shows_picture_prompts_button_and_then_the_rest(open_page, photo):
    page = open_page(width=390, height=800)
    upload(page, photo)
    page.locator("#fg-run").scroll_into_view_if_needed()
    run(page, "red\nblue")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.wait_for_function("document.querySelector('.fg-canvas').getBoundingClientRect().bottom > 0")
    box = page.locator(".fg-canvas").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    page.mouse.click(*point(page, *RED))
    page.locator(".fg-number").first.wait_for()
    order = (".fg-viewport", "#fg-prompts", "#fg-run", "#fg-note", ".fg-legend", "#fg-words", "#fg-negatives")
    boxes = [page.locator(name).bounding_box() for name in (*order, "#fg-regions", ".fg-gallery")]
    for above, below in pairwise(boxes):
        assert above["y"] + above["height"] <= below["y"]
    words = [word.bounding_box() for word in page.locator(".fg-layer .fg-word").all()]
    assert all(word["height"] < 30 for word in words)  # a score does not squeeze the word into a column of letters


VISIBLE_FOCUS = """() => {
    const isOutlined = (one) => { const style = getComputedStyle(one); return style.outlineStyle !== 'none'
        && parseFloat(style.outlineWidth) >= 2 && style.outlineColor !== 'rgba(0, 0, 0, 0)'; };
    const one = document.activeElement;
    return [one.outerHTML.slice(0, 120), isOutlined(one) || isOutlined(one.closest('label') || one)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_focus_is_visible_everywhere_and_no_list_opens_by_itself(open_page, scheme):
    page = open_page(scheme=scheme)
    example(page, "coffee.png")
    open_sharper(page)
    page.focus(".fg-choose >> nth=1")
    reached = []
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            continue  # the end of the page; the next one is its first element
        element, is_outlined = page.evaluate(VISIBLE_FOCUS)
        assert is_outlined, element
        assert page.locator("[role=listbox]:visible, [role=option]:visible").count() == 0, element
        reached.append(element)
        if page.evaluate("document.activeElement.matches('.fg-bar .fg-choose')"):
            break
    for part in (
        "fg-canvas",
        "<textarea",
        "fg-run",
        "fg-layer",
        "fg-chip",
        'type="radio"',
        'type="range"',
        'type="checkbox"',
        "fg-region",
    ):
        assert any(part in element for element in reached), part


# The contrast of each text with its background: WCAG's relative luminance; translucent backgrounds are mixed.
LOW_CONTRAST = """() => {
    const parts = (css) => { const [r, g, b, a = 1] = css.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
    const over = ([r, g, b, a], under) => [r, g, b].map((level, k) => a * level + (1 - a) * under[k]);
    const luminance = (rgb) => rgb.map((level) => level / 255)
        .map((level) => (level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4))
        .reduce((sum, level, k) => sum + level * [0.2126, 0.7152, 0.0722][k], 0);
    const background = (one) => one ? over(parts(getComputedStyle(one).backgroundColor), background(one.parentElement))
        : [255, 255, 255];
    const ratio = (one, style) => {
        const under = background(one);
        const lights = [luminance(over(parts(style.color), under)), luminance(under)].sort((a, b) => b - a);
        return (lights[0] + 0.05) / (lights[1] + 0.05);
    };
    const isRead = (one) => one.checkVisibility({ opacityProperty: true, visibilityProperty: true })
        && !one.closest(':disabled') && one.getClientRects().length;
    const hasText = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const texts = [...document.querySelectorAll('body *')].filter((one) => hasText(one) && isRead(one))
        .map((one) => [one.innerText, ratio(one, getComputedStyle(one))]);
    const fields = [...document.querySelectorAll('input[type=number], textarea')].filter(isRead)
        .flatMap((one) => [[one.value, ratio(one, getComputedStyle(one))],
            [one.placeholder, ratio(one, getComputedStyle(one, '::placeholder'))]]);
    return [texts.length, [...texts, ...fields].filter(([, value]) => value < 4.5)];
}"""


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_every_text_has_a_contrast_of_4_5_to_1_and_axe_finds_nothing_serious(open_page, scheme, width):
    page = open_page(scheme=scheme, width=width)

    def check():
        page.wait_for_timeout(300)  # colours fade in
        count, low = page.evaluate(LOW_CONTRAST)
        assert count > 30
        assert low == []
        if AXE.is_file():
            page.evaluate(AXE.read_text(encoding="utf-8"))
            found = page.evaluate("axe.run(document).then(({ violations }) => violations)")
            assert [one["help"] for one in found if one["impact"] in ("serious", "critical")] == []

    check()
    example(page, "outdoors.png")
    page.locator(".fg-region").first.click()
    page.mouse.click(*point(page, 0.5, 0.9))
    page.locator(".fg-number").first.wait_for()
    check()
    open_sharper(page)
    check()
    page.get_by_role("button", name="Heatmap of road").click()
    page.fill("#fg-prompts textarea", "xyzzy")
    page.hover("#fg-run")
    page.click("#fg-run")
    page.locator("[role=alert]").wait_for()
    check()


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
    assert page.locator(".fg-layer .fg-word").all_inner_texts() == ["red", "blue", "All masks"]
    page.evaluate("document.activeElement.blur()")
    tab_to(".fg-canvas")
    page.keyboard.press("ArrowRight")
    page.locator(".fg-readout", has_text=re.compile(r"\w")).wait_for()
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".fg-number").first.wait_for()
    assert page.locator(".fg-frame").is_visible()
    page.keyboard.press("Escape")
    page.locator(".fg-number").first.wait_for(state="detached")
    tab_to(".fg-heat-button")
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
