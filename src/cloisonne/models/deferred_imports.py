"""Defers imports of libraries that diffusers and transformers import but a run of the command line does not use.

Half of the time from a command to its image was imports: compilers, distributed tensors, statistics. Such a module is
a stand-in, whose names import the real module when they are called, read or inherited from. Transformers lists the
names in the sources of all its models once, not twice, and not again in the next process while these sources are the
same; diffusers lists what is installed when it asks for it.
"""

import functools
import gc
import hashlib
import importlib.metadata
import marshal
import os
import sys
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from cloisonne.cache_folder import cache_folder

DEFERRED = (
    *("scipy.integrate", "scipy.optimize", "scipy.stats", "peft", "diffusers.schedulers", "torch._dynamo"),
    *("torch.distributed.tensor", "torch.distributed.checkpoint", "torch.distributed.fsdp"),
    *("torch.distributed._composable", "transformers.distributed.expert_parallel"),
    "transformers.distributed.tensor_parallel",
)
"""Modules that are deferred, with everything in them."""

MARKS = tuple(("torch._dynamo", name) for name in ("allow_in_graph", "assume_constant_result", "disable"))
"""Decorators of deferred modules that only mark functions for a compiler: here they return the function."""


LISTING = ("transformers.utils.import_utils", "create_import_structure_from_path")
"""A function that lists the names in a package's folder; transformers asks it twice for the folder of its models."""


def defer(names: Sequence[str] = DEFERRED) -> "Finder":
    """Defer imports of these modules in this process, except of those that are imported already."""
    finder = Finder(names)
    sys.meta_path.insert(0, finder)
    return finder


def end_deferral() -> None:
    """Import from here on what is imported, such as for a compiler, which is among the deferred modules."""
    for finder in sys.meta_path:
        if isinstance(finder, Finder):
            finder.release()


def list_once() -> None:
    """In this process, list the names of transformers' models once, and what is installed when it is asked for."""
    sys.meta_path.insert(0, Remembering(*LISTING))
    installed: Any = Installed(importlib.metadata.packages_distributions)
    importlib.metadata.packages_distributions = lambda: installed


class Installed(UserDict[str, list[str]]):
    """The distributions of each installed package, listed at the first request."""

    def __init__(self, listing: Callable[[], Mapping[str, list[str]]]) -> None:
        self._listing = listing

    @functools.cached_property
    def data(self) -> dict[str, list[str]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All of them."""
        return dict(self._listing())


@contextmanager
def importing() -> Iterator[None]:
    """In this context, no garbage is collected, because imports make much that stays; nor is it searched later."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


class DeferredName:
    """A name of a module that is not imported yet, in place of a function or class of it."""

    def __init__(self, module: str, name: str, release: Callable[[str], None]) -> None:
        """release: ends the deferral of a module."""
        self._module, self._name, self._release = module, name, release

    def _real(self) -> Any:
        self._release(self._module)
        return getattr(import_module(self._module), self._name)

    def __call__(self, *args: Any, **given: Any) -> Any:
        if (self._module, self._name) in MARKS:
            return args[0] if args and args[0] is not None else lambda function: function
        return self._real()(*args, **given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by Python itself, as in inspection
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __instancecheck__(self, instance: Any) -> bool:
        return self._is_imported and isinstance(instance, self._real())

    def __subclasscheck__(self, kind: type) -> bool:
        return self._is_imported and issubclass(kind, self._real())

    @property
    def _is_imported(self) -> bool:
        return not isinstance(sys.modules.get(self._module, None), StandIn | None)

    def __or__(self, other: Any) -> Any:
        return Any

    __ror__ = __or__


class StandIn(ModuleType):
    """A module that is not imported yet."""

    release: Callable[[str], None]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return DeferredName(self.__name__, name, self.release)


class Finder(MetaPathFinder, Loader):
    """Finds stand-ins for modules of these names and everything in them.

    They stay until one of their names is used, or :meth:`release`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._made: dict[str, ModuleType] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if any(_within(fullname, name) for name in self._names):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._made[spec.name] = made = StandIn(spec.name)
        made.release = self.release
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: its names are made when they are read."""

    def release(self, module: str | None = None) -> None:
        """Take the stand-ins of a module's package, or all of them, out of ``sys.modules`` and of their packages."""
        released = [name for name in self._names if module is None or _within(module, name)]
        self._names = tuple(name for name in self._names if name not in released)
        for name in [name for name in self._made if any(_within(name, own) for own in released)]:
            made = self._made.pop(name)
            if sys.modules.get(name) is made:
                del sys.modules[name]
            parent, _, own = name.rpartition(".")
            if getattr(sys.modules.get(parent), "__dict__", {}).get(own) is made:
                delattr(sys.modules[parent], own)


def _within(module: str, name: str) -> bool:
    """Whether a module is of this name, or in the package of this name."""
    return module == name or module.startswith(f"{name}.")


class Remembering(MetaPathFinder, Loader):
    """Imports a module as usual; a function of it then reads each folder once and returns copies of what it found.

    That is of dicts, sets, lists and texts, and stored in the cache folder for the next process (:func:`stored`).
    """

    def __init__(self, module: str, function: str) -> None:
        self._module, self._function = module, function
        self._usual: Loader | None = None

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            self._usual, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None if self._usual is None else self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert self._usual is not None, "the module was found"
        self._usual.exec_module(module)
        plain = getattr(module, self._function)
        found: dict[str, bytes] = {}
        inside = list[str]()

        def once(path: Any) -> Any:
            folder = os.path.dirname(path) if os.path.isfile(path) else os.fspath(path)
            if inside:  # called by itself, for a folder in the folder
                return plain(folder)
            if folder not in found:
                inside.append(folder)
                try:
                    found[folder] = stored([folder, module.__file__], lambda: marshal.dumps(plain(folder)))
                finally:
                    inside.clear()
            return marshal.loads(found[folder])

        setattr(module, self._function, once)


def stored(sources: Sequence[str | None], make: Callable[[], bytes]) -> bytes:
    """What ``make`` returned in an earlier process, from the cache folder, or returns now.

    sources: files and folders; what was stored counts only for the same Python and for Python files in them of the same
    paths, sizes and times. A cache folder that cannot be read or written costs the time alone.
    """
    state = hashlib.sha256(sys.version.encode())
    for source in sources:
        for path, about in sorted(_files(source or "")):
            state.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    key = state.digest()
    name = hashlib.sha256(repr(sources).encode()).hexdigest()[:16]
    file = cache_folder() / "listings" / name
    with suppress(OSError):
        content = file.read_bytes()
        head, data = content[: 2 * len(key)], content[2 * len(key) :]
        if head == key + hashlib.sha256(data).digest():
            return data
    data = make()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        own = file.with_suffix(f".{os.getpid()}")
        own.write_bytes(key + hashlib.sha256(data).digest() + data)
        own.replace(file)
    return data


def _files(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """The Python files of a folder and everything in it, or a file."""
    if os.path.isfile(path):
        yield path, os.stat(path)
    elif os.path.isdir(path):
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir() and entry.name != "__pycache__":
                    yield from _files(entry.path)
                elif entry.name.endswith(".py"):
                    yield entry.path, entry.stat()
