"""From a card's `loader` to a loaded model. The experts' libraries are imported when a model is loaded, not before."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.controls import CannyEdges, LineSegments
from deployments.detector import Detector
from deployments.fakes import FakeExpert
from deployments.model import Model
from deployments.speech import Espeak, Hibari, Whisper
from deployments.text import MiniLM, SpacyEntities
from deployments.vision import EfficientNet, Ocr

Loader = Callable[[ModelCard, Path | None], Model]
"""Takes the card and the folder with its files; None for a model whose weights come inside a library."""

DEFAULT_THREADS = 2


def _with_files(load: Callable[[Path], Model]) -> Loader:
    def loader(card: ModelCard, folder: Path | None) -> Model:
        if folder is None:
            raise ModelError(f"the model {card.id} needs its files, and none were fetched")
        return load(folder)

    return loader


def _hub(place: str) -> Loader:
    """A runner of hub checkpoints: `module:Class` in deployments.hub, whose `load` takes the card and the folder."""
    module, _, name = place.partition(":")

    def loader(card: ModelCard, folder: Path | None) -> Model:
        runner: Any = getattr(import_module(f"deployments.hub.{module}"), name)
        loaded: Model = runner.load(card, folder)
        return loaded

    return loader


def _threads() -> int:
    """OMP_NUM_THREADS is what Ray sets to a replica's share of cores; the engines here that do not read it are told."""
    return int(os.environ.get("OMP_NUM_THREADS") or DEFAULT_THREADS)


LOADERS: dict[str, Loader] = {
    "minilm": _with_files(MiniLM.load),
    "spacy_ner": _with_files(SpacyEntities.load),
    "efficientnet": _with_files(EfficientNet.load),
    "tfjs_detector": _with_files(Detector.load),
    "whisper": _with_files(lambda folder: Whisper.load(folder, _threads())),
    "hibari": lambda _card, _folder: Hibari.load(_threads()),
    "espeak": lambda _card, _folder: Espeak(),
    "rapidocr": lambda _card, _folder: Ocr.load(_threads()),
    "canny": lambda _card, _folder: CannyEdges(),
    "line_segments": lambda _card, _folder: LineSegments(),
    "sequence_classification": _hub("text_classifiers:SequenceClassifier"),
    "token_classification": _hub("text_classifiers:TokenClassifier"),
    "entailment": _hub("text_classifiers:EntailmentClassifier"),
    "cross_encoder": _hub("text_classifiers:CrossEncoder"),
    "seq2seq": _hub("text_generators:SequenceToSequence"),
    "causal_lm": _hub("text_generators:CausalLanguageModel"),
    "extractive_qa": _hub("text_readers:ExtractiveReader"),
    "masked_lm": _hub("text_readers:MaskFiller"),
    "table_qa": _hub("text_readers:TableReader"),
    "sentence_embedding": _hub("embeddings:SentenceEmbedder"),
    "image_embedding": _hub("image_classifiers:ImageEmbedder"),
    "image_classification": _hub("image_classifiers:ImageClassifier"),
    "object_detection": _hub("detectors:ObjectDetector"),
    "segmentation": _hub("segmenters:Segmenter"),
    "mask_generation": _hub("segmenters:MaskGenerator"),
    "depth": _hub("depth:DepthEstimator"),
    "pose": _hub("poses:PoseEstimator"),
    "hed": _hub("soft_edges:SoftEdges"),
    "captioner": _hub("captioners:Captioner"),
    "visual_qa": _hub("visual_readers:VisualReader"),
    "document_qa": _hub("visual_readers:DocumentReader"),
    "vision_language": _hub("visual_readers:VisionLanguageModel"),
    "zero_shot_image": _hub("zero_shot:ZeroShotImageClassifier"),
    "zero_shot_detection": _hub("zero_shot:ZeroShotDetector"),
    "zero_shot_audio": _hub("listeners:ZeroShotAudioClassifier"),
    "speech_recognition": _hub("listeners:SpeechRecognizer"),
    "audio_classification": _hub("listeners:AudioClassifier"),
    "text_to_speech": _hub("speakers:SpeechSynthesizer"),
    "text_to_audio": _hub("speakers:AudioGenerator"),
    "audio_to_audio": _hub("speakers:VoiceConverter"),
    "text_to_image": _hub("painters:TextToImage"),
    "image_to_image": _hub("painters:ImageToImage"),
    "image_editing": _hub("painters:ImageEditor"),
    "unconditional": _hub("painters:UnconditionalPainter"),
    "controlnet": _hub("painters:ControlledPainter"),
    "video_classification": _hub("videos:VideoClassifier"),
    "text_to_video": _hub("videos:TextToVideo"),
    "image_to_video": _hub("videos:ImageToVideo"),
    "fake": lambda _card, _folder: FakeExpert(),
}
