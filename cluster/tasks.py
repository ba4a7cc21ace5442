"""The task table: what each task eats, takes as options, gives, and who runs it. Names are the hub's pipeline tags where it has one.

The other names: TaskBench's (image-editing), the hub's of HuggingGPT's time (conversational, text2text-generation), and the paper's
ControlNet tasks (canny-control makes the control image, canny-text-to-image a picture that follows it).
"""

from dataclasses import dataclass
from enum import StrEnum


class Media(StrEnum):
    """The four kinds of value that flow between steps. A table is text: CSV."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


class Family(StrEnum):
    """The Serve deployments that run experts, by what they have in common: libraries, and how much of a GPU they need."""

    TEXT = "text"
    VISION = "vision"
    MULTIMODAL = "multimodal"
    SPEECH = "speech"
    IMAGE_GENERATION = "image_generation"
    VIDEO = "video"


class Task(StrEnum):
    SUMMARIZATION = "summarization"
    TRANSLATION = "translation"
    QUESTION_ANSWERING = "question-answering"
    TEXT_GENERATION = "text-generation"
    TEXT_CLASSIFICATION = "text-classification"
    ZERO_SHOT_CLASSIFICATION = "zero-shot-classification"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 - a task name
    SENTENCE_SIMILARITY = "sentence-similarity"
    TEXT2TEXT_GENERATION = "text2text-generation"
    CONVERSATIONAL = "conversational"
    FILL_MASK = "fill-mask"
    FEATURE_EXTRACTION = "feature-extraction"
    TABLE_QUESTION_ANSWERING = "table-question-answering"
    TEXT_RANKING = "text-ranking"

    IMAGE_TO_TEXT = "image-to-text"
    IMAGE_CLASSIFICATION = "image-classification"
    OBJECT_DETECTION = "object-detection"
    IMAGE_SEGMENTATION = "image-segmentation"
    DEPTH_ESTIMATION = "depth-estimation"
    MASK_GENERATION = "mask-generation"
    KEYPOINT_DETECTION = "keypoint-detection"
    IMAGE_FEATURE_EXTRACTION = "image-feature-extraction"
    TABULAR_CLASSIFICATION = "tabular-classification"
    CANNY_CONTROL = "canny-control"
    DEPTH_CONTROL = "depth-control"
    HED_CONTROL = "hed-control"
    MLSD_CONTROL = "mlsd-control"
    NORMAL_CONTROL = "normal-control"
    OPENPOSE_CONTROL = "openpose-control"
    SCRIBBLE_CONTROL = "scribble-control"
    SEG_CONTROL = "seg-control"

    VISUAL_QUESTION_ANSWERING = "visual-question-answering"
    DOCUMENT_QUESTION_ANSWERING = "document-question-answering"
    IMAGE_TEXT_TO_TEXT = "image-text-to-text"
    ZERO_SHOT_IMAGE_CLASSIFICATION = "zero-shot-image-classification"
    ZERO_SHOT_OBJECT_DETECTION = "zero-shot-object-detection"

    AUTOMATIC_SPEECH_RECOGNITION = "automatic-speech-recognition"
    TEXT_TO_SPEECH = "text-to-speech"
    TEXT_TO_AUDIO = "text-to-audio"
    AUDIO_TO_AUDIO = "audio-to-audio"
    AUDIO_CLASSIFICATION = "audio-classification"
    ZERO_SHOT_AUDIO_CLASSIFICATION = "zero-shot-audio-classification"

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    IMAGE_EDITING = "image-editing"
    UNCONDITIONAL_IMAGE_GENERATION = "unconditional-image-generation"
    CANNY_TEXT_TO_IMAGE = "canny-text-to-image"
    DEPTH_TEXT_TO_IMAGE = "depth-text-to-image"
    HED_TEXT_TO_IMAGE = "hed-text-to-image"
    MLSD_TEXT_TO_IMAGE = "mlsd-text-to-image"
    NORMAL_TEXT_TO_IMAGE = "normal-text-to-image"
    OPENPOSE_TEXT_TO_IMAGE = "openpose-text-to-image"
    SCRIBBLE_TEXT_TO_IMAGE = "scribble-text-to-image"
    SEG_TEXT_TO_IMAGE = "seg-text-to-image"

    VIDEO_CLASSIFICATION = "video-classification"
    TEXT_TO_VIDEO = "text-to-video"
    IMAGE_TO_VIDEO = "image-to-video"


class Option(StrEnum):
    """Named literal arguments of a step; a task lists those it takes."""

    LANGUAGE = "language"  # ISO 639-1 code: of the output, and of what is spoken in a recording
    QUESTION = "question"
    LABELS = "labels"  # two or more class names
    PROMPT = "prompt"
    WANTED = "wanted"  # of a picture: "text", what is written in it, or "scene", what it shows


SEED_OPTION = "seed"  # beside a step's options, where a person gave one and the task draws: the planner knows nothing of it


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One row of the table.

    `inputs` are positional; every input must be fed. `required` options must be given, `optional` ones may be.
    With `takes_many` the last input may be several of its kind; with `is_prompted` its text is an instruction, which the planner may
    word, where another task's text is material, which it must not make up. `runner` is the key of deployments.registry.LOADERS that runs a
    checkpoint of the hub for this task; `default_model` is the hub id that is taken when nothing else is known.
    """

    task: Task
    does: str  # one line for the planner's prompt
    inputs: tuple[Media, ...]
    output: Media
    family: Family
    runner: str
    default_model: str
    required: tuple[Option, ...] = ()
    optional: tuple[Option, ...] = ()
    takes_many: bool = False
    is_prompted: bool = False

    @property
    def options(self) -> tuple[Option, ...]:
        return self.required + self.optional

    @property
    def draws(self) -> bool:
        """Whether a seed changes what comes out: pictures, sounds and films that are made from noise."""
        return self.family is Family.IMAGE_GENERATION or self.output is Media.VIDEO or self.task is Task.TEXT_TO_AUDIO

    def media_of(self, count: int) -> tuple[Media, ...]:
        """What each of `count` inputs must be."""
        return self.inputs + self.inputs[-1:] * (count - len(self.inputs))


