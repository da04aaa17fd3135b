"""Hold a configuration as one tree of frozen dataclasses, and carry it to YAML, to options and back.

    dataclass tree  --write_config-->  YAML with a comment per field  --read_config-->  the same tree
          |  ^
          |  `--override({"optimizer.lr": 3e-4})--  collect(options)  <--  `--optimizer.lr 3e-4`
          `--flatten-->  {"optimizer.lr": 3e-4, ...}

A field's default, its type and the string under it are stated once, in the class. A configuration is data: reading it
builds numbers, texts, tuples, mappings and the named dataclasses, and nothing else.

Fields may be `int`, `float`, `bool`, `str`, `Literal[...]`, `tuple[X, ...]`, `tuple[X, Y]`, `Mapping[str, X]`, another
dataclass, and unions of these with each other and with `None`.
"""

from tubelet.config.document import read_config, read_values, write_config, write_value
from tubelet.config.fields import FieldText, describe_fields
from tubelet.config.options import collect, overrides_type
from tubelet.config.tree import Place, build, build_at, flatten, override

__all__ = [
    "FieldText",
    "Place",
    "build",
    "build_at",
    "collect",
    "describe_fields",
    "flatten",
    "override",
    "overrides_type",
    "read_config",
    "read_values",
    "write_config",
    "write_value",
]
