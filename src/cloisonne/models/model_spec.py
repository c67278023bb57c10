"""``ModelSpec``: a model's source, its placement and its add-ons, as a value that JSON can hold."""

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, Unpack

from cloisonne.errors import CapabilityError
from cloisonne.models.checkpoints.json_file import json_object, read_json
from cloisonne.models.checkpoints.sources import check_path
from cloisonne.models.options import (
    PATHS,
    CompileMode,
    LoadOptions,
    Offload,
    PathText,
    Precision,
    Prediction,
    Resampling,
    checked,
)
from cloisonne.scene.values import brief, closest


@dataclass(frozen=True)
class ModelSpec:
    """A model as a value: ``load`` makes equal models of equal specs, here, in another process or on another machine.

    Attributes:
        source: the built-in family ("builtin"), a diffusers folder, a single ``.safetensors`` or ``.gguf`` file, or
            a hub id ("owner/name").
        device: where the networks run.
        dtype: of the networks; None means float32 on the CPU and float16 elsewhere.
        offload: keep each network in the CPU's memory except while it runs; "group" does so with each block of a
            diffusion transformer and each layer of its text encoders.
        compile: compile the repeated blocks of the network by torch.compile, in the mode "default" or
            "reduce-overhead" (CUDA graphs); the first image of a process takes longer.
        variant: of a folder's weights, such as "fp16"; None means the plain weights, or the ones there are.
        transformer: a ``.safetensors`` or ``.gguf`` file with a diffusion transformer, in place of the folder's own;
            quantised weights stay so.
        text_encoders: files of text encoders, for a single file with a diffusion transformer.
        vae: a file of the autoencoder, for the same.
        tokenizer: a folder, for a single file, which has no tokenizer.
        prediction: what the network predicts, for a single file that does not declare it; for a folder only the
            value in its scheduler's configuration.
        vae_tiling: decode large images in tiles, without seams.
        vae_slicing: decode image by image.
        lora: LoRA files of any trainer, fused at their scales.
        embeddings: textual inversions. A file that names no word gives its own name to the word.
        regional_lora: LoRA files by name, {"ink": FILE}, not fused: each applies only in the regions whose ``lora``
            names it.
        adapters: T2I-Adapters or ControlNets by kind of control, {"canny": PATH}.
        fuser: a CoAdapter's file, which combines T2I-Adapters.
        exemplar: a folder of Paint by Example, whose network generates the regions' exemplars next to this model's, or
            the ``.safetensors`` file of an IP-Adapter. A folder of Paint by Example may also be the source, for scenes
            without text.
        image_encoder: the folder of the IP-Adapter's image encoder; None means next to its file, as published.
        mask_resampling: how exemplar masks are resized to the latents, "nearest" as in diffusers' pipeline; published
            weights were trained with "bilinear".
        segmenter: a folder of CLIPSeg, for MRGD's losses.

    Raises:
        CapabilityError: a value is none of its field's.
    """

    source: str = "builtin"
    _: KW_ONLY
    device: str = "cpu"
    dtype: Precision | None = None
    offload: Offload = False
    compile: CompileMode | None = None
    variant: str | None = None
    transformer: str | None = None
    text_encoders: tuple[str, ...] = ()
    vae: str | None = None
    tokenizer: str | None = None
    prediction: Prediction | None = None
    vae_tiling: bool = False
    vae_slicing: bool = False
    lora: tuple[tuple[str, float], ...] = ()
    embeddings: tuple[str, ...] = ()
    regional_lora: Mapping[str, str] = field(default_factory=dict[str, str])
    adapters: Mapping[str, str] = field(default_factory=dict[str, str])
    fuser: str | None = None
    exemplar: str | None = None
    image_encoder: str | None = None
    mask_resampling: Resampling = "bilinear"
    segmenter: str | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, checked(one.name, getattr(self, one.name)))

    def __hash__(self) -> int:
        return hash(self.to_json())

    @classmethod
    def of(cls, source: "ModelSource" = "builtin", **options: Unpack[LoadOptions]) -> "ModelSpec":
        """The spec of what ``load`` takes: a source, the path of a spec's JSON file, a dict of fields, or a spec.

        Options are added as by :meth:`with_options`. Raises CapabilityError or CheckpointError for an invalid spec.
        """
        if isinstance(source, cls):
            spec = source
        elif isinstance(source, Mapping):
            spec = cls.from_dict(source)
        elif isinstance(source, str | PathLike) and Path(source).suffix == ".json":
            spec = cls.read(source)
        else:
            spec = cls(source)  # pyright: ignore[reportArgumentType]  # refused where it is no text
        return spec.with_options(**options)

    def with_options(self, **options: Unpack[LoadOptions]) -> "ModelSpec":
        """The spec with further add-ons, and with each other option of these in place of its own.

        LoRAs and embeddings follow those of the spec; adapters and LoRAs by region replace those of the same key.
        Raises TypeError for an unknown option, CapabilityError for an invalid value.
        """
        for name in options:
            if name not in LoadOptions.__annotations__:
                raise TypeError(f"load() has no keyword {_unknown(name, list(LoadOptions.__annotations__))}")
        given: dict[str, Any] = dict(options)
        new = type(self)(**given)
        changes = {name: getattr(new, name) for name in given}
        for name in ("lora", "embeddings"):
            changes[name] = (*getattr(self, name), *getattr(new, name))
        for name in ("regional_lora", "adapters"):
            changes[name] = {**getattr(self, name), **getattr(new, name)}
        return replace(self, **changes)

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name, without the source."""
        return {one.name: value for one in fields(self)[1:] if (value := getattr(self, one.name)) != _default(one)}

    def resolved(self, folder: Path) -> "ModelSpec":
        """The spec with relative paths taken from this folder; the source's only where there is such a path."""

        def path(name: str) -> str:
            return str(folder / Path(name).expanduser())

        local = self.source != "builtin" and Path(path(self.source)).exists()
        optional = {name: getattr(self, name) for name in PATHS}
        return replace(
            self,
            source=path(self.source) if local else self.source,
            lora=tuple((path(file), scale) for file, scale in self.lora),
            embeddings=tuple(path(file) for file in self.embeddings),
            text_encoders=tuple(path(file) for file in self.text_encoders),
            regional_lora={name: path(file) for name, file in self.regional_lora.items()},
            adapters={kind: path(file) for kind, file in self.adapters.items()},
            **{name: path(file) for name, file in optional.items() if file is not None},
        )

    def to_dict(self) -> dict[str, Any]:
        """The source and the options that differ from their defaults, as JSON values."""
        return json.loads(json.dumps({"source": self.source, **self.given()}))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelSpec":
        """The spec of these fields. Raises CapabilityError for an unknown field or an invalid value."""
        known = [one.name for one in fields(cls)]
        for name in values:
            if name not in known:
                raise CapabilityError(f"A model spec has no field {_unknown(name, known)}")
        return cls(**{name: checked(name, value, name) for name, value in values.items()})

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """The spec of a JSON object. Raises CheckpointError for other text, CapabilityError as :meth:`from_dict`."""
        return cls.from_dict(json_object(text, "The model spec"))

    @classmethod
    def read(cls, file: PathText) -> "ModelSpec":
        """The spec in a JSON file, its relative paths taken from the file's folder.

        Raises CheckpointError where the file is missing or no JSON object, CapabilityError as :meth:`from_dict`.
        """
        path = Path(file).expanduser()
        check_path(path, "model spec")
        try:
            return cls.from_dict(read_json(path, "correct it")).resolved(path.parent.absolute())
        except CapabilityError as error:
            raise CapabilityError(f'"{path}": {error}') from None


ModelSource: TypeAlias = ModelSpec | Mapping[str, Any] | PathText
"""A spec, a dict of its fields, the path of its JSON file, or a model's source."""


def _default(one: Any) -> Any:
    return one.default if one.default is not MISSING else one.default_factory()


def _unknown(name: str, known: list[str]) -> str:
    meant = closest(name, known)
    return f"{brief(name)}; " + (f'did you mean "{meant}"?' if meant else f"there are {', '.join(known)}.")
