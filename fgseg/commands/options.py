"""Options that several commands share: the help text of each, and the groups that a command takes as one value."""

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import typer
from typer import Argument, Option
from typer.models import ArgumentInfo

from fgseg.commands.terminal.status import STATUS
from fgseg.commands.terminal.wording import know_options

__all__ = [
    "HOW",
    "MODEL",
    "OUTPUT",
    "WHAT",
    "AsJson",
    "Base",
    "Device",
    "Dtype",
    "Images",
    "MaskOptions",
    "Model",
    "ModelOptions",
    "PromptOptions",
    "ReadOptions",
    "Recursive",
    "Regions",
    "ReportOptions",
    "Route",
    "RunOptions",
    "ScoreOptions",
    "Templates",
    "Vote",
    "named_folder",
    "with_option_groups",
]

# The panels of the help, in their order.
WHAT, HOW, MODEL, OUTPUT = "What", "How", "Model", "Output"


def named_folder(text: str | Path) -> Path:
    """The path of a folder.

    An empty name is refused: it would be the current folder, and it usually comes from an unset shell variable.
    """
    if text == "":
        raise typer.BadParameter("expected a folder, got no name")
    return Path(text)


Images = Annotated[
    list[str],
    Argument(
        metavar="IMAGE",
        help="Image files, folders, and patterns such as 'photos/*.jpg'. - reads a list of them from stdin.",
    ),
]
Recursive = Annotated[
    bool, Option("--recursive", "-r", help="Read the folders inside folders too.", rich_help_panel=WHAT)
]
Templates = Annotated[
    str | None,
    Option(help="Sentences around each class name: none, imagenet, or a file.", show_default="the model's"),
]
Model = Annotated[
    str | None,
    Option("--model", help="A name (see fgseg models), a folder or a hub id.", show_default="FGSEG_MODEL, else mini"),
]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, Option(help="auto, float32, bfloat16 or float16.")]
AsJson = Annotated[bool, Option("--json", help="Print JSON instead of a table.")]
Base = Annotated[
    Literal["grey", "photo"],
    Option(
        help="Draw over the image without its colors (grey), or over the image as it is (photo).",
        rich_help_panel=OUTPUT,
    ),
]
Route = Literal["short", "long"]
Regions = Annotated[
    str | None,
    Option(
        metavar="FILE|superpixels|eomt",
        help="Regions of the image: superpixels, eomt, a label PNG, a JSON file of COCO masks, or a folder of these.",
        rich_help_panel=HOW,
    ),
]
Vote = Annotated[
    bool,
    Option("--vote", help="Give every region the class that most of its pixels have.", rich_help_panel=HOW),
]


@dataclass(frozen=True)
class ModelOptions:
    """The model to load, and where and how it computes."""

    panel: ClassVar[str] = MODEL

    model: Model = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    recipe: Annotated[
        str,
        Option(
            help="Attention of the last block, CLIP and FG-CLIP 1: value, vanilla, sclip, naclip, kk, clearclip. "
            "With a guide, any model: proxy, corr."
        ),
    ] = "value"
    guide: Annotated[
        str | None,
        Option(
            help="What says which patches belong together, for the recipes proxy and corr: self, dino-b8 and the other "
            "guides of `fgseg models`, a folder, or a hub id OWNER/NAME[@REVISION]."
        ),
    ] = None
    revision: Annotated[
        str | None,
        Option(help="Commit, tag or branch on the hub.", show_default="the pinned one"),
    ] = None
    offline: Annotated[bool, Option("--offline", help="Never use the network.")] = False
    verbose: Annotated[
        bool,
        Option(
            "--verbose",
            "-v",
            help="Log the model and the seconds of each step, and show the traceback of an unexpected error.",
            rich_help_panel=OUTPUT,
        ),
    ] = False


@dataclass(frozen=True)
class PromptOptions:
    """The classes to look for, and the words that compete with them."""

    panel: ClassVar[str] = WHAT

    prompt: Annotated[
        list[str] | None,
        Option("--prompt", "-p", help="A class; repeat for more. 'cup, mug' are synonyms, '\\,' is a literal comma."),
    ] = None
    classes: Annotated[
        Path | None,
        Option(
            help="File of classes: .txt with one class per line, .json or .yaml; also the classes.json of a result."
        ),
    ] = None
    background: Annotated[
        list[str] | None,
        Option(help="Word for everything else; repeat for more, '' for none.", show_default="the model's"),
    ] = None
    negative: Annotated[
        list[str] | None,
        Option(help="Word that competes with the classes but labels no pixel; repeat for more."),
    ] = None
    templates: Templates = None


@dataclass(frozen=True)
class ReadOptions:
    """How image files are read. See docs/images.md."""

    panel: ClassVar[str] = HOW

    bands: Annotated[
        str | None,
        Option(
            help="Bands to draw as red, green and blue, or one as grey, counted from 1: 3,2,1.",
            show_default="the first",
        ),
    ] = None
    stretch: Annotated[
        str | None,
        Option(metavar="LOW,HIGH", help="Percentiles of the values, 0 to 100, to draw as black and white: 2,98."),
    ] = None


