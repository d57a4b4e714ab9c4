"""The page: Gradio's components, the scripts that go with them, and which event does what."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.themes.utils.fonts import LocalFont

from fgseg._version import __version__
from fgseg.images.resizing import shrink
from fgseg.web.events import Actions, Form, Update
from fgseg.web.html import data_uri
from fgseg.web.limits import MEGA
from fgseg.web.service import SegmentationService

__all__ = ["build", "mounted"]

ASSETS = Path(__file__).parent / "assets"
THUMBNAIL_SIDE = 220  # pixels
WAITING = 256  # events that Gradio holds; the bench refuses earlier, in words
RESOLUTIONS = {
    "auto": "Automatic",
    "squash": "Whole picture, as a square",
    "keep": "Whole picture, in its shape",
    "slide": "Overlapping windows",
}


def mounted(app: FastAPI, bench: SegmentationService) -> FastAPI:
    """The application with the page at its root."""
    with_page: FastAPI = gr.mount_gradio_app(
        app,
        build(bench),
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


def build(bench: SegmentationService) -> gr.Blocks:
    """The page on a bench."""
    with gr.Blocks(title="fgseg: words to masks", analytics_enabled=False) as page:
        made = _Page(bench)

        def leave(request: gr.Request) -> None:
            made.actions.leave(str(request.session_hash))

        page.unload(leave)
    page.queue(max_size=WAITING, default_concurrency_limit=None, api_open=False)
    return page


class _Page:
    """Components and events; a method an area."""

    def __init__(self, bench: SegmentationService) -> None:
        self.bench, self.actions = bench, Actions(bench)
        self.secret = gr.State()
        gr.HTML(self._head(), apply_default_css=False, js_on_load=None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=7, min_width=320):
                self._picture()
            with gr.Column(scale=5, min_width=320):
                self._form()
        self._events()

    def _head(self) -> str:
        model = Path(self.bench.segmenter.encoder.name).name
        return (
            '<header class="fg-head"><h1>fgseg</h1><p>Words to masks</p>'
            f'<p class="fg-model">Model <b>{escape(model)}</b>, version {__version__}. Pictures stay on this machine '
            "and are forgotten when the page is closed.</p></header>"
        )

    def _picture(self) -> None:
        limits = self.bench.limits
        self.stage = _scripted(
            "stage.js",
            html=_asset("stage.html"),
            limits=f"At most {limits.upload_bytes / MEGA:g} MB and {limits.pixels / MEGA:g} megapixels.",
            upload_bytes=limits.upload_bytes,
        )
        self.legend = _scripted("legend.js", html='<div class="fg-legend" hidden></div>')
        self.downloads, self.regions = _html("fg-downloads"), _html("fg-regions")
        self.gallery = _scripted("gallery.js", html=self._thumbnails())

    def _thumbnails(self) -> str:
        buttons = [
            f'<button type="button" data-name="{escape(name)}" title="{escape(example.title)}">'
            f'<img src="{data_uri(shrink(example.load(), max_side=THUMBNAIL_SIDE))}" '
            f'alt="Example: {escape(example.title)}"></button>'
            for name, example in self.bench.examples.items()
        ]
        return f'<p class="fg-small">Or try an example</p><div class="fg-gallery">{"".join(buttons)}</div>'

    def _form(self) -> None:
        self.prompts = gr.Textbox(
            label="Prompts",
            info="A word or phrase a line; synonyms between commas. Shift and Enter runs.",
            placeholder="red\nblue circle\nbrown, tan",
            lines=4,
            max_lines=12,
            elem_id="fg-prompts",
        )
        self.negatives = gr.Textbox(
            label="Not this",
            info="Words that compete and never win, a line each.",
            placeholder="none",
            lines=1,
            max_lines=6,
            elem_id="fg-negatives",
        )
        self.run = gr.Button("Segment", variant="primary", elem_id="fg-run")
        self.note = _html("fg-note")
        self.mode = gr.Radio(
            [("One prompt a pixel", "exclusive"), ("Masks may overlap", "independent")],
            value="exclusive",
            label="Masks",
        )
        threshold = self.bench.segmenter.defaults.threshold
        with gr.Row():
            self.threshold = gr.Slider(0, 1, threshold, step=0.01, label="Threshold", min_width=140)
            self.opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity", min_width=140)
        self.resolution = gr.Dropdown(self._resolutions(), value="auto", label="Resolution")

    def _resolutions(self) -> list[tuple[str, str]]:
        return [(RESOLUTIONS.get(name, "Overlapping windows, finer"), name) for name in self.bench.resolutions]

    def _events(self) -> None:
        """Which event does what. Gradio hands over an event's data and its session by a parameter's annotation."""
        form = [self.prompts, self.negatives, self.mode, self.threshold, self.opacity, self.resolution]
        actions = self.actions

        def uploaded(event: gr.EventData, request: gr.Request, *fields: Any) -> Update:
            return actions.uploaded(event._data, Form(*fields), str(request.session_hash))

        def example(event: gr.EventData, request: gr.Request, *fields: Any) -> Update:
            return actions.example(event._data, Form(*fields), str(request.session_hash))

        def run(secret: str | None, *fields: Any) -> Update:
            return actions.run(secret, Form(*fields))

        def refresh(secret: str | None, *fields: Any) -> Update:
            return actions.refresh(secret, Form(*fields))

        def choose(event: gr.EventData, secret: str | None, opacity: float) -> Update:
            return actions.choose(secret, event._data, opacity)

        def mark(event: gr.EventData, secret: str | None) -> Update:
            return actions.mark(secret, event._data)

        self._on(self.stage.uploaded, uploaded, form)
        self._on(self.gallery.example, example, form)
        self._on(self.run.click, run, [self.secret, *form])
        self._on(self.prompts.submit, run, [self.secret, *form])
        for field in (self.mode, self.threshold, self.resolution):
            self._on(field.change, refresh, [self.secret, *form])
        self._on(self.opacity.change, actions.redraw, [self.secret, self.opacity])
        self._on(self.legend.layered, choose, [self.secret, self.opacity])
        self._on(self.stage.marked, mark, [self.secret], is_quick=True)

    def _on(
        self, event: Callable[..., Any], act: Callable[..., Update], inputs: list[Any], *, is_quick: bool = False
    ) -> None:
        outputs = {
            "secret": self.secret,
            "stage": self.stage,
            "legend": self.legend,
            "note": self.note,
            "regions": self.regions,
            "downloads": self.downloads,
            "prompts": self.prompts,
        }

        @wraps(act)
        def answer(*values: Any) -> list[Any]:
            update = act(*values)
            found = [getattr(update, name) for name in outputs]
            return [gr.skip() if value is None else value for value in found]

        # While one is under way only the latest further one is kept, so a slider that moves floods nobody.
        event(
            answer,
            inputs=inputs,
            outputs=list(outputs.values()),
            show_progress="hidden" if is_quick else "minimal",
            show_progress_on=self.stage,
            trigger_mode="always_last",
            api_visibility="private",
        )


def _html(name: str) -> gr.HTML:
    return gr.HTML("", apply_default_css=False, js_on_load=None, elem_id=name)


def _scripted(script: str, *, html: str, **props: Any) -> gr.HTML:
    return gr.HTML(None, html_template=html, js_on_load=_asset(script), apply_default_css=False, **props)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _theme() -> gr.themes.Base:
    # Fonts that come with Gradio: its own default would be fetched where it is missing.
    sans = LocalFont("IBM Plex Sans", weights=(400, 700))
    theme = gr.themes.Soft(primary_hue="indigo", font=[sans, "system-ui", "sans-serif"], font_mono=["monospace"])
    plain = {"block_title_background_fill": "none", "block_title_padding": "0", "block_title_text_weight": "600"}
    return theme.set(
        **plain,
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_background_fill_dark="none",
        body_text_color_subdued="*neutral_600",  # on the page's background 7:1
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
        body_background_fill="*neutral_50",
        block_border_width="1px",
    )
