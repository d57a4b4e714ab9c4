"""The page: the components of Gradio, their scripts, and the action of each event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from fastapi import FastAPI
from gradio.themes.utils.fonts import LocalFont

from fgseg._version import __version__
from fgseg.encoders.base import guided
from fgseg.images.resizing import shrink
from fgseg.web.events import Actions, Form, Update, explained
from fgseg.web.examples import vocabulary, word_groups
from fgseg.web.html import data_uri, word_chips
from fgseg.web.limits import GUIDE_NAMES, MEGA
from fgseg.web.models import downloads
from fgseg.web.service import SegmentationService

__all__ = ["mount_page"]

ASSETS = Path(__file__).parent / "assets"
THUMBNAIL_SIDE = 220  # pixels
WAITING = 256  # events in Gradio's queue; the service refuses requests before it is full, with a message
RESOLUTIONS = {
    "auto": "Automatic",
    "squash": "Whole image, as a square",
    "keep": "Whole image, aspect ratio kept",
    "slide": "Overlapping windows",
}

PROPAGATIONS = {"none": "None", "patches": "Alike patches", "pixels": "Alike pixels", "both": "Both"}
RECIPES = {
    "proxy": "Mix patches (proxy)",
    "corr": "Mix patches within regions (corr)",
    "value": "Compare patches for the propagation alone",
}
REGIONS = {"none": "None", "superpixels": "Superpixels", "eomt": "EoMT"}

# The browser draws the masks and heatmaps with this opacity, so that the slider asks nothing of the server.
OPACITY_SCRIPT = "(opacity) => document.documentElement.style.setProperty('--fg-opacity', opacity)"


def mount_page(app: FastAPI, service: SegmentationService) -> FastAPI:
    """Put the page at the root of an application."""
    with_page: FastAPI = gr.mount_gradio_app(
        app,
        _build(service),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=1,  # Gradio's own upload is not used
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(),
        css=_asset("page.css"),
    )
    return with_page


def _build(service: SegmentationService) -> gr.Blocks:
    with gr.Blocks(title="fgseg: words to masks", analytics_enabled=False) as page:
        actions = _Page(service).actions

        def leave(request: gr.Request) -> None:
            actions.leave(str(request.session_hash))

        page.unload(leave)
    page.queue(max_size=WAITING, default_concurrency_limit=None, api_open=False)
    return page


class _Page:
    """Components and events; one method per area. The fields of `Form` and `Update` name the components."""

    def __init__(self, service: SegmentationService) -> None:
        self.service, self.actions = service, Actions(service)
        self.secret = gr.State()
        gr.HTML(self._head(), apply_default_css=False, js_on_load=None)
        # The order on a narrow screen and of the Tab key; a wide screen shows the first and the last on the left.
        with gr.Row(equal_height=False, elem_id="fg-layout"):
            with gr.Column(elem_id="fg-image"):
                self._picture()
            with gr.Column(elem_id="fg-form"):
                self._form()
            with gr.Column(elem_id="fg-rest"):
                self._rest()
        self._events()

    def _head(self) -> str:
        return (
            '<header class="fg-head"><h1>fgseg</h1><p>Words to masks</p><p class="fg-model">'
            f"Model <b>{escape(self.service.model_name)}</b>, version {__version__}. "
            "Images stay on this machine and are dropped when the page is closed.</p></header>"
        )

    def _picture(self) -> None:
        limits = self.service.limits
        self.stage = _scripted(
            "stage.js",
            html=_asset("stage.html"),
            limits=f"At most {limits.upload_bytes / MEGA:g} MB and {limits.pixels / MEGA:g} megapixels.",
            upload_bytes=limits.upload_bytes,
        )
        self.masks = _scripted("masks.js", html="", name="fg-masks")
        self.heatmap = _scripted("heatmap.js", html="", name="fg-heatmap")

    def _rest(self) -> None:
        self.downloads = _html("fg-downloads")
        self.regions = gr.HTML("", js_on_load=_asset("regions.js"), apply_default_css=False, elem_id="fg-regions")
        self.gallery = _scripted("gallery.js", html=self._thumbnails())

    def _thumbnails(self) -> str:
        buttons = [
            f'<button type="button" data-name="{escape(name)}" title="{escape(example.title)}">'
            f'<img src="{data_uri(shrink(example.load(), max_side=THUMBNAIL_SIDE))}" '
            f'alt="Example: {escape(example.title)}"></button>'
            for name, example in self.service.examples.items()
        ]
        return f'<p class="fg-small">Or try an example</p><div class="fg-gallery">{"".join(buttons)}</div>'

    def _form(self) -> None:
        self.prompts = gr.Textbox(
            label="Prompts",
            info="One word or phrase per line; commas separate synonyms. Shift+Enter segments.",
            placeholder="red\nblue circle\nbrown, tan",
            lines=4,
            max_lines=12,
            elem_id="fg-prompts",
        )
        self.run = gr.Button("Segment", variant="primary", elem_id="fg-run")
        self.note = _html("fg-note")
        self.legend = _scripted("legend.js", html='<div class="fg-legend" hidden></div>')
        words = vocabulary(self.service.segmenter)
        if words:
            chips = word_chips(self.service.model_name, len(words), word_groups(self.service.segmenter))
            _scripted("words.js", html=chips, name="fg-words")
        self._options()

    def _options(self) -> None:
        self.negatives = gr.Textbox(
            label="Negative prompts",
            info="One word per line. These words compete with the prompts but get no mask.",
            placeholder="none",
            lines=1,
            max_lines=6,
            elem_id="fg-negatives",
        )
        self.mode = gr.Radio(
            [("One prompt per pixel", "exclusive"), ("Masks may overlap", "independent")],
            value="exclusive",
            label="Masks",
        )
        threshold = self.service.segmenter.defaults.threshold
        with gr.Row():
            self.threshold = gr.Slider(0, 1, threshold, step=0.01, label="Threshold", min_width=140)
            self.opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity", min_width=140)
        self.min_percent = gr.Slider(
            0, 2, 0, step=0.02, label="Smallest region, % of the image (0: specks join what is around them)"
        )
        named = [(RESOLUTIONS.get(name, "Overlapping windows, finer"), name) for name in self.service.resolutions]
        # Not a dropdown: Gradio's opens its list as soon as the Tab key reaches it.
        self.resolution = gr.Radio(named, value="auto", label="Resolution")
        with gr.Accordion("Sharper masks", open=False, elem_id="fg-sharper"):
            self._sharper()

    def _sharper(self) -> None:
        missing, encoder = downloads(), guided(self.service.segmenter.encoder)
        own = "None" if encoder is None or encoder.guide is None else f"As started: {encoder.guide.name}"
        self.propagate = gr.Radio(
            _named(PROPAGATIONS),
            value="none",
            label="Propagation",
            info="Scores flow between alike parts of the image. Pixels take a second or two for ten words.",
        )
        self.guide = gr.Radio(
            [(own, "none"), *((_with_size(name, name, missing), name) for name in GUIDE_NAMES)],
            value="none",
            label="Guide",
            info="A model that says which patches belong together; self is the middle of the model itself. Encoding "
            "takes 1.4 times as long with self, and up to 7 times with others. A size is that of a download at first "
            "use.",
        )
        self.recipe = gr.Radio(_named(RECIPES), value="proxy", label="What the guide does")
        self.region_map = gr.Radio(
            [(_with_size(title, name, missing), name) for name, title in REGIONS.items()],
            value="none",
            label="Regions",
            info="Superpixels take a second or two, EoMT a minute for each image on two cores.",
        )
        self.vote = gr.Checkbox(
            value=True, label="Regions vote", info="Every region takes the class of most of its pixels."
        )

    def _events(self) -> None:
        on, actions = self._on, self.actions
        on(self.stage.uploaded, "uploaded", lambda _, form, data, owner: actions.uploaded(data, form, owner))
        on(self.gallery.example, "example", lambda _, form, data, owner: actions.example(data, form, owner))
        for event in (self.run.click, self.prompts.submit):
            on(event, "run", lambda secret, form, *_: actions.run(secret, form))
        refreshing = (self.mode, self.threshold, self.min_percent, self.resolution, self.propagate, self.guide)
        for field in (*refreshing, self.recipe, self.region_map, self.vote):
            on(field.change, "refresh", lambda secret, form, *_: actions.refresh(secret, form))
        self.opacity.change(None, self.opacity, js=OPACITY_SCRIPT)
        on(self.legend.layered, "choose", lambda secret, form, data, _: actions.choose(secret, data))
        on(self.stage.marked, "mark", lambda secret, form, data, _: actions.mark(secret, data), progress="hidden")

    def _on(
        self,
        event: Callable[..., Any],
        name: str,
        action: Callable[[str | None, Form, Any, str], Update],
        *,
        progress: Literal["minimal", "hidden"] = "minimal",
    ) -> None:
        """Call an action with the secret of the session, the fields, the data of the event, and the page's owner."""
        inputs = [self.secret, *(getattr(self, field.name) for field in fields(Form))]
        outputs = {field.name: getattr(self, field.name) for field in fields(Update)}

        # Gradio fills in a parameter with one of these two annotations.
        def answer(event_data: gr.EventData, request: gr.Request, secret: str | None, *values: Any) -> list[Any]:
            update = explained(action, secret, Form(*values), event_data._data, str(request.session_hash))
            changes = [getattr(update, name) for name in outputs]
            return [gr.skip() if value is None else value for value in changes]

        # "always_last": while one event is handled only the latest further one waits, so that a slider cannot flood it.
        event(
            answer,
            inputs=inputs,
            outputs=list(outputs.values()),
            show_progress=progress,
            show_progress_on=self.stage,
            trigger_mode="always_last",
            api_name=name,
            api_visibility="private",
        )


