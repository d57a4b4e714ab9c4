"""Fetches the files of a model from the hub into the hub's cache, and no file that fgseg does not read.

A cached model is used without asking the hub. Otherwise the hub lists its files once; config.json comes first, then one
tokenizer, then the tensors: no pickles, no code. The hub's client writes the files. How long it may wait, and what is
said when something goes wrong, is decided here.
"""

import contextlib
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fgseg._files.writers import write_text
from fgseg.encoders.base import Progress
from fgseg.encoders.file_records import is_json
from fgseg.encoders.hub_failures import HubIsBusyError, HubRequest, failure_sentence, is_passing, seconds_to_wait
from fgseg.encoders.networks.config import read_config
from fgseg.errors import FgsegError, ModelNotFoundError, OutputError, WeightsError

__all__ = [
    "CONFIG",
    "INDEX",
    "MAIN",
    "SINGLE",
    "HubModel",
    "ModelKind",
    "cached_snapshot",
    "damaged_lists",
    "fetch_model",
    "has_tensors",
    "is_commit",
    "is_complete",
    "shards",
    "storage_folder",
]

SINGLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
MAIN = "main"

# The first of these that is there is the tokenizer; the files of older formats are read together.
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))
_OLDER_TOO = ("tokenizer_config.json", "special_tokens_map.json")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")

RETRIES = 2
RETRY_SECONDS = 1.0
"""Before the first retry; twice as long before the second. A hub that names a time gets that time."""
LONGEST_WAIT = 30.0
"""Seconds. A hub that asks to wait longer is not waited for; the error says how long it asks."""
GLANCE = 3.0
"""Seconds to wait for an answer where a copy in the cache can be used instead."""

ResultT = TypeVar("ResultT")

log = logging.getLogger("fgseg")


@dataclass(frozen=True)
class HubModel:
    """A published model that fgseg knows by a short name.

    Attributes:
        repository: hub id.
        revision: commit that is loaded by default.
        about: one line about the model.
        size: of the download, as text.
        licence: of the code and weights, by the repository of the code; its data have licences of their own.
    """

    repository: str
    revision: str
    about: str
    size: str
    licence: str = "Apache 2.0"


@dataclass(frozen=True)
class ModelKind:
    """What a name stands for where models of one kind are looked for.

    Attributes:
        noun: what a message calls such a model.
        family: what it should be.
        known: models by short name; None for one in the package.
        check: refuses the content of the config.json of another kind, by a WeightsError.
        has_tokenizer: whether it is complete only with a tokenizer.
        naming: how another revision is named, for a message.
    """

    noun: str
    family: str
    known: Mapping[str, HubModel | None]
    check: Callable[[Mapping[str, Any]], None]
    has_tokenizer: bool
    naming: str

    def repository(self, name: str) -> str:
        """The hub id of a name or hub id."""
        known = self.known.get(name)
        return known.repository if known else name


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit, which never changes."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def cached_snapshot(repository: str, revision: str) -> Path | None:
    """The folder of a revision in the hub's cache, whether or not it is complete; None where there is none.

    A branch or tag is the commit that it was when it was last asked for.
    """
    with contextlib.suppress(OSError, ValueError):  # a name longer than a file may have, or with a null character
        storage = storage_folder(repository)
        reference = storage / "refs" / revision
        commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
        if is_commit(commit) and (storage / "snapshots" / commit).is_dir():
            return storage / "snapshots" / commit
    return None


def is_complete(folder: Path, *, has_tokenizer: bool) -> bool:
    """Whether a snapshot holds config.json, tensors and, for a model that has one, a tokenizer."""
    has_words = not has_tokenizer or any((folder / names[0]).is_file() for names in _TOKENIZERS)
    return has_words and is_json(folder / CONFIG) and has_tensors(folder)


def has_tensors(folder: Path) -> bool:
    """Whether a snapshot holds all its tensor files."""
    if (folder / SINGLE).is_file():
        return True
    return _is_sound(folder / INDEX) and all((folder / name).is_file() for name in shards(folder / INDEX))


def damaged_lists(folder: Path) -> list[Path]:
    """config.json and the index of the tensors, if they are there and cannot be read."""
    return [path for path in (folder / CONFIG, folder / INDEX) if path.exists() and not _is_sound(path)]


