"""The release of a continued training: the base after a last fall of its learning rate, and the controls on it.

Every part resumes, so a killed release is continued by the same call.
"""

import json
import shutil
from pathlib import Path

from cloisonne.models.builtin import PROVENANCE, digest
from cloisonne.train.base import networks as base
from cloisonne.train.builtin.continued import export_average, finish_base
from cloisonne.train.builtin.descendants import make_controls
from cloisonne.train.builtin.family_run import FamilyTraining
from cloisonne.train.builtin.measure import measure_vae
from cloisonne.train.builtin.resume import copy_members
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.loop import progress_of


def release(training: FamilyTraining, source: Path, *, base_pictures: int, control_minutes: float) -> bool:
    """Finish the training in ``source`` as a family in ``training.family``; ``source`` is not changed.

    The autoencoder has the decoder of ``source``, if one was finished there.

    Args:
        training: Its start is that of ``source``.
        source: Folder of the training of the base.
        base_pictures: Images over which the learning rate of the base falls to 0.
        control_minutes: Training time of both controls.

    Returns:
        Whether the family is finished; False if the slice ended first.
    """
    assert training.start is not None, "a release starts from a family"
    copy_members(training.start, training.family)
    if not training.exported("unet"):
        if not finish_base(training, source, base_pictures):
            return False
        export_average(training, training.out)
    if not make_controls(training, control_minutes):
        return False
    _take_decoder(training, source)
    return True


def _take_decoder(training: FamilyTraining, source: Path) -> None:
    """Replace the autoencoder by the one with the decoder that was trained in ``source``, if there is another one.

    Its encoder is the same to the bit, so that members trained on latents stay valid. The judge stays too, though half
    of its images went through the autoencoder as it was: that one is noted as its earlier parent.
    """
    taken, folder = source / "decoder", training.family / "vae"
    if not (taken / "config.json").is_file() or _recorded(folder) == digest(taken):
        return
    for file in training.family.glob(f"*/{PROVENANCE}"):
        record = json.loads(file.read_text("utf-8"))
        if "vae" not in record["parents"]:
            continue
        if file.parent.name == "judge":
            record["earlier_parents"] = {"vae": record["parents"].pop("vae")}
        else:
            record["parents"]["vae"] = digest(taken)
        file.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    shutil.rmtree(folder)
    shutil.copytree(taken, folder)
    figures = measure_vae(base.load_autoencoder(folder))
    training.note("vae", progress_of(source / "state" / "decoder"), [], figures, TRAINING_SEEDS)


def _recorded(member: Path) -> str | None:
    """The digest in a member's provenance, which is written last; None without one."""
    file = member / PROVENANCE
    return json.loads(file.read_text("utf-8"))["sha256"] if file.is_file() else None
