"""Which networks leave the device when another one runs. Weights cannot leave torch's device "meta", which raises."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdit_families import WRITERS
from torch import nn

from cloisonne.models.checkpoints.assemble import Placement, put
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

X = torch.zeros(1, 2, device="meta")


def placed() -> list[nn.Module]:
    """Two text encoders, a transformer and an autoencoder."""
    made: list[nn.Module] = [nn.Linear(2, 2) for _ in range(4)]
    put(made, Placement(torch.device("meta"), torch.float32, offload=True), together=made[:2])
    return made


def on_device(modules: Sequence[nn.Module]) -> list[int]:
    return [i for i, module in enumerate(modules) if next(module.parameters()).device.type == "meta"]


def test_text_encoders_stay_together() -> None:
    modules = placed()
    assert on_device(modules) == []
    for _ in range(2):
        for encoder in modules[:2]:
            encoder(X)
    assert on_device(modules) == [0, 1]


@pytest.mark.parametrize(("first", "then"), [(0, 2), (1, 2), (2, 3), (2, 0), (3, 2), (3, 1)])
def test_any_other_network_leaves(first: int, then: int) -> None:
    """In whatever order they run, such as a text after a run that was cancelled in the transformer."""
    modules = placed()
    modules[first](X)
    assert on_device(modules) == [first]
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        modules[then](X)


def groups_of(module: nn.Module) -> list[Any]:
    """The groups of diffusers' hooks in a network."""
    found = [getattr(own, "_diffusers_hook", None) for own in module.modules()]
    hooks = (registry.get_hook("group_offloading") for registry in found if registry is not None)
    return [hook.group for hook in hooks if hook is not None]


@pytest.fixture(scope="module", params=WRITERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS[request.param](tmp_path_factory.mktemp(request.param))


def test_each_block_is_a_group(folder: Path) -> None:
    """For a GPU; nothing is moved there before it runs. Next to the blocks, what is around them is one group."""
    model = load(folder)
    network: Any = model.net.modules[0]
    modules = [*model.text.modules, network, model.vae.module]
    put(modules, Placement(torch.device("cuda"), torch.float32, offload="group"), together=model.text.modules)
    groups = groups_of(network)
    assert {str(group.onload_device) for group in groups} == {"cuda"}
    assert {str(group.offload_device) for group in groups} == {"cpu"}
    blocks = {id(own) for name, own in network.named_modules() if name in model.net.block_names()}
    assert blocks <= {id(own) for group in groups for own in group.modules if len(group.modules) == 1}
    grouped = {id(p) for group in groups for own in (*group.modules, *group.parameters) for p in parameters(own)}
    assert grouped == {id(parameter) for parameter in network.parameters()}
    for encoder in model.text.modules:
        sizes = [sum(p.numel() for own in group.modules for p in own.parameters()) for group in groups_of(encoder)]
        assert max(sizes) == max(p.numel() for p in encoder.parameters())
    assert groups_of(model.vae.module) == []
    assert model.vae.module._hf_hook is not None


def parameters(own: nn.Module | nn.Parameter) -> Sequence[nn.Parameter]:
    return [own] if isinstance(own, nn.Parameter) else [*own.parameters()]


def test_an_image_of_groups_is_the_same(folder: Path) -> None:
    pet = Region(name="pet", box=(0, 0, 0.5, 1), phrase="a dog")
    scene = Scene(caption="a red cat", seed=0, steps=2, width=64, height=64, regions=[pet])
    grouped = load(folder, offload="group")
    assert len(groups_of(grouped.net.modules[0])) > 2
    assert torch.equal(generate(scene, grouped).latents, generate(scene, load(folder)).latents)
