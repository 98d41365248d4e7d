"""What was probably meant by a word that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence


def nearest_of(word: str, words: Sequence[str]) -> str:
    """The word that was probably meant, as a question with a space after it; empty if none is near."""
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]}? " if near else ""


def nearest_key(key: str, keys: Sequence[str], as_typed: Callable[[str], str]) -> str:
    """The dotted key that was probably meant, or those that there are in its place.

    It is compared among its siblings by its last word alone: a long common prefix makes any two keys
    look alike. keys: all that there are, parents included; as_typed: how each is written.
    """
    parent, _, word = key.rpartition(".")
    if parent and parent not in keys:
        return nearest_key(parent, keys, as_typed)
    siblings = [k for k in keys if k.rpartition(".")[0] == parent and not k.endswith("_")]
    words = {k.rpartition(".")[2]: as_typed(k) for k in siblings}
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.7)
    if near:
        return f"did you mean {words[near[0]]}?"
    return f"known here: {', '.join(words.values()) or f'none, {parent} takes no arguments'}"
