"""`tubelet explain`: where and when did the model see it?"""

from pathlib import Path

__all__ = ["explain_source"]


def explain_source(
    model: str,
    source: str,
    *,
    method: str = "auto",
    label: str | None = None,
    output: Path | None = None,
    decoder: str = "pyav",
    device: str = "auto",
    json: bool = False,
) -> int:
    """Show which parts of a video speak for a class, and whether that beats random maps.

    Parameters
    ----------
    model: str
        Run, model folder, folder of transformers, hf://owner/repo, or published weights: videomae_base.kinetics400.
    source: str
        One video, GIF or folder of images.
    method: str
        rollout, gradient, gradcam, integrated_gradients or occlusion; auto takes the best for models of this family.
    label: str
        The class that is asked about; the predicted one by default.
    output: Path
        Folder for explanation.png, .gif, .mp4 and .json; or one file with such an ending.
    decoder: str
        pyav, torchcodec or decord.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    json: bool
        Print one JSON object: what explanation.json holds, and the files written.
    """
    from tubelet.cli.tables import print_explanation
    from tubelet.explanation.explain import explain
    from tubelet.prediction.load import load_classifier

    explanation = explain(load_classifier(model, device=device), source, method=method, label=label, decoder=decoder)
    print_explanation(explanation, explanation.save(output) if output else [], as_json=json)
    return 0