@dataclass(frozen=True)
class MaskOptions:
    """How scores become masks."""

    panel: ClassVar[str] = HOW

    mode: Annotated[
        Literal["exclusive", "independent"],
        Option(help="exclusive: one class per pixel. independent: one mask per class; masks may overlap."),
    ] = "exclusive"
    threshold: Annotated[
        str | None,
        Option(
            help="Minimum presence of a labelled pixel, 0 to 1, or auto, which chooses one for each class.",
            show_default="the model's, 0.5 for most",
        ),
    ] = None
    min_area: Annotated[
        str,
        Option(
            help="Drop connected components of fewer pixels. auto: those under a quarter of a patch join what is "
            "around them; 0 keeps all."
        ),
    ] = "auto"
    max_hole: Annotated[
        str,
        Option(
            help="Fill holes of at most this many pixels; a number needs --mode independent. auto: unlabelled gaps "
            "under a quarter of a patch inside one class; 0 fills none."
        ),
    ] = "auto"


@dataclass(frozen=True)
class ScoreOptions:
    """How images are encoded and scored."""

    panel: ClassVar[str] = HOW

    resolution: Annotated[
        str, Option(help="auto, squash, keep or slide, optionally with sizes: slide:448, slide:448/224/112.")
    ] = "auto"
    refine: Annotated[
        Literal["auto", "none", "guided", "pamr"],
        Option(help="Make the score maps follow the edges of the image. auto: the model's choice."),
    ] = "auto"
    propagate: Annotated[
        Literal["none", "patches", "pixels", "both"],
        Option(help="Let scores flow between patches with alike features, between pixels of alike color, or both."),
    ] = "none"


@dataclass(frozen=True)
class RunOptions(ScoreOptions):
    """How images are encoded and scored, and the folder for the results."""

    panel: ClassVar[str] = OUTPUT

    regions: Regions = None
    vote: Vote = False
    batch: Annotated[
        int,
        Option(
            min=1,
            help="Images encoded together, for GPUs. Above 1, labels of nearly tied pixels may change.",
            rich_help_panel=HOW,
        ),
    ] = 1
    out: Annotated[
        Path,
        Option("--out", "-o", parser=named_folder, metavar="FOLDER", help="Output folder; one subfolder per image."),
    ] = Path("fgseg-out")
    root: Annotated[
        Path | None,
        Option(
            parser=named_folder,
            metavar="FOLDER",
            help="Name subfolders by the path of the image below this folder.",
            show_default="the folder of its source",
        ),
    ] = None
    overwrite: Annotated[
        bool,
        Option("--overwrite", help="Replace results of other images that the output folder holds."),
    ] = False
    skip_existing: Annotated[
        bool,
        Option("--skip-existing", help="Leave images alone whose results are finished, with the same settings."),
    ] = False
    recursive: Recursive = False
    dry_run: Annotated[
        bool,
        Option("--dry-run", help="List what would be read and written, and stop before the model is loaded."),
    ] = False
    open_picture: Annotated[
        bool,
        Option(
            "--open", help="Show the picture in the viewer of this system, or, for several images, the output folder."
        ),
    ] = False


@dataclass(frozen=True)
class ReportOptions:
    """What is printed."""

    panel: ClassVar[str] = OUTPUT

    as_json: Annotated[
        bool,
        Option("--json", help="Print one JSON object per line instead of a table."),
    ] = False
    quiet: Annotated[
        bool,
        Option("--quiet", "-q", help="Print nothing but errors and, with --json, the records."),
    ] = False


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Turn each parameter that is a dataclass of options into one command line option per field.

    The command itself receives the dataclass. Typer reads the options from the signature that is set here.
    """
    parameters = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: parameter.annotation for name, parameter in parameters.items() if is_dataclass(parameter.annotation)
    }

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
            if group is ReportOptions:  # before the command imports heavy modules
                STATUS.start(quiet=values[name].quiet)
        command(**values)

    options = [
        _in_panel(option, _panel(groups.get(name), option.name)).replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in parameters.items()
        for option in (
            inspect.signature(groups[name], eval_str=True).parameters.values() if name in groups else [parameter]
        )
    ]
    vars(run)["__signature__"] = inspect.Signature(options)
    run.__annotations__ = {option.name: option.annotation for option in options}
    know_options({name: _flag(name, annotation) for name, annotation in run.__annotations__.items()})
    return run


def _panel(group: Any, option: str) -> str:
    """The panel of the class that an option of a group is a field of; a group has the options of its base, too."""
    owner = next((base for base in inspect.getmro(group) if option in vars(base)), None) if group else None
    return getattr(owner, "panel", HOW)


def _flag(name: str, annotation: Any) -> str:
    """The long name of an option."""
    names = annotation.__metadata__[0].param_decls or ()
    return next((flag for flag in names if flag.startswith("--")), "--" + name.replace("_", "-"))


def _in_panel(parameter: inspect.Parameter, panel: str) -> inspect.Parameter:
    """The parameter with its option in a panel of the help, unless the option names another."""
    option = copy(parameter.annotation.__metadata__[0])  # several commands may share it
    if isinstance(option, ArgumentInfo):
        return parameter
    option.rich_help_panel = option.rich_help_panel or panel
    return parameter.replace(annotation=Annotated[parameter.annotation.__origin__, option])
