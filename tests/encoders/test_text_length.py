"""Texts that are longer than their route allows."""

import pytest

from fgseg.encoders.tokenizer import check_length
from fgseg.errors import PromptError


def test_a_text_longer_than_its_route_allows_is_refused_with_advice():
    text = "a very long caption of a very small cup on a table"
    expected = (
        "prompt 'a very long caption of a very small cup…': expected at most 77 tokens on the short route, "
        "got 93; shorten it or use route='long' (248)"
    )
    with pytest.raises(PromptError) as caught:
        check_length(93, 77, text, "short", 248)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("count", "limit", "route", "long_limit", "ending"),
    [
        (93, 77, "region", 248, "on the region route, got 93; shorten it"),
        (300, 248, "long", 248, "at most 248 tokens on the long route, got 300; shorten it"),
        (300, 77, "short", 248, "got 300; shorten it"),
        (93, 77, "short", None, "got 93; shorten it"),
        (65, 64, "short", 196, "got 65; shorten it or use route='long' (196)"),
    ],
)
def test_the_long_route_is_recommended_only_where_it_helps(count, limit, route, long_limit, ending):
    with pytest.raises(PromptError) as caught:
        check_length(count, limit, "cup", route, long_limit)
    assert str(caught.value).startswith("prompt 'cup': ")
    assert str(caught.value).endswith(ending)


def test_a_text_of_exactly_the_limit_is_accepted():
    check_length(77, 77, "cup", "short", None)
