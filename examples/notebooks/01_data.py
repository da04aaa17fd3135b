# %% [markdown]
# # 1. Look at the clips before you train
#
# Most trainings that fail, fail because of their clips: labels that are wrong, test clips that were learned, files
# that do not open, frames in which nothing happens. A quarter of an hour with the data is the best-paid one of a
# project.
#
# The clips of this notebook are made here, so nothing is downloaded: `moving-shapes`, eight classes that differ in
# motion alone. Put your own folder in their place: one folder for each class, or a table with the columns
# `path,label`.

# %%
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, Markdown, display

from tubelet import InputSpec, Video
from tubelet.data.catalogue import open_data
from tubelet.data.health import check_health
from tubelet.data.statistics import write_statistics
from tubelet.report.figures import draw_contact_sheet
from tubelet.transforms.geometry import augment
from tubelet.transforms.policy import Augmentation, find_pairs, warn_of_mirrors
from tubelet.transforms.preparation import fit
from tubelet.video.sampling import plan
from tubelet.video.synthetic import draw_clip, make_world, write_video

table = make_world("moving-shapes", "clips", clips={"train": 480, "val": 80, "test": 160})
manifest = open_data(table)
for split, counts in manifest.counts().items():
    print(f"{split}: {sum(counts.values())} clips of {len(counts)} classes")
print(*table.read_text().splitlines()[:4], sep="\n")

# %% [markdown]
# ## What is in there?
#
# `write_statistics` (on the command line: `tubelet data stats clips/manifest.csv statistics`) opens every clip and
# draws what it finds. Are the classes of one size? Does one of them come from another camera? `histograms.png` beside
# this picture has lengths, rates and sizes; here all clips are alike.

# %%
print(write_statistics(table, "statistics", shown=1, workers=1))
display(Image("statistics/class_distribution.png"))

# %% [markdown]
# Now look. Each row is one clip, time goes to the right.

# %%
display(Image("statistics/contact_sheet.png"))

# %% [markdown]
# ## Is it healthy?
#
# `check_health` (`tubelet data check`) opens and compares all clips. So that it has something to find, here is a copy
# of some clips with four faults: a file cut in half, an empty one, one clip in two classes, and a class name
# misspelt.

# %%
flawed = Path("flawed")
shutil.rmtree(flawed, ignore_errors=True)
shutil.copytree("clips/val", flawed)
first, second, third = sorted((flawed / "up").iterdir())[:3]
first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
second.write_bytes(b"")
shutil.copy(third, flawed / "zoom_in" / "copy.mp4")
(flawed / "rigth").mkdir()
shutil.move(sorted((flawed / "right").iterdir())[0], flawed / "rigth" / "stray.mp4")

checkup = check_health(flawed, workers=1, least_frames=16)
for finding in (*checkup.health.problems, *checkup.health.remarks):
    print(f"{finding.code}: {finding.message}\n")
print(f"{len(checkup.list_clean())} of {len(checkup.manifest.samples)} clips have no error")

# %% [markdown]
# Nothing is repaired in silence. `tubelet data check flawed --write-clean clean.csv` writes a table of what is left,
# and in a training a clip that cannot be read is counted and named, never replaced by another.
#
# ## Which frames does a model see?
#
# A model takes a fixed number of frames, a video has any number. `InputSpec.sampling` says how they are chosen, and
# the choice matters more than most settings of a model:
#
# | sampling | frames come from | good for |
# |---|---|---|
# | `uniform` | the middle of equal segments; in training anywhere in them | whole actions, the default |
# | `dense` | one stretch, `stride` frames apart | fast, repeated motion; long videos, with several views |
# | `linspace` | the whole video, both ends included | volumes, very short clips |
# | `random` | anywhere, in order | strong variation in training |
# | `first` | the beginning | clips that are cut to the action |

# %%
pixels = draw_clip(
    "moving-shapes", "rotate_clockwise", frames=64, height=96, width=96, generator=np.random.default_rng(3)
)
write_video("long.mp4", pixels)
generator = np.random.default_rng(0)
samplings = ("uniform", "dense", "linspace", "random", "first")

