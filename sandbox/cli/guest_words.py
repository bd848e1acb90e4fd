"""Which words of a command line are ours and which are the program's, and which of ours an image has no use for."""

from __future__ import annotations

import argparse
import os

from sandbox.x86.errors import ConfigurationError

_NO_FILES = ("root", "files", "write")
_UNUSED: dict[str, tuple[str, ...]] = {
    "rom": (
        *_NO_FILES, "paging", "highmem", "direct_map", "boot", "policies", "devices", "modules", "fail_allocation",
        "strace", "screen", "core", "clock", "epoch", "arguments", "races", "seeds", "stdin",
    ),
    "module": (*_NO_FILES, "strace", "core", "stdin"),
    "recording": (
        *_NO_FILES, "paging", "ram", "highmem", "direct_map", "cpus", "boot", "policies", "devices", "modules",
        "fail_allocation", "seed", "races", "switches", "sanitize", "clock", "epoch", "limit", "arguments", "stdin",
        "seeds",
    ),
    "seeds": ("trace", "strace", "screen", "core", "stats", "status", "seed", "races"),
    "images": (
        *_NO_FILES, "paging", "ram", "highmem", "direct_map", "cpus", "boot", "policies", "devices", "modules",
        "fail_allocation", "seed", "races", "switches", "sanitize", "clock", "epoch", "limit", "time_limit", "seeds",
    ),
    "view": ("sanitize",),
    "none": (*_NO_FILES, "modules", "limit", "time_limit", "at", "end"),
}  # fmt: skip
"""By kind of image or run, options (as argparse calls them) that change nothing about it."""
_SPELT = {
    "switches": "--break",
    "races": "--race",
    "policies": "--policy",
    "devices": "--device",
    "modules": "--module",
    "files": "--file",
}
_WHAT = {
    "rom": "a ROM image",
    "module": "a module by itself",
    "recording": "a recording",
    "seeds": "a run under many seeds",
    "images": "a campaign of images, each on its manifest's machine,",
    "view": "a look at a stopped machine",
    "none": "a machine on which nothing runs",
}


def add_guest_arguments(parser: argparse.ArgumentParser) -> None:
    """The program's own arguments: the words behind the image, from the first that is no option of ours on."""
    parser.usage = f"{parser.prog} [options] IMAGE [options] [ARG ...] [-- ARG ...]"
    parser.set_defaults(arguments=[], takes_guest_words=True)


def name_dashed_files(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """The words of a verb, with ``./`` before each existing file whose name begins with a dash.

    It may stand where a file may: as a word that is none of our options, or as an option's value.  Behind the image,
    for verbs that take the program's own words, these are left as they are.
    """
    found: list[str] = []
    image_seen = False
    while len(found) < len(words):
        word = words[len(found)]
        behind = image_seen and bool(parser.get_default("takes_guest_words"))
        if word == "--" or (behind and not _words_of_option(parser, word)):
            break
        width = 1 if not behind and _is_dashed_file(parser, word) else _words_of_option(parser, word)
        image_seen = image_seen or not word.startswith("-") or _is_dashed_file(parser, word)
        found += [_dotted(parser, each) for each in words[len(found) : len(found) + max(width, 1)]]
    return found + words[len(found) :]


def _is_dashed_file(parser: argparse.ArgumentParser, word: str) -> bool:
    """A word that begins with a dash, is not one of our options, and names a file."""
    known = word.partition("=")[0] in parser._option_string_actions
    return word.startswith("-") and word != "-" and not known and os.path.lexists(word)


def _dotted(parser: argparse.ArgumentParser, word: str) -> str:
    return f"./{word}" if _is_dashed_file(parser, word) else word


def split_guest_words(parser: argparse.ArgumentParser, words: list[str]) -> tuple[list[str], list[str]]:
    """Our words, and the program's.  A word with two dashes gets to the program behind ``--`` only.

    Raises ConfigurationError for one that is not ours, or that stands behind words of the program's.
    """
    image_seen = False
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            # Before the image it keeps that from being taken for an option.
            return (words[:at], words[at + 1 :]) if image_seen else (words[: at + 2], words[at + 2 :])
        width = _words_of_option(parser, word)
        if width:
            at += width
        elif word.startswith("--") or (word.startswith("-") and len(word) > 1 and not image_seen):
            raise _unknown(parser, word)
        elif image_seen:
            return words[:at], _guest(parser, words[at:])
        else:
            image_seen = True
            at += 1
    return words, []


def names_together(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """The words of a verb that takes any number of names, these in front of the options.

    argparse wants them in one piece: ``campaign images -o FILE PATH`` is refused otherwise, as PATH is not beside its
    kind.  An option of several values leaves all as it is.
    """
    several = {each for each, action in parser._option_string_actions.items() if action.nargs in ("*", "+")}
    takes_names = any(each.nargs == "*" and not each.option_strings for each in parser._actions)
    if not takes_names or several.intersection(words):
        return words
    end = words.index("--") if "--" in words else len(words)
    names, options, at = list[str](), list[str](), 0
    while at < end:
        width = _words_of_option(parser, words[at]) or int(words[at].startswith("-"))
        (options if width else names).extend(words[at : at + (width or 1)])
        at += width or 1
    return [*options, "--", *names, *words[end + 1 :]] if end < len(words) else names + options


def _words_of_option(parser: argparse.ArgumentParser, word: str) -> int:
    """How many words an option takes, its value included; 0 for a word that is none of ours."""
    known = parser._option_string_actions
    action = known.get(word.partition("=")[0] if word.startswith("--") else word)
    if action is not None:
        return 1 if "=" in word or action.nargs == 0 else 2
    joined = known.get(word[:2]) if word.startswith("-") and not word.startswith("--") else None
    return 1 if joined is not None and joined.nargs != 0 else 0


def _guest(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """The program's words up to the end; a ``--`` among them goes away, as getopt(3) does it."""
    end = words.index("--") if "--" in words else len(words)
    for word in words[:end]:
        if word.startswith("--"):
            if _words_of_option(parser, word):
                raise ConfigurationError(
                    f"{word} stands behind {words[0]}, which is the program's",
                    f"put {word} in front of {words[0]}, or -- if {word} is meant for the program",
                )
            raise _unknown(parser, word)
    return words[:end] + words[end + 1 :]


def _unknown(parser: argparse.ArgumentParser, word: str) -> ConfigurationError:
    import difflib

    close = difflib.get_close_matches(word.partition("=")[0], parser._option_string_actions, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return ConfigurationError(f"unknown option {word}", f"{meant}Words for the program stand behind --.")


def _is_given(value: object) -> bool:
    """Whether an option's value is not its default; 0 is a number that somebody gave."""
    return value is not None and value is not False and value != []


def refuse_unused(options: argparse.Namespace, kind: str, image: str) -> None:
    """Raises ConfigurationError for options that would do nothing for an image, or a run, of this kind."""
    given = [name for name in _UNUSED.get(kind, ()) if _is_given(getattr(options, name, None))]
    if given:
        names = [
            "arguments of a program" if name == "arguments" else _SPELT.get(name, "--" + name.replace("_", "-"))
            for name in given
        ]
        where = f"{image}: " if image else ""
        raise ConfigurationError(f"{where}{_WHAT[kind]} has no use for {', '.join(names)}")
    if getattr(options, "write", False) and options.root is None:
        raise ConfigurationError("--write: there is no --root whose files could be changed")
