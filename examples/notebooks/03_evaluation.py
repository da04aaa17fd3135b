# %% [markdown]
# # 3. Is it any good?
#
# One number is not an answer. This notebook measures a model on clips it has never seen, asks how sure the number is,
# where the model fails, whether its probabilities can be taken at their word, and whether it looks at time at all.
#
# It takes the run of [the second notebook](02_training.ipynb), or trains it now.

# %%
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import Image, display

import tubelet
from tubelet.data.catalogue import open_data
from tubelet.data.loader import LoaderOptions
from tubelet.evaluation.evaluate import score_samples
from tubelet.evaluation.gallery import choose_clips, film_clips
from tubelet.report.figures import draw_contact_sheet
from tubelet.video.synthetic import WORLDS, make_world

table = make_world("moving-shapes", "clips", clips={"train": 480, "val": 80, "test": 160})
if not Path("runs/shapes/model").exists():
    tubelet.train(table, recipe="moving-shapes/i3d_nano", name="shapes", training__epochs=4)
classifier = tubelet.load("runs/shapes")

# %% [markdown]
# ## The figures
#
# `evaluate` takes the run's own test clips unless it is given others. Clips that cannot be read would be counted and
# named; they are part of no figure.

# %%
report = tubelet.evaluate("runs/shapes", output="evaluation", workers=0)
print(report.headline(), "\n")
print(Path("evaluation/classification_report.txt").read_text())

# %% [markdown]
# - **top-1** is the share of clips whose class has the highest score, and the interval is where it may truly lie: with
#   160 clips it is wide, and two models that differ by a point or two are not told apart.
# - **precision**: of the clips called `up`, how many are? **recall**: of the clips that are `up`, how many were found?
# - **macro** averages count every class alike, **weighted** ones every clip.
#
# Who is taken for whom? Rows are what clips are, columns what they were called.

# %%
display(Image("evaluation/confusion.png", width=640))

# %% [markdown]
# `evaluation/report.html` has all of this on one page to send around, with the clips; `report.json` has it for
# programs.
#
# ## Can the probabilities be taken at their word?
#
# Of all clips that the model calls with 80 % certainty, about 80 % should be right. Bars below the line mean that it
# is too sure of itself, bars above that it is too modest. A training ends with a look at that on the validation
# clips, and divides all scores by one number, the temperature, so that they are as sure as they are right there.

# %%
calibration = report.calibration
filled = [one for one in calibration.bins if one.count]
figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
width = filled[0].high - filled[0].low
bars = axes.bar(
    [one.low for one in filled], [one.accuracy for one in filled], 0.95 * width, align="edge", color="#0072B2"
)
axes.bar_label(bars, [one.count for one in filled], fontsize=8, color="#555555")
axes.plot([0, 1], [0, 1], "--", color="#D55E00")
axes.set(xlabel="how sure it was", ylabel="share that was right; number of clips above", xlim=(0, 1), ylim=(0, 1.08))
axes.spines[["top", "right"]].set_visible(False)
plt.show()
print(f"temperature {classifier.calibration.temperature:.2f}, expected calibration error {calibration.ece:.1%}")

# %% [markdown]
# ## Look at them
#
# 25 test clips drawn by lot, as the model saw them. T is what the clip is, P what the model says.


# %%
def show_grid(films: dict[int, bytes], columns: int = 5) -> widgets.GridBox:
    cells, across = [], widgets.Layout(width="160px")
    for place, film in films.items():
        true, predicted = manifest.classes[scored.labels[place]], classifier.classes[scored.scores[place].argmax()]
        mark = "✓" if true == predicted else "✗"
        text = f"<div style='line-height: 1.2; font-size: 11px'>{mark} T: {true} | P: {predicted}</div>"
        picture = widgets.Image(value=film, format="gif", width=120, height=120)
        cells.append(widgets.VBox([picture, widgets.HTML(text, layout=across)], layout=across))
    return widgets.GridBox(cells, layout=widgets.Layout(grid_template_columns=f"repeat({columns}, 170px)"))


manifest, options = open_data(table), LoaderOptions(batch=16, workers=0)
scored = score_samples(classifier, manifest.select("test"), manifest, options=options)
gallery = choose_clips(scored)
grid = show_grid(film_clips(scored, gallery.grid, manifest, classifier.input_spec, "pyav"))
display(grid)

# %% [markdown]
# The worst ones teach most: wrong, and sure of it. A label may be wrong, two classes may be one, or something that
# the training clips never showed may be in the picture.

# %%
worst = gallery.worst[:5] or gallery.best[:3]
pixels, captions = [], []
for place in worst:
    sample, scores = scored.samples[place], scored.scores[place]
    with tubelet.Video(sample.source) as video:
        pixels.append(video.frames_at(range(0, video.info.num_frames, 2)).pixels)
    captions.append(f"T: {sample.label} | P: {classifier.classes[scores.argmax()]} ({scores.max():.0%})")
wrong = sum(scored.scores.argmax(axis=1) != scored.labels)
print(f"{wrong} clips are wrong" + ("" if gallery.worst else "; here are those it is surest of instead"))
draw_contact_sheet(pixels, captions, "worst.png")
display(Image("worst.png"))

# %% [markdown]
# ## Does it see time?
#
# A video model may be right for the wrong reason: the background, a color, one telling frame. An audit plays the same
# clips with their frames in random order, backward, with one frame repeated, at half the rate, and says what the
# model needs. Here the answer is known in advance: no single frame tells these classes apart, and a clip played
# backward shows the opposite motion.

# %%
world = WORLDS["moving-shapes"]
outcome = tubelet.audit(classifier, manifest, partners=world.partners, output="audit", options=options)
print(outcome.headline())
print(f"{outcome.top1_reversed_partner:.1%} of the clips, played backward, are called by the opposite motion")
display(Image("audit/audit.png", width=720))

# %% [markdown]
# With your own clips leave `partners` out. Where the accuracy hardly moves when frames are shuffled or frozen, a
# model of single images would do as well, or the classes can be told by their surroundings: then ask whether that
# will hold elsewhere. `tubelet.compare("runs/shapes", "runs/other")` sets runs side by side, and says which clips
# flipped.
#
# Next: [use it](04_inference.ipynb).
