"""Checkpoints of networks that see pictures and know words, as the hub would have them, with tiny random weights."""

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import pre_tokenizers

SIDE = 32  # pixels of a picture as the networks see it
HIDDEN = 16
LAYERS: dict[str, Any] = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PATCHES: dict[str, Any] = {"image_size": SIDE, "patch_size": 8}
SQUARE = {"height": SIDE, "width": SIDE}
CHAT_TEMPLATE = (  # SmolVLM's
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}{{':'}}"
    "{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
QWEN_TEMPLATE = (  # Qwen2-VL's, for one picture
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_TEMPLATE = (  # LLaVA 1.5's
    "{% for message in messages %}{{ message['role'] | upper }}: {% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<image>\n{% else %}{{ content['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def bert_tokenizer(**options: Any) -> Any:
    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    return tf.BertTokenizer(vocab={word: place for place, word in enumerate(words)}, model_max_length=512, **options)


def bytes_vocabulary(*first: str, suffix: str | None = None) -> dict[str, int]:
    """Every byte a token, after `first`; CLIP ends words with a suffix."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*first, *alphabet, *((letter + suffix for letter in alphabet) if suffix else ())]
    return {word: place for place, word in enumerate(words)}


def gpt2_tokenizer() -> Any:
    return tf.GPT2Tokenizer(vocab=bytes_vocabulary("<|endoftext|>"), merges=[], model_max_length=256)


def clip_tokenizer(tokens: int) -> Any:
    """The marks have the highest numbers, as CLIP's own: its text encoder looks for the end there, OWL-ViT takes a first 0 for no query."""
    vocabulary = bytes_vocabulary(suffix="</w>")
    vocabulary |= {"<|startoftext|>": len(vocabulary), "<|endoftext|>": len(vocabulary) + 1}
    return tf.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=tokens)


def roberta_tokenizer(**options: Any) -> Any:
    vocabulary = bytes_vocabulary("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return tf.RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=512, **options)


def chat_tokenizer(*special: str) -> Any:
    """Bytes, as Qwen's and SmolLM's, with special tokens of the chat."""
    tokenizer = tf.GPT2Tokenizer(vocab=bytes_vocabulary("<|endoftext|>"), merges=[], pad_token="<|endoftext|>", model_max_length=2048)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def save(folder: Path, config: Any, kind: Any, *parts: Any, spread: float = 0.2, **generation: Any) -> None:
    """The weights spread widely enough that different pictures give different results."""
    torch.manual_seed(0)
    net = kind(config).eval()
    with torch.no_grad():
        for tensor in net.parameters():
            if tensor.dim() > 1:
                tensor.normal_(0.0, spread)
    for name, value in generation.items():
        setattr(net.generation_config, name, value)
    net.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)


def blip_config(tokenizer: Any) -> Any:
    text = {
        **LAYERS,
        "vocab_size": len(tokenizer),
        "encoder_hidden_size": HIDDEN,
        "max_position_embeddings": 64,
        "is_decoder": True,
        "pad_token_id": tokenizer.pad_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return tf.BlipConfig(text_config=text, vision_config={**LAYERS, **PATCHES}, projection_dim=HIDDEN)


def blip_tokenizer() -> Any:
    tokenizer = bert_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "eos_token": "[ENC]"})
    return tokenizer


def blip_caption(folder: Path) -> None:
    tokenizer = blip_tokenizer()
    processor = tf.BlipProcessor(tf.BlipImageProcessorPil(size=SQUARE), tokenizer)
    save(folder, blip_config(tokenizer), tf.BlipForConditionalGeneration, processor)


def blip_vqa(folder: Path) -> None:
    tokenizer = blip_tokenizer()
    processor = tf.BlipProcessor(tf.BlipImageProcessorPil(size=SQUARE), tokenizer)
    save(folder, blip_config(tokenizer), tf.BlipForQuestionAnswering, processor)


def vit_gpt2(folder: Path) -> None:
    """The class of nlpconnect/vit-gpt2-image-captioning, which has no processor_config.json."""
    tokenizer = gpt2_tokenizer()
    size = {"n_embd": HIDDEN, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": len(tokenizer), "add_cross_attention": True}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "is_decoder": True}
    config = tf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(tf.ViTConfig(**LAYERS, **PATCHES), tf.GPT2Config(**size, **ends))
    generation = {"decoder_start_token_id": 0, "eos_token_id": 0, "max_length": 16, "num_beams": 4}
    save(folder, config, tf.VisionEncoderDecoderModel, tf.ViTImageProcessorPil(size=SQUARE), tokenizer, **generation)


def trocr(folder: Path) -> None:
    """The class of microsoft/trocr-base-printed: its weights lack the encoder's pooler."""
    tokenizer = roberta_tokenizer()
    size = {
        "d_model": HIDDEN,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 32,
        "cross_attention_hidden_size": HIDDEN,
    }
    decoder = tf.TrOCRConfig(**size, vocab_size=len(tokenizer), max_position_embeddings=64, bos_token_id=0, pad_token_id=1, eos_token_id=2)
    config = tf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(tf.ViTConfig(**LAYERS, **PATCHES), decoder)
    generation = {"decoder_start_token_id": 2, "eos_token_id": 2, "pad_token_id": 1, "max_length": 16}
    processor = tf.TrOCRProcessor(tf.ViTImageProcessorPil(size=SQUARE), tokenizer)
    save(folder, config, tf.VisionEncoderDecoderModel, processor, **generation)
    drop_weights(folder, "encoder.pooler.")


def git(folder: Path) -> None:
    tokenizer = bert_tokenizer()
    ids = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = tf.GitConfig(**LAYERS, vision_config={**LAYERS, **PATCHES}, vocab_size=len(tokenizer), max_position_embeddings=128, **ids)
    cut = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}
    save(folder, config, tf.GitForCausalLM, tf.GitProcessor(tf.CLIPImageProcessorPil(**cut), tokenizer))


