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
from tubelet.data.dataset import open_sample
from tubelet.data.loader import LoaderOptions
from tubelet.evaluation.evaluate import score_samples
from tubelet.evaluation.gallery import choose_clips, film_clips
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.resolution import read_stated
from tubelet.report.figures import draw_contact_sheet
from tubelet.training.progress import Quiet

data = "organmnist3d" if find_on_disk("organmnist3d") == "yes" else "fake-organs"
manifest = open_data(data)
print(f"{data}: {manifest.split_sizes()}, {len(manifest.classes)} classes: {', '.join(manifest.classes)}")
if data == "fake-organs":
    print("These are drawn stand-ins, not organs: the real file is not on this machine.")

# %% [markdown]
# ## Look at the volumes
#
# One volume of each class, eight slices from the first to the last.

# %%
samples = {sample.label: sample for sample in reversed(manifest.select("train"))}
volumes = []
for name in manifest.classes:
    with open_sample(samples[name]) as volume:
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
# The example trains for 60 epochs. So that this notebook takes a minute on a laptop, it has a greater rate and six
# epochs here: what it reaches is not the example's figure. Without the changes below it is the example's recipe:
# `tubelet train organmnist3d`.


# %%
class Progress(Quiet):
    def on_epoch(self, row: dict[str, float]) -> None:
        print(f"epoch {row['epoch']:.0f}: train {row['train_top1']:.1%}  val {row['val_top1']:.1%}")


result = tubelet.train(
    data,
    recipe="organmnist3d/vivit",
    name="organs",
    overwrite=True,
    listener=Progress(),
    training__epochs=6,
    optimizer__lr=5e-4,
)
display(Image(result.folder / "curves.png"))

# %% [markdown]
# ## Score
#
# Top-1: the class with the highest score is right. Top-5: the right class is among the five highest, as the example
# reports it.

# %%
metrics = result.report.metrics
interval = result.report.interval
print(f"{data}, {result.report.n} volumes of '{result.report.split}'")
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
cells = []
for place, film in films.items():
    true, predicted = manifest.classes[scored.labels[place]], classifier.classes[scored.scores[place].argmax()]
    caption = widgets.HTML(f"<small>{'✓' if true == predicted else '✗'} T: {true} | P: {predicted}</small>")
    cells.append(widgets.VBox([widgets.Image(value=film, format="gif", width=120, height=120), caption]))
display(widgets.GridBox(cells, layout=widgets.Layout(grid_template_columns="repeat(5, 190px)")))

# %% [markdown]
# ## And your own volumes?
#
# `pip install 'tubelet[volumes]'` reads NIfTI files and DICOM series, one file or folder a volume, with a window and
# a spacing that belong to the model (docs/data.md, "Volumes"). With some hundred volumes take `volumes/i3d_nano` or
# `volumes/vivit_nano_joint`, recipes that vary the volumes; a transformer from scratch needs more of them. A model
# like this is a lesson, not a medical device.
