"""What is asked of a worker: images of a list of scenes, each with its seed and file; and what comes back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cloisonne.errors import CloisonneError, SceneError, spelled
from cloisonne.pipelines.batches.manifest import Maker
from cloisonne.scene.io.content_hash import content_hash, seed_of
from cloisonne.scene.io.scene_list import NamedScene, SceneList, UnreadableScene
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import brief


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """An image to generate.

    Attributes:
        file: the image's name.
        name: of its scene.
        content: the scene's content hash.
        scene: with the image's seed.
        warnings: of the scene's import.
    """

    file: str
    name: str
    content: str
    scene: Scene
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A scene, or one image of it, that was not generated.

    Attributes:
        name: of the scene, or its place in the list.
        error: one sentence.
        images: how many images it is about.
    """

    name: str
    error: str
    images: int = 1


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A generated image as a PNG file. about: its width, height, dropped regions and warnings."""

    request: ImageRequest
    maker: Maker
    about: Mapping[str, Any]
    png: bytes


class WorkerEnded(Exception):
    """A worker process ended: killed, out of memory, or crashed."""


class Worker(Protocol):
    """A process with a loaded model."""

    def open(self) -> Maker:
        """Start it and load the model. Raises CloisonneError where that is refused, or WorkerEnded."""
        ...

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[tuple[dict[str, Any], bytes]]:
        """For each request in turn its message and PNG; a message with "error" has no PNG. Raises WorkerEnded."""
        ...

    def kill(self) -> None:
        """End it, from any thread."""
        ...

    def close(self) -> None:
        """End it and release what it used."""
        ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The images of a list of scenes.

    Attributes:
        scenes: the list.
        fields: fields that replace those of every scene.
        num_images: of each scene.
        model: name of the model that every scene uses. None: that of the first scene.
    """

    scenes: SceneList
    fields: Mapping[str, Any]
    num_images: int
    model: str | None

    def __len__(self) -> int:
        return len(self.scenes) * self.num_images

    def requests(self) -> Iterator[ImageRequest | Failure]:
        """The images in the order of the list; a Failure for each scene that has none."""
        used: set[str] = set()
        model = self.model
        for given in self.scenes:
            if isinstance(given, UnreadableScene):
                yield Failure(name=given.name, error=given.error, images=self.num_images)
                continue
            try:
                own = self._requests(given)
                model = model or own[0].scene.model
                _check_model(own[0].scene, model)
                for request in own:
                    _check_unused(request.file, used)
            except CloisonneError as error:
                yield Failure(name=given.name, error=str(error), images=self.num_images)
            else:
                yield from own

    def _requests(self, given: NamedScene) -> list[ImageRequest]:
        fields = dict(self.fields) if self.model is None else {**self.fields, "model": self.model}
        scene = given.scene.replace(**fields) if fields else given.scene
        content = content_hash(scene)
        seed = seed_of(given.name, content) if scene.seed is None else scene.seed
        return [
            ImageRequest(
                file=_file(given.name, index),
                name=given.name,
                content=content,
                scene=scene.replace(seed=seed + index),
                warnings=given.warnings,
            )
            for index in range(self.num_images)
        ]


def _file(name: str, index: int) -> str:
    """The file of image ``index`` of a scene: the first has the scene's name."""
    return f"{name}-{index:04d}.png" if index else f"{name}.png"


def _check_model(scene: Scene, model: str) -> None:
    if scene.model != model:
        raise SceneError(
            f"The scene's model is {brief(scene.model)}, but that of the scenes before it is {brief(model)}; name the "
            f"one for all scenes with {spelled('model=', '--model')}."
        )


def _check_unused(file: str, used: set[str]) -> None:
    """Case does not count: some file systems ignore it."""
    if file.casefold() in used:
        raise SceneError(f'The output "{file}" is already that of another scene; give the scene a name of its own.')
    used.add(file.casefold())
