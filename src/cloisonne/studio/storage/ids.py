"""Ids of jobs and pictures: 128 random bits in hexadecimal, made by the server."""

import re
import secrets

_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """A new id."""
    return secrets.token_hex(16)


def is_id(text: object) -> bool:
    """Whether a value has the form of an id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None
