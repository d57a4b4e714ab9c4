"""Words to token ids, with a checkpoint's own tokenizer."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fgseg.encoders.checkpoint import MODELS
from fgseg.errors import ModelNotFoundError, PromptError
from fgseg.prompts.words import quote

__all__ = ["LONG_ROUTE_TOKENS", "Tokenizer", "check_length"]

GEMMA_PAD = 0  # SigLIP 2's tokenizer is Gemma's
_TOKENIZER, _SLOW = "tokenizer.json", ("vocab.json", "tokenizer.model")


class Tokenizer:
    """Token ids of texts, start and end tokens included, never truncated, never padded.

    The files are read when the first text comes, so that a folder without a tokenizer still serves images.
    """

    def __init__(self, folder: Path) -> None:
        """Take the tokenizer of a model folder; nothing is read yet."""
        self.folder = folder

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text.

        Raises:
            ModelNotFoundError: the folder has no tokenizer.
            PromptError: a word that the tokenizer has no token for.
        """
        backend, unknown = self._backend
        encodings = backend.encode_batch(list(texts), add_special_tokens=True)
        if unknown is not None:
            for text, encoding in zip(texts, encodings, strict=True):
                self._refuse_unknown(text, encoding, unknown)
        return [encoding.ids for encoding in encodings]

    def words(self) -> tuple[str, ...]:
        """The words of a closed vocabulary, sorted; empty where any word can be spelled."""
        backend, unknown = self._backend
        if unknown is None:
            return ()
        return tuple(sorted(token for token in backend.get_vocab() if token.isalpha()))

    @cached_property
    def pad_token(self) -> int:
        """Id that fills a text up to a model's full length; FG-CLIP 2 reads it.

        A config is no help: FG-CLIP 2's class says 1, CLIP's legacy, where its tokenizer pads with 0.
        """
        backend, _ = self._backend
        pad = backend.token_to_id("<pad>")
        return GEMMA_PAD if pad is None else int(pad)

    @cached_property
    def _backend(self) -> tuple[Any, int | None]:
        """A `tokenizers.Tokenizer`, and the id of its unknown token where an unknown word is possible."""
        backend = self._read()
        backend.no_truncation()
        backend.no_padding()
        model = backend.model
        unknown = getattr(model, "unk_token", None)
        # A byte-level or byte-fallback vocabulary can spell any word; only a word-level one has holes.
        is_closed = type(model).__name__ == "WordLevel" and unknown is not None
        return backend, backend.token_to_id(unknown) if is_closed else None

    def _read(self) -> Any:
        from tokenizers import Tokenizer as Backend

        if (self.folder / _TOKENIZER).is_file():
            try:
                return Backend.from_file(str(self.folder / _TOKENIZER))
            except Exception as error:  # tokenizers raises bare Exception
                raise ModelNotFoundError(
                    f"{self.folder / _TOKENIZER}: cannot be read ({error}); download it again"
                ) from error
        if any((self.folder / name).is_file() for name in _SLOW):
            return self._converted()
        raise ModelNotFoundError(
            f"{self.folder}: words need {_TOKENIZER} beside the weights, and it is missing; images alone can be encoded"
        )

    def _converted(self) -> Any:
        """The older files, CLIP's vocab.json and merges.txt or Gemma's tokenizer.model, as transformers reads them."""
        from transformers import AutoTokenizer  # seconds to import

        try:
            slow = AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
            return slow.backend_tokenizer
        except Exception as error:  # whatever a broken file makes the converters raise
            reason = " ".join(str(error).split())
            raise ModelNotFoundError(
                f"{self.folder}: its tokenizer cannot be read without running its code ({reason:.200}); "
                f"put a {_TOKENIZER} there"
            ) from error

    def _refuse_unknown(self, text: str, encoding: Any, unknown: int) -> None:
        for identifier, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            if identifier == unknown:
                others = ", ".join(name for name in MODELS if name != "mini")
                own = "mini" if self.folder.parent.name == "assets" else self.folder
                raise PromptError(
                    f"prompt {text!r}: this model has never seen the word {text[start:stop]!r}; "
                    f"`fgseg models {own}` lists those it knows. For any word, load a real model: {others}"
                )


LONG_ROUTE_TOKENS = 248
"""Tokens of FG-CLIP 1's long route: the rows of its published position table."""


def check_length(
    token_count: int, limit: int, text: str, route: str, *, long_limit: int | None = LONG_ROUTE_TOKENS
) -> None:
    """Refuse a text with more tokens than its route takes; nothing is ever cut off silently.

    Args:
        token_count: tokens of the text, those for its start and end included.
        limit: most tokens on this route.
        text: the text, for the message.
        route: "region", "short" or "long". Only "short" is told of the long route: long texts compare with
            whole images, not with regions.
        long_limit: most tokens on the model's long route; None where it has none.

    Raises:
        PromptError: `token_count` is over `limit`.

    >>> check_length(77, 77, "a cup", "short")
    >>> check_length(93, 77, "a cup " * 91, "short")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    fgseg.errors.PromptError: prompt 'a cup...': expected at most 77 tokens on the short route, got 93; ...
    """
    if token_count <= limit:
        return
    fits_long = route == "short" and long_limit is not None and token_count <= long_limit
    way_out = f"shorten it or use route='long' ({long_limit})" if fits_long else "shorten it"
    raise PromptError(
        f"prompt {quote(text)}: expected at most {limit} tokens on the {route} route, got {token_count}; {way_out}"
    )
