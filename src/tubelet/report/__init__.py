"""Draw what a run found, from plain values: nothing here knows a model, a data set or a training."""