def _named(titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """The choices of a radio: (title, value)."""
    return [(title, value) for value, title in titles.items()]


def _with_size(title: str, name: str, missing: Mapping[str, str]) -> str:
    return f"{title}, {missing[name]}" if name in missing else title


def _html(name: str) -> gr.HTML:
    return gr.HTML("", apply_default_css=False, js_on_load=None, elem_id=name)


def _scripted(script: str, *, html: str, name: str | None = None, **props: Any) -> gr.HTML:
    return gr.HTML(None, html_template=html, js_on_load=_asset(script), apply_default_css=False, elem_id=name, **props)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _theme() -> gr.themes.Base:
    # A font that comes with Gradio; its default font would be downloaded.
    sans = LocalFont("IBM Plex Sans", weights=(400, 700))
    theme = gr.themes.Soft(primary_hue="indigo", font=[sans, "system-ui", "sans-serif"], font_mono=["monospace"])
    return theme.set(
        block_title_background_fill="none",
        block_title_padding="0",
        block_title_text_weight="600",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_background_fill_dark="none",
        body_text_color_subdued="*neutral_600",  # contrast 7:1 on the background of the page
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_300",
        body_background_fill="*neutral_50",
        block_border_width="1px",
        # white on the accents of this theme has a contrast of less than 4.5:1
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        checkbox_label_background_fill_selected="*primary_600",
        # fields and unchecked circles are white on white otherwise
        checkbox_border_color="*neutral_500",
        input_border_color="*neutral_400",
        input_border_width="1px",
    )
