"""Checkpoints of networks that hear and speak, as the hub would have them, with tiny random weights."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.convert_slow_tokenizer import import_protobuf

HIDDEN = 16
LAYERS: dict[str, Any] = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SPOKEN = ("en", "de", "zh")  # the languages of the tiny Whisper
CLASSES = ("Speech", "Music", "Dog", "Rain", "Silence", "Engine")
VITS_LETTERS = "k'zyudehsw–3cp-1jm i f olr0bt2nax_4vqg5".replace(" ", "")  # MMS English, about: small letters, some figures


def whisper(folder: Path, multilingual: bool = True) -> None:
    """openai/whisper-small with 3 languages; its window is 2 s, its text 16 tokens."""
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in SPOKEN)]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tf.WhisperTokenizer(vocab={word: place for place, word in enumerate(alphabet)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in special}
    start, end = ids["<|startoftranscript|>"], ids["<|endoftext|>"]
    config = tf.WhisperConfig(
        **{"vocab_size": len(tokenizer), "num_mel_bins": 20, "d_model": HIDDEN, "max_source_positions": 1500, "max_target_positions": 24},
        **{
            f"{side}_{name}": size
            for side in ("encoder", "decoder")
            for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
        },
        **{"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start},
        **{"suppress_tokens": None, "begin_suppress_tokens": [end], "forced_decoder_ids": [[1, None], [2, ids["<|transcribe|>"]]]},
    )
    rules: dict[str, Any] = {"is_multilingual": multilingual, "no_timestamps_token_id": ids["<|notimestamps|>"], "max_length": 24}
    if multilingual:
        rules["lang_to_id"] = {f"<|{code}|>": ids[f"<|{code}|>"] for code in SPOKEN}
        rules["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    extractor = tf.WhisperFeatureExtractor(feature_size=20)
    _save(folder, tf.WhisperForConditionalGeneration(config), extractor, tokenizer, seed=3, **rules)


def wav2vec2_ctc(folder: Path) -> None:
    """facebook/wav2vec2-base-960h: it writes capitals, was trained without a mask, and lacks the weights of masked audio."""
    net = tf.Wav2Vec2ForCTC(_wav2vec2(vocab_size=32, feat_extract_norm="group"))
    _save(folder, net, tf.Wav2Vec2FeatureExtractor(return_attention_mask=False), _letters(folder), lacking="masked_spec_embed")


def wav2vec2_large_ctc(folder: Path) -> None:
    """facebook/wav2vec2-large-960h-lv60-self: trained with a mask."""
    net = tf.Wav2Vec2ForCTC(_wav2vec2(vocab_size=32, feat_extract_norm="layer", do_stable_layer_norm=True))
    _save(folder, net, tf.Wav2Vec2FeatureExtractor(return_attention_mask=True), _letters(folder))


def moonshine(folder: Path) -> None:
    """UsefulSensors/moonshine-tiny."""
    vocabulary = {word: place for place, word in enumerate(["<unk>", "<s>", "</s>", *string.ascii_lowercase, "▁"])}
    words = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    words.decoder = decoders.Metaspace()
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    config = tf.MoonshineConfig(
        **{"vocab_size": len(vocabulary), "hidden_size": HIDDEN, "intermediate_size": 32, "max_position_embeddings": 194},
        **{f"{side}_num_{name}": size for side in ("encoder", "decoder") for name, size in (("hidden_layers", 1), ("attention_heads", 2))},
        **{"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
    )
    extractor = tf.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    _save(folder, tf.MoonshineForConditionalGeneration(config), extractor, tokenizer, max_length=194)


def vits(folder: Path, **tokenizer_options: Any) -> None:
    """facebook/mms-tts-eng."""
    vocabulary = {letter: place for place, letter in enumerate(dict.fromkeys(f"{VITS_LETTERS} "))}
    config = tf.VitsConfig(
        **{"vocab_size": len(vocabulary), "hidden_size": HIDDEN, "num_hidden_layers": 1, "ffn_dim": 32, "flow_size": HIDDEN},
        **{"spectrogram_bins": 33, "upsample_initial_channel": 32, "upsample_rates": (8, 8, 4), "upsample_kernel_sizes": (16, 16, 8)},
        **{"resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1, 3),), "prior_encoder_num_wavenet_layers": 1},
        **{"posterior_encoder_num_wavenet_layers": 1, "prior_encoder_num_flows": 1, "duration_predictor_num_flows": 1},
        **{"depth_separable_num_layers": 1, "duration_predictor_flow_bins": 4, "pad_token_id": 0},
    )
    options = {"language": "eng", "phonemize": False, "is_uroman": False, **tokenizer_options}
    words = folder / "vocab.json"
    words.write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = tf.VitsTokenizer(words, add_blank=True, normalize=True, pad_token="k", **options)
    _save(folder, tf.VitsModel(config), tokenizer, scale=None)


def speecht5_speaker(folder: Path) -> None:
    """microsoft/speecht5_tts with microsoft/speecht5_hifigan in the folder base."""
    _save(folder, _talkative(tf.SpeechT5ForTextToSpeech(_speecht5())), _sentencepiece_letters(folder), _speecht5_extractor())
    _hifigan(folder / "base")


def speecht5_converter(folder: Path) -> None:
    """microsoft/speecht5_vc with microsoft/speecht5_hifigan in the folder base."""
    _save(folder, _talkative(tf.SpeechT5ForSpeechToSpeech(_speecht5())), _sentencepiece_letters(folder), _speecht5_extractor())
    _hifigan(folder / "base")


def musicgen(folder: Path) -> None:
    """facebook/musicgen-small; its codec gives 10 frames a second at 3.2 kHz."""
    text = tf.T5Config(vocab_size=len(_t5_tokenizer()), d_model=HIDDEN, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    codec = tf.EncodecConfig(
        **{"sampling_rate": 3_200, "hidden_size": HIDDEN, "num_filters": 4, "upsampling_ratios": (8, 8, 5), "num_lstm_layers": 1},
        **{"codebook_size": 64, "codebook_dim": HIDDEN, "target_bandwidths": (1.2,), "use_causal_conv": False},
    )
    decoder = tf.MusicgenDecoderConfig(
        **{"vocab_size": 64, "hidden_size": HIDDEN, "num_hidden_layers": 1, "ffn_dim": 32, "num_attention_heads": 2},
        **{"num_codebooks": 4, "audio_channels": 1, "pad_token_id": 64, "bos_token_id": 64},
    )
    config = tf.MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)
    rules = {
        "do_sample": True,
        "guidance_scale": 3.0,
        "max_length": 1_500,
        "decoder_start_token_id": 64,
        "pad_token_id": 64,
        "bos_token_id": 64,
    }
    extractor, net = tf.EncodecFeatureExtractor(sampling_rate=3_200), tf.MusicgenForConditionalGeneration(config)
    for name, codebook in net.named_buffers():
        if name.endswith("codebook.embed"):  # zeros until it is trained
            codebook.normal_(generator=torch.Generator().manual_seed(len(name)))
    _save(folder, net, _t5_tokenizer(), extractor, **rules)


def audio_spectrogram_transformer(folder: Path) -> None:
    """MIT/ast-finetuned-audioset-10-10-0.4593 with a window of 1.28 s."""
    config = tf.ASTConfig(**LAYERS, num_mel_bins=32, max_length=128, **_classes())
    _save(folder, tf.ASTForAudioClassification(config), tf.ASTFeatureExtractor(num_mel_bins=32, max_length=128))


def wav2vec2_classifier(folder: Path) -> None:
    """superb/wav2vec2-base-superb-ks."""
    config = _wav2vec2(feat_extract_norm="group", classifier_proj_size=HIDDEN, **_classes())
    _save(folder, tf.Wav2Vec2ForSequenceClassification(config), tf.Wav2Vec2FeatureExtractor())


def clap(folder: Path) -> None:
    """laion/clap-htsat-unfused, with its window of 10 s at 48 kHz."""
    vocabulary = {
        word: place for place, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())])
    }
    tokenizer = tf.RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=64)
    words = {**LAYERS, "vocab_size": len(vocabulary), "max_position_embeddings": 66, "pad_token_id": 1}
    sounds = {
        **{"num_mel_bins": 64, "spec_size": 256, "window_size": 8, "patch_size": 16, "patch_stride": [16, 16], "hidden_size": HIDDEN},
        **{"patch_embeds_hidden_size": HIDDEN, "depths": [1], "num_attention_heads": [2], "num_hidden_layers": 1},
    }
    config = tf.ClapConfig(text_config=words, audio_config=sounds, projection_dim=HIDDEN)
    extractor = tf.ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    _save(folder, tf.ClapModel(config), extractor, tokenizer)


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "automatic-speech-recognition": whisper,
    "automatic-speech-recognition/ctc": wav2vec2_ctc,
    "automatic-speech-recognition/ctc-large": wav2vec2_large_ctc,
    "automatic-speech-recognition/moonshine": moonshine,
    "text-to-speech": vits,
    "text-to-speech/speecht5": speecht5_speaker,
    "text-to-audio": musicgen,
    "audio-to-audio": speecht5_converter,
    "audio-classification": audio_spectrogram_transformer,
    "audio-classification/wav2vec2": wav2vec2_classifier,
    "zero-shot-audio-classification": clap,
}
"""Each builds the checkpoint of a task, or of a second kind of network for it, in a folder."""


def _wav2vec2(**options: Any) -> Any:
    convolutions = {"conv_dim": (8, 8, 8), "conv_kernel": (10, 8, 4), "conv_stride": (10, 8, 4), "num_feat_extract_layers": 3}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    return tf.Wav2Vec2Config(**LAYERS, **convolutions, **positions, pad_token_id=0, **options)


def _letters(folder: Path) -> Any:
    """wav2vec2's alphabet: capitals, the apostrophe and | for the space."""
    words = ["<pad>", "<s>", "</s>", "<unk>", "|", *string.ascii_uppercase, "'"]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}), encoding="utf-8")
    return tf.Wav2Vec2CTCTokenizer(folder / "vocab.json", do_lower_case=False)