def vilt(folder: Path) -> None:
    tokenizer = bert_tokenizer()
    answers = ("yes", "no", "two", "red", "a cat", "a dog", "outside")
    config = tf.ViltConfig(**LAYERS, **PATCHES, vocab_size=len(tokenizer), max_position_embeddings=40, max_image_length=-1)
    config.id2label = dict(enumerate(answers))
    config.label2id = {answer: place for place, answer in enumerate(answers)}
    processor = tf.ViltProcessor(tf.ViltImageProcessorPil(size={"shortest_edge": SIDE}, size_divisor=8), tokenizer)
    save(folder, config, tf.ViltForQuestionAnswering, processor)


def donut(folder: Path) -> None:
    """The class of naver-clova-ix/donut-base-finetuned-docvqa."""
    tokenizer = roberta_tokenizer()
    tags = ("<s_docvqa>", "<s_question>", "</s_question>", "<s_answer>", "</s_answer>", "<s_name>", "</s_name>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(tags)})
    encoder = tf.DonutSwinConfig(image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    size = {"d_model": HIDDEN, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    decoder = tf.MBartConfig(
        **size, **ids, vocab_size=len(tokenizer), max_position_embeddings=96, is_decoder=True, add_cross_attention=True
    )
    config = tf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    generation = {"decoder_start_token_id": tokenizer.convert_tokens_to_ids("<s_docvqa>"), "eos_token_id": 2, "pad_token_id": 1}
    processor = tf.DonutProcessor(tf.DonutImageProcessorPil(size=SQUARE), tokenizer)
    save(folder, config, tf.VisionEncoderDecoderModel, processor, **generation)


def layoutlm(folder: Path) -> None:
    """The class of impira/layoutlm-document-qa: LayoutLM with RoBERTa's tokenizer."""
    tokenizer = roberta_tokenizer(add_prefix_space=True)
    config = tf.LayoutLMConfig(**LAYERS, vocab_size=len(tokenizer), max_position_embeddings=514, pad_token_id=1, type_vocab_size=1)
    save(folder, config, tf.LayoutLMForQuestionAnswering, tokenizer)


def layoutlmv3(folder: Path) -> None:
    vocabulary = bytes_vocabulary("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    tokenizer = tf.LayoutLMv3Tokenizer(vocab=vocabulary, merges=[], model_max_length=512)
    shape = {"coordinate_size": 2, "shape_size": 4, "input_size": SIDE, "patch_size": 8, "max_position_embeddings": 514}
    config = tf.LayoutLMv3Config(**LAYERS, **shape, vocab_size=len(tokenizer), num_labels=2, type_vocab_size=1)
    save(folder, config, tf.LayoutLMv3ForQuestionAnswering, tf.LayoutLMv3ImageProcessorPil(size=SQUARE), tokenizer)


def smolvlm(folder: Path) -> None:
    """The class of HuggingFaceTB/SmolVLM-256M-Instruct: Idefics3."""
    save(folder, *_idefics3(tf.Idefics3Config), tf.Idefics3ForConditionalGeneration, _idefics3_processor())


def _idefics3_processor() -> Any:
    prepare = tf.Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    marks = ("<|im_start|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<row_1_col_1>")
    return tf.Idefics3Processor(prepare, chat_tokenizer(*marks), image_seq_len=4, chat_template=CHAT_TEMPLATE)


def _idefics3(kind: Any) -> tuple[Any]:
    tokenizer = _idefics3_processor().tokenizer
    text = {**LAYERS, "model_type": "llama", "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    image = tokenizer.convert_tokens_to_ids("<image>")
    return (kind(text_config=text, vision_config={**LAYERS, **PATCHES}, image_token_id=image, scale_factor=2, pad_token_id=0),)


def smolvlm2(folder: Path) -> None:
    """The class of HuggingFaceTB/SmolVLM2-256M-Video-Instruct, whose own processor also wants to read videos."""
    save(folder, *_idefics3(tf.SmolVLMConfig), tf.SmolVLMForConditionalGeneration, _idefics3_processor())


def qwen2_vl(folder: Path) -> None:
    marks = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = chat_tokenizer(*marks)
    tokenizer.chat_template = QWEN_TEMPLATE
    start, end, image, video = (tokenizer.convert_tokens_to_ids(mark) for mark in marks[2:])
    text = {**LAYERS, "num_key_value_heads": 2, "vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "embed_dim": HIDDEN, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    ids = {"vision_start_token_id": start, "vision_end_token_id": end, "image_token_id": image, "video_token_id": video}
    config = tf.Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
    prepare = tf.Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 64, "longest_edge": SIDE * SIDE})
    save(folder, config, tf.Qwen2VLForConditionalGeneration, prepare, tokenizer)


def llava(folder: Path) -> None:
    tokenizer = chat_tokenizer("<image>")
    text = {**LAYERS, "model_type": "llama", "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    vision = {**LAYERS, **PATCHES, "model_type": "clip_vision_model", "projection_dim": HIDDEN}
    config = tf.LlavaConfig(text_config=text, vision_config=vision, image_token_index=tokenizer.convert_tokens_to_ids("<image>"))
    cut = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}
    options = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = tf.LlavaProcessor(tf.CLIPImageProcessorPil(**cut), tokenizer, chat_template=LLAVA_TEMPLATE, **options)
    save(folder, config, tf.LlavaForConditionalGeneration, processor, spread=0.3)


def clip(folder: Path) -> None:
    tokenizer = clip_tokenizer(77)
    config = tf.CLIPConfig(text_config=_clip_text(tokenizer, 77), vision_config={**LAYERS, **PATCHES}, projection_dim=HIDDEN)
    processor = tf.CLIPProcessor(tf.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE), tokenizer)
    save(folder, config, tf.CLIPModel, processor)


def siglip(folder: Path) -> None:
    tokenizer = roberta_tokenizer(pad_token="</s>")
    text = {**LAYERS, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": HIDDEN}
    config = tf.SiglipConfig(text_config=text, vision_config={**LAYERS, **PATCHES})
    save(folder, config, tf.SiglipModel, tf.SiglipImageProcessorPil(size=SQUARE), tokenizer)


def owlvit(folder: Path) -> None:
    save(folder, _owl_config(tf.OwlViTConfig), tf.OwlViTForObjectDetection, tf.OwlViTImageProcessorPil(size=SQUARE), clip_tokenizer(16))


def owlv2(folder: Path) -> None:
    save(folder, _owl_config(tf.Owlv2Config), tf.Owlv2ForObjectDetection, tf.Owlv2ImageProcessorPil(size=SQUARE), clip_tokenizer(16))


def _owl_config(kind: Any) -> Any:
    tokenizer = clip_tokenizer(16)
    return kind(text_config=_clip_text(tokenizer, 16), vision_config={**LAYERS, **PATCHES}, projection_dim=HIDDEN)


def _clip_text(tokenizer: Any, tokens: int) -> dict[str, Any]:
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return {**LAYERS, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": tokens}


def grounding_dino(folder: Path) -> None:
    tokenizer = bert_tokenizer()
    text = {**LAYERS, "model_type": "bert", "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    swin = {"image_size": SIDE, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "window_size": 2}
    backbone = tf.SwinConfig(**swin, out_features=["stage2", "stage3", "stage4"])
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 12, "max_text_len": 64}
    config = tf.GroundingDinoConfig(backbone_config=backbone, text_config=text, **layers, **heads)
    prepare = tf.GroundingDinoImageProcessorPil(size={"shortest_edge": 2 * SIDE, "longest_edge": 4 * SIDE})
    save(folder, config, tf.GroundingDinoForObjectDetection, prepare, tokenizer, spread=0.05)


def drop_weights(folder: Path, prefix: str) -> None:
    """As if the network had been saved without them."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if not name.startswith(prefix)}, file, metadata={"format": "pt"})


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "image-to-text": blip_caption,
    "image-to-text/vit-gpt2": vit_gpt2,
    "image-to-text/trocr": trocr,
    "image-to-text/git": git,
    "image-to-text/donut": donut,
    "image-to-text/smolvlm": smolvlm,
    "visual-question-answering": blip_vqa,
    "visual-question-answering/vilt": vilt,
    "visual-question-answering/git": git,
    "visual-question-answering/smolvlm": smolvlm,
    "document-question-answering": donut,
    "document-question-answering/layoutlm": layoutlm,
    "document-question-answering/layoutlmv3": layoutlmv3,
    "image-text-to-text": smolvlm,
    "image-text-to-text/smolvlm2": smolvlm2,
    "image-text-to-text/qwen2-vl": qwen2_vl,
    "image-text-to-text/llava": llava,
    "zero-shot-image-classification": clip,
    "zero-shot-image-classification/siglip": siglip,
    "zero-shot-object-detection": owlvit,
    "zero-shot-object-detection/owlv2": owlv2,
    "zero-shot-object-detection/grounding-dino": grounding_dino,
}