_T, _I, _A, _V = Media.TEXT, Media.IMAGE, Media.AUDIO, Media.VIDEO

# One row a line: task, what it does, inputs, output, how a checkpoint of the hub is run, the model taken when nothing else is known.
# fmt: off
_TEXT = (
    TaskSpec(Task.SUMMARIZATION, "make a text shorter", (_T,), _T, Family.TEXT, "seq2seq", "facebook/bart-large-cnn", optional=(Option.LANGUAGE,)),
    TaskSpec(Task.TRANSLATION, "translate a text", (_T,), _T, Family.TEXT, "seq2seq", "facebook/nllb-200-distilled-600M", required=(Option.LANGUAGE,)),
    TaskSpec(Task.QUESTION_ANSWERING, "answer a question from a text", (_T,), _T, Family.TEXT, "extractive_qa", "distilbert/distilbert-base-cased-distilled-squad", required=(Option.QUESTION,)),
    TaskSpec(Task.TEXT_GENERATION, "write a new text from results", (_T,), _T, Family.TEXT, "causal_lm", "Qwen/Qwen2.5-0.5B-Instruct", optional=(Option.PROMPT,), takes_many=True),
    TaskSpec(Task.TEXT_CLASSIFICATION, "class of a text, such as its sentiment", (_T,), _T, Family.TEXT, "sequence_classification", "distilbert/distilbert-base-uncased-finetuned-sst-2-english"),
    TaskSpec(Task.ZERO_SHOT_CLASSIFICATION, "sort a text into given labels", (_T,), _T, Family.TEXT, "entailment", "facebook/bart-large-mnli", required=(Option.LABELS,)),
    TaskSpec(Task.TOKEN_CLASSIFICATION, "named entities (people, places, dates, sums) in a text", (_T,), _T, Family.TEXT, "token_classification", "dslim/bert-base-NER"),
    TaskSpec(Task.SENTENCE_SIMILARITY, "how alike two texts are", (_T, _T), _T, Family.TEXT, "sentence_embedding", "sentence-transformers/all-MiniLM-L6-v2"),
    TaskSpec(Task.TEXT2TEXT_GENERATION, "rewrite a text as instructed in it", (_T,), _T, Family.TEXT, "seq2seq", "google/flan-t5-base"),
    TaskSpec(Task.CONVERSATIONAL, "reply to what is said", (_T,), _T, Family.TEXT, "causal_lm", "Qwen/Qwen2.5-0.5B-Instruct", is_prompted=True),
    TaskSpec(Task.FILL_MASK, "fill the [MASK] in a sentence", (_T,), _T, Family.TEXT, "masked_lm", "google-bert/bert-base-uncased"),
    TaskSpec(Task.FEATURE_EXTRACTION, "embedding vector of a text", (_T,), _T, Family.TEXT, "sentence_embedding", "BAAI/bge-small-en-v1.5"),
    TaskSpec(Task.TABLE_QUESTION_ANSWERING, "answer a question from a table (CSV)", (_T,), _T, Family.TEXT, "table_qa", "google/tapas-base-finetuned-wtq", required=(Option.QUESTION,)),
    TaskSpec(Task.TEXT_RANKING, "order the lines of a text by how well they answer a question", (_T,), _T, Family.TEXT, "cross_encoder", "cross-encoder/ms-marco-MiniLM-L6-v2", required=(Option.QUESTION,)),
)
_VISION = (
    TaskSpec(Task.IMAGE_TO_TEXT, "say in a sentence what a picture shows, or read the text in it", (_I,), _T, Family.VISION, "captioner", "Salesforce/blip-image-captioning-base", optional=(Option.WANTED,)),
    TaskSpec(Task.IMAGE_CLASSIFICATION, "what a photograph shows", (_I,), _T, Family.VISION, "image_classification", "google/vit-base-patch16-224"),
    TaskSpec(Task.OBJECT_DETECTION, "find and count the objects in a photograph", (_I,), _T, Family.VISION, "object_detection", "hustvl/yolos-small"),
    TaskSpec(Task.IMAGE_SEGMENTATION, "colour the regions of a picture by what they show", (_I,), _I, Family.VISION, "segmentation", "nvidia/segformer-b0-finetuned-ade-512-512"),
    TaskSpec(Task.DEPTH_ESTIMATION, "how far away each part of a picture is, as a picture", (_I,), _I, Family.VISION, "depth", "depth-anything/Depth-Anything-V2-Small-hf"),
    TaskSpec(Task.MASK_GENERATION, "outline every object in a picture", (_I,), _I, Family.VISION, "mask_generation", "facebook/sam-vit-base"),
    TaskSpec(Task.KEYPOINT_DETECTION, "joints of the people in a picture", (_I,), _T, Family.VISION, "pose", "usyd-community/vitpose-base-simple"),
    TaskSpec(Task.IMAGE_FEATURE_EXTRACTION, "embedding vector of a picture", (_I,), _T, Family.VISION, "image_embedding", "google/vit-base-patch16-224-in21k"),
    TaskSpec(Task.TABULAR_CLASSIFICATION, "what kind of table a picture of it shows", (_I,), _T, Family.VISION, "image_classification", "microsoft/dit-base-finetuned-rvlcdip"),
    TaskSpec(Task.CANNY_CONTROL, "control image of edges", (_I,), _I, Family.VISION, "canny", "opencv/canny"),
    TaskSpec(Task.DEPTH_CONTROL, "control image of depth", (_I,), _I, Family.VISION, "depth", "Intel/dpt-large"),
    TaskSpec(Task.HED_CONTROL, "control image of soft edges", (_I,), _I, Family.VISION, "hed", "lllyasviel/Annotators"),
    TaskSpec(Task.MLSD_CONTROL, "control image of straight lines", (_I,), _I, Family.VISION, "line_segments", "opencv/lsd"),
    TaskSpec(Task.NORMAL_CONTROL, "control image of surface normals", (_I,), _I, Family.VISION, "depth", "Intel/dpt-hybrid-midas"),
    TaskSpec(Task.OPENPOSE_CONTROL, "control image of human poses", (_I,), _I, Family.VISION, "pose", "usyd-community/vitpose-base-simple"),
    TaskSpec(Task.SCRIBBLE_CONTROL, "control image of scribbled lines", (_I,), _I, Family.VISION, "hed", "lllyasviel/Annotators"),
    TaskSpec(Task.SEG_CONTROL, "control image of segments", (_I,), _I, Family.VISION, "segmentation", "openmmlab/upernet-convnext-small"),
)
_MULTIMODAL = (
    TaskSpec(Task.VISUAL_QUESTION_ANSWERING, "answer a question about a photograph", (_I,), _T, Family.MULTIMODAL, "visual_qa", "Salesforce/blip-vqa-base", required=(Option.QUESTION,)),
    TaskSpec(Task.DOCUMENT_QUESTION_ANSWERING, "answer a question about a picture of a document", (_I,), _T, Family.MULTIMODAL, "document_qa", "naver-clova-ix/donut-base-finetuned-docvqa", required=(Option.QUESTION,)),
    TaskSpec(Task.IMAGE_TEXT_TO_TEXT, "follow an instruction about a picture", (_I,), _T, Family.MULTIMODAL, "vision_language", "HuggingFaceTB/SmolVLM-256M-Instruct", required=(Option.PROMPT,)),
    TaskSpec(Task.ZERO_SHOT_IMAGE_CLASSIFICATION, "sort a picture into given labels", (_I,), _T, Family.MULTIMODAL, "zero_shot_image", "openai/clip-vit-base-patch32", required=(Option.LABELS,)),
    TaskSpec(Task.ZERO_SHOT_OBJECT_DETECTION, "find given things in a picture", (_I,), _T, Family.MULTIMODAL, "zero_shot_detection", "google/owlvit-base-patch32", required=(Option.LABELS,)),
)
_SPEECH = (
    TaskSpec(Task.AUTOMATIC_SPEECH_RECOGNITION, "transcribe speech", (_A,), _T, Family.SPEECH, "speech_recognition", "openai/whisper-small", optional=(Option.LANGUAGE,)),
    TaskSpec(Task.TEXT_TO_SPEECH, "read a text aloud", (_T,), _A, Family.SPEECH, "text_to_speech", "facebook/mms-tts-eng"),
    TaskSpec(Task.TEXT_TO_AUDIO, "make music or sound from a description", (_T,), _A, Family.SPEECH, "text_to_audio", "facebook/musicgen-small", is_prompted=True),
    TaskSpec(Task.AUDIO_TO_AUDIO, "clean or change a recording of speech", (_A,), _A, Family.SPEECH, "audio_to_audio", "microsoft/speecht5_vc"),
    TaskSpec(Task.AUDIO_CLASSIFICATION, "what a recording sounds like", (_A,), _T, Family.SPEECH, "audio_classification", "MIT/ast-finetuned-audioset-10-10-0.4593"),
    TaskSpec(Task.ZERO_SHOT_AUDIO_CLASSIFICATION, "sort a recording into given labels", (_A,), _T, Family.SPEECH, "zero_shot_audio", "laion/clap-htsat-unfused", required=(Option.LABELS,)),
)
_IMAGE_GENERATION = (
    TaskSpec(Task.TEXT_TO_IMAGE, "draw a picture from a description", (_T,), _I, Family.IMAGE_GENERATION, "text_to_image", "stable-diffusion-v1-5/stable-diffusion-v1-5", is_prompted=True),
    TaskSpec(Task.IMAGE_TO_IMAGE, "redraw a picture as described", (_I,), _I, Family.IMAGE_GENERATION, "image_to_image", "stable-diffusion-v1-5/stable-diffusion-v1-5", optional=(Option.PROMPT,)),
    TaskSpec(Task.IMAGE_EDITING, "change a picture as told", (_T, _I), _I, Family.IMAGE_GENERATION, "image_editing", "timbrooks/instruct-pix2pix", is_prompted=True),
    TaskSpec(Task.UNCONDITIONAL_IMAGE_GENERATION, "draw a random picture", (), _I, Family.IMAGE_GENERATION, "unconditional", "google/ddpm-cifar10-32"),
    TaskSpec(Task.CANNY_TEXT_TO_IMAGE, "draw a picture from a description and a control image of edges", (_I, _T), _I, Family.IMAGE_GENERATION, "controlnet", "lllyasviel/sd-controlnet-canny", is_prompted=True),
    TaskSpec(Task.DEPTH_TEXT_TO_IMAGE, "draw a picture from a description and one of depth", (_I, _T), _I, Family.IMAGE_GENERATION, "controlnet", "lllyasviel/sd-controlnet-depth", is_prompted=True),
    TaskSpec(Task.HED_TEXT_TO_IMAGE, "draw a picture from a description and one of soft edges", (_I, _T), _I, Family.IMAGE_GENERATION, "controlnet", "lllyasviel/sd-controlnet-hed", is_prompted=True),
    TaskSpec(Task.MLSD_TEXT_TO_IMAGE, "draw a picture from a description and one of straight lines", (_I, _T), _I, Family.IMAGE_GENERATION, "controlnet", "lllyasviel/sd-controlnet-mlsd", is_prompted=True),
    TaskSpec(Task.NORMAL_TEXT_TO_IMAGE, "draw a picture from a description and one of surface normals", (_I, _T), _I, Family.IMAGE_GENERATION, "controlnet", "lllyasviel/sd-controlnet-normal", is_prompted=True),
    TaskSpec(Task.OPENPOSE_TEXT_TO_IMAGE, "draw a picture from a description and one of human poses", (_I, _T), _I, Family.IMAGE_GENERATION, "controlnet", "lllyasviel/sd-controlnet-openpose", is_prompted=True),
    TaskSpec(Task.SCRIBBLE_TEXT_TO_IMAGE, "draw a picture from a description and one of scribbled lines", (_I, _T), _I, Family.IMAGE_GENERATION, "controlnet", "lllyasviel/sd-controlnet-scribble", is_prompted=True),
    TaskSpec(Task.SEG_TEXT_TO_IMAGE, "draw a picture from a description and one of segments", (_I, _T), _I, Family.IMAGE_GENERATION, "controlnet", "lllyasviel/sd-controlnet-seg", is_prompted=True),
)
_VIDEO = (
    TaskSpec(Task.VIDEO_CLASSIFICATION, "what happens in a video", (_V,), _T, Family.VIDEO, "video_classification", "MCG-NJU/videomae-base-finetuned-kinetics"),
    TaskSpec(Task.TEXT_TO_VIDEO, "make a video from a description", (_T,), _V, Family.VIDEO, "text_to_video", "ali-vilab/text-to-video-ms-1.7b", is_prompted=True),
    TaskSpec(Task.IMAGE_TO_VIDEO, "bring a picture to life as a video", (_I,), _V, Family.VIDEO, "image_to_video", "stabilityai/stable-video-diffusion-img2vid-xt"),
)
# fmt: on

TASKS: dict[Task, TaskSpec] = {spec.task: spec for spec in (*_TEXT, *_VISION, *_MULTIMODAL, *_SPEECH, *_IMAGE_GENERATION, *_VIDEO)}
