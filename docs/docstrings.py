"""Let the API page show what docstrings call `Example:` as code: the reader of docstrings knows `Examples:` only."""

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Rename the section as objects are read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename it in one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
