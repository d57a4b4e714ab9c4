"""Which run a result belongs to: the settings that decide it, and what is only recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fgseg._checks import check_choice
from fgseg.errors import OptionError
from fgseg.prompts.classes import PromptClass

__all__ = ["RunIdentity", "Writer"]

_KEY_LETTERS = 11  # of the hash in names of files and folders
_WRITER_LETTERS = 8
_SHOWN = 60  # letters of a value in a message


@dataclass(frozen=True)
class RunIdentity:
    """The settings that decide a result. Runs with other settings are kept apart.

    Attributes:
        settings: values that JSON holds. "mode" is "exclusive" or "independent"; "classes" is a list of {"name",
            "prompts", "color"}, where color is [red, green, blue] or None. The others may have any name.

    Raises:
        OptionError: no mode, no classes, or a value that JSON does not hold.

    >>> identity = RunIdentity({"mode": "exclusive", "classes": [{"name": "cup", "prompts": ["cup"], "color": None}]})
    >>> identity.key, identity.classes
    ('r97d325d7672', (PromptClass(name='cup', synonyms=('cup',), color=None),))
    """

    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_choice("settings['mode']", self.settings.get("mode"), ("exclusive", "independent"))
        if not self.settings.get("classes"):
            raise OptionError("settings['classes']: expected a list of classes, got none; name what is looked for")
        object.__setattr__(self, "settings", json.loads(_json("settings", self.settings)))

    @cached_property
    def key(self) -> str:
        """A short hash of the settings, the name of the run in the store."""
        return f"r{_digest(self.settings, _KEY_LETTERS)}"  # readers of "run=KEY" would take digits alone for a number

    @cached_property
    def classes(self) -> tuple[PromptClass, ...]:
        """The classes in label order."""
        return tuple(_prompt_class(entry) for entry in self.settings["classes"])

    def differences(self, stored: RunIdentity) -> list[str]:
        """What differs from the settings of another run, a line per setting.

        >>> classes = [{"name": "cup", "prompts": ["cup"], "color": None}]
        >>> now = RunIdentity({"mode": "exclusive", "classes": classes, "threshold": 0.4})
        >>> now.differences(RunIdentity({"mode": "exclusive", "classes": classes, "threshold": 0.5}))
        ['threshold: stored 0.5, now 0.4']
        """
        names = dict.fromkeys([*stored.settings, *self.settings])
        values = ((name, stored.settings.get(name), self.settings.get(name)) for name in names)
        return [f"{name}: stored {_shown(old)}, now {_shown(new)}" for name, old, new in values if old != new]


@dataclass(frozen=True)
class Writer:
    """Who wrote rows, and with what. It is recorded beside them and does not decide a result.

    Attributes:
        record: values that JSON holds, such as the host, the versions of packages, threads and batch size.

    Raises:
        OptionError: a value that JSON does not hold.
    """

    record: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "record", json.loads(_json("record", self.record)))

    @cached_property
    def key(self) -> str:
        """A short hash of the record, which rows carry."""
        return _digest(self.record, _WRITER_LETTERS)


def _prompt_class(entry: Mapping[str, Any]) -> PromptClass:
    color = entry.get("color")
    return PromptClass(
        entry["name"], tuple(entry["prompts"]), None if color is None else (color[0], color[1], color[2])
    )


def _digest(values: Mapping[str, Any], letters: int) -> str:
    return hashlib.sha256(_json("settings", values).encode()).hexdigest()[:letters]


def _json(name: str, values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(values, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name}: expected values that JSON holds, got {error}; convert them") from error


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
