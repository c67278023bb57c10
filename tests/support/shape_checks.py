"""The type checker that the tests put on modules whose signatures name shapes."""

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

# The import hook decorates methods one by one, and ``Self`` means nothing outside of its class.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({Self: Any})))
