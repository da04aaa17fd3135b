# %% [markdown]
# # 4. Use a model
#
# Files, arrays, whole folders; several views of a long video; what to do with a file that cannot be read; how fast it
# is. It takes the run of [the second notebook](02_training.ipynb), or trains it now.

# %%
import time
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image, display

import tubelet
from tubelet.data.catalogue import open_data
from tubelet.prediction.predict import PredictionError
from tubelet.transforms.preparation import fit
from tubelet.video.sampling import plan
from tubelet.video.synthetic import draw_clip, make_world, write_video

table = make_world("moving-shapes", "clips", clips={"train": 480, "val": 80, "test": 160})
if not Path("runs/shapes/model").exists():
    tubelet.train(table, recipe="moving-shapes/i3d_nano", name="shapes", training__epochs=4)

# %% [markdown]
# ## One file
#
# `load` takes a run, a model folder, or a name on the Hugging Face hub (`hf://owner/repo`). The model knows how many
# frames it wants, how large, and in which range of numbers: there is nothing to set.

# %%
classifier = tubelet.load("runs/shapes")
print(classifier.input_spec.frames, "frames of", classifier.input_spec.height, "x", classifier.input_spec.width)

sample = open_data(table).select("test")[4]
prediction = classifier.predict(sample.source)
print(f"{Path(prediction.source).name}: {prediction.label} ({prediction.score:.1%}); it is {sample.label}")

# %% [markdown]
# All scores are there, the highest first. The first k of them are the top-k:

# %%
top = list(prediction.scores.items())[:5]
figure, axes = plt.subplots(figsize=(6, 1.9), layout="constrained")
bars = axes.barh([name for name, _ in top], [score for _, score in top], color="#0072B2")
axes.bar_label(bars, [f" {score:.1%}" for _, score in top])
axes.set_xlim(0, 1.15)
axes.invert_yaxis()
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Frames that you have already
#
# Anything that `Video` opens can be predicted: bytes, folders of images, and arrays (time, height, width, channel) of
# uint8, such as frames of a camera.

# %%
pixels = draw_clip("moving-shapes", "zoom_in", height=120, width=160, generator=np.random.default_rng(5))
print(pixels.shape, pixels.dtype, "->", classifier.predict(pixels).label)
print("bytes of a file ->", classifier.predict(Path(sample.source).read_bytes()).label)

# %% [markdown]
# ## Many files, one of them broken
#
# `predict` goes through files, folders and patterns. What cannot be read is reported with its reason, and the others
# go on.

# %%
Path("inbox").mkdir(exist_ok=True)
for name in ("up", "left", "rotate_clockwise"):
    generator = np.random.default_rng(len(name))
    write_video(f"inbox/{name}.mp4", draw_clip("moving-shapes", name, generator=generator))
Path("inbox/broken.mp4").write_bytes(Path("inbox/up.mp4").read_bytes()[:2000])

for outcome in tubelet.predict(classifier, "inbox"):
    if isinstance(outcome, PredictionError):
        print(f"cannot be read ({outcome.code}): {outcome.message[:90]} ...")
    else:
        print(f"{Path(outcome.source).name}: {outcome.label} ({outcome.score:.1%})")

# %% [markdown]
# ## Sure enough? And is it any of the classes?
#
# The highest score is an answer even where there is none. Two measurements that a training makes on its validation
# clips say more. `label_set` holds the true class as often as `coverage` asks, for clips like those: one class where
# the model is sure, several where it is not. `is_unknown` says that a clip is farther from all that the model knows
# than clips of its classes stray: a hint, not a proof.

# %%
rng = np.random.default_rng(2)
clips = {name: draw_clip("moving-shapes", name, generator=rng) for name in ("zoom_out", "rotate_clockwise")}
clips["a light that flashes, nothing moves"] = draw_clip("order", "red_then_blue", generator=rng)
clips["noise"] = rng.integers(0, 256, (16, 48, 48, 3), dtype=np.uint8)
for name, clip in clips.items():
    given = {coverage: classifier.predict(clip, coverage=coverage) for coverage in (0.8, 0.95)}
    print(f"{name}: {given[0.8].label} ({given[0.8].score:.0%})")
    for coverage, one in given.items():
        print(f"    set for {coverage:.0%}: {' or '.join(one.label_set)}")
    print(
        f"    distance {one.distance:.2f}, "
        + ("perhaps none of the classes" if one.is_unknown else "like what it knows")
    )

# %% [markdown]
# Before you rely on `is_unknown`, try it, as here, with clips that belong to none of your classes: a model that only
# had to tell motions apart may find nothing odd in a light that flashes, or in noise, and a better model sees more.
# docs/predicting.md says what each figure promises, and `tubelet calibrate` measures them on clips of your own.
#
# ## Several views of a long video
#
# A clip shows a model only some frames. `views` spreads several clips over the video and averages their
# probabilities: slower by as much, and often a little better. In this video the shape moves up, then to the right: no
# single label is right, and a look at each part says more than the average.

# %%
parts = [draw_clip("moving-shapes", name, frames=24, generator=np.random.default_rng(11)) for name in ("up", "right")]
write_video("two-parts.mp4", np.concatenate(parts))
for views in (1, 4):
    given = classifier.predict("two-parts.mp4", views=views)
    print(f"{views} views:", ", ".join(f"{name} {score:.0%}" for name, score in list(given.scores.items())[:3]))
with tubelet.Video("two-parts.mp4") as video:
    for first in (0, 24):
        clip = video.frames_at(range(first, first + 24))
        print(f"{clip.times_s[0]:.1f} to {clip.times_s[-1]:.1f} s:", classifier.predict(clip.pixels).label)

# %% [markdown]
# ## Where does it look?
#
# `explain` shows which parts of the clip speak for the class, and when: the frames as the model saw them, in gray,
# the map over them in color, and its course over seconds. A map always looks as if it meant something, so each is
# compared with random ones; the last line of the output says whether it can be believed.

# %%
explanation = tubelet.explain(classifier, sample.source)
explanation.save("explanation.png")
print(explanation.describe())
display(Image("explanation.png"))

# %% [markdown]
# ## How fast is it?
#
# Three things take time: reading and decoding the file, bringing frames to the model's size, and the model. Measure
# them apart before you make one of them faster. Clips that are scored together keep a processor busier than single
# ones.

# %%
spec = classifier.input_spec


def measure_ms(do: object, repeats: int = 9) -> float:
    """Return the middle of several measured times, the first one left out."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds[1:])


def read() -> np.ndarray:
    with tubelet.Video(sample.source) as video:
        return video.frames_at(plan(video.info, spec)[0].tolist()).pixels


frames = read()
one = fit(frames, spec)[None]
sixteen = one.repeat(16, 1, 1, 1, 1)
rows = {
    "open and decode": measure_ms(read),
    "bring to size": measure_ms(lambda: fit(frames, spec)),
    "model, one clip": measure_ms(lambda: classifier.score(one)),
    "model, each of 16 clips": measure_ms(lambda: classifier.score(sixteen)) / 16,
}
for name, taken_ms in rows.items():
    print(f"{name:>24}: {taken_ms:7.2f} ms")
print(f"on {torch.get_num_threads()} threads of this machine's processor, {classifier.device}")

# %% [markdown]
# Next: [volumes](05_volumes.ipynb).
