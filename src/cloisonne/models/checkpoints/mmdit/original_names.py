"""The layers of diffusion transformers by their names in the original repositories (Black Forest Labs, Stability AI,
Tongyi).

An original layer is one of diffusers, or several of them with their outputs one after the other.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


class Original(NamedTuple):
    """A layer of an original repository.

    name: there. layers: names in diffusers, in the order of their outputs. swapped: the two halves of its outputs,
    shift and scale, are in the other order than in diffusers.
    """

    name: str
    layers: tuple[str, ...]
    swapped: bool = False


def originals_of(family: str, config: Mapping[str, Any]) -> Iterator[Original]:
    """The original layers of a family's network, also those that its configuration lacks; none for other families."""
    if (found := _FAMILIES.get(family)) is not None:
        yield from found(config)


_QKV, _ADDED = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")


def _flux(config: Mapping[str, Any]) -> Iterator[Original]:
    for name, layer in {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "final_layer.linear": "proj_out",
        **_pairs("time_in", "time_text_embed.timestep_embedder"),
        **_pairs("vector_in", "time_text_embed.text_embedder"),
        **_pairs("guidance_in", "time_text_embed.guidance_embedder"),
    }.items():
        yield Original(name, (layer,))
    yield Original("final_layer.adaLN_modulation.1", ("norm_out.linear",), swapped=True)
    for i in range(int(config["num_layers"])):
        yield from _double(i, ("net.0.proj", "net.2"))
        for kind, norm in (("img", "norm1"), ("txt", "norm1_context")):
            yield Original(f"double_blocks.{i}.{kind}_mod.lin", (f"transformer_blocks.{i}.{norm}.linear",))
    for i in range(int(config["num_single_layers"])):
        block, own = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        yield Original(f"{block}.linear1", (*(f"{own}.attn.{name}" for name in _QKV), f"{own}.proj_mlp"))
        yield Original(f"{block}.linear2", (f"{own}.proj_out",))
        yield Original(f"{block}.norm.query_norm", (f"{own}.attn.norm_q",))
        yield Original(f"{block}.norm.key_norm", (f"{own}.attn.norm_k",))
        yield Original(f"{block}.modulation.lin", (f"{own}.norm.linear",))


def _double(i: int, feeds: tuple[str, str]) -> Iterator[Original]:
    """A double block without its modulation. feeds: the names of an MLP's layers."""
    block, own = f"double_blocks.{i}", f"transformer_blocks.{i}"
    for kind, projections, norms, out, feed in (
        ("img", _QKV, ("norm_q", "norm_k"), "to_out.0", "ff"),
        ("txt", _ADDED, ("norm_added_q", "norm_added_k"), "to_add_out", "ff_context"),
    ):
        yield Original(f"{block}.{kind}_attn.qkv", tuple(f"{own}.attn.{name}" for name in projections))
        yield Original(f"{block}.{kind}_attn.norm.query_norm", (f"{own}.attn.{norms[0]}",))
        yield Original(f"{block}.{kind}_attn.norm.key_norm", (f"{own}.attn.{norms[1]}",))
        yield Original(f"{block}.{kind}_attn.proj", (f"{own}.attn.{out}",))
        yield Original(f"{block}.{kind}_mlp.0", (f"{own}.{feed}.{feeds[0]}",))
        yield Original(f"{block}.{kind}_mlp.2", (f"{own}.{feed}.{feeds[1]}",))


def _flux2(config: Mapping[str, Any]) -> Iterator[Original]:
    modulations = ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")
    for name, layer in {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "final_layer.linear": "proj_out",
        **_pairs("time_in", "time_guidance_embed.timestep_embedder"),
        **{f"{name}.lin": f"{name}.linear" for name in modulations},
    }.items():
        yield Original(name, (layer,))
    yield Original("final_layer.adaLN_modulation.1", ("norm_out.linear",), swapped=True)
    for i in range(int(config["num_layers"])):
        yield from _double(i, ("linear_in", "linear_out"))
    for i in range(int(config["num_single_layers"])):
        block, own = f"single_blocks.{i}", f"single_transformer_blocks.{i}.attn"
        yield Original(f"{block}.linear1", (f"{own}.to_qkv_mlp_proj",))
        yield Original(f"{block}.linear2", (f"{own}.to_out",))
        yield Original(f"{block}.norm.query_norm", (f"{own}.norm_q",))
        yield Original(f"{block}.norm.key_norm", (f"{own}.norm_k",))