with Video("long.mp4") as video:
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    for row, sampling in enumerate(samplings):
        spec = InputSpec(frames=8, height=96, width=96, sampling=sampling, stride=3)
        for draw in range(4):
            axes.plot(
                plan(video.info, spec, training=True, generator=generator)[0], [row - 0.1 * draw] * 8, ".", color="#999"
            )
        axes.plot(plan(video.info, spec)[0], [row + 0.15] * 8, "o", color="#0072B2")
    axes.set_yticks(range(len(samplings)), samplings)
    axes.invert_yaxis()
    axes.set_xlabel(f"frame of {video.info.num_frames}; blue: evaluation, gray: four draws in training")
    axes.spines[["top", "right", "left"]].set_visible(False)
    plt.show()

    specs = [InputSpec(frames=8, height=96, width=96, sampling=sampling, stride=3) for sampling in samplings]
    rows = [plan(video.info, spec)[0] for spec in specs]
    draw_contact_sheet(
        [video.frames_at(row.tolist()).pixels for row in rows],
        [f"{sampling}: {row.tolist()}" for sampling, row in zip(samplings, rows, strict=True)],
        "sampling.png",
    )
display(Image("sampling.png"))

# %% [markdown]
# Look at the turning shape: from one frame of `uniform` to the next it turns by about a half, and nobody can tell
# from these frames which way. In those of `dense`, three apart, it is plain. What a model is not shown it cannot
# learn.
#
# ## What does augmentation do to them?
#
# Each clip is varied by one draw for all its frames: the shape may move, the camera must not shake. Here is one clip
# as it is, and varied in one way at a time. Look at yours: an augmentation that a person cannot see through is too
# strong.

# %%
sample = manifest.select("train")[2]
label = manifest.label_index(sample)
spec = InputSpec(frames=8, height=96, width=96)
with Video(sample.source) as video:
    clip = video.frames_at(plan(video.info, spec)[0].tolist()).pixels

variations = {
    "horizontal_flip": Augmentation(horizontal_flip=1.0, horizontal_pairs=(("left", "right"),)),
    "crop_scale, crop_ratio": Augmentation(horizontal_flip=0, crop_scale=(0.3, 0.5), crop_ratio=(0.75, 1.333)),
    "shift, wrapped around": Augmentation(horizontal_flip=0, shift=0.5, shift_fill="wrap"),
    "brightness, contrast, saturation": Augmentation(horizontal_flip=0, brightness=0.6, contrast=0.6, saturation=0.6),
    "rotation by up to 30 degrees": Augmentation(horizontal_flip=0, rotation=30),
    "erasing": Augmentation(horizontal_flip=0, erasing=1.0),
    "time_reversal": Augmentation(horizontal_flip=0, time_reversal=1.0, reversal_pairs=(("left", "right"),)),
    "policy randaugment": Augmentation(horizontal_flip=0, policy="randaugment", policy_ops=3, policy_magnitude=25),
}
shown, captions = [fit(clip, spec).numpy()], [f"as it is: {manifest.classes[label]}"]
for name, augmentation in variations.items():
    varied, new_label = augment(clip, label, augmentation, spec, manifest.classes, np.random.default_rng(7))
    shown.append(varied.numpy())
    captions.append(f"{name}: {manifest.classes[new_label]}")
draw_contact_sheet(shown, captions, "augmentation.png")
display(Image("augmentation.png"))

# %% [markdown]
# The label of the mirrored clip changed with it. Without the pair, `left` and `right` would become one class, and the
# accuracy of both would stop at a half without any error. tubelet reads class names and warns:

# %%
for warning in warn_of_mirrors(Augmentation(horizontal_flip=0.5), manifest.classes):
    print(warning)
display(Markdown(f"Its guess: `horizontal_pairs = {find_pairs(manifest.classes, 'horizontal_flip')}`"))

# %% [markdown]
# Next: [training](02_training.ipynb). More about forms of data, splits and checks: docs/data.md.
