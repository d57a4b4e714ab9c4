"""Options that several commands share, each with its one help text."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AsJson",
    "Background",
    "Batch",
    "Classes",
    "Device",
    "Dtype",
    "Images",
    "Mode",
    "Model",
    "Negative",
    "Offline",
    "Out",
    "Prompts",
    "Quiet",
    "Recipe",
    "Refine",
    "Refining",
    "Resolution",
    "Revision",
    "Route",
    "Templates",
    "Verbose",
    "named_folder",
]


class Mode(StrEnum):
    """How masks share pixels."""

    exclusive = "exclusive"
    independent = "independent"


class Refine(StrEnum):
    """Edge-aware refinement."""

    auto = "auto"
    none = "none"
    guided = "guided"
    pamr = "pamr"


class Route(StrEnum):
    """Text route of whole images."""

    short = "short"
    long = "long"


Refining = Annotated[Refine, typer.Option(help="Follow the image's edges; auto: as suits the model.")]
Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE", help="Files, folders and patterns such as 'photos/*.jpg'.")
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", "-p", help="A class; again for more. 'cup, mug' are synonyms, '\\,' is a comma."),
]
Classes = Annotated[Path | None, typer.Option("--classes", help="Class file: .txt (a class a line), .json or .yaml.")]
Background = Annotated[
    list[str] | None,
    typer.Option(
        "--background",
        help="Word for anything else, in place of the model's own; again for more; '' for none.",
    ),
]
Negative = Annotated[
    list[str] | None,
    typer.Option("--negative", help="'Not this': competes and never wins a pixel; again for more."),
]
Templates = Annotated[
    str | None,
    typer.Option(help="Sentences around class names: none, imagenet, or a file. [default: the model's]"),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Name (see `fgseg models`), folder or hub id. [default: FGSEG_MODEL, else mini]"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Recipe = Annotated[
    str,
    typer.Option(help="Dense recipe of CLIP and FG-CLIP 1: value, vanilla, sclip, naclip, kk, clearclip."),
]
Revision = Annotated[str | None, typer.Option(help="Hub commit, tag or branch. [default: the pinned one]")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the network.")]
Resolution = Annotated[
    str, typer.Option(help="auto, squash, keep or slide, with a size: slide:448, slide:448/224/112.")
]


def named_folder(text: str | Path) -> Path:
    """A folder's path; the empty name of a variable that is not set would be the folder one is in."""
    if text == "":
        raise typer.BadParameter("expected a folder, got no name")
    return Path(text)


Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", parser=named_folder, metavar="FOLDER",
        help="Folder for results; each image gets a folder of its own in it.",
    ),
]  # fmt: skip
Batch = Annotated[
    int,
    typer.Option(
        min=1,
        help="Images encoded together, for GPUs; with more than 1, pixels near a tie depend on the others.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object an image and line, instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log what is done; show where an unexpected error came from.")
]
