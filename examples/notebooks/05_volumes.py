# %% [markdown]
# # 5. Volumes with ViViT, from start to end
#
# A CT volume is a video whose time is depth: slices in place of frames. This notebook follows the well-known Keras
# example "Video Vision Transformer" on OrganMNIST3D, eleven organs in volumes of 28 x 28 x 28 voxels: load, look,
# train, score, and see the predictions move.
#
# It uses the real file if `tubelet data download organmnist3d` has put it on this machine, and otherwise
# `fake-organs`, stand-ins that are drawn here in the same layout. The output says which; figures of one say nothing
# about the other.

# %%
import ipywidgets as widgets
import numpy as np
from IPython.display import Image, display

import tubelet
from tubelet.data.catalogue import find_on_disk, open_data
from tubelet.data.class_list import CLASS_LIST, write_classes
from tubelet.data.dataset import open_sample
from tubelet.data.loader import LoaderOptions
from tubelet.evaluation.evaluate import score_samples
from tubelet.evaluation.gallery import choose_clips, film_clips
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.resolution import read_stated
from tubelet.report.figures import draw_contact_sheet
from tubelet.training.progress import Quiet
from tubelet.video.synthetic import ORGANS, make_organs

name = data = "organmnist3d"
if find_on_disk(name) != "yes":
    name, data = "fake-organs", make_organs("organs/fake-organs.npz")
    write_classes(data.with_name(CLASS_LIST), tuple(ORGANS))
    print("These are drawn stand-ins, not organs: the real file is not on this machine.")
manifest = open_data(data)
print(f"{name}: {manifest.split_sizes()}, {len(manifest.classes)} classes: {', '.join(manifest.classes)}")

# %% [markdown]
# ## Look at the volumes
#
# One volume of each class, eight slices from the first to the last.

# %%
samples = {sample.label: sample for sample in reversed(manifest.select("train"))}
volumes = []
for label in manifest.classes:
    with open_sample(samples[label]) as volume:
        volumes.append(volume.frames_at(range(volume.info.num_frames)).pixels)
print(volumes[0].shape, volumes[0].dtype, "(slice, row, column, channel)")
draw_contact_sheet(volumes, manifest.classes, "volumes.png")
display(Image("volumes.png", width=620))

# %% [markdown]
# ## The model
#
# ViViT cuts the volume into tubelets of 8 x 8 x 8 voxels, turns each into a vector by one convolution, adds a
# position, and lets eight layers of attention compare all of them with each other. The mean of what comes out is
# classified. 28 / 8 is no whole number, so the last four slices, rows and columns are left out, as in the example.

# %%
recipe = read_stated("organmnist3d/vivit", Recipe)
model = tubelet.create_model(recipe.model.name)
config = model.config
print(f"{config.name}: tubelets of {config.tubelet}, {config.depth} layers, {config.heads} heads, width {config.dim}")
print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters")
print(f"the example: {recipe.training.epochs} epochs, batch {recipe.training.batch}, lr {recipe.optimizer.lr}")

# %% [markdown]
# ## Train
#
# The example trains for 60 epochs. So that this notebook takes a minute, it learns faster here: half the layers, a
# greater rate that falls to zero, gray levels brought to about mean 0 and deviation 1, and six epochs. What it
# reaches is not the example's figure; `tubelet train organmnist3d` is the example's recipe.


# %%
class Progress(Quiet):
    def on_epoch(self, row: dict[str, float]) -> None:
        print(f"epoch {row['epoch']:.0f}: train {row['train_top1']:.1%}  val {row['val_top1']:.1%}")


changes = {
    "model__changes__depth": 4,
    "input__mean": (0.4,),
    "input__std": (0.2,),
    "optimizer__lr": 5e-4,
    "optimizer__schedule": "cosine",
    "optimizer__warmup_epochs": 1.0,
    "optimizer__clip_norm": 1.0,
    "training__epochs": 6,
    "training__batch": 16,
}
result = tubelet.train(data, recipe="organmnist3d/vivit", name="organs", overwrite=True, listener=Progress(), **changes)
display(Image(result.folder / "curves.png"))

# %% [markdown]
# Where the two curves part, the model learns its volumes by heart: few volumes and a transformer from scratch. What
# helps is variation (`augmentation__stretch`, `augmentation__shift`, `augmentation__time_shift`) and then more
# epochs.
#
# ## Score
#
# Top-1: the class with the highest score is right. Top-5: the right class is among the five highest, as the example
# reports it.

# %%
metrics = result.report.metrics
interval = result.report.interval
print(f"{name}, {result.report.n} volumes of '{result.report.split}'")
print(f"top-1 {metrics.top1:.1%} (95 % interval {interval.low:.1%} to {interval.high:.1%})")
print(f"top-{metrics.k} {metrics.top_k:.1%}")
display(Image(result.folder / "confusion.png", width=720))

# %% [markdown]
# ## See the predictions
#
# 25 test volumes by lot, five slices a second; T is what it is, P what the model says.

# %%
classifier = tubelet.load(result.folder)
chosen = np.random.default_rng(0).permutation(len(manifest.select("test")))[:100]
test = [manifest.select("test")[index] for index in chosen]
scored = score_samples(classifier, test, manifest, options=LoaderOptions(batch=32))
films = film_clips(scored, choose_clips(scored).grid, manifest, classifier.input_spec, "pyav")
cells, across = [], widgets.Layout(width="170px")
for place, film in films.items():
    true, predicted = manifest.classes[scored.labels[place]], classifier.classes[scored.scores[place].argmax()]
    mark = "✓" if true == predicted else "✗"
    text = f"<div style='line-height: 1.2; font-size: 11px'>{mark} T: {true} | P: {predicted}</div>"
    picture = widgets.Image(value=film, format="gif", width=120, height=120)
    cells.append(widgets.VBox([picture, widgets.HTML(text, layout=across)], layout=across))
display(widgets.GridBox(cells, layout=widgets.Layout(grid_template_columns="repeat(5, 190px)")))

# %% [markdown]
# ## And your own volumes?
#
# `pip install 'tubelet[volumes]'` reads NIfTI files and DICOM series, one file or folder a volume, with a window and
# a spacing that belong to the model (docs/data.md, "Volumes"). With some hundred volumes take `volumes/i3d_nano` or
# `volumes/vivit_nano_joint`, recipes that vary the volumes; a transformer from scratch needs more of them. A model
# like this is a lesson, not a medical device.