def shards(index: Path) -> list[str]:
    """Names of the tensor files in an index.

    Raises:
        WeightsError: not such an index.
    """
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return sorted({str(name) for name in weight_map.values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"{index}: expected a JSON object with a weight_map, got {error!r}; download it again"
        ) from error


def storage_folder(repository: str) -> Path:
    """The folder of a repository in the hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / "--".join(("models", *repository.split("/")))


def fetch_model(
    repository: str,
    revision: str,
    *,
    kind: ModelKind,
    is_default: bool = False,
    damaged: Collection[str] = (),
    glance: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Fetch the files of a model that its snapshot lacks.

    Args:
        repository: hub id.
        revision: commit, tag or branch.
        kind: what the model should be; another config.json is refused before the tensors are fetched.
        is_default: the revision is not the user's; main takes its place where the hub does not have it.
        damaged: names of files that are fetched although they are there.
        glance: give up quickly, since a copy is there.
        progress: shows what is fetched; None shows the bars of the hub's client.

    Returns:
        The folder of the snapshot; its name is the commit.

    Raises:
        ModelNotFoundError: the hub cannot be reached, refuses, or has no such model; or the disk refuses the files.
        WeightsError: a model of another kind.
    """
    request = _request(repository, revision, GLANCE if glance else None)
    fetch = _Fetch(request, damaged, progress, retries=0 if glance else RETRIES)
    try:
        with _client_that_waits_briefly():
            fetch.say("asking the hub for its files")
            commit, names = fetch.listing(is_default=is_default)
            folder = fetch.files(commit, names, kind)
    except FgsegError:
        raise
    except Exception as error:  # the client's HTTP library raises errors that share no base with OSError
        at = repository if revision == MAIN else f"{repository} at {revision}"
        raise ModelNotFoundError(f"model {at}: {failure_sentence(error, request)}") from error
    finally:
        fetch.say("asking the hub for its files", is_done=True)
    _remember(repository, revision, commit)
    return folder


class _Fetch:
    """One fetch: what is asked for, and how patiently."""

    def __init__(
        self, request: HubRequest, damaged: Collection[str], progress: Progress | None, *, retries: int
    ) -> None:
        self.request, self.damaged, self.progress, self.retries = request, frozenset(damaged), progress, retries

    def say(self, what: str, *, is_done: bool = False) -> None:
        if self.progress:
            self.progress(what, int(is_done), 1)

    def listing(self, *, is_default: bool) -> tuple[str, frozenset[str]]:
        """The commit of the revision and the names of its files."""
        from huggingface_hub import HfApi, errors

        request = self.request
        api = HfApi(endpoint=request.endpoint)

        def info_of(revision: str) -> Any:
            return self.patiently(
                lambda: api.model_info(request.repository, revision=revision, timeout=request.timeout)
            )

        try:
            info = info_of(request.revision)
        except errors.RevisionNotFoundError:
            if not is_default:
                raise
            info = info_of(MAIN)
            log.warning(
                "model %s: the hub does not have commit %s, which fgseg expects; the newest one, %s, is used instead, "
                "and results may differ", request.repository, request.revision, info.sha,
            )  # fmt: skip
        return info.sha, frozenset(file.rfilename for file in info.siblings or ())

    def files(self, commit: str, names: frozenset[str], kind: ModelKind) -> Path:
        """Fetch what is needed of these files, in the order in which it can be refused."""
        page = f"{self.request.endpoint}/{self.request.repository}"
        if CONFIG not in names:
            raise ModelNotFoundError(
                f"model {self.request.repository}: it has no {CONFIG}, so it is no {kind.family}; see {page}"
            )
        folder = storage_folder(self.request.repository) / "snapshots" / commit
        self.fetch(commit, folder, [CONFIG])
        kind.check(read_config(folder / CONFIG))
        tokenizer = next((files for files in _TOKENIZERS if files[0] in names), ())
        older = _OLDER_TOO if tokenizer != _TOKENIZERS[0] else ()
        self.fetch(commit, folder, [name for name in (*tokenizer, *older) if name in names])
        if SINGLE in names:
            self.fetch(commit, folder, [SINGLE])
        elif INDEX in names:
            self.fetch(commit, folder, [INDEX])
            self.fetch(commit, folder, self.listed_shards(folder / INDEX, names))
        else:
            raise ModelNotFoundError(f"model {self.request.repository}: {_without_tensors(names, page, kind.naming)}")
        return folder

    def listed_shards(self, index: Path, names: frozenset[str]) -> list[str]:
        """The tensor files that an index names, if the hub lists each."""
        listed = shards(index)
        if missing := [name for name in listed if name not in names]:
            raise ModelNotFoundError(
                f"model {self.request.repository}: {INDEX} names {missing[0]!r}, which the hub does not have; "
                "name another revision, or give a folder"
            )
        return listed

    def fetch(self, commit: str, folder: Path, names: Sequence[str]) -> None:
        """Fetch the files that are not there or are damaged, if the disk has room for all of them."""
        lacking = [name for name in names if name in self.damaged or not _is_sound(folder / name)]
        self.check_room(sum(self.patiently(partial(self.size, commit, name)) for name in lacking))
        for name in lacking:
            self.patiently(partial(self.download, commit, name, is_there=(folder / name).exists()))

    def size(self, commit: str, name: str) -> int:
        """Bytes of a file; this also finds out whether the hub gives it."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        request = self.request
        url = hf_hub_url(request.repository, name, revision=commit, endpoint=request.endpoint)
        return get_hf_file_metadata(url, timeout=request.timeout, endpoint=request.endpoint).size or 0

    def download(self, commit: str, name: str, *, is_there: bool) -> None:
        """Fetch one file into the hub's cache, in place of one that is there."""
        from huggingface_hub import hf_hub_download

        self.say(what := f"downloading {name} (MB)")
        hf_hub_download(
            self.request.repository,
            name,
            revision=commit,
            endpoint=self.request.endpoint,
            etag_timeout=self.request.timeout,
            tqdm_class=_bar_class(self.progress, what) if self.progress else None,
            force_download=is_there,
        )

    def check_room(self, needed: int) -> None:
        """Refuse files for which the disk has no room, before they are fetched."""
        existing = next(path for path in (self.request.cache, *self.request.cache.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if needed > free:
            raise ModelNotFoundError(
                f"model {self.request.repository}: its files take {needed / 1e6:.0f} MB, and the disk of "
                f"{self.request.cache} has {free / 1e6:.0f} MB left; free some space, or name another disk: "
                "HF_HOME=/folder/with/space"
            )

    def patiently(self, ask: Callable[[], ResultT]) -> ResultT:
        """What `ask` returns; it is called again after a fault that may pass in a moment."""
        for attempt in range(1, self.retries + 1):
            try:
                return ask()
            except Exception as error:
                wait = seconds_to_wait(error) or RETRY_SECONDS * attempt
                if not is_passing(error) or wait > LONGEST_WAIT:
                    raise
                self.say(f"waiting for the hub ({type(error).__name__})")
                time.sleep(wait)
        return ask()


def _bar_class(progress: Progress, what: str) -> type[Any]:
    """A bar for the hub's client that draws nothing and reports the bytes of a file."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        """Counts bytes that arrive (`update_transfer`) and bytes that are written (`update`)."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]
            self.arrived = self.written = 0.0
            self.update(options.get("initial"))

        def update(self, n: float | None = 1) -> None:
            self.written += n or 0
            self.show()

        def update_transfer(self, n: float) -> None:
            self.arrived += n
            self.show()

        def set_transfer_postfix_str(self, *_: Any, **__: Any) -> None:
            """Take the rate, which is not shown."""

        def show(self) -> None:
            total = int(self.total or 0)
            progress(what, min(int(max(self.arrived, self.written)), total) // 10**6, total // 10**6)

    return Bar


def _request(repository: str, revision: str, timeout: float | None) -> HubRequest:
    from huggingface_hub import constants, get_token

    seconds = timeout or float(constants.HF_HUB_ETAG_TIMEOUT)
    cache = Path(constants.HF_HUB_CACHE).expanduser()
    return HubRequest(repository, revision, constants.ENDPOINT, cache, get_token() is not None, seconds)


def _remember(repository: str, revision: str, commit: str) -> None:
    """Keep which commit a revision is, where the hub's client keeps it too."""
    if revision == commit:
        return
    try:
        write_text(storage_folder(repository) / "refs" / revision, commit)
    except OutputError as error:
        log.warning("%s; the hub is asked at the next start too", error)


def _without_tensors(names: Collection[str], page: str, naming: str) -> str:
    pickles = sorted(name for name in names if name.endswith(_PICKLES) and "/" not in name)
    if not pickles:
        return f"it has neither {SINGLE} nor {INDEX}; see {page}"
    return (
        f"its weights are pickles only ({pickles[0]}), which can run code, so fgseg does not open them. "
        f"A pull request on {page}/discussions often holds {SINGLE}: name it {naming}"
    )


def _is_sound(path: Path) -> bool:
    """Whether a file of a snapshot is there and, if it is JSON, can be read."""
    if path.name == INDEX:
        try:
            return bool(shards(path))
        except (OSError, WeightsError):
            return False
    return is_json(path) if path.suffix == ".json" else path.is_file()


@contextlib.contextmanager
def _client_that_waits_briefly() -> Iterator[None]:
    """Keep the hub's client from logging every retry, and from waiting for long because a server asks for it."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers, logger.propagate = [_WaitWatcher()], False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


class _WaitWatcher(logging.Handler):
    """Raises an error where the client logs that it is about to sleep for long; it has no option for that."""

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"Waiting ([\d.]+)s", record.getMessage())
        if found and float(found[1]) > LONGEST_WAIT:
            raise HubIsBusyError(float(found[1]))
