"""`tubelet benchmark`: how fast is it on this machine?"""

from typing import Literal

__all__ = ["benchmark_model"]


def benchmark_model(
    model: str,
    *sources: str,
    against: Literal["transformers"] | None = None,
    batches: tuple[int, ...] = (1, 8),
    rounds: int = 20,
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32",
    decoder: str = "pyav",
    device: str = "auto",
    json: bool = False,
) -> int:
    """Measure latency, clips a second, memory and decoding of a model, alone or beside another implementation.

    Parameters
    ----------
    model: str
        Run, model folder, folder of transformers, hf://owner/repo, or published weights: videomae_base.kinetics400.
    sources: str
        Videos to read; a drawn one of 75 frames of 240 x 320 where none is named.
    against: str
        transformers: the same weights in its own model class, with PyAV decoding whole files.
    batches: tuple[int, ...]
        Numbers of clips that are scored at once.
    rounds: int
        How often each batch is scored.
    precision: str
        Number format of our model: fp32, bf16, fp16, or auto.
    decoder: str
        pyav, torchcodec or decord.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    json: bool
        Print one JSON line instead of the table and the line.
    """
    from tubelet.benchmarking.benchmark import benchmark
    from tubelet.cli.benchmark_table import print_benchmark
    from tubelet.prediction.predict import PredictionOptions

    options = PredictionOptions(precision=precision, decoder=decoder)
    found = benchmark(model, sources, against=against, batches=batches, rounds=rounds, options=options, device=device)
    print_benchmark(found, as_json=json)
    return 0
