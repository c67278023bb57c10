"""Shows the roles of docstrings, such as ``:func:`load```, as code on the site: an extension of griffe."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|attr|mod):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Replaces each role by the last part of the name that it links."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Called for each object with a docstring, once it is read."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", obj.docstring.value)
