"""What `fgseg segment` and `fgseg heatmap` are asked for, and what they do before the first image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgseg.commands import arguments
from fgseg.commands.options import PromptOptions, ReadOptions, RunOptions
from fgseg.commands.result_folders import check_free, remaining, request_digest, result_folders
from fgseg.commands.terminal.output import Inputs

if TYPE_CHECKING:
    from fgseg.commands.prefetch import Prefetcher
    from fgseg.prompts.classes import PromptClass
    from fgseg.segmenter import Segmenter

__all__ = ["ImageRequest", "Query", "only_class_notes", "read_request"]


@dataclass(frozen=True)
class Query:
    """What is looked for in each image, and how it is read.

    Attributes:
        prompts: the classes.
        competitors: arguments of `Segmenter.segment` for the words that compete with them, and for the templates.
        reading: arguments of `fgseg.images.read_picture`.
        regions: a region map, or a folder with one for each image; None for none.
    """

    prompts: Sequence[PromptClass]
    competitors: dict[str, Any]
    reading: dict[str, Any]
    regions: str | None

    def region_map(self, path: Path) -> str | None:
        """The region map of an image; None for none."""
        from fgseg.guides.region_maps import region_map_for

        return None if self.regions is None else region_map_for(self.regions, str(path))


@dataclass(frozen=True)
class ImageRequest:
    """What a command is asked for.

    Attributes:
        query: what is looked for.
        options: as they were given.
        inputs: the images.
        folders: image -> the folder of its result.
        picture: name of the picture that `--open` shows; None for none.
    """

    query: Query
    options: RunOptions
    inputs: Inputs
    folders: Mapping[Path, Path]
    picture: str | None

    def remaining(
        self, seg: Segmenter, settings: Mapping[str, Any], *, quiet: bool
    ) -> tuple[Inputs, dict[Path, dict[str, Any]]]:
        """As `fgseg.commands.result_folders.remaining`, for this request with these settings of the command."""
        from fgseg.prompts.templates import templates_named

        query, templates = self.query, self.query.competitors["templates"]
        asked = {
            **query.reading, **query.competitors, **settings,
            "classes": [asdict(entry) for entry in query.prompts],
            "templates": None if templates is None else templates_named(templates),  # a file counts by its content
            "regions": query.regions, "region_stamps": arguments.region_stamps(query.regions),
            "batch": self.options.batch,
        }  # fmt: skip
        return remaining(self.inputs, self.folders, request_digest(seg, asked), self.options, quiet=quiet)

    def prefetcher(self, seg: Segmenter, paths: Sequence[Path]) -> Prefetcher:
        """Encodes images that are read ahead."""
        from fgseg.commands.prefetch import Prefetcher

        return Prefetcher(
            seg, paths, resolution=self.options.resolution, batch_size=self.options.batch,
            region_map=self.query.region_map, **self.query.reading,
        )  # fmt: skip


def read_request(
    images: Sequence[str], words: PromptOptions, reading: ReadOptions, options: RunOptions, recipe: str,
    formats: Sequence[str],
) -> ImageRequest:  # fmt: skip
    """The request of a command, checked; folders that must not be written are refused."""
    picture = arguments.picture_to_open(options, formats)
    prompts, competitors = arguments.read_prompts(words), arguments.read_competitors(words)
    query = Query(prompts, competitors, arguments.read_reading(reading), options.regions)
    arguments.check_resolution(options.resolution)
    arguments.check_regions([] if options.regions is None else [options.regions], recipe, vote=options.vote)
    inputs = arguments.find_inputs(images, options.root, recursive=options.recursive, leave_out=options.out)
    if not options.dry_run:
        arguments.check_writable(options.out)
    folders = result_folders(inputs.names, options.out)
    if not options.overwrite:
        check_free(folders)
    return ImageRequest(query, options, inputs, folders, picture)


def only_class_notes(words: PromptOptions) -> Iterable[str]:
    """A hint if the only class was given with a comma, which may have been meant to part classes."""
    prompts = words.prompt or []
    return arguments.comma_notes(prompts) if len(prompts) == 1 and words.classes is None else []
