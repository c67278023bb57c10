"""The nodes, loaded as ComfyUI loads them, on the stand-in of its protocol."""

import sys
from collections.abc import Iterator

import pytest
from comfy_protocol import FOLDER, Host, Nodes, load_extension


@pytest.fixture(scope="package")
def loaded() -> Iterator[Nodes]:
    host = Host()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in host.modules().items():
            patch.setitem(sys.modules, name, module)
        yield Nodes(load_extension(FOLDER), host)


@pytest.fixture
def nodes(loaded: Nodes) -> Nodes:
    loaded.host.bars.clear()
    loaded.host.interrupt_after = None
    loaded.host.folders.clear()
    return loaded
