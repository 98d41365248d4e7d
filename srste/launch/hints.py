"""Suggestions for words and keys that do not exist."""

import difflib
from collections.abc import Callable, Sequence


def nearest_of(word: str, words: Sequence[str]) -> str:
    """Return "did you mean ...? " with the most similar word; empty if none is similar."""
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]}? " if near else ""


def nearest_key(key: str, keys: Sequence[str], as_typed: Callable[[str], str]) -> str:
    """Suggest the most similar dotted key, or list the keys that exist beside it.

    Only the last words of siblings are compared: a long common prefix makes any two keys similar. A key
    of that last word further below comes next.
    keys: all that exist, parents included; as_typed: how each is written.
    """
    parent, _, word = key.rpartition(".")
    if parent and parent not in keys:
        return nearest_key(parent, keys, as_typed)
    siblings = [k for k in keys if k.rpartition(".")[0] == parent and not k.endswith("_")]
    words = {k.rpartition(".")[2]: as_typed(k) for k in siblings}
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.7)
    if near:
        return f"did you mean {words[near[0]]}?"
    if below := [k for k in keys if k.startswith(f"{parent}.") and k.endswith(f".{word}")]:
        return f"did you mean {as_typed(below[0])}?"
    return f"known here: {', '.join(words.values()) or f'none, {parent} takes no arguments'}"
