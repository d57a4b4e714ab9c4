"""Texts to token ids, with a checkpoint's own tokenizer."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from fgseg.encoders.checkpoint import MODELS
from fgseg.errors import ModelNotFoundError, PromptError, UnknownWordError
from fgseg.prompts.words import quote

__all__ = ["MINI_KNOWS", "Tokenizer", "check_length"]

GEMMA_PAD = 0  # SigLIP 2's tokenizer is Gemma's
MINI_KNOWS = "colours (red, teal), patterns (striped), shapes (circle) and materials (wood)"
"""What the embedded model has words for, with examples."""
MOST_NAMED = 8  # unknown words in one error
_TOKENIZER, _SLOW = "tokenizer.json", ("vocab.json", "tokenizer.model")


class Tokenizer:
    """Token ids of texts, with start and end tokens, neither truncated nor padded.

    The files are read at the first text, so that a model without a tokenizer can still encode images.
    """

    def __init__(self, folder: Path) -> None:
        """Take a model folder; nothing is read yet."""
        self.folder = folder

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text.

        Raises:
            ModelNotFoundError: the folder has no tokenizer.
            UnknownWordError: words without a token, all of them.
        """
        backend, unknown = self._backend
        encodings = backend.encode_batch(list(texts), add_special_tokens=True)
        if unknown is not None:
            self._refuse_unknown(texts, encodings, unknown)
        return [encoding.ids for encoding in encodings]

    def words(self) -> tuple[str, ...]:
        """The words of a closed vocabulary, sorted; empty for a tokenizer that can spell any word."""
        backend, unknown = self._backend
        if unknown is None:
            return ()
        return tuple(sorted(token for token in backend.get_vocab() if token.isalpha()))

    @cached_property
    def pad_token(self) -> int:
        """Id of the token that pads a text to a model's full length, which FG-CLIP 2 reads.

        The config does not tell it: FG-CLIP 2's config class has 1, from CLIP, but its tokenizer pads with 0.
        """
        backend, _ = self._backend
        pad = backend.token_to_id("<pad>")
        return GEMMA_PAD if pad is None else int(pad)

    @cached_property
    def _backend(self) -> tuple[Any, int | None]:
        """A `tokenizers.Tokenizer`, and the id of its unknown token if its vocabulary is closed."""
        backend = self._read()
        backend.no_truncation()
        backend.no_padding()
        model = backend.model
        unknown = getattr(model, "unk_token", None)
        # A byte-level or byte-fallback vocabulary can spell any word; only a word-level one cannot.
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
        except Exception as error:  # the converters raise many kinds for a broken file
            reason = " ".join(str(error).split())
            raise ModelNotFoundError(
                f"{self.folder}: its tokenizer cannot be read without running its code ({reason:.200}); "
                f"put a {_TOKENIZER} there"
            ) from error

    def _refuse_unknown(self, texts: Sequence[str], encodings: Sequence[Any], unknown: int) -> None:
        """Refuse texts with words outside a closed vocabulary, naming every such word once."""
        text_of = {
            text[start:stop]: text
            for text, encoding in zip(texts, encodings, strict=True)
            for identifier, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
            if identifier == unknown
        }
        if not text_of:
            return
        known = self.words()
        named = ", ".join(_with_similar(word, known) for word in list(text_of)[:MOST_NAMED])
        more = len(text_of) - MOST_NAMED
        place = f"prompt {next(iter(text_of.values()))!r}" if len(text_of) == 1 else "prompts"
        is_mini = self.folder.parent.name == "assets"
        about = f"it knows {MINI_KNOWS}; " if is_mini else ""
        raise UnknownWordError(
            f"{place}: this model has never seen the word{'s' * (len(text_of) > 1)} {named}"
            f"{f' and {more} more' if more > 0 else ''}; {about}"
            f"`fgseg models {'mini' if is_mini else self.folder}` lists its words. For any word, load a full model: "
            + ", ".join(f"{name} ({model.size})" for name, model in MODELS.items() if model is not None)
        )


def _with_similar(word: str, known: Sequence[str]) -> str:
    """A word in quotes, with the most similar known word if there is one."""
    similar = get_close_matches(word.lower(), known, n=3, cutoff=0.75)
    return f"{word!r} (similar: {min(similar, key=len)!r})" if similar else repr(word)


def check_length(token_count: int, limit: int, text: str, route: str, long_limit: int | None) -> None:
    """Refuse a text with more tokens than its route takes, so that no text is cut off silently.

    Args:
        token_count: tokens of the text, start and end tokens included.
        limit: maximum number of tokens on this route.
        text: the text, for the message.
        route: "region", "short" or "long". The message suggests the long route in place of "short" only: long texts
            are compared with whole images, not with regions.
        long_limit: maximum number of tokens on the model's long route; None for a model without one.

    Raises:
        PromptError: `token_count` is above `limit`.

    Examples:
        >>> check_length(77, 77, "a cup", "short", 248)
        >>> check_length(93, 77, "a cup " * 91, "short", 248)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        fgseg.errors.PromptError: prompt 'a cup...': expected at most 77 tokens on the short route, got 93; ...
    """
    if token_count <= limit:
        return
    fits_long = route == "short" and long_limit is not None and token_count <= long_limit
    remedy = f"shorten it or use route='long' ({long_limit})" if fits_long else "shorten it"
    raise PromptError(
        f"prompt {quote(text)}: expected at most {limit} tokens on the {route} route, got {token_count}; {remedy}"
    )
