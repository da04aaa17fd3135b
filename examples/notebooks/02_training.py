# %% [markdown]
# # 2. Train
#
# Two ways: `tubelet.train` does everything that a run needs (checkpoints, exact resume, logs, pictures, a final
# test), and a loop of your own takes the same pieces one by one. Clips are made here, as in [the first
# notebook](01_data.ipynb).

# %%
import csv
from dataclasses import replace
from pathlib import Path

from IPython.display import Image, display

import tubelet
from tubelet.data.catalogue import open_data
from tubelet.recipes.listing import RECIPES
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.resolution import read_stated
from tubelet.report.figures import draw_curves
from tubelet.training import Classification, Feeding, Stepper, make_optimizer, make_schedule, train_epoch, validate
from tubelet.training.progress import Quiet
from tubelet.video.synthetic import make_world

table = make_world("moving-shapes", "clips", clips={"train": 480, "val": 80, "test": 160})

# %% [markdown]
# ## A recipe
#
# Everything that a run depends on is one tree of plain values: data, model, input, augmentation, optimizer, loss,
# training. Recipes that ship have names, `dataset/model`; `tubelet recipe list` shows all, with what they reached.

# %%
for name in (name for name in RECIPES if name.startswith(("ucf101/", "motion/", "organmnist3d/"))):
    print(f"{name}: {RECIPES[name].summary}")

recipe = read_stated("moving-shapes/i3d_nano", Recipe)
print(f"\n{recipe.model}\n{recipe.optimizer.name}, lr {recipe.optimizer.lr}, {recipe.training.epochs} epochs")
print("varied:", ", ".join(recipe.augmentation.list_active()))

# %% [markdown]
# ## Train with it
#
# Any field of the tree may be named, with `__` for the dot. A listener hears of every step; this one prints each
# epoch.


# %%
class Progress(Quiet):
    def on_epoch(self, row: dict[str, float]) -> None:
        train, val = (
            f"train {row['train_loss']:.3f} {row['train_top1']:.1%}",
            f"val {row['val_loss']:.3f} {row['val_top1']:.1%}",
        )
        print(f"epoch {row['epoch']:.0f}: {train}  {val}  {row['clips_per_s']:.0f} clips/s")


result = tubelet.train(
    table, recipe="moving-shapes/i3d_nano", name="shapes", overwrite=True, listener=Progress(), training__epochs=4
)
print(f"\nbest epoch {result.best_epoch}; on clips it has never seen:\n{result.report.headline()}")

# %% [markdown]
# The best epoch is chosen by the validation clips; the figure to quote is the one on the test clips, which had no
# part in it. Its interval says how far luck with so few clips may have moved it.
#
# The same on the command line:
#
# ```
# tubelet train clips/manifest.csv --recipe moving-shapes/i3d_nano --name shapes --epochs 4
# ```
#
# The run folder holds everything: weights, the recipe as it was resolved (`config.yaml`), checkpoints, figures,
# pictures.

# %%
print(*sorted(path.name for path in result.folder.iterdir()), sep="  ")
display(Image(result.folder / "curves.png"))

# %% [markdown]
# Three shapes of curves to know: training and validation fall together (go on); validation turns up while training
# falls (fewer epochs, more variation, or more clips); nothing moves (try `tubelet train ... --overfit-batch`: a model
# that cannot learn 16 clips by heart will learn nothing from 16,000).
#
# And what the model was shown: each clip as it is, below it as augmentation made it.

# %%
display(Image(result.folder / "augmentations.png"))

# %% [markdown]
# ## A loop of your own
#
# The pieces are public, and plain PyTorch. In place of `create_model` goes any module of yours that is registered, in
# place of `Classification` any object with a `model` and a `compute_loss(batch)`.

# %%
manifest, epochs = open_data(table), 3
recipe = replace(recipe, training=replace(recipe.training, epochs=epochs))
feeding = Feeding(recipe, manifest)
train_loader, val_loader = feeding.make_loaders()
size = {"frames": 16, "height": 32, "width": 32, "channels": recipe.input.input_channels}
model = tubelet.create_model("i3d_nano", len(manifest.classes), **size)
classifier = tubelet.Classifier(model, recipe.input, manifest.classes)
stepper = Stepper(Classification(classifier, recipe), make_optimizer(model, recipe.optimizer), recipe)
schedule = make_schedule(recipe.optimizer, len(train_loader), epochs=epochs)
history = []
for epoch in range(epochs):
    feeding.order.start(epoch)  # clips in another order, varied anew
    totals, held_out = train_epoch(stepper, train_loader, schedule, epoch=epoch), validate(classifier, val_loader)
    history.append({"train_loss": totals.loss, "val_loss": held_out.loss, "val_top1": held_out.top1})
classifier.save("own-model")

# %%
draw_curves(history, "own-curves.png")
display(Image("own-curves.png"))
print(tubelet.load("own-model").predict(manifest.select("test")[0].source).label, "-", manifest.select("test")[0].label)

# %% [markdown]
# Stop a run at any moment (Ctrl-C, a crash, the end of a job): `tubelet.train(resume=True, name="shapes")` goes on in
# the middle of the epoch and ends with the same weights, bit for bit. `metrics.csv` holds one row for each epoch:

# %%
with (Path(result.folder) / "metrics.csv").open(newline="") as stream:
    for row in csv.DictReader(stream):
        print({key: row[key] for key in ("epoch", "train_loss", "val_top1", "lr")})

# %% [markdown]
# Next: [is it any good?](03_evaluation.ipynb) More about recipes, trackers, several GPUs: docs/training.md.