def _zimage(config: Mapping[str, Any]) -> Iterator[Original]:
    """Those of other names than in diffusers."""
    patch = f"{config['all_patch_size'][0]}-{config['all_f_patch_size'][0]}"
    yield Original("x_embedder", (f"all_x_embedder.{patch}",))
    for name in ("linear", "adaLN_modulation.1"):
        yield Original(f"final_layer.{name}", (f"all_final_layer.{patch}.{name}",))
    refiners = range(int(config["n_refiner_layers"]))
    blocks = [f"{kind}.{i}" for kind in ("noise_refiner", "context_refiner") for i in refiners]
    for block in (*blocks, *(f"layers.{i}" for i in range(int(config["n_layers"])))):
        yield Original(f"{block}.attention.qkv", tuple(f"{block}.attention.{name}" for name in _QKV))
        yield Original(f"{block}.attention.out", (f"{block}.attention.to_out.0",))
        yield Original(f"{block}.attention.q_norm", (f"{block}.attention.norm_q",))
        yield Original(f"{block}.attention.k_norm", (f"{block}.attention.norm_k",))


def _pairs(name: str, layer: str) -> dict[str, str]:
    return {f"{name}.in_layer": f"{layer}.linear_1", f"{name}.out_layer": f"{layer}.linear_2"}


def _sd3(config: Mapping[str, Any]) -> Iterator[Original]:
    for name, layer in {
        "x_embedder.proj": "pos_embed.proj",
        "context_embedder": "context_embedder",
        "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
        "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
        "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
        "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
        "final_layer.linear": "proj_out",
    }.items():
        yield Original(name, (layer,))
    yield Original("final_layer.adaLN_modulation.1", ("norm_out.linear",), swapped=True)
    last = int(config["num_layers"]) - 1
    for i in range(last + 1):
        image, text, own = f"joint_blocks.{i}.x_block", f"joint_blocks.{i}.context_block", f"transformer_blocks.{i}"
        for layer in ("attn", "attn2"):
            yield Original(f"{image}.{layer}.qkv", tuple(f"{own}.{layer}.{name}" for name in _QKV))
            yield Original(f"{image}.{layer}.ln_q", (f"{own}.{layer}.norm_q",))
            yield Original(f"{image}.{layer}.ln_k", (f"{own}.{layer}.norm_k",))
            yield Original(f"{image}.{layer}.proj", (f"{own}.{layer}.to_out.0",))
        yield Original(f"{text}.attn.qkv", tuple(f"{own}.attn.{name}" for name in _ADDED))
        yield Original(f"{text}.attn.ln_q", (f"{own}.attn.norm_added_q",))
        yield Original(f"{text}.attn.ln_k", (f"{own}.attn.norm_added_k",))
        yield Original(f"{text}.attn.proj", (f"{own}.attn.to_add_out",))
        for block, feed in ((image, "ff"), (text, "ff_context")):
            yield Original(f"{block}.mlp.fc1", (f"{own}.{feed}.net.0.proj",))
            yield Original(f"{block}.mlp.fc2", (f"{own}.{feed}.net.2",))
        yield Original(f"{image}.adaLN_modulation.1", (f"{own}.norm1.linear",))
        # The last block's text is not used further, and only shifted and scaled.
        yield Original(f"{text}.adaLN_modulation.1", (f"{own}.norm1_context.linear",), swapped=i == last)


_FAMILIES: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Original]]] = {
    "flux": _flux,
    "kontext": _flux,
    "sd3": _sd3,
    "flux2": _flux2,
    "zimage": _zimage,
}