def _classes() -> dict[str, Any]:
    return {"id2label": dict(enumerate(CLASSES)), "label2id": {name: place for place, name in enumerate(CLASSES)}}


def _speecht5() -> Any:
    convolutions = {"conv_dim": (8, 8, 8), "conv_kernel": (10, 8, 8), "conv_stride": (10, 8, 8), "num_feat_extract_layers": 3}
    return tf.SpeechT5Config(
        **{"vocab_size": 81, "hidden_size": HIDDEN, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32},
        **{"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "num_mel_bins": 8, "max_text_positions": 600},
        **{"speech_decoder_prenet_units": HIDDEN, "speech_decoder_postnet_units": HIDDEN, "speech_decoder_postnet_layers": 2},
        **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, **convolutions},
    )


def _talkative(net: Any) -> Any:
    """One that never decides to stop."""
    torch.nn.init.constant_(net.speech_decoder_postnet.prob_out.bias, -20.0)
    return net


def _speecht5_extractor() -> Any:
    return tf.SpeechT5FeatureExtractor(num_mel_bins=8)


def _sentencepiece_letters(folder: Path) -> Any:
    """SpeechT5's alphabet: one piece a letter, in a SentencePiece model of the kind CHAR."""
    formats: Any = import_protobuf()
    model = formats.ModelProto()
    model.trainer_spec.model_type = 4  # CHAR
    model.trainer_spec.unk_id, model.trainer_spec.bos_id, model.trainer_spec.eos_id, model.trainer_spec.pad_id = 3, 0, 2, 1
    kinds = {"<s>": 3, "<pad>": 3, "</s>": 3, "<unk>": 2}  # CONTROL, UNKNOWN
    for piece in [*kinds, "▁", *string.ascii_letters, *".,'?!-"]:
        model.pieces.add(piece=piece, score=0.0, type=kinds.get(piece, 1))
    file = folder / "spm_char.model"
    file.write_bytes(model.SerializeToString())
    return tf.SpeechT5Tokenizer(str(file), model_max_length=600)


def _hifigan(folder: Path) -> None:
    config = tf.SpeechT5HifiGanConfig(
        **{"model_in_dim": 8, "upsample_initial_channel": 16, "upsample_rates": [8, 8, 4], "upsample_kernel_sizes": [16, 16, 8]},
        **{"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]]},
    )
    folder.mkdir()
    _save(folder, tf.SpeechT5HifiGan(config))


def _t5_tokenizer() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in string.ascii_letters)]
    return tf.T5Tokenizer(vocab=pieces, extra_ids=0)


def _save(folder: Path, net: Any, *parts: Any, seed: int = 0, scale: float | None = 0.2, lacking: str | None = None, **rules: Any) -> None:
    """`scale` widens the weights so that what is heard makes a difference; None leaves the library's own."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            if scale is not None and weight.dim() > 1:
                weight.normal_(0.0, scale)
    for name, value in rules.items():
        setattr(net.generation_config, name, value)
    if rules:
        net.generation_config._from_model_config = False  # else the file would be passed over when it is read
    weights = {name: tensor for name, tensor in net.state_dict().items() if not lacking or lacking not in name}
    net.save_pretrained(folder, state_dict=weights)
    for part in parts:
        part.save_pretrained(folder)
